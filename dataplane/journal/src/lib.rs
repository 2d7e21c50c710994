//! The append-only log of stored messages: group commit, cursors, retention, recovery.
//!
//! ```text
//!  dir/store            epoch, partition count, segment size, format
//!  dir/lock             held while a process has the journal open
//!  dir/p0/00000000000000000001.seg   ┌──────────┬───────┬───────┬──────┬─ ─ ─┬──────────┬ 0 0 0 0
//!  dir/p0/00000000000000000002.seg   │checkpoint│message│message│cursor│ …   │segmentend│
//!  dir/p1/…                          └──────────┴───────┴───────┴──────┴─ ─ ─┴──────────┘
//! ```
//!
//! One *partition* belongs to one shard. Its segments are zero-filled and synced before they are used, so a commit
//! never changes file metadata. A [`Position`] is `segment number * segment bytes + offset`: linear, so the end of
//! one segment is the start of the next.
//!
//! # Drive contract
//! A [`Partition`] does no I/O. In each turn its shard does, in this order:
//! 1. [`Partition::segment_prepared`] for every answer of the maintenance thread.
//! 2. [`Partition::write_done`] for a finished write; then answer the producers whose tickets became durable.
//! 3. [`Partition::append`] for every stored message of this turn.
//! 4. [`Partition::apply_cursor`].
//! 5. [`Partition::poll_segment_request`] until `None`; the maintenance thread executes them in the order given.
//! 6. [`Partition::poll_file`] until `None`; the ring takes and gives up files.
//! 7. [`Partition::poll_write`]; write all the bytes at the offset, then sync the data, as [`Write::mode`] says.
//!    At most one write is out; the next batch gathers meanwhile.
//!
//! [`blocking::Driver`] is this contract over ordinary files, for tools and tests.
//!
//! # Invariants
//! - A batch is handed out only after the one before it is durable. So whatever lies before a batch's start is
//!   committed, and only the newest batch can be torn. Every record carries its distance from its batch's start;
//!   recovery uses it to tell a torn write (truncated) from damage (quarantined, reported, counted).
//! - Every checksum is seeded with the store's epoch and the record's position: bytes of another store, another
//!   place or an earlier life of the disk never become a record.
//! - A sequence is given out twice only if its first record was in a torn batch: never acknowledged to its producer,
//!   never below [`Tail::committed`], so never seen by a reader. Where damage hides which sequences were used,
//!   recovery jumps ahead of all that may have been.
//! - After an I/O error a partition acknowledges nothing any more until it is opened again.
//!
//! Deliberately absent: compression and encryption; copying live records forward; retention by age or tenant;
//! threads and timers.

pub mod blocking;
pub mod inspect;

mod batch;
mod config;
mod control;
mod disk;
mod error;
mod images;
mod metrics;
mod open;
mod partition;
mod position;
mod record;
mod recovery;
mod scan;
mod segments;
mod store;
mod streams;
mod tail;

pub use batch::Write;
pub use config::{JournalConfig, WriteMode};
pub use control::{Checkpoint, CheckpointHead, Cursor, Gap, GapReason};
pub use disk::{open_segment, segment_name, sync_directory};
pub use error::{AppendError, JournalError};
pub use metrics::{PartitionMetrics, PartitionState};
pub use open::{
    Opened, PartitionReport, Progress, Quarantine, RecoveryReport, open, open_with_progress,
};
pub use partition::{Committed, Partition};
pub use position::{Position, Ticket};
pub use record::{Damage, Kind, RECORD_HEAD_BYTES, Record, RecordReader, Step, record_bytes};
pub use segments::{FileEvent, SegmentRequest};
pub use store::StoreInfo;
pub use streams::{TENANT_BYTES_MAX, TENANTS_MAX};
pub use tail::Tail;
