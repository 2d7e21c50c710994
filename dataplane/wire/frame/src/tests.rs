use super::*;
use proptest::prelude::*;

fn sample() -> Vec<u8> {
    let mut out = Vec::new();
    let mut frame = FrameBuilder::new(&mut out, Class::CommandResponse, 1, 1_700_000_000_123);
    frame
        .text(Tag::Tenant, "acme")
        .text(Tag::Device, "pump-7")
        .text(Tag::ContentType, "application/json")
        .text(Tag::Gateway, "")
        .status(204)
        .property("site", "north")
        .property("", "empty key")
        .ttl_s(Some(60))
        .retain(true);
    frame.finish(b"payload").unwrap();
    out
}

#[test]
fn what_was_written_is_read_back() {
    let bytes = sample();
    let frame = Frame::parse(&bytes).unwrap();
    assert_eq!(frame.class(), Class::CommandResponse);
    assert_eq!(frame.qos(), 1);
    assert!(frame.retain());
    assert_eq!(frame.ttl_s(), Some(60));
    assert_eq!(frame.created_ms(), 1_700_000_000_123);
    assert_eq!(frame.tenant(), Some("acme"));
    assert_eq!(frame.device(), Some("pump-7"));
    assert_eq!(frame.text(Tag::ContentType), Some("application/json"));
    assert_eq!(frame.text(Tag::Gateway), None);
    assert_eq!(frame.status(), Some(204));
    let properties: Vec<_> = frame.properties().collect();
    assert_eq!(properties, [("site", "north"), ("", "empty key")]);
    assert_eq!(frame.payload(), b"payload");
    assert_eq!(frame.as_bytes(), bytes);
}

#[test]
fn every_truncation_and_every_surplus_is_refused() {
    let bytes = sample();
    for end in 0..bytes.len() {
        assert!(Frame::parse(&bytes[..end]).is_err(), "{end} bytes were taken for a frame");
    }
    let mut surplus = bytes;
    surplus.push(0);
    assert_eq!(Frame::parse(&surplus), Err(FrameError::Trailing(1)));
}

#[test]
fn an_unknown_field_survives() {
    let mut bytes = sample();
    let head_bytes = u32_at(&bytes, 4) as usize;
    bytes.splice(head_bytes..head_bytes, [200, 3, 0, 0xff, 0xfe, 0xfd]);
    bytes[4..8].copy_from_slice(&(head_bytes as u32 + 6).to_le_bytes());
    let frame = Frame::parse(&bytes).unwrap();
    let last = frame.fields().last().unwrap();
    assert_eq!((last.tag, last.value), (200, &[0xff, 0xfe, 0xfd][..]));
    assert_eq!(frame.payload(), b"payload");
}

#[test]
fn limits_hold_on_both_sides() {
    let build = |value_bytes: usize, payload_bytes: usize| {
        let mut out = b"before".to_vec();
        let mut frame = FrameBuilder::new(&mut out, Class::Event, 1, 0);
        frame.text(Tag::OriginAddress, &"x".repeat(value_bytes));
        let result = frame.finish(&vec![0; payload_bytes]);
        (result, out)
    };
    let longest = HEAD_BYTES_MAX - FIXED_HEAD_BYTES - 3;
    assert!(build(longest, 0).0.is_ok());
    let (refused, out) = build(longest + 1, 0);
    assert!(matches!(refused, Err(FrameError::TooLong { what: "field", .. })));
    assert_eq!(out, b"before", "a refused frame leaves nothing behind");
    assert!(build(0, PAYLOAD_BYTES_MAX).0.is_ok());
    assert!(build(0, PAYLOAD_BYTES_MAX + 1).0.is_err());

    let mut out = Vec::new();
    let mut frame = FrameBuilder::new(&mut out, Class::Event, 1, 0);
    frame.property(&"k".repeat(usize::from(u16::MAX) + 1), "v");
    assert!(matches!(frame.finish(b""), Err(FrameError::TooLong { what: "property key", .. })));
}

#[test]
fn a_property_reads_back_whatever_the_length_of_its_key() {
    let mut out = Vec::new();
    let mut frame = FrameBuilder::new(&mut out, Class::Message, 2, 0);
    let keys = ["", "k", &"k".repeat(255), &"k".repeat(256), &"k".repeat(9000)];
    keys.iter().for_each(|key| {
        frame.property(key, "v");
    });
    frame.finish(b"").unwrap();
    let parsed = Frame::parse(&out).unwrap();
    assert!(parsed.properties().eq(keys.map(|key| (key, "v"))), "in order, long and short");
}

#[test]
fn wrong_version_class_and_qos_are_named() {
    let with = |at: usize, byte: u8| {
        let mut bytes = sample();
        bytes[at] = byte;
        Frame::parse(&bytes).map(|_| ()).unwrap_err()
    };
    assert_eq!(with(0, 2), FrameError::Version(2));
    assert_eq!(with(1, 0), FrameError::Class(0));
    assert_eq!(with(2, 3), FrameError::Qos(3));
}

proptest! {
    #[test]
    fn any_bytes_are_refused_or_walked_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(frame) = Frame::parse(&bytes) {
            let _ = (frame.fields().count(), frame.properties().count(), frame.status(), frame.payload());
        }
    }

    #[test]
    fn a_flipped_byte_never_panics(at in 0usize..120, byte in any::<u8>()) {
        let mut bytes = sample();
        let at = at % bytes.len();
        bytes[at] = byte;
        if let Ok(frame) = Frame::parse(&bytes) {
            let _ = (frame.fields().count(), frame.tenant(), frame.properties().count());
        }
    }
}
