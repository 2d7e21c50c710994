//! The maintenance thread: prepares journal segments ahead of need and unlinks those that are done with.
//!
//! ```text
//!  shards ── SegmentRequest ──▶ bounded queue ──▶ one thread, a glommio executor ──▶ answer(partition, number, file)
//! ```
//!
//! A segment is prepared by direct writes of zeros, 1 MiB at a time and one at a time, so that it neither fills the
//! page cache nor crowds out the shards' commits; then data sync, rename from `.tmp`, directory sync. Where the file
//! system knows no direct writes, blocking buffered ones do the same on glommio's blocking thread.
//!
//! Invariants: requests are executed one after the other in the order given, so a journal that drops a segment before
//! it asks for the next never has both on disk; a failed preparation leaves no file behind; an idle thread sleeps.
//!
//! Deliberately absent: deciding what to prepare or drop (the journal does); compaction and scrubbing.

mod error;
mod inbox;
mod prepare;
mod thread;

pub use error::MaintenanceError;
pub use inbox::Requests;
pub use thread::{Answer, Maintenance, MaintenanceConfig, spawn};
