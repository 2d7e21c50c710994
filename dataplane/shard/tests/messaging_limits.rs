//! What happens to messaging where something is full, broken, slow or in a hurry.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that fails says so by panicking")]

mod harness;

use fulcrum_journal::JournalConfig;
use fulcrum_ring::RingConfig;
use fulcrum_sessions::Limits;
use harness::chat::{Chat, Gone, Random};
use harness::{Node, journal_config};
use std::collections::HashMap;
use std::path::Path;
use std::time::{Duration, Instant};

const QUOTA_EXCEEDED: u8 = 0x97;

fn start(dir: &Path, shards: u16, limits: &Limits, session_bytes_max: u64) -> Node {
    let journal = journal_config(dir, shards);
    let sessions = JournalConfig {
        dir: dir.join("sessions"),
        segment_bytes: 256 << 10,
        bytes_max: session_bytes_max,
        reserve_bytes: 64 << 10,
        batch_bytes_max: 64 << 10,
        ..journal.clone()
    };
    Node::start_limited(&journal, &sessions, RingConfig::default(), limits)
}

/// A client with a kept session that is away.
fn away(node: &Node, shard: usize, name: &str, filter: &str) -> Chat {
    let mut away = node.durable_chat(shard, name);
    away.connect(node.mqtt[shard]);
    away.subscribe(filter, 2);
    away.leave(0);
    away
}

/// Its payloads, each with how often it came.
fn counts(chat: &Chat) -> HashMap<Vec<u8>, usize> {
    let mut counts = HashMap::new();
    chat.got.iter().for_each(|got| *counts.entry(got.payload.clone()).or_default() += 1);
    counts
}

#[test]
fn a_queue_takes_as_many_messages_as_it_may_and_keeps_them_when_more_come() {
    let dir = tempfile::tempdir().unwrap();
    let limits = Limits { queue_messages_max: 5, ..Limits::default() };
    let node = start(dir.path(), 1, &limits, 8 << 20);
    let mut full = away(&node, 0, "full", "a/#");
    let mut publisher = node.chat(0, "p");
    publisher.connect(node.mqtt[0]);
    for number in 0..8_u8 {
        publisher.publish_and_wait("a/b", 1 + number % 2, false, &[number]);
    }
    assert_eq!(publisher.accepted, (0..5_u8).map(|n| vec![n]).collect::<Vec<_>>());
    let refused: Vec<_> = (5..8_u8).map(|n| (QUOTA_EXCEEDED, vec![n])).collect();
    assert_eq!(publisher.refused, refused);
    assert_eq!(node.metrics[0].messages_dropped_queue_full.value(), 3);
    // Somebody else is there: the one that is full stands in nobody's way.
    let mut other = node.chat(0, "other");
    other.connect(node.mqtt[0]);
    other.subscribe("a/b", 1);
    publisher.publish_and_wait("a/b", 1, false, b"x");
    other.wait_until(|chat| chat.got.len() == 1).unwrap();
    assert!(full.connect(node.mqtt[0]));
    full.take_all(Duration::from_millis(200)).unwrap();
    let got: Vec<_> = full.got.iter().map(|got| got.payload.clone()).collect();
    assert_eq!(got, (0..5_u8).map(|n| vec![n]).collect::<Vec<_>>());
    publisher.publish_and_wait("a/b", 2, false, b"y");
    full.wait_until(|chat| chat.got.len() == 6).unwrap();
    drop((full, publisher, other));
    node.stop();
}

#[test]
fn a_full_queue_on_another_shard_is_told_to_the_publisher_as_one_here() {
    let dir = tempfile::tempdir().unwrap();
    let limits = Limits { queue_messages_max: 5, ..Limits::default() };
    let node = start(dir.path(), 2, &limits, 8 << 20);
    let full = away(&node, 1, "full", "a/#");
    let mut publisher = node.chat(0, "p");
    publisher.connect(node.mqtt[0]);
    for number in 0..8_u8 {
        publisher.publish_and_wait("a/b", 1, false, &[number]);
    }
    assert_eq!((publisher.accepted.len(), publisher.refused.len()), (5, 3));
    drop((full, publisher));
    node.stop();
}

#[test]
fn a_tenants_queues_hold_as_many_bytes_as_they_may_and_other_tenants_theirs() {
    let dir = tempfile::tempdir().unwrap();
    let limits = Limits { tenant_bytes_max: 64 << 10, ..Limits::default() };
    let node = start(dir.path(), 1, &limits, 8 << 20);
    // One message in two queues counts once.
    let mut twins = [away(&node, 0, "one", "a/#"), away(&node, 0, "two", "a/+")];
    let mut publisher = node.chat(0, "p");
    publisher.connect(node.mqtt[0]);
    let mut number = 0_u32;
    while publisher.refused.is_empty() {
        let mut payload = vec![7; 4096];
        payload[..4].copy_from_slice(&number.to_be_bytes());
        publisher.publish_and_wait("a/b", 1, false, &payload);
        number += 1;
        assert!(number < 20);
    }
    assert_eq!(publisher.refused[0].0, QUOTA_EXCEEDED);
    assert!((13..=15).contains(&publisher.accepted.len()), "{}", publisher.accepted.len());
    let mut neighbour = Chat::new("chat-n@other", "n").keeping(60);
    neighbour.connect(node.mqtt[0]);
    neighbour.subscribe("a/#", 1);
    neighbour.publish_and_wait("a/b", 1, false, &[0; 8192]);
    neighbour.wait_until(|chat| chat.got.len() == 1).unwrap();
    assert_eq!(node.metrics[0].messages_dropped_tenant_full.value(), 2);
    for twin in &mut twins {
        twin.connect(node.mqtt[0]);
        twin.wait_until(|chat| chat.got.len() == publisher.accepted.len()).unwrap();
    }
    publisher.publish_and_wait("a/b", 1, false, b"again");
    assert_eq!(publisher.refused.len(), 1);
    drop((twins, publisher, neighbour));
    node.stop();
}

#[test]
fn a_full_session_journal_refuses_takes_acknowledgements_and_recovers() {
    let dir = tempfile::tempdir().unwrap();
    let limits = Limits { queue_messages_max: 10_000, ..Limits::default() };
    let node = start(dir.path(), 2, &limits, 2 << 20);
    let mut away = away(&node, 1, "away", "a/#");
    let mut publishers = [
        node.chat(1, "here"),
        node.chat(0, "there"),
        node.durable_chat(0, "twice"),
        node.durable_chat(1, "kept"),
    ];
    for publisher in &mut publishers {
        publisher.connect(node.mqtt[0]);
    }
    let mut number = 0_u32;
    let mut publish = |publisher: &mut Chat, qos: u8, bytes: usize| {
        let mut payload = vec![7; bytes];
        payload[..4].copy_from_slice(&number.to_be_bytes());
        number += 1;
        publisher.publish("a/b", qos, false, &payload).unwrap();
        publisher.wait_until(Chat::owes_nothing).unwrap();
    };
    // All but the last come from shards whose own journal has room for long.
    while publishers[..2].iter().any(|publisher| publisher.refused.len() < 3) {
        publish(&mut publishers[0], 1, 8 << 10);
        publish(&mut publishers[1], 1, 8 << 10);
        assert!(publishers[0].accepted.len() < 1000);
    }
    for qos in [2, 1, 2, 2] {
        publish(&mut publishers[3], qos, 8 << 10);
        // Its own shard has room: it is promised here and delivered when there is room there.
        publish(&mut publishers[2], 2, 8 << 10);
        publish(&mut publishers[1], 2, 8 << 10);
    }
    assert!(publishers[2].refused.is_empty());
    // To the last bytes.
    let refused = publishers[0].refused.len();
    while publishers[0].refused.len() == refused {
        publish(&mut publishers[0], 1, 100);
    }
    node.wait_for("the journal to be called full", |node| {
        node.metrics[1].session_journal_state.value() == 1
    });
    // Clients without a session on disk are let in and talk.
    let mut light = node.chat(1, "light");
    light.connect(node.mqtt[1]);
    light.subscribe("light", 1);
    light.publish_and_wait("light", 1, false, b"x");
    light.wait_until(|chat| chat.got.len() == 1).unwrap();

    assert!(away.connect(node.mqtt[1]));
    let accepted: Vec<Vec<u8>> =
        publishers.iter().flat_map(|publisher| publisher.accepted.clone()).collect();
    away.wait_until(|chat| chat.got.len() >= accepted.len()).unwrap();
    away.take_all(Duration::from_millis(200)).unwrap();
    let counts = counts(&away);
    assert!(accepted.iter().all(|payload| counts.get(payload) == Some(&1)));
    assert_eq!(counts.len(), accepted.len());
    // What is done with is given up, and there is room again.
    let begun = Instant::now();
    let before = publishers[0].accepted.len();
    while publishers[0].accepted.len() < before + 400 {
        publish(&mut publishers[0], 1, 8 << 10);
        away.take_all(Duration::from_millis(1)).unwrap();
        assert!(begun.elapsed() < Duration::from_secs(30), "it does not recover");
    }
    drop((publishers, away, light));
    node.stop();
}

#[test]
fn a_full_session_journal_lets_retained_messages_go() {
    const TOPICS: usize = 40;
    let dir = tempfile::tempdir().unwrap();
    let limits = Limits { queue_messages_max: 10_000, ..Limits::default() };
    let node = start(dir.path(), 2, &limits, 2 << 20);
    let mut publishers = [node.chat(0, "one"), node.chat(1, "other"), node.durable_chat(1, "kept")];
    for publisher in &mut publishers {
        publisher.connect(node.mqtt[0]);
    }
    for number in 0..TOPICS {
        publishers[0].publish_and_wait(&format!("r/{number}"), 1, true, b"retained");
    }
    // Both shards are full to the last bytes.
    let aways = [away(&node, 0, "away0", "a/0"), away(&node, 1, "away1", "a/1")];
    for (shard, publisher) in publishers.iter_mut().enumerate().take(2) {
        for bytes in [8 << 10, 100, 1] {
            let refused = publisher.refused.len();
            while publisher.refused.len() < refused + 3 {
                publisher.publish_and_wait(&format!("a/{shard}"), 1, false, &vec![7; bytes]);
            }
        }
    }
    for (index, publisher) in publishers.iter_mut().enumerate() {
        let refused = publisher.refused.len();
        publisher.publish_and_wait(&format!("new/{index}"), 1, true, b"x");
        assert_eq!(publisher.refused.len(), refused + 1, "nothing new is kept");
        for number in (index..TOPICS - 3).step_by(3) {
            publisher.publish_and_wait(&format!("r/{number}"), (number % 2) as u8, true, b"");
        }
        // What nobody keeps needs no room to go.
        for number in 0..20 {
            publisher.publish_and_wait(&format!("none/{number}"), 1, true, b"");
        }
        assert_eq!(publisher.refused.len(), refused + 1, "{}", publisher.client_id);
    }
    drop((publishers, aways));
    node.stop();
    let node = start(dir.path(), 2, &limits, 2 << 20);
    let mut reader = node.chat(0, "reader");
    reader.connect(node.mqtt[1]);
    reader.subscribe("#", 0);
    reader.take_all(Duration::from_millis(200)).unwrap();
    let mut left: Vec<&str> = reader.got.iter().map(|got| &*got.topic).collect();
    left.sort_unstable();
    assert_eq!(left, ["r/37", "r/38", "r/39"]);
    drop(reader);
    node.stop();
}

#[test]
fn a_session_journal_that_fails_acknowledges_nothing_it_does_not_keep() {
    let dir = tempfile::tempdir().unwrap();
    let limits = Limits { queue_messages_max: 10_000, ..Limits::default() };
    let node = start(dir.path(), 2, &limits, 8 << 20);
    let mut away = away(&node, 1, "away", "a/#");
    node.store.lock().unwrap().disk_fails = true;
    let mut publishers =
        [node.chat(1, "here"), node.chat(0, "there"), node.durable_chat(0, "twice")];
    for publisher in &mut publishers {
        publisher.connect(node.mqtt[1]);
    }
    let mut number = 0_u32;
    let deadline = Instant::now() + Duration::from_secs(20);
    while publishers.iter().any(|publisher| publisher.refused.is_empty()) {
        for (index, publisher) in publishers.iter_mut().enumerate() {
            let mut payload = vec![7; 8 << 10];
            payload[..4].copy_from_slice(&number.to_be_bytes());
            number += 1;
            let qos = if index == 2 { 2 } else { 1 };
            let sent = publisher.publish("a/b", qos, false, &payload);
            if sent.is_err() || publisher.wait_until(|chat| chat.under_way() < 4) == Err(Gone) {
                // It was told by the end of the connection.
                publisher.refused.push((0, Vec::new()));
                publisher.drop_connection();
            }
        }
        assert!(Instant::now() < deadline, "nobody is refused");
        if publishers.iter().all(|publisher| !publisher.is_connected()) {
            break;
        }
    }
    let accepted: Vec<Vec<u8>> =
        publishers.iter().flat_map(|publisher| publisher.accepted.clone()).collect();
    assert!(!accepted.is_empty());
    publishers.iter_mut().for_each(Chat::drop_connection);
    node.stop();
    let node = start(dir.path(), 2, &limits, 8 << 20);
    assert!(away.connect(node.mqtt[0]));
    away.take_all(Duration::from_millis(500)).unwrap();
    let counts = counts(&away);
    let lost = accepted.iter().filter(|payload| !counts.contains_key(*payload)).count();
    assert_eq!(lost, 0, "of {}", accepted.len());
    drop(away);
    node.stop();
}

#[test]
fn a_subscriber_that_does_not_read_slows_nobody_and_what_waits_for_it_is_bounded() {
    const COUNT: usize = 3000;
    let dir = tempfile::tempdir().unwrap();
    let limits = Limits { queue_messages_max: 200, ..Limits::default() };
    let node = start(dir.path(), 2, &limits, 8 << 20);
    let mut stuck: Vec<Chat> = (0..2)
        .map(|qos| {
            let mut stuck = node.chat(1, &format!("stuck{qos}"));
            stuck.connect(node.mqtt[1]);
            stuck.subscribe("a/#", qos);
            stuck
        })
        .collect();
    let mut reader = node.chat(1, "reader");
    reader.connect(node.mqtt[1]);
    reader.subscribe("a/#", 1);
    let mut publisher = node.chat(0, "p");
    publisher.connect(node.mqtt[0]);
    let mut slowest = Duration::ZERO;
    for number in 0..COUNT {
        let begun = Instant::now();
        let mut payload = vec![7; 8 << 10];
        payload[..8].copy_from_slice(&(number as u64).to_be_bytes());
        publisher.publish("a/b", 1, false, &payload).unwrap();
        reader.wait_until(|chat| chat.got.len() > number).unwrap();
        slowest = slowest.max(begun.elapsed());
        publisher.wait_until(|chat| chat.under_way() < 10).unwrap();
    }
    assert!(slowest < Duration::from_secs(2), "{slowest:?}");
    // At most what is queued and what may be under way.
    let queued = node.total(|metrics| metrics.messages_queued.value());
    assert!(queued <= 200 + 1024, "{queued}");
    assert!(node.total(|metrics| metrics.messages_dropped_slow.value()) > 100);
    assert!(node.total(|metrics| metrics.messages_dropped_queue_full.value()) > 100);
    assert_eq!(node.total(|metrics| metrics.slow_consumers.value()), 0);
    // They read at last, in order and nothing twice.
    for stuck in &mut stuck {
        stuck.take_all(Duration::from_millis(300)).unwrap();
        let numbers: Vec<u64> = stuck
            .got
            .iter()
            .map(|got| u64::from_be_bytes(*got.payload.first_chunk().unwrap()))
            .collect();
        assert!(numbers.len() > 100 && numbers.is_sorted_by(|a, b| a < b));
        publisher.publish_and_wait("a/last", 1, false, &[0; 8]);
        stuck.wait_until(|chat| !chat.texts("a/last").is_empty()).unwrap();
    }
    drop((stuck, reader, publisher));
    node.stop();
}

#[test]
fn of_a_storm_of_one_clients_connections_the_last_one_stays_and_nothing_is_left() {
    const SHARDS: u16 = 3;
    let mut random = Random::from_environment("FULCRUM_STORM_SEED");
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path(), SHARDS);
    let seeds: Vec<u64> = (0..6).map(|_| random.next()).collect();
    std::thread::scope(|scope| {
        for seed in seeds {
            let node = &node;
            scope.spawn(move || {
                let mut random = Random::new(seed);
                for _ in 0..60 {
                    let mut chat = match random.below(3) {
                        0 => node.chat(1, "storm"),
                        1 => node.durable_chat(1, "storm"),
                        _ => node.durable_chat(1, "storm").v311().with_will("w", "x", 1, true, 0),
                    };
                    let door = node.mqtt[random.below(u64::from(SHARDS)) as usize];
                    if chat.open(door).is_err() || chat.send_connect().is_err() {
                        continue;
                    }
                    match random.below(4) {
                        // Gone before the answer.
                        0 => {}
                        1 => chat.leave(0),
                        _ => {
                            let greeted = chat.await_greeting();
                            if greeted.is_ok_and(|(_, code)| code == 0) {
                                let _ = chat.publish("storm/x", 2, false, b"x");
                                let _ = chat.send_subscribe(
                                    "storm/#",
                                    harness::chat::options(1, fulcrum_mqtt::RetainHandling::Send),
                                );
                                let _ = chat.take(Duration::from_millis(random.below(10)));
                            }
                        }
                    }
                }
            });
        }
    });
    // Who left without waiting for an answer may still be on the way in, and would take over whoever comes next.
    let over =
        || node.wait_for("the storm to be over", |node| node.total(|m| m.connections.value()) == 0);
    over();
    std::thread::sleep(Duration::from_millis(300));
    over();
    let mut last: Vec<Chat> = Vec::new();
    for door in 0..SHARDS {
        let mut chat = node.durable_chat(1, "storm");
        chat.connect(node.mqtt[usize::from(door)]);
        last.push(chat);
    }
    let total = |counter: fn(&fulcrum_shard::ShardMetrics) -> u64| node.total(counter);
    node.wait_for("one connection", |node| node.total(|m| m.connections.value()) == 1);
    assert_eq!(total(|m| m.connections_authenticated.value()), 1);
    assert_eq!(total(|m| m.sessions_connected.value()), 1);
    let (survivor, others) = last.split_last_mut().unwrap();
    survivor.ping().unwrap();
    for other in others {
        assert_eq!(other.wait_until(|_| false), Err(Gone));
        assert_eq!(other.goodbye, Some(0x8e));
    }
    survivor.subscribe("storm/last", 1);
    survivor.publish_and_wait("storm/last", 1, false, b"x");
    survivor.wait_until(|chat| !chat.texts("storm/last").is_empty()).unwrap();
    survivor.expiry_s = 0;
    survivor.clean = true;
    survivor.connect(node.mqtt[0]);
    survivor.leave(0);
    node.wait_for("nobody", |node| {
        node.total(|m| m.connections.value()) == 0
            && node.total(|m| m.sessions_connected.value()) == 0
    });
    node.wait_for("no subscription", |node| node.total(|m| m.topic_subscriptions.value()) == 0);
    assert_eq!(node.total(|m| m.sessions_disconnected.value()), 0);
    assert_eq!(node.total(|m| m.receipts_waiting.value()), 0);
    drop(last);
    node.stop();
}
