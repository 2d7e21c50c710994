//! A node with a listener for every transport, over two shards.

use super::{Authority, D1, HOST, Peer, Pipe};
use crate::harness::{Node, Place};
use rustls::ClientConfig;
use std::net::SocketAddr;
use std::sync::Arc;

/// MQTT's and HTTP's plain listeners are the first two.
const LISTENERS: &str = "\
[[tls.certificate]]
chain = \"server.pem\"
key = \"server.key\"
[[listener]]
listen = \"127.0.0.1:0\"
tls = true
[[listener]]
listen = \"127.0.0.1:0\"
websocket = \"/mqtt\"
[[listener]]
listen = \"127.0.0.1:0\"
tls = true
websocket = \"/mqtt\"
[[listener]]
listen = \"127.0.0.1:0\"
tls = true
speaks = \"http\"
[[listener]]
listen = \"[::1]:0\"
[[listener]]
listen = \"127.0.0.1:0\"
proxy_protocol = true
[[listener]]
listen = \"127.0.0.1:0\"
proxy_protocol = true
tls = true
websocket = \"/mqtt\"
";

/// A node with all of them.
pub struct World {
    pub place: Place,
    pub authority: Authority,
    pub tls: Arc<ClientConfig>,
    pub node: Node,
}

/// A way to MQTT.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Way {
    Plain,
    Ipv6,
    Tls,
    WebSocket,
    SecureWebSocket,
}

pub const WAYS: [Way; 5] = [Way::Plain, Way::Ipv6, Way::Tls, Way::WebSocket, Way::SecureWebSocket];

impl World {
    pub fn new() -> World {
        World::configured(|config| config)
    }

    pub fn configured(change: impl Fn(String) -> String) -> World {
        let place = Place::new([0; 3]);
        place.add_config(LISTENERS);
        let config = std::fs::read_to_string(place.config()).unwrap();
        place.write_config(&change(config));
        let authority = Authority::new("servers");
        authority.issue("server", &[HOST]).write(place.file("").as_path(), "server");
        place.seed();
        let (tls, node) = (authority.client(None), Node::start(&place));
        assert_eq!(node.listeners.len(), 9, "{:?}", node.listeners);
        World { place, authority, tls, node }
    }

    pub fn address(&self, way: Way) -> SocketAddr {
        self.node.listeners[match way {
            Way::Plain => 0,
            Way::Tls => 2,
            Way::WebSocket => 3,
            Way::SecureWebSocket => 4,
            Way::Ipv6 => 6,
        }]
    }

    pub fn https(&self) -> SocketAddr {
        self.node.listeners[5]
    }

    pub fn behind_proxy(&self) -> SocketAddr {
        self.node.listeners[7]
    }

    pub fn behind_proxy_secure(&self) -> SocketAddr {
        self.node.listeners[8]
    }

    pub fn pipe(&self, way: Way) -> Pipe {
        let pipe = Pipe::plain(self.address(way));
        match way {
            Way::Tls | Way::SecureWebSocket => pipe.with_tls(&self.tls, HOST),
            Way::Plain | Way::Ipv6 | Way::WebSocket => pipe,
        }
    }

    /// A client before its CONNECT.
    pub fn peer(&self, way: Way) -> Peer {
        match way {
            Way::WebSocket | Way::SecureWebSocket => Peer::websocket(self.pipe(way)),
            Way::Plain | Way::Ipv6 | Way::Tls => Peer::new(self.pipe(way)),
        }
    }

    #[track_caller]
    pub fn connected(&self, way: Way, client_id: &str) -> Peer {
        let mut peer = self.peer(way);
        assert_eq!(peer.connect(client_id, D1), 0);
        peer
    }
}

/// A header of the PROXY protocol's second version: LOCAL, or a connection from somewhere.
pub fn proxy_header(is_local: bool) -> Vec<u8> {
    let mut header = b"\r\n\r\n\0\r\nQUIT\n".to_vec();
    if is_local {
        header.extend([0x20, 0, 0, 0]);
    } else {
        header.extend([0x21, 0x11, 0, 12, 192, 0, 2, 1, 192, 0, 2, 2, 0x30, 0x39, 0x07, 0x5b]);
    }
    header
}
