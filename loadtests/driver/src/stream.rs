//! Whether what one publisher sends arrives complete, once, and in order.

use std::collections::BTreeSet;

/// Gaps remembered one by one; what is missing beyond that is lost for good, and late if it comes.
const MISSING_MAX: usize = 65_536;

/// The sequence numbers of one publisher, as one receiver sees them.
#[derive(Debug, Default)]
pub struct Stream {
    /// Every higher sequence is still to come.
    next: u64,
    /// Lower ones that have not come.
    missing: BTreeSet<u64>,
    forgotten: u64,
}

/// What an arrival meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Arrival {
    /// The next one.
    InOrder,
    /// Those between have not come; they are missing from now on.
    Skipped(std::ops::Range<u64>),
    /// It had been missing: a later one overtook it.
    Late,
    /// Seen before.
    Repeated,
}

impl Stream {
    /// Message `sequence` arrived.
    pub fn arrived(&mut self, sequence: u64) -> Arrival {
        if sequence == self.next {
            self.next += 1;
            return Arrival::InOrder;
        }
        if sequence < self.next {
            return if self.missing.remove(&sequence) { Arrival::Late } else { Arrival::Repeated };
        }
        let skipped = self.next..sequence;
        self.next = sequence + 1;
        let room = (MISSING_MAX - self.missing.len()) as u64;
        let remembered = skipped.end.min(skipped.start + room);
        self.missing.extend(skipped.start..remembered);
        self.forgotten += skipped.end - remembered;
        Arrival::Skipped(skipped)
    }

    /// How many of the first `sent` messages have not arrived.
    pub fn absent(&self, sent: u64) -> u64 {
        self.missing.len() as u64 + self.forgotten + sent.saturating_sub(self.next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_in_order_leaves_nothing_behind() {
        let mut stream = Stream::default();
        for sequence in 0..5 {
            assert_eq!(stream.arrived(sequence), Arrival::InOrder);
        }
        assert_eq!((stream.absent(5), stream.absent(7)), (0, 2));
    }

    #[test]
    fn a_gap_is_absent_until_it_is_filled_and_then_late() {
        let mut stream = Stream::default();
        assert_eq!(stream.arrived(3), Arrival::Skipped(0..3));
        assert_eq!(stream.absent(4), 3);
        assert_eq!(stream.arrived(1), Arrival::Late);
        assert_eq!(stream.absent(4), 2);
        assert_eq!(stream.arrived(1), Arrival::Repeated);
        assert_eq!(stream.arrived(3), Arrival::Repeated);
        assert_eq!(stream.arrived(4), Arrival::InOrder);
    }

    #[test]
    fn a_gap_of_any_size_takes_bounded_memory_and_is_counted_in_full() {
        let mut stream = Stream::default();
        stream.arrived(u64::MAX / 2);
        assert_eq!(stream.missing.len(), MISSING_MAX);
        assert_eq!(stream.absent(0), u64::MAX / 2);
    }
}
