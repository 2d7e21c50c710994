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
//! - A tenant the cloud refuses ([`REFUSALS_MAX`] times in a row), and that the change feed has taken away, loses its
//!   records; they are counted. If it comes back, what is missing is visible as a gap. A tenant that is refused while the
//!   feed still has it keeps its records: one of the two is behind.
//!
//! Deliberately absent: reading ahead on disk, and a copy of anything: the journal is the only queue.

mod batch;
mod intake;
mod outgo;
mod reader;
mod ship;
mod stream;

pub use batch::{GAP_DEVICE, GAP_PROPERTY};

use crate::backoff::Attempts;
use crate::doorbell::Doorbell;
use crate::link::Link;
use crate::status::PartitionStatus;
use fulcrum_contract::TenantId;
use fulcrum_contract::sync::Marks;
use fulcrum_identity::Identity;
use fulcrum_journal::{Position, Tail};
use reader::SegmentReader;
use ship::{Decision, Failures, Shipment};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use stream::{Limits, Stream};
use tokio::sync::{Notify, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

/// Refusals of a tenant in a row after which its records are given up.
const REFUSALS_MAX: u32 = 3;
/// How often the registry is asked whether a tenant that was given up is back.
const GIVEN_UP_FOR: Duration = Duration::from_secs(1);
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
    identity: Identity,
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
        failure: Rc::default(),
        link,
        tail,
        slot,
        identity,
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
    identity: Identity,
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
    /// A batch of this partition was not answered.
    failure: Rc<Notify>,
}

/// A stream and what concerns its requests.
struct Entry {
    stream: Stream,
    is_busy: bool,
    attempts: Attempts,
    paused_until: Option<Instant>,
    refusals: u32,
    /// Its tenant has gone: records are counted and dropped. The registry is asked again then.
    given_up_until: Option<Instant>,
    failures: Failures,
    halt_told: bool,
}

impl Entry {
    fn is_paused(&self) -> bool {
        self.paused_until.is_some()
    }

    /// Whether the tenant has gone and is not back.
    fn is_given_up(&mut self, identity: &Identity) -> bool {
        let Some(until) = self.given_up_until else { return false };
        let now = Instant::now();
        if now < until {
            return true;
        }
        let is_back = is_served(identity, &self.stream.tenant);
        self.given_up_until = (!is_back).then(|| now + GIVEN_UP_FOR);
        if is_back {
            self.refusals = 0;
        }
        !is_back
    }

    fn is_struggling(&self) -> bool {
        self.is_paused() || (self.stream.is_under_way() && self.failures.count.get() >= STRUGGLING)
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
            let is_full = !self.has_room();
            tokio::select! {
                Some(done) = self.under_way.join_next() => self.finish(done),
                () = bell.wait_until(|| !tail.sleep(cursor)), if waits_for_records => {}
                () = self.failure.notified(), if is_full => {}
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

/// Whether this node serves the tenant as far as the change feed has told. A read of one row; commits do not hold it up.
fn is_served(identity: &Identity, tenant: &TenantId) -> bool {
    // A store that cannot be read must not cost a record.
    identity.tenant(tenant).map_or(true, |document| document.is_some())
}
