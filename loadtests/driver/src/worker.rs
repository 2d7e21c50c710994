//! The clients of one thread from the first connection to the last delivery. No I/O: whoever has the
//! sockets calls in here.
//!
//! ```text
//! connecting ── all threads ready ──▶ settling ──▶ warming up ──▶ measuring ──▶ draining ──▶ done
//!     └── storm: done                              └── load ─────────────────┘
//! ```
//!
//! The first thread decides when a phase ends and reads the server's counters at that moment; the
//! others follow.

use crate::error::LoadError;
use crate::handshake::{self, Role};
use crate::plan::Plan;
use crate::probe::{Probe, Reading};
use crate::progress::{Progress, UNKNOWN};
use crate::settings::{Pattern, Protocol};
use crate::tally::Tally;
use crate::traffic::{Outlets, Traffic};
use crate::wire::{Closed, Inbox};
use fulcrum_mqtt::{Packet, Property, QoS, encode_disconnect};
use std::sync::atomic::Ordering;

/// Between the last SUBACK and the first message, for brokers that make subscriptions known to
/// their other threads behind the acknowledgement, and after a load of connections for the server to
/// come to rest.
const SETTLE_NS: u64 = 300_000_000;
const SETTLE_IDLE_NS: u64 = 2_000_000_000;
/// How long the last messages may take after the measured time.
const DRAIN_NS: u64 = 5_000_000_000;
/// How often stalls are looked for, and the longest sleep.
const CHECK_NS: u64 = 250_000_000;
/// Connecting has failed when nothing got ready for so long: a slow password hash must fit in.
const CONNECT_STALL_NS: u64 = 30_000_000_000;

/// The clients of one thread.
pub struct Worker<'a> {
    plan: &'a Plan,
    progress: &'a Progress,
    thread: usize,
    clients: Vec<Client>,
    traffic: Traffic,
    phase: Phase,
    /// The first thread's alone.
    probe: Option<Probe>,
    next_to_connect: usize,
    under_way: usize,
    open: usize,
    last_ready_ns: u64,
    next_check_ns: u64,
    /// Deliveries the others know of.
    arrived_told: u64,
    failure: Option<LoadError>,
}

struct Client {
    role: Role,
    number: u32,
    state: State,
    begun_ns: u64,
    inbox: Inbox,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Waiting,
    Connecting,
    AwaitsConnAck,
    AwaitsSubAck,
    Ready,
    /// It said goodbye.
    Left,
    Closed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Connecting,
    Settling,
    Loading,
    Measuring,
    Draining { until_ns: u64 },
    Done,
}

/// What a thread brings home.
pub struct Outcome {
    pub tally: Tally,
    /// The first thread's readings of the server: before connecting, connected, begin and end of the
    /// measured time, as far as the run has them.
    pub readings: Vec<Reading>,
}

impl<'a> Worker<'a> {
    /// The clients of thread `thread`, none of them connected.
    ///
    /// # Errors
    /// Topics or payloads that no packet can carry; the measured process is not there.
    pub fn new(plan: &'a Plan, progress: &'a Progress, thread: usize) -> Result<Self, LoadError> {
        let clients = clients(plan, thread);
        let publishers: Vec<usize> = (0..clients.len())
            .filter(|&at| matches!(clients[at].role, Role::Publisher(_)))
            .collect();
        let mut probe = (thread == 0).then(|| Probe::new(plan.server_pid));
        if let Some(probe) = &mut probe {
            probe.read(progress.now_ns())?;
        }
        Ok(Self {
            traffic: Traffic::new(plan, thread, &publishers, progress.run)?,
            plan,
            progress,
            thread,
            open: clients.len(),
            clients,
            phase: Phase::Connecting,
            probe,
            next_to_connect: 0,
            under_way: 0,
            last_ready_ns: progress.now_ns(),
            next_check_ns: 0,
            arrived_told: 0,
            failure: None,
        })
    }

    /// How many clients there are; they are numbered from 0.
    pub fn len(&self) -> usize {
        self.clients.len()
    }

    /// Which thread of the run this is.
    pub fn thread(&self) -> usize {
        self.thread
    }

    /// The next client whose connection should be opened now, if any. Ask until there is none.
    pub fn next_to_connect(&mut self, now_ns: u64) -> Option<usize> {
        let client = self.clients.get_mut(self.next_to_connect)?;
        if self.under_way >= self.plan.connect_window {
            return None;
        }
        client.begun_ns = match self.plan.connect_rate_per_s {
            None => now_ns,
            Some(rate) => {
                let number = self.next_to_connect * self.plan.threads + self.thread;
                let due_ns = (number as f64 * 1e9 / rate) as u64;
                if due_ns > now_ns {
                    return None;
                }
                due_ns
            }
        };
        client.state = State::Connecting;
        self.under_way += 1;
        self.next_to_connect += 1;
        Some(self.next_to_connect - 1)
    }

    /// The transport of `client` stands: the first bytes go to `out`.
    pub fn opened(&mut self, client: usize, out: &mut Vec<u8>, now_ns: u64) {
        let Client { role, number, .. } = self.clients[client];
        if self.plan.protocol == Protocol::Bare {
            return self.ready(client, now_ns);
        }
        self.clients[client].state = State::AwaitsConnAck;
        if let Err(error) = handshake::connect(self.plan, role, number as usize, out) {
            self.fail(error);
        }
    }

    /// Bytes came for `client`; answers go to `out`.
    ///
    /// # Errors
    /// They are not MQTT: the connection is of no use any more.
    pub fn received(
        &mut self,
        client: usize,
        bytes: &[u8],
        out: &mut Vec<u8>,
        now_ns: u64,
    ) -> Result<(), Closed> {
        let mut inbox = std::mem::take(&mut self.clients[client].inbox);
        let outcome = inbox.take_in(bytes, self.plan.protocol, |packet| {
            self.on_packet(client, packet, out, now_ns)
        });
        self.clients[client].inbox = inbox;
        outcome
    }

    fn on_packet(
        &mut self,
        at: usize,
        packet: &Packet<'_>,
        out: &mut Vec<u8>,
        now_ns: u64,
    ) -> Result<(), Closed> {
        let Client { role, state, .. } = self.clients[at];
        match (state, packet) {
            (State::Ready, _) => match role {
                Role::Publisher(index) => {
                    self.traffic.on_publisher_packet(index as usize, packet, out, now_ns);
                }
                Role::Subscriber(index) => {
                    self.traffic.on_subscriber_packet(index as usize, packet, out, now_ns);
                }
                Role::Idle | Role::Offline => self.traffic.tally.errors.unexpected_packets += 1,
            },
            (State::AwaitsConnAck, Packet::ConnAck(answer)) if answer.code.is_accepted() => {
                self.traffic.tally.connect.record(self.clients[at].begun_ns, now_ns);
                if let Role::Publisher(index) = role {
                    for property in &answer.properties {
                        if let Property::ReceiveMaximum(maximum) = property {
                            self.traffic.limit(index as usize, maximum);
                        }
                    }
                }
                self.subscribe(at, out, now_ns);
            }
            (State::AwaitsSubAck, Packet::SubAck(answer))
                if answer.codes.iter().all(|code| !code.is_error()) =>
            {
                // A broker that grants less would be measured with something else.
                let granted = answer.codes.iter().all(|code| code.as_u8() == self.plan.qos.as_u8());
                if !granted {
                    self.refuse(at, &format!("granted another QoS than asked: {packet:?}"));
                }
                self.ready(at, now_ns);
                if role == Role::Offline {
                    self.clients[at].state = State::Left;
                    encode_disconnect(out);
                }
            }
            // What a broker kept for a session of an earlier run.
            (State::AwaitsSubAck, Packet::Publish(_)) => {
                if let Role::Subscriber(index) = role {
                    self.traffic.on_subscriber_packet(index as usize, packet, out, now_ns);
                }
            }
            (State::Left, _) => {}
            _ => {
                self.refuse(at, &format!("{packet:?}"));
                return Err(Closed);
            }
        }
        Ok(())
    }

    fn subscribe(&mut self, at: usize, out: &mut Vec<u8>, now_ns: u64) {
        let Client { role, number, .. } = self.clients[at];
        match handshake::subscribe(self.plan, role, number as usize, out) {
            Ok(true) => self.clients[at].state = State::AwaitsSubAck,
            Ok(false) => self.ready(at, now_ns),
            Err(error) => self.fail(error),
        }
    }

    fn ready(&mut self, at: usize, now_ns: u64) {
        self.clients[at].state = State::Ready;
        self.under_way -= 1;
        self.last_ready_ns = now_ns;
        self.progress.one_is_ready();
    }

    /// The connection of `client` is over.
    pub fn closed(&mut self, client: usize) {
        let state = std::mem::replace(&mut self.clients[client].state, State::Closed);
        match state {
            State::Closed => return,
            State::Left => {}
            State::Ready => self.traffic.tally.errors.connections_closed += 1,
            _ => self.refuse(client, "connection closed before it was ready"),
        }
        self.open -= 1;
        if self.open == 0 && state == State::Ready {
            self.fail(LoadError::AllClosed);
        }
    }

    /// The transport of `client` did not come about.
    pub fn not_opened(&mut self, client: usize, source: std::io::Error) {
        self.clients[client].state = State::Closed;
        let address = format!("{}:{}", self.plan.address, self.plan.port);
        self.fail(LoadError::Connect { address, source });
    }

    /// The socket of `client` takes bytes again.
    pub fn writable(&mut self, client: usize) {
        if let Client { role: Role::Publisher(index), state: State::Ready, .. } =
            self.clients[client]
        {
            self.traffic.offer(index as usize);
        }
    }

    /// Encodes what may go out now.
    pub fn produce(&mut self, outlets: &mut impl Outlets, now_ns: u64) {
        if matches!(self.phase, Phase::Loading | Phase::Measuring) {
            self.traffic.produce(outlets, now_ns);
        }
    }

    /// Goes on to the next phase if it is time. Once a turn; `false`: the run is over.
    ///
    /// # Errors
    /// What makes the run worthless: nobody is connected, the broker refuses, the measured process
    /// is gone.
    pub fn step(&mut self, now_ns: u64) -> Result<bool, LoadError> {
        if let Some(error) = self.failure.take() {
            return Err(error);
        }
        if self.progress.is_failed() {
            return Ok(false);
        }
        self.phase = match self.phase {
            Phase::Connecting => self.while_connecting(now_ns)?,
            Phase::Settling if now_ns < self.progress.start_ns.load(Ordering::Acquire) => {
                Phase::Settling
            }
            Phase::Settling => {
                self.traffic.start(self.plan, self.progress.start_ns.load(Ordering::Acquire));
                Phase::Loading
            }
            Phase::Loading => self.while_loading(now_ns)?,
            Phase::Measuring => self.while_measuring(now_ns)?,
            Phase::Draining { until_ns } => self.while_draining(until_ns, now_ns),
            Phase::Done => Phase::Done,
        };
        if now_ns >= self.next_check_ns {
            self.next_check_ns = now_ns + CHECK_NS;
            self.traffic.write_off_stalled(now_ns);
        }
        Ok(self.phase != Phase::Done)
    }

    fn while_connecting(&mut self, now_ns: u64) -> Result<Phase, LoadError> {
        if !self.progress.all_are_ready() {
            let is_stalled = now_ns.saturating_sub(self.last_ready_ns) > CONNECT_STALL_NS;
            if is_stalled && self.under_way > 0 {
                let left = self.clients.len() - self.next_to_connect + self.under_way;
                return Err(LoadError::ConnectStalled { left });
            }
            return Ok(Phase::Connecting);
        }
        let settle_ns = if self.plan.has_traffic() { SETTLE_NS } else { SETTLE_IDLE_NS };
        if self.probe.is_some() {
            self.read(now_ns)?;
            self.progress.start_ns.store(now_ns + settle_ns, Ordering::Release);
        }
        Ok(match self.plan.pattern {
            Pattern::Storm => Phase::Done,
            // The others do not know the time yet: UNKNOWN is later than any.
            _ => Phase::Settling,
        })
    }

    fn while_loading(&mut self, now_ns: u64) -> Result<Phase, LoadError> {
        let warm_ns =
            self.progress.start_ns.load(Ordering::Acquire) + nanoseconds(self.plan.warmup);
        if self.probe.is_some() && now_ns >= warm_ns {
            self.read(now_ns)?;
            self.progress.begin_ns.store(now_ns, Ordering::Release);
        }
        let begin_ns = self.progress.begin_ns.load(Ordering::Acquire);
        if begin_ns == UNKNOWN {
            return Ok(Phase::Loading);
        }
        self.traffic.tally.measure(begin_ns, UNKNOWN);
        Ok(Phase::Measuring)
    }

    fn while_measuring(&mut self, now_ns: u64) -> Result<Phase, LoadError> {
        let begin_ns = self.progress.begin_ns.load(Ordering::Acquire);
        if self.probe.is_some() && now_ns >= begin_ns + nanoseconds(self.plan.measured) {
            self.read(now_ns)?;
            self.progress.end_ns.store(now_ns, Ordering::Release);
        }
        let end_ns = self.progress.end_ns.load(Ordering::Acquire);
        if end_ns == UNKNOWN {
            return Ok(Phase::Measuring);
        }
        self.traffic.tally.measure(begin_ns, end_ns);
        let sent: u64 = self.traffic.sent().map(|(_, sent)| sent).sum();
        self.arrived_told = self.traffic.arrived();
        self.progress.stop_sending(sent * self.plan.copies(), self.arrived_told);
        Ok(Phase::Draining { until_ns: now_ns + DRAIN_NS })
    }

    fn while_draining(&mut self, until_ns: u64, now_ns: u64) -> Phase {
        let arrived = self.traffic.arrived();
        if arrived > self.arrived_told {
            self.progress.more_arrived(arrived - self.arrived_told);
            self.arrived_told = arrived;
        }
        let waits_for_acknowledgements =
            self.plan.qos != QoS::AtMostOnce && self.traffic.unfinished() > 0;
        let is_done = self.progress.everything_arrived() && !waits_for_acknowledgements;
        if is_done || now_ns >= until_ns { Phase::Done } else { Phase::Draining { until_ns } }
    }

    fn read(&mut self, now_ns: u64) -> Result<(), LoadError> {
        match &mut self.probe {
            Some(probe) => probe.read(now_ns),
            None => Ok(()),
        }
    }

    /// When this thread has to do something again although nothing comes in.
    pub fn wake_ns(&self, now_ns: u64) -> u64 {
        let soon = now_ns + CHECK_NS / 50;
        match self.phase {
            Phase::Loading | Phase::Measuring if self.plan.has_traffic() => {
                self.traffic.next_due_ns().unwrap_or(UNKNOWN).min(soon)
            }
            _ => soon,
        }
    }

    /// Whether the load is running, or else connections are made or awaited.
    pub fn is_loaded(&self) -> bool {
        matches!(self.phase, Phase::Loading | Phase::Measuring)
    }

    /// How many messages each of this thread's publishers has sent, by its number.
    pub fn sent(&self) -> impl Iterator<Item = (usize, u64)> {
        self.traffic.sent()
    }

    /// Adds up what came of it; `sent` is how many messages each publisher of any thread has sent.
    pub fn finish(mut self, sent: &[u64]) -> Outcome {
        self.traffic.finish(sent);
        let readings = self.probe.map(|probe| probe.readings).unwrap_or_default();
        Outcome { tally: self.traffic.tally, readings }
    }

    /// The driver's own time spent waiting, for the readings.
    pub fn idled(&mut self, idle_ns: u64) {
        if let Some(probe) = &mut self.probe {
            probe.idle_ns += idle_ns;
        }
    }

    fn refuse(&mut self, at: usize, reason: &str) {
        let Client { role, number, .. } = self.clients[at];
        let client = handshake::client_id(self.plan, role, number as usize);
        self.fail(LoadError::Refused { client, reason: reason.to_owned() });
    }

    fn fail(&mut self, error: LoadError) {
        // The first is the cause of the others.
        self.failure.get_or_insert(error);
    }
}

/// Subscribers first, so that nobody publishes to no one; for a bare loop each publisher is followed
/// by its subscriber, because it pairs connections as they come.
fn clients(plan: &Plan, thread: usize) -> Vec<Client> {
    let of_thread = |count: usize| (thread..count).step_by(plan.threads).enumerate();
    let client = |role, number: usize| Client {
        role,
        number: number as u32,
        state: State::Waiting,
        begun_ns: 0,
        inbox: Inbox::default(),
    };
    let mut clients = Vec::new();
    if thread == 0 && plan.offline_filter.is_some() {
        clients.push(client(Role::Offline, 0));
    }
    let publisher = |(index, number)| client(Role::Publisher(index as u32), number);
    let subscriber = |(index, number)| client(Role::Subscriber(index as u32), number);
    if plan.protocol == Protocol::Bare {
        for at in of_thread(plan.publishers) {
            clients.extend([publisher(at), subscriber(at)]);
        }
    } else {
        clients.extend(of_thread(plan.subscribers).map(subscriber));
        clients.extend(of_thread(plan.publishers).map(publisher));
    }
    let idle = of_thread(plan.idle_connections);
    clients.extend(idle.map(|(_, number)| client(Role::Idle, number)));
    clients
}

fn nanoseconds(duration: std::time::Duration) -> u64 {
    duration.as_nanos() as u64
}
