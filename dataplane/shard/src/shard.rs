//! The shard: the ring's handler, with everything of one core behind it.

use crate::connections::{Connections, Hold, Key, Protocol};
use crate::forward::{Arriving, Forwarded};
use crate::limits::INBOX_PER_TURN;
use crate::message::{Mailbox, PeerMessage};
use crate::metrics::ShardMetrics;
use crate::outbox::{Outbox, Peer};
use crate::plane::{Plane, Producer, Settings};
use crate::ports::{LiveConsumer, Registry, Segments};
use crate::retry::{Named, RETRY, Retry};
use crate::stored::{Stored, WRITE_TOKEN, Waiter};
use crate::{http, mqtt};
use fulcrum_journal::{Partition, WriteMode};
use fulcrum_ring::{CloseReason, ConnectionId, Handler, Io, ListenerId, WriteDone};
use fulcrum_router::{CommandDesk, Deliveries, Outcome, Routes, ShardIndex};
use std::collections::{HashMap, HashSet, VecDeque};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// What a listener's connections speak.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Speaks {
    /// MQTT.
    Mqtt,
    /// HTTP.
    Http,
}

/// Everything a shard is made of.
pub struct ShardParts {
    /// Its number; also the number of its journal partition.
    pub index: u16,
    /// Settings.
    pub settings: Settings,
    /// Where its messages arrive.
    pub mailbox: Arc<Mailbox>,
    /// The shards of the node in order, `None` in its own place.
    pub peers: Vec<Option<Peer>>,
    /// Listening sockets.
    pub listeners: Vec<(TcpListener, Speaks)>,
    /// Its journal partition.
    pub partition: Partition,
    /// How the partition's segments are written.
    pub write_mode: WriteMode,
    /// The thread that prepares segments.
    pub segments: Box<dyn Segments>,
    /// The registry's replica.
    pub registry: Box<dyn Registry>,
    /// The consumer of live telemetry, if there is one.
    pub live: Option<Box<dyn LiveConsumer>>,
    /// Its counters.
    pub metrics: Arc<ShardMetrics>,
}

/// Timer of the oldest delivery's deadline.
const DELIVERIES_TIMER: u64 = u64::MAX;
/// Timer of work that waits for nobody: a full lane, a refused segment.
const ANOTHER_LOOK_TIMER: u64 = u64::MAX - 1;
/// Timer of a drain that takes too long.
pub(crate) const DRAIN_TIMER: u64 = u64::MAX - 2;
/// Timer of what had no room before.
const RETRY_TIMER: u64 = u64::MAX - 3;

/// How soon work that nobody will ring for is looked at again.
const ANOTHER_LOOK: Duration = Duration::from_millis(5);

/// One core's shard. Give it to [`fulcrum_ring::Ring::run`].
pub struct Shard {
    pub(crate) plane: Plane,
    pub(crate) mailbox: Arc<Mailbox>,
    listeners: Vec<(TcpListener, Speaks)>,
    speaks: HashMap<ListenerId, Speaks>,
    delivery_timer: bool,
    another_look_timer: bool,
    retry_timer: bool,
    /// Who was evicted in this turn: a device or application of a tenant, or all of it.
    pub(crate) evictions: HashSet<(Arc<str>, Option<Arc<str>>)>,
    pub(crate) cursor_flushed: bool,
    pub(crate) quiet_told: bool,
}

impl Shard {
    /// Puts a shard together.
    pub fn new(parts: ShardParts) -> Shard {
        let index = ShardIndex(parts.index);
        let plane = Plane {
            index,
            settings: parts.settings,
            connections: Connections::default(),
            routes: Routes::default(),
            deliveries: Deliveries::default(),
            commands: CommandDesk::default(),
            clients: HashMap::new(),
            outbox: Outbox::new(index, parts.peers),
            stored: Stored::new(parts.index, parts.partition, parts.segments, parts.write_mode),
            forwarded: Forwarded::default(),
            arriving: Arriving::default(),
            quiet_peers: 0,
            registry: parts.registry,
            live: parts.live,
            metrics: parts.metrics,
            now: Instant::now(),
            now_ms: unix_ms(),
            identity_version: 0,
            parked: Vec::new(),
            congested: Vec::new(),
            settled: VecDeque::new(),
            taken_commands: VecDeque::new(),
            retry: Retry::default(),
            ending: Vec::new(),
            resuming: Vec::new(),
            draining: false,
            frame: Vec::new(),
            targets: Vec::new(),
        };
        Shard {
            plane,
            mailbox: parts.mailbox,
            listeners: parts.listeners,
            speaks: HashMap::new(),
            delivery_timer: false,
            another_look_timer: false,
            retry_timer: false,
            evictions: HashSet::new(),
            cursor_flushed: false,
            quiet_told: false,
        }
    }

    /// What a call has set off elsewhere.
    pub(crate) fn after_input(&mut self, io: &mut Io<'_>) {
        loop {
            if let Some((producer, accepted)) = self.plane.settled.pop_front() {
                self.tell_producer(io, producer, accepted);
            } else if let Some(taken) = self.plane.taken_commands.pop_front() {
                let (tenant, device, link) = (taken.tenant, taken.device, taken.link);
                self.plane.command_outcome(io, tenant, device, link, taken.id, Outcome::Accepted);
            } else if let Some(key) = self.plane.ending.pop() {
                self.end(io, key);
            } else {
                return;
            }
        }
    }

    pub(crate) fn end(&mut self, io: &mut Io<'_>, key: Key) {
        if let Some(connection) = self.plane.connections.by_key(key) {
            connection.hold = Hold::Closing;
            io.close(connection.id);
        }
    }

    fn tell_producer(&mut self, io: &mut Io<'_>, producer: Producer, accepted: bool) {
        if !accepted {
            self.plane.metrics.telemetry_released.add(1);
        }
        match producer {
            Producer::Mqtt { connection, packet_id } if accepted => {
                self.acknowledge(io, connection, packet_id);
            }
            Producer::Mqtt { connection, .. } => self.end(io, connection),
            Producer::Http { connection, request } => {
                self.answer_http(io, connection, request, accepted);
            }
        }
    }

    fn acknowledge(&mut self, io: &mut Io<'_>, key: Key, packet_id: u16) {
        let Some(connection) = self.plane.connections.by_key(key) else { return };
        let Protocol::Mqtt(session) = &mut connection.protocol else { return };
        if let Some(output) = io.output(connection.id) {
            session.settle(packet_id, output);
        }
        if self.plane.draining && !session.owes_answers() {
            io.close(connection.id);
        }
    }

    fn answer_http(&mut self, io: &mut Io<'_>, key: Key, request: u64, accepted: bool) {
        let Some(connection) = self.plane.connections.by_key(key) else { return };
        let Protocol::Http(session) = &mut connection.protocol else { return };
        session.answer(io, connection.id, request, accepted);
        if session.has_room() {
            self.plane.release(key, Hold::Pipeline);
        }
    }

    /// Tells producers what the journal's last commit, or its failure, means for them.
    fn settle_stored(&mut self, io: &mut Io<'_>) {
        while let Some(waiter) = self.plane.stored.next_durable() {
            self.tell_waiter(io, waiter, true);
        }
        while let Some(waiter) = self.plane.stored.next_failed() {
            self.tell_waiter(io, waiter, false);
        }
    }

    /// Tells a producer that its stored message is durable, or that it is not and will not be.
    pub(crate) fn tell_waiter(&mut self, io: &mut Io<'_>, waiter: Waiter, durable: bool) {
        let counted = durable && !matches!(waiter, Waiter::Shard { .. });
        self.plane.metrics.stored_acknowledged.add(counted.into());
        match waiter {
            Waiter::Mqtt { connection, packet_id } if durable => {
                self.acknowledge(io, connection, packet_id);
            }
            Waiter::Mqtt { connection, .. } => self.end(io, connection),
            Waiter::Http { connection, request } => {
                self.answer_http(io, connection, request, durable);
            }
            Waiter::Shard { shard, id } => {
                self.plane.outbox.tell(shard, PeerMessage::Stored { id, accepted: durable });
            }
            Waiter::Command { tenant, device, id } if durable => {
                self.plane.forget_command(Named { tenant, device, id });
            }
            // A command is kept in the store then: delivered again after the restart, at least once.
            Waiter::Command { .. } | Waiter::Nobody => {}
        }
    }

    fn set_timers(&mut self, io: &mut Io<'_>, lanes_empty: bool) {
        let now = self.plane.now;
        if !self.delivery_timer
            && let Some(deadline) = self.plane.deliveries.next_deadline()
        {
            self.delivery_timer = true;
            io.set_timer(deadline.saturating_duration_since(now), DELIVERIES_TIMER);
        }
        let unfinished = !lanes_empty
            || self.plane.stored.wants_another_look()
            || !self.plane.parked.is_empty()
            || !self.plane.arriving.is_empty();
        if unfinished && !self.another_look_timer {
            self.another_look_timer = true;
            io.set_timer(ANOTHER_LOOK, ANOTHER_LOOK_TIMER);
        }
        if !self.plane.retry.is_empty() && !self.retry_timer {
            self.retry_timer = true;
            io.set_timer(RETRY, RETRY_TIMER);
        }
    }

    fn publish_gauges(&mut self) {
        let metrics = &self.plane.metrics;
        metrics.turns.add(1);
        metrics.connections.set(self.plane.connections.len() as u64);
        metrics.subscriptions.set(self.plane.routes.subscriptions() as u64);
        metrics.command_consumers.set(self.plane.commands.devices() as u64);
        metrics.deliveries_waiting.set(self.plane.deliveries.len() as u64);
        metrics.connections_parked.set(self.plane.parked.len() as u64);
    }
}

fn unix_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

impl Handler for Shard {
    fn started(&mut self, io: &mut Io<'_>) {
        for (listener, speaks) in std::mem::take(&mut self.listeners) {
            self.speaks.insert(io.listen(listener), speaks);
        }
    }

    fn accepted(
        &mut self,
        io: &mut Io<'_>,
        listener: ListenerId,
        id: ConnectionId,
        _peer: SocketAddr,
    ) {
        let now = self.plane.now;
        let protocol = match self.speaks.get(&listener) {
            Some(Speaks::Http) => Protocol::Http(http::Session::new()),
            _ => Protocol::Mqtt(mqtt::Session::new(now)),
        };
        self.plane.metrics.connections_accepted.add(1);
        let key = self.plane.connections.insert(id, protocol, now);
        self.check_silence(io, key);
        if self.plane.draining {
            self.end(io, key);
        }
    }

    fn received(&mut self, io: &mut Io<'_>, id: ConnectionId, bytes: &[u8]) {
        let Some(mut connection) = self.plane.connections.take_by_id(id) else { return };
        connection.last_input = self.plane.now;
        if connection.hold == Hold::Closing {
            return self.plane.connections.put(connection);
        }
        self.take_input(io, connection, bytes);
    }

    fn drained(&mut self, _io: &mut Io<'_>, id: ConnectionId) {
        if let Some(key) = self.plane.connections.key_of(id) {
            self.plane.release(key, Hold::Output);
        }
    }

    fn closed(&mut self, io: &mut Io<'_>, id: ConnectionId, reason: CloseReason) {
        let Some(mut connection) = self.plane.connections.take_by_id(id) else { return };
        if matches!(reason, CloseReason::SlowConsumer) {
            self.plane.metrics.slow_consumers.add(1);
        }
        if let Some(timer) = connection.watch {
            io.cancel_timer(timer);
        }
        let key = connection.key;
        if let Protocol::Mqtt(session) = &mut connection.protocol {
            session.closed(&mut self.plane, io, key);
        }
        self.plane.connections.forget(connection);
        self.after_input(io);
    }

    fn timer(&mut self, io: &mut Io<'_>, token: u64) {
        match token {
            DELIVERIES_TIMER => {
                self.delivery_timer = false;
                while let Some(settled) = self.plane.deliveries.expire(self.plane.now) {
                    self.plane.settled.push_back((settled.producer, settled.accepted));
                }
                self.after_input(io);
            }
            ANOTHER_LOOK_TIMER => {
                self.another_look_timer = false;
                // A lane to another shard was full, maybe: nobody rings when it is not.
                self.plane.release_parked();
            }
            RETRY_TIMER => {
                self.retry_timer = false;
                self.plane.retry(io);
                self.after_input(io);
            }
            DRAIN_TIMER => io.stop(),
            key => self.check_silence(io, Key(key)),
        }
    }

    fn file_written(
        &mut self,
        io: &mut Io<'_>,
        token: u64,
        result: Result<WriteDone, std::io::Error>,
    ) {
        debug_assert_eq!(token, WRITE_TOKEN);
        self.plane.stored.written(io, result, &self.plane.metrics);
        self.settle_stored(io);
        self.plane.release_parked();
    }

    fn woken(&mut self, _io: &mut Io<'_>) {}

    fn turn_started(&mut self, io: &mut Io<'_>) {
        self.plane.now = io.now();
        self.plane.now_ms = unix_ms();
    }

    fn turn_ended(&mut self, io: &mut Io<'_>) {
        if self.take_inbox(io, INBOX_PER_TURN) {
            io.turn_again();
        }
        self.settle_stored(io);
        for key in std::mem::take(&mut self.plane.resuming) {
            self.resume(io, key);
        }
        self.plane.stored.pump(io, &self.plane.metrics);
        self.settle_stored(io);
        let lanes_empty = self.plane.outbox.flush(io);
        if !self.plane.outbox.is_congested() {
            for key in std::mem::take(&mut self.plane.congested) {
                self.plane.release(key, Hold::Lanes);
            }
        }
        self.set_timers(io, lanes_empty);
        self.finish_drain(io);
        self.publish_gauges();
        if !self.plane.resuming.is_empty() {
            io.turn_again();
        }
    }

    fn has_inbox(&self) -> bool {
        // While the journal is behind, what is to be stored waits for it and not for this shard.
        !self.mailbox.is_empty() || self.plane.arriving.is_empty() && self.mailbox.has_stores()
    }
}
