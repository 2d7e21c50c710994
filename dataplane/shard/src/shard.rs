//! The shard: the ring's handler, with everything of one core behind it.

use crate::broker::{Broker, SessionStore, Walked};
use crate::connections::{Connections, Hold, Key, Protocol};
use crate::forward::{Arriving, Forwarded};
use crate::gateways::Gateways;
use crate::limits::{
    AMQP_LINKS_MAX, AMQP_UPLOAD_CREDIT, HANDSHAKES_PER_TURN, INBOX_PER_TURN, WALKS_PER_TURN,
};
use crate::message::{Mailbox, Moved, PeerMessage};
use crate::metrics::ShardMetrics;
use crate::outbox::{Outbox, Peer};
use crate::plane::{Plane, Settings};
use crate::ports::{LiveConsumer, Registry, Segments};
use crate::retry::{RETRY, Retry};
use crate::stored::{JournalKind, Stored};
use crate::{amqp, http, mqtt};
use fulcrum_journal::{Partition, WriteMode};
use fulcrum_mqtt::ReasonCode;
use fulcrum_ring::{
    CloseReason, ConnectionId, Detached, Handler, Io, ListenerId, TimerId, WriteDone,
};
use fulcrum_router::{CommandDesk, Deliveries, Outcome, Routes, ShardIndex};
use fulcrum_transport::{HandshakeBudget, Layers, Stack};
use std::collections::{HashMap, HashSet, VecDeque};
use std::net::TcpListener;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// What a listener's connections speak.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Speaks {
    /// MQTT.
    Mqtt,
    /// HTTP.
    Http,
    /// AMQP 1.0.
    Amqp,
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
    /// Listening sockets, what is spoken there, and through which transport.
    pub listeners: Vec<(TcpListener, Speaks, Layers)>,
    /// Its journal partition.
    pub partition: Partition,
    /// What its MQTT sessions must not forget, read from the session journal.
    pub sessions: SessionStore,
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

/// Timer of sessions and wills that become due.
const SESSIONS_TIMER: u64 = u64::MAX - 4;

/// How soon work that nobody will ring for is looked at again.
const ANOTHER_LOOK: Duration = Duration::from_millis(5);

/// One core's shard. Give it to [`fulcrum_ring::Ring::run`].
pub struct Shard {
    pub(crate) plane: Plane,
    pub(crate) mailbox: Arc<Mailbox>,
    listeners: Vec<(TcpListener, Speaks, Layers)>,
    speaks: HashMap<ListenerId, (Speaks, Layers)>,
    /// Other shards that have told what they found at start. Nobody is let in before: a message published then could
    /// miss a session that is kept elsewhere.
    pub(crate) ready_peers: usize,
    session_timer: Option<(Instant, TimerId)>,
    /// The connection that got retained messages last.
    walked: Key,
    /// Input behind a transport, before it is taken.
    pub(crate) plain: Vec<u8>,
    pub(crate) handshake_budget: HandshakeBudget,
    delivery_timer: bool,
    another_look_timer: bool,
    retry_timer: bool,
    /// Where connections that give up their socket go, by their place in the table.
    leaving: HashMap<usize, ShardIndex>,
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
            amqp: Arc::new(amqp_settings()),
            settings: parts.settings,
            connections: Connections::default(),
            routes: Routes::default(),
            deliveries: Deliveries::default(),
            commands: CommandDesk::default(),
            broker: Broker::new(parts.sessions, parts.index),
            outbox: Outbox::new(index, parts.peers),
            stored: Stored::new(
                JournalKind::Messages,
                parts.index,
                parts.partition,
                parts.segments,
                parts.write_mode,
            ),
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
            moving: Vec::new(),
            watching: Vec::new(),
            walking: Vec::new(),
            attaching: Vec::new(),
            gateways: Gateways::default(),
            flushes: Vec::new(),
            handshakes: Vec::new(),
            assigned_ids: 0,
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
            ready_peers: 0,
            session_timer: None,
            walked: Key(0),
            plain: Vec::new(),
            handshake_budget: HandshakeBudget::new(HANDSHAKES_PER_TURN),
            delivery_timer: false,
            another_look_timer: false,
            retry_timer: false,
            leaving: HashMap::new(),
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
            } else if let Some(attachment) = self.plane.attaching.pop() {
                self.plane.attach(io, attachment);
            } else if let Some(key) = self.plane.broker.taken_over.pop() {
                self.plane.metrics.connections_taken_over.add(1);
                self.end_with(io, key, ReasonCode::SESSION_TAKEN_OVER);
            } else if let Some((key, home)) = self.plane.moving.pop() {
                self.move_out(io, key, home);
            } else if let Some(key) = self.plane.watching.pop() {
                self.check_silence(io, key);
            } else if let Some(key) = self.plane.ending.pop() {
                self.end(io, key);
            } else {
                break;
            }
        }
        self.plane.pump_sessions(io);
    }

    pub(crate) fn end(&mut self, io: &mut Io<'_>, key: Key) {
        if let Some(connection) = self.plane.connections.by_key(key) {
            connection.hold = Hold::Closing;
            connection.wire().close(io);
        }
    }

    /// Ends a connection with a reason, where its protocol has a word for it. MQTT 5's are the ones used here.
    pub(crate) fn end_with(&mut self, io: &mut Io<'_>, key: Key, reason: ReasonCode) {
        let reference = self.plane.settings.server_reference.as_deref();
        if let Some(connection) = self.plane.connections.by_key(key)
            && let (protocol, mut wire) = connection.parts()
            && let Some(output) = wire.output(io)
        {
            let session = match protocol {
                Protocol::Mqtt(session) if session.is_open() => session,
                Protocol::Amqp(session) => {
                    session.say_goodbye(farewell(reason), output);
                    return self.end(io, key);
                }
                Protocol::Mqtt(_) | Protocol::Http(_) => return self.end(io, key),
            };
            let going = reason == ReasonCode::SERVER_SHUTTING_DOWN && reference.is_some();
            let reason = if going { ReasonCode::USE_ANOTHER_SERVER } else { reason };
            mqtt::put_disconnect(session.level, reason, reference.filter(|_| going), output);
        }
        self.end(io, key);
    }

    /// Gives a connection's socket up, so that it can go to another shard.
    fn move_out(&mut self, io: &mut Io<'_>, key: Key, home: ShardIndex) {
        if let Some(connection) = self.plane.connections.by_key(key)
            && connection.hold == Hold::Moving
        {
            self.leaving.insert(connection.id.index(), home);
            io.detach(connection.id);
        }
    }

    /// Takes a connection over from another shard.
    pub(crate) fn move_in(&mut self, io: &mut Io<'_>, moved: Moved) {
        let Moved { socket, stack, session, input } = moved;
        let Ok(id) = io.adopt(socket) else {
            tracing::warn!(
                "a connection finds no place on the shard that owns its client identifier"
            );
            return;
        };
        let now = self.plane.now;
        let key = self.plane.connections.insert(id, Protocol::Mqtt(session), stack, now);
        if self.plane.draining {
            return self.end(io, key);
        }
        if let Some(connection) = self.plane.connections.by_key(key) {
            connection.input = input;
            connection.hold = Hold::Over;
            self.plane.resuming.push(key);
        }
        self.check_silence(io, key);
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
            || !self.plane.arriving.is_empty()
            || !self.plane.broker.arriving.is_empty()
            || self.plane.broker.log.stored.wants_another_look()
            || self.plane.broker.arriving.has_pauses();
        if unfinished && !self.another_look_timer {
            self.another_look_timer = true;
            io.set_timer(ANOTHER_LOOK, ANOTHER_LOOK_TIMER);
        }
        self.set_session_timer(io);
        let retries = !self.plane.retry.is_empty() || self.plane.gateways.is_asking();
        if retries && !self.retry_timer {
            self.retry_timer = true;
            io.set_timer(RETRY, RETRY_TIMER);
        }
    }

    /// Whether all shards have told what they found at start.
    fn knows_all(&self) -> bool {
        self.ready_peers + 1 >= usize::from(self.plane.outbox.shards())
    }

    /// Wakes this shard when a session, a will or a retained message is due.
    fn set_session_timer(&mut self, io: &mut Io<'_>) {
        if !self.knows_all() {
            // A will published now would miss the sessions kept elsewhere.
            return;
        }
        let Some(due) = self.plane.next_session_timeout() else { return };
        if let Some((set, timer)) = self.session_timer {
            if set <= due {
                return;
            }
            io.cancel_timer(timer);
        }
        let after = due.saturating_duration_since(self.plane.now);
        self.session_timer = Some((due, io.set_timer(after, SESSIONS_TIMER)));
    }

    /// Lets clients in.
    pub(crate) fn open_doors(&mut self, io: &mut Io<'_>) {
        // A node told to stop while it starts stays closed.
        if !self.knows_all() || self.plane.draining {
            return;
        }
        for (listener, speaks, layers) in std::mem::take(&mut self.listeners) {
            self.speaks.insert(io.listen(listener), (speaks, layers));
        }
    }

    /// Connections with work that is done a part at a time.
    fn work_on(&mut self, io: &mut Io<'_>) {
        let waiting = self.walk(io);
        self.plane.pump_sessions(io);
        self.continue_handshakes(io);
        if !self.plane.walking.is_empty() || !self.plane.handshakes.is_empty() {
            io.turn_again();
        }
        self.plane.walking.extend(waiting);
    }

    /// Retained messages go to some of the connections that get any, in turn; those that wait for the journal.
    fn walk(&mut self, io: &mut Io<'_>) -> Vec<Key> {
        let mut walking = std::mem::take(&mut self.plane.walking);
        if walking.is_empty() {
            return walking;
        }
        // Each acknowledgement names its connection.
        walking.sort_unstable();
        walking.dedup();
        let next = walking.partition_point(|key| *key <= self.walked);
        walking.rotate_left(next);
        let later = walking.split_off(walking.len().min(WALKS_PER_TURN));
        walking.retain(|key| {
            self.walked = *key;
            let walked = self.plane.continue_walk(io, *key);
            if walked == Walked::More {
                self.plane.walking.push(*key);
            }
            walked == Walked::Later
        });
        self.plane.walking.extend(later);
        walking
    }

    /// Transports pass on what was written into them since.
    fn flush_transports(&mut self, io: &mut Io<'_>) {
        for key in std::mem::take(&mut self.plane.flushes) {
            if let Some(connection) = self.plane.connections.by_key(key) {
                connection.flush(io);
            }
        }
    }

    fn publish_gauges(&mut self) {
        let metrics = &self.plane.metrics;
        metrics.handshakes_waiting.set(self.plane.handshakes.len() as u64);
        metrics.turns.add(1);
        metrics.connections.set(self.plane.connections.len() as u64);
        metrics.subscriptions.set(self.plane.routes.subscriptions() as u64);
        metrics.command_consumers.set(self.plane.commands.devices() as u64);
        metrics.deliveries_waiting.set(self.plane.deliveries.len() as u64);
        metrics.connections_parked.set(self.plane.parked.len() as u64);
        let broker = &self.plane.broker;
        metrics.topic_subscriptions.set(broker.topics.subscriptions() as u64);
        metrics.receipts_waiting.set(broker.receipts.len() as u64);
        metrics.retained_messages.set(broker.retained.total_use().messages as u64);
        let sessions = broker.sessions.metrics();
        metrics.sessions_connected.set(sessions.sessions_connected);
        metrics.sessions_disconnected.set(sessions.sessions_disconnected);
        metrics.sessions_expired.set(sessions.expired_sessions);
        metrics.messages_queued.set(sessions.queued_messages);
        metrics.messages_queued_bytes.set(sessions.queued_bytes);
        metrics.messages_dropped_queue_full.set(sessions.dropped_queue_full);
        metrics.messages_dropped_tenant_full.set(sessions.dropped_tenant_full);
        metrics.messages_expired.set(sessions.expired_messages);
    }
}

/// How much of an AMQP peer is borne: devices have a session or two and a link for each thing they send.
fn amqp_settings() -> fulcrum_links::Settings {
    fulcrum_links::Settings {
        sessions_max: 8,
        links_max: AMQP_LINKS_MAX,
        // Every link may use its credit up.
        unsettled_max: (AMQP_LINKS_MAX * AMQP_UPLOAD_CREDIT) as usize,
        ..fulcrum_links::Settings::default()
    }
}

/// What an AMQP peer is told when its connection ends.
fn farewell(reason: ReasonCode) -> &'static str {
    match reason {
        ReasonCode::SERVER_SHUTTING_DOWN => "the node stops",
        ReasonCode::NOT_AUTHORIZED => "the login is void, or was taken away",
        ReasonCode::SERVER_BUSY => "the node's store has failed; its operator must look at it",
        _ => "the node ends the connection",
    }
}

fn unix_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

impl Handler for Shard {
    fn started(&mut self, io: &mut Io<'_>) {
        self.plane.announce_recovered();
        self.open_doors(io);
    }

    fn accepted(&mut self, io: &mut Io<'_>, listener: ListenerId, id: ConnectionId) {
        let now = self.plane.now;
        let Some((speaks, layers)) = self.speaks.get(&listener) else { return io.abort(id) };
        let protocol = match speaks {
            Speaks::Http => Protocol::Http(Box::new(http::Session::new())),
            Speaks::Amqp => Protocol::Amqp(Box::new(amqp::Session::new())),
            Speaks::Mqtt => Protocol::Mqtt(mqtt::Session::new(now)),
        };
        let stack = match layers.is_plain() {
            true => None,
            false => match Stack::new(layers) {
                Ok(stack) => Some(Box::new(stack)),
                Err(error) => {
                    tracing::warn!(%error, "a connection's transport cannot be made");
                    return io.abort(id);
                }
            },
        };
        self.plane.metrics.connections_accepted.add(1);
        let key = self.plane.connections.insert(id, protocol, stack, now);
        self.check_silence(io, key);
        if self.plane.draining {
            self.end(io, key);
        }
    }

    fn received(&mut self, io: &mut Io<'_>, id: ConnectionId, bytes: &[u8]) {
        let Some(mut connection) = self.plane.connections.take_by_id(id) else { return };
        if connection.is_established() {
            connection.last_input = self.plane.now;
        }
        if connection.hold == Hold::Closing {
            return self.plane.connections.put(connection);
        }
        self.take_input(io, connection, bytes);
    }

    fn drained(&mut self, _io: &mut Io<'_>, id: ConnectionId) {
        let Some(key) = self.plane.connections.key_of(id) else { return };
        self.plane.release(key, Hold::Output);
        if let Some(connection) = self.plane.connections.by_key(key)
            && let Protocol::Mqtt(session) = &mut connection.protocol
            && std::mem::take(&mut session.stalled)
        {
            self.plane.broker.sessions.wake(session.session);
            if !session.walks.is_empty() {
                self.plane.walking.push(key);
            }
        }
    }

    fn detached(&mut self, io: &mut Io<'_>, id: ConnectionId, socket: Detached) {
        let Some(mut connection) = self.plane.connections.take_by_id(id) else { return };
        if let Some(timer) = connection.watch.take() {
            io.cancel_timer(timer);
        }
        let home = self.leaving.remove(&id.index());
        let input = std::mem::take(&mut connection.input);
        let stack = connection.stack.take();
        let protocol = std::mem::replace(
            &mut connection.protocol,
            Protocol::Mqtt(mqtt::Session::new(self.plane.now)),
        );
        self.plane.connections.forget(connection);
        if let (Some(home), Protocol::Mqtt(session)) = (home, protocol) {
            self.plane.metrics.connections_moved.add(1);
            let moved = Box::new(Moved { socket, stack, session, input });
            self.plane.outbox.tell(home, PeerMessage::Moved(moved));
            // The turn's batches may have gone already.
            io.turn_again();
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
        self.leaving.remove(&id.index());
        match &mut connection.protocol {
            Protocol::Mqtt(session) => session.closed(&mut self.plane, io, key),
            Protocol::Amqp(session) => session.closed(&self.plane),
            Protocol::Http(_) => {}
        }
        self.plane.connections.forget(connection);
        self.after_input(io);
        // The turn's batches and flushes may have gone already.
        if !self.plane.outbox.is_empty() || !self.plane.flushes.is_empty() {
            io.turn_again();
        }
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
            SESSIONS_TIMER => {
                self.session_timer = None;
                self.plane.session_timeouts(io);
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
        let plane = &mut self.plane;
        if token == JournalKind::Messages.token() {
            plane.stored.written(io, result, &plane.metrics);
        } else {
            plane.broker.log.stored.written(io, result, &plane.metrics);
        }
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
        self.work_on(io);
        self.plane.copy_forward();
        self.plane.stored.pump(io, &self.plane.metrics);
        self.plane.broker.log.stored.pump(io, &self.plane.metrics);
        self.settle_stored(io);
        // Behind everything that may write to a connection.
        self.flush_transports(io);
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
        !self.mailbox.is_empty()
            || self.plane.arriving.is_empty() && self.mailbox.has_stores()
            || self.plane.broker.arriving.is_empty() && self.mailbox.has_messages()
    }
}
