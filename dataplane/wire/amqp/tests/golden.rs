//! The golden vectors, decoded as they are, cut short, and encoded back.

#![allow(clippy::panic, reason = "a panic is how a test fails")]

mod corpus;
mod rebuild;

use std::path::Path;

use corpus::Vector;
use fulcrum_amqp::{
    DecodeError, Decoded, Frame, FrameContext, Message, Prefix, ProtocolHeader, clause,
    decode_frame, decode_value, encode_frame, encode_value,
};

const FRAME_BYTES_MAX: usize = 65_536;

fn vectors() -> Vec<Vector> {
    corpus::vectors(&Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors"))
}

fn context(vector: &Vector) -> FrameContext {
    match vector.kind.as_str() {
        "amqp" => FrameContext::amqp(FRAME_BYTES_MAX),
        "sasl" => FrameContext::SASL,
        other => panic!("{}: unknown kind {other}", vector.name),
    }
}

fn frame(vector: &Vector) -> Frame<'_> {
    match decode_frame(&vector.bytes, &context(vector)) {
        Ok(Decoded::Frame { frame, used }) => {
            assert_eq!(used, vector.bytes.len(), "{}", vector.name);
            frame
        }
        other => panic!("{}: {other:?}", vector.name),
    }
}

/// The verdict of a vector in its own words.
fn verdict(vector: &Vector) -> String {
    let bytes = &vector.bytes;
    let ok = "ok".to_owned();
    let found = match vector.kind.as_str() {
        "protocol" => ProtocolHeader::decode(bytes)
            .map(|header| header.map_or_else(|| "more 8".to_owned(), |_| ok)),
        "value" => decode_value(bytes).map(|(_, used)| {
            assert_eq!(used, bytes.len(), "{}", vector.name);
            ok
        }),
        "message" => Message::parse(bytes).and_then(|message| message.check()).map(|()| ok),
        "prefix" => Message::parse_prefix(bytes).map(|Prefix { rest, .. }| match rest.len() {
            0 => ok,
            missing => format!("more {missing}"),
        }),
        _ => decode_frame(bytes, &context(vector)).map(|decoded| match decoded {
            Decoded::Frame { .. } => ok,
            Decoded::NeedMore { at_least } => format!("more {at_least}"),
        }),
    };
    found.unwrap_or_else(verdict_of)
}

fn verdict_of(error: DecodeError) -> String {
    assert!(!error.to_string().is_empty());
    let Some(clause) = error.clause() else { return "too-large".to_owned() };
    let listed = clause::ALL.iter().find(|(_, text)| *text == clause);
    listed.map(|(name, _)| (*name).to_owned()).expect("every refusal names a listed clause")
}

/// What a vector's content is written as.
fn written(vector: &Vector) -> Vec<u8> {
    let mut out = vec![0xEE];
    let bytes = &vector.bytes;
    match vector.kind.as_str() {
        "protocol" => {
            let header = ProtocolHeader::decode(bytes).expect("a header").expect("a whole one");
            out.extend(header.encode());
        }
        "value" => {
            let (value, _) = decode_value(bytes).expect("a value");
            encode_value(&value, &mut out).expect("a decoded value can be written");
        }
        "message" => {
            let message = Message::parse(bytes).expect("a message");
            out.extend(rebuild::message(&message).expect("a message that can be read"));
        }
        "prefix" => out.extend_from_slice(bytes),
        _ => encode_frame(&frame(vector), FRAME_BYTES_MAX, &mut out)
            .expect("a decoded frame can be written"),
    }
    assert_eq!(out.remove(0), 0xEE, "what was in the buffer stays");
    out
}

#[test]
fn each_vector_gets_its_verdict() {
    let vectors = vectors();
    assert!(vectors.len() > 300, "the vectors were found: {}", vectors.len());
    let wrong: Vec<_> = vectors
        .iter()
        .map(|vector| (vector, verdict(vector)))
        .filter(|(vector, found)| vector.verdict.trim_end_matches('*') != found)
        .map(|(vector, found)| format!("{}: {} but got {found}", vector.name, vector.verdict))
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn each_clause_is_held_against_somebody() {
    // Elements of an array share their constructor, so only callers can mix them.
    let unreachable = ["ARRAY_MIXED"];
    let vectors = vectors();
    for (name, _) in clause::ALL.iter().filter(|(name, _)| !unreachable.contains(name)) {
        assert!(vectors.iter().any(|vector| vector.verdict == *name), "no vector for {name}");
    }
}

#[test]
fn what_is_in_its_shortest_form_is_written_back_byte_for_byte() {
    for vector in vectors().iter().filter(|vector| vector.verdict.starts_with("ok")) {
        let written = written(vector);
        if vector.verdict == "ok" {
            assert_eq!(written, vector.bytes, "{}", vector.name);
            continue;
        }
        assert_ne!(written, vector.bytes, "{}: is the shortest form", vector.name);
        // Two bytes of a SASL frame are ignored, and so they do not make it longer.
        assert!(written.len() <= vector.bytes.len(), "{}", vector.name);
        let again = Vector { bytes: written.clone(), ..vector.clone() };
        assert_eq!(verdict(&again), "ok", "{}", vector.name);
        assert_eq!(self::written(&again), written, "{}", vector.name);
        match vector.kind.as_str() {
            "value" => assert_eq!(decode_value(&written), {
                decode_value(&vector.bytes).map(|(value, _)| (value, written.len()))
            }),
            "amqp" | "sasl" => assert_eq!(frame(&again), frame(vector), "{}", vector.name),
            _ => {}
        }
    }
}

#[test]
fn the_front_of_a_frame_asks_for_more_and_never_for_too_much() {
    let is_frame = |vector: &&Vector| vector.kind == "amqp" || vector.kind == "sasl";
    for vector in vectors().iter().filter(is_frame) {
        for length in 0..vector.bytes.len() {
            match decode_frame(&vector.bytes[..length], &context(vector)) {
                Ok(Decoded::NeedMore { at_least }) => {
                    assert!(at_least > length, "{} at {length}", vector.name);
                    let is_whole = !vector.verdict.starts_with("more");
                    assert!(at_least <= vector.bytes.len().max(8) || !is_whole, "{}", vector.name);
                }
                Err(error) => assert_eq!(vector.verdict, verdict_of(error), "{}", vector.name),
                other => panic!("{} at {length}: {other:?}", vector.name),
            }
        }
    }
}

#[test]
fn the_front_of_a_value_is_no_value() {
    for vector in vectors().iter().filter(|vector| vector.kind == "value") {
        for length in 0..vector.bytes.len() {
            let error = decode_value(&vector.bytes[..length]).expect_err("the front of a value");
            let expected = ["VALUE_PAST_END", &vector.verdict];
            assert!(expected.contains(&&*verdict_of(error)), "{} at {length}", vector.name);
        }
    }
}

#[test]
fn the_front_of_a_message_has_the_sections_that_are_whole() {
    let is_good = |vector: &&Vector| vector.kind == "message" && vector.verdict.starts_with("ok");
    for vector in vectors().iter().filter(is_good) {
        let whole = Message::parse(&vector.bytes).expect("a message");
        for length in 0..vector.bytes.len() {
            let front = &vector.bytes[..length];
            let Prefix { message, rest } = Message::parse_prefix(front).expect(&vector.name);
            assert!(message.check().is_ok(), "{} at {length}", vector.name);
            let pieces = [
                message.header_bytes(),
                message.delivery_annotations_bytes(),
                message.message_annotations_bytes(),
                message.bare_bytes(),
                message.footer_bytes(),
                rest,
            ];
            assert_eq!(pieces.concat(), front, "{} at {length}", vector.name);
            let is_there = !message.properties_bytes().is_empty();
            assert!(!is_there || message.properties() == whole.properties(), "{}", vector.name);
            if rest.is_empty() {
                assert!(Message::parse(front).is_ok());
            } else {
                assert!(Message::parse(front).is_err());
            }
        }
    }
}
