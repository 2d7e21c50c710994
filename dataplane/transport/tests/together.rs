//! All layers at once, and bytes nobody should send.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs, reason = "a test program")]

mod harness;

use std::sync::{Arc, OnceLock};

use fulcrum_transport::{
    ClientCertificates, HandshakeBudget, Layers, Progress, ServerTls, Stack, TransportError,
    WebSocketSettings,
};
use harness::{Authority, Pair, REQUEST, frame, generous, pieces, tls_layers, websocket_layers};
use proptest::prelude::*;

const PROXY: &[u8] = b"PROXY TCP4 192.0.2.7 198.51.100.1 12345 8884\r\n";

fn all_layers(tls: &Arc<ServerTls>) -> Layers {
    Layers {
        proxy: true,
        tls: Some(Arc::clone(tls)),
        websocket: Some(WebSocketSettings::default()),
    }
}

#[test]
fn websocket_over_tls_over_proxy_in_any_pieces() {
    let authority = Authority::new();
    let (leaf, key, _) = authority.issue(&["device-7"]);
    let tls = authority.server(ClientCertificates::Optional);
    let layers = all_layers(&tls);
    assert!(!layers.is_plain() && Layers::default().is_plain());
    let config = authority.client_with(rustls::ALL_VERSIONS, vec![leaf.clone()], &key);
    let config = Arc::new(config);
    for piece in [0, 1, 3, 100] {
        let mut pair = Pair::new(&layers, &config, "mqtt.edge.example");
        pair.client = rustls::ClientConnection::new(
            Arc::clone(&config),
            rustls::pki_types::ServerName::try_from("edge.example").unwrap(),
        )
        .unwrap();
        pair.piece = piece;
        for part in pieces(PROXY, piece) {
            let progress = pair.server.receive(part, &mut pair.plain, &mut generous()).unwrap();
            assert_eq!(progress, Progress::Open);
        }
        pair.send(REQUEST.as_bytes());
        pair.settle();
        assert!(pair.server.is_established());
        assert!(pair.answered.starts_with(b"HTTP/1.1 101 "));
        pair.answered.clear();
        pair.send(&[frame(0x02, b"conn"), frame(0x89, b"!"), frame(0x80, b"ect")].concat());
        pair.settle();
        assert_eq!(pair.plain, b"connect");
        pair.answer(b"connack");
        assert_eq!(pair.answered, b"\x8A\x01!\x82\x07connack");
        assert_eq!(pair.server.peer_addr(), Some("192.0.2.7:12345".parse().unwrap()));
        assert_eq!(pair.server.server_name(), Some("edge.example"));
        assert_eq!(pair.server.client_certificate(), Some(leaf.as_ref()));

        // A connection moves between threads with its stack.
        let server = pair.server;
        pair.server = std::thread::spawn(move || server).join().unwrap();
        pair.answered.clear();
        let mut socket = Vec::new();
        pair.server.close(&mut socket);
        assert!(pair.give_to_client(&socket));
        assert_eq!(pair.answered, b"\x88\x02\x03\xE8");
        assert!(pair.client.process_new_packets().unwrap().peer_has_closed());
    }
}

#[test]
fn a_websocket_violation_inside_tls_is_told_inside_tls() {
    let authority = Authority::new();
    let tls = authority.server(ClientCertificates::NotRequested);
    let mut layers = all_layers(&tls);
    layers.proxy = false;
    for (words, told) in [
        (REQUEST.replace("/mqtt ", "/else ").into_bytes(), &b"HTTP/1.1 404 "[..]),
        ([REQUEST.as_bytes(), &frame(0x81, b"text")].concat(), b"HTTP/1.1 101 "),
    ] {
        let mut pair = Pair::new(&layers, &Arc::new(authority.client()), "edge.example");
        pair.settle();
        pair.send(&words);
        let error = pair.exchange().unwrap_err();
        let refused = matches!(
            error,
            TransportError::WebSocketRequest { status: 404, .. }
                | TransportError::WebSocket { code: 1003, .. }
        );
        assert!(refused, "{error}");
        let mut socket = Vec::new();
        pair.server.refuse(&mut socket);
        assert!(pair.give_to_client(&socket));
        assert!(pair.answered.starts_with(told));
        assert!(pair.client.process_new_packets().unwrap().peer_has_closed());
    }
}

/// One authority for all cases: keys take time.
fn shared() -> &'static (Authority, Arc<ServerTls>) {
    static SHARED: OnceLock<(Authority, Arc<ServerTls>)> = OnceLock::new();
    SHARED.get_or_init(|| {
        let authority = Authority::new();
        let tls = authority.server(ClientCertificates::Optional);
        (authority, tls)
    })
}

/// Whatever comes, in whatever pieces and with whatever budget: an answer or an error.
fn survive(layers: &Layers, bytes: &[u8], piece: usize, budget: u32) {
    let mut stack = Stack::new(layers).unwrap();
    let (mut plain, mut socket) = (Vec::new(), Vec::new());
    let mut budget = HandshakeBudget::new(budget);
    for part in pieces(bytes, piece) {
        stack.output().extend_from_slice(b"out");
        if stack.receive(part, &mut plain, &mut budget).is_err() {
            stack.refuse(&mut socket);
        }
        let _ = stack.flush(&mut socket);
        let _ = (stack.client_certificate(), stack.server_name(), stack.peer_addr());
    }
    let _ = stack.resume(&mut plain, &mut generous());
    stack.close(&mut socket);
    assert!(stack.is_finished());
    assert!(plain.len() <= bytes.len(), "no layer makes more of less");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn garbage_never_panics(
        bytes in prop::collection::vec(any::<u8>(), 0..600),
        begin in 0..5_usize,
        piece in 0..50_usize,
        budget in 0..3_u32,
    ) {
        let (_, tls) = shared();
        let begin: &[u8] =
            [&b""[..], PROXY, b"\r\n\r\n\0\r\nQUIT\n\x21\x11", b"\x16\x03\x01\x01\x00\x01\x00\x00\xFC\x03\x03", REQUEST.as_bytes()][begin];
        let bytes = [begin, &bytes].concat();
        for layers in [tls_layers(tls), websocket_layers(), all_layers(tls)] {
            survive(&layers, &bytes, piece, budget);
        }
        survive(&Layers { proxy: true, ..Layers::default() }, &bytes, piece, budget);
    }

    #[test]
    fn a_changed_client_hello_never_panics(
        at in 0..400_usize, value in any::<u8>(), piece in 0..300_usize,
    ) {
        let (authority, tls) = shared();
        let config = Arc::new(authority.client());
        let mut pair = Pair::new(&tls_layers(tls), &config, "edge.example");
        let mut hello = pair.take_from_client();
        let length = hello.len();
        hello[at % length] = value;
        survive(&tls_layers(tls), &hello, piece, 3);
    }

    #[test]
    fn changed_records_never_panic(
        at in any::<prop::sample::Index>(), value in 1..=255_u8, piece in 0..300_usize,
    ) {
        let (authority, tls) = shared();
        let config = Arc::new(authority.client());
        let mut pair = Pair::new(&tls_layers(tls), &config, "edge.example");
        pair.settle();
        pair.send(&[1; 100]);
        pair.client.refresh_traffic_keys().unwrap();
        pair.send(&[2; 100]);
        let mut bytes = pair.take_from_client();
        let at = at.index(bytes.len());
        bytes[at] ^= value;
        for part in pieces(&bytes, piece) {
            if pair.server.receive(part, &mut pair.plain, &mut generous()).is_err() {
                break;
            }
            let _ = pair.server.flush(&mut Vec::new());
        }
        // What comes through is what was sent, up to where it was changed.
        prop_assert!([[1; 100], [2; 100]].concat().starts_with(&pair.plain));
        pair.server.refuse(&mut Vec::new());
    }

    #[test]
    fn frames_in_any_pieces_carry_the_same_bytes(
        payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..12),
        piece in 0..80_usize,
    ) {
        let mut stack = Stack::new(&websocket_layers()).unwrap();
        let frames: Vec<u8> =
            payloads.iter().flat_map(|payload| frame(0x82, payload)).collect();
        let bytes = [REQUEST.as_bytes(), &frames].concat();
        let mut plain = b"before".to_vec();
        for part in pieces(&bytes, piece) {
            prop_assert_eq!(stack.receive(part, &mut plain, &mut generous()).unwrap(), Progress::Open);
        }
        prop_assert_eq!(plain, [b"before".to_vec(), payloads.concat()].concat());
    }
}
