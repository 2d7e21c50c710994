//! Publishing: who gets the message, on which shards, and when its publisher is answered.

use super::parcel::{Parcel, Pick};
use super::{Answer, SelfCopy, link_of, more_id_bytes};
use crate::connections::{Hold, Key};
use crate::message::MessageOut;
use crate::mqtt::Content;
use crate::plane::Plane;
use crate::stored::Waiter;
use bytes::Bytes;
use fulcrum_journal::Ticket;
use fulcrum_mqtt::{QoS, ReasonCode};
use fulcrum_ring::Io;
use fulcrum_router::{LinkId, Matches, ShardIndex, owner};
use fulcrum_sessions::{
    Delivered, Incoming, Log, Message, Options, Room, SessionKey, Sessions, Transaction, Will,
};
use std::num::NonZeroU32;
use std::sync::Arc;

/// A message that is being published.
pub(crate) struct Outgoing<'a> {
    pub tenant: &'a Arc<str>,
    pub content: Content<'a>,
    pub qos: QoS,
    /// The session that publishes, its connection, and the packet's identifier above QoS 0.
    pub publisher: Option<(SessionKey, Key, Option<u16>)>,
    /// The will it is.
    pub will: Option<&'a Will>,
}

/// What became of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Routed {
    /// The publisher may be answered now.
    Done(ReasonCode),
    /// It is answered later, through its packet identifier.
    Waiting,
    /// Nothing has happened: wait, then publish it again.
    Later(Hold),
    /// Nothing has happened, and will not.
    Refused(ReasonCode),
    /// Nothing has happened: the queues of all sessions it is for are full.
    Full,
}

impl Plane {
    /// Publishes a message. `matches` are the tenant's subscribers of the topic. Copies the publisher's own connection
    /// is to get are in [`super::Broker::self_copies`] afterwards.
    pub(crate) fn publish_message(
        &mut self,
        io: &mut Io<'_>,
        message: &Outgoing<'_>,
        matches: &Matches,
    ) -> Routed {
        self.metrics.messages_received.add(1);
        self.metrics.payload_bytes_received.add(message.content.payload.len() as u64);
        self.broker.self_copies.clear();
        let only_here = matches.groups.is_empty()
            && matches.targets.iter().all(|target| target.link.shard == self.index);
        let in_journal = message.content.retain || message.will.is_some();
        if message.qos == QoS::AtMostOnce && !in_journal && only_here {
            let own = message.publisher.map(|(_, connection, _)| connection);
            self.hand_to_all(io, &message.content, None, matches, own);
            return Routed::Done(ReasonCode::SUCCESS);
        }
        self.pick_members(matches);
        let routed = self.publish_kept(io, message, matches);
        if !matches!(routed, Routed::Done(_) | Routed::Waiting) {
            // It is counted when it is published, or not at all.
            let (messages, bytes) =
                (&self.metrics.messages_received, &self.metrics.payload_bytes_received);
            messages.set(messages.value().saturating_sub(1));
            bytes.set(bytes.value().saturating_sub(message.content.payload.len() as u64));
        }
        routed
    }

    /// Passes a QoS 0 packet of 3.1.1 on as it came; false if that is not possible, and then nothing has happened.
    pub(crate) fn pass_on(
        &mut self,
        io: &mut Io<'_>,
        (content, raw): (&Content<'_>, &[u8]),
        matches: &Matches,
        own: Key,
    ) -> bool {
        let here = self.index;
        if !matches.groups.is_empty()
            || matches.targets.iter().any(|target| target.link.shard != here)
        {
            return false;
        }
        self.metrics.messages_received.add(1);
        self.metrics.payload_bytes_received.add(content.payload.len() as u64);
        self.broker.self_copies.clear();
        self.hand_to_all(io, content, Some(raw), matches, Some(own));
        true
    }

    /// QoS 0 to subscribers of this shard.
    fn hand_to_all(
        &mut self,
        io: &mut Io<'_>,
        content: &Content<'_>,
        raw: Option<&[u8]>,
        matches: &Matches,
        own: Option<Key>,
    ) {
        self.broker.scratch.encoded.clear();
        for target in &matches.targets {
            let key = SessionKey(target.link.key);
            let copy = SelfCopy::new(false, matches.ids(target));
            self.hand_or_drop(io, key, content, raw, copy, own);
        }
    }

    /// Whose turn it is in each shared subscription that matches [MQTT5-4.8.2-4].
    fn pick_members(&mut self, matches: &Matches) {
        let broker = &mut self.broker;
        broker.scratch.members.clear();
        for group in &matches.groups {
            let member = broker.topics.pick(*group);
            broker.scratch.members.extend(member.map(|member| Pick::new(*group, &member)));
        }
        broker.scratch.shards.clear();
        let links = matches.targets.iter().map(|target| target.link);
        for link in links.chain(broker.scratch.members.iter().map(|member| member.link)) {
            if link.shard != self.index && !broker.scratch.shards.contains(&link.shard) {
                broker.scratch.shards.push(link.shard);
            }
        }
    }

    fn publish_kept(
        &mut self,
        io: &mut Io<'_>,
        message: &Outgoing<'_>,
        matches: &Matches,
    ) -> Routed {
        let Outgoing { tenant, content, qos, publisher, .. } = *message;
        let mut frame = std::mem::take(&mut self.frame);
        let built = content.to_frame(tenant, qos, self.now_ms, &mut frame);
        let bytes = Bytes::copy_from_slice(&frame);
        self.frame = frame;
        if built.is_err() {
            // Properties beyond what a frame's head holds.
            return Routed::Refused(ReasonCode::QUOTA_EXCEEDED);
        }
        if let Some(refused) = self.check_publish_room(message, matches, bytes.len()) {
            return refused;
        }
        let mut transaction = self.broker.sessions.begin(tenant);
        if let (QoS::ExactlyOnce, Some((session, connection, Some(packet_id)))) = (qos, publisher) {
            match self.broker.sessions.incoming(&mut transaction, session, packet_id) {
                Incoming::New => {}
                Incoming::Duplicate { ticket: None } => return Routed::Done(ReasonCode::SUCCESS),
                Incoming::Duplicate { ticket: Some(ticket) } => {
                    let waiter = Waiter::Mqtt { connection, packet_id };
                    self.broker.log.stored.wait(Ticket(ticket), waiter);
                    return Routed::Waiting;
                }
                Incoming::TooMany => {
                    return Routed::Refused(ReasonCode::RECEIVE_MAXIMUM_EXCEEDED);
                }
                Incoming::Gone => return Routed::Refused(ReasonCode::UNSPECIFIED_ERROR),
            }
        }
        let expires_at_ms = content.expiry_s.map(|seconds| self.now_ms + u64::from(seconds) * 1000);
        let kept = Arc::new(Message::new(bytes.clone(), expires_at_ms));
        let own = publisher.map(|(_, connection, _)| connection);
        let members = std::mem::take(&mut self.broker.scratch.members);
        let copies = Copies { kept: &kept, content: &content, qos, own };
        let here = self.give_all(io, &mut transaction, &copies, matches, &members);
        if here == Answer::Full && self.broker.scratch.shards.is_empty() && !content.retain {
            // Everybody it is for has as much as may be: nothing has happened, and the publisher can know.
            self.broker.scratch.members = members;
            return Routed::Full;
        }
        let version = match content.retain {
            true => self.retain(&mut transaction, tenant, &content, &bytes, expires_at_ms),
            false => Ok(0),
        };
        let (Ok(version) | Err(version)) = version;
        let forwarded = self.is_forwarded(message);
        let topic = content.topic;
        let outgoing = Sent { tenant, publisher, qos, frame: &bytes, version, topic, forwarded };
        let sent = self.send_to_shards(&mut transaction, &outgoing, &members);
        self.broker.scratch.members = members;
        if let Some(will) = message.will {
            self.broker.sessions.published(&mut transaction, will);
        }
        let broker = &mut self.broker;
        let ticket = match broker.sessions.commit(&mut broker.log, transaction) {
            Ok(ticket) => ticket,
            Err(room) => {
                // There was room a moment ago, or there is not even the reserve for a deletion; or the journal has failed
                // meanwhile, and nobody is answered any more.
                tracing::error!(?room, "a message could not be recorded");
                if let Some(receipt) = sent.receipt {
                    self.broker.receipts.abandon(receipt, sent.answers);
                }
                return Routed::Refused(match room {
                    Room::Full => ReasonCode::QUOTA_EXCEEDED,
                    _ => ReasonCode::IMPLEMENTATION_SPECIFIC_ERROR,
                });
            }
        };
        let elsewhere = !self.broker.scratch.shards.is_empty();
        let reason = match here != Answer::Nobody || elsewhere || content.retain {
            true => ReasonCode::SUCCESS,
            false => ReasonCode::NO_MATCHING_SUBSCRIBERS,
        };
        let here = if content.retain { Answer::Taken } else { here };
        self.answer_publisher(publisher, ticket, sent, (reason, here))
    }

    /// Whether the message goes to other shards from the journal here, numbered: QoS 2 of a session that outlives its
    /// connection, and wills, which nobody would send again.
    fn is_forwarded(&self, message: &Outgoing<'_>) -> bool {
        match message.publisher {
            Some((session, ..)) => {
                message.qos == QoS::ExactlyOnce && self.broker.sessions.is_durable(session)
            }
            None => message.qos != QoS::AtMostOnce && message.will.is_some(),
        }
    }

    /// Whether all of it can be done now: nothing is done by halves.
    fn check_publish_room(
        &self,
        message: &Outgoing<'_>,
        matches: &Matches,
        frame_bytes: usize,
    ) -> Option<Routed> {
        let broker = &self.broker;
        let shards = match message.content.retain {
            true => usize::from(self.outbox.shards()) - 1,
            false => broker.scratch.shards.len(),
        };
        if shards > 0 && !self.outbox.has_message_room(frame_bytes + 1024) {
            // Nobody rings when a lane has room again: it is looked at as the journal is.
            return Some(Routed::Later(Hold::Journal));
        }
        let stored_for = match message.qos {
            QoS::AtMostOnce => 0,
            _ => self.durable_takers(matches, &broker.scratch.members),
        };
        let forwarded = self.is_forwarded(message);
        let copies = usize::from(stored_for > 0)
            + usize::from(message.content.retain)
            + if forwarded { shards } else { 0 };
        if copies == 0 && !forwarded && message.will.is_none() {
            return None;
        }
        let bytes = frame_bytes * copies + more_id_bytes(matches);
        let bytes = Sessions::record_bytes(bytes, stored_for);
        match broker.log.room(bytes) {
            Room::Here => None,
            Room::Later => Some(Routed::Later(Hold::Journal)),
            Room::Full
                if message.will.is_none()
                    && stored_for == 0
                    && !(forwarded && shards > 0)
                    && self.may_delete(message.tenant, &message.content) =>
            {
                None
            }
            Room::Full => {
                self.metrics.messages_refused_full.add(1);
                Some(Routed::Refused(ReasonCode::QUOTA_EXCEEDED))
            }
            Room::Failed => Some(Routed::Refused(ReasonCode::IMPLEMENTATION_SPECIFIC_ERROR)),
        }
    }

    /// Durable sessions of this shard that a message above QoS 0 is stored for.
    pub(super) fn durable_takers(&self, matches: &Matches, members: &[Pick]) -> usize {
        let targets = matches.targets.iter().map(|target| (target.link, target.qos));
        let members = members.iter().map(|member| (member.link, member.qos));
        let is_durable = |link: LinkId| {
            link.shard == self.index && self.broker.sessions.is_durable(SessionKey(link.key))
        };
        targets.chain(members).filter(|(link, qos)| *qos > 0 && is_durable(*link)).count()
    }

    /// Gives everybody on this shard a copy.
    pub(super) fn give_all(
        &mut self,
        io: &mut Io<'_>,
        transaction: &mut Transaction,
        copies: &Copies<'_>,
        matches: &Matches,
        members: &[Pick],
    ) -> Answer {
        self.broker.scratch.encoded.clear();
        let (here, retain) = (self.index, copies.content.retain);
        let mut answer = Answer::Nobody;
        for target in matches.targets.iter().filter(|target| target.link.shard == here) {
            let copy = SelfCopy::new(retain && target.retain_as_published, matches.ids(target));
            let session = SessionKey(target.link.key);
            let taker = Taker { session, qos: target.qos, group: None, copy };
            answer = answer.max(self.give(io, transaction, copies, taker));
        }
        for member in members.iter().filter(|member| member.link.shard == here) {
            let id = Some(member.subscription_id).filter(|id| *id != 0);
            let copy = SelfCopy::new(retain && member.retain_as_published, id.as_slice());
            let session = SessionKey(member.link.key);
            let taker = Taker { session, qos: member.qos, group: Some(member.group), copy };
            answer = answer.max(self.give(io, transaction, copies, taker));
        }
        answer
    }

    /// Gives a session of this shard its copy, at the lower of the message's quality of service and the taker's.
    pub(super) fn give(
        &mut self,
        io: &mut Io<'_>,
        transaction: &mut Transaction,
        copies: &Copies<'_>,
        taker: Taker,
    ) -> Answer {
        let Taker { session, qos, group, copy } = taker;
        let qos = qos.min(copies.qos.as_u8());
        if qos == 0 {
            let handed = self.hand_at_most_once(io, session, copies.content, copy, copies.own);
            return if handed { Answer::Taken } else { Answer::Nobody };
        }
        let options = Options { qos, retain: copy.retain, subscription_ids: &copy.ids, group };
        match self.broker.sessions.deliver(transaction, session, copies.kept, options) {
            Delivered::Taken => Answer::Taken,
            Delivered::Full => Answer::Full,
            Delivered::Gone => Answer::Nobody,
        }
    }

    /// Sends the message to the other shards that have subscribers, or all if it is retained. How many will answer.
    fn send_to_shards(
        &mut self,
        transaction: &mut Transaction,
        sent: &Sent<'_>,
        members: &[Pick],
    ) -> Sending {
        let mut sending = Sending::default();
        let mut parcel_bytes = std::mem::take(&mut self.broker.scratch.parcel);
        let retaining =
            (sent.version != 0).then(|| owner(&[sent.tenant, sent.topic], self.outbox.shards()));
        for shard in (0..self.outbox.shards()).map(ShardIndex).filter(|shard| *shard != self.index)
        {
            let deliver = self.broker.scratch.shards.contains(&shard);
            if !deliver && sent.version == 0 {
                continue;
            }
            let must_arrive = deliver || retaining == Some(shard);
            let forwarded = sent.forwarded && must_arrive;
            let parcel = Parcel {
                publisher: sent.publisher.map(|(session, ..)| link_of(self.index, session)),
                retain_version: sent.version,
                // By the time it is there somebody may have subscribed, and found nothing retained yet.
                deliver: deliver || forwarded,
                ..Parcel::new(self.broker.boot, sent.frame)
            };
            let picks = members.iter().filter(|member| member.link.shard == shard);
            parcel.write(picks, &mut parcel_bytes);
            self.metrics.cross_shard_sent.add(1);
            if forwarded {
                let bytes = Bytes::copy_from_slice(&parcel_bytes);
                self.broker.sessions.forward(transaction, shard.0, &bytes);
                continue;
            }
            let asks = sent.qos != QoS::AtMostOnce && must_arrive;
            let receipt = match (asks, sent.publisher) {
                (true, Some((_, connection, Some(packet_id)))) => {
                    let receipt = *sending.receipt.get_or_insert_with(|| {
                        self.broker.receipts.begin(connection, packet_id, u16::MAX)
                    });
                    sending.answers += 1;
                    Some(receipt)
                }
                _ => None,
            };
            self.outbox.message(
                shard,
                &parcel_bytes,
                MessageOut { receipt, ..MessageOut::default() },
            );
        }
        self.broker.scratch.parcel = parcel_bytes;
        sending
    }

    fn answer_publisher(
        &mut self,
        publisher: Option<(SessionKey, Key, Option<u16>)>,
        ticket: Option<u64>,
        sending: Sending,
        (reason, here): (ReasonCode, Answer),
    ) -> Routed {
        let Some((_, connection, Some(packet_id))) = publisher else {
            return Routed::Done(reason);
        };
        let log = &mut self.broker.log.stored;
        match (ticket, sending.receipt) {
            (None, None) => return Routed::Done(reason),
            (Some(ticket), None) => {
                log.wait(Ticket(ticket), Waiter::Mqtt { connection, packet_id });
            }
            (ticket, Some(receipt)) => {
                let answers = sending.answers + u16::from(ticket.is_some());
                self.broker.receipts.expect(receipt, answers, here);
                if let Some(ticket) = ticket {
                    log.wait(Ticket(ticket), Waiter::Receipt { receipt });
                }
            }
        }
        Routed::Waiting
    }
}

/// A message of which sessions of this shard get copies.
pub(super) struct Copies<'a> {
    /// For those who get it at QoS 1 or 2.
    pub kept: &'a Arc<Message>,
    /// For those who get it at QoS 0.
    pub content: &'a Content<'a>,
    pub qos: QoS,
    /// The connection whose packet is being handled.
    pub own: Option<Key>,
}

/// A session that gets a copy.
pub(super) struct Taker {
    pub session: SessionKey,
    /// Highest quality of service it asked for.
    pub qos: u8,
    /// The shared subscription it gets it for.
    pub group: Option<NonZeroU32>,
    pub copy: SelfCopy,
}

/// A message for other shards.
struct Sent<'a> {
    tenant: &'a Arc<str>,
    publisher: Option<(SessionKey, Key, Option<u16>)>,
    qos: QoS,
    frame: &'a Bytes,
    version: u64,
    topic: &'a str,
    forwarded: bool,
}

/// What was sent to other shards.
#[derive(Default)]
struct Sending {
    receipt: Option<u32>,
    answers: u16,
}
