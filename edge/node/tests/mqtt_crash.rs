//! Messaging over the end of the node, by `kill -9` or in order: what was acknowledged is there, QoS 2 came once, the will
//! of who was connected is published.
//!
//! The clients keep their side of the session as the protocol asks. `FULCRUM_CRASH_ROUNDS` says how often the node dies in
//! one test, `FULCRUM_CRASH_SEED` when.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that fails says so by panicking")]

#[path = "../../../dataplane/shard/tests/harness/chat.rs"]
mod chat;
mod harness;

use chat::{Chat, Random};
use fulcrum_mqtt::ProtocolLevel;
use harness::{Node, Place, SHARDS};
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// A client identifier whose session lives on `shard`.
fn client_id(shard: u16, name: &str) -> String {
    (0..)
        .map(|count| format!("{name}-{count}"))
        .find(|id| fulcrum_router::owner(&["acme", id], SHARDS).0 == shard)
        .unwrap()
}

fn client(shard: u16, name: &str) -> Chat {
    Chat::new("d1@acme", &client_id(shard, name)).with_password("hono-secret")
}

fn durable(shard: u16, name: &str) -> Chat {
    client(shard, name).keeping(3600)
}

fn place() -> Place {
    let place = Place::new([0; 3]);
    place.add_config(
        "[sessions]\nqueue_messages_max = 15000\nsegment_bytes = 1048576\nbytes_max = 67108864\n",
    );
    place.seed();
    place
}

/// Everybody of one test, and what the world should know.
struct Cast {
    publishers: Vec<Chat>,
    numbers: Vec<usize>,
    subscribers: Vec<Chat>,
    away: Vec<Chat>,
    members: Vec<Chat>,
    wills: Vec<String>,
}

const ENDS: &str = "site/wills";

impl Cast {
    fn new(node: &Node) -> Cast {
        let mut cast = Cast {
            publishers: vec![
                durable(0, "p0"),
                durable(1, "p1"),
                durable(0, "p2").v311(),
                durable(1, "p3").v311(),
            ],
            numbers: vec![0; 4],
            subscribers: vec![
                durable(0, "s0"),
                durable(1, "s1").v311(),
                durable(1, "s2").with_receive_max(7),
            ],
            away: vec![durable(0, "o0"), durable(1, "o1")],
            members: vec![durable(0, "m0"), durable(1, "m1")],
            wills: Vec::new(),
        };
        for publisher in &mut cast.publishers {
            publisher.connect(node.mqtt);
        }
        for subscriber in cast.subscribers.iter_mut().chain(&mut cast.away) {
            assert!(!subscriber.connect(node.mqtt));
            assert_eq!(subscriber.subscribe("site/#", 2), 2);
        }
        for member in &mut cast.members {
            member.connect(node.mqtt);
            assert_eq!(member.subscribe("$share/team/site/#", 2), 2);
        }
        cast.away.iter_mut().for_each(Chat::drop_connection);
        cast
    }

    /// Everybody but those who are away comes back, without subscribing again.
    fn come_back(&mut self, node: &Node) {
        let here = self.publishers.iter_mut().chain(&mut self.subscribers).chain(&mut self.members);
        for chat in here.filter(|chat| !chat.is_connected()) {
            assert!(chat.connect(node.mqtt), "{} lost its session", chat.client_id);
        }
    }

    /// Publishes and receives until `end` has ended the node.
    fn play(&mut self, random: &mut Random, end: impl FnOnce()) {
        let pauses: Vec<u64> = self.publishers.iter().map(|_| random.below(1500)).collect();
        std::thread::scope(|scope| {
            let publishers = self.publishers.iter_mut().zip(&mut self.numbers).zip(pauses);
            for (index, ((publisher, number), pause)) in publishers.enumerate() {
                scope.spawn(move || {
                    loop {
                        let qos = 1 + (*number % 2) as u8;
                        let payload = format!("{index} {qos} {number}");
                        let (topic, retain) = match *number % 5 {
                            0 => (format!("site/kept/{index}/{qos}"), true),
                            _ => (format!("site/{index}/{qos}"), false),
                        };
                        *number += 1;
                        let sent = publisher.publish(&topic, qos, retain, payload.as_bytes());
                        let wait = Duration::from_micros(pause);
                        if sent.is_err()
                            || publisher.take(wait).is_err()
                            || publisher.wait_until(|chat| chat.under_way() < 16).is_err()
                        {
                            return;
                        }
                    }
                });
            }
            for receiver in self.subscribers.iter_mut().chain(&mut self.members) {
                scope.spawn(|| while receiver.take(Duration::from_secs(20)) == Ok(true) {});
            }
            end();
        });
    }

    /// Everything is delivered and answered.
    fn settle(&mut self, node: &Node) {
        self.come_back(node);
        for chat in &mut self.away {
            assert!(chat.connect(node.mqtt), "{} lost its session", chat.client_id);
        }
        for publisher in &mut self.publishers {
            publisher.wait_until(Chat::owes_nothing).unwrap();
        }
        let mut receivers: Vec<&mut Chat> =
            self.subscribers.iter_mut().chain(&mut self.away).chain(&mut self.members).collect();
        let mut quiet_since = Instant::now();
        while quiet_since.elapsed() < Duration::from_millis(700) {
            for receiver in &mut receivers {
                if receiver.take(Duration::from_millis(5)).unwrap() {
                    quiet_since = Instant::now();
                }
            }
        }
    }

    fn check(&self) {
        let accepted: Vec<String> = self
            .publishers
            .iter()
            .flat_map(|publisher| &publisher.accepted)
            .map(|payload| String::from_utf8(payload.clone()).unwrap())
            .collect();
        assert!(accepted.len() > 50, "only {} messages", accepted.len());
        assert!(self.publishers.iter().all(|publisher| publisher.refused.is_empty()));
        for chat in self.subscribers.iter().chain(&self.away) {
            check_receiver(&chat.client_id, &[chat], &accepted, &self.wills);
            check_order(chat);
        }
        let members: Vec<&Chat> = self.members.iter().collect();
        check_receiver("the team", &members, &accepted, &self.wills);
        println!("{} messages accepted, {} wills", accepted.len(), self.wills.len());
    }

    /// What is retained is not older than what was acknowledged last.
    fn check_retained(&self, node: &Node) {
        for shard in 0..SHARDS {
            let mut reader = client(shard, "reader");
            reader.connect(node.mqtt);
            reader.subscribe("site/kept/#", 1);
            reader.take_all(Duration::from_millis(300)).unwrap();
            for (index, publisher) in self.publishers.iter().enumerate() {
                for qos in 1..=2 {
                    let newest = publisher
                        .accepted
                        .iter()
                        .filter_map(|payload| number_of(std::str::from_utf8(payload).unwrap()))
                        .filter(|(_, of, number)| *of == qos && number % 5 == 0)
                        .map(|(_, _, number)| number)
                        .max();
                    let found = reader.texts(&format!("site/kept/{index}/{qos}"));
                    let found = found.first().and_then(|text| number_of(text));
                    let found = found.map(|(_, _, number)| number);
                    assert!(
                        found >= newest,
                        "shard {shard}, {index}/{qos}: {found:?} < {newest:?}"
                    );
                }
            }
        }
    }
}

/// Publisher, QoS and number of a payload; `None` for a will.
fn number_of(text: &str) -> Option<(usize, u8, usize)> {
    let mut parts = text.split(' ').map(str::parse);
    let mut next = || parts.next()?.ok();
    let (publisher, qos, number): (usize, usize, usize) = (next()?, next()?, next()?);
    Some((publisher, qos as u8, number))
}

/// Every accepted message is there, and none of QoS 2 twice.
fn check_receiver(who: &str, chats: &[&Chat], accepted: &[String], wills: &[String]) {
    let mut counts: HashMap<String, usize> = HashMap::new();
    for got in chats.iter().flat_map(|chat| &chat.got) {
        *counts.entry(got.text()).or_default() += 1;
    }
    let count = |text: &String| counts.get(text).copied().unwrap_or(0);
    let lost: Vec<_> = accepted.iter().filter(|text| count(text) == 0).collect();
    assert!(lost.is_empty(), "{who} lost {} of {}: {lost:?}", lost.len(), accepted.len());
    let twice: Vec<_> = counts
        .iter()
        .filter(|(text, count)| **count > 1 && number_of(text).is_none_or(|(_, qos, _)| qos == 2))
        .collect();
    assert!(twice.is_empty(), "{who} got twice: {twice:?}");
    let unspoken: Vec<_> = wills.iter().filter(|will| count(will) == 0).collect();
    assert!(unspoken.is_empty(), "{who} misses wills {unspoken:?}");
}

/// First copies come in the order they were sent, for each publisher, topic and QoS.
fn check_order(chat: &Chat) {
    let mut newest: HashMap<String, usize> = HashMap::new();
    let mut seen = std::collections::HashSet::new();
    for got in &chat.got {
        let text = got.text();
        let Some((_, _, number)) = number_of(&text) else { continue };
        if !seen.insert(text.clone()) {
            continue;
        }
        let last = newest.entry(got.topic.clone()).or_default();
        assert!(*last <= number, "{}: {text} after {last} on {}", chat.client_id, got.topic);
        *last = number;
    }
}

fn rounds() -> usize {
    std::env::var("FULCRUM_CRASH_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(4)
}

/// A client with a will that is connected when the node ends.
fn mortal(cast: &mut Cast, node: &Node, round: usize, qos: u8) -> Chat {
    let text = format!("will of round {round}");
    let name = format!("mortal{round}");
    let mut mortal = client((round % usize::from(SHARDS)) as u16, &name);
    mortal = mortal.with_will(ENDS, &text, qos, false, 0);
    if round % 3 == 2 {
        mortal = mortal.keeping(3600);
    }
    mortal.connect(node.mqtt);
    cast.wills.push(text);
    mortal
}

#[test]
fn acknowledged_messages_survive_kills_and_qos_2_comes_once() {
    let mut random = Random::from_environment("FULCRUM_CRASH_SEED");
    let place = place();
    let mut node = Node::start(&place);
    let mut cast = Cast::new(&node);
    for round in 0..rounds() {
        let mortal = mortal(&mut cast, &node, round, 2);
        let after = Duration::from_millis(30 + random.below(400));
        cast.play(&mut random, || {
            std::thread::sleep(after);
            node.kill();
        });
        drop(mortal);
        node = Node::start(&place);
        cast.come_back(&node);
    }
    cast.settle(&node);
    cast.check();
    cast.check_retained(&node);
    node.terminate();
    assert_eq!(node.wait().code(), Some(0));
}

#[test]
fn a_node_that_stops_in_order_keeps_the_same_promises_and_says_so() {
    let mut random = Random::from_environment("FULCRUM_STOP_SEED");
    let place = place();
    let mut node = Node::start(&place);
    let mut cast = Cast::new(&node);
    for round in 0..rounds() {
        let mortal = mortal(&mut cast, &node, round, 2);
        let after = Duration::from_millis(30 + random.below(400));
        cast.play(&mut random, || {
            std::thread::sleep(after);
            node.terminate();
            let begun = Instant::now();
            assert_eq!(node.wait().code(), Some(0));
            assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
        });
        drop(mortal);
        for chat in cast.subscribers.iter().chain(&cast.publishers) {
            let expected = (chat.level == ProtocolLevel::V5).then_some(0x8b);
            assert_eq!(chat.goodbye, expected, "{}", chat.client_id);
        }
        node = Node::start(&place);
        cast.come_back(&node);
    }
    cast.settle(&node);
    cast.check();
    cast.check_retained(&node);
}
