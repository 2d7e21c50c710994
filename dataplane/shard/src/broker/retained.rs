//! Retained messages: every shard has them in memory, the shard that owns the topic has them in its session journal.

use super::SelfCopy;
use crate::connections::{Key, Protocol};
use crate::limits::{RETAINED_PER_TURN, SUBSCRIBER_BACKLOG_BYTES_MAX, WALK_QUEUE_MAX};
use crate::mqtt::Content;
use crate::plane::Plane;
use bytes::Bytes;
use fulcrum_frame::Frame;
use fulcrum_ring::Io;
use fulcrum_router::{Put, RetainedCursor, owner};
use fulcrum_sessions::{Log, Message, Room, SessionKey, Sessions, Transaction};
use std::collections::VecDeque;
use std::sync::Arc;

/// A new subscription's way through the retained messages it matches.
pub(crate) struct Walk {
    pub filter: Box<str>,
    pub qos: u8,
    pub subscription_id: u32,
    pub cursor: Option<RetainedCursor>,
}

/// All of them of one connection; most have none at most times.
#[derive(Default)]
pub(crate) struct Walks(Option<Box<VecDeque<Walk>>>);

impl Walks {
    pub(crate) fn len(&self) -> usize {
        self.0.as_ref().map_or(0, |walks| walks.len())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(crate) fn push_back(&mut self, walk: Walk) {
        self.0.get_or_insert_default().push_back(walk);
    }

    fn push_front(&mut self, walk: Walk) {
        self.0.get_or_insert_default().push_front(walk);
    }

    fn pop_front(&mut self) -> Option<Walk> {
        let walk = self.0.as_mut()?.pop_front();
        if self.is_empty() {
            self.0 = None;
        }
        walk
    }
}

impl Plane {
    /// Takes a message published here as its topic's retained one. The version, to be sent to the other shards; an
    /// error if the tenant retains as much as it may, and then nothing is retained anywhere.
    pub(super) fn retain(
        &mut self,
        transaction: &mut Transaction,
        tenant: &Arc<str>,
        content: &Content<'_>,
        frame: &Bytes,
        expires_at_ms: Option<u64>,
    ) -> Result<u64, u64> {
        let version = self.broker.next_version(self.now_ms, self.index);
        let kept = (!content.payload.is_empty()).then(|| Arc::<[u8]>::from(&frame[..]));
        let retained = &mut self.broker.retained;
        let put = retained.put(tenant, content.topic, kept, version, expires_at_ms);
        if let Put::Refused(refused) = put {
            tracing::debug!(%tenant, %refused, "a message is not retained");
            self.metrics.retained_refused.add(1);
            return Err(0);
        }
        self.record_retained(transaction, content, frame, version, expires_at_ms);
        Ok(version)
    }

    /// Takes what another shard has retained.
    pub(super) fn follow_retained(
        &mut self,
        transaction: &mut Transaction,
        content: &Content<'_>,
        frame: &Bytes,
        version: u64,
        expires_at_ms: Option<u64>,
    ) {
        self.broker.saw_version(version);
        let kept = (!content.payload.is_empty()).then(|| Arc::<[u8]>::from(&frame[..]));
        let tenant = transaction.tenant().clone();
        let retained = &mut self.broker.retained;
        let followed = retained.follow(&tenant, content.topic, kept, version, expires_at_ms);
        // An older version than what is known changes nothing, in the journal either: there a deletion leaves nothing
        // that an older message could be compared with.
        if followed != Put::Older {
            self.record_retained(transaction, content, frame, version, expires_at_ms);
        }
    }

    fn record_retained(
        &mut self,
        transaction: &mut Transaction,
        content: &Content<'_>,
        frame: &Bytes,
        version: u64,
        expires_at_ms: Option<u64>,
    ) {
        if owner(&[transaction.tenant(), content.topic], self.outbox.shards()) != self.index {
            return;
        }
        let kept = (!content.payload.is_empty()).then_some(frame);
        let sessions = &mut self.broker.sessions;
        sessions.retain(transaction, content.topic, kept, version, expires_at_ms);
    }

    /// Gives a client the next of the retained messages its new subscriptions match; whether more are to come now.
    pub(crate) fn continue_walk(&mut self, io: &mut Io<'_>, connection: Key) -> bool {
        let Some(found) = self.connections.by_key(connection) else { return false };
        let (Protocol::Mqtt(client), wire) = found.parts() else { return false };
        let session = client.session;
        if wire.queued_bytes(io) > SUBSCRIBER_BACKLOG_BYTES_MAX {
            client.stalled = true;
            io.notify_drained(wire.id);
            return false;
        }
        let Some(mut walk) = client.walks.pop_front() else { return false };
        let Some(tenant) = self.broker.sessions.tenant(session).cloned() else { return false };
        // Most of a queue is left to what is published meanwhile.
        if walk.qos > 0 && self.broker.sessions.queued(session) >= WALK_QUEUE_MAX {
            client.walks.push_front(walk);
            return false;
        }
        if self.broker.log.room(Sessions::record_bytes(self.settings.message_bytes_max, 1))
            == Room::Later
        {
            client.walks.push_front(walk);
            return true;
        }
        let mut messages = Vec::new();
        let (after, limit) = (walk.cursor.take(), RETAINED_PER_TURN);
        let retained = &self.broker.retained;
        walk.cursor =
            retained.matches(&tenant, &walk.filter, self.now_ms, after, limit, &mut messages);
        let (qos, subscription_id) = (walk.qos, walk.subscription_id);
        let goes_on = walk.cursor.is_some();
        if goes_on {
            client.walks.push_front(walk);
        }
        let more = goes_on || !client.walks.is_empty();
        for (_, frame) in messages {
            self.give_retained(io, &tenant, session, &frame, qos, subscription_id);
        }
        more
    }

    fn give_retained(
        &mut self,
        io: &mut Io<'_>,
        tenant: &Arc<str>,
        session: SessionKey,
        bytes: &Arc<[u8]>,
        qos: u8,
        subscription_id: u32,
    ) {
        let Ok(frame) = Frame::parse(bytes) else { return };
        let Some(content) = Content::of_frame(frame, self.now_ms) else { return };
        let expires_at_ms = content.expiry_s.map(|seconds| self.now_ms + u64::from(seconds) * 1000);
        let ids = Some(subscription_id).filter(|id| *id != 0);
        // To a new subscription it comes with RETAIN set [MQTT5-3.3.1-8].
        let copy = SelfCopy::new(true, ids.as_slice());
        self.broker.scratch.encoded.clear();
        let mut transaction = self.broker.sessions.begin(tenant);
        let kept = Arc::new(Message::new(Bytes::copy_from_slice(bytes), expires_at_ms));
        let wanted = qos.min(frame.qos());
        self.give(io, &mut transaction, session, &kept, &content, wanted, copy, None);
        let broker = &mut self.broker;
        if let Err(room) = broker.sessions.commit(&mut broker.log, transaction) {
            tracing::warn!(?room, "a retained message could not be queued for its subscriber");
        }
    }
}
