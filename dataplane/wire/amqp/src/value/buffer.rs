//! Builds lists, maps, arrays and described values, which are views of a buffer then.

use crate::clause;
use crate::error::{EncodeError, unwritable};
use crate::limits::ARRAY_ZERO_WIDTH_COUNT_MAX;
use crate::value::compound::{Array, Described, List, Map};
use crate::value::format::{self, Width};
use crate::value::read::Encoded;
use crate::value::{Value, encode_value, write};

/// Items of a list in the making.
#[derive(Debug, Clone, Default)]
pub struct ListBuffer {
    count: usize,
    items: Vec<u8>,
}

impl ListBuffer {
    /// Without items.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends an item.
    ///
    /// # Errors
    /// It is too long; nothing was appended.
    pub fn push(&mut self, value: &Value<'_>) -> Result<&mut Self, EncodeError> {
        encode_value(value, &mut self.items)?;
        self.count += 1;
        Ok(self)
    }

    /// The list.
    pub fn as_list(&self) -> List<'_> {
        List { count: self.count, items: &self.items }
    }
}

/// Pairs of a map in the making. Whether a key is there already, the caller knows.
#[derive(Debug, Clone, Default)]
pub struct MapBuffer {
    list: ListBuffer,
}

impl MapBuffer {
    /// Without pairs.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends a pair.
    ///
    /// # Errors
    /// It is too long; nothing was appended.
    pub fn push(&mut self, key: &Value<'_>, value: &Value<'_>) -> Result<&mut Self, EncodeError> {
        let (count, bytes) = (self.list.count, self.list.items.len());
        self.list.push(key)?;
        if let Err(error) = self.list.push(value) {
            self.list.count = count;
            self.list.items.truncate(bytes);
            return Err(error);
        }
        Ok(self)
    }

    /// The map.
    pub fn as_map(&self) -> Map<'_> {
        Map { count: self.list.count, items: &self.list.items }
    }
}

/// A described value.
#[derive(Debug, Clone)]
pub struct DescribedBuffer {
    descriptor: Vec<u8>,
    constructor_bytes: usize,
    value: Vec<u8>,
}

impl DescribedBuffer {
    /// A value with its descriptor.
    ///
    /// # Errors
    /// The descriptor is neither symbol nor ulong, or one of them is too long.
    pub fn new(descriptor: &Value<'_>, value: &Value<'_>) -> Result<Self, EncodeError> {
        if !matches!(descriptor, Value::Symbol(_) | Value::Ulong(_)) {
            return Err(unwritable(clause::DESCRIPTOR_RESERVED));
        }
        let mut buffer = Self { descriptor: Vec::new(), constructor_bytes: 1, value: Vec::new() };
        encode_value(descriptor, &mut buffer.descriptor)?;
        encode_value(value, &mut buffer.value)?;
        if let Value::Described(inner) = value {
            // The descriptor of the inner value and the mark in front of it.
            buffer.constructor_bytes = 1 + inner.descriptor.len() + inner.body.constructor.len();
        }
        Ok(buffer)
    }

    /// The described value.
    pub fn as_described(&self) -> Described<'_> {
        let (constructor, data) = self.value.split_at(self.constructor_bytes);
        Described { descriptor: &self.descriptor, body: Encoded { constructor, data } }
    }
}

/// An array.
#[derive(Debug, Clone)]
pub struct ArrayBuffer {
    count: usize,
    constructor: Vec<u8>,
    elements: Vec<u8>,
}

impl ArrayBuffer {
    /// An array of these values, in the shortest encoding they can have in common.
    ///
    /// # Errors
    /// They are of different types, too long, or too many of no bytes; or there are none, and with
    /// them no type ([`ArrayBuffer::empty`]).
    pub fn new(values: &[Value<'_>]) -> Result<Self, EncodeError> {
        let mut array = Self { count: values.len(), constructor: Vec::new(), elements: Vec::new() };
        array.fill(values)?;
        Ok(array)
    }

    /// No elements, of the type of `like`.
    ///
    /// # Errors
    /// The descriptor of `like` is too long.
    pub fn empty(like: &Value<'_>) -> Result<Self, EncodeError> {
        let array = Self::new(std::slice::from_ref(like))?;
        Ok(Self { count: 0, elements: Vec::new(), ..array })
    }

    /// The array.
    pub fn as_array(&self) -> Array<'_> {
        Array { count: self.count, constructor: &self.constructor, elements: &self.elements }
    }

    fn fill(&mut self, values: &[Value<'_>]) -> Result<(), EncodeError> {
        if let Some(Value::Described(first)) = values.first() {
            self.constructor.push(format::DESCRIBED);
            self.constructor.extend_from_slice(first.descriptor);
            let inner: Option<Vec<Value<'_>>> = values
                .iter()
                .map(|value| match value {
                    Value::Described(one) if one.descriptor() == first.descriptor() => {
                        Some(one.value())
                    }
                    _ => None,
                })
                .collect();
            return self.fill(&inner.ok_or(unwritable(clause::ARRAY_MIXED))?);
        }
        let code = common_code(values).ok_or(unwritable(clause::ARRAY_MIXED))?;
        if format::width(code) == Some(Width::Fixed(0))
            && values.len() > ARRAY_ZERO_WIDTH_COUNT_MAX as usize
        {
            return Err(unwritable(clause::ARRAY_ZERO_WIDTH));
        }
        self.constructor.push(code);
        values.iter().try_for_each(|value| push_element(code, value, &mut self.elements))
    }
}

/// The shortest format code all values can have, if they are of one type.
fn common_code(values: &[Value<'_>]) -> Option<u8> {
    let mut codes = values.iter().map(widest_needed);
    let first = codes.next()??;
    codes.try_fold(first, |one, two| wider(one, two?))
}

/// The format code of an element by itself. Such whose value is in the code have the next longer
/// form, which has room for others as well.
fn widest_needed(value: &Value<'_>) -> Option<u8> {
    let short = |bytes: usize, code_8: u8, code_32: u8| match u8::try_from(bytes) {
        Ok(_) => code_8,
        Err(_) => code_32,
    };
    // In a list and a map, the count has a byte as well.
    let items = |count: usize, bytes: usize, code_8: u8, code_32: u8| match u8::try_from(count) {
        Ok(_) => short(bytes.saturating_add(1), code_8, code_32),
        Err(_) => code_32,
    };
    Some(match *value {
        Value::Null => format::NULL,
        Value::Boolean(_) => format::BOOLEAN,
        Value::Ubyte(_) => format::UBYTE,
        Value::Ushort(_) => format::USHORT,
        Value::Uint(number) if number <= u8::MAX.into() => format::UINT_SMALL,
        Value::Uint(_) => format::UINT,
        Value::Ulong(number) if number <= u8::MAX.into() => format::ULONG_SMALL,
        Value::Ulong(_) => format::ULONG,
        Value::Byte(_) => format::BYTE,
        Value::Short(_) => format::SHORT,
        Value::Int(number) if i8::try_from(number).is_ok() => format::INT_SMALL,
        Value::Int(_) => format::INT,
        Value::Long(number) if i8::try_from(number).is_ok() => format::LONG_SMALL,
        Value::Long(_) => format::LONG,
        Value::Float(_) => format::FLOAT,
        Value::Double(_) => format::DOUBLE,
        Value::Decimal32(_) => format::DECIMAL_32,
        Value::Decimal64(_) => format::DECIMAL_64,
        Value::Decimal128(_) => format::DECIMAL_128,
        Value::Char(_) => format::CHAR,
        Value::Timestamp(_) => format::TIMESTAMP,
        Value::Uuid(_) => format::UUID,
        Value::Binary(bytes) => short(bytes.len(), format::BINARY_8, format::BINARY_32),
        Value::String(text) => short(text.len(), format::STRING_8, format::STRING_32),
        Value::Symbol(name) => short(name.as_str().len(), format::SYMBOL_8, format::SYMBOL_32),
        Value::List(list) => items(list.count, list.items.len(), format::LIST_8, format::LIST_32),
        Value::Map(map) => items(map.count, map.items.len(), format::MAP_8, format::MAP_32),
        Value::Array(array) => {
            let bytes = array.constructor.len() + array.elements.len();
            items(array.count, bytes, format::ARRAY_8, format::ARRAY_32)
        }
        Value::Described(_) => return None,
    })
}

/// The longer one of two codes of one type.
fn wider(one: u8, two: u8) -> Option<u8> {
    const PAIRS: [(u8, u8); 10] = [
        (format::UINT_SMALL, format::UINT),
        (format::ULONG_SMALL, format::ULONG),
        (format::INT_SMALL, format::INT),
        (format::LONG_SMALL, format::LONG),
        (format::BINARY_8, format::BINARY_32),
        (format::STRING_8, format::STRING_32),
        (format::SYMBOL_8, format::SYMBOL_32),
        (format::LIST_8, format::LIST_32),
        (format::MAP_8, format::MAP_32),
        (format::ARRAY_8, format::ARRAY_32),
    ];
    let is_pair = |pair: &(u8, u8)| *pair == (one, two) || *pair == (two, one);
    if one == two { Some(one) } else { PAIRS.iter().find(|pair| is_pair(pair)).map(|pair| pair.1) }
}

/// The data of a value, as wide as the code says.
fn push_element(code: u8, value: &Value<'_>, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    let is_short = format::width(code) == Some(Width::Sized8);
    let mut compound = |count: usize, head: &[u8], items: &[u8]| {
        let mut content = Vec::with_capacity(4 + head.len() + items.len());
        let count = write::length(count)?;
        if is_short {
            content.push(count as u8);
        } else {
            content.extend(count.to_be_bytes());
        }
        content.extend_from_slice(head);
        content.extend_from_slice(items);
        write::element(code, &content, out)
    };
    match *value {
        Value::List(list) => compound(list.count, &[], list.items),
        Value::Map(map) => compound(map.count, &[], map.items),
        Value::Array(array) => compound(array.count, array.constructor, array.elements),
        Value::Binary(bytes) => write::element(code, bytes, out),
        Value::String(text) => write::element(code, text.as_bytes(), out),
        Value::Symbol(name) => write::element(code, name.as_str().as_bytes(), out),
        Value::Boolean(truth) => {
            out.push(truth.into());
            Ok(())
        }
        Value::Uint(number) if code == format::UINT => {
            out.extend(number.to_be_bytes());
            Ok(())
        }
        Value::Ulong(number) if code == format::ULONG => {
            out.extend(number.to_be_bytes());
            Ok(())
        }
        Value::Int(number) if code == format::INT => {
            out.extend(number.to_be_bytes());
            Ok(())
        }
        Value::Long(number) if code == format::LONG => {
            out.extend(number.to_be_bytes());
            Ok(())
        }
        // Zero has a form without data, the others' shortest form is the one of the code.
        Value::Uint(0) | Value::Ulong(0) => {
            out.push(0);
            Ok(())
        }
        _ => {
            let start = out.len();
            write::value(value, out)?;
            out.remove(start);
            Ok(())
        }
    }
}
