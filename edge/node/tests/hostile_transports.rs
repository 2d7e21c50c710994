//! Peers that abuse a node's listeners below MQTT: storms and slow handshakes, garbage, readers that do not read.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that fails says so by panicking")]

mod harness;
mod peers;

use peers::*;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

const HANDSHAKES: usize = 200;

/// 200 ClientHellos at once: the connection beside them waits for a few steps of public-key cryptography a turn, and not
/// for all of them.
#[test]
fn a_storm_of_handshakes_does_not_stall_a_connection_beside_them() {
    let world = World::configured(|config| {
        config.replace("shards = 2", "shards = 1").replace("connections = 64", "connections = 1000")
    });
    let mut neighbour = world.connected(Way::Plain, "neighbour");
    let alone = (0..50).map(|_| neighbour.ping()).max().unwrap();
    let mut pipes: Vec<_> = (0..HANDSHAKES)
        .map(|_| Pipe::tls(world.address(Way::Tls), &world.authority.client(None), HOST))
        .collect();
    // The first flight alone: the client's own cryptography is not to be in the way of what is measured.
    for pipe in &mut pipes {
        let Pipe::Tls(stream) = pipe else { panic!("TLS") };
        stream.conn.write_tls(&mut stream.sock).unwrap();
    }
    let begun = Instant::now();
    let (mut longest, mut pings, mut waiting) = (Duration::ZERO, 0, 0.0_f64);
    while begun.elapsed() < Duration::from_millis(500) {
        longest = longest.max(neighbour.ping());
        pings += 1;
        if pings == 1 {
            waiting = world.node.metric("fulcrum_handshakes_waiting");
        }
    }
    println!(
        "{pings} pings beside {HANDSHAKES} handshakes ({waiting} waited): longest {longest:?}, alone {alone:?}"
    );
    assert!(longest < Duration::from_millis(250), "{longest:?}");
    for pipe in pipes {
        let mut peer = Peer::new(pipe);
        peer.ping_before_connect();
    }
    neighbour.ping();
    assert_eq!(world.node.metric("fulcrum_handshakes_waiting"), 0.0);
}

impl Peer {
    /// Ends its handshake and is refused: nothing comes before CONNECT.
    fn ping_before_connect(&mut self) {
        self.pipe.shake_hands().unwrap();
        self.send(&PINGREQ).unwrap();
        self.expect_end();
    }
}

/// However a peer drips the bytes of a handshake, on whichever listener: after the connect timeout it is gone.
#[test]
fn handshakes_that_take_their_time_end_with_the_connect_timeout() {
    let world = World::new();
    let mut hello = Vec::new();
    let Pipe::Tls(mut stream) = world.pipe(Way::Tls) else { panic!("TLS") };
    stream.conn.write_tls(&mut hello).unwrap();
    let upgrade = UPGRADE.as_bytes().to_vec();
    let mut peers = vec![
        // Silent ones, and ones that drip.
        (Pipe::plain(world.address(Way::Plain)), Vec::new()),
        (Pipe::plain(world.address(Way::Tls)), Vec::new()),
        (Pipe::plain(world.address(Way::Tls)), hello.clone()),
        (Pipe::plain(world.https()), hello.clone()),
        (Pipe::plain(world.address(Way::WebSocket)), upgrade.clone()),
        (Pipe::plain(world.address(Way::SecureWebSocket)), hello),
        (Pipe::plain(world.behind_proxy()), proxy_header(false)),
        // One whose TLS is done.
        (world.pipe(Way::SecureWebSocket), upgrade),
        // And one that speaks WebSocket, and no MQTT.
        (world.peer(Way::WebSocket).pipe, frame(0x82, &connect("dripping", D1, 60))),
    ];
    let begun = Instant::now();
    let mut ended = vec![false; peers.len()];
    for turn in 0.. {
        for ((pipe, bytes), ended) in peers.iter_mut().zip(&mut ended).filter(|(_, ended)| !**ended)
        {
            // Never the last byte.
            if let Some(byte) = bytes.get(turn).filter(|_| turn + 1 < bytes.len()) {
                *ended |= pipe.send(&[*byte]).is_err();
            }
            pipe.socket().set_read_timeout(Some(Duration::from_millis(1))).unwrap();
            *ended |= is_over(pipe);
        }
        if ended.iter().all(|ended| *ended) {
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(14), "{ended:?}");
        std::thread::sleep(Duration::from_millis(150));
    }
    assert!(begun.elapsed() > Duration::from_secs(9), "{:?}", begun.elapsed());
}

fn is_over(pipe: &mut Pipe) -> bool {
    use std::io::ErrorKind::{TimedOut, WouldBlock};
    match pipe.receive(&mut [0; 1024]) {
        Ok(count) => count == 0,
        Err(error) => !matches!(error.kind(), WouldBlock | TimedOut),
    }
}

#[test]
fn garbage_on_every_listener_ends_nothing() {
    let world = World::new();
    let mut noise = 0x9e37_79b9_u32;
    let mut random = || {
        noise ^= noise << 13;
        noise ^= noise >> 17;
        noise ^= noise << 5;
        noise.to_le_bytes()[1]
    };
    let mut hello = Vec::new();
    let Pipe::Tls(mut stream) = world.pipe(Way::Tls) else { panic!("TLS") };
    stream.conn.write_tls(&mut hello).unwrap();
    let header = proxy_header(false);
    let starts: [&[u8]; 7] = [
        b"",
        b"\x16\x03\x01\xff\xff",
        &hello,
        &hello[..40],
        UPGRADE.as_bytes(),
        &header,
        b"PROXY ",
    ];
    for address in &world.node.listeners {
        for start in starts {
            for bytes in [1, 100, 40_000] {
                let mut garbage = start.to_vec();
                garbage.extend((0..bytes).map(|_| random()));
                let mut socket = TcpStream::connect(address).unwrap();
                socket.set_read_timeout(Some(Duration::from_millis(5))).unwrap();
                // It may be refused before it is all out.
                let _ = socket.write_all(&garbage);
                let _ = socket.read(&mut [0; 1024]);
            }
        }
    }
    // Behind a handshake that was right.
    for way in [Way::Tls, Way::WebSocket, Way::SecureWebSocket] {
        for bytes in [1, 100, 40_000] {
            let peer = world.connected(way, "garbler");
            let garbage: Vec<u8> = (0..bytes).map(|_| random()).collect();
            let _ = peer.pipe.socket().write_all(&garbage);
        }
    }
    for way in WAYS {
        world.connected(way, "sane").ping();
    }
}

/// Who does not read is bounded, and what is dropped for it is QoS 0; nobody else is slowed.
#[test]
fn a_reader_who_does_not_read_is_bounded_over_tls() {
    const PAYLOAD: usize = 100 * 1024;
    const COUNT: usize = 600;
    let world = World::new();
    let mut readers =
        [world.connected(Way::Tls, "slow-1"), world.connected(Way::SecureWebSocket, "slow-2")];
    for reader in &mut readers {
        reader.subscribe("site/flood", 0);
    }
    let mut publisher = world.connected(Way::Plain, "publisher");
    let before = world.node.memory();
    for _ in 0..COUNT {
        publisher.send(&publish("site/flood", None, &[7; PAYLOAD])).unwrap();
    }
    publisher.ping();
    let grown = world.node.memory().saturating_sub(before);
    println!("{} MB published, the node grew by {} KB", (COUNT * PAYLOAD) >> 20, grown >> 10);
    assert!(grown < 40 << 20, "{grown}");
    assert!(world.node.metric("fulcrum_messages_dropped_slow_total") > COUNT as f64);
    for reader in &mut readers {
        // What it gets is whole, and it may go on.
        let mut messages = 0;
        reader.send(&PINGREQ).unwrap();
        loop {
            let (first, body) = reader.packet().unwrap().expect("the connection is open");
            if first == PINGRESP {
                break;
            }
            assert_eq!(body.len(), 2 + "site/flood".len() + PAYLOAD);
            messages += 1;
        }
        assert!((10..COUNT / 2).contains(&messages), "{messages}");
        publisher.send(&publish("site/flood", None, b"after")).unwrap();
        assert_eq!(reader.message(), b"after");
    }
}

/// What is kept for a client waits for it while it does not read, in the transport too, and then comes whole.
#[test]
fn messages_that_are_kept_arrive_through_a_transport_that_was_full() {
    const PAYLOAD: usize = 60 * 1024;
    const COUNT: u16 = 240;
    let world = World::new();
    let mut publisher = world.connected(Way::Plain, "publisher");
    for way in [Way::Tls, Way::SecureWebSocket] {
        let topic = format!("site/kept/{way:?}");
        let mut reader = world.connected(way, &format!("reader-{way:?}"));
        reader.subscribe(&topic, 1);
        // Retained as well: they come a second time to who subscribes later.
        for number in 1..=COUNT {
            let mut payload = vec![7; PAYLOAD];
            payload[..2].copy_from_slice(&number.to_be_bytes());
            publisher.send(&publish(&topic, Some(number), &payload)).unwrap();
            let mut retained = publish(&format!("{topic}/{number}"), Some(number), &[8; 5000]);
            retained[0] |= 1;
            publisher.send(&retained).unwrap();
            publisher.expect(0x40);
            publisher.expect(0x40);
        }
        for number in 1..=COUNT {
            let payload = reader.message();
            assert_eq!((payload.len(), &payload[..2]), (PAYLOAD, &number.to_be_bytes()[..]));
        }
        reader.subscribe(&format!("{topic}/+"), 1);
        std::thread::sleep(Duration::from_millis(100));
        for _ in 0..COUNT {
            assert_eq!(reader.message(), [8; 5000]);
        }
        reader.ping();
    }
}
