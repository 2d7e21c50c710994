//! What the subscribers of one thread have received: whether each delivery is new, repeated or out of
//! order, and what is absent in the end.

use crate::plan::Plan;
use crate::settings::Pattern;
use crate::stream::{Arrival, Stream};
use std::ops::Range;

/// The subscribers of one thread.
pub struct Receivers {
    layout: Layout,
    streams: Vec<Stream>,
    /// Shared subscriptions: one behind the highest sequence each member has of each publisher.
    heights: Vec<u64>,
    publishers: usize,
    arrived: u64,
}

#[derive(Clone, Copy)]
enum Layout {
    /// Stream s is that of publisher `s * threads + thread`.
    Pairs { threads: usize, thread: usize },
    /// Stream `s * publishers + p`.
    Each,
    /// Stream p, whoever of the members receives it.
    Shared,
}

/// What a delivery meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Meaning {
    /// Seen for the first time.
    Counted {
        /// A later one of the same publisher came before it.
        is_reordered: bool,
        /// Earlier ones nobody should wait for any more.
        given_up: Range<u64>,
    },
    /// Seen before.
    Repeated,
    /// Not for this subscriber.
    Foreign,
}

impl Receivers {
    /// The subscribers of thread `thread`; nothing received.
    pub fn new(plan: &Plan, thread: usize) -> Self {
        let threads = plan.threads;
        let local = (plan.subscribers + threads - 1 - thread) / threads;
        let (layout, streams, heights) = match plan.pattern {
            Pattern::Pairs => (Layout::Pairs { threads, thread }, local, 0),
            Pattern::Shared => (Layout::Shared, plan.publishers, local * plan.publishers),
            _ => (Layout::Each, local * plan.publishers, 0),
        };
        Self {
            layout,
            streams: (0..streams).map(|_| Stream::default()).collect(),
            heights: vec![0; heights],
            publishers: plan.publishers,
            arrived: 0,
        }
    }

    /// Subscriber `index` has message `sequence` of `publisher`.
    pub fn delivered(&mut self, index: usize, publisher: u32, sequence: u64) -> Meaning {
        let publisher = publisher as usize;
        if publisher >= self.publishers {
            return Meaning::Foreign;
        }
        let at = match self.layout {
            Layout::Pairs { threads, thread } => {
                if publisher != index * threads + thread {
                    return Meaning::Foreign;
                }
                index
            }
            Layout::Each => index * self.publishers + publisher,
            Layout::Shared => publisher,
        };
        let arrival = self.streams[at].arrived(sequence);
        if arrival == Arrival::Repeated {
            return Meaning::Repeated;
        }
        self.arrived += 1;
        let nothing = 0..0;
        if let Layout::Shared = self.layout {
            // What one member has not is another's; only within a member is there an order.
            let height = &mut self.heights[index * self.publishers + publisher];
            let is_reordered = sequence < *height;
            *height = (*height).max(sequence + 1);
            return Meaning::Counted { is_reordered, given_up: nothing };
        }
        match arrival {
            Arrival::Skipped(skipped) => {
                Meaning::Counted { is_reordered: false, given_up: skipped }
            }
            Arrival::Late => Meaning::Counted { is_reordered: true, given_up: nothing },
            Arrival::InOrder | Arrival::Repeated => {
                Meaning::Counted { is_reordered: false, given_up: nothing }
            }
        }
    }

    /// Deliveries, each counted once.
    pub fn arrived(&self) -> u64 {
        self.arrived
    }

    /// Deliveries that did not come, given how many messages each publisher has sent.
    pub fn absent(&self, sent: &[u64]) -> u64 {
        let publisher = |at: usize| match self.layout {
            Layout::Pairs { threads, thread } => at * threads + thread,
            Layout::Each => at % self.publishers,
            Layout::Shared => at,
        };
        let sent_by = |at| sent.get(publisher(at)).copied().unwrap_or(0);
        self.streams.iter().enumerate().map(|(at, stream)| stream.absent(sent_by(at))).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn receivers(text: &str, thread: usize) -> Receivers {
        let plan = Plan::new(toml::from_str(text).unwrap());
        Receivers::new(&plan.unwrap_or_else(|error| panic!("{text}: {error}")), thread)
    }

    const COUNTED: Meaning = Meaning::Counted { is_reordered: false, given_up: 0..0 };

    #[test]
    fn a_pair_takes_only_its_own_publisher_also_with_several_threads() {
        let mut second = receivers("pattern = 'pairs'\npublishers = 5\nthreads = 2", 1);
        assert_eq!(second.streams.len(), 2);
        assert_eq!(second.delivered(0, 1, 0), COUNTED);
        assert_eq!(second.delivered(1, 3, 0), COUNTED);
        assert_eq!(second.delivered(0, 0, 0), Meaning::Foreign);
        assert_eq!(second.delivered(0, 9, 0), Meaning::Foreign);
        assert_eq!(second.absent(&[7, 1, 7, 3, 7]), 2);
    }

    #[test]
    fn each_subscriber_of_a_fan_has_its_own_copy_of_each_message() {
        let mut fan = receivers("pattern = 'fan-in'\npublishers = 2\nsubscribers = 2", 0);
        assert_eq!(fan.delivered(0, 1, 0), COUNTED);
        assert_eq!(fan.delivered(1, 1, 0), COUNTED);
        assert_eq!(fan.delivered(1, 1, 0), Meaning::Repeated);
        assert_eq!(fan.absent(&[0, 1]), 0);
        assert_eq!(fan.absent(&[1, 1]), 2);
        assert_eq!(fan.arrived(), 2);
    }

    #[test]
    fn a_gap_is_given_up_and_its_late_filling_is_a_reordering() {
        let mut fan = receivers("pattern = 'fan-out'\nsubscribers = 1", 0);
        let skipped = Meaning::Counted { is_reordered: false, given_up: 0..2 };
        assert_eq!(fan.delivered(0, 0, 2), skipped);
        let late = Meaning::Counted { is_reordered: true, given_up: 0..0 };
        assert_eq!(fan.delivered(0, 0, 1), late);
        assert_eq!(fan.absent(&[3]), 1);
    }

    #[test]
    fn members_of_a_shared_subscription_may_overtake_each_other_but_not_themselves() {
        let mut shared = receivers("pattern = 'shared'\nsubscribers = 2", 0);
        assert_eq!(shared.delivered(0, 0, 1), COUNTED);
        assert_eq!(shared.delivered(1, 0, 0), COUNTED);
        assert_eq!(shared.delivered(1, 0, 1), Meaning::Repeated);
        assert_eq!(shared.delivered(1, 0, 3), COUNTED);
        let reordered = Meaning::Counted { is_reordered: true, given_up: 0..0 };
        assert_eq!(shared.delivered(1, 0, 2), reordered);
        assert_eq!(shared.absent(&[5]), 1);
    }
}
