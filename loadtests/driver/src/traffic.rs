//! Which message goes out next, and what an incoming packet says about earlier ones. No I/O, and
//! time is an argument: nanoseconds since the run's epoch.
//!
//! Connections are numbered: publishers first, then, when deliveries are measured, the subscriber of
//! publisher i at `publishers + i`.

use crate::connection::OUTBOX_BYTES_MAX;
use crate::error::LoadError;
use crate::pace::Pace;
use crate::settings::{Measure, Plan};
use crate::tally::Tally;
use crate::window::{AckWindow, Arrival, DeliveryWindow};
use crate::wire::{PublishTemplate, Stamp};
use fulcrum_mqtt::{Packet, QoS};

/// A publisher with a full window that neither sends nor hears anything for this long has lost what
/// is in flight. Far above any latency under which a figure would still be of interest.
const STALL_NS: u64 = 2_000_000_000;

/// All messages of a run.
pub struct Traffic {
    publishers: Vec<Publisher>,
    /// Publishers of a closed loop that have room again.
    with_room: Vec<usize>,
    /// Open loop alone.
    pace: Option<Pace>,
    /// What is counted.
    pub tally: Tally,
}

struct Publisher {
    template: PublishTemplate,
    window: Window,
    sent: u64,
    last_progress_ns: u64,
    is_in_with_room: bool,
}

enum Window {
    Delivery(DeliveryWindow),
    Acks(AckWindow),
}

impl Traffic {
    /// Encodes each publisher's message; nothing is sent yet.
    ///
    /// # Errors
    /// A topic or payload that no packet can carry.
    pub fn new(plan: &Plan) -> Result<Self, LoadError> {
        let publishers = (0..plan.publishers)
            .map(|index| {
                let topic = plan.topic.render(index, &plan.target.tenant);
                let (qos, window) = match plan.measure {
                    Measure::Delivery => {
                        let window = DeliveryWindow::new(u64::from(plan.window));
                        (QoS::AtMostOnce, Window::Delivery(window))
                    }
                    Measure::Acknowledgement => {
                        (QoS::AtLeastOnce, Window::Acks(AckWindow::new(plan.window)))
                    }
                };
                let template =
                    PublishTemplate::new(&topic, qos, plan.payload_bytes).map_err(|source| {
                        LoadError::Encode { client: format!("load-p{index}"), source }
                    })?;
                Ok(Publisher {
                    template,
                    window,
                    sent: 0,
                    last_progress_ns: 0,
                    is_in_with_room: true,
                })
            })
            .collect::<Result<Vec<_>, LoadError>>()?;
        let with_room = (0..publishers.len()).collect();
        let pace = plan.rate_per_s.map(|rate| Pace::new(0, rate));
        Ok(Self { publishers, with_room, pace, tally: Tally::new() })
    }

    /// A packet came in on `connection`.
    pub fn on_packet(&mut self, connection: usize, packet: &Packet<'_>, now_ns: u64) {
        let index = connection % self.publishers.len();
        let publisher = &mut self.publishers[index];
        let errors = &mut self.tally.errors;
        let sent_at_ns = match (packet, &mut publisher.window) {
            (Packet::Publish(publish), Window::Delivery(window))
                if publish.qos == QoS::AtMostOnce =>
            {
                let Some(stamp) = Stamp::read(publish.payload) else {
                    errors.foreign += 1;
                    return;
                };
                match window.arrived(stamp.sequence) {
                    Arrival::Counted { lost_before } => errors.lost += lost_before,
                    Arrival::Late => {
                        errors.late += 1;
                        return;
                    }
                    Arrival::Foreign => {
                        errors.foreign += 1;
                        return;
                    }
                }
                stamp.sent_at_ns
            }
            (Packet::PubAck { packet_id, .. }, Window::Acks(window)) => {
                let Some(sent_at_ns) = window.acknowledged(*packet_id) else {
                    errors.foreign += 1;
                    return;
                };
                sent_at_ns
            }
            _ => {
                errors.unexpected_packets += 1;
                return;
            }
        };
        publisher.last_progress_ns = now_ns;
        self.tally.done(sent_at_ns, now_ns);
        self.offer(index);
    }

    /// Which publisher of a closed loop has room and should be filled next.
    pub fn next_with_room(&mut self) -> Option<usize> {
        let index = self.with_room.pop()?;
        self.publishers[index].is_in_with_room = false;
        Some(index)
    }

    /// Fills the window of publisher `index`, or its outbox: then messages are in flight, and the
    /// next one that is done makes the publisher come back here.
    pub fn fill(&mut self, index: usize, out: &mut Vec<u8>, now_ns: u64) {
        while out.len() < OUTBOX_BYTES_MAX && self.publishers[index].append(out, now_ns, now_ns) {}
    }

    /// Which publisher of an open loop has a message due, and when it was.
    pub fn next_due(&self, now_ns: u64) -> Option<(usize, u64)> {
        let pace = self.pace.as_ref()?;
        let due_ns = pace.next_due_ns();
        let index = (pace.next_number() % self.publishers.len() as u64) as usize;
        (due_ns <= now_ns).then_some((index, due_ns))
    }

    /// Sends the message [`Self::next_due`] named. `false`: the publisher's window is full, and the
    /// message stays due.
    pub fn send_due(&mut self, index: usize, due_ns: u64, out: &mut Vec<u8>, now_ns: u64) -> bool {
        let is_sent = self.publishers[index].append(out, due_ns, now_ns);
        if let (true, Some(pace)) = (is_sent, &mut self.pace) {
            pace.take();
        }
        is_sent
    }

    /// Whether the loop is open.
    pub fn is_paced(&self) -> bool {
        self.pace.is_some()
    }

    /// When the next message of an open loop is due.
    pub fn next_due_ns(&self) -> Option<u64> {
        self.pace.as_ref().map(Pace::next_due_ns)
    }

    /// Gives up on deliveries that will not come any more, so that one lost message does not silence
    /// its publisher for the rest of the run.
    pub fn write_off_stalled(&mut self, now_ns: u64) {
        for index in 0..self.publishers.len() {
            let publisher = &mut self.publishers[index];
            let is_silent = now_ns.saturating_sub(publisher.last_progress_ns) > STALL_NS;
            if let (true, Window::Delivery(window)) = (is_silent, &mut publisher.window) {
                self.tally.errors.lost += window.write_off();
                self.offer(index);
            }
        }
    }

    /// Messages neither done nor lost.
    pub fn in_flight(&self) -> u64 {
        self.publishers.iter().map(Publisher::in_flight).sum()
    }

    /// The run is over: what is still in flight is lost.
    pub fn finish(&mut self) {
        self.tally.errors.lost += self.in_flight();
    }

    fn offer(&mut self, index: usize) {
        let publisher = &mut self.publishers[index];
        if self.pace.is_none() && !publisher.is_in_with_room {
            publisher.is_in_with_room = true;
            self.with_room.push(index);
        }
    }
}

impl Publisher {
    /// Appends one message that counts from `stamp_ns`; `false` when the window is full.
    fn append(&mut self, out: &mut Vec<u8>, stamp_ns: u64, now_ns: u64) -> bool {
        let (packet_id, sequence) = match &mut self.window {
            Window::Delivery(window) => match window.take() {
                Some(sequence) => (0, sequence),
                None => return false,
            },
            Window::Acks(window) => match window.take(stamp_ns) {
                Some(packet_id) => (packet_id, self.sent),
                None => return false,
            },
        };
        self.sent += 1;
        self.last_progress_ns = now_ns;
        self.template.append(packet_id, Stamp { sent_at_ns: stamp_ns, sequence }, out);
        true
    }

    fn in_flight(&self) -> u64 {
        match &self.window {
            Window::Delivery(window) => window.in_flight(),
            Window::Acks(window) => window.in_flight(),
        }
    }
}
