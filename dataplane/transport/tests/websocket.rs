//! MQTT over WebSocket: the handshake, frames in all their forms, the ways it ends.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs, reason = "a test program")]

mod harness;

use fulcrum_transport::limits::{PONGS_QUEUED_BYTES_MAX, WEBSOCKET_HEAD_BYTES_MAX};
use fulcrum_transport::{Layers, Progress, Stack, TransportError, WebSocketSettings};
use harness::{REQUEST, frame, generous, pieces, websocket_layers};

const BINARY: u8 = 0x82;
const BINARY_PART: u8 = 0x02;
const PART: u8 = 0x00;
const LAST_PART: u8 = 0x80;
const CLOSE: u8 = 0x88;
const PING: u8 = 0x89;
const PONG: u8 = 0x8A;

/// What a client's bytes came to: the protocol's bytes, the answer, how it ended.
struct Outcome {
    plain: Vec<u8>,
    answer: Vec<u8>,
    end: Result<Progress, TransportError>,
}

fn talk(layers: &Layers, bytes: &[u8], piece: usize) -> Outcome {
    let mut stack = Stack::new(layers).unwrap();
    let (mut plain, mut answer) = (Vec::new(), Vec::new());
    let mut end = Ok(Progress::Open);
    for piece in pieces(bytes, piece) {
        end = stack.receive(piece, &mut plain, &mut generous());
        if end.is_err() {
            stack.refuse(&mut answer);
            break;
        }
        stack.flush(&mut answer).unwrap();
        assert!(!stack.wants_flush());
    }
    Outcome { plain, answer, end }
}

/// After the handshake.
fn frames(bytes: &[u8], piece: usize) -> Outcome {
    let mut outcome = talk(&websocket_layers(), &[REQUEST.as_bytes(), bytes].concat(), piece);
    let head = outcome.answer.windows(4).position(|window| window == b"\r\n\r\n").unwrap();
    assert!(outcome.answer.starts_with(b"HTTP/1.1 101 "));
    outcome.answer.drain(..head + 4);
    outcome
}

fn closed_with(code: u16) -> Vec<u8> {
    [&[0x88, 2], &code.to_be_bytes()[..]].concat()
}

#[test]
fn the_handshake_answers_the_specifications_example() {
    for piece in [0, 1, 5] {
        let outcome = talk(&websocket_layers(), REQUEST.as_bytes(), piece);
        assert_eq!(outcome.end.unwrap(), Progress::Open);
        let answer = String::from_utf8(outcome.answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 101 Switching Protocols\r\n"), "{answer}");
        assert!(answer.contains("\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"));
        assert!(answer.contains("\r\nSec-WebSocket-Protocol: mqtt\r\n"));
        assert!(answer.ends_with("\r\n\r\n") && !answer.contains("Extensions"));
    }
}

#[test]
fn other_forms_of_a_good_request_are_accepted() {
    for (from, to, protocol) in [
        ("Protocol: mqtt\r\n", "Protocol: mqttv3.1\r\n", "mqttv3.1"),
        ("Protocol: mqtt\r\n", "Protocol: mqttv3.1, mqtt\r\n", "mqtt"),
        ("Protocol: mqtt\r\n", "Protocol: x\r\nsec-websocket-protocol: y,mqtt\r\n", "mqtt"),
        ("Connection: Upgrade", "Connection: keep-alive, upgrade", "mqtt"),
        ("Upgrade: websocket", "upgrade: WebSocket", "mqtt"),
        ("GET /mqtt ", "GET /mqtt?token=1 ", "mqtt"),
        (
            "Host:",
            "Sec-WebSocket-Extensions: permessage-deflate\r\nContent-Length: 0\r\nHost:",
            "mqtt",
        ),
    ] {
        let outcome = talk(&websocket_layers(), REQUEST.replace(from, to).as_bytes(), 0);
        let answer = String::from_utf8(outcome.answer).unwrap();
        assert!(answer.contains(&format!("\r\nSec-WebSocket-Protocol: {protocol}\r\n")), "{to}");
    }
}

#[test]
fn bad_requests_get_an_http_answer_that_says_why() {
    let many = "X: 1\r\n".repeat(60);
    for (from, to, status, field) in [
        ("/mqtt ", "/ ", 404, ""),
        ("/mqtt ", "/mqtt/ ", 404, ""),
        ("GET", "POST", 405, "Allow: GET"),
        ("HTTP/1.1", "HTTP/1.0", 505, ""),
        ("HTTP/1.1", "HTTP/2.0", 505, ""),
        ("Host: edge.example\r\n", "", 400, ""),
        ("Host:", "Host: a\r\nHost:", 400, ""),
        ("Upgrade: websocket\r\n", "", 426, "Upgrade: websocket"),
        ("Upgrade: websocket\r\n", "Upgrade: h2c\r\n", 426, "Upgrade: websocket"),
        ("Connection: Upgrade", "Connection: close", 426, ""),
        ("Version: 13", "Version: 8", 426, "Sec-WebSocket-Version: 13"),
        ("Sec-WebSocket-Version: 13\r\n", "", 426, "Sec-WebSocket-Version: 13"),
        ("dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZQ==", 400, ""),
        ("dGhlIHNhbXBsZSBub25jZQ==", "?", 400, ""),
        ("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", "", 400, ""),
        ("Protocol: mqtt", "Protocol: amqp", 400, ""),
        ("Sec-WebSocket-Protocol: mqtt\r\n", "", 400, ""),
        ("Host:", "Content-Length: 5\r\nHost:", 400, ""),
        ("Host:", "Transfer-Encoding: chunked\r\nHost:", 400, ""),
        ("Host:", " folded\r\nHost:", 400, ""),
        ("Host:", &format!("{many}Host:"), 431, ""),
    ] {
        let request = REQUEST.replacen(from, to, 1);
        for piece in [0, 1] {
            let outcome = talk(&websocket_layers(), request.as_bytes(), piece);
            let Err(TransportError::WebSocketRequest { status: said, .. }) = outcome.end else {
                panic!("{to}: {:?}", outcome.end)
            };
            let answer = String::from_utf8(outcome.answer).unwrap();
            assert_eq!(said, status, "{to}: {answer}");
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
            assert!(answer.contains(field) && answer.contains("\r\nConnection: close\r\n"));
            assert!(outcome.plain.is_empty());
        }
    }
}

#[test]
fn a_head_is_bounded_and_another_protocol_is_seen_at_once() {
    let padded = |length: usize| {
        let room = length - REQUEST.len() - "X: \r\n".len();
        REQUEST.replacen("Host:", &format!("X: {}\r\nHost:", "x".repeat(room)), 1)
    };
    for piece in [0, 1] {
        let fits = talk(&websocket_layers(), padded(WEBSOCKET_HEAD_BYTES_MAX).as_bytes(), piece);
        assert!(fits.answer.starts_with(b"HTTP/1.1 101 "));
        let over =
            talk(&websocket_layers(), padded(WEBSOCKET_HEAD_BYTES_MAX + 1).as_bytes(), piece);
        assert!(over.answer.starts_with(b"HTTP/1.1 431 "));
    }
    for words in [&b"\x10\x10\0\x04MQTT"[..], b"\x16\x03\x01"] {
        assert!(talk(&websocket_layers(), words, 1).answer.starts_with(b"HTTP/1.1 400 "));
    }
}

#[test]
fn packets_span_and_share_frames_in_any_pieces() {
    let long: Vec<u8> = (0..70_000_u32).map(|number| (number / 3) as u8).collect();
    let bytes = [
        frame(BINARY, b"one"),
        frame(BINARY, b""),
        frame(BINARY_PART, b"tw"),
        frame(PING, b"are you there"),
        frame(PART, b""),
        frame(PONG, b"unasked"),
        frame(LAST_PART, b"o"),
        frame(BINARY, &long[..126]),
        frame(BINARY, &long),
        frame(PING, b""),
    ]
    .concat();
    let expected = [b"onetwo", &long[..126], &long[..]].concat();
    for piece in [0, 1, 2, 3, 13, 16_384] {
        let outcome = frames(&bytes, piece);
        assert_eq!(outcome.end.unwrap(), Progress::Open);
        assert!(outcome.plain == expected, "in pieces of {piece}");
        assert_eq!(outcome.answer, b"\x8A\x0Dare you there\x8A\x00");
    }
}

#[test]
fn output_is_one_unmasked_binary_frame_per_flush() {
    let mut stack = Stack::new(&websocket_layers()).unwrap();
    stack.output().extend_from_slice(b"early");
    let mut socket = Vec::new();
    stack.flush(&mut socket).unwrap();
    assert!(socket.is_empty() && stack.queued_bytes() == 5);
    let bytes = [REQUEST.as_bytes(), &frame(PING, b"p")].concat();
    let _ = stack.receive(&bytes, &mut Vec::new(), &mut generous()).unwrap();
    assert!(stack.wants_flush());
    stack.flush(&mut socket).unwrap();
    assert!(socket.ends_with(b"\r\n\r\n\x8A\x01p\x82\x05early"));
    for (length, head) in [
        (125, vec![0x82, 125]),
        (126, vec![0x82, 126, 0, 126]),
        (65_535, vec![0x82, 126, 255, 255]),
        (65_536, vec![0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0]),
    ] {
        socket.clear();
        stack.output().resize(length, 7);
        stack.flush(&mut socket).unwrap();
        assert_eq!(socket[..head.len()], head);
        assert_eq!(socket.len(), head.len() + length);
        assert_eq!(stack.queued_bytes(), 0);
    }
}

#[test]
fn violations_end_with_their_code_and_what_came_before_counts() {
    let unmasked = vec![0x82, 3, b'a', b'b', b'c'];
    let header = |first: u8, length: &[u8]| [&[first], length, &[0; 4]].concat();
    for (bytes, code) in [
        (unmasked, 1002),
        (frame(0xC2, b"x"), 1002),
        (frame(0xA2, b"x"), 1002),
        (frame(0x92, b"x"), 1002),
        (frame(0x83, b"x"), 1002),
        (frame(0x87, b"x"), 1002),
        (frame(0x8B, b"x"), 1002),
        (frame(0x8F, b"x"), 1002),
        (frame(0x09, b"x"), 1002),
        (frame(0x08, b""), 1002),
        (frame(PING, &[0; 126]), 1002),
        (frame(CLOSE, &[3; 126]), 1002),
        (header(PING, &[0xFF, 0, 0, 0, 0, 0, 0, 0, 1]), 1002),
        (header(BINARY, &[0xFE, 0, 125]), 1002),
        (header(BINARY, &[0xFF, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF]), 1002),
        (header(BINARY, &[0xFF, 0x80, 0, 0, 0, 0, 0, 0, 0]), 1002),
        (frame(LAST_PART, b"x"), 1002),
        (frame(PART, b"x"), 1002),
        ([frame(BINARY_PART, b""), frame(BINARY, b"x")].concat(), 1002),
        (frame(0x81, b"text"), 1003),
        (frame(0x01, b"text"), 1003),
        ([frame(BINARY_PART, b""), frame(0x81, b"x")].concat(), 1003),
        (header(BINARY, &[0xFF, 0x7F, 0, 0, 0, 0, 0, 0, 0]), 1009),
        (frame(CLOSE, &[3]), 1002),
        (frame(CLOSE, &999_u16.to_be_bytes()), 1002),
        (frame(CLOSE, &1004_u16.to_be_bytes()), 1002),
        (frame(CLOSE, &1005_u16.to_be_bytes()), 1002),
        (frame(CLOSE, &1006_u16.to_be_bytes()), 1002),
        (frame(CLOSE, &1015_u16.to_be_bytes()), 1002),
        (frame(CLOSE, &2999_u16.to_be_bytes()), 1002),
        (frame(CLOSE, &5000_u16.to_be_bytes()), 1002),
        (frame(CLOSE, &[3, 0xE8, 0xC3, 0x28]), 1007),
    ] {
        let stream = [frame(BINARY, b"good"), bytes.clone(), frame(BINARY, b"never")].concat();
        for piece in [0, 1] {
            let outcome = frames(&stream, piece);
            let Err(TransportError::WebSocket { code: said, .. }) = outcome.end else {
                panic!("{bytes:x?}: {:?}", outcome.end)
            };
            assert_eq!(said, code, "{bytes:x?}");
            assert_eq!(outcome.plain, b"good");
            assert_eq!(outcome.answer, closed_with(code));
        }
    }
}

#[test]
fn a_message_may_be_as_long_as_the_limit_over_all_its_frames() {
    let settings = WebSocketSettings { path: "/mqtt".into(), message_bytes_max: 100 };
    let layers = Layers { websocket: Some(settings), ..Layers::default() };
    let talk =
        |frames: &[Vec<u8>]| talk(&layers, &[REQUEST.as_bytes(), &frames.concat()].concat(), 0).end;
    let fits = [frame(BINARY_PART, &[1; 60]), frame(LAST_PART, &[1; 40])].concat();
    assert!(talk(&[fits.clone(), fits.clone(), frame(BINARY, &[1; 100])]).is_ok());
    for over in [
        vec![frame(BINARY, &[1; 101])],
        vec![frame(BINARY_PART, &[1; 60]), frame(PART, b""), frame(LAST_PART, &[1; 41])],
    ] {
        assert!(matches!(talk(&over), Err(TransportError::WebSocket { code: 1009, .. })));
    }
}

#[test]
fn a_close_is_answered_once_and_nothing_follows_it() {
    for (payload, answer) in [
        (&b""[..], vec![0x88, 0]),
        (b"\x03\xE8", closed_with(1000)),
        (b"\x03\xE9bye", closed_with(1001)),
        (b"\x0F\xA0", closed_with(4000)),
    ] {
        for piece in [0, 1] {
            let bytes = [frame(BINARY, b"a"), frame(CLOSE, payload), frame(BINARY, b"b")].concat();
            let outcome = frames(&bytes, piece);
            assert_eq!(outcome.end.unwrap(), Progress::Finished);
            assert_eq!(outcome.plain, b"a");
            assert_eq!(outcome.answer, answer);
        }
    }
    let mut stack = Stack::new(&websocket_layers()).unwrap();
    let bytes = [REQUEST.as_bytes(), &frame(CLOSE, b"")].concat();
    let progress = stack.receive(&bytes, &mut Vec::new(), &mut generous()).unwrap();
    assert_eq!(progress, Progress::Finished);
    stack.output().extend_from_slice(b"too late");
    let mut socket = Vec::new();
    stack.close(&mut socket);
    assert!(socket.ends_with(b"\r\n\r\n\x88\x00"), "and the close frame is the last");
}

#[test]
fn our_close_comes_behind_the_output() {
    let mut stack = Stack::new(&websocket_layers()).unwrap();
    let _ = stack.receive(REQUEST.as_bytes(), &mut Vec::new(), &mut generous()).unwrap();
    let mut socket = Vec::new();
    stack.flush(&mut socket).unwrap();
    socket.clear();
    stack.output().extend_from_slice(b"bye");
    stack.close(&mut socket);
    assert_eq!(socket, [b"\x82\x03bye", &closed_with(1000)[..]].concat());
    stack.close(&mut socket);
    stack.refuse(&mut socket);
    assert_eq!(socket.len(), 9);
    assert!(stack.is_finished() && !stack.wants_flush());
}

#[test]
fn who_pings_and_does_not_read_gets_the_latest_pongs_alone() {
    let mut stack = Stack::new(&websocket_layers()).unwrap();
    let _ = stack.receive(REQUEST.as_bytes(), &mut Vec::new(), &mut generous()).unwrap();
    let mut socket = Vec::new();
    stack.flush(&mut socket).unwrap();
    socket.clear();
    for number in 0..1000_u16 {
        let ping = frame(PING, &[&number.to_be_bytes()[..], &[0; 100]].concat());
        let _ = stack.receive(&ping, &mut Vec::new(), &mut generous()).unwrap();
    }
    stack.flush(&mut socket).unwrap();
    assert!(!socket.is_empty() && socket.len() <= PONGS_QUEUED_BYTES_MAX);
    let last = &socket[socket.len() - 102..];
    assert_eq!(last[..2], 999_u16.to_be_bytes());
}

#[test]
fn pongs_never_push_out_the_answer_to_the_request() {
    let pings = frame(PING, &[7; 125]).repeat(100);
    let outcome = talk(&websocket_layers(), &[REQUEST.as_bytes(), &pings].concat(), 0);
    assert!(outcome.answer.starts_with(b"HTTP/1.1 101 "));
    assert!(outcome.answer.len() <= 200 + PONGS_QUEUED_BYTES_MAX);
}
