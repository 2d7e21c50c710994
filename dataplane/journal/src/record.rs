//! Records: encoding, checking, and walking through the bytes of a segment.
//!
//! ```text
//!  0        4        8      9       10      12             16         24
//!  ┌────────┬────────┬──────┬───────┬───────┬──────────────┬──────────┬────────┬──────────────┐
//!  │ length │ crc32c │ kind │ flags │ check │ batch offset │ sequence │ body … │ end marks 1–8 │
//!  └────────┴────────┴──────┴───────┴───────┴──────────────┴──────────┴────────┴──────────────┘
//!   length: head and body.   all integers little-endian; a record begins at a multiple of 8
//! ```
//!
//! - `crc32c` covers everything behind it and is seeded with epoch, position and length.
//! - `check` covers the head alone, with the same seed: the length can be trusted when only the body is damaged, and
//!   looking for the next sound record does not checksum megabytes wherever a payload happens to resemble a head.
//! - `batch offset` is the distance from the start of the batch the record was written in.
//! - End marks fill up to a multiple of 8; being non-zero they show that a record reached its end in a zeroed segment.
//!
//! Invariant: [`RecordReader::parse`] always advances or asks for more bytes below its limit, whatever it is given.

use crate::position::{Layout, Position};

/// Bytes of a record's head.
pub const RECORD_HEAD_BYTES: usize = 24;
/// Bytes of the shortest record, one without a body.
pub(crate) const RECORD_BYTES_MIN: u64 = 32;
/// Fills a record up to a multiple of 8.
pub(crate) const END_MARK: u8 = 0xA5;
const ALIGNMENT: usize = 8;

/// What a record is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum Kind {
    /// A message: the body is its frame, the sequence that of its tenant's stream.
    Message = 1,
    /// First of each segment and before segments are dropped: see [`crate::Checkpoint`].
    Checkpoint = 2,
    /// The consumer's cursor moved: see [`crate::Cursor`].
    Cursor = 3,
    /// Records that are gone, and why: see [`crate::Gap`].
    Gap = 4,
    /// Fills a batch up to a block; carries nothing.
    Padding = 5,
    /// The rest of this segment is unused.
    SegmentEnd = 6,
}

impl Kind {
    fn from_byte(byte: u8) -> Option<Kind> {
        Some(match byte {
            1 => Kind::Message,
            2 => Kind::Checkpoint,
            3 => Kind::Cursor,
            4 => Kind::Gap,
            5 => Kind::Padding,
            6 => Kind::SegmentEnd,
            _ => return None,
        })
    }
}

/// One sound record, borrowing its bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Record<'a> {
    /// What it is.
    pub kind: Kind,
    /// Sequence in the tenant's stream; 0 for records that are not messages.
    pub sequence: u64,
    /// Where it begins.
    pub position: Position,
    /// Where the next record begins.
    pub next: Position,
    /// Its body.
    pub body: &'a [u8],
    pub(crate) batch_start: Position,
}

/// Bytes that are no sound record, inside what was committed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Damage {
    /// First damaged byte.
    pub from: Position,
    /// Where reading goes on.
    pub to: Position,
    /// Kind and sequence of the one damaged record, where its head survived. Its tenant is not known.
    pub record: Option<(Kind, u64)>,
}

impl Damage {
    /// The most messages that can have been in the damaged range.
    pub fn messages_max(&self) -> u64 {
        match self.record {
            Some((Kind::Message, _)) => 1,
            Some(_) => 0,
            None => (self.to.0 - self.from.0).div_ceil(RECORD_BYTES_MIN),
        }
    }
}

/// What [`RecordReader::parse`] found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step<'a> {
    /// A sound record; go on at its `next`.
    Record(Record<'a>),
    /// The record goes on behind the bytes given; call again with at least so many, from the same position.
    NeedMore {
        /// Bytes wanted from the position on; never more than lie below the limit.
        at_least: usize,
    },
    /// Nothing more in this segment; go on at `next`, the start of the next one.
    EndOfSegment {
        /// Start of the next segment.
        next: Position,
    },
    /// Damage: count it, report it, go on at its `to`. One damaged range may come in several steps.
    Corrupt(Damage),
}

/// Walks the records of a partition through bytes that the caller has read.
#[derive(Clone, Copy, Debug)]
pub struct RecordReader {
    layout: Layout,
}

impl RecordReader {
    /// A reader for the store with this epoch and segment size. [`crate::Tail::reader`] is the short way.
    pub fn new(epoch: u64, segment_bytes: u64) -> RecordReader {
        RecordReader {
            layout: Layout { epoch, segment_bytes: segment_bytes.max(RECORD_BYTES_MIN) },
        }
    }

    /// Looks at the record at `position`. `bytes` begin there, may end anywhere and are not read past the segment's
    /// end or past `limit`, which is [`crate::Tail::committed`]: behind it nothing is promised.
    pub fn parse<'a>(&self, bytes: &'a [u8], position: Position, limit: Position) -> Step<'a> {
        if position >= limit {
            return Step::NeedMore { at_least: RECORD_HEAD_BYTES };
        }
        let segment_end = self.layout.next_start(position);
        let end = segment_end.min(limit);
        let room = (end.0 - position.0) as usize;
        if segment_end.0 - position.0 < RECORD_BYTES_MIN {
            return Step::EndOfSegment { next: segment_end };
        }
        let bytes = &bytes[..bytes.len().min(room)];
        match decode(bytes, position, room, self.layout.epoch) {
            Decoded::Record(record) if record.kind == Kind::SegmentEnd => {
                Step::EndOfSegment { next: segment_end }
            }
            Decoded::Record(record) => Step::Record(record),
            Decoded::Short { at_least } => Step::NeedMore { at_least },
            Decoded::BadBody { kind, sequence, bytes: record_bytes } => Step::Corrupt(Damage {
                from: position,
                to: Position(position.0 + record_bytes as u64),
                record: Some((kind, sequence)),
            }),
            Decoded::BadHead | Decoded::Empty => {
                let to = match find_sound(bytes, position, ALIGNMENT, room, self.layout.epoch) {
                    Found::Record(at) | Found::Unsure(at) => Position(position.0 + at as u64),
                    Found::Nothing => end,
                };
                Step::Corrupt(Damage { from: position, to, record: None })
            }
        }
    }
}

/// Bytes a record with a body of `body_bytes` takes in a segment.
pub const fn record_bytes(body_bytes: usize) -> usize {
    (RECORD_HEAD_BYTES + body_bytes + 1).next_multiple_of(ALIGNMENT)
}

/// Where a record goes and which batch it belongs to.
pub(crate) struct Place {
    pub epoch: u64,
    pub position: Position,
    pub batch_start: Position,
}

/// Appends a record to `out`, which has to hold less than `u32::MAX` bytes with it.
pub(crate) fn encode(out: &mut Vec<u8>, place: Place, kind: Kind, sequence: u64, body: &[u8]) {
    let start = out.len();
    let end = start + record_bytes(body.len());
    let length = (RECORD_HEAD_BYTES + body.len()) as u32;
    let head = Head {
        length,
        kind: kind as u8,
        flags: 0,
        batch_offset: (place.position.0 - place.batch_start.0) as u32,
        sequence,
    };
    let mut bytes = [0; RECORD_HEAD_BYTES];
    bytes[..4].copy_from_slice(&length.to_le_bytes());
    bytes[8] = head.kind;
    bytes[9] = head.flags;
    bytes[10..12].copy_from_slice(&head.check(place.epoch, place.position).to_le_bytes());
    bytes[12..16].copy_from_slice(&head.batch_offset.to_le_bytes());
    bytes[16..24].copy_from_slice(&sequence.to_le_bytes());
    out.extend_from_slice(&bytes);
    out.extend_from_slice(body);
    out.resize(end, END_MARK);
    let crc = crc32c::crc32c_append(seed(place.epoch, place.position, length), &out[start + 8..]);
    out[start + 4..start + 8].copy_from_slice(&crc.to_le_bytes());
}

/// What lies at one place.
pub(crate) enum Decoded<'a> {
    Record(Record<'a>),
    /// The bytes end before the record does.
    Short {
        at_least: usize,
    },
    /// The head is sound, the rest is not.
    BadBody {
        kind: Kind,
        sequence: u64,
        bytes: usize,
    },
    BadHead,
    /// Length zero: nothing was written here, or damage.
    Empty,
}

/// Decodes the record at `position`, where `bytes` begin; it may take at most `room` bytes.
pub(crate) fn decode(bytes: &[u8], position: Position, room: usize, epoch: u64) -> Decoded<'_> {
    if room < RECORD_BYTES_MIN as usize {
        return Decoded::BadHead;
    }
    let Some(fixed) = bytes.first_chunk::<RECORD_HEAD_BYTES>() else {
        return Decoded::Short { at_least: RECORD_HEAD_BYTES };
    };
    let head = Head::parse(fixed);
    if head.length == 0 {
        return Decoded::Empty;
    }
    let Some(kind) = head.sound(fixed, epoch, position, room) else {
        return Decoded::BadHead;
    };
    let body_bytes = head.length as usize - RECORD_HEAD_BYTES;
    let total = record_bytes(body_bytes);
    let Some(record) = bytes.get(..total) else {
        return Decoded::Short { at_least: total };
    };
    let crc = crc32c::crc32c_append(seed(epoch, position, head.length), &record[8..]);
    if crc.to_le_bytes() != fixed[4..8] {
        return Decoded::BadBody { kind, sequence: head.sequence, bytes: total };
    }
    Decoded::Record(Record {
        kind,
        sequence: head.sequence,
        position,
        next: Position(position.0 + total as u64),
        body: &record[RECORD_HEAD_BYTES..head.length as usize],
        batch_start: Position(position.0 - u64::from(head.batch_offset)),
    })
}

/// What [`find_sound`] met first.
pub(crate) enum Found {
    /// A sound record, at this offset into the bytes.
    Record(usize),
    /// A record may begin at this offset, but the bytes end too early to tell.
    Unsure(usize),
    /// No record begins in `room`.
    Nothing,
}

/// Looks for the next sound record in `bytes`, which begin at `position`, from offset `from` on.
pub(crate) fn find_sound(
    bytes: &[u8],
    position: Position,
    from: usize,
    room: usize,
    epoch: u64,
) -> Found {
    let mut at = from;
    while at + RECORD_BYTES_MIN as usize <= room {
        let place = Position(position.0 + at as u64);
        match decode(bytes.get(at..).unwrap_or_default(), place, room - at, epoch) {
            Decoded::Record(_) => return Found::Record(at),
            Decoded::Short { .. } => return Found::Unsure(at),
            Decoded::BadBody { .. } | Decoded::BadHead | Decoded::Empty => at += ALIGNMENT,
        }
    }
    Found::Nothing
}

struct Head {
    length: u32,
    kind: u8,
    flags: u8,
    batch_offset: u32,
    sequence: u64,
}

impl Head {
    fn parse(bytes: &[u8; RECORD_HEAD_BYTES]) -> Head {
        let word = |at: usize| {
            u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
        };
        Head {
            length: word(0),
            kind: bytes[8],
            flags: bytes[9],
            batch_offset: word(12),
            sequence: u64::from(word(16)) | u64::from(word(20)) << 32,
        }
    }

    /// The record's kind, if this head was written for this place and its record fits into `room`.
    fn sound(
        &self,
        bytes: &[u8; RECORD_HEAD_BYTES],
        epoch: u64,
        position: Position,
        room: usize,
    ) -> Option<Kind> {
        let length = self.length as usize;
        let fits = length >= RECORD_HEAD_BYTES
            && length < room
            && record_bytes(length - RECORD_HEAD_BYTES) <= room
            && u64::from(self.batch_offset) <= position.0;
        let kind = Kind::from_byte(self.kind)?;
        (fits && self.check(epoch, position).to_le_bytes() == bytes[10..12]).then_some(kind)
    }

    fn check(&self, epoch: u64, position: Position) -> u16 {
        let first =
            u64::from(self.length) | u64::from(self.kind) << 32 | u64::from(self.flags) << 40;
        let mut mixed = mix(epoch, position.0);
        for word in [first, u64::from(self.batch_offset), self.sequence] {
            mixed = mix(mixed, word);
        }
        (mixed >> 48) as u16
    }
}

fn seed(epoch: u64, position: Position, length: u32) -> u32 {
    (mix(mix(epoch, position.0), u64::from(length)) >> 32) as u32
}

/// Stirs `word` into `state`: odd multipliers and a shift, so that each bit reaches the high half.
fn mix(state: u64, word: u64) -> u64 {
    let product =
        (state ^ word.wrapping_mul(0x9E37_79B9_7F4A_7C15)).wrapping_mul(0xD6E8_FEB8_6659_FD93);
    product ^ product >> 32
}
