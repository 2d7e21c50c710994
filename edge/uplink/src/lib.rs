//! Sync with the cloud on tokio-uring: one thread that ships records up and brings changes down.
//!
//! ```text
//!            ┌───────────────────────── uplink thread ─────────────────────────┐
//!  journal ──┤ stored lane, one per partition: io_uring reads, zstd batches    ├─▶ POST batches
//!  shards  ──┤ live lane: a direct consumer with credit, an outcome per record ├─▶ POST batches (t0)
//!  node    ──┤ presence: devices that can take commands                        ├─▶ POST presence
//!  identity◀─┤ feed: long poll, applied on a thread that may block             │◀─ GET changes
//!            └─────────────────────────────────────────────────────────────────┘
//! ```
//!
//! Invariants:
//! - A record leaves the journal only after the cloud has it, or after its loss was counted with a reason.
//! - Sequences are dense. A record that is gone is replaced by one that says so; what cannot be replaced stops its
//!   stream, holds its place in the journal and is reported, and stops no other stream of another tenant.
//! - Repeating a request is always right: the cloud's mark, not our memory, says what is stored.
//! - Every wait ends: requests have deadlines, pauses have bounds, live records get their outcome in time. An idle
//!   uplink sleeps; nothing here ticks.
//! - Tokens and keys are in no log, no error and no `Debug`.
//!
//! Deliberately absent: deciding what is stored (the shards), keeping it (the journal), and any state of its own on disk
//! besides the key: marks are the cloud's, the feed's cursor is the identity store's.

mod backoff;
mod client;
mod config;
mod doorbell;
mod enrol;
mod error;
mod feed;
mod key;
mod link;
mod live;
mod presence;
mod run;
mod status;
mod stored;
mod tls;
mod token;

pub use config::{BATCH_BYTES_MAX, Backoff, UplinkConfig};
pub use enrol::{enrol, enrol_blocking};
pub use error::UplinkError;
pub use key::{Key, Signer};
pub use live::{LiveReceiver, LiveSender, NoCredit, live_channel};
pub use presence::{PresenceFull, PresenceReceiver, PresenceSender, presence_channel};
pub use run::{UplinkEvents, UplinkHandle, UplinkParts, run, spawn};
pub use status::{DropReason, LastError, LinkSnapshot, LinkState, LinkStatus, PartitionSnapshot};
pub use stored::{GAP_DEVICE, GAP_PROPERTY};
