//! Format codes of part 1, 1.6, and how wide the data behind each is (1.2).

pub(crate) const DESCRIBED: u8 = 0x00;

pub(crate) const NULL: u8 = 0x40;
pub(crate) const BOOLEAN_TRUE: u8 = 0x41;
pub(crate) const BOOLEAN_FALSE: u8 = 0x42;
pub(crate) const UINT_0: u8 = 0x43;
pub(crate) const ULONG_0: u8 = 0x44;
pub(crate) const LIST_0: u8 = 0x45;

pub(crate) const UBYTE: u8 = 0x50;
pub(crate) const BYTE: u8 = 0x51;
pub(crate) const UINT_SMALL: u8 = 0x52;
pub(crate) const ULONG_SMALL: u8 = 0x53;
pub(crate) const INT_SMALL: u8 = 0x54;
pub(crate) const LONG_SMALL: u8 = 0x55;
pub(crate) const BOOLEAN: u8 = 0x56;

pub(crate) const USHORT: u8 = 0x60;
pub(crate) const SHORT: u8 = 0x61;

pub(crate) const UINT: u8 = 0x70;
pub(crate) const INT: u8 = 0x71;
pub(crate) const FLOAT: u8 = 0x72;
pub(crate) const CHAR: u8 = 0x73;
pub(crate) const DECIMAL_32: u8 = 0x74;

pub(crate) const ULONG: u8 = 0x80;
pub(crate) const LONG: u8 = 0x81;
pub(crate) const DOUBLE: u8 = 0x82;
pub(crate) const TIMESTAMP: u8 = 0x83;
pub(crate) const DECIMAL_64: u8 = 0x84;

pub(crate) const DECIMAL_128: u8 = 0x94;
pub(crate) const UUID: u8 = 0x98;

pub(crate) const BINARY_8: u8 = 0xA0;
pub(crate) const STRING_8: u8 = 0xA1;
pub(crate) const SYMBOL_8: u8 = 0xA3;
pub(crate) const BINARY_32: u8 = 0xB0;
pub(crate) const STRING_32: u8 = 0xB1;
pub(crate) const SYMBOL_32: u8 = 0xB3;

pub(crate) const LIST_8: u8 = 0xC0;
pub(crate) const MAP_8: u8 = 0xC1;
pub(crate) const LIST_32: u8 = 0xD0;
pub(crate) const MAP_32: u8 = 0xD1;
pub(crate) const ARRAY_8: u8 = 0xE0;
pub(crate) const ARRAY_32: u8 = 0xF0;

/// How long the data behind a format code is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Width {
    /// So many bytes.
    Fixed(usize),
    /// One byte says how many follow it.
    Sized8,
    /// Four bytes say how many follow them.
    Sized32,
}

/// The width of a format code, or `None` if the specification has no such code. The high four bits
/// say it for each code there is (part 1, 1.2); the list is which there are.
pub(crate) const fn width(code: u8) -> Option<Width> {
    match code {
        NULL | BOOLEAN_TRUE | BOOLEAN_FALSE | UINT_0 | ULONG_0 | LIST_0 => Some(Width::Fixed(0)),
        UBYTE | BYTE | UINT_SMALL | ULONG_SMALL | INT_SMALL | LONG_SMALL | BOOLEAN => {
            Some(Width::Fixed(1))
        }
        USHORT | SHORT => Some(Width::Fixed(2)),
        UINT | INT | FLOAT | CHAR | DECIMAL_32 => Some(Width::Fixed(4)),
        ULONG | LONG | DOUBLE | TIMESTAMP | DECIMAL_64 => Some(Width::Fixed(8)),
        DECIMAL_128 | UUID => Some(Width::Fixed(16)),
        BINARY_8 | STRING_8 | SYMBOL_8 | LIST_8 | MAP_8 | ARRAY_8 => Some(Width::Sized8),
        BINARY_32 | STRING_32 | SYMBOL_32 | LIST_32 | MAP_32 | ARRAY_32 => Some(Width::Sized32),
        _ => None,
    }
}
