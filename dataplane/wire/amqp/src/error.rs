//! What can go wrong on the way in ([`DecodeError`]) and on the way out ([`EncodeError`]).

use std::fmt;

use crate::condition;
use crate::value::symbol::Symbol;

/// A field of a composite, as errors name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FieldName {
    /// The composite, as the specification names it.
    pub composite: &'static str,
    /// The field, in this crate's spelling: underscores where the specification has hyphens. Empty
    /// where an error is about the composite as a whole.
    pub field: &'static str,
}

impl fmt::Display for FieldName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.field {
            "" => f.write_str(self.composite),
            field => write!(f, "{}.{field}", self.composite),
        }
    }
}

/// Why a peer's bytes were refused. [`DecodeError::condition`] is what the close, end or detach that
/// answers it says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The bytes are no value of the type system, or not of the type that has to be here.
    #[error("malformed{}: {clause}", Within(*.field))]
    Malformed {
        /// The field it was found in, if it was one.
        field: Option<FieldName>,
        /// One of [`crate::clause`].
        clause: &'static str,
    },
    /// No frame can be made of the bytes. The connection is beyond repair.
    #[error("framing error: {clause}")]
    Framing {
        /// One of [`crate::clause`].
        clause: &'static str,
    },
    /// The frame header announces more bytes than are accepted; nothing of the body was read.
    #[error(
        "frame of {bytes} bytes is over the limit of {max}: keep to the max-frame-size of open"
    )]
    FrameTooLarge {
        /// Size of the whole frame, header included.
        bytes: usize,
        /// The limit that was given to the decoder.
        max: usize,
    },
    /// A field is of its type, but has a value that cannot be.
    #[error("invalid value{}: {clause}", Within(*.field))]
    InvalidField {
        /// The field it was found in.
        field: Option<FieldName>,
        /// One of [`crate::clause`].
        clause: &'static str,
    },
    /// Something the specification leaves room for, and this codec does not know.
    #[error("not implemented{}: {clause}", Within(*.field))]
    NotImplemented {
        /// The field it was found in, if it was one.
        field: Option<FieldName>,
        /// One of [`crate::clause`].
        clause: &'static str,
    },
    /// A value is valid, but over a bound of [`crate::limits`].
    #[error("over a limit{}: {clause}", Within(*.field))]
    OverLimit {
        /// The field it was found in, if it was one.
        field: Option<FieldName>,
        /// One of [`crate::clause`].
        clause: &'static str,
    },
}

impl DecodeError {
    /// The error condition that tells a peer (part 2, 2.8.15 and 2.8.16).
    pub fn condition(&self) -> Symbol<'static> {
        match self {
            Self::Malformed { .. } => condition::DECODE_ERROR,
            Self::Framing { .. } | Self::FrameTooLarge { .. } => {
                condition::CONNECTION_FRAMING_ERROR
            }
            Self::InvalidField { .. } => condition::INVALID_FIELD,
            Self::NotImplemented { .. } => condition::NOT_IMPLEMENTED,
            Self::OverLimit { .. } => condition::RESOURCE_LIMIT_EXCEEDED,
        }
    }

    /// The broken rule, when the error is about one.
    pub fn clause(&self) -> Option<&'static str> {
        match self {
            Self::Malformed { clause, .. }
            | Self::Framing { clause }
            | Self::InvalidField { clause, .. }
            | Self::NotImplemented { clause, .. }
            | Self::OverLimit { clause, .. } => Some(clause),
            Self::FrameTooLarge { .. } => None,
        }
    }

    /// The same error, with the field it was found in, unless it names an inner one already.
    pub(crate) fn within(mut self, name: FieldName) -> Self {
        match &mut self {
            Self::Malformed { field, .. }
            | Self::InvalidField { field, .. }
            | Self::NotImplemented { field, .. }
            | Self::OverLimit { field, .. } => *field = field.or(Some(name)),
            Self::Framing { .. } | Self::FrameTooLarge { .. } => {}
        }
        self
    }
}

/// Shows where an error was found, or nothing.
struct Within(Option<FieldName>);

impl fmt::Display for Within {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(name) => write!(f, " in {name}"),
            None => Ok(()),
        }
    }
}

pub(crate) const fn malformed(clause: &'static str) -> DecodeError {
    DecodeError::Malformed { field: None, clause }
}

pub(crate) const fn framing(clause: &'static str) -> DecodeError {
    DecodeError::Framing { clause }
}

pub(crate) const fn invalid_field(clause: &'static str) -> DecodeError {
    DecodeError::InvalidField { field: None, clause }
}

pub(crate) const fn not_implemented(clause: &'static str) -> DecodeError {
    DecodeError::NotImplemented { field: None, clause }
}

pub(crate) const fn over_limit(clause: &'static str) -> DecodeError {
    DecodeError::OverLimit { field: None, clause }
}

/// Why something could not be written. Nothing was appended to the buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// A value is longer than its four-byte length can say.
    #[error("a value of {bytes} bytes does not fit AMQP's limit of 4294967295: send less")]
    ValueTooLong {
        /// Length of the value.
        bytes: usize,
    },
    /// The frame is larger than the peer accepts.
    #[error(
        "a frame of {bytes} bytes does not fit the peer's limit of {max}: split it or say less"
    )]
    FrameTooLarge {
        /// Size of the whole frame, header included.
        bytes: usize,
        /// The limit that was given to the encoder.
        max: usize,
    },
    /// Something that cannot exist: the clause says which rule the caller broke.
    #[error("refused to write something invalid: {clause}")]
    Invalid {
        /// One of [`crate::clause`].
        clause: &'static str,
    },
}

impl EncodeError {
    /// The error condition a peer is told when it cannot be sent what it asked for (part 2, 2.8.15).
    pub fn condition(&self) -> Symbol<'static> {
        match self {
            Self::FrameTooLarge { .. } => condition::FRAME_SIZE_TOO_SMALL,
            Self::ValueTooLong { .. } | Self::Invalid { .. } => condition::INTERNAL_ERROR,
        }
    }
}

pub(crate) const fn unwritable(clause: &'static str) -> EncodeError {
    EncodeError::Invalid { clause }
}
