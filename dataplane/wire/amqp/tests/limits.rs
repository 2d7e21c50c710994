//! Each bound of `limits`, from both sides.

use fulcrum_amqp::limits::{
    ARRAY_ZERO_WIDTH_COUNT_MAX, DELIVERY_TAG_BYTES_MAX, FRAME_BYTES_MIN_MAX, FRAME_HEADER_BYTES,
    PROTOCOL_HEADER_BYTES, SASL_FRAME_BYTES_MAX, VALUE_DEPTH_MAX,
};
use fulcrum_amqp::{
    ArrayBuffer, Decoded, DeliveryTag, EncodeError, Frame, FrameContext, ListBuffer, Open,
    Performative, ProtocolHeader, Sasl, SaslInit, SecretBytes, Symbol, Symbols, Value, clause,
    decode_frame, decode_value, encode_frame, encode_value,
};

fn frame_of(size: u32, frame_type: u8) -> Vec<u8> {
    let mut bytes = size.to_be_bytes().to_vec();
    bytes.extend([2, frame_type, 0, 0]);
    bytes
}

fn open(max_frame_size: u32) -> Frame<'static> {
    let open = Open {
        container_id: "c",
        hostname: None,
        max_frame_size,
        channel_max: u16::MAX,
        idle_time_out: None,
        outgoing_locales: Symbols::NONE,
        incoming_locales: Symbols::NONE,
        offered_capabilities: Symbols::NONE,
        desired_capabilities: Symbols::NONE,
        properties: None,
    };
    Frame::Amqp { channel: 0, performative: Performative::Open(Box::new(open)), payload: &[] }
}

#[test]
fn a_protocol_header_is_whole_with_its_last_byte() {
    let header = ProtocolHeader::AMQP.encode();
    assert_eq!(header.len(), PROTOCOL_HEADER_BYTES);
    assert_eq!(ProtocolHeader::decode(&header[..PROTOCOL_HEADER_BYTES - 1]), Ok(None));
    assert_eq!(ProtocolHeader::decode(&header), Ok(Some(ProtocolHeader::AMQP)));
}

#[test]
fn a_frame_is_no_smaller_than_its_header() {
    let context = FrameContext::amqp(FRAME_BYTES_MIN_MAX);
    let smallest = FRAME_HEADER_BYTES as u32;
    assert_eq!(
        decode_frame(&frame_of(smallest, 0), &context),
        Ok(Decoded::Frame { frame: Frame::Empty { channel: 0 }, used: FRAME_HEADER_BYTES })
    );
    let error = decode_frame(&frame_of(smallest - 1, 0), &context).expect_err("too small");
    assert_eq!(error.clause(), Some(clause::FRAME_SIZE));
}

#[test]
fn a_frame_is_no_larger_than_was_agreed_and_is_refused_before_it_comes() {
    for (context, frame_type) in [(FrameContext::amqp(4096), 0), (FrameContext::SASL, 1)] {
        let max = context.frame_bytes_max;
        assert_eq!(
            decode_frame(&frame_of(max as u32, frame_type), &context),
            Ok(Decoded::NeedMore { at_least: max })
        );
        let larger = frame_of(max as u32 + 1, frame_type);
        let error = decode_frame(&larger[..4], &context);
        assert!(error.expect_err("too large").clause().is_none());
    }
    assert_eq!(FrameContext::SASL.frame_bytes_max, SASL_FRAME_BYTES_MAX);
}

#[test]
fn a_frame_that_is_too_large_is_not_written() {
    let init = |bytes| {
        Frame::Sasl(Sasl::Init(SaslInit {
            mechanism: Symbol::literal("PLAIN"),
            initial_response: Some(SecretBytes(bytes)),
            hostname: None,
        }))
    };
    let response = [0; SASL_FRAME_BYTES_MAX];
    // What is not the response: frame header, descriptor, list, symbol, and the binary's own.
    let room = SASL_FRAME_BYTES_MAX - 8 - 3 - 9 - 7 - 5;
    let mut out = Vec::new();
    assert_eq!(encode_frame(&init(&response[..room]), SASL_FRAME_BYTES_MAX, &mut out), Ok(()));
    assert_eq!(out.len(), SASL_FRAME_BYTES_MAX);
    let error = encode_frame(&init(&response[..=room]), SASL_FRAME_BYTES_MAX, &mut out);
    assert_eq!(
        error,
        Err(EncodeError::FrameTooLarge {
            bytes: SASL_FRAME_BYTES_MAX + 1,
            max: SASL_FRAME_BYTES_MAX
        })
    );
    assert_eq!(out.len(), SASL_FRAME_BYTES_MAX, "what is refused writes nothing");
}

#[test]
fn a_peer_takes_frames_of_512_bytes_at_least() {
    let smallest = FRAME_BYTES_MIN_MAX as u32;
    let context = FrameContext::amqp(FRAME_BYTES_MIN_MAX);
    let mut out = Vec::new();
    assert_eq!(encode_frame(&open(smallest), FRAME_BYTES_MIN_MAX, &mut out), Ok(()));
    assert_eq!(
        decode_frame(&out, &context),
        Ok(Decoded::Frame { frame: open(smallest), used: out.len() })
    );
    // 512 is the last field, so its bytes are the last ones.
    let place = out.len() - 2;
    out[place..].copy_from_slice(&(smallest as u16 - 1).to_be_bytes());
    let error = decode_frame(&out, &context).expect_err("below 512");
    assert_eq!(error.clause(), Some(clause::OPEN_FRAME_SIZE));
    let error = encode_frame(&open(smallest - 1), FRAME_BYTES_MIN_MAX, &mut Vec::new());
    assert_eq!(error, Err(EncodeError::Invalid { clause: clause::OPEN_FRAME_SIZE }));
}

#[test]
fn a_delivery_tag_has_32_octets_at_most() {
    assert!(DeliveryTag::new(&[0; DELIVERY_TAG_BYTES_MAX]).is_some());
    assert!(DeliveryTag::new(&[0; DELIVERY_TAG_BYTES_MAX + 1]).is_none());
}

#[test]
fn a_value_is_nested_32_deep_at_most() {
    let mut bytes = vec![0x45];
    for depth in 1..=VALUE_DEPTH_MAX {
        let mut list = ListBuffer::new();
        let (value, used) = decode_value(&bytes).expect("not yet too deep");
        assert_eq!(used, bytes.len(), "at {depth}");
        list.push(&value).expect("a short list");
        let mut outer = Vec::new();
        encode_value(&Value::List(list.as_list()), &mut outer).expect("a short list");
        bytes = outer;
    }
    // The empty list in the middle has nothing in it, but is a list.
    let error = decode_value(&bytes).expect_err("too deep");
    assert_eq!(error.clause(), Some(clause::DEPTH));
    assert_eq!(error.condition().as_str(), "amqp:resource-limit-exceeded");
    // In each list in front of it are three bytes: code, size, count.
    assert!(decode_value(&bytes[3..]).is_ok());
}

#[test]
fn however_deep_a_value_is_the_stack_is_not() {
    // In arrays of arrays each level costs the most: its constructor is read as well.
    for piece in [&[0xC0, 0xFF, 0x01][..], &[0x00, 0x44], &[0xE0, 0xFF, 0x01], &[0x00, 0x00]] {
        let bytes = piece.repeat(1 << 20);
        assert!(decode_value(&bytes).is_err());
    }
}

#[test]
fn an_array_of_nothing_has_256_elements_at_most() {
    let nulls = |count: u32| {
        let mut bytes = vec![0xF0, 0, 0, 0, 5];
        bytes.extend(count.to_be_bytes());
        bytes.push(0x40);
        bytes
    };
    let bytes = nulls(ARRAY_ZERO_WIDTH_COUNT_MAX);
    let (value, _) = decode_value(&bytes).expect("as many as may be");
    let Value::Array(array) = value else { panic!("{value:?}") };
    assert_eq!(array.iter().count(), ARRAY_ZERO_WIDTH_COUNT_MAX as usize);
    for count in [ARRAY_ZERO_WIDTH_COUNT_MAX + 1, u32::MAX] {
        let bytes = nulls(count);
        let error = decode_value(&bytes).expect_err("too many");
        assert_eq!(error.clause(), Some(clause::ARRAY_ZERO_WIDTH));
    }
    let values = [Value::Null; ARRAY_ZERO_WIDTH_COUNT_MAX as usize + 1];
    assert!(ArrayBuffer::new(&values[1..]).is_ok());
    assert!(ArrayBuffer::new(&values).is_err());
}

#[test]
fn a_long_descriptor_of_many_elements_is_shown_once() {
    let symbol = "x".repeat(30_000);
    let mut bytes = vec![0x00, 0xB3];
    bytes.extend((symbol.len() as u32).to_be_bytes());
    bytes.extend(symbol.as_bytes());
    bytes.push(0x50);
    let count = 30_000_u32;
    let mut array = vec![0xF0];
    array.extend((4 + bytes.len() as u32 + count).to_be_bytes());
    array.extend(count.to_be_bytes());
    array.extend(bytes);
    array.extend(vec![7; count as usize]);
    let (value, used) = decode_value(&array).expect("an array");
    assert_eq!(used, array.len());
    assert!(format!("{value:?}").len() < 20 * array.len());
    assert_eq!(value, value);
}
