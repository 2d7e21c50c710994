//! The device API over real rings, sockets and files: what a device or application sees of a shard.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that fails says so by panicking")]

mod harness;

use fulcrum_frame::Class;
use fulcrum_shard::{Command, Message};
use harness::{Client, Node, Seen, http, stored};
use std::time::Duration;

const AUTH: &str = "Authorization: Basic ZDFAYWNtZTpzZWNyZXQ="; // d1@acme:secret

fn post(path: &str, more: &str, body: &str) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nHost: h\r\n{AUTH}\r\n{more}Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

fn subscribed(node: &Node, shard: usize, filter: &str, qos: u8) -> Client {
    let mut app = Client::connect(node.mqtt[shard], "app@acme");
    assert_eq!(app.subscribe(filter, qos), [qos]);
    node.wait_for("the subscription on every shard", |node| {
        node.metrics.len() == 1
            || node
                .metrics
                .iter()
                .enumerate()
                .all(|(index, metrics)| index == shard || metrics.subscriptions.value() == 1)
    });
    app
}

#[test]
fn telemetry_reaches_a_subscriber_on_the_same_shard_and_on_another() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path(), 2);
    let mut app = subscribed(&node, 1, "telemetry/acme/#", 0);
    for shard in [0, 1] {
        let mut device = Client::connect(node.mqtt[shard], &format!("d{shard}@acme"));
        device.publish("telemetry", 0, None, b"21.5");
        let expected = (format!("telemetry/acme/d{shard}"), b"21.5".to_vec(), None);
        assert_eq!(app.expect_publish(), expected);
    }
    assert_eq!(node.total(|metrics| metrics.cross_shard_sent.value()), 1);
    node.stop();
}

#[test]
fn order_per_device_holds_across_shards_under_load() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path(), 2);
    let mut app = subscribed(&node, 0, "telemetry/acme/+", 0);
    let mut devices: Vec<_> = (0..4)
        .map(|device| Client::connect(node.mqtt[device % 2], &format!("d{device}@acme")))
        .collect();
    for number in 0..500u32 {
        for device in &mut devices {
            device.publish("t", 0, None, &number.to_le_bytes());
        }
    }
    let mut next = std::collections::HashMap::new();
    for _ in 0..2000 {
        let (topic, payload, _) = app.expect_publish();
        let expected = next.entry(topic).or_insert(0u32);
        assert_eq!(payload, expected.to_le_bytes());
        *expected += 1;
    }
    node.stop();
}

#[test]
fn a_tenants_application_never_sees_another_tenants_telemetry() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path(), 1);
    let mut app = subscribed(&node, 0, "telemetry/acme/#", 0);
    assert_eq!(app.subscribe("telemetry/rival/#", 0), [0x80]);
    assert_eq!(app.subscribe("#", 0), [0x80]);
    let mut rival = Client::connect(node.mqtt[0], "d1@rival");
    rival.publish("telemetry", 0, None, b"secret of rival");
    node.wait_for("the rival's message", |node| {
        node.total(|m| m.telemetry_no_consumer.value()) == 1
    });
    let mut own = Client::connect(node.mqtt[0], "d1@acme");
    own.publish("telemetry", 0, None, b"own");
    assert_eq!(app.expect_publish().1, b"own");
    // A device cannot name another tenant either.
    own.publish("telemetry/rival/d1", 0, None, b"x");
    assert_eq!(own.read(), None);
    node.stop();
}

#[test]
fn a_filter_of_a_thousand_levels_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path(), 2);
    let mut app = subscribed(&node, 0, "telemetry/acme/+", 0);
    for filter in ["/a".repeat(32_000), "/+".repeat(30_000), "a".repeat(60_000)] {
        assert_eq!(app.subscribe(&format!("telemetry/acme/x{filter}"), 0), [0x80]);
    }
    let mut device = Client::connect(node.mqtt[1], "d1@acme");
    device.publish("telemetry", 0, None, b"21.5");
    assert_eq!(app.expect_publish().1, b"21.5");
    node.stop();
}

#[test]
fn qos_1_telemetry_is_acknowledged_when_the_consumer_has_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path(), 2);
    let mut app = subscribed(&node, 1, "telemetry/acme/#", 1);
    for shard in [0, 1] {
        let mut device = Client::connect(node.mqtt[shard], &format!("d{shard}@acme"));
        device.publish("telemetry", 1, Some(7), b"x");
        let (_, _, packet_id) = app.expect_publish();
        device.socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        let early = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| device.read()));
        assert!(early.is_err(), "PUBACK before the consumer's: {early:?}");
        device.socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        app.acknowledge(packet_id.unwrap());
        assert_eq!(device.read(), Some(Seen::PubAck(7)));
    }
    node.stop();
}

#[test]
fn telemetry_without_a_consumer_is_not_accepted() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path(), 1);
    let mut device = Client::connect(node.mqtt[0], "d1@acme");
    device.publish("telemetry", 0, None, b"x");
    device.write(fulcrum_mqtt::encode_pingreq);
    assert_eq!(device.read(), Some(Seen::Pong), "QoS 0 is dropped and counted");
    device.publish("telemetry", 1, Some(1), b"x");
    assert_eq!(device.read(), None, "QoS 1 is not acknowledged");
    let answer =
        http(node.http[0], post("/telemetry", "Content-Type: text/plain\r\n", "x").as_bytes(), 1);
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("Retry-After: 2"), "{answer}");
    assert_eq!(node.total(|metrics| metrics.telemetry_no_consumer.value()), 3);
    node.stop();
}

#[test]
fn a_consumer_that_does_not_answer_releases_the_message_after_a_second() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path(), 1);
    let mut app = subscribed(&node, 0, "telemetry/acme/#", 1);
    let request = post("/telemetry", "QoS-Level: 1\r\nContent-Type: text/plain\r\n", "x");
    let answer = http(node.http[0], request.as_bytes(), 1);
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    app.expect_publish();
    assert_eq!(node.total(|metrics| metrics.telemetry_released.value()), 1);
    node.stop();
}

#[test]
fn an_acknowledged_event_is_in_the_journal() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path(), 1);
    let mut device = Client::connect(node.mqtt[0], "d1@acme");
    for number in 1..=100u16 {
        device.publish("event", 1, Some(number), format!("e{number}").as_bytes());
    }
    for number in 1..=100 {
        assert_eq!(device.read(), Some(Seen::PubAck(number)));
    }
    let answer = http(
        node.http[0],
        post("/event", "Content-Type: text/plain\r\n", "over http").as_bytes(),
        1,
    );
    assert!(answer.starts_with("HTTP/1.1 202 "), "{answer}");
    let events = stored(&node.tails[0]);
    let payloads: Vec<_> = events.iter().map(|(_, _, payload)| payload.clone()).collect();
    let mut expected: Vec<_> = (1..=100).map(|number| format!("e{number}").into_bytes()).collect();
    expected.push(b"over http".to_vec());
    assert_eq!(payloads, expected);
    assert!(events.iter().all(|(class, device, _)| *class == Class::Event && device == "d1"));
    assert!(node.total(|m| m.journal_batches.value()) < 100, "commits are shared");
    node.stop();
}

#[test]
fn a_devices_events_are_in_one_partition_whatever_shard_it_is_on() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path(), 2);
    let mut expected = std::collections::HashMap::<String, Vec<Vec<u8>>>::new();
    for round in 0..4u16 {
        for name in 0..6 {
            let name = format!("d{name}");
            let mut device =
                Client::connect(node.mqtt[usize::from(round % 2)], &format!("{name}@acme"));
            for number in 1..=10 {
                let payload = format!("{round}/{number}").into_bytes();
                device.publish("event", 1, Some(number), &payload);
                expected.entry(name.clone()).or_default().push(payload);
            }
            for number in 1..=10 {
                assert_eq!(device.read(), Some(Seen::PubAck(number)));
            }
        }
    }
    let partitions: Vec<_> = node.tails.iter().map(stored).collect();
    for (name, payloads) in expected {
        let of_device = |partition: &Vec<(Class, String, Vec<u8>)>| -> Vec<_> {
            let own = partition.iter().filter(|(_, device, _)| *device == name);
            own.map(|(_, _, payload)| payload.clone()).collect()
        };
        let found: Vec<Vec<_>> =
            partitions.iter().map(of_device).filter(|own| !own.is_empty()).collect();
        assert_eq!(found, [payloads], "{name}");
    }
    assert!(partitions.iter().all(|partition| !partition.is_empty()), "both shards own devices");
    node.stop();
}

#[test]
fn acknowledgements_leave_in_the_order_of_the_messages() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path(), 2);
    let mut app = subscribed(&node, 0, "telemetry/acme/#", 1);
    let mut device = Client::connect(node.mqtt[0], "d1@acme");
    device.publish("telemetry", 1, Some(1), b"slow to be settled");
    device.publish("event", 1, Some(2), b"stored long before");
    let (_, _, packet_id) = app.expect_publish();
    node.wait_for("the commit", |node| node.total(|m| m.stored_acknowledged.value()) == 1);
    app.acknowledge(packet_id.unwrap());
    assert_eq!(device.read(), Some(Seen::PubAck(1)));
    assert_eq!(device.read(), Some(Seen::PubAck(2)));
    node.stop();
}

#[test]
fn a_full_partition_refuses_the_devices_it_owns_on_every_shard() {
    let dir = tempfile::tempdir().unwrap();
    let config = fulcrum_journal::JournalConfig {
        bytes_max: 3 << 20,
        ..harness::journal_config(dir.path(), 2)
    };
    let node = Node::start_with(&config, Default::default());
    let body = "x".repeat(32 * 1024);
    let request = post("/event", "Content-Type: text/plain\r\n", &body);
    for shard in [0, 1, 0, 1] {
        let refused = (0..200)
            .any(|_| http(node.http[shard], request.as_bytes(), 1).starts_with("HTTP/1.1 503 "));
        assert!(refused, "the cap is not kept on shard {shard}");
    }
    let kept: usize = node.tails.iter().map(|tail| stored(tail).len()).sum();
    assert_eq!(kept as u64, node.total(|metrics| metrics.stored_acknowledged.value()));
    node.stop();
}

#[test]
fn a_full_journal_refuses_and_takes_events_again_when_it_was_drained() {
    let dir = tempfile::tempdir().unwrap();
    let config = fulcrum_journal::JournalConfig {
        bytes_max: 3 << 20,
        ..harness::journal_config(dir.path(), 1)
    };
    let node = Node::start_with(&config, Default::default());
    let mut accepted = 0;
    let body = "x".repeat(32 * 1024);
    let request = post("/event", "Content-Type: text/plain\r\n", &body);
    let refused = loop {
        let answer = http(node.http[0], request.as_bytes(), 1);
        if answer.starts_with("HTTP/1.1 202 ") {
            accepted += 1;
            assert!(accepted < 200, "the cap is not kept");
        } else {
            break answer;
        }
    };
    assert!(refused.starts_with("HTTP/1.1 503 ") && refused.contains("full"), "{refused}");
    assert_eq!(stored(&node.tails[0]).len(), accepted, "what was accepted is there, nothing else");
    assert_eq!(node.metrics[0].journal_state.value(), 1);
    node.tails[0].acknowledge(node.tails[0].committed());
    node.handles[0].send(Message::IdentityChanged { recheck: false }).unwrap(); // any turn will do
    node.wait_for("room", |_| {
        http(node.http[0], request.as_bytes(), 1).starts_with("HTTP/1.1 202 ")
    });
    node.stop();
}

#[test]
fn a_failed_write_acknowledges_nothing_and_refuses_what_follows() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path(), 1);
    node.store.lock().unwrap().disk_fails = true;
    let mut device = Client::connect(node.mqtt[0], "d1@acme");
    let mut neighbour = Client::connect(node.mqtt[0], "d2@acme");
    let payload = vec![7; 32 * 1024];
    let mut acknowledged = 0;
    for number in 1..=100 {
        device.publish("event", 1, Some(number), &payload);
        match device.read() {
            Some(Seen::PubAck(_)) => acknowledged += 1,
            None => break,
            other => panic!("{other:?}"),
        }
    }
    assert!((10..100).contains(&acknowledged), "{acknowledged} before the first segment was full");
    assert_eq!(stored(&node.tails[0]).len(), acknowledged);
    node.wait_for("the state", |node| node.metrics[0].journal_state.value() == 2);
    let request = post("/event", "Content-Type: text/plain\r\n", "x");
    let answer = http(node.http[0], request.as_bytes(), 1);
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("failed"), "{answer}");
    neighbour.write(fulcrum_mqtt::encode_pingreq);
    assert_eq!(neighbour.read(), Some(Seen::Pong));
    node.stop();
}

#[test]
fn wrong_credentials_get_the_codes_of_the_device_apis() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path(), 1);
    for (username, password, code) in [
        ("d1@acme", "wrong", 4),
        ("d1", "secret", 4),
        ("off@acme", "secret", 5),
        ("barred@acme", "secret", 5),
    ] {
        let mut client = Client::open(node.mqtt[0]);
        client.send_connect(username, password, "c", 0);
        assert_eq!(client.read(), Some(Seen::ConnAck(code)), "{username}");
        assert_eq!(client.read(), None);
    }
    let with = |credentials: &str| {
        let request =
            format!("POST /event HTTP/1.1\r\nHost: h\r\n{credentials}Content-Length: 1\r\n\r\nx");
        http(node.http[0], request.as_bytes(), 1)
    };
    let missing = with("");
    assert!(
        missing.starts_with("HTTP/1.1 401 ") && missing.contains("WWW-Authenticate: Basic"),
        "{missing}"
    );
    // d1@acme:wrong, off@acme:secret, barred@acme:secret
    assert!(with("Authorization: Basic ZDFAYWNtZTp3cm9uZw==\r\n").starts_with("HTTP/1.1 401 "));
    assert!(with("Authorization: Basic b2ZmQGFjbWU6c2VjcmV0\r\n").starts_with("HTTP/1.1 404 "));
    assert!(with("Authorization: Basic YmFycmVkQGFjbWU6c2VjcmV0\r\n").starts_with("HTTP/1.1 403 "));
    node.stop();
}

#[test]
fn a_slow_hash_does_not_stall_a_neighbour() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path(), 1);
    let mut slow = Client::open(node.mqtt[0]);
    slow.send_connect("slow@acme", "secret", "slow", 0);
    let begun = std::time::Instant::now();
    let mut device = Client::connect(node.mqtt[0], "d1@acme");
    device.write(fulcrum_mqtt::encode_pingreq);
    assert_eq!(device.read(), Some(Seen::Pong));
    assert!(begun.elapsed() < Duration::from_millis(250), "{:?}", begun.elapsed());
    assert_eq!(slow.read(), Some(Seen::ConnAck(0)));
    node.stop();
}

#[test]
fn garbage_ends_its_own_connection_and_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path(), 1);
    let mut neighbour = Client::connect(node.mqtt[0], "d1@acme");
    for garbage in [
        &b"\xff\xff\xff\xff\xff\xff"[..],
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x10\x7f\x00\x04MQTT\x04\x02",
        b"\x10\xff\xff\xff\x7f",
        b"\x30\x03\x00\x01t",
    ] {
        let mut client = Client::open(node.mqtt[0]);
        client.write(|out| out.extend_from_slice(garbage));
        client.socket.shutdown(std::net::Shutdown::Write).unwrap();
        assert_eq!(client.read(), None, "{garbage:?}");
    }
    // A CONNECT of 20 KiB, and 2 MiB of whom is known: refused when it is announced.
    let mut unknown = Client::open(node.mqtt[0]);
    unknown.write(|out| out.extend_from_slice(b"\x10\x80\xa0\x01\x00\x04MQTT\x04\xc2"));
    assert_eq!(unknown.read(), None);
    let mut oversized = Client::connect(node.mqtt[0], "d2@acme");
    oversized.write(|out| out.extend_from_slice(b"\x32\x80\x80\x08"));
    assert_eq!(oversized.read(), None);
    let bad = http(node.http[0], b"BAD\r\n\r\n", 1);
    assert!(bad.starts_with("HTTP/1.1 400 "), "{bad}");
    let large = http(
        node.http[0],
        post("/event", "", "").replace("Length: 0", "Length: 99999999").as_bytes(),
        1,
    );
    assert!(large.starts_with("HTTP/1.1 413 "), "{large}");
    neighbour.write(fulcrum_mqtt::encode_pingreq);
    assert_eq!(neighbour.read(), Some(Seen::Pong));
    assert!(node.total(|metrics| metrics.protocol_errors.value()) >= 6);
    node.stop();
}

#[test]
fn bad_credentials_and_unknown_levels_are_refused_in_their_own_words() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path(), 1);
    let mut client = Client::open(node.mqtt[0]);
    client.write(|out| out.extend_from_slice(b"\x10\x0e\x00\x04MQTT\x05\x02\x00\x00\x00\x00\x01c"));
    let mut answer = [0; 5];
    std::io::Read::read_exact(&mut client.socket, &mut answer).unwrap();
    assert_eq!(answer, [0x20, 3, 0, 0x86, 0], "no user name [MQTT5-3.1.4-2]");
    let mut client = Client::open(node.mqtt[0]);
    client.write(|out| out.extend_from_slice(b"\x10\x0d\x00\x04MQTT\x09\x02\x00\x00\x00\x01c"));
    assert_eq!(client.read(), Some(Seen::ConnAck(1)));
    node.stop();
}

fn command(id: &str, response_required: bool) -> Command {
    Command {
        id: id.to_owned(),
        subject: "set".to_owned(),
        response_required,
        payload: b"on".to_vec(),
        deliver_by_ms: None,
    }
}

#[test]
fn waiting_commands_are_delivered_in_order_when_the_device_subscribes() {
    let dir = tempfile::tempdir().unwrap();
    for shard in [0, 1] {
        let node = Node::start(&dir.path().join(shard.to_string()), 2);
        let key = ("acme".to_owned(), "d1".to_owned());
        let waiting = vec![command("a", true), command("b", false)];
        node.store.lock().unwrap().commands.insert(key, waiting);
        let mut device = Client::connect(node.mqtt[shard], "d1@acme");
        assert_eq!(device.subscribe("command///req/#", 1), [1]);
        let (topic, payload, packet_id) = device.expect_publish();
        assert_eq!((topic.as_str(), &payload[..]), ("command///req/001a/set", &b"on"[..]));
        assert_eq!(
            node.store.lock().unwrap().done.len(),
            0,
            "not before the device has acknowledged"
        );
        device.acknowledge(packet_id.unwrap());
        let (topic, _, packet_id) = device.expect_publish();
        assert_eq!(topic, "command///req//set", "a one-way command has no request id");
        device.acknowledge(packet_id.unwrap());
        device.publish("command///res/001a/204", 1, Some(3), b"done");
        assert_eq!(device.read(), Some(Seen::PubAck(3)));
        node.wait_for("both commands to be forgotten", |node| {
            node.store.lock().unwrap().done == ["a", "b"]
        });
        let all: Vec<_> = node.tails.iter().flat_map(stored).map(|(class, ..)| class).collect();
        assert_eq!(all.iter().filter(|class| **class == Class::CommandStatus).count(), 2);
        assert_eq!(all.iter().filter(|class| **class == Class::CommandResponse).count(), 1);
        node.stop();
    }
}

#[test]
fn a_command_not_acknowledged_is_delivered_again_after_a_reconnect() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path(), 2);
    let key = ("acme".to_owned(), "d1".to_owned());
    node.store.lock().unwrap().commands.insert(key.clone(), vec![command("a", true)]);
    let mut device = Client::connect(node.mqtt[0], "d1@acme");
    device.subscribe("c///q/#", 1);
    assert_eq!(device.expect_publish().0, "c///q/001a/set");
    drop(device);
    node.wait_for("the device to be gone", |node| node.total(|m| m.commands_released.value()) == 1);
    let mut device = Client::connect(node.mqtt[1], "d1@acme");
    device.subscribe("command/acme/d1/req/#", 1);
    let (topic, _, packet_id) = device.expect_publish();
    assert_eq!(topic, "command/acme/d1/req/001a/set");
    device.acknowledge(packet_id.unwrap());
    node.wait_for("the command to be done", |node| node.store.lock().unwrap().done == ["a"]);
    // A new one, announced while the device is there.
    node.store.lock().unwrap().commands.insert(key, vec![command("b", true)]);
    for handle in &node.handles {
        handle
            .send(Message::CommandArrived { tenant: "acme".into(), device: "d1".into() })
            .unwrap();
    }
    assert_eq!(device.expect_publish().0, "command/acme/d1/req/001b/set");
    node.stop();
}

#[test]
fn a_gateway_acts_for_its_devices_and_no_others() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path(), 1);
    let mut gateway = Client::connect(node.mqtt[0], "gw@acme");
    gateway.publish("event//behind", 1, Some(1), b"x");
    gateway.publish("event//behind", 1, Some(2), b"y");
    assert_eq!(gateway.read(), Some(Seen::PubAck(1)));
    assert_eq!(gateway.read(), Some(Seen::PubAck(2)));
    assert_eq!(stored(&node.tails[0])[0].1, "behind");
    gateway.publish("event//other", 1, Some(3), b"x");
    assert_eq!(gateway.read(), None);
    let put = |device: &str| {
        // gw@acme:secret
        format!(
            "PUT /event//{device} HTTP/1.1\r\nHost: h\r\nAuthorization: Basic Z3dAYWNtZTpzZWNyZXQ=\r\nContent-Length: 1\r\n\r\nx"
        )
    };
    let pipelined = put("behind") + &put("other") + &put("behind");
    let answers = http(node.http[0], pipelined.as_bytes(), 3);
    let codes: Vec<_> = answers.split("HTTP/1.1 ").skip(1).map(|answer| &answer[..3]).collect();
    assert_eq!(codes, ["202", "403", "202"]);
    node.stop();
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path(), 1);
    let mut all = String::new();
    for number in 0..200 {
        match number % 3 {
            0 => all += &post("/event", "Content-Type: text/plain\r\n", "x"),
            1 => all += &post("/nowhere", "", "x"),
            _ => all += &post("/telemetry", "Content-Type: text/plain\r\n", "x"),
        }
    }
    let answers = http(node.http[0], all.as_bytes(), 200);
    let codes: Vec<_> = answers.split("HTTP/1.1 ").skip(1).map(|answer| &answer[..3]).collect();
    let expected: Vec<_> = (0..200).map(|number| ["202", "404", "503"][number % 3]).collect();
    assert_eq!(codes, expected);
    node.stop();
}

#[test]
fn a_client_id_in_use_moves_to_the_new_connection() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path(), 2);
    let mut old = Client::open(node.mqtt[0]);
    old.send_connect("d1@acme", "secret", "c", 0);
    assert_eq!(old.read(), Some(Seen::ConnAck(0)));
    let mut new = Client::open(node.mqtt[1]);
    new.send_connect("d1@acme", "secret", "c", 0);
    assert_eq!(new.read(), Some(Seen::ConnAck(0)));
    assert_eq!(old.read(), None);
    new.write(fulcrum_mqtt::encode_pingreq);
    assert_eq!(new.read(), Some(Seen::Pong));
    node.stop();
}

#[test]
fn a_silent_client_is_disconnected_after_one_and_a_half_keep_alives() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path(), 1);
    let mut client = Client::open(node.mqtt[0]);
    client.send_connect("d1@acme", "secret", "c", 1);
    assert_eq!(client.read(), Some(Seen::ConnAck(0)));
    let begun = std::time::Instant::now();
    assert_eq!(client.read(), None);
    let silent = begun.elapsed();
    assert!((Duration::from_millis(1400)..Duration::from_secs(4)).contains(&silent), "{silent:?}");
    assert_eq!(node.total(|metrics| metrics.timeouts.value()), 1);
    node.stop();
}

#[test]
fn an_evicted_device_is_disconnected_and_its_tenant_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path(), 1);
    let mut one = Client::connect(node.mqtt[0], "d1@acme");
    let mut other = Client::connect(node.mqtt[0], "d2@acme");
    node.handles[0]
        .send(Message::Evict { tenant: "acme".into(), device: Some("d1".into()) })
        .unwrap();
    assert_eq!(one.read(), None);
    let mut deleted = Client::connect(node.mqtt[0], "deleted@acme");
    node.handles[0].send(Message::IdentityChanged { recheck: true }).unwrap();
    assert_eq!(deleted.read(), None);
    other.write(fulcrum_mqtt::encode_pingreq);
    assert_eq!(other.read(), Some(Seen::Pong));
    node.stop();
}

#[test]
fn a_slow_consumer_loses_its_own_messages_and_slows_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path(), 1);
    let slow = subscribed(&node, 0, "telemetry/acme/d1", 0);
    let mut quick = Client::connect(node.mqtt[0], "app2@acme");
    quick.subscribe("telemetry/acme/d2", 0);
    let mut device = Client::connect(node.mqtt[0], "d1@acme");
    let mut neighbour = Client::connect(node.mqtt[0], "d2@acme");
    let payload = vec![7; 32 * 1024];
    for _ in 0..500 {
        device.publish("telemetry", 0, None, &payload);
    }
    neighbour.publish("telemetry", 0, None, b"quick");
    assert_eq!(quick.expect_publish().1, b"quick");
    node.wait_for("the slow consumer's credit to end", |node| {
        node.total(|m| m.consumer_no_credit.value()) > 0
    });
    drop(slow);
    node.stop();
}

#[test]
fn a_drained_node_has_committed_what_it_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path(), 2);
    let mut device = Client::connect(node.mqtt[0], "d1@acme");
    for number in 1..=50 {
        device.publish("event", 1, Some(number), b"x");
    }
    assert_eq!(device.read(), Some(Seen::PubAck(1)));
    let config = harness::journal_config(dir.path(), 2);
    node.stop();
    let mut acknowledged = 1;
    while let Some(Seen::PubAck(_)) = device.read() {
        acknowledged += 1;
    }
    let reopened = fulcrum_journal::open(&config).unwrap();
    let kept: usize = reopened.partitions.iter().map(|(_, tail)| stored(tail).len()).sum();
    assert!(kept >= acknowledged, "{acknowledged} were acknowledged, {kept} are there");
}

#[test]
fn a_tenant_has_no_more_connections_than_it_may_and_gets_one_back_when_one_ends() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path(), 2);
    let first = Client::connect(node.mqtt[0], "d1@small");
    let _second = Client::connect(node.mqtt[1], "d2@small");
    let mut third = Client::open(node.mqtt[0]);
    third.send_connect("d3@small", "secret", "c3", 0);
    assert_eq!(third.read(), Some(Seen::ConnAck(5)), "Hono: tenant connection limit");
    drop(first);
    node.wait_for("a place", |node| {
        let store = node.store.lock().unwrap();
        store.connections.load(std::sync::atomic::Ordering::Relaxed) == 1
    });
    Client::connect(node.mqtt[0], "d3@small");
    node.stop();
}
