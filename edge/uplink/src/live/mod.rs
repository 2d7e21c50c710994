//! Live telemetry: the uplink as a direct consumer that gives credit.
//!
//! Nothing is buffered on hope. There is credit only while the link is up and the last live batch was answered in time.
//! Each record gets its outcome within a bounded time: accepted when the cloud has stored it, otherwise not taken.
//!
//! The shards' side ([`LiveSender`]) takes no lock and knows no runtime: a bounded queue, two flags and a doorbell.

mod lane;
mod stream;

pub(crate) use lane::run;

use crate::doorbell::Doorbell;
use bytes::Bytes;
use crossbeam::queue::ArrayQueue;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// A queue for at most `records` live records of `bytes` in all, between the shards and the uplink.
pub fn live_channel(records: usize, bytes: usize) -> (LiveSender, LiveReceiver) {
    let shared = Arc::new(Shared {
        queue: ArrayQueue::new(records.max(1)),
        queued_bytes: AtomicUsize::new(0),
        bytes_max: bytes,
        link_up: AtomicBool::new(false),
        lane_open: AtomicBool::new(false),
        doorbell: Doorbell::new(),
    });
    (LiveSender { shared: shared.clone() }, LiveReceiver { shared })
}

struct Shared {
    queue: ArrayQueue<Item>,
    queued_bytes: AtomicUsize,
    bytes_max: usize,
    link_up: AtomicBool,
    lane_open: AtomicBool,
    doorbell: Doorbell,
}

struct Item {
    frame: Bytes,
    ticket: Option<u64>,
}

impl Shared {
    fn has_credit(&self) -> bool {
        self.link_up.load(Ordering::Relaxed) && self.lane_open.load(Ordering::Relaxed)
    }

    fn pop(&self) -> Option<Item> {
        let item = self.queue.pop()?;
        self.queued_bytes.fetch_sub(item.frame.len(), Ordering::Relaxed);
        Some(item)
    }
}

/// The live lane takes no record now: keep it, drop it or answer its producer.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "the uplink has no credit for live telemetry: the link is down, behind, or its queue is full"
)]
pub struct NoCredit;

/// The shards' side of the live lane.
#[derive(Clone)]
pub struct LiveSender {
    shared: Arc<Shared>,
}

impl LiveSender {
    /// Whether a record would be taken now.
    pub fn has_credit(&self) -> bool {
        self.shared.has_credit()
            && !self.shared.queue.is_full()
            && self.shared.queued_bytes.load(Ordering::Relaxed) < self.shared.bytes_max
    }

    /// Hands over one frame. With a ticket, its outcome comes back as [`crate::UplinkEvents::live_outcome`], once, within
    /// the time the settings name; without one, nobody is told.
    ///
    /// # Errors
    /// [`NoCredit`]: the frame was not taken and there will be no outcome.
    pub fn try_send(&self, frame: impl Into<Bytes>, ticket: Option<u64>) -> Result<(), NoCredit> {
        let frame = frame.into();
        if !self.has_credit() {
            return Err(NoCredit);
        }
        let bytes = frame.len();
        self.shared.queued_bytes.fetch_add(bytes, Ordering::Relaxed);
        if self.shared.queue.push(Item { frame, ticket }).is_err() {
            self.shared.queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
            return Err(NoCredit);
        }
        self.shared.doorbell.ring();
        Ok(())
    }
}

/// The uplink's side of the live lane.
pub struct LiveReceiver {
    shared: Arc<Shared>,
}

impl LiveReceiver {
    pub(crate) fn credit(&self) -> Credit {
        Credit { shared: self.shared.clone() }
    }
}

impl Drop for LiveReceiver {
    fn drop(&mut self) {
        self.shared.lane_open.store(false, Ordering::Relaxed);
    }
}

/// Gives and withdraws credit for the link's part.
pub(crate) struct Credit {
    shared: Arc<Shared>,
}

impl Credit {
    pub fn link_up(&self, up: bool) {
        self.shared.link_up.store(up, Ordering::Relaxed);
        // The lane answers what it has when its credit is gone.
        self.shared.doorbell.ring();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open_channel(records: usize, bytes: usize) -> (LiveSender, LiveReceiver) {
        let (sender, receiver) = live_channel(records, bytes);
        receiver.credit().link_up(true);
        receiver.shared.lane_open.store(true, Ordering::Relaxed);
        (sender, receiver)
    }

    #[test]
    fn there_is_no_credit_before_the_link_is_up_and_after_the_uplink_has_gone() {
        let (sender, receiver) = live_channel(4, 1024);
        assert!(!sender.has_credit());
        assert_eq!(sender.try_send(vec![1], None), Err(NoCredit));
        drop(receiver);
        let (sender, receiver) = open_channel(4, 1024);
        assert_eq!(sender.try_send(vec![1], None), Ok(()));
        drop(receiver);
        assert_eq!(sender.try_send(vec![1], None), Err(NoCredit));
    }

    #[test]
    fn the_queue_is_bounded_in_records_and_in_bytes() {
        let (sender, receiver) = open_channel(2, 1024);
        assert!(sender.try_send(vec![1], None).is_ok() && sender.try_send(vec![1], None).is_ok());
        assert!(!sender.has_credit());
        assert_eq!(sender.try_send(vec![1], None), Err(NoCredit));
        assert!(receiver.shared.pop().is_some() && sender.has_credit());

        let (sender, receiver) = open_channel(100, 10);
        assert!(sender.try_send(vec![0; 10], None).is_ok());
        assert_eq!(sender.try_send(vec![0], None), Err(NoCredit));
        assert!(receiver.shared.pop().is_some() && sender.has_credit());
    }
}
