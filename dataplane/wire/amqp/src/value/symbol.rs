//! Symbols, and fields that may hold several of them.

use std::fmt;

use crate::clause;
use crate::error::{DecodeError, malformed};
use crate::value::Value;
use crate::value::compound::{Array, Values};

/// A value of a constrained domain: ASCII (part 1, 1.6.21).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Symbol<'a>(&'a str);

impl<'a> Symbol<'a> {
    /// A symbol, or `None` if the text is not ASCII.
    pub const fn new(text: &'a str) -> Option<Self> {
        if text.is_ascii() { Some(Self(text)) } else { None }
    }

    /// A symbol written in the program.
    ///
    /// # Panics
    /// If the text is not ASCII: for constants, where that ends the compilation.
    pub const fn literal(text: &'static str) -> Symbol<'static> {
        assert!(text.is_ascii(), "a symbol is ASCII");
        Symbol(text)
    }

    pub(crate) fn from_bytes(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let text = std::str::from_utf8(bytes).ok().filter(|text| text.is_ascii());
        text.map(Self).ok_or(malformed(clause::SYMBOL_ASCII))
    }

    /// Its text.
    pub const fn as_str(self) -> &'a str {
        self.0
    }
}

impl fmt::Debug for Symbol<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, ":{}", self.0.escape_debug())
    }
}

impl fmt::Display for Symbol<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// The value of a field of symbols that is `multiple="true"`: none, one, or an array of them
/// (part 1, 1.4). How it came makes no difference: one symbol equals an array of one.
#[derive(Clone, Copy)]
pub struct Symbols<'a>(Held<'a>);

#[derive(Clone, Copy)]
enum Held<'a> {
    None,
    One(Symbol<'a>),
    Slice(&'a [Symbol<'a>]),
    /// Its elements are symbols, which was checked when it was read.
    Array(Array<'a>),
}

impl<'a> Symbols<'a> {
    /// None at all: the field is null.
    pub const NONE: Self = Self(Held::None);

    /// One.
    pub const fn one(symbol: Symbol<'a>) -> Self {
        Self(Held::One(symbol))
    }

    /// As many as the slice has.
    pub const fn of(symbols: &'a [Symbol<'a>]) -> Self {
        Self(Held::Slice(symbols))
    }

    pub(crate) fn from_value(value: Value<'a>) -> Result<Self, DecodeError> {
        match value {
            Value::Null => Ok(Self::NONE),
            Value::Symbol(symbol) => Ok(Self::one(symbol)),
            Value::Array(array) if array.has_symbols() => Ok(Self(Held::Array(array))),
            _ => Err(malformed(clause::FIELD_TYPE)),
        }
    }

    /// Each of them in order.
    pub fn iter(&self) -> SymbolIter<'a> {
        SymbolIter(match self.0 {
            Held::None => IterHeld::Slice([].iter()),
            Held::One(symbol) => IterHeld::One(Some(symbol)),
            Held::Slice(symbols) => IterHeld::Slice(symbols.iter()),
            Held::Array(array) => IterHeld::Array(array.iter()),
        })
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.iter().next().is_none()
    }

    /// Whether it is one of them.
    pub fn contains(&self, symbol: Symbol<'_>) -> bool {
        self.iter().any(|one| one == symbol)
    }
}

impl PartialEq for Symbols<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for Symbols<'_> {}

impl fmt::Debug for Symbols<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// See [`Symbols::iter`].
#[derive(Clone, Debug)]
pub struct SymbolIter<'a>(IterHeld<'a>);

#[derive(Clone, Debug)]
enum IterHeld<'a> {
    One(Option<Symbol<'a>>),
    Slice(std::slice::Iter<'a, Symbol<'a>>),
    Array(Values<'a>),
}

impl<'a> Iterator for SymbolIter<'a> {
    type Item = Symbol<'a>;

    fn next(&mut self) -> Option<Symbol<'a>> {
        match &mut self.0 {
            IterHeld::One(symbol) => symbol.take(),
            IterHeld::Slice(symbols) => symbols.next().copied(),
            IterHeld::Array(values) => match values.next()? {
                Value::Symbol(symbol) => Some(symbol),
                _ => None,
            },
        }
    }
}
