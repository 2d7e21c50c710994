//! Messaging where things are large, full or refused: retained messages beyond one output, a session journal that is
//! nearly full, what counters say.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that fails says so by panicking")]

mod harness;

use fulcrum_journal::JournalConfig;
use fulcrum_ring::RingConfig;
use fulcrum_sessions::Limits;
use harness::{Client, Node, journal_config};
use std::io::{Read, Write};
use std::time::Duration;

#[test]
fn a_subscriber_that_reads_gets_all_retained_messages_however_large_they_are_together() {
    const COUNT: usize = 48;
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path(), 2);
    let mut publisher = node.chat(0, "p");
    publisher.connect(node.mqtt[0]);
    for number in 0..COUNT {
        publisher.publish_and_wait(&format!("big/{number}"), 1, true, &[7; 60_000]);
    }
    for (shard, qos) in [(0, 0), (1, 1)] {
        let mut subscriber = node.chat(shard, &format!("s{qos}"));
        subscriber.connect(node.mqtt[shard]);
        subscriber.subscribe("big/#", qos);
        subscriber.wait_until(|chat| chat.got.len() >= COUNT).unwrap();
        subscriber.take_all(Duration::from_millis(50)).unwrap();
        assert_eq!(subscriber.got.len(), COUNT, "QoS {qos}");
    }
    assert_eq!(node.total(|metrics| metrics.messages_dropped_slow.value()), 0);
    node.stop();
}

#[test]
fn retained_messages_a_client_cannot_take_do_not_keep_the_others_from_it() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path(), 1);
    let mut publisher = node.chat(0, "p");
    publisher.connect(node.mqtt[0]);
    for number in 0..600 {
        // The order of topics is that of their names.
        publisher.publish(&format!("topics/{number:04}"), 1, true, &[7; 300]).unwrap();
    }
    publisher.publish("topics/9999", 1, true, b"small").unwrap();
    publisher.wait_until(|chat| chat.owes_nothing()).unwrap();
    let mut subscriber = node.chat(0, "s");
    subscriber.packet_bytes_max = 200;
    subscriber.connect(node.mqtt[0]);
    subscriber.subscribe("topics/#", 1);
    subscriber.wait_until(|chat| !chat.got.is_empty()).unwrap();
    assert_eq!(subscriber.got[0].text(), "small");
    node.stop();
}

#[test]
fn a_session_journal_with_room_to_be_made_refuses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let journal = journal_config(dir.path(), 1);
    let sessions =
        JournalConfig { dir: journal.dir.join("sessions"), bytes_max: 12 << 20, ..journal.clone() };
    let node = Node::start_limited(&journal, &sessions, RingConfig::default(), &Limits::default());
    let mut publisher = node.chat(0, "p");
    publisher.connect(node.mqtt[0]);
    // Two fifths of the journal are needed, always; it is written several times over.
    for round in 0..6_u8 {
        for number in 0..100 {
            publisher.publish_and_wait(&format!("kept/{number}"), 1, true, &[round; 50_000]);
        }
        assert!(publisher.refused.is_empty(), "round {round}: {:?}", publisher.refused[0].0);
    }
    let used = node.total(|metrics| metrics.session_journal_bytes_used.value());
    assert!(used <= 12 << 20, "{used}");
    node.stop();
}

#[test]
fn messages_between_clients_do_not_count_as_stored_messages_of_devices() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path(), 1);
    let mut durable = node.durable_chat(0, "d");
    durable.connect(node.mqtt[0]);
    durable.subscribe("mine", 1);
    durable.publish_and_wait("mine", 1, false, b"12345");
    durable.wait_until(|chat| chat.got.len() == 1).unwrap();
    let metrics = &node.metrics[0];
    assert_eq!(metrics.stored_acknowledged.value(), 0);
    assert_eq!(metrics.payload_bytes_received.value(), 5);
    node.stop();
}

#[test]
fn a_length_of_more_bytes_than_it_needs_is_malformed_on_a_known_topic_too() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path(), 1);
    let mut subscriber = node.chat(0, "s").v311();
    subscriber.connect(node.mqtt[0]);
    subscriber.subscribe("room", 0);
    let mut publisher = Client::connect(node.mqtt[0], "chat-p@t");
    let body = b"\x00\x04roomhello";
    for _ in 0..3 {
        publisher.socket.write_all(&[0x30, body.len() as u8]).unwrap();
        publisher.socket.write_all(body).unwrap();
    }
    subscriber.wait_until(|chat| chat.got.len() == 3).unwrap();
    publisher.socket.write_all(&[0x30, body.len() as u8 | 0x80, 0]).unwrap();
    publisher.socket.write_all(body).unwrap();
    publisher.socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    assert!(matches!(publisher.socket.read(&mut [0; 16]), Ok(0) | Err(_)));
    node.wait_for("the publisher to be refused", |node| {
        node.total(|metrics| metrics.protocol_errors.value()) == 1
    });
    subscriber.take_all(Duration::from_millis(50)).unwrap();
    assert_eq!(subscriber.got.len(), 3);
    node.stop();
}
