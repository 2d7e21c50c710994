//! The stored lanes: one task per journal partition reads what is committed and ships it, stream by stream.
//!
//! ```text
//!   journal ──read_at──▶ records ──by tenant──▶ streams ──batches──▶ cloud
//!      ▲                                           │ marks
//!      └────────── acknowledge(position) ◀─────────┘ oldest place any stream still needs
//! ```
//!
//! - One batch per stream is under way; the next gathers meanwhile. So an idle link ships at once, and a busy one ships
//!   large batches.
//! - Memory is bounded by a window. A stream that cannot be shipped while others can is *parked*: what it holds is
//!   forgotten, its place in the journal is kept, and it is read again later. So no tenant stops another.
//! - A tenant the cloud refuses ([`REFUSALS_MAX`] times in a row) loses its records; they are counted. If the cloud
//!   takes the tenant again, what is missing is visible there as a gap.
//!
//! Deliberately absent: reading ahead on disk, and a copy of anything: the journal is the only queue.

mod batch;
mod reader;
mod ship;
mod stream;

pub use batch::{GAP_DEVICE, GAP_PROPERTY};

use crate::backoff::Attempts;
use crate::doorbell::Doorbell;
use crate::link::Link;
use crate::status::{DropReason, PartitionStatus};
use fulcrum_contract::TenantId;
use fulcrum_contract::sync::{BATCH_BODY_BYTES_MAX, BATCH_UNPACKED_BYTES_MAX, BatchHeader, Marks};
use fulcrum_frame::Frame;
use fulcrum_journal::{Damage, Gap, GapReason, Kind, Position, Record, Step, Tail};
use reader::SegmentReader;
use ship::{Decision, Shipment, ship};
use std::cell::Cell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use stream::{Limits, Next, Stream, Taken};
use tokio::sync::{Semaphore, watch};
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, sleep_until};

/// Refusals of a tenant in a row after which its records are given up.
const REFUSALS_MAX: u32 = 3;
/// How long a refused tenant's records are given up without asking again.
const REFUSED_FOR: Duration = Duration::from_secs(60);
/// Failed attempts after which a stream may be parked in favour of others.
const STRUGGLING: u32 = 2;

/// The marks, once the cloud has told them.
pub(crate) type MarksReceiver = watch::Receiver<Option<Rc<Marks>>>;

/// A journal partition and the bell its commits ring.
pub(crate) struct Source {
    tail: Tail,
    bell: Doorbell,
    /// Index of this partition in the status.
    slot: usize,
}

impl Source {
    /// Takes the tail over; none if it has had a reader before.
    pub fn new(tail: Tail, slot: usize) -> Option<Source> {
        let bell = Doorbell::new();
        let ring = bell.clone();
        tail.set_notify(Arc::new(move || ring.ring())).then_some(Source { tail, bell, slot })
    }
}

/// Ships one partition until `stop` turns true and everything is shipped or the link is down.
pub(crate) async fn run(
    link: Rc<Link>,
    source: Source,
    permits: Rc<Semaphore>,
    marks: MarksReceiver,
    stop: watch::Receiver<bool>,
) {
    let Source { tail, bell, slot } = source;
    let mut lane = Lane {
        name: format!("p{}", tail.partition()),
        reader: SegmentReader::new(tail.clone()),
        cursor: tail.start(),
        old_until: tail.committed(),
        read_bytes: link.config.read_bytes,
        read_again_at: None,
        read_attempts: Attempts::new(link.config.backoff),
        streams: HashMap::new(),
        busy: Vec::new(),
        under_way: JoinSet::new(),
        marks: None,
        link,
        tail,
        slot,
        permits,
    };
    lane.run(bell, marks, stop).await;
}

struct Lane {
    link: Rc<Link>,
    tail: Tail,
    name: String,
    /// Index of this partition in the status.
    slot: usize,
    permits: Rc<Semaphore>,
    reader: SegmentReader,
    /// Where the next read begins.
    cursor: Position,
    /// What lies before was committed before this run.
    old_until: Position,
    read_bytes: usize,
    read_again_at: Option<Instant>,
    read_attempts: Attempts,
    streams: HashMap<Rc<str>, Entry>,
    /// Streams that are not idle.
    busy: Vec<Rc<str>>,
    under_way: JoinSet<(Rc<str>, Rc<Shipment>, Decision)>,
    marks: Option<Rc<Marks>>,
}

/// A stream and what concerns its requests.
struct Entry {
    stream: Stream,
    is_busy: bool,
    attempts: Attempts,
    paused_until: Option<Instant>,
    refusals: u32,
    refused_until: Option<Instant>,
    failures: Rc<Cell<u32>>,
    halt_told: bool,
}

impl Entry {
    fn is_paused(&self) -> bool {
        self.paused_until.is_some()
    }

    fn is_struggling(&self) -> bool {
        self.is_paused() || (self.stream.is_under_way() && self.failures.get() >= STRUGGLING)
    }
}

impl Lane {
    async fn run(
        &mut self,
        bell: Doorbell,
        mut marks: MarksReceiver,
        mut stop: watch::Receiver<bool>,
    ) {
        loop {
            while let Some(done) = self.under_way.try_join_next() {
                self.finish(done);
            }
            if self.marks.is_none() && marks.borrow_and_update().is_some() {
                self.learn_marks(marks.borrow().clone());
            }
            self.wake_paused();
            self.unpark();
            let has_read = self.can_read() && self.read().await;
            self.launch();
            self.settle();
            if *stop.borrow() && (!self.link.is_up() || self.is_drained()) {
                return;
            }
            if has_read {
                continue;
            }
            let timer = self.next_timer();
            let waits_for_records = self.has_room() && self.read_again_at.is_none();
            let (tail, cursor) = (&self.tail, self.cursor);
            tokio::select! {
                Some(done) = self.under_way.join_next() => self.finish(done),
                () = bell.wait_until(|| !tail.sleep(cursor)), if waits_for_records => {}
                Ok(()) = marks.changed(), if self.marks.is_none() => {}
                () = sleep_until(timer.unwrap_or_else(Instant::now)), if timer.is_some() => {}
                Ok(()) = stop.changed() => {}
            }
        }
    }

    fn limits(&self) -> Limits {
        Limits {
            bytes_max: self.link.batch_bytes(),
            records_max: self.link.config.batch_records_max,
            hole_max: self.link.config.gap_records_max,
        }
    }

    fn held_bytes(&self) -> usize {
        self.busy_entries().map(|entry| entry.stream.bytes()).sum()
    }

    fn busy_entries(&self) -> impl Iterator<Item = &Entry> {
        self.busy.iter().filter_map(|tenant| self.streams.get(tenant))
    }

    fn has_room(&self) -> bool {
        self.held_bytes() < self.link.config.window_bytes
    }

    fn is_drained(&self) -> bool {
        let waits = |entry: &Entry| {
            entry.stream.is_under_way() || entry.stream.can_send() || entry.stream.is_parked()
        };
        self.cursor >= self.tail.committed() && !self.busy_entries().any(waits)
    }

    fn next_timer(&self) -> Option<Instant> {
        let pauses = self.busy_entries().filter_map(|entry| entry.paused_until);
        pauses.chain(self.read_again_at).min()
    }

    // Reading.

    fn can_read(&mut self) -> bool {
        if self.read_again_at.is_some_and(|at| Instant::now() < at)
            || self.cursor >= self.tail.committed()
        {
            return false;
        }
        self.read_again_at = None;
        self.has_room() || self.park()
    }

    /// Reads one chunk and hands its records to their streams. Whether it got any further.
    async fn read(&mut self) -> bool {
        let limit = self.tail.committed();
        let bytes = match self.reader.read(self.cursor, self.read_bytes).await {
            Ok(bytes) => bytes,
            Err(error) => {
                self.read_failed(&error);
                return false;
            }
        };
        let records = self.tail.reader();
        let (begin, mut at) = (self.cursor, 0);
        let mut at_least = None;
        while at < bytes.len() {
            match records.parse(&bytes[at..], self.cursor, limit) {
                Step::Record(record) => {
                    self.take(&record);
                    self.cursor = record.next;
                }
                Step::NeedMore { at_least: bytes_min } => {
                    at_least = Some(bytes_min);
                    break;
                }
                Step::EndOfSegment { next } => {
                    self.cursor = next;
                    break;
                }
                Step::Corrupt(damage) => {
                    self.damaged(&damage);
                    self.cursor = damage.to;
                }
            }
            at = (self.cursor.0 - begin.0) as usize;
        }
        let has_moved = self.cursor > begin;
        let read_bytes = self.link.config.read_bytes;
        let had = bytes.len();
        self.reader.recycle(bytes, read_bytes);
        self.read_bytes = match at_least {
            Some(wanted) if !has_moved && wanted > had => wanted,
            Some(_) if !has_moved => {
                self.read_failed(&std::io::ErrorKind::InvalidData.into());
                read_bytes
            }
            _ => read_bytes,
        };
        if has_moved {
            self.read_attempts.succeeded();
        }
        has_moved || self.read_bytes > had
    }

    fn read_failed(&mut self, error: &std::io::Error) {
        self.reader.close();
        let (path, offset, segment_bytes) = self.tail.segment_path(self.cursor);
        let text =
            format!("cannot read the journal at {}: {error}; check the disk", path.display());
        tracing::error!("{text}");
        self.link.status.set_error(&text);
        self.link.status.damage.add(1);
        if error.kind() == std::io::ErrorKind::NotFound {
            // A segment below the committed end that is not there any more: its records are gone.
            self.cursor = Position(self.cursor.0 - offset + segment_bytes);
        } else {
            self.read_again_at = Some(Instant::now() + self.read_attempts.pause(None));
        }
    }

    fn damaged(&mut self, damage: &Damage) {
        self.link.status.damage.add(1);
        tracing::error!(
            partition = self.name,
            from = damage.from.0,
            to = damage.to.0,
            records_max = damage.messages_max(),
            "the journal is damaged; what was there shows as a gap in its stream"
        );
    }

    fn take(&mut self, record: &Record<'_>) {
        let limits = self.limits();
        match record.kind {
            Kind::Message => {
                let Some((tenant, created_ms)) = head(record.body) else {
                    self.link.status.count_dropped(DropReason::RecordRefused, 1);
                    tracing::error!(
                        partition = self.name,
                        position = record.position.0,
                        "a journal record has no usable frame"
                    );
                    return;
                };
                let is_old = record.position < self.old_until;
                let taken = Taken {
                    sequence: record.sequence,
                    frame: record.body,
                    from: record.position,
                    created_ms,
                    is_old,
                };
                let status = self.link.status.clone();
                let Some(entry) = self.entry(tenant) else {
                    self.link.status.count_dropped(DropReason::RecordRefused, 1);
                    return;
                };
                if entry.refused_until.is_some_and(|until| Instant::now() < until) {
                    if entry.stream.pass(taken.sequence) {
                        status.count_dropped(DropReason::TenantRefused, 1);
                    }
                    return;
                }
                entry.stream.take(&taken, limits);
            }
            Kind::Gap => {
                let Some(gap) = Gap::decode(record.body) else { return };
                let reason = match gap.reason {
                    GapReason::Expired | GapReason::Evicted | GapReason::Quarantined => {
                        DropReason::JournalGap
                    }
                };
                if let Some(entry) = self.entry(&gap.tenant) {
                    entry.stream.miss(gap.first, gap.last, reason, record.position, limits);
                }
            }
            _ => {}
        }
    }

    /// The tenant's entry, listed as busy; none if the text is no tenant.
    fn entry(&mut self, tenant: &str) -> Option<&mut Entry> {
        let key: Rc<str> = match self.streams.get_key_value(tenant) {
            Some((key, entry)) if entry.is_busy => return self.streams.get_mut(&key.clone()),
            Some((key, _)) => key.clone(),
            None => {
                let tenant = TenantId::parse(tenant).ok()?;
                let mark = self.marks.as_ref().map(|marks| self.mark_of(marks, &tenant));
                let key: Rc<str> = tenant.as_str().into();
                let entry = Entry {
                    stream: Stream::new(tenant, mark),
                    is_busy: false,
                    attempts: Attempts::new(self.link.config.backoff),
                    paused_until: None,
                    refusals: 0,
                    refused_until: None,
                    failures: Rc::default(),
                    halt_told: false,
                };
                self.streams.insert(key.clone(), entry);
                key
            }
        };
        self.busy.push(key.clone());
        let entry = self.streams.get_mut(&key)?;
        entry.is_busy = true;
        Some(entry)
    }

    // Marks.

    fn mark_of(&self, marks: &Marks, tenant: &TenantId) -> u64 {
        let epoch = self.tail.epoch();
        let mut of_stream = marks.marks.iter().filter(|mark| {
            mark.tenant == *tenant && mark.partition == self.name && mark.epoch == epoch
        });
        of_stream.next().map_or(0, |mark| mark.sequence)
    }

    fn learn_marks(&mut self, marks: Option<Rc<Marks>>) {
        let Some(marks) = marks else { return };
        let mut streams = std::mem::take(&mut self.streams);
        for entry in streams.values_mut() {
            let mark = self.mark_of(&marks, &entry.stream.tenant);
            entry.stream.learn_mark(mark, self.limits());
        }
        self.streams = streams;
        self.marks = Some(marks);
    }

    // Shipping.

    fn launch(&mut self) {
        if self.marks.is_none() {
            return;
        }
        let limits = self.limits();
        for tenant in self.busy.clone() {
            let Some(entry) = self.streams.get_mut(&tenant) else { continue };
            if entry.is_paused() {
                continue;
            }
            let id = entry.stream.tenant.clone();
            while let Some(batch) = entry.stream.send(limits) {
                let header = BatchHeader {
                    tenant: id.clone(),
                    partition: self.name.clone(),
                    epoch: self.tail.epoch(),
                    first_sequence: batch.first,
                    count: batch.count,
                };
                let (first, last, bytes_raw) = (batch.first, batch.last(), batch.frames.len());
                let body = match self.link.encode(&header, &batch.frames) {
                    Ok(body) => body,
                    Err(fault) => {
                        tracing::error!(fault.text, "a batch is tried again later");
                        entry.stream.send_again();
                        entry.paused_until = Some(Instant::now() + entry.attempts.pause(None));
                        break;
                    }
                };
                if body.len() > BATCH_BODY_BYTES_MAX || bytes_raw > BATCH_UNPACKED_BYTES_MAX {
                    let given_up = entry.stream.refuse_form(DropReason::TooLarge);
                    tracing::error!(%tenant, given_up, bytes_raw, "a record is larger than the cloud takes");
                    continue;
                }
                let shipment = Rc::new(Shipment { body, first, last, bytes_raw });
                entry.failures.set(0);
                let sending = ship(
                    self.link.clone(),
                    self.permits.clone(),
                    shipment.clone(),
                    entry.failures.clone(),
                );
                let tenant = tenant.clone();
                self.under_way.spawn_local(async move { (tenant, shipment, sending.await) });
                break;
            }
        }
    }

    fn finish(&mut self, done: Result<(Rc<str>, Rc<Shipment>, Decision), JoinError>) {
        // A task is never aborted while the lane lives, and does not panic.
        let Ok((tenant, shipment, decision)) = done else { return };
        let Some(entry) = self.streams.get_mut(&tenant) else { return };
        let status = &self.link.status;
        let next = match decision {
            Decision::Stored { mark } => {
                let count = (mark.min(shipment.last) + 1).saturating_sub(shipment.first);
                match entry.stream.stand_in_reason() {
                    Some(reason) => {
                        status.gap_records.add(count);
                        status.count_dropped(reason, count);
                    }
                    None => status.records.add(count),
                }
                status.batches.add(1);
                status.bytes_raw.add(shipment.bytes_raw as u64);
                status.bytes_packed.add(shipment.body.len() as u64);
                entry.refusals = 0;
                let next = entry.stream.stored(mark);
                if next == Next::GoOn {
                    entry.attempts.succeeded();
                }
                next
            }
            Decision::Behind { mark } => {
                tracing::error!(%tenant, partition = self.name, mark, first = shipment.first, "the cloud lacks records that were shipped or given up before");
                entry.stream.behind(mark)
            }
            Decision::TooSlow => {
                entry.stream.send_halves();
                Next::GoOn
            }
            Decision::FormRefused(reason, text) => {
                if let Some(sequence) = entry.stream.refuse_form(reason) {
                    tracing::error!(%tenant, sequence, reason = reason.as_str(), text, "the cloud refuses a record; a stand-in takes its place");
                    status.set_error(&format!(
                        "record {sequence} of tenant {tenant} was refused: {text}"
                    ));
                }
                Next::GoOn
            }
            Decision::TenantRefused(text) => {
                entry.refusals = entry.refusals.saturating_add(1);
                if entry.refusals < REFUSALS_MAX {
                    entry.stream.send_again();
                    Next::Contradiction
                } else {
                    let records = entry.stream.give_up_all();
                    status.count_dropped(DropReason::TenantRefused, records);
                    if entry.refusals == REFUSALS_MAX {
                        tracing::error!(%tenant, records, text, "the cloud does not serve this tenant; its records are dropped");
                    }
                    status.set_error(&format!("records of tenant {tenant} are dropped: {text}"));
                    entry.refused_until = Some(Instant::now() + REFUSED_FOR);
                    Next::GoOn
                }
            }
        };
        match next {
            Next::GoOn => {}
            Next::ReadAgain => self.cursor = self.tail.acknowledged(),
            Next::Contradiction => {
                entry.paused_until = Some(Instant::now() + entry.attempts.pause(None));
            }
        }
    }

    fn wake_paused(&mut self) {
        let now = Instant::now();
        for tenant in &self.busy {
            if let Some(entry) = self.streams.get_mut(tenant)
                && entry.paused_until.is_some_and(|until| until <= now)
            {
                entry.paused_until = None;
            }
        }
    }

    // Memory.

    /// The window is full: forgets what struggling streams hold, if the link is up for others. Whether there is room now.
    fn park(&mut self) -> bool {
        if !self.link.is_up() {
            return false;
        }
        for tenant in &self.busy {
            if let Some(entry) = self.streams.get_mut(tenant)
                && entry.is_struggling()
                && entry.stream.park()
            {
                tracing::warn!(%tenant, partition = self.name, "this stream does not get through and makes room for others");
            }
        }
        self.has_room()
    }

    /// Reads parked streams again once their requests get through and there is room.
    fn unpark(&mut self) {
        if self.held_bytes() > self.link.config.window_bytes / 2 {
            return;
        }
        for tenant in &self.busy {
            if let Some(entry) = self.streams.get_mut(tenant)
                && entry.stream.is_parked()
                && !entry.stream.is_under_way()
                && !entry.is_paused()
                && !entry.stream.can_send()
                && let Some(from) = entry.stream.unpark()
            {
                self.cursor = self.cursor.min(from);
            }
        }
    }

    // Acknowledging.

    /// Everything before is stored by the cloud, or counted as lost.
    fn watermark(&self) -> Position {
        let held = self.busy_entries().filter_map(|entry| entry.stream.held_from());
        held.min().map_or(self.cursor, |held| held.min(self.cursor))
    }

    fn settle(&mut self) {
        // Before the marks are known nothing is acknowledged: what was taken so far may have to be read again.
        if self.marks.is_some() {
            let watermark = self.watermark();
            if watermark > self.tail.acknowledged() {
                self.tail.acknowledge(watermark);
            }
        }
        let streams = &mut self.streams;
        let mut halted = Vec::new();
        self.busy.retain(|tenant| {
            let Some(entry) = streams.get_mut(tenant) else { return false };
            if let Some(halt) = entry.stream.halted().filter(|_| !entry.halt_told) {
                entry.halt_told = true;
                halted.push((tenant.clone(), halt));
            }
            entry.is_busy = !entry.stream.is_idle();
            entry.is_busy
        });
        for (tenant, halt) in halted {
            let text =
                format!("the stream of tenant {tenant} in {} has stopped: {halt}", self.name);
            tracing::error!("{text}");
            self.link.status.set_error(&text);
            self.link.status.streams_halted.add(1);
        }
        self.publish();
    }

    fn publish(&self) {
        let Some(status) = self.link.status.partitions().get(self.slot) else { return };
        let PartitionStatus { oldest_created_ms, held_records, held_bytes, .. } = status;
        let oldest = self.busy_entries().filter_map(|entry| entry.stream.oldest_created_ms()).min();
        oldest_created_ms.set(oldest.unwrap_or_default());
        held_records.set(self.busy_entries().map(|entry| entry.stream.records()).sum());
        held_bytes.set(self.held_bytes() as u64);
    }
}

/// Tenant and creation time of a frame.
fn head(frame: &[u8]) -> Option<(&str, u64)> {
    let frame = Frame::parse(frame).ok()?;
    Some((frame.tenant()?, frame.created_ms()))
}
