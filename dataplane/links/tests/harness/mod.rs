//! Two ends of a connection in one memory, and a peer that writes frames as it likes.

#![allow(dead_code, reason = "each test file uses a part of it")]

use std::sync::Arc;
use std::time::Instant;

use fulcrum_amqp::*;
use fulcrum_links::*;

pub const PLAIN: &[Symbol<'static>] = &[Symbol::literal("PLAIN"), Symbol::literal("ANONYMOUS")];

/// An event, without what it borrows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    Login(String, Vec<u8>),
    Mechanisms(Vec<String>),
    Verdict(SaslCode),
    Opened(String),
    Begun(SessionId),
    SessionEnded(SessionId, Option<String>),
    Asked(LinkRef, String, Role, Option<LinkRef>),
    Attached(LinkRef, bool),
    Detached(LinkRef, bool, Option<String>),
    Flow(Option<LinkRef>),
    Transfer {
        link: LinkRef,
        delivery: u32,
        tag: Option<Vec<u8>>,
        more: bool,
        settled: bool,
        bytes: Vec<u8>,
    },
    Aborted(LinkRef, u32),
    Fate {
        of_sent: bool,
        settled: bool,
        state: Option<String>,
        known: Vec<Known>,
    },
    Closed(Option<String>),
    Broken(Scope, String),
}

/// One end, its output, and what it has seen.
pub struct Side {
    pub connection: Connection,
    pub input: Vec<u8>,
    pub out: Vec<u8>,
    pub seen: Vec<Seen>,
    pub leftovers: Vec<Known>,
    pub now: Instant,
}

fn condition(error: Option<Error<'_>>) -> Option<String> {
    error.map(|error| error.condition.as_str().to_owned())
}

impl Side {
    pub fn new(connection: Connection, out: Vec<u8>, now: Instant) -> Side {
        Side { connection, input: Vec::new(), out, seen: Vec::new(), leftovers: Vec::new(), now }
    }

    pub fn server(settings: Settings) -> Side {
        let now = Instant::now();
        Side::new(Connection::server(Arc::new(settings), &[], now), Vec::new(), now)
    }

    pub fn client(settings: Settings) -> Side {
        let (now, mut out) = (Instant::now(), Vec::new());
        let connection = Connection::client(Arc::new(settings), false, now, &mut out);
        Side::new(connection, out, now)
    }

    /// Reads all it can of its input.
    pub fn work(&mut self) {
        loop {
            let step = self.connection.read(&self.input, self.now, &mut self.out);
            let (used, event) = (step.used, step.event);
            let dispositions = match event {
                Some(Event::Disposition(dispositions)) => Some(dispositions),
                _ => None,
            };
            if let Some(dispositions) = dispositions {
                let mut known = Vec::new();
                self.connection.resolve(&dispositions, |one| known.push(one));
                self.seen.push(Seen::Fate {
                    of_sent: dispositions.is_of_sent(),
                    settled: dispositions.settled(),
                    state: dispositions.state().map(|state| format!("{state:?}")),
                    known,
                });
            } else if let Some(event) = event {
                self.seen.push(seen(event));
            }
            self.leftovers.extend(self.connection.leftovers());
            if used == 0 {
                break;
            }
            self.input.drain(..used);
        }
    }

    pub fn take_seen(&mut self) -> Vec<Seen> {
        std::mem::take(&mut self.seen)
    }
}

fn seen(event: Event<'_>) -> Seen {
    match event {
        Event::SaslInit(init) => Seen::Login(
            init.mechanism.as_str().to_owned(),
            init.initial_response.map_or(Vec::new(), |bytes| bytes.0.to_vec()),
        ),
        Event::SaslResponse(response) => Seen::Login(String::new(), response.response.0.to_vec()),
        Event::SaslMechanisms(offer) => Seen::Mechanisms(
            offer.sasl_server_mechanisms.iter().map(|one| one.as_str().to_owned()).collect(),
        ),
        Event::SaslChallenge(challenge) => {
            Seen::Login("challenge".into(), challenge.challenge.0.to_vec())
        }
        Event::SaslOutcome(outcome) => Seen::Verdict(outcome.code),
        Event::Opened(open) => Seen::Opened(open.container_id.to_owned()),
        Event::SessionBegun(session) => Seen::Begun(session),
        Event::SessionEnded { session, error } => Seen::SessionEnded(session, condition(error)),
        Event::LinkAsked { link, attach, stolen } => {
            Seen::Asked(link, attach.name.to_owned(), attach.role, stolen)
        }
        Event::LinkAttached { link, attach } => {
            let is_there = match attach.role {
                Role::Sender => attach.source.is_some(),
                Role::Receiver => attach.target.is_some(),
            };
            Seen::Attached(link, is_there)
        }
        Event::LinkDetached { link, closed, error } => {
            Seen::Detached(link, closed, condition(error))
        }
        Event::Flow { link, .. } => Seen::Flow(link),
        Event::Transfer(arrival) => Seen::Transfer {
            link: arrival.link,
            delivery: arrival.delivery,
            tag: arrival.tag.map(|tag| tag.as_bytes().to_vec()),
            more: arrival.more,
            settled: arrival.settled,
            bytes: arrival.payload.to_vec(),
        },
        Event::Aborted { link, delivery } => Seen::Aborted(link, delivery),
        Event::Disposition(_) => unreachable!("it is resolved"),
        Event::Closed { error } => Seen::Closed(condition(error)),
        Event::Broken(violation) => Seen::Broken(violation.scope, violation.condition.to_string()),
    }
}

/// Two ends, and the bytes between them.
pub struct Pair {
    pub client: Side,
    pub server: Side,
}

impl Pair {
    pub fn new(client: Settings, server: Settings) -> Pair {
        Pair { client: Side::client(client), server: Side::server(server) }
    }

    /// Carries bytes over until nobody has any to send.
    pub fn exchange(&mut self) {
        loop {
            self.client.connection.flush(&mut self.client.out);
            self.server.connection.flush(&mut self.server.out);
            if self.client.out.is_empty() && self.server.out.is_empty() {
                return;
            }
            let to_server = std::mem::take(&mut self.client.out);
            self.server.input.extend(to_server);
            self.server.work();
            let to_client = std::mem::take(&mut self.server.out);
            self.client.input.extend(to_client);
            self.client.work();
        }
    }

    /// Both open, with a session.
    pub fn opened(client: Settings, server: Settings) -> (Pair, SessionId) {
        let mut pair = Pair::new(client, server);
        pair.exchange();
        pair.client.connection.open(Some("host"), &[], &mut pair.client.out);
        pair.exchange();
        pair.server.connection.open(None, &[], &mut pair.server.out);
        pair.exchange();
        let session = pair.client.connection.begin(&mut pair.client.out).unwrap();
        pair.exchange();
        pair.client.take_seen();
        pair.server.take_seen();
        (pair, session)
    }

    /// A link from the client's `role`; the client's end and the server's.
    pub fn link(&mut self, session: SessionId, name: &str, role: Role) -> (LinkRef, LinkRef) {
        let ours = self
            .client
            .connection
            .attach(session, name, role, &terms("node"), &mut self.client.out)
            .unwrap()
            .unwrap();
        self.exchange();
        let Some(Seen::Asked(theirs, ..)) = self.server.take_seen().pop() else {
            panic!("no link")
        };
        self.server.connection.accept(theirs, &terms("node"), &mut self.server.out).unwrap();
        self.exchange();
        assert_eq!(self.client.take_seen().pop(), Some(Seen::Attached(ours, true)));
        (ours, theirs)
    }
}

pub fn terms(address: &str) -> Terms<'_> {
    Terms {
        source: Some(source(address)),
        target: Some(target(address)),
        sender_settles: SenderSettleMode::Mixed,
        receiver_settles: ReceiverSettleMode::First,
        message_bytes_max: 0,
        offered_capabilities: Symbols::NONE,
        desired_capabilities: Symbols::NONE,
    }
}

pub fn source(address: &str) -> Source<'_> {
    Source {
        address: Some(Address(address)),
        durable: TerminusDurability::None,
        expiry_policy: ExpiryPolicy::SessionEnd,
        timeout: 0,
        dynamic: false,
        dynamic_node_properties: None,
        distribution_mode: None,
        filter: None,
        default_outcome: None,
        outcomes: Symbols::NONE,
        capabilities: Symbols::NONE,
    }
}

pub fn target(address: &str) -> Target<'_> {
    Target::Node(TargetNode {
        address: Some(Address(address)),
        durable: TerminusDurability::None,
        expiry_policy: ExpiryPolicy::SessionEnd,
        timeout: 0,
        dynamic: false,
        dynamic_node_properties: None,
        capabilities: Symbols::NONE,
    })
}

pub fn delivery(tag: &[u8], token: u64, settled: bool) -> Delivery<'_> {
    Delivery { tag: DeliveryTag::new(tag).unwrap(), token, settled }
}

pub const ACCEPTED: Option<DeliveryState<'static>> =
    Some(DeliveryState::Outcome(Outcome::Accepted));
pub const RELEASED: Option<DeliveryState<'static>> =
    Some(DeliveryState::Outcome(Outcome::Released));

/// A peer that writes whatever frames it likes to a server.
pub struct Raw {
    pub server: Side,
}

impl Raw {
    /// Open, with a session on channel 0 of both.
    pub fn opened(settings: Settings) -> Raw {
        let mut raw = Raw { server: Side::server(settings) };
        raw.bytes(&ProtocolHeader::AMQP.encode());
        raw.frame(0, open());
        raw.server.connection.open(None, &[], &mut raw.server.out);
        raw.frame(0, begin());
        raw.server.take_seen();
        raw.server.out.clear();
        raw
    }

    pub fn bytes(&mut self, bytes: &[u8]) {
        self.server.input.extend_from_slice(bytes);
        self.server.work();
    }

    pub fn frame(&mut self, channel: u16, performative: Performative<'_>) {
        self.payload(channel, performative, &[]);
    }

    pub fn payload(&mut self, channel: u16, performative: Performative<'_>, payload: &[u8]) {
        let frame = Frame::Amqp { channel, performative, payload };
        let mut bytes = Vec::new();
        encode_frame(&frame, usize::MAX, &mut bytes).unwrap();
        self.bytes(&bytes);
    }

    /// The name of each frame the server wrote, with the condition of its error.
    pub fn answers(&mut self) -> Vec<String> {
        let out = std::mem::take(&mut self.server.out);
        let (mut rest, mut names) = (&out[..], Vec::new());
        while !rest.is_empty() {
            let decoded = decode_frame(rest, &FrameContext::amqp(1 << 20)).unwrap();
            let Decoded::Frame { frame, used } = decoded else { panic!("half a frame") };
            rest = &rest[used..];
            let Frame::Amqp { performative, .. } = frame else { continue };
            let with = |name: &str, error: Option<Error<'_>>| match condition(error) {
                Some(condition) => format!("{name} {condition}"),
                None => name.to_owned(),
            };
            names.push(match performative {
                Performative::Open(_) => "open".into(),
                Performative::Begin(_) => "begin".into(),
                Performative::Attach(_) => "attach".into(),
                Performative::Flow(_) => "flow".into(),
                Performative::Transfer(_) => "transfer".into(),
                Performative::Disposition(_) => "disposition".into(),
                Performative::Detach(detach) => with("detach", detach.error),
                Performative::End(end) => with("end", end.error),
                Performative::Close(close) => with("close", close.error),
            });
        }
        names
    }

    /// A sender the server has accepted and given credit.
    pub fn sender(&mut self, handle: u32, credit: u32) -> LinkRef {
        self.frame(0, attach(handle, &format!("sender-{handle}"), Role::Sender));
        let Some(Seen::Asked(link, ..)) = self.server.take_seen().pop() else { panic!("no link") };
        let Side { connection, out, .. } = &mut self.server;
        connection.accept(link, &terms("node"), out).unwrap();
        connection.set_credit(link, credit, false, out);
        out.clear();
        link
    }
}

pub fn open() -> Performative<'static> {
    Performative::Open(Box::new(Open {
        container_id: "raw",
        hostname: None,
        max_frame_size: u32::MAX,
        channel_max: u16::MAX,
        idle_time_out: None,
        outgoing_locales: Symbols::NONE,
        incoming_locales: Symbols::NONE,
        offered_capabilities: Symbols::NONE,
        desired_capabilities: Symbols::NONE,
        properties: None,
    }))
}

pub fn begin() -> Performative<'static> {
    Performative::Begin(Begin {
        remote_channel: None,
        next_outgoing_id: 0,
        incoming_window: 100,
        outgoing_window: 100,
        handle_max: u32::MAX,
        offered_capabilities: Symbols::NONE,
        desired_capabilities: Symbols::NONE,
        properties: None,
    })
}

pub fn attach(handle: u32, name: &str, role: Role) -> Performative<'_> {
    Performative::Attach(Box::new(Attach {
        name,
        handle,
        role,
        snd_settle_mode: SenderSettleMode::Mixed,
        rcv_settle_mode: ReceiverSettleMode::First,
        source: Some(source("node")),
        target: Some(target("node")),
        unsettled: None,
        incomplete_unsettled: false,
        initial_delivery_count: (role == Role::Sender).then_some(0),
        max_message_size: None,
        offered_capabilities: Symbols::NONE,
        desired_capabilities: Symbols::NONE,
        properties: None,
    }))
}

pub fn transfer(handle: u32, number: Option<u32>) -> Transfer<'static> {
    Transfer {
        handle,
        delivery_id: number,
        delivery_tag: number.and_then(|_| DeliveryTag::new(b"tag")),
        message_format: None,
        settled: None,
        more: false,
        rcv_settle_mode: None,
        state: None,
        resume: false,
        aborted: false,
        batchable: false,
    }
}

pub fn flow(next_incoming_id: u32, window: u32) -> Flow<'static> {
    Flow {
        next_incoming_id: Some(next_incoming_id),
        incoming_window: window,
        next_outgoing_id: 0,
        outgoing_window: 100,
        handle: None,
        delivery_count: None,
        link_credit: None,
        available: None,
        drain: false,
        echo: false,
        properties: None,
    }
}
