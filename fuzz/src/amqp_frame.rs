//! A connection's bytes through the AMQP decoder. The first byte chooses the layer, the second the frame limit; a
//! protocol header comes first where the third says so.
//!
//! Held: no panic; a frame is refused by its front or not at all; what was read can be written, not longer than it came,
//! and reads back the same; no secret of SASL is shown.

use fulcrum_amqp::{
    Decoded, Frame, FrameContext, Layer, Negotiation, Performative, ProtocolHeader, Sasl, Target,
    decode_frame, encode_frame, encode_transfer,
};

/// Takes one input.
pub fn run(input: &[u8]) {
    let [layer, limit, begins, bytes @ ..] = input else { return };
    let layer = if layer & 1 == 1 { Layer::Sasl } else { Layer::Amqp };
    let frame_bytes_max = 8 << (limit % 14);
    let bytes = if begins & 1 == 1 { behind_header(bytes) } else { Some(bytes) };
    if let Some(bytes) = bytes {
        read_connection(bytes, &FrameContext { layer, frame_bytes_max });
    }
}

fn behind_header(bytes: &[u8]) -> Option<&[u8]> {
    let header = ProtocolHeader::decode(bytes).ok()??;
    assert_eq!(header.encode(), bytes[..8]);
    match header.negotiate(ProtocolHeader::SASL, &[ProtocolHeader::AMQP]) {
        Negotiation::Accept(same) => assert_eq!(same, header),
        Negotiation::Refuse(other) => assert_ne!(other, header),
    }
    Some(&bytes[8..])
}

fn read_connection(mut bytes: &[u8], context: &FrameContext) {
    loop {
        match decode_frame(bytes, context) {
            Ok(Decoded::Frame { frame, used }) => {
                assert!(used <= bytes.len() && used <= context.frame_bytes_max);
                check_fronts(&bytes[..used], context);
                check_frame(&frame, used, context);
                bytes = &bytes[used..];
            }
            Ok(Decoded::NeedMore { at_least }) => {
                assert!(at_least > bytes.len() && at_least <= context.frame_bytes_max.max(8));
                return;
            }
            Err(error) => {
                assert!(!error.to_string().is_empty());
                assert!(error.condition().as_str().starts_with("amqp:"));
                return;
            }
        }
    }
}

/// Every front of a good frame asks for more, and never for more than the frame has.
fn check_fronts(frame: &[u8], context: &FrameContext) {
    let places = (0..frame.len()).take(8).chain(frame.len().saturating_sub(8)..frame.len());
    for length in places {
        match decode_frame(&frame[..length], context) {
            Ok(Decoded::NeedMore { at_least }) => {
                assert!(at_least > length && at_least <= frame.len());
            }
            other => panic!("{other:?} from the front of a frame"),
        }
    }
}

fn check_frame(frame: &Frame<'_>, used: usize, context: &FrameContext) {
    let mut written = Vec::new();
    encode_frame(frame, context.frame_bytes_max, &mut written)
        .expect("what was read can be written");
    assert!(written.len() <= used, "the shortest form is not longer");
    match decode_frame(&written, context) {
        Ok(Decoded::Frame { frame: again, used }) => {
            assert_eq!(used, written.len());
            assert_eq!(again, *frame);
        }
        other => panic!("{other:?} instead of {frame:?}"),
    }
    let mut cut = vec![7];
    assert!(encode_frame(frame, written.len() - 1, &mut cut).is_err());
    assert_eq!(cut, [7], "what is refused writes nothing");
    check_views(frame, &written);
    let shown = format!("{frame:?}");
    assert!(shown.len() < 1024 * used + 4096, "shown in bounded space");
    check_secrets(frame, &shown);
}

fn check_views(frame: &Frame<'_>, written: &[u8]) {
    let Frame::Amqp { channel, performative, payload } = frame else { return };
    match performative {
        Performative::Transfer(transfer) => {
            let (front, back) = payload.split_at(payload.len() / 2);
            let mut pieces = Vec::new();
            encode_transfer(*channel, transfer, &[front, back], usize::MAX, &mut pieces)
                .expect("a frame that was written");
            assert_eq!(pieces, written, "the pieces of a payload are neighbours");
        }
        Performative::Open(open) => {
            let offered = open.offered_capabilities;
            assert_eq!(offered.is_empty(), offered.iter().count() == 0);
            assert!(offered.iter().all(|one| offered.contains(one)));
        }
        Performative::Attach(attach) => {
            if let Some(Target::Node(target)) = attach.target
                && let Some(properties) = target.dynamic_node_properties
            {
                let _ = properties.lifetime_policy();
                let _ = properties.supported_distribution_modes().count();
            }
        }
        _ => {}
    }
}

/// A secret long enough not to be there by chance is not.
fn check_secrets(frame: &Frame<'_>, shown: &str) {
    let secret = match frame {
        Frame::Sasl(Sasl::Init(init)) => init.initial_response,
        Frame::Sasl(Sasl::Response(response)) => Some(response.response),
        _ => None,
    };
    if let Some(secret) = secret {
        assert!(shown.contains(&format!("({} bytes hidden)", secret.0.len())));
    }
}
