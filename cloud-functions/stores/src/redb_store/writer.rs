//! The one thread that writes: takes what waits, in order, into one transaction.

use super::Queued;
use super::read::split;
use super::tables::{COUNTERS, FEED, FEED_OF, ITEMS, REVISION, VERSION};
use crate::watch::Topics;
use fulcrum_domain::store::{Expect, Key, Revision, StoreError, Write};
use redb::{Database, ReadableTable, Table};
use std::sync::Arc;
use tokio::sync::mpsc;

/// Most requests in one commit: bounds the memory a commit holds and how long the first waits for the last.
const FOLD_REQUESTS: usize = 64;
/// Bytes of values after which a commit takes no further request.
const FOLD_BYTES: usize = 16 * 1024 * 1024;

pub(crate) struct Writer {
    pub(crate) database: Arc<Database>,
    pub(crate) topics: Topics,
}

impl Writer {
    /// Until the last sender is gone.
    pub(crate) fn run(self, mut waiting: mpsc::Receiver<Queued>) {
        while let Some(first) = waiting.blocking_recv() {
            let mut bytes = value_bytes(&first);
            let mut folded = vec![first];
            while folded.len() < FOLD_REQUESTS && bytes < FOLD_BYTES {
                let Ok(queued) = waiting.try_recv() else { break };
                bytes += value_bytes(&queued);
                folded.push(queued);
            }
            self.commit(folded);
        }
    }

    fn commit(&self, folded: Vec<Queued>) {
        match self.apply_all(&folded) {
            Ok(results) => {
                for (queued, result) in folded.into_iter().zip(results) {
                    if result.is_ok() {
                        self.topics.wake(queued.writes.iter().filter_map(topic));
                    }
                    // A caller that has gone away no longer wants the answer.
                    let _ = queued.answer.send(result);
                }
            }
            Err(error) => {
                tracing::error!(%error, requests = folded.len(), "the store could not commit");
                for queued in folded {
                    let _ = queued.answer.send(Err(StoreError::Unavailable(error.to_string())));
                }
            }
        }
    }

    fn apply_all(
        &self,
        folded: &[Queued],
    ) -> Result<Vec<Result<Revision, StoreError>>, redb::Error> {
        let transaction = self.database.begin_write()?;
        let mut results = Vec::with_capacity(folded.len());
        {
            let mut tables = Tables {
                items: transaction.open_table(ITEMS)?,
                feed: transaction.open_table(FEED)?,
                feed_of: transaction.open_table(FEED_OF)?,
                counters: transaction.open_table(COUNTERS)?,
            };
            for queued in folded {
                results.push(tables.apply(&queued.writes)?);
            }
        }
        if results.iter().any(Result::is_ok) {
            transaction.commit()?;
        } else {
            transaction.abort()?;
        }
        Ok(results)
    }
}

fn value_bytes(queued: &Queued) -> usize {
    let bytes = |write: &Write| match write {
        Write::Put { value, .. } | Write::Publish { value, .. } => value.len(),
        Write::Delete { .. } | Write::Check { .. } | Write::Forget { .. } => 0,
    };
    queued.writes.iter().map(bytes).sum()
}

fn topic(write: &Write) -> Option<&str> {
    match write {
        Write::Put { key, .. } | Write::Delete { key, .. } => Some(&key.partition),
        Write::Publish { scope, .. } => Some(scope),
        Write::Check { .. } | Write::Forget { .. } => None,
    }
}

struct Tables<'txn> {
    items: Table<'txn, (&'static str, &'static str), &'static [u8]>,
    feed: Table<'txn, (&'static str, u64), (&'static str, &'static [u8])>,
    feed_of: Table<'txn, (&'static str, &'static str), u64>,
    counters: Table<'txn, &'static str, u64>,
}

impl Tables<'_> {
    fn apply(&mut self, writes: &[Write]) -> Result<Result<Revision, StoreError>, redb::Error> {
        for write in writes {
            if !self.holds(write)? {
                return Ok(Err(StoreError::Conflict));
            }
        }
        let revision = Revision(self.count(REVISION)?);
        for write in writes {
            self.step(write, revision)?;
        }
        Ok(Ok(revision))
    }

    fn holds(&self, write: &Write) -> Result<bool, redb::Error> {
        let (key, expect) = match write {
            Write::Put { key, expect, .. }
            | Write::Delete { key, expect }
            | Write::Check { key, expect } => (key, expect),
            Write::Publish { .. } | Write::Forget { .. } => return Ok(true),
        };
        Ok(match expect {
            Expect::Anything => true,
            Expect::Absent => self.revision(key)?.is_none(),
            Expect::Revision(revision) => self.revision(key)? == Some(*revision),
        })
    }

    fn revision(&self, key: &Key) -> Result<Option<Revision>, redb::Error> {
        let stored = self.items.get((key.partition.as_str(), key.sort.as_str()))?;
        Ok(stored.map(|stored| split(stored.value()).0))
    }

    fn step(&mut self, write: &Write, revision: Revision) -> Result<(), redb::Error> {
        match write {
            Write::Put { key, value, .. } => {
                let mut stored = Vec::with_capacity(8 + value.len());
                stored.extend_from_slice(&revision.0.to_le_bytes());
                stored.extend_from_slice(value);
                self.items
                    .insert((key.partition.as_str(), key.sort.as_str()), stored.as_slice())?;
            }
            Write::Delete { key, .. } => {
                self.items.remove((key.partition.as_str(), key.sort.as_str()))?;
            }
            Write::Check { .. } => {}
            Write::Publish { scope, subject, value } => {
                let version = self.count(VERSION)?;
                let before = self.feed_of.insert((scope.as_str(), subject.as_str()), version)?;
                if let Some(before) = before.map(|before| before.value()) {
                    self.feed.remove((scope.as_str(), before))?;
                }
                self.feed.insert((scope.as_str(), version), (subject.as_str(), value.as_ref()))?;
            }
            Write::Forget { scope, subject, version } => {
                let subject_key = (scope.as_str(), subject.as_str());
                let present = self.feed_of.get(subject_key)?.map(|present| present.value());
                if present == Some(*version) {
                    self.feed_of.remove(subject_key)?;
                    self.feed.remove((scope.as_str(), *version))?;
                }
            }
        }
        Ok(())
    }

    /// The counter's next value, from 1.
    fn count(&mut self, name: &str) -> Result<u64, redb::Error> {
        let next = self.counters.get(name)?.map_or(0, |last| last.value()) + 1;
        self.counters.insert(name, next)?;
        Ok(next)
    }
}
