//! Messaging where things are large, full or refused: retained messages beyond one output, a session journal that is
//! nearly full, what counters say.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that fails says so by panicking")]

mod harness;

use fulcrum_journal::JournalConfig;
use fulcrum_ring::RingConfig;
use fulcrum_sessions::Limits;
use fulcrum_shard::Message;
use harness::{Client, Node, Seen, journal_config};
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

#[test]
fn a_tenant_made_again_under_the_same_name_begins_with_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path(), 2);
    let mut keeper = node.durable_chat(1, "keeper");
    keeper.connect(node.mqtt[1]);
    keeper.subscribe("news", 1);
    let mut publisher = node.chat(0, "p");
    publisher.connect(node.mqtt[0]);
    publisher.publish_and_wait("kept", 1, true, b"old");
    let tenant = publisher.username.split_once('@').unwrap().1.to_owned();
    for handle in &node.handles {
        handle.send(Message::Forget { tenant: tenant.as_str().into(), login: None }).unwrap();
    }
    node.wait_for("the sessions to end", |node| {
        node.total(|metrics| metrics.sessions_connected.value()) == 0
            && node.total(|metrics| metrics.sessions_disconnected.value()) == 0
    });
    keeper.drop_connection();
    assert!(!keeper.connect(node.mqtt[1]), "no session is present");
    keeper.subscribe("kept", 1);
    keeper.take_all(Duration::from_millis(100)).unwrap();
    assert!(keeper.got.is_empty(), "nothing is retained");
    node.stop();
}

#[test]
fn devices_that_do_not_talk_to_each_other_do_not_take_each_others_connections_over() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path(), 2);
    let mut clients: Vec<Client> = ["d1@acme", "d2@acme"]
        .map(|username| {
            let mut client = Client::open(node.mqtt[0]);
            client.send_connect(username, "secret", "firmware-default", 0);
            assert_eq!(client.read(), Some(Seen::ConnAck(0)), "{username}");
            client
        })
        .into();
    for client in &mut clients {
        client.write(fulcrum_mqtt::encode_pingreq);
        assert_eq!(client.read(), Some(Seen::Pong));
    }
    node.stop();
}
