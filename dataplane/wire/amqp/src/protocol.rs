//! Protocol headers: the first eight bytes of a connection and of each layer under it (part 2, 2.2;
//! part 5, 5.2 and 5.3.2).

use crate::clause;
use crate::error::{DecodeError, framing};
use crate::limits::PROTOCOL_HEADER_BYTES;

const NAME: [u8; 4] = *b"AMQP";

/// "AMQP", which protocol, and its version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProtocolHeader {
    /// 0 is AMQP itself, 2 TLS, 3 SASL.
    pub protocol: u8,
    /// 1 of 1.0.0.
    pub major: u8,
    /// The first 0 of 1.0.0.
    pub minor: u8,
    /// The second 0 of 1.0.0.
    pub revision: u8,
}

/// What to do with a protocol header that came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Negotiation {
    /// Answer with the same one and go on with its layer.
    Accept(ProtocolHeader),
    /// Answer with this one, which is supported, and close.
    Refuse(ProtocolHeader),
}

impl ProtocolHeader {
    /// AMQP 1.0.0 (part 2, 2.2).
    pub const AMQP: Self = Self::version_1(0);
    /// TLS under it (part 5, 5.2).
    pub const TLS: Self = Self::version_1(2);
    /// SASL under it (part 5, 5.3.2).
    pub const SASL: Self = Self::version_1(3);

    const fn version_1(protocol: u8) -> Self {
        Self { protocol, major: 1, minor: 0, revision: 0 }
    }

    /// Reads a header from the front of a connection's bytes; `None` while it is not whole.
    ///
    /// # Errors
    /// The bytes are not AMQP's, which the first that differs says. The answer is the header of the
    /// layer that is served, and then the connection is closed (part 2, 2.2).
    pub fn decode(bytes: &[u8]) -> Result<Option<Self>, DecodeError> {
        if bytes.iter().zip(NAME).any(|(byte, expected)| *byte != expected) {
            return Err(framing(clause::PROTOCOL_HEADER));
        }
        let header = bytes.first_chunk::<PROTOCOL_HEADER_BYTES>();
        Ok(header.map(|&[_, _, _, _, protocol, major, minor, revision]| Self {
            protocol,
            major,
            minor,
            revision,
        }))
    }

    /// The eight bytes.
    pub fn encode(self) -> [u8; PROTOCOL_HEADER_BYTES] {
        let [a, m, q, p] = NAME;
        [a, m, q, p, self.protocol, self.major, self.minor, self.revision]
    }

    /// What to answer, being asked for this one: the same if it is `preferred` or among `others`,
    /// the preferred one otherwise (part 2, 2.2).
    pub fn negotiate(self, preferred: Self, others: &[Self]) -> Negotiation {
        if self == preferred || others.contains(&self) {
            Negotiation::Accept(self)
        } else {
            Negotiation::Refuse(preferred)
        }
    }
}
