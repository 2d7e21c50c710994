//! Deliveries whose producer waits for an outcome.
//!
//! A message may go to several consumers. The producer is told once, when all of them have answered or its time is
//! over: *accepted* if any consumer accepted, else *released* (nobody took it; safe to send again).

use crate::limits::DELIVERIES_MAX;
use std::collections::VecDeque;
use std::time::Instant;

/// Names a delivery on the shard that made it; carries a generation.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct DeliveryId {
    slot: u32,
    generation: u32,
}

impl DeliveryId {
    /// The id as one number below 2^48, for threads that only carry it.
    pub fn to_bits(self) -> u64 {
        u64::from(self.generation) << 16 | u64::from(self.slot)
    }

    /// The id from its number.
    pub fn from_bits(bits: u64) -> DeliveryId {
        DeliveryId { slot: bits as u32 & 0xffff, generation: (bits >> 16) as u32 }
    }
}

/// What a producer is told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Settled<P> {
    /// Who is told.
    pub producer: P,
    /// Whether a consumer took the message.
    pub accepted: bool,
}

/// The deliveries of one shard.
pub struct Deliveries<P> {
    slots: Vec<Slot<P>>,
    free: Vec<u32>,
    deadlines: VecDeque<(Instant, DeliveryId)>,
}

struct Slot<P> {
    generation: u32,
    waiting: Option<Waiting<P>>,
}

struct Waiting<P> {
    producer: P,
    consumers: u32,
    accepted: bool,
}

impl<P> Default for Deliveries<P> {
    fn default() -> Self {
        Deliveries { slots: Vec::new(), free: Vec::new(), deadlines: VecDeque::new() }
    }
}

impl<P> Deliveries<P> {
    /// Begins a delivery that waits for `consumers` answers until `deadline`. Deadlines never go back from one call to
    /// the next. `None` when as many deliveries wait as may.
    pub fn begin(&mut self, producer: P, consumers: u32, deadline: Instant) -> Option<DeliveryId> {
        debug_assert!(self.deadlines.back().is_none_or(|(last, _)| *last <= deadline));
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None if self.slots.len() < DELIVERIES_MAX => {
                self.slots.push(Slot { generation: 0, waiting: None });
                self.slots.len() as u32 - 1
            }
            None => return None,
        };
        let entry = &mut self.slots[slot as usize];
        entry.waiting = Some(Waiting { producer, consumers, accepted: false });
        let id = DeliveryId { slot, generation: entry.generation };
        self.deadlines.push_back((deadline, id));
        Some(id)
    }

    /// Takes back an answer that was counted on in [`Deliveries::begin`] but will not come.
    pub fn withdraw(&mut self, id: DeliveryId) -> Option<Settled<P>> {
        self.answer(id, false)
    }

    /// One consumer's answer; the result once it was the last. An answer to a delivery that is over is ignored.
    pub fn answer(&mut self, id: DeliveryId, accepted: bool) -> Option<Settled<P>> {
        let slot = self.slots.get_mut(id.slot as usize)?;
        let waiting = slot.waiting.as_mut().filter(|_| slot.generation == id.generation)?;
        waiting.accepted |= accepted;
        waiting.consumers = waiting.consumers.saturating_sub(1);
        if waiting.consumers > 0 {
            return None;
        }
        self.settle(id)
    }

    /// The next delivery whose time is over at `now`, settled.
    pub fn expire(&mut self, now: Instant) -> Option<Settled<P>> {
        while let Some((deadline, id)) = self.deadlines.front().copied() {
            let live = self.is_waiting(id);
            if live && deadline > now {
                return None;
            }
            self.deadlines.pop_front();
            if live {
                return self.settle(id);
            }
        }
        None
    }

    /// When [`Deliveries::expire`] has something to do next.
    pub fn next_deadline(&mut self) -> Option<Instant> {
        while let Some((deadline, id)) = self.deadlines.front().copied() {
            if self.is_waiting(id) {
                return Some(deadline);
            }
            self.deadlines.pop_front();
        }
        None
    }

    /// Deliveries that wait.
    pub fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn is_waiting(&self, id: DeliveryId) -> bool {
        let slot = &self.slots[id.slot as usize];
        slot.generation == id.generation && slot.waiting.is_some()
    }

    fn settle(&mut self, id: DeliveryId) -> Option<Settled<P>> {
        let slot = &mut self.slots[id.slot as usize];
        let waiting = slot.waiting.take()?;
        slot.generation = slot.generation.wrapping_add(1);
        self.free.push(id.slot);
        if self.free.len() == self.slots.len() {
            self.deadlines.clear();
        }
        Some(Settled { producer: waiting.producer, accepted: waiting.accepted })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn the_producer_is_told_once_and_after_the_last_answer() {
        let now = Instant::now();
        let mut deliveries = Deliveries::default();
        let id = deliveries.begin("p", 2, now).unwrap();
        assert_eq!(deliveries.answer(id, true), None);
        assert_eq!(deliveries.answer(id, false), Some(Settled { producer: "p", accepted: true }));
        assert_eq!(deliveries.answer(id, false), None);
        assert!(deliveries.is_empty());
    }

    #[test]
    fn time_over_means_released_unless_someone_accepted() {
        let start = Instant::now();
        let second = Duration::from_secs(1);
        let mut deliveries = Deliveries::default();
        let none = deliveries.begin(1, 1, start + second).unwrap();
        let some = deliveries.begin(2, 2, start + second).unwrap();
        let answered = deliveries.begin(3, 1, start + second).unwrap();
        deliveries.answer(some, true);
        deliveries.answer(answered, true);
        assert_eq!(deliveries.expire(start), None);
        assert_eq!(deliveries.next_deadline(), Some(start + second));
        assert_eq!(
            deliveries.expire(start + second),
            Some(Settled { producer: 1, accepted: false })
        );
        assert_eq!(
            deliveries.expire(start + second),
            Some(Settled { producer: 2, accepted: true })
        );
        assert_eq!(deliveries.expire(start + second), None);
        assert_eq!(deliveries.answer(none, true), None, "a late answer meets nobody");
        assert_eq!(deliveries.next_deadline(), None);
    }

    #[test]
    fn a_reused_slot_does_not_take_an_old_answer() {
        let now = Instant::now();
        let mut deliveries = Deliveries::default();
        let old = deliveries.begin(1, 1, now).unwrap();
        deliveries.withdraw(old);
        let new = deliveries.begin(2, 1, now).unwrap();
        assert_eq!(deliveries.answer(DeliveryId::from_bits(old.to_bits()), true), None);
        assert!(deliveries.answer(DeliveryId::from_bits(new.to_bits()), true).is_some());
    }

    #[test]
    fn deliveries_are_limited_on_both_sides() {
        let now = Instant::now();
        let mut deliveries = Deliveries::default();
        let ids: Vec<_> =
            (0..DELIVERIES_MAX).map(|n| deliveries.begin(n, 1, now).unwrap()).collect();
        assert_eq!(deliveries.begin(0, 1, now), None);
        deliveries.answer(ids[0], true);
        assert!(deliveries.begin(0, 1, now).is_some());
    }
}
