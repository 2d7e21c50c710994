//! What a client sends, for the load driver and for tests.

use super::{first_byte, frame, push_field};
use crate::clause;
use crate::error::EncodeError;
use crate::packet::{Connect, ProtocolLevel, QoS};
use crate::topic;

/// CONNECT, in the form of `connect.level`.
///
/// # Errors
/// A field over 65535 bytes, an invalid will topic, or in 3.1.1 a password without a user name.
pub fn encode_connect(connect: &Connect<'_>, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    let v5 = connect.level == ProtocolLevel::V5;
    if !v5 && connect.password.is_some() && connect.username.is_none() {
        return Err(EncodeError::Invalid { clause: clause::PASSWORD_WITHOUT_USERNAME });
    }
    frame(first_byte::CONNECT, out, |body| {
        push_field(b"MQTT", body)?;
        body.push(if v5 { 5 } else { 4 });
        body.push(connect_flags(connect));
        body.extend_from_slice(&connect.keep_alive_s.to_be_bytes());
        if v5 {
            super::v5::push_properties(connect.properties, body);
        }
        push_field(connect.client_id.as_bytes(), body)?;
        if let Some(will) = &connect.will {
            if v5 {
                super::v5::push_properties(will.properties, body);
            }
            check_topic(topic::validate_topic(will.topic))?;
            push_field(will.topic.as_bytes(), body)?;
            push_field(will.payload, body)?;
        }
        if let Some(username) = connect.username {
            push_field(username.as_bytes(), body)?;
        }
        if let Some(password) = connect.password {
            push_field(password, body)?;
        }
        Ok(())
    })
}

/// SUBSCRIBE of 3.1.1.
///
/// # Errors
/// No filter, or an invalid one.
pub fn encode_subscribe(
    packet_id: u16,
    filters: &[(&str, QoS)],
    out: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    if filters.is_empty() {
        return Err(EncodeError::Invalid { clause: clause::SUBSCRIBE_EMPTY });
    }
    check_packet_id(packet_id)?;
    frame(first_byte::SUBSCRIBE, out, |body| {
        body.extend_from_slice(&packet_id.to_be_bytes());
        for (filter, qos) in filters {
            check_topic(topic::validate_filter(filter))?;
            push_field(filter.as_bytes(), body)?;
            body.push(qos.as_u8());
        }
        Ok(())
    })
}

/// UNSUBSCRIBE of 3.1.1.
///
/// # Errors
/// No filter, or an invalid one.
pub fn encode_unsubscribe(
    packet_id: u16,
    filters: &[&str],
    out: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    if filters.is_empty() {
        return Err(EncodeError::Invalid { clause: clause::UNSUBSCRIBE_EMPTY });
    }
    check_packet_id(packet_id)?;
    frame(first_byte::UNSUBSCRIBE, out, |body| {
        body.extend_from_slice(&packet_id.to_be_bytes());
        for filter in filters {
            check_topic(topic::validate_filter(filter))?;
            push_field(filter.as_bytes(), body)?;
        }
        Ok(())
    })
}

/// PINGREQ, the same in both levels.
pub fn encode_pingreq(out: &mut Vec<u8>) {
    out.extend_from_slice(&[first_byte::PINGREQ, 0]);
}

/// DISCONNECT of 3.1.1; in MQTT 5 the same bytes mean a normal disconnection.
pub fn encode_disconnect(out: &mut Vec<u8>) {
    out.extend_from_slice(&[first_byte::DISCONNECT, 0]);
}

pub(super) fn check_topic(verdict: Result<(), topic::TopicError>) -> Result<(), EncodeError> {
    verdict.map_err(|error| EncodeError::Invalid { clause: error.clause })
}

pub(super) fn check_packet_id(packet_id: u16) -> Result<(), EncodeError> {
    if packet_id == 0 {
        Err(EncodeError::Invalid { clause: clause::PACKET_ID_ZERO })
    } else {
        Ok(())
    }
}

fn connect_flags(connect: &Connect<'_>) -> u8 {
    let will = connect
        .will
        .as_ref()
        .map_or(0, |will| 0b0000_0100 | will.qos.as_u8() << 3 | u8::from(will.retain) << 5);
    u8::from(connect.clean_session) << 1
        | will
        | u8::from(connect.password.is_some()) << 6
        | u8::from(connect.username.is_some()) << 7
}
