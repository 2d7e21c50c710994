//! Batches: one gathers, a few may wait, one is being written. Buffers go round; nothing is copied twice.
//!
//! Invariants: batches leave in the order of their positions, one at a time; a batch lies in one segment.

use std::collections::VecDeque;

use crate::config::{BLOCK_BYTES, WriteMode};
use crate::position::{Layout, Position, Ticket};
use crate::record::{self, Kind, Place, RECORD_BYTES_MIN, RECORD_HEAD_BYTES, record_bytes};

/// Buffers kept for reuse: one gathering, one in flight, one waiting.
const SPARE_BUFFERS_MAX: usize = 2;

/// A batch to write and sync.
#[derive(Debug)]
pub struct Write {
    /// Segment number; its file came with [`crate::FileEvent::Open`].
    pub segment: u64,
    /// Byte offset in the segment's file.
    pub offset: u64,
    /// All of it has to be written. Give the buffer back to [`crate::Partition::write_done`].
    pub buffer: Vec<u8>,
    /// Whether a data sync has to follow ([`WriteMode::BufferedThenSync`]), or the bytes have to be moved into aligned
    /// memory first ([`WriteMode::DirectSync`]).
    pub mode: WriteMode,
}

/// What becomes true when a batch is durable.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Commit {
    pub segment: u64,
    pub end: Position,
    pub through: Ticket,
    pub cursor: Option<Position>,
    pub ends_segment: bool,
}

#[derive(Debug)]
struct Batch {
    start: Position,
    records: u64,
    buffer: Vec<u8>,
    commit: Commit,
}

pub(crate) struct Batches {
    layout: Layout,
    mode: WriteMode,
    gathering: Option<Batch>,
    waiting: VecDeque<Batch>,
    in_flight: Option<Commit>,
    spare: Vec<Vec<u8>>,
    pending_records: u64,
    pending_bytes: u64,
    written: u64,
}

impl Batches {
    pub fn new(layout: Layout, mode: WriteMode) -> Batches {
        Batches {
            layout,
            mode,
            gathering: None,
            waiting: VecDeque::new(),
            in_flight: None,
            spare: Vec::new(),
            pending_records: 0,
            pending_bytes: 0,
            written: 0,
        }
    }

    /// Encodes a record at `head` and answers where the next one goes. A message's ticket becomes the batch's last.
    pub fn push(
        &mut self,
        head: Position,
        kind: Kind,
        sequence: u64,
        body: &[u8],
        through: Ticket,
    ) -> Position {
        let segment = self.layout.segment_of(head);
        let batch = self.gathering.get_or_insert_with(|| Batch {
            start: head,
            records: 0,
            buffer: self.spare.pop().unwrap_or_default(),
            commit: Commit { segment, end: head, through, cursor: None, ends_segment: false },
        });
        let place = Place { epoch: self.layout.epoch, position: head, batch_start: batch.start };
        record::encode(&mut batch.buffer, place, kind, sequence, body);
        let end = Position(head.0 + record_bytes(body.len()) as u64);
        batch.records += 1;
        batch.commit.end = end;
        batch.commit.through = through;
        self.pending_records += 1;
        self.pending_bytes += end.0 - head.0;
        end
    }

    /// Notes that the gathering batch moves the durable cursor.
    pub fn note_cursor(&mut self, cursor: Position) {
        if let Some(batch) = &mut self.gathering {
            batch.commit.cursor = Some(cursor);
        }
    }

    /// Notes that the gathering batch is the last of its segment: committing it commits up to the next one's start.
    pub fn note_segment_end(&mut self) {
        if let Some(batch) = &mut self.gathering {
            batch.commit.ends_segment = true;
            batch.commit.end = self.layout.start_of(batch.commit.segment + 1);
        }
    }

    /// Closes the gathering batch and answers where the next record goes.
    pub fn close(&mut self, head: Position) -> Position {
        let mut head = head;
        if self.mode == WriteMode::DirectSync && self.gathering.is_some() {
            head = self.pad(head);
            if self.layout.offset_of(head) == 0 {
                self.note_segment_end();
            }
        }
        self.waiting.extend(self.gathering.take());
        head
    }

    /// Fills the batch up to a block. Behind the end of a segment plain zeros do, for nobody reads them.
    fn pad(&mut self, head: Position) -> Position {
        let ends_segment = self.gathering.as_ref().is_some_and(|batch| batch.commit.ends_segment);
        if ends_segment {
            if let Some(batch) = &mut self.gathering {
                let bytes = batch.buffer.len().next_multiple_of(BLOCK_BYTES as usize);
                self.pending_bytes += (bytes - batch.buffer.len()) as u64;
                batch.buffer.resize(bytes, 0);
            }
            return head;
        }
        let body = padding_body(head);
        match body {
            0 => head,
            _ => {
                let through = self.gathering.as_ref().map_or(Ticket(0), |b| b.commit.through);
                self.push(head, Kind::Padding, 0, &ZEROS[..body], through)
            }
        }
    }

    /// Takes the next batch to write, if none is out. Closing the gathering one is the caller's business.
    pub fn take(&mut self) -> Option<Write> {
        if self.in_flight.is_some() {
            return None;
        }
        let batch = self.waiting.pop_front()?;
        self.in_flight = Some(batch.commit);
        self.pending_records -= batch.records;
        self.pending_bytes -= batch.buffer.len() as u64;
        Some(Write {
            segment: batch.commit.segment,
            offset: self.layout.offset_of(batch.start),
            buffer: batch.buffer,
            mode: self.mode,
        })
    }

    /// The batch in flight is durable.
    pub fn done(&mut self, mut buffer: Vec<u8>) -> Option<Commit> {
        if self.spare.len() < SPARE_BUFFERS_MAX {
            buffer.clear();
            self.spare.push(buffer);
        }
        self.written += 1;
        self.in_flight.take()
    }

    /// Forgets everything: no batch will be written any more.
    pub fn abandon(&mut self) {
        self.gathering = None;
        self.waiting.clear();
        self.in_flight = None;
        self.pending_records = 0;
        self.pending_bytes = 0;
    }

    pub fn gathering_bytes(&self) -> usize {
        self.gathering.as_ref().map_or(0, |batch| batch.buffer.len())
    }

    /// Whether a batch gathers that does not move the cursor yet.
    pub fn may_carry_cursor(&self) -> bool {
        self.gathering.as_ref().is_some_and(|batch| batch.commit.cursor.is_none())
    }

    pub fn is_in_flight(&self) -> bool {
        self.in_flight.is_some()
    }

    pub fn has_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    pub fn pending_records(&self) -> u64 {
        self.pending_records
    }

    pub fn pending_bytes(&self) -> u64 {
        self.pending_bytes
    }

    pub fn written(&self) -> u64 {
        self.written
    }
}

/// Body of any padding record: at most a block and a bit.
pub(crate) static ZEROS: [u8; BLOCK_BYTES as usize + RECORD_BYTES_MIN as usize] =
    [0; BLOCK_BYTES as usize + RECORD_BYTES_MIN as usize];

/// Length of the body of the padding record that leads from `head` to a block's start; 0 if none is needed. Less than
/// a shortest record to go means the block after, which exists because segments end with room for a record.
pub(crate) fn padding_body(head: Position) -> usize {
    let over = head.0 % BLOCK_BYTES;
    if over == 0 {
        return 0;
    }
    let mut bytes = BLOCK_BYTES - over;
    if bytes < RECORD_BYTES_MIN {
        bytes += BLOCK_BYTES;
    }
    // One byte is an end mark.
    bytes as usize - RECORD_HEAD_BYTES - 1
}
