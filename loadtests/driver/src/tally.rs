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
/// What the plots show of a distribution.
const CURVE_PERCENT: [f64; 14] =
    [0.0, 10.0, 25.0, 50.0, 75.0, 90.0, 95.0, 99.0, 99.5, 99.9, 99.95, 99.99, 99.999, 100.0];

/// Counts of one thread, added up at the end. Times are nanoseconds since the run's epoch.
#[derive(Debug)]
pub struct Tally {
    /// Empty before the measured time has begun.
    measured_ns: Range<u64>,
    /// Published within the measured time.
    pub published: u64,
    /// Delivered within the measured time.
    pub delivered: u64,
    /// Acknowledged within the measured time.
    pub acknowledged: u64,
    /// From due to delivered.
    pub delivery: Durations,
    /// From due to acknowledged.
    pub acknowledgement: Durations,
    /// From due to handed to the socket: the driver's own delay.
    pub sending: Durations,
    /// From begun (or due) to CONNACK.
    pub connect: Durations,
    /// See the type.
    pub errors: Errors,
}

/// What went wrong, in messages unless said otherwise.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Errors {
    /// Sent and never delivered.
    pub lost: u64,
    /// Delivered more than once.
    pub repeated: u64,
    /// Delivered after a later one of the same publisher.
    pub reordered: u64,
    /// QoS 1 and 2: never acknowledged.
    pub unacknowledged: u64,
    /// Open loop: due within the run and not sent, because the broker had not taken earlier ones.
    pub unsent: u64,
    /// Acknowledged with a refusal (MQTT 5).
    pub refused: u64,
    /// Deliveries of what a broker kept from an earlier run.
    pub stale: u64,
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

    fn add(&mut self, other: &Self) {
        self.lost += other.lost;
        self.repeated += other.repeated;
        self.reordered += other.reordered;
        self.unacknowledged += other.unacknowledged;
        self.unsent += other.unsent;
        self.refused += other.refused;
        self.stale += other.stale;
        self.foreign += other.foreign;
        self.unexpected_packets += other.unexpected_packets;
        self.connections_closed += other.connections_closed;
    }
}

impl Tally {
    /// Nothing counted, the measured time not begun.
    pub fn new() -> Self {
        Self {
            measured_ns: u64::MAX..u64::MAX,
            published: 0,
            delivered: 0,
            acknowledged: 0,
            delivery: Durations::new(),
            acknowledgement: Durations::new(),
            sending: Durations::new(),
            connect: Durations::new(),
            errors: Errors::default(),
        }
    }

    /// Begin and end of the measured time as far as they are known; `u64::MAX` while not.
    pub fn measure(&mut self, begin_ns: u64, end_ns: u64) {
        self.measured_ns = begin_ns..end_ns;
    }

    /// A message due at `due_ns` was handed over.
    pub fn on_sent(&mut self, due_ns: u64, now_ns: u64, is_paced: bool) {
        if self.measured_ns.contains(&now_ns) {
            self.published += 1;
        }
        if is_paced && self.measured_ns.contains(&due_ns) {
            self.sending.record(due_ns, now_ns);
        }
    }

    /// A message was delivered.
    pub fn on_delivered(&mut self, due_ns: u64, now_ns: u64) {
        if self.measured_ns.contains(&now_ns) {
            self.delivered += 1;
        }
        if self.measured_ns.contains(&due_ns) {
            self.delivery.record(due_ns, now_ns);
        }
    }

    /// A message was acknowledged.
    pub fn on_acknowledged(&mut self, due_ns: u64, now_ns: u64) {
        if self.measured_ns.contains(&now_ns) {
            self.acknowledged += 1;
        }
        if self.measured_ns.contains(&due_ns) {
            self.acknowledgement.record(due_ns, now_ns);
        }
    }

    /// Takes another thread's counts in.
    pub fn add(&mut self, other: &Self) {
        self.published += other.published;
        self.delivered += other.delivered;
        self.acknowledged += other.acknowledged;
        self.delivery.add(&other.delivery);
        self.acknowledgement.add(&other.acknowledgement);
        self.sending.add(&other.sending);
        self.connect.add(&other.connect);
        self.errors.add(&other.errors);
    }
}

/// A distribution of durations.
#[derive(Debug)]
pub struct Durations(Histogram<u64>);

impl Durations {
    fn new() -> Self {
        Self(
            Histogram::new_with_bounds(1, LATENCY_MAX_NS, LATENCY_DIGITS).expect(
                "the bounds are constants: low 1, high at least twice that, digits at most 5",
            ),
        )
    }

    /// One that lasted from `from_ns` to `to_ns`.
    pub fn record(&mut self, from_ns: u64, to_ns: u64) {
        self.0.saturating_record(to_ns.saturating_sub(from_ns));
    }

    fn add(&mut self, other: &Self) {
        self.0.add(&other.0).expect("all histograms of the driver have the same bounds");
    }

    /// In figures; `None` if there was none.
    pub fn figures(&self) -> Option<Latency> {
        if self.0.is_empty() {
            return None;
        }
        let at = |percent: f64| self.0.value_at_percentile(percent) as f64 / 1e3;
        Some(Latency {
            samples: self.0.len(),
            mean: self.0.mean() / 1e3,
            p50: at(50.0),
            p90: at(90.0),
            p99: at(99.0),
            p999: at(99.9),
            max: self.0.max() as f64 / 1e3,
            curve: CURVE_PERCENT.map(|percent| (percent, at(percent))).to_vec(),
        })
    }
}

/// Quantiles in microseconds.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Latency {
    /// How many messages.
    pub samples: u64,
    pub mean: f64,
    pub p50: f64,
    pub p90: f64,
    pub p99: f64,
    pub p999: f64,
    pub max: f64,
    /// Percentile and value, for plots.
    pub curve: Vec<(f64, f64)>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_done_in_the_measured_time_counts_as_throughput() {
        let mut tally = Tally::new();
        tally.on_delivered(0, 10);
        tally.measure(100, u64::MAX);
        tally.on_delivered(50, 100);
        tally.on_delivered(100, 199);
        tally.measure(100, 200);
        tally.on_delivered(150, 200);
        assert_eq!(tally.delivered, 2);
    }

    #[test]
    fn a_message_that_is_done_after_the_measured_time_still_has_its_latency_counted() {
        let mut tally = Tally::new();
        tally.measure(1_000, u64::MAX);
        tally.on_acknowledged(900, 1_100);
        tally.measure(1_000, 2_000);
        tally.on_acknowledged(1_500, 1_501_500);
        tally.on_acknowledged(2_500, 2_600);
        let latency = tally.acknowledgement.figures().unwrap();
        assert_eq!(latency.samples, 1);
        assert!((latency.max - 1_500.0).abs() < 2.0, "{latency:?}");
    }

    #[test]
    fn quantiles_are_right_to_three_digits_also_when_threads_are_added_up() {
        let (mut odd, mut even) = (Tally::new(), Tally::new());
        for microsecond in 1..=1_000 {
            let tally = if microsecond % 2 == 0 { &mut even } else { &mut odd };
            tally.delivery.record(0, microsecond * 1_000);
        }
        odd.add(&even);
        let latency = odd.delivery.figures().unwrap();
        for (found, right) in [
            (latency.p50, 500.0),
            (latency.p90, 900.0),
            (latency.p99, 990.0),
            (latency.p999, 999.0),
        ] {
            assert!((found - right).abs() / right < 0.002, "{found} instead of {right}");
        }
        assert_eq!(latency.curve.len(), CURVE_PERCENT.len());
    }

    #[test]
    fn a_latency_beyond_the_scale_counts_at_its_end() {
        let mut durations = Durations::new();
        durations.record(0, u64::MAX - 1);
        assert!(durations.figures().unwrap().max >= LATENCY_MAX_NS as f64 / 1e3);
    }

    #[test]
    fn nothing_has_no_quantiles() {
        assert_eq!(Durations::new().figures(), None);
    }
}
