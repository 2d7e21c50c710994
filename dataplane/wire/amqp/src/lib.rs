//! AMQP 1.0 codec without I/O: bytes in, frames and messages out, and back.
//!
//! The types, frames, performatives, messages and SASL frames of the OASIS standard of 29 October
//! 2012. "Part 2, 2.7.5" beside code is its part and section.
//!
//! # How to drive it
//! 1. Keep the unread bytes of a connection in one contiguous buffer.
//! 2. [`ProtocolHeader::decode`] until it gives a header; [`ProtocolHeader::negotiate`] says what to
//!    answer. Drop its eight bytes from the front.
//! 3. Call [`decode_frame`] with the layer that was agreed on: [`FrameContext::SASL`] until an
//!    outcome was sent or came, then go to 2 for the header of AMQP itself.
//! 4. [`Decoded::NeedMore`]: wait until the buffer holds at least `at_least` bytes, then go to 3.
//!    Calling earlier is harmless, it only costs the look at the frame header.
//! 5. [`Decoded::Frame`]: act on the frame, drop `used` bytes from the front, go to 3.
//! 6. `Err`: nothing more can be read from this connection. Send a close with
//!    [`DecodeError::condition`], if an open was sent, and close.
//!
//! The payload of a transfer is a [`Message`], or a piece of one: [`Message::parse_prefix`] reads
//! what the first transfer of a delivery holds.
//!
//! # Invariants
//! - A decoded value is well formed to its last byte, so views of lists, maps and arrays cannot
//!   fail; a message's sections are checked one by one, when they are asked for.
//! - A frame that is too large, or has the wrong type, is refused from its header, before its body
//!   arrives.
//! - Each refusal names the clause of the specification ([`clause`]) and the error condition that
//!   tells the peer ([`DecodeError::condition`]).
//! - No input panics, recursion has a bound ([`limits`]), and the decoder allocates nothing, but for
//!   one box for an open and one for an attach.
//! - What is written has the shortest encoding; what is passed on is not encoded again.
//!
//! # Deliberately not here
//! The states of connections, sessions and links: whether a frame is permitted now, windows, credit,
//! delivery numbers, settlement, idle time, and messages put together from several transfers. Those
//! need memory of earlier frames. Of transactions, the coordinator and the two delivery states are
//! recognised; the messages that declare and discharge them are messages like others.

pub mod clause;
mod composite;
pub mod condition;
mod definitions;
pub mod descriptor;
mod error;
mod frame;
pub mod limits;
mod messaging;
mod performative;
mod protocol;
mod sasl;
mod value;

pub use definitions::{
    Address, DeliveryTag, Error, Fields, ReceiverSettleMode, Role, SecretBytes, SenderSettleMode,
};
pub use error::{DecodeError, EncodeError, FieldName};
pub use frame::{Decoded, Frame, FrameContext, Layer, decode_frame, encode_frame, encode_transfer};
pub use messaging::build::{
    Body, MessageParts, encode_delivery_annotations, encode_header, encode_message_annotations,
};
pub use messaging::message::{BodyKind, Message, Prefix};
pub use messaging::section::{Header, MessageId, Properties};
pub use messaging::state::{
    Accepted, Declared, DeliveryState, Modified, Outcome, Received, Rejected, Released,
    TransactionalState,
};
pub use messaging::terminus::{
    Coordinator, DistributionMode, ExpiryPolicy, FilterSet, LifetimePolicy, NodeProperties, Source,
    Target, TargetNode, TerminusDurability,
};
pub use performative::{
    Attach, Begin, Close, Detach, Disposition, End, Flow, Open, Performative, Transfer,
};
pub use protocol::{Negotiation, ProtocolHeader};
pub use sasl::{
    Sasl, SaslChallenge, SaslCode, SaslInit, SaslMechanisms, SaslOutcome, SaslResponse,
};
pub use value::buffer::{ArrayBuffer, DescribedBuffer, ListBuffer, MapBuffer};
pub use value::compound::{Array, Described, List, Map, Pairs, Values};
pub use value::symbol::{Symbol, SymbolIter, Symbols};
pub use value::{Uuid, Value, decode_value, encode_value};
