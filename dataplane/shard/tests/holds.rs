//! Connections that wait: for the registry, a commit, their peer. Nothing is lost or doubled, nothing grows.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that fails says so by panicking")]

mod harness;

use fulcrum_shard::Message;
use harness::chat::Chat;
use harness::{Client, Node, Seen, http, stored};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// An event over HTTP; `credentials` is the Base64 of user name and password.
fn event(credentials: &str, body: &str) -> String {
    format!(
        "POST /event HTTP/1.1\r\nHost: h\r\nAuthorization: Basic {credentials}\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

const D1: &str = "ZDFAYWNtZTpzZWNyZXQ="; // d1@acme:secret
const D2: &str = "ZDJAYWNtZTpzZWNyZXQ="; // d2@acme:secret
const D3_WRONG: &str = "ZDNAYWNtZTp3cm9uZw=="; // d3@acme:wrong

fn codes(answers: &str) -> Vec<&str> {
    answers.split("HTTP/1.1 ").skip(1).map(|answer| &answer[..3]).collect()
}

#[test]
fn an_answer_of_the_registry_counts_for_the_request_that_asked_and_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path(), 1);
    // The second principal has to wait until the answers of the first are out; they come many at once.
    for _ in 0..5 {
        let mut all = event(D1, "d1").repeat(20);
        all += &event(D2, "d2");
        all += &event(D3_WRONG, "d3");
        all += &event(D1, "d1");
        let answers = http(node.http[0], all.as_bytes(), 23);
        let mut expected = vec!["202"; 23];
        expected[21] = "401";
        assert_eq!(codes(&answers), expected);
    }
    let events = stored(&node.tails[0]);
    assert_eq!(events.len(), 5 * 22);
    for (_, device, payload) in events {
        assert_eq!(device.as_bytes(), payload, "an event has its own sender's name");
    }
    node.stop();
}

/// Writes `request` until the server takes no more; how many went out whole, and what of the next one.
fn write_until_refused(socket: &mut TcpStream, request: &[u8], at_most: usize) -> (usize, usize) {
    socket.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
    for number in 0..at_most {
        let mut written = 0;
        while written < request.len() {
            match socket.write(&request[written..]) {
                Ok(bytes) => written += bytes,
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                    return (number, written);
                }
                Err(error) => panic!("the server closed after {number} requests: {error}"),
            }
        }
    }
    panic!("the server took {at_most} requests from a client that reads no answers");
}

#[test]
fn a_client_that_reads_no_answers_is_not_read_from_and_loses_none() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path(), 1);
    let mut socket = TcpStream::connect(node.http[0]).unwrap();
    let request = b"GET /nowhere HTTP/1.1\r\nHost: h\r\n\r\n".repeat(100);
    let (whole, part) = write_until_refused(&mut socket, &request, 20_000);
    let sent = whole * 100 + part / (request.len() / 100);
    assert_eq!(node.total(|metrics| metrics.slow_consumers.value()), 0);
    // It reads at last, and is served on.
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let (mut answers, mut buffer, mut tail) = (0, vec![0; 1 << 20], Vec::new());
    while answers < sent {
        let bytes = socket.read(&mut buffer).unwrap();
        assert!(bytes > 0, "closed after {answers} of {sent} answers");
        tail.extend_from_slice(&buffer[..bytes]);
        let text = std::str::from_utf8(&tail).unwrap();
        answers += text.matches("HTTP/1.1 404").count();
        tail.drain(..tail.len().saturating_sub(11));
    }
    node.stop();
}

#[test]
fn a_device_that_reads_no_answers_is_not_read_from() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path(), 1);
    let mut device = Client::connect(node.mqtt[0], "d1@acme");
    let pings = [0xc0, 0].repeat(8 * 1024);
    let (whole, part) = write_until_refused(&mut device.socket, &pings, 10_000);
    assert_eq!(node.total(|metrics| metrics.slow_consumers.value()), 0);
    let mut pongs = vec![0; whole * pings.len() + part / 2 * 2];
    device.socket.read_exact(&mut pongs).unwrap();
    assert!(pongs.chunks(2).all(|pong| pong == [0xd0, 0]));
    node.stop();
}

#[test]
fn a_draining_node_answers_the_producers_whose_events_it_has_taken() {
    let dir = tempfile::tempdir().unwrap();
    for round in 0..6 {
        let sub = tempfile::tempdir_in(dir.path()).unwrap();
        // With one shard, and with two of which either owns the device.
        let shards = 1 + round % 2;
        let node = Node::start(sub.path(), shards);
        let shard = usize::from(round / 2 % shards);
        let mut device = Client::connect(node.mqtt[shard], "d1@acme");
        for number in 1..=200 {
            device.publish("event", 1, Some(number), b"x");
        }
        node.wait_for("the first event", |node| node.total(|m| m.stored_received.value()) > 0);
        let config = harness::journal_config(sub.path(), shards);
        let stopping = std::thread::spawn(move || node.stop());
        let mut acknowledged = 0;
        while let Some(Seen::PubAck(_)) = device.read() {
            acknowledged += 1;
        }
        drop(device);
        stopping.join().unwrap();
        let reopened = fulcrum_journal::open(&config).unwrap();
        let kept: usize = reopened.partitions.iter().map(|(_, tail)| stored(tail).len()).sum();
        assert_eq!(acknowledged, kept, "what is kept is acknowledged, and nothing else");
    }
}

#[test]
fn a_draining_node_ends_idle_connections_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path(), 1);
    let mut idle = Client::connect(node.mqtt[0], "d1@acme");
    let begun = Instant::now();
    node.handles[0].send(Message::Drain).unwrap();
    assert_eq!(idle.read(), None);
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    drop(idle);
    node.stop();
}

#[test]
fn an_answer_to_head_has_no_body() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path(), 1);
    let head = "HEAD /event HTTP/1.1\r\nHost: h\r\n\r\n";
    let mut socket = TcpStream::connect(node.http[0]).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    socket.write_all(head.repeat(2).as_bytes()).unwrap();
    let mut text = String::new();
    while text.matches("\r\n\r\n").count() < 2 {
        let mut buffer = [0; 4096];
        let bytes = socket.read(&mut buffer).unwrap();
        assert!(bytes > 0, "{text}");
        text.push_str(std::str::from_utf8(&buffer[..bytes]).unwrap());
    }
    assert!(text.ends_with("\r\n\r\n"), "{text}");
    for answer in text.split_inclusive("\r\n\r\n") {
        assert!(answer.starts_with("HTTP/1.1 404 "), "{text}");
    }
    node.stop();
}

#[test]
fn a_registry_that_does_not_answer_is_not_waited_for_without_end() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path(), 1);
    let mut gateway = Client::connect(node.mqtt[0], "gw@acme");
    node.store.lock().unwrap().silent = true;
    gateway.publish("event//behind", 1, Some(1), b"x");
    let mut new = Client::open(node.mqtt[0]);
    new.send_connect("d1@acme", "secret", "c", 0);
    let answer = http(node.http[0], event(D1, "x").as_bytes(), 1);
    assert!(
        answer.starts_with("HTTP/1.1 503 ") && answer.contains("Connection: close"),
        "{answer}"
    );
    assert_eq!(new.read(), Some(Seen::ConnAck(3)));
    assert_eq!(new.read(), None);
    assert_eq!(gateway.read(), None, "a gateway without a keep-alive, too");
    assert_eq!(node.total(|metrics| metrics.refused_unavailable.value()), 3);
    node.stop();
}

#[test]
fn a_device_kept_waiting_by_the_journal_is_not_silent() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path(), 1);
    let mut device = Client::open(node.mqtt[0]);
    device.send_connect("d1@acme", "secret", "c", 1);
    assert_eq!(device.read(), Some(Seen::ConnAck(0)));
    node.store.lock().unwrap().segments_held = true;
    // More than the prepared segments hold.
    let sent = 120;
    let mut sender = device.duplicate();
    let sending = std::thread::spawn(move || {
        for number in 1..=sent {
            sender.publish("event", 1, Some(number), &[7; 32 * 1024]);
        }
    });
    node.wait_for("the connection to be held", |node| {
        node.metrics[0].connections_parked.value() == 1
    });
    std::thread::sleep(Duration::from_millis(2000));
    assert_eq!(node.total(|metrics| metrics.timeouts.value()), 0);
    node.store.lock().unwrap().segments_held = false;
    for number in 1..=sent {
        assert_eq!(device.read(), Some(Seen::PubAck(number)));
    }
    sending.join().unwrap();
    node.stop();
}

#[test]
fn a_login_the_registry_knows_is_let_in_at_once_whichever_shard_owns_the_client() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path(), 2);
    node.store.lock().unwrap().knows_logins = true;
    let mut clients = Vec::new();
    for number in 0..16 {
        let (address, name) = (node.mqtt[number % 2], format!("chat-{number}@t"));
        let mut client = Chat::durable(&name, &format!("c{number}"));
        assert!(!client.connect(address), "{name}");
        client.publish_and_wait("site/hall", 1, false, b"21.5");
        clients.push(client);
    }
    assert_eq!(node.total(|metrics| metrics.logins_known.value()), 16);
    assert!(node.total(|metrics| metrics.connections_moved.value()) > 0, "all were at home");
    // Its session is there, whichever way it was let in.
    clients[0].drop_connection();
    assert!(clients[0].connect(node.mqtt[0]));
    assert_eq!(codes(&http(node.http[0], event(D1, "x").as_bytes(), 1)), ["202"]);
    assert_eq!(node.total(|metrics| metrics.logins_known.value()), 18);
    // What is not known is asked about, and a refusal is nothing that is known.
    assert_eq!(codes(&http(node.http[0], event(D3_WRONG, "x").as_bytes(), 1)), ["401"]);
    assert_eq!(node.total(|metrics| metrics.logins_known.value()), 18);
    node.stop();
}

#[test]
fn a_principal_that_is_known_at_once_waits_for_the_answers_of_the_one_before() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path(), 1);
    node.store.lock().unwrap().knows_logins = true;
    let all = event(D1, "d1").repeat(20) + &event(D2, "d2") + &event(D1, "d1");
    let answers = http(node.http[0], all.as_bytes(), 22);
    assert_eq!(codes(&answers), ["202"; 22]);
    let from: Vec<String> =
        stored(&node.tails[0]).into_iter().map(|(_, device, _)| device).collect();
    let mut expected = vec!["d1"; 22];
    expected[20] = "d2";
    assert_eq!(from, expected);
    node.stop();
}
