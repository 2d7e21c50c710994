//! Who gets in with a client certificate, over MQTT, WebSocket and HTTP.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that fails says so by panicking")]

mod harness;
mod peers;

use harness::{Node, Place};
use peers::*;
use serde_json::json;
use std::net::SocketAddr;
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::version::{TLS12, TLS13};

const ACCEPTED: u8 = 0;
/// "bad user name or password" in the words of 3.1.1.
const REFUSED: u8 = 4;

/// Tenant `acme` trusts `devices`, tenant `beta` the authority above `unknown`; each has a device `pump`.
struct World {
    servers: Authority,
    devices: Authority,
    /// Whose certificates name an issuer no tenant has as an anchor.
    unknown: Authority,
    node: Node,
    _place: Place,
}

impl World {
    fn new(asked: &str) -> World {
        let place = Place::new([0; 3]);
        place.add_config(&format!(
            "[tls]\nclient_certificates = \"{asked}\"\n\
             [[tls.certificate]]\nchain = \"server.pem\"\nkey = \"server.key\"\n\
             [[listener]]\nlisten = \"127.0.0.1:0\"\ntls = true\n\
             [[listener]]\nlisten = \"127.0.0.1:0\"\ntls = true\nwebsocket = \"/mqtt\"\n\
             [[listener]]\nlisten = \"127.0.0.1:0\"\ntls = true\nspeaks = \"http\"\n"
        ));
        let servers = Authority::new("servers");
        servers
            .issue("server", &["edge.example", "*.edge.example"])
            .write(&place.file(""), "server");
        let (devices, root) = (Authority::new("devices"), Authority::new("root"));
        let unknown = root.subordinate("unknown");
        let pump = |tenant: &str| {
            let credential = json!({ "type": "x509-cert", "auth-id": "CN=pump", "secrets": [{}] });
            vec![
                json!({ "kind": "device", "tenant": tenant, "device": "pump", "document": {} }),
                json!({ "kind": "credentials", "tenant": tenant, "device": "pump", "document": [credential] }),
            ]
        };
        let beta = json!({ "alias": "b", "trusted-ca": [root.anchor()] });
        let mut more = vec![json!({ "kind": "tenant", "tenant": "beta", "document": beta })];
        more.extend(pump("acme").into_iter().chain(pump("beta")));
        place.seed_with(json!({ "trusted-ca": [devices.anchor()] }), more);
        let node = Node::start(&place);
        World { servers, devices, unknown, node, _place: place }
    }

    fn client(&self, identity: &Identity) -> Arc<ClientConfig> {
        self.servers.client(Some(identity))
    }

    fn tls(&self) -> SocketAddr {
        self.node.listeners[2]
    }

    fn secure_websocket(&self) -> SocketAddr {
        self.node.listeners[3]
    }

    fn https(&self) -> SocketAddr {
        self.node.listeners[4]
    }

    /// The code of a CONNACK without user name and password.
    fn code(&self, config: &Arc<ClientConfig>, host: &str) -> u8 {
        Peer::new(Pipe::tls(self.tls(), config, host)).connect("c", None)
    }
}

#[test]
fn a_device_gets_in_with_its_certificate() {
    let world = World::new("optional");
    let pump = world.devices.issue("pump", &[]);
    for version in [&TLS12, &TLS13] {
        let config = world.servers.client_of(&[version], Some(&pump));
        for number in 0..4 {
            // After the first, sessions are resumed: the certificate comes with the ticket.
            let mut peer = Peer::new(Pipe::tls(world.tls(), &config, HOST));
            assert_eq!(peer.connect(&format!("pump-{number}"), None), ACCEPTED);
            let kind = peer.pipe.tls_state().handshake_kind().unwrap();
            assert_eq!(kind == rustls::HandshakeKind::Resumed, number > 0, "{kind:?}");
            // It is the device: it may publish its events.
            peer.send(&publish("event", Some(1), b"hot")).unwrap();
            assert_eq!(peer.expect(0x40), [0, 1]);
            let mut peer = Peer::websocket(Pipe::tls(world.secure_websocket(), &config, HOST));
            assert_eq!(peer.connect(&format!("web-{number}"), None), ACCEPTED);
            peer.ping();
        }
    }
    assert!(world.node.metric("fulcrum_connections_moved_total") > 0.0);
}

#[test]
fn a_certificate_nobody_vouches_for_is_refused() {
    let world = World::new("optional");
    let stranger = Authority::new("strangers");
    // The anchor's name, and another key.
    let impostor = Authority::new("devices");
    for identity in [
        stranger.issue("pump", &[]),
        impostor.issue("pump", &[]),
        world.devices.issue("pipe", &[]),
        world.devices.issue_expired("pump"),
    ] {
        let config = world.client(&identity);
        for host in [HOST, "acme.edge.example"] {
            assert_eq!(world.code(&config, host), REFUSED);
        }
        // A password still counts, on both protocols.
        let mut peer = Peer::new(Pipe::tls(world.tls(), &config, HOST));
        assert_eq!(peer.connect("c", D1), ACCEPTED);
        let mut pipe = Pipe::tls(world.https(), &config, HOST);
        assert_eq!(event(&mut pipe, ""), 401);
        assert_eq!(event(&mut pipe, "Authorization: Basic ZDFAYWNtZTpob25vLXNlY3JldA==\r\n"), 202);
    }
    // No certificate and no password, and a wrong password.
    assert_eq!(world.code(&world.servers.client(None), HOST), REFUSED);
    let mut peer =
        Peer::new(Pipe::tls(world.tls(), &world.client(&stranger.issue("x", &[])), HOST));
    assert_eq!(peer.connect("c", Some(("d1@acme", "wrong"))), REFUSED);
}

#[test]
fn a_certificate_goes_before_a_password() {
    let world = World::new("optional");
    let config = world.client(&world.devices.issue("pump", &[]));
    let mut peer = Peer::new(Pipe::tls(world.tls(), &config, HOST));
    assert_eq!(peer.connect("c", Some(("nobody", "knows"))), ACCEPTED);
}

#[test]
fn the_host_name_says_the_tenant_where_the_issuer_is_unknown() {
    let world = World::new("optional");
    let config = world.client(&world.unknown.issue("pump", &[]));
    for (host, code) in [
        ("beta.edge.example", ACCEPTED),
        ("b.edge.example", ACCEPTED),
        ("acme.edge.example", REFUSED),
        ("nobody.edge.example", REFUSED),
        (HOST, REFUSED),
    ] {
        assert_eq!(world.code(&config, host), code, "{host}");
    }
    // An issuer that is known decides alone.
    let config = world.client(&world.devices.issue("pump", &[]));
    assert_eq!(world.code(&config, "beta.edge.example"), ACCEPTED);
}

#[test]
fn events_arrive_over_https_with_a_certificate_alone() {
    let world = World::new("optional");
    let config = world.client(&world.devices.issue("pump", &[]));
    let mut pipe = Pipe::tls(world.https(), &config, HOST);
    for _ in 0..3 {
        assert_eq!(event(&mut pipe, ""), 202);
    }
    let mut pipe = Pipe::tls(world.https(), &world.servers.client(None), HOST);
    assert_eq!(event(&mut pipe, ""), 401);
}

#[test]
fn where_a_certificate_is_required_nobody_connects_without() {
    let world = World::new("required");
    let mut pipe = Pipe::tls(world.tls(), &world.servers.client(None), HOST);
    // TLS 1.3: the client is done before the server has seen that there is none.
    let refused = pipe.shake_hands().and_then(|()| pipe.receive(&mut [0; 16]));
    assert!(refused.is_err(), "{refused:?}");
    let config = world.client(&world.devices.issue("pump", &[]));
    assert_eq!(world.code(&config, HOST), ACCEPTED);
}

fn event(pipe: &mut Pipe, header: &str) -> u16 {
    let request = format!(
        "POST /event HTTP/1.1\r\nHost: h\r\n{header}Content-Type: text/plain\r\nContent-Length: 3\r\n\r\nhot"
    );
    pipe.send(request.as_bytes()).unwrap();
    status(pipe)
}
