//! The session journal as the session state sees it: records in frames, in a partition of its own.

use crate::stored::{NotStored, Stored};
use fulcrum_frame::{Class, Frame, FrameBuilder, Tag};
use fulcrum_journal::{Position, Tail};
use fulcrum_sessions::{Log, Place, Room};

/// Whose records these are, for the journal, which counts by tenant: the node's own.
const OWNER: &str = "sessions";
/// Bytes a record's frame has besides the record.
const FRAME_BYTES: usize = 128;
/// Segments above which live records of the oldest are copied forward.
const SEGMENTS_MAX: u64 = 2;
/// The log may be this many times as large as what is needed of it.
const LOG_SHARE: u64 = 3;
/// Bytes copied forward in one turn, at most.
const COPY_BYTES: usize = 256 * 1024;

/// A shard's session journal.
pub(crate) struct SessionLog {
    pub stored: Stored,
    tail: Tail,
    frame: Vec<u8>,
}

impl SessionLog {
    /// Whether the end of a retained message, whose record has so many bytes, would be taken now. It may use a part of
    /// the reserve: it makes room.
    pub(crate) fn deletion_room(&self, bytes: usize) -> Room {
        match self.stored.check_reserve(bytes + FRAME_BYTES) {
            Ok(()) => Room::Here,
            Err(refused) => room(refused),
        }
    }

    pub(crate) fn new(stored: Stored, tail: Tail) -> SessionLog {
        SessionLog { stored, tail, frame: Vec::new() }
    }

    /// How many bytes to copy forward now, of `live_bytes` that are needed: as many as keep the log at a few times its
    /// contents. 0 asks for what can be dropped without copying; `None` while there is no need to ask.
    pub(crate) fn copy_budget(&self, live_bytes: u64) -> Option<usize> {
        let (oldest, current) = self.stored.segments();
        let segments = current.saturating_sub(oldest);
        let used = (segments + 1) * self.tail.segment_bytes();
        let is_scarce = used * 4 > self.stored.bytes_max() * 3;
        if segments < if is_scarce { 1 } else { SEGMENTS_MAX } {
            return None;
        }
        let wasteful = segments * self.tail.segment_bytes() > LOG_SHARE * live_bytes;
        // Before it is full it has to be copied whole, as long as that makes room.
        let needed = is_scarce && used * 4 > live_bytes * 5;
        Some(if wasteful || needed { COPY_BYTES } else { 0 })
    }

    /// Nothing below `segment` is needed any more.
    pub(crate) fn release_below(&self, segment: u64) {
        self.tail.acknowledge(Position(segment.saturating_mul(self.tail.segment_bytes())));
    }
}

impl Log for SessionLog {
    fn room(&self, bytes: usize) -> Room {
        match self.stored.check_room(bytes + FRAME_BYTES) {
            Ok(()) => Room::Here,
            Err(refused) => room(refused),
        }
    }

    fn append(&mut self, _tenant: &str, record: &[u8], essential: bool) -> Result<Place, Room> {
        self.frame.clear();
        let mut frame = FrameBuilder::new(&mut self.frame, Class::Internal, 0, 0);
        frame.text(Tag::Tenant, OWNER);
        if frame.finish(record).is_err() {
            return Err(Room::Full);
        }
        let Ok(frame) = Frame::parse(&self.frame) else { return Err(Room::Full) };
        let ticket = self.stored.append_record(&frame, essential).map_err(room)?;
        Ok(Place { ticket: ticket.0, segment: self.stored.segments().1 })
    }

    fn oldest_segment(&self) -> u64 {
        self.stored.segments().0
    }

    fn current_segment(&self) -> u64 {
        self.stored.segments().1
    }
}

fn room(refused: NotStored) -> Room {
    match refused {
        NotStored::Later => Room::Later,
        NotStored::Full | NotStored::Invalid => Room::Full,
        NotStored::Failed => Room::Failed,
    }
}
