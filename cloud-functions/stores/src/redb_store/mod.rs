//! The port over one redb file.
//!
//! ```text
//!   write() ──queue──> writer thread: fold what waits into one redb transaction ──fsync──> answer all, wake watches
//!   read(), scan(), feed() ──> blocking pool, one read transaction each
//! ```
//!
//! Invariants:
//! - One thread writes; writes are answered after the commit that holds them is on disk (`Durability::Immediate`).
//! - Conditions of a write are checked before its first step, against all writes in front of it: folding changes nothing but the
//!   number of fsyncs.
//! - After a failed commit nothing in it is answered as done; redb refuses further writes until the file is opened anew.
//!
//! Deliberately absent: more than one process on a file. redb locks it, and the second opener is told so.

mod read;
mod tables;
mod writer;

use crate::watch::Topics;
use async_trait::async_trait;
use fulcrum_domain::store::{FeedPage, Item, Key, Revision, Scan, Store, StoreError, Watch, Write};
use redb::Database;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use tokio::sync::{mpsc, oneshot};

/// Bytes of redb's page cache: the working set is the marks, the feed's ends and recent chunks.
const CACHE_BYTES: usize = 16 * 1024 * 1024;
/// Writes that may wait for the writer; more callers wait for a place.
const QUEUE: usize = 256;

/// Why a store file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The file cannot be opened or read.
    #[error(
        "the store {path} cannot be opened: {cause}; is another process using it, and may this user write there?"
    )]
    File {
        /// The file.
        path: PathBuf,
        /// redb's words.
        cause: String,
    },
    /// The writer thread could not be started.
    #[error("the store's writer thread could not be started: {0}")]
    Thread(std::io::Error),
}

/// A store in one file of this process.
pub struct RedbStore {
    database: Arc<Database>,
    identity: String,
    topics: Topics,
    queue: Option<mpsc::Sender<Queued>>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

pub(crate) struct Queued {
    writes: Vec<Write>,
    answer: oneshot::Sender<Result<Revision, StoreError>>,
}

impl RedbStore {
    /// Opens the file at `path`, making it if it is not there. `new_identity` (random) becomes the identity of a new store.
    pub fn open(path: &Path, new_identity: &str) -> Result<RedbStore, OpenError> {
        let failed = |cause: String| OpenError::File { path: path.to_owned(), cause };
        let database = Database::builder()
            .set_cache_size(CACHE_BYTES)
            .create(path)
            .map_err(|error| failed(error.to_string()))?;
        let identity =
            tables::prepare(&database, new_identity).map_err(|error| failed(error.to_string()))?;
        let database = Arc::new(database);
        let topics = Topics::default();
        let (queue, waiting) = mpsc::channel(QUEUE);
        let writer = writer::Writer { database: database.clone(), topics: topics.clone() };
        let writer = std::thread::Builder::new()
            .name("store-writer".to_owned())
            .spawn(move || writer.run(waiting))
            .map_err(OpenError::Thread)?;
        let writer = Mutex::new(Some(writer));
        Ok(RedbStore { database, identity, topics, queue: Some(queue), writer })
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Database) -> Result<T, redb::Error> + Send + 'static,
    ) -> Result<T, StoreError> {
        let database = self.database.clone();
        match tokio::task::spawn_blocking(move || work(&database)).await {
            Ok(result) => result.map_err(|error| StoreError::Unavailable(error.to_string())),
            Err(error) => Err(StoreError::Unavailable(error.to_string())),
        }
    }
}

impl Drop for RedbStore {
    /// Waits for the writer, so that the file can be opened again at once.
    fn drop(&mut self) {
        self.queue = None;
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(Err(_)) = writer.map(JoinHandle::join) {
            tracing::error!("the store's writer thread has panicked");
        }
    }
}

#[async_trait]
impl Store for RedbStore {
    fn identity(&self) -> &str {
        &self.identity
    }

    fn writes_max(&self) -> usize {
        // redb has no limit; this one bounds how long a transaction holds the others up.
        20_000
    }

    async fn read(&self, keys: &[Key]) -> Result<Vec<Option<Item>>, StoreError> {
        let keys = keys.to_vec();
        self.blocking(move |database| read::items(database, &keys)).await
    }

    async fn scan(&self, scan: Scan) -> Result<Vec<Item>, StoreError> {
        self.blocking(move |database| read::scan(database, &scan)).await
    }

    async fn write(&self, writes: Vec<Write>) -> Result<Revision, StoreError> {
        let gone = || StoreError::Unavailable("the writer thread has ended".to_owned());
        let (answer, answered) = oneshot::channel();
        let queue = self.queue.as_ref().ok_or_else(gone)?;
        queue.send(Queued { writes, answer }).await.map_err(|_| gone())?;
        answered.await.map_err(|_| gone())?
    }

    async fn feed(
        &self,
        scopes: &[String],
        after: u64,
        limit: usize,
        bytes: usize,
    ) -> Result<FeedPage, StoreError> {
        let scopes = scopes.to_vec();
        self.blocking(move |database| read::feed(database, &scopes, after, limit, bytes)).await
    }

    fn watch(&self, topics: Vec<String>) -> Box<dyn Watch> {
        Box::new(self.topics.watch(topics))
    }
}
