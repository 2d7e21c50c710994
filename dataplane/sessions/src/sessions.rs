//! The sessions of a shard.

use std::sync::Arc;
use std::time::Instant;

use crate::{Due, Limits, Log, Message, Metrics, RecordError, Room, SubscriptionIds, TenantTotals};

/// Names a session: a place and its generation. A stale key finds nobody.
#[derive(Copy, Clone, Eq, PartialEq, Ord, PartialOrd, Hash, Debug)]
pub struct SessionKey(pub u64);

/// What goes to a client next.
#[derive(Clone, Debug)]
pub enum Outgoing {
    /// A PUBLISH.
    Publish {
        /// Its identifier; unused otherwise until it is acknowledged.
        packet_id: u16,
        /// It was sent on an earlier connection [MQTT-3.3.1-1].
        dup: bool,
        /// 1 or 2.
        qos: u8,
        /// The retain flag.
        retain: bool,
        /// The message.
        message: Arc<Message>,
        /// Identifiers to send with it.
        subscription_ids: SubscriptionIds,
    },
    /// A PUBREL that is sent again [MQTT-4.4.0-1].
    PubRel {
        /// Its identifier.
        packet_id: u16,
    },
}

/// Whether an acknowledgement fits something under way.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub enum Ack {
    /// It does.
    Known,
    /// Nothing with this identifier waits for it: reason 0x92 where the packet has one.
    Unknown,
}

/// The session state of one shard.
#[derive(Debug)]
pub struct Sessions {
    limits: Limits,
    metrics: Metrics,
}

impl Sessions {
    /// A shard without sessions, over an empty log. `epoch` is the log's: another one after the log was wiped.
    #[must_use]
    pub fn new(limits: Limits, own_shard: u16, epoch: u64) -> Self {
        let _ = (own_shard, epoch);
        Self { limits: limits.fitted(), metrics: Metrics::default() }
    }

    /// The session a client has.
    #[must_use]
    pub fn find(&self, tenant: &str, client_id: &str) -> Option<SessionKey> {
        let _ = (tenant, client_id, &self.limits);
        None
    }

    /// Every session, for the start of the route table.
    pub fn keys(&self) -> impl Iterator<Item = SessionKey> {
        std::iter::empty()
    }

    /// The session's connection.
    #[must_use]
    pub fn link(&self, key: SessionKey) -> Option<u64> {
        let _ = key;
        None
    }

    /// Whether the session outlives its connection.
    #[must_use]
    pub fn is_durable(&self, key: SessionKey) -> bool {
        let _ = key;
        false
    }

    /// The session's tenant.
    #[must_use]
    pub fn tenant(&self, key: SessionKey) -> Option<&Arc<str>> {
        let _ = key;
        None
    }

    /// The session's client identifier.
    #[must_use]
    pub fn client_id(&self, key: SessionKey) -> Option<&Arc<str>> {
        let _ = key;
        None
    }

    /// The principal the session belongs to.
    #[must_use]
    pub fn principal(&self, key: SessionKey) -> Option<&str> {
        let _ = key;
        None
    }

    /// A session that has something to send: it is connected, its window is open, what comes next is durable where
    /// it has to be. Each is handed out once until [`Sessions::next`] has answered `None` or [`Sessions::wake`] was
    /// called.
    pub fn poll_ready(&mut self) -> Option<SessionKey> {
        None
    }

    /// The session's connection takes packets again: [`Sessions::poll_ready`] hands it out if it has something.
    pub fn wake(&mut self, key: SessionKey) {
        let _ = key;
    }

    /// What goes to the client next; it counts as sent. First what was under way on an earlier connection, in its
    /// order, then what waits [MQTT-4.6.0-1]. Expired messages are dropped on the way.
    pub fn next(
        &mut self,
        log: &mut (impl Log + ?Sized),
        key: SessionKey,
        now_ms: u64,
    ) -> Option<Outgoing> {
        let _ = (log, key, now_ms);
        None
    }

    /// The message just handed out cannot go to this client [MQTT-3.1.2-25]: done with it.
    pub fn skip(&mut self, log: &mut (impl Log + ?Sized), key: SessionKey, packet_id: u16) {
        let _ = (log, key, packet_id);
    }

    /// PUBACK came.
    pub fn puback(
        &mut self,
        log: &mut (impl Log + ?Sized),
        key: SessionKey,
        packet_id: u16,
    ) -> Ack {
        let _ = (log, key, packet_id);
        Ack::Unknown
    }

    /// PUBREC came; `refused` if its reason is 0x80 or more, which ends the exchange. The ticket is what PUBREL waits
    /// for (none is sent if refused).
    ///
    /// # Errors
    /// The log does not take the record; nothing has changed then, and PUBREL must not be sent.
    pub fn pubrec(
        &mut self,
        log: &mut (impl Log + ?Sized),
        key: SessionKey,
        packet_id: u16,
        refused: bool,
    ) -> Result<(Ack, Option<u64>), Room> {
        let _ = (log, key, packet_id, refused);
        Ok((Ack::Unknown, None))
    }

    /// PUBCOMP came.
    pub fn pubcomp(
        &mut self,
        log: &mut (impl Log + ?Sized),
        key: SessionKey,
        packet_id: u16,
    ) -> Ack {
        let _ = (log, key, packet_id);
        Ack::Unknown
    }

    /// The log's commits reached this ticket: what waited for it can go.
    pub fn durable(&mut self, through: u64) {
        let _ = through;
    }

    /// When [`Sessions::timeout`] has something to do.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Instant> {
        None
    }

    /// Does what is due, a bounded part per call: sessions that expired, wills whose delay is over, messages that
    /// expired in queues.
    pub fn timeout(
        &mut self,
        log: &mut (impl Log + ?Sized),
        now: Instant,
        now_ms: u64,
        out: &mut Vec<Due>,
    ) {
        let _ = (log, now, now_ms, out);
    }

    /// Copies what lives in the oldest segments forward, about so many bytes of it. Answers the segment below which
    /// nothing is needed any more, if such segments exist: the caller lets the log drop them.
    pub fn compact(&mut self, log: &mut (impl Log + ?Sized), budget_bytes: usize) -> Option<u64> {
        let _ = (log, budget_bytes);
        None
    }

    /// What is held, and what was given up.
    #[must_use]
    pub fn metrics(&self) -> Metrics {
        self.metrics
    }

    /// What a tenant has here; `None` without a session.
    #[must_use]
    pub fn tenant_totals(&self, tenant: &str) -> Option<TenantTotals> {
        let _ = tenant;
        None
    }
}

/// Rebuilds a shard's sessions from its log.
#[derive(Debug)]
pub struct Recovery {
    limits: Limits,
    own_shard: u16,
    epoch: u64,
}

impl Recovery {
    /// Begins with nothing.
    #[must_use]
    pub fn new(limits: Limits, own_shard: u16, epoch: u64) -> Self {
        Self { limits, own_shard, epoch }
    }

    /// Replays a record; they come in the order they were appended, from the oldest segment kept.
    ///
    /// # Errors
    /// The record cannot be read. It is skipped whole; report it.
    pub fn replay(&mut self, segment: u64, record: &[u8]) -> Result<(), RecordError> {
        let _ = (segment, record);
        Ok(())
    }

    /// The sessions as of the last record. Clients that were connected count as gone from now on: their wills and
    /// expiry begin.
    #[must_use]
    pub fn finish(self, now: Instant, now_ms: u64) -> Sessions {
        let _ = (now, now_ms);
        Sessions::new(self.limits, self.own_shard, self.epoch)
    }
}
