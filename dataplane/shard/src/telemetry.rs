//! Direct messages: given to every consumer with credit, or refused. Nothing is queued for a consumer that is not there.

use crate::connections::{Key, Protocol};
use crate::limits::{OUTCOME_TIMEOUT, SUBSCRIBER_BACKLOG_BYTES_MAX};
use crate::message::{Batch, PeerMessage};
use crate::mqtt::{Alias, Content, Outgoing, Recipient};
use crate::plane::{Inbound, Plane, Producer};
use fulcrum_frame::Frame;
use fulcrum_mqtt::{Properties, QoS};
use fulcrum_ring::Io;
use fulcrum_router::{DeliveryId, ShardIndex, Target};

/// What became of a direct message right away.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Taken {
    /// A consumer has it.
    Accepted,
    /// Nobody took it.
    Released,
    /// The producer is told later.
    Pending,
}

/// What a link did with a copy.
enum Handed {
    Accepted,
    Refused,
    /// It will answer.
    Pending,
}

/// The topic consumers see.
pub(crate) fn topic_of(tenant: &str, device: &str) -> String {
    format!("telemetry/{tenant}/{device}")
}

/// The topic routes are matched with, relative to the tenant.
pub(crate) fn route_of(device: &str) -> String {
    format!("telemetry/{device}")
}

impl Plane {
    /// Gives a telemetry message to `targets` and to the live consumer. `producer` is told if it asked for QoS 1.
    pub(crate) fn publish_telemetry(
        &mut self,
        io: &mut Io<'_>,
        inbound: &Inbound<'_>,
        topic: &str,
        targets: &[Target],
        producer: Option<Producer>,
    ) -> Taken {
        self.metrics.telemetry_received.add(1);
        self.metrics.payload_bytes_received.add(inbound.payload.len() as u64);
        let live = self.live.as_ref().is_some_and(|live| live.has_credit());
        let remote = targets.iter().any(|target| target.link.shard != self.index);
        if (live || remote) && self.encode(inbound).is_err() {
            return Taken::Released;
        }
        let Some(producer) = producer else {
            return self.hand_unsettled(io, inbound, topic, targets, live);
        };
        self.hand_settled(io, inbound, topic, targets, live, producer)
    }

    /// QoS 0: nobody is told, but whether anybody took it is counted.
    fn hand_unsettled(
        &mut self,
        io: &mut Io<'_>,
        inbound: &Inbound<'_>,
        topic: &str,
        targets: &[Target],
        live: bool,
    ) -> Taken {
        let mut copies = 0;
        for target in targets {
            let target = Target { qos: target.qos.min(inbound.qos), ..*target };
            if !matches!(self.hand(io, target, topic, inbound.payload, None), Handed::Refused) {
                copies += 1;
            }
        }
        if live && self.hand_live(None) {
            copies += 1;
        }
        self.metrics.telemetry_delivered.add(copies);
        if copies > 0 {
            return Taken::Accepted;
        }
        self.metrics.telemetry_no_consumer.add(1);
        Taken::Released
    }

    /// QoS 1: the producer's answer waits for the consumers'.
    fn hand_settled(
        &mut self,
        io: &mut Io<'_>,
        inbound: &Inbound<'_>,
        topic: &str,
        targets: &[Target],
        live: bool,
        producer: Producer,
    ) -> Taken {
        let consumers = targets.len() as u32 + u32::from(live);
        let deadline = self.now + OUTCOME_TIMEOUT;
        // One answer more than there are consumers, given last: the result comes after the loop, never inside it.
        let begun =
            (consumers > 0).then(|| self.deliveries.begin(producer, consumers + 1, deadline));
        let Some(delivery) = begun.flatten() else {
            self.metrics.telemetry_no_consumer.add(1);
            return Taken::Released;
        };
        let mut copies = 0;
        for target in targets {
            match self.hand(io, *target, topic, inbound.payload, Some(delivery)) {
                Handed::Accepted => drop(self.deliveries.answer(delivery, true)),
                Handed::Refused => {
                    self.deliveries.withdraw(delivery);
                    continue;
                }
                Handed::Pending => {}
            }
            copies += 1;
        }
        if live {
            if self.hand_live(Some(self.ticket_of(delivery))) {
                copies += 1;
            } else {
                self.deliveries.withdraw(delivery);
            }
        }
        self.metrics.telemetry_delivered.add(copies);
        match self.deliveries.withdraw(delivery) {
            None => Taken::Pending,
            Some(settled) if settled.accepted => Taken::Accepted,
            Some(_) => {
                self.metrics.telemetry_no_consumer.add(1);
                Taken::Released
            }
        }
    }

    fn hand(
        &mut self,
        io: &mut Io<'_>,
        target: Target,
        topic: &str,
        payload: &[u8],
        delivery: Option<DeliveryId>,
    ) -> Handed {
        if target.link.shard == self.index {
            return self.hand_local(
                io,
                target,
                topic,
                payload,
                delivery.map(|id| (self.index, id)),
            );
        }
        if !self.outbox.deliver(target, delivery, &self.frame) {
            self.metrics.consumer_no_credit.add(1);
            return Handed::Refused;
        }
        self.metrics.cross_shard_sent.add(1);
        if delivery.is_some() { Handed::Pending } else { Handed::Accepted }
    }

    fn hand_local(
        &mut self,
        io: &mut Io<'_>,
        target: Target,
        topic: &str,
        payload: &[u8],
        delivery: Option<(ShardIndex, DeliveryId)>,
    ) -> Handed {
        let Some(connection) = self.connections.by_key(Key(target.link.key)) else {
            return Handed::Refused;
        };
        let key = connection.key;
        let (Protocol::Mqtt(session), mut wire) = connection.parts() else {
            return Handed::Refused;
        };
        if wire.queued_bytes(io) > SUBSCRIBER_BACKLOG_BYTES_MAX {
            self.metrics.consumer_no_credit.add(1);
            return Handed::Refused;
        }
        let (qos, packet_id) = match target.qos {
            0 => (QoS::AtMostOnce, None),
            _ => {
                let outgoing = delivery.map_or(Outgoing::Untracked, Outgoing::Telemetry);
                let Some(packet_id) = session.sent(outgoing) else {
                    self.metrics.consumer_no_credit.add(1);
                    return Handed::Refused;
                };
                (QoS::AtLeastOnce, Some(packet_id))
            }
        };
        let level = session.level;
        let written = wire.output(io).is_some_and(|output| {
            let content = Content::of_packet(topic, payload, false, Properties::EMPTY);
            let to = Recipient::at_most_once(level, false, &[], Alias::None);
            session.write_plain(&content, &Recipient { qos, packet_id, ..to }, output)
        });
        if wire.stack.is_some() {
            self.flushes.push(key);
        }
        match (written, packet_id) {
            (false, None) => Handed::Refused,
            (false, Some(packet_id)) => {
                session.acknowledged(packet_id);
                Handed::Refused
            }
            (true, Some(_)) if delivery.is_some() => Handed::Pending,
            (true, _) => Handed::Accepted,
        }
    }

    /// The frame has been built.
    fn hand_live(&mut self, ticket: Option<u64>) -> bool {
        let Some(live) = &self.live else { return false };
        let taken = live.try_send(self.frame.clone(), ticket).is_ok();
        if !taken {
            self.metrics.consumer_no_credit.add(1);
        }
        taken
    }

    /// What another shard has for links here.
    pub(crate) fn receive_deliveries(&mut self, io: &mut Io<'_>, from: ShardIndex, batch: &Batch) {
        for delivery in &batch.deliveries {
            let frame = batch.frames.get(delivery.frame.clone()).map(Frame::parse);
            let Some(Ok(frame)) = frame else {
                debug_assert!(false, "a shard sends whole frames");
                continue;
            };
            let topic = topic_of(frame.tenant().unwrap_or(""), frame.device().unwrap_or(""));
            let target = Target { link: delivery.link, qos: delivery.qos.min(frame.qos()) };
            let owner = delivery.id.map(|id| (from, id));
            let accepted = match self.hand_local(io, target, &topic, frame.payload(), owner) {
                Handed::Pending => continue,
                Handed::Accepted => true,
                Handed::Refused => false,
            };
            if let Some(delivery) = delivery.id {
                self.outbox.tell(from, PeerMessage::Outcome { delivery, accepted });
            }
        }
    }

    /// Names a delivery of this shard in 64 bits.
    fn ticket_of(&self, delivery: DeliveryId) -> u64 {
        u64::from(self.index.0) << 48 | delivery.to_bits()
    }
}

/// The shard a live ticket belongs to, for whoever carries the answer back.
pub fn shard_of_ticket(ticket: u64) -> u16 {
    (ticket >> 48) as u16
}

pub(crate) fn delivery_of_ticket(ticket: u64) -> DeliveryId {
    DeliveryId::from_bits(ticket & 0xffff_ffff_ffff)
}
