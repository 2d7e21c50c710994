//! Shared subscriptions whose chosen member is gone: another one takes the copy (MQTT 5 section 4.8.2).
//!
//! A member is chosen where the message is published, by a table that follows the sessions of other shards at a distance.
//! So a copy can come to a shard whose session has ended meanwhile, and a session can end with copies its client has not
//! acknowledged. Both find the group again by its tag and go to the member whose turn it is, here or, from this shard's
//! journal, on another shard.
//!
//! Invariants
//! - A copy at QoS 1 or 2 that was acknowledged to its publisher is lost only if nobody is left in the group, if the node
//!   dies between a session's end and the record that gives its copies on, or if there is no room; the last two of which
//!   a member's own queue has as well. What is dropped is counted.
//! - A QoS 2 message that may have reached its member goes to no other [MQTT5-4.8.2-5].

use super::parcel::{HEAD_BYTES, PICK_BYTES, Parcel, Pick};
use super::publish::{Copies, Taker};
use super::{Answer, SelfCopy};
use crate::limits::LEFTOVERS_PER_TURN;
use crate::mqtt::Content;
use crate::plane::Plane;
use bytes::Bytes;
use fulcrum_frame::Frame;
use fulcrum_mqtt::QoS;
use fulcrum_ring::Io;
use fulcrum_sessions::{Log, Room, SessionKey, Sessions, SharedCopy, Transaction};
use std::num::NonZeroU32;
use std::sync::Arc;

/// Most a copy that is sent on takes in the journal besides the message's frame.
pub(super) const SENT_ON_HEAD_BYTES: usize = HEAD_BYTES + PICK_BYTES + 64;

/// Who gets a message's copies for shared subscriptions.
#[derive(Default)]
pub(super) struct Members {
    /// On this shard.
    pub here: Vec<Pick>,
    /// On other shards, in place of members that are gone.
    pub elsewhere: Vec<Pick>,
}

/// A copy whose member's session ended.
pub(super) struct Leftover {
    tenant: Arc<str>,
    copy: SharedCopy,
}

/// What became of a leftover.
enum Passed {
    On,
    /// Nobody is left who could take it, or has room.
    Dropped,
    /// The journal is behind: again in a moment.
    Later,
}

impl Plane {
    /// The members a parcel's sender has chosen, or who takes their place. Choices of an earlier run of the node name
    /// sessions nobody knows any more.
    pub(super) fn members_of(
        &mut self,
        tenant: &str,
        content: &Content<'_>,
        qos: u8,
        parcel: &Parcel<'_>,
    ) -> Members {
        let mut members = Members::default();
        let is_of_this_run = parcel.boot == self.broker.boot;
        for pick in parcel.picks(self.index) {
            if is_of_this_run && self.broker.sessions.contains(SessionKey(pick.link.key)) {
                members.here.push(pick);
                continue;
            }
            if pick.qos.min(qos) == 0 && is_of_this_run {
                self.metrics.messages_dropped_offline.add(1);
                continue;
            }
            match self.next_member(tenant, content.topic, pick.group) {
                Some(other) if other.link.shard == self.index => members.here.push(other),
                Some(other) => members.elsewhere.push(other),
                None => self.metrics.messages_dropped_group_gone.add(1),
            }
        }
        members
    }

    /// The member whose turn it is in the group with this tag, of those the topic matches.
    fn next_member(&mut self, tenant: &str, topic: &str, group: NonZeroU32) -> Option<Pick> {
        let broker = &mut self.broker;
        let mut matches = std::mem::take(&mut broker.scratch.regrouped);
        broker.topics.matches(tenant, topic, None, &mut matches);
        let found = matches.groups.iter().find(|found| found.tag() == group).copied();
        broker.scratch.regrouped = matches;
        let group = found?;
        Some(Pick::new(group, &broker.topics.pick(group)?))
    }

    /// Sends copies to members on other shards, from this shard's journal so that none is lost on the way; how many.
    pub(super) fn send_on(
        &mut self,
        transaction: &mut Transaction,
        frame: &[u8],
        members: &[Pick],
    ) -> usize {
        for member in members {
            let parcel = Parcel { deliver: false, ..Parcel::new(self.broker.boot, frame) };
            let mut bytes = Vec::with_capacity(frame.len() + SENT_ON_HEAD_BYTES);
            parcel.write(std::iter::once(member), &mut bytes);
            let shard = member.link.shard.0;
            self.broker.sessions.forward(transaction, shard, &Bytes::from(bytes));
            self.metrics.cross_shard_sent.add(1);
        }
        members.len()
    }

    /// Takes in what an ended session leaves to its groups.
    pub(super) fn inherit(&mut self, tenant: &Arc<str>, copies: Vec<SharedCopy>) {
        let leftovers = copies.into_iter().map(|copy| Leftover { tenant: tenant.clone(), copy });
        self.broker.leftovers.extend(leftovers);
    }

    /// Gives leftovers to other members, as many as one turn may.
    pub(super) fn give_leftovers(&mut self, io: &mut Io<'_>) {
        for _ in 0..LEFTOVERS_PER_TURN {
            let Some(leftover) = self.broker.leftovers.pop_front() else { return };
            match self.give_leftover(io, &leftover) {
                Passed::On => self.metrics.messages_shared_again.add(1),
                Passed::Dropped => self.metrics.messages_dropped_group_gone.add(1),
                Passed::Later => {
                    self.broker.leftovers.push_front(leftover);
                    return;
                }
            }
        }
    }

    fn give_leftover(&mut self, io: &mut Io<'_>, leftover: &Leftover) -> Passed {
        let Leftover { tenant, copy: SharedCopy { group, message } } = leftover;
        let Ok(frame) = Frame::parse(message.frame()) else { return Passed::Dropped };
        let Some(content) = Content::of_frame(frame, self.now_ms) else { return Passed::Dropped };
        let bytes = message.frame().len() + SENT_ON_HEAD_BYTES;
        match self.broker.log.room(Sessions::record_bytes(bytes, 1)) {
            Room::Here => {}
            Room::Later => return Passed::Later,
            Room::Full | Room::Failed => return Passed::Dropped,
        }
        let Some(member) = self.next_member(tenant, content.topic, *group) else {
            return Passed::Dropped;
        };
        let mut transaction = self.broker.sessions.begin(tenant);
        let answer = if member.link.shard == self.index {
            let id = Some(member.subscription_id).filter(|id| *id != 0);
            let retain = content.retain && member.retain_as_published;
            let copy = SelfCopy::new(retain, id.as_slice());
            let session = SessionKey(member.link.key);
            let taker = Taker { session, qos: member.qos, group: Some(member.group), copy };
            let qos = QoS::from_u8(frame.qos()).unwrap_or(QoS::AtLeastOnce);
            self.broker.scratch.encoded.clear();
            let copies = Copies { kept: message, content: &content, qos, own: None };
            self.give(io, &mut transaction, &copies, taker)
        } else {
            self.send_on(&mut transaction, message.frame(), &[member]);
            Answer::Taken
        };
        let broker = &mut self.broker;
        match broker.sessions.commit(&mut broker.log, transaction) {
            Ok(_) if answer == Answer::Taken => Passed::On,
            Ok(_) => Passed::Dropped,
            Err(room) => {
                tracing::error!(?room, "a message a session left to its group is lost");
                Passed::Dropped
            }
        }
    }
}
