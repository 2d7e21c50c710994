//! A chunk: consecutive records of one partition as they are stored, the frames packed as the edge packed them.
//!
//! ```text
//!   version (1) · classes (1) · 0 (2) · count (u32) · first sequence (u64) · stored at (u64, ms) · zstd( length · frame, … )
//! ```
//!
//! Invariant: unpacking never holds more than [`BATCH_UNPACKED_BYTES_MAX`] bytes of output, whatever the input claims.

use crate::Error;
use bytes::Bytes;
use fulcrum_contract::sync::{BATCH_UNPACKED_BYTES_MAX, push_frame};
use fulcrum_frame::Class;
use std::io::{self, Read};
use zstd::stream::read::Decoder;

const VERSION: u8 = 1;
const HEAD_BYTES: usize = 24;
/// zstd's window: 2^24 is the largest a batch can make use of.
const WINDOW_LOG_MAX: u32 = 24;
/// zstd's level where we pack ourselves (the rest of a batch that was stored in part).
const LEVEL: i32 = 3;

/// A set of message classes.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Classes(u8);

impl Classes {
    /// Every class.
    pub const ALL: Classes = Classes(u8::MAX);

    pub(crate) fn add(&mut self, class: Class) {
        self.0 |= 1 << (class as u8);
    }

    pub(crate) fn holds(self, class: Class) -> bool {
        self.0 & (1 << (class as u8)) != 0
    }

    pub(crate) fn meets(self, other: Classes) -> bool {
        self.0 & other.0 != 0
    }

    /// Reads `event,command_response`.
    pub fn parse(text: &str) -> Result<Classes, Error> {
        let mut classes = Classes::default();
        for name in text.split(',') {
            let known =
                [Class::Telemetry, Class::Event, Class::CommandResponse, Class::CommandStatus];
            let class = known.into_iter().find(|class| class.as_str() == name.trim());
            classes.add(class.ok_or_else(|| {
                Error::Invalid(format!(
                    "'{name}' is not a class: use telemetry, event, command_response, command_status"
                ))
            })?);
        }
        Ok(classes)
    }
}

/// A chunk's head.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Chunk {
    pub classes: Classes,
    pub count: u32,
    pub first: u64,
    pub stored_ms: u64,
}

impl Chunk {
    pub(crate) fn last(&self) -> u64 {
        self.first + u64::from(self.count) - 1
    }

    pub(crate) fn encode(&self, packed: &[u8]) -> Bytes {
        let mut bytes = Vec::with_capacity(HEAD_BYTES + packed.len());
        bytes.extend_from_slice(&[VERSION, self.classes.0, 0, 0]);
        bytes.extend_from_slice(&self.count.to_le_bytes());
        bytes.extend_from_slice(&self.first.to_le_bytes());
        bytes.extend_from_slice(&self.stored_ms.to_le_bytes());
        bytes.extend_from_slice(packed);
        Bytes::from(bytes)
    }

    /// The head and the packed frames.
    pub(crate) fn decode(bytes: &Bytes) -> Result<(Chunk, Bytes), Error> {
        let broken = || Error::Unavailable("a stored chunk cannot be read".to_owned());
        let head: &[u8; HEAD_BYTES] = bytes.first_chunk().ok_or_else(broken)?;
        let [version, classes, _, _, rest @ ..] = head;
        let (count, rest) = rest.split_first_chunk::<4>().ok_or_else(broken)?;
        let (first, rest) = rest.split_first_chunk::<8>().ok_or_else(broken)?;
        let (stored_ms, _) = rest.split_first_chunk::<8>().ok_or_else(broken)?;
        let chunk = Chunk {
            classes: Classes(*classes),
            count: u32::from_le_bytes(*count),
            first: u64::from_le_bytes(*first),
            stored_ms: u64::from_le_bytes(*stored_ms),
        };
        if *version != VERSION || chunk.count == 0 {
            return Err(broken());
        }
        Ok((chunk, bytes.slice(HEAD_BYTES..)))
    }
}

/// Unpacks, or says that the bytes are not zstd or hold more than a batch may.
pub(crate) fn unpack(packed: &[u8]) -> io::Result<Vec<u8>> {
    let mut decoder = Decoder::with_buffer(packed)?;
    decoder.window_log_max(WINDOW_LOG_MAX)?;
    let mut unpacked = Vec::new();
    let mut piece = vec![0; 64 * 1024];
    loop {
        let read = decoder.read(&mut piece)?;
        if read == 0 {
            return Ok(unpacked);
        }
        let wanted = unpacked.len() + read;
        if wanted > BATCH_UNPACKED_BYTES_MAX {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "it unpacks to more than 16 MiB",
            ));
        }
        if wanted > unpacked.capacity() {
            let doubled = (2 * wanted).min(BATCH_UNPACKED_BYTES_MAX);
            unpacked.reserve_exact(doubled - unpacked.len());
        }
        unpacked.extend_from_slice(&piece[..read]);
    }
}

/// Packs frames.
pub(crate) fn pack(frames: &[Bytes]) -> io::Result<Vec<u8>> {
    let mut unpacked = Vec::with_capacity(frames.iter().map(|frame| frame.len() + 4).sum());
    for frame in frames {
        push_frame(&mut unpacked, frame);
    }
    zstd::bulk::compress(&unpacked, LEVEL)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_is_read_back_as_it_was_written() {
        let mut classes = Classes::default();
        classes.add(Class::Event);
        let chunk = Chunk { classes, count: 3, first: 5, stored_ms: 9 };
        let (head, packed) = Chunk::decode(&chunk.encode(b"packed")).unwrap();
        assert_eq!((head, packed.as_ref(), head.last()), (chunk, &b"packed"[..], 7));
        assert!(Chunk::decode(&Bytes::from_static(b"short")).is_err());
    }

    #[test]
    fn what_unpacks_to_more_than_a_batch_may_hold_is_refused() {
        let most = vec![0; BATCH_UNPACKED_BYTES_MAX];
        let fits = unpack(&zstd::bulk::compress(&most, 3).unwrap()).unwrap();
        assert_eq!(fits.len(), BATCH_UNPACKED_BYTES_MAX);
        assert_eq!(fits.capacity(), BATCH_UNPACKED_BYTES_MAX);
        let over = vec![0; BATCH_UNPACKED_BYTES_MAX + 1];
        assert!(unpack(&zstd::bulk::compress(&over, 3).unwrap()).is_err());
        assert!(unpack(b"not zstd").is_err());
    }

    #[test]
    fn a_list_of_classes_is_read_by_name() {
        let classes = Classes::parse("event,command_status").unwrap();
        assert!(classes.holds(Class::Event) && classes.holds(Class::CommandStatus));
        assert!(!classes.holds(Class::Telemetry));
        assert!(Classes::parse("command").is_err() && Classes::parse("").is_err());
    }
}
