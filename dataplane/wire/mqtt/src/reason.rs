//! Return codes of MQTT 3.1.1 and reason codes of MQTT 5, with the table of which packet may carry
//! which (MQTT 5 section 2.4).

use crate::property::PropertyOwner;

/// The code of a 3.1.1 CONNACK (section 3.2.2.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum ConnectReturnCode {
    /// The connection is accepted.
    Accepted = 0,
    /// The protocol level is not served.
    UnacceptableProtocolVersion = 1,
    /// The client identifier is not allowed.
    IdentifierRejected = 2,
    /// The service cannot be used now.
    ServerUnavailable = 3,
    /// User name or password is wrong.
    BadUserNameOrPassword = 4,
    /// The client may not connect.
    NotAuthorized = 5,
}

impl ConnectReturnCode {
    /// The code with that value, if it is not reserved.
    pub fn from_u8(value: u8) -> Option<Self> {
        Some(match value {
            0 => Self::Accepted,
            1 => Self::UnacceptableProtocolVersion,
            2 => Self::IdentifierRejected,
            3 => Self::ServerUnavailable,
            4 => Self::BadUserNameOrPassword,
            5 => Self::NotAuthorized,
            _ => return None,
        })
    }

    /// The byte on the wire.
    pub fn as_u8(self) -> u8 {
        self as u8
    }
}

/// A reason code of MQTT 5. Below 0x80 is success. The SUBACK codes of 3.1.1 (0, 1, 2, 0x80) are
/// the same numbers, so both levels use this type there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ReasonCode(u8);

macro_rules! reasons {
    ($($(#[doc = $doc:literal])* $name:ident = $value:literal;)*) => {
        impl ReasonCode {
            $($(#[doc = $doc])* pub const $name: Self = Self($value);)*
        }
    };
}

reasons! {
    /// Success.
    SUCCESS = 0x00;
    /// DISCONNECT: the will is not to be sent.
    NORMAL_DISCONNECTION = 0x00;
    /// SUBACK: granted with at most once.
    GRANTED_QOS_0 = 0x00;
    /// SUBACK: granted with at least once.
    GRANTED_QOS_1 = 0x01;
    /// SUBACK: granted with exactly once.
    GRANTED_QOS_2 = 0x02;
    /// DISCONNECT: leave, and send the will.
    DISCONNECT_WITH_WILL = 0x04;
    /// The message was accepted, nobody is subscribed.
    NO_MATCHING_SUBSCRIBERS = 0x10;
    /// UNSUBACK: there was no such subscription.
    NO_SUBSCRIPTION_EXISTED = 0x11;
    /// AUTH: another step follows.
    CONTINUE_AUTHENTICATION = 0x18;
    /// AUTH: the client starts again.
    REAUTHENTICATE = 0x19;
    /// Refused without a reason; in a 3.1.1 SUBACK, "failure".
    UNSPECIFIED_ERROR = 0x80;
    /// The bytes were no packet.
    MALFORMED_PACKET = 0x81;
    /// The packet was not allowed.
    PROTOCOL_ERROR = 0x82;
    /// Valid, but not accepted by this server.
    IMPLEMENTATION_SPECIFIC_ERROR = 0x83;
    /// The protocol level is not served.
    UNSUPPORTED_PROTOCOL_VERSION = 0x84;
    /// The client identifier is not allowed.
    CLIENT_IDENTIFIER_NOT_VALID = 0x85;
    /// User name or password is wrong.
    BAD_USER_NAME_OR_PASSWORD = 0x86;
    /// Not allowed for this client.
    NOT_AUTHORIZED = 0x87;
    /// The server cannot be used now.
    SERVER_UNAVAILABLE = 0x88;
    /// The server has no room now.
    SERVER_BUSY = 0x89;
    /// The client is shut out.
    BANNED = 0x8A;
    /// The server is going down.
    SERVER_SHUTTING_DOWN = 0x8B;
    /// The authentication method is not known.
    BAD_AUTHENTICATION_METHOD = 0x8C;
    /// No packet arrived in one and a half keep-alive times.
    KEEP_ALIVE_TIMEOUT = 0x8D;
    /// Another connection took the session over.
    SESSION_TAKEN_OVER = 0x8E;
    /// The topic filter is not accepted.
    TOPIC_FILTER_INVALID = 0x8F;
    /// The topic name is not accepted.
    TOPIC_NAME_INVALID = 0x90;
    /// The packet identifier is in use.
    PACKET_IDENTIFIER_IN_USE = 0x91;
    /// The packet identifier is not known.
    PACKET_IDENTIFIER_NOT_FOUND = 0x92;
    /// More unacknowledged messages than agreed.
    RECEIVE_MAXIMUM_EXCEEDED = 0x93;
    /// The topic alias is out of range.
    TOPIC_ALIAS_INVALID = 0x94;
    /// The packet is larger than agreed.
    PACKET_TOO_LARGE = 0x95;
    /// Messages come too fast.
    MESSAGE_RATE_TOO_HIGH = 0x96;
    /// A quota is used up.
    QUOTA_EXCEEDED = 0x97;
    /// An operator ended the connection.
    ADMINISTRATIVE_ACTION = 0x98;
    /// The payload is not what its format indicator says.
    PAYLOAD_FORMAT_INVALID = 0x99;
    /// Retained messages are not served.
    RETAIN_NOT_SUPPORTED = 0x9A;
    /// The QoS is not served.
    QOS_NOT_SUPPORTED = 0x9B;
    /// Use another server for now.
    USE_ANOTHER_SERVER = 0x9C;
    /// Use another server from now on.
    SERVER_MOVED = 0x9D;
    /// Shared subscriptions are not served.
    SHARED_SUBSCRIPTIONS_NOT_SUPPORTED = 0x9E;
    /// Connections come too fast.
    CONNECTION_RATE_EXCEEDED = 0x9F;
    /// The longest connect time is over.
    MAXIMUM_CONNECT_TIME = 0xA0;
    /// Subscription identifiers are not served.
    SUBSCRIPTION_IDENTIFIERS_NOT_SUPPORTED = 0xA1;
    /// Wildcard subscriptions are not served.
    WILDCARD_SUBSCRIPTIONS_NOT_SUPPORTED = 0xA2;
}

impl ReasonCode {
    /// The byte on the wire.
    pub const fn as_u8(self) -> u8 {
        self.0
    }

    /// Whether the request failed: 0x80 and above.
    pub const fn is_error(self) -> bool {
        self.0 >= 0x80
    }

    /// The SUBACK code that grants `qos`.
    pub const fn granted(qos: crate::QoS) -> Self {
        Self(qos as u8)
    }

    /// The code with that value, if a packet of this kind may carry it (MQTT 5 section 2.4).
    pub(crate) fn in_packet(value: u8, carrier: PropertyOwner) -> Option<Self> {
        use PropertyOwner as Owner;
        let permitted = match carrier {
            Owner::ConnAck => matches!(value,
                0x00 | 0x80..=0x8A | 0x8C | 0x90 | 0x95 | 0x97 | 0x99..=0x9D | 0x9F),
            Owner::PubAck | Owner::PubRec => {
                matches!(value, 0x00 | 0x10 | 0x80 | 0x83 | 0x87 | 0x90 | 0x91 | 0x97 | 0x99)
            }
            Owner::PubRel | Owner::PubComp => matches!(value, 0x00 | 0x92),
            Owner::SubAck => matches!(
                value,
                0x00..=0x02 | 0x80 | 0x83 | 0x87 | 0x8F | 0x91 | 0x97 | 0x9E | 0xA1 | 0xA2
            ),
            Owner::UnsubAck => {
                matches!(value, 0x00 | 0x11 | 0x80 | 0x83 | 0x87 | 0x8F | 0x91)
            }
            Owner::Disconnect => matches!(value,
                0x00 | 0x04 | 0x80..=0x83 | 0x87 | 0x89 | 0x8B | 0x8D..=0x90 | 0x93..=0xA2),
            Owner::Auth => matches!(value, 0x00 | 0x18 | 0x19),
            Owner::Connect
            | Owner::Will
            | Owner::Publish
            | Owner::Subscribe
            | Owner::Unsubscribe => false,
        };
        permitted.then_some(Self(value))
    }

    /// A SUBACK code of 3.1.1 (section 3.9.3).
    pub(crate) fn in_suback_v311(value: u8) -> Option<Self> {
        matches!(value, 0x00..=0x02 | 0x80).then_some(Self(value))
    }

    pub(crate) const fn unchecked(value: u8) -> Self {
        Self(value)
    }
}
