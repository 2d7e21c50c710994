//! Pieces of a stream in the order of their sequences: records to ship, and holes where records are gone.
//!
//! The cloud takes a stream's sequences without a hole. A record that is gone is therefore replaced by one that says so:
//! an event of device `-` without payload, with the property [`GAP_PROPERTY`]. So a gap is visible to applications.

use crate::status::{DropReason, unix_ms};
use fulcrum_contract::TenantId;
use fulcrum_contract::sync::push_frame;
use fulcrum_frame::{Class, FrameBuilder, Tag};
use fulcrum_journal::Position;

/// Property of a record that stands for one that is gone; its value is the reason.
pub const GAP_PROPERTY: &str = "fulcrum-gap";
/// Device of such a record: the one it came from is not known.
pub const GAP_DEVICE: &str = "-";
/// Bytes of a frame's length in a batch.
const LENGTH_BYTES: usize = 4;

/// Part of a stream.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Piece {
    Records(Batch),
    Hole(Hole),
}

/// Records in a row.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Batch {
    pub first: u64,
    pub count: u32,
    /// Frames with their lengths in front, as the contract wants them.
    pub frames: Vec<u8>,
    /// Nothing before it in the journal belongs to this batch.
    pub from: Position,
    /// Creation time of its first record, in milliseconds since the Unix epoch.
    pub created_ms: u64,
}

/// Sequences whose records are gone.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Hole {
    pub first: u64,
    pub last: u64,
    pub reason: DropReason,
    pub from: Position,
}

impl Piece {
    pub fn first(&self) -> u64 {
        match self {
            Piece::Records(batch) => batch.first,
            Piece::Hole(hole) => hole.first,
        }
    }

    pub fn last(&self) -> u64 {
        match self {
            Piece::Records(batch) => batch.last(),
            Piece::Hole(hole) => hole.last,
        }
    }

    pub fn from(&self) -> Position {
        match self {
            Piece::Records(batch) => batch.from,
            Piece::Hole(hole) => hole.from,
        }
    }

    pub fn bytes(&self) -> usize {
        match self {
            Piece::Records(batch) => batch.frames.len(),
            Piece::Hole(_) => 0,
        }
    }

    pub fn records(&self) -> u64 {
        match self {
            Piece::Records(batch) => u64::from(batch.count),
            Piece::Hole(_) => 0,
        }
    }

    /// Creation time of its oldest record; none for a hole.
    pub fn created_ms(&self) -> Option<u64> {
        match self {
            Piece::Records(batch) => Some(batch.created_ms),
            Piece::Hole(_) => None,
        }
    }

    /// The part behind `mark`, which lies within the piece.
    pub fn behind(self, mark: u64) -> Piece {
        match self {
            Piece::Records(batch) => {
                let count = (mark + 1 - batch.first) as u32;
                Piece::Records(batch.split(count).1)
            }
            Piece::Hole(hole) => Piece::Hole(Hole { first: mark + 1, ..hole }),
        }
    }
}

impl Batch {
    /// A batch of one record.
    pub fn new(sequence: u64, frame: &[u8], from: Position, created_ms: u64) -> Batch {
        let mut frames = Vec::with_capacity(LENGTH_BYTES + frame.len());
        push_frame(&mut frames, frame);
        Batch { first: sequence, count: 1, frames, from, created_ms }
    }

    pub fn last(&self) -> u64 {
        self.first + u64::from(self.count) - 1
    }

    /// Whether the record behind the last one fits.
    pub fn has_room(&self, frame_bytes: usize, bytes_max: usize, records_max: u32) -> bool {
        self.count < records_max && self.frames.len() + LENGTH_BYTES + frame_bytes <= bytes_max
    }

    /// Adds the record behind the last one.
    pub fn push(&mut self, frame: &[u8]) {
        push_frame(&mut self.frames, frame);
        self.count += 1;
    }

    /// The first `count` records, and the others.
    pub fn split(mut self, count: u32) -> (Batch, Batch) {
        let count = count.min(self.count);
        let mut at = 0;
        for _ in 0..count {
            let length: [u8; LENGTH_BYTES] = self
                .frames
                .get(at..)
                .and_then(|rest| rest.first_chunk())
                .copied()
                .unwrap_or_default();
            at += LENGTH_BYTES + u32::from_le_bytes(length) as usize;
        }
        let rest = Batch {
            first: self.first + u64::from(count),
            count: self.count - count,
            frames: self.frames.split_off(at.min(self.frames.len())),
            // Not exact: nothing before it belongs to the rest either.
            from: self.from,
            created_ms: self.created_ms,
        };
        self.count = count;
        (self, rest)
    }
}

impl Hole {
    /// Records that stand for the first `count_max` that are gone.
    pub fn stand_in(&self, tenant: &TenantId, count_max: u32) -> Batch {
        let count = (self.last - self.first + 1).min(u64::from(count_max)) as u32;
        let (mut frames, mut frame, now_ms) = (Vec::new(), Vec::new(), unix_ms());
        let mut builder = FrameBuilder::new(&mut frame, Class::Event, 1, now_ms);
        builder.text(Tag::Tenant, tenant.as_str()).text(Tag::Device, GAP_DEVICE);
        builder.property(GAP_PROPERTY, self.reason.as_str());
        builder.finish(&[]).expect("two identifiers and a word fit a frame's head");
        for _ in 0..count {
            push_frame(&mut frames, &frame);
        }
        Batch { first: self.first, count, frames, from: self.from, created_ms: now_ms }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fulcrum_contract::sync::split_frames;
    use fulcrum_frame::Frame;

    fn batch() -> Batch {
        let mut batch = Batch::new(5, b"five", Position(64), 1);
        batch.push(b"");
        batch.push(b"seven");
        batch
    }

    #[test]
    fn a_split_batch_is_the_same_records_in_order() {
        for count in 0..=4 {
            let (left, right) = batch().split(count);
            assert_eq!(left.count + right.count, 3);
            assert_eq!(right.first, 5 + u64::from(count.min(3)));
            let mut frames = split_frames(&left.frames, left.count).unwrap();
            frames.extend(split_frames(&right.frames, right.count).unwrap());
            assert_eq!(frames, [&b"five"[..], b"", b"seven"]);
        }
    }

    #[test]
    fn what_lies_behind_a_mark_begins_right_after_it() {
        let piece = Piece::Records(batch()).behind(6);
        assert_eq!((piece.first(), piece.last(), piece.bytes()), (7, 7, 9));
        let hole = Hole { first: 5, last: 7, reason: DropReason::JournalGap, from: Position(64) };
        assert_eq!(Piece::Hole(hole).behind(5).first(), 6);
    }

    #[test]
    fn a_hole_is_told_record_by_record_with_its_reason() {
        let tenant = TenantId::parse("acme").unwrap();
        let hole = Hole { first: 5, last: 9, reason: DropReason::TooLarge, from: Position(64) };
        let batch = hole.stand_in(&tenant, 3);
        assert_eq!((batch.first, batch.last()), (5, 7));
        for frame in split_frames(&batch.frames, 3).unwrap() {
            let frame = Frame::parse(frame).unwrap();
            assert_eq!(frame.tenant(), Some("acme"));
            assert_eq!(frame.device(), Some(GAP_DEVICE));
            assert_eq!(frame.properties().next(), Some((GAP_PROPERTY, "too_large")));
        }
    }
}
