//! What goes to the other shards at the end of this turn.
//!
//! Invariants: control messages to one shard arrive in order and are never lost; a delivery is taken only while the lane has
//! room for its bytes, otherwise the caller learns at once that the target has no credit.

use crate::limits::{LANE_BYTES_MAX, OUTBOX_CONTROL_MAX};
use crate::message::{Batch, Delivery, Lane, Mailbox, MessageOut, PeerMessage, StoreRequest};
use fulcrum_ring::{Doorbell, Io};
use fulcrum_router::{DeliveryId, ShardIndex, Target};
use std::sync::Arc;

/// Another shard as this one sees it.
pub struct Peer {
    /// Where its messages go.
    pub mailbox: Arc<Mailbox>,
    /// How it is woken.
    pub doorbell: Doorbell,
}

pub(crate) struct Outbox {
    own: ShardIndex,
    peers: Vec<Option<Peer>>,
    batches: Vec<Batch>,
    stores: Vec<Batch>,
    messages: Vec<Batch>,
    congested: bool,
}

impl Outbox {
    pub(crate) fn new(own: ShardIndex, peers: Vec<Option<Peer>>) -> Outbox {
        let empty = || peers.iter().map(|_| Batch::default()).collect();
        let (batches, stores, messages) = (empty(), empty(), empty());
        Outbox { own, peers, batches, stores, messages, congested: false }
    }

    /// Number of shards of the node.
    pub(crate) fn shards(&self) -> u16 {
        self.peers.len() as u16
    }

    /// Sends a control message to one other shard.
    pub(crate) fn tell(&mut self, shard: ShardIndex, message: PeerMessage) {
        debug_assert!(shard != self.own, "a shard does not write to itself");
        if let Some(batch) = self.batches.get_mut(usize::from(shard.0)) {
            batch.control.push(message);
            self.congested |= batch.control.len() > OUTBOX_CONTROL_MAX;
        }
    }

    /// Sends a control message to every other shard.
    pub(crate) fn tell_all(&mut self, message: impl Fn() -> PeerMessage) {
        for shard in 0..self.shards() {
            if shard != self.own.0 {
                self.tell(ShardIndex(shard), message());
            }
        }
    }

    /// Whether nothing waits to be handed over.
    pub(crate) fn is_empty(&self) -> bool {
        [&self.batches, &self.stores, &self.messages].into_iter().flatten().all(Batch::is_empty)
    }

    /// Whether so many control messages wait that nothing is read that could make more.
    pub(crate) fn is_congested(&self) -> bool {
        self.congested
    }

    /// Gives `frame` to a link on another shard; false when the lane has no room.
    pub(crate) fn deliver(&mut self, target: Target, id: Option<DeliveryId>, frame: &[u8]) -> bool {
        let shard = usize::from(target.link.shard.0);
        let (Some(Some(peer)), Some(batch)) = (self.peers.get(shard), self.batches.get_mut(shard))
        else {
            return false;
        };
        let queued = peer.mailbox.lane_from(self.own).bytes() + batch.frames.len();
        if queued + frame.len() > LANE_BYTES_MAX {
            return false;
        }
        let start = batch.frames.len();
        batch.frames.extend_from_slice(frame);
        let frame = start..batch.frames.len();
        batch.deliveries.push(Delivery { link: target.link, qos: target.qos, id, frame });
        true
    }

    /// Gives `frame` to the shard that stores it, to be answered under `id`; false when the lane has no room.
    pub(crate) fn store(&mut self, shard: ShardIndex, id: u64, frame: &[u8]) -> bool {
        let index = usize::from(shard.0);
        let (Some(Some(peer)), Some(batch)) = (self.peers.get(index), self.stores.get_mut(index))
        else {
            return false;
        };
        let queued = peer.mailbox.store_lane_from(self.own).bytes() + batch.frames.len();
        if queued + frame.len() > LANE_BYTES_MAX {
            return false;
        }
        let start = batch.frames.len();
        batch.frames.extend_from_slice(frame);
        batch.stores.push(StoreRequest { id, frame: start..batch.frames.len() });
        true
    }

    /// Whether a message of so many bytes would find room in the lanes to all other shards.
    pub(crate) fn has_message_room(&self, bytes: usize) -> bool {
        self.peers.iter().zip(&self.messages).all(|(peer, batch)| match peer {
            None => true,
            Some(peer) => {
                let queued = peer.mailbox.message_lane_from(self.own).bytes() + batch.frames.len();
                queued + bytes <= LANE_BYTES_MAX
            }
        })
    }

    /// Sends a message between clients. The caller has looked for room.
    pub(crate) fn message(&mut self, shard: ShardIndex, parcel: &[u8], message: MessageOut) {
        let Some(batch) = self.messages.get_mut(usize::from(shard.0)) else { return };
        let start = batch.frames.len();
        batch.frames.extend_from_slice(parcel);
        batch.messages.push(MessageOut { frame: start..batch.frames.len(), ..message });
    }

    /// Sends a control message that arrives behind all messages sent so far.
    pub(crate) fn tell_behind_messages(&mut self, shard: ShardIndex, message: PeerMessage) {
        if let Some(batch) = self.messages.get_mut(usize::from(shard.0)) {
            batch.control.push(message);
        }
    }

    /// Hands the turn's batches over and rings; what finds no room waits for the next turn. Whether all is gone.
    pub(crate) fn flush(&mut self, io: &mut Io<'_>) -> bool {
        let mut all = true;
        let slots = self.batches.iter_mut().zip(&mut self.stores).zip(&mut self.messages);
        for (peer, ((batch, stores), messages)) in self.peers.iter().zip(slots) {
            let Some(peer) = peer else { continue };
            let told = hand_over(peer.mailbox.lane_from(self.own), batch);
            let stored = hand_over(peer.mailbox.store_lane_from(self.own), stores);
            let sent = hand_over(peer.mailbox.message_lane_from(self.own), messages);
            let all_three = [told, stored, sent];
            if all_three.contains(&Handover::Done) {
                io.ring_doorbell(&peer.doorbell);
            }
            all &= !all_three.contains(&Handover::Full);
        }
        self.congested = self.batches.iter().any(|batch| batch.control.len() > OUTBOX_CONTROL_MAX);
        all
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Handover {
    Nothing,
    Done,
    Full,
}

fn hand_over(lane: &Lane, slot: &mut Batch) -> Handover {
    if slot.is_empty() {
        return Handover::Nothing;
    }
    match lane.push(std::mem::take(slot)) {
        Ok(()) => Handover::Done,
        Err(batch) => {
            *slot = batch;
            Handover::Full
        }
    }
}
