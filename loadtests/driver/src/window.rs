//! How much is in flight, and what became of it.
//!
//! [`DeliveryWindow`] follows messages from a publisher to its subscriber by the sequence number in
//! the payload; [`AckWindow`] follows QoS 1 messages to their PUBACK by the packet identifier.

/// Messages between one publisher and one subscriber, sequence 0, 1, 2, ...
///
/// `sent = arrived + lost + in flight` at all times. What was declared lost and turns up afterwards
/// is late: it returns no room, because its room was already given away.
#[derive(Debug)]
pub struct DeliveryWindow {
    limit: u64,
    sent: u64,
    /// Every lower sequence has arrived or was declared lost.
    next_expected: u64,
}

/// What the arrival of a message meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrival {
    /// It was on its way; this many before it were lost.
    Counted {
        /// Messages skipped over.
        lost_before: u64,
    },
    /// Seen before, or overtaken, or declared lost before.
    Late,
    /// Never sent on this pair.
    Foreign,
}

impl DeliveryWindow {
    /// At most `limit` messages in flight.
    pub fn new(limit: u64) -> Self {
        Self { limit, sent: 0, next_expected: 0 }
    }

    /// How many messages are neither arrived nor lost.
    pub fn in_flight(&self) -> u64 {
        self.sent - self.next_expected
    }

    /// The sequence for one more message, if there is room.
    pub fn take(&mut self) -> Option<u64> {
        (self.in_flight() < self.limit).then(|| {
            self.sent += 1;
            self.sent - 1
        })
    }

    /// A message arrived.
    pub fn arrived(&mut self, sequence: u64) -> Arrival {
        if sequence >= self.sent {
            return Arrival::Foreign;
        }
        if sequence < self.next_expected {
            return Arrival::Late;
        }
        let lost_before = sequence - self.next_expected;
        self.next_expected = sequence + 1;
        Arrival::Counted { lost_before }
    }

    /// Gives up on everything in flight; returns how many that were.
    pub fn write_off(&mut self) -> u64 {
        let lost = self.in_flight();
        self.next_expected = self.sent;
        lost
    }
}

/// QoS 1 messages of one connection: one slot for each packet identifier 1..=limit.
#[derive(Debug)]
pub struct AckWindow {
    /// Slot of packet identifier `index + 1`: when its message was sent or due.
    sent_at_ns: Vec<Option<u64>>,
    free: Vec<u16>,
}

impl AckWindow {
    /// At most `limit` messages in flight.
    pub fn new(limit: u16) -> Self {
        Self { sent_at_ns: vec![None; usize::from(limit)], free: (1..=limit).rev().collect() }
    }

    /// How many messages wait for their PUBACK.
    pub fn in_flight(&self) -> u64 {
        (self.sent_at_ns.len() - self.free.len()) as u64
    }

    /// A packet identifier for a message of `now_ns`, if one is free.
    pub fn take(&mut self, now_ns: u64) -> Option<u16> {
        let packet_id = self.free.pop()?;
        self.sent_at_ns[usize::from(packet_id) - 1] = Some(now_ns);
        Some(packet_id)
    }

    /// A PUBACK came: when its message was sent. `None`: nothing with this identifier was in flight.
    pub fn acknowledged(&mut self, packet_id: u16) -> Option<u64> {
        let slot = self.sent_at_ns.get_mut(usize::from(packet_id).checked_sub(1)?)?;
        let sent_at_ns = slot.take()?;
        self.free.push(packet_id);
        Some(sent_at_ns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full(limit: u64) -> DeliveryWindow {
        let mut window = DeliveryWindow::new(limit);
        while window.take().is_some() {}
        window
    }

    #[test]
    fn a_full_window_gives_room_only_for_what_arrived() {
        let mut window = full(4);
        assert_eq!(window.in_flight(), 4);
        assert_eq!(window.arrived(0), Arrival::Counted { lost_before: 0 });
        assert_eq!(window.take(), Some(4));
        assert_eq!(window.take(), None);
    }

    #[test]
    fn a_gap_is_counted_once_and_its_room_returns() {
        let mut window = full(4);
        assert_eq!(window.arrived(2), Arrival::Counted { lost_before: 2 });
        assert_eq!(window.in_flight(), 1);
        assert_eq!(window.arrived(1), Arrival::Late);
        assert_eq!(window.in_flight(), 1, "a late message must not return room twice");
    }

    #[test]
    fn a_written_off_message_that_turns_up_is_late() {
        let mut window = full(3);
        assert_eq!(window.write_off(), 3);
        assert_eq!(window.write_off(), 0);
        assert_eq!(window.arrived(1), Arrival::Late);
        assert_eq!(window.take(), Some(3));
    }

    #[test]
    fn a_message_never_sent_and_a_repetition_change_nothing() {
        let mut window = full(2);
        assert_eq!(window.arrived(2), Arrival::Foreign);
        assert_eq!(window.arrived(u64::MAX), Arrival::Foreign);
        assert_eq!(window.arrived(0), Arrival::Counted { lost_before: 0 });
        assert_eq!(window.arrived(0), Arrival::Late);
        assert_eq!(window.in_flight(), 1);
    }

    #[test]
    fn acknowledgements_may_come_in_any_order_but_only_once() {
        let mut window = AckWindow::new(3);
        let ids: Vec<u16> = std::iter::from_fn(|| window.take(10)).collect();
        assert_eq!(ids, [1, 2, 3]);
        assert_eq!(window.take(11), None);
        assert_eq!(window.acknowledged(2), Some(10));
        assert_eq!(window.acknowledged(2), None);
        assert_eq!(window.in_flight(), 2);
        assert_eq!(window.take(20), Some(2));
        assert_eq!(window.acknowledged(2), Some(20));
    }

    #[test]
    fn an_identifier_out_of_range_is_not_ours() {
        let mut window = AckWindow::new(2);
        window.take(1);
        assert_eq!(window.acknowledged(0), None);
        assert_eq!(window.acknowledged(3), None);
        assert_eq!(window.in_flight(), 1);
    }

    #[test]
    fn the_largest_window_has_every_packet_identifier_but_zero() {
        let mut window = AckWindow::new(u16::MAX);
        let ids: Vec<u16> = std::iter::from_fn(|| window.take(0)).collect();
        assert_eq!((ids.len(), ids[0], ids[65_534]), (65_535, 1, 65_535));
    }
}
