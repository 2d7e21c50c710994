//! Sections of a message whose fields the specification gives types: header and properties (part 3,
//! 3.2.1 and 3.2.4), and what is checked of those that are maps.

use crate::clause;
use crate::composite::{Field, composite};
use crate::definitions::Address;
use crate::descriptor;
use crate::error::{DecodeError, EncodeError, malformed};
use crate::value::compound::Map;
use crate::value::symbol::Symbol;
use crate::value::{Uuid, Value, write};

composite! {
    /// How a message is to be treated on its way (3.2.1). Those on the way may change it.
    Header as "header" = descriptor::HEADER;
    /// Whether it must not be lost.
    default(false) durable: bool,
    /// How urgent it is; the higher the more.
    default(4) priority: u8,
    /// Milliseconds it is worth anything.
    optional ttl: u32,
    /// Whether nobody else has had it.
    default(false) first_acquirer: bool,
    /// How often its delivery has failed.
    default(0) delivery_count: u32,
}

impl Default for Header {
    /// The header of a message that has none.
    fn default() -> Self {
        Self { durable: false, priority: 4, ttl: None, first_acquirer: false, delivery_count: 0 }
    }
}

composite! {
    /// What the sender says of a message (3.2.4). Nobody on the way may change it.
    Properties<'a> as "properties" = descriptor::PROPERTIES;
    /// Names the message.
    optional message_id: MessageId<'a>,
    /// Who made it.
    optional user_id: &'a [u8],
    /// The address of the node it is for.
    optional to: Address<'a>,
    /// What it is about.
    optional subject: &'a str,
    /// Where answers go to.
    optional reply_to: Address<'a>,
    /// Which message it answers.
    optional correlation_id: MessageId<'a>,
    /// Media type of the body.
    optional content_type: Symbol<'a>,
    /// How the body is compressed, or such.
    optional content_encoding: Symbol<'a>,
    /// When it is worth nothing any more.
    optional absolute_expiry_time: i64,
    /// When it was made.
    optional creation_time: i64,
    /// The group it belongs to.
    optional group_id: &'a str,
    /// Its place in the group.
    optional group_sequence: u32,
    /// The group answers belong to.
    optional reply_to_group_id: &'a str,
}

impl Default for Properties<'_> {
    /// The properties of a message that has none.
    fn default() -> Self {
        Self {
            message_id: None,
            user_id: None,
            to: None,
            subject: None,
            reply_to: None,
            correlation_id: None,
            content_type: None,
            content_encoding: None,
            absolute_expiry_time: None,
            creation_time: None,
            group_id: None,
            group_sequence: None,
            reply_to_group_id: None,
        }
    }
}

/// What names a message (3.2.11 to 3.2.14). Identifiers of different types are different.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MessageId<'a> {
    /// 3.2.11.
    Ulong(u64),
    /// 3.2.12.
    Uuid(Uuid),
    /// 3.2.13.
    Binary(&'a [u8]),
    /// 3.2.14.
    String(&'a str),
}

impl<'a> Field<'a> for MessageId<'a> {
    fn from_value(value: Value<'a>) -> Result<Self, DecodeError> {
        match value {
            Value::Ulong(number) => Ok(Self::Ulong(number)),
            Value::Uuid(uuid) => Ok(Self::Uuid(uuid)),
            Value::Binary(bytes) => Ok(Self::Binary(bytes)),
            Value::String(text) => Ok(Self::String(text)),
            _ => Err(malformed(clause::MESSAGE_ID)),
        }
    }

    fn write(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        write::value(
            &match *self {
                Self::Ulong(number) => Value::Ulong(number),
                Self::Uuid(uuid) => Value::Uuid(uuid),
                Self::Binary(bytes) => Value::Binary(bytes),
                Self::String(text) => Value::String(text),
            },
            out,
        )
    }
}

/// Keys of annotations are symbols; ulongs are reserved, and so they may come (3.2.10).
pub(crate) fn are_annotations(map: Map<'_>) -> Result<(), &'static str> {
    let is_key = |key: Value<'_>| matches!(key, Value::Symbol(_) | Value::Ulong(_));
    match map.iter().all(|(key, _)| is_key(key)) {
        true => Ok(()),
        false => Err(clause::ANNOTATIONS_KEY),
    }
}

/// Application properties have keys that are strings, and values that hold no others (3.2.5).
pub(crate) fn are_application_properties(map: Map<'_>) -> Result<(), &'static str> {
    for (key, value) in map.iter() {
        if key.as_str().is_none() {
            return Err(clause::APPLICATION_PROPERTIES_KEY);
        }
        if matches!(value, Value::List(_) | Value::Map(_) | Value::Array(_)) {
            return Err(clause::APPLICATION_PROPERTIES_VALUE);
        }
    }
    Ok(())
}
