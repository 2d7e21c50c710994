//! A node's listeners as their clients see them: TLS, WebSocket, PROXY protocol and IPv6, with a client that is not ours and
//! with one that shows every byte; over two shards, so that a connection moves with its transport after CONNECT.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that fails says so by panicking")]

mod harness;
mod peers;

use harness::Place;
use peers::*;
use std::net::SocketAddr;
use std::time::Duration;

// ---- a client that is not ours -----------------------------------------------------------------------------------------

/// Where rumqttc connects to go this way: its port, and the address WebSocket wants.
fn entrance(world: &World, way: Way) -> (SocketAddr, bool) {
    match way {
        Way::Plain | Way::Ipv6 | Way::WebSocket => (world.address(way), way == Way::WebSocket),
        Way::Tls | Way::SecureWebSocket => {
            (tunnel(world.address(way), world.tls.clone()), way == Way::SecureWebSocket)
        }
    }
}

const MESSAGES: usize = 20;

/// The test of one version, whose types have the same names in two modules.
macro_rules! served_on_every_way_at_every_qos {
    ($test:ident, $prefix:literal, $($types:tt)*) => {
        #[test]
        fn $test() {
            use $($types)*;
            let world = World::new();
            for way in WAYS {
                let (entrance, is_websocket) = entrance(&world, way);
                let host = match is_websocket {
                    true => format!("ws://{entrance}/mqtt"),
                    false => entrance.ip().to_string(),
                };
                for client in 0..4 {
                    let topic = format!("site/{way:?}/{client}");
                    let id = format!("{}-{way:?}-{client}", $prefix);
                    let mut options = MqttOptions::new(id, &host, entrance.port());
                    options.set_credentials("d1@acme", "hono-secret");
                    if is_websocket {
                        options.set_transport(rumqttc::Transport::Ws);
                    }
                    let (client, mut connection) = Client::new(options, 100);
                    client.subscribe(&topic, QoS::ExactlyOnce).unwrap();
                    let mut expected = Vec::new();
                    for number in 0..MESSAGES {
                        let qos = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce][number % 3];
                        let payload = vec![number as u8; 100 * number];
                        client.publish(&topic, qos, false, payload.clone()).unwrap();
                        expected.push((qos as u8, payload));
                    }
                    let mut got = Vec::new();
                    while got.len() < MESSAGES {
                        let event = connection.recv_timeout(PATIENCE).unwrap().unwrap();
                        if let Event::Incoming(Packet::Publish(publish)) = event {
                            got.push((publish.qos as u8, publish.payload.to_vec()));
                        }
                    }
                    // Each once; the levels of QoS overtake each other.
                    got.sort();
                    expected.sort();
                    assert_eq!(got, expected);
                    client.disconnect().unwrap();
                    while matches!(connection.recv_timeout(PATIENCE), Ok(Ok(_))) {}
                }
            }
            // Half of the clients came to the other shard than the one that keeps their session.
            assert!(world.node.metric("fulcrum_connections_moved_total") > 2.0);
            assert_eq!(world.node.metric("fulcrum_transport_errors_total"), 0.0);
        }
    };
}

served_on_every_way_at_every_qos!(
    rumqttc_of_mqtt_3_is_served_on_every_way_at_every_qos,
    "three",
    rumqttc::{Client, Event, MqttOptions, Packet, QoS}
);
served_on_every_way_at_every_qos!(
    rumqttc_of_mqtt_5_is_served_on_every_way_at_every_qos,
    "five",
    rumqttc::v5::{
        Client, Event, MqttOptions,
        mqttbytes::{QoS, v5::Packet},
    }
);

// ---- one way after the other ---------------------------------------------------------------------------------------------

#[test]
fn connections_move_between_shards_with_their_transport() {
    let world = World::new();
    for way in WAYS {
        for number in 0..8 {
            let topic = format!("site/{way:?}/{number}");
            let mut peer = world.peer(way);
            // All at once: what follows CONNECT moves as well.
            let mut bytes = connect(&format!("mover-{way:?}-{number}"), D1, 60);
            let mut body = vec![0, 1, 0, topic.len() as u8];
            body.extend(topic.as_bytes());
            body.push(1);
            bytes.extend(packet(0x82, &body));
            bytes.extend(publish(&topic, Some(7), b"hello"));
            bytes.extend(PINGREQ);
            peer.send(&bytes).unwrap();
            assert_eq!(peer.expect(0x20), [0, 0]);
            assert_eq!(peer.expect(0x90), [0, 1, 1]);
            let mut seen = [peer.packet(), peer.packet(), peer.packet()]
                .map(|packet| packet.unwrap().unwrap().0 & 0xF0);
            seen.sort_unstable();
            assert_eq!(seen, [0x30, 0x40, PINGRESP]);
        }
    }
    assert!(world.node.metric("fulcrum_connections_moved_total") > 4.0);
}

#[test]
fn events_arrive_over_https() {
    let world = World::new();
    let mut pipe = Pipe::tls(world.https(), &world.tls, HOST);
    for body in ["one", "two"] {
        assert_eq!(event(&mut pipe, Some("ZDFAYWNtZTpob25vLXNlY3JldA=="), body), 202);
    }
    // Behind a request with an error the connection is closed in order.
    pipe.send(b"NONSENSE\r\n\r\n").unwrap();
    assert_eq!(status(&mut pipe), 400);
    assert_eq!(pipe.receive(&mut [0; 1024]).unwrap(), 0);
}

fn event(pipe: &mut Pipe, authorization: Option<&str>, body: &str) -> u16 {
    let authorization = authorization.map(|value| format!("Authorization: Basic {value}\r\n"));
    let request = format!(
        "POST /event HTTP/1.1\r\nHost: h\r\n{}Content-Type: text/plain\r\nContent-Length: {}\r\n\r\n{body}",
        authorization.unwrap_or_default(),
        body.len()
    );
    pipe.send(request.as_bytes()).unwrap();
    status(pipe)
}

#[test]
fn a_listener_behind_a_proxy_wants_its_header_and_nothing_else() {
    let world = World::new();
    for is_local in [false, true] {
        let mut pipe = Pipe::plain(world.behind_proxy());
        pipe.send(&proxy_header(is_local)).unwrap();
        assert_eq!(Peer::new(pipe).connect("behind", D1), 0);
        // TLS and WebSocket inside, the header in pieces.
        let mut pipe = Pipe::plain(world.behind_proxy_secure());
        for piece in proxy_header(is_local).chunks(5) {
            pipe.send(piece).unwrap();
            std::thread::sleep(Duration::from_millis(5));
        }
        let mut peer = Peer::websocket(pipe.with_tls(&world.tls, HOST));
        assert_eq!(peer.connect("behind-tls", D1), 0);
        peer.ping();
    }
    // Without a header, with half of a wrong one, and with one too many.
    let mut wrong = proxy_header(false);
    wrong[12] = 0x31;
    for bytes in [connect("no-header", D1, 60), wrong] {
        let mut pipe = Pipe::plain(world.behind_proxy());
        pipe.send(&bytes).unwrap();
        assert_eq!(pipe.receive(&mut [0; 16]).unwrap_or(0), 0);
    }
    assert_eq!(world.node.metric("fulcrum_transport_errors_total"), 2.0);
    let mut pipe = Pipe::plain(world.address(Way::Plain));
    pipe.send(&proxy_header(false)).unwrap();
    assert_eq!(pipe.receive(&mut [0; 16]).unwrap_or(0), 0);
}

#[test]
fn messages_of_the_largest_size_pass_both_ways() {
    let world = World::new();
    let payload: Vec<u8> = (0..256 * 1024 - 64).map(|at: u32| (at % 251) as u8).collect();
    for way in WAYS {
        let mut peer = world.connected(way, "large");
        peer.subscribe("site/large", 1);
        for number in 1..=5 {
            peer.send(&publish("site/large", Some(number), &payload)).unwrap();
            let (mut acknowledged, mut message) = (false, None);
            while !acknowledged || message.is_none() {
                let (first, body) = peer.packet().unwrap().unwrap();
                match first & 0xF0 {
                    0x40 => acknowledged = true,
                    0x30 => message = Some(body),
                    other => panic!("{other:#x}"),
                }
            }
            let mut body = message.unwrap();
            let start = 2 + "site/large".len();
            peer.send(&packet(0x40, &body[start..start + 2])).unwrap();
            assert!(body.split_off(start + 2) == payload, "{way:?}: the payload is another");
        }
    }
}

// ---- how connections end -------------------------------------------------------------------------------------------------

#[test]
fn every_layer_says_goodbye_after_disconnect() {
    let world = World::new();
    for way in WAYS {
        let mut peer = world.connected(way, "leaver");
        peer.send(&DISCONNECT).unwrap();
        // With TLS an end without close_notify would be an error here.
        peer.expect_end();
        if matches!(way, Way::WebSocket | Way::SecureWebSocket) {
            assert_eq!(peer.closed, Some(vec![0x03, 0xE8]), "{way:?}");
        }
    }
}

#[test]
fn a_goodbye_of_the_transport_ends_the_connection_in_order() {
    let world = World::new();
    let mut peer = world.connected(Way::Tls, "closer");
    peer.pipe.tls_state().send_close_notify();
    peer.pipe.send(b"").unwrap();
    peer.expect_end();
    for way in [Way::WebSocket, Way::SecureWebSocket] {
        let mut peer = world.connected(way, "closer");
        peer.pipe.send(&frame(0x88, &[0x03, 0xE9])).unwrap();
        peer.expect_end();
        assert_eq!(peer.closed, Some(vec![0x03, 0xE9]), "the code is repeated");
    }
}

/// What a client sends before its goodbye is taken, also when the server has to look something up for it first; a
/// DISCONNECT among it keeps the will away.
#[test]
fn what_came_before_the_goodbye_is_taken() {
    let world = World::new();
    let mut watcher = world.connected(Way::Plain, "watcher");
    watcher.subscribe("site/#", 0);
    for way in WAYS {
        for round in 0..4 {
            let mut peer = world.peer(way);
            // CONNECT itself has to wait for the registry, and for the shard that owns the client.
            let name = format!("{way:?}-{round}");
            let mut bytes = connect_with(&name, D1, 60, Some(("site/will", "died")));
            bytes.extend(publish("site/last", None, name.as_bytes()));
            bytes.extend(DISCONNECT);
            peer.send(&bytes).unwrap();
            match way {
                Way::Tls => {
                    peer.pipe.tls_state().send_close_notify();
                    peer.pipe.send(b"").unwrap();
                }
                Way::WebSocket | Way::SecureWebSocket => {
                    peer.pipe.send(&frame(0x88, &[0x03, 0xE8])).unwrap();
                }
                Way::Plain | Way::Ipv6 => {}
            }
            peer.pipe.socket().shutdown(std::net::Shutdown::Write).unwrap();
            assert_eq!(String::from_utf8(watcher.message()).unwrap(), name);
        }
    }
    watcher.ping();
}

#[test]
fn a_connection_that_breaks_without_goodbye_leaves_its_will() {
    let world = World::new();
    let mut watcher = world.connected(Way::Plain, "watcher");
    watcher.subscribe("site/#", 0);
    for way in [Way::Tls, Way::WebSocket, Way::SecureWebSocket] {
        let mut peer = world.peer(way);
        peer.send(&connect_with("mortal", D1, 60, Some(("site/will", "died")))).unwrap();
        peer.expect(0x20);
        drop(peer);
        assert_eq!(watcher.message(), b"died");
    }
}

#[test]
fn a_node_that_stops_says_goodbye_through_every_layer() {
    let world = World::new();
    let mut peers: Vec<_> =
        WAYS.iter().map(|way| world.connected(*way, &format!("{way:?}"))).collect();
    world.node.terminate();
    for peer in &mut peers {
        peer.expect_end();
    }
    assert_eq!(world.node.wait().code(), Some(0));
}

// ---- certificates ----------------------------------------------------------------------------------------------

fn certificate_of(peer: &mut Peer) -> Vec<u8> {
    peer.pipe.tls_state().peer_certificates().unwrap()[0].to_vec()
}

#[test]
fn new_connections_get_a_new_certificate_and_open_ones_go_on() {
    let world = World::new();
    let folder = world.place.file("");
    let mut early = world.connected(Way::Tls, "early");
    let first = certificate_of(&mut early);
    world.authority.issue("server two", &[HOST]).write(&folder, "server");
    world.node.hang_up();
    world.node.logs("certificates are read again");
    // A fresh client: tickets of the first certificate would resume its session.
    let fresh =
        || Peer::new(Pipe::tls(world.address(Way::Tls), &world.authority.client(None), HOST));
    let mut late = fresh();
    assert_eq!(late.connect("late", D1), 0);
    let second = certificate_of(&mut late);
    assert_ne!(first, second);
    early.ping();
    // A file that is broken, and a key of another certificate, change nothing.
    std::fs::write(world.place.file("server.pem"), "-----BEGIN CERTIFICATE-----\n!").unwrap();
    world.node.hang_up();
    world.node.logs("the certificates stay as they were");
    let mut later = fresh();
    assert_eq!(later.connect("later", D1), 0);
    assert_eq!(certificate_of(&mut later), second);
    early.ping();
    late.ping();
    world.node.terminate();
    assert_eq!(world.node.wait().code(), Some(0));
}

#[test]
fn a_certificate_that_cannot_be_used_is_named_before_the_start() {
    let place = Place::new([0; 3]);
    place.add_config(
        "[[tls.certificate]]\nchain = \"server.pem\"\nkey = \"server.key\"\n\
         [[listener]]\nlisten = \"127.0.0.1:0\"\ntls = true\n",
    );
    let check = || String::from_utf8(place.execute(&["check"]).stdout).unwrap();
    for text in [check(), place.refusal()] {
        assert!(text.contains("server.pem"), "{text}");
    }
    let authority = Authority::new("servers");
    authority.issue("server", &[HOST]).write(&place.file(""), "server");
    let other = authority.issue("server", &[HOST]);
    std::fs::write(place.file("server.key"), other.key.serialize_pem()).unwrap();
    for text in [check(), place.refusal()] {
        assert!(text.contains("server.key") && text.contains("server.pem"), "{text}");
    }
    assert!(!place.data_dir().exists());
    other.write(&place.file(""), "server");
    assert!(check().contains("The node can run here"), "{}", check());
}
