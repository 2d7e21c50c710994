//! The port to a store: items under (partition, sort), conditional transactions, and an ordered feed per scope.
//!
//! It is cut so that DynamoDB can implement it: [`Store::read`] is `TransactGetItems`, [`Store::scan`] a `Query` on one partition,
//! [`Store::write`] one `TransactWriteItems` with a condition per item (a value above the item limit goes to S3 under a key made
//! of the transaction's number, the item holds the reference). Feed versions come from one counter that is part of the
//! transaction, so that versions become visible in their order.
//!
//! Invariants, checked by the conformance suite of `fulcrum-stores`:
//! - A write takes effect as a whole or, on [`StoreError::Conflict`], not at all. It is durable when it is answered.
//! - Every write has its own [`Revision`], never used again, not even for an item that was deleted and made again.
//! - A feed never shows a version below one it has shown to anybody.
//! - A [`Watch`] sees every write that was answered after the watch was made.

use async_trait::async_trait;
use bytes::Bytes;

/// Where an item is. Both parts are plain text; order within a partition is the order of the sort keys' bytes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Key {
    /// Items of one partition can be scanned together.
    pub partition: String,
    /// Unique within the partition.
    pub sort: String,
}

impl Key {
    /// A key of its two parts.
    pub fn new(partition: impl Into<String>, sort: impl Into<String>) -> Key {
        Key { partition: partition.into(), sort: sort.into() }
    }
}

/// Number of the write that made an item what it is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Revision(pub u64);

/// An item as it was read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Item {
    /// Its sort key.
    pub sort: String,
    /// Its value.
    pub value: Bytes,
    /// The write that made it.
    pub revision: Revision,
}

/// Condition of a write on one item.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Expect {
    /// None.
    Anything,
    /// The item is not there.
    Absent,
    /// The item is as it was read.
    Revision(Revision),
}

impl Expect {
    /// The state in which the item was read.
    pub fn as_read(item: Option<&Item>) -> Expect {
        item.map_or(Expect::Absent, |item| Expect::Revision(item.revision))
    }
}

/// One step of a transaction. A transaction names each item at most once.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Write {
    /// Makes or replaces an item.
    Put {
        /// The item.
        key: Key,
        /// Its new value.
        value: Bytes,
        /// Condition.
        expect: Expect,
    },
    /// Removes an item; fine if it is not there and nothing is expected.
    Delete {
        /// The item.
        key: Key,
        /// Condition.
        expect: Expect,
    },
    /// Changes nothing, but makes the transaction depend on the item.
    Check {
        /// The item.
        key: Key,
        /// Condition.
        expect: Expect,
    },
    /// Puts `subject` at the end of the scope's feed with a new version; its earlier entry goes.
    Publish {
        /// The feed.
        scope: String,
        /// What the entry is about; one entry per subject.
        subject: String,
        /// The entry.
        value: Bytes,
    },
    /// Takes an entry out of the feed, without a trace, if its version is still the given one.
    Forget {
        /// The feed.
        scope: String,
        /// What the entry is about.
        subject: String,
        /// The version that was read.
        version: u64,
    },
}

/// A range of one partition, in order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Scan {
    /// The partition.
    pub partition: String,
    /// First sort key (inclusive).
    pub from: String,
    /// End of the range (exclusive); none is the partition's end.
    pub until: Option<String>,
    /// Most items to return.
    pub limit: usize,
    /// Stop after the item that takes the sum of values to this many bytes.
    pub bytes: usize,
}

impl Scan {
    /// The whole partition, up to `limit` items.
    pub fn partition(partition: impl Into<String>, limit: usize) -> Scan {
        let bytes = usize::MAX;
        Scan { partition: partition.into(), from: String::new(), until: None, limit, bytes }
    }

    /// Only items whose sort key starts with `prefix`, which ends in an ASCII character.
    pub fn with_prefix(mut self, prefix: &str) -> Scan {
        let mut until = prefix.as_bytes().to_vec();
        if let Some(last) = until.last_mut() {
            *last = last.saturating_add(1);
        }
        self.from = prefix.to_owned();
        self.until = String::from_utf8(until).ok().filter(|until| !until.is_empty());
        self
    }

    /// Only items from `from` on.
    pub fn starting(mut self, from: impl Into<String>) -> Scan {
        self.from = from.into();
        self
    }
}

/// One entry of a feed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FeedEntry {
    /// The feed.
    pub scope: String,
    /// What it is about.
    pub subject: String,
    /// Its place in the order of all feeds.
    pub version: u64,
    /// The entry.
    pub value: Bytes,
}

/// Part of one or several feeds, merged by version.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FeedPage {
    /// Entries in order.
    pub entries: Vec<FeedEntry>,
    /// Whether the limit cut the page.
    pub more: bool,
    /// The last version given to any entry of any feed.
    pub head: u64,
}

/// Why the store did not do it.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum StoreError {
    /// A condition did not hold; nothing was changed.
    #[error("a condition of the write did not hold")]
    Conflict,
    /// The store failed; whether the write took effect is not known.
    #[error("the store failed: {0}")]
    Unavailable(String),
}

/// Tells that something may have changed. Spurious wake-ups are allowed, missed changes are not.
#[async_trait]
pub trait Watch: Send {
    /// Returns after a write to one of the watched topics, or after `timeout_ms`; true if there was (or may have been) a write.
    async fn changed(&mut self, timeout_ms: u64) -> bool;
}

/// Items, transactions and feeds.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// Random identity given to the store when it was made.
    fn identity(&self) -> &str;

    /// Most writes in one transaction; an ingest stores a shorter part of a batch rather than go above it.
    fn writes_max(&self) -> usize;

    /// The items under `keys`, in their order, all as of one moment.
    async fn read(&self, keys: &[Key]) -> Result<Vec<Option<Item>>, StoreError>;

    /// Items of a range as of one moment.
    async fn scan(&self, scan: Scan) -> Result<Vec<Item>, StoreError>;

    /// Checks every condition, then takes every step, in one durable transaction.
    async fn write(&self, writes: Vec<Write>) -> Result<Revision, StoreError>;

    /// Entries of the scopes with a version above `after`, merged by version, at most `limit` and about `bytes` of them.
    async fn feed(
        &self,
        scopes: &[String],
        after: u64,
        limit: usize,
        bytes: usize,
    ) -> Result<FeedPage, StoreError>;

    /// Watches topics: names of partitions and of feed scopes. What is written from now on will be noticed.
    fn watch(&self, topics: Vec<String>) -> Box<dyn Watch>;
}
