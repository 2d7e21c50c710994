//! Every bound of a connection that is no setting of an operator.

/// Longest link name. Names identify links over connections, so they are kept; what clients make up is a container's name
/// and a random part. An answer that names the link fits the smallest frame.
pub const LINK_NAME_BYTES_MAX: usize = 256;

/// Smallest frame a peer may be limited to: MIN-MAX-FRAME-SIZE (part 2, 2.8.19).
pub const FRAME_BYTES_MIN: u32 = 512;

/// Shortest silence that can be agreed on, in milliseconds. A peer that asks for less would have this end do nothing but
/// send signs of life; it is closed (part 2, 2.4.5).
pub const IDLE_TIME_OUT_MIN_MS: u32 = 100;

/// Frames a delivery's beginning may need besides its payload's bytes: frame header, performative, a tag of 32 bytes and a
/// delivery state of this end's own.
pub const TRANSFER_HEAD_BYTES: usize = 256;

const _: () = assert!(
    TRANSFER_HEAD_BYTES * 2 <= FRAME_BYTES_MIN as usize,
    "the smallest frame carries as much payload as head"
);
