//! Delivery states and outcomes (part 3, 3.4; of transactions part 4, 4.5).

use crate::clause;
use crate::composite::{Composite, Field, composite, from_described};
use crate::definitions::{Error, Fields};
use crate::descriptor;
use crate::error::{DecodeError, EncodeError, malformed};
use crate::value::compound::Described;
use crate::value::{Value, write};

composite! {
    /// How much of a message has arrived (3.4.1). No outcome: the delivery goes on.
    Received as "received" = descriptor::RECEIVED;
    /// The section of the message, counted from 0.
    mandatory section_number: u32,
    /// The byte of that section.
    mandatory section_offset: u64,
}

composite! {
    /// The message was taken (3.4.2).
    Accepted as "accepted" = descriptor::ACCEPTED;
}

composite! {
    /// The message is invalid and was not taken (3.4.3).
    Rejected<'a> as "rejected" = descriptor::REJECTED;
    /// Why.
    optional error: Error<'a>,
}

composite! {
    /// The message was not taken, and nothing was done with it: it may be sent again (3.4.4).
    Released as "released" = descriptor::RELEASED;
}

composite! {
    /// The message was not taken, and something may have been done with it (3.4.5).
    Modified<'a> as "modified" = descriptor::MODIFIED;
    /// Whether this counts as an attempt to deliver it.
    default(false) delivery_failed: bool,
    /// Whether it must not come here again.
    default(false) undeliverable_here: bool,
    /// Annotations to put into the message.
    optional message_annotations: Fields<'a>,
}

composite! {
    /// The transaction that was asked for has this identifier (part 4, 4.5.5).
    Declared<'a> as "declared" = descriptor::DECLARED;
    /// The identifier.
    mandatory txn_id: &'a [u8],
}

composite! {
    /// What becomes of the delivery depends on a transaction (part 4, 4.5.6).
    TransactionalState<'a> as "transactional-state" = descriptor::TRANSACTIONAL_STATE;
    /// The transaction.
    mandatory txn_id: &'a [u8],
    /// The outcome if it is committed.
    optional outcome: Outcome<'a>,
}

/// The end of a delivery (3.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome<'a> {
    /// 3.4.2.
    Accepted,
    /// 3.4.3.
    Rejected(Rejected<'a>),
    /// 3.4.4.
    Released,
    /// 3.4.5.
    Modified(Modified<'a>),
    /// Part 4, 4.5.5.
    Declared(Declared<'a>),
    /// An outcome of somebody's own, as it came.
    Other(Described<'a>),
}

/// What an end knows of a delivery (3.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeliveryState<'a> {
    /// It has arrived so far (3.4.1).
    Received(Received),
    /// It is over. A state that is not the specification's is here too, as [`Outcome::Other`].
    Outcome(Outcome<'a>),
    /// It waits for a transaction (part 4, 4.5.6).
    Transactional(TransactionalState<'a>),
}

impl<'a> Outcome<'a> {
    fn from_described(code: Option<u64>, described: Described<'a>) -> Result<Self, DecodeError> {
        Ok(match code {
            Some(descriptor::ACCEPTED) => {
                let Accepted {} = from_described(&described)?;
                Self::Accepted
            }
            Some(descriptor::REJECTED) => Self::Rejected(from_described(&described)?),
            Some(descriptor::RELEASED) => {
                let Released {} = from_described(&described)?;
                Self::Released
            }
            Some(descriptor::MODIFIED) => Self::Modified(from_described(&described)?),
            Some(descriptor::DECLARED) => Self::Declared(from_described(&described)?),
            // States that are no outcomes, where an outcome has to be.
            Some(descriptor::RECEIVED | descriptor::TRANSACTIONAL_STATE) => {
                return Err(malformed(clause::COMPOSITE_UNKNOWN));
            }
            _ => Self::Other(described),
        })
    }
}

fn described(value: Value<'_>) -> Result<Described<'_>, DecodeError> {
    match value {
        Value::Described(described) => Ok(described),
        _ => Err(malformed(clause::COMPOSITE_NOT_DESCRIBED)),
    }
}

impl<'a> Field<'a> for Outcome<'a> {
    fn from_value(value: Value<'a>) -> Result<Self, DecodeError> {
        let described = described(value)?;
        Self::from_described(described.code(), described)
    }

    fn write(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        match self {
            Self::Accepted => Accepted {}.write_composite(out),
            Self::Rejected(rejected) => rejected.write_composite(out),
            Self::Released => Released {}.write_composite(out),
            Self::Modified(modified) => modified.write_composite(out),
            Self::Declared(declared) => declared.write_composite(out),
            Self::Other(described) => write::value(&Value::Described(*described), out),
        }
    }
}

impl<'a> Field<'a> for DeliveryState<'a> {
    fn from_value(value: Value<'a>) -> Result<Self, DecodeError> {
        let described = described(value)?;
        match described.code() {
            Some(descriptor::RECEIVED) => from_described(&described).map(Self::Received),
            Some(descriptor::TRANSACTIONAL_STATE) => {
                from_described(&described).map(Self::Transactional)
            }
            code => Outcome::from_described(code, described).map(Self::Outcome),
        }
    }

    fn write(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        match self {
            Self::Received(received) => received.write_composite(out),
            Self::Outcome(outcome) => outcome.write(out),
            Self::Transactional(state) => state.write_composite(out),
        }
    }
}
