//! The 27 properties of MQTT 5 (table 2-4): identifier, type, where permitted, legal values.

use std::fmt;

use super::PropertyOwner as Owner;
use crate::clause;
use crate::error::{DecodeError, malformed, protocol};
use crate::packet::QoS;
use crate::reader::Reader;
use crate::{encode, topic};

/// Bytes that are never shown: `Debug` prints their length.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SecretBytes<'a>(pub &'a [u8]);

impl fmt::Debug for SecretBytes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "({} bytes hidden)", self.0.len())
    }
}

/// One property with its value. The section numbers are those of MQTT 5.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Property<'a> {
    /// 0x01, whether the payload is UTF-8 text (3.3.2.3.2).
    PayloadFormatIndicator(bool),
    /// 0x02, lifetime of a message in seconds (3.3.2.3.3).
    MessageExpiryInterval(u32),
    /// 0x03, kind of payload (3.3.2.3.9).
    ContentType(&'a str),
    /// 0x08, topic name for the answer, without wildcards [MQTT5-3.3.2-14].
    ResponseTopic(&'a str),
    /// 0x09, says which request an answer belongs to (3.3.2.3.6).
    CorrelationData(&'a [u8]),
    /// 0x0B, 1 to 268435455 (3.8.2.1.2).
    SubscriptionIdentifier(u32),
    /// 0x11, seconds a session outlives its connection; 0xFFFFFFFF is for ever (3.1.2.11.2).
    SessionExpiryInterval(u32),
    /// 0x12, the client identifier the server chose (3.2.2.3.7).
    AssignedClientIdentifier(&'a str),
    /// 0x13, keep-alive in seconds the client has to use (3.2.2.3.14).
    ServerKeepAlive(u16),
    /// 0x15, name of the extended authentication method (3.1.2.11.9).
    AuthenticationMethod(&'a str),
    /// 0x16, data of that method (3.1.2.11.10).
    AuthenticationData(SecretBytes<'a>),
    /// 0x17, whether reason strings are wanted (3.1.2.11.7).
    RequestProblemInformation(bool),
    /// 0x18, seconds between the end of the connection and the will (3.1.3.2.2).
    WillDelayInterval(u32),
    /// 0x19, whether response information is wanted (3.1.2.11.6).
    RequestResponseInformation(bool),
    /// 0x1A, base of response topics (3.2.2.3.15).
    ResponseInformation(&'a str),
    /// 0x1C, another server to use (3.2.2.3.16).
    ServerReference(&'a str),
    /// 0x1F, reason for people (3.2.2.3.9).
    ReasonString(&'a str),
    /// 0x21, QoS 1 and 2 messages in flight at most, not 0 (3.1.2.11.3).
    ReceiveMaximum(u16),
    /// 0x22, highest topic alias accepted (3.1.2.11.5).
    TopicAliasMaximum(u16),
    /// 0x23, number that stands for a topic name, not 0 [MQTT5-3.3.2-8].
    TopicAlias(u16),
    /// 0x24, highest QoS the server takes: 0 or 1 (3.2.2.3.4).
    MaximumQoS(QoS),
    /// 0x25, whether retained messages are served (3.2.2.3.5).
    RetainAvailable(bool),
    /// 0x26, name and value with a meaning of the application's (3.1.2.11.8).
    UserProperty(&'a str, &'a str),
    /// 0x27, largest packet accepted in bytes, not 0 (3.1.2.11.4).
    MaximumPacketSize(u32),
    /// 0x28, whether wildcard subscriptions are served (3.2.2.3.11).
    WildcardSubscriptionAvailable(bool),
    /// 0x29, whether subscription identifiers are served (3.2.2.3.12).
    SubscriptionIdentifierAvailable(bool),
    /// 0x2A, whether shared subscriptions are served (3.2.2.3.13).
    SharedSubscriptionAvailable(bool),
}

impl<'a> Property<'a> {
    /// The identifier on the wire.
    pub fn identifier(&self) -> u8 {
        match self {
            Self::PayloadFormatIndicator(_) => 0x01,
            Self::MessageExpiryInterval(_) => 0x02,
            Self::ContentType(_) => 0x03,
            Self::ResponseTopic(_) => 0x08,
            Self::CorrelationData(_) => 0x09,
            Self::SubscriptionIdentifier(_) => 0x0B,
            Self::SessionExpiryInterval(_) => 0x11,
            Self::AssignedClientIdentifier(_) => 0x12,
            Self::ServerKeepAlive(_) => 0x13,
            Self::AuthenticationMethod(_) => 0x15,
            Self::AuthenticationData(_) => 0x16,
            Self::RequestProblemInformation(_) => 0x17,
            Self::WillDelayInterval(_) => 0x18,
            Self::RequestResponseInformation(_) => 0x19,
            Self::ResponseInformation(_) => 0x1A,
            Self::ServerReference(_) => 0x1C,
            Self::ReasonString(_) => 0x1F,
            Self::ReceiveMaximum(_) => 0x21,
            Self::TopicAliasMaximum(_) => 0x22,
            Self::TopicAlias(_) => 0x23,
            Self::MaximumQoS(_) => 0x24,
            Self::RetainAvailable(_) => 0x25,
            Self::UserProperty(..) => 0x26,
            Self::MaximumPacketSize(_) => 0x27,
            Self::WildcardSubscriptionAvailable(_) => 0x28,
            Self::SubscriptionIdentifierAvailable(_) => 0x29,
            Self::SharedSubscriptionAvailable(_) => 0x2A,
        }
    }

    /// Whether a packet of that kind may carry this property (table 2-4).
    pub fn is_permitted_in(&self, owner: Owner) -> bool {
        match self {
            Self::PayloadFormatIndicator(_)
            | Self::MessageExpiryInterval(_)
            | Self::ContentType(_)
            | Self::ResponseTopic(_)
            | Self::CorrelationData(_) => matches!(owner, Owner::Publish | Owner::Will),
            Self::SubscriptionIdentifier(_) => matches!(owner, Owner::Publish | Owner::Subscribe),
            Self::SessionExpiryInterval(_) => {
                matches!(owner, Owner::Connect | Owner::ConnAck | Owner::Disconnect)
            }
            Self::AuthenticationMethod(_) | Self::AuthenticationData(_) => {
                matches!(owner, Owner::Connect | Owner::ConnAck | Owner::Auth)
            }
            Self::RequestProblemInformation(_) | Self::RequestResponseInformation(_) => {
                owner == Owner::Connect
            }
            Self::WillDelayInterval(_) => owner == Owner::Will,
            Self::ServerReference(_) => matches!(owner, Owner::ConnAck | Owner::Disconnect),
            Self::ReasonString(_) => !matches!(
                owner,
                Owner::Connect
                    | Owner::Will
                    | Owner::Publish
                    | Owner::Subscribe
                    | Owner::Unsubscribe
            ),
            Self::ReceiveMaximum(_) | Self::TopicAliasMaximum(_) | Self::MaximumPacketSize(_) => {
                matches!(owner, Owner::Connect | Owner::ConnAck)
            }
            Self::TopicAlias(_) => owner == Owner::Publish,
            Self::AssignedClientIdentifier(_)
            | Self::ServerKeepAlive(_)
            | Self::ResponseInformation(_)
            | Self::MaximumQoS(_)
            | Self::RetainAvailable(_)
            | Self::WildcardSubscriptionAvailable(_)
            | Self::SubscriptionIdentifierAvailable(_)
            | Self::SharedSubscriptionAvailable(_) => owner == Owner::ConnAck,
            Self::UserProperty(..) => true,
        }
    }

    /// Whether a block of that packet may have this property more than once: user properties
    /// always, subscription identifiers in a PUBLISH (3.3.2.3.8).
    pub fn may_repeat_in(&self, owner: Owner) -> bool {
        match self {
            Self::UserProperty(..) => true,
            Self::SubscriptionIdentifier(_) => owner == Owner::Publish,
            _ => false,
        }
    }

    pub(crate) fn read(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Ok(match reader.variable_length()? {
            0x01 => Self::PayloadFormatIndicator(flag(reader)?),
            0x02 => Self::MessageExpiryInterval(reader.u32()?),
            0x03 => Self::ContentType(reader.string()?),
            0x08 => Self::ResponseTopic(response_topic(reader.string()?)?),
            0x09 => Self::CorrelationData(reader.binary()?),
            0x0B => Self::SubscriptionIdentifier(subscription_identifier(reader)?),
            0x11 => Self::SessionExpiryInterval(reader.u32()?),
            0x12 => Self::AssignedClientIdentifier(reader.string()?),
            0x13 => Self::ServerKeepAlive(reader.u16()?),
            0x15 => Self::AuthenticationMethod(reader.string()?),
            0x16 => Self::AuthenticationData(SecretBytes(reader.binary()?)),
            0x17 => Self::RequestProblemInformation(flag(reader)?),
            0x18 => Self::WillDelayInterval(reader.u32()?),
            0x19 => Self::RequestResponseInformation(flag(reader)?),
            0x1A => Self::ResponseInformation(reader.string()?),
            0x1C => Self::ServerReference(reader.string()?),
            0x1F => Self::ReasonString(reader.string()?),
            0x21 => Self::ReceiveMaximum(not_zero(reader.u16()?)?),
            0x22 => Self::TopicAliasMaximum(reader.u16()?),
            0x23 => Self::TopicAlias(not_zero(reader.u16()?)?),
            0x24 => {
                Self::MaximumQoS(if flag(reader)? { QoS::AtLeastOnce } else { QoS::AtMostOnce })
            }
            0x25 => Self::RetainAvailable(flag(reader)?),
            0x26 => Self::UserProperty(reader.string()?, reader.string()?),
            0x27 => Self::MaximumPacketSize(not_zero(reader.u32()?)?),
            0x28 => Self::WildcardSubscriptionAvailable(flag(reader)?),
            0x29 => Self::SubscriptionIdentifierAvailable(flag(reader)?),
            0x2A => Self::SharedSubscriptionAvailable(flag(reader)?),
            _ => return Err(malformed(clause::PROPERTY_UNKNOWN)),
        })
    }

    /// Appends identifier and value. Fields must fit their two-byte length.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        out.push(self.identifier());
        match *self {
            Self::PayloadFormatIndicator(value)
            | Self::RequestProblemInformation(value)
            | Self::RequestResponseInformation(value)
            | Self::RetainAvailable(value)
            | Self::WildcardSubscriptionAvailable(value)
            | Self::SubscriptionIdentifierAvailable(value)
            | Self::SharedSubscriptionAvailable(value) => out.push(u8::from(value)),
            Self::MaximumQoS(qos) => out.push(qos.as_u8()),
            Self::ServerKeepAlive(value)
            | Self::ReceiveMaximum(value)
            | Self::TopicAliasMaximum(value)
            | Self::TopicAlias(value) => out.extend_from_slice(&value.to_be_bytes()),
            Self::MessageExpiryInterval(value)
            | Self::SessionExpiryInterval(value)
            | Self::WillDelayInterval(value)
            | Self::MaximumPacketSize(value) => out.extend_from_slice(&value.to_be_bytes()),
            Self::SubscriptionIdentifier(value) => {
                encode::write_variable_length(value as usize, out);
            }
            Self::ContentType(text)
            | Self::ResponseTopic(text)
            | Self::AssignedClientIdentifier(text)
            | Self::AuthenticationMethod(text)
            | Self::ResponseInformation(text)
            | Self::ServerReference(text)
            | Self::ReasonString(text) => encode::write_field(text.as_bytes(), out),
            Self::CorrelationData(bytes) | Self::AuthenticationData(SecretBytes(bytes)) => {
                encode::write_field(bytes, out);
            }
            Self::UserProperty(name, value) => {
                encode::write_field(name.as_bytes(), out);
                encode::write_field(value.as_bytes(), out);
            }
        }
    }

    /// Length of the longest string or binary field, for the 65535 limit.
    pub(crate) fn longest_field(&self) -> Option<usize> {
        match self {
            Self::ContentType(text)
            | Self::ResponseTopic(text)
            | Self::AssignedClientIdentifier(text)
            | Self::AuthenticationMethod(text)
            | Self::ResponseInformation(text)
            | Self::ServerReference(text)
            | Self::ReasonString(text) => Some(text.len()),
            Self::CorrelationData(bytes) | Self::AuthenticationData(SecretBytes(bytes)) => {
                Some(bytes.len())
            }
            Self::UserProperty(name, value) => Some(name.len().max(value.len())),
            _ => None,
        }
    }
}

fn flag(reader: &mut Reader<'_>) -> Result<bool, DecodeError> {
    match reader.byte()? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(protocol(clause::PROPERTY_VALUE)),
    }
}

fn not_zero<T: Default + PartialEq>(value: T) -> Result<T, DecodeError> {
    if value == T::default() { Err(protocol(clause::PROPERTY_VALUE)) } else { Ok(value) }
}

fn subscription_identifier(reader: &mut Reader<'_>) -> Result<u32, DecodeError> {
    let value = not_zero(reader.variable_length()?)?;
    u32::try_from(value).map_err(|_| malformed(clause::LENGTH_TOO_LONG))
}

fn response_topic(text: &str) -> Result<&str, DecodeError> {
    match topic::validate_topic(text) {
        Ok(()) => Ok(text),
        Err(error) if error.clause == clause::TOPIC_WILDCARD => {
            Err(protocol(clause::RESPONSE_TOPIC_WILDCARD))
        }
        Err(error) => Err(error.into()),
    }
}
