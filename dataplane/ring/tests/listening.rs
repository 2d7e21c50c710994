//! Listeners serve the addresses they name, of either family, and no other.

#![allow(clippy::unwrap_used)] // Test code outside test functions.

mod harness;

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::Instant;

use fulcrum_ring::{RingConfig, accept_on_input, bind_listener};
use harness::{Script, start_at};

fn echoes(addr: SocketAddr) -> bool {
    let Ok(mut stream) = TcpStream::connect(addr) else { return false };
    stream.write_all(b"ping").unwrap();
    let mut back = [0; 4];
    stream.read_exact(&mut back).unwrap();
    back == *b"ping"
}

#[test]
fn the_ipv6_loopback_address_is_served() {
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
fn a_listener_that_waits_for_input_serves_who_speaks_at_once_and_who_is_silent_soon() {
    let listener = bind_listener("127.0.0.1:0".parse().unwrap(), true, 16).unwrap();
    accept_on_input(&listener).unwrap();
    let address = listener.local_addr().unwrap();
    let silent = TcpStream::connect(address).unwrap();
    let mut speaks = TcpStream::connect(address).unwrap();
    speaks.write_all(b"hello").unwrap();
    let begun = Instant::now();
    let (mut accepted, from) = listener.accept().unwrap();
    assert_eq!(from, speaks.local_addr().unwrap());
    accepted.read_exact(&mut [0; 5]).unwrap();
    assert!(accepted.nodelay().unwrap());
    let (_, from) = listener.accept().unwrap();
    assert_eq!(from, silent.local_addr().unwrap());
    assert!((500..5_000).contains(&begun.elapsed().as_millis()), "{:?}", begun.elapsed());
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
