//! Types that performatives and messages share (part 2, 2.8): roles, settle modes, delivery tags,
//! fields, errors.

use std::fmt;

use crate::clause;
use crate::composite::{Field, composite};
use crate::descriptor;
use crate::error::{DecodeError, EncodeError, invalid_field, malformed, unwritable};
use crate::limits::DELIVERY_TAG_BYTES_MAX;
use crate::value::compound::Map;
use crate::value::symbol::Symbol;
use crate::value::{Value, write};

/// Which end of a link speaks (part 2, 2.8.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// false on the wire.
    Sender,
    /// true on the wire.
    Receiver,
}

impl<'a> Field<'a> for Role {
    fn from_value(value: Value<'a>) -> Result<Self, DecodeError> {
        bool::from_value(value).map(|is_receiver| match is_receiver {
            false => Self::Sender,
            true => Self::Receiver,
        })
    }

    fn write(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        write::boolean(*self == Self::Receiver, out);
        Ok(())
    }
}

/// A type whose values are some numbers of another.
macro_rules! choices {
    (
        $(#[$meta:meta])*
        $name:ident: $number:ty;
        $($(#[$choice_meta:meta])* $choice:ident = $code:literal,)*
    ) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $name {
            $($(#[$choice_meta])* $choice,)*
        }

        impl $name {
            /// All of them, for tables and tests.
            pub const ALL: &[Self] = &[$(Self::$choice),*];

            /// The number on the wire.
            pub fn code(self) -> $number {
                match self {
                    $(Self::$choice => $code,)*
                }
            }
        }

        impl<'a> $crate::composite::Field<'a> for $name {
            fn from_value(
                value: $crate::value::Value<'a>,
            ) -> Result<Self, $crate::DecodeError> {
                match <$number as $crate::composite::Field<'a>>::from_value(value)? {
                    $($code => Ok(Self::$choice),)*
                    _ => Err($crate::error::invalid_field($crate::clause::FIELD_CHOICE)),
                }
            }

            fn write(&self, out: &mut Vec<u8>) -> Result<(), $crate::EncodeError> {
                $crate::composite::Field::write(&self.code(), out)
            }
        }
    };
}

pub(crate) use choices;

choices! {
    /// When a sender settles (part 2, 2.8.2).
    SenderSettleMode: u8;
    /// All deliveries unsettled.
    Unsettled = 0,
    /// All settled when they are sent.
    Settled = 1,
    /// Some of each.
    Mixed = 2,
}

choices! {
    /// When a receiver settles (part 2, 2.8.3).
    ReceiverSettleMode: u8;
    /// As soon as it has decided.
    First = 0,
    /// After the sender has settled.
    Second = 1,
}

/// What names a delivery on its link: up to 32 octets (part 2, 2.8.7).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct DeliveryTag<'a>(&'a [u8]);

impl<'a> DeliveryTag<'a> {
    /// A tag, or `None` if the bytes are too many.
    pub const fn new(bytes: &'a [u8]) -> Option<Self> {
        if bytes.len() <= DELIVERY_TAG_BYTES_MAX { Some(Self(bytes)) } else { None }
    }

    /// Its bytes.
    pub const fn as_bytes(self) -> &'a [u8] {
        self.0
    }
}

impl fmt::Debug for DeliveryTag<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0.escape_ascii())
    }
}

impl<'a> Field<'a> for DeliveryTag<'a> {
    fn from_value(value: Value<'a>) -> Result<Self, DecodeError> {
        let bytes = <&[u8]>::from_value(value)?;
        Self::new(bytes).ok_or(invalid_field(clause::DELIVERY_TAG))
    }

    fn write(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        write::binary(self.0, out)
    }
}

/// A map whose keys are symbols (part 2, 2.8.13). Keys that nobody here knows stay in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fields<'a>(Map<'a>);

impl<'a> Fields<'a> {
    /// No pairs.
    pub const EMPTY: Self = Self(Map::EMPTY);

    /// A map, or `None` if a key is no symbol.
    pub fn new(map: Map<'a>) -> Option<Self> {
        map.iter().all(|(key, _)| key.as_symbol().is_some()).then_some(Self(map))
    }

    /// The map.
    pub fn as_map(&self) -> Map<'a> {
        self.0
    }

    /// The value of a key.
    pub fn find(&self, key: Symbol<'_>) -> Option<Value<'a>> {
        self.0.find(key)
    }
}

impl<'a> Field<'a> for Fields<'a> {
    fn from_value(value: Value<'a>) -> Result<Self, DecodeError> {
        Self::new(Map::from_value(value)?).ok_or(malformed(clause::FIELDS_KEY))
    }

    fn write(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        self.0.write(out)
    }
}

composite! {
    /// What went wrong (part 2, 2.8.14).
    Error<'a> as "error" = descriptor::ERROR;
    /// Which error it is: one of [`crate::condition`], or of somebody's own.
    mandatory condition: Symbol<'a>,
    /// For people.
    optional description: &'a str,
    /// For programs.
    optional info: Fields<'a>,
}

impl<'a> Error<'a> {
    /// An error with its condition and a text.
    pub const fn new(condition: Symbol<'a>, description: &'a str) -> Self {
        Self { condition, description: Some(description), info: None }
    }
}

/// Bytes that are never shown: `Debug` prints their length.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SecretBytes<'a>(pub &'a [u8]);

impl fmt::Debug for SecretBytes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "({} bytes hidden)", self.0.len())
    }
}

impl<'a> Field<'a> for SecretBytes<'a> {
    fn from_value(value: Value<'a>) -> Result<Self, DecodeError> {
        <&[u8]>::from_value(value).map(Self)
    }

    fn write(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        self.0.write(out)
    }
}

/// A field that is an address: a string (part 3, 3.2.15), of the types the specification leaves
/// room for the only one it defines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Address<'a>(pub &'a str);

impl<'a> Field<'a> for Address<'a> {
    fn from_value(value: Value<'a>) -> Result<Self, DecodeError> {
        value.as_str().map(Self).ok_or(crate::error::not_implemented(clause::ADDRESS))
    }

    fn write(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        write::string(self.0, out)
    }
}

/// Refuses to write what a peer would refuse to read.
pub(crate) fn require(is_held: bool, clause: &'static str) -> Result<(), EncodeError> {
    if is_held { Ok(()) } else { Err(unwritable(clause)) }
}
