//! A connection's bytes through the MQTT decoder. The first byte chooses the protocol level, the second
//! the packet limit.
//!
//! Held: no panic; a packet is refused by its front or not at all; what was read can be written, not
//! longer than it came, and reads back the same; filters and properties iterate in full.

use fulcrum_mqtt::{
    DecodeContext, Decoded, Packet, Properties, ProtocolLevel, decode, encode_packet, topic,
};

/// Takes one input.
pub fn run(input: &[u8]) {
    let [level, limit, bytes @ ..] = input else { return };
    let level = match level % 3 {
        0 => None,
        1 => Some(ProtocolLevel::V311),
        _ => Some(ProtocolLevel::V5),
    };
    let packet_bytes_max = 1 << (limit % 20);
    read_connection(bytes, DecodeContext { level, packet_bytes_max });
}

fn read_connection(mut bytes: &[u8], mut context: DecodeContext) {
    loop {
        match decode(bytes, &context) {
            Ok(Decoded::Packet { packet, used }) => {
                assert!(used <= bytes.len() && used <= context.packet_bytes_max);
                check_fronts(&bytes[..used], &context);
                check_packet(&packet, used, &context);
                if let Packet::Connect(connect) = packet {
                    context.level = Some(connect.level);
                }
                bytes = &bytes[used..];
            }
            Ok(Decoded::NeedMore { at_least }) => {
                assert!(at_least > bytes.len() && at_least <= context.packet_bytes_max.max(5));
                return;
            }
            Err(error) => {
                assert!(!error.to_string().is_empty());
                assert!(error.reason_code().is_error());
                return;
            }
        }
    }
}

/// Every front of a good packet asks for more, and never for more than the packet has.
fn check_fronts(packet: &[u8], context: &DecodeContext) {
    let places = (0..packet.len()).take(8).chain(packet.len().saturating_sub(8)..packet.len());
    for length in places {
        match decode(&packet[..length], context) {
            Ok(Decoded::NeedMore { at_least }) => {
                assert!(at_least > length && at_least <= packet.len());
            }
            other => panic!("{other:?} from the front of a packet"),
        }
    }
}

fn check_packet(packet: &Packet<'_>, used: usize, context: &DecodeContext) {
    let level = match packet {
        Packet::Connect(connect) => Some(connect.level),
        _ => context.level,
    };
    match packet {
        Packet::Publish(publish) => {
            check_properties(publish.properties);
            if !publish.topic.is_empty() {
                assert!(topic::validate_topic(publish.topic).is_ok());
                assert!(topic::matches(publish.topic, publish.topic));
            }
        }
        Packet::Connect(connect) => check_properties(connect.properties),
        Packet::Subscribe(subscribe) => {
            assert_eq!(subscribe.filters().count(), subscribe.filter_count());
            assert!(subscribe.filters().all(|asked| topic::validate_filter(asked.filter).is_ok()));
        }
        Packet::Unsubscribe(unsubscribe) => {
            assert_eq!(unsubscribe.filters().count(), unsubscribe.filter_count());
        }
        _ => {}
    }
    let level = level.expect("only CONNECT comes before CONNECT");
    let mut written = Vec::new();
    encode_packet(packet, level, &mut written).expect("what was read can be written");
    assert!(written.len() <= used, "the shortest form is not longer");
    match decode(&written, context) {
        Ok(Decoded::Packet { packet: again, used }) => {
            assert_eq!(used, written.len());
            assert_eq!(again, *packet);
        }
        other => panic!("{other:?} instead of {packet:?}"),
    }
    assert!(format!("{packet:?}").len() < 64 * used + 1024, "shown in bounded space");
}

/// Each property costs two bytes at least, so the iterator has to end where the block does.
fn check_properties(properties: Properties<'_>) {
    assert_eq!(properties.is_empty(), properties.iter().count() == 0);
}
