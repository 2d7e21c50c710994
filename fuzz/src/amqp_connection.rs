//! An AMQP connection that is open: what a peer says and what this end does, in any order, as a script has it.
//!
//! Held: no panic; everything written is frames the peer takes; what the peer can make this end keep is bounded; the fate of
//! each delivery this end sent is told once, or it is left over once.

use crate::script::Script;
use fulcrum_amqp::{
    Attach, Begin, Close, Decoded, DeliveryState, DeliveryTag, Detach, Disposition, End, Error,
    Flow, Frame, FrameContext, Open, Outcome, Performative, ProtocolHeader, ReceiverSettleMode,
    Role, SenderSettleMode, Symbols, Transfer, condition, decode_frame, encode_frame,
};
use fulcrum_links::{Connection, Delivery, Event, LinkRef, SessionId, Settings, Terms};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

const SETTINGS: (u16, u32, usize) = (3, 4, 8);
const PEER_FRAME_BYTES: u32 = 600;

struct World {
    connection: Connection,
    out: Vec<u8>,
    now: Instant,
    links: Vec<LinkRef>,
    arrived: Vec<(SessionId, u32)>,
    sent: u64,
    /// Tokens of deliveries whose fate is open.
    open: HashSet<u64>,
    /// The token of the last one each link began, if it was not settled.
    under_way: HashMap<LinkRef, u64>,
}

/// Takes one input.
pub fn run(input: &[u8]) {
    let mut script = Script::new(input);
    let (sessions_max, links_max, unsettled_max) = SETTINGS;
    let settings = Settings {
        sessions_max,
        links_max,
        unsettled_max,
        incoming_window: 4,
        ..Settings::default()
    };
    let now = Instant::now();
    let mut world = World {
        connection: Connection::server(Arc::new(settings), &[], now),
        out: Vec::new(),
        now,
        links: Vec::new(),
        arrived: Vec::new(),
        sent: 0,
        open: HashSet::new(),
        under_way: HashMap::new(),
    };
    world.hear(&ProtocolHeader::AMQP.encode());
    assert_eq!(std::mem::take(&mut world.out), ProtocolHeader::AMQP.encode());
    world.frame(0, open(), &[]);
    world.connection.open(None, &[], &mut world.out);
    world.frame(0, Performative::Begin(begin(None)), &[]);
    for _ in 0..300 {
        if script.is_over() || world.connection.is_over() {
            break;
        }
        world.step(&mut script);
        world.check();
    }
    world.connection.close(None, &mut world.out);
    world.take_leftovers();
    assert!(world.open.is_empty(), "nobody heard of {:?}", world.open);
}

impl World {
    fn step(&mut self, script: &mut Script<'_>) {
        let channel = u16::from(script.byte() % 4);
        let handle = u32::from(script.byte() % 6);
        match script.byte() % 20 {
            0 => self.frame(
                channel,
                Performative::Begin(begin((script.byte() % 8 == 0).then_some(0))),
                &[],
            ),
            1 => self.frame(channel, Performative::End(End { error: None }), &[]),
            2 | 3 => {
                let role = if script.byte() & 1 == 0 { Role::Sender } else { Role::Receiver };
                let name = ["a", "b", "c", ""][usize::from(script.byte() % 4)];
                self.frame(channel, attach(handle, name, role), &[]);
            }
            4 => {
                let closed = script.byte() & 1 == 0;
                let detach = Detach { handle, closed, error: None };
                self.frame(channel, Performative::Detach(detach), &[]);
            }
            5..=7 => {
                let flags = script.byte();
                let number = (flags & 1 == 0).then(|| u32::from(script.byte()).wrapping_sub(4));
                let transfer = Transfer {
                    handle,
                    delivery_id: number,
                    delivery_tag: number.and_then(|_| DeliveryTag::new(b"tag")),
                    message_format: None,
                    settled: (flags & 2 != 0).then_some(flags & 4 != 0),
                    more: flags & 8 != 0,
                    rcv_settle_mode: None,
                    state: None,
                    resume: false,
                    aborted: flags & 16 != 0,
                    batchable: false,
                };
                let payload = vec![7; usize::from(script.byte())];
                self.frame(channel, Performative::Transfer(transfer), &payload);
            }
            8 | 9 => {
                let flags = script.byte();
                let is_of_link = flags & 1 == 0;
                let flow = Flow {
                    next_incoming_id: (flags & 2 == 0).then(|| u32::from(script.byte())),
                    incoming_window: u32::from(script.byte()),
                    next_outgoing_id: u32::from(script.byte()),
                    outgoing_window: 10,
                    handle: is_of_link.then_some(handle),
                    delivery_count: (is_of_link && flags & 4 == 0)
                        .then(|| u32::from(script.byte())),
                    link_credit: is_of_link.then(|| u32::from(script.byte())),
                    available: None,
                    drain: flags & 8 != 0,
                    echo: flags & 16 != 0,
                    properties: None,
                };
                self.frame(channel, Performative::Flow(flow), &[]);
            }
            10 | 11 => {
                let flags = script.byte();
                let disposition = Disposition {
                    role: if flags & 1 == 0 { Role::Receiver } else { Role::Sender },
                    first: u32::from(script.byte()).wrapping_sub(4),
                    last: (flags & 2 == 0).then(|| u32::from(script.byte())),
                    settled: flags & 4 == 0,
                    state: Some(DeliveryState::Outcome(Outcome::Accepted)),
                    batchable: false,
                };
                self.frame(channel, Performative::Disposition(disposition), &[]);
            }
            12 => match script.byte() % 16 {
                0 => self.frame(0, Performative::Close(Close { error: None }), &[]),
                1 => self.frame(0, open(), &[]),
                _ => {
                    let bytes: Vec<u8> = (0..script.byte() % 16).map(|_| script.byte()).collect();
                    self.hear(&bytes);
                }
            },
            13 => {
                self.now += Duration::from_millis(u64::from(script.byte()) * 100);
                let _ = self.connection.handle_timeout(self.now, &mut self.out);
            }
            _ => self.act(script),
        }
        self.take_leftovers();
    }

    /// What this end does.
    fn act(&mut self, script: &mut Script<'_>) {
        let place = usize::from(script.byte());
        let Some(link) = self.links.get(place % self.links.len().max(1)).copied() else { return };
        let World { connection, out, .. } = self;
        match script.byte() % 12 {
            0 | 1 => drop(connection.accept(link, &terms(), out)),
            2 => connection.refuse(link, Error::new(condition::NOT_FOUND, "no such node"), out),
            3 => {
                let (credit, drain) = (u32::from(script.byte() % 16), script.byte() & 1 == 0);
                connection.set_credit(link, credit, drain, out);
            }
            4 => connection.give_back(link, out),
            5 | 6 => {
                let flags = script.byte();
                let token = self.sent + 1;
                let settled = flags & 1 == 0;
                let tag = token.to_be_bytes();
                let Some(tag) = DeliveryTag::new(&tag) else { return };
                let payload = vec![1; usize::from(script.byte()) * 8];
                let delivery = Delivery { tag, token, settled };
                let credit = connection.credit(link);
                if let Ok(sent) =
                    connection.send(link, delivery, &[b"ab", &payload], flags & 2 == 0, out)
                {
                    assert!(sent.bytes <= payload.len() + 2);
                    assert_eq!(connection.credit(link), credit - 1);
                    self.sent = token;
                    self.under_way.remove(&link);
                    if !settled {
                        self.open.insert(token);
                        self.under_way.insert(link, token);
                    }
                }
            }
            7 => drop(connection.send_more(link, &[b"more"], script.byte() & 1 == 0, out)),
            8 => {
                // What is aborted is settled: nobody is told.
                let before = connection.unsettled(link.session).0;
                connection.abort(link, out);
                if connection.unsettled(link.session).0 < before
                    && let Some(token) = self.under_way.remove(&link)
                {
                    assert!(self.open.remove(&token));
                }
            }
            9 => {
                if let Some((session, delivery)) = self.arrived.pop() {
                    let state = [None, Some(DeliveryState::Outcome(Outcome::Accepted))];
                    let flags = script.byte();
                    let state = state[usize::from(flags & 1)];
                    connection.dispose(session, delivery, state, flags & 2 == 0, out);
                }
            }
            10 => connection.detach(link, script.byte() & 1 == 0, None, out),
            _ => match script.byte() % 4 {
                0 => connection.end(link.session, None, out),
                1 => drop(connection.begin(out)),
                2 => drop(connection.attach(link.session, "own", Role::Sender, &terms(), out)),
                _ => connection.flush(out),
            },
        }
    }

    fn frame(&mut self, channel: u16, performative: Performative<'_>, payload: &[u8]) {
        let mut bytes = Vec::new();
        let frame = Frame::Amqp { channel, performative, payload };
        if encode_frame(&frame, usize::MAX, &mut bytes).is_ok() {
            self.hear(&bytes);
        }
    }

    fn hear(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        loop {
            let step = self.connection.read(rest, self.now, &mut self.out);
            assert!(step.used <= rest.len());
            match step.event {
                Some(Event::LinkAsked { link, .. }) => self.links.push(link),
                Some(Event::Transfer(arrival)) if !arrival.settled && !arrival.more => {
                    self.arrived.push((arrival.link.session, arrival.delivery));
                }
                Some(Event::Disposition(dispositions)) => {
                    let (settled, of_sent) = (dispositions.settled(), dispositions.is_of_sent());
                    let World { connection, open, .. } = self;
                    connection.resolve(&dispositions, |known| {
                        if of_sent && settled {
                            assert!(open.remove(&known.token), "{} came back twice", known.token);
                        }
                    });
                }
                _ => {}
            }
            self.take_leftovers();
            rest = &rest[step.used..];
            if step.used == 0 || rest.is_empty() {
                return;
            }
        }
    }

    fn take_leftovers(&mut self) {
        let World { connection, open, .. } = self;
        for known in connection.leftovers() {
            assert!(open.remove(&known.token), "{} came back twice", known.token);
        }
    }

    /// What was written, and what is kept.
    fn check(&mut self) {
        let out = std::mem::take(&mut self.out);
        let mut rest = &out[..];
        while !rest.is_empty() {
            let decoded = decode_frame(rest, &FrameContext::amqp(usize::MAX));
            let Ok(Decoded::Frame { frame, used }) = decoded else { panic!("{decoded:?}") };
            let is_first_or_last = matches!(
                frame,
                Frame::Amqp { performative: Performative::Open(_) | Performative::Close(_), .. }
            );
            assert!(is_first_or_last || used <= PEER_FRAME_BYTES as usize, "{used} bytes");
            rest = &rest[used..];
        }
        for session in 0..SETTINGS.0 {
            let (sent, received) = self.connection.unsettled(SessionId(session));
            assert!(sent <= SETTINGS.2 && received <= SETTINGS.2);
        }
        self.links.truncate(64);
        self.arrived.truncate(64);
    }
}

fn open() -> Performative<'static> {
    Performative::Open(Box::new(Open {
        container_id: "peer",
        hostname: None,
        max_frame_size: PEER_FRAME_BYTES,
        channel_max: 2,
        idle_time_out: Some(1000),
        outgoing_locales: Symbols::NONE,
        incoming_locales: Symbols::NONE,
        offered_capabilities: Symbols::NONE,
        desired_capabilities: Symbols::NONE,
        properties: None,
    }))
}

fn begin(remote_channel: Option<u16>) -> Begin<'static> {
    Begin {
        remote_channel,
        next_outgoing_id: 0,
        incoming_window: 4,
        outgoing_window: 4,
        handle_max: 3,
        offered_capabilities: Symbols::NONE,
        desired_capabilities: Symbols::NONE,
        properties: None,
    }
}

fn attach(handle: u32, name: &str, role: Role) -> Performative<'_> {
    Performative::Attach(Box::new(Attach {
        name,
        handle,
        role,
        snd_settle_mode: SenderSettleMode::Mixed,
        rcv_settle_mode: ReceiverSettleMode::First,
        source: None,
        target: None,
        unsettled: None,
        incomplete_unsettled: false,
        initial_delivery_count: (role == Role::Sender).then_some(0),
        max_message_size: None,
        offered_capabilities: Symbols::NONE,
        desired_capabilities: Symbols::NONE,
        properties: None,
    }))
}

fn terms() -> Terms<'static> {
    Terms {
        source: None,
        target: None,
        sender_settles: SenderSettleMode::Mixed,
        receiver_settles: ReceiverSettleMode::First,
        message_bytes_max: 1000,
        offered_capabilities: Symbols::NONE,
        desired_capabilities: Symbols::NONE,
    }
}
