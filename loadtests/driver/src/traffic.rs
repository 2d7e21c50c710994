//! Which message goes out next, and what an incoming packet says about earlier ones: the messages of
//! one thread. No I/O, and time is an argument: nanoseconds since the run's epoch.

use crate::error::LoadError;
use crate::flight::Flight;
use crate::pace::Pace;
use crate::plan::{Loop, Plan};
use crate::receivers::{Meaning, Receivers};
use crate::tally::Tally;
use crate::wire::{PublishTemplate, Stamp};
use fulcrum_mqtt::{Packet, QoS, encode_puback, encode_pubcomp, encode_pubrec, encode_pubrel};
use std::collections::VecDeque;

/// At this size nothing more is encoded for a connection until the socket took some.
pub const OUTBOX_BYTES_MAX: usize = 1 << 20;
/// A delivery that takes longer is not waited for any more, so that one lost QoS 0 message does not
/// silence its publisher. Far above any latency under which a figure would still be of interest.
const STALL_NS: u64 = 2_000_000_000;

/// Where a client's output goes.
pub trait Outlets {
    /// What is appended here is sent to the broker in this turn; `None`: the connection is closed.
    fn outbox(&mut self, client: usize) -> Option<&mut Vec<u8>>;
}

/// The messages of one thread.
pub struct Traffic {
    publishers: Vec<Publisher>,
    receivers: Receivers,
    /// Publishers that may have room again.
    with_room: Vec<usize>,
    /// Open loop alone.
    pace: Option<Pace>,
    /// Whether deliveries make room: in a closed loop, where they reach the publisher's own thread.
    is_fed_back: bool,
    threads: usize,
    thread: usize,
    run: u32,
    /// What is counted.
    pub tally: Tally,
}

struct Publisher {
    /// Its connection.
    client: usize,
    number: u32,
    template: PublishTemplate,
    flight: Flight,
    in_flight_max: u64,
    /// Open loop: messages that were due and found no room.
    owed: VecDeque<u64>,
    is_in_with_room: bool,
}

impl Traffic {
    /// Encodes the message of each publisher of thread `thread`; `clients` are their connections.
    /// Nothing is sent yet.
    ///
    /// # Errors
    /// A topic or payload that no packet can carry.
    pub fn new(plan: &Plan, thread: usize, clients: &[usize], run: u32) -> Result<Self, LoadError> {
        let is_fed_back = plan.window().is_some() && plan.copies() > 0;
        let copies = if is_fed_back { u32::try_from(plan.copies()).unwrap_or(u32::MAX) } else { 0 };
        let is_acknowledged = plan.qos != QoS::AtMostOnce;
        let publisher = |(local, &client): (usize, &usize)| {
            let number = local * plan.threads + thread;
            let topic = plan.topic.render(number, &plan.tenant, "p");
            let template = PublishTemplate::new(
                plan.protocol,
                &topic,
                plan.qos,
                plan.retain,
                plan.payload_bytes,
            )
            .map_err(|source| LoadError::Encode {
                client: format!("publisher {number}"),
                source,
            })?;
            Ok(Publisher {
                client,
                number: number as u32,
                template,
                flight: Flight::new(copies, is_acknowledged),
                in_flight_max: plan.window().map_or(u64::MAX, u64::from),
                owed: VecDeque::new(),
                is_in_with_room: true,
            })
        };
        let publishers =
            clients.iter().enumerate().map(publisher).collect::<Result<Vec<_>, LoadError>>()?;
        Ok(Self {
            with_room: (0..publishers.len()).collect(),
            publishers,
            receivers: Receivers::new(plan, thread),
            pace: None,
            is_fed_back,
            threads: plan.threads,
            thread,
            run,
            tally: Tally::new(),
        })
    }

    /// The load begins at `start_ns`.
    pub fn start(&mut self, plan: &Plan, start_ns: u64) {
        if let Loop::Open { per_second } = plan.timing {
            // Threads take turns: the k-th of n threads has its first message k gaps later.
            let gap_ns = 1e9 / per_second;
            let own_share = self.publishers.len() as f64 / plan.publishers as f64;
            let first_ns = start_ns + (gap_ns * self.thread as f64) as u64;
            self.pace = (own_share > 0.0).then(|| Pace::new(first_ns, per_second * own_share));
        }
    }

    /// A packet came in for publisher `index` of this thread.
    pub fn on_publisher_packet(
        &mut self,
        index: usize,
        packet: &Packet<'_>,
        out: &mut Vec<u8>,
        now_ns: u64,
    ) {
        let publisher = &mut self.publishers[index];
        let errors = &mut self.tally.errors;
        let (packet_id, reason) = match *packet {
            Packet::PubAck { packet_id, reason, .. }
            | Packet::PubComp { packet_id, reason, .. } => (packet_id, reason),
            Packet::PubRec { packet_id, reason, .. } if reason.is_error() => (packet_id, reason),
            Packet::PubRec { packet_id, .. } => {
                if publisher.flight.received(packet_id) {
                    encode_pubrel(packet_id, out);
                } else {
                    errors.foreign += 1;
                }
                return;
            }
            _ => {
                errors.unexpected_packets += 1;
                return;
            }
        };
        match publisher.flight.acknowledged(packet_id) {
            None => errors.foreign += 1,
            Some((due_ns, _)) => {
                if reason.is_error() {
                    errors.refused += 1;
                } else {
                    self.tally.on_acknowledged(due_ns, now_ns);
                }
                self.offer(index);
            }
        }
    }

    /// A packet came in for subscriber `index` of this thread.
    pub fn on_subscriber_packet(
        &mut self,
        index: usize,
        packet: &Packet<'_>,
        out: &mut Vec<u8>,
        now_ns: u64,
    ) {
        let publish = match packet {
            Packet::Publish(publish) => publish,
            Packet::PubRel { packet_id, .. } => return encode_pubcomp(*packet_id, out),
            _ => {
                self.tally.errors.unexpected_packets += 1;
                return;
            }
        };
        match (publish.qos, publish.packet_id) {
            (QoS::AtLeastOnce, Some(packet_id)) => encode_puback(packet_id, out),
            (QoS::ExactlyOnce, Some(packet_id)) => encode_pubrec(packet_id, out),
            _ => {}
        }
        match Stamp::read(publish.payload) {
            Some(stamp) if stamp.run != self.run => self.tally.errors.stale += 1,
            Some(stamp) if self.was_sent(&stamp) => self.delivered(index, stamp, now_ns),
            _ => self.tally.errors.foreign += 1,
        }
    }

    /// As far as this thread can tell.
    fn was_sent(&self, stamp: &Stamp) -> bool {
        self.local(stamp.publisher)
            .is_none_or(|index| stamp.sequence < self.publishers[index].flight.sent())
    }

    fn delivered(&mut self, index: usize, stamp: Stamp, now_ns: u64) {
        let meaning = self.receivers.delivered(index, stamp.publisher, stamp.sequence);
        let errors = &mut self.tally.errors;
        let given_up = match meaning {
            Meaning::Foreign => {
                errors.foreign += 1;
                return;
            }
            Meaning::Repeated => {
                errors.repeated += 1;
                return;
            }
            Meaning::Counted { is_reordered, given_up } => {
                errors.reordered += u64::from(is_reordered);
                given_up
            }
        };
        self.tally.on_delivered(stamp.due_ns, now_ns);
        if !self.is_fed_back {
            return;
        }
        let Some(publisher) = self.local(stamp.publisher) else { return };
        let flight = &mut self.publishers[publisher].flight;
        let mut is_done = false;
        for sequence in given_up {
            is_done |= flight.delivered(sequence);
        }
        is_done |= flight.delivered(stamp.sequence);
        if is_done {
            self.offer(publisher);
        }
    }

    /// Encodes what may go out now.
    pub fn produce(&mut self, outlets: &mut impl Outlets, now_ns: u64) {
        while let Some((number, due_ns)) = self.pace.as_ref().and_then(|pace| pace.due(now_ns)) {
            let index = (number % self.publishers.len() as u64) as usize;
            self.publishers[index].owed.push_back(due_ns);
            self.offer(index);
            if let Some(pace) = &mut self.pace {
                pace.take();
            }
        }
        while let Some(index) = self.with_room.pop() {
            self.publishers[index].is_in_with_room = false;
            self.fill(index, outlets, now_ns);
        }
    }

    /// Sends until the publisher has no room, or nothing to send.
    fn fill(&mut self, index: usize, outlets: &mut impl Outlets, now_ns: u64) {
        let publisher = &mut self.publishers[index];
        let is_paced = self.pace.is_some();
        // A closed connection's messages go nowhere and are lost, but the schedule goes on.
        let mut nowhere = Vec::new();
        let is_closed;
        let out = match outlets.outbox(publisher.client) {
            Some(out) => {
                is_closed = false;
                out
            }
            None => {
                is_closed = true;
                &mut nowhere
            }
        };
        while publisher.has_room() && out.len() < OUTBOX_BYTES_MAX {
            let due_ns = if is_paced {
                match publisher.owed.pop_front() {
                    Some(due_ns) => due_ns,
                    None => break,
                }
            } else if is_closed {
                break;
            } else {
                now_ns
            };
            let (sequence, packet_id) = publisher.flight.send(due_ns, now_ns);
            let stamp = Stamp { due_ns, sequence, publisher: publisher.number, run: self.run };
            publisher.template.append(packet_id, stamp, out);
            self.tally.on_sent(due_ns, now_ns, is_paced);
        }
    }

    /// Publisher `index` may have room again.
    pub fn offer(&mut self, index: usize) {
        let publisher = &mut self.publishers[index];
        if !publisher.is_in_with_room {
            publisher.is_in_with_room = true;
            self.with_room.push(index);
        }
    }

    /// The broker takes no more than `maximum` unacknowledged messages of publisher `index`
    /// [MQTT-3.3.4-7].
    pub fn limit(&mut self, index: usize, maximum: u16) {
        let limit = &mut self.publishers[index].in_flight_max;
        *limit = (*limit).min(u64::from(maximum));
    }

    /// When the next message of an open loop is due.
    pub fn next_due_ns(&self) -> Option<u64> {
        self.pace.as_ref().map(Pace::next_due_ns)
    }

    /// Gives up on deliveries that will not come any more.
    pub fn write_off_stalled(&mut self, now_ns: u64) {
        let before_ns = now_ns.saturating_sub(STALL_NS);
        for index in 0..self.publishers.len() {
            if self.publishers[index].flight.write_off(before_ns) > 0 {
                self.offer(index);
            }
        }
    }

    /// Messages this thread's publishers have sent, one after the other.
    pub fn sent(&self) -> impl Iterator<Item = (usize, u64)> {
        self.publishers.iter().map(|publisher| (publisher.number as usize, publisher.flight.sent()))
    }

    /// Deliveries so far, each counted once.
    pub fn arrived(&self) -> u64 {
        self.receivers.arrived()
    }

    /// Messages that wait for their acknowledgement or, in a closed loop, delivery.
    pub fn unfinished(&self) -> u64 {
        self.publishers.iter().map(|publisher| publisher.flight.unfinished()).sum()
    }

    /// The run is over: what did not come, given what each publisher of any thread has sent.
    pub fn finish(&mut self, sent: &[u64]) {
        self.tally.errors.lost += self.receivers.absent(sent);
        for publisher in &self.publishers {
            self.tally.errors.unacknowledged += publisher.flight.unacknowledged();
            self.tally.errors.unsent += publisher.owed.len() as u64;
        }
    }

    /// Index of publisher `number` if it is of this thread.
    fn local(&self, number: u32) -> Option<usize> {
        let number = number as usize;
        let index = number / self.threads;
        (number % self.threads == self.thread && index < self.publishers.len()).then_some(index)
    }
}

impl Publisher {
    fn has_room(&self) -> bool {
        self.flight.unfinished() < self.in_flight_max && self.flight.has_identifier()
    }
}
