//! Every bound of the loop, and how the bounds relate.
//!
//! A number that is a setting lives in [`RingConfig`](crate::RingConfig); its default is here. A number that is no setting is
//! here alone, with the reason for its size.

use std::time::Duration;

/// Submission queue entries. A turn that needs more submits in the middle, so this is a batch size and not a cap.
pub const ENTRIES: u32 = 1024;
/// Completion queue entries. Room for several turns' worth, because multishot receives post without being asked.
pub const COMPLETION_ENTRIES: u32 = 8192;
/// Receive buffers shared by all connections of a ring.
pub const RECEIVE_BUFFERS: u16 = 512;
/// Bytes in one receive buffer. 4 KiB was measured 2-3 times dearer for pipelined senders.
pub const RECEIVE_BUFFER_BYTES: u32 = 16 * 1024;
/// Connections of one ring.
pub const CONNECTIONS_MAX: u32 = 65_536;
/// Unsent bytes of one connection before it is dropped as a slow consumer.
pub const SEND_QUEUE_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Unsent bytes of one connection from which [`Io::send`](crate::Io::send) answers `Backlogged`.
pub const SEND_HIGH_WATER_BYTES: usize = 256 * 1024;
/// How long a message may wait for company under load.
pub const LATENCY_TARGET: Duration = Duration::from_micros(1250);
/// How long a closed connection may take to flush and to see the peer's FIN.
pub const LINGER: Duration = Duration::from_secs(5);
/// The same while the ring stops: the process wants to go, and the output has been handed to the kernel by then.
pub const LINGER_STOPPING: Duration = Duration::from_millis(500);

/// Seconds a connection without input waits for being accepted, see [`accept_on_input`](crate::accept_on_input). The least the
/// kernel knows: it counts in repetitions of its own answer to the peer, the first of which comes after a second.
pub(crate) const ACCEPT_INPUT_WAIT_S: i32 = 1;

/// Completions handled in one turn; the rest stay in the queue and the next turn does not wait.
pub(crate) const COMPLETIONS_PER_TURN: usize = 4096;
/// Bytes read and thrown away while a closed connection waits for the peer's FIN. Closing with unread input would make the
/// kernel send RST, which can destroy the last bytes we sent; reading for ever would let the peer hold the slot.
pub(crate) const LINGER_DISCARD_BYTES: u32 = 256 * 1024;
/// Capacity of a fresh output buffer: a few small frames without growing.
pub(crate) const OUTPUT_INITIAL_BYTES: usize = 1024;
/// Largest output buffer kept for reuse.
pub(crate) const SPARE_BUFFER_BYTES_MAX: usize = 256 * 1024;
/// All output buffers kept for reuse by one ring. Idle connections own none, so this is the whole resting cost.
pub(crate) const SPARE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// How long accepting rests after the process or system ran out of descriptors or memory.
pub(crate) const ACCEPT_REST: Duration = Duration::from_millis(100);
/// How long the loop rests when the kernel has no memory to take a submission and nothing completes either.
pub(crate) const SUBMIT_REST: Duration = Duration::from_micros(1250);
/// How long dropping a ring that still has operations in the kernel tries to get them back before it leaks their memory.
pub(crate) const ABANDON: Duration = Duration::from_secs(2);
/// Flush rounds in one turn: flushing may close slow consumers, whose handlers may write to others.
pub(crate) const FLUSHES_PER_TURN: usize = 4;
/// Longest timer, so that arithmetic on ticks cannot overflow.
pub(crate) const TIMER_MAX: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
/// Wanted completions of one wait never exceed this; beyond it a train is as cheap as it gets.
pub(crate) const WANT_MAX: u32 = 256;
/// Alignment of write buffers. Every block device the journal meets accepts it for direct writes.
pub const WRITE_ALIGNMENT: usize = 4096;

// The slot index and its generation share the user data word with the operation's code.
const _: () = assert!(CONNECTIONS_MAX < u32::MAX);
// Receive buffers are numbered by u16 and the ring's mask needs a power of two; the kernel takes 2^15 at most.
const _: () = assert!(RECEIVE_BUFFERS.is_power_of_two() && RECEIVE_BUFFERS <= 1 << 15);
// Every receive buffer may complete in one turn, beside as many sends as one batch holds, without overflowing the queue.
const _: () = assert!(COMPLETION_ENTRIES >= RECEIVE_BUFFERS as u32 + 2 * ENTRIES);
// A batch bounded below the queue's size leaves room for what completes meanwhile.
const _: () = assert!(COMPLETIONS_PER_TURN <= COMPLETION_ENTRIES as usize);
// A wait must be able to see its wanted count.
const _: () = assert!(WANT_MAX < COMPLETION_ENTRIES);
// Backlogged is said before the connection is dropped.
const _: () = assert!(SEND_HIGH_WATER_BYTES < SEND_QUEUE_BYTES_MAX);
// One send carries the whole queue: its length must fit the kernel's u32.
const _: () = assert!(SEND_QUEUE_BYTES_MAX < u32::MAX as usize / 2);
const _: () = assert!(
    OUTPUT_INITIAL_BYTES <= SPARE_BUFFER_BYTES_MAX && SPARE_BUFFER_BYTES_MAX <= SPARE_BYTES_MAX
);
const _: () = assert!(WRITE_ALIGNMENT.is_power_of_two());
