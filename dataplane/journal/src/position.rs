//! Where a record lies, and which append it was.

/// A place in a partition: `segment number * segment bytes + offset`. Segment numbers begin at 1.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Position(pub u64);

impl std::fmt::Display for Position {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// Number of one append since the partition was opened: 1, 2, 3 and so on without holes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Ticket(pub u64);

/// What turns a position into a segment and an offset, and seeds checksums.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Layout {
    pub epoch: u64,
    pub segment_bytes: u64,
}

impl Layout {
    pub fn segment_of(&self, position: Position) -> u64 {
        position.0 / self.segment_bytes
    }

    pub fn offset_of(&self, position: Position) -> u64 {
        position.0 % self.segment_bytes
    }

    pub fn start_of(&self, segment: u64) -> Position {
        Position(segment.saturating_mul(self.segment_bytes))
    }

    /// Start of the segment behind the one `position` lies in.
    pub fn next_start(&self, position: Position) -> Position {
        self.start_of(self.segment_of(position).saturating_add(1))
    }
}
