//! Properties that hold for any packet and any bytes.

#![allow(clippy::panic, reason = "a panic is how a test fails")]

mod corpus;

use std::path::Path;

use fulcrum_mqtt::{
    Connect, DecodeContext, DecodeError, Decoded, EncodeError, Packet, Properties, Property,
    PropertyBuffer, PropertyOwner, ProtocolLevel, Publish, QoS, REMAINING_LENGTH_MAX, ReasonCode,
    RetainHandling, STRING_BYTES_MAX, SecretBytes, SubscribeFilter, SubscribeOptions, Will, clause,
    decode, encode_connect, encode_packet, encode_publish, encode_publish_parts, encode_suback,
    encode_subscribe, encode_unsubscribe, topic, v5,
};
use proptest::prelude::*;

const LEVELS: [Option<ProtocolLevel>; 3] =
    [None, Some(ProtocolLevel::V311), Some(ProtocolLevel::V5)];

fn context(level: Option<ProtocolLevel>) -> DecodeContext {
    DecodeContext { level, packet_bytes_max: 1 << 20 }
}

fn decode_one(bytes: &[u8], level: Option<ProtocolLevel>) -> Packet<'_> {
    match decode(bytes, &context(level)) {
        Ok(Decoded::Packet { packet, used }) if used == bytes.len() => packet,
        other => panic!("{other:?} from {bytes:02x?}"),
    }
}

fn qos() -> impl Strategy<Value = QoS> {
    prop_oneof![Just(QoS::AtMostOnce), Just(QoS::AtLeastOnce), Just(QoS::ExactlyOnce)]
}

fn level() -> impl Strategy<Value = ProtocolLevel> {
    prop_oneof![Just(ProtocolLevel::V311), Just(ProtocolLevel::V5)]
}

/// Text without U+0000, with characters of every length.
fn text() -> impl Strategy<Value = String> {
    "[a-z0-9ü日𝄞/ ]{0,40}"
}

fn topic_name() -> impl Strategy<Value = String> {
    "[a-z0-9ü日$/ ]{1,60}"
}

fn topic_filter() -> impl Strategy<Value = String> {
    let level = prop_oneof![Just("+".to_owned()), "[a-z0-9ü]{0,8}"];
    (prop::collection::vec(level, 1..6), any::<bool>())
        .prop_map(|(mut levels, rest)| {
            if rest {
                levels.push("#".to_owned());
            }
            levels.join("/")
        })
        .prop_filter("filters are not empty", |filter| !filter.is_empty())
}

fn payload() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 0..300)
}

/// A few properties any block of that owner may have, from arbitrary values.
fn properties(owner: PropertyOwner, text: &str, number: u32, flag: bool) -> PropertyBuffer {
    let every = [
        Property::PayloadFormatIndicator(flag),
        Property::MessageExpiryInterval(number),
        Property::ContentType(text),
        Property::CorrelationData(text.as_bytes()),
        Property::SubscriptionIdentifier(number % 268_435_455 + 1),
        Property::SubscriptionIdentifier(number % 1000 + 1),
        Property::SessionExpiryInterval(number),
        Property::AssignedClientIdentifier(text),
        Property::ServerKeepAlive(number as u16),
        Property::AuthenticationMethod(text),
        Property::AuthenticationData(SecretBytes(text.as_bytes())),
        Property::RequestProblemInformation(flag),
        Property::WillDelayInterval(number),
        Property::RequestResponseInformation(flag),
        Property::ResponseInformation(text),
        Property::ServerReference(text),
        Property::ReasonString(text),
        Property::ReceiveMaximum(number as u16 | 1),
        Property::TopicAliasMaximum(number as u16),
        Property::TopicAlias(number as u16 | 1),
        Property::MaximumQoS(if flag { QoS::AtLeastOnce } else { QoS::AtMostOnce }),
        Property::RetainAvailable(flag),
        Property::UserProperty(text, text),
        Property::UserProperty(text, ""),
        Property::MaximumPacketSize(number | 1),
        Property::WildcardSubscriptionAvailable(flag),
        Property::SubscriptionIdentifierAvailable(flag),
        Property::SharedSubscriptionAvailable(flag),
    ];
    let mut buffer = PropertyBuffer::new(owner);
    for property in every {
        let expected = property.is_permitted_in(owner);
        let again = property.identifier() == 0x0B
            && !property.may_repeat_in(owner)
            && buffer.properties().iter().any(|other| other.identifier() == 0x0B);
        assert_eq!(buffer.push(property).is_ok(), expected && !again, "{property:?} in {owner:?}");
    }
    buffer
}

proptest! {
    #[test]
    fn a_publish_reads_back(
        level in level(), topic in topic_name(), qos in qos(), id in 1u16.., retain: bool,
        dup: bool, payload in payload(), text in text(), number: u32,
    ) {
        let buffer = properties(PropertyOwner::Publish, &text, number, retain);
        let v5 = level == ProtocolLevel::V5;
        let publish = Publish {
            topic: &topic,
            packet_id: (qos != QoS::AtMostOnce).then_some(id),
            qos,
            retain,
            dup: dup && qos != QoS::AtMostOnce,
            properties: if v5 { buffer.properties() } else { Properties::EMPTY },
            payload: &payload,
        };
        let mut bytes = Vec::new();
        if v5 {
            v5::encode_publish(&publish, &mut bytes).expect("valid");
        } else {
            encode_publish(&publish, &mut bytes).expect("valid");
        }
        prop_assert_eq!(decode_one(&bytes, Some(level)), Packet::Publish(publish));
    }

    #[test]
    fn a_connect_reads_back(
        level in level(), clean: bool, keep_alive_s: u16, client_id in "[a-z0-9]{1,30}",
        will in prop::option::of((topic_name(), payload(), qos(), any::<bool>())),
        username in prop::option::of(text()), password in prop::option::of(payload()),
        text in text(), number: u32,
    ) {
        let of_connect = properties(PropertyOwner::Connect, &text, number, clean);
        let of_will = properties(PropertyOwner::Will, &text, number, clean);
        let v5 = level == ProtocolLevel::V5;
        let connect = Connect {
            level,
            clean_session: clean,
            keep_alive_s,
            client_id: &client_id,
            will: will.as_ref().map(|(topic, payload, qos, retain)| Will {
                topic,
                payload,
                qos: *qos,
                retain: *retain,
                properties: if v5 { of_will.properties() } else { Properties::EMPTY },
            }),
            username: username.as_deref(),
            password: password.as_deref().filter(|_| v5 || username.is_some()),
            properties: if v5 { of_connect.properties() } else { Properties::EMPTY },
        };
        let mut bytes = Vec::new();
        encode_connect(&connect, &mut bytes).expect("valid");
        prop_assert_eq!(decode_one(&bytes, None), Packet::Connect(connect));
    }

    #[test]
    fn a_subscribe_and_an_unsubscribe_read_back(
        id in 1u16.., filters in prop::collection::vec((topic_filter(), qos()), 1..8),
    ) {
        let asked: Vec<_> = filters.iter().map(|(filter, qos)| (filter.as_str(), *qos)).collect();
        let mut bytes = Vec::new();
        encode_subscribe(id, &asked, &mut bytes).expect("valid");
        match decode_one(&bytes, Some(ProtocolLevel::V311)) {
            Packet::Subscribe(subscribe) => {
                prop_assert_eq!(subscribe.packet_id, id);
                prop_assert_eq!(subscribe.filter_count(), asked.len());
                let read: Vec<_> =
                    subscribe.filters().map(|one| (one.filter, one.options.qos)).collect();
                prop_assert_eq!(&read, &asked);
            }
            other => prop_assert!(false, "{:?}", other),
        }
        let ended: Vec<_> = filters.iter().map(|(filter, _)| filter.as_str()).collect();
        bytes.clear();
        encode_unsubscribe(id, &ended, &mut bytes).expect("valid");
        match decode_one(&bytes, Some(ProtocolLevel::V311)) {
            Packet::Unsubscribe(unsubscribe) => {
                prop_assert_eq!(unsubscribe.filters().collect::<Vec<_>>(), ended);
            }
            other => prop_assert!(false, "{:?}", other),
        }
    }

    #[test]
    fn subscription_options_of_mqtt_5_read_back(
        filter in topic_filter(), qos in qos(), no_local: bool, retain_as_published: bool,
        handling in prop_oneof![
            Just(RetainHandling::Send),
            Just(RetainHandling::SendIfNew),
            Just(RetainHandling::DoNotSend),
        ],
    ) {
        let asked = SubscribeFilter {
            filter: &filter,
            options: SubscribeOptions {
                qos, no_local, retain_as_published, retain_handling: handling,
            },
        };
        let mut bytes = Vec::new();
        v5::encode_subscribe(1, Properties::EMPTY, [asked], &mut bytes).expect("valid");
        match decode_one(&bytes, Some(ProtocolLevel::V5)) {
            Packet::Subscribe(read) => {
                prop_assert_eq!(read.filters().collect::<Vec<_>>(), vec![asked]);
            }
            other => prop_assert!(false, "{:?}", other),
        }
    }

    #[test]
    fn arbitrary_bytes_are_refused_or_read_and_written_back(
        bytes in prop::collection::vec(any::<u8>(), 0..80),
    ) {
        for level in LEVELS {
            check_any_bytes(&bytes, level);
        }
    }

    #[test]
    fn damaged_packets_are_refused_or_read_and_written_back(
        choice: prop::sample::Index, place: prop::sample::Index, byte: u8, cut: prop::sample::Index,
    ) {
        let vectors = corpus::vectors(&Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors"));
        let mut bytes = vectors[choice.index(vectors.len())].bytes.clone();
        if !bytes.is_empty() {
            let place = place.index(bytes.len());
            bytes[place] = byte;
        }
        for level in LEVELS {
            check_any_bytes(&bytes, level);
            check_any_bytes(&bytes[..cut.index(bytes.len() + 1)], level);
        }
    }

    #[test]
    fn a_stream_split_anywhere_gives_the_same_packets(
        choices in prop::collection::vec(any::<prop::sample::Index>(), 1..12),
        splits in prop::collection::vec(1usize..60, 1..40),
    ) {
        let vectors: Vec<_> = corpus::vectors(&Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors"))
            .into_iter()
            .filter(|vector| vector.level == "5" && vector.verdict.starts_with("ok"))
            .collect();
        let packets: Vec<_> =
            choices.iter().map(|choice| &vectors[choice.index(vectors.len())].bytes).collect();
        let stream: Vec<u8> = packets.iter().flat_map(|bytes| bytes.iter().copied()).collect();

        let mut buffer = Vec::new();
        let mut read = 0;
        let mut unread = stream.as_slice();
        let mut pieces = splits.iter().cycle();
        while !unread.is_empty() {
            let piece = unread.len().min(*pieces.next().expect("a cycle does not end"));
            buffer.extend_from_slice(&unread[..piece]);
            unread = &unread[piece..];
            loop {
                match decode(&buffer, &context(Some(ProtocolLevel::V5))).expect("valid stream") {
                    Decoded::Packet { packet, used } => {
                        prop_assert_eq!(packet, decode_one(packets[read], Some(ProtocolLevel::V5)));
                        buffer.drain(..used);
                        read += 1;
                    }
                    Decoded::NeedMore { at_least } => {
                        prop_assert!(at_least > buffer.len());
                        break;
                    }
                }
            }
        }
        prop_assert_eq!(read, packets.len());
        prop_assert!(buffer.is_empty());
    }

    #[test]
    fn a_filter_made_of_a_topic_matches_it(topic in "[a-z/]{1,30}", choice: prop::sample::Index) {
        prop_assert!(topic::matches(&topic, &topic));
        prop_assert!(topic::matches("#", &topic));
        let mut levels: Vec<_> = topic.split('/').collect();
        let chosen = choice.index(levels.len());
        levels[chosen] = "+";
        prop_assert!(topic::matches(&levels.join("/"), &topic));
        levels.truncate(chosen);
        levels.push("#");
        prop_assert!(topic::matches(&levels.join("/"), &topic));
    }
}

/// Decodes; what was accepted must iterate in full and survive being written and read again.
fn check_any_bytes(bytes: &[u8], level: Option<ProtocolLevel>) {
    let (packet, used) = match decode(bytes, &context(level)) {
        Ok(Decoded::Packet { packet, used }) => (packet, used),
        Ok(Decoded::NeedMore { at_least }) => {
            assert!(at_least > bytes.len());
            return;
        }
        Err(_) => return,
    };
    assert!(used <= bytes.len());
    let mut level = level;
    match packet {
        Packet::Subscribe(subscribe) => {
            assert_eq!(subscribe.filters().count(), subscribe.filter_count());
        }
        Packet::Unsubscribe(unsubscribe) => {
            assert_eq!(unsubscribe.filters().count(), unsubscribe.filter_count());
        }
        Packet::Connect(connect) => level = Some(connect.level),
        _ => {}
    }
    let write_as = level.expect("only CONNECT comes before CONNECT");
    let mut written = Vec::new();
    encode_packet(&packet, write_as, &mut written).expect("what was read can be written");
    assert!(written.len() <= used, "the shortest form is not longer");
    let read_as = if matches!(packet, Packet::Connect(_)) { None } else { level };
    assert_eq!(decode_one(&written, read_as), packet);
}

#[test]
fn each_block_takes_the_properties_of_its_packet_and_no_others() {
    for owner in PropertyOwner::ALL {
        let buffer = properties(owner, "x", 7, true);
        assert!(!buffer.properties().is_empty(), "user properties fit everywhere");
    }
}

#[test]
fn the_packet_limit_counts_the_whole_packet() {
    let mut bytes = Vec::new();
    encode_publish_parts(&mut bytes, "t", QoS::AtMostOnce, None, false, false, &[0; 500])
        .expect("valid");
    let at = |packet_bytes_max: usize| {
        decode(&bytes, &DecodeContext { level: Some(ProtocolLevel::V311), packet_bytes_max })
    };
    assert!(matches!(at(bytes.len()), Ok(Decoded::Packet { .. })));
    let too_large = DecodeError::TooLarge { bytes: bytes.len(), max: bytes.len() - 1 };
    assert_eq!(at(bytes.len() - 1), Err(too_large));
    // The fixed header alone is enough to know.
    let small = DecodeContext { level: Some(ProtocolLevel::V311), packet_bytes_max: 500 };
    assert_eq!(
        decode(&bytes[..3], &small),
        Err(DecodeError::TooLarge { bytes: bytes.len(), max: 500 })
    );
}

#[test]
fn the_longest_fields_fit_and_longer_ones_are_refused() {
    let longest = "a".repeat(STRING_BYTES_MAX);
    let longer = "a".repeat(STRING_BYTES_MAX + 1);
    let mut out = Vec::new();
    let qos = QoS::AtMostOnce;
    encode_publish_parts(&mut out, &longest, qos, None, false, false, b"").expect("fits");
    match decode_one(&out, Some(ProtocolLevel::V311)) {
        Packet::Publish(publish) => assert_eq!(publish.topic, longest),
        other => panic!("{other:?}"),
    }
    out.clear();
    let refused = encode_publish_parts(&mut out, &longer, qos, None, false, false, b"");
    assert_eq!(refused, Err(EncodeError::FieldTooLong { bytes: longer.len() }));

    let body = 2 + 1 + REMAINING_LENGTH_MAX;
    let huge = vec![0; REMAINING_LENGTH_MAX];
    let refused = encode_publish_parts(&mut out, "t", qos, None, false, false, &huge);
    assert_eq!(refused, Err(EncodeError::PacketTooLarge { bytes: body }));

    let mut buffer = PropertyBuffer::new(PropertyOwner::Publish);
    let refused = buffer.push(Property::ContentType(&longer));
    assert_eq!(refused, Err(EncodeError::FieldTooLong { bytes: longer.len() }));
    assert!(out.is_empty() && buffer.properties().is_empty(), "nothing was written");
}

#[test]
fn what_a_peer_would_refuse_is_not_written() {
    let mut out = Vec::new();
    let invalid = |clause| Err(EncodeError::Invalid { clause });
    let publish = |qos, id, dup, topic: &str| {
        encode_publish_parts(&mut Vec::new(), topic, qos, id, false, dup, b"")
    };
    assert_eq!(publish(QoS::AtLeastOnce, None, false, "t"), invalid(clause::PACKET_ID_ZERO));
    assert_eq!(publish(QoS::AtLeastOnce, Some(0), false, "t"), invalid(clause::PACKET_ID_ZERO));
    assert_eq!(publish(QoS::AtMostOnce, Some(1), false, "t"), invalid(clause::PACKET_ID_ZERO));
    assert_eq!(publish(QoS::AtMostOnce, None, true, "t"), invalid(clause::PUBLISH_DUP_QOS0));
    assert_eq!(publish(QoS::AtMostOnce, None, false, ""), invalid(clause::TOPIC_EMPTY));
    assert_eq!(encode_suback(1, &[], &mut out), invalid(clause::SUBACK_EMPTY));
    let in_v5 = [ReasonCode::NO_MATCHING_SUBSCRIBERS];
    assert_eq!(encode_suback(1, &in_v5, &mut out), invalid(clause::SUBACK_CODE));
    assert_eq!(encode_subscribe(1, &[], &mut out), invalid(clause::SUBSCRIBE_EMPTY));
    let filter = [("a/#/b", QoS::AtMostOnce)];
    assert_eq!(encode_subscribe(1, &filter, &mut out), invalid(clause::FILTER_MULTI_LEVEL));
    assert_eq!(encode_unsubscribe(0, &["a"], &mut out), invalid(clause::PACKET_ID_ZERO));
    assert!(out.is_empty());
}

#[test]
fn errors_of_mqtt_5_become_failure_in_a_suback_of_3_1_1() {
    let mut out = Vec::new();
    let codes = [ReasonCode::granted(QoS::AtLeastOnce), ReasonCode::NOT_AUTHORIZED];
    encode_suback(9, &codes, &mut out).expect("valid");
    assert_eq!(out, [0x90, 4, 0, 9, 1, 0x80]);
}

#[test]
fn secrets_and_payloads_are_not_shown() {
    let connect = Connect {
        level: ProtocolLevel::V311,
        clean_session: true,
        keep_alive_s: 60,
        client_id: "c",
        will: Some(Will {
            topic: "w",
            payload: b"hunter2",
            qos: QoS::AtMostOnce,
            retain: false,
            properties: Properties::EMPTY,
        }),
        username: Some("sensor1@acme"),
        password: Some(b"hunter2"),
        properties: Properties::EMPTY,
    };
    let shown =
        format!("{:?} {:?}", connect, Property::AuthenticationData(SecretBytes(b"hunter2")));
    assert!(shown.contains("sensor1@acme"));
    let bytes = format!("{:?}", b"hunter2");
    assert!(
        !shown.contains("hunter2") && !shown.contains(bytes.trim_matches(['[', ']'])),
        "{shown}"
    );
}
