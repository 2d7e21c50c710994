//! Retained messages: the last message of each topic, for those who subscribe later (MQTT 5 section 3.3.1.3).
//!
//! Every shard holds all of them; frames are shared. Topics of a tenant are an ordered map whose order is level by level
//! (see `walk`), so that a subscription's matches are found in steps that can be interrupted anywhere: the cursor is a
//! place in the order, not in the map, and changes in between break nothing. An exact look-up costs the depth of a B-tree,
//! less than a microsecond among a million topics, and one structure serves both. A topic costs about 136 bytes on each
//! shard besides its frame (measured by `examples/match_cost.rs`), an expiry about 60 more.
//!
//! Invariants
//! - The highest version of a topic wins, in whatever order changes arrive. A deletion is remembered as long as an older
//!   change may still be under way, and that memory is bounded in time, number and bytes.
//! - A refused change leaves things as they were.
//! - A message that has expired is not found, swept or not.
//!
//! Deliberately absent: durability (the session journal of the shard that owns the topic), permissions.

mod graves;
#[cfg(test)]
mod tests;
mod walk;

pub use walk::RetainedCursor;

use crate::limits::{
    RETAINED_BYTES_PER_TENANT_MAX, RETAINED_MESSAGES_PER_TENANT_MAX, RETAINED_TOMBSTONE_MS,
    RETAINED_TOPIC_BYTES_MAX,
};
use graves::Graves;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound;
use std::sync::Arc;
use walk::Wanted;

/// No time at all.
const NEVER: u64 = u64::MAX;

/// What one tenant may retain.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RetainedLimits {
    /// Messages.
    pub messages: usize,
    /// Bytes of topics and frames.
    pub bytes: usize,
}

impl Default for RetainedLimits {
    fn default() -> RetainedLimits {
        RetainedLimits {
            messages: RETAINED_MESSAGES_PER_TENANT_MAX,
            bytes: RETAINED_BYTES_PER_TENANT_MAX,
        }
    }
}

/// What became of a change.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum Put {
    /// The message is the topic's retained message now.
    Stored,
    /// The topic has none any more.
    Deleted,
    /// A change at least as new is known; nothing changed.
    Older,
    /// Nothing changed.
    Refused(RetainRefused),
}

/// Why a message is not retained.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum RetainRefused {
    /// The tenant retains as many messages as it may.
    #[error("the tenant has as many retained messages as it may have; delete some first")]
    Messages,
    /// The tenant's retained messages are as large as they may be.
    #[error(
        "the tenant's retained messages are as large as they may be together; delete some first"
    )]
    Bytes,
    /// The topic is none.
    #[error(
        "the topic is empty, longer than {RETAINED_TOPIC_BYTES_MAX} bytes or has U+0000 in it; publish to another"
    )]
    Topic,
}

/// How much is retained.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct RetainedUse {
    /// Messages.
    pub messages: usize,
    /// Bytes of topics and frames.
    pub bytes: usize,
}

/// The retained messages of all tenants.
#[derive(Default)]
pub struct Retained {
    tenants: HashMap<Arc<str>, Tenant>,
    /// When a message expires or a deletion is forgotten, by time.
    due: BTreeSet<Due>,
    /// Tenants that were removed, until they are swept.
    leaving: Vec<Tenant>,
    total: RetainedUse,
    /// The last time that was told.
    now_ms: u64,
    /// Made once and used again.
    key: String,
}

/// Time in milliseconds since the Unix epoch, tenant, key.
type Due = (u64, Arc<str>, Arc<str>);

struct Tenant {
    name: Arc<str>,
    limits: RetainedLimits,
    entries: BTreeMap<Arc<str>, Entry>,
    graves: Graves,
    used: RetainedUse,
}

/// The newest that is known of a topic.
struct Entry {
    /// `None`: it was deleted.
    frame: Option<Arc<[u8]>>,
    version: u64,
    /// When it expires or the deletion is forgotten.
    due_ms: u64,
}

impl Retained {
    /// Takes a change of a topic's retained message: `frame`, or its deletion with none or an empty one
    /// [MQTT5-3.3.1-6]. Of two changes the one with the higher `version` counts; equal ones are the same change.
    /// `expires_at_ms`: milliseconds since the Unix epoch.
    pub fn put(
        &mut self,
        tenant: &str,
        topic: &str,
        frame: Option<Arc<[u8]>>,
        version: u64,
        expires_at_ms: Option<u64>,
    ) -> Put {
        self.change(tenant, topic, frame, version, expires_at_ms, true)
    }

    /// The same for a change that the topic's owner has decided, which is followed whatever the limits say here: copies
    /// that see changes in another order must not end up different.
    pub fn follow(
        &mut self,
        tenant: &str,
        topic: &str,
        frame: Option<Arc<[u8]>>,
        version: u64,
        expires_at_ms: Option<u64>,
    ) -> Put {
        self.change(tenant, topic, frame, version, expires_at_ms, false)
    }

    /// The retained message of one topic.
    pub fn message(&self, tenant: &str, topic: &str, now_ms: u64) -> Option<&Arc<[u8]>> {
        let entry = self.tenants.get(tenant)?.entries.get(walk::key(topic).as_str())?;
        entry.message(now_ms)
    }

    /// Appends retained messages whose topics match `filter`, which the codec has validated, and their topics, from
    /// where `after` says on. It looks at no more than `limit` topics (very long ones count more than once) and returns
    /// where to go on, `None` at the end. Of what changes between two calls, a walk may find or miss what is new; it finds
    /// once what was there all the time.
    pub fn matches(
        &self,
        tenant: &str,
        filter: &str,
        now_ms: u64,
        after: Option<RetainedCursor>,
        limit: usize,
        found: &mut Vec<(String, Arc<[u8]>)>,
    ) -> Option<RetainedCursor> {
        let entries = &self.tenants.get(tenant)?.entries;
        Wanted::new(filter).walk(entries, after, limit, |key, entry: &Entry| {
            if let Some(frame) = entry.message(now_ms) {
                found.push((walk::topic(key), frame.clone()));
            }
        })
    }

    /// Deletes what has expired, forgets old deletions and sweeps removed tenants, at most `budget` of these; whether there
    /// is more.
    pub fn expire(&mut self, now_ms: u64, budget: usize) -> bool {
        self.now_ms = self.now_ms.max(now_ms);
        for _ in 0..budget {
            if self.sweep() {
                continue;
            }
            if !self.is_due() {
                return false;
            }
            if let Some((due_ms, tenant, key)) = self.due.pop_first() {
                self.over(due_ms, &tenant, key);
            }
        }
        self.is_due() || !self.leaving.is_empty()
    }

    /// When [`Retained::expire`] has something to do next, in milliseconds since the Unix epoch.
    pub fn next_expiry_ms(&self) -> Option<u64> {
        self.due.first().map(|due| due.0)
    }

    /// Sets what a tenant may retain; what it retains already stays.
    pub fn set_limits(&mut self, tenant: &str, limits: RetainedLimits) {
        tenant_of(&mut self.tenants, tenant).limits = limits;
    }

    /// What a tenant retains. Expired messages count until they are swept.
    pub fn tenant_use(&self, tenant: &str) -> RetainedUse {
        self.tenants.get(tenant).map(|tenant| tenant.used).unwrap_or_default()
    }

    /// What all tenants retain.
    pub fn total_use(&self) -> RetainedUse {
        self.total
    }

    /// Forgets a tenant, with its limits. At once for whoever asks; [`Retained::expire`] frees the memory.
    pub fn remove_tenant(&mut self, tenant: &str) {
        if let Some(tenant) = self.tenants.remove(tenant) {
            self.total.messages -= tenant.used.messages;
            self.total.bytes -= tenant.used.bytes;
            self.leaving.push(tenant);
        }
    }

    fn change(
        &mut self,
        tenant: &str,
        topic: &str,
        frame: Option<Arc<[u8]>>,
        version: u64,
        expires_at_ms: Option<u64>,
        limited: bool,
    ) -> Put {
        if topic.is_empty() || topic.len() > RETAINED_TOPIC_BYTES_MAX || topic.contains('\0') {
            return Put::Refused(RetainRefused::Topic);
        }
        let frame = frame.filter(|frame| !frame.is_empty());
        let stored = frame.is_some();
        let due_ms = match stored {
            true => expires_at_ms.unwrap_or(NEVER),
            false => self.now_ms.saturating_add(RETAINED_TOMBSTONE_MS),
        };
        walk::write_key(topic, &mut self.key);
        let tenant = tenant_of(&mut self.tenants, tenant);
        let new = Entry { frame, version, due_ms };
        let before = tenant.used;
        let key = match tenant.replace(&self.key, new, limited, &mut self.due) {
            Ok(key) => key,
            Err(put) => return put,
        };
        self.total.messages = self.total.messages + tenant.used.messages - before.messages;
        self.total.bytes = self.total.bytes + tenant.used.bytes - before.bytes;
        if stored {
            return Put::Stored;
        }
        tenant.bury(key, version, &mut self.due);
        Put::Deleted
    }

    fn is_due(&self) -> bool {
        self.due.first().is_some_and(|due| due.0 <= self.now_ms)
    }

    /// A message has expired, or a deletion is old.
    fn over(&mut self, due_ms: u64, tenant: &Arc<str>, key: Arc<str>) {
        let Some(tenant) = self.tenants.get_mut(tenant) else { return };
        let Some(entry) = tenant.entries.get_mut(&key) else { return };
        if entry.due_ms != due_ms {
            return;
        }
        let version = entry.version;
        let forget_ms = self.now_ms.saturating_add(RETAINED_TOMBSTONE_MS);
        // Deleted before any time was told, while what was stored is read back: it is remembered from now on.
        let untimed = due_ms == RETAINED_TOMBSTONE_MS && due_ms < forget_ms;
        match entry.frame.take() {
            Some(frame) => {
                let bytes = key.len() + frame.len();
                tenant.used.messages -= 1;
                tenant.used.bytes -= bytes;
                self.total.messages -= 1;
                self.total.bytes -= bytes;
                entry.due_ms = forget_ms;
                self.due.insert((forget_ms, tenant.name.clone(), key.clone()));
                tenant.bury(key, version, &mut self.due);
            }
            None if untimed => {
                entry.due_ms = forget_ms;
                self.due.insert((forget_ms, tenant.name.clone(), key));
            }
            None => {
                tenant.entries.remove(&key);
                tenant.tidy_graves();
            }
        }
    }

    /// Frees one topic of a removed tenant; false if there is none.
    fn sweep(&mut self) -> bool {
        let Some(tenant) = self.leaving.last_mut() else { return false };
        let Some((key, entry)) = tenant.entries.pop_first() else {
            self.leaving.pop();
            return true;
        };
        // A tenant of the same name may be here again.
        let again = self.tenants.get(&tenant.name).and_then(|again| again.entries.get(&key));
        if again.is_none_or(|again| again.due_ms != entry.due_ms) {
            self.due.remove(&(entry.due_ms, tenant.name.clone(), key));
        }
        true
    }
}

impl Tenant {
    fn new(name: Arc<str>) -> Tenant {
        Tenant {
            name,
            limits: RetainedLimits::default(),
            entries: BTreeMap::new(),
            graves: Graves::default(),
            used: RetainedUse::default(),
        }
    }

    /// Puts an entry in place of an older one, and its time into `due`; the key, or why not.
    fn replace(
        &mut self,
        key: &str,
        new: Entry,
        limited: bool,
        due: &mut BTreeSet<Due>,
    ) -> Result<Arc<str>, Put> {
        let only = (Bound::Included(key), Bound::Included(key));
        let present = self.entries.range_mut::<str, _>(only).next();
        let mut used = self.used;
        if let Some((_, entry)) = &present {
            if new.version <= entry.version {
                return Err(Put::Older);
            }
            if let Some(frame) = &entry.frame {
                used.messages -= 1;
                used.bytes -= key.len() + frame.len();
            }
        }
        if let Some(frame) = &new.frame {
            used.messages += 1;
            used.bytes += key.len() + frame.len();
        }
        // What makes things smaller is never refused.
        if limited && used.messages > self.limits.messages.max(self.used.messages) {
            return Err(Put::Refused(RetainRefused::Messages));
        }
        if limited && used.bytes > self.limits.bytes.max(self.used.bytes) {
            return Err(Put::Refused(RetainRefused::Bytes));
        }
        self.used = used;
        let new_due_ms = new.due_ms;
        let key = match present {
            Some((key, entry)) => {
                if entry.due_ms != NEVER {
                    due.remove(&(entry.due_ms, self.name.clone(), key.clone()));
                }
                *entry = new;
                key.clone()
            }
            None => {
                let key: Arc<str> = key.into();
                self.entries.insert(key.clone(), new);
                key
            }
        };
        if new_due_ms != NEVER {
            due.insert((new_due_ms, self.name.clone(), key.clone()));
        }
        Ok(key)
    }
}

impl Entry {
    fn message(&self, now_ms: u64) -> Option<&Arc<[u8]>> {
        // A deletion's frame is not there, so its time means nothing here.
        self.frame.as_ref().filter(|_| now_ms < self.due_ms)
    }
}

fn tenant_of<'t>(tenants: &'t mut HashMap<Arc<str>, Tenant>, name: &str) -> &'t mut Tenant {
    if !tenants.contains_key(name) {
        let name: Arc<str> = name.into();
        tenants.insert(name.clone(), Tenant::new(name));
    }
    tenants.get_mut(name).expect("it was there or has just been added")
}
