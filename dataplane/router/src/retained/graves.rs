//! Deletions of one tenant that are remembered, oldest first, and the bound of how many.

use super::{Due, Tenant};
use crate::limits::{RETAINED_TOMBSTONE_BYTES_PER_TENANT_MAX, RETAINED_TOMBSTONES_PER_TENANT_MAX};
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

/// Keys and versions of deletions in the order they were made. One is stale when its key has been stored again, deleted
/// again or forgotten; stale ones count until they are first.
#[derive(Default)]
pub(super) struct Graves {
    queue: VecDeque<(Arc<str>, u64)>,
    key_bytes: usize,
}

impl Graves {
    fn push(&mut self, key: Arc<str>, version: u64) {
        self.key_bytes += key.len();
        self.queue.push_back((key, version));
    }

    fn pop(&mut self) -> Option<(Arc<str>, u64)> {
        let oldest = self.queue.pop_front()?;
        self.key_bytes -= oldest.0.len();
        Some(oldest)
    }

    fn is_too_full(&self) -> bool {
        self.queue.len() > RETAINED_TOMBSTONES_PER_TENANT_MAX
            || self.key_bytes > RETAINED_TOMBSTONE_BYTES_PER_TENANT_MAX
    }
}

impl Tenant {
    /// Remembers a deletion, and forgets the oldest ones if there are too many.
    pub(super) fn bury(&mut self, key: Arc<str>, version: u64, due: &mut BTreeSet<Due>) {
        self.graves.push(key, version);
        while self.graves.is_too_full() {
            let Some((key, version)) = self.graves.pop() else { return };
            if self.is_grave(&key, version)
                && let Some(entry) = self.entries.remove(&key)
            {
                due.remove(&(entry.due_ms, self.name.clone(), key));
            }
        }
        self.tidy_graves();
    }

    /// Lets stale deletions go that are first.
    pub(super) fn tidy_graves(&mut self) {
        while let Some((key, version)) = self.graves.queue.front() {
            if self.is_grave(key, *version) {
                return;
            }
            self.graves.pop();
        }
    }

    fn is_grave(&self, key: &str, version: u64) -> bool {
        let entry = self.entries.get(key);
        entry.is_some_and(|entry| entry.frame.is_none() && entry.version == version)
    }

    /// Deletions that are remembered, stale ones included.
    #[cfg(test)]
    pub(super) fn graves(&self) -> usize {
        self.graves.queue.len()
    }
}
