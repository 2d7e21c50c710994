//! One connection: the layers at its beginning, its frames, its end.

use std::sync::Arc;
use std::time::{Duration, Instant};

use fulcrum_amqp::{
    Begin, Close, Decoded, End, Error, Frame, FrameContext, Negotiation, Open, Performative,
    ProtocolHeader, Sasl, SaslCode, Symbol, Symbols, condition, decode_frame, encode_frame,
    limits::PROTOCOL_HEADER_BYTES,
};

use crate::event::{Event, Known, Scope, SessionId, Violation};
use crate::limits::{FRAME_BYTES_MIN, IDLE_TIME_OUT_MIN_MS};
use crate::session::{Session, Surroundings};
use crate::settings::Settings;

/// A connection's state. See the crate's documentation for how to drive it.
#[derive(Debug)]
pub struct Connection {
    pub(crate) settings: Arc<Settings>,
    phase: Phase,
    /// What a server offers; empty where it asks for no login.
    mechanisms: &'static [Symbol<'static>],
    is_client: bool,
    is_open_sent: bool,
    is_open_heard: bool,
    pub(crate) peer: Peer,
    /// By channel.
    pub(crate) sessions: Vec<Option<Session>>,
    /// The peer's channels and this end's, by the peer's.
    channels: Vec<(u16, u16)>,
    pub(crate) leftovers: Vec<Known>,
    last_input: Instant,
    heartbeat_at: Option<Instant>,
    has_written: bool,
}

/// What the peer's open said.
#[derive(Debug)]
pub(crate) struct Peer {
    pub frame_bytes_max: usize,
    channel_max: u16,
    /// A frame has to leave within this.
    heartbeat: Option<Duration>,
}

/// Which bytes come next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// A protocol header: the first one.
    Header,
    /// Of SASL: a server's `init` is the client's mechanisms.
    Sasl(SaslStage),
    /// The header behind a login.
    HeaderBehindSasl,
    Frames,
    /// A close was sent; what comes before the peer's is ignored.
    Closing,
    Over,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SaslStage {
    /// Server: init. Client: mechanisms.
    First,
    /// The caller has to say something; the peer has to wait.
    Caller,
    /// Server: a response. Client: a challenge or the outcome.
    Next,
}

/// What [`Connection::read`] made of the front of the input.
#[derive(Debug, PartialEq, Eq)]
pub struct Step<'i> {
    /// How many bytes it took: the rest is to be given again, with more behind it if it was none.
    pub used: usize,
    /// What they were, where that is something for the caller.
    pub event: Option<Event<'i>>,
}

/// How often a sign of life is thought of within the time a peer allows: three times.
const HEARTBEATS: u32 = 3;

impl Connection {
    /// The end that was connected to. With `mechanisms`, peers have to log in; without, none can, and they need not.
    #[must_use]
    pub fn server(
        settings: Arc<Settings>,
        mechanisms: &'static [Symbol<'static>],
        now: Instant,
    ) -> Self {
        Self::new(settings, mechanisms, false, now)
    }

    /// The end that connects. It says its header at once, of SASL if it wants to log in.
    #[must_use]
    pub fn client(settings: Arc<Settings>, logs_in: bool, now: Instant, out: &mut Vec<u8>) -> Self {
        let connection = Self::new(settings, &[], true, now);
        let header = if logs_in { ProtocolHeader::SASL } else { ProtocolHeader::AMQP };
        out.extend_from_slice(&header.encode());
        Self { phase: if logs_in { Phase::Header } else { Phase::HeaderBehindSasl }, ..connection }
    }

    fn new(
        settings: Arc<Settings>,
        mechanisms: &'static [Symbol<'static>],
        is_client: bool,
        now: Instant,
    ) -> Self {
        Self {
            settings,
            phase: Phase::Header,
            mechanisms,
            is_client,
            is_open_sent: false,
            is_open_heard: false,
            peer: Peer {
                frame_bytes_max: FRAME_BYTES_MIN as usize,
                channel_max: 0,
                heartbeat: None,
            },
            sessions: Vec::new(),
            channels: Vec::new(),
            leftovers: Vec::new(),
            last_input: now,
            heartbeat_at: None,
            has_written: false,
        }
    }

    /// Takes what is at the front of the input, one header or frame. `used` 0 and no event: more bytes are needed, or the
    /// caller has to answer a login first.
    pub fn read<'i>(&mut self, input: &'i [u8], now: Instant, out: &mut Vec<u8>) -> Step<'i> {
        let before = out.len();
        let step = match self.phase {
            Phase::Header | Phase::HeaderBehindSasl => self.read_header(input, out),
            Phase::Sasl(SaslStage::Caller) => Step { used: 0, event: None },
            Phase::Sasl(stage) => self.read_sasl(stage, input, out),
            Phase::Frames | Phase::Closing => self.read_frame(input, out),
            Phase::Over => Step { used: input.len(), event: None },
        };
        if step.used > 0 {
            self.last_input = now;
        }
        self.note_output(before, out);
        step
    }

    /// Whether nothing comes or goes any more: the socket is to be closed when the output is sent.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.phase == Phase::Over
    }

    /// When [`Connection::handle_timeout`] has something to do.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Instant> {
        let silence = self.idle_time_out().map(|time| self.last_input + time);
        silence.into_iter().chain(self.heartbeat_at).min()
    }

    /// The peer was silent because it was not read from: its time counts anew.
    pub fn excuse_silence(&mut self, now: Instant) {
        self.last_input = now;
    }

    /// Gives up a silent peer, and shows a patient one that this end is alive (part 2, 2.4.5).
    pub fn handle_timeout(&mut self, now: Instant, out: &mut Vec<u8>) -> Option<Event<'static>> {
        if self.phase == Phase::Over {
            return None;
        }
        if self.idle_time_out().is_some_and(|time| self.last_input + time <= now) {
            let description = "nothing came for longer than was agreed";
            return Some(self.break_off(
                Violation::of_connection(condition::RESOURCE_LIMIT_EXCEEDED, description),
                out,
            ));
        }
        if let (Some(due), Some(time)) = (self.heartbeat_at, self.peer.heartbeat)
            && due <= now
        {
            if !std::mem::take(&mut self.has_written) && self.phase == Phase::Frames {
                let _ = encode_frame(&Frame::Empty { channel: 0 }, FRAME_BYTES_MIN as usize, out);
            }
            self.heartbeat_at = Some(now + time / HEARTBEATS);
        }
        None
    }

    /// Opens this end. `capabilities` are the extensions it offers.
    pub fn open(&mut self, hostname: Option<&str>, capabilities: &[Symbol<'_>], out: &mut Vec<u8>) {
        if self.is_open_sent || !matches!(self.phase, Phase::Frames) {
            return;
        }
        self.is_open_sent = true;
        let settings = Arc::clone(&self.settings);
        let open = Open {
            container_id: &settings.container_id,
            hostname,
            max_frame_size: settings.frame_bytes_max,
            channel_max: settings.sessions_max - 1,
            idle_time_out: settings.idle_time_out_ms.map(|time| (time / 2).max(1)),
            outgoing_locales: Symbols::NONE,
            incoming_locales: Symbols::NONE,
            offered_capabilities: Symbols::of(capabilities),
            desired_capabilities: Symbols::NONE,
            properties: None,
        };
        let frame = Frame::Amqp {
            channel: 0,
            performative: Performative::Open(Box::new(open)),
            payload: &[],
        };
        let before = out.len();
        // A peer takes an open of any size its own open does not forbid; before that, this one is short.
        let _ = encode_frame(&frame, usize::MAX, out);
        self.note_output(before, out);
    }

    /// Closes this end, because of `error` if something was wrong. An end that was not opened yet is opened first, as the
    /// peer expects (part 2, 2.4.3).
    pub fn close(&mut self, error: Option<Error<'_>>, out: &mut Vec<u8>) {
        if !matches!(self.phase, Phase::Frames) {
            self.phase = Phase::Over;
            return;
        }
        self.open(None, &[], out);
        self.write_gathered_of_all(out);
        self.abandon_all();
        self.phase = Phase::Closing;
        let frame = Frame::Amqp {
            channel: 0,
            performative: Performative::Close(Close { error }),
            payload: &[],
        };
        let before = out.len();
        let _ = encode_frame(&frame, usize::MAX, out);
        self.note_output(before, out);
    }

    /// Deliveries this end sent that nobody will settle any more, since their link, session or connection is no more. To
    /// be taken after each event that says so.
    pub fn leftovers(&mut self) -> impl Iterator<Item = Known> {
        self.leftovers.drain(..)
    }

    fn idle_time_out(&self) -> Option<Duration> {
        let time = self.settings.idle_time_out_ms.filter(|_| self.phase != Phase::Over)?;
        Some(Duration::from_millis(u64::from(time)))
    }

    fn note_output(&mut self, before: usize, out: &[u8]) {
        self.has_written |= out.len() > before;
    }

    pub(crate) fn wrote(&mut self) {
        self.has_written = true;
    }
}

// ---- the layers before the frames -----------------------------------------------------------------------------------

impl Connection {
    fn read_header<'i>(&mut self, input: &'i [u8], out: &mut Vec<u8>) -> Step<'i> {
        let header = match ProtocolHeader::decode(input) {
            Ok(None) => return Step { used: 0, event: None },
            Ok(Some(header)) => header,
            Err(error) => {
                let wanted = self.wanted_header();
                if !self.is_client {
                    // Part 2, 2.2: so it learns what is spoken here.
                    out.extend_from_slice(&wanted.encode());
                }
                self.phase = Phase::Over;
                let broken = Event::Broken(Violation::of_bytes(&error));
                return Step { used: input.len(), event: Some(broken) };
            }
        };
        let wanted = self.wanted_header();
        match header.negotiate(wanted, &[]) {
            Negotiation::Refuse(wanted) => {
                if !self.is_client {
                    out.extend_from_slice(&wanted.encode());
                }
                self.phase = Phase::Over;
                let description = match wanted == ProtocolHeader::SASL {
                    true => "a login by SASL comes first",
                    false => "another protocol than AMQP 1.0",
                };
                let condition = condition::CONNECTION_FRAMING_ERROR;
                let broken = Event::Broken(Violation::of_connection(condition, description));
                Step { used: input.len(), event: Some(broken) }
            }
            Negotiation::Accept(header) => {
                if !self.is_client {
                    out.extend_from_slice(&header.encode());
                }
                if header == ProtocolHeader::SASL {
                    if !self.is_client {
                        let mechanisms = fulcrum_amqp::SaslMechanisms {
                            sasl_server_mechanisms: Symbols::of(self.mechanisms),
                        };
                        self.put_sasl(Sasl::Mechanisms(mechanisms), out);
                    }
                    self.phase = Phase::Sasl(SaslStage::First);
                } else {
                    self.phase = Phase::Frames;
                }
                Step { used: PROTOCOL_HEADER_BYTES, event: None }
            }
        }
    }

    fn wanted_header(&self) -> ProtocolHeader {
        let logs_in = self.is_client || !self.mechanisms.is_empty();
        match self.phase == Phase::Header && logs_in {
            true => ProtocolHeader::SASL,
            false => ProtocolHeader::AMQP,
        }
    }

    fn read_sasl<'i>(&mut self, stage: SaslStage, input: &'i [u8], out: &mut Vec<u8>) -> Step<'i> {
        let (frame, used) = match decode_frame(input, &FrameContext::SASL) {
            Ok(Decoded::NeedMore { .. }) => return Step { used: 0, event: None },
            Ok(Decoded::Frame { frame, used }) => (frame, used),
            Err(error) => {
                self.phase = Phase::Over;
                let broken = Event::Broken(Violation::of_bytes(&error));
                return Step { used: input.len(), event: Some(broken) };
            }
        };
        let event = match (frame, self.is_client, stage) {
            (Frame::Sasl(Sasl::Init(init)), false, SaslStage::First) => Event::SaslInit(init),
            (Frame::Sasl(Sasl::Response(response)), false, SaslStage::Next) => {
                Event::SaslResponse(response)
            }
            (Frame::Sasl(Sasl::Mechanisms(mechanisms)), true, SaslStage::First) => {
                Event::SaslMechanisms(mechanisms)
            }
            (Frame::Sasl(Sasl::Challenge(challenge)), true, SaslStage::Next) => {
                Event::SaslChallenge(challenge)
            }
            (Frame::Sasl(Sasl::Outcome(outcome)), true, SaslStage::Next) => {
                if outcome.code == SaslCode::Ok {
                    out.extend_from_slice(&ProtocolHeader::AMQP.encode());
                    self.phase = Phase::HeaderBehindSasl;
                } else {
                    self.phase = Phase::Over;
                }
                return Step { used, event: Some(Event::SaslOutcome(outcome)) };
            }
            _ => {
                self.phase = Phase::Over;
                let (condition, description) =
                    (condition::ILLEGAL_STATE, "a SASL frame that is not due");
                let broken = Event::Broken(Violation::of_connection(condition, description));
                return Step { used: input.len(), event: Some(broken) };
            }
        };
        self.phase = Phase::Sasl(SaslStage::Caller);
        Step { used, event: Some(event) }
    }

    /// Server: asks the client for more.
    pub fn challenge(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        if self.phase == Phase::Sasl(SaslStage::Caller) {
            let challenge =
                fulcrum_amqp::SaslChallenge { challenge: fulcrum_amqp::SecretBytes(bytes) };
            self.put_sasl(Sasl::Challenge(challenge), out);
            self.phase = Phase::Sasl(SaslStage::Next);
        }
    }

    /// Server: says whether the client is who it says it is. If it is not, the connection is over.
    pub fn outcome(&mut self, code: SaslCode, bytes: Option<&[u8]>, out: &mut Vec<u8>) {
        if self.phase == Phase::Sasl(SaslStage::Caller) {
            let additional_data = bytes.map(fulcrum_amqp::SecretBytes);
            self.put_sasl(Sasl::Outcome(fulcrum_amqp::SaslOutcome { code, additional_data }), out);
            self.phase = match code {
                SaslCode::Ok => Phase::HeaderBehindSasl,
                _ => Phase::Over,
            };
        }
    }

    /// Client: chooses a mechanism.
    pub fn choose(
        &mut self,
        mechanism: Symbol<'_>,
        initial_response: Option<&[u8]>,
        out: &mut Vec<u8>,
    ) {
        if self.phase == Phase::Sasl(SaslStage::Caller) {
            let initial_response = initial_response.map(fulcrum_amqp::SecretBytes);
            let init = fulcrum_amqp::SaslInit { mechanism, initial_response, hostname: None };
            self.put_sasl(Sasl::Init(init), out);
            self.phase = Phase::Sasl(SaslStage::Next);
        }
    }

    /// Client: answers a challenge.
    pub fn respond(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        if self.phase == Phase::Sasl(SaslStage::Caller) {
            let response =
                fulcrum_amqp::SaslResponse { response: fulcrum_amqp::SecretBytes(bytes) };
            self.put_sasl(Sasl::Response(response), out);
            self.phase = Phase::Sasl(SaslStage::Next);
        }
    }

    fn put_sasl(&mut self, sasl: Sasl<'_>, out: &mut Vec<u8>) {
        let written = encode_frame(&Frame::Sasl(sasl), FRAME_BYTES_MIN as usize, out);
        debug_assert!(written.is_ok(), "{written:?}");
    }
}

// ---- frames ---------------------------------------------------------------------------------------------------------

impl Connection {
    fn read_frame<'i>(&mut self, input: &'i [u8], out: &mut Vec<u8>) -> Step<'i> {
        let context = FrameContext::amqp(self.settings.frame_bytes_max as usize);
        let (frame, used) = match decode_frame(input, &context) {
            Ok(Decoded::NeedMore { .. }) => return Step { used: 0, event: None },
            Ok(Decoded::Frame { frame, used }) => (frame, used),
            Err(error) => {
                let event = self.break_off(Violation::of_bytes(&error), out);
                self.phase = Phase::Over;
                return Step { used: input.len(), event: Some(event) };
            }
        };
        let Frame::Amqp { channel, performative, payload } = frame else {
            return Step { used, event: None };
        };
        match self.take(channel, performative, payload, out) {
            Ok(event) => Step { used, event },
            Err(violation) => Step { used, event: Some(self.break_off(violation, out)) },
        }
    }

    fn take<'i>(
        &mut self,
        channel: u16,
        performative: Performative<'i>,
        payload: &'i [u8],
        out: &mut Vec<u8>,
    ) -> Result<Option<Event<'i>>, Violation> {
        if let Performative::Close(close) = performative {
            if self.phase == Phase::Frames {
                self.close(None, out);
            }
            self.phase = Phase::Over;
            return Ok(Some(Event::Closed { error: close.error }));
        }
        if self.phase == Phase::Closing {
            return Ok(None);
        }
        let illegal = |text| Violation::of_connection(condition::ILLEGAL_STATE, text);
        if let Performative::Open(open) = performative {
            if self.is_open_heard {
                return Err(illegal("the connection is open already"));
            }
            return self.hear_open(open).map(Some);
        }
        if !self.is_open_heard {
            return Err(illegal("an open comes first"));
        }
        if let Performative::Begin(begin) = performative {
            return self.take_begin(channel, &begin, out);
        }
        let Ok(place) = self.channels.binary_search_by_key(&channel, |(remote, _)| *remote) else {
            return Err(illegal("no session has this channel"));
        };
        let local = self.channels[place].1;
        if let Performative::End(end) = performative {
            self.channels.remove(place);
            return Ok(self.take_end(local, end, out));
        }
        let (session, mut cx) = self.parts(SessionId(local));
        match session {
            Some(session) if !session.is_ending => {
                session.take(performative, payload, &mut cx, out)
            }
            _ => Ok(None),
        }
    }

    fn hear_open<'i>(&mut self, open: Box<Open<'i>>) -> Result<Event<'i>, Violation> {
        self.is_open_heard = true;
        self.peer.frame_bytes_max = open.max_frame_size as usize;
        self.peer.channel_max = open.channel_max;
        if let Some(time) = open.idle_time_out.filter(|time| *time > 0) {
            if time < IDLE_TIME_OUT_MIN_MS {
                let description = "the idle time-out is shorter than this end keeps";
                return Err(Violation::of_connection(condition::NOT_ALLOWED, description));
            }
            let time = Duration::from_millis(u64::from(time));
            self.peer.heartbeat = Some(time);
            self.heartbeat_at = Some(self.last_input + time / HEARTBEATS);
        }
        Ok(Event::Opened(open))
    }

    fn take_begin<'i>(
        &mut self,
        channel: u16,
        begin: &Begin<'_>,
        out: &mut Vec<u8>,
    ) -> Result<Option<Event<'i>>, Violation> {
        let invalid = |text| Violation::of_connection(condition::NOT_ALLOWED, text);
        let place = match self.channels.binary_search_by_key(&channel, |(remote, _)| *remote) {
            Ok(_) => return Err(invalid("a session has this channel already")),
            Err(place) => place,
        };
        if channel >= self.settings.sessions_max {
            let description = "the channel is higher than this end takes";
            return Err(Violation::of_connection(condition::CONNECTION_FRAMING_ERROR, description));
        }
        let local = match begin.remote_channel {
            Some(local) => {
                let session = self.sessions.get_mut(usize::from(local)).and_then(Option::as_mut);
                let Some(session) = session.filter(|session| session.remote.is_none()) else {
                    return Err(invalid("a begin answers none of this end's"));
                };
                session.begun(channel, begin);
                local
            }
            None => {
                let Some(local) = self.free_channel() else {
                    return Err(invalid("there are too many sessions"));
                };
                let mut session = Session::new(SessionId(local), &self.settings);
                session.begun(channel, begin);
                self.sessions[usize::from(local)] = Some(session);
                self.open(None, &[], out);
                let (session, cx) = self.parts(SessionId(local));
                if let Some(session) = session {
                    session.write_begin(Some(channel), &cx, out);
                }
                local
            }
        };
        self.channels.insert(place, (channel, local));
        Ok(Some(Event::SessionBegun(SessionId(local))))
    }

    fn take_end<'i>(&mut self, local: u16, end: End<'i>, out: &mut Vec<u8>) -> Option<Event<'i>> {
        let session = self.sessions.get_mut(usize::from(local)).and_then(Option::take);
        while self.sessions.last().is_some_and(Option::is_none) {
            self.sessions.pop();
        }
        let mut session = session?;
        if session.is_ending {
            // Told when this end ended it.
            return None;
        }
        session.abandon(&mut self.leftovers);
        self.put_end(local, None, out);
        Some(Event::SessionEnded { session: SessionId(local), error: end.error })
    }

    /// Ends what a violation is about, and says so.
    fn break_off(&mut self, violation: Violation, out: &mut Vec<u8>) -> Event<'static> {
        let error = Error::new(violation.condition, violation.description);
        match violation.scope {
            Scope::Connection => self.close(Some(error), out),
            Scope::Session(session) => self.end(session, Some(error), out),
            Scope::Link(link) => self.detach(link, true, Some(error), out),
        }
        Event::Broken(violation)
    }

    pub(crate) fn put_end(&mut self, channel: u16, error: Option<Error<'_>>, out: &mut Vec<u8>) {
        let performative = Performative::End(End { error });
        let frame = Frame::Amqp { channel, performative, payload: &[] };
        let written = encode_frame(&frame, self.peer.frame_bytes_max, out);
        debug_assert!(written.is_ok(), "{written:?}");
        self.has_written = true;
    }

    /// A channel for a new session of this end's count; `None` if there are as many as there may be.
    pub(crate) fn free_channel(&mut self) -> Option<u16> {
        let free = self.sessions.iter().position(Option::is_none).unwrap_or(self.sessions.len());
        let most = usize::from(self.settings.sessions_max);
        if free >= most || free > usize::from(self.peer.channel_max) {
            return None;
        }
        if free == self.sessions.len() {
            self.sessions.push(None);
        }
        u16::try_from(free).ok()
    }

    /// A session, and what it needs of the rest.
    pub(crate) fn parts(&mut self, session: SessionId) -> (Option<&mut Session>, Surroundings<'_>) {
        let found = self.sessions.get_mut(usize::from(session.0)).and_then(Option::as_mut);
        let surroundings = Surroundings {
            settings: &self.settings,
            frame_bytes_max: self.peer.frame_bytes_max,
            leftovers: &mut self.leftovers,
        };
        (found, surroundings)
    }

    pub(crate) fn can_write(&self) -> bool {
        self.phase == Phase::Frames && self.is_open_sent && self.is_open_heard
    }

    fn write_gathered_of_all(&mut self, out: &mut Vec<u8>) {
        for channel in 0..self.sessions.len() {
            let (session, cx) = self.parts(SessionId(channel as u16));
            if let Some(session) = session {
                session.write_gathered(&cx, out);
            }
        }
    }

    fn abandon_all(&mut self) {
        for mut session in std::mem::take(&mut self.sessions).into_iter().flatten() {
            session.abandon(&mut self.leftovers);
        }
        self.channels.clear();
    }
}
