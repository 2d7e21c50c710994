//! Writes values, each in the shortest of its encodings (part 1, 1.6).

use crate::error::EncodeError;
use crate::value::compound::{Array, Described};
use crate::value::symbol::{Symbol, Symbols};
use crate::value::{Value, format};

/// Appends any value. Items of compound values are written as they came.
pub(crate) fn value(value: &Value<'_>, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    match *value {
        Value::Null => out.push(format::NULL),
        Value::Boolean(truth) => boolean(truth, out),
        Value::Ubyte(number) => out.extend([format::UBYTE, number]),
        Value::Ushort(number) => fixed(format::USHORT, number.to_be_bytes(), out),
        Value::Uint(number) => uint(number, out),
        Value::Ulong(number) => ulong(number, out),
        Value::Byte(number) => fixed(format::BYTE, number.to_be_bytes(), out),
        Value::Short(number) => fixed(format::SHORT, number.to_be_bytes(), out),
        Value::Int(number) => match i8::try_from(number) {
            Ok(small) => fixed(format::INT_SMALL, small.to_be_bytes(), out),
            Err(_) => fixed(format::INT, number.to_be_bytes(), out),
        },
        Value::Long(number) => match i8::try_from(number) {
            Ok(small) => fixed(format::LONG_SMALL, small.to_be_bytes(), out),
            Err(_) => fixed(format::LONG, number.to_be_bytes(), out),
        },
        Value::Float(number) => fixed(format::FLOAT, number.to_be_bytes(), out),
        Value::Double(number) => fixed(format::DOUBLE, number.to_be_bytes(), out),
        Value::Decimal32(bits) => fixed(format::DECIMAL_32, bits, out),
        Value::Decimal64(bits) => fixed(format::DECIMAL_64, bits, out),
        Value::Decimal128(bits) => fixed(format::DECIMAL_128, bits, out),
        Value::Char(character) => fixed(format::CHAR, u32::from(character).to_be_bytes(), out),
        Value::Timestamp(time_ms) => fixed(format::TIMESTAMP, time_ms.to_be_bytes(), out),
        Value::Uuid(uuid) => fixed(format::UUID, uuid.0, out),
        Value::Binary(bytes) => return binary(bytes, out),
        Value::String(text) => return string(text, out),
        Value::Symbol(name) => return symbol(name, out),
        Value::List(list) => return self::list(list.count, list.items, out),
        Value::Map(map) => {
            return compound(format::MAP_8, format::MAP_32, map.count, &[], map.items, out);
        }
        Value::Array(array) => return self::array(&array, out),
        Value::Described(described) => self::described(&described, out),
    }
    Ok(())
}

pub(crate) fn boolean(truth: bool, out: &mut Vec<u8>) {
    out.push(if truth { format::BOOLEAN_TRUE } else { format::BOOLEAN_FALSE });
}

pub(crate) fn uint(number: u32, out: &mut Vec<u8>) {
    match (number, u8::try_from(number)) {
        (0, _) => out.push(format::UINT_0),
        (_, Ok(small)) => out.extend([format::UINT_SMALL, small]),
        _ => fixed(format::UINT, number.to_be_bytes(), out),
    }
}

pub(crate) fn ulong(number: u64, out: &mut Vec<u8>) {
    match (number, u8::try_from(number)) {
        (0, _) => out.push(format::ULONG_0),
        (_, Ok(small)) => out.extend([format::ULONG_SMALL, small]),
        _ => fixed(format::ULONG, number.to_be_bytes(), out),
    }
}

pub(crate) fn fixed<const BYTES: usize>(code: u8, data: [u8; BYTES], out: &mut Vec<u8>) {
    out.push(code);
    out.extend(data);
}

pub(crate) fn binary(bytes: &[u8], out: &mut Vec<u8>) -> Result<(), EncodeError> {
    sized(format::BINARY_8, format::BINARY_32, bytes, out)
}

pub(crate) fn string(text: &str, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    sized(format::STRING_8, format::STRING_32, text.as_bytes(), out)
}

pub(crate) fn symbol(symbol: Symbol<'_>, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    sized(format::SYMBOL_8, format::SYMBOL_32, symbol.as_str().as_bytes(), out)
}

/// Null, one symbol, or an array of them.
pub(crate) fn symbols(symbols: &Symbols<'_>, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    let mut all = symbols.iter();
    match (all.next(), all.next()) {
        (None, _) => out.push(format::NULL),
        (Some(one), None) => return symbol(one, out),
        _ => {
            let texts = symbols.iter().map(|one| one.as_str().as_bytes());
            let is_short = texts.clone().all(|text| u8::try_from(text.len()).is_ok());
            let code = if is_short { format::SYMBOL_8 } else { format::SYMBOL_32 };
            let mut elements = Vec::new();
            for text in texts.clone() {
                element(code, text, &mut elements)?;
            }
            let count = texts.count();
            return self::array(&Array { count, constructor: &[code], elements: &elements }, out);
        }
    }
    Ok(())
}

/// The data of an array's element that has its size in front.
pub(crate) fn element(code: u8, data: &[u8], out: &mut Vec<u8>) -> Result<(), EncodeError> {
    match format::width(code) {
        Some(format::Width::Sized8) => out.push(length(data.len())? as u8),
        _ => out.extend(length(data.len())?.to_be_bytes()),
    }
    out.extend_from_slice(data);
    Ok(())
}

pub(crate) fn list(count: usize, items: &[u8], out: &mut Vec<u8>) -> Result<(), EncodeError> {
    if count == 0 {
        out.push(format::LIST_0);
        return Ok(());
    }
    compound(format::LIST_8, format::LIST_32, count, &[], items, out)
}

pub(crate) fn array(array: &Array<'_>, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    let (constructor, elements) = (array.constructor, array.elements);
    compound(format::ARRAY_8, format::ARRAY_32, array.count, constructor, elements, out)
}

fn described(described: &Described<'_>, out: &mut Vec<u8>) {
    out.push(format::DESCRIBED);
    out.extend_from_slice(described.descriptor);
    out.extend_from_slice(described.body.constructor);
    out.extend_from_slice(described.body.data);
}

fn sized(code_8: u8, code_32: u8, data: &[u8], out: &mut Vec<u8>) -> Result<(), EncodeError> {
    match u8::try_from(data.len()) {
        Ok(size) => out.extend([code_8, size]),
        Err(_) => fixed(code_32, length(data.len())?.to_be_bytes(), out),
    }
    out.extend_from_slice(data);
    Ok(())
}

/// A compound value or an array: size, count, then the rest in two pieces. The size counts the
/// count (part 1, 1.2.3).
fn compound(
    code_8: u8,
    code_32: u8,
    count: usize,
    head: &[u8],
    items: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    let content = head.len() + items.len();
    match (u8::try_from(content + 1), u8::try_from(count)) {
        (Ok(size), Ok(count)) => out.extend([code_8, size, count]),
        _ => {
            let size = length(content.saturating_add(4))?;
            fixed(code_32, size.to_be_bytes(), out);
            out.extend(length(count)?.to_be_bytes());
        }
    }
    out.extend_from_slice(head);
    out.extend_from_slice(items);
    Ok(())
}

/// A size or count as four bytes say it.
pub(crate) fn length(bytes: usize) -> Result<u32, EncodeError> {
    u32::try_from(bytes).map_err(|_| EncodeError::ValueTooLong { bytes })
}
