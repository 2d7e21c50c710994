//! When the messages of an open loop are due.
//!
//! The n-th message is due at `start + n / rate`, whatever happened to the ones before: when the
//! driver or the broker falls behind, the delay shows up in the latency of every message that had
//! to wait (no coordinated omission).

/// A steady schedule. Times are nanoseconds since the run's epoch.
#[derive(Debug)]
pub struct Pace {
    start_ns: u64,
    gap_ns: f64,
    taken: u64,
}

impl Pace {
    /// `per_second` messages a second in all, the first at `start_ns`.
    pub fn new(start_ns: u64, per_second: f64) -> Self {
        Self { start_ns, gap_ns: 1e9 / per_second, taken: 0 }
    }

    /// When the next message is due.
    pub fn next_due_ns(&self) -> u64 {
        self.start_ns + (self.taken as f64 * self.gap_ns) as u64
    }

    /// The number of the next message, counted from 0, and when it was due, if that is not later
    /// than `now_ns`.
    pub fn due(&self, now_ns: u64) -> Option<(u64, u64)> {
        let due_ns = self.next_due_ns();
        (due_ns <= now_ns).then_some((self.taken, due_ns))
    }

    /// The next message went out.
    pub fn take(&mut self) {
        self.taken += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_late_sender_does_not_move_the_schedule() {
        let mut pace = Pace::new(1_000, 1_000_000.0);
        assert_eq!(pace.next_due_ns(), 1_000);
        pace.take();
        assert_eq!(pace.next_due_ns(), 2_000);
        // However late the second one goes out, the third stays where it was.
        pace.take();
        assert_eq!((pace.due(2_999), pace.due(9_000)), (None, Some((2, 3_000))));
    }

    #[test]
    fn a_rate_that_does_not_divide_a_second_does_not_drift() {
        let mut pace = Pace::new(0, 3.0);
        (0..3_000_000).for_each(|_| pace.take());
        assert!(pace.next_due_ns().abs_diff(1_000_000 * 1_000_000_000) < 1_000);
    }
}
