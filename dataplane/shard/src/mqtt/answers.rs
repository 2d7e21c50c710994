//! PUBACKs and PUBRECs a client is owed: they leave in the order of its messages [MQTT-4.6.0-2] [MQTT-4.6.0-3], though the
//! messages are settled in any.

use super::device_errors::Concern;
use fulcrum_mqtt::ReasonCode;
use std::collections::VecDeque;

/// The answers of one connection; one that never published above QoS 0 has no queue.
#[derive(Default)]
pub(super) struct Answers(
    #[expect(clippy::box_collection, reason = "most connections owe nothing at any time")]
    Option<Box<VecDeque<Owed>>>,
);

/// One answer.
pub(super) struct Owed {
    pub packet_id: u16,
    pub exactly_once: bool,
    /// What it says, once it is due.
    pub reason: Option<ReasonCode>,
    /// What is to be known if the message fails, if it is of the device API.
    pub concern: Option<Concern>,
}

impl Answers {
    pub(super) fn push(&mut self, owed: Owed) {
        self.0.get_or_insert_default().push_back(owed);
    }

    pub(super) fn len(&self) -> usize {
        self.0.as_ref().map_or(0, |queue| queue.len())
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Owed> {
        self.0.iter().flat_map(|queue| queue.iter())
    }

    /// The oldest one with this identifier that is not due.
    pub(super) fn waiting(&mut self, packet_id: u16) -> Option<&mut Owed> {
        let mut queue = self.0.as_mut()?.iter_mut();
        queue.find(|owed| owed.packet_id == packet_id && owed.reason.is_none())
    }

    /// That one will not be given.
    pub(super) fn give_up(&mut self, packet_id: u16) {
        let Some(queue) = &mut self.0 else { return };
        let waits = |owed: &Owed| owed.packet_id == packet_id && owed.reason.is_none();
        if let Some(place) = queue.iter().position(waits) {
            queue.remove(place);
        }
    }

    /// The next one, if it is due.
    pub(super) fn pop_due(&mut self) -> Option<Owed> {
        let queue = self.0.as_mut()?;
        queue.front()?.reason?;
        queue.pop_front()
    }
}
