//! Reads the primitive types of MQTT from one packet's body. Never looks past that packet.

use crate::clause;
use crate::error::{DecodeError, malformed};

/// The unread rest of a packet's body.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub(crate) fn take(&mut self, count: usize) -> Result<&'a [u8], DecodeError> {
        let (taken, rest) =
            self.rest.split_at_checked(count).ok_or(malformed(clause::FIELD_PAST_END))?;
        self.rest = rest;
        Ok(taken)
    }

    pub(crate) fn take_rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.rest)
    }

    pub(crate) fn byte(&mut self) -> Result<u8, DecodeError> {
        let (&first, rest) = self.rest.split_first().ok_or(malformed(clause::FIELD_PAST_END))?;
        self.rest = rest;
        Ok(first)
    }

    pub(crate) fn u16(&mut self) -> Result<u16, DecodeError> {
        let (bytes, rest) =
            self.rest.split_first_chunk::<2>().ok_or(malformed(clause::FIELD_PAST_END))?;
        self.rest = rest;
        Ok(u16::from_be_bytes(*bytes))
    }

    pub(crate) fn u32(&mut self) -> Result<u32, DecodeError> {
        let (bytes, rest) =
            self.rest.split_first_chunk::<4>().ok_or(malformed(clause::FIELD_PAST_END))?;
        self.rest = rest;
        Ok(u32::from_be_bytes(*bytes))
    }

    /// A variable byte integer (MQTT 5 section 1.5.5).
    pub(crate) fn variable_length(&mut self) -> Result<usize, DecodeError> {
        match variable_length(self.rest)? {
            Some((value, used)) => {
                self.take(used)?;
                Ok(value)
            }
            None => Err(malformed(clause::FIELD_PAST_END)),
        }
    }

    pub(crate) fn binary(&mut self) -> Result<&'a [u8], DecodeError> {
        let length = self.u16()?;
        self.take(usize::from(length))
    }

    /// A string: UTF-8, which rules out surrogates [MQTT-1.5.3-1], without U+0000 [MQTT-1.5.3-2].
    /// A byte order mark is kept as a character [MQTT-1.5.3-3].
    pub(crate) fn string(&mut self) -> Result<&'a str, DecodeError> {
        let bytes = self.binary()?;
        if bytes.contains(&0) {
            return Err(malformed(clause::UTF8_NUL));
        }
        std::str::from_utf8(bytes).map_err(|_| malformed(clause::UTF8_ILL_FORMED))
    }

    /// A packet identifier, which is never zero [MQTT-2.3.1-1].
    pub(crate) fn packet_id(&mut self) -> Result<u16, DecodeError> {
        match self.u16()? {
            0 => Err(malformed(clause::PACKET_ID_ZERO)),
            packet_id => Ok(packet_id),
        }
    }

    pub(crate) fn finish(self) -> Result<(), DecodeError> {
        if self.rest.is_empty() { Ok(()) } else { Err(malformed(clause::TRAILING_BYTES)) }
    }
}

/// The variable length at the front of `bytes` and how many bytes it has, or `None` when it goes on
/// behind their end. At most four bytes, and no more than needed: the one reading of a length that
/// no two implementations can disagree about.
pub(crate) fn variable_length(bytes: &[u8]) -> Result<Option<(usize, usize)>, DecodeError> {
    let mut value = 0;
    for (index, &byte) in bytes.iter().take(4).enumerate() {
        value |= usize::from(byte & 0x7F) << (7 * index);
        if byte & 0x80 == 0 {
            if byte == 0 && index > 0 {
                return Err(malformed(clause::LENGTH_NOT_MINIMAL));
            }
            return Ok(Some((value, index + 1)));
        }
    }
    if bytes.len() >= 4 { Err(malformed(clause::LENGTH_TOO_LONG)) } else { Ok(None) }
}
