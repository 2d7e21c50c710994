//! Every packet of both versions, with every property and every reason code it may have, is read as it was written.

#![allow(clippy::panic, reason = "a panic is how a test fails")]

use fulcrum_mqtt::{
    ConnAck, ConnAckCode, Connect, ConnectReturnCode, DecodeContext, Decoded, EncodeError, Packet,
    Properties, Property, PropertyBuffer, PropertyOwner, ProtocolLevel, Publish, QoS, ReasonCode,
    RetainHandling, SecretBytes, SubscribeFilter, SubscribeOptions, Will, clause, decode,
    encode_packet, encode_suback, encode_unsuback, v5,
};
use proptest::prelude::*;
use std::collections::BTreeSet;

fn decode_one(bytes: &[u8], level: Option<ProtocolLevel>) -> Packet<'_> {
    let context = DecodeContext { level, packet_bytes_max: 1 << 20 };
    match decode(bytes, &context) {
        Ok(Decoded::Packet { packet, used }) if used == bytes.len() => packet,
        other => panic!("{other:?} from {bytes:02x?}"),
    }
}

fn read_back(packet: &Packet<'_>, level: ProtocolLevel) {
    let mut bytes = Vec::new();
    encode_packet(packet, level, &mut bytes).expect("a valid packet");
    let level = (!matches!(packet, Packet::Connect(_))).then_some(level);
    assert_eq!(decode_one(&bytes, level), *packet);
}

/// All 27 properties, the method before its data, and those that may repeat twice.
fn every_property<'a>(text: &'a str, other: &'a str, number: u32, flag: bool) -> Vec<Property<'a>> {
    vec![
        Property::PayloadFormatIndicator(flag),
        Property::MessageExpiryInterval(number),
        Property::ContentType(text),
        Property::ResponseTopic(other),
        Property::CorrelationData(text.as_bytes()),
        Property::SubscriptionIdentifier(number % 268_435_455 + 1),
        Property::SubscriptionIdentifier(number % 200 + 1),
        Property::SessionExpiryInterval(number),
        Property::AssignedClientIdentifier(text),
        Property::ServerKeepAlive(number as u16),
        Property::AuthenticationMethod(text),
        Property::AuthenticationData(SecretBytes(other.as_bytes())),
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
        Property::UserProperty(text, other),
        Property::UserProperty("", text),
        Property::MaximumPacketSize(number | 1),
        Property::WildcardSubscriptionAvailable(flag),
        Property::SubscriptionIdentifierAvailable(flag),
        Property::SharedSubscriptionAvailable(flag),
    ]
}

/// The first packet there is with such a block, written.
fn packet_of(owner: PropertyOwner, properties: Properties<'_>) -> Vec<u8> {
    let (packet_id, reason) = (7, ReasonCode::SUCCESS);
    let mut out = Vec::new();
    let asked = SubscribeFilter { filter: "a", options: SubscribeOptions::qos(QoS::AtMostOnce) };
    let codes = [ReasonCode::SUCCESS];
    let packet = match owner {
        PropertyOwner::Connect | PropertyOwner::Will => {
            let (own, of_will) = match owner {
                PropertyOwner::Connect => (properties, None),
                _ => (Properties::EMPTY, Some(properties)),
            };
            let qos = QoS::AtLeastOnce;
            let will =
                |properties| Will { topic: "w", payload: b"w", qos, retain: true, properties };
            Packet::Connect(Connect {
                level: ProtocolLevel::V5,
                clean_session: true,
                keep_alive_s: 10,
                client_id: "c",
                will: of_will.map(will),
                username: None,
                password: Some(b"p"),
                properties: own,
            })
        }
        PropertyOwner::ConnAck => {
            let code = ConnAckCode::V5(reason);
            Packet::ConnAck(ConnAck { session_present: true, code, properties })
        }
        PropertyOwner::Publish => Packet::Publish(Publish {
            topic: "t",
            packet_id: Some(packet_id),
            qos: QoS::ExactlyOnce,
            retain: false,
            dup: true,
            properties,
            payload: b"x",
        }),
        PropertyOwner::PubAck => Packet::PubAck { packet_id, reason, properties },
        PropertyOwner::PubRec => Packet::PubRec { packet_id, reason, properties },
        PropertyOwner::PubRel => Packet::PubRel { packet_id, reason, properties },
        PropertyOwner::PubComp => Packet::PubComp { packet_id, reason, properties },
        PropertyOwner::Disconnect => Packet::Disconnect { reason, properties },
        PropertyOwner::Auth => Packet::Auth { reason, properties },
        lists => {
            let written = match lists {
                PropertyOwner::Subscribe => {
                    v5::encode_subscribe(packet_id, properties, [asked], &mut out)
                }
                PropertyOwner::SubAck => v5::encode_suback(packet_id, properties, &codes, &mut out),
                PropertyOwner::Unsubscribe => {
                    v5::encode_unsubscribe(packet_id, properties, ["a"], &mut out)
                }
                _ => v5::encode_unsuback(packet_id, properties, &codes, &mut out),
            };
            written.expect("a valid packet");
            return out;
        }
    };
    encode_packet(&packet, ProtocolLevel::V5, &mut out).expect("a valid packet");
    out
}

fn properties_of<'a>(owner: PropertyOwner, packet: Packet<'a>) -> Properties<'a> {
    match packet {
        Packet::Connect(connect) if owner == PropertyOwner::Will => {
            connect.will.expect("it was written").properties
        }
        Packet::Connect(connect) => connect.properties,
        Packet::ConnAck(connack) => connack.properties,
        Packet::Publish(publish) => publish.properties,
        Packet::Subscribe(subscribe) => subscribe.properties,
        Packet::SubAck(suback) => suback.properties,
        Packet::Unsubscribe(unsubscribe) => unsubscribe.properties,
        Packet::UnsubAck(unsuback) => unsuback.properties,
        Packet::PubAck { properties, .. }
        | Packet::PubRec { properties, .. }
        | Packet::PubRel { properties, .. }
        | Packet::PubComp { properties, .. }
        | Packet::Disconnect { properties, .. }
        | Packet::Auth { properties, .. } => properties,
        Packet::PingReq | Packet::PingResp => Properties::EMPTY,
    }
}

proptest! {
    #[test]
    fn every_property_is_read_with_its_value_from_every_packet_that_may_have_it(
        text in "[a-z0-9ü日𝄞/ ]{0,40}", other in "[a-z0-9ü日/ ]{1,40}", number: u32, flag: bool,
        order in any::<prop::sample::Index>(),
    ) {
        let mut seen = BTreeSet::new();
        for owner in PropertyOwner::ALL {
            let mut block = PropertyBuffer::new(owner);
            let mut pushed = Vec::new();
            let mut all = every_property(&text, &other, number, flag);
            // Any order is allowed but for authentication data, which our writer wants behind its method.
            let start = order.index(all.len());
            all.rotate_left(start);
            for property in all {
                if block.push(property).is_ok() {
                    pushed.push(property);
                    seen.insert(property.identifier());
                }
            }
            let bytes = packet_of(owner, block.properties());
            let packet = decode_one(&bytes, (owner != PropertyOwner::Connect
                && owner != PropertyOwner::Will).then_some(ProtocolLevel::V5));
            let read: Vec<_> = properties_of(owner, packet).iter().collect();
            prop_assert_eq!(read, pushed, "{:?}", owner);
        }
        prop_assert!(seen.len() >= 26, "only authentication data may be left out: {:?}", seen);
    }

    #[test]
    fn lists_of_mqtt_5_are_read_in_their_order(
        filters in prop::collection::vec(("[a-z/+]{0,1}|[a-zü]{1,9}/#", 0u8..3, 0u8..16), 1..9),
        id in 1u16..,
    ) {
        let asked: Vec<SubscribeFilter<'_>> = filters.iter().map(|(filter, qos, bits)| {
            let handling = [
                RetainHandling::Send, RetainHandling::SendIfNew, RetainHandling::DoNotSend,
            ];
            let options = SubscribeOptions {
                qos: QoS::from_u8(*qos).expect("below three"),
                no_local: bits & 1 != 0,
                retain_as_published: bits & 2 != 0,
                retain_handling: handling[usize::from(bits >> 2) % 3],
            };
            SubscribeFilter { filter: if filter.is_empty() { "x" } else { filter }, options }
        }).collect();
        let mut bytes = Vec::new();
        v5::encode_subscribe(id, Properties::EMPTY, asked.iter().copied(), &mut bytes).expect("valid");
        let Packet::Subscribe(read) = decode_one(&bytes, Some(ProtocolLevel::V5)) else {
            panic!("SUBSCRIBE")
        };
        prop_assert_eq!(read.packet_id, id);
        prop_assert_eq!(read.filters().collect::<Vec<_>>(), asked.clone());
        bytes.clear();
        let ended = asked.iter().map(|one| one.filter);
        v5::encode_unsubscribe(id, Properties::EMPTY, ended.clone(), &mut bytes).expect("valid");
        let Packet::Unsubscribe(read) = decode_one(&bytes, Some(ProtocolLevel::V5)) else {
            panic!("UNSUBSCRIBE")
        };
        prop_assert_eq!((read.packet_id, read.filter_count()), (id, asked.len()));
        prop_assert!(read.filters().eq(ended));
    }

    #[test]
    fn the_packets_of_3_1_1_are_read_back(
        packet_id in 1u16.., present: bool, return_code in 0u8..6,
        granted in prop::collection::vec(0usize..4, 1..20),
    ) {
        let level = ProtocolLevel::V311;
        let (reason, properties) = (ReasonCode::SUCCESS, Properties::EMPTY);
        let code = ConnectReturnCode::from_u8(return_code).expect("one of six");
        // Refused connections have no session [MQTT-3.2.2-4].
        let session_present = present && code == ConnectReturnCode::Accepted;
        let connack = ConnAck { session_present, code: ConnAckCode::V311(code), properties };
        for packet in [
            Packet::ConnAck(connack),
            Packet::PubAck { packet_id, reason, properties },
            Packet::PubRec { packet_id, reason, properties },
            Packet::PubRel { packet_id, reason, properties },
            Packet::PubComp { packet_id, reason, properties },
            Packet::PingReq,
            Packet::PingResp,
            Packet::Disconnect { reason, properties },
        ] {
            read_back(&packet, level);
        }
        let all = [
            ReasonCode::GRANTED_QOS_0, ReasonCode::GRANTED_QOS_1, ReasonCode::GRANTED_QOS_2,
            ReasonCode::UNSPECIFIED_ERROR,
        ];
        let codes: Vec<_> = granted.iter().map(|place| all[*place]).collect();
        let mut bytes = Vec::new();
        encode_suback(packet_id, &codes, &mut bytes).expect("valid");
        let Packet::SubAck(read) = decode_one(&bytes, Some(level)) else { panic!("SUBACK") };
        prop_assert_eq!((read.packet_id, read.codes.iter().collect::<Vec<_>>()), (packet_id, codes));
        bytes.clear();
        encode_unsuback(packet_id, &mut bytes);
        let Packet::UnsubAck(read) = decode_one(&bytes, Some(level)) else { panic!("UNSUBACK") };
        prop_assert_eq!((read.packet_id, read.codes.is_empty()), (packet_id, true));
    }
}

/// First byte, what stands before the code, what behind it, and the codes.
type Reasons = (u8, &'static [u8], &'static [u8], &'static [u8]);

/// MQTT 5 section 2.4.
const REASONS: [Reasons; 9] = [
    (
        0x20,
        &[0],
        &[0],
        &[
            0x00, 0x80, 0x81, 0x82, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8A, 0x8C, 0x90,
            0x95, 0x97, 0x99, 0x9A, 0x9B, 0x9C, 0x9D, 0x9F,
        ],
    ),
    (0x40, &[0, 7], &[], &[0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99]),
    (0x50, &[0, 7], &[], &[0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99]),
    (0x62, &[0, 7], &[], &[0x00, 0x92]),
    (0x70, &[0, 7], &[], &[0x00, 0x92]),
    (
        0x90,
        &[0, 7, 0],
        &[],
        &[0x00, 0x01, 0x02, 0x80, 0x83, 0x87, 0x8F, 0x91, 0x97, 0x9E, 0xA1, 0xA2],
    ),
    (0xB0, &[0, 7, 0], &[], &[0x00, 0x11, 0x80, 0x83, 0x87, 0x8F, 0x91]),
    (
        0xE0,
        &[],
        &[],
        &[
            0x00, 0x04, 0x80, 0x81, 0x82, 0x83, 0x87, 0x89, 0x8B, 0x8D, 0x8E, 0x8F, 0x90, 0x93,
            0x94, 0x95, 0x96, 0x97, 0x98, 0x99, 0x9A, 0x9B, 0x9C, 0x9D, 0x9E, 0x9F, 0xA0, 0xA1,
            0xA2,
        ],
    ),
    (0xF0, &[], &[], &[0x00, 0x18, 0x19]),
];

#[test]
fn each_packet_takes_the_reason_codes_of_its_column_and_no_others() {
    let context = DecodeContext { level: Some(ProtocolLevel::V5), packet_bytes_max: 100 };
    for (first, before, behind, codes) in REASONS {
        for value in 0..=u8::MAX {
            let body = [before, &[value], behind].concat();
            let bytes = [&[first, body.len() as u8], body.as_slice()].concat();
            let decoded = decode(&bytes, &context);
            assert_eq!(decoded.is_ok(), codes.contains(&value), "{value:#x} in {first:#x}");
            let Ok(Decoded::Packet { packet, .. }) = decoded else { continue };
            read_back(&packet, ProtocolLevel::V5);
        }
    }
}

#[test]
fn no_local_is_not_written_for_a_shared_subscription() {
    let options = SubscribeOptions { no_local: true, ..SubscribeOptions::qos(QoS::AtMostOnce) };
    let asked = SubscribeFilter { filter: "$share/g/a", options };
    let mut out = Vec::new();
    let refused = v5::encode_subscribe(1, Properties::EMPTY, [asked], &mut out);
    let clause = clause::SUBSCRIBE_SHARED_NO_LOCAL;
    assert_eq!((refused, out.len()), (Err(EncodeError::Invalid { clause }), 0));
}

#[test]
fn a_shared_subscription_without_a_filter_is_neither_asked_for_nor_ended() {
    let mut out = Vec::new();
    let refused = Err(EncodeError::Invalid { clause: clause::SHARE_NAME });
    for filter in ["$share/", "$share/g", "$share//a", "$share/+/a"] {
        let asked = SubscribeFilter { filter, options: SubscribeOptions::qos(QoS::AtMostOnce) };
        assert_eq!(v5::encode_subscribe(1, Properties::EMPTY, [asked], &mut out), refused);
        assert_eq!(v5::encode_unsubscribe(1, Properties::EMPTY, [filter], &mut out), refused);
    }
    assert!(out.is_empty());
}

#[test]
fn the_properties_are_all_there_are() {
    let identifiers: BTreeSet<u8> =
        every_property("x", "y", 1, true).iter().map(Property::identifier).collect();
    assert_eq!(identifiers.len(), 27, "{identifiers:x?}");
}
