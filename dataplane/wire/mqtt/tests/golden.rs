//! The golden vectors, decoded as they are, cut short, and encoded back.

#![allow(clippy::panic, reason = "a panic is how a test fails")]

mod corpus;

use std::path::Path;

use corpus::Vector;
use fulcrum_mqtt::{
    DecodeContext, DecodeError, Decoded, Packet, ProtocolLevel, clause, decode, encode_packet,
};

const PACKET_BYTES_MAX: usize = 65_536;

fn vectors() -> Vec<Vector> {
    corpus::vectors(&Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors"))
}

fn context(vector: &Vector) -> DecodeContext {
    let level = match vector.level.as_str() {
        "first" => None,
        "3.1.1" => Some(ProtocolLevel::V311),
        "5" => Some(ProtocolLevel::V5),
        other => panic!("{}: unknown level {other}", vector.name),
    };
    DecodeContext { level, packet_bytes_max: PACKET_BYTES_MAX }
}

fn decode_whole(vector: &Vector) -> Packet<'_> {
    match decode(&vector.bytes, &context(vector)) {
        Ok(Decoded::Packet { packet, used }) => {
            assert_eq!(used, vector.bytes.len(), "{}", vector.name);
            packet
        }
        other => panic!("{}: {other:?}", vector.name),
    }
}

/// The verdict of a vector in its own words, for an error.
fn verdict_of(error: DecodeError) -> String {
    match error {
        DecodeError::TooLarge { .. } => "too-large".to_owned(),
        DecodeError::Malformed { clause } | DecodeError::Protocol { clause } => clause::ALL
            .iter()
            .find(|(_, text)| *text == clause)
            .map(|(name, _)| (*name).to_owned())
            .expect("every refusal names a listed clause"),
        DecodeError::UnacceptableProtocolVersion { .. } | DecodeError::IdentifierRejected => {
            let code = error.connack_code().expect("these two are answered");
            format!("connack {}", code.as_u8())
        }
    }
}

#[test]
fn each_vector_gets_its_verdict() {
    let vectors = vectors();
    assert!(vectors.len() > 150, "the vectors were found");
    let found = |vector: &Vector| match decode(&vector.bytes, &context(vector)) {
        Ok(Decoded::Packet { .. }) => "ok".to_owned(),
        Ok(Decoded::NeedMore { at_least }) => format!("more {at_least}"),
        Err(error) => verdict_of(error),
    };
    let wrong: Vec<_> = vectors
        .iter()
        .map(|vector| (vector, found(vector)))
        .filter(|(vector, found)| vector.verdict.trim_end_matches('*') != found)
        .map(|(vector, found)| format!("{}: {} but got {found}", vector.name, vector.verdict))
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn each_clause_is_held_against_somebody() {
    // The wire's two-byte length cannot say more, so only callers can break this one.
    let unreachable = ["TOPIC_TOO_LONG"];
    let vectors = vectors();
    for (name, _) in clause::ALL.iter().filter(|(name, _)| !unreachable.contains(name)) {
        assert!(vectors.iter().any(|vector| vector.verdict == *name), "no vector for {name}");
    }
}

#[test]
fn a_packet_in_its_shortest_form_is_written_back_byte_for_byte() {
    for vector in vectors().iter().filter(|vector| vector.verdict.starts_with("ok")) {
        let packet = decode_whole(vector);
        let level = match packet {
            Packet::Connect(connect) => connect.level,
            _ => context(vector).level.expect("every other packet has a level"),
        };
        let mut written = Vec::new();
        encode_packet(&packet, level, &mut written).expect("a decoded packet can be written");
        if vector.verdict == "ok" {
            assert_eq!(written, vector.bytes, "{}", vector.name);
        } else {
            assert!(written.len() < vector.bytes.len(), "{}", vector.name);
            let again = Vector { bytes: written.clone(), ..vector.clone() };
            assert_eq!(decode_whole(&again), packet, "{}", vector.name);
        }
    }
}

#[test]
fn the_front_of_a_packet_asks_for_more_and_never_for_too_much() {
    for vector in vectors().iter().filter(|vector| vector.verdict.starts_with("ok")) {
        for length in 0..vector.bytes.len() {
            match decode(&vector.bytes[..length], &context(vector)) {
                Ok(Decoded::NeedMore { at_least }) => {
                    assert!(at_least > length, "{} at {length}", vector.name);
                    assert!(at_least <= vector.bytes.len(), "{} at {length}", vector.name);
                }
                other => panic!("{} at {length}: {other:?}", vector.name),
            }
        }
    }
}

#[test]
fn a_refusal_comes_no_later_than_the_packet() {
    let refused =
        |vector: &&Vector| !vector.verdict.starts_with("ok") && !vector.verdict.starts_with("more");
    for vector in vectors().iter().filter(refused) {
        for length in 0..vector.bytes.len() {
            match decode(&vector.bytes[..length], &context(vector)) {
                Ok(Decoded::NeedMore { at_least }) => assert!(at_least > length),
                Err(error) => assert_eq!(vector.verdict, verdict_of(error), "{}", vector.name),
                Ok(decoded) => panic!("{} at {length}: {decoded:?}", vector.name),
            }
        }
    }
}
