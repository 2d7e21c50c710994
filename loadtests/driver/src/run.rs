//! One run: connect, warm up, measure, drain.
//!
//! A turn of the loop: wait, read and judge what came, encode what may go out, write once for each
//! connection that has something. Deliberately not here: reconnecting. A broker that drops
//! connections under load shows that in the report.

use crate::connection::{Connection, OUTBOX_BYTES_MAX};
use crate::error::LoadError;
use crate::handshake::{self, Client};
use crate::process::{self, CpuTime};
use crate::report::{Report, ServerCost};
use crate::settings::{Login, Measure, Plan};
use crate::traffic::Traffic;
use fulcrum_mqtt::QoS;
use mio::event::Event;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use std::io;
use std::time::{Duration, Instant};

/// Between the last SUBACK and the first message, for brokers that make subscriptions known to
/// their other threads behind the acknowledgement.
const SETTLE: Duration = Duration::from_millis(300);
/// How long the last messages may take after the measured time.
const DRAIN: Duration = Duration::from_secs(5);
/// How often stalls are looked for, and the longest sleep.
const CHECK: Duration = Duration::from_millis(250);
/// Large enough for a whole turn's train of small messages.
const READ_BYTES: usize = 256 * 1024;
const EVENTS_PER_TURN: usize = 1_024;

/// Runs `plan` to its end.
///
/// # Errors
/// The broker cannot be reached, refuses, or closes every connection; the measured process is gone.
pub fn run(plan: Plan) -> Result<Report, LoadError> {
    if let Some(filter) = &plan.offline_filter {
        let filter = filter.render(0, &plan.target.tenant);
        handshake::leave_offline_session(&plan.target, &plan.subscriber, &filter)?;
    }
    let poll = Poll::new().map_err(LoadError::Poll)?;
    let connections = connect_all(&plan, &poll)?;
    std::thread::sleep(SETTLE);
    let traffic = Traffic::new(&plan)?;
    let run = Loop {
        poll,
        open: connections.len(),
        connections: connections.into_iter().map(Some).collect(),
        to_flush: Vec::new(),
        traffic,
        epoch: Instant::now(),
        idle: Duration::ZERO,
        scratch: vec![0; READ_BYTES],
    };
    run.carry_out(&plan)
}

/// Publishers first, then subscribers; but subscribers connect first, so that nobody publishes to
/// no one.
fn connect_all(plan: &Plan, poll: &Poll) -> Result<Vec<Connection>, LoadError> {
    let subscribers = match plan.measure {
        Measure::Delivery => plan.publishers,
        Measure::Acknowledgement => 0,
    };
    let subscribers = (0..subscribers)
        .map(|index| {
            let client = client("s", index, &plan.subscriber);
            let mut stream = handshake::connect(&plan.target, &client)?;
            let filter = plan.filter.render(index, &plan.target.tenant);
            handshake::subscribe(&mut stream, &client, &filter, QoS::AtMostOnce)?;
            Ok(stream)
        })
        .collect::<Result<Vec<_>, LoadError>>()?;
    let publishers = (0..plan.publishers)
        .map(|index| handshake::connect(&plan.target, &client("p", index, &plan.publisher)))
        .collect::<Result<Vec<_>, LoadError>>()?;
    publishers
        .into_iter()
        .chain(subscribers)
        .enumerate()
        .map(|(index, stream)| register(poll, index, stream).map_err(LoadError::Poll))
        .collect()
}

fn client<'a>(role: &str, index: usize, login: &'a Login) -> Client<'a> {
    Client { id: format!("load-{role}{index}"), login, index, clean_session: true }
}

fn register(poll: &Poll, index: usize, stream: std::net::TcpStream) -> io::Result<Connection> {
    stream.set_nonblocking(true)?;
    let mut connection = Connection::new(TcpStream::from_std(stream));
    let both = Interest::READABLE | Interest::WRITABLE;
    poll.registry().register(connection.stream(), Token(index), both)?;
    Ok(connection)
}

struct Loop {
    poll: Poll,
    /// `None`: closed by the broker.
    connections: Vec<Option<Connection>>,
    open: usize,
    /// Connections with something new in their outbox.
    to_flush: Vec<usize>,
    traffic: Traffic,
    epoch: Instant,
    /// Time spent in turns in which nothing came.
    idle: Duration,
    scratch: Vec<u8>,
}

/// What is read when the measured time begins and when it ends.
struct Reading {
    at: Instant,
    idle: Duration,
    server: Option<CpuTime>,
}

impl Loop {
    fn carry_out(mut self, plan: &Plan) -> Result<Report, LoadError> {
        self.turns_until(plan, self.epoch + plan.warmup)?;
        let before = self.reading(plan)?;
        self.traffic.tally.begin(self.since_epoch_ns(before.at));
        self.turns_until(plan, before.at + plan.measured)?;
        let after = self.reading(plan)?;
        self.traffic.tally.end(self.since_epoch_ns(after.at));
        let server = server_cost(plan, &before, &after)?;
        self.drain()?;
        let elapsed = after.at - before.at;
        let idle = after.idle - before.idle;
        let driver_busy_share = 1.0 - idle.as_secs_f64() / elapsed.as_secs_f64();
        Ok(Report::new(plan, &self.traffic.tally, elapsed, server, driver_busy_share))
    }

    fn reading(&self, plan: &Plan) -> Result<Reading, LoadError> {
        let server = plan.server_pid.map(CpuTime::of).transpose()?;
        Ok(Reading { at: Instant::now(), idle: self.idle, server })
    }

    fn turns_until(&mut self, plan: &Plan, end: Instant) -> Result<(), LoadError> {
        let mut events = Events::with_capacity(EVENTS_PER_TURN);
        let mut turn_start = Instant::now();
        let mut next_check = turn_start + CHECK;
        while turn_start < end {
            let patience = if plan.busy_poll {
                Duration::ZERO
            } else {
                self.patience(turn_start, end.min(next_check))
            };
            let is_idle = self.wait(&mut events, patience)?;
            self.receive(&events)?;
            let now = Instant::now();
            self.send(self.since_epoch_ns(now));
            self.flush()?;
            if now >= next_check {
                self.traffic.write_off_stalled(self.since_epoch_ns(now));
                next_check = now + CHECK;
            }
            let turn_end = Instant::now();
            if is_idle {
                self.idle += turn_end - turn_start;
            }
            turn_start = turn_end;
        }
        Ok(())
    }

    /// Reads what is still on its way; sends nothing new.
    fn drain(&mut self) -> Result<(), LoadError> {
        let mut events = Events::with_capacity(EVENTS_PER_TURN);
        let end = Instant::now() + DRAIN;
        while self.traffic.in_flight() > 0 && Instant::now() < end {
            self.wait(&mut events, Duration::from_millis(10))?;
            self.receive(&events)?;
            self.flush()?;
        }
        self.traffic.finish();
        Ok(())
    }

    /// How long to sleep: whole milliseconds, because that is what the kernel's wait has; below
    /// that the loop spins.
    fn patience(&self, now: Instant, wake: Instant) -> Duration {
        let due = self.traffic.next_due_ns().map(|due| self.epoch + Duration::from_nanos(due));
        let wake = due.map_or(wake, |due| due.min(wake));
        Duration::from_millis(wake.saturating_duration_since(now).as_millis() as u64)
    }

    /// Whether nothing came.
    fn wait(&mut self, events: &mut Events, patience: Duration) -> Result<bool, LoadError> {
        match self.poll.poll(events, Some(patience)) {
            Ok(()) => Ok(events.is_empty()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                events.clear();
                Ok(true)
            }
            Err(error) => Err(LoadError::Poll(error)),
        }
    }

    fn receive(&mut self, events: &Events) -> Result<(), LoadError> {
        for event in events {
            self.on_event(event);
        }
        if self.open == 0 { Err(LoadError::AllClosed) } else { Ok(()) }
    }

    fn on_event(&mut self, event: &Event) {
        let Token(index) = event.token();
        if event.is_writable() {
            self.to_flush.push(index);
        }
        if !(event.is_readable() || event.is_read_closed() || event.is_error()) {
            return;
        }
        let Some(connection) = &mut self.connections[index] else { return };
        let now_ns = nanoseconds(self.epoch.elapsed());
        let traffic = &mut self.traffic;
        let outcome = connection
            .receive(&mut self.scratch, |packet| traffic.on_packet(index, packet, now_ns));
        if outcome.is_err() {
            self.close(index);
        }
    }

    /// Encodes what may go out.
    fn send(&mut self, now_ns: u64) {
        if self.traffic.is_paced() {
            return self.send_due(now_ns);
        }
        while let Some(index) = self.traffic.next_with_room() {
            if let Some(connection) = &mut self.connections[index] {
                self.traffic.fill(index, &mut connection.outbox, now_ns);
                self.to_flush.push(index);
            }
        }
    }

    fn send_due(&mut self, now_ns: u64) {
        while let Some((index, due_ns)) = self.traffic.next_due(now_ns) {
            // A closed connection's messages go nowhere, but the schedule goes on.
            let mut nowhere = Vec::new();
            let outbox = match &mut self.connections[index] {
                Some(connection) if connection.outbox.len() >= OUTBOX_BYTES_MAX => return,
                Some(connection) => &mut connection.outbox,
                None => &mut nowhere,
            };
            if !self.traffic.send_due(index, due_ns, outbox, now_ns) {
                return;
            }
            self.to_flush.push(index);
        }
    }

    fn flush(&mut self) -> Result<(), LoadError> {
        while let Some(index) = self.to_flush.pop() {
            let Some(connection) = &mut self.connections[index] else { continue };
            if connection.flush().is_err() {
                self.close(index);
            }
        }
        if self.open == 0 { Err(LoadError::AllClosed) } else { Ok(()) }
    }

    fn close(&mut self, index: usize) {
        if self.connections[index].take().is_some() {
            self.open -= 1;
            self.traffic.tally.errors.connections_closed += 1;
        }
    }

    fn since_epoch_ns(&self, at: Instant) -> u64 {
        nanoseconds(at.saturating_duration_since(self.epoch))
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    duration.as_nanos() as u64
}

fn server_cost(
    plan: &Plan,
    before: &Reading,
    after: &Reading,
) -> Result<Option<ServerCost>, LoadError> {
    let (Some(pid), Some(earlier), Some(later)) = (plan.server_pid, &before.server, &after.server)
    else {
        return Ok(None);
    };
    let resident_kib = process::resident_kib(pid)?;
    Ok(Some(ServerCost { spent: later.since(earlier), resident_kib }))
}

#[cfg(test)]
#[path = "run_tests.rs"]
mod tests;
