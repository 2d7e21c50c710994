//! Segments read whole into memory, one at a time, for recovery and inspection.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use crate::disk;
use crate::error::JournalError;
use crate::position::{Layout, Position};
use crate::record::{self, Decoded, Found, Kind, RECORD_BYTES_MIN, RECORD_HEAD_BYTES};

/// The segments of one partition as recovery sees them. A file that is too short reads as zeros behind its end.
pub(crate) struct Images {
    pub layout: Layout,
    dir: PathBuf,
    numbers: Vec<u64>,
    loaded: Option<u64>,
    bytes: Vec<u8>,
    /// Of each segment that was loaded: bytes up to the last that is not zero, and whether the file is complete.
    extents: BTreeMap<u64, Extent>,
}

#[derive(Clone, Copy)]
struct Extent {
    written: usize,
    is_whole: bool,
}

impl Images {
    pub fn new(dir: PathBuf, layout: Layout) -> Result<Images, JournalError> {
        let mut numbers = disk::list_segments(&dir)?;
        // Positions are u64 and segment 0 does not exist: such a file is not ours.
        numbers.retain(|number| (1..u64::MAX / layout.segment_bytes - 1).contains(number));
        Ok(Images {
            layout,
            dir,
            numbers,
            loaded: None,
            bytes: Vec::new(),
            extents: BTreeMap::new(),
        })
    }

    pub fn numbers(&self) -> &[u64] {
        &self.numbers
    }

    pub fn has(&self, number: u64) -> bool {
        self.numbers.binary_search(&number).is_ok()
    }

    pub fn path(&self, number: u64) -> PathBuf {
        self.dir.join(disk::segment_name(number))
    }

    /// First segment there is from `number` on.
    pub fn next_from(&self, number: u64) -> Option<u64> {
        self.numbers.get(self.numbers.partition_point(|have| *have < number)).copied()
    }

    /// The bytes of a segment that exists; always `segment_bytes` of them.
    pub fn load(&mut self, number: u64) -> Result<&[u8], JournalError> {
        if self.loaded != Some(number) {
            self.loaded = None;
            let path = self.path(number);
            let found = self.read(&path).map_err(JournalError::io("read", &path))?;
            self.bytes.resize(self.layout.segment_bytes as usize, 0);
            let is_whole = found == self.layout.segment_bytes;
            self.extents.insert(number, Extent { written: written_bytes(&self.bytes), is_whole });
            self.loaded = Some(number);
        }
        Ok(&self.bytes)
    }

    /// Bytes of a segment up to the last that is not zero.
    pub fn written(&mut self, number: u64) -> Result<usize, JournalError> {
        Ok(self.extent(number)?.written)
    }

    /// Whether the file has all its bytes.
    pub fn is_whole(&mut self, number: u64) -> Result<bool, JournalError> {
        Ok(self.extent(number)?.is_whole)
    }

    fn extent(&mut self, number: u64) -> Result<Extent, JournalError> {
        if let Some(extent) = self.extents.get(&number) {
            return Ok(*extent);
        }
        self.load(number)?;
        // A segment just loaded has an extent.
        Ok(self.extents.get(&number).copied().unwrap_or(Extent { written: 0, is_whole: false }))
    }

    /// Whether a segment begins with a sound checkpoint. Reads no more than that record.
    pub fn begins_with_checkpoint(&self, number: u64) -> Result<bool, JournalError> {
        let path = self.path(number);
        let read = |bytes: usize| {
            let mut head = Vec::new();
            File::open(&path)?.take(bytes as u64).read_to_end(&mut head)?;
            Ok(head)
        };
        let mut wanted = RECORD_HEAD_BYTES;
        loop {
            let head = read(wanted).map_err(JournalError::io("read", &path))?;
            let (layout, room) = (self.layout, self.layout.segment_bytes as usize);
            match record::decode(&head, layout.start_of(number), room, layout.epoch) {
                Decoded::Short { at_least } if head.len() == wanted && at_least > wanted => {
                    wanted = at_least;
                }
                Decoded::Record(record) => return Ok(record.kind == Kind::Checkpoint),
                _ => return Ok(false),
            }
        }
    }

    fn read(&mut self, path: &Path) -> io::Result<u64> {
        self.bytes.clear();
        let bytes =
            File::open(path)?.take(self.layout.segment_bytes).read_to_end(&mut self.bytes)?;
        Ok(bytes as u64)
    }

    /// Decodes the record at `position`, whose segment exists.
    pub fn decode(&mut self, position: Position) -> Result<Decoded<'_>, JournalError> {
        let layout = self.layout;
        let bytes = self.load(layout.segment_of(position))?;
        let rest = &bytes[layout.offset_of(position) as usize..];
        Ok(record::decode(rest, position, rest.len(), layout.epoch))
    }

    /// The first sound record behind `position`, in this segment or a later one.
    pub fn find_sound(&mut self, position: Position) -> Result<Option<Position>, JournalError> {
        let layout = self.layout;
        let mut number = layout.segment_of(position);
        let mut from = Position(position.0.next_multiple_of(8).max(position.0 + 8));
        while let Some(next) = self.next_from(number) {
            if next != layout.segment_of(from) {
                from = layout.start_of(next);
            }
            let at = layout.offset_of(from) as usize;
            let start = layout.start_of(next);
            if self.written(next)? <= at {
                number = next + 1;
                from = layout.start_of(number);
                continue;
            }
            let bytes = self.load(next)?;
            match record::find_sound(bytes, start, at, bytes.len(), layout.epoch) {
                Found::Record(at) | Found::Unsure(at) => {
                    return Ok(Some(Position(start.0 + at as u64)));
                }
                Found::Nothing => number = next + 1,
            }
            from = layout.start_of(number);
        }
        Ok(None)
    }

    /// End of the last byte at or behind `position` that is not zero, in any segment.
    pub fn written_end(&mut self, position: Position) -> Result<Option<Position>, JournalError> {
        let layout = self.layout;
        let first = layout.segment_of(position);
        let numbers: Vec<u64> =
            self.numbers.iter().copied().filter(|number| *number >= first).rev().collect();
        for number in numbers {
            let from = if number == first { layout.offset_of(position) as usize } else { 0 };
            let written = self.written(number)?;
            if written > from {
                return Ok(Some(Position(layout.start_of(number).0 + written as u64)));
            }
        }
        Ok(None)
    }

    /// Whether so little is left of the segment that no record begins at `position`.
    pub fn is_rest(&self, position: Position) -> bool {
        self.layout.next_start(position).0 - position.0 < RECORD_BYTES_MIN
    }
}

/// Bytes up to the last that is not zero.
pub(crate) fn written_bytes(bytes: &[u8]) -> usize {
    const ZEROS: [u8; 4096] = [0; 4096];
    // By blocks first: comparing memory is far faster than looking at bytes.
    let blocks = bytes.chunks(ZEROS.len()).enumerate().rev();
    for (index, block) in blocks {
        if block != &ZEROS[..block.len()] {
            let last = block.iter().rposition(|byte| *byte != 0).unwrap_or(0);
            return index * ZEROS.len() + last + 1;
        }
    }
    0
}
