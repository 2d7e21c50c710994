//! How long to wait for company: pure, time is an argument.
//!
//! Waking for each message is what small-message traffic spends its processor on. Waiting until several have come, bounded by a
//! latency target, saves up to two thirds of it. It may only be done where it does no harm:
//!
//! - below 1.5 expected arrivals per target there is nobody to wait for: wake at once;
//! - if the peers wait for us (a closed loop), waiting makes them slower. No single wait tells, so the policy measures: stretches
//!   that wake at once give the arrival rate the peers would like to have, stretches that wait are compared with it. A drop
//!   below 80 % ends the waiting, and each further drop doubles the pause before the next trial. A stretch has at least
//!   512 arrivals, so 20 % is three standard deviations of a random stream.
//!
//! The wanted count is the expected number of arrivals within the target plus the sends just submitted, whose completions come
//! at once and would end every wait.

use crate::limits::WANT_MAX;

const STRETCH_ARRIVALS: u64 = 512;
const STRETCH_NS_MIN: u64 = 20_000_000;
const STRETCH_NS_MAX: u64 = 500_000_000;
/// The arrival rate is averaged over windows of this length.
const WINDOW_NS: u64 = 2_000_000;
const EXPECTED_MIN: f64 = 1.5;
const HARM: f64 = 0.8;
const PAUSE_MIN: u32 = 2;
const PAUSE_MAX: u32 = 64;
/// Waiting stretches before the undisturbed rate is measured again.
const REFRESH: u32 = 64;

/// What the next enter should wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    /// Completions; 1 wakes at once.
    pub(crate) want: u32,
    /// After this, one completion is enough.
    pub(crate) min_wait_us: u32,
}

impl Plan {
    pub(crate) const AT_ONCE: Self = Self { want: 1, min_wait_us: 0 };
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// Wake at once, for at least `pause` more stretches.
    Waking { pause: u32 },
    /// Wait; `stretches` so far.
    Waiting { stretches: u32 },
}

pub(crate) struct Adaptive {
    target_ns: u64,
    mode: Mode,
    pause: u32,
    /// Arrivals per nanosecond, of the last windows, waking or waiting.
    rate: f64,
    /// Arrivals per nanosecond without waiting.
    undisturbed: f64,
    window: Span,
    stretch: Span,
}

#[derive(Clone, Copy, Default)]
struct Span {
    ns: u64,
    arrivals: u64,
}

impl Span {
    fn add(&mut self, ns: u64, arrivals: u64) {
        self.ns += ns;
        self.arrivals += arrivals;
    }

    fn rate(self) -> f64 {
        self.arrivals as f64 / self.ns.max(1) as f64
    }
}

impl Adaptive {
    /// A zero target never waits.
    pub(crate) fn new(target_ns: u64) -> Self {
        Self {
            target_ns,
            mode: Mode::Waking { pause: 0 },
            pause: PAUSE_MIN,
            rate: 0.0,
            undisturbed: 0.0,
            window: Span::default(),
            stretch: Span::default(),
        }
    }

    /// A turn took `ns` (its wait included) and brought `arrivals` events from outside.
    pub(crate) fn observe(&mut self, ns: u64, arrivals: u32) {
        if self.target_ns == 0 {
            return;
        }
        let arrivals = u64::from(arrivals);
        self.window.add(ns, arrivals);
        if self.window.ns >= WINDOW_NS {
            // A long silence counts as one: the old rate has nothing to say about what comes after it.
            let weight = if self.window.ns >= 10 * WINDOW_NS { 1.0 } else { 0.5 };
            self.rate += (self.window.rate() - self.rate) * weight;
            self.window = Span::default();
        }
        self.stretch.add(ns, arrivals);
        let full = self.stretch.ns >= STRETCH_NS_MIN && self.stretch.arrivals >= STRETCH_ARRIVALS;
        if full || self.stretch.ns >= STRETCH_NS_MAX {
            self.judge(self.stretch.rate());
            self.stretch = Span::default();
        }
    }

    fn judge(&mut self, rate: f64) {
        self.mode = match self.mode {
            Mode::Waking { pause } => {
                self.undisturbed = rate;
                match pause {
                    0 if self.expected(rate) >= EXPECTED_MIN => Mode::Waiting { stretches: 0 },
                    _ => Mode::Waking { pause: pause.saturating_sub(1) },
                }
            }
            Mode::Waiting { .. } if rate < self.undisturbed * HARM => {
                let pause = self.pause;
                self.pause = (pause * 2).min(PAUSE_MAX);
                Mode::Waking { pause }
            }
            Mode::Waiting { stretches } if stretches >= REFRESH => {
                self.pause = PAUSE_MIN;
                Mode::Waking { pause: 0 }
            }
            Mode::Waiting { stretches } => {
                // Follow slow changes of the load; a harmful wait shows at once.
                self.undisturbed += (rate - self.undisturbed) * 0.1;
                Mode::Waiting { stretches: stretches + 1 }
            }
        };
    }

    fn expected(&self, rate: f64) -> f64 {
        rate * self.target_ns as f64
    }

    /// `own`: completions of our own that are sure to come at once. `possible`: most arrivals there can be.
    pub(crate) fn plan(&self, own: u32, possible: u32) -> Plan {
        let expected = self.expected(self.rate);
        if self.target_ns == 0
            || matches!(self.mode, Mode::Waking { .. })
            || expected < EXPECTED_MIN
        {
            return Plan::AT_ONCE;
        }
        let arrivals = (expected as u32).min(possible).max(1);
        let want = arrivals.saturating_add(own).min(WANT_MAX);
        Plan { want, min_wait_us: (self.target_ns / 1000) as u32 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TARGET_NS: u64 = 200_000;

    /// Peers that send on their own clock. Returns turns and arrivals of the last tenth.
    fn open_loop(policy: &mut Adaptive, gap_ns: u64, events: u64) -> (u64, u64) {
        let (mut now, mut next, mut turns, mut seen) = (0u64, 0u64, 0, 0);
        let mut arrivals_total = 0;
        while arrivals_total < events {
            let plan = policy.plan(0, 10_000);
            let started = now;
            let wanted_at = next + u64::from(plan.want - 1) * gap_ns;
            now =
                wanted_at.min(now + u64::from(plan.min_wait_us) * 1000).max(next).max(now) + 5_000;
            let mut arrivals = 0;
            while next <= now {
                next += gap_ns;
                arrivals += 1;
            }
            arrivals_total += arrivals;
            policy.observe(now - started, arrivals as u32);
            if arrivals_total > events * 9 / 10 {
                turns += 1;
                seen += arrivals;
            }
        }
        (turns, seen)
    }

    /// `peers` that answer after `answer_ns` and then wait for us, among a thousand that are silent. Returns events per millisecond
    /// of the last tenth.
    fn closed_loop(policy: &mut Adaptive, peers: usize, answer_ns: u64, total_ns: u64) -> f64 {
        let mut ready: Vec<u64> = vec![0; peers];
        let (mut now, mut late_events) = (0u64, 0u64);
        let late = total_ns * 9 / 10;
        while now < total_ns {
            let plan = policy.plan(0, 1000);
            let started = now;
            ready.sort_unstable();
            let wanted_at = ready.get(plan.want as usize - 1).copied().unwrap_or(u64::MAX);
            now = wanted_at.min(now + u64::from(plan.min_wait_us) * 1000).max(ready[0]).max(now)
                + 5_000;
            let mut arrivals = 0;
            for at in ready.iter_mut().filter(|at| **at <= now) {
                *at = now + answer_ns;
                arrivals += 1;
            }
            policy.observe(now - started, arrivals);
            if now > late {
                late_events += u64::from(arrivals);
            }
        }
        late_events as f64 * 1e6 / (total_ns - late) as f64
    }

    #[test]
    fn a_zero_target_never_waits() {
        let mut policy = Adaptive::new(0);
        let (turns, seen) = open_loop(&mut policy, 10_000, 100_000);
        assert_eq!(policy.plan(5, 100), Plan::AT_ONCE);
        assert!(turns * 11 >= seen * 10);
    }

    #[test]
    fn a_quiet_ring_wakes_at_once() {
        let mut policy = Adaptive::new(TARGET_NS);
        open_loop(&mut policy, 1_000_000, 20_000);
        assert_eq!(policy.plan(0, 10_000), Plan::AT_ONCE);
    }

    #[test]
    fn a_busy_open_stream_is_taken_in_trains_within_the_target() {
        let mut policy = Adaptive::new(TARGET_NS);
        let (turns, seen) = open_loop(&mut policy, 10_000, 200_000);
        assert!(seen >= 10 * turns, "{seen} arrivals in {turns} turns");
        let plan = policy.plan(3, 10_000);
        assert!((15..=WANT_MAX).contains(&plan.want), "{plan:?}");
        assert!(u64::from(plan.min_wait_us) * 1000 <= TARGET_NS);
    }

    #[test]
    fn peers_that_wait_for_us_keep_nearly_all_of_their_rate() {
        for peers in [1, 2, 4, 8, 64] {
            let at_once = closed_loop(&mut Adaptive::new(0), peers, 30_000, 10_000_000_000);
            let adaptive =
                closed_loop(&mut Adaptive::new(TARGET_NS), peers, 30_000, 10_000_000_000);
            assert!(adaptive > at_once * 0.75, "{peers} peers: {adaptive} of {at_once} per ms");
        }
    }

    #[test]
    fn repeated_harm_is_tried_ever_more_seldom() {
        let mut policy = Adaptive::new(TARGET_NS);
        closed_loop(&mut policy, 2, 30_000, 20_000_000_000);
        assert_eq!(policy.pause, PAUSE_MAX);
    }

    #[test]
    fn the_wanted_count_never_exceeds_what_can_come() {
        let mut policy = Adaptive::new(TARGET_NS);
        open_loop(&mut policy, 1_000, 2_000_000);
        assert!(policy.plan(0, 4).want <= 4);
        assert!(policy.plan(u32::MAX, 10_000).want <= WANT_MAX);
    }

    #[test]
    fn silence_ends_the_waiting() {
        let mut policy = Adaptive::new(TARGET_NS);
        open_loop(&mut policy, 10_000, 200_000);
        assert!(policy.plan(0, 100).want > 1);
        policy.observe(1_000_000_000, 1);
        assert_eq!(policy.plan(0, 100), Plan::AT_ONCE);
    }
}
