//! One AMQP connection: its login, its links, its end.

use super::upload::{Arrived, Upload, Verdict};
use crate::connections::Hold;
use crate::flow::Step;
use crate::identity::{Adapter, Authorised, Login, Password, Principal, Refusal, Role};
use crate::limits::{AMQP_ASSEMBLED_MESSAGES_MAX, AMQP_UNANSWERED_MAX, AMQP_UPLOAD_CREDIT};
use crate::mqtt::Counted;
use crate::plane::Plane;
use crate::ports::Ticket;
use crate::turn::{Turn, Wire};
use fulcrum_amqp::{
    Attach, Error, ReceiverSettleMode, Role as LinkRole, SaslCode, SaslInit, SenderSettleMode,
    Symbol, Symbols, Target, condition,
};
use fulcrum_links::{Connection, Event, LinkRef, SessionId, Terms};
use fulcrum_ring::Io;
use std::collections::HashMap;
use std::time::{Duration, Instant};

const PLAIN: Symbol<'static> = Symbol::literal("PLAIN");
const EXTERNAL: Symbol<'static> = Symbol::literal("EXTERNAL");
/// What is offered to who has shown no certificate, and to who has.
const BY_PASSWORD: &[Symbol<'static>] = &[PLAIN];
const BY_CERTIFICATE: &[Symbol<'static>] = &[EXTERNAL, PLAIN];
/// Messages may say for themselves where they go.
const ANONYMOUS_RELAY: Symbol<'static> = Symbol::literal("ANONYMOUS-RELAY");
/// Hono's word for what a client should not have asked.
pub(super) const BAD_REQUEST: Symbol<'static> = Symbol::literal("hono:bad-request");

/// One AMQP connection.
pub(crate) struct Session {
    /// Made with the first bytes: what is offered for a login depends on the transport's handshake.
    connection: Option<Box<Connection>>,
    principal: Option<Principal>,
    /// When what it has shown is void.
    valid_until: Option<Instant>,
    /// The peer has opened the connection, and may have links.
    is_open: bool,
    /// Counted against the tenant's connections.
    counted: Option<Counted>,
    uploads: HashMap<LinkRef, Upload>,
    /// Devices a gateway may act for, and the registry's version when that was said.
    pub(super) authorised: Authorised,
    /// The registry's refusal, for the message that waits.
    pub(super) refusal: Option<Refusal>,
    pub(super) asking_since: Option<Instant>,
    pub(super) asked_version: u64,
    /// A message that has to wait, and the bytes of the frame that completed it, which are at the front of the input.
    waiting: Option<(Arrived<'static>, usize)>,
    /// Deliveries whose fate is not known yet, by the number it will come with.
    pub(super) unanswered: HashMap<u64, (LinkRef, u32)>,
    pub(super) last_number: u64,
}

impl Session {
    pub(crate) fn new() -> Session {
        Session {
            connection: None,
            principal: None,
            valid_until: None,
            is_open: false,
            counted: None,
            uploads: HashMap::new(),
            authorised: Authorised::default(),
            refusal: None,
            asking_since: None,
            asked_version: 0,
            waiting: None,
            unanswered: HashMap::new(),
            last_number: 0,
        }
    }

    /// Who it is, once that is known.
    pub(crate) fn principal(&self) -> Option<&Principal> {
        self.principal.as_ref()
    }

    /// When the peer, or the registry, will have been silent for too long, or has to see that this end is alive, or what it
    /// has shown is void.
    pub(crate) fn deadline(
        &self,
        last_input: Instant,
        connect_timeout: Duration,
    ) -> Option<Instant> {
        match (self.asking_since, &self.connection) {
            (Some(since), _) => Some(since + connect_timeout),
            (None, Some(connection)) if self.is_open => {
                connection.next_timeout().into_iter().chain(self.valid_until).min()
            }
            _ => Some(last_input + connect_timeout),
        }
    }

    /// Whether what the peer has shown is void at `now`.
    pub(crate) fn is_void(&self, now: Instant) -> bool {
        self.valid_until.is_some_and(|until| until <= now)
    }

    /// The peer was silent because it was not read from.
    pub(crate) fn excuse_silence(&mut self, now: Instant) {
        if let Some(connection) = &mut self.connection {
            connection.excuse_silence(now);
        }
    }

    /// Shows a patient peer that this end is alive; false if the peer is given up.
    pub(crate) fn tick(&mut self, now: Instant, output: &mut Vec<u8>) -> bool {
        match &mut self.connection {
            Some(connection) if self.is_open => connection.handle_timeout(now, output).is_none(),
            _ => true,
        }
    }

    /// Takes the header or frame at the front of `bytes`.
    pub(crate) fn step(&mut self, turn: &mut Turn<'_, '_>, bytes: &[u8]) -> Step {
        if let Some((arrived, used)) = self.waiting.take() {
            return self.upload(turn, arrived, used);
        }
        let connection = self.connection.get_or_insert_with(|| {
            let mechanisms = match turn.wire.certificate_login() {
                Some(_) => BY_CERTIFICATE,
                None => BY_PASSWORD,
            };
            let settings = std::sync::Arc::clone(&turn.plane.amqp);
            Box::new(Connection::server(settings, mechanisms, turn.plane.now))
        });
        let Some(output) = turn.wire.output(turn.io) else { return Step::End };
        let read = connection.read(bytes, turn.plane.now, output);
        // Nothing is sent by this end that it would have to hear of.
        connection.leftovers().for_each(drop);
        if read.used == 0 {
            return Step::NeedMore { at_least: bytes.len() + 1 };
        }
        let step = match read.event {
            Some(event) => self.handle(turn, event, read.used),
            None => Step::Used(read.used),
        };
        match &self.connection {
            Some(connection) if connection.is_over() => Step::End,
            _ => step,
        }
    }

    fn handle(&mut self, turn: &mut Turn<'_, '_>, event: Event<'_>, used: usize) -> Step {
        match event {
            Event::SaslInit(init) => return self.log_in(turn, &init, used),
            Event::Opened(_) => self.opened(turn),
            Event::LinkAsked { link, attach, stolen } => {
                if let Some(stolen) = stolen {
                    self.uploads.remove(&stolen);
                }
                self.attach(turn, link, &attach);
            }
            Event::LinkDetached { link, .. } => drop(self.uploads.remove(&link)),
            Event::SessionEnded { session, .. } => self.forget_session(session),
            Event::Transfer(arrival) => {
                let Some(upload) = self.uploads.get_mut(&arrival.link) else {
                    return Step::Used(used);
                };
                let assembled = upload.assemble(&arrival);
                if let Some(arrived) = assembled {
                    return self.upload(turn, arrived, used);
                }
                self.bound_assembly(turn, arrival.link);
            }
            Event::Aborted { link, .. } => {
                if let Some(upload) = self.uploads.get_mut(&link) {
                    upload.abandon();
                }
                self.replenish(turn.io, &mut turn.wire, link);
            }
            Event::Broken(violation) => {
                turn.plane.metrics.protocol_errors.add(1);
                tracing::debug!(%violation, "an AMQP peer broke a rule");
                match violation.scope {
                    fulcrum_links::Scope::Link(link) => drop(self.uploads.remove(&link)),
                    fulcrum_links::Scope::Session(session) => self.forget_session(session),
                    fulcrum_links::Scope::Connection => {
                        self.uploads.clear();
                        return Step::End;
                    }
                }
            }
            // The rest is a client's, or about deliveries this end would have sent.
            _ => {}
        }
        Step::Used(used)
    }

    fn forget_session(&mut self, session: SessionId) {
        self.uploads.retain(|link, _| link.session != session);
    }

    // ---- login ------------------------------------------------------------------------------------------------------

    fn log_in(&mut self, turn: &mut Turn<'_, '_>, init: &SaslInit<'_>, used: usize) -> Step {
        let response = init.initial_response.map_or(&[][..], |bytes| bytes.0);
        let login = match init.mechanism {
            PLAIN => plain_login(response),
            EXTERNAL => turn.wire.certificate_login(),
            _ => None,
        };
        let refusal = match login {
            None => Refusal::BadCredentials,
            Some(login) => {
                let ticket = Ticket(turn.wire.key.0);
                self.asked_version = turn.plane.identity_version;
                match turn.plane.registry.authenticate(ticket, Adapter::Amqp, login) {
                    Ok(Some(known)) => {
                        self.authenticated(turn, Ok(known));
                        return Step::Used(used);
                    }
                    Ok(None) => {
                        self.asking_since = Some(turn.plane.now);
                        return Step::UsedThenHold(used, Hold::Registry);
                    }
                    Err(_) => Refusal::Unavailable,
                }
            }
        };
        turn.plane.count_refusal(refusal);
        self.refuse_login(turn.io, &mut turn.wire, refusal);
        Step::End
    }

    fn refuse_login(&mut self, io: &mut Io<'_>, wire: &mut Wire<'_>, refusal: Refusal) {
        let code = match refusal {
            Refusal::Unavailable => SaslCode::SysTemp,
            Refusal::BadCredentials | Refusal::Forbidden | Refusal::NotFound => SaslCode::Auth,
        };
        if let (Some(connection), Some(output)) = (&mut self.connection, wire.output(io)) {
            connection.outcome(code, None, output);
        }
    }

    /// The registry's answer to the login; whether the connection goes on.
    pub(crate) fn authenticated(
        &mut self,
        turn: &mut Turn<'_, '_>,
        result: Result<Principal, Refusal>,
    ) -> bool {
        self.asking_since = None;
        let principal = match result {
            Ok(principal) => principal,
            Err(refusal) => {
                turn.plane.count_refusal(refusal);
                self.refuse_login(turn.io, &mut turn.wire, refusal);
                return false;
            }
        };
        self.valid_until = principal.valid_until_ms.map(|until_ms| {
            turn.plane.now + Duration::from_millis(until_ms.saturating_sub(turn.plane.now_ms))
        });
        self.principal = Some(principal);
        turn.plane.metrics.connections_authenticated.add(1);
        if let (Some(connection), Some(output)) = (&mut self.connection, turn.wire.output(turn.io))
        {
            connection.outcome(SaslCode::Ok, None, output);
        }
        if self.asked_version != turn.plane.identity_version {
            // It may have been evicted before it was there.
            turn.plane.recheck(turn.wire.key);
        }
        true
    }

    /// The registry has not answered in time.
    pub(crate) fn registry_is_silent(&mut self, wire: &mut Wire<'_>, io: &mut Io<'_>) {
        if self.principal.is_none() {
            return self.refuse_login(io, wire, Refusal::Unavailable);
        }
        if let (Some(connection), Some(output)) = (&mut self.connection, wire.output(io)) {
            let text = "the registry is busy; try again";
            connection.close(Some(Error::new(condition::RESOURCE_LIMIT_EXCEEDED, text)), output);
        }
    }

    /// The peer has opened the connection.
    fn opened(&mut self, turn: &mut Turn<'_, '_>) {
        let counted = self.principal.as_ref().map(|own| Counted::begin(turn.plane, own));
        let refused = !matches!(counted, Some(Ok(_)));
        self.counted = counted.and_then(|counted| counted.ok().flatten());
        let (Some(connection), Some(output)) = (&mut self.connection, turn.wire.output(turn.io))
        else {
            return;
        };
        connection.open(None, &[ANONYMOUS_RELAY], output);
        if refused {
            turn.plane.metrics.refused_connection_limit.add(1);
            let text = "the tenant has as many connections as it may";
            connection.close(Some(Error::new(condition::UNAUTHORIZED_ACCESS, text)), output);
            return;
        }
        self.is_open = true;
        // From here on the agreed time-outs count.
        turn.plane.watching.push(turn.wire.key);
    }

    // ---- links ------------------------------------------------------------------------------------------------------

    /// Devices upload on links without an address: each message says where it goes (Hono, AMQP adapter).
    fn attach(&mut self, turn: &mut Turn<'_, '_>, link: LinkRef, attach: &Attach<'_>) {
        let is_device = self.principal().is_some_and(|principal| principal.role == Role::Device);
        let refused = match (&attach.target, attach.role) {
            _ if !is_device => Some(Error::new(
                condition::UNAUTHORIZED_ACCESS,
                "this listener's AMQP is for devices; applications use MQTT here or the cloud",
            )),
            (_, LinkRole::Receiver) => Some(Error::new(
                condition::NOT_IMPLEMENTED,
                "nothing is sent over AMQP yet; commands come over MQTT",
            )),
            (Some(Target::Node(node)), _) if node.dynamic => {
                Some(Error::new(condition::NOT_IMPLEMENTED, "no nodes are made for links"))
            }
            (Some(Target::Node(node)), _) if node.address.is_some_and(|at| !at.0.is_empty()) => {
                Some(Error::new(
                    BAD_REQUEST,
                    "a link devices send on has no target address; put it into each message's 'to'",
                ))
            }
            (Some(Target::Coordinator(_)), _) => {
                Some(Error::new(condition::NOT_IMPLEMENTED, "there are no transactions"))
            }
            _ => None,
        };
        let (Some(connection), Some(output)) = (&mut self.connection, turn.wire.output(turn.io))
        else {
            return;
        };
        if let Some(error) = refused {
            return connection.refuse(link, error, output);
        }
        let terms = Terms {
            source: attach.source,
            target: attach.target,
            sender_settles: attach.snd_settle_mode,
            receiver_settles: ReceiverSettleMode::First,
            message_bytes_max: turn.plane.settings.message_bytes_max as u64,
            offered_capabilities: Symbols::NONE,
            desired_capabilities: Symbols::NONE,
        };
        if connection.accept(link, &terms, output).is_err() {
            // What the peer said of its ends does not fit its own frames: it hears only what it must.
            let terms = Terms { source: None, sender_settles: SenderSettleMode::Mixed, ..terms };
            if connection.accept(link, &terms, output).is_err() {
                let text = "the attach does not fit the frames the peer takes";
                return connection.refuse(
                    link,
                    Error::new(condition::FRAME_SIZE_TOO_SMALL, text),
                    output,
                );
            }
        }
        connection.set_credit(link, AMQP_UPLOAD_CREDIT, false, output);
        self.uploads.insert(link, Upload::default());
    }

    /// Lets a device send more, as far as its messages are answered.
    pub(super) fn replenish(&mut self, io: &mut Io<'_>, wire: &mut Wire<'_>, link: LinkRef) {
        let Some(upload) = self.uploads.get(&link) else { return };
        let Some(connection) = &mut self.connection else { return };
        let room = AMQP_UPLOAD_CREDIT.saturating_sub(upload.unanswered);
        if connection.credit(link) + AMQP_UPLOAD_CREDIT / 2 <= room
            && let Some(output) = wire.output(io)
        {
            connection.set_credit(link, room, false, output);
        }
    }

    /// Messages that come in pieces take only so much memory together.
    fn bound_assembly(&mut self, turn: &mut Turn<'_, '_>, link: LinkRef) {
        let held: usize = self.uploads.values().map(Upload::assembled_bytes).sum();
        let most = AMQP_ASSEMBLED_MESSAGES_MAX * turn.plane.settings.message_bytes_max;
        if held <= most {
            return;
        }
        self.uploads.remove(&link);
        if let (Some(connection), Some(output)) = (&mut self.connection, turn.wire.output(turn.io))
        {
            let text = "too many large messages at the same time on this connection";
            let error = Error::new(condition::RESOURCE_LIMIT_EXCEEDED, text);
            connection.detach(link, true, Some(error), output);
        }
    }

    // ---- messages ---------------------------------------------------------------------------------------------------

    fn upload(&mut self, turn: &mut Turn<'_, '_>, arrived: Arrived<'_>, used: usize) -> Step {
        if self.unanswered.len() >= AMQP_UNANSWERED_MAX {
            self.waiting = Some((arrived.into_owned(), used));
            return Step::Again(Hold::Pipeline);
        }
        match self.take_message(turn, &arrived) {
            Verdict::Known(state) => {
                self.settle(turn.io, &mut turn.wire, arrived.link, arrived.delivery, state);
            }
            Verdict::Owed => {
                if let Some(upload) = self.uploads.get_mut(&arrived.link) {
                    upload.unanswered += 1;
                }
            }
            Verdict::Wait(hold) => {
                self.waiting = Some((arrived.into_owned(), used));
                return Step::Again(hold);
            }
        }
        self.replenish(turn.io, &mut turn.wire, arrived.link);
        Step::Used(used)
    }

    /// Settles a delivery.
    fn settle(
        &mut self,
        io: &mut Io<'_>,
        wire: &mut Wire<'_>,
        link: LinkRef,
        delivery: u32,
        state: fulcrum_amqp::Outcome<'static>,
    ) {
        if let (Some(connection), Some(output)) = (&mut self.connection, wire.output(io)) {
            let state = Some(fulcrum_amqp::DeliveryState::Outcome(state));
            connection.dispose(link.session, delivery, state, true, output);
        }
    }

    /// What became of a message: accepted, or released when nobody took it.
    pub(crate) fn answer(
        &mut self,
        io: &mut Io<'_>,
        wire: &mut Wire<'_>,
        number: u64,
        accepted: bool,
    ) {
        let Some((link, delivery)) = self.unanswered.remove(&number) else { return };
        let state = match accepted {
            true => fulcrum_amqp::Outcome::Accepted,
            false => fulcrum_amqp::Outcome::Released,
        };
        self.settle(io, wire, link, delivery, state);
        if let Some(upload) = self.uploads.get_mut(&link) {
            upload.unanswered = upload.unanswered.saturating_sub(1);
        }
        self.replenish(io, wire, link);
    }

    /// Whether a connection on hold for its answers may go on.
    pub(crate) fn has_room(&self) -> bool {
        self.unanswered.len() <= AMQP_UNANSWERED_MAX / 2
    }

    /// Answers that were gathered go into the output.
    pub(crate) fn flush(&mut self, io: &mut Io<'_>, wire: &mut Wire<'_>) {
        if let (Some(connection), Some(output)) = (&mut self.connection, wire.output(io)) {
            connection.flush(output);
        }
    }

    /// The registry's answer about a device the peer wants to act for; the message that asked is looked at again.
    pub(crate) fn authorised(&mut self, device: String, result: Result<(), Refusal>) {
        self.asking_since = None;
        match result {
            Ok(()) => self.authorised.note(device, self.asked_version),
            Err(refusal) => self.refusal = Some(refusal),
        }
    }

    // ---- the end ----------------------------------------------------------------------------------------------------

    /// Whether messages wait for their answer.
    pub(crate) fn owes_answers(&self) -> bool {
        !self.unanswered.is_empty()
    }

    /// Says goodbye, and why.
    pub(crate) fn say_goodbye(&mut self, text: &str, output: &mut Vec<u8>) {
        if let Some(connection) = &mut self.connection
            && self.is_open
        {
            connection.close(Some(Error::new(condition::CONNECTION_FORCED, text)), output);
        }
    }

    /// The connection is gone.
    pub(crate) fn closed(&mut self, plane: &Plane) {
        if self.principal.is_some() {
            let authenticated = &plane.metrics.connections_authenticated;
            authenticated.set(authenticated.value().saturating_sub(1));
        }
    }
}

/// User name and password of PLAIN (RFC 4616): `authzid NUL authcid NUL password`. Acting for another identity than the
/// one that logs in is not offered.
fn plain_login(response: &[u8]) -> Option<Login> {
    let mut parts = response.splitn(3, |byte| *byte == 0);
    let (other, username, password) = (parts.next()?, parts.next()?, parts.next()?);
    let username = std::str::from_utf8(username).ok()?;
    if !other.is_empty() && other != username.as_bytes() {
        return None;
    }
    let (username, password) = (username.to_owned(), Password::new(password));
    Some(Login::Password { username, password, client_id: String::new() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_response_has_three_parts_and_speaks_for_itself() {
        let login = |bytes: &[u8]| match plain_login(bytes)? {
            Login::Password { username, password, .. } => {
                Some((username, password.expose().to_vec()))
            }
            Login::Certificate { .. } => None,
        };
        let expected = Some(("d@t".to_owned(), b"a\0b".to_vec()));
        assert_eq!(login(b"\0d@t\0a\0b"), expected);
        assert_eq!(login(b"d@t\0d@t\0a\0b"), expected);
        for bytes in [&b""[..], b"\0d@t", b"other\0d@t\0x", b"\0\xff\0x"] {
            assert_eq!(login(bytes), None, "{bytes:?}");
        }
    }
}
