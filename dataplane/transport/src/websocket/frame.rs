//! A frame's header (RFC 6455 section 5.2).

use super::close::violation;
use crate::TransportError;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Opcode {
    Continuation,
    Text,
    Binary,
    Close,
    Ping,
    Pong,
}

impl Opcode {
    fn from_bits(bits: u8) -> Option<Self> {
        Some(match bits {
            0x0 => Self::Continuation,
            0x1 => Self::Text,
            0x2 => Self::Binary,
            0x8 => Self::Close,
            0x9 => Self::Ping,
            0xA => Self::Pong,
            _ => return None,
        })
    }

    fn bits(self) -> u8 {
        match self {
            Self::Continuation => 0x0,
            Self::Text => 0x1,
            Self::Binary => 0x2,
            Self::Close => 0x8,
            Self::Ping => 0x9,
            Self::Pong => 0xA,
        }
    }

    pub(super) fn is_control(self) -> bool {
        matches!(self, Self::Close | Self::Ping | Self::Pong)
    }
}

/// A client's frame: always masked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FrameHeader {
    pub(super) last: bool,
    pub(super) opcode: Opcode,
    pub(super) mask: [u8; 4],
    pub(super) payload_bytes: u64,
}

impl FrameHeader {
    pub(super) const BYTES_MAX: usize = 2 + 8 + 4;
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum ParsedHeader {
    Part,
    Whole { header: FrameHeader, used: usize },
}

/// Reads a header; refuses what is wrong as soon as its byte is there.
pub(super) fn parse_header(bytes: &[u8]) -> Result<ParsedHeader, TransportError> {
    let Some(&first) = bytes.first() else { return Ok(ParsedHeader::Part) };
    if first & 0x70 != 0 {
        return Err(violation("a reserved bit is set"));
    }
    let opcode = Opcode::from_bits(first & 0x0F).ok_or(violation("the opcode is unknown"))?;
    let last = first & 0x80 != 0;
    if opcode.is_control() && !last {
        return Err(violation("a control frame is fragmented"));
    }
    let Some(&second) = bytes.get(1) else { return Ok(ParsedHeader::Part) };
    if second & 0x80 == 0 {
        return Err(violation("a client's frame is not masked"));
    }
    let short = second & 0x7F;
    if opcode.is_control() && short > 125 {
        return Err(violation("a control frame is too long"));
    }
    let rest = &bytes[2..];
    let length = match short {
        126 => rest.split_first_chunk().map(|(length, rest)| {
            let length = u64::from(u16::from_be_bytes(*length));
            (length, length > 125, rest)
        }),
        127 => rest.split_first_chunk().map(|(length, rest)| {
            let length = u64::from_be_bytes(*length);
            (length, length > 0xFFFF && length >> 63 == 0, rest)
        }),
        _ => Some((u64::from(short), true, rest)),
    };
    let Some((payload_bytes, minimal, rest)) = length else { return Ok(ParsedHeader::Part) };
    if !minimal {
        return Err(violation("the length is not in its shortest form"));
    }
    let Some((mask, rest)) = rest.split_first_chunk() else { return Ok(ParsedHeader::Part) };
    let header = FrameHeader { last, opcode, mask: *mask, payload_bytes };
    Ok(ParsedHeader::Whole { header, used: bytes.len() - rest.len() })
}

/// Appends the header of a server's whole message: last frame, not masked.
pub(super) fn write_header(out: &mut Vec<u8>, opcode: Opcode, payload_bytes: usize) {
    out.push(0x80 | opcode.bits());
    match payload_bytes {
        0..=125 => out.push(payload_bytes as u8),
        126..=0xFFFF => {
            out.push(126);
            out.extend_from_slice(&(payload_bytes as u16).to_be_bytes());
        }
        _ => {
            out.push(127);
            out.extend_from_slice(&(payload_bytes as u64).to_be_bytes());
        }
    }
}
