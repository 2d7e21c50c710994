//! What the threads of a run tell each other: how far it is. Nothing per message.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

/// Not known yet.
pub const UNKNOWN: u64 = u64::MAX;

/// One run. Times are nanoseconds since `epoch`.
pub struct Progress {
    pub epoch: Instant,
    /// Tells this run's messages from what a broker kept of earlier ones.
    pub run: u32,
    /// Connections that are not ready yet, of all threads.
    unready: AtomicUsize,
    /// When the load starts, and the measured time begins and ends.
    pub start_ns: AtomicU64,
    pub begin_ns: AtomicU64,
    pub end_ns: AtomicU64,
    /// Threads that send nothing any more.
    drained: AtomicUsize,
    threads: usize,
    /// Deliveries that have to come, and those that came, of all threads that send nothing any more.
    expected: AtomicU64,
    arrived: AtomicU64,
    is_failed: AtomicBool,
}

impl Progress {
    /// A run of so many connections from so many threads begins now.
    pub fn new(connections: usize, threads: usize) -> Self {
        let run = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map_or(1, |since| since.as_micros() as u32);
        Self {
            epoch: Instant::now(),
            run,
            unready: AtomicUsize::new(connections),
            start_ns: AtomicU64::new(UNKNOWN),
            begin_ns: AtomicU64::new(UNKNOWN),
            end_ns: AtomicU64::new(UNKNOWN),
            drained: AtomicUsize::new(0),
            threads,
            expected: AtomicU64::new(0),
            arrived: AtomicU64::new(0),
            is_failed: AtomicBool::new(false),
        }
    }

    /// The time.
    pub fn now_ns(&self) -> u64 {
        self.epoch.elapsed().as_nanos() as u64
    }

    /// A connection is ready.
    pub fn one_is_ready(&self) {
        self.unready.fetch_sub(1, Ordering::AcqRel);
    }

    /// Whether all connections of all threads are.
    pub fn all_are_ready(&self) -> bool {
        self.unready.load(Ordering::Acquire) == 0
    }

    /// A thread sends nothing any more: how many deliveries its messages have, and how many came to
    /// its own subscribers so far.
    pub fn stop_sending(&self, expected: u64, arrived: u64) {
        self.expected.fetch_add(expected, Ordering::AcqRel);
        self.arrived.fetch_add(arrived, Ordering::AcqRel);
        self.drained.fetch_add(1, Ordering::AcqRel);
    }

    /// More deliveries came to a thread that sends nothing any more.
    pub fn more_arrived(&self, count: u64) {
        self.arrived.fetch_add(count, Ordering::AcqRel);
    }

    /// Whether nobody sends and everything came.
    pub fn everything_arrived(&self) -> bool {
        self.drained.load(Ordering::Acquire) == self.threads
            && self.arrived.load(Ordering::Acquire) >= self.expected.load(Ordering::Acquire)
    }

    /// One thread cannot go on; the others should not wait for it.
    pub fn fail(&self) {
        self.is_failed.store(true, Ordering::Release);
    }

    /// Whether one said so.
    pub fn is_failed(&self) -> bool {
        self.is_failed.load(Ordering::Acquire)
    }
}
