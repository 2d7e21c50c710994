//! Stored messages on their way to the shard that owns their device, and the answers on their way back.
//!
//! A device's stored messages are in one journal partition whatever shard its connection is on, so the partition's
//! sequence is the device's order, over reconnects too. The shard with the connection keeps who waits; the owner keeps
//! a number.
//!
//! Invariants: requests of one shard are stored in the order they were sent; an owner whose journal is behind leaves them
//! in their lane, whose bytes are bounded, until it takes them; every request is answered exactly once.

use crate::message::{Batch, Mailbox, PeerMessage, StoreRequest};
use crate::plane::Plane;
use crate::stored::{NotStored, Waiter};
use fulcrum_frame::Frame;
use fulcrum_router::ShardIndex;
use std::collections::HashMap;

/// What this shard has forwarded and not been answered.
#[derive(Default)]
pub(crate) struct Forwarded {
    waiters: HashMap<u64, Waiter>,
    last_id: u64,
}

impl Forwarded {
    /// Messages that wait for their owner's answer.
    pub(crate) fn len(&self) -> usize {
        self.waiters.len()
    }

    /// Who waits for `id`.
    pub(crate) fn answered(&mut self, id: u64) -> Option<Waiter> {
        self.waiters.remove(&id)
    }
}

/// A batch the owner could not store whole: it goes on behind `done` when the journal takes records again.
struct Unfinished {
    from: ShardIndex,
    batch: Batch,
    done: usize,
}

/// The owner's side.
#[derive(Default)]
pub(crate) struct Arriving {
    unfinished: Option<Unfinished>,
    /// The lane that is looked at first: behind the one looked at last, so that a full lane starves no other.
    next: usize,
}

impl Arriving {
    /// Whether nothing waits for the journal.
    pub(crate) fn is_empty(&self) -> bool {
        self.unfinished.is_none()
    }
}

impl Plane {
    /// Sends the frame in [`Plane::frame`] to its owner.
    pub(crate) fn forward(&mut self, owner: ShardIndex, waiter: Waiter) -> Result<(), NotStored> {
        let id = self.forwarded.last_id + 1;
        if !self.outbox.store(owner, id, &self.frame) {
            return Err(NotStored::Later);
        }
        self.forwarded.last_id = id;
        self.forwarded.waiters.insert(id, waiter);
        self.metrics.cross_shard_sent.add(1);
        Ok(())
    }

    /// Stores what other shards have forwarded, as far as the journal takes it.
    pub(crate) fn take_forwarded(&mut self, mailbox: &Mailbox) {
        if let Some(mut unfinished) = self.arriving.unfinished.take()
            && !self.store_batch(&mut unfinished)
        {
            self.arriving.unfinished = Some(unfinished);
            return;
        }
        let lanes = &mailbox.store_lanes;
        let mut empty = 0;
        while empty < lanes.len() {
            let sender = self.arriving.next % lanes.len();
            self.arriving.next = sender + 1;
            let Some(batch) = lanes[sender].pop() else {
                empty += 1;
                continue;
            };
            empty = 0;
            let mut batch = Unfinished { from: ShardIndex(sender as u16), batch, done: 0 };
            if !self.store_batch(&mut batch) {
                self.arriving.unfinished = Some(batch);
                return;
            }
        }
    }

    /// Whether all of it is done.
    fn store_batch(&mut self, unfinished: &mut Unfinished) -> bool {
        let Unfinished { from, batch, done } = unfinished;
        for StoreRequest { id, frame } in &batch.stores[*done..] {
            let waiter = Waiter::Shard { shard: *from, id: *id };
            let stored = match batch.frames.get(frame.clone()).map(Frame::parse) {
                Some(Ok(frame)) => self.stored.append(&frame, waiter),
                _ => Err(NotStored::Invalid),
            };
            match stored {
                Ok(()) => {}
                Err(NotStored::Later) => return false,
                Err(refused) => {
                    self.count_not_stored(refused);
                    self.outbox.tell(*from, PeerMessage::Stored { id: *id, accepted: false });
                }
            }
            *done += 1;
        }
        true
    }

    /// Counts a refusal for the metrics.
    pub(crate) fn count_not_stored(&self, refused: NotStored) {
        match refused {
            NotStored::Full => self.metrics.stored_refused_full.add(1),
            NotStored::Failed => self.metrics.stored_refused_failed.add(1),
            NotStored::Later | NotStored::Invalid => {}
        }
    }
}
