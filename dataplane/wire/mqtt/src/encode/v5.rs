//! The packets that MQTT 5 writes differently: property blocks, reason codes, subscription options.
//!
//! A property block must have been made for the packet it is given to, by a
//! [`crate::PropertyBuffer`] of that owner or by decoding such a packet.

use super::client::{check_packet_id, check_topic};
use super::{check_publish, client, first_byte, frame, publish_first_byte, push_field};
use super::{write_field, write_variable_length};
use crate::clause;
use crate::error::EncodeError;
use crate::limits::STRING_BYTES_MAX;
use crate::packet::{ConnAckCode, Packet, Publish, SubscribeFilter};
use crate::property::Properties;
use crate::property::value::Property;
use crate::reason::ReasonCode;
use crate::topic;

/// CONNACK. A refusal never says that a session is present [MQTT5-3.2.2-6].
pub fn encode_connack(
    session_present: bool,
    reason: ReasonCode,
    properties: Properties<'_>,
    out: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    frame(first_byte::CONNACK, out, |body| {
        body.push(u8::from(session_present && !reason.is_error()));
        body.push(reason.as_u8());
        push_properties(properties, body);
        Ok(())
    })
}

/// PUBLISH. The topic may be empty when a topic alias property stands for it.
pub fn encode_publish(publish: &Publish<'_>, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    let Publish { topic, qos, packet_id, retain, dup, payload, properties } = *publish;
    check_publish(qos, packet_id, dup)?;
    let aliased = || properties.iter().any(|one| matches!(one, Property::TopicAlias(_)));
    if topic.is_empty() && !aliased() {
        return Err(EncodeError::Invalid { clause: clause::TOPIC_MISSING });
    }
    if topic.len() > STRING_BYTES_MAX {
        return Err(EncodeError::FieldTooLong { bytes: topic.len() });
    }
    if !topic.is_empty() {
        check_topic(topic::validate_topic(topic))?;
    }
    frame(publish_first_byte(qos, retain, dup), out, |body| {
        write_field(topic.as_bytes(), body);
        if let Some(packet_id) = packet_id {
            body.extend_from_slice(&packet_id.to_be_bytes());
        }
        push_properties(properties, body);
        body.extend_from_slice(payload);
        Ok(())
    })
}

/// PUBACK.
pub fn encode_puback(
    packet_id: u16,
    reason: ReasonCode,
    properties: Properties<'_>,
    out: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    acknowledgement(first_byte::PUBACK, packet_id, reason, properties, out)
}

/// PUBREC.
pub fn encode_pubrec(
    packet_id: u16,
    reason: ReasonCode,
    properties: Properties<'_>,
    out: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    acknowledgement(first_byte::PUBREC, packet_id, reason, properties, out)
}

/// PUBREL.
pub fn encode_pubrel(
    packet_id: u16,
    reason: ReasonCode,
    properties: Properties<'_>,
    out: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    acknowledgement(first_byte::PUBREL, packet_id, reason, properties, out)
}

/// PUBCOMP.
pub fn encode_pubcomp(
    packet_id: u16,
    reason: ReasonCode,
    properties: Properties<'_>,
    out: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    acknowledgement(first_byte::PUBCOMP, packet_id, reason, properties, out)
}

/// SUBSCRIBE.
pub fn encode_subscribe<'a>(
    packet_id: u16,
    properties: Properties<'_>,
    filters: impl IntoIterator<Item = SubscribeFilter<'a>>,
    out: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    check_packet_id(packet_id)?;
    frame(first_byte::SUBSCRIBE, out, |body| {
        body.extend_from_slice(&packet_id.to_be_bytes());
        push_properties(properties, body);
        let start = body.len();
        for SubscribeFilter { filter, options } in filters {
            check_topic(topic::validate_filter(filter))?;
            check_topic(topic::shared_subscription(filter).map(|_| ()))?;
            if options.no_local && filter.starts_with("$share/") {
                return Err(EncodeError::Invalid { clause: clause::SUBSCRIBE_SHARED_NO_LOCAL });
            }
            push_field(filter.as_bytes(), body)?;
            body.push(options.to_bits());
        }
        if body.len() == start {
            return Err(EncodeError::Invalid { clause: clause::SUBSCRIBE_EMPTY });
        }
        Ok(())
    })
}

/// SUBACK: one code for each filter.
pub fn encode_suback(
    packet_id: u16,
    properties: Properties<'_>,
    codes: &[ReasonCode],
    out: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    if codes.is_empty() {
        return Err(EncodeError::Invalid { clause: clause::SUBACK_EMPTY });
    }
    answer(first_byte::SUBACK, packet_id, properties, codes, out)
}

/// UNSUBSCRIBE.
pub fn encode_unsubscribe<'a>(
    packet_id: u16,
    properties: Properties<'_>,
    filters: impl IntoIterator<Item = &'a str>,
    out: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    check_packet_id(packet_id)?;
    frame(first_byte::UNSUBSCRIBE, out, |body| {
        body.extend_from_slice(&packet_id.to_be_bytes());
        push_properties(properties, body);
        let start = body.len();
        for filter in filters {
            check_topic(topic::validate_filter(filter))?;
            check_topic(topic::shared_subscription(filter).map(|_| ()))?;
            push_field(filter.as_bytes(), body)?;
        }
        if body.len() == start {
            return Err(EncodeError::Invalid { clause: clause::UNSUBSCRIBE_EMPTY });
        }
        Ok(())
    })
}

/// UNSUBACK: one code for each filter.
pub fn encode_unsuback(
    packet_id: u16,
    properties: Properties<'_>,
    codes: &[ReasonCode],
    out: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    if codes.is_empty() {
        return Err(EncodeError::Invalid { clause: clause::UNSUBACK_EMPTY });
    }
    answer(first_byte::UNSUBACK, packet_id, properties, codes, out)
}

/// DISCONNECT, from either side.
pub fn encode_disconnect(
    reason: ReasonCode,
    properties: Properties<'_>,
    out: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    frame(first_byte::DISCONNECT, out, |body| {
        push_reason(reason, properties, body);
        Ok(())
    })
}

/// AUTH, from either side.
pub fn encode_auth(
    reason: ReasonCode,
    properties: Properties<'_>,
    out: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    frame(first_byte::AUTH, out, |body| {
        push_reason(reason, properties, body);
        Ok(())
    })
}

pub(super) fn encode_packet(packet: &Packet<'_>, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    match *packet {
        Packet::Connect(connect) => client::encode_connect(&connect, out),
        Packet::ConnAck(connack) => match connack.code {
            ConnAckCode::V5(reason) => {
                encode_connack(connack.session_present, reason, connack.properties, out)
            }
            ConnAckCode::V311(_) => Err(EncodeError::Invalid { clause: clause::CONNACK_CODE }),
        },
        Packet::Publish(publish) => encode_publish(&publish, out),
        Packet::PubAck { packet_id, reason, properties } => {
            encode_puback(packet_id, reason, properties, out)
        }
        Packet::PubRec { packet_id, reason, properties } => {
            encode_pubrec(packet_id, reason, properties, out)
        }
        Packet::PubRel { packet_id, reason, properties } => {
            encode_pubrel(packet_id, reason, properties, out)
        }
        Packet::PubComp { packet_id, reason, properties } => {
            encode_pubcomp(packet_id, reason, properties, out)
        }
        Packet::Subscribe(subscribe) => {
            encode_subscribe(subscribe.packet_id, subscribe.properties, subscribe.filters(), out)
        }
        Packet::SubAck(suback) => frame(first_byte::SUBACK, out, |body| {
            body.extend_from_slice(&suback.packet_id.to_be_bytes());
            push_properties(suback.properties, body);
            body.extend_from_slice(suback.codes.as_bytes());
            Ok(())
        }),
        Packet::Unsubscribe(unsubscribe) => encode_unsubscribe(
            unsubscribe.packet_id,
            unsubscribe.properties,
            unsubscribe.filters(),
            out,
        ),
        Packet::UnsubAck(unsuback) => frame(first_byte::UNSUBACK, out, |body| {
            body.extend_from_slice(&unsuback.packet_id.to_be_bytes());
            push_properties(unsuback.properties, body);
            body.extend_from_slice(unsuback.codes.as_bytes());
            Ok(())
        }),
        Packet::PingReq => {
            client::encode_pingreq(out);
            Ok(())
        }
        Packet::PingResp => {
            super::encode_pingresp(out);
            Ok(())
        }
        Packet::Disconnect { reason, properties } => encode_disconnect(reason, properties, out),
        Packet::Auth { reason, properties } => encode_auth(reason, properties, out),
    }
}

/// Appends a property block with its length in front.
pub(super) fn push_properties(properties: Properties<'_>, out: &mut Vec<u8>) {
    write_variable_length(properties.as_bytes().len(), out);
    out.extend_from_slice(properties.as_bytes());
}

fn acknowledgement(
    first_byte: u8,
    packet_id: u16,
    reason: ReasonCode,
    properties: Properties<'_>,
    out: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    check_packet_id(packet_id)?;
    frame(first_byte, out, |body| {
        body.extend_from_slice(&packet_id.to_be_bytes());
        push_reason(reason, properties, body);
        Ok(())
    })
}

fn answer(
    first_byte: u8,
    packet_id: u16,
    properties: Properties<'_>,
    codes: &[ReasonCode],
    out: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    check_packet_id(packet_id)?;
    frame(first_byte, out, |body| {
        body.extend_from_slice(&packet_id.to_be_bytes());
        push_properties(properties, body);
        body.extend(codes.iter().map(|code| code.as_u8()));
        Ok(())
    })
}

/// The shortest form: success without properties is left out, and so is an empty property block
/// (section 3.4.2.1).
fn push_reason(reason: ReasonCode, properties: Properties<'_>, out: &mut Vec<u8>) {
    if reason == ReasonCode::SUCCESS && properties.is_empty() {
        return;
    }
    out.push(reason.as_u8());
    if !properties.is_empty() {
        push_properties(properties, out);
    }
}
