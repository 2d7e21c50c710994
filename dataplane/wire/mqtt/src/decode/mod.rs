//! Decoding: the fixed header, then one function per packet.
//!
//! Checks run in the order that costs least: type and flags from the first byte, then the size, and
//! only then the body. So nobody can make a connection buffer what will be refused anyway.

mod connect;
mod subscription;

use crate::clause;
use crate::error::{DecodeError, malformed, protocol};
use crate::limits::FIXED_HEADER_BYTES_MAX;
use crate::packet::{ConnAck, ConnAckCode, Packet, ProtocolLevel, Publish, QoS};
use crate::property::value::Property;
use crate::property::{Properties, PropertyOwner};
use crate::reader::{Reader, variable_length};
use crate::reason::{ConnectReturnCode, ReasonCode};
use crate::topic;

/// What the decoder has to know about the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DecodeContext {
    /// The level CONNECT agreed on, `None` before it. With `None` only CONNECT is accepted
    /// [MQTT-3.1.0-1], with `Some` anything but CONNECT [MQTT-3.1.0-2].
    pub level: Option<ProtocolLevel>,
    /// Largest packet accepted, fixed header included.
    pub packet_bytes_max: usize,
}

/// What the front of a buffer holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decoded<'a> {
    /// A whole packet.
    Packet {
        /// The packet, borrowing from the buffer.
        packet: Packet<'a>,
        /// How many bytes it has: the next packet begins behind them.
        used: usize,
    },
    /// The beginning of a packet.
    NeedMore {
        /// The size the buffer must have before another call can get further. The exact size of
        /// the packet once its fixed header is there.
        at_least: usize,
    },
}

/// Decodes one packet from the front of `bytes`. Borrows, never allocates.
///
/// # Errors
/// The connection is beyond repair, see [`DecodeError`].
pub fn decode<'a>(bytes: &'a [u8], context: &DecodeContext) -> Result<Decoded<'a>, DecodeError> {
    let Some((&first, rest)) = bytes.split_first() else {
        return Ok(Decoded::NeedMore { at_least: 2 });
    };
    let packet_type = PacketType::parse(first, context.level)?;
    let Some((remaining, length_bytes)) = variable_length(rest)? else {
        debug_assert!(bytes.len() < FIXED_HEADER_BYTES_MAX, "four length bytes always decide");
        return Ok(Decoded::NeedMore { at_least: bytes.len() + 1 });
    };
    let header_bytes = 1 + length_bytes;
    let used = header_bytes + remaining;
    if used > context.packet_bytes_max {
        return Err(DecodeError::TooLarge { bytes: used, max: context.packet_bytes_max });
    }
    let Some(body) = bytes.get(header_bytes..used) else {
        return Ok(Decoded::NeedMore { at_least: used });
    };
    let level = context.level.unwrap_or(ProtocolLevel::V311);
    let packet = decode_body(packet_type, first, body, level)?;
    Ok(Decoded::Packet { packet, used })
}

/// The type in the high bits of the first byte (section 2.2.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PacketType {
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

impl PacketType {
    /// Reads the first byte of a packet and refuses what cannot become a valid one.
    fn parse(first: u8, level: Option<ProtocolLevel>) -> Result<Self, DecodeError> {
        let packet_type = match first >> 4 {
            1 => Self::Connect,
            2 => Self::ConnAck,
            3 => Self::Publish,
            4 => Self::PubAck,
            5 => Self::PubRec,
            6 => Self::PubRel,
            7 => Self::PubComp,
            8 => Self::Subscribe,
            9 => Self::SubAck,
            10 => Self::Unsubscribe,
            11 => Self::UnsubAck,
            12 => Self::PingReq,
            13 => Self::PingResp,
            14 => Self::Disconnect,
            // AUTH came with MQTT 5; 3.1.1 reserves 15, and both reserve 0.
            15 if level != Some(ProtocolLevel::V311) => Self::Auth,
            _ => return Err(malformed(clause::TYPE_RESERVED)),
        };
        match (level, packet_type) {
            (None, Self::Connect) => {}
            (None, _) => return Err(protocol(clause::CONNECT_FIRST)),
            (Some(_), Self::Connect) => return Err(protocol(clause::CONNECT_AGAIN)),
            (Some(_), _) => {}
        }
        packet_type.check_flags(first & 0x0F)?;
        Ok(packet_type)
    }

    /// [MQTT-2.2.2-1], [MQTT-2.2.2-2]: the low four bits are fixed, but for PUBLISH.
    fn check_flags(self, flags: u8) -> Result<(), DecodeError> {
        let expected = match self {
            Self::Publish => {
                let qos = (flags >> 1) & 0b11;
                let dup = flags & 0b1000 != 0;
                return match (qos, dup) {
                    (3, _) => Err(malformed(clause::PUBLISH_QOS_INVALID)),
                    (0, true) => Err(malformed(clause::PUBLISH_DUP_QOS0)),
                    _ => Ok(()),
                };
            }
            // [MQTT-3.6.1-1], [MQTT-3.8.1-1], [MQTT-3.10.1-1].
            Self::PubRel | Self::Subscribe | Self::Unsubscribe => 0b0010,
            _ => 0,
        };
        if flags == expected { Ok(()) } else { Err(malformed(clause::FLAGS_RESERVED)) }
    }
}

fn decode_body(
    packet_type: PacketType,
    first: u8,
    body: &[u8],
    level: ProtocolLevel,
) -> Result<Packet<'_>, DecodeError> {
    let reader = Reader::new(body);
    match packet_type {
        PacketType::Publish => publish(first, reader, level).map(Packet::Publish),
        PacketType::PubAck => {
            let (packet_id, reason, properties) =
                acknowledgement(reader, level, PropertyOwner::PubAck)?;
            Ok(Packet::PubAck { packet_id, reason, properties })
        }
        PacketType::PubRec => {
            let (packet_id, reason, properties) =
                acknowledgement(reader, level, PropertyOwner::PubRec)?;
            Ok(Packet::PubRec { packet_id, reason, properties })
        }
        PacketType::PubRel => {
            let (packet_id, reason, properties) =
                acknowledgement(reader, level, PropertyOwner::PubRel)?;
            Ok(Packet::PubRel { packet_id, reason, properties })
        }
        PacketType::PubComp => {
            let (packet_id, reason, properties) =
                acknowledgement(reader, level, PropertyOwner::PubComp)?;
            Ok(Packet::PubComp { packet_id, reason, properties })
        }
        PacketType::PingReq => reader.finish().map(|()| Packet::PingReq),
        PacketType::PingResp => reader.finish().map(|()| Packet::PingResp),
        PacketType::Connect => connect::connect(reader).map(Packet::Connect),
        PacketType::ConnAck => connack(reader, level).map(Packet::ConnAck),
        PacketType::Subscribe => subscription::subscribe(reader, level).map(Packet::Subscribe),
        PacketType::SubAck => subscription::suback(reader, level).map(Packet::SubAck),
        PacketType::Unsubscribe => {
            subscription::unsubscribe(reader, level).map(Packet::Unsubscribe)
        }
        PacketType::UnsubAck => subscription::unsuback(reader, level).map(Packet::UnsubAck),
        PacketType::Disconnect => {
            let (reason, properties) = ending(reader, level, PropertyOwner::Disconnect)?;
            Ok(Packet::Disconnect { reason, properties })
        }
        PacketType::Auth => {
            let (reason, properties) = ending(reader, level, PropertyOwner::Auth)?;
            Ok(Packet::Auth { reason, properties })
        }
    }
}

/// PUBLISH (section 3.3). The flags were checked with the first byte.
fn publish(
    first: u8,
    mut reader: Reader<'_>,
    level: ProtocolLevel,
) -> Result<Publish<'_>, DecodeError> {
    let qos = QoS::from_u8((first >> 1) & 0b11).ok_or(malformed(clause::PUBLISH_QOS_INVALID))?;
    let topic = topic_name(reader.binary()?)?;
    // [MQTT-2.3.1-5]: QoS 0 has no packet identifier.
    let packet_id = if qos == QoS::AtMostOnce { None } else { Some(reader.packet_id()?) };
    let properties = read_properties(&mut reader, level, PropertyOwner::Publish)?;
    if topic.is_empty() {
        check_topic_alias(level, properties)?;
    }
    Ok(Publish {
        topic,
        packet_id,
        qos,
        retain: first & 0b0001 != 0,
        dup: first & 0b1000 != 0,
        properties,
        payload: reader.take_rest(),
    })
}

/// A topic name that may be empty: all its byte rules in one pass, then UTF-8.
fn topic_name(bytes: &[u8]) -> Result<&str, DecodeError> {
    let mut forbidden = false;
    for &byte in bytes {
        forbidden |= matches!(byte, 0 | b'+' | b'#');
    }
    let text = std::str::from_utf8(bytes).map_err(|_| malformed(clause::UTF8_ILL_FORMED))?;
    if forbidden {
        topic::validate_topic(text)?;
    }
    Ok(text)
}

/// An empty topic name is an error [MQTT-4.7.3-1], unless MQTT 5's topic alias stands for it.
fn check_topic_alias(level: ProtocolLevel, properties: Properties<'_>) -> Result<(), DecodeError> {
    match level {
        ProtocolLevel::V311 => Err(malformed(clause::TOPIC_EMPTY)),
        ProtocolLevel::V5 => properties
            .iter()
            .any(|property| matches!(property, Property::TopicAlias(_)))
            .then_some(())
            .ok_or(protocol(clause::TOPIC_MISSING)),
    }
}

/// CONNACK (section 3.2).
fn connack(mut reader: Reader<'_>, level: ProtocolLevel) -> Result<ConnAck<'_>, DecodeError> {
    let session_present = match reader.byte()? {
        0 => false,
        1 => true,
        _ => return Err(malformed(clause::CONNACK_FLAGS_RESERVED)),
    };
    let value = reader.byte()?;
    let code = match level {
        ProtocolLevel::V311 => ConnectReturnCode::from_u8(value).map(ConnAckCode::V311),
        ProtocolLevel::V5 => {
            ReasonCode::in_packet(value, PropertyOwner::ConnAck).map(ConnAckCode::V5)
        }
    }
    .ok_or(protocol(clause::CONNACK_CODE))?;
    if session_present && !code.is_accepted() {
        return Err(protocol(clause::CONNACK_SESSION_PRESENT));
    }
    let properties = read_properties(&mut reader, level, PropertyOwner::ConnAck)?;
    reader.finish()?;
    Ok(ConnAck { session_present, code, properties })
}

/// PUBACK, PUBREC, PUBREL and PUBCOMP (sections 3.4 to 3.7). MQTT 5 may leave out a success reason
/// and the properties (section 3.4.2.1).
fn acknowledgement(
    mut reader: Reader<'_>,
    level: ProtocolLevel,
    carrier: PropertyOwner,
) -> Result<(u16, ReasonCode, Properties<'_>), DecodeError> {
    let packet_id = reader.packet_id()?;
    let (reason, properties) = reason_and_properties(&mut reader, level, carrier)?;
    reader.finish()?;
    Ok((packet_id, reason, properties))
}

/// DISCONNECT and AUTH (sections 3.14 and 3.15 of MQTT 5). 3.1.1 has DISCONNECT without a body.
fn ending(
    mut reader: Reader<'_>,
    level: ProtocolLevel,
    carrier: PropertyOwner,
) -> Result<(ReasonCode, Properties<'_>), DecodeError> {
    let (reason, properties) = reason_and_properties(&mut reader, level, carrier)?;
    reader.finish()?;
    Ok((reason, properties))
}

fn reason_and_properties<'a>(
    reader: &mut Reader<'a>,
    level: ProtocolLevel,
    carrier: PropertyOwner,
) -> Result<(ReasonCode, Properties<'a>), DecodeError> {
    if level == ProtocolLevel::V311 || reader.is_empty() {
        return Ok((ReasonCode::SUCCESS, Properties::EMPTY));
    }
    let reserved = match carrier {
        PropertyOwner::Disconnect => clause::DISCONNECT_CODE,
        PropertyOwner::Auth => clause::AUTH_CODE,
        _ => clause::ACK_CODE,
    };
    let reason = ReasonCode::in_packet(reader.byte()?, carrier).ok_or(protocol(reserved))?;
    let properties =
        if reader.is_empty() { Properties::EMPTY } else { Properties::read(reader, carrier)? };
    Ok((reason, properties))
}

fn read_properties<'a>(
    reader: &mut Reader<'a>,
    level: ProtocolLevel,
    owner: PropertyOwner,
) -> Result<Properties<'a>, DecodeError> {
    match level {
        ProtocolLevel::V311 => Ok(Properties::EMPTY),
        ProtocolLevel::V5 => Properties::read(reader, owner),
    }
}
