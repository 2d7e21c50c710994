//! Reads values from bytes: cuts them out, checks them, and gives a view of them.
//!
//! Two walks share the code. A deep one, over a peer's bytes, checks everything a value holds. A
//! shallow one cuts a value out and looks into it no further than its own size and count: it steps
//! over the items of what a deep walk has checked, and finds where sections of a message end. The
//! deep one recurses, no further than [`VALUE_DEPTH_MAX`]; the shallow one does not.

use crate::clause;
use crate::error::{DecodeError, malformed, not_implemented, over_limit};
use crate::limits::{ARRAY_ZERO_WIDTH_COUNT_MAX, VALUE_DEPTH_MAX};
use crate::value::compound::{Array, Described, List, Map};
use crate::value::format::{self, Width};
use crate::value::symbol::Symbol;
use crate::value::{Uuid, Value};

/// How far a walk goes, and how many levels it may still go down.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Walk {
    is_deep: bool,
    levels_left: u8,
}

impl Walk {
    pub(crate) const DEEP: Self = Self { is_deep: true, levels_left: VALUE_DEPTH_MAX };
    pub(crate) const SHALLOW: Self = Self { is_deep: false, levels_left: VALUE_DEPTH_MAX };

    /// One level down.
    pub(crate) fn inner(self) -> Result<Self, DecodeError> {
        match self.levels_left.checked_sub(1) {
            Some(levels_left) => Ok(Self { levels_left, ..self }),
            None => Err(over_limit(clause::DEPTH)),
        }
    }
}

/// The unread rest of some bytes. Never looks past them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub(crate) const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    pub(crate) fn take(&mut self, count: usize) -> Result<&'a [u8], DecodeError> {
        let (taken, rest) =
            self.rest.split_at_checked(count).ok_or(malformed(clause::VALUE_PAST_END))?;
        self.rest = rest;
        Ok(taken)
    }

    fn fixed<const BYTES: usize>(&mut self) -> Result<[u8; BYTES], DecodeError> {
        let (taken, rest) =
            self.rest.split_first_chunk::<BYTES>().ok_or(malformed(clause::VALUE_PAST_END))?;
        self.rest = rest;
        Ok(*taken)
    }

    pub(crate) fn byte(&mut self) -> Result<u8, DecodeError> {
        self.fixed().map(u8::from_be_bytes)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, DecodeError> {
        self.fixed().map(u32::from_be_bytes)
    }

    /// A size or count as wide as the format code wants it.
    fn sized(&mut self, code: u8) -> Result<usize, DecodeError> {
        match format::width(code) {
            Some(Width::Sized8) => self.byte().map(usize::from),
            // Where a usize is narrower than four bytes, no such value fits into memory either.
            _ => self.u32().map(|size| usize::try_from(size).unwrap_or(usize::MAX)),
        }
    }

    /// The bytes read since `start`, which was this reader earlier.
    fn since(&self, start: &Reader<'a>) -> &'a [u8] {
        let used = start.rest.len() - self.rest.len();
        &start.rest[..used]
    }
}

/// The bytes of one value: its constructor, which may have descriptors, and its data. Elements of an
/// array have the constructor in common, so the two need not be neighbours.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Encoded<'a> {
    pub(crate) constructor: &'a [u8],
    pub(crate) data: &'a [u8],
}

impl<'a> Encoded<'a> {
    /// The format code, behind all descriptors. A constructor that was read has one.
    pub(crate) fn code(&self) -> u8 {
        self.constructor.last().copied().unwrap_or(format::NULL)
    }

    /// A view of the value. What it holds is looked at no further than its size and count, and its
    /// descriptor, which was read before, only stepped over: the elements of an array have it in
    /// common, and it may be long.
    pub(crate) fn value(self) -> Result<Value<'a>, DecodeError> {
        match self.constructor.split_first() {
            Some((&format::DESCRIBED, rest)) => {
                let mut reader = Reader::new(rest);
                let start = reader;
                let code = reader.byte()?;
                data(&mut reader, code)?;
                Ok(Value::Described(Described {
                    descriptor: reader.since(&start),
                    body: Encoded { constructor: reader.rest(), data: self.data },
                }))
            }
            _ => primitive(self.code(), &mut Reader::new(self.data)),
        }
    }
}

/// One value, as far as the walk goes. Most have no descriptor, and are read where they are.
pub(crate) fn value<'a>(reader: &mut Reader<'a>, walk: Walk) -> Result<Value<'a>, DecodeError> {
    if reader.rest().first() == Some(&format::DESCRIBED) {
        return encoded(reader, walk)?.value();
    }
    let code = reader.byte()?;
    let value = primitive(code, reader)?;
    if walk.is_deep {
        check(&value, walk)?;
    }
    Ok(value)
}

/// The bytes of one value.
pub(crate) fn encoded<'a>(reader: &mut Reader<'a>, walk: Walk) -> Result<Encoded<'a>, DecodeError> {
    let (constructor, walk) = constructor(reader, walk)?;
    let encoded = Encoded { constructor, data: &[] };
    let code = encoded.code();
    let encoded = Encoded { data: data(reader, code)?, ..encoded };
    if walk.is_deep {
        check(&primitive(code, &mut Reader::new(encoded.data))?, walk)?;
    }
    Ok(encoded)
}

/// A constructor: a format code, in front of which there may be descriptors (part 1, 1.2). Each of
/// them is a level, and the walk comes back at the level of what it describes.
fn constructor<'a>(
    reader: &mut Reader<'a>,
    mut walk: Walk,
) -> Result<(&'a [u8], Walk), DecodeError> {
    let start = *reader;
    while reader.byte()? == format::DESCRIBED {
        walk = walk.inner()?;
        descriptor(reader)?;
    }
    Ok((reader.since(&start), walk))
}

/// A descriptor: a symbol or a ulong. Others are reserved (part 1, 1.5), and refused: an array says
/// its descriptor once for all elements, so one that holds others, and among them an array with such
/// a descriptor, would be a value whose size grows with the power of its depth.
pub(crate) fn descriptor<'a>(reader: &mut Reader<'a>) -> Result<Value<'a>, DecodeError> {
    let code = reader.byte()?;
    match code {
        format::ULONG_0
        | format::ULONG_SMALL
        | format::ULONG
        | format::SYMBOL_8
        | format::SYMBOL_32 => primitive(code, reader),
        _ => Err(not_implemented(clause::DESCRIPTOR_RESERVED)),
    }
}

/// The data behind a format code, with its size in front if it has one.
fn data<'a>(reader: &mut Reader<'a>, code: u8) -> Result<&'a [u8], DecodeError> {
    let start = *reader;
    match format::width(code).ok_or(malformed(clause::CONSTRUCTOR_UNKNOWN))? {
        Width::Fixed(bytes) => {
            reader.take(bytes)?;
        }
        Width::Sized8 | Width::Sized32 => {
            let size = reader.sized(code)?;
            reader.take(size)?;
        }
    }
    Ok(reader.since(&start))
}

/// A view of a value that is not described, whose data is at the front.
fn primitive<'a>(code: u8, reader: &mut Reader<'a>) -> Result<Value<'a>, DecodeError> {
    let signed_small = |byte: u8| i8::from_be_bytes([byte]);
    Ok(match code {
        format::NULL => Value::Null,
        format::BOOLEAN_TRUE => Value::Boolean(true),
        format::BOOLEAN_FALSE => Value::Boolean(false),
        format::BOOLEAN => match reader.byte()? {
            0 => Value::Boolean(false),
            1 => Value::Boolean(true),
            _ => return Err(malformed(clause::BOOLEAN_OCTET)),
        },
        format::UBYTE => Value::Ubyte(reader.byte()?),
        format::USHORT => Value::Ushort(u16::from_be_bytes(reader.fixed()?)),
        format::UINT => Value::Uint(reader.u32()?),
        format::UINT_SMALL => Value::Uint(reader.byte()?.into()),
        format::UINT_0 => Value::Uint(0),
        format::ULONG => Value::Ulong(u64::from_be_bytes(reader.fixed()?)),
        format::ULONG_SMALL => Value::Ulong(reader.byte()?.into()),
        format::ULONG_0 => Value::Ulong(0),
        format::BYTE => Value::Byte(signed_small(reader.byte()?)),
        format::SHORT => Value::Short(i16::from_be_bytes(reader.fixed()?)),
        format::INT => Value::Int(i32::from_be_bytes(reader.fixed()?)),
        format::INT_SMALL => Value::Int(signed_small(reader.byte()?).into()),
        format::LONG => Value::Long(i64::from_be_bytes(reader.fixed()?)),
        format::LONG_SMALL => Value::Long(signed_small(reader.byte()?).into()),
        format::FLOAT => Value::Float(f32::from_be_bytes(reader.fixed()?)),
        format::DOUBLE => Value::Double(f64::from_be_bytes(reader.fixed()?)),
        format::DECIMAL_32 => Value::Decimal32(reader.fixed()?),
        format::DECIMAL_64 => Value::Decimal64(reader.fixed()?),
        format::DECIMAL_128 => Value::Decimal128(reader.fixed()?),
        format::CHAR => {
            Value::Char(char::from_u32(reader.u32()?).ok_or(malformed(clause::CHAR_SCALAR))?)
        }
        format::TIMESTAMP => Value::Timestamp(i64::from_be_bytes(reader.fixed()?)),
        format::UUID => Value::Uuid(Uuid(reader.fixed()?)),
        format::LIST_0 => Value::List(List::EMPTY),
        _ if format::width(code).is_none() => {
            return Err(malformed(clause::CONSTRUCTOR_UNKNOWN));
        }
        _ => {
            let size = reader.sized(code)?;
            return sized(code, Reader::new(reader.take(size)?));
        }
    })
}

fn sized<'a>(code: u8, mut reader: Reader<'a>) -> Result<Value<'a>, DecodeError> {
    Ok(match code {
        format::BINARY_8 | format::BINARY_32 => Value::Binary(reader.rest()),
        format::STRING_8 | format::STRING_32 => Value::String(
            std::str::from_utf8(reader.rest()).map_err(|_| malformed(clause::STRING_UTF8))?,
        ),
        format::SYMBOL_8 | format::SYMBOL_32 => Value::Symbol(Symbol::from_bytes(reader.rest())?),
        format::LIST_8 | format::LIST_32 => {
            let (count, items) = items(code, reader)?;
            Value::List(List { count, items })
        }
        format::MAP_8 | format::MAP_32 => {
            let (count, items) = items(code, reader)?;
            if !count.is_multiple_of(2) {
                return Err(malformed(clause::MAP_ODD));
            }
            Value::Map(Map { count, items })
        }
        format::ARRAY_8 | format::ARRAY_32 => {
            let count = reader.sized(code)?;
            let (constructor, _) = constructor(&mut reader, Walk::SHALLOW)?;
            Value::Array(Array { count, constructor, elements: reader.rest() })
        }
        _ => return Err(malformed(clause::CONSTRUCTOR_UNKNOWN)),
    })
}

/// The count of a list or a map, and its items. Each of them has a byte at least, so a count that
/// promises more is known for what it is before anything is done so many times.
fn items<'a>(code: u8, mut reader: Reader<'a>) -> Result<(usize, &'a [u8]), DecodeError> {
    let count = reader.sized(code)?;
    if count > reader.rest().len() {
        return Err(malformed(clause::COMPOUND_COUNT));
    }
    Ok((count, reader.rest()))
}

/// Checks what a value holds, to the last byte.
fn check(value: &Value<'_>, walk: Walk) -> Result<(), DecodeError> {
    match *value {
        Value::List(List { count, items }) | Value::Map(Map { count, items }) => {
            check_items(count, items, walk.inner()?)
        }
        Value::Array(array) => check_elements(&array, walk.inner()?),
        _ => Ok(()),
    }
}

fn check_items(count: usize, items: &[u8], walk: Walk) -> Result<(), DecodeError> {
    let mut reader = Reader::new(items);
    for _ in 0..count {
        value(&mut reader, walk)?;
    }
    if reader.is_empty() { Ok(()) } else { Err(malformed(clause::COMPOUND_TRAILING)) }
}

fn check_elements(array: &Array<'_>, walk: Walk) -> Result<(), DecodeError> {
    let (constructor, walk) = constructor(&mut Reader::new(array.constructor), walk)?;
    let code = Encoded { constructor, data: &[] }.code();
    let mut reader = Reader::new(array.elements);
    let is_zero_width = match format::width(code) {
        None => return Err(malformed(clause::CONSTRUCTOR_UNKNOWN)),
        Some(width) => width == Width::Fixed(0),
    };
    if is_zero_width && array.count > ARRAY_ZERO_WIDTH_COUNT_MAX as usize {
        return Err(over_limit(clause::ARRAY_ZERO_WIDTH));
    }
    if !is_zero_width && array.count > array.elements.len() {
        return Err(malformed(clause::ARRAY_COUNT));
    }
    for _ in 0..array.count {
        check(&primitive(code, &mut reader)?, walk)?;
    }
    if reader.is_empty() { Ok(()) } else { Err(malformed(clause::ARRAY_TRAILING)) }
}

/// One element of an array whose constructor was read.
pub(crate) fn element<'a>(
    reader: &mut Reader<'a>,
    constructor: &'a [u8],
) -> Result<Value<'a>, DecodeError> {
    let encoded = Encoded { constructor, data: &[] };
    Encoded { data: data(reader, encoded.code())?, ..encoded }.value()
}
