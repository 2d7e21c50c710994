//! Commands: what a device has taken is reported once and not sent again, and none is forgotten.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that fails says so by panicking")]

mod harness;

use fulcrum_frame::Class;
use fulcrum_shard::{Command, Message};
use harness::{Client, Node, Seen, stored};
use std::time::Duration;

fn command(id: &str) -> Command {
    Command {
        id: id.to_owned(),
        subject: "set".to_owned(),
        response_required: true,
        payload: b"on".to_vec(),
        deliver_by_ms: None,
    }
}

fn put(node: &Node, ids: &[&str]) {
    let key = ("acme".to_owned(), "d1".to_owned());
    let commands = ids.iter().map(|id| command(id)).collect();
    node.store.lock().unwrap().commands.insert(key, commands);
}

fn announce(node: &Node) {
    for handle in &node.handles {
        let message = Message::CommandArrived { tenant: "acme".into(), device: "d1".into() };
        handle.send(message).unwrap();
    }
}

/// Whether nothing comes for a moment.
fn is_silent(client: &mut Client) -> bool {
    client.write(fulcrum_mqtt::encode_pingreq);
    std::thread::sleep(Duration::from_millis(200));
    client.read() == Some(Seen::Pong)
}

fn statuses(node: &Node) -> usize {
    let all = node.tails.iter().flat_map(stored);
    all.filter(|(class, ..)| *class == Class::CommandStatus).count()
}

#[test]
fn subscribing_twice_does_not_deliver_a_command_twice() {
    let dir = tempfile::tempdir().unwrap();
    for shard in [0, 1] {
        let node = Node::start(&dir.path().join(shard.to_string()), 2);
        put(&node, &["a", "b"]);
        let mut device = Client::connect(node.mqtt[shard], "d1@acme");
        device.subscribe("command///req/#", 1);
        let (topic, _, packet_id) = device.expect_publish();
        assert_eq!(topic, "command///req/001a/set");
        device.subscribe("command///req/#", 1);
        assert!(is_silent(&mut device), "delivered again");
        device.acknowledge(packet_id.unwrap());
        assert_eq!(device.expect_publish().0, "command///req/001b/set");
        node.stop();
    }
}

#[test]
fn an_acknowledgement_after_unsubscribing_counts() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path(), 2);
    put(&node, &["a"]);
    let mut device = Client::connect(node.mqtt[0], "d1@acme");
    device.subscribe("command///req/#", 1);
    let (_, _, packet_id) = device.expect_publish();
    device.write(|out| {
        fulcrum_mqtt::encode_unsubscribe(5, &["command///req/#"], out).unwrap();
    });
    assert_eq!(device.read(), Some(Seen::Other), "UNSUBACK");
    device.acknowledge(packet_id.unwrap());
    node.wait_for("the command to be done", |node| node.store.lock().unwrap().done == ["a"]);
    assert_eq!(statuses(&node), 1);
    node.stop();
}

#[test]
fn commands_wait_for_a_busy_store_and_not_for_the_device() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path(), 2);
    put(&node, &["a", "b"]);
    node.store.lock().unwrap().busy = true;
    let mut device = Client::connect(node.mqtt[0], "d1@acme");
    device.subscribe("command///req/#", 1);
    assert!(is_silent(&mut device));
    node.store.lock().unwrap().busy = false;
    let (topic, _, packet_id) = device.expect_publish();
    assert_eq!(topic, "command///req/001a/set");
    // Nor does it see one again that the store could not be told about.
    node.store.lock().unwrap().busy = true;
    device.acknowledge(packet_id.unwrap());
    assert_eq!(device.expect_publish().0, "command///req/001b/set");
    drop(device);
    node.wait_for("the device to be gone", |node| node.total(|m| m.commands_released.value()) == 1);
    let mut device = Client::connect(node.mqtt[1], "d1@acme");
    device.subscribe("command///req/#", 1);
    node.store.lock().unwrap().busy = false;
    assert_eq!(device.expect_publish().0, "command///req/001b/set");
    node.wait_for("the first to be done", |node| node.store.lock().unwrap().done == ["a"]);
    node.stop();
}

#[test]
fn a_device_that_comes_and_goes_does_not_flood_the_store() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path(), 1);
    let mut device = Client::connect(node.mqtt[0], "d1@acme");
    let mut flood = Vec::new();
    for _ in 0..200 {
        let filter = [("command///req/#", fulcrum_mqtt::QoS::AtLeastOnce)];
        fulcrum_mqtt::encode_subscribe(9, &filter, &mut flood).unwrap();
        fulcrum_mqtt::encode_unsubscribe(5, &["command///req/#"], &mut flood).unwrap();
    }
    device.write(|out| out.extend_from_slice(&flood));
    for _ in 0..400 {
        assert!(matches!(device.read(), Some(Seen::SubAck(_) | Seen::Other)));
    }
    // One question a turn: the flood is a few receive buffers.
    assert!(node.store.lock().unwrap().loads <= 20, "{}", node.store.lock().unwrap().loads);
    node.stop();
}

#[test]
fn what_became_of_a_command_is_told_when_the_journal_has_room_again() {
    let dir = tempfile::tempdir().unwrap();
    let config = fulcrum_journal::JournalConfig {
        bytes_max: 3 << 20,
        ..harness::journal_config(dir.path(), 1)
    };
    let node = Node::start_with(&config, Default::default());
    let mut filler = Client::connect(node.mqtt[0], "d2@acme");
    let mut number = 0;
    loop {
        number += 1;
        filler.publish("event", 1, Some(number), &[7; 32 * 1024]);
        match filler.read() {
            Some(Seen::PubAck(_)) => {}
            None => break,
            other => panic!("{other:?}"),
        }
    }
    // To the last byte: a status record is small.
    for payload in [4096, 512, 64, 1] {
        loop {
            let mut filler = Client::connect(node.mqtt[0], "d2@acme");
            filler.publish("event", 1, Some(1), &vec![7; payload]);
            if filler.read().is_none() {
                break;
            }
        }
    }
    put(&node, &["a"]);
    let mut device = Client::connect(node.mqtt[0], "d1@acme");
    device.subscribe("command///req/#", 1);
    let (_, _, packet_id) = device.expect_publish();
    device.acknowledge(packet_id.unwrap());
    assert!(is_silent(&mut device));
    assert_eq!(statuses(&node), 0);
    assert!(node.store.lock().unwrap().done.is_empty(), "the cloud has not heard of it yet");
    node.tails[0].acknowledge(node.tails[0].committed());
    node.wait_for("the command to be done", |node| node.store.lock().unwrap().done == ["a"]);
    assert_eq!(statuses(&node), 1);
    node.stop();
}

#[test]
fn a_command_that_expires_on_its_way_ends_once() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path(), 1);
    put(&node, &["a"]);
    let mut device = Client::connect(node.mqtt[0], "d1@acme");
    device.subscribe("command///req/#", 1);
    let (_, _, packet_id) = device.expect_publish();
    let expired = |id: &str| Message::CommandExpired {
        tenant: "acme".into(),
        device: "d1".into(),
        id: id.to_owned(),
    };
    node.handles[0].send(expired("a")).unwrap();
    node.handles[0].send(expired("elsewhere")).unwrap();
    node.wait_for("the other", |node| node.store.lock().unwrap().done == ["elsewhere"]);
    device.acknowledge(packet_id.unwrap());
    node.wait_for("the command to be done", |node| node.store.lock().unwrap().done.len() == 2);
    announce(&node);
    assert!(is_silent(&mut device));
    assert_eq!(statuses(&node), 2, "one for each");
    node.stop();
}

#[test]
fn everybody_is_asked_about_however_busy_the_store_is() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path(), 1);
    let mut application = Client::connect(node.mqtt[0], "app-deleted@acme");
    let mut devices: Vec<_> =
        (0..300).map(|n| Client::connect(node.mqtt[0], &format!("d{n}@acme"))).collect();
    let mut deleted = Client::connect(node.mqtt[0], "deleted@acme");
    node.store.lock().unwrap().busy = true;
    node.handles[0].send(Message::IdentityChanged { recheck: true }).unwrap();
    std::thread::sleep(Duration::from_millis(150));
    node.store.lock().unwrap().busy = false;
    assert_eq!(deleted.read(), None);
    assert_eq!(application.read(), None, "applications, too");
    node.wait_for("all", |node| node.store.lock().unwrap().rechecks == 302);
    assert!(devices.iter_mut().all(|device| {
        device.write(fulcrum_mqtt::encode_pingreq);
        device.read() == Some(Seen::Pong)
    }));
    node.stop();
}

#[test]
fn a_device_evicted_while_it_logs_in_does_not_stay() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path(), 1);
    let mut client = Client::open(node.mqtt[0]);
    client.send_connect("slow-deleted@acme", "secret", "c", 0);
    std::thread::sleep(Duration::from_millis(100));
    node.handles[0].send(Message::IdentityChanged { recheck: false }).unwrap();
    let evict = Message::Evict { tenant: "acme".into(), device: Some("slow-deleted".into()) };
    node.handles[0].send(evict).unwrap();
    assert_eq!(client.read(), Some(Seen::ConnAck(0)), "its password was looked at before");
    assert_eq!(client.read(), None);
    node.stop();
}
