//! Tenants, devices, credentials, applications and pending commands, replicated from the cloud into one redb file, and
//! the decisions made from them: who is this, may it act for that device, what waits for it.
//!
//! ```text
//!   uplink ── apply(page) ──▶ ┌────────── Identity (redb) ─────────┐ ◀── authenticate ── verify threads ◀── shards
//!                             │ tenants devices credentials        │ ◀── authorise     ┐
//!   node   ◀── Applied ────── │ applications commands done-markers │ ◀── pending, done ┴ store thread ◀── shards
//!                             └────────────────────────────────────┘
//! ```
//!
//! Invariants:
//! - A page of the feed and the cursor behind it are one durable transaction; a crash leaves both or neither.
//! - What `apply` disabled or deleted is refused from the moment `apply` returns. Beside the file two things are remembered:
//!   "this password produces this hash", which no change can make untrue, and the like of a key and a token (module
//!   `memo`); and logins that were found good, each void with the first change that touches its tenant (module `known`).
//! - Nothing here needs the cloud. Nothing here is called from a shard but [`KnownLogins`]: calls block on the disk or on
//!   bcrypt, and the threads of [`Verifier`] are there to make them.
//!
//! Deliberately not here: pre-shared keys; provisioning of devices that are not known; writing to the registry (the cloud
//! owns it); counting against tenants' limits on connections and volume (the shards do).

mod authentication;
mod authorisation;
mod chain;
mod commands;
mod edition;
mod error;
mod feed;
mod known;
pub mod limits;
mod login;
mod memo;
mod refusal;
mod replica;
mod rights;
mod secrets;
mod tables;
mod token;
pub mod verifier;

pub use authentication::Verdict;
pub use authorisation::{DeviceState, DevicesBehind};
pub use error::IdentityError;
pub use feed::{Applied, FeedPosition};
pub use known::{KnownLogins, Lesson, Shown, Standing};
pub use login::{Adapter, Login, Password, Peer, Principal, Proof};
pub use refusal::Refusal;
pub use replica::{Counts, Identity};
pub use rights::MessagingRights;
pub use verifier::{Busy, Verifier};
