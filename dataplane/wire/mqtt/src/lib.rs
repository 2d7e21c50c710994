//! MQTT codec without I/O: bytes in, packets out, and back.
//!
//! Carries MQTT 3.1.1 and the packet shapes of MQTT 5. Decoding borrows from the receive buffer and
//! allocates nothing; encoding appends to a `Vec<u8>` the caller owns.
//!
//! # How to drive it
//! 1. Keep the unread bytes of a connection in one contiguous buffer.
//! 2. Call [`decode`] with `level: None` until a CONNECT was decoded, then with the level it named.
//! 3. [`Decoded::NeedMore`]: wait until the buffer holds at least `at_least` bytes, then go to 2.
//!    Calling earlier is harmless, it only costs the look at the fixed header.
//! 4. [`Decoded::Packet`]: act on the packet, drop `used` bytes from the front, go to 2.
//! 5. `Err`: nothing more can be read from this connection. Answer with
//!    [`DecodeError::connack_code`] (3.1.1, CONNECT alone) or [`DecodeError::reason_code`] (MQTT 5),
//!    then close.
//!
//! # Invariants
//! - A decoded packet is well formed: strings are UTF-8 without U+0000, topic names have no
//!   wildcards, filters are valid, packet identifiers are not zero, properties are known, permitted
//!   in that packet, and not repeated. Iterators over filters and properties cannot fail.
//! - A packet that is too large, or is not allowed now, is refused from its fixed header, before its
//!   body arrives.
//! - Each refusal names the clause of the specification ([`clause`]).
//! - No input panics, and no input makes the decoder allocate.
//!
//! # Deliberately not here
//! Session state: packet identifier bookkeeping, keep-alive, topic aliases, receive maximum,
//! whether a packet may travel in this direction. Those need memory of earlier packets and belong
//! to the session. MQTT 3.1 (`MQIsdp`) is refused with "unacceptable protocol version".

pub mod clause;
mod decode;
pub mod encode;
mod error;
mod limits;
mod packet;
mod property;
mod reader;
mod reason;
pub mod topic;

pub use decode::{DecodeContext, Decoded, decode};
pub use encode::client::{
    encode_connect, encode_disconnect, encode_pingreq, encode_subscribe, encode_unsubscribe,
};
pub use encode::{
    encode_connack, encode_packet, encode_pingresp, encode_puback, encode_pubcomp, encode_publish,
    encode_publish_parts, encode_pubrec, encode_pubrel, encode_suback, encode_unsuback, v5,
};
pub use error::{DecodeError, EncodeError};
pub use limits::{FIXED_HEADER_BYTES_MAX, REMAINING_LENGTH_MAX, STRING_BYTES_MAX};
pub use packet::{
    ConnAck, ConnAckCode, Connect, Filters, Packet, ProtocolLevel, Publish, PublishOut, QoS,
    ReasonCodes, RetainHandling, SubAck, Subscribe, SubscribeFilter, SubscribeFilters,
    SubscribeOptions, UnsubAck, Unsubscribe, Will,
};
pub use property::value::{Property, SecretBytes};
pub use property::{Properties, PropertyBuffer, PropertyIter, PropertyOwner};
pub use reason::{ConnectReturnCode, ReasonCode};
