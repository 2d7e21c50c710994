//! Pauses between attempts: full jitter over a bound that doubles.

use crate::config::Backoff;
use std::time::Duration;

/// Longest pause taken from a `Retry-After`: a cloud that names a day must not silence a node for a day.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(300);
/// Pauses of one piece of work that a healed link may cut short before it succeeds.
const WAKES_MAX: u32 = 3;

/// Attempts of one piece of work.
#[derive(Clone, Copy)]
pub(crate) struct Attempts {
    backoff: Backoff,
    failed: u32,
    woken: u32,
}

impl Attempts {
    pub fn new(backoff: Backoff) -> Attempts {
        Attempts { backoff, failed: 0, woken: 0 }
    }

    pub fn succeeded(&mut self) {
        self.failed = 0;
        self.woken = 0;
    }

    /// A pause was cut short because others got through.
    pub fn woken(&mut self) {
        self.woken = self.woken.saturating_add(1);
    }

    /// Work that keeps failing while others get through must not be tried each time one of them does.
    pub fn may_be_woken(&self) -> bool {
        self.woken < WAKES_MAX
    }

    /// Counts a failure; the pause before the next attempt, at least what the cloud has asked for.
    pub fn pause(&mut self, retry_after: Option<Duration>) -> Duration {
        let bound = self.backoff.min.saturating_mul(1 << self.failed.min(16)).min(self.backoff.max);
        self.failed = self.failed.saturating_add(1);
        let spread = bound.max(self.backoff.min * 2).min(self.backoff.max.max(self.backoff.min));
        let span = spread.saturating_sub(self.backoff.min);
        let jittered = self.backoff.min + span.mul_f64(rand::random::<f64>());
        match retry_after.map(|asked| asked.min(RETRY_AFTER_MAX)) {
            // A little is added so that all nodes told the same second do not come back in it.
            Some(asked) => asked + jittered.min(Duration::from_secs(1)),
            None => jittered,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BACKOFF: Backoff =
        Backoff { min: Duration::from_millis(100), max: Duration::from_secs(30) };

    #[test]
    fn pauses_stay_between_the_bounds_and_grow() {
        let mut attempts = Attempts::new(BACKOFF);
        let mut longest = Duration::ZERO;
        for _ in 0..2_000 {
            let pause = attempts.pause(None);
            assert!((BACKOFF.min..=BACKOFF.max).contains(&pause), "{pause:?}");
            longest = longest.max(pause);
        }
        assert!(longest > BACKOFF.max / 2);
        attempts.succeeded();
        assert!(attempts.pause(None) <= BACKOFF.min * 2);
    }

    #[test]
    fn a_pause_the_cloud_asks_for_is_kept_within_reason() {
        let mut attempts = Attempts::new(BACKOFF);
        assert!(attempts.pause(Some(Duration::from_secs(9))) >= Duration::from_secs(9));
        assert!(attempts.pause(Some(Duration::from_secs(86_400))) < RETRY_AFTER_MAX * 2);
    }
}
