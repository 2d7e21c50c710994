//! Rebuilds a shard's sessions from its log.
//!
//! Segments are dropped oldest first, so the log may begin anywhere: a change of a session whose image is not there
//! (any more, or not yet) is ignored, because what still lives has an image further on. A later record wins over an
//! earlier one, and a thing that ended has its end behind all that is said of it.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::books::{Body, Entity, StoredWill};
use crate::flow::{Flow, Queued, Release};
use crate::forwards::Forwards;
use crate::record::{self, Entry, Image, Item};
use crate::retained::Keeper;
use crate::session::{Debt, Durable, Session, Unreleased};
use crate::sessions::session_of;
use crate::{Limits, Message, RecordError, SessionKey, Sessions, Subscription, Will};

/// Takes the records of a log and makes [`Sessions`] of them.
#[derive(Debug)]
pub struct Recovery {
    sessions: Sessions,
    tenants: HashMap<Box<str>, Arc<str>>,
    drafts: BTreeMap<u64, Draft>,
    parts: Option<Parts>,
    bodies: HashMap<u64, FoundBody>,
    wills: BTreeMap<u64, StoredWill>,
    forwards: Forwards,
    retained: Keeper,
}

#[derive(Debug)]
struct Draft {
    tenant: Arc<str>,
    home: u64,
    image: Image,
    subscriptions: BTreeMap<Box<str>, Subscription>,
    queue: BTreeMap<u64, Item>,
}

/// An image that is not whole yet. Its parts follow each other; anything else in between gives them up.
#[derive(Debug)]
struct Parts {
    session: u64,
    next: u64,
    bytes: Vec<u8>,
    home: u64,
}

#[derive(Debug)]
struct FoundBody {
    tenant: Arc<str>,
    message: Arc<Message>,
    home: u64,
}

impl Recovery {
    /// Begins with nothing.
    #[must_use]
    pub fn new(limits: Limits, own_shard: u16, epoch: u64) -> Self {
        Self {
            sessions: Sessions::new(limits, own_shard, epoch),
            tenants: HashMap::new(),
            drafts: BTreeMap::new(),
            parts: None,
            bodies: HashMap::new(),
            wills: BTreeMap::new(),
            forwards: Forwards::default(),
            retained: Keeper::default(),
        }
    }

    /// Replays a record; they come in the order they were appended, from the oldest segment kept.
    ///
    /// # Errors
    /// The record cannot be read. It is skipped whole; report it.
    pub fn replay(&mut self, segment: u64, record: &[u8]) -> Result<(), RecordError> {
        let (tenant, entries) = record::read(record)?;
        let tenant = match self.tenants.get(tenant) {
            Some(known) => Arc::clone(known),
            None => {
                let name: Arc<str> = tenant.into();
                self.tenants.insert(tenant.into(), Arc::clone(&name));
                name
            }
        };
        for entry in entries {
            self.apply(&tenant, segment, entry)?;
        }
        Ok(())
    }

    /// The sessions as of the last record. Clients that were connected count as gone from now on: their wills and
    /// expiry begin.
    #[must_use]
    pub fn finish(self, now: Instant, now_ms: u64) -> Sessions {
        let Self { mut sessions, drafts, mut bodies, wills, forwards, retained, .. } = self;
        sessions.clock.saw(now, now_ms);
        sessions.forwards = forwards;
        sessions.forwards.settle(&mut sessions.books);
        sessions.retained = retained;
        sessions.retained.settle(&mut sessions.books, now_ms);
        let mut keys = HashMap::new();
        for (id, draft) in drafts {
            keys.insert(id, sessions.restore(draft, &mut bodies, now, now_ms));
        }
        for (id, stored) in wills {
            let key = keys.get(&stored.session).copied();
            sessions.restore_will(id, stored, key, now, now_ms);
        }
        for key in keys.into_values() {
            sessions.set_deadline(key);
        }
        sessions
    }
}

impl Recovery {
    fn apply(
        &mut self,
        tenant: &Arc<str>,
        segment: u64,
        entry: Entry<'_>,
    ) -> Result<(), RecordError> {
        match entry {
            Entry::Image(image) => self.draft(tenant, segment, image),
            Entry::Part { session, index, count, bytes } => {
                return self.part(tenant, segment, (session, index, count), bytes);
            }
            Entry::Ended { session } => {
                self.saw_session(session);
                self.drafts.remove(&session);
            }
            Entry::Body { body, expires_at_ms, frame } => {
                let message = Message::new(Bytes::copy_from_slice(frame), expires_at_ms);
                let (tenant, message) = (Arc::clone(tenant), Arc::new(message));
                self.saw_body(body);
                self.bodies.insert(body, FoundBody { tenant, message, home: segment });
            }
            Entry::BodyDead { body } => {
                self.saw_body(body);
                self.bodies.remove(&body);
            }
            Entry::Will { will, session, client_id, delay_s, frame } => {
                let (tenant, frame) = (Arc::clone(tenant), Bytes::copy_from_slice(frame));
                let found = Will { tenant, client_id: client_id.into(), frame, delay_s, id: will };
                self.saw_will(will);
                self.saw_session(session);
                self.wills.insert(will, StoredWill { will: found, session, home: segment });
            }
            Entry::WillDone { will } => {
                self.saw_will(will);
                self.wills.remove(&will);
            }
            Entry::Forward { to, number, frame } => {
                self.forwards.replay_forward(to, number, tenant, frame, segment);
            }
            Entry::ForwardDone { to, through } => self.forwards.replay_done(to, through),
            Entry::ForwardLast { to, number } => self.forwards.replay_last(to, number, segment),
            Entry::Mark { from, epoch, number } => {
                self.forwards.replay_mark(from, epoch, number, segment);
            }
            Entry::Retained { topic, version, expires_at_ms, frame } => {
                self.retained.replay(tenant, (topic, frame, version, expires_at_ms), segment);
            }
            Entry::RetainDropped { topic, version } => {
                self.retained.replay_dropped(tenant, topic, version);
            }
            change => self.change(change),
        }
        Ok(())
    }

    /// A change of one session.
    fn change(&mut self, change: Entry<'_>) {
        let session = match &change {
            Entry::Attached { session, .. }
            | Entry::Detached { session, .. }
            | Entry::Subscribed { session, .. }
            | Entry::Unsubscribed { session, .. }
            | Entry::Queued { session, .. }
            | Entry::Done { session, .. }
            | Entry::Released { session, .. }
            | Entry::ReleaseDone { session, .. }
            | Entry::Incoming { session, .. }
            | Entry::IncomingDone { session, .. } => *session,
            _ => return,
        };
        self.saw_session(session);
        if let Entry::Queued { item, .. } = &change {
            self.saw_body(item.body);
        }
        if let Some(draft) = self.drafts.get_mut(&session) {
            draft.change(change);
        }
    }

    fn draft(&mut self, tenant: &Arc<str>, home: u64, image: Image) {
        self.saw_session(image.session);
        let mut image = image;
        let subscriptions = std::mem::take(&mut image.subscriptions).into_iter().collect();
        let queue: BTreeMap<u64, Item> = std::mem::take(&mut image.queue)
            .into_iter()
            .map(|item| (item.sequence, item))
            .collect();
        for item in queue.values() {
            self.saw_body(item.body);
            image.last_sequence = image.last_sequence.max(item.sequence);
        }
        let released = image.releases.iter().max().copied();
        image.last_sequence = image.last_sequence.max(released.unwrap_or(0));
        let (session, tenant) = (image.session, Arc::clone(tenant));
        self.drafts.insert(session, Draft { tenant, home, image, subscriptions, queue });
    }

    fn part(
        &mut self,
        tenant: &Arc<str>,
        segment: u64,
        (session, index, count): (u64, u64, u64),
        bytes: &[u8],
    ) -> Result<(), RecordError> {
        let parts = self.parts.take();
        let mut parts = match parts {
            Some(parts) if parts.session == session && parts.next == index => parts,
            _ if index == 0 => Parts { session, next: 0, bytes: Vec::new(), home: segment },
            // The beginning is in a segment that was dropped, or was never finished.
            _ => return Ok(()),
        };
        parts.bytes.extend_from_slice(bytes);
        parts.next += 1;
        if parts.next < count {
            self.parts = Some(parts);
            return Ok(());
        }
        let image = Image::from_parts(&parts.bytes)?;
        self.draft(tenant, parts.home, image);
        Ok(())
    }

    // A number that is still mentioned is not given out again.

    fn saw_session(&mut self, id: u64) {
        let last = &mut self.sessions.books.last_session;
        *last = (*last).max(id);
    }

    fn saw_body(&mut self, id: u64) {
        let last = &mut self.sessions.books.last_body;
        *last = (*last).max(id);
    }

    fn saw_will(&mut self, id: u64) {
        let last = &mut self.sessions.books.last_will;
        *last = (*last).max(id);
    }
}

impl Draft {
    fn change(&mut self, change: Entry<'_>) {
        let image = &mut self.image;
        match change {
            Entry::Attached { expiry_s, receive_max, .. } => {
                image.expiry_s = expiry_s;
                image.receive_max = receive_max;
                image.detached_at_ms = None;
            }
            Entry::Detached { at_ms, expiry_s, sent_through, .. } => {
                image.detached_at_ms = Some(at_ms);
                image.expiry_s = expiry_s;
                image.sent_through = image.sent_through.max(sent_through);
            }
            Entry::Subscribed { filter, subscription, .. } => {
                self.subscriptions.insert(filter.into(), subscription);
            }
            Entry::Unsubscribed { filter, .. } => {
                self.subscriptions.remove(filter);
            }
            Entry::Queued { item, .. } => {
                image.last_sequence = image.last_sequence.max(item.sequence);
                self.queue.insert(item.sequence, item);
            }
            Entry::Done { sequence, .. } => {
                self.queue.remove(&sequence);
            }
            Entry::Released { sequence, .. } => {
                self.queue.remove(&sequence);
                image.sent_through = image.sent_through.max(sequence);
                image.last_sequence = image.last_sequence.max(sequence);
                if !image.releases.contains(&sequence) {
                    image.releases.push(sequence);
                }
            }
            Entry::ReleaseDone { sequence, .. } => {
                image.releases.retain(|known| *known != sequence);
            }
            Entry::Incoming { packet_id, .. } if !image.incoming.contains(&packet_id) => {
                image.incoming.push(packet_id);
            }
            Entry::IncomingDone { packet_id, .. } => {
                image.incoming.retain(|known| *known != packet_id);
            }
            _ => {}
        }
    }
}

impl Sessions {
    fn restore(
        &mut self,
        draft: Draft,
        bodies: &mut HashMap<u64, FoundBody>,
        now: Instant,
        now_ms: u64,
    ) -> SessionKey {
        let Draft { tenant, home, image, subscriptions, queue } = draft;
        if let Some(older) = self.find(&tenant, &image.client_id) {
            self.replace_restored(&tenant, older);
        }
        let client_id: Arc<str> = image.client_id.into();
        let principal = if *image.principal == *client_id {
            Arc::clone(&client_id)
        } else {
            image.principal.into()
        };
        let mut durable = Durable::new(image.session, home, 0);
        durable.detached_at_ms = Some(image.detached_at_ms.unwrap_or(now_ms));
        let elapsed_ms = image.detached_at_ms.map_or(0, |at| now_ms.saturating_sub(at));
        durable.ends_at = Some(now + remaining(image.expiry_s, elapsed_ms));
        let mut flow = Flow {
            last_sequence: image.last_sequence,
            sent_through: image.sent_through,
            releases: image
                .releases
                .into_iter()
                .map(|sequence| Release { sequence, ticket: 0, live: false })
                .collect(),
            ..Flow::default()
        };
        if image.detached_at_ms.is_none() {
            // It was connected: any of it may have been sent, for what acknowledged the ones before may be lost.
            let last = queue.keys().next_back();
            flow.sent_through = flow.sent_through.max(last.copied().unwrap_or(0));
        }
        let tenant_place = self.tenants.place(&tenant);
        for (_, item) in queue {
            let Some(found) = self.restore_body(item.body, &tenant, bodies) else {
                self.counters.lost_bodies += 1;
                continue;
            };
            let entry = Queued {
                sequence: item.sequence,
                message: found,
                body: item.body,
                ticket: 0,
                ids: item.ids,
                qos: item.qos,
                retain: item.retain,
                group: item.group,
            };
            flow.bytes += entry.message.bytes();
            self.clock.note(&entry.message);
            self.charge(tenant_place, &entry);
            flow.entries.push_back(entry);
        }
        let incoming = image.incoming.into_iter();
        let incoming: std::collections::VecDeque<Unreleased> =
            incoming.map(|packet_id| Unreleased { packet_id, ticket: 0 }).collect();
        let was_connected = image.detached_at_ms.is_none();
        let key = self.settle(Session {
            client_id,
            principal,
            subscriptions: subscriptions.into_iter().collect(),
            flow: (flow.last_sequence > 0).then(|| Box::new(flow)),
            incoming: (!incoming.is_empty()).then(|| Box::new(incoming)),
            durable: Some(Box::new(durable)),
            link: None,
            open_after: 0,
            will: 0,
            tenant: tenant_place,
            expiry_s: image.expiry_s,
            receive_max: image.receive_max,
            ready: false,
        });
        self.books.settle_in(Entity::Session(key), home);
        if was_connected {
            self.owe(key, Debt::Detached);
        }
        key
    }

    /// A body as it was found, with one more session that wants it. Only its own tenant's sessions may.
    fn restore_body(
        &mut self,
        id: u64,
        tenant: &str,
        bodies: &mut HashMap<u64, FoundBody>,
    ) -> Option<Arc<Message>> {
        if bodies.get(&id).is_some_and(|found| *found.tenant == *tenant)
            && let Some(FoundBody { tenant, message, home }) = bodies.remove(&id)
        {
            self.books.add_body(id, Body { tenant, message, references: 0, home });
        }
        let body = self.books.bodies.get(&id).filter(|body| *body.tenant == *tenant)?;
        let message = Arc::clone(&body.message);
        self.books.want_body(id);
        Some(message)
    }

    /// The client has a later session: the end of this one did not get into the log.
    fn replace_restored(&mut self, tenant: &Arc<str>, older: SessionKey) {
        let id = self.session(older).and_then(|session| Some(session.durable.as_ref()?.id));
        if let Some(session) = id {
            let mut record = Vec::new();
            record::begin(&mut record, tenant);
            Entry::Ended { session }.put(&mut record);
            self.books.owed.push_back((Arc::clone(tenant), record));
        }
        self.unsettle(older, None);
    }

    fn restore_will(
        &mut self,
        id: u64,
        stored: StoredWill,
        key: Option<SessionKey>,
        now: Instant,
        now_ms: u64,
    ) {
        let will = stored.will.clone();
        self.books.add_will(stored);
        let Some(session) = key.and_then(|key| session_of(&mut self.slots, key)) else {
            self.clock.orphans.push_back(will);
            return;
        };
        let Some(durable) = &mut session.durable else { return };
        let detached_at_ms = durable.detached_at_ms.unwrap_or(now_ms);
        let elapsed_ms = now_ms.saturating_sub(detached_at_ms);
        durable.will_at = Some(now + remaining(will.delay_s, elapsed_ms));
        let older = std::mem::replace(&mut session.will, id);
        if let Some(older) = self.books.wills.get(&older) {
            self.clock.orphans.push_back(older.will.clone());
        }
    }
}

/// What is left of a time that began so long ago. A wall clock that went back takes nothing away.
fn remaining(seconds: u32, elapsed_ms: u64) -> Duration {
    Duration::from_millis((u64::from(seconds) * 1000).saturating_sub(elapsed_ms))
}
