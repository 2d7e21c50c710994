//! The writer's side of a partition: appending, batches, cursors, space. Owned by one shard; see the drive contract in
//! the crate's documentation.
//!
//! Invariants: sequences and tickets are given out only to records that are in a batch; the gathering batch never
//! spans segments; a segment is dropped only when a cursor behind its end is durable and a checkpoint newer than the
//! segment exists, so that the loss of one block never loses the sequences of all tenants.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::sync::Arc;

use fulcrum_frame::Frame;

use crate::batch::{Batches, Write};
use crate::config::{BLOCK_BYTES, CHECKPOINT_SHARE, PENDING_BATCHES_MAX};
use crate::control::{CheckpointHead, Cursor};
use crate::error::AppendError;
use crate::metrics::{PartitionMetrics, PartitionState};
use crate::position::{Layout, Position, Ticket};
use crate::record::{Kind, RECORD_BYTES_MIN, record_bytes};
use crate::segments::{FileEvent, SegmentRequest, Segments};
use crate::streams::{Streams, TENANT_BYTES_MAX};
use crate::tail::Shared;

/// The next segment is asked for when this share of the current one is used: idle nodes keep one segment, busy ones
/// have seven eighths of a segment's time to prepare the next.
const PREPARE_SHARE: u64 = 8;
/// Age samples per segment.
const AGE_SAMPLES: u64 = 64;
/// A cursor is written for its own sake after so many acknowledged bytes at least: well above the block such a write
/// may take, or acknowledging one cursor would call for the next.
const CURSOR_SPACING_MIN: u64 = 16 * BLOCK_BYTES;

/// What [`Partition::write_done`] answers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Committed {
    /// Every append with a ticket up to and including this one is on disk.
    Durable {
        /// The last durable ticket; as before if the batch held no messages.
        through: Ticket,
    },
    /// The write failed: no ticket that was not durable before ever will be. The partition takes nothing any more.
    Failed {
        /// The error.
        reason: String,
    },
}

/// The writer's side of one partition.
pub struct Partition {
    layout: Layout,
    limits: Limits,
    shared: Arc<Shared>,
    /// Keeps other processes out for as long as any partition lives.
    _lock: Arc<File>,
    streams: Streams,
    batches: Batches,
    segments: Segments,
    /// Where the next record goes; at the start of the segment behind the current one when that is full.
    head: Position,
    last_ticket: Ticket,
    durable_ticket: Ticket,
    recorded_cursor: Position,
    durable_cursor: Position,
    failed: Option<String>,
    /// A message was refused for want of space, however many smaller ones fitted since.
    was_full: bool,
    ages: VecDeque<(Position, u64)>,
    scratch: Vec<u8>,
    counters: PartitionMetrics,
}

#[derive(Clone, Copy)]
pub(crate) struct Limits {
    pub reserve_bytes: u64,
    pub batch_bytes_max: usize,
    pub bytes_max: u64,
}

/// What opening a partition found; the start of its life.
pub(crate) struct Start {
    pub layout: Layout,
    pub limits: Limits,
    pub shared: Arc<Shared>,
    pub lock: Arc<File>,
    pub streams: Streams,
    pub batches: Batches,
    pub segments: Segments,
    pub head: Position,
    pub ages: Vec<(Position, u64)>,
    pub counters: PartitionMetrics,
    /// Sequences were guessed; the first batch writes down what was settled on.
    pub needs_checkpoint: bool,
}

/// Where a record can go.
enum Room {
    Here,
    NextSegment,
    Later,
    Nowhere,
}

impl Partition {
    pub(crate) fn new(start: Start) -> Partition {
        let cursor = start.shared.acknowledged();
        let mut partition = Partition {
            layout: start.layout,
            limits: start.limits,
            shared: start.shared,
            _lock: start.lock,
            streams: start.streams,
            batches: start.batches,
            segments: start.segments,
            head: start.head,
            last_ticket: Ticket(0),
            durable_ticket: Ticket(0),
            recorded_cursor: cursor,
            durable_cursor: cursor,
            failed: None,
            was_full: false,
            ages: start.ages.into(),
            scratch: Vec::new(),
            counters: start.counters,
        };
        if start.needs_checkpoint {
            partition.record_checkpoint(cursor);
        }
        partition
    }

    /// Takes a message into the gathering batch and gives it the next sequence of its tenant. It is durable, and may
    /// be acknowledged to its producer, when [`Committed::Durable`] reaches its ticket.
    ///
    /// # Errors
    /// See [`AppendError`]; nothing has changed then.
    pub fn append(&mut self, frame: &Frame<'_>) -> Result<Ticket, AppendError> {
        let reserve = self.limits.reserve_bytes;
        self.append_keeping(frame, reserve)
    }

    /// As [`Partition::append`], but the bytes kept in reserve may be used: for what frees space or must not fail, such
    /// as noting that something is done with.
    ///
    /// # Errors
    /// See [`AppendError`]; nothing has changed then.
    pub fn append_essential(&mut self, frame: &Frame<'_>) -> Result<Ticket, AppendError> {
        self.append_keeping(frame, 0)
    }

    /// Whether a message whose frame has `bytes` would be taken by [`Partition::append`] now.
    ///
    /// # Errors
    /// The one [`Partition::append`] would answer with.
    pub fn check_room(&self, bytes: usize) -> Result<(), AppendError> {
        if self.failed.is_some() {
            return Err(AppendError::Failed);
        }
        let bytes = record_bytes(bytes) as u64;
        let pending = self.batches.pending_bytes();
        if pending > 0 && pending + bytes > self.pending_bytes_max() {
            return Err(AppendError::NotReady);
        }
        match self.room(bytes, self.limits.reserve_bytes) {
            Room::Here | Room::NextSegment => Ok(()),
            Room::Later => Err(AppendError::NotReady),
            Room::Nowhere => Err(AppendError::Full),
        }
    }

    /// Whether something essential whose frame has `bytes` would be taken by [`Partition::append_essential`] and leave half
    /// of the reserve: for what frees space and comes in any number.
    ///
    /// # Errors
    /// The one it would be refused with.
    pub fn check_reserve(&self, bytes: usize) -> Result<(), AppendError> {
        if self.failed.is_some() {
            return Err(AppendError::Failed);
        }
        match self.room(record_bytes(bytes) as u64, self.limits.reserve_bytes / 2) {
            Room::Here | Room::NextSegment => Ok(()),
            Room::Later => Err(AppendError::NotReady),
            Room::Nowhere => Err(AppendError::Full),
        }
    }

    /// The segment the next message goes to, as far as is known before it is appended.
    pub fn current_segment(&self) -> u64 {
        self.segments.current()
    }

    /// The oldest segment kept.
    pub fn oldest_segment(&self) -> u64 {
        self.segments.oldest()
    }

    fn pending_bytes_max(&self) -> u64 {
        self.limits.batch_bytes_max as u64 * PENDING_BATCHES_MAX
    }

    fn append_keeping(&mut self, frame: &Frame<'_>, reserve: u64) -> Result<Ticket, AppendError> {
        let appended = self.try_append(frame, reserve);
        match appended {
            Ok(_) => {}
            Err(AppendError::Full) => {
                self.was_full = true;
                self.counters.refused_full += 1;
            }
            Err(AppendError::NotReady) => self.counters.refused_not_ready += 1,
            Err(AppendError::Failed) => {}
            Err(AppendError::TooLarge { .. } | AppendError::Tenant | AppendError::TenantLimit) => {
                self.counters.refused_invalid += 1;
            }
        }
        appended
    }

    fn try_append(&mut self, frame: &Frame<'_>, reserve: u64) -> Result<Ticket, AppendError> {
        if self.failed.is_some() {
            return Err(AppendError::Failed);
        }
        let tenant = frame.tenant().unwrap_or_default();
        if tenant.is_empty() || tenant.len() > TENANT_BYTES_MAX {
            return Err(AppendError::Tenant);
        }
        let body = frame.as_bytes();
        let bytes = record_bytes(body.len()) as u64;
        if bytes > self.record_bytes_max() {
            let max = self.record_bytes_max() - RECORD_BYTES_MIN;
            return Err(AppendError::TooLarge { bytes: body.len() as u64, max });
        }
        let pending = self.batches.pending_bytes();
        // What is essential is small and few: it waits for nothing but the disk.
        if reserve > 0 && pending > 0 && pending + bytes > self.pending_bytes_max() {
            return Err(AppendError::NotReady);
        }
        match self.room(bytes, reserve) {
            Room::Here => {}
            Room::NextSegment => self.roll(),
            Room::Later => {
                self.segments.want_next();
                return Err(AppendError::NotReady);
            }
            Room::Nowhere => return Err(AppendError::Full),
        }
        let sequence = self.streams.take(tenant)?;
        let ticket = Ticket(self.last_ticket.0 + 1);
        self.note_age(frame.created_ms());
        self.push(Kind::Message, sequence, body, ticket);
        self.last_ticket = ticket;
        self.counters.records += 1;
        self.counters.records_ever += 1;
        self.counters.bytes += body.len() as u64;
        if self.batches.gathering_bytes() >= self.limits.batch_bytes_max {
            self.close_batch();
        }
        Ok(ticket)
    }

    /// Records that wait for their write to begin.
    pub fn pending_records(&self) -> u64 {
        self.batches.pending_records()
    }

    /// Bytes that wait for their write to begin.
    pub fn pending_bytes(&self) -> u64 {
        self.batches.pending_bytes()
    }

    /// Whether a write is out.
    pub fn is_writing(&self) -> bool {
        self.batches.is_in_flight()
    }

    /// The next batch to write, if there is one and none is out.
    pub fn poll_write(&mut self) -> Option<Write> {
        if self.failed.is_some() || self.batches.is_in_flight() {
            return None;
        }
        if !self.batches.has_waiting() {
            self.close_batch();
        }
        self.batches.take()
    }

    /// The write that was out has ended: `Ok` only if all bytes were written *and* synced. `buffer` is the write's,
    /// for reuse; an empty one does too. Any error stops the partition for good: what a failed sync left on disk is
    /// not known, and syncing again would not tell.
    pub fn write_done(&mut self, buffer: Vec<u8>, result: io::Result<()>) -> Committed {
        if let Err(error) = result {
            self.fail(format!("writing segment {} failed: {error}", self.segments.current()));
        }
        if let Some(reason) = &self.failed {
            return Committed::Failed { reason: reason.clone() };
        }
        debug_assert!(self.batches.is_in_flight(), "a write ends once");
        if let Some(commit) = self.batches.done(buffer) {
            self.durable_ticket = commit.through;
            self.durable_cursor = self.durable_cursor.max(commit.cursor.unwrap_or_default());
            if commit.ends_segment {
                self.segments.close(commit.segment);
            }
            self.shared.commit(commit.end);
        }
        Committed::Durable { through: self.durable_ticket }
    }

    /// Stops the partition, as a failed write does; for errors the shard meets elsewhere on the write path.
    pub fn fail(&mut self, reason: String) {
        self.batches.abandon();
        self.failed.get_or_insert(reason);
    }

    /// Looks at what the consumer acknowledged: writes it down when that is cheap or frees space, and gives up
    /// segments that lie wholly before a durable cursor. Call once a turn; costs one atomic load when nothing moved.
    pub fn apply_cursor(&mut self) {
        if self.failed.is_some() {
            return;
        }
        let acknowledged = self.shared.acknowledged();
        if acknowledged > self.recorded_cursor {
            let frees = self.layout.segment_of(acknowledged) > self.segments.oldest()
                && self.layout.segment_of(acknowledged)
                    > self.layout.segment_of(self.recorded_cursor);
            let far = acknowledged.0 - self.recorded_cursor.0 >= self.cursor_spacing();
            let along = self.batches.may_carry_cursor();
            if frees {
                self.record_checkpoint(acknowledged);
            } else if (far || along) && self.has_next() {
                self.record_cursor(acknowledged);
            }
        }
        self.drop_segments(acknowledged);
        while self.ages.get(1).is_some_and(|(position, _)| *position <= acknowledged) {
            self.ages.pop_front();
        }
    }

    /// Writes the cursor down whatever it costs, so that the next start resumes exactly there; for an orderly stop.
    /// Poll and finish writes afterwards until there are none.
    pub fn flush_cursor(&mut self) {
        let acknowledged = self.shared.acknowledged();
        if self.failed.is_none() && acknowledged > self.recorded_cursor {
            self.record_cursor(acknowledged);
        }
    }

    /// Work for the maintenance thread.
    pub fn poll_segment_request(&mut self) -> Option<SegmentRequest> {
        if self.failed.is_some() {
            return None;
        }
        if self.used() >= self.layout.segment_bytes / PREPARE_SHARE {
            self.segments.want_next();
        }
        self.segments.poll_request()
    }

    /// The answer to [`SegmentRequest::Prepare`]: the file opened by [`crate::open_segment`], or why there is none.
    /// After an error the partition goes on in the space it has; see [`Partition::retry_preparation`].
    pub fn segment_prepared(&mut self, number: u64, result: io::Result<File>) {
        self.segments.prepared(number, result);
    }

    /// Lets a failed preparation be asked for again; call about once a second while [`Partition::preparation_error`]
    /// answers something. A dropped segment does the same.
    pub fn retry_preparation(&mut self) {
        self.segments.retry();
    }

    /// Why the next segment could not be prepared, for example a full disk.
    pub fn preparation_error(&self) -> Option<&str> {
        self.segments.refused()
    }

    /// Files the ring has to take or may give up.
    pub fn poll_file(&mut self) -> Option<FileEvent> {
        self.segments.poll_file()
    }

    /// Whether messages are taken. Full means that one was refused for want of space and none has returned since, or
    /// that not even the smallest would fit.
    pub fn state(&self) -> PartitionState {
        if let Some(reason) = &self.failed {
            return PartitionState::Failed { reason: reason.clone() };
        }
        let has_room = self.has_next()
            || !self.was_full
                && matches!(self.room(RECORD_BYTES_MIN, self.limits.reserve_bytes), Room::Here);
        if has_room { PartitionState::Healthy } else { PartitionState::Full }
    }

    /// Counters and gauges.
    pub fn metrics(&self) -> PartitionMetrics {
        let acknowledged = self.shared.acknowledged();
        let unacknowledged = self.head.0.saturating_sub(acknowledged.0);
        PartitionMetrics {
            batches: self.batches.written(),
            pending_records: self.batches.pending_records(),
            pending_bytes: self.batches.pending_bytes(),
            bytes_used: self.segments.count() * self.layout.segment_bytes,
            bytes_max: self.limits.bytes_max,
            bytes_unacknowledged: unacknowledged,
            committed: self.shared.committed(),
            acknowledged,
            oldest_segment: self.segments.oldest(),
            oldest_created_ms: self.oldest_created_ms(acknowledged),
            tenants: self.streams.tenants(),
            ..self.counters
        }
    }

    /// The next sequence of each tenant's stream.
    pub fn next_sequences(&self) -> impl ExactSizeIterator<Item = (&str, u64)> {
        self.streams.iter()
    }

    /// Largest record: fits behind any checkpoint in a fresh segment, leaving end and reserve.
    fn record_bytes_max(&self) -> u64 {
        let bytes = self.layout.segment_bytes;
        bytes - bytes / CHECKPOINT_SHARE - self.limits.reserve_bytes - RECORD_BYTES_MIN
    }

    /// Bytes used in the current segment.
    fn used(&self) -> u64 {
        self.head.0 - self.layout.start_of(self.segments.current()).0
    }

    fn cursor_spacing(&self) -> u64 {
        (self.layout.segment_bytes / AGE_SAMPLES).max(CURSOR_SPACING_MIN)
    }

    fn has_next(&self) -> bool {
        self.segments.next_is_ready() || self.segments.next_may_come()
    }

    /// Where a record of `bytes` can go. Each segment keeps room for its end record; where no next segment is ready,
    /// `reserve` bytes more stay free.
    fn room(&self, bytes: u64, reserve: u64) -> Room {
        let wanted = self.used() + bytes + RECORD_BYTES_MIN;
        if self.segments.next_is_ready() {
            return if wanted <= self.layout.segment_bytes {
                Room::Here
            } else {
                Room::NextSegment
            };
        }
        if wanted + reserve <= self.layout.segment_bytes {
            return Room::Here;
        }
        if self.segments.next_may_come() { Room::Later } else { Room::Nowhere }
    }

    /// Ends the current segment and begins the prepared one with a checkpoint. A segment that is full to its last byte
    /// was ended by the batch that filled it.
    fn roll(&mut self) {
        if self.used() < self.layout.segment_bytes {
            self.push(Kind::SegmentEnd, 0, &[], self.last_ticket);
            self.batches.note_segment_end();
        }
        self.batches.close(self.head);
        self.segments.roll();
        self.was_full = false;
        self.head = self.layout.start_of(self.segments.current());
        self.push_checkpoint(self.shared.acknowledged());
    }

    fn close_batch(&mut self) {
        self.head = self.batches.close(self.head);
    }

    fn push(&mut self, kind: Kind, sequence: u64, body: &[u8], through: Ticket) {
        self.head = self.batches.push(self.head, kind, sequence, body, through);
    }

    fn push_checkpoint(&mut self, cursor: Position) {
        let head = CheckpointHead {
            cursor,
            first_sequence: self.streams.first_sequence(),
            messages: self.counters.records_ever,
            lost_max: self.counters.lost_max,
        };
        let mut body = std::mem::take(&mut self.scratch);
        body.clear();
        self.streams.encode_checkpoint(&head, &mut body);
        self.push(Kind::Checkpoint, 0, &body, self.last_ticket);
        self.scratch = body;
        self.note_cursor(cursor);
    }

    fn note_cursor(&mut self, cursor: Position) {
        self.recorded_cursor = cursor;
        self.batches.note_cursor(cursor);
    }

    /// A second checkpoint before the segments with the older ones go; a mere cursor where it does not fit.
    fn record_checkpoint(&mut self, cursor: Position) {
        let bytes = record_bytes(self.streams.checkpoint_bytes()) as u64;
        match self.room(bytes, 0) {
            Room::Here => self.push_checkpoint(cursor),
            Room::NextSegment => self.roll(),
            Room::Later | Room::Nowhere => self.record_cursor(cursor),
        }
    }

    fn record_cursor(&mut self, cursor: Position) {
        let bytes = record_bytes(size_of::<u64>()) as u64;
        match self.room(bytes, 0) {
            Room::Here => {
                self.push(Kind::Cursor, 0, &Cursor(cursor).encode(), self.last_ticket);
                self.note_cursor(cursor);
            }
            Room::NextSegment => self.roll(),
            Room::Later | Room::Nowhere => {}
        }
    }

    fn drop_segments(&mut self, acknowledged: Position) {
        let mut cursor = self.durable_cursor;
        // Without room for even a cursor, freeing space goes first: recovery starts at the oldest segment it finds.
        if matches!(self.room(RECORD_BYTES_MIN + 8, 0), Room::Nowhere) {
            cursor = acknowledged;
        }
        while self.segments.oldest() < self.segments.current()
            && self.layout.start_of(self.segments.oldest() + 1) <= cursor
        {
            self.segments.drop_oldest();
        }
    }

    fn note_age(&mut self, created_ms: u64) {
        let due = match self.ages.back() {
            Some((position, _)) => {
                self.head.0 - position.0 >= self.layout.segment_bytes / AGE_SAMPLES
            }
            None => true,
        };
        if due {
            self.ages.push_back((self.head, created_ms));
        }
    }

    fn oldest_created_ms(&self, acknowledged: Position) -> Option<u64> {
        let index = self.ages.partition_point(|(position, _)| *position <= acknowledged);
        if acknowledged >= self.head {
            return None;
        }
        self.ages.get(index.saturating_sub(1)).map(|(_, created_ms)| *created_ms)
    }
}

impl std::fmt::Debug for Partition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Partition")
            .field("head", &self.head)
            .field("state", &self.state())
            .finish_non_exhaustive()
    }
}
