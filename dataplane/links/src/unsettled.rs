//! The deliveries of one direction of a session that wait for settlement, by number.
//!
//! Numbers are given out in order, and settled mostly in order: a queue whose front is the oldest, with gaps where
//! deliveries were settled out of order or on sending. Looking one up costs a binary search.

use std::collections::VecDeque;

use crate::serial;

#[derive(Debug, Default)]
pub(crate) struct Unsettled {
    entries: VecDeque<Entry>,
    live: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry {
    pub number: u32,
    /// Local handle of its link.
    pub handle: u32,
    /// What the caller knows it by.
    pub token: u64,
    is_live: bool,
}

impl Unsettled {
    pub(crate) fn len(&self) -> usize {
        self.live
    }

    /// Adds one whose number is behind all others.
    pub(crate) fn push(&mut self, number: u32, handle: u32, token: u64) {
        debug_assert!(
            self.entries.back().is_none_or(|last| serial::is_before(last.number, number))
        );
        self.entries.push_back(Entry { number, handle, token, is_live: true });
        self.live += 1;
    }

    pub(crate) fn find(&self, number: u32) -> Option<Entry> {
        let entry = *self.entries.get(self.position(number))?;
        (entry.number == number && entry.is_live).then_some(entry)
    }

    /// Takes one out; `None` if it is settled.
    pub(crate) fn remove(&mut self, number: u32) -> Option<Entry> {
        let position = self.position(number);
        let entry = self.entries.get_mut(position)?;
        if entry.number != number || !entry.is_live {
            return None;
        }
        entry.is_live = false;
        let removed = *entry;
        self.live -= 1;
        self.trim();
        Some(removed)
    }

    /// Calls `each` for those from `first` to `last`, in order; takes them out if `settled`. However large the range is,
    /// it costs what is in it.
    pub(crate) fn range(
        &mut self,
        first: u32,
        last: u32,
        settled: bool,
        mut each: impl FnMut(Entry),
    ) {
        let from = self.position(first);
        for entry in self.entries.range_mut(from..) {
            if serial::is_before(last, entry.number) {
                break;
            }
            if entry.is_live {
                each(*entry);
                if settled {
                    entry.is_live = false;
                    self.live -= 1;
                }
            }
        }
        self.trim();
    }

    /// Takes out all of a link that is no more.
    pub(crate) fn remove_link(&mut self, handle: u32, mut each: impl FnMut(Entry)) {
        for entry in self.entries.iter_mut().filter(|one| one.is_live && one.handle == handle) {
            each(*entry);
            entry.is_live = false;
            self.live -= 1;
        }
        self.trim();
    }

    /// All that are left, oldest first.
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = Entry> {
        self.live = 0;
        self.entries.drain(..).filter(|entry| entry.is_live)
    }

    /// Where the first number that is not before this one is.
    fn position(&self, number: u32) -> usize {
        self.entries.partition_point(|entry| serial::is_before(entry.number, number))
    }

    /// Drops what is settled at the front; and all of it where little else is left, so that one delivery that is never
    /// settled does not hold the places of all after it.
    fn trim(&mut self) {
        while self.entries.front().is_some_and(|entry| !entry.is_live) {
            self.entries.pop_front();
        }
        if self.entries.len() > 64 && self.live < self.entries.len() / 4 {
            self.entries.retain(|entry| entry.is_live);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    #[test]
    fn a_delivery_that_is_never_settled_does_not_hold_the_places_of_others() {
        let mut unsettled = Unsettled::default();
        for number in 0..100_000_u32 {
            unsettled.push(number, 0, 0);
            if number > 0 {
                assert!(unsettled.remove(number).is_some());
            }
        }
        assert_eq!(unsettled.len(), 1);
        assert!(unsettled.entries.len() <= 65, "{}", unsettled.entries.len());
        assert!(unsettled.find(0).is_some());
    }

    proptest! {
        #[test]
        fn it_is_a_map_by_number_that_can_wrap_around(
            start in prop_oneof![Just(0_u32), Just(u32::MAX - 40), any::<u32>()],
            steps in prop::collection::vec((0_u8..6, 0_u32..60, 0_u32..20), 1..200),
        ) {
            let mut unsettled = Unsettled::default();
            // By distance from the start, so that order is plain.
            let mut model: BTreeMap<u32, u32> = BTreeMap::new();
            let mut next = 0_u32;
            for (kind, at, length) in steps {
                match kind {
                    0..=2 => {
                        next += 1 + at % 3;
                        unsettled.push(start.wrapping_add(next), at % 4, u64::from(next));
                        model.insert(next, at % 4);
                    }
                    3 => {
                        let removed = unsettled.remove(start.wrapping_add(at));
                        prop_assert_eq!(removed.map(|one| one.token), model.remove(&at).map(|_| u64::from(at)));
                    }
                    4 => {
                        let settled = length % 2 == 0;
                        let mut seen = Vec::new();
                        let last = start.wrapping_add(at + length);
                        unsettled.range(start.wrapping_add(at), last, settled, |one| seen.push(one.token));
                        let expected: Vec<u32> = model.range(at..=at + length).map(|(key, _)| *key).collect();
                        prop_assert_eq!(seen, expected.iter().map(|key| u64::from(*key)).collect::<Vec<_>>());
                        if settled {
                            expected.iter().for_each(|key| { model.remove(key); });
                        }
                    }
                    _ => {
                        let mut count = 0;
                        unsettled.remove_link(at % 4, |_| count += 1);
                        let before = model.len();
                        model.retain(|_, handle| *handle != at % 4);
                        prop_assert_eq!(count, before - model.len());
                    }
                }
                prop_assert_eq!(unsettled.len(), model.len());
            }
            let left: Vec<u64> = unsettled.drain().map(|one| one.token).collect();
            prop_assert_eq!(left, model.keys().map(|key| u64::from(*key)).collect::<Vec<_>>());
        }
    }
}
