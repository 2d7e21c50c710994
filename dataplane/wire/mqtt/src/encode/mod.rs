//! Encoding: packets appended to a buffer of the caller's.
//!
//! The functions here are the server's side of 3.1.1; [`client`] is the other side, [`v5`] has the
//! packets that read differently in MQTT 5, and [`encode_packet`] writes whatever was decoded.
//! A function that returns an error has appended nothing. What a peer would refuse is not written.

pub mod client;
pub mod v5;
mod write;

use crate::clause;
use crate::error::EncodeError;
use crate::limits::{REMAINING_LENGTH_MAX, STRING_BYTES_MAX};
use crate::packet::{ConnAckCode, Packet, ProtocolLevel, Publish, PublishOut, QoS};
use crate::reason::{ConnectReturnCode, ReasonCode};
use crate::topic;

use write::{frame, push_field};
pub(crate) use write::{write_field, write_variable_length};

/// First bytes of the packets: type and fixed flags (section 2.2).
mod first_byte {
    pub(super) const CONNECT: u8 = 0x10;
    pub(super) const CONNACK: u8 = 0x20;
    pub(super) const PUBLISH: u8 = 0x30;
    pub(super) const PUBACK: u8 = 0x40;
    pub(super) const PUBREC: u8 = 0x50;
    pub(super) const PUBREL: u8 = 0x62;
    pub(super) const PUBCOMP: u8 = 0x70;
    pub(super) const SUBSCRIBE: u8 = 0x82;
    pub(super) const SUBACK: u8 = 0x90;
    pub(super) const UNSUBSCRIBE: u8 = 0xA2;
    pub(super) const UNSUBACK: u8 = 0xB0;
    pub(super) const PINGREQ: u8 = 0xC0;
    pub(super) const PINGRESP: u8 = 0xD0;
    pub(super) const DISCONNECT: u8 = 0xE0;
    pub(super) const AUTH: u8 = 0xF0;
}

/// CONNACK of 3.1.1. A refusal never says that a session is present [MQTT-3.2.2-4].
pub fn encode_connack(session_present: bool, code: ConnectReturnCode, out: &mut Vec<u8>) {
    let present = session_present && code == ConnectReturnCode::Accepted;
    out.extend_from_slice(&[first_byte::CONNACK, 2, u8::from(present), code.as_u8()]);
}

/// PUBLISH of 3.1.1; properties are left out, 3.1.1 has none.
///
/// # Errors
/// An invalid topic name, too long a topic or payload, a packet identifier that does not fit the
/// QoS, or DUP with QoS 0.
pub fn encode_publish(publish: &PublishOut<'_>, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    topic::validate_topic(publish.topic)
        .map_err(|error| EncodeError::Invalid { clause: error.clause })?;
    let Publish { topic, qos, packet_id, retain, dup, payload, properties: _ } = *publish;
    encode_publish_parts(out, topic, qos, packet_id, retain, dup, payload)
}

/// PUBLISH of 3.1.1 from its parts: the path of every delivered message. The topic must be valid,
/// only its length is checked.
///
/// # Errors
/// As [`encode_publish`].
pub fn encode_publish_parts(
    out: &mut Vec<u8>,
    topic: &str,
    qos: QoS,
    packet_id: Option<u16>,
    retain: bool,
    dup: bool,
    payload: &[u8],
) -> Result<(), EncodeError> {
    check_publish(qos, packet_id, dup)?;
    if topic.is_empty() {
        return Err(EncodeError::Invalid { clause: clause::TOPIC_EMPTY });
    }
    if topic.len() > STRING_BYTES_MAX {
        return Err(EncodeError::FieldTooLong { bytes: topic.len() });
    }
    let id_bytes = if packet_id.is_some() { 2 } else { 0 };
    let body = 2 + topic.len() + id_bytes + payload.len();
    if body > REMAINING_LENGTH_MAX {
        return Err(EncodeError::PacketTooLarge { bytes: body });
    }
    out.reserve(crate::limits::FIXED_HEADER_BYTES_MAX + body);
    out.push(publish_first_byte(qos, retain, dup));
    write_variable_length(body, out);
    write_field(topic.as_bytes(), out);
    if let Some(packet_id) = packet_id {
        out.extend_from_slice(&packet_id.to_be_bytes());
    }
    out.extend_from_slice(payload);
    Ok(())
}

/// PUBACK of 3.1.1. The packet identifier is that of the PUBLISH, so not zero.
pub fn encode_puback(packet_id: u16, out: &mut Vec<u8>) {
    acknowledgement(first_byte::PUBACK, packet_id, out);
}

/// PUBREC of 3.1.1.
pub fn encode_pubrec(packet_id: u16, out: &mut Vec<u8>) {
    acknowledgement(first_byte::PUBREC, packet_id, out);
}

/// PUBREL of 3.1.1; the client sends it too.
pub fn encode_pubrel(packet_id: u16, out: &mut Vec<u8>) {
    acknowledgement(first_byte::PUBREL, packet_id, out);
}

/// PUBCOMP of 3.1.1.
pub fn encode_pubcomp(packet_id: u16, out: &mut Vec<u8>) {
    acknowledgement(first_byte::PUBCOMP, packet_id, out);
}

/// SUBACK of 3.1.1: one code for each filter, in their order. Any error code becomes "failure"
/// (0x80), the one 3.1.1 has.
///
/// # Errors
/// No codes at all, or more than a packet holds.
pub fn encode_suback(
    packet_id: u16,
    codes: &[ReasonCode],
    out: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    if codes.is_empty() {
        return Err(EncodeError::Invalid { clause: clause::SUBACK_EMPTY });
    }
    frame(first_byte::SUBACK, out, |body| {
        body.extend_from_slice(&packet_id.to_be_bytes());
        for code in codes {
            let code = if code.is_error() { ReasonCode::UNSPECIFIED_ERROR } else { *code };
            if code > ReasonCode::GRANTED_QOS_2 && !code.is_error() {
                return Err(EncodeError::Invalid { clause: clause::SUBACK_CODE });
            }
            body.push(code.as_u8());
        }
        Ok(())
    })
}

/// UNSUBACK of 3.1.1.
pub fn encode_unsuback(packet_id: u16, out: &mut Vec<u8>) {
    acknowledgement(first_byte::UNSUBACK, packet_id, out);
}

/// PINGRESP, the same in both levels.
pub fn encode_pingresp(out: &mut Vec<u8>) {
    out.extend_from_slice(&[first_byte::PINGRESP, 0]);
}

/// Writes any packet in the form of `level`. A packet that was decoded from the shortest form is
/// written back byte for byte.
///
/// # Errors
/// The packet does not exist in that level, or breaks a rule the functions of this module check.
pub fn encode_packet(
    packet: &Packet<'_>,
    level: ProtocolLevel,
    out: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    if level == ProtocolLevel::V5 {
        return v5::encode_packet(packet, out);
    }
    match packet {
        Packet::Connect(connect) => return client::encode_connect(connect, out),
        Packet::ConnAck(connack) => match connack.code {
            ConnAckCode::V311(code) => encode_connack(connack.session_present, code, out),
            ConnAckCode::V5(_) => {
                return Err(EncodeError::Invalid { clause: clause::CONNACK_CODE });
            }
        },
        Packet::Publish(publish) => return encode_publish(publish, out),
        Packet::PubAck { packet_id, .. } => encode_puback(*packet_id, out),
        Packet::PubRec { packet_id, .. } => encode_pubrec(*packet_id, out),
        Packet::PubRel { packet_id, .. } => encode_pubrel(*packet_id, out),
        Packet::PubComp { packet_id, .. } => encode_pubcomp(*packet_id, out),
        Packet::Subscribe(subscribe) => {
            let filters: Vec<_> =
                subscribe.filters().map(|asked| (asked.filter, asked.options.qos)).collect();
            return client::encode_subscribe(subscribe.packet_id, &filters, out);
        }
        Packet::SubAck(suback) => {
            let codes: Vec<_> = suback.codes.iter().collect();
            return encode_suback(suback.packet_id, &codes, out);
        }
        Packet::Unsubscribe(unsubscribe) => {
            let filters: Vec<_> = unsubscribe.filters().collect();
            return client::encode_unsubscribe(unsubscribe.packet_id, &filters, out);
        }
        Packet::UnsubAck(unsuback) => encode_unsuback(unsuback.packet_id, out),
        Packet::PingReq => client::encode_pingreq(out),
        Packet::PingResp => encode_pingresp(out),
        Packet::Disconnect { .. } => client::encode_disconnect(out),
        Packet::Auth { .. } => return Err(EncodeError::Invalid { clause: clause::TYPE_RESERVED }),
    }
    Ok(())
}

fn acknowledgement(first_byte: u8, packet_id: u16, out: &mut Vec<u8>) {
    debug_assert_ne!(packet_id, 0, "an acknowledgement repeats a packet identifier it was given");
    let [high, low] = packet_id.to_be_bytes();
    out.extend_from_slice(&[first_byte, 2, high, low]);
}

fn publish_first_byte(qos: QoS, retain: bool, dup: bool) -> u8 {
    first_byte::PUBLISH | u8::from(dup) << 3 | qos.as_u8() << 1 | u8::from(retain)
}

/// [MQTT-2.3.1-1], [MQTT-2.3.1-5], [MQTT-3.3.1-2].
fn check_publish(qos: QoS, packet_id: Option<u16>, dup: bool) -> Result<(), EncodeError> {
    match (qos, packet_id) {
        (QoS::AtMostOnce, None) if dup => {
            Err(EncodeError::Invalid { clause: clause::PUBLISH_DUP_QOS0 })
        }
        (QoS::AtMostOnce, None) => Ok(()),
        (QoS::AtLeastOnce | QoS::ExactlyOnce, Some(1..)) => Ok(()),
        _ => Err(EncodeError::Invalid { clause: clause::PACKET_ID_ZERO }),
    }
}
