//! Listeners serve the addresses they name, of either family, and no other.

#![allow(clippy::unwrap_used)] // Test code outside test functions.

mod harness;

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};

use fulcrum_ring::{RingConfig, bind_listener};
use harness::{Script, start_at};

fn echoes(addr: SocketAddr) -> bool {
    let Ok(mut stream) = TcpStream::connect(addr) else { return false };
    stream.write_all(b"ping").unwrap();
    let mut back = [0; 4];
    stream.read_exact(&mut back).unwrap();
    back == *b"ping"
}

#[test]
fn the_ipv6_loopback_address_is_served_and_its_peers_are_named() {
    let ring = start_at("[::1]:0", RingConfig::default(), Script::echo);
    assert!(ring.addr.is_ipv6() && echoes(ring.addr));
    ring.stop();
}

#[test]
fn every_ipv6_address_is_not_every_ipv4_address() {
    let ring = start_at("[::]:0", RingConfig::default(), Script::echo);
    let port = ring.addr.port();
    let (six, four) = ((Ipv6Addr::LOCALHOST, port).into(), (Ipv4Addr::LOCALHOST, port).into());
    assert!(echoes(six));
    assert!(!echoes(four), "an IPv4 peer came in through the IPv6 listener");
    // So both can be listened at, on the same port and without address sharing.
    let listener = bind_listener(four, false, 16).unwrap();
    TcpStream::connect(four).unwrap();
    assert_eq!(listener.local_addr().unwrap(), four);
    ring.stop();
}

#[test]
fn accepted_connections_send_at_once_because_their_listener_does() {
    for address in ["127.0.0.1:0", "[::1]:0"] {
        let listener = bind_listener(address.parse().unwrap(), true, 16).unwrap();
        let _peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (accepted, _) = listener.accept().unwrap();
        assert!(accepted.nodelay().unwrap(), "{address}");
    }
}
