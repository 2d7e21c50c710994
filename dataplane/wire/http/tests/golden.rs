//! The golden vectors: whole, in pieces, and behind each other.

#![allow(clippy::panic, reason = "a panic is how a test fails")]

mod corpus;

use std::path::Path;

use corpus::Vector;
use fulcrum_http::{Decoded, Limits, Progress, Request, decode, decode_resumed};

const LIMITS: Limits = Limits { head_bytes_max: 512, headers_max: 8, body_bytes_max: 64 };

fn vectors() -> Vec<Vector> {
    let vectors = corpus::vectors(&Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors"));
    assert!(vectors.len() > 100, "the vectors were found");
    vectors
}

fn summary(request: &Request<'_>) -> String {
    let query = request.query.map(|query| format!("?{query}")).unwrap_or_default();
    let connection = if request.keep_alive { "keep" } else { "close" };
    let body = String::from_utf8_lossy(&request.body);
    let line = format!("ok {:?} {}{query} {connection} {body}", request.method, request.path);
    if request.body.is_empty() { line.trim_end().to_owned() } else { line }
}

fn verdict(bytes: &[u8]) -> String {
    match decode(bytes, &LIMITS) {
        Ok(Decoded::Request { request, used }) => {
            assert_eq!(used, bytes.len());
            summary(&request)
        }
        Ok(Decoded::NeedMore { at_least }) => format!("more {at_least}"),
        Ok(Decoded::ContinueExpected) => "continue".to_owned(),
        Err(error) => error.status().to_string(),
    }
}

#[test]
fn each_vector_gets_its_verdict() {
    let wrong: Vec<_> = vectors()
        .iter()
        .map(|vector| (vector.clone(), verdict(&vector.bytes)))
        .filter(|(vector, found)| vector.verdict != *found)
        .map(|(vector, found)| format!("{}: {:?} but got {found:?}", vector.name, vector.verdict))
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn a_request_arriving_byte_by_byte_is_the_same_request() {
    for vector in vectors().iter().filter(|vector| vector.verdict.starts_with("ok")) {
        let mut progress = Progress::default();
        for length in 0..vector.bytes.len() {
            match decode_resumed(&vector.bytes[..length], &LIMITS, &mut progress) {
                Ok(Decoded::NeedMore { at_least }) => {
                    assert!(at_least > length, "{} at {length}", vector.name);
                    assert!(at_least <= vector.bytes.len(), "{} at {length}", vector.name);
                }
                Ok(Decoded::ContinueExpected) => {}
                other => panic!("{} at {length}: {other:?}", vector.name),
            }
        }
        match decode_resumed(&vector.bytes, &LIMITS, &mut progress) {
            Ok(Decoded::Request { request, .. }) => {
                assert_eq!(summary(&request), vector.verdict);
            }
            other => panic!("{}: {other:?}", vector.name),
        }
        assert_eq!(progress, Progress::default(), "{}: ready for the next", vector.name);
    }
}

#[test]
fn a_refused_request_arriving_byte_by_byte_is_refused_alike() {
    let refused = |vector: &&Vector| vector.verdict.parse::<u16>().is_ok();
    for vector in vectors().iter().filter(refused) {
        let mut progress = Progress::default();
        let error = (0..=vector.bytes.len())
            .find_map(|length| {
                decode_resumed(&vector.bytes[..length], &LIMITS, &mut progress).err()
            })
            .unwrap_or_else(|| panic!("{} was not refused", vector.name));
        assert_eq!(error.status().to_string(), vector.verdict, "{}", vector.name);
    }
}

#[test]
fn pipelined_requests_come_out_one_by_one() {
    let requests: Vec<_> =
        vectors().into_iter().filter(|vector| vector.verdict.starts_with("ok")).collect();
    let stream: Vec<u8> = requests.iter().flat_map(|vector| vector.bytes.clone()).collect();
    let mut progress = Progress::default();
    let mut unread = stream.as_slice();
    for vector in &requests {
        match decode_resumed(unread, &LIMITS, &mut progress) {
            Ok(Decoded::Request { request, used }) => {
                assert_eq!(summary(&request), vector.verdict, "{}", vector.name);
                unread = &unread[used..];
            }
            other => panic!("{}: {other:?}", vector.name),
        }
    }
    assert!(unread.is_empty());
}
