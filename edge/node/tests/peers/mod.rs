//! Peers of a node's listeners: certificates made for one test, and an MQTT 3.1.1 client of few words that speaks through
//! PROXY header, TLS and WebSocket as it is told, and shows every byte of it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that fails says so by panicking")]
#![allow(dead_code, unused_imports, reason = "each test file uses its part")]

mod certificates;
mod world;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

pub use certificates::{Authority, Identity};
pub use world::{WAYS, Way, World, proxy_header};

/// How long an answer may take.
pub const PATIENCE: Duration = Duration::from_secs(20);
/// A name the server's certificate is for.
pub const HOST: &str = "edge.example";
/// A ping, and its answer.
pub const PINGREQ: [u8; 2] = [0xC0, 0];
pub const PINGRESP: u8 = 0xD0;
pub const DISCONNECT: [u8; 2] = [0xE0, 0];

/// The bytes below MQTT.
pub enum Pipe {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Pipe {
    pub fn plain(address: SocketAddr) -> Pipe {
        let socket = TcpStream::connect(address).unwrap();
        socket.set_nodelay(true).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Pipe::Plain(socket)
    }

    /// Begins a TLS handshake when it is first used.
    pub fn tls(address: SocketAddr, config: &Arc<ClientConfig>, host: &str) -> Pipe {
        Pipe::plain(address).with_tls(config, host)
    }

    /// Puts TLS on a plain one.
    pub fn with_tls(self, config: &Arc<ClientConfig>, host: &str) -> Pipe {
        let Pipe::Plain(socket) = self else { panic!("there is TLS already") };
        let name = ServerName::try_from(host.to_owned()).unwrap();
        let client = ClientConnection::new(config.clone(), name).unwrap();
        Pipe::Tls(Box::new(StreamOwned::new(client, socket)))
    }

    pub fn socket(&self) -> &TcpStream {
        match self {
            Pipe::Plain(socket) => socket,
            Pipe::Tls(stream) => &stream.sock,
        }
    }

    pub fn send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        match self {
            Pipe::Plain(socket) => socket.write_all(bytes),
            Pipe::Tls(stream) => stream.write_all(bytes).and_then(|()| stream.flush()),
        }
    }

    /// `Ok(0)` is the end in order: FIN, and close_notify before it where there is TLS.
    pub fn receive(&mut self, bytes: &mut [u8]) -> std::io::Result<usize> {
        match self {
            Pipe::Plain(socket) => socket.read(bytes),
            Pipe::Tls(stream) => stream.read(bytes),
        }
    }

    /// The TLS handshake to its end.
    pub fn shake_hands(&mut self) -> std::io::Result<()> {
        let Pipe::Tls(stream) = self else { return Ok(()) };
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock)?;
        }
        Ok(())
    }

    pub fn tls_state(&mut self) -> &mut ClientConnection {
        let Pipe::Tls(stream) = self else { panic!("there is no TLS") };
        &mut stream.conn
    }
}

/// An MQTT 3.1.1 client.
pub struct Peer {
    pub pipe: Pipe,
    is_websocket: bool,
    /// Bytes of WebSocket frames, then of packets, that are not taken yet.
    frames: Vec<u8>,
    input: Vec<u8>,
    /// Payload of the server's WebSocket close frame.
    pub closed: Option<Vec<u8>>,
}

/// A packet: its first byte, and what follows its length.
pub type Packet = (u8, Vec<u8>);

pub const UPGRADE: &str = "GET /mqtt HTTP/1.1\r\nHost: edge.example\r\nUpgrade: websocket\r\n\
    Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n";

impl Peer {
    pub fn new(pipe: Pipe) -> Peer {
        let (frames, input) = (Vec::new(), Vec::new());
        Peer { pipe, is_websocket: false, frames, input, closed: None }
    }

    /// Asks for WebSocket and reads the answer.
    pub fn websocket(mut pipe: Pipe) -> Peer {
        pipe.send(UPGRADE.as_bytes()).unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            assert_eq!(pipe.receive(&mut byte).unwrap(), 1, "{}", String::from_utf8_lossy(&head));
            head.push(byte[0]);
        }
        assert!(head.starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&head));
        Peer { is_websocket: true, ..Peer::new(pipe) }
    }

    /// Sends MQTT bytes, as one message where there is WebSocket.
    pub fn send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        match self.is_websocket {
            true => self.pipe.send(&frame(0x82, bytes)),
            false => self.pipe.send(bytes),
        }
    }

    /// The next packet; none when the server has ended the connection in order.
    pub fn packet(&mut self) -> std::io::Result<Option<Packet>> {
        loop {
            if let Some(packet) = take_packet(&mut self.input) {
                return Ok(Some(packet));
            }
            let mut bytes = [0; 16 * 1024];
            let count = self.pipe.receive(&mut bytes)?;
            if count == 0 {
                return Ok(None);
            }
            match self.is_websocket {
                true => self.frames.extend_from_slice(&bytes[..count]),
                false => self.input.extend_from_slice(&bytes[..count]),
            }
            self.take_frames();
        }
    }

    /// The next packet, which is of this type.
    #[track_caller]
    pub fn expect(&mut self, first: u8) -> Vec<u8> {
        match self.packet() {
            Ok(Some((found, body))) if found & 0xF0 == first & 0xF0 => body,
            other => panic!("{first:#x} expected: {other:?}"),
        }
    }

    /// Ends when the server has ended the connection in order.
    #[track_caller]
    pub fn expect_end(&mut self) {
        match self.packet() {
            Ok(None) => {}
            other => panic!("the end expected: {other:?}"),
        }
    }

    fn take_frames(&mut self) {
        while let Some((first, payload, used)) = take_frame(&self.frames) {
            self.frames.drain(..used);
            match first {
                0x82 => self.input.extend(payload),
                0x88 => self.closed = Some(payload),
                0x8A => {}
                other => panic!("a server sends no frame {other:#x}"),
            }
        }
    }

    /// CONNECT and the code of its CONNACK.
    #[track_caller]
    pub fn connect(&mut self, client_id: &str, login: Option<(&str, &str)>) -> u8 {
        self.send(&connect(client_id, login, 60)).unwrap();
        self.expect(0x20)[1]
    }

    #[track_caller]
    pub fn subscribe(&mut self, filter: &str, qos: u8) {
        let mut body = vec![0, 1];
        put_text(&mut body, filter);
        body.push(qos);
        self.send(&packet(0x82, &body)).unwrap();
        assert_eq!(self.expect(0x90), [0, 1, qos]);
    }

    /// A ping's time there and back.
    #[track_caller]
    pub fn ping(&mut self) -> Duration {
        let begun = Instant::now();
        self.send(&PINGREQ).unwrap();
        self.expect(PINGRESP);
        begun.elapsed()
    }

    /// The payload of the next PUBLISH; a QoS 1 message is acknowledged.
    #[track_caller]
    pub fn message(&mut self) -> Vec<u8> {
        let (first, mut body) = self.packet().unwrap().expect("a message");
        assert_eq!(first & 0xF0, 0x30, "{first:#x}");
        let topic = usize::from(u16::from_be_bytes([body[0], body[1]]));
        body.drain(..2 + topic);
        if first & 0x06 != 0 {
            let id: Vec<u8> = body.drain(..2).collect();
            self.send(&packet(0x40, &id)).unwrap();
        }
        body
    }
}

/// The device of `acme` that the harness seeds.
pub const D1: Option<(&str, &str)> = Some(("d1@acme", "hono-secret"));

/// A CONNECT with clean session.
pub fn connect(client_id: &str, login: Option<(&str, &str)>, keep_alive_s: u16) -> Vec<u8> {
    connect_with(client_id, login, keep_alive_s, None)
}

/// The same with a will at QoS 0.
pub fn connect_with(
    client_id: &str,
    login: Option<(&str, &str)>,
    keep_alive_s: u16,
    will: Option<(&str, &str)>,
) -> Vec<u8> {
    let flags =
        0x02 | if login.is_some() { 0xC0 } else { 0 } | if will.is_some() { 0x04 } else { 0 };
    let mut body = b"\0\x04MQTT\x04".to_vec();
    body.push(flags);
    body.extend(keep_alive_s.to_be_bytes());
    put_text(&mut body, client_id);
    for (one, two) in will.into_iter().chain(login) {
        put_text(&mut body, one);
        put_text(&mut body, two);
    }
    packet(0x10, &body)
}

/// A PUBLISH at QoS 0, or at QoS 1 with a packet identifier.
pub fn publish(topic: &str, packet_id: Option<u16>, payload: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    put_text(&mut body, topic);
    body.extend(packet_id.iter().flat_map(|id| id.to_be_bytes()));
    body.extend_from_slice(payload);
    packet(if packet_id.is_some() { 0x32 } else { 0x30 }, &body)
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u16).to_be_bytes());
    out.extend_from_slice(text.as_bytes());
}

pub fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut out = vec![first];
    let mut left = body.len();
    while left > 127 {
        out.push(left as u8 | 0x80);
        left >>= 7;
    }
    out.push(left as u8);
    out.extend_from_slice(body);
    out
}

fn take_packet(input: &mut Vec<u8>) -> Option<Packet> {
    let (mut length, mut at) = (0, 1);
    loop {
        let byte = *input.get(at)?;
        length |= usize::from(byte & 0x7F) << (7 * (at - 1));
        at += 1;
        if byte & 0x80 == 0 {
            break;
        }
    }
    (input.len() >= at + length).then(|| {
        let first = input[0];
        let body = input[at..at + length].to_vec();
        input.drain(..at + length);
        (first, body)
    })
}

/// A client's frame, masked.
pub fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    const MASK: [u8; 4] = [0x5A, 0x01, 0xFE, 0x33];
    let mut out = vec![first];
    match payload.len() {
        0..=125 => out.push(0x80 | payload.len() as u8),
        126..=0xFFFF => {
            out.push(0x80 | 126);
            out.extend((payload.len() as u16).to_be_bytes());
        }
        _ => {
            out.push(0x80 | 127);
            out.extend((payload.len() as u64).to_be_bytes());
        }
    }
    out.extend(MASK);
    out.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    out
}

/// A server's frame, which is not masked: first byte, payload, bytes it took.
fn take_frame(bytes: &[u8]) -> Option<(u8, Vec<u8>, usize)> {
    let (length, at) = match *bytes.get(1)? {
        126 => (usize::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().unwrap())), 4),
        127 => (u64::from_be_bytes(bytes.get(2..10)?.try_into().unwrap()) as usize, 10),
        length => (usize::from(length), 2),
    };
    let payload = bytes.get(at..at + length)?;
    Some((bytes[0], payload.to_vec(), at + length))
}

/// The status of an HTTP answer, which is read to the end.
pub fn status(pipe: &mut Pipe) -> u16 {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        assert_eq!(pipe.receive(&mut byte).unwrap(), 1, "{}", String::from_utf8_lossy(&head));
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap().to_lowercase();
    let length = head
        .split("content-length: ")
        .nth(1)
        .map_or(0, |rest| rest.split("\r\n").next().unwrap().parse().unwrap());
    let mut body = vec![0; length];
    for at in 0..length {
        assert_eq!(pipe.receive(&mut body[at..at + 1]).unwrap(), 1);
    }
    head.split(' ').nth(1).unwrap().parse().unwrap()
}

/// A port here that leads through TLS to `address`, for clients without TLS of their own. It lives as long as the program.
pub fn tunnel(address: SocketAddr, config: Arc<ClientConfig>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let here = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for inner in listener.incoming() {
            let (inner, config) = (inner.unwrap(), config.clone());
            std::thread::spawn(move || carry(inner, Pipe::tls(address, &config, HOST)));
        }
    });
    here
}

/// Carries bytes both ways until one end is over.
fn carry(mut inner: TcpStream, mut outer: Pipe) {
    if outer.shake_hands().is_err() {
        return;
    }
    let pause = Some(Duration::from_millis(1));
    inner.set_nodelay(true).unwrap();
    inner.set_read_timeout(pause).unwrap();
    outer.socket().set_read_timeout(pause).unwrap();
    let mut bytes = vec![0; 64 * 1024];
    let is_pause = |error: &std::io::Error| {
        matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
    };
    loop {
        match inner.read(&mut bytes) {
            Ok(0) => break,
            Ok(count) if outer.send(&bytes[..count]).is_err() => return,
            Err(error) if !is_pause(&error) => return,
            _ => {}
        }
        match outer.receive(&mut bytes) {
            Ok(0) => return,
            Ok(count) if inner.write_all(&bytes[..count]).is_err() => return,
            Err(error) if !is_pause(&error) => return,
            _ => {}
        }
    }
    outer.tls_state().send_close_notify();
    let _ = outer.send(b"");
}
