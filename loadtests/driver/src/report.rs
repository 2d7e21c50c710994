//! What a run says at its end: text for people, one JSON object for loadtests/run.py.

use crate::process::CpuSpent;
use crate::settings::{Mode, Plan};
use crate::tally::{Errors, Latency, Tally};
use serde::Serialize;
use std::time::Duration;

/// Above this the figures show the driver rather than the broker.
const DRIVER_BUSY_LIMIT: f64 = 0.9;

/// What the measured process used.
#[derive(Debug, Clone, Copy)]
pub struct ServerCost {
    /// CPU time within the measured time.
    pub spent: CpuSpent,
    /// At the end of it.
    pub resident_kib: u64,
}

/// The figures of one run.
#[derive(Debug, Serialize)]
pub struct Report {
    mode: Mode,
    connections: usize,
    /// In flight at most, over all publishers.
    in_flight_max: usize,
    payload_bytes: usize,
    rate_per_s: Option<f64>,
    measured_s: f64,
    /// Delivered (QoS 0) or acknowledged (QoS 1) within the measured time.
    pub messages: u64,
    messages_per_s: f64,
    server: Option<ServerFigures>,
    /// Share of the measured time in which the driver had something to do.
    driver_busy_share: f64,
    latency_us: Latency,
    /// Over the whole run.
    pub errors: Errors,
}

#[derive(Debug, Serialize)]
struct ServerFigures {
    /// From schedstat.
    cpu_us_per_message: f64,
    /// From utime + stime, as a check.
    cpu_ticks_us_per_message: f64,
    /// Of one core.
    cpu_share: f64,
    threads_ended: usize,
    resident_mib: f64,
}

impl Report {
    /// Puts the figures together.
    pub fn new(
        plan: &Plan,
        tally: &Tally,
        elapsed: Duration,
        server: Option<ServerCost>,
        driver_busy_share: f64,
    ) -> Self {
        let messages = tally.messages();
        let per_message_us = |ns: u64| ns as f64 / 1e3 / messages.max(1) as f64;
        Self {
            mode: plan.mode,
            connections: plan.connections(),
            in_flight_max: plan.publishers * usize::from(plan.window),
            payload_bytes: plan.payload_bytes,
            rate_per_s: plan.rate_per_s,
            measured_s: elapsed.as_secs_f64(),
            messages,
            messages_per_s: messages as f64 / elapsed.as_secs_f64(),
            server: server.map(|cost| ServerFigures {
                cpu_us_per_message: per_message_us(cost.spent.run_ns),
                cpu_ticks_us_per_message: per_message_us(cost.spent.ticks_ns),
                cpu_share: cost.spent.run_ns as f64 / elapsed.as_nanos() as f64,
                threads_ended: cost.spent.threads_ended,
                resident_mib: cost.resident_kib as f64 / 1024.0,
            }),
            driver_busy_share,
            latency_us: tally.latency(),
            errors: tally.errors,
        }
    }

    /// Writes it to standard output.
    pub fn print(&self, json: bool) {
        if json {
            let text = serde_json::to_string(self).expect("a report has only plain members");
            return println!("{text}");
        }
        let pressure = match self.rate_per_s {
            Some(rate) => format!("{rate} messages/s"),
            None => format!("up to {} in flight", self.in_flight_max),
        };
        println!(
            "{:?}: {} connections, {pressure}, {} B payload, {:.1} s",
            self.mode, self.connections, self.payload_bytes, self.measured_s
        );
        println!("  messages   {} ({:.0} /s)", self.messages, self.messages_per_s);
        if let Some(server) = &self.server {
            println!(
                "  server     {:.3} µs CPU per message (ticks: {:.3}), {:.0} % of a core, {:.1} MiB resident",
                server.cpu_us_per_message,
                server.cpu_ticks_us_per_message,
                100.0 * server.cpu_share,
                server.resident_mib
            );
        }
        let latency = &self.latency_us;
        println!(
            "  latency µs p50 {:.0}  p90 {:.0}  p99 {:.0}  p99.9 {:.0}  max {:.0}",
            latency.p50, latency.p90, latency.p99, latency.p999, latency.max
        );
        println!("  driver     {:.0} % busy", 100.0 * self.driver_busy_share);
        if self.driver_busy_share > DRIVER_BUSY_LIMIT {
            println!("             the driver is the limit: throughput and latency are its own");
        }
        if !self.errors.is_none() {
            println!("  ERRORS     {:?}", self.errors);
        }
    }
}
