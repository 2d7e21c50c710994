//! CONNECT: who is it, may it, and which session does it get.
//!
//! A CONNECT is taken up to four times, each time from the front of the input: to ask the registry, to move to the shard
//! that owns the client identifier, to attach the session there, and to greet when that is durable. Nothing of it has to
//! be kept in between. Where nothing has to be waited for, as when the registry knows the login, it is taken once.

use super::alias::{ALIASES_MAX, Given};
use super::content::Content;
use super::session::{Phase, Session};
use super::topics::is_device_topic;
use crate::connections::Hold;
use crate::flow::Flow;
use crate::identity::{Adapter, Login, Password, Principal, Refusal, Role};
use crate::plane::Plane;
use crate::ports::Ticket;
use crate::stored::Waiter;
use crate::turn::{Turn, Wire};
use bytes::Bytes;
use fulcrum_journal::Ticket as JournalTicket;
use fulcrum_mqtt::{
    Connect, ConnectReturnCode, Property, PropertyBuffer, PropertyOwner, ProtocolLevel, ReasonCode,
    encode_connack, v5,
};
use fulcrum_ring::Io;
use fulcrum_router::{owner, pattern_matches};
use fulcrum_sessions::{Attach, AttachRefused, Room, Will};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Longest client identifier, in bytes: it is kept in memory and in the session journal.
const CLIENT_ID_BYTES_MAX: usize = 1024;
/// Between a login and a client identifier; in neither of them [MQTT-1.5.3-2].
const SCOPE: char = '\0';
/// The method of enhanced authentication this server knows: a JSON Web Token as authentication data, so that a client can
/// show a fresh one with AUTH before the old one is over.
pub(super) const JWT_METHOD: &str = "JWT";

/// What the properties of a CONNECT ask for (MQTT 5, 3.1.2.11); for 3.1.1 the values with the same meaning.
pub(super) struct Wishes<'a> {
    session_expiry_s: u32,
    receive_max: u16,
    packet_bytes_max: u32,
    topic_alias_max: u16,
    method: Option<&'a str>,
    data: Option<&'a [u8]>,
}

impl<'a> Wishes<'a> {
    fn of(connect: &Connect<'a>) -> Wishes<'a> {
        let mut wishes = Wishes {
            session_expiry_s: 0,
            receive_max: u16::MAX,
            packet_bytes_max: u32::MAX,
            topic_alias_max: 0,
            method: None,
            data: None,
        };
        if connect.level == ProtocolLevel::V311 && !connect.clean_session {
            wishes.session_expiry_s = u32::MAX;
        }
        for property in &connect.properties {
            match property {
                Property::SessionExpiryInterval(seconds) => wishes.session_expiry_s = seconds,
                Property::ReceiveMaximum(most) => wishes.receive_max = most,
                Property::MaximumPacketSize(bytes) => wishes.packet_bytes_max = bytes,
                Property::TopicAliasMaximum(most) => wishes.topic_alias_max = most,
                Property::AuthenticationMethod(method) => wishes.method = Some(method),
                Property::AuthenticationData(data) => wishes.data = Some(data.0),
                _ => {}
            }
        }
        wishes
    }
}

impl Session {
    pub(super) fn connect(&mut self, turn: &mut Turn<'_, '_>, connect: &Connect<'_>) -> Flow {
        self.level = connect.level;
        match self.phase {
            Phase::New { unknown_certificate, .. } => {
                self.ask_registry(turn, connect, !unknown_certificate)
            }
            Phase::Authenticating { .. } => Flow::Again(Hold::Registry),
            Phase::Admitted => self.open(turn, connect),
            Phase::Attached { present } => self.greet(turn, connect, present),
            Phase::Connected => self.break_off(turn, ReasonCode::PROTOCOL_ERROR),
        }
    }

    // ---- who is it -------------------------------------------------------------------------------------------------

    fn ask_registry(
        &mut self,
        turn: &mut Turn<'_, '_>,
        connect: &Connect<'_>,
        may_show_certificate: bool,
    ) -> Flow {
        if turn.plane.draining {
            return self.turn_away(turn, ReasonCode::SERVER_UNAVAILABLE);
        }
        let nameless = connect.client_id.is_empty()
            && !connect.clean_session
            && connect.level == ProtocolLevel::V311;
        if nameless || connect.client_id.len() > CLIENT_ID_BYTES_MAX {
            // [MQTT-3.1.3-8]
            return self.turn_away(turn, ReasonCode::CLIENT_IDENTIFIER_NOT_VALID);
        }
        let wishes = Wishes::of(connect);
        if wishes.method.is_some_and(|method| method != JWT_METHOD) {
            return self.turn_away(turn, ReasonCode::BAD_AUTHENTICATION_METHOD);
        }
        let by_certificate = match wishes.method {
            None if may_show_certificate => turn.wire.certificate_login(),
            _ => None,
        };
        let is_certificate = by_certificate.is_some();
        let Some(login) = by_certificate.or_else(|| login(connect, &wishes)) else {
            turn.plane.count_refusal(Refusal::BadCredentials);
            return self.turn_away(turn, ReasonCode::BAD_USER_NAME_OR_PASSWORD);
        };
        let ticket = Ticket(turn.wire.key.0);
        let Ok(known) = turn.plane.registry.authenticate(ticket, Adapter::Mqtt, login) else {
            turn.plane.count_refusal(Refusal::Unavailable);
            return self.turn_away(turn, ReasonCode::SERVER_UNAVAILABLE);
        };
        self.shows_tokens = wishes.method.is_some();
        self.keep_alive_s = connect.keep_alive_s;
        self.asked_version = turn.plane.identity_version;
        if let Some(principal) = known {
            turn.plane.metrics.logins_known.add(1);
            self.admit(turn.plane, principal);
            self.phase = Phase::Admitted;
            return self.open(turn, connect);
        }
        self.phase =
            Phase::Authenticating { since: turn.plane.now, by_certificate: is_certificate };
        Flow::Again(Hold::Registry)
    }

    /// The registry's answer. False: the connection ends.
    pub(crate) fn authenticated(
        &mut self,
        turn: &mut Turn<'_, '_>,
        result: Result<Principal, Refusal>,
    ) -> bool {
        if self.is_open() {
            return self.authenticated_again(turn, result);
        }
        match result {
            Ok(principal) => {
                self.admit(turn.plane, principal);
                self.phase = Phase::Admitted;
                true
            }
            Err(Refusal::BadCredentials)
                if let Phase::Authenticating { since, by_certificate: true } = self.phase =>
            {
                // CONNECT is taken again: it may say who it is by other means.
                self.phase = Phase::New { since, unknown_certificate: true };
                true
            }
            Err(refusal) => {
                turn.plane.count_refusal(refusal);
                self.turn_away(turn, connack_reason(refusal));
                false
            }
        }
    }

    /// The registry has not answered in time; the connection ends.
    pub(crate) fn registry_is_silent(&mut self, wire: &mut Wire<'_>, io: &mut Io<'_>) {
        if let (Phase::Authenticating { .. }, Some(output)) = (&self.phase, wire.output(io)) {
            put_connack_refusal(self.level, ReasonCode::SERVER_UNAVAILABLE, None, output);
        }
    }

    // ---- its session -----------------------------------------------------------------------------------------------

    fn open(&mut self, turn: &mut Turn<'_, '_>, connect: &Connect<'_>) -> Flow {
        let Some(principal) = self.principal.clone() else { return Flow::End };
        let tenant = &principal.tenant;
        let shards = turn.plane.outbox.shards();
        if self.client_id.is_empty() {
            self.client_id = match connect.client_id {
                "" => assigned_client_id(tenant, turn.plane),
                given => given.into(),
            };
        }
        let home = owner(&[tenant, &self.client_id], shards);
        if home != turn.plane.index {
            turn.plane.moving.push((turn.wire.key, home));
            return Flow::Again(Hold::Moving);
        }
        let wishes = Wishes::of(connect);
        let messaging = &principal.messaging;
        let may_message = !messaging.publish.is_empty() || !messaging.subscribe.is_empty();
        let will = match self.will(turn.plane, connect, &principal, may_message) {
            Ok(will) => will,
            Err(reason) => return self.turn_away(turn, reason),
        };
        if self.counted.is_none() {
            match Counted::begin(turn.plane, &principal) {
                Ok(counted) => self.counted = counted,
                Err(LimitReached) => {
                    // Hono: 0x05, MQTT 5: 0x97.
                    turn.plane.metrics.refused_connection_limit.add(1);
                    return self.turn_away(turn, ReasonCode::QUOTA_EXCEEDED);
                }
            }
        }
        // The device API has sessions as long as their connections, and no wills, as Hono has it.
        let login = match principal.role {
            Role::Device => principal.name.clone(),
            // A device may have the same name; no device's name has a slash in it.
            Role::Application { .. } => format!("application/{}", principal.name).into(),
        };
        // Where clients do not talk to each other their identifiers mean nothing to each other either: none takes another's
        // connection over, by mistake or on purpose.
        let session_name = match may_message {
            true => self.client_id.clone(),
            false => format!("{login}{SCOPE}{}", self.client_id).into(),
        };
        let who = Attach {
            tenant,
            client_id: &session_name,
            principal: &login,
            clean_start: connect.clean_session || !may_message,
            expiry_s: if may_message { wishes.session_expiry_s } else { 0 },
            receive_max: wishes.receive_max,
            link: turn.wire.key.0,
            will,
        };
        let plane = &mut *turn.plane;
        let (now, now_ms) = (plane.now, plane.now_ms);
        let broker = &mut plane.broker;
        let attached = match broker.sessions.attach(&mut broker.log, who, now, now_ms) {
            Ok(attached) => attached,
            Err(AttachRefused::Log(Room::Later)) => {
                plane.parked.push(turn.wire.key);
                return Flow::Again(Hold::Journal);
            }
            Err(refused) => {
                tracing::debug!(%tenant, %refused, "no session");
                let reason = match refused {
                    AttachRefused::TooManySessions => ReasonCode::QUOTA_EXCEEDED,
                    AttachRefused::OtherPrincipal => ReasonCode::CLIENT_IDENTIFIER_NOT_VALID,
                    AttachRefused::Log(_) => ReasonCode::SERVER_UNAVAILABLE,
                };
                return self.turn_away(turn, reason);
            }
        };
        self.session = attached.key;
        // The session state has these once for all connections; a connection keeps no copies.
        self.client_id = Box::default();
        if let (Some(own), Some(shared)) =
            (&mut self.principal, plane.broker.sessions.tenant(attached.key))
        {
            own.tenant = shared.clone();
        }
        self.packet_bytes_max = wishes.packet_bytes_max;
        self.receive_max = wishes.receive_max;
        self.given_aliases = Given::new(wishes.topic_alias_max);
        self.phase = Phase::Attached { present: attached.present };
        plane.metrics.connections_authenticated.add(1);
        plane.broker.taken_over.extend(attached.taken_over.map(crate::connections::Key));
        if let Some(ended) = attached.ended {
            plane.session_ended(turn.io, ended);
        }
        if let Some(will) = attached.will_due {
            plane.publish_will(turn.io, will);
        }
        if attached.present {
            plane.prune_subscriptions(attached.key, messaging);
        }
        plane.tell_online(attached.key, true);
        if self.asked_version != plane.identity_version {
            // It may have been evicted before it was there.
            plane.recheck(turn.wire.key);
        }
        let Some(ticket) = attached.ticket else {
            return self.greet(turn, connect, attached.present);
        };
        self.waits = 1;
        let waiter = Waiter::Held { connection: turn.wire.key };
        plane.broker.log.stored.wait(JournalTicket(ticket), waiter);
        Flow::Again(Hold::Commit)
    }

    /// The will as it is published should the connection end without DISCONNECT [MQTT-3.1.2-8]. One to the device API is
    /// ignored, as Hono does.
    fn will(
        &self,
        plane: &mut Plane,
        connect: &Connect<'_>,
        principal: &Principal,
        may_message: bool,
    ) -> Result<Option<Will>, ReasonCode> {
        let Some(will) = &connect.will else { return Ok(None) };
        if !may_message || is_device_topic(will.topic) {
            return Ok(None);
        }
        let permitted = &principal.messaging.publish;
        if !permitted.iter().any(|pattern| pattern_matches(pattern, will.topic)) {
            return Err(ReasonCode::NOT_AUTHORIZED);
        }
        let content = Content::of_packet(will.topic, will.payload, will.retain, will.properties);
        let mut frame = Vec::new();
        if content.to_frame(&principal.tenant, will.qos, plane.now_ms, &mut frame).is_err() {
            return Err(ReasonCode::QUOTA_EXCEEDED);
        }
        let delay_s = will.properties.iter().find_map(|property| match property {
            Property::WillDelayInterval(seconds) => Some(seconds),
            _ => None,
        });
        let client_id = Arc::from(&*self.client_id);
        let (tenant, frame) = (principal.tenant.clone(), Bytes::from(frame));
        Ok(Some(Will::new(tenant, client_id, frame, delay_s.unwrap_or(0))))
    }

    // ---- the answer ------------------------------------------------------------------------------------------------

    fn greet(&mut self, turn: &mut Turn<'_, '_>, connect: &Connect<'_>, present: bool) -> Flow {
        self.phase = Phase::Connected;
        let settings = &turn.plane.settings;
        let keep_alive_max = settings.keep_alive_max_s;
        let server_keep_alive = (keep_alive_max > 0
            && (connect.keep_alive_s == 0 || connect.keep_alive_s > keep_alive_max))
            .then_some(keep_alive_max);
        let message_bytes_max = settings.message_bytes_max;
        let receive_max = settings.receive_max;
        let session_expiry_max_s = settings.session_expiry_max_s;
        let level = self.level;
        let durable = turn.plane.broker.sessions.is_durable(self.session);
        let own_id = self.client_id_of(turn.plane);
        let Some(output) = turn.wire.output(turn.io) else { return Flow::End };
        if level == ProtocolLevel::V311 {
            encode_connack(present, ConnectReturnCode::Accepted, output);
        } else {
            let wishes = Wishes::of(connect);
            let mut properties = PropertyBuffer::new(PropertyOwner::ConnAck);
            let expiry_s =
                if durable { wishes.session_expiry_s.min(session_expiry_max_s) } else { 0 };
            let assigned = own_id.as_deref().filter(|_| connect.client_id.is_empty());
            let all = [
                (expiry_s != wishes.session_expiry_s)
                    .then_some(Property::SessionExpiryInterval(expiry_s)),
                Some(Property::ReceiveMaximum(receive_max)),
                Some(Property::MaximumPacketSize(message_bytes_max as u32)),
                Some(Property::TopicAliasMaximum(ALIASES_MAX)),
                assigned.map(Property::AssignedClientIdentifier),
                server_keep_alive.map(Property::ServerKeepAlive),
                self.shows_tokens.then_some(Property::AuthenticationMethod(JWT_METHOD)),
            ];
            for property in all.into_iter().flatten() {
                // Each is there once and permitted.
                let _ = properties.push(property);
            }
            let before = output.len();
            let properties = properties.properties();
            let _ = v5::encode_connack(present, ReasonCode::SUCCESS, properties, output);
            if output.len() - before > wishes.packet_bytes_max as usize {
                // It must not be sent, and a client cannot do without what it says [MQTT5-3.1.2-24].
                output.truncate(before);
                return Flow::End;
            }
            if let Some(seconds) = server_keep_alive {
                self.keep_alive_s = seconds;
            }
        }
        turn.plane.broker.sessions.wake(self.session);
        if let Some(walks) = turn.plane.broker.parked_walks.remove(&self.session) {
            self.walks = walks;
            turn.plane.walking.push(turn.wire.key);
        }
        // From here on the peer's own keep-alive counts, and the end of what it has shown.
        turn.plane.watching.push(turn.wire.key);
        Flow::Next
    }

    /// The client identifier of an open session.
    pub(super) fn client_id_of(&self, plane: &Plane) -> Option<String> {
        let name = plane.broker.sessions.client_id(self.session)?;
        Some(name.rsplit(SCOPE).next().unwrap_or_default().to_owned())
    }

    /// Refuses the CONNECT.
    fn turn_away(&mut self, turn: &mut Turn<'_, '_>, reason: ReasonCode) -> Flow {
        let draining = turn.plane.draining;
        let reference = turn.plane.settings.server_reference.clone().filter(|_| draining);
        if let Some(output) = turn.output() {
            put_connack_refusal(self.level, reason, reference.as_deref(), output);
        }
        Flow::End
    }
}

/// A connection that counts against its tenant's limit for as long as this lives.
pub(crate) struct Counted(Arc<AtomicU64>);

/// The tenant has as many connections as it may.
pub(crate) struct LimitReached;

impl Counted {
    /// Counts a connection, where its tenant has a limit.
    pub(crate) fn begin(
        plane: &mut Plane,
        principal: &Principal,
    ) -> Result<Option<Counted>, LimitReached> {
        let Some(limit) = principal.connections_max else { return Ok(None) };
        let count = plane.registry.connections_of(&principal.tenant);
        if count.fetch_add(1, Ordering::Relaxed) >= limit {
            count.fetch_sub(1, Ordering::Relaxed);
            return Err(LimitReached);
        }
        Ok(Some(Counted(count)))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What the client shows beside a certificate: enhanced authentication, or user name and password.
fn login(connect: &Connect<'_>, wishes: &Wishes<'_>) -> Option<Login> {
    let password = match wishes.method {
        Some(_) => wishes.data?,
        None => connect.password?,
    };
    Some(Login::Password {
        username: connect.username.unwrap_or_default().to_owned(),
        password: Password::new(password),
        client_id: connect.client_id.to_owned(),
    })
}

/// An identifier for a client without one, owned by this shard so that its connection stays here [MQTT5-3.1.3-6].
fn assigned_client_id(tenant: &str, plane: &mut Plane) -> Box<str> {
    loop {
        plane.assigned_ids += 1;
        // Unique over shards and restarts: the shard, the clock, a count.
        let id = format!("auto-{:x}-{:x}-{:x}", plane.index.0, plane.now_ms, plane.assigned_ids);
        if owner(&[tenant, &id], plane.outbox.shards()) == plane.index {
            return id.into();
        }
    }
}

/// Reasons of Hono's MQTT adapter (facts of its connection handling, MQTT 5 column).
fn connack_reason(refusal: Refusal) -> ReasonCode {
    match refusal {
        Refusal::BadCredentials => ReasonCode::BAD_USER_NAME_OR_PASSWORD,
        Refusal::Forbidden | Refusal::NotFound => ReasonCode::NOT_AUTHORIZED,
        Refusal::Unavailable => ReasonCode::SERVER_UNAVAILABLE,
    }
}

fn put_connack_refusal(
    level: ProtocolLevel,
    reason: ReasonCode,
    reference: Option<&str>,
    out: &mut Vec<u8>,
) {
    if level == ProtocolLevel::V311 {
        return encode_connack(false, return_code(reason), out);
    }
    let mut properties = PropertyBuffer::new(PropertyOwner::ConnAck);
    let reason = match reference {
        Some(reference) if properties.push(Property::ServerReference(reference)).is_ok() => {
            ReasonCode::USE_ANOTHER_SERVER
        }
        _ => reason,
    };
    let _ = v5::encode_connack(false, reason, properties.properties(), out);
}

/// The same in the words of 3.1.1 (table 3.1).
fn return_code(reason: ReasonCode) -> ConnectReturnCode {
    match reason {
        ReasonCode::CLIENT_IDENTIFIER_NOT_VALID => ConnectReturnCode::IdentifierRejected,
        ReasonCode::SERVER_UNAVAILABLE => ConnectReturnCode::ServerUnavailable,
        ReasonCode::BAD_USER_NAME_OR_PASSWORD => ConnectReturnCode::BadUserNameOrPassword,
        _ => ConnectReturnCode::NotAuthorized,
    }
}
