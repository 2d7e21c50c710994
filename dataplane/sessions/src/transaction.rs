//! Everything one PUBLISH causes on this shard, as one record.

use std::sync::Arc;

use bytes::Bytes;

use crate::{Log, Message, Room, SessionKey, Sessions, Will};

/// Gathers what belongs together. Dropping it undoes it: nothing has happened before
/// [`Sessions::commit`].
#[must_use]
#[derive(Debug)]
pub struct Transaction {
    pub(crate) tenant: Arc<str>,
}

/// How a message goes to one session.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub struct Options<'a> {
    /// 1 or 2: the lower of the message's and the subscription's.
    pub qos: u8,
    /// The retain flag the client sees.
    pub retain: bool,
    /// Identifiers of the subscriptions that matched.
    pub subscription_ids: &'a [u32],
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
    /// Published already [MQTT-4.3.3-10]: answer PUBREC again when this ticket is durable.
    Duplicate {
        /// `None`: now.
        ticket: Option<u64>,
    },
    /// The client has as many unreleased messages as it may: DISCONNECT 0x93 [MQTT-3.3.4-8].
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

impl Transaction {
    /// Whose it is.
    #[must_use]
    pub fn tenant(&self) -> &Arc<str> {
        &self.tenant
    }

    /// Upper bound of the bytes its record has so far; 0 while nothing has to be written.
    #[must_use]
    pub fn record_bytes(&self) -> usize {
        0
    }
}

impl Sessions {
    /// Begins a transaction of a tenant.
    pub fn begin(&mut self, tenant: &Arc<str>) -> Transaction {
        Transaction { tenant: Arc::clone(tenant) }
    }

    /// Upper bound of the record of one message of so many bytes to so many durable sessions (with up to four
    /// subscription identifiers each), so that [`Log::room`] can be asked before anything is done. For each shard it
    /// is forwarded to, and for retaining, the message's bytes count once more.
    #[must_use]
    pub fn record_bytes(message_bytes: usize, targets: usize) -> usize {
        message_bytes + 512 + targets * 64
    }

    /// Queues a message for a session when the transaction is committed.
    pub fn deliver(
        &mut self,
        transaction: &mut Transaction,
        key: SessionKey,
        message: &Arc<Message>,
        options: Options<'_>,
    ) -> Delivered {
        let _ = (transaction, key, message, options);
        Delivered::Gone
    }

    /// A QoS 2 PUBLISH came from the session's client.
    pub fn incoming(
        &mut self,
        transaction: &mut Transaction,
        key: SessionKey,
        packet_id: u16,
    ) -> Incoming {
        let _ = (transaction, key, packet_id);
        Incoming::Gone
    }

    /// Whether a QoS 2 message with this identifier came and was not released yet.
    #[must_use]
    pub fn incoming_is_known(&self, key: SessionKey, packet_id: u16) -> bool {
        let _ = (key, packet_id);
        false
    }

    /// PUBREL came: forgets the identifier. Whether it was known, and the ticket PUBCOMP waits for.
    ///
    /// # Errors
    /// The log does not take the record; nothing has changed then, and PUBCOMP must not be sent.
    pub fn pubrel(
        &mut self,
        log: &mut (impl Log + ?Sized),
        key: SessionKey,
        packet_id: u16,
    ) -> Result<(bool, Option<u64>), Room> {
        let _ = (log, key, packet_id);
        Ok((false, None))
    }

    /// Hands a frame to another shard, exactly once over crashes. The number is dense per shard, from 1.
    /// It goes out by [`Sessions::next_forward`] when it is durable.
    pub fn forward(&mut self, transaction: &mut Transaction, to_shard: u16, frame: &Bytes) -> u64 {
        let _ = (transaction, to_shard, frame);
        0
    }

    /// The next forward to a shard that is durable and was not handed out yet. After recovery these are all that the
    /// other shard has not confirmed, in order.
    pub fn next_forward(&mut self, to_shard: u16) -> Option<(u64, Bytes)> {
        let _ = to_shard;
        None
    }

    /// The forwards another shard has not confirmed, handed out or not: (shard, number, frame).
    pub fn pending_forwards(&self) -> impl Iterator<Item = (u16, u64, &Bytes)> {
        std::iter::empty()
    }

    /// The other shard has everything up to this number durable.
    pub fn forwarded(&mut self, log: &mut (impl Log + ?Sized), to_shard: u16, number: u64) {
        let _ = (log, to_shard, number);
    }

    /// This shard as a sender; goes with each forward.
    #[must_use]
    pub fn origin(&self) -> Origin {
        Origin { shard: 0, epoch: 0 }
    }

    /// Whether a forward has not been taken yet. One that has is confirmed again and otherwise ignored.
    #[must_use]
    pub fn is_new_from(&self, from: Origin, number: u64) -> bool {
        let _ = (from, number);
        true
    }

    /// Notes in the record of its deliveries that a forward was taken.
    pub fn note_from(&mut self, transaction: &mut Transaction, from: Origin, number: u64) {
        let _ = (transaction, from, number);
    }

    /// Keeps a retained message for the node, or with `None` drops it. A version older than what is kept is ignored.
    /// How many there may be is the caller's business.
    pub fn retain(
        &mut self,
        transaction: &mut Transaction,
        topic: &str,
        frame: Option<&Bytes>,
        version: u64,
        expires_at_ms: Option<u64>,
    ) {
        let _ = (transaction, topic, frame, version, expires_at_ms);
    }

    /// Everything retained, for the start.
    pub fn retained(&self) -> impl Iterator<Item = Retained<'_>> {
        std::iter::empty()
    }

    /// Notes in the record of a will's publication that it is published, so that it is not published again after a
    /// crash.
    pub fn published(&mut self, transaction: &mut Transaction, will: &Will) {
        let _ = (transaction, will);
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
        let _ = (log, transaction);
        Ok(None)
    }
}
