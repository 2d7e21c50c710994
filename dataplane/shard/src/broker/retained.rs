//! Retained messages: every shard has them in memory, the shard that owns the topic has them in its session journal.

use super::SelfCopy;
use super::publish::{Copies, Taker};
use crate::connections::{Key, Protocol};
use crate::limits::{RETAINED_PER_TURN, SUBSCRIBER_BACKLOG_BYTES_MAX};
use crate::message::PeerMessage;
use crate::mqtt::Content;
use crate::plane::Plane;
use bytes::Bytes;
use fulcrum_frame::Frame;
use fulcrum_mqtt::QoS;
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

/// How far a connection's walks are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Walked {
    /// At their end, or waiting for the client, which will say when they go on.
    Over,
    /// They go on.
    More,
    /// They go on after the journal's next commit.
    Later,
}

/// All of them of one connection; most have none at most times.
#[derive(Default)]
pub(crate) struct Walks(
    #[allow(clippy::box_collection, reason = "a word in each idle connection instead of four")]
    Option<Box<VecDeque<Walk>>>,
);

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

    fn append(&mut self, more: Walks) {
        if let Some(more) = more.0 {
            self.0.get_or_insert_default().extend(*more);
        }
    }

    fn pop_front(&mut self) -> Option<Walk> {
        let walk = self.0.as_mut()?.pop_front();
        if self.is_empty() {
            self.0 = None;
        }
        walk
    }
}

/// Most a record that ends a retained message has besides the topic and the tenant's name.
const DELETION_BYTES: usize = 2048;

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

    /// Tells every other shard of a retained message, or of a topic's end, that it may have lost.
    pub(super) fn announce_retained(
        &mut self,
        tenant: &Arc<str>,
        content: &Content<'_>,
        frame: &Bytes,
        version: u64,
        expires_at_ms: Option<u64>,
    ) {
        let frame = (!content.payload.is_empty()).then(|| Arc::<[u8]>::from(&frame[..]));
        self.outbox.tell_all(|| PeerMessage::Retained {
            tenant: tenant.clone(),
            topic: content.topic.into(),
            frame: frame.clone(),
            version,
            expires_at_ms,
        });
    }

    /// Whether the message ends a retained one although the journal is full: there is reserve for that where this shard
    /// keeps one, and nothing to be recorded elsewhere.
    pub(super) fn may_delete(&self, tenant: &str, content: &Content<'_>) -> bool {
        content.is_deletion()
            && (!self.broker.sessions.keeps_retained(tenant, content.topic)
                || self.broker.log.deletion_room(DELETION_BYTES + content.topic.len())
                    == Room::Here)
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
        if kept.is_none()
            && !self.broker.sessions.keeps_retained(transaction.tenant(), content.topic)
            && self.broker.log.room(DELETION_BYTES + content.topic.len()) == Room::Full
        {
            // Nothing is kept, and the reserve is for what makes room.
            return;
        }
        let sessions = &mut self.broker.sessions;
        sessions.retain(transaction, content.topic, kept, version, expires_at_ms);
    }

    /// Keeps what a connection had left of its walks for the session's next one; gives it to that if it is there already.
    pub(crate) fn park_walks(&mut self, session: SessionKey, walks: Walks) {
        if walks.is_empty() || !self.broker.sessions.is_durable(session) {
            return;
        }
        let link = self.broker.sessions.link(session).map(Key);
        if let Some(link) = link
            && let Some(connection) = self.connections.by_key(link)
            && let Protocol::Mqtt(client) = &mut connection.protocol
        {
            client.walks.append(walks);
            self.walking.push(link);
        } else {
            self.broker.parked_walks.entry(session).or_default().append(walks);
        }
    }

    /// Gives a client the next of the retained messages its new subscriptions match.
    pub(crate) fn continue_walk(&mut self, io: &mut Io<'_>, connection: Key) -> Walked {
        let mut left = RETAINED_PER_TURN;
        while left > 0 {
            let Some(found) = self.connections.by_key(connection) else { return Walked::Over };
            let (Protocol::Mqtt(client), wire) = found.parts() else { return Walked::Over };
            if !client.is_open() {
                // Its CONNACK comes first.
                return Walked::Over;
            }
            let session = client.session;
            let backlog = wire.queued_bytes(io);
            if backlog > SUBSCRIBER_BACKLOG_BYTES_MAX {
                client.stalled = true;
                io.notify_drained(wire.id);
                return Walked::Over;
            }
            let Some(mut walk) = client.walks.pop_front() else { return Walked::Over };
            let Some(tenant) = self.broker.sessions.tenant(session).cloned() else {
                return Walked::Over;
            };
            // As many as go out before the peer counts as one that does not read.
            let mut limit =
                (SUBSCRIBER_BACKLOG_BYTES_MAX - backlog) / self.settings.message_bytes_max;
            if walk.qos > 0 {
                let room = self.broker.sessions.spare_room(session);
                if room == 0 {
                    client.walks.push_front(walk);
                    return Walked::Over;
                }
                limit = limit.min(room);
            }
            let limit = limit.clamp(1, left);
            left -= limit;
            let bytes = Sessions::record_bytes(self.settings.message_bytes_max, 1);
            if self.broker.log.room(bytes) == Room::Later {
                client.walks.push_front(walk);
                return Walked::Later;
            }
            let (after, mut messages) = (walk.cursor.take(), Vec::new());
            let retained = &self.broker.retained;
            walk.cursor =
                retained.matches(&tenant, &walk.filter, self.now_ms, after, limit, &mut messages);
            let (qos, subscription_id) = (walk.qos, walk.subscription_id);
            if walk.cursor.is_some() {
                client.walks.push_front(walk);
            }
            for (_, frame) in messages {
                self.give_retained(io, &tenant, session, &frame, qos, subscription_id);
            }
        }
        Walked::More
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
        let published = QoS::from_u8(frame.qos()).unwrap_or(QoS::AtMostOnce);
        let copies = Copies { kept: &kept, content: &content, qos: published, own: None };
        self.give(io, &mut transaction, &copies, Taker { session, qos, group: None, copy });
        let broker = &mut self.broker;
        if let Err(room) = broker.sessions.commit(&mut broker.log, transaction) {
            tracing::warn!(?room, "a retained message could not be queued for its subscriber");
        }
    }
}
