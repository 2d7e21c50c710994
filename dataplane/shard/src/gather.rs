//! When the next commit begins: at once, or after a moment in which the producers just answered can join it.
//!
//! Producers that wait for their answer send again right after it. A commit that begins in the instant the one before it
//! ends would leave them behind: half of them in each of two commits in turn, each commit half as full as it could be.
//! So the next one waits for as many records as were just answered, for a third of a commit's time at most. Behind an
//! idle journal nothing waits: the moment is over before the next record comes.

use std::time::{Duration, Instant};

/// The moment is a commit's time divided by this.
const SHARE: u32 = 3;
/// Longest moment: on a slow disk latency counts more than full batches.
const WAIT_MAX: Duration = Duration::from_micros(500);

/// Decides when a commit begins.
#[derive(Default)]
pub(crate) struct Gather {
    expected: u64,
    until: Option<Instant>,
}

impl Gather {
    /// A commit of `records` has ended at `now` after `took`; `pending` records wait for the next.
    pub(crate) fn committed(&mut self, now: Instant, took: Duration, records: u64, pending: u64) {
        self.expected = records + pending;
        self.until = Some(now + (took / SHARE).min(WAIT_MAX));
    }

    /// How long the next commit of `pending` records should still wait; `None`: it begins.
    pub(crate) fn wait(&mut self, now: Instant, pending: u64) -> Option<Duration> {
        let until = self.until.filter(|until| pending < self.expected && now < *until);
        if until.is_none() {
            self.until = None;
        }
        until.map(|until| until - now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMMIT: Duration = Duration::from_micros(300);

    #[test]
    fn a_record_behind_an_idle_journal_does_not_wait() {
        let start = Instant::now();
        let mut gather = Gather::default();
        assert_eq!(gather.wait(start, 1), None);
        gather.committed(start, COMMIT, 50, 0);
        assert_eq!(gather.wait(start + COMMIT, 1), None);
    }

    #[test]
    fn a_commit_waits_for_the_producers_just_answered_and_no_longer_than_its_share() {
        let start = Instant::now();
        let mut gather = Gather::default();
        gather.committed(start, COMMIT, 32, 32);
        assert_eq!(gather.wait(start, 32), Some(COMMIT / SHARE));
        assert_eq!(gather.wait(start, 63), Some(COMMIT / SHARE));
        assert_eq!(gather.wait(start, 64), None, "all are here");
        gather.committed(start, COMMIT, 32, 32);
        assert_eq!(gather.wait(start + COMMIT / SHARE, 40), None, "the others do not come");
        assert_eq!(gather.wait(start, 1), None, "and what begins late is not held again");
    }

    #[test]
    fn a_lone_producer_never_waits() {
        let start = Instant::now();
        let mut gather = Gather::default();
        gather.committed(start, COMMIT, 1, 0);
        assert_eq!(gather.wait(start, 1), None);
    }

    #[test]
    fn a_slow_disk_does_not_make_the_moment_long() {
        let start = Instant::now();
        let mut gather = Gather::default();
        gather.committed(start, Duration::from_secs(1), 10, 0);
        assert_eq!(gather.wait(start, 1), Some(WAIT_MAX));
    }
}
