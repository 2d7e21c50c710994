//! What a run says at its end: text for people, one JSON object for loadtests/run.py.

use crate::plan::Plan;
use crate::probe::Reading;
use crate::settings::{Carrier, Pattern, Protocol};
use crate::tally::{Errors, Latency, Tally};
use fulcrum_mqtt::QoS;
use serde::Serialize;

/// Above this the figures show the driver rather than the broker.
const DRIVER_BUSY_LIMIT: f64 = 0.9;

/// The figures of one run.
#[derive(Debug, Serialize)]
pub struct Report {
    pattern: Pattern,
    protocol: Protocol,
    carrier: Carrier,
    qos: u8,
    publishers: usize,
    subscribers: usize,
    connections: usize,
    window: Option<u16>,
    rate_per_s: Option<f64>,
    payload_bytes: usize,
    persistent: bool,
    /// Why the run proves that something is wrong with the broker; empty: nothing.
    pub failures: Vec<String>,
    pub connecting: Connecting,
    /// Of idle connections.
    pub idle: Option<Idle>,
    pub traffic: Option<Traffic>,
    /// Over the whole run.
    pub errors: Errors,
}

/// How all connections came about.
#[derive(Debug, Serialize)]
pub struct Connecting {
    pub connections: usize,
    /// From the first SYN to the last CONNACK or SUBACK.
    seconds: f64,
    pub per_s: f64,
    /// Connections for each second of the server's CPU time.
    pub per_cpu_s: Option<f64>,
    cpu_us_per_connection: Option<f64>,
    pub bytes_per_connection: Option<f64>,
    time_to_connack_us: Option<Latency>,
}

/// The server with connections on which nothing happens.
#[derive(Debug, Serialize)]
pub struct Idle {
    seconds: f64,
    /// Before the first connection, and with all of them.
    resident_mib_alone: Option<f64>,
    resident_mib: Option<f64>,
    pub bytes_per_connection: Option<f64>,
    /// Of one core.
    cpu_percent: Option<f64>,
}

/// The measured time of a load.
#[derive(Debug, Serialize)]
pub struct Traffic {
    seconds: f64,
    /// Deliveries; where nobody subscribes, acknowledgements.
    pub messages: u64,
    pub messages_per_s: f64,
    pub published_per_s: f64,
    /// From due to delivered (or acknowledged, where nobody subscribes).
    pub latency_us: Option<Latency>,
    /// QoS 1 and 2, beside deliveries.
    acknowledgement_us: Option<Latency>,
    server: Option<Server>,
    driver: Driver,
}

#[derive(Debug, Serialize)]
struct Server {
    /// From schedstat.
    cpu_us_per_message: f64,
    /// From utime + stime, as a check.
    cpu_ticks_us_per_message: f64,
    /// Of one core.
    cpu_share: f64,
    threads_ended: usize,
    resident_mib: f64,
}

#[derive(Debug, Serialize)]
struct Driver {
    /// Share of the measured time in which the first thread had something to do.
    busy_share: f64,
    busy_us_per_message: f64,
    /// Open loop: from due to handed to the socket.
    delay_us: Option<Latency>,
}

impl Report {
    /// Puts the figures together. `readings`: before connecting, connected, and, unless it was all
    /// about connecting, at begin and end of the measured time.
    pub fn new(plan: &Plan, tally: &Tally, readings: &[Reading]) -> Self {
        let connecting = Connecting::new(plan, tally, readings);
        let measured = match readings {
            [alone, _, begin, end, ..] => Some((alone, begin, end)),
            _ => None,
        };
        let is_traffic = plan.has_traffic();
        Self {
            pattern: plan.pattern,
            protocol: plan.protocol,
            carrier: plan.carrier,
            qos: plan.qos.as_u8(),
            publishers: plan.publishers,
            subscribers: plan.subscribers,
            connections: plan.connections(),
            window: plan.window().filter(|_| is_traffic),
            rate_per_s: plan.rate_per_s(),
            payload_bytes: plan.payload_bytes,
            persistent: plan.persistent,
            failures: failures(plan, &tally.errors),
            connecting,
            idle: measured
                .filter(|_| !is_traffic)
                .map(|(alone, begin, end)| Idle::new(plan, alone, begin, end)),
            traffic: measured
                .filter(|_| is_traffic)
                .map(|(_, begin, end)| Traffic::new(plan, tally, begin, end)),
            errors: tally.errors,
        }
    }

    /// Writes it to standard output.
    pub fn print(&self, json: bool) {
        if json {
            let text = serde_json::to_string(self).expect("a report has only plain members");
            return println!("{text}");
        }
        println!(
            "{:?}, {:?} over {:?}, QoS {}: {} connections",
            self.pattern, self.protocol, self.carrier, self.qos, self.connections
        );
        self.connecting.print();
        if let Some(idle) = &self.idle {
            idle.print();
        }
        if let Some(traffic) = &self.traffic {
            traffic.print();
        }
        if !self.errors.is_none() {
            println!("  ERRORS     {:?}", self.errors);
        }
    }
}

impl Connecting {
    fn new(plan: &Plan, tally: &Tally, readings: &[Reading]) -> Self {
        let connections = plan.connections();
        let (alone, connected) = match readings {
            [alone, connected, ..] => (Some(alone), Some(connected)),
            _ => (None, None),
        };
        let span = alone.zip(connected);
        let seconds = span.map_or(0.0, |(from, to)| (to.at_ns - from.at_ns) as f64 / 1e9);
        let cpu_ns = span.and_then(|(from, to)| cpu_ns(from, to));
        Self {
            connections,
            seconds,
            per_s: connections as f64 / seconds.max(1e-9),
            per_cpu_s: cpu_ns.map(|ns| connections as f64 * 1e9 / ns.max(1.0)),
            cpu_us_per_connection: cpu_ns.map(|ns| ns / 1e3 / connections as f64),
            bytes_per_connection: span
                .and_then(|(from, to)| bytes_per_connection(from, to, connections)),
            time_to_connack_us: tally.connect.figures(),
        }
    }

    fn print(&self) {
        let per_cpu =
            self.per_cpu_s.map_or(String::new(), |rate| format!(", {rate:.0} per CPU second"));
        println!("  connecting {:.2} s ({:.0} /s{per_cpu})", self.seconds, self.per_s);
        if let Some(latency) = &self.time_to_connack_us {
            println!("  CONNACK µs {latency}");
        }
    }
}

impl Idle {
    fn new(plan: &Plan, alone: &Reading, begin: &Reading, end: &Reading) -> Self {
        let elapsed_ns = (end.at_ns - begin.at_ns) as f64;
        Self {
            seconds: elapsed_ns / 1e9,
            resident_mib_alone: resident_mib(alone),
            resident_mib: resident_mib(end),
            bytes_per_connection: bytes_per_connection(alone, end, plan.connections()),
            cpu_percent: cpu_ns(begin, end).map(|ns| 100.0 * ns / elapsed_ns),
        }
    }

    fn print(&self) {
        let figure =
            |value: Option<f64>| value.map_or("?".to_owned(), |value| format!("{value:.2}"));
        println!(
            "  idle       {} MiB alone, {} MiB connected, {} B each, {} % of a core",
            figure(self.resident_mib_alone),
            figure(self.resident_mib),
            figure(self.bytes_per_connection),
            figure(self.cpu_percent),
        );
    }
}

impl Traffic {
    fn new(plan: &Plan, tally: &Tally, begin: &Reading, end: &Reading) -> Self {
        let seconds = (end.at_ns - begin.at_ns) as f64 / 1e9;
        let is_delivered = plan.copies() > 0;
        let messages = if is_delivered { tally.delivered } else { tally.acknowledged };
        let busy = 1.0 - (end.idle_ns - begin.idle_ns) as f64 / 1e9 / seconds;
        let per_message = |value: f64| value / messages.max(1) as f64;
        let acknowledgement = tally.acknowledgement.figures();
        let (latency_us, acknowledgement_us) = match is_delivered {
            true => (tally.delivery.figures(), acknowledgement),
            false => (acknowledgement, None),
        };
        let server = begin.server.as_ref().zip(end.server.as_ref()).map(|(before, after)| {
            let spent = after.cpu.since(&before.cpu);
            Server {
                cpu_us_per_message: per_message(spent.run_ns as f64 / 1e3),
                cpu_ticks_us_per_message: per_message(spent.ticks_ns as f64 / 1e3),
                cpu_share: spent.run_ns as f64 / 1e9 / seconds,
                threads_ended: spent.threads_ended,
                resident_mib: after.resident_kib as f64 / 1024.0,
            }
        });
        Self {
            seconds,
            messages,
            messages_per_s: messages as f64 / seconds,
            published_per_s: tally.published as f64 / seconds,
            latency_us,
            acknowledgement_us,
            server,
            driver: Driver {
                busy_share: busy,
                busy_us_per_message: per_message(busy * seconds * 1e6),
                delay_us: tally.sending.figures(),
            },
        }
    }

    fn print(&self) {
        println!(
            "  messages   {} in {:.1} s ({:.0} /s; {:.0} /s published)",
            self.messages, self.seconds, self.messages_per_s, self.published_per_s
        );
        if let Some(server) = &self.server {
            println!(
                "  server     {:.3} µs CPU per message (ticks: {:.3}), {:.0} % of a core, {:.1} MiB resident",
                server.cpu_us_per_message,
                server.cpu_ticks_us_per_message,
                100.0 * server.cpu_share,
                server.resident_mib
            );
        }
        if let Some(latency) = &self.latency_us {
            println!("  latency µs {latency}");
        }
        if let Some(latency) = &self.acknowledgement_us {
            println!("  acknowl µs {latency}");
        }
        println!(
            "  driver     {:.0} % busy, {:.3} µs per message",
            100.0 * self.driver.busy_share,
            self.driver.busy_us_per_message
        );
        if let Some(delay) = &self.driver.delay_us {
            println!("  its delay  {delay}");
        }
        if self.driver.busy_share > DRIVER_BUSY_LIMIT {
            println!("             the driver is the limit: throughput and latency are its own");
        }
    }
}

impl std::fmt::Display for Latency {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "p50 {:.0}  p90 {:.0}  p99 {:.0}  p99.9 {:.0}  max {:.0}",
            self.p50, self.p90, self.p99, self.p999, self.max
        )
    }
}

/// What a broker must not do whatever the load. Losing QoS 0 messages, and repeating QoS 1 messages,
/// it may; the counts show it.
fn failures(plan: &Plan, errors: &Errors) -> Vec<String> {
    let promises = [
        ("lost", errors.lost, plan.qos != QoS::AtMostOnce),
        ("delivered again", errors.repeated, plan.qos == QoS::ExactlyOnce),
        ("out of order", errors.reordered, true),
        ("not acknowledged", errors.unacknowledged, true),
        ("refused", errors.refused, true),
        ("never sent, but delivered or acknowledged", errors.foreign, true),
        ("packets out of place", errors.unexpected_packets, true),
        ("connections closed by the broker", errors.connections_closed, true),
    ];
    promises
        .into_iter()
        .filter(|&(_, count, is_promised)| is_promised && count > 0)
        .map(|(what, count, _)| format!("{count} {what}"))
        .collect()
}

fn cpu_ns(from: &Reading, to: &Reading) -> Option<f64> {
    let (from, to) = (from.server.as_ref()?, to.server.as_ref()?);
    Some(to.cpu.since(&from.cpu).run_ns as f64)
}

fn resident_mib(at: &Reading) -> Option<f64> {
    Some(at.server.as_ref()?.resident_kib as f64 / 1024.0)
}

fn bytes_per_connection(from: &Reading, to: &Reading, connections: usize) -> Option<f64> {
    Some((resident_mib(to)? - resident_mib(from)?) * 1_048_576.0 / connections as f64)
}
