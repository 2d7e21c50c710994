//! TLS against real clients: versions, pieces, names, certificates, resumption, limits.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs, reason = "a test program")]

mod harness;

use std::fs;
use std::sync::Arc;

use fulcrum_transport::limits::{
    CLIENT_CHAIN_CERTIFICATES_MAX, CLIENT_HELLO_BYTES_MAX, WAITING_BYTES_MAX,
};
use fulcrum_transport::{
    ClientCertificates, HandshakeBudget, Progress, ServerTls, Stack, TlsSettings, TransportError,
};
use harness::{Authority, Pair, generous, tls_layers};
use rustls::HandshakeKind;
use rustls::version::{TLS12, TLS13};

const VERSIONS: [&rustls::SupportedProtocolVersion; 2] = [&TLS12, &TLS13];

#[test]
fn bytes_pass_both_ways_in_both_versions_and_in_any_pieces() {
    let authority = Authority::new();
    let tls = authority.server(ClientCertificates::NotRequested);
    let long: Vec<u8> = (0..100_000_u32).map(|number| number as u8).collect();
    for version in VERSIONS {
        let config = Arc::new(authority.client_of(&[version]));
        for piece in [0, 1, 2, 7, 1000, 16_384] {
            let mut pair = Pair::new(&tls_layers(&tls), &config, "edge.example");
            pair.piece = piece;
            assert!(!pair.server.is_established());
            assert_eq!(pair.exchange().unwrap(), Progress::Open);
            assert!(pair.server.is_established() && !pair.client.is_handshaking());
            assert_eq!(pair.server.server_name(), Some("edge.example"));
            assert_eq!(pair.server.client_certificate(), None);
            pair.send(b"connect");
            pair.settle();
            pair.send(&long[..40_000]);
            pair.settle();
            assert_eq!(pair.plain, [b"connect", &long[..40_000]].concat());
            pair.answer(b"connack");
            pair.answer(&long);
            assert_eq!(pair.answered, [b"connack", &long[..]].concat());
            assert_eq!(pair.server.queued_bytes(), 0);
        }
    }
}

#[test]
fn output_written_before_the_handshake_leaves_after_it() {
    let authority = Authority::new();
    let tls = authority.server(ClientCertificates::NotRequested);
    let mut pair = Pair::new(&tls_layers(&tls), &Arc::new(authority.client()), "edge.example");
    pair.server.output().extend_from_slice(b"early");
    let mut socket = Vec::new();
    pair.server.flush(&mut socket).unwrap();
    assert!(socket.is_empty() && !pair.server.wants_flush());
    assert_eq!(pair.server.queued_bytes(), 5);
    pair.settle();
    assert_eq!(pair.answered, b"early");
}

#[test]
fn an_expensive_step_waits_for_budget_and_loses_nothing() {
    let authority = Authority::new();
    let (leaf, key, _) = authority.issue(&["device"]);
    for version in VERSIONS {
        let tls = authority.server(ClientCertificates::Optional);
        let config = authority.client_with(&[version], vec![leaf.clone()], &key);
        let mut pair = Pair::new(&tls_layers(&tls), &Arc::new(config), "edge.example");
        let mut steps = 0;
        pair.send(b"connect");
        while !pair.server.is_established() {
            let bytes = pair.take_from_client();
            let mut none = HandshakeBudget::new(0);
            let mut progress = pair.server.receive(&bytes, &mut pair.plain, &mut none).unwrap();
            while progress == Progress::HandshakeDue {
                let again = pair.server.resume(&mut pair.plain, &mut none).unwrap();
                assert_eq!(again, Progress::HandshakeDue);
                let mut one = HandshakeBudget::new(1);
                progress = pair.server.resume(&mut pair.plain, &mut one).unwrap();
                assert_eq!(one.steps_left(), 0, "a step was due and was done");
                steps += 1;
            }
            let mut socket = Vec::new();
            pair.server.flush(&mut socket).unwrap();
            assert!(pair.give_to_client(&socket));
        }
        pair.settle();
        assert_eq!(pair.plain, b"connect");
        assert!((2..=6).contains(&steps), "{steps} steps");
    }
}

#[test]
fn without_client_certificates_tls13_costs_one_step() {
    let authority = Authority::new();
    let tls = authority.server(ClientCertificates::NotRequested);
    let config = Arc::new(authority.client_of(&[&TLS13]));
    let mut pair = Pair::new(&tls_layers(&tls), &config, "edge.example");
    let mut budget = HandshakeBudget::new(10);
    for _ in 0..4 {
        let bytes = pair.take_from_client();
        let progress = pair.server.receive(&bytes, &mut pair.plain, &mut budget).unwrap();
        assert_eq!(progress, Progress::Open);
        let mut socket = Vec::new();
        pair.server.flush(&mut socket).unwrap();
        assert!(pair.give_to_client(&socket));
    }
    assert!(pair.server.is_established());
    assert_eq!(budget.steps_left(), 9);
}

#[test]
fn what_waits_for_a_step_is_bounded() {
    let authority = Authority::new();
    let tls = authority.server(ClientCertificates::NotRequested);
    let mut pair = Pair::new(&tls_layers(&tls), &Arc::new(authority.client()), "edge.example");
    let hello = pair.take_from_client();
    let mut none = HandshakeBudget::new(0);
    let server = &mut pair.server;
    assert_eq!(server.receive(&hello, &mut pair.plain, &mut none).unwrap(), Progress::HandshakeDue);
    let room = WAITING_BYTES_MAX - hello.len();
    let filled = server.receive(&vec![0; room], &mut pair.plain, &mut none).unwrap();
    assert_eq!(filled, Progress::HandshakeDue);
    let error = server.receive(&[0], &mut pair.plain, &mut none).unwrap_err();
    assert!(matches!(error, TransportError::TlsLimit(_)), "{error}");
    let again = server.receive(&[0], &mut pair.plain, &mut none).unwrap_err();
    assert!(matches!(again, TransportError::Ended));
    assert!(server.is_finished());
}

#[test]
fn the_name_chooses_the_certificate() {
    let authority = Authority::new();
    let certificates = vec![
        authority.files("default", &["edge.example"]),
        authority.files("acme", &["mqtt.acme.example", "*.devices.acme.example"]),
        authority.files("late", &["mqtt.acme.example", "late.example"]),
    ];
    let tls = ServerTls::load(TlsSettings { certificates, ..TlsSettings::default() }).unwrap();
    let config = Arc::new(authority.client());
    for (name, accepted) in [
        ("edge.example", true),
        ("mqtt.acme.example", true),
        ("MQTT.acme.example", true),
        ("a.devices.acme.example", true),
        ("a.b.devices.acme.example", false),
        ("late.example", true),
        ("unknown.example", false),
    ] {
        let mut pair = Pair::new(&tls_layers(&tls), &config, name);
        let hello = pair.take_from_client();
        let mut socket = Vec::new();
        let _ = pair.server.receive(&hello, &mut pair.plain, &mut generous()).unwrap();
        pair.server.flush(&mut socket).unwrap();
        assert_eq!(pair.give_to_client(&socket), accepted, "{name}");
        assert_eq!(pair.server.server_name(), Some(name.to_ascii_lowercase().as_str()));
    }
}

#[test]
fn a_reload_is_for_new_connections_and_a_bad_file_changes_nothing() {
    let authority = Authority::new();
    let tls = authority.server(ClientCertificates::NotRequested);
    let mut config = authority.client();
    // A resumed connection shows no certificate.
    config.resumption = rustls::client::Resumption::disabled();
    let config = Arc::new(config);
    let served = || {
        let mut pair = Pair::new(&tls_layers(&tls), &config, "edge.example");
        pair.settle();
        (pair.client.peer_certificates().unwrap()[0].clone(), pair)
    };
    let (first, mut running) = served();
    let files = authority.files("server", &["edge.example"]);
    assert_eq!(served().0, first, "files are read when they are asked for");
    tls.reload().unwrap();
    let (second, _) = served();
    assert_ne!(second, first);
    running.send(b"still here");
    running.settle();
    assert_eq!(running.plain, b"still here");

    fs::write(&files.chain, "not a certificate").unwrap();
    let error = tls.reload().unwrap_err();
    assert!(error.to_string().contains("server.pem"), "{error}");
    assert_eq!(served().0, second);
    let other = authority.files("other", &["edge.example"]);
    fs::copy(&other.chain, &files.chain).unwrap();
    let error = tls.reload().unwrap_err();
    assert!(error.to_string().contains("is it the key of"), "{error}");
    fs::remove_file(&files.key).unwrap();
    assert!(matches!(tls.reload().unwrap_err(), TransportError::Read { .. }));
    assert_eq!(served().0, second);
}

#[test]
fn a_listener_without_certificates_is_refused() {
    let error = ServerTls::load(TlsSettings::default()).unwrap_err();
    assert!(matches!(error, TransportError::NoCertificate));
}

#[test]
fn a_clients_chain_is_handed_out_after_it_proved_its_key() {
    let authority = Authority::new();
    let stranger = Authority::new();
    let (leaf, key, _) = stranger.issue(&["device-7"]);
    let (above, _, _) = stranger.issue(&["authority"]);
    for version in VERSIONS {
        for mode in [ClientCertificates::Optional, ClientCertificates::Required] {
            let tls = authority.server(mode);
            let chain = vec![leaf.clone(), above.clone()];
            let config = Arc::new(authority.client_with(&[version], chain, &key));
            let mut pair = Pair::new(&tls_layers(&tls), &config, "edge.example");
            pair.settle();
            assert_eq!(pair.server.client_certificate(), Some(leaf.as_ref()));
            let chain: Vec<&[u8]> = pair.server.client_chain().collect();
            assert_eq!(chain, [leaf.as_ref(), above.as_ref()]);
        }
    }
}

#[test]
fn a_certificate_of_someone_else_is_refused_with_an_alert() {
    let authority = Authority::new();
    let (leaf, _, _) = authority.issue(&["device-7"]);
    let (_, another_key, _) = authority.issue(&["device-8"]);
    for version in VERSIONS {
        let tls = authority.server(ClientCertificates::Optional);
        // rustls compares key and certificate itself, so it is told nothing about the certificate.
        let key = rustls::crypto::ring::sign::any_ecdsa_type(
            &another_key.serialize_der().try_into().unwrap(),
        );
        let pair = Arc::new(rustls::sign::CertifiedKey::new(vec![leaf.clone()], key.unwrap()));
        let mut config = authority.client_of(&[version]);
        config.client_auth_cert_resolver = Arc::new(Always(pair));
        let mut pair = Pair::new(&tls_layers(&tls), &Arc::new(config), "edge.example");
        let error = pair.exchange().unwrap_err();
        assert!(matches!(error, TransportError::Tls(_)), "{error}");
        assert_eq!(pair.server.client_certificate(), None);
        let mut socket = Vec::new();
        pair.server.refuse(&mut socket);
        assert!(!socket.is_empty() && !pair.give_to_client(&socket), "the client is told");
        let told = socket.len();
        pair.server.refuse(&mut socket);
        pair.server.close(&mut socket);
        assert_eq!(socket.len(), told, "once");
    }
}

#[derive(Debug)]
struct Always(Arc<rustls::sign::CertifiedKey>);

impl rustls::client::ResolvesClientCert for Always {
    fn resolve(
        &self,
        _: &[&[u8]],
        _: &[rustls::SignatureScheme],
    ) -> Option<Arc<rustls::sign::CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

#[test]
fn a_client_without_certificate_is_let_in_only_where_none_is_required() {
    let authority = Authority::new();
    for version in VERSIONS {
        let config = Arc::new(authority.client_of(&[version]));
        let optional = authority.server(ClientCertificates::Optional);
        let mut pair = Pair::new(&tls_layers(&optional), &config, "edge.example");
        pair.settle();
        assert!(pair.server.is_established() && pair.server.client_certificate().is_none());
        let required = authority.server(ClientCertificates::Required);
        let mut pair = Pair::new(&tls_layers(&required), &config, "edge.example");
        assert!(matches!(pair.exchange().unwrap_err(), TransportError::Tls(_)));
    }
}

#[test]
fn a_chain_over_the_limit_is_refused_and_one_at_the_limit_is_not() {
    let authority = Authority::new();
    let tls = authority.server(ClientCertificates::Required);
    let (leaf, key, _) = authority.issue(&["device"]);
    for (length, accepted) in
        [(CLIENT_CHAIN_CERTIFICATES_MAX, true), (CLIENT_CHAIN_CERTIFICATES_MAX + 1, false)]
    {
        let config = authority.client_with(&[&TLS13], vec![leaf.clone(); length], &key);
        let mut pair = Pair::new(&tls_layers(&tls), &Arc::new(config), "edge.example");
        assert_eq!(pair.exchange().is_ok(), accepted, "{length} certificates");
    }
    let names: Vec<String> = (0..1000).map(|number| format!("device-{number}.example")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let (large, key, _) = authority.issue(&names);
    let config = authority.client_with(&[&TLS13], vec![large], &key);
    let mut pair = Pair::new(&tls_layers(&tls), &Arc::new(config), "edge.example");
    assert!(pair.exchange().is_err(), "more bytes than a chain may have");
}

#[test]
fn a_returning_client_resumes_with_its_certificate_also_after_a_reload() {
    let authority = Authority::new();
    let (leaf, key, _) = authority.issue(&["device-7"]);
    for version in VERSIONS {
        let tls = authority.server(ClientCertificates::Optional);
        let config = Arc::new(authority.client_with(&[version], vec![leaf.clone()], &key));
        let connect = || {
            let mut pair = Pair::new(&tls_layers(&tls), &config, "edge.example");
            pair.settle();
            assert_eq!(pair.server.client_certificate(), Some(leaf.as_ref()));
            pair.send(b"connect");
            pair.settle();
            assert_eq!(pair.plain, b"connect");
            pair.client.handshake_kind().unwrap()
        };
        assert_eq!(connect(), HandshakeKind::Full);
        assert_eq!(connect(), HandshakeKind::Resumed);
        authority.files("server", &["edge.example"]);
        tls.reload().unwrap();
        assert_eq!(connect(), HandshakeKind::Resumed);
    }
}

#[test]
fn either_side_ends_in_an_orderly_way() {
    let authority = Authority::new();
    let tls = authority.server(ClientCertificates::NotRequested);
    for version in VERSIONS {
        let config = Arc::new(authority.client_of(&[version]));
        let mut pair = Pair::new(&tls_layers(&tls), &config, "edge.example");
        pair.settle();
        pair.send(b"disconnect");
        pair.client.send_close_notify();
        let bytes = pair.take_from_client();
        let progress = pair.server.receive(&bytes, &mut pair.plain, &mut generous()).unwrap();
        assert_eq!(progress, Progress::Finished);
        assert!(pair.server.is_finished());
        assert_eq!(pair.plain, b"disconnect");

        let mut pair = Pair::new(&tls_layers(&tls), &config, "edge.example");
        pair.settle();
        pair.server.output().extend_from_slice(b"last words");
        let mut socket = Vec::new();
        pair.server.close(&mut socket);
        let said = socket.len();
        pair.server.close(&mut socket);
        assert_eq!(socket.len(), said, "goodbye is said once");
        let mut bytes = &socket[..];
        pair.client.read_tls(&mut bytes).unwrap();
        assert!(bytes.is_empty());
        assert!(pair.client.process_new_packets().unwrap().peer_has_closed());
        let mut heard = String::new();
        std::io::Read::read_to_string(&mut pair.client.reader(), &mut heard).unwrap();
        assert_eq!(heard, "last words");
        let error = pair.server.receive(b"x", &mut pair.plain, &mut generous()).unwrap_err();
        assert!(matches!(error, TransportError::Ended));
    }
}

#[test]
fn keys_may_be_updated_at_any_time() {
    let authority = Authority::new();
    let tls = authority.server(ClientCertificates::NotRequested);
    let config = Arc::new(authority.client_of(&[&TLS13]));
    for piece in [0, 1] {
        let mut pair = Pair::new(&tls_layers(&tls), &config, "edge.example");
        pair.piece = piece;
        pair.settle();
        for round in 0..3 {
            pair.client.refresh_traffic_keys().unwrap();
            pair.send(b"up");
            pair.settle();
            pair.answer(b"down");
            assert_eq!((pair.plain.len(), pair.answered.len()), (2 * round + 2, 4 * round + 4));
        }
    }
}

#[test]
fn a_client_that_speaks_something_else_is_told_by_an_alert() {
    let authority = Authority::new();
    let tls = authority.server(ClientCertificates::NotRequested);
    for words in [&b"\x10\x10\0\x04MQTT\x05\x02\0\x3c\0\0\x03dev"[..], b"GET / HTTP/1.1\r\n\r\n"] {
        let mut server = Stack::new(&tls_layers(&tls)).unwrap();
        let error = server.receive(words, &mut Vec::new(), &mut generous()).unwrap_err();
        assert!(matches!(error, TransportError::Tls(_) | TransportError::NotTls), "{error}");
        let mut socket = Vec::new();
        server.refuse(&mut socket);
        assert_eq!(socket.first(), Some(&21), "an alert record");
        let mut server = Stack::new(&tls_layers(&tls)).unwrap();
        let error = server.receive(&words[..1], &mut Vec::new(), &mut generous()).unwrap_err();
        assert!(
            matches!(error, TransportError::Tls(_) | TransportError::NotTls),
            "the first byte says it: {error}"
        );
    }
}

#[test]
fn a_client_hello_that_never_ends_is_refused() {
    let authority = Authority::new();
    let tls = authority.server(ClientCertificates::NotRequested);
    // One handshake message of 60000 bytes in records of 1000.
    let mut server = Stack::new(&tls_layers(&tls)).unwrap();
    let mut sent = 0;
    let error = loop {
        let mut record = vec![22, 3, 1, 0x03, 0xE8];
        let begin = if sent == 0 { vec![1, 0, 0xEA, 0x60] } else { Vec::new() };
        record.extend(&begin);
        record.resize(5 + 1000, 0);
        sent += record.len();
        match server.receive(&record, &mut Vec::new(), &mut generous()) {
            Ok(progress) => assert_eq!(progress, Progress::Open),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, TransportError::TlsLimit(_)), "{error}");
    assert!((CLIENT_HELLO_BYTES_MAX..CLIENT_HELLO_BYTES_MAX + 2000).contains(&sent), "{sent}");
    // The same in crumbs.
    let mut server = Stack::new(&tls_layers(&tls)).unwrap();
    let mut records = 0;
    while server.receive(&[22, 3, 1, 0, 1, 1], &mut Vec::new(), &mut generous()).is_ok() {
        records += 1;
    }
    assert!(records < 40, "{records} records");
}

#[test]
fn a_changed_record_ends_the_connection_and_what_came_before_counts() {
    let authority = Authority::new();
    let tls = authority.server(ClientCertificates::NotRequested);
    for version in VERSIONS {
        let config = Arc::new(authority.client_of(&[version]));
        let mut pair = Pair::new(&tls_layers(&tls), &config, "edge.example");
        pair.settle();
        pair.send(b"good");
        let mut bytes = pair.take_from_client();
        pair.send(b"evil");
        bytes.extend(pair.take_from_client());
        *bytes.last_mut().unwrap() ^= 1;
        let error = pair.server.receive(&bytes, &mut pair.plain, &mut generous()).unwrap_err();
        assert!(matches!(error, TransportError::Tls(_)), "{error}");
        assert_eq!(pair.plain, b"good");
        let mut socket = Vec::new();
        pair.server.refuse(&mut socket);
        assert!(!socket.is_empty() && !pair.give_to_client(&socket));
    }
}
