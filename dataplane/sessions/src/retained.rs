//! Retained messages this shard keeps for the node. Matching them is done elsewhere; here they survive.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use bytes::Bytes;

use crate::books::{Books, Entity};
use crate::record::Entry;
use crate::{Log, Place, Room, Sessions};

/// A retained message as it was recorded.
#[derive(Clone, Debug)]
pub struct Retained<'a> {
    /// The topic's tenant.
    pub tenant: &'a Arc<str>,
    /// The topic.
    pub topic: &'a str,
    /// The message, opaque here.
    pub frame: &'a Bytes,
    /// The version it was retained with.
    pub version: u64,
    /// When it expires, in milliseconds of the wall clock.
    pub expires_at_ms: Option<u64>,
}

#[derive(Debug, Default)]
pub(crate) struct Keeper {
    last: u64,
    by_topic: HashMap<Arc<str>, HashMap<Arc<str>, u64>>,
    kept: HashMap<u64, Kept>,
    /// Those that expire, by when.
    due: BTreeSet<(u64, u64)>,
    pub bytes: u64,
    /// Topics whose end was found in the log, with its version: an older message may still be on its way here.
    ended: HashMap<(Arc<str>, Arc<str>), u64>,
}

#[derive(Debug)]
struct Kept {
    tenant: Arc<str>,
    topic: Arc<str>,
    frame: Bytes,
    version: u64,
    expires_at_ms: Option<u64>,
    home: u64,
}

impl Sessions {
    /// Everything retained, for the start.
    pub fn retained(&self) -> impl Iterator<Item = Retained<'_>> {
        self.retained.kept.values().map(|kept| Retained {
            tenant: &kept.tenant,
            topic: &kept.topic,
            frame: &kept.frame,
            version: kept.version,
            expires_at_ms: kept.expires_at_ms,
        })
    }

    /// The topics whose end was found in the log and the versions they ended with, by tenant and topic; once.
    pub fn take_ended_topics(&mut self) -> impl Iterator<Item = (Arc<str>, Arc<str>, u64)> + use<> {
        let ended = std::mem::take(&mut self.retained.ended);
        ended.into_iter().map(|((tenant, topic), version)| (tenant, topic, version))
    }

    /// Whether this shard keeps a retained message of the topic.
    #[must_use]
    pub fn keeps_retained(&self, tenant: &str, topic: &str) -> bool {
        self.retained.find(tenant, topic).is_some()
    }

    /// Drops all a tenant retained.
    pub(crate) fn drop_retained_of(&mut self, log: &mut (impl Log + ?Sized), tenant: &str) {
        let Some((name, topics)) = self.retained.by_topic.get_key_value(tenant) else { return };
        let name = Arc::clone(name);
        let topics: Vec<(Arc<str>, u64)> = topics
            .iter()
            .filter_map(|(topic, id)| {
                Some((Arc::clone(topic), self.retained.kept.get(id)?.version))
            })
            .collect();
        for (topic, version) in topics {
            let dropped = [Entry::RetainDropped { topic: &topic, version }];
            let place = self.books.append_or_owe(log, &name, &dropped);
            let ticket = place.map(|place| place.ticket);
            self.retained.drop_topic(&mut self.books, &name, &topic, version, ticket);
        }
    }
}

impl Keeper {
    pub(crate) fn len(&self) -> usize {
        self.kept.len()
    }

    /// When the next one expires, in milliseconds of the wall clock.
    pub(crate) fn next_expiry_ms(&self) -> Option<u64> {
        self.due.first().map(|(at_ms, _)| *at_ms)
    }

    /// Lets go of what has expired, `most` at a time. The log is not told: it says itself when they expire, and what is
    /// older of the same topic is in no later segment.
    pub(crate) fn expire(&mut self, books: &mut Books, now_ms: u64, most: usize) {
        for _ in 0..most {
            let Some((_, id)) = self.due.first().copied().filter(|(at_ms, _)| *at_ms <= now_ms)
            else {
                return;
            };
            let Some(kept) = self.kept.get(&id) else { return };
            let (tenant, topic, version) =
                (Arc::clone(&kept.tenant), Arc::clone(&kept.topic), kept.version);
            self.drop_topic(books, &tenant, &topic, version, None);
        }
    }

    /// Keeps a message (topic, frame, version, expiry) that was recorded.
    pub(crate) fn put(
        &mut self,
        books: &mut Books,
        tenant: &Arc<str>,
        (topic, frame, version, expires_at_ms): (&str, Bytes, u64, Option<u64>),
        place: Place,
    ) {
        let old = self.find(tenant, topic).and_then(|id| self.kept.get(&id));
        if old.is_some_and(|old| old.version > version) {
            return;
        }
        self.drop_topic(books, tenant, topic, version, Some(place.ticket));
        let id = self.insert(tenant, topic, frame, version, expires_at_ms, place.segment);
        books.settle_in(Entity::Retained(id), place.segment);
    }

    pub(crate) fn drop_topic(
        &mut self,
        books: &mut Books,
        tenant: &str,
        topic: &str,
        version: u64,
        ticket: Option<u64>,
    ) {
        if let Some((id, home)) = self.remove(tenant, topic, version) {
            books.unhome(Entity::Retained(id), home, ticket);
        }
    }

    fn find(&self, tenant: &str, topic: &str) -> Option<u64> {
        self.by_topic.get(tenant)?.get(topic).copied()
    }

    fn insert(
        &mut self,
        tenant: &Arc<str>,
        topic: &str,
        frame: Bytes,
        version: u64,
        expires_at_ms: Option<u64>,
        home: u64,
    ) -> u64 {
        self.last += 1;
        self.bytes += frame.len() as u64;
        let topic: Arc<str> = topic.into();
        let topics = self.by_topic.entry(Arc::clone(tenant)).or_default();
        topics.insert(Arc::clone(&topic), self.last);
        let tenant = Arc::clone(tenant);
        self.due.extend(expires_at_ms.map(|at_ms| (at_ms, self.last)));
        self.kept.insert(self.last, Kept { tenant, topic, frame, version, expires_at_ms, home });
        self.last
    }

    fn remove(&mut self, tenant: &str, topic: &str, version: u64) -> Option<(u64, u64)> {
        let topics = self.by_topic.get_mut(tenant)?;
        let id = *topics.get(topic)?;
        if self.kept.get(&id)?.version > version {
            return None;
        }
        topics.remove(topic);
        if topics.is_empty() {
            self.by_topic.remove(tenant);
        }
        let kept = self.kept.remove(&id)?;
        if let Some(at_ms) = kept.expires_at_ms {
            self.due.remove(&(at_ms, id));
        }
        self.bytes -= kept.frame.len() as u64;
        Some((id, kept.home))
    }

    /// Copies one message forward; one that expired is let go instead.
    pub(crate) fn copy(
        &mut self,
        books: &mut Books,
        log: &mut (impl Log + ?Sized),
        id: u64,
        now_ms: u64,
    ) -> Result<usize, Room> {
        let Some(kept) = self.kept.get_mut(&id) else { return Ok(0) };
        if kept.expires_at_ms.is_some_and(|at| at <= now_ms) {
            let (tenant, topic, version) =
                (Arc::clone(&kept.tenant), Arc::clone(&kept.topic), kept.version);
            self.drop_topic(books, &tenant, &topic, version, None);
            return Ok(0);
        }
        let mut record = books.begin(&kept.tenant);
        Entry::Retained {
            topic: &kept.topic,
            version: kept.version,
            expires_at_ms: kept.expires_at_ms,
            frame: &kept.frame,
        }
        .put(&mut record);
        let place = books.append(log, &kept.tenant, record, true)?;
        books.rehome(Entity::Retained(id), kept.home, place);
        kept.home = place.segment;
        Ok(kept.frame.len())
    }

    /// A message found in the log.
    pub(crate) fn replay(
        &mut self,
        tenant: &Arc<str>,
        (topic, frame, version, expires_at_ms): (&str, &[u8], u64, Option<u64>),
        home: u64,
    ) {
        self.remove(tenant, topic, version);
        let name = (Arc::clone(tenant), Arc::from(topic));
        if self.ended.get(&name).is_some_and(|ended| *ended < version) {
            self.ended.remove(&name);
        }
        if self.find(tenant, topic).is_none() {
            let frame = Bytes::copy_from_slice(frame);
            self.insert(tenant, topic, frame, version, expires_at_ms, home);
        }
    }

    pub(crate) fn replay_dropped(&mut self, tenant: &Arc<str>, topic: &str, version: u64) {
        self.remove(tenant, topic, version);
        if self.find(tenant, topic).is_none() {
            let ended = self.ended.entry((Arc::clone(tenant), topic.into())).or_default();
            *ended = version.max(*ended);
        }
    }

    /// Books what was found in the log, but for what expired.
    pub(crate) fn settle(&mut self, books: &mut Books, now_ms: u64) {
        let expired: Vec<u64> = self
            .kept
            .iter()
            .filter(|(_, kept)| kept.expires_at_ms.is_some_and(|at| at <= now_ms))
            .map(|(id, _)| *id)
            .collect();
        for id in expired {
            let Some(kept) = self.kept.get(&id) else { continue };
            let (tenant, topic, version) =
                (Arc::clone(&kept.tenant), Arc::clone(&kept.topic), kept.version);
            self.remove(&tenant, &topic, version);
        }
        for (id, kept) in &self.kept {
            books.settle_in(Entity::Retained(*id), kept.home);
        }
    }
}
