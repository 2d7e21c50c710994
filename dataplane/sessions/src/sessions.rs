//! The sessions of a shard: who has which, who has something to send.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use crate::books::{Books, Entity};
use crate::clock::Clock;
use crate::flow::Queued;
use crate::forwards::Forwards;
use crate::record::{Entry, PART_BYTES, QUEUE_BYTES_MAX};
use crate::retained::Keeper;
use crate::session::{Debt, Session, Slot};
use crate::transaction::Gathered;
use crate::{Limits, Log, Metrics, Origin, Place, Room, SharedCopy, TenantTotals};

/// Names a session: a place and its generation. A stale key finds nobody.
#[derive(Copy, Clone, Eq, PartialEq, Ord, PartialOrd, Hash, Debug)]
pub struct SessionKey(pub u64);

/// The session state of one shard.
#[derive(Debug)]
pub struct Sessions {
    pub(crate) limits: Limits,
    pub(crate) origin: Origin,
    pub(crate) slots: Vec<Slot>,
    pub(crate) free: Vec<u32>,
    pub(crate) tenants: Tenants,
    pub(crate) books: Books,
    pub(crate) forwards: Forwards,
    pub(crate) retained: Keeper,
    pub(crate) clock: Clock,
    /// Sessions that have something to send.
    pub(crate) ready: VecDeque<SessionKey>,
    /// Sessions that will, when the ticket is durable. Tickets ascend.
    pub(crate) waiting: VecDeque<(u64, SessionKey)>,
    /// Sessions the log does not know well enough.
    pub(crate) debts: VecDeque<SessionKey>,
    pub(crate) deadlines: BTreeSet<(Instant, SessionKey)>,
    pub(crate) spare: Option<Box<Gathered>>,
    pub(crate) counters: Metrics,
}

/// Tenants with a session here.
#[derive(Debug, Default)]
pub(crate) struct Tenants {
    pub list: Vec<Option<Tenant>>,
    by_name: HashMap<Arc<str>, u32>,
    free: Vec<u32>,
}

#[derive(Debug)]
pub(crate) struct Tenant {
    pub name: Arc<str>,
    pub clients: HashMap<Arc<str>, SessionKey>,
    pub queued_bytes: usize,
    pub queued_messages: usize,
}

impl Tenants {
    pub(crate) fn find(&self, name: &str) -> Option<&Tenant> {
        self.at(*self.by_name.get(name)?)
    }

    pub(crate) fn at(&self, index: u32) -> Option<&Tenant> {
        self.list.get(index as usize)?.as_ref()
    }

    pub(crate) fn at_mut(&mut self, index: u32) -> Option<&mut Tenant> {
        self.list.get_mut(index as usize)?.as_mut()
    }

    /// The tenant's place, made if there is none.
    pub(crate) fn place(&mut self, name: &Arc<str>) -> u32 {
        if let Some(index) = self.by_name.get(name) {
            return *index;
        }
        let tenant = Tenant {
            name: Arc::clone(name),
            clients: HashMap::new(),
            queued_bytes: 0,
            queued_messages: 0,
        };
        let index = self.free.pop().unwrap_or(self.list.len() as u32);
        if index as usize == self.list.len() {
            self.list.push(None);
        }
        self.list[index as usize] = Some(tenant);
        self.by_name.insert(Arc::clone(name), index);
        index
    }

    /// Forgets a client, and the tenant with its last.
    fn remove_client(&mut self, index: u32, client_id: &str) {
        let Some(tenant) = self.at_mut(index) else { return };
        tenant.clients.remove(client_id);
        if tenant.clients.is_empty() {
            let name = Arc::clone(&tenant.name);
            self.by_name.remove(&name);
            self.list[index as usize] = None;
            self.free.push(index);
        }
    }
}

impl Sessions {
    /// A shard without sessions, over an empty log. `epoch` is the log's: another one after the log was wiped.
    #[must_use]
    pub fn new(limits: Limits, own_shard: u16, epoch: u64) -> Self {
        Self {
            limits: limits.fitted(),
            origin: Origin { shard: own_shard, epoch },
            slots: Vec::new(),
            free: Vec::new(),
            tenants: Tenants::default(),
            books: Books::default(),
            forwards: Forwards::default(),
            retained: Keeper::default(),
            clock: Clock::default(),
            ready: VecDeque::new(),
            waiting: VecDeque::new(),
            debts: VecDeque::new(),
            deadlines: BTreeSet::new(),
            spare: None,
            counters: Metrics::default(),
        }
    }

    /// The session a client has.
    #[must_use]
    pub fn find(&self, tenant: &str, client_id: &str) -> Option<SessionKey> {
        self.tenants.find(tenant)?.clients.get(client_id).copied()
    }

    /// Every session, for the start of the route table.
    pub fn keys(&self) -> impl Iterator<Item = SessionKey> {
        self.slots.iter().enumerate().filter_map(|(index, slot)| {
            slot.session.as_ref().map(|_| SessionKey::new(index, slot.generation))
        })
    }

    /// The session's connection.
    #[must_use]
    pub fn link(&self, key: SessionKey) -> Option<u64> {
        self.session(key)?.link
    }

    /// Whether the key names a session.
    #[must_use]
    pub fn contains(&self, key: SessionKey) -> bool {
        self.session(key).is_some()
    }

    /// Whether the session outlives its connection.
    #[must_use]
    pub fn is_durable(&self, key: SessionKey) -> bool {
        self.session(key).is_some_and(|session| session.durable.is_some())
    }

    /// Messages that wait for the session's client or are under way to it.
    #[must_use]
    pub fn queued(&self, key: SessionKey) -> usize {
        let flow = self.session(key).and_then(|session| session.flow.as_ref());
        flow.map_or(0, |flow| flow.entries.len())
    }

    /// Messages that may be queued for a session until a quarter of its queue is in use: what is not urgent leaves the
    /// rest to what is.
    #[must_use]
    pub fn spare_room(&self, key: SessionKey) -> usize {
        let flow = self.session(key).and_then(|session| session.flow.as_ref());
        let (messages, bytes) = flow.map_or((0, 0), |flow| (flow.entries.len(), flow.bytes));
        match bytes > self.limits.queue_bytes_max / 4 {
            true => 0,
            false => (self.limits.queue_messages_max / 4).max(1).saturating_sub(messages),
        }
    }

    /// The session's tenant.
    #[must_use]
    pub fn tenant(&self, key: SessionKey) -> Option<&Arc<str>> {
        Some(&self.tenants.at(self.session(key)?.tenant)?.name)
    }

    /// The session's client identifier.
    #[must_use]
    pub fn client_id(&self, key: SessionKey) -> Option<&Arc<str>> {
        Some(&self.session(key)?.client_id)
    }

    /// The principal the session belongs to.
    #[must_use]
    pub fn principal(&self, key: SessionKey) -> Option<&str> {
        Some(&self.session(key)?.principal)
    }

    /// A session that has something to send: it is connected, its window is open, what comes next is durable where
    /// it has to be. Each is handed out once until [`Sessions::next`] has answered `None` or [`Sessions::wake`] was
    /// called.
    pub fn poll_ready(&mut self) -> Option<SessionKey> {
        while let Some(key) = self.ready.pop_front() {
            let (inflight_max, durable) = (self.limits.inflight_max, self.books.durable);
            let Some(session) = self.session_mut(key) else { continue };
            session.ready = false;
            if session.has_next(inflight_max, durable) {
                return Some(key);
            }
        }
        None
    }

    /// The session's connection takes packets again: [`Sessions::poll_ready`] hands it out if it has something.
    pub fn wake(&mut self, key: SessionKey) {
        let (inflight_max, durable) = (self.limits.inflight_max, self.books.durable);
        let Some(session) = session_of(&mut self.slots, key) else { return };
        if !session.ready && session.has_next(inflight_max, durable) {
            session.ready = true;
            self.ready.push_back(key);
        }
    }

    /// The log's commits reached this ticket: what waited for it can go.
    pub fn durable(&mut self, through: u64) {
        self.books.commit_reached(through);
        while self.waiting.front().is_some_and(|(ticket, _)| *ticket <= self.books.durable) {
            if let Some((_, key)) = self.waiting.pop_front() {
                self.wake(key);
            }
        }
    }

    /// What is held, and what was given up.
    #[must_use]
    pub fn metrics(&self) -> Metrics {
        let sessions = (self.slots.len() - self.free.len()) as u64;
        Metrics {
            sessions_disconnected: sessions - self.counters.sessions_connected,
            stored_messages: self.books.bodies.len() as u64,
            live_bytes: self.books.stored_bytes
                + self.books.image_bytes
                + self.counters.queued_messages * QUEUE_BYTES_MAX as u64
                + self.retained.bytes
                + self.forwards.bytes,
            retained_messages: self.retained.len() as u64,
            retained_bytes: self.retained.bytes,
            forwards_pending: self.forwards.len() as u64,
            wills: self.books.wills.len() as u64,
            ..self.counters
        }
    }

    /// What a tenant has here; `None` without a session.
    #[must_use]
    pub fn tenant_totals(&self, tenant: &str) -> Option<TenantTotals> {
        let tenant = self.tenants.find(tenant)?;
        Some(TenantTotals {
            sessions: tenant.clients.len(),
            queued_bytes: tenant.queued_bytes,
            queued_messages: tenant.queued_messages,
        })
    }
}

/// The session a key names, where the rest of the shard is borrowed too.
pub(crate) fn session_of(slots: &mut [Slot], key: SessionKey) -> Option<&mut Session> {
    let slot = slots.get_mut(key.index())?;
    if slot.generation == key.generation() { slot.session.as_mut() } else { None }
}

impl Sessions {
    pub(crate) fn session(&self, key: SessionKey) -> Option<&Session> {
        let slot = self.slots.get(key.index())?;
        if slot.generation == key.generation() { slot.session.as_ref() } else { None }
    }

    pub(crate) fn session_mut(&mut self, key: SessionKey) -> Option<&mut Session> {
        session_of(&mut self.slots, key)
    }

    /// Gives a session a place and its client the key.
    pub(crate) fn settle(&mut self, session: Session) -> SessionKey {
        let index = self.free.pop().map_or(self.slots.len(), |index| index as usize);
        if index == self.slots.len() {
            self.slots.push(Slot { generation: 1, session: None });
        }
        let slot = &mut self.slots[index];
        let key = SessionKey::new(index, slot.generation);
        if let Some(tenant) = self.tenants.at_mut(session.tenant) {
            tenant.clients.insert(Arc::clone(&session.client_id), key);
        }
        self.counters.sessions_connected += u64::from(session.link.is_some());
        if session.durable.is_some() {
            self.books.image_bytes += session.image_bytes();
        }
        slot.session = Some(session);
        key
    }

    /// Takes a session out of its place. Its messages are let go as of the record with this ticket; those that other
    /// members of a shared subscription may get are given back.
    pub(crate) fn unsettle(
        &mut self,
        key: SessionKey,
        ticket: Option<u64>,
    ) -> Option<(Session, Vec<SharedCopy>)> {
        self.session(key)?;
        let slot = &mut self.slots[key.index()];
        let mut session = slot.session.take()?;
        slot.generation = slot.generation.wrapping_add(1);
        self.free.push(key.index() as u32);
        self.counters.sessions_connected -= u64::from(session.link.is_some());
        if let Some(durable) = &session.durable {
            self.books.image_bytes -= session.image_bytes();
            if let Some(deadline) = durable.deadline {
                self.deadlines.remove(&(deadline, key));
            }
            self.books.unhome(Entity::Session(key), durable.home, ticket);
        }
        let mut shared = Vec::new();
        if let Some(flow) = &mut session.flow {
            for (entry, is_shared) in flow.drain() {
                self.books.release_body(entry.body, ticket);
                self.clock.forget(&entry.message);
                discharge(&mut self.tenants, &mut self.counters, session.tenant, &entry);
                if let Some(group) = entry.group.filter(|_| is_shared) {
                    shared.push(SharedCopy { group, message: entry.message });
                }
            }
        }
        self.tenants.remove_client(session.tenant, &session.client_id);
        Some((session, shared))
    }

    /// Brings the order of deadlines up to date with a session's.
    pub(crate) fn set_deadline(&mut self, key: SessionKey) {
        let Some(session) = session_of(&mut self.slots, key) else { return };
        let Some(durable) = &mut session.durable else { return };
        let next = durable.next_deadline();
        if next == durable.deadline {
            return;
        }
        if let Some(old) = durable.deadline {
            self.deadlines.remove(&(old, key));
        }
        if let Some(next) = next {
            self.deadlines.insert((next, key));
        }
        durable.deadline = next;
    }

    /// Appends a record of one durable session; an owed image goes first.
    pub(crate) fn append_of(
        &mut self,
        log: &mut (impl Log + ?Sized),
        key: SessionKey,
        entries: &[Entry<'_>],
        essential: bool,
    ) -> Result<Place, Room> {
        self.pay_image(log, key)?;
        let Some(session) = session_of(&mut self.slots, key) else { return Err(Room::Failed) };
        let Some(tenant) = self.tenants.at(session.tenant) else { return Err(Room::Failed) };
        let mut record = self.books.begin(&tenant.name);
        for entry in entries {
            entry.put(&mut record);
        }
        let place = self.books.append(log, &tenant.name, record, essential)?;
        if let Some(durable) = &mut session.durable {
            durable.last_ticket = place.ticket;
        }
        Ok(place)
    }

    /// Appends what a client acknowledged. If the log does not take it, an image will say it later; until then a
    /// crash brings the acknowledged thing back.
    pub(crate) fn append_done(
        &mut self,
        log: &mut (impl Log + ?Sized),
        key: SessionKey,
        entries: &[Entry<'_>],
    ) -> Option<u64> {
        match self.append_of(log, key, entries, true) {
            Ok(place) => Some(place.ticket),
            Err(_) => {
                self.owe(key, Debt::Image);
                None
            }
        }
    }

    pub(crate) fn owe(&mut self, key: SessionKey, debt: Debt) {
        let Some(durable) = session_of(&mut self.slots, key).and_then(|s| s.durable.as_mut())
        else {
            return;
        };
        if durable.debt == Debt::None {
            self.debts.push_back(key);
        }
        if durable.debt != Debt::Image {
            durable.debt = debt;
        }
    }

    pub(crate) fn pay_image(
        &mut self,
        log: &mut (impl Log + ?Sized),
        key: SessionKey,
    ) -> Result<(), Room> {
        let debt = self.session(key).and_then(|s| s.durable.as_ref()).map(|d| d.debt);
        if debt == Some(Debt::Image) { self.write_image(log, key).map(|_| ()) } else { Ok(()) }
    }

    /// Writes a session whole. From then on nothing older of it is needed.
    pub(crate) fn write_image(
        &mut self,
        log: &mut (impl Log + ?Sized),
        key: SessionKey,
    ) -> Result<usize, Room> {
        let Some(session) = session_of(&mut self.slots, key) else { return Ok(0) };
        let Some(tenant) = self.tenants.at(session.tenant) else { return Ok(0) };
        let Some(durable) = &session.durable else { return Ok(0) };
        let (id, from) = (durable.id, durable.home);
        let image = session.image(id, durable.detached_at_ms);
        let mut bytes = Vec::new();
        image.put(&mut bytes);
        let (first, last) = if bytes.len() <= PART_BYTES {
            let mut record = self.books.begin(&tenant.name);
            Entry::Image(image).put(&mut record);
            let place = self.books.append(log, &tenant.name, record, true)?;
            (place, place)
        } else {
            let count = bytes.len().div_ceil(PART_BYTES) as u64;
            let mut places: Option<(Place, Place)> = None;
            for (index, part) in bytes.chunks(PART_BYTES).enumerate() {
                let mut record = self.books.begin(&tenant.name);
                Entry::Part { session: id, index: index as u64, count, bytes: part }
                    .put(&mut record);
                let place = self.books.append(log, &tenant.name, record, true)?;
                places = Some((places.map_or(place, |(first, _)| first), place));
            }
            let Some(places) = places else { return Ok(0) };
            places
        };
        if let Some(durable) = &mut session.durable {
            durable.home = first.segment;
            durable.last_ticket = last.ticket;
            durable.debt = Debt::None;
        }
        let place = Place { ticket: last.ticket, segment: first.segment };
        self.books.rehome(Entity::Session(key), from, place);
        Ok(bytes.len())
    }

    /// Counts a message into its session's tenant.
    pub(crate) fn charge(&mut self, tenant: u32, entry: &Queued) {
        charge(&mut self.tenants, &mut self.counters, tenant, entry);
    }
}

pub(crate) fn charge(tenants: &mut Tenants, counters: &mut Metrics, tenant: u32, entry: &Queued) {
    let Some(tenant) = tenants.at_mut(tenant) else { return };
    tenant.queued_messages += 1;
    counters.queued_messages += 1;
    if entry.message.hold() {
        tenant.queued_bytes += entry.message.bytes();
        counters.queued_bytes += entry.message.bytes() as u64;
    }
}

pub(crate) fn discharge(
    tenants: &mut Tenants,
    counters: &mut Metrics,
    tenant: u32,
    entry: &Queued,
) {
    let Some(tenant) = tenants.at_mut(tenant) else { return };
    tenant.queued_messages -= 1;
    counters.queued_messages -= 1;
    if entry.message.release() {
        tenant.queued_bytes -= entry.message.bytes();
        counters.queued_bytes -= entry.message.bytes() as u64;
    }
}
