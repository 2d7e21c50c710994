//! Those who wait hear what became of what they sent: producers of telemetry, devices whose message is stored, publishers,
//! other shards.
//!
//! Invariant: a message is answered once; with success only when everything it was to be written to has it.

use crate::broker::Answer;
use crate::connections::{Hold, Key, Protocol};
use crate::message::PeerMessage;
use crate::mqtt::{self, Failure, Sequel};
use crate::plane::Producer;
use crate::retry::Named;
use crate::shard::Shard;
use crate::stored::Waiter;
use fulcrum_mqtt::{ProtocolLevel, ReasonCode};
use fulcrum_ring::Io;

impl Shard {
    /// Tells a producer of telemetry what its consumers answered.
    pub(crate) fn tell_producer(&mut self, io: &mut Io<'_>, producer: Producer, accepted: bool) {
        if !accepted {
            self.plane.metrics.telemetry_released.add(1);
        }
        match producer {
            Producer::Mqtt { connection, packet_id } if accepted => {
                self.acknowledge(io, connection, packet_id, ReasonCode::SUCCESS);
            }
            Producer::Mqtt { connection, packet_id } => {
                self.publish_failed(io, connection, packet_id, Failure::NO_CONSUMER);
            }
            Producer::Http { connection, request } => {
                self.answer_http(io, connection, request, accepted);
            }
            Producer::Amqp { connection, number } => {
                self.answer_amqp(io, connection, number, accepted);
            }
        }
    }

    /// Answers a message of an MQTT client.
    fn acknowledge(&mut self, io: &mut Io<'_>, key: Key, packet_id: u16, reason: ReasonCode) {
        let Some(connection) = self.plane.connections.by_key(key) else { return };
        let (Protocol::Mqtt(session), mut wire) = connection.parts() else { return };
        if let Some(output) = wire.output(io) {
            session.settle(packet_id, reason, output);
        }
        if wire.stack.is_some() {
            self.plane.flushes.push(key);
        }
        if self.plane.draining && !session.owes_answers() {
            self.end_with(io, key, ReasonCode::SERVER_SHUTTING_DOWN);
        }
    }

    /// A message of an MQTT client was not taken after all: what follows is its own to say if it is of the device API.
    fn publish_failed(&mut self, io: &mut Io<'_>, key: Key, packet_id: u16, failure: Failure) {
        let now_ms = self.plane.now_ms;
        let Some(connection) = self.plane.connections.by_key(key) else { return };
        let (Protocol::Mqtt(session), mut wire) = connection.parts() else { return };
        let Some(concern) = session.take_concern(packet_id) else {
            return self.end_with(io, key, ReasonCode::SERVER_BUSY);
        };
        let Some(output) = wire.output(io) else { return };
        let sequel = session.waiting_publish_failed(packet_id, &concern, failure, now_ms, output);
        if wire.stack.is_some() {
            self.plane.flushes.push(key);
        }
        match sequel {
            Sequel::End(reason) => self.end_with(io, key, reason),
            _ if self.plane.draining && !session.owes_answers() => {
                self.end_with(io, key, ReasonCode::SERVER_SHUTTING_DOWN);
            }
            Sequel::Acknowledge | Sequel::Nothing => {}
        }
    }

    /// Writes a PUBREL or PUBCOMP.
    fn write_step(
        &mut self,
        io: &mut Io<'_>,
        key: Key,
        put: impl FnOnce(ProtocolLevel, &mut Vec<u8>),
    ) {
        let Some(connection) = self.plane.connections.by_key(key) else { return };
        let (Protocol::Mqtt(session), mut wire) = connection.parts() else { return };
        if let Some(output) = wire.output(io) {
            put(session.level, output);
        }
        if wire.stack.is_some() {
            self.plane.flushes.push(key);
        }
    }

    fn answer_http(&mut self, io: &mut Io<'_>, key: Key, request: u64, accepted: bool) {
        let Some(connection) = self.plane.connections.by_key(key) else { return };
        let (Protocol::Http(session), mut wire) = connection.parts() else { return };
        session.answer(io, &mut wire, request, accepted);
        if wire.stack.is_some() {
            self.plane.flushes.push(key);
        }
        if session.has_room() {
            self.plane.release(key, Hold::Pipeline);
        }
    }

    fn answer_amqp(&mut self, io: &mut Io<'_>, key: Key, number: u64, accepted: bool) {
        let Some(connection) = self.plane.connections.by_key(key) else { return };
        let (Protocol::Amqp(session), mut wire) = connection.parts() else { return };
        session.answer(io, &mut wire, number, accepted);
        let (is_done, has_room) =
            (self.plane.draining && !session.owes_answers(), session.has_room());
        // Answers of one turn go out together.
        if self.plane.flushes.last() != Some(&key) {
            self.plane.flushes.push(key);
        }
        if has_room {
            self.plane.release(key, Hold::Pipeline);
        }
        if is_done {
            let Some(connection) = self.plane.connections.by_key(key) else { return };
            connection.flush(io);
            self.end_with(io, key, ReasonCode::SERVER_SHUTTING_DOWN);
        }
    }

    /// Tells those who wait what the journals' last commits, or their failure, mean for them.
    pub(crate) fn settle_stored(&mut self, io: &mut Io<'_>) {
        while let Some(waiter) = self.plane.stored.next_durable() {
            self.count_stored(&waiter);
            self.tell_waiter(io, waiter, true);
        }
        while let Some(waiter) = self.plane.stored.next_failed() {
            self.tell_waiter(io, waiter, false);
        }
        let broker = &mut self.plane.broker;
        if let Some(through) = broker.log.stored.through() {
            broker.sessions.durable(through.0);
        }
        while let Some(waiter) = self.plane.broker.log.stored.next_durable() {
            self.tell_waiter(io, waiter, true);
        }
        while let Some(waiter) = self.plane.broker.log.stored.next_failed() {
            self.tell_waiter(io, waiter, false);
        }
        self.plane.send_forwards();
        self.plane.pump_sessions(io);
    }

    /// Counts the answer to a device whose message is durable.
    pub(crate) fn count_stored(&self, waiter: &Waiter) {
        let is_device =
            matches!(waiter, Waiter::Mqtt { .. } | Waiter::Http { .. } | Waiter::Amqp { .. });
        self.plane.metrics.stored_acknowledged.add(is_device.into());
    }

    /// Tells who waits that something is durable, or that it is not and will not be.
    pub(crate) fn tell_waiter(&mut self, io: &mut Io<'_>, waiter: Waiter, durable: bool) {
        match waiter {
            Waiter::Mqtt { connection, packet_id } if durable => {
                self.acknowledge(io, connection, packet_id, ReasonCode::SUCCESS);
            }
            Waiter::Release { connection, packet_id } if durable => {
                self.write_step(io, connection, |level, output| {
                    mqtt::put_pubrel(level, packet_id, output);
                });
            }
            Waiter::Complete { connection, packet_id } if durable => {
                let reason = ReasonCode::SUCCESS;
                self.write_step(io, connection, |level, output| {
                    mqtt::put_pubcomp(level, packet_id, reason, output);
                });
            }
            Waiter::Held { connection } if durable => self.plane.held_less(connection),
            Waiter::Mqtt { connection, packet_id } => {
                self.publish_failed(io, connection, packet_id, Failure::NOT_STORED);
            }
            Waiter::Release { connection, .. }
            | Waiter::Complete { connection, .. }
            | Waiter::Held { connection } => {
                self.end_with(io, connection, ReasonCode::SERVER_BUSY);
            }
            Waiter::Http { connection, request } => {
                self.answer_http(io, connection, request, durable);
            }
            Waiter::Amqp { connection, number } => {
                self.answer_amqp(io, connection, number, durable);
            }
            Waiter::Receipt { receipt } => {
                let answer = if durable { Answer::Taken } else { Answer::Refused };
                self.settle_receipt(io, receipt, answer);
            }
            Waiter::Remote { shard, receipt } => {
                let answer = if durable { Answer::Taken } else { Answer::Refused };
                self.plane.outbox.tell(shard, PeerMessage::Delivered { receipt, answer });
            }
            Waiter::Forwarded { shard, number } if durable => {
                self.plane.outbox.tell(shard, PeerMessage::Forwarded { number });
            }
            Waiter::Shard { shard, id } => {
                self.plane.outbox.tell(shard, PeerMessage::Stored { id, accepted: durable });
            }
            Waiter::Command { tenant, device, id } if durable => {
                self.plane.forget_command(Named { tenant, device, id });
            }
            // A command is kept in the store then: delivered again after the restart, at least once. So is a forward.
            Waiter::Command { .. } | Waiter::Forwarded { .. } | Waiter::Nobody => {}
        }
    }

    /// One of the shards that a publisher's message is for has answered.
    pub(crate) fn settle_receipt(&mut self, io: &mut Io<'_>, receipt: u32, answer: Answer) {
        let Some(settled) = self.plane.broker.receipts.answer(receipt, answer) else { return };
        let (key, packet_id) = (settled.connection, settled.packet_id);
        let level =
            self.plane.connections.by_key(key).and_then(|connection| match &connection.protocol {
                Protocol::Mqtt(session) => Some(session.level),
                Protocol::Http(_) | Protocol::Amqp(_) => None,
            });
        match settled.answer {
            Answer::Taken | Answer::Nobody => {
                self.acknowledge(io, key, packet_id, ReasonCode::SUCCESS);
            }
            // As it is where the sessions are on the publisher's own shard.
            Answer::Full if level == Some(ProtocolLevel::V311) => {
                self.acknowledge(io, key, packet_id, ReasonCode::SUCCESS);
            }
            Answer::Full => {
                self.plane.metrics.messages_refused.add(1);
                self.forget_incoming(key, packet_id);
                self.acknowledge(io, key, packet_id, ReasonCode::QUOTA_EXCEEDED);
            }
            // 3.1.1 has no other word for "not stored".
            Answer::Refused if level == Some(ProtocolLevel::V311) => self.end(io, key),
            Answer::Refused => {
                self.forget_incoming(key, packet_id);
                self.acknowledge(io, key, packet_id, ReasonCode::QUOTA_EXCEEDED);
            }
        }
    }

    /// A QoS 2 message is refused after all: its identifier is free for another one.
    fn forget_incoming(&mut self, key: Key, packet_id: u16) {
        let plane = &mut self.plane;
        let Some(connection) = plane.connections.by_key(key) else { return };
        if let Protocol::Mqtt(client) = &connection.protocol
            && client.owes_pubrec(packet_id)
        {
            let broker = &mut plane.broker;
            // Only sessions that end with their connection wait for receipts at QoS 2: there is no record of it.
            let _ = broker.sessions.pubrel(&mut broker.log, client.session, packet_id);
        }
    }
}
