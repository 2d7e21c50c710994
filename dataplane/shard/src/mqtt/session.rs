//! One MQTT connection's state and what its packets mean.

use super::alias::{Given, Received};
use super::answers::{Answers, Owed};
use super::connect::Counted;
use super::content::{Alias, Content, Recipient};
use super::device_errors::Concern;
use super::device_subscribe::DeviceFace;
use super::publish::RouteCache;
use super::reply::{put_disconnect, put_puback, put_pubcomp, put_pubrec, put_release};
use crate::broker::Walks;
use crate::connections::{Hold, Key};
use crate::flow::{Flow, Step};
use crate::identity::Principal;
use crate::limits::{CONNECT_BYTES_MAX, DEVICE_PACKET_ID_MIN, UNACKNOWLEDGED_MAX};
use crate::plane::{Plane, TakenCommand};
use crate::stored::Waiter;
use crate::turn::Turn;
use fulcrum_journal::Ticket;
use fulcrum_mqtt::{
    DecodeContext, DecodeError, Decoded, Packet, ProtocolLevel, QoS, ReasonCode, encode_connack,
    encode_pingresp,
};
use fulcrum_ring::Io;
use fulcrum_router::{DeliveryId, Outcome, ShardIndex};
use fulcrum_sessions::{Ack, Leave, Room, SessionKey};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A message of the device API sent at QoS 1 that the peer has not acknowledged.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Outgoing {
    /// Its outcome goes to the shard that made the delivery.
    Telemetry((ShardIndex, DeliveryId)),
    /// Its outcome goes to the device's command desk.
    Command { tenant: Arc<str>, device: Arc<str>, id: String },
    /// Nobody waits for it.
    Untracked,
}

/// How far a session is.
pub(crate) enum Phase {
    /// CONNECT is to come.
    New {
        since: Instant,
        /// The registry does not know the client's certificate.
        unknown_certificate: bool,
    },
    /// The registry is asked; CONNECT is taken again when it has answered.
    Authenticating {
        since: Instant,
        /// About the client's certificate.
        by_certificate: bool,
    },
    /// The registry knows it. CONNECT is taken again, on the shard that owns the client identifier.
    Admitted,
    /// It has its session; CONNACK leaves when that is durable.
    Attached { present: bool },
    /// Open.
    Connected,
}

/// One MQTT connection.
pub(crate) struct Session {
    pub phase: Phase,
    pub level: ProtocolLevel,
    pub principal: Option<Principal>,
    /// Its share of the tenant's connections, where they are limited.
    pub counted: Option<Counted>,
    /// When what it has shown is void.
    pub valid_until: Option<Instant>,
    /// Its session in the shard's session state, once attached.
    pub session: SessionKey,
    pub client_id: Box<str>,
    /// Seconds.
    pub keep_alive_s: u16,
    /// What the peer takes: largest packet in bytes, messages at QoS above 0 under way.
    pub packet_bytes_max: u32,
    pub receive_max: u16,
    pub route: Option<Box<RouteCache>>,
    /// What it has of the device API beyond publishing.
    pub(super) device: Option<Box<DeviceFace>>,
    /// Filters of telemetry, relative to the tenant, of an application.
    pub filters: Vec<Box<str>>,
    /// Retained messages on their way to new subscriptions.
    pub walks: Walks,
    /// The peer does not read: what its session has waits until it does.
    pub stalled: bool,
    /// What the client's DISCONNECT said, once it came.
    pub leave: Leave,
    /// Codes for the answer to the SUBSCRIBE or UNSUBSCRIBE that waits for the journal or other shards.
    pub subscribing: Option<Box<[ReasonCode]>>,
    /// How many commits and shards the packet at the front of the input waits for.
    pub waits: u16,
    /// Whether the client uses enhanced authentication, with the one method there is.
    pub shows_tokens: bool,
    pub(super) received_aliases: Option<Box<Received>>,
    pub(super) given_aliases: Option<Box<Given>>,
    /// Since when the registry owes an answer about a device.
    pub(super) asking_since: Option<Instant>,
    /// The registry's version when it was asked: its answer may be as old.
    pub(super) asked_version: u64,
    /// What messages of the peer at QoS 1 and 2 are answered with.
    owed: Answers,
    outgoing: Option<Box<UnderWay>>,
}

/// Messages of the device API the peer has not acknowledged.
struct UnderWay {
    messages: HashMap<u16, Outgoing>,
    last_packet_id: u16,
}

impl Default for UnderWay {
    fn default() -> UnderWay {
        UnderWay { messages: HashMap::new(), last_packet_id: u16::MAX }
    }
}

impl Session {
    pub(crate) fn new(now: Instant) -> Session {
        Session {
            phase: Phase::New { since: now, unknown_certificate: false },
            level: ProtocolLevel::V311,
            principal: None,
            counted: None,
            valid_until: None,
            session: SessionKey(u64::MAX),
            client_id: Box::default(),
            keep_alive_s: 0,
            packet_bytes_max: u32::MAX,
            receive_max: u16::MAX,
            route: None,
            device: None,
            filters: Vec::new(),
            walks: Walks::default(),
            stalled: false,
            leave: Leave { keep_will: true, expiry_s: None },
            subscribing: None,
            waits: 0,
            shows_tokens: false,
            received_aliases: None,
            given_aliases: None,
            asking_since: None,
            asked_version: 0,
            owed: Answers::default(),
            outgoing: None,
        }
    }

    /// Whether CONNACK is out: messages may follow.
    pub(crate) fn is_open(&self) -> bool {
        matches!(self.phase, Phase::Connected)
    }

    /// Who it is, once that is known.
    pub(crate) fn principal(&self) -> Option<&Principal> {
        self.principal.as_ref()
    }

    /// When the peer will have been silent, or the registry slow, for too long.
    pub(crate) fn deadline(
        &self,
        last_input: Instant,
        connect_timeout: Duration,
    ) -> Option<Instant> {
        if let Some(since) = self.asking_since {
            return Some(since + connect_timeout);
        }
        match &self.phase {
            Phase::New { since, .. } | Phase::Authenticating { since, .. } => {
                Some(*since + connect_timeout)
            }
            Phase::Admitted | Phase::Attached { .. } => Some(last_input + connect_timeout),
            Phase::Connected => {
                // One and a half times the keep-alive [MQTT-3.1.2-24] [MQTT-3.1.2-22].
                let silent =
                    last_input + Duration::from_millis(1500) * u32::from(self.keep_alive_s);
                let silent = (self.keep_alive_s > 0).then_some(silent);
                silent.into_iter().chain(self.valid_until).min()
            }
        }
    }

    /// Whether what the peer has shown is void at `now`.
    pub(crate) fn is_void(&self, now: Instant) -> bool {
        self.valid_until.is_some_and(|until| until <= now)
    }

    /// Notes who the peer is, and for how long that holds.
    pub(super) fn admit(&mut self, plane: &Plane, principal: Principal) {
        self.valid_until = principal.valid_until_ms.map(|until_ms| {
            plane.now + Duration::from_millis(until_ms.saturating_sub(plane.now_ms))
        });
        self.principal = Some(principal);
    }

    /// Takes the packet at the front of `bytes`.
    pub(crate) fn step(&mut self, turn: &mut Turn<'_, '_>, bytes: &[u8]) -> Step {
        if self.is_open()
            && let Some(used) = self.publish_again(turn, bytes)
        {
            return Step::Used(used);
        }
        let message_bytes_max = turn.plane.settings.message_bytes_max;
        let (level, packet_bytes_max) = match self.phase {
            Phase::Connected => (Some(self.level), message_bytes_max),
            _ => (None, message_bytes_max.min(CONNECT_BYTES_MAX)),
        };
        match fulcrum_mqtt::decode(bytes, &DecodeContext { level, packet_bytes_max }) {
            Ok(Decoded::NeedMore { at_least }) => Step::NeedMore { at_least },
            Ok(Decoded::Packet { packet, used }) => Step::of(self.handle(turn, packet), used),
            Err(error) => {
                self.refuse(turn, error);
                Step::End
            }
        }
    }

    fn handle(&mut self, turn: &mut Turn<'_, '_>, packet: Packet<'_>) -> Flow {
        if !self.is_open() {
            return match packet {
                Packet::Connect(connect) => self.connect(turn, &connect),
                // Anything before CONNECT [MQTT-3.1.0-1].
                _ => self.break_off(turn, ReasonCode::PROTOCOL_ERROR),
            };
        }
        match packet {
            Packet::Publish(publish) => self.publish(turn, &publish),
            Packet::PubAck { packet_id, .. } => self.take_puback(turn, packet_id),
            Packet::PubRec { packet_id, reason, .. } => self.take_pubrec(turn, packet_id, reason),
            Packet::PubRel { packet_id, .. } => self.take_pubrel(turn, packet_id),
            Packet::PubComp { packet_id, .. } => {
                let broker = &mut turn.plane.broker;
                broker.sessions.pubcomp(&mut broker.log, self.session, packet_id);
                Flow::Next
            }
            Packet::Subscribe(subscribe) => self.subscribe(turn, &subscribe),
            Packet::Unsubscribe(unsubscribe) => self.unsubscribe(turn, &unsubscribe),
            Packet::PingReq => match turn.output() {
                Some(output) => {
                    encode_pingresp(output);
                    Flow::Next
                }
                None => Flow::End,
            },
            Packet::Disconnect { reason, properties } => {
                self.take_disconnect(turn, reason, properties)
            }
            Packet::Auth { reason, properties } => self.take_auth(turn, reason, properties),
            // CONNECT twice [MQTT-3.1.0-2], a server's packet.
            _ => self.break_off(turn, ReasonCode::PROTOCOL_ERROR),
        }
    }

    fn refuse(&mut self, turn: &mut Turn<'_, '_>, error: DecodeError) {
        turn.plane.metrics.protocol_errors.add(1);
        tracing::debug!(%error, "MQTT input refused");
        if self.is_open() {
            self.say_goodbye(turn, error.reason_code());
            return;
        }
        let Some(output) = turn.output() else { return };
        if let Some(code) = error.connack_code() {
            encode_connack(false, code, output);
        }
    }

    /// The peer has broken the protocol: says so where the protocol has a word for it, and ends.
    pub(super) fn break_off(&mut self, turn: &mut Turn<'_, '_>, reason: ReasonCode) -> Flow {
        turn.plane.metrics.protocol_errors.add(1);
        self.end_with(turn, reason)
    }

    /// Ends the connection, with the reason where the protocol has a word for it.
    pub(super) fn end_with(&mut self, turn: &mut Turn<'_, '_>, reason: ReasonCode) -> Flow {
        if self.is_open() {
            self.say_goodbye(turn, reason);
        }
        Flow::End
    }

    fn say_goodbye(&self, turn: &mut Turn<'_, '_>, reason: ReasonCode) {
        if let Some(output) = turn.output() {
            put_disconnect(self.level, reason, None, output);
        }
    }

    // ---- what the peer is owed -------------------------------------------------------------------------------------

    /// Notes a message of the peer that is to be answered with PUBACK or PUBREC.
    pub(crate) fn owe(&mut self, packet_id: u16, qos: QoS) {
        let exactly_once = qos == QoS::ExactlyOnce;
        self.owed.push(Owed { packet_id, exactly_once, reason: None, concern: None });
    }

    /// The same of a message of the device API.
    pub(super) fn owe_device(&mut self, packet_id: u16, qos: QoS, concern: Concern) {
        let exactly_once = qos == QoS::ExactlyOnce;
        let concern = Some(concern);
        self.owed.push(Owed { packet_id, exactly_once, reason: None, concern });
    }

    /// What is to be known about the oldest unanswered message with this identifier, which has failed.
    pub(crate) fn take_concern(&mut self, packet_id: u16) -> Option<Concern> {
        self.owed.waiting(packet_id)?.concern.take()
    }

    /// The oldest unanswered message with this identifier is never answered: writes every answer whose turn it is now.
    pub(super) fn leave_unanswered(&mut self, packet_id: u16, output: &mut Vec<u8>) {
        self.owed.give_up(packet_id);
        self.write_due_answers(output);
    }

    /// Whether messages wait for their answer: it comes with a commit or a consumer's outcome.
    pub(crate) fn owes_answers(&self) -> bool {
        self.owed.len() > 0
    }

    /// Whether a PUBREC is owed for this identifier.
    pub(crate) fn owes_pubrec(&self, packet_id: u16) -> bool {
        self.owed.iter().any(|owed| owed.packet_id == packet_id && owed.exactly_once)
    }

    /// Messages that wait for their answer.
    pub(super) fn owed(&self) -> usize {
        self.owed.len()
    }

    /// The oldest unanswered message with this identifier is settled: writes every answer whose turn it is.
    pub(crate) fn settle(&mut self, packet_id: u16, reason: ReasonCode, output: &mut Vec<u8>) {
        if let Some(owed) = self.owed.waiting(packet_id) {
            owed.reason = Some(reason);
        }
        self.write_due_answers(output);
    }

    fn write_due_answers(&mut self, output: &mut Vec<u8>) {
        while let Some(Owed { packet_id, exactly_once, reason, .. }) = self.owed.pop_due() {
            let reason = reason.unwrap_or(ReasonCode::SUCCESS);
            match exactly_once {
                false => put_puback(self.level, packet_id, reason, output),
                true => put_pubrec(self.level, packet_id, reason, output),
            }
        }
    }

    // ---- what the peer acknowledges --------------------------------------------------------------------------------

    /// Notes a message of the device API sent at QoS 1 and gives it a packet identifier; `None` when too many wait for
    /// their PUBACK.
    pub(crate) fn sent(&mut self, outgoing: Outgoing) -> Option<u16> {
        let under_way = self.outgoing.get_or_insert_default();
        let under_way_max = UNACKNOWLEDGED_MAX.min(usize::from(self.receive_max));
        if under_way.messages.len() >= under_way_max {
            return None;
        }
        loop {
            // The upper half of identifiers; the lower one is the session state's.
            let packet_id = under_way.last_packet_id;
            let packet_id = packet_id.checked_add(1).unwrap_or(DEVICE_PACKET_ID_MIN);
            under_way.last_packet_id = packet_id;
            if let Entry::Vacant(free) = under_way.messages.entry(packet_id) {
                free.insert(outgoing);
                return Some(packet_id);
            }
        }
    }

    /// Forgets a message of the device API.
    pub(crate) fn acknowledged(&mut self, packet_id: u16) -> Option<Outgoing> {
        self.outgoing.as_mut()?.messages.remove(&packet_id)
    }

    fn take_puback(&mut self, turn: &mut Turn<'_, '_>, packet_id: u16) -> Flow {
        let plane = &mut *turn.plane;
        if packet_id < DEVICE_PACKET_ID_MIN {
            let broker = &mut plane.broker;
            broker.sessions.puback(&mut broker.log, self.session, packet_id);
            if !self.walks.is_empty() {
                plane.walking.push(turn.wire.key);
            }
            return Flow::Next;
        }
        match self.acknowledged(packet_id) {
            Some(Outgoing::Telemetry((shard, delivery))) => plane.answer(shard, delivery, true),
            Some(Outgoing::Command { tenant, device, id }) => {
                // The desk may have the next command for this very connection, which is taken out of the table while
                // its input is handled: the outcome is looked at after that.
                let link = plane.link(turn.wire.key);
                plane.taken_commands.push_back(TakenCommand { tenant, device, link, id });
            }
            // Unknown identifiers are harmless: a repeated PUBACK.
            Some(Outgoing::Untracked) | None => {}
        }
        Flow::Next
    }

    fn take_pubrec(&mut self, turn: &mut Turn<'_, '_>, packet_id: u16, reason: ReasonCode) -> Flow {
        let connection = turn.wire.key;
        let broker = &mut turn.plane.broker;
        let refused = reason.is_error();
        let known = broker.sessions.pubrec(&mut broker.log, self.session, packet_id, refused);
        if !self.walks.is_empty() {
            // Its queue is shorter now.
            turn.plane.walking.push(connection);
        }
        let broker = &mut turn.plane.broker;
        match known {
            Err(room) => self.acknowledge_later(turn, room),
            Ok(_) if refused => Flow::Next,
            Ok((Ack::Known, Some(ticket))) => {
                let waiter = Waiter::Release { connection, packet_id };
                broker.log.stored.wait(Ticket(ticket), waiter);
                Flow::Next
            }
            Ok((ack, _)) => {
                let reason = match ack {
                    Ack::Known => ReasonCode::SUCCESS,
                    Ack::Unknown => ReasonCode::PACKET_IDENTIFIER_NOT_FOUND,
                };
                let Some(output) = turn.output() else { return Flow::End };
                put_release(self.level, packet_id, reason, output);
                Flow::Next
            }
        }
    }

    fn take_pubrel(&mut self, turn: &mut Turn<'_, '_>, packet_id: u16) -> Flow {
        let connection = turn.wire.key;
        let broker = &mut turn.plane.broker;
        match broker.sessions.pubrel(&mut broker.log, self.session, packet_id) {
            Err(room) => self.acknowledge_later(turn, room),
            Ok((_, Some(ticket))) => {
                let waiter = Waiter::Complete { connection, packet_id };
                broker.log.stored.wait(Ticket(ticket), waiter);
                Flow::Next
            }
            Ok((known, None)) => {
                let reason = match known {
                    true => ReasonCode::SUCCESS,
                    false => ReasonCode::PACKET_IDENTIFIER_NOT_FOUND,
                };
                let Some(output) = turn.output() else { return Flow::End };
                put_pubcomp(self.level, packet_id, reason, output);
                Flow::Next
            }
        }
    }

    /// An acknowledgement that cannot be recorded waits for room; a journal that has failed will have none.
    fn acknowledge_later(&mut self, turn: &mut Turn<'_, '_>, room: Room) -> Flow {
        if room == Room::Failed {
            return self.end_with(turn, ReasonCode::SERVER_BUSY);
        }
        turn.plane.parked.push(turn.wire.key);
        Flow::Again(Hold::Journal)
    }

    // ---- messages to the peer --------------------------------------------------------------------------------------

    /// Writes a message at QoS 0; false if the peer takes no packet as large [MQTT5-3.1.2-25].
    pub(crate) fn write_at_most_once(
        &mut self,
        content: &Content<'_>,
        retain: bool,
        subscription_ids: &[u32],
        output: &mut Vec<u8>,
    ) -> bool {
        let to = Recipient::at_most_once(self.level, retain, subscription_ids, Alias::None);
        self.write(content, to, output)
    }

    /// Writes a message its session keeps until it is acknowledged; false as above.
    pub(crate) fn write_kept(
        &mut self,
        content: &Content<'_>,
        qos: QoS,
        packet_id: u16,
        (dup, retain): (bool, bool),
        subscription_ids: &[u32],
        output: &mut Vec<u8>,
    ) -> bool {
        let (level, alias) = (self.level, Alias::None);
        let packet_id = Some(packet_id);
        let to = Recipient { level, qos, packet_id, dup, retain, subscription_ids, alias };
        self.write(content, to, output)
    }

    fn write(&mut self, content: &Content<'_>, to: Recipient<'_>, output: &mut Vec<u8>) -> bool {
        let alias = match &mut self.given_aliases {
            Some(given) => given.of(content.topic),
            None => Alias::None,
        };
        let before = output.len();
        let encoded = content.encode(&Recipient { alias, ..to }, output);
        let fits = output.len() - before <= self.packet_bytes_max as usize;
        if encoded.is_ok() && fits {
            return true;
        }
        output.truncate(before);
        if let (Some(given), Alias::Made(_)) = (&mut self.given_aliases, alias) {
            given.forget(content.topic);
        }
        false
    }

    /// Gives back everything others count on; the connection is gone.
    pub(crate) fn closed(&mut self, plane: &mut Plane, io: &mut Io<'_>, key: Key) {
        if !matches!(self.phase, Phase::Attached { .. } | Phase::Connected) {
            return;
        }
        let Some(principal) = &self.principal else { return };
        let tenant = principal.tenant.clone();
        let link = plane.link(key);
        let authenticated = &plane.metrics.connections_authenticated;
        authenticated.set(authenticated.value().saturating_sub(1));
        let under_way = self.outgoing.take().unwrap_or_default();
        for (_, outgoing) in under_way.messages {
            match outgoing {
                Outgoing::Telemetry((shard, delivery)) => plane.answer(shard, delivery, false),
                Outgoing::Command { tenant, device, id } => {
                    plane.command_outcome(io, tenant, device, link, id, Outcome::Released);
                }
                Outgoing::Untracked => {}
            }
        }
        self.detach_all_commands(plane, link);
        for filter in std::mem::take(&mut self.filters) {
            plane.unsubscribe(&tenant, filter, link);
        }
        plane.leave_session(io, self.session, key, self.leave);
        plane.park_walks(self.session, std::mem::take(&mut self.walks));
    }
}
