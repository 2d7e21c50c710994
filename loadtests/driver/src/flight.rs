//! What a publisher has in flight, and what became of it.
//!
//! A message is in flight until its acknowledgement came (QoS 1 and 2) and, where the loop is closed,
//! each of its deliveries. Slots are kept in the order of sending, so sequence numbers and packet
//! identifiers lead to them without a table.

use std::collections::VecDeque;

/// Packet identifiers are 1 to 65535; used in rotation, they stay unique as long as no more messages
/// than that lie between the oldest unfinished one and the newest.
const PACKET_IDS: u64 = 65_535;

/// The messages of one publisher that are not done.
#[derive(Debug)]
pub struct Flight {
    /// Sequence of the first slot.
    base: u64,
    slots: VecDeque<Slot>,
    unfinished: u64,
    copies: u32,
    is_acknowledged: bool,
}

#[derive(Debug, Clone, Copy)]
struct Slot {
    due_ns: u64,
    sent_ns: u64,
    copies_left: u32,
    acknowledgement: Acknowledgement,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Acknowledgement {
    Expected,
    /// QoS 2: PUBREC came.
    Released,
    Done,
}

impl Slot {
    fn is_done(&self) -> bool {
        self.copies_left == 0 && self.acknowledgement == Acknowledgement::Done
    }
}

impl Flight {
    /// Each message has `copies` deliveries to wait for, and an acknowledgement if `is_acknowledged`.
    pub fn new(copies: u32, is_acknowledged: bool) -> Self {
        Self { base: 0, slots: VecDeque::new(), unfinished: 0, copies, is_acknowledged }
    }

    /// Messages in flight.
    pub fn unfinished(&self) -> u64 {
        self.unfinished
    }

    /// Messages whose acknowledgement has not come.
    pub fn unacknowledged(&self) -> u64 {
        let waits = |slot: &&Slot| slot.acknowledgement != Acknowledgement::Done;
        self.slots.iter().filter(waits).count() as u64
    }

    /// How many have been sent.
    pub fn sent(&self) -> u64 {
        self.base + self.slots.len() as u64
    }

    /// Whether a packet identifier is free for one more.
    pub fn has_identifier(&self) -> bool {
        (self.slots.len() as u64) < PACKET_IDS
    }

    /// Sends one: its sequence and its packet identifier.
    pub fn send(&mut self, due_ns: u64, now_ns: u64) -> (u64, u16) {
        let sequence = self.sent();
        let acknowledgement = match self.is_acknowledged {
            true => Acknowledgement::Expected,
            false => Acknowledgement::Done,
        };
        let slot = Slot { due_ns, sent_ns: now_ns, copies_left: self.copies, acknowledgement };
        if slot.is_done() {
            self.slots.clear();
            self.base = sequence + 1;
        } else {
            self.slots.push_back(slot);
            self.unfinished += 1;
        }
        (sequence, (sequence % PACKET_IDS) as u16 + 1)
    }

    /// One delivery of message `sequence` came, or will not come any more. Whether this was the last
    /// thing it waited for.
    pub fn delivered(&mut self, sequence: u64) -> bool {
        let Some(slot) = self.slot(sequence) else { return false };
        if slot.copies_left == 0 {
            return false;
        }
        slot.copies_left -= 1;
        self.finish_if_done(sequence)
    }

    /// The message with this packet identifier is acknowledged for good (PUBACK, PUBCOMP): when it
    /// was due, and whether this was the last thing it waited for. `None`: no such message.
    pub fn acknowledged(&mut self, packet_id: u16) -> Option<(u64, bool)> {
        let sequence = self.sequence_of(packet_id)?;
        let slot = self.slot(sequence)?;
        if slot.acknowledgement == Acknowledgement::Done {
            return None;
        }
        slot.acknowledgement = Acknowledgement::Done;
        let due_ns = slot.due_ns;
        Some((due_ns, self.finish_if_done(sequence)))
    }

    /// PUBREC came for this packet identifier; `false`: out of place.
    pub fn received(&mut self, packet_id: u16) -> bool {
        let Some(sequence) = self.sequence_of(packet_id) else { return false };
        match self.slot(sequence) {
            Some(slot) if slot.acknowledgement == Acknowledgement::Expected => {
                slot.acknowledgement = Acknowledgement::Released;
                true
            }
            _ => false,
        }
    }

    /// Gives up on deliveries of messages sent before `before_ns`; returns how many messages that
    /// finished.
    pub fn write_off(&mut self, before_ns: u64) -> u64 {
        let unfinished = self.unfinished;
        for at in 0..self.slots.len() {
            let slot = &mut self.slots[at];
            if slot.sent_ns >= before_ns {
                break;
            }
            if slot.copies_left > 0 && slot.acknowledgement == Acknowledgement::Done {
                slot.copies_left = 0;
                self.unfinished -= 1;
            }
        }
        self.drop_done();
        unfinished - self.unfinished
    }

    fn slot(&mut self, sequence: u64) -> Option<&mut Slot> {
        let at = sequence.checked_sub(self.base)?;
        self.slots.get_mut(usize::try_from(at).ok()?)
    }

    fn sequence_of(&self, packet_id: u16) -> Option<u64> {
        let rest = u64::from(packet_id.checked_sub(1)?);
        let ahead = (rest + PACKET_IDS - self.base % PACKET_IDS) % PACKET_IDS;
        Some(self.base + ahead)
    }

    fn finish_if_done(&mut self, sequence: u64) -> bool {
        if !self.slot(sequence).is_some_and(|slot| slot.is_done()) {
            return false;
        }
        self.unfinished -= 1;
        self.drop_done();
        true
    }

    fn drop_done(&mut self) {
        while self.slots.front().is_some_and(Slot::is_done) {
            self.slots.pop_front();
            self.base += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_done_after_its_last_delivery_and_its_acknowledgement() {
        let mut flight = Flight::new(2, true);
        assert_eq!(flight.send(5, 6), (0, 1));
        assert!(!flight.delivered(0));
        assert_eq!(flight.acknowledged(1), Some((5, false)));
        assert!(flight.delivered(0));
        assert_eq!((flight.unfinished(), flight.sent()), (0, 1));
        assert!(!flight.delivered(0), "a delivery too many finishes nothing");
        assert_eq!(flight.acknowledged(1), None, "nor does a second acknowledgement");
    }

    #[test]
    fn acknowledgements_may_come_in_any_order() {
        let mut flight = Flight::new(0, true);
        let ids: Vec<u16> = (0..3).map(|at| flight.send(at, at).1).collect();
        assert_eq!(ids, [1, 2, 3]);
        assert_eq!(flight.acknowledged(2), Some((1, true)));
        assert_eq!(flight.unfinished(), 2);
        assert_eq!(flight.acknowledged(1), Some((0, true)));
        assert_eq!(flight.acknowledged(3), Some((2, true)));
        assert_eq!(flight.send(9, 9), (3, 4));
    }

    #[test]
    fn identifiers_come_round_and_still_lead_to_their_message() {
        let mut flight = Flight::new(0, true);
        for sequence in 0..3 * PACKET_IDS {
            let (sent, id) = flight.send(sequence, 0);
            assert_eq!(sent, sequence);
            assert_ne!(id, 0);
            assert_eq!(flight.acknowledged(id), Some((sequence, true)));
        }
    }

    #[test]
    fn no_more_than_all_identifiers_are_in_flight() {
        let mut flight = Flight::new(0, true);
        let mut ids = std::collections::HashSet::new();
        while flight.has_identifier() {
            assert!(ids.insert(flight.send(0, 0).1));
        }
        assert_eq!(ids.len() as u64, PACKET_IDS);
        assert!(!ids.contains(&0));
    }

    #[test]
    fn an_identifier_that_was_never_used_is_not_ours() {
        let mut flight = Flight::new(0, true);
        flight.send(0, 0);
        assert_eq!(flight.acknowledged(0), None);
        assert_eq!(flight.acknowledged(2), None);
        assert!(!flight.received(2));
        assert_eq!(flight.unfinished(), 1);
    }

    #[test]
    fn a_qos_2_message_is_released_once() {
        let mut flight = Flight::new(0, true);
        let (_, id) = flight.send(0, 0);
        assert!(flight.received(id));
        assert!(!flight.received(id));
        assert_eq!(flight.acknowledged(id), Some((0, true)));
    }

    #[test]
    fn only_old_deliveries_are_written_off_and_acknowledgements_never() {
        let mut flight = Flight::new(1, false);
        flight.send(0, 10);
        flight.send(0, 20);
        assert_eq!(flight.write_off(15), 1);
        assert_eq!(flight.unfinished(), 1);
        assert!(!flight.delivered(0), "what was written off finishes nothing later");
        assert!(flight.delivered(1));

        let mut flight = Flight::new(0, true);
        flight.send(0, 10);
        assert_eq!(flight.write_off(100), 0);
        assert_eq!(flight.unfinished(), 1);
    }

    #[test]
    fn a_message_that_waits_for_nothing_is_never_in_flight() {
        let mut flight = Flight::new(0, false);
        assert_eq!(flight.send(0, 0).0, 0);
        assert_eq!(flight.send(0, 0).0, 1);
        assert_eq!((flight.unfinished(), flight.sent()), (0, 2));
        assert!(flight.has_identifier());
    }
}
