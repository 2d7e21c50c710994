//! Clients that do what MQTT asks of them, over a broker that crashes anywhere: what was acknowledged arrives, QoS 2
//! arrives once, in order, and no packet identifier means two things.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed expectation is a failed test")]

mod harness;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use bytes::Bytes;
use fulcrum_sessions::*;
use harness::*;
use proptest::prelude::*;

const CLIENTS: usize = 3;
const HOUR_S: u32 = 3600;

#[derive(Clone, Debug)]
enum Op {
    Connect {
        client: usize,
        receive_max: u16,
    },
    Disconnect {
        client: usize,
    },
    Publish {
        client: usize,
        qos: u8,
        targets: u8,
    },
    /// Takes what the broker sends; without `answers` the connection is lost before the client could answer.
    Receive {
        client: usize,
        packets: usize,
        answers: bool,
    },
    /// Commits reach so many records more; replies that waited for them arrive.
    Commit {
        records: u64,
    },
    Replies {
        client: usize,
    },
    Compact {
        budget: usize,
    },
    Refuse {
        all: bool,
    },
    Accept,
    Crash {
        kept: usize,
    },
}

fn operation() -> impl Strategy<Value = Op> {
    let client = 0..CLIENTS;
    prop_oneof![
        4 => (client.clone(), 1u16..5)
            .prop_map(|(client, receive_max)| Op::Connect { client, receive_max }),
        2 => client.clone().prop_map(|client| Op::Disconnect { client }),
        8 => (client.clone(), 1u8..3, 1u8..8)
            .prop_map(|(client, qos, targets)| Op::Publish { client, qos, targets }),
        8 => (client.clone(), 1usize..5, prop::bool::weighted(0.9))
            .prop_map(|(client, packets, answers)| Op::Receive { client, packets, answers }),
        6 => (1u64..20).prop_map(|records| Op::Commit { records }),
        6 => client.prop_map(|client| Op::Replies { client }),
        2 => (0usize..4000).prop_map(|budget| Op::Compact { budget }),
        1 => any::<bool>().prop_map(|all| Op::Refuse { all }),
        2 => Just(Op::Accept),
        1 => (0usize..6).prop_map(|kept| Op::Crash { kept }),
    ]
}

#[derive(Copy, Clone, Debug)]
enum Reply {
    Ack(u16),
    Rec(u16),
    Comp(u16),
    /// Of a message to the client.
    Rel(u16),
}

#[derive(Clone, Debug)]
struct Outbound {
    qos: u8,
    text: String,
    targets: u8,
    released: bool,
}

#[derive(Default)]
struct Client {
    link: Option<(SessionKey, u64)>,
    /// What it has published and has no final answer for; in order of publication.
    sending: Vec<(u16, Outbound)>,
    last_id: u16,
    /// QoS 2 messages it has and that were not released.
    unreleased: HashMap<u16, String>,
    got: Vec<(u8, String)>,
    seen: HashSet<String>,
    replies: Vec<(u64, Reply)>,
}

struct World {
    shard: Shard,
    clients: Vec<Client>,
    published: u32,
    acknowledged: Vec<Outbound>,
}

impl World {
    fn new() -> Self {
        let limits = Limits { inflight_max: 4, ..limits() };
        let mut world = Self {
            shard: Shard::with(limits, 700),
            clients: (0..CLIENTS).map(|_| Client::default()).collect(),
            published: 0,
            acknowledged: Vec::new(),
        };
        for client in 0..CLIENTS {
            world.connect(client, 4);
        }
        world.commit(u64::MAX);
        world
    }

    fn connect(&mut self, client: usize, receive_max: u16) {
        self.lose(client);
        self.shard.links += 1;
        let link = self.shard.links;
        let who = Attach {
            tenant: &tenant(),
            client_id: &format!("c{client}"),
            principal: &"p".into(),
            clean_start: false,
            expiry_s: HOUR_S,
            receive_max,
            link,
            will: None,
        };
        let shard = &mut self.shard;
        let Ok(attached) = shard.sessions.attach(&mut shard.log, who, shard.now, shard.now_ms)
        else {
            return;
        };
        self.clients[client].link = Some((attached.key, link));
        // The client waits for CONNACK, and then sends again what it has no answer for.
        for (id, outbound) in self.clients[client].sending.clone() {
            if outbound.released {
                self.release(client, id);
            } else {
                self.send(client, id, &outbound);
            }
        }
    }

    fn lose(&mut self, client: usize) {
        self.clients[client].replies.clear();
        if let Some((key, link)) = self.clients[client].link.take() {
            let how = Leave { keep_will: false, expiry_s: None };
            let shard = &mut self.shard;
            let left =
                shard.sessions.detach(&mut shard.log, key, link, how, shard.now, shard.now_ms);
            assert!(left.ended.is_none());
        }
    }

    fn reply(&mut self, client: usize, ticket: Option<u64>, reply: Reply) {
        self.clients[client].replies.push((ticket.unwrap_or(0), reply));
    }

    fn publish(&mut self, client: usize, qos: u8, targets: u8) {
        let one = &mut self.clients[client];
        if one.link.is_none() || one.sending.len() > 20 {
            return;
        }
        let id = (1..=30)
            .map(|step| (one.last_id + step) % 30 + 1)
            .find(|id| one.sending.iter().all(|(used, _)| used != id))
            .unwrap();
        one.last_id = id;
        self.published += 1;
        let text = format!("{client}/{:05}", self.published);
        let outbound = Outbound { qos, text, targets, released: false };
        one.sending.push((id, outbound.clone()));
        self.send(client, id, &outbound);
    }

    fn send(&mut self, client: usize, id: u16, outbound: &Outbound) {
        let Some((key, _)) = self.clients[client].link else { return };
        let sessions = &mut self.shard.sessions;
        let mut transaction = sessions.begin(&tenant());
        if outbound.qos == 2 {
            match sessions.incoming(&mut transaction, key, id) {
                Incoming::New => {}
                Incoming::Duplicate { ticket } => {
                    return self.reply(client, ticket, Reply::Rec(id));
                }
                other => panic!("{other:?}"),
            }
        }
        let body = message(&outbound.text);
        for target in 0..CLIENTS {
            if outbound.targets & 1 << target == 0 {
                continue;
            }
            let key = sessions.find("plant", &format!("c{target}")).unwrap();
            let options =
                Options { qos: outbound.qos, retain: false, subscription_ids: &[], group: None };
            let delivered = sessions.deliver(&mut transaction, key, &body, options);
            assert_eq!(delivered, Delivered::Taken);
        }
        if outbound.qos == 1 {
            sessions.retain(&mut transaction, "last", Some(&Bytes::from_static(b"r")), 1, None);
        }
        match sessions.commit(&mut self.shard.log, transaction) {
            Ok(ticket) if outbound.qos == 2 => self.reply(client, ticket, Reply::Rec(id)),
            Ok(ticket) => self.reply(client, ticket, Reply::Ack(id)),
            Err(_) => self.lose(client),
        }
    }

    fn release(&mut self, client: usize, id: u16) {
        let Some((key, _)) = self.clients[client].link else { return };
        match self.shard.sessions.pubrel(&mut self.shard.log, key, id) {
            Ok((_, ticket)) => self.reply(client, ticket, Reply::Comp(id)),
            Err(_) => self.lose(client),
        }
    }

    /// What the client was promised arrives, in order, as far as it is durable.
    fn replies(&mut self, client: usize) {
        while let Some((ticket, reply)) = self.clients[client].replies.first().copied() {
            if ticket > self.shard.log.durable {
                return;
            }
            self.clients[client].replies.remove(0);
            match reply {
                Reply::Ack(id) | Reply::Comp(id) => {
                    let sending = &mut self.clients[client].sending;
                    if let Some(at) = sending.iter().position(|(known, _)| *known == id) {
                        self.acknowledged.push(sending.remove(at).1);
                    }
                }
                Reply::Rec(id) => {
                    let sending = &mut self.clients[client].sending;
                    if let Some((_, one)) = sending.iter_mut().find(|(known, _)| *known == id) {
                        one.released = true;
                        self.release(client, id);
                    }
                }
                Reply::Rel(id) => self.complete(client, id),
            }
        }
    }

    fn complete(&mut self, client: usize, id: u16) {
        self.clients[client].unreleased.remove(&id);
        if let Some((key, _)) = self.clients[client].link {
            self.shard.sessions.pubcomp(&mut self.shard.log, key, id);
        }
    }

    fn receive(&mut self, client: usize, packets: usize, answers: bool) -> bool {
        let mut any = false;
        for _ in 0..packets {
            let Some((key, _)) = self.clients[client].link else { break };
            let shard = &mut self.shard;
            let Some(out) = shard.sessions.next(&mut shard.log, key, shard.now_ms) else { break };
            any = true;
            match out {
                Outgoing::PubRel { packet_id } if answers => self.complete(client, packet_id),
                Outgoing::PubRel { packet_id } => {
                    self.clients[client].unreleased.remove(&packet_id);
                }
                Outgoing::Publish { packet_id, dup, qos, message, .. } => {
                    self.take(client, packet_id, dup, qos, text(&message));
                    if answers {
                        self.answer(client, key, packet_id, qos);
                    }
                }
            }
        }
        if any && !answers {
            self.lose(client);
        }
        any
    }

    fn take(&mut self, client: usize, id: u16, dup: bool, qos: u8, text: String) {
        let one = &mut self.clients[client];
        if qos == 2 {
            // A QoS 1 message may come again without dup, because its publisher sent it again.
            assert!(one.seen.insert(text.clone()) || dup, "{text} was sent before, without dup");
            if let Some(known) = one.unreleased.get(&id) {
                assert_eq!(known, &text, "identifier {id} means two messages");
                return;
            }
            one.unreleased.insert(id, text.clone());
        }
        one.got.push((qos, text));
    }

    fn answer(&mut self, client: usize, key: SessionKey, id: u16, qos: u8) {
        let shard = &mut self.shard;
        if qos == 1 {
            assert_eq!(shard.sessions.puback(&mut shard.log, key, id), Ack::Known);
            return;
        }
        match shard.sessions.pubrec(&mut shard.log, key, id, false) {
            Ok((ack, ticket)) => {
                assert_eq!(ack, Ack::Known);
                self.reply(client, ticket, Reply::Rel(id));
            }
            Err(_) => self.lose(client),
        }
    }

    fn commit(&mut self, records: u64) {
        let log = &mut self.shard.log;
        log.durable = log.durable.saturating_add(records).min(log.last);
        self.shard.sessions.durable(log.durable);
    }

    fn crash(&mut self, kept: usize) {
        for client in &mut self.clients {
            client.link = None;
            client.replies.clear();
        }
        self.shard.crash(kept);
    }

    fn apply(&mut self, op: Op) {
        match op {
            Op::Connect { client, receive_max } => self.connect(client, receive_max),
            Op::Disconnect { client } => self.lose(client),
            Op::Publish { client, qos, targets } => self.publish(client, qos, targets),
            Op::Receive { client, packets, answers } => {
                self.receive(client, packets, answers);
            }
            Op::Commit { records } => self.commit(records),
            Op::Replies { client } => self.replies(client),
            Op::Compact { budget } => {
                if let Some(segment) = self.shard.sessions.compact(&mut self.shard.log, budget) {
                    self.shard.log.drop_below(segment);
                }
            }
            Op::Refuse { all: true } => self.shard.log.refuses = Some(Room::Later),
            Op::Refuse { all: false } => self.shard.log.refuses_new = Some(Room::Full),
            Op::Accept => {
                self.shard.log.refuses = None;
                self.shard.log.refuses_new = None;
                self.shard.pass(Duration::from_millis(200));
                assert!(self.shard.due().is_empty());
            }
            Op::Crash { kept } => self.crash(kept),
        }
    }

    /// Everybody comes back and stays until nothing moves.
    fn settle(&mut self) {
        self.apply(Op::Accept);
        for client in 0..CLIENTS {
            self.connect(client, 4);
        }
        loop {
            self.commit(u64::MAX);
            let mut moved = false;
            for client in 0..CLIENTS {
                moved |= !self.clients[client].replies.is_empty();
                self.replies(client);
                moved |= self.receive(client, 100, true);
            }
            if !moved {
                return;
            }
        }
    }

    fn check(&self) {
        for client in &self.clients {
            assert!(client.sending.is_empty(), "everything was answered");
            assert!(client.unreleased.is_empty(), "everything was released");
        }
        for (target, client) in self.clients.iter().enumerate() {
            let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
            for (_, text) in &client.got {
                *counts.entry(text).or_default() += 1;
            }
            for outbound in &self.acknowledged {
                let count = counts.get(&*outbound.text).copied().unwrap_or(0);
                let wanted = outbound.targets & 1 << target != 0;
                match (wanted, outbound.qos) {
                    (false, _) => assert_eq!(count, 0),
                    (true, 1) => assert!(count >= 1, "{} is missing", outbound.text),
                    (true, _) => assert_eq!(count, 1, "{} must come once", outbound.text),
                }
            }
            for publisher in 0..CLIENTS {
                let prefix = format!("{publisher}/");
                let order: Vec<&String> = client
                    .got
                    .iter()
                    .filter(|(qos, text)| *qos == 2 && text.starts_with(&prefix))
                    .map(|(_, text)| text)
                    .collect();
                assert!(order.is_sorted(), "QoS 2 out of order: {order:?}");
            }
        }
        let metrics = self.shard.sessions.metrics();
        assert_eq!((metrics.queued_messages, metrics.queued_bytes), (0, 0));
        assert_eq!(metrics.stored_messages, 0);
        assert_eq!(metrics.retained_messages.min(1), metrics.retained_messages);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn acknowledged_messages_arrive_and_qos_2_arrives_once_whenever_the_broker_crashes(
        ops in prop::collection::vec(operation(), 1..150)
    ) {
        let mut world = World::new();
        for op in ops {
            world.apply(op);
        }
        world.settle();
        world.check();
        // And nothing of it comes back.
        world.crash(0);
        world.settle();
        world.check();
    }
}
