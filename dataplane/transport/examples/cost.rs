//! What TLS and WebSocket cost a node: time of the server's part of a handshake, of a record, and
//! resident memory of an idle connection. `cargo run --release -p fulcrum-transport --example cost`.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs, reason = "a measuring program")]

#[path = "../tests/harness/mod.rs"]
mod harness;

use std::fs;
use std::io::{Read, Write};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fulcrum_transport::{ClientCertificates, Layers, ServerTls, Stack, WebSocketSettings};
use harness::{Authority, Pair, REQUEST, frame, generous, tls_layers, websocket_layers};
use rustls::client::Resumption;
use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, ClientConnection, ServerConfig, ServerConnection};

const HANDSHAKES: usize = 500;
const IDLE: usize = 10_000;

fn main() {
    if let Some(kind) = std::env::args().nth(1) {
        return measure_idle(&kind);
    }
    let authority = Authority::new();
    println!("server's time of a handshake, P-256 keys, median of {HANDSHAKES}:");
    let (leaf, key, _) = authority.issue(&["device"]);
    for (what, version) in [("TLS 1.2", &TLS12), ("TLS 1.3", &TLS13)] {
        let tls = authority.server(ClientCertificates::NotRequested);
        let mut config = authority.client_of(&[version]);
        config.resumption = Resumption::disabled();
        print_handshakes(&format!("{what} full"), &tls, config);
        print_handshakes(&format!("{what} resumed"), &tls, authority.client_of(&[version]));
        let tls = authority.server(ClientCertificates::Optional);
        let mut config = authority.client_with(&[version], vec![leaf.clone()], &key);
        config.resumption = Resumption::disabled();
        print_handshakes(&format!("{what} full, client certificate"), &tls, config);
    }
    let tls = authority.server(ClientCertificates::NotRequested);
    print_records(&authority, &tls);
    print_idle();
}

fn print_handshakes(what: &str, tls: &Arc<ServerTls>, config: ClientConfig) {
    let config = Arc::new(config);
    // The first fills the client's store of tickets. The median leaves out what the machine did in between.
    let _ = connected(&tls_layers(tls), &config);
    let mut spent: Vec<Duration> =
        (0..HANDSHAKES).map(|_| connected(&tls_layers(tls), &config).1).collect();
    spent.sort_unstable();
    println!("  {what}: {} µs", spent[spent.len() / 2].as_micros());
}

/// A pair after its handshake, and the time the server's part took.
fn connected(layers: &Layers, config: &Arc<ClientConfig>) -> (Pair, Duration) {
    let mut pair = Pair::new(layers, config, "edge.example");
    let mut spent = Duration::ZERO;
    loop {
        let bytes = pair.take_from_client();
        let mut socket = Vec::new();
        let begin = Instant::now();
        let _ = pair.server.receive(&bytes, &mut pair.plain, &mut generous()).unwrap();
        pair.server.flush(&mut socket).unwrap();
        spent += begin.elapsed();
        assert!(pair.give_to_client(&socket));
        if bytes.is_empty() && socket.is_empty() {
            return (pair, spent);
        }
    }
}

fn print_records(authority: &Authority, tls: &Arc<ServerTls>) {
    const ROUNDS: u32 = 20_000;
    println!("one direction, a packet of 128 bytes, and 16 KiB at once:");
    let (mut pair, _) = connected(&tls_layers(tls), &Arc::new(authority.client()));
    for bytes in [128_usize, 16 * 1024] {
        let payload = vec![1; bytes];
        let (mut read, mut write) = (Duration::ZERO, Duration::ZERO);
        let mut socket = Vec::new();
        for _ in 0..ROUNDS {
            pair.send(&payload);
            let records = pair.take_from_client();
            pair.plain.clear();
            let begin = Instant::now();
            let _ = pair.server.receive(&records, &mut pair.plain, &mut generous()).unwrap();
            read += begin.elapsed();
            socket.clear();
            let begin = Instant::now();
            pair.server.output().extend_from_slice(&payload);
            pair.server.flush(&mut socket).unwrap();
            write += begin.elapsed();
        }
        println!("  TLS {bytes}: read {:.0} ns, write {:.0} ns", nanos(read), nanos(write));
        let mut stack = websocket();
        let records = frame(0x82, &payload);
        let begin = Instant::now();
        for _ in 0..ROUNDS {
            pair.plain.clear();
            let _ = stack.receive(&records, &mut pair.plain, &mut generous()).unwrap();
        }
        println!("  WebSocket {bytes}: read {:.0} ns", nanos(begin.elapsed()));
    }

    fn nanos(spent: Duration) -> f64 {
        spent.as_secs_f64() * 1e9 / f64::from(ROUNDS)
    }
}

fn websocket() -> Stack {
    let mut stack = Stack::new(&websocket_layers()).unwrap();
    let _ = stack.receive(REQUEST.as_bytes(), &mut Vec::new(), &mut generous()).unwrap();
    stack.flush(&mut Vec::new()).unwrap();
    stack
}

/// Every kind in a process of its own, so that no memory another kind gave back is used again.
const IDLE_KINDS: [&str; 6] = [
    "TLS 1.2",
    "TLS 1.3",
    "TLS 1.3, client certificate",
    "WebSocket",
    "WebSocket over TLS 1.3",
    "rustls' buffered TLS 1.3 instead",
];

fn print_idle() {
    println!("resident memory of an idle connection, {IDLE} each:");
    let program = std::env::current_exe().unwrap();
    for kind in IDLE_KINDS {
        Command::new(&program).arg(kind).status().unwrap();
    }
}

fn measure_idle(kind: &str) {
    let authority = Authority::new();
    let (leaf, key, _) = authority.issue(&["device"]);
    let tls = authority.server(ClientCertificates::Optional);
    let both = Layers { websocket: Some(WebSocketSettings::default()), ..tls_layers(&tls) };
    let config = Arc::new(match kind {
        "TLS 1.2" => authority.client_of(&[&TLS12]),
        "TLS 1.3, client certificate" => authority.client_with(&[&TLS13], vec![leaf], &key),
        _ => authority.client_of(&[&TLS13]),
    });
    match kind {
        "WebSocket" => print_growth(kind, || Box::new(websocket())),
        "WebSocket over TLS 1.3" => print_growth(kind, || {
            let (mut pair, _) = connected(&both, &config);
            pair.send(REQUEST.as_bytes());
            pair.settle();
            used(pair, &frame(0x82, &[1; 300]))
        }),
        "rustls' buffered TLS 1.3 instead" => {
            let (leaf, key, _) = authority.issue(&["edge.example"]);
            let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
            let provider = Arc::new(rustls::crypto::ring::default_provider());
            let server = ServerConfig::builder_with_provider(provider)
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_no_client_auth()
                .with_single_cert(vec![leaf], key)
                .unwrap();
            let server = Arc::new(server);
            print_growth(kind, || buffered(&server, &config));
        }
        _ => print_growth(kind, || {
            let (pair, _) = connected(&tls_layers(&tls), &config);
            used(pair, &[1; 300])
        }),
    }
}

/// After some traffic.
fn used(mut pair: Pair, packet: &[u8]) -> Box<Stack> {
    pair.send(packet);
    pair.settle();
    pair.answer(&[1; 100]);
    pair.server.release_idle();
    Box::new(pair.server)
}

fn buffered(server: &Arc<ServerConfig>, client: &Arc<ClientConfig>) -> Box<ServerConnection> {
    let name = ServerName::try_from("edge.example").unwrap();
    let mut client = ClientConnection::new(Arc::clone(client), name).unwrap();
    let mut server = Box::new(ServerConnection::new(Arc::clone(server)).unwrap());
    client.writer().write_all(&[1; 300]).unwrap();
    while client.wants_write() || server.wants_write() {
        let mut bytes = Vec::new();
        client.write_tls(&mut bytes).unwrap();
        server.read_tls(&mut &bytes[..]).unwrap();
        let waiting = server.process_new_packets().unwrap().plaintext_bytes_to_read();
        server.reader().read_exact(&mut vec![0; waiting]).unwrap();
        let mut bytes = Vec::new();
        server.write_tls(&mut bytes).unwrap();
        client.read_tls(&mut &bytes[..]).unwrap();
        client.process_new_packets().unwrap();
    }
    server
}

fn print_growth<T>(what: &str, make: impl Fn() -> Box<T>) {
    let mut kept: Vec<Box<T>> = Vec::with_capacity(IDLE);
    // What the first ones leave behind in the allocator is not counted.
    kept.extend((0..IDLE / 10).map(|_| make()));
    let before = resident_bytes();
    let fresh = IDLE - kept.len();
    kept.extend((0..fresh).map(|_| make()));
    let grown = resident_bytes().saturating_sub(before);
    println!("  {what}: {} bytes", grown / fresh);
}

fn resident_bytes() -> usize {
    let statm = fs::read_to_string("/proc/self/statm").unwrap();
    let pages: usize = statm.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4096
}
