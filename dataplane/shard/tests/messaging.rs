//! Messaging between clients of all shards: order, what a SUBACK promises, retained messages.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that fails says so by panicking")]

mod harness;

use fulcrum_mqtt::RetainHandling;
use harness::Node;
use harness::chat::{Chat, PATIENCE, Random, options};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// Sends `count` messages to two topics, with up to `window` unanswered.
fn send_numbered(chat: &mut Chat, name: &str, qos: u8, count: usize, window: usize) {
    for number in 0..count {
        let payload = format!("{name} {number}");
        chat.publish(&format!("room/{}", number % 2), qos, false, payload.as_bytes()).unwrap();
        chat.take(Duration::from_micros(1)).unwrap();
        chat.wait_until(|chat| chat.under_way() < window).unwrap();
    }
    chat.wait_until(Chat::owes_nothing).unwrap();
    assert!(chat.refused.is_empty(), "{name}: {:?}", chat.refused);
}

/// Numbers by (publisher, topic) in the order they came.
fn numbers(chat: &Chat) -> BTreeMap<(String, String), Vec<usize>> {
    let mut found: BTreeMap<_, Vec<usize>> = BTreeMap::new();
    for got in &chat.got {
        let text = got.text();
        let (name, number) = text.split_once(' ').unwrap();
        let key = (name.to_owned(), got.topic.clone());
        found.entry(key).or_default().push(number.parse().unwrap());
    }
    found
}

#[test]
fn each_publishers_messages_arrive_whole_once_and_in_order_on_every_shard() {
    const EACH: usize = 150;
    const SHARDS: usize = 3;
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path(), SHARDS as u16);
    let mut subscribers = Vec::new();
    for shard in 0..SHARDS {
        subscribers.push(node.chat(shard, &format!("s{shard}")));
        subscribers.push(node.durable_chat(shard, &format!("d{shard}")));
        subscribers.push(node.chat(shard, &format!("o{shard}")).v311());
    }
    subscribers.push(node.durable_chat(1, "slow"));
    for (index, subscriber) in subscribers.iter_mut().enumerate() {
        // Through any shard's door.
        subscriber.connect(node.mqtt[index % SHARDS]);
        assert_eq!(subscriber.subscribe("room/+", 2), 2);
    }
    let names: Vec<(usize, u8, String)> = (0..SHARDS)
        .flat_map(|shard| (0..3).map(move |qos| (shard, qos, format!("p{shard}q{qos}"))))
        .collect();
    let all = names.len() * EACH;
    std::thread::scope(|scope| {
        for (index, (shard, qos, name)) in names.iter().enumerate() {
            let mut publisher = match index % 2 {
                0 => node.chat(*shard, name),
                _ => node.durable_chat(*shard, name),
            };
            let address = node.mqtt[(shard + 1) % SHARDS];
            scope.spawn(move || {
                publisher.connect(address);
                send_numbered(&mut publisher, name, *qos, EACH, 40);
            });
        }
        for subscriber in &mut subscribers {
            let slow = subscriber.username.contains("slow");
            scope.spawn(move || {
                if slow {
                    std::thread::sleep(Duration::from_millis(1500));
                }
                subscriber.wait_until(|chat| chat.got.len() >= all).unwrap();
                subscriber.take_all(Duration::from_millis(100)).unwrap();
            });
        }
    });
    for subscriber in &subscribers {
        let found = numbers(subscriber);
        assert_eq!(found.len(), names.len() * 2, "{}", subscriber.client_id);
        for ((name, topic), numbers) in found {
            let first = usize::from(topic.ends_with('1'));
            let expected: Vec<usize> = (first..EACH).step_by(2).collect();
            assert_eq!(numbers, expected, "{name} to {} on {topic}", subscriber.client_id);
        }
    }
    drop(subscribers);
    node.wait_for("all to be gone", |node| node.total(|m| m.connections.value()) == 0);
    assert_eq!(node.total(|metrics| metrics.receipts_waiting.value()), 0);
    node.stop();
}

#[test]
fn what_is_published_on_any_shard_after_the_suback_arrives() {
    const SHARDS: usize = 3;
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path(), SHARDS as u16);
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // Lanes with something in them.
        for shard in 0..SHARDS {
            let (node, over) = (&node, &over);
            scope.spawn(move || {
                let mut noisy = node.chat(shard, &format!("noisy{shard}"));
                noisy.connect(node.mqtt[shard]);
                noisy.subscribe("noise/#", 1);
                while !over.load(Relaxed) {
                    for number in 0..20 {
                        let qos = number % 2;
                        noisy.publish(&format!("noise/{shard}"), qos, false, &[0; 500]).unwrap();
                    }
                    noisy.wait_until(Chat::owes_nothing).unwrap();
                }
            });
        }
        let mut publishers: Vec<Chat> =
            (0..SHARDS).map(|shard| node.chat(shard, &format!("p{shard}"))).collect();
        for (shard, publisher) in publishers.iter_mut().enumerate() {
            publisher.connect(node.mqtt[shard]);
        }
        let mut subscribers: Vec<Chat> =
            (0..SHARDS).map(|shard| node.durable_chat(shard, &format!("s{shard}"))).collect();
        for (shard, subscriber) in subscribers.iter_mut().enumerate() {
            subscriber.connect(node.mqtt[shard]);
        }
        for round in 0..120 {
            let topic = format!("round/{round}");
            let subscriber = &mut subscribers[round % SHARDS];
            let publisher = &mut publishers[(round / SHARDS) % SHARDS];
            subscriber.subscribe(&topic, 2);
            publisher.publish(&topic, (round % 3) as u8, false, b"x").unwrap();
            subscriber.wait_until(|chat| !chat.texts(&topic).is_empty()).unwrap();
        }
        over.store(true, Relaxed);
    });
    node.stop();
}

/// Where two threads meet in each round; one that waits for nobody gives up.
#[derive(Default)]
struct Gate([AtomicUsize; 2]);

impl Gate {
    fn meet(&self, side: usize, round: usize) {
        self.0[side].store(round + 1, Relaxed);
        let begun = Instant::now();
        while self.0[1 - side].load(Relaxed) <= round {
            assert!(begun.elapsed() < PATIENCE, "the other side has ended");
            std::thread::yield_now();
        }
    }
}

#[test]
fn a_retained_message_is_never_missed_by_a_subscription_made_at_the_same_time() {
    const SHARDS: usize = 2;
    const ROUNDS: usize = 240;
    let mut random = Random::from_environment("FULCRUM_RETAINED_SEED");
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path(), SHARDS as u16);
    let gate = Gate::default();
    let pauses: Vec<(u64, u64)> =
        (0..ROUNDS).map(|_| (random.below(400), random.below(400))).collect();
    std::thread::scope(|scope| {
        let (node, gate, pauses) = (&node, &gate, &pauses);
        scope.spawn(move || {
            let mut publisher = node.durable_chat(0, "p");
            publisher.connect(node.mqtt[0]);
            for (round, (pause, _)) in pauses.iter().enumerate() {
                gate.meet(0, round);
                std::thread::sleep(Duration::from_micros(*pause));
                let topic = format!("kept/{round}");
                publisher.publish(&topic, (round % 3) as u8, true, b"x").unwrap();
                publisher.wait_until(Chat::owes_nothing).unwrap();
            }
        });
        let mut other = node.chat(1, "other");
        other.connect(node.mqtt[1]);
        // Half of the messages go to the other shard's subscribers too.
        for round in (0..ROUNDS).filter(|round| round % 4 < 2) {
            other
                .send_subscribe(&format!("kept/{round}"), options(1, RetainHandling::Send))
                .unwrap();
        }
        other.ping().unwrap();
        let mut subscriber = node.chat(1, "s");
        subscriber.connect(node.mqtt[1]);
        for (round, (_, pause)) in pauses.iter().enumerate() {
            gate.meet(1, round);
            std::thread::sleep(Duration::from_micros(*pause));
            let topic = format!("kept/{round}");
            subscriber.subscribe(&topic, 1);
            subscriber.wait_until(|chat| !chat.texts(&topic).is_empty()).unwrap();
            subscriber.got.clear();
        }
    });
    node.stop();
}

/// What a new subscription on each shard finds retained.
fn retained(node: &Node, filter: &str, round: usize) -> Vec<BTreeMap<String, String>> {
    let mut found = Vec::new();
    for shard in 0..node.mqtt.len() {
        let mut reader = node.chat(shard, &format!("reader{round}-{shard}"));
        reader.connect(node.mqtt[shard]);
        reader.subscribe(filter, 0);
        reader.take_all(Duration::from_millis(400)).unwrap();
        assert!(reader.got.iter().all(|got| got.retain));
        found.push(reader.got.iter().map(|got| (got.topic.clone(), got.text())).collect());
    }
    found
}

#[test]
fn shards_that_write_the_same_retained_topics_agree_and_still_do_after_a_restart() {
    const SHARDS: usize = 3;
    const TOPICS: u64 = 150;
    let mut random = Random::from_environment("FULCRUM_CONVERGE_SEED");
    let dir = tempfile::tempdir().unwrap();
    let mut node = Node::start(dir.path(), SHARDS as u16);
    for round in 0..3 {
        let gate = Barrier::new(SHARDS);
        let seeds: Vec<u64> = (0..SHARDS).map(|_| random.next()).collect();
        std::thread::scope(|scope| {
            for (shard, seed) in seeds.into_iter().enumerate() {
                let (node, gate) = (&node, &gate);
                scope.spawn(move || {
                    let mut random = Random::new(seed);
                    let mut writer = node.durable_chat(shard, &format!("w{shard}"));
                    writer.connect(node.mqtt[shard]);
                    gate.wait();
                    // All write the same topic at about the same time; some delete it.
                    for topic in 0..TOPICS {
                        let qos = random.below(3) as u8;
                        let text = match random.below(3) {
                            0 => String::new(),
                            _ => format!("{round} {shard}"),
                        };
                        let topic = format!("same/{topic}");
                        writer.publish(&topic, qos, true, text.as_bytes()).unwrap();
                        writer.wait_until(|chat| chat.under_way() < 8).unwrap();
                    }
                    writer.wait_until(Chat::owes_nothing).unwrap();
                    writer.leave(0);
                });
            }
        });
        let found = retained(&node, "same/#", round);
        assert!(found.iter().all(|shard| *shard == found[0]), "round {round}");
        let present = found[0].len();
        assert!(present > 0 && present < TOPICS as usize, "{present}");
        node.stop();
        node = Node::start(dir.path(), SHARDS as u16);
        let again = retained(&node, "same/#", round + 100);
        for (shard, again) in again.iter().enumerate() {
            let differ: Vec<_> = (0..TOPICS)
                .map(|topic| format!("same/{topic}"))
                .filter(|topic| again.get(topic) != found[0].get(topic))
                .map(|topic| (again.get(&topic), found[0].get(&topic), topic.clone()))
                .map(|(now, before, topic)| format!("{topic}: {before:?} became {now:?}"))
                .collect();
            assert!(differ.is_empty(), "round {round}, shard {shard}: {differ:?}");
        }
    }
    node.stop();
}

#[test]
fn many_retained_messages_reach_a_new_subscription_whole_at_every_qos() {
    const COUNT: usize = 700;
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path(), 2);
    let mut writer = node.chat(0, "w");
    writer.connect(node.mqtt[0]);
    for number in 0..COUNT {
        writer.publish(&format!("many/{number}"), 2, true, b"x").unwrap();
        writer.wait_until(|chat| chat.under_way() < 100).unwrap();
    }
    writer.wait_until(Chat::owes_nothing).unwrap();
    for qos in 0..3 {
        for shard in 0..2 {
            let mut reader = node.chat(shard, &format!("r{qos}"));
            reader.connect(node.mqtt[shard]);
            // It takes its time with the first of them.
            reader.acknowledges = false;
            reader.subscribe("many/#", qos);
            reader.take_all(Duration::from_millis(100)).unwrap();
            reader.acknowledges = true;
            reader.acknowledge_late().unwrap();
            reader.wait_until(|chat| chat.got.len() >= COUNT).unwrap();
            reader.take_all(Duration::from_millis(50)).unwrap();
            let mut counts: HashMap<&str, usize> = HashMap::new();
            reader.got.iter().for_each(|got| *counts.entry(&got.topic).or_default() += 1);
            assert_eq!((counts.len(), reader.got.len()), (COUNT, COUNT), "QoS {qos}");
        }
    }
    drop(writer);
    node.stop();
}

#[test]
fn a_session_gets_the_rest_of_the_retained_messages_on_its_next_connection() {
    const COUNT: usize = 700;
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path(), 2);
    let mut writer = node.chat(0, "w");
    writer.connect(node.mqtt[0]);
    for number in 0..COUNT {
        writer.publish(&format!("many/{number}"), 2, true, b"x").unwrap();
        writer.wait_until(|chat| chat.under_way() < 100).unwrap();
    }
    writer.wait_until(Chat::owes_nothing).unwrap();
    for shard in 0..2 {
        let mut reader = node.durable_chat(shard, "reader");
        reader.connect(node.mqtt[shard]);
        reader.acknowledges = false;
        reader.subscribe("many/#", 1);
        reader.wait_until(|chat| !chat.got.is_empty()).unwrap();
        reader.drop_connection();
        reader.acknowledges = true;
        // One that takes over, too, while the older connection has some left.
        let mut second = node.durable_chat(shard, "reader");
        second.acknowledges = false;
        assert!(second.connect(node.mqtt[1 - shard]));
        second.wait_until(|chat| !chat.got.is_empty()).unwrap();
        let mut third = node.durable_chat(shard, "reader");
        assert!(third.connect(node.mqtt[shard]));
        let all = |chat: &Chat| chat.got.iter().map(|got| &got.topic).collect::<HashSet<_>>().len();
        third.wait_until(|chat| all(chat) >= COUNT).unwrap();
        third.take_all(Duration::from_millis(50)).unwrap();
        assert_eq!(all(&third), COUNT);
    }
    drop(writer);
    node.stop();
}
