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
    /// The answer so far.
    answer: Answer,
}

/// What a shard says of a message. Of several answers the greatest counts.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Answer {
    /// It is for nobody there.
    Nobody,
    /// The queues of all sessions it is for are full there.
    Full,
    /// Somebody has it, on disk where that is asked for.
    Taken,
    /// The shard has no room for it: not everybody it is for has it.
    Refused,
}

/// A publisher all shards have answered for.
pub(crate) struct Settled {
    pub connection: Key,
    pub packet_id: u16,
    /// What is to be said.
    pub answer: Answer,
}

impl Receipts {
    /// Begins to wait for `missing` answers.
    pub(crate) fn begin(&mut self, connection: Key, packet_id: u16, missing: u16) -> u32 {
        let answer = Answer::Nobody;
        let waiting = Waiting { connection, packet_id, missing, answer };
        self.waiting.insert(waiting) as u32
    }

    /// Corrects how many answers there will be and notes what the publisher's own shard says, before the first has come.
    pub(crate) fn expect(&mut self, receipt: u32, missing: u16, here: Answer) {
        if let Some(waiting) = self.waiting.get_mut(receipt as usize) {
            (waiting.missing, waiting.answer) = (missing, here);
        }
    }

    /// The message was not published after all: `missing` answers come, and nobody waits for them.
    pub(crate) fn abandon(&mut self, receipt: u32, missing: u16) {
        if let Some(waiting) = self.waiting.get_mut(receipt as usize) {
            (waiting.connection, waiting.missing) = (Key::NOBODY, missing);
        }
    }

    /// One answer; the publisher once it was the last.
    pub(crate) fn answer(&mut self, receipt: u32, answer: Answer) -> Option<Settled> {
        let waiting = self.waiting.get_mut(receipt as usize)?;
        waiting.answer = waiting.answer.max(answer);
        waiting.missing = waiting.missing.saturating_sub(1);
        if waiting.missing > 0 {
            return None;
        }
        let Waiting { connection, packet_id, answer, .. } = self.waiting.remove(receipt as usize);
        Some(Settled { connection, packet_id, answer })
    }

    /// Publishers that wait.
    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Answer::{Full, Nobody, Refused, Taken};

    #[test]
    fn answers_to_an_abandoned_message_are_for_nobody_and_take_no_place() {
        let mut receipts = Receipts::default();
        let receipt = receipts.begin(Key(7), 3, u16::MAX);
        receipts.abandon(receipt, 2);
        assert!(receipts.answer(receipt, Taken).is_none());
        assert_eq!(receipts.answer(receipt, Taken).unwrap().connection, Key::NOBODY);
        assert_eq!(receipts.len(), 0);
    }

    #[test]
    fn a_publisher_is_answered_once_and_refused_if_any_shard_refuses() {
        let mut receipts = Receipts::default();
        let receipt = receipts.begin(Key(7), 3, 3);
        assert!(receipts.answer(receipt, Taken).is_none());
        assert!(receipts.answer(receipt, Refused).is_none());
        let settled = receipts.answer(receipt, Taken).unwrap();
        assert_eq!((settled.connection, settled.packet_id), (Key(7), 3));
        assert_eq!(settled.answer, Refused);
        assert!(receipts.answer(receipt, Taken).is_none());
        assert_eq!(receipts.len(), 0);
    }

    #[test]
    fn full_queues_are_told_only_where_nobody_took_the_message() {
        for (here, answers, expected) in [
            (Nobody, [Full, Nobody], Full),
            (Full, [Nobody, Nobody], Full),
            (Full, [Taken, Full], Taken),
            (Taken, [Full, Full], Taken),
            (Nobody, [Nobody, Nobody], Nobody),
        ] {
            let mut receipts = Receipts::default();
            let receipt = receipts.begin(Key(7), 3, u16::MAX);
            receipts.expect(receipt, 2, here);
            assert!(receipts.answer(receipt, answers[0]).is_none());
            assert_eq!(receipts.answer(receipt, answers[1]).unwrap().answer, expected);
        }
    }
}
