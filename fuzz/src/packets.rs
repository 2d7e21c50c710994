//! Valid packets of every kind, made from a script.
//!
//! Deliberately absent: packets that break a rule; those are bytes nobody had to make.

use fulcrum_mqtt::{
    ConnAck, ConnAckCode, Connect, ConnectReturnCode, EncodeError, Packet, Properties, Property,
    PropertyBuffer, PropertyOwner, ProtocolLevel, Publish, QoS, ReasonCode, RetainHandling,
    SecretBytes, SubscribeFilter, SubscribeOptions, Will, encode_packet, encode_suback,
    encode_subscribe, encode_unsuback, encode_unsubscribe, v5,
};

use crate::script::Script;

/// A packet to be written. Lists are slices here, where a packet that was read has views of its bytes.
#[derive(Debug)]
pub enum Made<'a> {
    /// One without a list.
    Packet(Packet<'a>),
    /// SUBSCRIBE.
    Subscribe(u16, Properties<'a>, &'a [SubscribeFilter<'a>]),
    /// SUBACK.
    SubAck(u16, Properties<'a>, &'a [ReasonCode]),
    /// UNSUBSCRIBE.
    Unsubscribe(u16, Properties<'a>, &'a [&'a str]),
    /// UNSUBACK; without codes in 3.1.1.
    UnsubAck(u16, Properties<'a>, &'a [ReasonCode]),
}

impl Made<'_> {
    /// Appends it.
    pub fn encode(&self, level: ProtocolLevel, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let is_v5 = level == ProtocolLevel::V5;
        match self {
            Self::Packet(packet) => encode_packet(packet, level, out),
            Self::Subscribe(id, properties, filters) if is_v5 => {
                v5::encode_subscribe(*id, *properties, filters.iter().copied(), out)
            }
            Self::Subscribe(id, _, filters) => {
                let asked: Vec<_> =
                    filters.iter().map(|one| (one.filter, one.options.qos)).collect();
                encode_subscribe(*id, &asked, out)
            }
            Self::SubAck(id, properties, codes) if is_v5 => {
                v5::encode_suback(*id, *properties, codes, out)
            }
            Self::SubAck(id, _, codes) => encode_suback(*id, codes, out),
            Self::Unsubscribe(id, properties, filters) if is_v5 => {
                v5::encode_unsubscribe(*id, *properties, filters.iter().copied(), out)
            }
            Self::Unsubscribe(id, _, filters) => encode_unsubscribe(*id, filters, out),
            Self::UnsubAck(id, properties, codes) if is_v5 => {
                v5::encode_unsuback(*id, *properties, codes, out)
            }
            Self::UnsubAck(id, ..) => {
                encode_unsuback(*id, out);
                Ok(())
            }
        }
    }

    /// Whether a packet that was read says what this one does.
    pub fn is(&self, read: &Packet<'_>) -> bool {
        match (self, read) {
            (Self::Packet(made), read) => made == read,
            (Self::Subscribe(id, properties, filters), Packet::Subscribe(read)) => {
                (*id, *properties) == (read.packet_id, read.properties)
                    && read.filters().eq(filters.iter().copied())
            }
            (Self::SubAck(id, properties, codes), Packet::SubAck(read)) => {
                (*id, *properties) == (read.packet_id, read.properties)
                    && read.codes.iter().eq(codes.iter().copied())
            }
            (Self::Unsubscribe(id, properties, filters), Packet::Unsubscribe(read)) => {
                (*id, *properties) == (read.packet_id, read.properties)
                    && read.filters().eq(filters.iter().copied())
            }
            (Self::UnsubAck(id, properties, codes), Packet::UnsubAck(read)) => {
                (*id, *properties) == (read.packet_id, read.properties)
                    && read.codes.iter().eq(codes.iter().copied())
            }
            _ => false,
        }
    }
}

/// The kinds of packets, in the order of their numbers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "named as in the specification")]
pub enum Kind {
    Connect,
    ConnAck,
    Publish,
    PubAck,
    PubRec,
    PubRel,
    PubComp,
    Subscribe,
    SubAck,
    Unsubscribe,
    UnsubAck,
    PingReq,
    PingResp,
    Disconnect,
    Auth,
}

/// All kinds.
pub const KINDS: [Kind; 15] = [
    Kind::Connect,
    Kind::ConnAck,
    Kind::Publish,
    Kind::PubAck,
    Kind::PubRec,
    Kind::PubRel,
    Kind::PubComp,
    Kind::Subscribe,
    Kind::SubAck,
    Kind::Unsubscribe,
    Kind::UnsubAck,
    Kind::PingReq,
    Kind::PingResp,
    Kind::Disconnect,
    Kind::Auth,
];

/// Names a broker and a device API may care about.
const TOPICS: [&str; 14] = [
    "a",
    "a/b",
    "a/b/c",
    "/",
    "$SYS/broker",
    "telemetry",
    "t/acme/dev",
    "event/?content-type=x&ttl=5",
    "e//behind",
    "command///req//run",
    "command///res/1/200",
    "c/acme/dev/s/1/200",
    "ü/日",
    "a/b/",
];

const FILTERS: [&str; 14] = [
    "#",
    "+",
    "a/#",
    "a/+",
    "+/b",
    "a/b",
    "$share/g/a/#",
    "$share/h/+/b/#",
    "$SYS/#",
    "command///req/#",
    "c///q/#",
    "telemetry/acme",
    "error/acme/dev/#",
    "/+",
];

/// Makes one packet of `kind` and shows it. What the level does not have (AUTH in 3.1.1) becomes PINGREQ.
pub fn make(
    script: &mut Script<'_>,
    kind: Kind,
    level: ProtocolLevel,
    show: impl FnOnce(Made<'_>),
) {
    let is_v5 = level == ProtocolLevel::V5;
    let properties = |script: &mut Script<'_>, owner| match is_v5 {
        true => property_block(script, owner),
        false => PropertyBuffer::new(owner),
    };
    match kind {
        Kind::Connect => {
            let of_connect = properties(script, PropertyOwner::Connect);
            let of_will = properties(script, PropertyOwner::Will);
            show(Made::Packet(connect(script, level, &of_connect, &of_will)));
        }
        Kind::ConnAck => {
            let block = properties(script, PropertyOwner::ConnAck);
            let (code, accepted) = connack_code(script, is_v5);
            show(Made::Packet(Packet::ConnAck(ConnAck {
                session_present: accepted && script.flag(),
                code,
                properties: block.properties(),
            })));
        }
        Kind::Publish => {
            let block = properties(script, PropertyOwner::Publish);
            show(Made::Packet(Packet::Publish(publish(script, &block))));
        }
        Kind::PubAck | Kind::PubRec | Kind::PubRel | Kind::PubComp => {
            acknowledgement(script, kind, is_v5, show);
        }
        Kind::Subscribe => {
            let block = properties(script, PropertyOwner::Subscribe);
            let id = packet_id(script);
            let filters: Vec<_> = list(script, |script| SubscribeFilter {
                filter: filter(script),
                options: match is_v5 {
                    true => options(script),
                    false => SubscribeOptions::qos(qos(script)),
                },
            });
            show(Made::Subscribe(id, block.properties(), &filters));
        }
        Kind::Unsubscribe => {
            let block = properties(script, PropertyOwner::Unsubscribe);
            let id = packet_id(script);
            let filters = list(script, filter);
            show(Made::Unsubscribe(id, block.properties(), &filters));
        }
        Kind::SubAck => {
            let block = properties(script, PropertyOwner::SubAck);
            let id = packet_id(script);
            let codes = list(script, |script| match is_v5 {
                true => script.one_of(&SUBACK),
                false => script.one_of(&SUBACK[..4]),
            });
            show(Made::SubAck(id, block.properties(), &codes));
        }
        Kind::UnsubAck => {
            let block = properties(script, PropertyOwner::UnsubAck);
            let id = packet_id(script);
            let codes = list(script, |script| script.one_of(&UNSUBACK));
            let codes = if is_v5 { &codes[..] } else { &[] };
            show(Made::UnsubAck(id, block.properties(), codes));
        }
        Kind::PingResp => show(Made::Packet(Packet::PingResp)),
        Kind::Disconnect => {
            let block = properties(script, PropertyOwner::Disconnect);
            let reason = match is_v5 {
                true => script.one_of(&DISCONNECT),
                false => ReasonCode::SUCCESS,
            };
            let properties = block.properties();
            show(Made::Packet(Packet::Disconnect { reason, properties }));
        }
        Kind::Auth if is_v5 => {
            let block = properties(script, PropertyOwner::Auth);
            let reason = script.one_of(&AUTH);
            show(Made::Packet(Packet::Auth { reason, properties: block.properties() }));
        }
        Kind::PingReq | Kind::Auth => show(Made::Packet(Packet::PingReq)),
    }
}

fn acknowledgement(script: &mut Script<'_>, kind: Kind, is_v5: bool, show: impl FnOnce(Made<'_>)) {
    let (owner, reasons) = match kind {
        Kind::PubAck => (PropertyOwner::PubAck, &PUBACK[..]),
        Kind::PubRec => (PropertyOwner::PubRec, &PUBACK[..]),
        Kind::PubRel => (PropertyOwner::PubRel, &PUBREL[..]),
        _ => (PropertyOwner::PubComp, &PUBREL[..]),
    };
    let block = match is_v5 {
        true => property_block(script, owner),
        false => PropertyBuffer::new(owner),
    };
    let packet_id = packet_id(script);
    let reason = if is_v5 { script.one_of(reasons) } else { ReasonCode::SUCCESS };
    let properties = block.properties();
    show(Made::Packet(match kind {
        Kind::PubAck => Packet::PubAck { packet_id, reason, properties },
        Kind::PubRec => Packet::PubRec { packet_id, reason, properties },
        Kind::PubRel => Packet::PubRel { packet_id, reason, properties },
        _ => Packet::PubComp { packet_id, reason, properties },
    }));
}

fn connect<'a, 's: 'a>(
    script: &mut Script<'s>,
    level: ProtocolLevel,
    of_connect: &'a PropertyBuffer,
    of_will: &'a PropertyBuffer,
) -> Packet<'a> {
    let client_id = script.text();
    let username = script.flag().then(|| script.text());
    let may_have_password = level == ProtocolLevel::V5 || username.is_some();
    Packet::Connect(Connect {
        level,
        // Without an identifier a 3.1.1 session cannot be kept [MQTT-3.1.3-7].
        clean_session: client_id.is_empty() || script.flag(),
        keep_alive_s: script.short(),
        client_id,
        will: script.flag().then(|| will(script, of_will)),
        username,
        password: (may_have_password && script.flag()).then(|| script.bytes()),
        properties: of_connect.properties(),
    })
}

/// A will.
pub fn will<'a, 's: 'a>(script: &mut Script<'s>, block: &'a PropertyBuffer) -> Will<'a> {
    Will {
        topic: topic(script),
        payload: script.bytes(),
        qos: qos(script),
        retain: script.flag(),
        properties: block.properties(),
    }
}

fn publish<'a, 's: 'a>(script: &mut Script<'s>, block: &'a PropertyBuffer) -> Publish<'a> {
    let aliased = block.properties().iter().any(|one| matches!(one, Property::TopicAlias(_)));
    let qos = qos(script);
    Publish {
        topic: if aliased && script.flag() { "" } else { topic(script) },
        packet_id: (qos != QoS::AtMostOnce).then(|| packet_id(script)),
        qos,
        retain: script.flag(),
        dup: qos != QoS::AtMostOnce && script.flag(),
        properties: block.properties(),
        payload: script.bytes(),
    }
}

/// A block with properties its owner may have, some twice where that is allowed.
pub fn property_block(script: &mut Script<'_>, owner: PropertyOwner) -> PropertyBuffer {
    let mut block = PropertyBuffer::new(owner);
    for _ in 0..script.byte() % 8 {
        // Refused where it is not permitted or there already.
        let _ = block.push(property(script));
    }
    block
}

fn property<'a>(script: &mut Script<'a>) -> Property<'a> {
    match script.byte() % 27 {
        0 => Property::PayloadFormatIndicator(script.flag()),
        1 => Property::MessageExpiryInterval(script.number()),
        2 => Property::ContentType(script.text()),
        3 => Property::ResponseTopic(topic(script)),
        4 => Property::CorrelationData(script.bytes()),
        5 => Property::SubscriptionIdentifier(script.number()),
        6 => Property::SessionExpiryInterval(script.number()),
        7 => Property::AssignedClientIdentifier(script.text()),
        8 => Property::ServerKeepAlive(script.short()),
        9 => Property::AuthenticationMethod(script.text()),
        10 => Property::AuthenticationData(SecretBytes(script.bytes())),
        11 => Property::RequestProblemInformation(script.flag()),
        12 => Property::WillDelayInterval(script.number()),
        13 => Property::RequestResponseInformation(script.flag()),
        14 => Property::ResponseInformation(script.text()),
        15 => Property::ServerReference(script.text()),
        16 => Property::ReasonString(script.text()),
        17 => Property::ReceiveMaximum(script.short()),
        18 => Property::TopicAliasMaximum(script.short()),
        19 => Property::TopicAlias(script.number() as u16),
        20 => Property::MaximumQoS(qos(script)),
        21 => Property::RetainAvailable(script.flag()),
        22 => Property::UserProperty(script.text(), script.text()),
        23 => Property::MaximumPacketSize(script.number()),
        24 => Property::WildcardSubscriptionAvailable(script.flag()),
        25 => Property::SubscriptionIdentifierAvailable(script.flag()),
        _ => Property::SharedSubscriptionAvailable(script.flag()),
    }
}

fn list<'a, T>(script: &mut Script<'a>, mut one: impl FnMut(&mut Script<'a>) -> T) -> Vec<T> {
    (0..=script.byte() % 4).map(|_| one(script)).collect()
}

fn topic<'a>(script: &mut Script<'a>) -> &'a str {
    match script.byte() {
        own @ 0..=0xDF => TOPICS[usize::from(own) % TOPICS.len()],
        _ => Some(script.text()).filter(|text| !text.is_empty()).unwrap_or("a"),
    }
}

fn filter<'a>(script: &mut Script<'a>) -> &'a str {
    match script.byte() {
        own @ 0..=0xDF => FILTERS[usize::from(own) % FILTERS.len()],
        _ => Some(script.text()).filter(|text| !text.is_empty()).unwrap_or("a"),
    }
}

fn packet_id(script: &mut Script<'_>) -> u16 {
    (script.number() as u16).max(1)
}

fn qos(script: &mut Script<'_>) -> QoS {
    script.one_of(&[QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce])
}

fn options(script: &mut Script<'_>) -> SubscribeOptions {
    SubscribeOptions {
        qos: qos(script),
        no_local: script.flag(),
        retain_as_published: script.flag(),
        retain_handling: script.one_of(&[
            RetainHandling::Send,
            RetainHandling::SendIfNew,
            RetainHandling::DoNotSend,
        ]),
    }
}

fn connack_code(script: &mut Script<'_>, is_v5: bool) -> (ConnAckCode, bool) {
    if is_v5 {
        let reason = script.one_of(&CONNACK);
        return (ConnAckCode::V5(reason), !reason.is_error());
    }
    let code = ConnectReturnCode::from_u8(script.byte() % 6).unwrap_or(ConnectReturnCode::Accepted);
    (ConnAckCode::V311(code), code == ConnectReturnCode::Accepted)
}

const CONNACK: [ReasonCode; 6] = [
    ReasonCode::SUCCESS,
    ReasonCode::UNSPECIFIED_ERROR,
    ReasonCode::NOT_AUTHORIZED,
    ReasonCode::TOPIC_NAME_INVALID,
    ReasonCode::QOS_NOT_SUPPORTED,
    ReasonCode::CONNECTION_RATE_EXCEEDED,
];

const PUBACK: [ReasonCode; 5] = [
    ReasonCode::SUCCESS,
    ReasonCode::NO_MATCHING_SUBSCRIBERS,
    ReasonCode::NOT_AUTHORIZED,
    ReasonCode::QUOTA_EXCEEDED,
    ReasonCode::PAYLOAD_FORMAT_INVALID,
];

const PUBREL: [ReasonCode; 2] = [ReasonCode::SUCCESS, ReasonCode::PACKET_IDENTIFIER_NOT_FOUND];

/// The first four are those of 3.1.1.
const SUBACK: [ReasonCode; 7] = [
    ReasonCode::GRANTED_QOS_0,
    ReasonCode::GRANTED_QOS_1,
    ReasonCode::GRANTED_QOS_2,
    ReasonCode::UNSPECIFIED_ERROR,
    ReasonCode::TOPIC_FILTER_INVALID,
    ReasonCode::SHARED_SUBSCRIPTIONS_NOT_SUPPORTED,
    ReasonCode::WILDCARD_SUBSCRIPTIONS_NOT_SUPPORTED,
];

const UNSUBACK: [ReasonCode; 3] =
    [ReasonCode::SUCCESS, ReasonCode::NO_SUBSCRIPTION_EXISTED, ReasonCode::NOT_AUTHORIZED];

const DISCONNECT: [ReasonCode; 5] = [
    ReasonCode::NORMAL_DISCONNECTION,
    ReasonCode::DISCONNECT_WITH_WILL,
    ReasonCode::PROTOCOL_ERROR,
    ReasonCode::SESSION_TAKEN_OVER,
    ReasonCode::WILDCARD_SUBSCRIPTIONS_NOT_SUPPORTED,
];

const AUTH: [ReasonCode; 3] =
    [ReasonCode::SUCCESS, ReasonCode::CONTINUE_AUTHENTICATION, ReasonCode::REAUTHENTICATE];
