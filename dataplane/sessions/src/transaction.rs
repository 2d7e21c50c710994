//! Everything one PUBLISH causes on this shard, as one record: gathered, then done at once.

use std::num::NonZeroU32;
use std::sync::Arc;

use bytes::Bytes;

use crate::books::Body;
use crate::flow::Queued;
use crate::record::{Entry, ID_BYTES_MAX, Item, QUEUE_BYTES_MAX};
use crate::session::Unreleased;
use crate::sessions::{charge, session_of};
use crate::{Log, Message, Place, Room, SessionKey, Sessions, SubscriptionIds, Will};

/// Gathers what belongs together. Dropping it undoes it: nothing has happened before
/// [`Sessions::commit`].
#[must_use]
#[derive(Debug)]
pub struct Transaction {
    tenant: Arc<str>,
    gathered: Box<Gathered>,
}

/// What a transaction will do. Kept warm between transactions.
#[derive(Debug, Default)]
pub(crate) struct Gathered {
    deliveries: Vec<Delivery>,
    bodies: Vec<(u64, Arc<Message>)>,
    incoming: Vec<(SessionKey, u16)>,
    forwards: Vec<(u16, Bytes)>,
    marks: Vec<(Origin, u64)>,
    retains: Vec<Retain>,
    wills: Vec<u64>,
    record_bytes: usize,
}

#[derive(Debug)]
struct Delivery {
    key: SessionKey,
    message: Arc<Message>,
    /// Its number in the log; 0 for a session that is not in the log.
    body: u64,
    sequence: u64,
    ids: SubscriptionIds,
    qos: u8,
    retain: bool,
    group: Option<NonZeroU32>,
}

#[derive(Debug)]
struct Retain {
    topic: Box<str>,
    frame: Option<Bytes>,
    version: u64,
    expires_at_ms: Option<u64>,
}

/// A transaction to more sessions gives its memory back.
const WARM_DELIVERIES: usize = 4096;

/// Most an entry takes besides the bytes it carries.
const ENTRY_BYTES_MAX: usize = 48;
/// Most the beginning of a record takes besides the tenant's name, with the notes that ride along.
const HEAD_BYTES_MAX: usize = 16 + 128 * 11;

/// How a message goes to one session.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub struct Options<'a> {
    /// 1 or 2: the lower of the message's and the subscription's.
    pub qos: u8,
    /// The retain flag the client sees.
    pub retain: bool,
    /// Identifiers of the subscriptions that matched.
    pub subscription_ids: &'a [u32],
    /// The shared subscription it is a copy for, by a number that means something to the caller alone: if the session
    /// ends before its client has the message, [`Ended::shared`](crate::Ended) gives both back.
    pub group: Option<NonZeroU32>,
}

/// What became of a delivery.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub enum Delivered {
    /// It is the session's when the transaction is committed.
    Taken,
    /// The session or its tenant holds as much as it may; counted.
    Full,
    /// Nobody has this key.
    Gone,
}

/// What a QoS 2 PUBLISH from a client is.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub enum Incoming {
    /// Not seen before: publish it. PUBREC leaves when the transaction is durable.
    New,
    /// Published already [MQTT5-4.3.3-10]: answer PUBREC again when this ticket is durable.
    Duplicate {
        /// `None`: now.
        ticket: Option<u64>,
    },
    /// The client has as many unreleased messages as it may: DISCONNECT 0x93 [MQTT5-3.3.4-8].
    TooMany,
    /// Nobody has this key.
    Gone,
}

/// A shard as the sender of forwards: with its log's epoch, so that a shard with a new log counts from the start.
#[derive(Copy, Clone, Eq, PartialEq, Hash, Debug)]
pub struct Origin {
    /// The shard.
    pub shard: u16,
    /// The epoch of its log.
    pub epoch: u64,
}

impl Transaction {
    /// Whose it is.
    #[must_use]
    pub fn tenant(&self) -> &Arc<str> {
        &self.tenant
    }

    /// Upper bound of the bytes its record has so far; 0 while nothing has to be written.
    #[must_use]
    pub fn record_bytes(&self) -> usize {
        match self.gathered.record_bytes {
            0 => 0,
            bytes => HEAD_BYTES_MAX + self.tenant.len() + bytes,
        }
    }
}

impl Sessions {
    /// Begins a transaction of a tenant.
    pub fn begin(&mut self, tenant: &Arc<str>) -> Transaction {
        let gathered = self.spare.take().unwrap_or_default();
        Transaction { tenant: Arc::clone(tenant), gathered }
    }

    /// Upper bound of the record of one message of so many bytes to so many durable sessions (with up to four
    /// subscription identifiers each), so that [`Log::room`] can be asked before anything is done. For each shard it
    /// is forwarded to, and for retaining, the message's bytes count once more.
    #[must_use]
    pub fn record_bytes(message_bytes: usize, targets: usize) -> usize {
        let target = QUEUE_BYTES_MAX + 4 * ID_BYTES_MAX;
        HEAD_BYTES_MAX + 256 + 2 * ENTRY_BYTES_MAX + message_bytes + targets * target
    }

    /// Queues a message for a session when the transaction is committed.
    pub fn deliver(
        &mut self,
        transaction: &mut Transaction,
        key: SessionKey,
        message: &Arc<Message>,
        options: Options<'_>,
    ) -> Delivered {
        let Some(session) = session_of(&mut self.slots, key) else { return Delivered::Gone };
        let Some(tenant) = self.tenants.at(session.tenant) else { return Delivered::Gone };
        let (waiting, held) = session.flow.as_ref().map_or((0, 0), |f| (f.waiting(), f.bytes));
        if waiting >= self.limits.queue_messages_max
            || held + message.bytes() > self.limits.queue_bytes_max
        {
            self.counters.dropped_queue_full += 1;
            return Delivered::Full;
        }
        if !message.is_held()
            && tenant.queued_bytes + message.bytes() > self.limits.tenant_bytes_max
        {
            self.counters.dropped_tenant_full += 1;
            return Delivered::Full;
        }
        let gathered = &mut *transaction.gathered;
        let body = if session.durable.is_none() {
            0
        } else {
            gathered.record_bytes +=
                QUEUE_BYTES_MAX + options.subscription_ids.len() * ID_BYTES_MAX;
            match gathered.bodies.iter().rfind(|(_, known)| Arc::ptr_eq(known, message)) {
                Some((id, _)) => *id,
                None => {
                    self.books.last_body += 1;
                    gathered.record_bytes += ENTRY_BYTES_MAX + message.frame().len();
                    gathered.bodies.push((self.books.last_body, Arc::clone(message)));
                    self.books.last_body
                }
            }
        };
        gathered.deliveries.push(Delivery {
            key,
            message: Arc::clone(message),
            body,
            sequence: 0,
            ids: SubscriptionIds::from_slice(options.subscription_ids),
            qos: options.qos.clamp(1, 2),
            retain: options.retain,
            group: options.group,
        });
        Delivered::Taken
    }

    /// A QoS 2 PUBLISH came from the session's client.
    pub fn incoming(
        &mut self,
        transaction: &mut Transaction,
        key: SessionKey,
        packet_id: u16,
    ) -> Incoming {
        let Some(session) = self.session(key) else { return Incoming::Gone };
        if let Some(known) = session.knows_incoming(packet_id) {
            return Incoming::Duplicate { ticket: self.books.pending(known.ticket) };
        }
        let unreleased = session.incoming.as_ref().map_or(0, |incoming| incoming.len());
        if unreleased >= usize::from(self.limits.incoming_qos2_max) {
            return Incoming::TooMany;
        }
        if session.durable.is_some() {
            transaction.gathered.record_bytes += ENTRY_BYTES_MAX;
        }
        transaction.gathered.incoming.push((key, packet_id));
        Incoming::New
    }

    /// Hands a frame to another shard, exactly once over crashes. It goes out by [`Sessions::next_forward`] when it
    /// is durable. The number, dense per shard from 1, is the one it gets if no other transaction is committed
    /// before.
    pub fn forward(&mut self, transaction: &mut Transaction, to_shard: u16, frame: &Bytes) -> u64 {
        let gathered = &mut *transaction.gathered;
        let before = gathered.forwards.iter().filter(|(to, _)| *to == to_shard).count() as u64;
        gathered.record_bytes += ENTRY_BYTES_MAX + frame.len();
        gathered.forwards.push((to_shard, frame.clone()));
        self.forwards.last(to_shard) + before + 1
    }

    /// Notes in the record of its deliveries that a forward was taken.
    pub fn note_from(&mut self, transaction: &mut Transaction, from: Origin, number: u64) {
        transaction.gathered.record_bytes += ENTRY_BYTES_MAX;
        transaction.gathered.marks.push((from, number));
    }

    /// Keeps a retained message for the node, or with `None` drops it, for which a transaction that keeps nothing else may
    /// use the log's reserve. A version older than what is kept is ignored.
    /// How many there may be is the caller's business.
    pub fn retain(
        &mut self,
        transaction: &mut Transaction,
        topic: &str,
        frame: Option<&Bytes>,
        version: u64,
        expires_at_ms: Option<u64>,
    ) {
        let bytes = frame.map_or(0, |frame| frame.len());
        transaction.gathered.record_bytes += ENTRY_BYTES_MAX + topic.len() + bytes;
        let (topic, frame) = (topic.into(), frame.cloned());
        transaction.gathered.retains.push(Retain { topic, frame, version, expires_at_ms });
    }

    /// Notes in the record of a will's publication that it is published, so that it is not published again after a
    /// crash.
    pub fn published(&mut self, transaction: &mut Transaction, will: &Will) {
        if self.books.wills.contains_key(&will.id) {
            transaction.gathered.record_bytes += ENTRY_BYTES_MAX;
            transaction.gathered.wills.push(will.id);
        }
    }

    /// Does what was gathered, all of it or nothing. The ticket is what the publisher's PUBACK or PUBREC waits for;
    /// `None` where nothing had to be written.
    ///
    /// # Errors
    /// The log does not take the record; nothing has changed then.
    pub fn commit(
        &mut self,
        log: &mut (impl Log + ?Sized),
        transaction: Transaction,
    ) -> Result<Option<u64>, Room> {
        let Transaction { tenant, gathered } = transaction;
        let mut gathered = gathered;
        let place = if gathered.record_bytes == 0 {
            Ok(None)
        } else {
            self.record(log, &tenant, &mut gathered).map(Some)
        };
        if let Ok(place) = place {
            self.apply(&tenant, &mut gathered, place);
        }
        gathered.clear();
        if gathered.deliveries.capacity() <= WARM_DELIVERIES {
            self.spare = Some(gathered);
        }
        place.map(|place| place.map(|place| place.ticket))
    }
}

impl Sessions {
    fn record(
        &mut self,
        log: &mut (impl Log + ?Sized),
        tenant: &Arc<str>,
        gathered: &mut Gathered,
    ) -> Result<Place, Room> {
        for delivery in &mut gathered.deliveries {
            if delivery.body == 0 {
                continue;
            }
            self.pay_image(log, delivery.key)?;
            // A session that is not in the log any more takes the message in memory.
            match self.session_mut(delivery.key) {
                Some(session) if session.durable.is_some() => {
                    delivery.sequence = session.flow().allocate();
                }
                _ => delivery.body = 0,
            }
        }
        for (key, _) in &gathered.incoming {
            self.pay_image(log, *key)?;
        }
        let mut record = self.books.begin(tenant);
        for (id, message) in &gathered.bodies {
            let (body, frame) = (*id, &message.frame()[..]);
            Entry::Body { body, expires_at_ms: message.expires_at_ms(), frame }.put(&mut record);
        }
        for delivery in gathered.deliveries.iter().filter(|delivery| delivery.body != 0) {
            if let Some(session) = self.number_in_log(delivery.key) {
                let item = Item {
                    sequence: delivery.sequence,
                    body: delivery.body,
                    qos: delivery.qos,
                    retain: delivery.retain,
                    group: delivery.group,
                    ids: delivery.ids.clone(),
                };
                Entry::Queued { session, item }.put(&mut record);
            }
        }
        for (key, packet_id) in &gathered.incoming {
            if let Some(session) = self.number_in_log(*key) {
                Entry::Incoming { session, packet_id: *packet_id }.put(&mut record);
            }
        }
        self.forwards.put(&gathered.forwards, &mut record);
        for (from, number) in &gathered.marks {
            Entry::Mark { from: from.shard, epoch: from.epoch, number: *number }.put(&mut record);
        }
        for retain in &gathered.retains {
            let (topic, version) = (&*retain.topic, retain.version);
            let expires_at_ms = retain.expires_at_ms;
            match &retain.frame {
                Some(frame) => {
                    Entry::Retained { topic, version, expires_at_ms, frame }.put(&mut record);
                }
                None => Entry::RetainDropped { topic, version }.put(&mut record),
            }
        }
        for will in &gathered.wills {
            Entry::WillDone { will: *will }.put(&mut record);
        }
        self.books.append(log, tenant, record, gathered.only_deletes())
    }

    fn number_in_log(&self, key: SessionKey) -> Option<u64> {
        Some(self.session(key)?.durable.as_ref()?.id)
    }

    fn apply(&mut self, tenant: &Arc<str>, gathered: &mut Gathered, place: Option<Place>) {
        if let Some(place) = place {
            for (id, message) in &gathered.bodies {
                let (tenant, message) = (Arc::clone(tenant), Arc::clone(message));
                let body = Body { tenant, message, references: 0, home: place.segment };
                self.books.add_body(*id, body);
            }
        }
        for delivery in gathered.deliveries.drain(..) {
            self.enqueue(delivery, place);
        }
        for (id, _) in gathered.bodies.drain(..) {
            self.books.drop_unwanted_body(id);
        }
        let ticket = place.map_or(0, |place| place.ticket);
        for (key, packet_id) in gathered.incoming.drain(..) {
            let Some(session) = session_of(&mut self.slots, key) else { continue };
            let incoming = session.incoming.get_or_insert_default();
            incoming.push_back(Unreleased { packet_id, ticket });
            if let Some(durable) = &mut session.durable {
                durable.last_ticket = durable.last_ticket.max(ticket);
            }
        }
        let Some(place) = place else { return };
        for (to, frame) in gathered.forwards.drain(..) {
            self.forwards.push(&mut self.books, to, tenant, frame, place);
        }
        for (from, number) in gathered.marks.drain(..) {
            self.forwards.mark(&mut self.books, from, number, place);
        }
        for retain in gathered.retains.drain(..) {
            let Retain { topic, frame, version, expires_at_ms } = retain;
            match frame {
                Some(frame) => {
                    let fresh = (&*topic, frame, version, expires_at_ms);
                    self.retained.put(&mut self.books, tenant, fresh, place);
                }
                None => {
                    let ticket = Some(place.ticket);
                    self.retained.drop_topic(&mut self.books, tenant, &topic, version, ticket);
                }
            }
        }
        for will in gathered.wills.drain(..) {
            self.books.remove_will(will, Some(place.ticket));
        }
    }

    fn enqueue(&mut self, delivery: Delivery, place: Option<Place>) {
        let (inflight_max, durable) = (self.limits.inflight_max, self.books.durable);
        let Some(session) = session_of(&mut self.slots, delivery.key) else { return };
        let mut ticket = 0;
        if delivery.body != 0
            && let (Some(place), Some(durable)) = (place, session.durable.as_mut())
        {
            ticket = place.ticket;
            durable.last_ticket = durable.last_ticket.max(ticket);
            self.books.want_body(delivery.body);
        }
        let flow = session.flow.get_or_insert_default();
        let sequence = match delivery.sequence {
            0 => flow.allocate(),
            sequence => sequence,
        };
        let entry = Queued {
            sequence,
            message: delivery.message,
            body: delivery.body,
            ticket,
            ids: delivery.ids,
            qos: delivery.qos,
            retain: delivery.retain,
            group: delivery.group,
        };
        flow.bytes += entry.message.bytes();
        self.clock.note(&entry.message);
        charge(&mut self.tenants, &mut self.counters, session.tenant, &entry);
        flow.entries.push_back(entry);
        if session.link.is_none() {
            return;
        }
        if ticket > durable {
            self.waiting.push_back((ticket, delivery.key));
        } else if !session.ready && session.has_next(inflight_max, durable) {
            session.ready = true;
            self.ready.push_back(delivery.key);
        }
    }
}

impl Gathered {
    /// Whether nothing is kept because of it, and something retained no longer is: that makes room.
    fn only_deletes(&self) -> bool {
        !self.retains.is_empty()
            && self.retains.iter().all(|retain| retain.frame.is_none())
            && self.bodies.is_empty()
            && self.forwards.is_empty()
    }

    fn clear(&mut self) {
        self.deliveries.clear();
        self.bodies.clear();
        self.incoming.clear();
        self.forwards.clear();
        self.marks.clear();
        self.retains.clear();
        self.wills.clear();
        self.record_bytes = 0;
    }
}
