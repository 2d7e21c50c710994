//! Publishers whose message several shards have to store before they are answered.

use crate::connections::Key;
use slab::Slab;

/// Publishers that wait.
#[derive(Default)]
pub(crate) struct Receipts {
    waiting: Slab<Waiting>,
}

struct Waiting {
    connection: Key,
    packet_id: u16,
    missing: u16,
    refused: bool,
}

/// A publisher all shards have answered for.
pub(crate) struct Settled {
    pub connection: Key,
    pub packet_id: u16,
    /// Whether every shard has the message.
    pub accepted: bool,
}

impl Receipts {
    /// Begins to wait for `missing` answers.
    pub(crate) fn begin(&mut self, connection: Key, packet_id: u16, missing: u16) -> u32 {
        let waiting = Waiting { connection, packet_id, missing, refused: false };
        self.waiting.insert(waiting) as u32
    }

    /// Corrects how many answers there will be, before the first has come.
    pub(crate) fn expect(&mut self, receipt: u32, missing: u16) {
        if let Some(waiting) = self.waiting.get_mut(receipt as usize) {
            waiting.missing = missing;
        }
    }

    /// The message was not published after all: `missing` answers come, and nobody waits for them.
    pub(crate) fn abandon(&mut self, receipt: u32, missing: u16) {
        if let Some(waiting) = self.waiting.get_mut(receipt as usize) {
            (waiting.connection, waiting.missing) = (Key::NOBODY, missing);
        }
    }

    /// One answer; the publisher once it was the last.
    pub(crate) fn answer(&mut self, receipt: u32, accepted: bool) -> Option<Settled> {
        let waiting = self.waiting.get_mut(receipt as usize)?;
        waiting.refused |= !accepted;
        waiting.missing = waiting.missing.saturating_sub(1);
        if waiting.missing > 0 {
            return None;
        }
        let Waiting { connection, packet_id, refused, .. } = self.waiting.remove(receipt as usize);
        Some(Settled { connection, packet_id, accepted: !refused })
    }

    /// Publishers that wait.
    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_to_an_abandoned_message_are_for_nobody_and_take_no_place() {
        let mut receipts = Receipts::default();
        let receipt = receipts.begin(Key(7), 3, u16::MAX);
        receipts.abandon(receipt, 2);
        assert!(receipts.answer(receipt, true).is_none());
        assert_eq!(receipts.answer(receipt, true).unwrap().connection, Key::NOBODY);
        assert_eq!(receipts.len(), 0);
    }

    #[test]
    fn a_publisher_is_answered_once_and_refused_if_any_shard_refuses() {
        let mut receipts = Receipts::default();
        let receipt = receipts.begin(Key(7), 3, 3);
        assert!(receipts.answer(receipt, true).is_none());
        assert!(receipts.answer(receipt, false).is_none());
        let settled = receipts.answer(receipt, true).unwrap();
        assert_eq!((settled.connection, settled.packet_id, settled.accepted), (Key(7), 3, false));
        assert!(receipts.answer(receipt, true).is_none());
        assert_eq!(receipts.len(), 0);
    }
}
