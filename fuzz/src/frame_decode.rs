//! Bytes of a journal or of a sync batch through the frame parser.
//!
//! Held: no panic; a frame is exactly its bytes; accessors of a parsed frame take what is there; known
//! fields written again give a frame that says the same.

use fulcrum_frame::{Frame, FrameBuilder, Tag};

const TEXT_TAGS: [Tag; 11] = [
    Tag::Tenant,
    Tag::Device,
    Tag::OriginAddress,
    Tag::ContentType,
    Tag::OriginAdapter,
    Tag::Gateway,
    Tag::Correlation,
    Tag::Reply,
    Tag::Subject,
    Tag::Trace,
    Tag::Idempotency,
];

/// Takes one input.
pub fn run(bytes: &[u8]) {
    let Ok(frame) = Frame::parse(bytes) else { return };
    assert_eq!(frame.as_bytes(), bytes);
    assert!(Frame::parse(&bytes[..bytes.len() - 1]).is_err(), "a frame without its last byte");
    let field_bytes: usize = frame.fields().map(|field| 3 + field.value.len()).sum();
    assert_eq!(fulcrum_frame::FIXED_HEAD_BYTES + field_bytes + frame.payload().len(), bytes.len());
    assert!(!format!("{frame:?}").is_empty());
    write_again(&frame);
}

fn write_again(frame: &Frame<'_>) {
    let mut out = Vec::new();
    let mut builder = FrameBuilder::new(&mut out, frame.class(), frame.qos(), frame.created_ms());
    builder.retain(frame.retain()).ttl_s(frame.ttl_s());
    for tag in TEXT_TAGS {
        builder.text(tag, frame.text(tag).unwrap_or_default());
    }
    if let Some(status) = frame.status() {
        builder.status(status);
    }
    for (key, value) in frame.properties() {
        builder.property(key, value);
    }
    builder.finish(frame.payload()).expect("what was read can be written");
    let again = Frame::parse(&out).expect("what was written can be read");
    for tag in TEXT_TAGS {
        assert_eq!(
            again.text(tag).unwrap_or_default(),
            frame.text(tag).unwrap_or_default(),
            "{tag:?}"
        );
    }
    assert_eq!(again.status(), frame.status());
    assert!(again.properties().eq(frame.properties()));
    assert_eq!(
        (again.class(), again.qos(), again.retain(), again.ttl_s(), again.created_ms()),
        (frame.class(), frame.qos(), frame.retain(), frame.ttl_s(), frame.created_ms())
    );
    assert_eq!(again.payload(), frame.payload());
}
