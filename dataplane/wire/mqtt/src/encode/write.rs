//! Writes the primitive types of MQTT.

use crate::error::EncodeError;
use crate::limits::{REMAINING_LENGTH_MAX, STRING_BYTES_MAX};

/// Appends a packet whose body `write` appends: type byte, remaining length, body. When `write`
/// fails, or the body is too long, `out` is as before.
pub(super) fn frame(
    first_byte: u8,
    out: &mut Vec<u8>,
    write: impl FnOnce(&mut Vec<u8>) -> Result<(), EncodeError>,
) -> Result<(), EncodeError> {
    let start = out.len();
    out.push(first_byte);
    let body_start = out.len();
    let written = write(out).and_then(|()| {
        let bytes = out.len() - body_start;
        if bytes > REMAINING_LENGTH_MAX {
            return Err(EncodeError::PacketTooLarge { bytes });
        }
        let (length, length_bytes) = variable_length(bytes);
        out.splice(body_start..body_start, length.into_iter().take(length_bytes));
        Ok(())
    });
    if written.is_err() {
        out.truncate(start);
    }
    written
}

/// Appends a field with its length in front, if it fits.
pub(super) fn push_field(bytes: &[u8], out: &mut Vec<u8>) -> Result<(), EncodeError> {
    if bytes.len() > STRING_BYTES_MAX {
        return Err(EncodeError::FieldTooLong { bytes: bytes.len() });
    }
    write_field(bytes, out);
    Ok(())
}

/// Appends a field whose length is known to fit.
pub(crate) fn write_field(bytes: &[u8], out: &mut Vec<u8>) {
    debug_assert!(bytes.len() <= STRING_BYTES_MAX, "callers checked the length");
    out.extend_from_slice(&(bytes.len() as u16).to_be_bytes());
    out.extend_from_slice(bytes);
}

/// Appends a variable length, in as few bytes as it needs.
pub(crate) fn write_variable_length(value: usize, out: &mut Vec<u8>) {
    let (length, length_bytes) = variable_length(value);
    out.extend_from_slice(&length[..length_bytes]);
}

/// A variable length and how many of the four bytes it takes. Values over the limit lose their high
/// bits: whoever calls this has checked, or checks the whole packet afterwards.
fn variable_length(value: usize) -> ([u8; 4], usize) {
    let group = |index: usize| (value >> (7 * index)) as u8 & 0x7F;
    match value {
        0..0x80 => ([group(0), 0, 0, 0], 1),
        0x80..0x4000 => ([group(0) | 0x80, group(1), 0, 0], 2),
        0x4000..0x20_0000 => ([group(0) | 0x80, group(1) | 0x80, group(2), 0], 3),
        _ => ([group(0) | 0x80, group(1) | 0x80, group(2) | 0x80, group(3)], 4),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reader;

    #[test]
    fn variable_lengths_read_back_at_every_boundary() {
        for value in [0, 1, 127, 128, 16_383, 16_384, 2_097_151, 2_097_152, REMAINING_LENGTH_MAX] {
            let mut bytes = Vec::new();
            write_variable_length(value, &mut bytes);
            assert_eq!(reader::variable_length(&bytes), Ok(Some((value, bytes.len()))));
        }
    }

    #[test]
    fn a_failed_packet_leaves_the_buffer_as_it_was() {
        let mut out = vec![1, 2, 3];
        let result = frame(0x10, &mut out, |body| push_field(&vec![0; STRING_BYTES_MAX + 1], body));
        assert_eq!(result, Err(EncodeError::FieldTooLong { bytes: STRING_BYTES_MAX + 1 }));
        assert_eq!(out, [1, 2, 3]);
    }
}
