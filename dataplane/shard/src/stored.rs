//! A journal partition on the ring: what is appended, who waits for which commit, which segment file has which id.
//!
//! A shard has two: one for stored messages on their way to the cloud, one for what its MQTT sessions must not forget. The
//! journal decides what is written where; the ring writes.

use crate::connections::Key;
use crate::gather::Gather;
use crate::metrics::ShardMetrics;
use crate::ports::Segments;
use fulcrum_frame::Frame;
use fulcrum_journal::{
    AppendError, Committed, FileEvent, Partition, PartitionState, SegmentRequest, Ticket, WriteMode,
};
use fulcrum_ring::{FileId, Io, WriteBuffer, WriteDone};
use fulcrum_router::ShardIndex;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

/// A journal that has no room for so many bytes counts as full.
const FULL_BYTES: usize = 16 * 1024;

/// Who is told that a stored message is durable.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Waiter {
    /// PUBACK or PUBREC to an MQTT client.
    Mqtt { connection: Key, packet_id: u16 },
    /// PUBREL to an MQTT client.
    Release { connection: Key, packet_id: u16 },
    /// PUBCOMP to an MQTT client.
    Complete { connection: Key, packet_id: u16 },
    /// A connection that is held until what it asked for is durable.
    Held { connection: Key },
    /// A publisher here whose message several shards have to store.
    Receipt { receipt: u32 },
    /// A publisher on another shard.
    Remote { shard: ShardIndex, receipt: u32 },
    /// Another shard may forget what it has forwarded.
    Forwarded { shard: ShardIndex, number: u64 },
    /// 202 to a device.
    Http { connection: Key, request: u64 },
    /// Disposition to an AMQP device.
    Amqp { connection: Key, number: u64 },
    /// The shard that has the producer's connection.
    Shard { shard: ShardIndex, id: u64 },
    /// The store may forget the command.
    Command { tenant: Arc<str>, device: Arc<str>, id: String },
    /// A publisher that wants no answer.
    Nobody,
}

/// Why a message was not stored.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum NotStored {
    /// Wait for the next commit or segment and try again.
    Later,
    /// Refused: no room.
    Full,
    /// Refused: the journal has failed.
    Failed,
    /// Refused: the message itself.
    Invalid,
}

/// Which of a shard's two journals.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum JournalKind {
    /// Stored messages of devices, read by the uplink.
    Messages,
    /// What MQTT sessions must not forget, read at the next start.
    Sessions,
}

impl JournalKind {
    /// Token of the one write of it that may be out.
    pub(crate) fn token(self) -> u64 {
        self as u64
    }
}

pub(crate) struct Stored {
    partition: Partition,
    segments: Box<dyn Segments>,
    held_request: Option<SegmentRequest>,
    files: HashMap<u64, FileId>,
    closing: Vec<u64>,
    writing: Option<Writing>,
    gather: Gather,
    /// Page-aligned memory the kernel reads a batch from; away while a write is out.
    aligned: Option<WriteBuffer>,
    waiting: VecDeque<(Ticket, Waiter)>,
    through: Option<Ticket>,
    retry_at: Option<Instant>,
    kind: JournalKind,
    number: u16,
    mode: fulcrum_ring::WriteMode,
}

/// The write that is out.
struct Writing {
    segment: u64,
    records: u64,
    batch: Vec<u8>,
    begun: Instant,
}

impl Stored {
    pub(crate) fn new(
        kind: JournalKind,
        number: u16,
        partition: Partition,
        segments: Box<dyn Segments>,
        mode: WriteMode,
    ) -> Stored {
        Stored {
            partition,
            segments,
            held_request: None,
            files: HashMap::new(),
            closing: Vec::new(),
            writing: None,
            gather: Gather::default(),
            aligned: None,
            waiting: VecDeque::new(),
            through: None,
            retry_at: None,
            kind,
            number,
            mode: ring_mode(mode),
        }
    }

    /// Takes a message into the next batch; `waiter` comes out of [`Stored::next_durable`] after its commit.
    pub(crate) fn append(&mut self, frame: &Frame<'_>, waiter: Waiter) -> Result<(), NotStored> {
        let ticket = self.partition.append(frame).map_err(not_stored)?;
        self.waiting.push_back((ticket, waiter));
        Ok(())
    }

    /// Takes a record nobody waits for yet; see [`Stored::wait`]. An essential one may use the journal's reserve.
    pub(crate) fn append_record(
        &mut self,
        frame: &Frame<'_>,
        essential: bool,
    ) -> Result<Ticket, NotStored> {
        let appended = match essential {
            true => self.partition.append_essential(frame),
            false => self.partition.append(frame),
        };
        appended.map_err(not_stored)
    }

    /// Whether a frame of so many bytes would be taken now.
    pub(crate) fn check_room(&self, bytes: usize) -> Result<(), NotStored> {
        self.partition.check_room(bytes).map_err(not_stored)
    }

    /// Whether an essential frame of so many bytes would be taken now, and leave reserve for others.
    pub(crate) fn check_reserve(&self, bytes: usize) -> Result<(), NotStored> {
        self.partition.check_reserve(bytes).map_err(not_stored)
    }

    /// `waiter` comes out of [`Stored::next_durable`] after the commit of `ticket`. Tickets never go back from one call
    /// to the next.
    pub(crate) fn wait(&mut self, ticket: Ticket, waiter: Waiter) {
        // A waiter for an older ticket than the last waits a little longer than it must, and the order stays.
        let ticket = self.waiting.back().map_or(ticket, |(last, _)| ticket.max(*last));
        self.waiting.push_back((ticket, waiter));
    }

    /// `waiter` comes out behind all that wait now; false if nobody does, and then it is up to the caller.
    pub(crate) fn wait_behind(&mut self, waiter: Waiter) -> bool {
        let Some((last, _)) = self.waiting.back() else { return false };
        self.waiting.push_back((*last, waiter));
        true
    }

    /// Everything up to this ticket is durable.
    pub(crate) fn through(&self) -> Option<Ticket> {
        self.through
    }

    /// The segments in use, oldest and newest.
    pub(crate) fn segments(&self) -> (u64, u64) {
        (self.partition.oldest_segment(), self.partition.current_segment())
    }

    /// Most bytes the journal may take.
    pub(crate) fn bytes_max(&self) -> u64 {
        self.partition.metrics().bytes_max
    }

    /// Whether the journal has failed: nothing becomes durable any more.
    pub(crate) fn has_failed(&self) -> bool {
        matches!(self.partition.state(), PartitionState::Failed { .. })
    }

    /// The next waiter whose message is durable.
    pub(crate) fn next_durable(&mut self) -> Option<Waiter> {
        let through = self.through?;
        let (ticket, _) = self.waiting.front()?;
        if *ticket > through {
            return None;
        }
        self.waiting.pop_front().map(|(_, waiter)| waiter)
    }

    /// The next waiter whose message can never become durable, once the journal has failed.
    pub(crate) fn next_failed(&mut self) -> Option<Waiter> {
        if !self.has_failed() {
            return None;
        }
        self.waiting.pop_front().map(|(_, waiter)| waiter)
    }

    /// Whether nothing is out and nothing waits to be written.
    pub(crate) fn is_idle(&self) -> bool {
        self.writing.is_none() && self.partition.pending_bytes() == 0
    }

    /// Writes the consumer's position down for the next start; once, when the node stops.
    pub(crate) fn flush_cursor(&mut self) {
        self.partition.flush_cursor();
    }

    /// The answer of the thread that prepares segments.
    pub(crate) fn segment_prepared(&mut self, number: u64, result: std::io::Result<std::fs::File>) {
        if let Err(error) = &result {
            tracing::warn!(partition = self.number, segment = number, %error, "cannot prepare a journal segment");
        }
        self.partition.segment_prepared(number, result);
    }

    /// The ring has finished the write that was out.
    pub(crate) fn written(
        &mut self,
        io: &mut Io<'_>,
        result: std::io::Result<WriteDone>,
        metrics: &ShardMetrics,
    ) {
        let Some(writing) = self.writing.take() else { return };
        let took = io.now().saturating_duration_since(writing.begun);
        match self.kind {
            JournalKind::Messages => &metrics.journal_commit_us,
            JournalKind::Sessions => &metrics.session_journal_commit_us,
        }
        .set(took.as_micros() as u64);
        self.gather.committed(io.now(), took, writing.records, self.partition.pending_records());
        let result = result.map(|done| {
            match self.kind {
                JournalKind::Messages => &metrics.journal_bytes,
                JournalKind::Sessions => &metrics.session_journal_bytes,
            }
            .add(done.bytes as u64);
            self.aligned = Some(done.buffer);
        });
        if let Err(error) = &result {
            tracing::error!(
                partition = self.number,
                %error,
                "journal write failed: nothing is acknowledged any more; check the disk, then restart the node"
            );
        }
        if let Committed::Durable { through } = self.partition.write_done(writing.batch, result) {
            self.through = Some(through);
        }
        for number in std::mem::take(&mut self.closing) {
            self.close(io, number);
        }
    }

    /// Steps 4 to 7 of the journal's drive contract; at the end of a turn.
    pub(crate) fn pump(&mut self, io: &mut Io<'_>, metrics: &ShardMetrics) {
        self.partition.apply_cursor();
        self.retry_preparation(io.now());
        self.pass_requests();
        while let Some(event) = self.partition.poll_file() {
            match event {
                FileEvent::Open { number, file } => {
                    let id = io.open_file(file, self.mode);
                    self.files.insert(number, id);
                }
                FileEvent::Close { number } => self.close(io, number),
            }
        }
        self.begin_write(io);
        self.publish(metrics);
    }

    fn begin_write(&mut self, io: &mut Io<'_>) {
        let pending = self.partition.pending_records();
        if self.partition.pending_bytes() == 0 || self.writing.is_some() {
            return;
        }
        if let Some(moment) = self.gather.wait(io.now(), pending) {
            return io.wake_within(moment);
        }
        let Some(write) = self.partition.poll_write() else { return };
        let Some(file) = self.files.get(&write.segment).copied() else {
            self.partition.fail(format!("segment {} has no open file", write.segment));
            return;
        };
        let mut aligned =
            self.aligned.take().unwrap_or_else(|| WriteBuffer::with_capacity_aligned(0));
        aligned.clear();
        aligned.extend_from_slice(&write.buffer);
        io.write_durable(file, write.offset, aligned, self.kind.token());
        let records = pending - self.partition.pending_records();
        let (segment, batch, begun) = (write.segment, write.buffer, io.now());
        self.writing = Some(Writing { segment, records, batch, begun });
    }

    fn retry_preparation(&mut self, now: Instant) {
        if self.partition.preparation_error().is_none() {
            self.retry_at = None;
            return;
        }
        let at = *self.retry_at.get_or_insert(now + std::time::Duration::from_secs(1));
        if now >= at {
            self.retry_at = None;
            self.partition.retry_preparation();
        }
    }

    /// Passes requests on in order; one that finds no room waits for the next turn.
    fn pass_requests(&mut self) {
        loop {
            let next = self.held_request.take().or_else(|| self.partition.poll_segment_request());
            let Some(request) = next else { return };
            if let Err(request) = self.segments.request(self.number, request) {
                self.held_request = Some(request);
                return;
            }
        }
    }

    /// Whether the shard has to come back although nothing wakes it.
    pub(crate) fn wants_another_look(&self) -> bool {
        self.held_request.is_some() || self.retry_at.is_some()
    }

    fn close(&mut self, io: &mut Io<'_>, number: u64) {
        if self.writing.as_ref().is_some_and(|writing| writing.segment == number) {
            self.closing.push(number);
        } else if let Some(id) = self.files.remove(&number) {
            io.close_file(id);
        }
    }

    fn publish(&self, metrics: &ShardMetrics) {
        let journal = self.partition.metrics();
        let state = match self.partition.state() {
            // Who asks for room first is never refused by the journal itself.
            PartitionState::Healthy => {
                u64::from(matches!(self.partition.check_room(FULL_BYTES), Err(AppendError::Full)))
            }
            PartitionState::Full => 1,
            PartitionState::Failed { .. } => 2,
        };
        match self.kind {
            JournalKind::Messages => {
                metrics.journal_records.set(journal.records);
                metrics.journal_batches.set(journal.batches);
                metrics.journal_bytes_used.set(journal.bytes_used);
                metrics.journal_bytes_max.set(journal.bytes_max);
                metrics.stored_waiting.set(self.waiting.len() as u64);
                metrics.journal_state.set(state);
            }
            JournalKind::Sessions => {
                metrics.session_journal_records.set(journal.records);
                metrics.session_journal_batches.set(journal.batches);
                metrics.session_journal_bytes_used.set(journal.bytes_used);
                metrics.session_journal_bytes_max.set(journal.bytes_max);
                metrics.session_journal_waiting.set(self.waiting.len() as u64);
                metrics.session_journal_state.set(state);
            }
        }
    }
}

fn not_stored(error: AppendError) -> NotStored {
    match error {
        AppendError::NotReady => NotStored::Later,
        AppendError::Full | AppendError::TenantLimit => NotStored::Full,
        AppendError::Failed => NotStored::Failed,
        AppendError::TooLarge { .. } | AppendError::Tenant => NotStored::Invalid,
    }
}

fn ring_mode(mode: WriteMode) -> fulcrum_ring::WriteMode {
    match mode {
        WriteMode::BufferedThenSync => fulcrum_ring::WriteMode::BufferedThenSync,
        WriteMode::DirectSync => fulcrum_ring::WriteMode::DirectSync,
    }
}
