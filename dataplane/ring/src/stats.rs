//! What a ring counts. Plain numbers, read on the ring's own thread; copy them out for other threads.

/// Counters since the ring was made, and two gauges.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RingStats {
    /// Turns of the loop.
    pub turns: u64,
    /// `io_uring_enter` calls, mid-turn submissions included.
    pub enters: u64,
    /// Completions handled.
    pub completions: u64,
    /// Turns that found the completion queue overflown (the kernel kept the surplus; nothing was lost).
    pub completion_overflows: u64,
    /// Submissions the kernel put off (EBUSY, EAGAIN).
    pub submissions_deferred: u64,
    /// Connections accepted and shown to the handler.
    pub accepted: u64,
    /// Connections refused because `connections_max` were open.
    pub accepts_refused: u64,
    /// Accept failures (descriptor or memory shortage, peers gone before they were accepted).
    pub accept_errors: u64,
    /// Connections given up to another ring.
    pub detached: u64,
    /// Connections taken over by [`Io::adopt`](crate::Io::adopt).
    pub adopted: u64,
    /// Receive completions with bytes.
    pub receives: u64,
    /// Bytes received.
    pub receive_bytes: u64,
    /// Receives that found no free buffer and were armed again.
    pub enobufs: u64,
    /// Send completions with bytes.
    pub sends: u64,
    /// Bytes sent.
    pub send_bytes: u64,
    /// Connections ended because they read too slowly.
    pub slow_consumers: u64,
    /// Handler timers fired.
    pub timers_fired: u64,
    /// Turns in which somebody had rung (waker or doorbell).
    pub wakeups: u64,
    /// Doorbells of other rings rung with a system event, that is, while their ring slept.
    pub doorbells_rung: u64,
    /// Doorbell messages the kernel refused; the eventfd was used instead.
    pub doorbell_fallbacks: u64,
    /// Waits for more than one completion.
    pub adaptive_waits: u64,
    /// Of those, waits that ended by time and not by count.
    pub adaptive_expired: u64,
    /// Durable writes completed.
    pub writes: u64,
    /// Durable writes failed.
    pub write_errors: u64,
    /// Bytes written durably.
    pub write_bytes: u64,
    /// Gauge: connection slots in use, closing ones included.
    pub connections: u64,
    /// Gauge: operations the kernel holds.
    pub in_flight: u64,
}
