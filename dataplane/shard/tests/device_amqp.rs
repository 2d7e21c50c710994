//! Hono's AMQP adapter: uploads of devices and gateways, and the ends of their connections.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that fails says so by panicking")]

mod harness;

use fulcrum_amqp::*;
use fulcrum_frame::Class;
use fulcrum_links::{Connection, Event, LinkRef, SessionId, Settings, Terms};
use fulcrum_shard::Message as ToShard;
use harness::{Client, Node, stored};
use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A device.
struct Device {
    stream: TcpStream,
    connection: Connection,
    input: Vec<u8>,
    out: Vec<u8>,
    verdict: Option<SaslCode>,
    session: Option<SessionId>,
    detached: Vec<(LinkRef, String)>,
    /// Outcomes by token, with the condition of a rejection.
    fates: BTreeMap<u64, String>,
    closed: Option<String>,
    is_open: bool,
}

impl Device {
    /// Logs in; what came of it is in `verdict`.
    fn log_in(address: SocketAddr, username: &str, password: &str) -> Device {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        let (now, mut out) = (Instant::now(), Vec::new());
        let settings = Arc::new(Settings { idle_time_out_ms: None, ..Settings::default() });
        let connection = Connection::client(settings, true, now, &mut out);
        let mut device = Device {
            stream,
            connection,
            input: Vec::new(),
            out,
            verdict: None,
            session: None,
            detached: Vec::new(),
            fates: BTreeMap::new(),
            closed: None,
            is_open: false,
        };
        let response = format!("\0{username}\0{password}").into_bytes();
        device.until(|device| device.verdict.is_some() || device.closed.is_some(), &response);
        device
    }

    /// Logs in and opens the connection.
    fn open(address: SocketAddr, username: &str) -> Device {
        let mut device = Device::log_in(address, username, "secret");
        assert_eq!(device.verdict, Some(SaslCode::Ok));
        device.work();
        device.connection.open(None, &[], &mut device.out);
        device.until(|device| device.is_open || device.closed.is_some(), b"");
        device
    }

    /// Opens the connection, with a session.
    fn connect(address: SocketAddr, username: &str) -> Device {
        let mut device = Device::open(address, username);
        let session = device.connection.begin(&mut device.out).unwrap();
        device.until(|device| device.session == Some(session), b"");
        device
    }

    /// A link to send on, with its credit.
    fn sender(&mut self, name: &str) -> LinkRef {
        let terms = Terms {
            source: None,
            target: Some(Target::Node(TargetNode {
                address: None,
                durable: TerminusDurability::None,
                expiry_policy: ExpiryPolicy::SessionEnd,
                timeout: 0,
                dynamic: false,
                dynamic_node_properties: None,
                capabilities: Symbols::NONE,
            })),
            sender_settles: SenderSettleMode::Mixed,
            receiver_settles: ReceiverSettleMode::First,
            message_bytes_max: 0,
            offered_capabilities: Symbols::NONE,
            desired_capabilities: Symbols::NONE,
        };
        let session = self.session.unwrap();
        let link = self
            .connection
            .attach(session, name, Role::Sender, &terms, &mut self.out)
            .unwrap()
            .unwrap();
        self.until(|device| device.connection.credit(link) > 0, b"");
        link
    }

    /// Sends a message as soon as there is credit.
    fn send(&mut self, link: LinkRef, token: u64, settled: bool, to: &str, payload: &[u8]) {
        self.until(|device| device.connection.check_room(link).is_ok(), b"");
        let tag = token.to_be_bytes();
        let delivery =
            fulcrum_links::Delivery { tag: DeliveryTag::new(&tag).unwrap(), token, settled };
        let message = message(to, payload);
        let sent = self.connection.send(link, delivery, &[&message], false, &mut self.out).unwrap();
        assert_eq!(sent.bytes, message.len());
    }

    fn until(&mut self, holds: impl Fn(&Device) -> bool, login: &[u8]) {
        let begun = Instant::now();
        while !holds(self) {
            assert!(begun.elapsed() < Duration::from_secs(10), "waited too long: {:?}", self.fates);
            self.work_with(login);
        }
    }

    fn work(&mut self) {
        self.work_with(b"");
    }

    /// Sends and reads what there is.
    fn work_with(&mut self, login: &[u8]) {
        let _ = self.stream.write_all(&std::mem::take(&mut self.out));
        let mut bytes = [0; 65_536];
        match self.stream.read(&mut bytes) {
            Ok(0) => drop(self.closed.get_or_insert_with(|| "without a word".into())),
            Ok(count) => self.input.extend_from_slice(&bytes[..count]),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(error) => drop(self.closed.get_or_insert_with(|| error.to_string())),
        }
        let input = std::mem::take(&mut self.input);
        let mut rest = &input[..];
        loop {
            let step = self.connection.read(rest, Instant::now(), &mut self.out);
            let used = step.used;
            match step.event {
                Some(Event::SaslMechanisms(_)) => {
                    let plain = Symbol::literal("PLAIN");
                    self.connection.choose(plain, Some(login), &mut self.out);
                }
                Some(Event::SaslOutcome(outcome)) => self.verdict = Some(outcome.code),
                Some(Event::Opened(_)) => self.is_open = true,
                Some(Event::SessionBegun(session)) => self.session = Some(session),
                Some(Event::LinkDetached { link, error, .. }) => {
                    let condition = error.map_or("", |error| error.condition.as_str());
                    self.detached.push((link, condition.to_owned()));
                }
                Some(Event::Disposition(dispositions)) => {
                    let fate = match dispositions.state() {
                        Some(DeliveryState::Outcome(Outcome::Accepted)) => "accepted".to_owned(),
                        Some(DeliveryState::Outcome(Outcome::Released)) => "released".to_owned(),
                        Some(DeliveryState::Outcome(Outcome::Rejected(rejected))) => {
                            rejected.error.unwrap().condition.as_str().to_owned()
                        }
                        other => panic!("{other:?}"),
                    };
                    let Device { connection, fates, .. } = self;
                    connection.resolve(&dispositions, |known| {
                        fates.insert(known.token, fate.clone());
                    });
                }
                Some(Event::Closed { error }) => {
                    let condition = error.map_or("", |error| error.condition.as_str());
                    self.closed = Some(condition.to_owned());
                }
                Some(Event::Broken(violation)) => panic!("the node broke a rule: {violation}"),
                _ => {}
            }
            rest = &rest[used..];
            if used == 0 {
                break;
            }
        }
        self.input = rest.to_vec();
        let _ = self.stream.write_all(&std::mem::take(&mut self.out));
    }
}

/// A message as a device's library writes it.
fn message(to: &str, payload: &[u8]) -> Vec<u8> {
    let properties = Properties {
        to: Some(Address(to)),
        content_type: Symbol::new("text/plain"),
        ..Properties::default()
    };
    let parts =
        MessageParts { properties, body: Body::Data(&[payload]), ..MessageParts::default() };
    let mut bytes = Vec::new();
    parts.encode(&mut bytes).unwrap();
    bytes
}

#[test]
fn events_are_accepted_when_they_are_stored_and_keep_their_order() {
    const COUNT: u64 = 700;
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path(), 2);
    let mut device = Device::connect(node.amqp[0], "d1@t");
    let link = device.sender("up");
    for number in 0..COUNT {
        device.send(link, number, false, "event", format!("{number}").as_bytes());
    }
    device.until(|device| device.fates.len() as u64 == COUNT, b"");
    assert!(device.fates.values().all(|fate| fate == "accepted"));
    let all: Vec<_> = node.tails.iter().flat_map(stored).collect();
    let numbers: Vec<String> = all
        .iter()
        .map(|(class, device, payload)| {
            assert_eq!((*class, device.as_str()), (Class::Event, "d1"));
            String::from_utf8(payload.clone()).unwrap()
        })
        .collect();
    assert_eq!(numbers, (0..COUNT).map(|number| number.to_string()).collect::<Vec<_>>());
    assert!(node.total(|metrics| metrics.journal_batches.value()) < 200, "commits are shared");
    drop(device);
    node.stop();
}

#[test]
fn telemetry_is_accepted_while_somebody_takes_it_and_released_while_nobody_does() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path(), 2);
    let mut device = Device::connect(node.amqp[1], "d1@t");
    let link = device.sender("up");
    device.send(link, 1, false, "telemetry", b"nobody");
    device.send(link, 2, true, "t", b"nobody, and nobody is told");
    device.until(|device| device.fates.len() == 1, b"");
    let mut application = Client::connect(node.mqtt[0], "app@t");
    application.subscribe("telemetry/t/#", 1);
    device.send(link, 3, false, "telemetry", b"somebody");
    device.work();
    let (topic, payload, packet_id) = application.expect_publish();
    assert_eq!((topic.as_str(), &payload[..]), ("telemetry/t/d1", &b"somebody"[..]));
    assert!(!device.fates.contains_key(&3), "its consumer has not answered");
    application.acknowledge(packet_id.unwrap());
    device.until(|device| device.fates.len() == 2, b"");
    let fates: Vec<_> = device.fates.into_iter().collect();
    assert_eq!(fates, [(1, "released".to_owned()), (3, "accepted".to_owned())]);
    drop(application);
    node.stop();
}

#[test]
fn a_gateway_sends_for_its_devices_once_the_registry_has_said_so() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path(), 2);
    let mut gateway = Device::connect(node.amqp[0], "gw@t");
    let link = gateway.sender("up");
    for (token, to) in [
        "event/t/behind1",
        "e//behind2",
        "event/t/other",
        "event/t/nobody",
        "event/u/behind1",
        "event/t/behind1",
    ]
    .iter()
    .enumerate()
    {
        gateway.send(link, token as u64, false, to, b"x");
    }
    gateway.until(|gateway| gateway.fates.len() == 6, b"");
    let fates: Vec<&str> = gateway.fates.values().map(String::as_str).collect();
    let forbidden = "amqp:unauthorized-access";
    assert_eq!(fates, ["accepted", "accepted", forbidden, "amqp:not-found", forbidden, "accepted"]);
    // One that nobody may send for any more is asked about again.
    node.store.lock().unwrap().revoked = true;
    node.handles.iter().for_each(|shard| {
        shard.send(ToShard::IdentityChanged { recheck: false }).unwrap();
    });
    std::thread::sleep(Duration::from_millis(50));
    gateway.send(link, 9, false, "event/t/behind1", b"x");
    gateway.until(|gateway| gateway.fates.contains_key(&9), b"");
    assert_eq!(gateway.fates[&9], forbidden);
    node.store.lock().unwrap().busy = true;
    gateway.send(link, 10, false, "event/t/behind3", b"x");
    gateway.until(|gateway| gateway.fates.contains_key(&10), b"");
    assert_eq!(gateway.fates[&10], "released");
    drop(gateway);
    node.stop();
}

#[test]
fn who_is_refused_is_told_in_the_words_of_the_protocol() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path(), 1);
    for (username, password) in [("d1@t", "wrong"), ("off@t", "secret"), ("barred@t", "secret")] {
        let device = Device::log_in(node.amqp[0], username, password);
        assert_eq!(device.verdict, Some(SaslCode::Auth), "{username}");
    }
    let devices: Vec<Device> = (0..2).map(|_| Device::open(node.amqp[0], "d@small")).collect();
    let third = Device::open(node.amqp[0], "d@small");
    let refused = Some("amqp:unauthorized-access".to_owned());
    assert!(devices.iter().all(|device| device.closed.is_none()));
    let mut third = third;
    third.until(|device| device.closed.is_some(), b"");
    assert_eq!(third.closed, refused);
    drop(devices);
    node.wait_for("both to be gone", |node| node.total(|m| m.connections.value()) == 0);
    assert_eq!(Device::open(node.amqp[0], "d@small").closed, None);
    // A registry that does not answer is not waited for longer than for a CONNECT.
    node.store.lock().unwrap().silent = true;
    let begun = Instant::now();
    assert_eq!(Device::log_in(node.amqp[0], "d1@t", "secret").verdict, Some(SaslCode::SysTemp));
    assert!(begun.elapsed() < Duration::from_secs(4));
    node.stop();
}

#[test]
fn a_connection_has_only_so_many_messages_unanswered_whatever_its_links() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path(), 1);
    // It takes messages and does not answer.
    let mut application = Client::connect(node.mqtt[0], "app@t");
    application.subscribe("telemetry/t/#", 1);
    let mut device = Device::connect(node.amqp[0], "d1@t");
    for number in 0..10 {
        let link = device.sender(&format!("up{number}"));
        for token in 0..100 {
            device.send(link, number * 100 + token, false, "telemetry", b"x");
        }
    }
    device.work();
    node.wait_for("a thousand to wait", |node| {
        node.total(|metrics| metrics.deliveries_waiting.value()) == 1000
    });
    let one_more = device.sender("one more");
    for token in 1000..1100 {
        device.send(one_more, token, false, "telemetry", b"x");
    }
    device.work();
    node.wait_for("as many to wait as may", |node| {
        node.total(|metrics| metrics.deliveries_waiting.value()) == 1024
    });
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(node.total(|metrics| metrics.deliveries_waiting.value()), 1024);
    // The others are taken once these are answered: with the consumer, all are given back.
    drop(application);
    device.until(|device| device.fates.len() == 1100, b"");
    assert!(device.fates.values().all(|fate| fate == "released"));
    drop(device);
    node.stop();
}

#[test]
fn a_connection_ends_when_the_token_it_was_opened_with_does() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path(), 1);
    let begun = Instant::now();
    let mut brief = Device::connect(node.amqp[0], "brief@t");
    assert_eq!(brief.closed, None);
    brief.until(|device| device.closed.is_some(), b"");
    assert_eq!(brief.closed.as_deref(), Some("amqp:connection:forced"));
    assert!(begun.elapsed() > Duration::from_millis(1200), "{:?}", begun.elapsed());
    node.stop();
}

#[test]
fn a_connection_that_says_nothing_or_garbage_ends() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path(), 1);
    let mut silent = TcpStream::connect(node.amqp[0]).unwrap();
    silent.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    silent.write_all(b"AMQP").unwrap();
    assert_eq!(silent.read(&mut [0; 100]).unwrap(), 0, "it has to say its header in time");
    let mut garbage = TcpStream::connect(node.amqp[0]).unwrap();
    garbage.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    garbage.read_to_end(&mut answer).unwrap();
    assert_eq!(answer, ProtocolHeader::SASL.encode());
    assert_eq!(node.total(|metrics| metrics.protocol_errors.value()), 1);
    node.stop();
}

#[test]
fn messages_that_come_in_pieces_take_only_so_much_memory_together() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path(), 1);
    let mut device = Device::connect(node.amqp[0], "d1@t");
    let links: Vec<LinkRef> = (0..6).map(|number| device.sender(&format!("up{number}"))).collect();
    let half = vec![0; 60_000];
    for (token, link) in links.iter().enumerate() {
        let tag = [token as u8];
        let tag = DeliveryTag::new(&tag).unwrap();
        let delivery = fulcrum_links::Delivery { tag, token: token as u64, settled: false };
        device.connection.send(*link, delivery, &[&half], true, &mut device.out).unwrap();
        device.work();
    }
    device.until(|device| !device.detached.is_empty(), b"");
    assert_eq!(device.detached[0].1, "amqp:resource-limit-exceeded");
    let ended: Vec<LinkRef> = device.detached.iter().map(|(link, _)| *link).collect();
    let link = *links.iter().find(|link| !ended.contains(link)).unwrap();
    device.connection.abort(link, &mut device.out);
    device.send(link, 99, false, "event", b"goes on");
    device.until(|device| device.fates.contains_key(&99), b"");
    assert_eq!(device.fates[&99], "accepted");
    drop(device);
    node.stop();
}

#[test]
fn who_is_evicted_and_who_is_there_when_the_node_stops_hears_why() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path(), 1);
    let mut evicted = Device::connect(node.amqp[0], "d1@t");
    let mut stays = Device::connect(node.amqp[0], "d2@t");
    let evict = ToShard::Evict { tenant: "t".into(), device: Some("d1".into()) };
    node.handles[0].send(evict).unwrap();
    evicted.until(|device| device.closed.is_some(), b"");
    let forced = Some("amqp:connection:forced".to_owned());
    assert_eq!(evicted.closed, forced);
    assert_eq!(stays.closed, None);
    let link = stays.sender("up");
    for token in 0..50 {
        stays.send(link, token, false, "event", b"x");
    }
    stays.until(|device| !device.fates.is_empty(), b"");
    let stopping = std::thread::spawn(move || node.stop());
    stays.until(|device| device.closed.is_some(), b"");
    assert_eq!(stays.closed, forced);
    // What it had taken is answered before the goodbye.
    let first = *stays.fates.keys().next().unwrap();
    let answered = stays.fates.keys().copied().collect::<Vec<_>>();
    assert_eq!(answered, (first..first + answered.len() as u64).collect::<Vec<_>>());
    stopping.join().unwrap();
}
