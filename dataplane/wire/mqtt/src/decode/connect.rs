//! CONNECT (section 3.1 of both specifications).
//!
//! The protocol name and level decide how the rest reads, so they are checked before anything else:
//! what follows an unknown level is not looked at.

use super::read_properties;
use crate::clause;
use crate::error::{DecodeError, malformed};
use crate::packet::{Connect, ProtocolLevel, QoS, Will};
use crate::property::PropertyOwner;
use crate::reader::Reader;
use crate::topic;

/// Name of MQTT 3.1, whose level is 3.
const NAME_V31: &[u8] = b"MQIsdp";
const NAME: &[u8] = b"MQTT";

pub(super) fn connect(mut reader: Reader<'_>) -> Result<Connect<'_>, DecodeError> {
    let level = protocol_level(&mut reader)?;
    let flags = ConnectFlags::parse(reader.byte()?, level)?;
    let keep_alive_s = reader.u16()?;
    let properties = read_properties(&mut reader, level, PropertyOwner::Connect)?;

    // The payload's fields come in this order, each if its flag is set [MQTT-3.1.3-1].
    let client_id = reader.string()?;
    let will = flags.will.map(|will| will.read(&mut reader, level)).transpose()?;
    let username = flags.username.then(|| reader.string()).transpose()?;
    let password = flags.password.then(|| reader.binary()).transpose()?;
    reader.finish()?;

    // [MQTT-3.1.3-7], [MQTT-3.1.3-8]. MQTT 5 lets the server name any anonymous client.
    if level == ProtocolLevel::V311 && client_id.is_empty() && !flags.clean_session {
        return Err(DecodeError::IdentifierRejected);
    }
    Ok(Connect {
        level,
        clean_session: flags.clean_session,
        keep_alive_s,
        client_id,
        will,
        username,
        password,
        properties,
    })
}

/// [MQTT-3.1.2-1], [MQTT-3.1.2-2]. A name of another protocol is closed without an answer; MQTT of
/// a level that is not served gets one.
fn protocol_level(reader: &mut Reader<'_>) -> Result<ProtocolLevel, DecodeError> {
    let name = reader.binary()?;
    if name != NAME && name != NAME_V31 {
        return Err(malformed(clause::PROTOCOL_NAME));
    }
    match (name, reader.byte()?) {
        (NAME, 4) => Ok(ProtocolLevel::V311),
        (NAME, 5) => Ok(ProtocolLevel::V5),
        (_, level) => Err(DecodeError::UnacceptableProtocolVersion { level }),
    }
}

/// The connect flags (section 3.1.2.3).
#[derive(Debug, Clone, Copy)]
struct ConnectFlags {
    clean_session: bool,
    will: Option<WillFlags>,
    username: bool,
    password: bool,
}

#[derive(Debug, Clone, Copy)]
struct WillFlags {
    qos: QoS,
    retain: bool,
}

impl ConnectFlags {
    fn parse(bits: u8, level: ProtocolLevel) -> Result<Self, DecodeError> {
        let set = |bit: u8| bits & (1 << bit) != 0;
        // [MQTT-3.1.2-3]
        if set(0) {
            return Err(malformed(clause::CONNECT_FLAG_RESERVED));
        }
        let will_qos = (bits >> 3) & 0b11;
        let will_retain = set(5);
        let will = if set(2) {
            // [MQTT-3.1.2-14]
            let qos = QoS::from_u8(will_qos).ok_or(malformed(clause::WILL_QOS_INVALID))?;
            Some(WillFlags { qos, retain: will_retain })
        } else {
            // [MQTT-3.1.2-11], [MQTT-3.1.2-13], [MQTT-3.1.2-15]
            if will_qos != 0 {
                return Err(malformed(clause::WILL_QOS_WITHOUT_WILL));
            }
            if will_retain {
                return Err(malformed(clause::WILL_RETAIN_WITHOUT_WILL));
            }
            None
        };
        let (username, password) = (set(7), set(6));
        // [MQTT-3.1.2-22]; MQTT 5 allows a password alone (section 3.1.2.9).
        if level == ProtocolLevel::V311 && password && !username {
            return Err(malformed(clause::PASSWORD_WITHOUT_USERNAME));
        }
        Ok(Self { clean_session: set(1), will, username, password })
    }
}

impl WillFlags {
    /// [MQTT-3.1.2-9]: topic and message are there when the flag is.
    fn read<'a>(
        self,
        reader: &mut Reader<'a>,
        level: ProtocolLevel,
    ) -> Result<Will<'a>, DecodeError> {
        let properties = read_properties(reader, level, PropertyOwner::Will)?;
        let topic = reader.string()?;
        topic::validate_topic(topic)?;
        let payload = reader.binary()?;
        Ok(Will { topic, payload, qos: self.qos, retain: self.retain, properties })
    }
}
