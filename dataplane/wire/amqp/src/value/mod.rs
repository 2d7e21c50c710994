//! The type system (part 1): values as they are read.
//!
//! Scalars are read when a value is; text and binary data are borrowed; what holds other values is a
//! view of bytes that were checked already ([`compound`]). How to write values is in [`mod@write`], how
//! to build lists, maps and arrays in [`buffer`].

pub mod buffer;
pub mod compound;
pub(crate) mod format;
pub(crate) mod read;
pub mod symbol;
pub(crate) mod write;

use std::fmt;

use crate::error::{DecodeError, EncodeError};
use compound::{Array, Described, List, Map};
use read::{Reader, Walk};
use symbol::Symbol;

/// A universally unique identifier (part 1, 1.6.18).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Uuid(pub [u8; 16]);

impl fmt::Debug for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, byte) in self.0.iter().enumerate() {
            if [4, 6, 8, 10].contains(&index) {
                f.write_str("-")?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

/// A value of any type (part 1, 1.6). How it was encoded makes no difference to what it equals.
#[derive(Debug, Clone, Copy)]
pub enum Value<'a> {
    /// 1.6.1, no value.
    Null,
    /// 1.6.2.
    Boolean(bool),
    /// 1.6.3, 8 bits.
    Ubyte(u8),
    /// 1.6.4, 16 bits.
    Ushort(u16),
    /// 1.6.5, 32 bits.
    Uint(u32),
    /// 1.6.6, 64 bits.
    Ulong(u64),
    /// 1.6.7, 8 bits with a sign.
    Byte(i8),
    /// 1.6.8, 16 bits with a sign.
    Short(i16),
    /// 1.6.9, 32 bits with a sign.
    Int(i32),
    /// 1.6.10, 64 bits with a sign.
    Long(i64),
    /// 1.6.11, IEEE 754 binary32. Equal if its bits are: what is not a number equals itself.
    Float(f32),
    /// 1.6.12, IEEE 754 binary64, equal as `Float` is.
    Double(f64),
    /// 1.6.13, IEEE 754 decimal32; its bits, which this crate does not calculate with.
    Decimal32([u8; 4]),
    /// 1.6.14, IEEE 754 decimal64.
    Decimal64([u8; 8]),
    /// 1.6.15, IEEE 754 decimal128.
    Decimal128([u8; 16]),
    /// 1.6.16, a Unicode character.
    Char(char),
    /// 1.6.17, milliseconds since 1970 in UTC.
    Timestamp(i64),
    /// 1.6.18.
    Uuid(Uuid),
    /// 1.6.19.
    Binary(&'a [u8]),
    /// 1.6.20, UTF-8. U+0000 is a character like any other.
    String(&'a str),
    /// 1.6.21, ASCII.
    Symbol(Symbol<'a>),
    /// 1.6.22.
    List(List<'a>),
    /// 1.6.23.
    Map(Map<'a>),
    /// 1.6.24.
    Array(Array<'a>),
    /// 1.1.2, a value with a descriptor.
    Described(Described<'a>),
}

/// Reads the value at the front of `bytes`, checks it to its last byte, and says how many it has.
///
/// # Errors
/// The bytes are no value, end before it does, or it is over a limit.
pub fn decode_value(bytes: &[u8]) -> Result<(Value<'_>, usize), DecodeError> {
    let mut reader = Reader::new(bytes);
    let value = read::value(&mut reader, Walk::DEEP)?;
    Ok((value, bytes.len() - reader.rest().len()))
}

/// Appends a value: scalars and text in their shortest form, the items of compound values as they
/// came.
///
/// # Errors
/// It is longer than four bytes can say; nothing was appended.
pub fn encode_value(value: &Value<'_>, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    let start = out.len();
    let written = write::value(value, out);
    if written.is_err() {
        out.truncate(start);
    }
    written
}

impl<'a> Value<'a> {
    /// Whether it is null.
    pub fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }

    /// The text of a string.
    pub fn as_str(&self) -> Option<&'a str> {
        match self {
            Self::String(text) => Some(text),
            _ => None,
        }
    }

    /// A symbol.
    pub fn as_symbol(&self) -> Option<Symbol<'a>> {
        match self {
            Self::Symbol(symbol) => Some(*symbol),
            _ => None,
        }
    }

    /// The bytes of binary data.
    pub fn as_binary(&self) -> Option<&'a [u8]> {
        match self {
            Self::Binary(bytes) => Some(bytes),
            _ => None,
        }
    }

    /// A whole number of any of the eight types, if it is in range.
    pub fn as_i64(&self) -> Option<i64> {
        match *self {
            Self::Ubyte(number) => Some(number.into()),
            Self::Ushort(number) => Some(number.into()),
            Self::Uint(number) => Some(number.into()),
            Self::Ulong(number) => number.try_into().ok(),
            Self::Byte(number) => Some(number.into()),
            Self::Short(number) => Some(number.into()),
            Self::Int(number) => Some(number.into()),
            Self::Long(number) => Some(number),
            _ => None,
        }
    }
}

impl PartialEq for Value<'_> {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Null, Self::Null) => true,
            (Self::Boolean(one), Self::Boolean(two)) => one == two,
            (Self::Ubyte(one), Self::Ubyte(two)) => one == two,
            (Self::Ushort(one), Self::Ushort(two)) => one == two,
            (Self::Uint(one), Self::Uint(two)) => one == two,
            (Self::Ulong(one), Self::Ulong(two)) => one == two,
            (Self::Byte(one), Self::Byte(two)) => one == two,
            (Self::Short(one), Self::Short(two)) => one == two,
            (Self::Int(one), Self::Int(two)) => one == two,
            (Self::Long(one), Self::Long(two)) => one == two,
            (Self::Float(one), Self::Float(two)) => one.to_bits() == two.to_bits(),
            (Self::Double(one), Self::Double(two)) => one.to_bits() == two.to_bits(),
            (Self::Decimal32(one), Self::Decimal32(two)) => one == two,
            (Self::Decimal64(one), Self::Decimal64(two)) => one == two,
            (Self::Decimal128(one), Self::Decimal128(two)) => one == two,
            (Self::Char(one), Self::Char(two)) => one == two,
            (Self::Timestamp(one), Self::Timestamp(two)) => one == two,
            (Self::Uuid(one), Self::Uuid(two)) => one == two,
            (Self::Binary(one), Self::Binary(two)) => one == two,
            (Self::String(one), Self::String(two)) => one == two,
            (Self::Symbol(one), Self::Symbol(two)) => one == two,
            (Self::List(one), Self::List(two)) => one == two,
            (Self::Map(one), Self::Map(two)) => one == two,
            (Self::Array(one), Self::Array(two)) => one == two,
            (Self::Described(one), Self::Described(two)) => one == two,
            _ => false,
        }
    }
}

impl Eq for Value<'_> {}
