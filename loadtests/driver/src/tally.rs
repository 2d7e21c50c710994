//! What is counted in a run.
//!
//! Messages count when they are done within the measured time; a latency counts when its message
//! was sent (or due) within it, even if it was done afterwards, so that the slowest are not left
//! out. Errors count from the first message to the last.

use hdrhistogram::Histogram;
use serde::Serialize;
use std::ops::Range;

/// Latencies are told apart up to here; a longer one counts as this.
const LATENCY_MAX_NS: u64 = 600_000_000_000;
/// Three digits: 0.1 % of the value.
const LATENCY_DIGITS: u8 = 3;

/// Counts of one run. Times are nanoseconds since the run's epoch.
#[derive(Debug)]
pub struct Tally {
    /// Ends at `u64::MAX` while the measured time lasts, empty before it.
    measured_ns: Range<u64>,
    messages: u64,
    latency_ns: Histogram<u64>,
    /// See the type.
    pub errors: Errors,
}

/// What went wrong, in messages unless said otherwise.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Errors {
    /// Sent and never delivered, or (QoS 1) never acknowledged.
    pub lost: u64,
    /// Delivered twice, out of order, or after having been declared lost.
    pub late: u64,
    /// Deliveries and acknowledgements of something never sent.
    pub foreign: u64,
    /// Packets a broker has no reason to send.
    pub unexpected_packets: u64,
    /// Connections the broker ended.
    pub connections_closed: u64,
}

impl Errors {
    /// Whether all is well.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

impl Tally {
    /// Nothing counted, the measured time not begun.
    pub fn new() -> Self {
        let latency_ns = Histogram::new_with_bounds(1, LATENCY_MAX_NS, LATENCY_DIGITS)
            .expect("the bounds are constants: low 1, high at least twice that, digits at most 5");
        Self { measured_ns: u64::MAX..u64::MAX, messages: 0, latency_ns, errors: Errors::default() }
    }

    /// The measured time begins.
    pub fn begin(&mut self, now_ns: u64) {
        self.measured_ns = now_ns..u64::MAX;
    }

    /// The measured time ends.
    pub fn end(&mut self, now_ns: u64) {
        self.measured_ns.end = now_ns;
    }

    /// One message is done.
    pub fn done(&mut self, sent_at_ns: u64, now_ns: u64) {
        if self.measured_ns.contains(&now_ns) {
            self.messages += 1;
        }
        if self.measured_ns.contains(&sent_at_ns) {
            self.latency_ns.saturating_record(now_ns.saturating_sub(sent_at_ns));
        }
    }

    /// Messages done within the measured time.
    pub fn messages(&self) -> u64 {
        self.messages
    }

    /// The latencies in figures.
    pub fn latency(&self) -> Latency {
        let at = |quantile| self.latency_ns.value_at_quantile(quantile) as f64 / 1e3;
        Latency {
            samples: self.latency_ns.len(),
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            max: self.latency_ns.max() as f64 / 1e3,
        }
    }
}

/// Quantiles in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Latency {
    /// How many messages.
    pub samples: u64,
    pub p50: f64,
    pub p90: f64,
    pub p99: f64,
    pub p999: f64,
    pub max: f64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_done_in_the_measured_time_counts_as_throughput() {
        let mut tally = Tally::new();
        tally.done(0, 10);
        tally.begin(100);
        tally.done(50, 100);
        tally.done(100, 199);
        tally.end(200);
        tally.done(150, 200);
        assert_eq!(tally.messages(), 2);
    }

    #[test]
    fn a_message_that_is_done_after_the_measured_time_still_has_its_latency_counted() {
        let mut tally = Tally::new();
        tally.begin(1_000);
        tally.done(900, 1_100);
        tally.end(2_000);
        tally.done(1_500, 1_501_500);
        tally.done(2_500, 2_600);
        let latency = tally.latency();
        assert_eq!(latency.samples, 1);
        assert!((latency.max - 1_500.0).abs() < 2.0, "{latency:?}");
    }

    #[test]
    fn quantiles_are_right_to_three_digits() {
        let mut tally = Tally::new();
        tally.begin(0);
        for microsecond in 1..=1_000 {
            tally.done(0, microsecond * 1_000);
        }
        let latency = tally.latency();
        for (found, right) in [
            (latency.p50, 500.0),
            (latency.p90, 900.0),
            (latency.p99, 990.0),
            (latency.p999, 999.0),
        ] {
            assert!((found - right).abs() / right < 0.002, "{found} instead of {right}");
        }
    }

    #[test]
    fn a_latency_beyond_the_scale_counts_at_its_end() {
        let mut tally = Tally::new();
        tally.begin(0);
        tally.done(0, u64::MAX - 1);
        assert_eq!(tally.latency().samples, 1);
        assert!(tally.latency().max >= LATENCY_MAX_NS as f64 / 1e3);
    }
}
