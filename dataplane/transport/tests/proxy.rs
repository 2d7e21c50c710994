//! The PROXY header: golden headers, malformed ones, pieces, limits.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs, reason = "a test program")]

mod harness;

use fulcrum_transport::limits::PROXY_HEADER_BYTES_MAX;
use fulcrum_transport::{Layers, ProxiedConnection, ProxiedTls, Stack, TransportError};
use harness::{generous, pieces};

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
const IP4: &[u8] = &[192, 0, 2, 7, 198, 51, 100, 1, 0x30, 0x39, 0x07, 0x5B];

fn header(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let length = (rest.len() as u16).to_be_bytes();
    [SIGNATURE, &[command, family], &length, rest].concat()
}

fn field(kind: u8, value: &[u8]) -> Vec<u8> {
    [&[kind], &(value.len() as u16).to_be_bytes()[..], value].concat()
}

fn with_fields(fields: &[Vec<u8>]) -> Vec<u8> {
    header(0x21, 0x11, &[IP4, &fields.concat()].concat())
}

/// A header with its checksum, which is the last field.
fn summed(fields: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = with_fields(&[fields, &[field(3, &[0; 4])]].concat());
    let sum = crc32c::crc32c(&bytes).to_be_bytes();
    let end = bytes.len();
    bytes[end - 4..].copy_from_slice(&sum);
    bytes
}

/// What the header says, and the protocol's bytes behind it.
fn read(
    bytes: &[u8],
    piece: usize,
) -> Result<(Option<ProxiedConnection>, Vec<u8>), TransportError> {
    let mut stack = Stack::new(&Layers { proxy: true, ..Layers::default() })?;
    let mut plain = Vec::new();
    for piece in pieces(bytes, piece) {
        let _ = stack.receive(piece, &mut plain, &mut generous())?;
    }
    assert_eq!(stack.is_established(), stack.proxied().is_some());
    assert_eq!(stack.peer_addr(), stack.proxied().and_then(|proxied| proxied.source));
    let authority = stack.proxied().and_then(|proxied| proxied.authority.as_deref());
    assert_eq!(stack.server_name(), authority);
    Ok((stack.proxied().cloned(), plain))
}

fn between(source: &str, destination: &str) -> ProxiedConnection {
    ProxiedConnection {
        source: Some(source.parse().unwrap()),
        destination: Some(destination.parse().unwrap()),
        ..ProxiedConnection::default()
    }
}

#[test]
fn good_headers_say_who_connected_in_any_pieces() {
    let ip4 = between("192.0.2.7:12345", "198.51.100.1:1883");
    let mut ip6_bytes = vec![0x20, 1, 0x0D, 0xB8];
    ip6_bytes.resize(15, 0);
    ip6_bytes.push(7);
    ip6_bytes.extend_from_within(..);
    ip6_bytes.extend([0x30, 0x39, 0x07, 0x5B]);
    let ip6 = between("[2001:db8::7]:12345", "[2001:db8::7]:1883");
    let unknown = ProxiedConnection::default();
    let ssl = |client: u8, verify: u32| {
        let head = [&[client][..], &verify.to_be_bytes()].concat();
        field(0x20, &[head, field(0x21, b"TLSv1.3"), field(0x22, b"device-7")].concat())
    };
    let tls = |client_verified| {
        Some(ProxiedTls {
            client_verified,
            version: Some("TLSv1.3".into()),
            common_name: Some("device-7".into()),
        })
    };
    let named = ProxiedConnection { authority: Some("mqtt.acme.example".into()), ..ip4.clone() };
    for (bytes, expected) in [
        (header(0x21, 0x11, IP4), &ip4),
        (header(0x21, 0x21, &ip6_bytes), &ip6),
        (header(0x21, 0x31, &[b'/'; 216]), &unknown),
        (header(0x21, 0x00, &[1, 2, 3]), &unknown),
        (header(0x20, 0x00, &[]), &unknown),
        (header(0x20, 0x11, IP4), &unknown),
        (with_fields(&[field(0xEE, b"private"), field(4, &[0; 9])]), &ip4),
        (with_fields(&[field(2, b"MQTT.acme.example")]), &named),
        (summed(&[field(2, b"mqtt.acme.example")]), &named),
        (with_fields(&[ssl(7, 0)]), &ProxiedConnection { tls: tls(true), ..ip4.clone() }),
        (with_fields(&[ssl(7, 1)]), &ProxiedConnection { tls: tls(false), ..ip4.clone() }),
        (with_fields(&[ssl(1, 0)]), &ProxiedConnection { tls: tls(false), ..ip4.clone() }),
        (with_fields(&[ssl(0, 0)]), &ip4),
        (b"PROXY TCP4 192.0.2.7 198.51.100.1 12345 1883\r\n".to_vec(), &ip4),
        (b"PROXY TCP6 2001:db8::7 2001:db8::7 12345 1883\r\n".to_vec(), &ip6),
        (b"PROXY UNKNOWN\r\n".to_vec(), &unknown),
        (b"PROXY UNKNOWN whatever follows 1 2\r\n".to_vec(), &unknown),
    ] {
        let stream = [&bytes[..], b"connect\r\n"].concat();
        for piece in [0, 1, 3, bytes.len()] {
            let (proxied, plain) = read(&stream, piece).unwrap();
            assert_eq!(proxied.as_ref(), Some(expected), "{bytes:x?}");
            assert_eq!(plain, b"connect\r\n");
        }
    }
}

#[test]
fn everything_else_is_refused_and_never_read_as_protocol() {
    let mut wrong_sum = summed(&[]);
    *wrong_sum.last_mut().unwrap() ^= 1;
    for bytes in [
        b"\x10\x10\0\x04MQTT\x05\x02\0\x3c".to_vec(),
        b"GET /mqtt HTTP/1.1\r\n\r\n".to_vec(),
        b"\r\n\r\n\0\r\nQUIT\r".to_vec(),
        b"POST / HTTP/1.1\r\n\r\n".to_vec(),
        b"PROXY TCP4 192.0.2.7 198.51.100.1 12345\r\n".to_vec(),
        b"PROXY TCP4 192.0.2.7 198.51.100.1 12345 1883 1\r\n".to_vec(),
        b"PROXY TCP4 192.0.2.7 198.51.100.1 12345 65536\r\n".to_vec(),
        b"PROXY TCP4 192.0.2.7 198.51.100.1 012345 1883\r\n".to_vec(),
        b"PROXY TCP4 192.0.2.7 198.51.100.1 +1 1883\r\n".to_vec(),
        b"PROXY TCP4 2001:db8::7 2001:db8::7 1 1883\r\n".to_vec(),
        b"PROXY TCP6 192.0.2.7 198.51.100.1 1 1883\r\n".to_vec(),
        b"PROXY  TCP4 192.0.2.7 198.51.100.1 1 1883\r\n".to_vec(),
        b"PROXY UDP4 192.0.2.7 198.51.100.1 1 1883\r\n".to_vec(),
        b"PROXY UNKNOWNS\r\n".to_vec(),
        [&b"PROXY UNKNOWN "[..], &[b'x'; 100]].concat(),
        header(0x11, 0x11, IP4),
        header(0x22, 0x11, IP4),
        header(0x21, 0x12, IP4),
        header(0x21, 0x22, &[0; 36]),
        header(0x21, 0x13, IP4),
        header(0x21, 0x41, IP4),
        header(0x21, 0x11, &IP4[..11]),
        header(0x21, 0x21, &[0; 35]),
        header(0x21, 0x31, &[0; 215]),
        with_fields(&[vec![4, 0]]),
        with_fields(&[vec![4, 0, 2, 0]]),
        with_fields(&[field(2, b"a.example"), field(2, b"b.example")]),
        with_fields(&[field(2, b"")]),
        with_fields(&[field(2, &[b'a'; 256])]),
        with_fields(&[field(2, b"a b")]),
        with_fields(&[field(2, &[0xC3, 0xA9])]),
        with_fields(&[field(3, &[0; 4])]),
        with_fields(&[field(3, &[0; 3])]),
        with_fields(&[field(0x20, &[1, 0, 0, 0])]),
        with_fields(&[field(0x20, &[1, 0, 0, 0, 0, 0x21, 0, 9, 1])]),
        wrong_sum,
    ] {
        for piece in [0, 1] {
            let error = read(&bytes, piece).unwrap_err();
            assert!(matches!(error, TransportError::Proxy(_)), "{bytes:x?}: {error}");
        }
    }
}

#[test]
fn nothing_is_told_to_who_sends_no_header() {
    let mut stack = Stack::new(&Layers { proxy: true, ..Layers::default() }).unwrap();
    stack.output().extend_from_slice(b"connack");
    assert!(stack.receive(b"GET /", &mut Vec::new(), &mut generous()).is_err());
    let mut socket = Vec::new();
    stack.refuse(&mut socket);
    stack.close(&mut socket);
    assert!(socket.is_empty() && stack.is_finished());
}

#[test]
fn a_header_may_be_as_long_as_the_limit_and_no_longer() {
    let fitting = PROXY_HEADER_BYTES_MAX - 16 - IP4.len() - 3;
    let longest = with_fields(&[field(4, &vec![0; fitting])]);
    assert_eq!(longest.len(), PROXY_HEADER_BYTES_MAX);
    assert!(read(&longest, 0).unwrap().0.is_some());
    assert!(read(&longest, 1).unwrap().0.is_some());
    let longer = with_fields(&[field(4, &vec![0; fitting + 1])]);
    // The length says it, not the bytes.
    assert!(matches!(read(&longer[..16], 0), Err(TransportError::Proxy("it is too long"))));
}
