//! SUBSCRIBE, SUBACK, UNSUBSCRIBE and UNSUBACK (sections 3.8 to 3.11).

use super::read_properties;
use crate::clause;
use crate::error::{DecodeError, malformed, protocol};
use crate::packet::{
    ProtocolLevel, ReasonCodes, SubAck, Subscribe, SubscribeOptions, UnsubAck, Unsubscribe,
};
use crate::property::PropertyOwner;
use crate::reader::Reader;
use crate::topic;

pub(super) fn subscribe(
    mut reader: Reader<'_>,
    level: ProtocolLevel,
) -> Result<Subscribe<'_>, DecodeError> {
    let packet_id = reader.packet_id()?;
    let properties = read_properties(&mut reader, level, PropertyOwner::Subscribe)?;
    let raw = reader.take_rest();
    let mut filters = Reader::new(raw);
    let mut count = 0;
    while !filters.is_empty() {
        let shared = topic_filter(&mut filters, level)?;
        subscribe_options(filters.byte()?, level, shared)?;
        count += 1;
    }
    // [MQTT-3.8.3-3]
    if count == 0 {
        return Err(protocol(clause::SUBSCRIBE_EMPTY));
    }
    Ok(Subscribe { packet_id, properties, raw, count })
}

pub(super) fn unsubscribe(
    mut reader: Reader<'_>,
    level: ProtocolLevel,
) -> Result<Unsubscribe<'_>, DecodeError> {
    let packet_id = reader.packet_id()?;
    let properties = read_properties(&mut reader, level, PropertyOwner::Unsubscribe)?;
    let raw = reader.take_rest();
    let mut filters = Reader::new(raw);
    let mut count = 0;
    while !filters.is_empty() {
        topic_filter(&mut filters, level)?;
        count += 1;
    }
    // [MQTT-3.10.3-2]
    if count == 0 {
        return Err(protocol(clause::UNSUBSCRIBE_EMPTY));
    }
    Ok(Unsubscribe { packet_id, properties, raw, count })
}

pub(super) fn suback(
    mut reader: Reader<'_>,
    level: ProtocolLevel,
) -> Result<SubAck<'_>, DecodeError> {
    let packet_id = reader.packet_id()?;
    let properties = read_properties(&mut reader, level, PropertyOwner::SubAck)?;
    // [MQTT-3.9.3-2]
    let codes = ReasonCodes::validated(reader.take_rest(), level, PropertyOwner::SubAck)
        .ok_or(protocol(clause::SUBACK_CODE))?;
    if codes.is_empty() {
        return Err(protocol(clause::SUBACK_EMPTY));
    }
    Ok(SubAck { packet_id, properties, codes })
}

pub(super) fn unsuback(
    mut reader: Reader<'_>,
    level: ProtocolLevel,
) -> Result<UnsubAck<'_>, DecodeError> {
    let packet_id = reader.packet_id()?;
    let properties = read_properties(&mut reader, level, PropertyOwner::UnsubAck)?;
    let codes = match level {
        ProtocolLevel::V311 => {
            reader.finish()?;
            ReasonCodes::default()
        }
        // [MQTT5-3.11.3-1], [MQTT5-3.11.3-2]
        ProtocolLevel::V5 => {
            let codes = ReasonCodes::validated(reader.take_rest(), level, PropertyOwner::UnsubAck)
                .ok_or(protocol(clause::UNSUBACK_CODE))?;
            if codes.is_empty() {
                return Err(protocol(clause::UNSUBACK_EMPTY));
            }
            codes
        }
    };
    Ok(UnsubAck { packet_id, properties, codes })
}

/// Checks the next filter and tells whether it is a shared subscription. `$share/` has that meaning
/// in MQTT 5 alone; for 3.1.1 it is a filter like any other.
fn topic_filter(filters: &mut Reader<'_>, level: ProtocolLevel) -> Result<bool, DecodeError> {
    let filter = filters.string()?;
    topic::validate_filter(filter)?;
    match level {
        ProtocolLevel::V311 => Ok(false),
        ProtocolLevel::V5 => {
            let shared =
                topic::shared_subscription(filter).map_err(|error| protocol(error.clause))?;
            Ok(shared.is_some())
        }
    }
}

/// [MQTT-3-8.3-4]: 3.1.1 has the QoS alone, the other six bits are reserved; MQTT 5 reserves two
/// [MQTT5-3.8.3-5] and has more rules.
fn subscribe_options(bits: u8, level: ProtocolLevel, shared: bool) -> Result<(), DecodeError> {
    let reserved = match level {
        ProtocolLevel::V311 => 0b1111_1100,
        ProtocolLevel::V5 => 0b1100_0000,
    };
    if bits & reserved != 0 || bits & 0b11 == 0b11 {
        return Err(malformed(clause::SUBSCRIBE_OPTIONS));
    }
    let options =
        SubscribeOptions::from_bits(bits).ok_or(protocol(clause::SUBSCRIBE_RETAIN_HANDLING))?;
    if shared && options.no_local {
        return Err(protocol(clause::SUBSCRIBE_SHARED_NO_LOCAL));
    }
    Ok(())
}
