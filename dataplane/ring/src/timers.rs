//! A hierarchical timer wheel: pure, time is an argument.
//!
//! Seven levels of 64 slots over ticks of one millisecond. An entry sits on the level of the highest six-bit digit in which its
//! tick differs from the current one, so inserting and cancelling are constant time, and each entry moves down at most six
//! times. Invariants: no entry fires early; entries fire in order of deadline, then of insertion; a cancelled entry never fires,
//! not even when it is cancelled by another that was due at the same time.
//!
//! Not here: a clock. Times are nanoseconds since whatever moment the owner chose.

/// One tick.
pub(crate) const TICK_NS: u64 = 1_000_000;

const DIGIT_BITS: usize = 6;
const SLOTS: usize = 1 << DIGIT_BITS;
/// 64^7 ms are 139 years: ticks never leave the top level.
const LEVELS: usize = 7;
const NIL: u32 = u32::MAX;

/// Names one entry, once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct TimerKey {
    index: u32,
    generation: u32,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Free,
    Slot { level: u8, slot: u8 },
    Due,
}

struct Entry<T> {
    payload: T,
    deadline_ns: u64,
    sequence: u64,
    previous: u32,
    next: u32,
    generation: u32,
    place: Place,
}

pub(crate) struct Wheel<T> {
    current_tick: u64,
    entries: Vec<Entry<T>>,
    free: u32,
    heads: [[u32; SLOTS]; LEVELS],
    occupied: [u64; LEVELS],
    /// Fired but not yet taken, latest first.
    due: Vec<TimerKey>,
    sequence: u64,
    pending: usize,
}

impl<T: Copy> Wheel<T> {
    pub(crate) fn new() -> Self {
        Self {
            current_tick: 0,
            entries: Vec::new(),
            free: NIL,
            heads: [[NIL; SLOTS]; LEVELS],
            occupied: [0; LEVELS],
            due: Vec::new(),
            sequence: 0,
            pending: 0,
        }
    }

    /// Entries neither taken nor cancelled.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.pending
    }

    pub(crate) fn insert(&mut self, deadline_ns: u64, payload: T) -> TimerKey {
        self.sequence += 1;
        self.pending += 1;
        let index = self.allocate(payload, deadline_ns);
        self.place(index);
        TimerKey { index, generation: self.entries[index as usize].generation }
    }

    /// Forgets an entry; `false` if it was taken or cancelled before.
    pub(crate) fn cancel(&mut self, key: TimerKey) -> bool {
        match self.entries.get(key.index as usize) {
            Some(entry) if entry.generation == key.generation => match entry.place {
                Place::Free => false,
                Place::Slot { level, slot } => {
                    self.unlink(key.index, usize::from(level), usize::from(slot));
                    self.release(key.index);
                    true
                }
                Place::Due => {
                    self.release(key.index);
                    true
                }
            },
            _ => false,
        }
    }

    /// When [`advance`](Self::advance) should be called next. May be earlier than the first deadline, never later than its tick.
    pub(crate) fn next_ns(&self) -> Option<u64> {
        if !self.due.is_empty() {
            return Some(self.current_tick * TICK_NS);
        }
        self.next_slot().map(|(tick, _, _)| tick.saturating_mul(TICK_NS))
    }

    /// Makes everything up to `now_ns` due, in order.
    pub(crate) fn advance(&mut self, now_ns: u64) {
        let now_tick = now_ns / TICK_NS;
        let due_before = self.due.len();
        while let Some((tick, level, slot)) = self.next_slot() {
            if tick > now_tick {
                break;
            }
            self.current_tick = tick;
            self.open_slot(level, slot);
        }
        self.current_tick = self.current_tick.max(now_tick);
        if self.due.len() > due_before {
            let entries = &self.entries;
            self.due.sort_unstable_by_key(|key| {
                let entry = &entries[key.index as usize];
                std::cmp::Reverse((entry.deadline_ns, entry.sequence))
            });
        }
    }

    /// The next due payload.
    pub(crate) fn take_due(&mut self) -> Option<T> {
        while let Some(key) = self.due.pop() {
            let entry = &self.entries[key.index as usize];
            if entry.generation == key.generation && entry.place == Place::Due {
                let payload = entry.payload;
                self.release(key.index);
                return Some(payload);
            }
        }
        None
    }

    /// Empties one slot: entries of this tick become due, the others move down.
    fn open_slot(&mut self, level: usize, slot: usize) {
        let mut index = std::mem::replace(&mut self.heads[level][slot], NIL);
        self.occupied[level] &= !(1 << slot);
        while index != NIL {
            let next = self.entries[index as usize].next;
            if self.entries[index as usize].tick() <= self.current_tick {
                let entry = &mut self.entries[index as usize];
                entry.place = Place::Due;
                let key = TimerKey { index, generation: entry.generation };
                self.due.push(key);
            } else {
                self.place(index);
            }
            index = next;
        }
    }

    /// The earliest occupied slot: its first tick, level and number. Lower levels lie inside the current slot of higher ones, so
    /// the first occupied level has it.
    fn next_slot(&self) -> Option<(u64, usize, usize)> {
        let level = self.occupied.iter().position(|bits| *bits != 0)?;
        let slot = self.occupied[level].trailing_zeros() as usize;
        let shift = level * DIGIT_BITS;
        let upper = self.current_tick >> (shift + DIGIT_BITS) << (shift + DIGIT_BITS);
        Some((upper | (slot as u64) << shift, level, slot))
    }

    /// Links an entry into the slot its tick belongs to. A deadline not in the future fires at the next tick, so that a timer
    /// set by a timer cannot fire in the same turn.
    fn place(&mut self, index: u32) {
        let tick = self.entries[index as usize].tick().max(self.current_tick + 1);
        let differing = (tick ^ self.current_tick) | (SLOTS as u64 - 1);
        let level = (63 - differing.leading_zeros() as usize) / DIGIT_BITS;
        let level = level.min(LEVELS - 1);
        let slot = (tick >> (level * DIGIT_BITS)) as usize % SLOTS;
        let head = self.heads[level][slot];
        let entry = &mut self.entries[index as usize];
        entry.previous = NIL;
        entry.next = head;
        entry.place = Place::Slot { level: level as u8, slot: slot as u8 };
        if head != NIL {
            self.entries[head as usize].previous = index;
        }
        self.heads[level][slot] = index;
        self.occupied[level] |= 1 << slot;
    }

    fn unlink(&mut self, index: u32, level: usize, slot: usize) {
        let (previous, next) = {
            let entry = &self.entries[index as usize];
            (entry.previous, entry.next)
        };
        if next != NIL {
            self.entries[next as usize].previous = previous;
        }
        if previous != NIL {
            self.entries[previous as usize].next = next;
        } else {
            debug_assert_eq!(self.heads[level][slot], index);
            self.heads[level][slot] = next;
            if next == NIL {
                self.occupied[level] &= !(1 << slot);
            }
        }
    }

    fn allocate(&mut self, payload: T, deadline_ns: u64) -> u32 {
        let sequence = self.sequence;
        if self.free != NIL {
            let index = self.free;
            let entry = &mut self.entries[index as usize];
            debug_assert!(entry.place == Place::Free);
            self.free = entry.next;
            entry.payload = payload;
            entry.deadline_ns = deadline_ns;
            entry.sequence = sequence;
            return index;
        }
        let index = self.entries.len() as u32;
        assert!(index < NIL, "timers are bounded by connections and handler state");
        self.entries.push(Entry {
            payload,
            deadline_ns,
            sequence,
            previous: NIL,
            next: NIL,
            generation: 0,
            place: Place::Free,
        });
        index
    }

    fn release(&mut self, index: u32) {
        let entry = &mut self.entries[index as usize];
        entry.generation = entry.generation.wrapping_add(1);
        entry.place = Place::Free;
        entry.next = self.free;
        self.free = index;
        self.pending -= 1;
    }
}

impl<T> Entry<T> {
    /// The first tick that is not before the deadline.
    fn tick(&self) -> u64 {
        self.deadline_ns.div_ceil(TICK_NS)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn fired(wheel: &mut Wheel<u32>, now_ns: u64) -> Vec<u32> {
        wheel.advance(now_ns);
        std::iter::from_fn(|| wheel.take_due()).collect()
    }

    #[test]
    fn timers_fire_in_order_of_deadline_and_never_early() {
        let mut wheel = Wheel::new();
        wheel.insert(1_200_000, 2);
        wheel.insert(1_100_000, 1);
        wheel.insert(5_000_000_000, 4);
        wheel.insert(70_000_000, 3);
        assert!(fired(&mut wheel, 1_999_999).is_empty());
        assert_eq!(fired(&mut wheel, 2_000_000), [1, 2]);
        assert_eq!(fired(&mut wheel, 70_000_000), [3]);
        assert!(fired(&mut wheel, 4_999_000_000).is_empty());
        assert_eq!(fired(&mut wheel, 5_000_000_000), [4]);
        assert_eq!(wheel.next_ns(), None);
    }

    #[test]
    fn a_timer_cancelled_while_due_does_not_fire() {
        let mut wheel = Wheel::new();
        wheel.insert(1, 1);
        let second = wheel.insert(2, 2);
        wheel.advance(10 * TICK_NS);
        assert_eq!(wheel.take_due(), Some(1));
        assert!(wheel.cancel(second));
        assert!(!wheel.cancel(second));
        assert_eq!(wheel.take_due(), None);
        assert_eq!(wheel.len(), 0);
    }

    #[test]
    fn a_key_does_not_cancel_the_next_timer_in_its_place() {
        let mut wheel = Wheel::new();
        let first = wheel.insert(1, 1);
        assert!(wheel.cancel(first));
        wheel.insert(1, 2);
        assert!(!wheel.cancel(first));
        assert_eq!(fired(&mut wheel, TICK_NS), [2]);
    }

    #[derive(Clone, Debug)]
    enum Step {
        Insert(u64),
        Cancel(usize),
        Advance(u64),
        AdvanceToNext,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let delay = prop_oneof![
            0..3 * TICK_NS,
            0..200 * TICK_NS,
            0..100_000 * TICK_NS,
            0..400_000_000_000 * TICK_NS / 1000,
        ];
        let step = prop_oneof![
            4 => delay.clone().prop_map(Step::Insert),
            1 => any::<usize>().prop_map(Step::Cancel),
            2 => delay.prop_map(Step::Advance),
            1 => Just(Step::AdvanceToNext),
        ];
        proptest::collection::vec(step, 1..200)
    }

    proptest! {
        #[test]
        fn the_wheel_fires_what_a_sorted_map_would(steps in steps()) {
            let mut wheel = Wheel::new();
            let mut model: BTreeMap<(u64, u32), TimerKey> = BTreeMap::new();
            let (mut now, mut number) = (0u64, 0u32);
            for step in steps {
                let to = match step {
                    Step::Insert(delay) => {
                        number += 1;
                        model.insert((now + delay, number), wheel.insert(now + delay, number));
                        continue;
                    }
                    Step::Cancel(which) => {
                        if let Some(at) = model.keys().nth(which % model.len().max(1)).copied() {
                            let key = model.remove(&at).unwrap();
                            prop_assert!(wheel.cancel(key));
                        }
                        continue;
                    }
                    Step::Advance(by) => now + by,
                    Step::AdvanceToNext => wheel.next_ns().unwrap_or(now).max(now),
                };
                let before_tick = now / TICK_NS;
                now = to;
                let expected: Vec<u32> = model
                    .keys()
                    .filter(|(deadline, _)| {
                        // A deadline inside the tick that had already begun fires with the next one.
                        deadline.div_ceil(TICK_NS).max(before_tick + 1) <= now / TICK_NS
                            || deadline.div_ceil(TICK_NS) <= before_tick && before_tick < now / TICK_NS
                    })
                    .map(|(_, number)| *number)
                    .collect();
                let actual = fired(&mut wheel, now);
                prop_assert_eq!(&actual, &expected);
                model.retain(|(_, number), _| !expected.contains(number));
                prop_assert_eq!(wheel.len(), model.len());
                prop_assert_eq!(wheel.next_ns().is_none(), model.is_empty());
                if let (Some(next), Some(((deadline, _), _))) = (wheel.next_ns(), model.first_key_value()) {
                    prop_assert!(next <= (deadline.div_ceil(TICK_NS).max(now / TICK_NS + 1)) * TICK_NS);
                    prop_assert!(next > now / TICK_NS * TICK_NS);
                }
            }
        }
    }
}
