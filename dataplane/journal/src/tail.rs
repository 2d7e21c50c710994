//! The reader's side of a partition: where it may read, and how far it has got.
//!
//! Invariant: `acknowledged <= committed`, and both only grow.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use crate::disk;
use crate::position::{Layout, Position};
use crate::record::RecordReader;

type Notify = Arc<dyn Fn() + Send + Sync>;

/// What the shard and the reader share; no locks.
pub(crate) struct Shared {
    partition: u16,
    layout: Layout,
    dir: PathBuf,
    committed: AtomicU64,
    acknowledged: AtomicU64,
    sleeping: AtomicBool,
    notify: OnceLock<Notify>,
}

impl Shared {
    pub fn new(
        partition: u16,
        layout: Layout,
        dir: PathBuf,
        committed: Position,
        acknowledged: Position,
    ) -> Shared {
        Shared {
            partition,
            layout,
            dir,
            committed: AtomicU64::new(committed.0),
            acknowledged: AtomicU64::new(acknowledged.0),
            sleeping: AtomicBool::new(false),
            notify: OnceLock::new(),
        }
    }

    pub fn committed(&self) -> Position {
        Position(self.committed.load(Ordering::Acquire))
    }

    pub fn acknowledged(&self) -> Position {
        Position(self.acknowledged.load(Ordering::Acquire))
    }

    /// Publishes the new end and wakes the reader if it said that it sleeps.
    pub fn commit(&self, end: Position) {
        // SeqCst pairs with `Tail::sleep`: of "flag, then end" there and "end, then flag" here one sees the other.
        self.committed.store(end.0, Ordering::SeqCst);
        if self.sleeping.load(Ordering::SeqCst)
            && self.sleeping.swap(false, Ordering::SeqCst)
            && let Some(notify) = self.notify.get()
        {
            notify();
        }
    }
}

/// Reader side of one partition. Clones share everything; meant for one consumer.
///
/// The reader's loop: read the segment files between its position and [`Tail::committed`], walk them with
/// [`Tail::reader`], [`Tail::acknowledge`] what the consumer has taken, and when nothing is left,
/// [`Tail::sleep`] and wait for the notification. A segment file that is missing below [`Tail::committed`] is damage:
/// count it and go on at the next segment's start.
#[derive(Clone)]
pub struct Tail {
    shared: Arc<Shared>,
}

impl Tail {
    pub(crate) fn new(shared: Arc<Shared>) -> Tail {
        Tail { shared }
    }

    /// The partition's number.
    pub fn partition(&self) -> u16 {
        self.shared.partition
    }

    /// The store's epoch.
    pub fn epoch(&self) -> u64 {
        self.shared.layout.epoch
    }

    /// Bytes of one segment.
    pub fn segment_bytes(&self) -> u64 {
        self.shared.layout.segment_bytes
    }

    /// Everything before is durable and may be read.
    pub fn committed(&self) -> Position {
        self.shared.committed()
    }

    /// Everything before was acknowledged.
    pub fn acknowledged(&self) -> Position {
        self.shared.acknowledged()
    }

    /// Where a reader resumes: what was acknowledged when the partition was opened, or since.
    pub fn start(&self) -> Position {
        self.acknowledged()
    }

    /// The consumer has taken everything before `position`; its space may be freed. Positions behind
    /// [`Tail::committed`] and below what was acknowledged before are brought into range.
    pub fn acknowledge(&self, position: Position) {
        let position = position.min(self.committed());
        self.shared.acknowledged.fetch_max(position.0, Ordering::AcqRel);
    }

    /// The file `position` lies in, the offset there, and the file's size.
    pub fn segment_path(&self, position: Position) -> (PathBuf, u64, u64) {
        let layout = &self.shared.layout;
        let name = disk::segment_name(layout.segment_of(position));
        (self.shared.dir.join(name), layout.offset_of(position), layout.segment_bytes)
    }

    /// The walker for this partition's bytes.
    pub fn reader(&self) -> RecordReader {
        let layout = &self.shared.layout;
        RecordReader::new(layout.epoch, layout.segment_bytes)
    }

    /// Sets what is called, on the shard's thread, after a commit while the reader sleeps. It has to be cheap and must
    /// not block. The first call wins; later ones answer `false` and change nothing.
    pub fn set_notify(&self, notify: Arc<dyn Fn() + Send + Sync>) -> bool {
        self.shared.notify.set(notify).is_ok()
    }

    /// Says that the reader, having read up to `seen`, is about to wait. `false`: there is more already, do not wait.
    /// After `true` the next commit calls the notification once.
    pub fn sleep(&self, seen: Position) -> bool {
        self.shared.sleeping.store(true, Ordering::SeqCst);
        if self.shared.committed.load(Ordering::SeqCst) > seen.0 {
            self.shared.sleeping.store(false, Ordering::SeqCst);
            return false;
        }
        true
    }
}

impl std::fmt::Debug for Tail {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tail")
            .field("partition", &self.partition())
            .field("committed", &self.committed())
            .field("acknowledged", &self.acknowledged())
            .finish_non_exhaustive()
    }
}
