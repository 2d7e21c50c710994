//! The rules of the cloud side: registry, credentials, applications, enrolment, sync, streams, commands.
//!
//! ```text
//!   functions ──> Cloud (this crate: rules) ──> Store (port) <── fulcrum-stores (redb, later DynamoDB and S3)
//! ```
//!
//! [`Cloud`] is one store and its settings; each module adds the operations of one conversation to it. Every operation
//! is idempotent, so that a function may be invoked twice with one request.
//!
//! Invariants:
//! - State changes only through [`store::Store::write`]: read, decide, write on condition of what was read, again on conflict.
//! - An edge's mark moves in the write that stores the batch, never apart from it.
//! - Time is an argument (`now_ms`, milliseconds since the Unix epoch).
//! - A secret never reaches a log or a `Debug`.
//!
//! Deliberately absent: HTTP types, AWS types, a clock, retries of a store that is down.

pub mod access;
pub mod applications;
pub mod changes;
mod chunk;
pub mod commands;
mod credential_rules;
pub mod credentials;
pub mod edges;
mod error;
mod keys;
pub mod registry;
pub mod retention;
mod rows;
pub mod secrets;
pub mod settings;
pub mod store;
pub mod streams;
pub mod sync;
mod trust_anchors;

pub use error::Error;
pub use settings::Settings;

use std::sync::Arc;
use store::Store;
use tokio::sync::{Semaphore, SemaphorePermit};

/// How often an operation reads and decides anew when another writer was faster.
const ATTEMPTS: usize = 32;

/// Batches and chunks unpacked at once: 16 of 16 MiB are 256 MiB.
const UNPACKING_AT_ONCE: usize = 16;

/// The cloud side: a store and the rules over it. Cloning is cheap.
#[derive(Clone)]
pub struct Cloud {
    store: Arc<dyn Store>,
    settings: Arc<Settings>,
    /// Places to unpack a chunk or batch in: each may take `BATCH_UNPACKED_BYTES_MAX` of memory, however small it came.
    unpacking: Arc<Semaphore>,
}

impl Cloud {
    /// Rules over `store`.
    pub fn new(store: Arc<dyn Store>, settings: Settings) -> Cloud {
        let unpacking = Arc::new(Semaphore::new(UNPACKING_AT_ONCE));
        Cloud { store, settings: Arc::new(settings), unpacking }
    }

    /// Whether the store answers.
    pub async fn check(&self) -> Result<(), Error> {
        Ok(self.store.read(&[store::Key::new(keys::TENANTS, "-")]).await.map(drop)?)
    }

    /// Waits for a place to unpack in; keep it for as long as what was unpacked is held.
    async fn unpacking_place(&self) -> Result<SemaphorePermit<'_>, Error> {
        self.unpacking.acquire().await.map_err(|error| Error::Unavailable(error.to_string()))
    }

    /// The limits in force.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }
}
