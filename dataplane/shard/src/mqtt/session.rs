//! One MQTT connection's state and what its packets mean.

use super::publish::RouteCache;
use super::topics::{CommandFilter, encode_request_id};
use crate::connections::Key;
use crate::flow::{Flow, Step};
use crate::identity::Principal;
use crate::limits::{CONNECT_BYTES_MAX, UNACKNOWLEDGED_MAX};
use crate::message::PeerMessage;
use crate::plane::{Plane, TakenCommand};
use fulcrum_mqtt::{
    DecodeContext, DecodeError, Decoded, Packet, ProtocolLevel, encode_connack, encode_pingresp,
    encode_puback,
};
use fulcrum_ring::{ConnectionId, Io};
use fulcrum_router::{Command, DeliveryId, Outcome, ShardIndex, owner};
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A message sent at QoS 1 that the peer has not acknowledged.
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
    New { since: Instant },
    /// The registry is asked.
    Authenticating { since: Instant },
    /// Open.
    Connected(Principal),
}

/// A device's command subscription.
pub(crate) struct CommandSubscription {
    pub filter: CommandFilter,
    pub qos: u8,
    pub device: Arc<str>,
}

/// One MQTT connection.
pub(crate) struct Session {
    pub phase: Phase,
    pub client_id: Box<str>,
    pub keep_alive: Duration,
    pub route: RouteCache,
    pub commands: Option<CommandSubscription>,
    /// Filters relative to the tenant, of an application.
    pub filters: Vec<Box<str>>,
    /// Devices a gateway may act for, with the registry version the answer is good for.
    pub(super) authorised: HashMap<String, u64>,
    /// Since when the registry owes an answer about a device.
    pub(super) asking_since: Option<Instant>,
    /// The registry's version when it was asked: its answer may be as old.
    pub(super) asked_version: u64,
    /// Messages at QoS 1 from the peer in the order they came, and whether their PUBACK is due. PUBACKs leave in that
    /// order [MQTT-4.6.0-2], though telemetry and events of several devices are settled in any.
    unanswered: VecDeque<(u16, bool)>,
    outgoing: HashMap<u16, Outgoing>,
    last_packet_id: u16,
}

impl Session {
    pub(crate) fn new(now: Instant) -> Session {
        Session {
            phase: Phase::New { since: now },
            client_id: Box::default(),
            keep_alive: Duration::ZERO,
            route: RouteCache::default(),
            commands: None,
            filters: Vec::new(),
            authorised: HashMap::new(),
            asking_since: None,
            asked_version: 0,
            unanswered: VecDeque::new(),
            outgoing: HashMap::new(),
            last_packet_id: 0,
        }
    }

    /// Who it is, once that is known.
    pub(crate) fn principal(&self) -> Option<&Principal> {
        match &self.phase {
            Phase::Connected(principal) => Some(principal),
            _ => None,
        }
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
            Phase::New { since } | Phase::Authenticating { since } => {
                Some(*since + connect_timeout)
            }
            Phase::Connected(_) if self.keep_alive.is_zero() => None,
            // One and a half times the keep-alive [MQTT-3.1.2-24].
            Phase::Connected(_) => Some(last_input + self.keep_alive * 3 / 2),
        }
    }

    /// Takes the packet at the front of `bytes`.
    pub(crate) fn step(
        &mut self,
        plane: &mut Plane,
        io: &mut Io<'_>,
        connection: (Key, ConnectionId),
        bytes: &[u8],
    ) -> Step {
        let level = (!matches!(self.phase, Phase::New { .. })).then_some(ProtocolLevel::V311);
        let packet_bytes_max = match self.phase {
            Phase::New { .. } => plane.settings.message_bytes_max.min(CONNECT_BYTES_MAX),
            _ => plane.settings.message_bytes_max,
        };
        let context = DecodeContext { level, packet_bytes_max };
        match fulcrum_mqtt::decode(bytes, &context) {
            Ok(Decoded::NeedMore { at_least }) => Step::NeedMore { at_least },
            Ok(Decoded::Packet { packet, used }) => {
                Step::of(self.handle(plane, io, connection, packet), used)
            }
            Err(error) => {
                self.refuse(plane, io, connection.1, error);
                Step::End
            }
        }
    }

    fn handle(
        &mut self,
        plane: &mut Plane,
        io: &mut Io<'_>,
        connection: (Key, ConnectionId),
        packet: Packet<'_>,
    ) -> Flow {
        match (&self.phase, packet) {
            (Phase::New { .. }, Packet::Connect(connect)) => {
                self.connect(plane, io, connection, &connect)
            }
            (Phase::Connected(_), Packet::Publish(publish)) => {
                self.publish(plane, io, connection, &publish)
            }
            (Phase::Connected(_), Packet::PubAck { packet_id, .. }) => {
                self.take_acknowledgement(plane, connection.0, packet_id);
                Flow::Next
            }
            (Phase::Connected(_), Packet::Subscribe(subscribe)) => {
                self.subscribe(plane, io, connection, &subscribe)
            }
            (Phase::Connected(_), Packet::Unsubscribe(unsubscribe)) => {
                self.unsubscribe(plane, io, connection, &unsubscribe)
            }
            (Phase::Connected(_), Packet::PingReq) => match io.output(connection.1) {
                Some(output) => {
                    encode_pingresp(output);
                    Flow::Next
                }
                None => Flow::End,
            },
            (Phase::Connected(_), Packet::Disconnect { .. }) => Flow::End,
            // CONNECT twice [MQTT-3.1.0-2], anything before it [MQTT-3.1.0-1], a server's packet.
            _ => {
                plane.metrics.protocol_errors.add(1);
                Flow::End
            }
        }
    }

    fn refuse(&self, plane: &Plane, io: &mut Io<'_>, id: ConnectionId, error: DecodeError) {
        plane.metrics.protocol_errors.add(1);
        tracing::debug!(%error, "MQTT input refused");
        if let (Phase::New { .. }, Some(code)) = (&self.phase, error.connack_code())
            && let Some(output) = io.output(id)
        {
            encode_connack(false, code, output);
        }
    }

    /// Notes a message of the peer that is to be answered with a PUBACK.
    pub(crate) fn owe(&mut self, packet_id: u16) {
        self.unanswered.push_back((packet_id, false));
    }

    /// Whether messages wait for their PUBACK: it comes with a commit or a consumer's outcome.
    pub(crate) fn owes_answers(&self) -> bool {
        !self.unanswered.is_empty()
    }

    /// The oldest unanswered message with this identifier has been taken: writes every PUBACK whose turn it is.
    pub(crate) fn settle(&mut self, packet_id: u16, output: &mut Vec<u8>) {
        let mut owed = self.unanswered.iter_mut();
        if let Some((_, due)) = owed.find(|(owed, due)| *owed == packet_id && !due) {
            *due = true;
        }
        while let Some((packet_id, true)) = self.unanswered.front() {
            encode_puback(*packet_id, output);
            self.unanswered.pop_front();
        }
    }

    /// Notes a message sent at QoS 1 and gives it a packet identifier; `None` when too many wait for their PUBACK.
    pub(crate) fn sent(&mut self, outgoing: Outgoing) -> Option<u16> {
        if self.outgoing.len() >= UNACKNOWLEDGED_MAX {
            return None;
        }
        loop {
            self.last_packet_id = self.last_packet_id.checked_add(1).unwrap_or(1);
            if !self.outgoing.contains_key(&self.last_packet_id) {
                self.outgoing.insert(self.last_packet_id, outgoing);
                return Some(self.last_packet_id);
            }
        }
    }

    /// Forgets a message sent at QoS 1.
    pub(crate) fn acknowledged(&mut self, packet_id: u16) -> Option<Outgoing> {
        self.outgoing.remove(&packet_id)
    }

    fn take_acknowledgement(&mut self, plane: &mut Plane, key: Key, packet_id: u16) {
        match self.acknowledged(packet_id) {
            Some(Outgoing::Telemetry((shard, delivery))) => plane.answer(shard, delivery, true),
            Some(Outgoing::Command { tenant, device, id }) => {
                // The desk may have the next command for this very connection, which is taken out of the table while
                // its input is handled: the outcome is looked at after that.
                let link = plane.link(key);
                plane.taken_commands.push_back(TakenCommand { tenant, device, link, id });
            }
            // Unknown identifiers are harmless: a repeated PUBACK.
            Some(Outgoing::Untracked) | None => {}
        }
    }

    /// Topic and QoS of a command for this device; `None` when it takes no commands.
    pub(crate) fn command_topic(&self, command: &Command) -> Option<(String, u8)> {
        let subscription = self.commands.as_ref()?;
        let request_id = match command.response_required {
            true => encode_request_id(&command.id)?,
            false => String::new(),
        };
        Some((subscription.filter.command_topic(&request_id, &command.subject), subscription.qos))
    }

    /// Gives back everything others count on; the connection is gone.
    pub(crate) fn closed(&mut self, plane: &mut Plane, io: &mut Io<'_>, key: Key) {
        let Phase::Connected(principal) = &self.phase else { return };
        let tenant = principal.tenant.clone();
        let link = plane.link(key);
        plane
            .metrics
            .connections_authenticated
            .set(plane.metrics.connections_authenticated.value() - 1);
        for (_, outgoing) in std::mem::take(&mut self.outgoing) {
            match outgoing {
                Outgoing::Telemetry((shard, delivery)) => plane.answer(shard, delivery, false),
                Outgoing::Command { tenant, device, id } => {
                    plane.command_outcome(io, tenant, device, link, id, Outcome::Released);
                }
                Outgoing::Untracked => {}
            }
        }
        if let Some(subscription) = self.commands.take() {
            plane.detach(tenant.clone(), subscription.device, link);
        }
        for filter in std::mem::take(&mut self.filters) {
            plane.unsubscribe(&tenant, filter, link);
        }
        if !self.client_id.is_empty() {
            let shard = owner(&[&tenant, &self.client_id], plane.outbox.shards());
            let client_id = std::mem::take(&mut self.client_id);
            if shard == plane.index {
                plane.unclaim(tenant, client_id, link);
            } else {
                plane.outbox.tell(shard, PeerMessage::Unclaim { tenant, client_id, link });
            }
        }
    }
}
