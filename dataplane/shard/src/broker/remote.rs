//! Messages from other shards: given to the sessions here, and answered when they are on disk.
//!
//! Invariants: messages of one shard are taken in the order they were sent; a journal that is behind leaves them in their
//! lane, whose bytes are bounded; whoever asked for an answer gets exactly one. A forward is confirmed when it and all
//! before it are durable here; one that finds no room is not, and is sent again until it does.

use super::groups::{Members, SENT_ON_HEAD_BYTES};
use super::parcel::Parcel;
use super::publish::Copies;
use super::{Answer, Barrier, more_id_bytes};
use crate::connections::{Hold, Key, Protocol};
use crate::limits::MESSAGES_PER_TURN;
use crate::message::{Batch, Mailbox, MessageOut, PeerMessage};
use crate::mqtt::Content;
use crate::plane::Plane;
use crate::stored::Waiter;
use bytes::Bytes;
use fulcrum_frame::{Frame, Tag};
use fulcrum_journal::Ticket;
use fulcrum_mqtt::QoS;
use fulcrum_ring::Io;
use fulcrum_router::{Matches, ShardIndex, owner};
use fulcrum_sessions::{Log, Message, Origin, Room, Sessions, Transaction};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A batch whose messages could not all be taken: it goes on behind `done`.
struct Unfinished {
    from: ShardIndex,
    batch: Batch,
    done: usize,
}

/// Batches that wait for this shard's session journal.
#[derive(Default)]
pub(crate) struct Arriving {
    /// Whose message came last.
    tenant: Arc<str>,
    unfinished: Option<Unfinished>,
    next: usize,
    /// The forward each shard has to send again before any later one is taken.
    awaited: HashMap<ShardIndex, u64>,
    /// Shards whose journals had no room for a forward, and when it is sent to them again.
    pauses: HashMap<ShardIndex, Instant>,
    /// Answers to barriers that follow forwards: shard, number of the barrier, number of the last forward before it.
    late_answers: Vec<(ShardIndex, u64, u64)>,
}

impl Arriving {
    /// Whether nothing waits for the journal.
    pub(crate) fn is_empty(&self) -> bool {
        self.unfinished.is_none()
    }

    /// Whether forwards to a shard wait for a moment.
    pub(crate) fn has_pauses(&self) -> bool {
        !self.pauses.is_empty()
    }
}

/// What became of a message, for who is to hear of it.
enum Taken {
    /// It is done with once this is durable; the answer if there is nothing to wait for.
    Done(Option<u64>, Answer),
    /// There is no room for it.
    Refused,
    /// It is a forward that comes again.
    TooEarly,
}

/// How long a forward that found no room waits before it is sent again.
const FORWARD_AGAIN: Duration = Duration::from_millis(50);

impl Plane {
    /// Takes the messages of other shards as far as the session journal takes them, and no more than one turn may; whether
    /// more are there to be taken. What comes behind the messages of a batch is handed to `control`.
    pub(crate) fn take_messages(
        &mut self,
        io: &mut Io<'_>,
        mailbox: &Mailbox,
        control: &mut Vec<PeerMessage>,
    ) -> bool {
        let mut left = MESSAGES_PER_TURN;
        if let Some(mut unfinished) = self.broker.arriving.unfinished.take()
            && !self.take_batch(io, &mut unfinished, control, &mut left)
        {
            self.broker.arriving.unfinished = Some(unfinished);
            return left == 0;
        }
        let lanes = &mailbox.message_lanes;
        let mut empty = 0;
        while empty < lanes.len() {
            if left == 0 {
                return true;
            }
            let sender = self.broker.arriving.next % lanes.len();
            self.broker.arriving.next = sender + 1;
            let Some(batch) = lanes[sender].pop() else {
                empty += 1;
                continue;
            };
            empty = 0;
            let mut batch = Unfinished { from: ShardIndex(sender as u16), batch, done: 0 };
            if !self.take_batch(io, &mut batch, control, &mut left) {
                self.broker.arriving.unfinished = Some(batch);
                return left == 0;
            }
        }
        false
    }

    /// Whether all of it is done.
    fn take_batch(
        &mut self,
        io: &mut Io<'_>,
        unfinished: &mut Unfinished,
        control: &mut Vec<PeerMessage>,
        left: &mut usize,
    ) -> bool {
        let Unfinished { from, batch, done } = unfinished;
        for message in &batch.messages[*done..] {
            if *left == 0 {
                return false;
            }
            *left -= 1;
            let bytes = batch.frames.get(message.frame.clone()).unwrap_or_default();
            let Some(taken) = self.take_parcel(io, bytes, message) else { return false };
            self.answer_sender(*from, message, taken);
            *done += 1;
        }
        control.append(&mut batch.control);
        true
    }

    fn answer_sender(&mut self, shard: ShardIndex, message: &MessageOut, taken: Taken) {
        let log = &mut self.broker.log.stored;
        if let Some(receipt) = message.receipt {
            match taken {
                Taken::Done(Some(ticket), _) => {
                    log.wait(Ticket(ticket), Waiter::Remote { shard, receipt });
                }
                Taken::Done(None, answer) => {
                    self.outbox.tell(shard, PeerMessage::Delivered { receipt, answer });
                }
                Taken::Refused | Taken::TooEarly => {
                    let answer = Answer::Refused;
                    self.outbox.tell(shard, PeerMessage::Delivered { receipt, answer });
                }
            }
        }
        let Some((_, number)) = message.forward else { return };
        let log = &mut self.broker.log.stored;
        match taken {
            Taken::Done(Some(ticket), _) => {
                log.wait(Ticket(ticket), Waiter::Forwarded { shard, number });
            }
            // A confirmation speaks for all forwards before it.
            Taken::Done(None, _) if log.wait_behind(Waiter::Forwarded { shard, number }) => {}
            Taken::Done(None, _) => self.outbox.tell(shard, PeerMessage::Forwarded { number }),
            Taken::Refused => {
                self.broker.arriving.awaited.insert(shard, number);
                self.outbox.tell(shard, PeerMessage::NotForwarded { number });
            }
            Taken::TooEarly => {}
        }
    }

    /// Another shard's journal had no room for a forward.
    pub(crate) fn forward_later(&mut self, shard: ShardIndex, number: u64) {
        self.broker.sessions.forward_again(shard.0, number);
        self.broker.arriving.pauses.insert(shard, self.now + FORWARD_AGAIN);
    }

    /// Whether a forward has to wait for an earlier one to be sent again.
    fn is_too_early(&mut self, origin: Origin, number: u64) -> bool {
        let awaited = &mut self.broker.arriving.awaited;
        let from = ShardIndex(origin.shard);
        match awaited.get(&from) {
            Some(first) if number > *first => true,
            Some(_) => {
                awaited.remove(&from);
                false
            }
            None => false,
        }
    }

    /// `None`: the journal is behind, nothing has happened.
    fn take_parcel(
        &mut self,
        io: &mut Io<'_>,
        bytes: &[u8],
        message: &MessageOut,
    ) -> Option<Taken> {
        let done = Some(Taken::Done(None, Answer::Nobody));
        // Written by a shard of this node: it is whole.
        let Some(parcel) = Parcel::parse(bytes) else { return done };
        let Ok(frame) = Frame::parse(parcel.frame) else { return done };
        let Some(content) = Content::of_frame(frame, self.now_ms) else { return done };
        let known = message
            .forward
            .is_some_and(|(origin, number)| !self.broker.sessions.is_new_from(origin, number));
        if known {
            return done;
        }
        if message.forward.is_some_and(|(origin, number)| self.is_too_early(origin, number)) {
            return Some(Taken::TooEarly);
        }
        let tenant = self.tenant_name(frame.tenant().unwrap_or_default());
        let mut matches = std::mem::take(&mut self.broker.scratch.matches);
        matches.targets.clear();
        if parcel.deliver {
            self.broker.topics.matches(&tenant, content.topic, parcel.publisher, &mut matches);
        }
        let members = self.members_of(&tenant, &content, frame.qos(), &parcel);
        let taken =
            match self.arrival_room(
                frame,
                &content,
                &parcel,
                &matches,
                &members,
                message.forward.is_some(),
            ) {
                Room::Later => None,
                Room::Here => Some(self.take_content(
                    io, &tenant, &content, frame, &parcel, message, &matches, &members,
                )),
                Room::Full | Room::Failed => {
                    self.metrics.messages_refused_full.add(1);
                    Some(Taken::Refused)
                }
            };
        self.broker.scratch.matches = matches;
        taken
    }

    #[expect(clippy::too_many_arguments, reason = "what was found out about one message")]
    fn take_content(
        &mut self,
        io: &mut Io<'_>,
        tenant: &Arc<str>,
        content: &Content<'_>,
        frame: Frame<'_>,
        parcel: &Parcel<'_>,
        message: &MessageOut,
        matches: &Matches,
        members: &Members,
    ) -> Taken {
        let qos = QoS::from_u8(frame.qos()).unwrap_or(QoS::AtMostOnce);
        let bytes = Bytes::copy_from_slice(parcel.frame);
        let expires_at_ms = content.expiry_s.map(|seconds| self.now_ms + u64::from(seconds) * 1000);
        let kept = Arc::new(Message::new(bytes.clone(), expires_at_ms));
        let mut transaction = self.broker.sessions.begin(tenant);
        let copies = Copies { kept: &kept, content, qos, own: None };
        let given = self.give_all(io, &mut transaction, &copies, matches, &members.here);
        let answer = match self.send_on(&mut transaction, parcel.frame, &members.elsewhere) {
            0 => given,
            _ => Answer::Taken,
        };
        let answer = if parcel.retain_version != 0 { Answer::Taken } else { answer };
        if parcel.retain_version != 0 {
            let version = parcel.retain_version;
            self.follow_retained(&mut transaction, content, &bytes, version, expires_at_ms);
            if parcel.boot != self.broker.boot {
                // It is from before a crash: its publisher's shard, and those it was not forwarded to, no longer have it.
                self.announce_retained(tenant, content, &bytes, version, expires_at_ms);
            }
        }
        if let Some((origin, number)) = message.forward {
            self.broker.sessions.note_from(&mut transaction, origin, number);
        }
        self.commit_arrival(transaction, answer)
    }

    fn commit_arrival(&mut self, transaction: Transaction, answer: Answer) -> Taken {
        let broker = &mut self.broker;
        match broker.sessions.commit(&mut broker.log, transaction) {
            Ok(ticket) => Taken::Done(ticket, answer),
            Err(room) => {
                tracing::error!(?room, "a message of another shard could not be recorded");
                Taken::Refused
            }
        }
    }

    /// Whether the journal has room for what of a message is stored here; what is not does not wait for it.
    fn arrival_room(
        &self,
        frame: Frame<'_>,
        content: &Content<'_>,
        parcel: &Parcel<'_>,
        matches: &Matches,
        members: &Members,
        is_forward: bool,
    ) -> Room {
        let targets = match frame.qos() {
            0 => 0,
            _ => self.durable_takers(matches, &members.here),
        };
        let tenant = frame.tenant().unwrap_or_default();
        let topic = frame.text(Tag::OriginAddress).unwrap_or_default();
        let is_kept = parcel.retain_version != 0
            && owner(&[tenant, topic], self.outbox.shards()) == self.index;
        let sent_on = members.elsewhere.len();
        if targets == 0 && !is_kept && !is_forward && sent_on == 0 {
            return Room::Here;
        }
        let copies = usize::from(targets > 0) + usize::from(is_kept) + sent_on;
        let heads = sent_on * SENT_ON_HEAD_BYTES;
        let bytes = parcel.frame.len() * copies + heads + more_id_bytes(matches);
        match self.broker.log.room(Sessions::record_bytes(bytes, targets)) {
            Room::Full if targets + sent_on == 0 && self.may_delete(tenant, content) => Room::Here,
            room => room,
        }
    }

    /// The tenant's name, shared: messages of one tenant follow each other.
    fn tenant_name(&mut self, tenant: &str) -> Arc<str> {
        let last = &mut self.broker.arriving.tenant;
        if **last != *tenant {
            *last = tenant.into();
        }
        last.clone()
    }

    /// Sends what is durable here and still to be taken by other shards.
    pub(crate) fn send_forwards(&mut self) {
        let origin = self.broker.sessions.origin();
        let now = self.now;
        self.broker.arriving.pauses.retain(|_, until| *until > now);
        for shard in (0..self.outbox.shards()).map(ShardIndex).filter(|shard| *shard != self.index)
        {
            if self.broker.arriving.pauses.contains_key(&shard) {
                continue;
            }
            while self.outbox.has_message_room(self.settings.message_bytes_max)
                && let Some((number, parcel)) = self.broker.sessions.next_forward(shard.0)
            {
                let message =
                    MessageOut { forward: Some((origin, number)), ..MessageOut::default() };
                self.outbox.message(shard, &parcel, message);
            }
        }
        let super::Broker { sessions, arriving, .. } = &mut self.broker;
        arriving.late_answers.retain(|(shard, number, through)| {
            let first = sessions.unsent_forwards(shard.0).map_or(u64::MAX, |(first, _)| first);
            if first > *through {
                let seen = PeerMessage::BarrierSeen { number: *number };
                self.outbox.tell_behind_messages(*shard, seen);
            }
            first <= *through
        });
    }

    /// Answers a barrier of another shard, behind what it wants to be behind of.
    pub(crate) fn answer_barrier(&mut self, shard: ShardIndex, number: u64, behind_forwards: bool) {
        match self.broker.sessions.unsent_forwards(shard.0) {
            Some((_, last)) if behind_forwards => {
                self.broker.arriving.late_answers.push((shard, number, last));
            }
            _ => self.outbox.tell_behind_messages(shard, PeerMessage::BarrierSeen { number }),
        }
    }

    /// Asks every other shard whether it knows all subscriptions made here so far; whether there is anybody to ask. The
    /// connection waits for one thing then: that all have answered.
    pub(crate) fn raise_barrier(&mut self, connection: Key, behind_forwards: bool) -> bool {
        let missing = self.outbox.shards() - 1;
        if missing == 0 {
            return false;
        }
        let number = self.broker.barriers.back().map_or(1, |barrier| barrier.number + 1);
        self.broker.barriers.push_back(Barrier { connection, number, missing });
        let shard = self.index;
        self.outbox.tell_all(|| PeerMessage::Barrier { shard, number, behind_forwards });
        true
    }

    /// Another shard knows what was asked about; so do all messages it published before.
    pub(crate) fn barrier_seen(&mut self, number: u64) {
        let barriers = &mut self.broker.barriers;
        if let Some(barrier) = barriers.iter_mut().find(|barrier| barrier.number == number) {
            barrier.missing -= 1;
        }
        while let Some(barrier) =
            self.broker.barriers.front().filter(|barrier| barrier.missing == 0)
        {
            let connection = barrier.connection;
            self.broker.barriers.pop_front();
            self.held_less(connection);
        }
    }

    /// One thing less a held connection waits for; it goes on after the last.
    pub(crate) fn held_less(&mut self, key: Key) {
        let Some(connection) = self.connections.by_key(key) else { return };
        let Protocol::Mqtt(session) = &mut connection.protocol else { return };
        session.waits = session.waits.saturating_sub(1);
        if session.waits == 0 {
            self.release(key, Hold::Commit);
        }
    }
}
