//! What can go wrong on the way in ([`DecodeError`]) and on the way out ([`EncodeError`]).

use crate::reason::{ConnectReturnCode, ReasonCode};

/// Why a peer's bytes were refused. After any of these the connection cannot be read further.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// CONNECT names a protocol level that is not served: MQTT 3.1, or one newer than 5.
    /// [MQTT-3.1.2-2], [MQTT5-3.1.2-2].
    #[error(
        "CONNECT asks for protocol level {level}; 4 (MQTT 3.1.1) and 5 (MQTT 5) are served: \
         configure the client for one of them"
    )]
    UnacceptableProtocolVersion {
        /// The level byte as it was sent.
        level: u8,
    },
    /// An empty client identifier together with a session to keep. [MQTT-3.1.3-8].
    #[error(
        "CONNECT has no client identifier but asks for a stored session: set a client identifier \
         or clean session"
    )]
    IdentifierRejected,
    /// The bytes are no packet of the protocol (MQTT 5: reason 0x81).
    #[error("malformed packet: {clause}")]
    Malformed {
        /// One of [`crate::clause`].
        clause: &'static str,
    },
    /// The bytes are a packet that is not allowed here (MQTT 5: reason 0x82). MQTT 3.1.1 knows no
    /// difference from malformed.
    #[error("protocol error: {clause}")]
    Protocol {
        /// One of [`crate::clause`].
        clause: &'static str,
    },
    /// The fixed header announces more bytes than are accepted; nothing of the body was read.
    #[error("packet of {bytes} bytes is over the limit of {max}: send smaller messages")]
    TooLarge {
        /// Size of the whole packet, fixed header included.
        bytes: usize,
        /// The limit that was given to the decoder.
        max: usize,
    },
}

impl DecodeError {
    /// The code of the CONNACK that answers this error in MQTT 3.1.1, or `None` when the connection
    /// is to be closed without an answer.
    pub fn connack_code(&self) -> Option<ConnectReturnCode> {
        match self {
            Self::UnacceptableProtocolVersion { .. } => {
                Some(ConnectReturnCode::UnacceptableProtocolVersion)
            }
            Self::IdentifierRejected => Some(ConnectReturnCode::IdentifierRejected),
            Self::Malformed { .. } | Self::Protocol { .. } | Self::TooLarge { .. } => None,
        }
    }

    /// The reason an MQTT 5 CONNACK or DISCONNECT gives for this error (MQTT 5 section 4.13).
    pub fn reason_code(&self) -> ReasonCode {
        match self {
            Self::UnacceptableProtocolVersion { .. } => ReasonCode::UNSUPPORTED_PROTOCOL_VERSION,
            Self::IdentifierRejected => ReasonCode::CLIENT_IDENTIFIER_NOT_VALID,
            Self::Malformed { .. } => ReasonCode::MALFORMED_PACKET,
            Self::Protocol { .. } => ReasonCode::PROTOCOL_ERROR,
            Self::TooLarge { .. } => ReasonCode::PACKET_TOO_LARGE,
        }
    }

    /// The broken rule, when the error is about one.
    pub fn clause(&self) -> Option<&'static str> {
        match self {
            Self::Malformed { clause } | Self::Protocol { clause } => Some(clause),
            _ => None,
        }
    }
}

pub(crate) const fn malformed(clause: &'static str) -> DecodeError {
    DecodeError::Malformed { clause }
}

pub(crate) const fn protocol(clause: &'static str) -> DecodeError {
    DecodeError::Protocol { clause }
}

/// Why a packet could not be written. Nothing was appended to the buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// A string or binary field is longer than its two-byte length can say.
    #[error("a field of {bytes} bytes does not fit MQTT's limit of 65535: shorten it")]
    FieldTooLong {
        /// Length of the field.
        bytes: usize,
    },
    /// The packet is longer than the remaining length can say.
    #[error("a packet body of {bytes} bytes does not fit MQTT's limit of 268435455: send less")]
    PacketTooLarge {
        /// Length of everything behind the fixed header.
        bytes: usize,
    },
    /// A packet that cannot exist: the clause says which rule the caller broke.
    #[error("refused to write an invalid packet: {clause}")]
    Invalid {
        /// One of [`crate::clause`].
        clause: &'static str,
    },
}
