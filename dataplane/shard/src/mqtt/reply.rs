//! Answers in the words of either protocol version.

use fulcrum_mqtt::{
    Properties, Property, PropertyBuffer, PropertyOwner, ProtocolLevel, ReasonCode, encode_puback,
    encode_pubcomp, encode_pubrec, encode_pubrel, encode_suback, encode_unsuback, v5,
};

/// Writes a PUBACK. 3.1.1 has no reason in it.
pub(crate) fn put_puback(
    level: ProtocolLevel,
    packet_id: u16,
    reason: ReasonCode,
    out: &mut Vec<u8>,
) {
    match level {
        ProtocolLevel::V311 => encode_puback(packet_id, out),
        // It can fail on properties alone, and there are none; so with those below.
        ProtocolLevel::V5 => {
            let _ = v5::encode_puback(packet_id, reason, Properties::EMPTY, out);
        }
    }
}

/// Writes a PUBREC.
pub(crate) fn put_pubrec(
    level: ProtocolLevel,
    packet_id: u16,
    reason: ReasonCode,
    out: &mut Vec<u8>,
) {
    match level {
        ProtocolLevel::V311 => encode_pubrec(packet_id, out),
        ProtocolLevel::V5 => {
            let _ = v5::encode_pubrec(packet_id, reason, Properties::EMPTY, out);
        }
    }
}

/// Writes a PUBREL.
pub(crate) fn put_pubrel(level: ProtocolLevel, packet_id: u16, out: &mut Vec<u8>) {
    put_release(level, packet_id, ReasonCode::SUCCESS, out);
}

/// Writes a PUBREL with a reason.
pub(crate) fn put_release(
    level: ProtocolLevel,
    packet_id: u16,
    reason: ReasonCode,
    out: &mut Vec<u8>,
) {
    match level {
        ProtocolLevel::V311 => encode_pubrel(packet_id, out),
        ProtocolLevel::V5 => {
            let _ = v5::encode_pubrel(packet_id, reason, Properties::EMPTY, out);
        }
    }
}

/// Writes a PUBCOMP.
pub(crate) fn put_pubcomp(
    level: ProtocolLevel,
    packet_id: u16,
    reason: ReasonCode,
    out: &mut Vec<u8>,
) {
    match level {
        ProtocolLevel::V311 => encode_pubcomp(packet_id, out),
        ProtocolLevel::V5 => {
            let _ = v5::encode_pubcomp(packet_id, reason, Properties::EMPTY, out);
        }
    }
}

/// Writes a SUBACK. 3.1.1 knows one failure only [MQTT-3.9.3-2].
pub(crate) fn put_suback(
    level: ProtocolLevel,
    packet_id: u16,
    codes: &mut [ReasonCode],
    out: &mut Vec<u8>,
) {
    match level {
        ProtocolLevel::V311 => {
            for code in codes.iter_mut().filter(|code| code.is_error()) {
                *code = ReasonCode::UNSPECIFIED_ERROR;
            }
            let _ = encode_suback(packet_id, codes, out);
        }
        ProtocolLevel::V5 => {
            let _ = v5::encode_suback(packet_id, Properties::EMPTY, codes, out);
        }
    }
}

/// Writes an UNSUBACK.
pub(crate) fn put_unsuback(
    level: ProtocolLevel,
    packet_id: u16,
    codes: &[ReasonCode],
    out: &mut Vec<u8>,
) {
    match level {
        ProtocolLevel::V311 => encode_unsuback(packet_id, out),
        ProtocolLevel::V5 => {
            let _ = v5::encode_unsuback(packet_id, Properties::EMPTY, codes, out);
        }
    }
}

/// Writes a DISCONNECT; 3.1.1 servers have none. `reference` names another server.
pub(crate) fn put_disconnect(
    level: ProtocolLevel,
    reason: ReasonCode,
    reference: Option<&str>,
    out: &mut Vec<u8>,
) {
    if level == ProtocolLevel::V311 {
        return;
    }
    let mut properties = PropertyBuffer::new(PropertyOwner::Disconnect);
    if let Some(reference) = reference {
        // What a configuration names is short.
        let _ = properties.push(Property::ServerReference(reference));
    }
    let _ = v5::encode_disconnect(reason, properties.properties(), out);
}
