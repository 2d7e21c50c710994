//! The sizes the MQTT wire format itself imposes. What an operator may configure is an argument of
//! [`crate::decode`], not a constant here.

/// Largest value of the remaining length: four bytes of seven bits (3.1.1 section 2.2.3).
pub const REMAINING_LENGTH_MAX: usize = 268_435_455;

/// Largest fixed header: the type byte and four bytes of remaining length.
pub const FIXED_HEADER_BYTES_MAX: usize = 5;

/// Largest string or binary field: its length has two bytes (3.1.1 section 1.5.3).
pub const STRING_BYTES_MAX: usize = 65_535;

const _: () = assert!(REMAINING_LENGTH_MAX == (1 << 28) - 1, "four groups of seven bits");
const _: () = assert!(STRING_BYTES_MAX == u16::MAX as usize, "the length prefix is a u16");
