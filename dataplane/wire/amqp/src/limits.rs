//! Every bound of the codec. What an operator may configure (the largest frame) is an argument of
//! [`crate::decode_frame`], not a constant here.

/// Bytes of a protocol header: "AMQP", protocol, major, minor, revision (part 2, 2.2).
pub const PROTOCOL_HEADER_BYTES: usize = 8;

/// Bytes of a frame header: size, data offset, type, and two that depend on the type (part 2,
/// 2.3.1). No frame is smaller.
pub const FRAME_HEADER_BYTES: usize = 8;

/// Smallest value a peer may give as its largest frame: MIN-MAX-FRAME-SIZE (part 2, 2.8.19). Every
/// peer takes frames of this size before anything was negotiated.
pub const FRAME_BYTES_MIN_MAX: usize = 512;

/// Largest SASL frame: they are exchanged before a larger size can be agreed (part 5, 5.3.1).
pub const SASL_FRAME_BYTES_MAX: usize = FRAME_BYTES_MIN_MAX;

/// Longest delivery tag (part 2, 2.8.7).
pub const DELIVERY_TAG_BYTES_MAX: usize = 32;

/// How deep a value may be nested, counted from the outermost one: a list in a list is two deep, and
/// what has a descriptor is one deeper than without. The specification has no bound, a stack has
/// one; a filter in an attach is six deep, and what applications nest is rarely deeper than that.
pub const VALUE_DEPTH_MAX: u8 = 32;

/// Most elements of an array whose elements have no bytes (null, a boolean in its constructor, zero,
/// the empty list). Their number is not bounded by the bytes they come in, so a frame of a few bytes
/// could ask for four thousand million steps; and it says nothing but that number.
pub const ARRAY_ZERO_WIDTH_COUNT_MAX: u32 = 256;

const _: () = assert!(FRAME_BYTES_MIN_MAX > FRAME_HEADER_BYTES, "a frame has room for a body");
const _: () = assert!(
    DELIVERY_TAG_BYTES_MAX <= u8::MAX as usize,
    "a delivery tag has a one-byte length in its shortest encoding"
);
