//! What of the shard is in the log, and where: which segment each living thing needs, and which segments have to
//! stay until a commit.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use crate::record::{self, Entry};
use crate::{Log, Message, Place, Room, SessionKey, Will};

/// Notes of dead bodies that ride along with a record.
const RIDERS_MAX: usize = 128;

/// Something living that a segment holds.
#[derive(Copy, Clone, Eq, PartialEq, Ord, PartialOrd, Debug)]
pub(crate) enum Entity {
    Session(SessionKey),
    Body(u64),
    Will(u64),
    Forward(u16, u64),
    /// The last number given out to a shard.
    ForwardLast(u16),
    Mark(u16),
    Retained(u64),
}

#[derive(Debug)]
pub(crate) struct Body {
    pub tenant: Arc<str>,
    pub message: Arc<Message>,
    pub references: u32,
    pub home: u64,
}

#[derive(Debug)]
pub(crate) struct StoredWill {
    pub will: Will,
    /// The session's number in the log; 0 where it is not in the log.
    pub session: u64,
    pub home: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Books {
    /// Commits reached this ticket.
    pub durable: u64,
    pub homes: BTreeSet<(u64, Entity)>,
    /// Segments that must stay until a ticket is durable: what made something in them needless is not yet. Both
    /// numbers ascend.
    holds: VecDeque<(u64, u64)>,
    pub bodies: HashMap<u64, Body>,
    dead_bodies: Vec<u64>,
    pub wills: HashMap<u64, StoredWill>,
    pub last_session: u64,
    pub last_body: u64,
    pub last_will: u64,
    /// Records of things that are over, which the log did not take. Their order does not matter.
    pub owed: VecDeque<(Arc<str>, Vec<u8>)>,
    spare: Vec<u8>,
    pub stored_bytes: u64,
    /// About what the images of durable sessions take, without their queues.
    pub image_bytes: u64,
}

impl Books {
    /// The ticket, unless it is durable already.
    pub(crate) fn pending(&self, ticket: u64) -> Option<u64> {
        (ticket > self.durable).then_some(ticket)
    }

    /// An empty record of a tenant; give it back with [`Books::append`].
    pub(crate) fn begin(&mut self, tenant: &str) -> Vec<u8> {
        let mut record = std::mem::take(&mut self.spare);
        record::begin(&mut record, tenant);
        record
    }

    /// Takes back a record that was begun and is not needed.
    pub(crate) fn give_back(&mut self, record: Vec<u8>) {
        self.spare = record;
    }

    /// Appends a record that was begun here.
    pub(crate) fn append(
        &mut self,
        log: &mut (impl Log + ?Sized),
        tenant: &str,
        record: Vec<u8>,
        essential: bool,
    ) -> Result<Place, Room> {
        let mut record = record;
        let riders = self.dead_bodies.len().min(RIDERS_MAX);
        let first = self.dead_bodies.len() - riders;
        for body in &self.dead_bodies[first..] {
            Entry::BodyDead { body: *body }.put(&mut record);
        }
        let appended = log.append(tenant, &record, essential);
        if appended.is_ok() {
            self.dead_bodies.truncate(first);
        }
        if record.capacity() <= 1 << 20 {
            self.spare = record;
        }
        appended
    }

    /// Entries that say something is over: now, or when the log takes it.
    pub(crate) fn append_or_owe(
        &mut self,
        log: &mut (impl Log + ?Sized),
        tenant: &Arc<str>,
        entries: &[Entry<'_>],
    ) -> Option<Place> {
        let mut record = self.begin(tenant);
        for entry in entries {
            entry.put(&mut record);
        }
        match log.append(tenant, &record, true) {
            Ok(place) => {
                self.spare = record;
                Some(place)
            }
            Err(_) => {
                self.owed.push_back((Arc::clone(tenant), record));
                None
            }
        }
    }

    /// Tries again what is owed; false if the log still does not take it.
    pub(crate) fn pay(&mut self, log: &mut (impl Log + ?Sized)) -> bool {
        while let Some((tenant, record)) = self.owed.front() {
            if log.append(tenant, record, true).is_err() {
                return false;
            }
            self.owed.pop_front();
        }
        true
    }

    pub(crate) fn settle_in(&mut self, entity: Entity, segment: u64) {
        self.homes.insert((segment, entity));
    }

    /// Something moved: its old segment stays until the new place is durable.
    pub(crate) fn rehome(&mut self, entity: Entity, from: u64, place: Place) {
        if from != place.segment {
            self.homes.remove(&(from, entity));
            self.homes.insert((place.segment, entity));
            self.hold(place.ticket, from);
        }
    }

    /// Something is over: its segment stays until that is durable.
    pub(crate) fn unhome(&mut self, entity: Entity, from: u64, ticket: Option<u64>) {
        self.homes.remove(&(from, entity));
        if let Some(ticket) = ticket {
            self.hold(ticket, from);
        }
    }

    fn hold(&mut self, ticket: u64, segment: u64) {
        if ticket <= self.durable {
            return;
        }
        // A later ticket with a smaller segment says all that the earlier one does.
        while self.holds.back().is_some_and(|(_, held)| *held >= segment) {
            self.holds.pop_back();
        }
        self.holds.push_back((ticket, segment));
    }

    pub(crate) fn commit_reached(&mut self, through: u64) {
        self.durable = self.durable.max(through);
        while self.holds.front().is_some_and(|(ticket, _)| *ticket <= self.durable) {
            self.holds.pop_front();
        }
    }

    /// The oldest segment that anything needs.
    pub(crate) fn floor(&self) -> Option<u64> {
        let home = self.homes.first().map(|(segment, _)| *segment);
        let held = self.holds.front().map(|(_, segment)| *segment);
        match (home, held) {
            (Some(home), Some(held)) => Some(home.min(held)),
            (home, held) => home.or(held),
        }
    }

    pub(crate) fn add_body(&mut self, id: u64, body: Body) {
        self.stored_bytes += body.message.bytes() as u64;
        self.settle_in(Entity::Body(id), body.home);
        self.bodies.insert(id, body);
    }

    pub(crate) fn want_body(&mut self, id: u64) {
        if let Some(body) = self.bodies.get_mut(&id) {
            body.references += 1;
        }
    }

    /// Forgets a body that no session took after all.
    pub(crate) fn drop_unwanted_body(&mut self, id: u64) {
        if self.bodies.get(&id).is_some_and(|body| body.references == 0) {
            self.want_body(id);
            self.release_body(id, None);
        }
    }

    /// A session does not need a body any more, as of the record with this ticket.
    pub(crate) fn release_body(&mut self, id: u64, ticket: Option<u64>) {
        if id == 0 {
            return;
        }
        let Some(body) = self.bodies.get_mut(&id) else { return };
        body.references -= 1;
        if body.references == 0 {
            let home = body.home;
            self.stored_bytes -= body.message.bytes() as u64;
            self.bodies.remove(&id);
            self.unhome(Entity::Body(id), home, ticket);
            self.dead_bodies.push(id);
        }
    }

    /// A will is published or dropped, as of the record with this ticket.
    pub(crate) fn remove_will(&mut self, id: u64, ticket: Option<u64>) -> Option<Will> {
        let stored = self.wills.remove(&id)?;
        self.stored_bytes -= stored.will.frame.len() as u64;
        self.unhome(Entity::Will(id), stored.home, ticket);
        Some(stored.will)
    }

    pub(crate) fn add_will(&mut self, stored: StoredWill) {
        let id = stored.will.id;
        self.stored_bytes += stored.will.frame.len() as u64;
        self.settle_in(Entity::Will(id), stored.home);
        self.wills.insert(id, stored);
    }
}
