//! Views of values that hold others: lists, maps, arrays, described values. They borrow bytes that
//! were checked to the last one when they were read, or come from a buffer of this crate, so
//! iterating cannot fail; it reads each item when it is asked for.

use std::fmt;

use crate::descriptor;
use crate::value::read::{self, Encoded, Reader, Walk};
use crate::value::symbol::Symbol;
use crate::value::{Value, format};

/// Values one behind the other, each of any type (part 1, 1.6.22).
#[derive(Clone, Copy)]
pub struct List<'a> {
    pub(crate) count: usize,
    pub(crate) items: &'a [u8],
}

impl<'a> List<'a> {
    /// No items.
    pub const EMPTY: Self = Self { count: 0, items: &[] };

    /// How many items it has.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Its items in order.
    pub fn iter(&self) -> Values<'a> {
        Values { left: self.count, reader: Reader::new(self.items), constructor: None }
    }
}

impl PartialEq for List<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for List<'_> {}

impl fmt::Debug for List<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// Pairs of keys and values, both of any type, in an order that counts (part 1, 1.6.23).
///
/// A key that is there twice is not refused: finding it out would cost memory or the square of the
/// time, for every map of every message. [`Map::find`] takes the first.
#[derive(Clone, Copy)]
pub struct Map<'a> {
    /// Keys and values together.
    pub(crate) count: usize,
    pub(crate) items: &'a [u8],
}

impl<'a> Map<'a> {
    /// No pairs.
    pub const EMPTY: Self = Self { count: 0, items: &[] };

    /// How many pairs it has.
    pub fn len(&self) -> usize {
        self.count / 2
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Its pairs in order.
    pub fn iter(&self) -> Pairs<'a> {
        Pairs(Values { left: self.count, reader: Reader::new(self.items), constructor: None })
    }

    /// The value of a key that is a symbol.
    pub fn find(&self, key: Symbol<'_>) -> Option<Value<'a>> {
        self.iter().find(|(one, _)| *one == Value::Symbol(key)).map(|(_, value)| value)
    }

    /// The value of a key that is a string.
    pub fn find_text(&self, key: &str) -> Option<Value<'a>> {
        self.iter().find(|(one, _)| *one == Value::String(key)).map(|(_, value)| value)
    }
}

impl PartialEq for Map<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for Map<'_> {}

impl Default for Map<'_> {
    fn default() -> Self {
        Self::EMPTY
    }
}

impl fmt::Debug for Map<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

/// Values of one type, which is said once (part 1, 1.6.24).
#[derive(Clone, Copy)]
pub struct Array<'a> {
    pub(crate) count: usize,
    pub(crate) constructor: &'a [u8],
    pub(crate) elements: &'a [u8],
}

impl<'a> Array<'a> {
    /// How many elements it has.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Its elements in order.
    pub fn iter(&self) -> Values<'a> {
        Values {
            left: self.count,
            reader: Reader::new(self.elements),
            constructor: Some(self.constructor),
        }
    }

    /// The descriptor its elements have in common, and what they describe.
    fn split_descriptor(&self) -> Option<(Value<'a>, Self)> {
        let mut reader = Reader::new(self.constructor.strip_prefix(&[format::DESCRIBED])?);
        let descriptor = read::descriptor(&mut reader).ok()?;
        Some((descriptor, Self { constructor: reader.rest(), ..*self }))
    }

    /// Whether its elements are symbols, be there any or not.
    pub(crate) fn has_symbols(&self) -> bool {
        matches!(self.constructor, [format::SYMBOL_8 | format::SYMBOL_32])
    }
}

/// Arrays are equal if their elements are; where there are none, if they would be encoded alike. What
/// the elements have in common is compared once, as it came: else a long descriptor of many elements
/// would take the product of both.
impl PartialEq for Array<'_> {
    fn eq(&self, other: &Self) -> bool {
        if self.is_empty() && other.is_empty() {
            return self.constructor == other.constructor;
        }
        match (self.split_descriptor(), other.split_descriptor()) {
            (Some((one, inner)), Some((two, others))) => one == two && inner == others,
            (None, None) => self.iter().eq(other.iter()),
            _ => false,
        }
    }
}

impl Eq for Array<'_> {}

impl fmt::Debug for Array<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.split_descriptor() {
            Some((descriptor, inner)) => {
                f.debug_tuple("Described").field(&descriptor).field(&inner).finish()
            }
            None => {
                f.write_str("@")?;
                f.debug_list().entries(self.iter()).finish()
            }
        }
    }
}

/// A value with a descriptor, which says how to understand it (part 1, 1.1.2 and 1.5).
#[derive(Clone, Copy)]
pub struct Described<'a> {
    /// An encoded ulong or symbol.
    pub(crate) descriptor: &'a [u8],
    pub(crate) body: Encoded<'a>,
}

impl<'a> Described<'a> {
    /// What describes it: a ulong or a symbol.
    pub fn descriptor(&self) -> Value<'a> {
        read::descriptor(&mut Reader::new(self.descriptor)).unwrap_or(Value::Null)
    }

    /// The descriptor as a number; that of a symbol the specification defines, too.
    pub fn code(&self) -> Option<u64> {
        descriptor::code(self.descriptor())
    }

    /// What is described.
    pub fn value(&self) -> Value<'a> {
        self.body.value().unwrap_or(Value::Null)
    }
}

impl PartialEq for Described<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.descriptor() == other.descriptor() && self.value() == other.value()
    }
}

impl Eq for Described<'_> {}

impl fmt::Debug for Described<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Described").field(&self.descriptor()).field(&self.value()).finish()
    }
}

/// Items of a list, or elements of an array.
#[derive(Clone)]
pub struct Values<'a> {
    left: usize,
    reader: Reader<'a>,
    /// The one of an array's elements.
    constructor: Option<&'a [u8]>,
}

impl<'a> Iterator for Values<'a> {
    type Item = Value<'a>;

    fn next(&mut self) -> Option<Value<'a>> {
        self.left = self.left.checked_sub(1)?;
        let value = match self.constructor {
            Some(constructor) => read::element(&mut self.reader, constructor),
            None => read::value(&mut self.reader, Walk::SHALLOW),
        };
        debug_assert!(value.is_ok(), "views are made of values that were checked");
        value.ok()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for Values<'_> {}

impl fmt::Debug for Values<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.clone()).finish()
    }
}

/// Pairs of a map.
#[derive(Clone, Debug)]
pub struct Pairs<'a>(Values<'a>);

impl<'a> Iterator for Pairs<'a> {
    type Item = (Value<'a>, Value<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        Some((self.0.next()?, self.0.next()?))
    }
}
