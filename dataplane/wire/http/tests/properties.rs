//! Properties that hold for any request and any bytes.

#![allow(clippy::panic, reason = "a panic is how a test fails")]

mod corpus;

use std::borrow::Cow;
use std::path::Path;

use fulcrum_http::{DecodeError, Decoded, Limits, Method, Progress, decode, decode_resumed};
use proptest::prelude::*;

const LIMITS: Limits = Limits { head_bytes_max: 512, headers_max: 8, body_bytes_max: 64 };

/// Feeds pieces the way a connection does, honouring `at_least`, and returns what came out.
fn drive(stream: &[u8], pieces: &[usize], limits: &Limits) -> Vec<Result<String, DecodeError>> {
    let mut progress = Progress::default();
    let mut buffer = Vec::new();
    let mut unread = stream;
    let mut pieces = pieces.iter().cycle();
    let mut wanted = 1;
    let mut found = Vec::new();
    while !unread.is_empty() {
        let piece = unread.len().min(*pieces.next().expect("a cycle does not end"));
        buffer.extend_from_slice(&unread[..piece]);
        unread = &unread[piece..];
        // What waits for more than the stream has is looked at once more when the stream ends.
        while buffer.len() >= wanted || (unread.is_empty() && !buffer.is_empty()) {
            match decode_resumed(&buffer, limits, &mut progress) {
                Ok(Decoded::Request { request, used }) => {
                    found.push(Ok(format!(
                        "{:?} {:?} {:?}",
                        request.target,
                        request.body,
                        request.headers().collect::<Vec<_>>()
                    )));
                    buffer.drain(..used);
                    wanted = 1;
                }
                Ok(Decoded::NeedMore { at_least }) => {
                    assert!(at_least > buffer.len(), "more than is there");
                    assert!(at_least <= limits.request_bytes_max(), "a bounded buffer");
                    wanted = at_least;
                    if unread.is_empty() {
                        break;
                    }
                }
                Ok(Decoded::ContinueExpected) => wanted = buffer.len() + 1,
                Err(error) => {
                    found.push(Err(error));
                    return found;
                }
            }
        }
    }
    found
}

fn chunked(pieces: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = b"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    for piece in pieces.iter().filter(|piece| !piece.is_empty()) {
        bytes.extend(format!("{:x}\r\n", piece.len()).into_bytes());
        bytes.extend(piece);
        bytes.extend(b"\r\n");
    }
    bytes.extend(b"0\r\n\r\n");
    bytes
}

proptest! {
    #[test]
    fn a_stream_split_anywhere_gives_the_same_requests(
        choices in prop::collection::vec(any::<prop::sample::Index>(), 1..8),
        place: prop::sample::Index, byte: Option<u8>,
        pieces in prop::collection::vec(1usize..90, 1..30),
    ) {
        let vectors = corpus::vectors(&Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors"));
        let mut stream: Vec<u8> = choices
            .iter()
            .flat_map(|choice| vectors[choice.index(vectors.len())].bytes.clone())
            .collect();
        if let (Some(byte), false) = (byte, stream.is_empty()) {
            let place = place.index(stream.len());
            stream[place] = byte;
        }
        let whole = drive(&stream, &[stream.len().max(1)], &LIMITS);
        let split = drive(&stream, &pieces, &LIMITS);
        prop_assert_eq!(split, whole);
    }

    #[test]
    fn arbitrary_bytes_are_refused_or_read(bytes in prop::collection::vec(any::<u8>(), 0..120)) {
        let _ = drive(&bytes, &[7], &LIMITS);
    }

    #[test]
    fn a_body_reads_back_however_it_is_framed(
        parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..30), 0..6),
    ) {
        let limits = Limits::default();
        let content: Vec<u8> = parts.concat();
        let mut with_length =
            format!("POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", content.len())
                .into_bytes();
        with_length.extend(&content);
        for bytes in [with_length, chunked(&parts)] {
            match decode(&bytes, &limits) {
                Ok(Decoded::Request { request, used }) => {
                    prop_assert_eq!(used, bytes.len());
                    prop_assert_eq!(&*request.body, &content[..]);
                    prop_assert_eq!(request.method, Method::Post);
                }
                other => prop_assert!(false, "{:?}", other),
            }
        }
    }

    #[test]
    fn header_fields_read_back(
        fields in prop::collection::vec(("[A-Za-z0-9-]{1,12}", "[!-~ü][ -~ü\t]{0,20}"), 0..20),
    ) {
        let reserved = ["host", "content-length", "transfer-encoding", "expect", "connection"];
        let fields: Vec<_> = fields
            .iter()
            .filter(|(name, _)| !reserved.contains(&name.to_ascii_lowercase().as_str()))
            .map(|(name, value)| (name.as_str(), value.trim_matches([' ', '\t'])))
            .collect();
        let mut text = "GET /x HTTP/1.1\r\nHost: a\r\n".to_owned();
        for (name, value) in &fields {
            text.push_str(&format!("{name}: {value} \r\n"));
        }
        text.push_str("\r\n");
        match decode(text.as_bytes(), &Limits::default()) {
            Ok(Decoded::Request { request, .. }) => {
                let read: Vec<_> = request.headers().skip(1).collect();
                prop_assert_eq!(&read, &fields);
                for (name, _) in &fields {
                    let first =
                        fields.iter().find(|(other, _)| other.eq_ignore_ascii_case(name));
                    prop_assert_eq!(
                        request.header(&name.to_ascii_uppercase()),
                        first.map(|(_, value)| *value)
                    );
                }
            }
            other => prop_assert!(false, "{:?}", other),
        }
    }
}

#[test]
fn content_with_a_length_is_borrowed_and_chunks_are_collected() {
    let with_length = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nab";
    let in_chunks = chunked(&[b"ab".to_vec()]);
    let body = |bytes: &[u8]| match decode(bytes, &LIMITS) {
        Ok(Decoded::Request { request, .. }) => matches!(request.body, Cow::Borrowed(_)),
        other => panic!("{other:?}"),
    };
    assert!(body(with_length));
    assert!(!body(&in_chunks));
}

#[test]
fn continue_is_asked_for_once() {
    let head = b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n";
    let mut progress = Progress::default();
    let first = decode_resumed(head, &LIMITS, &mut progress);
    assert_eq!(first, Ok(Decoded::ContinueExpected));
    let second = decode_resumed(head, &LIMITS, &mut progress);
    assert_eq!(second, Ok(Decoded::NeedMore { at_least: head.len() + 2 }));
}

#[test]
fn the_head_limit_counts_every_byte_of_the_head() {
    let head = |bytes: usize| {
        let frame = "GET / HTTP/1.1\r\nHost: a\r\nX: \r\n\r\n".len();
        format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(bytes - frame))
    };
    let fits = head(LIMITS.head_bytes_max);
    assert!(matches!(decode(fits.as_bytes(), &LIMITS), Ok(Decoded::Request { .. })));
    let long = head(LIMITS.head_bytes_max + 1);
    assert_eq!(decode(long.as_bytes(), &LIMITS), Err(DecodeError::HeadTooLarge));
    // A head without an end is refused when it reaches the limit, not later.
    let endless = &long.as_bytes()[..LIMITS.head_bytes_max];
    assert_eq!(decode(endless, &LIMITS), Err(DecodeError::HeadTooLarge));
    let shorter = &long.as_bytes()[..LIMITS.head_bytes_max - 1];
    assert!(matches!(decode(shorter, &LIMITS), Ok(Decoded::NeedMore { .. })));
    let blank = "\r\n".repeat(LIMITS.head_bytes_max);
    assert_eq!(decode(blank.as_bytes(), &LIMITS), Err(DecodeError::HeadTooLarge));
}

#[test]
fn chunk_framing_is_bounded() {
    let head = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    // One byte per chunk up to the content limit is fine.
    let singles = chunked(&vec![b"x".to_vec(); LIMITS.body_bytes_max]);
    assert!(matches!(decode(&singles, &LIMITS), Ok(Decoded::Request { .. })));

    let mut long_line = head.clone();
    long_line.extend(format!("1;{}", "e".repeat(254)).into_bytes());
    let refused = Err(DecodeError::BadRequest("a chunk size line is too long"));
    assert_eq!(decode(&long_line, &LIMITS), refused);

    let mut wasteful = head.clone();
    for _ in 0..LIMITS.body_bytes_max {
        wasteful.extend(format!("1;{}\r\nx\r\n", "e".repeat(100)).into_bytes());
    }
    let refused = Err(DecodeError::BadRequest("the chunks have more framing than content"));
    assert_eq!(decode(&wasteful, &LIMITS), refused);

    let mut trailers = head;
    trailers.extend(b"0\r\n");
    trailers.extend("X: y\r\n".repeat(200).into_bytes());
    assert_eq!(decode(&trailers, &LIMITS), refused);
}

#[test]
fn a_body_in_many_small_pieces_is_scanned_once() {
    // With the memory of earlier calls each piece costs its own size; without, this would be
    // sixteen thousand times a walk over up to sixteen thousand chunks.
    let limits = Limits { body_bytes_max: 16 * 1024, head_bytes_max: 80 * 1024, headers_max: 8 };
    let stream = chunked(&vec![b"x".to_vec(); limits.body_bytes_max]);
    let found = drive(&stream, &[1], &limits);
    assert_eq!(found.len(), 1);
    assert!(found[0].is_ok());
}

#[test]
fn credentials_are_not_shown() {
    let bytes = b"POST /t HTTP/1.1\r\nHost: a\r\nAuthorization: Basic c2VjcmV0\r\nContent-Length: 3\r\n\r\nabc";
    match decode(bytes, &LIMITS) {
        Ok(Decoded::Request { request, .. }) => {
            assert_eq!(request.header("authorization"), Some("Basic c2VjcmV0"));
            let shown = format!("{request:?} {:?}", request.headers());
            assert!(shown.contains("/t") && !shown.contains("c2VjcmV0"), "{shown}");
        }
        other => panic!("{other:?}"),
    }
}
