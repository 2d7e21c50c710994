//! What other shards and threads have sent, handled once a turn.

use crate::connections::{Connection, Hold, Key, Protocol};
use crate::identity::Principal;
use crate::message::{Message, PeerMessage};
use crate::ports::Ticket;
use crate::shard::Shard;
use crate::stored::JournalKind;
use crate::telemetry::delivery_of_ticket;
use crate::turn::Turn;
use fulcrum_mqtt::ReasonCode;
use fulcrum_ring::Io;
use fulcrum_router::ShardIndex;

impl Shard {
    /// Handles at most `limit` messages and batches; whether more are there.
    pub(crate) fn take_inbox(&mut self, io: &mut Io<'_>, limit: usize) -> bool {
        let mailbox = self.mailbox.clone();
        let mut left = limit;
        for (sender, lane) in mailbox.lanes.iter().enumerate() {
            while left > 0
                && let Some(mut batch) = lane.pop()
            {
                left -= 1;
                let from = ShardIndex(sender as u16);
                for message in std::mem::take(&mut batch.control) {
                    self.take_peer_message(io, from, message);
                }
                self.plane.receive_deliveries(io, from, &batch);
            }
        }
        while left > 0
            && let Some(message) = mailbox.control.pop()
        {
            left -= 1;
            self.take_message(io, message);
        }
        self.plane.take_forwarded(&mailbox);
        let mut behind = Vec::new();
        let more = self.plane.take_messages(io, &mailbox, &mut behind);
        for message in behind {
            // Answers to barriers and the last word travel behind messages; neither says who sent it.
            self.take_peer_message(io, self.plane.index, message);
        }
        self.evict(io);
        self.after_input(io);
        more || left == 0 && !mailbox.is_empty()
    }

    fn take_peer_message(&mut self, io: &mut Io<'_>, from: ShardIndex, message: PeerMessage) {
        let plane = &mut self.plane;
        match message {
            PeerMessage::Subscribed { tenant, filter, target } => {
                if plane.routes.subscribe(&tenant, &filter, target).is_err() {
                    tracing::warn!(%tenant, "a subscription does not fit this shard's table");
                }
            }
            PeerMessage::Unsubscribed { tenant, filter, link } => {
                plane.routes.unsubscribe(&tenant, &filter, link);
            }
            PeerMessage::Outcome { delivery, accepted } => {
                plane.answer(plane.index, delivery, accepted);
            }
            PeerMessage::Stored { id, accepted } => {
                if let Some(waiter) = plane.forwarded.answered(id) {
                    if accepted {
                        self.count_stored(&waiter);
                    }
                    self.tell_waiter(io, waiter, accepted);
                }
            }
            PeerMessage::Quiet => plane.quiet_peers += 1,
            PeerMessage::Attach(attachment) => plane.attach(io, attachment),
            PeerMessage::GatewayHere { tenant, gateway, link } => {
                plane.note_gateway(tenant, gateway, link);
            }
            PeerMessage::GatewayGone { tenant, gateway, link } => {
                plane.forget_gateway(&tenant, &gateway, link);
            }
            PeerMessage::Detach { tenant, device, link } => plane.detach(tenant, device, link),
            PeerMessage::Deliver { link, tenant, device, command } => {
                plane.deliver_command(io, link, tenant, device, command);
            }
            PeerMessage::CommandOutcome { tenant, device, link, id, outcome } => {
                plane.command_outcome(io, tenant, device, link, id, outcome);
            }
            PeerMessage::TopicSubscribed { tenant, filter, group, subscriber } => {
                let group = group.as_deref();
                if plane.broker.topics.subscribe(&tenant, &filter, group, subscriber).is_err() {
                    tracing::warn!(%tenant, "a subscription does not fit this shard's table");
                }
            }
            PeerMessage::TopicUnsubscribed { tenant, filter, group, link } => {
                plane.broker.topics.unsubscribe(&tenant, &filter, group.as_deref(), link);
            }
            PeerMessage::Online { link, online } => plane.broker.topics.set_online(link, online),
            PeerMessage::Barrier { shard, number, behind_forwards } => {
                plane.answer_barrier(shard, number, behind_forwards);
            }
            PeerMessage::BarrierSeen { number } => plane.barrier_seen(number),
            PeerMessage::Delivered { receipt, answer } => {
                self.settle_receipt(io, receipt, answer);
            }
            PeerMessage::Forwarded { number } => {
                let broker = &mut plane.broker;
                broker.sessions.forwarded(&mut broker.log, from.0, number);
            }
            PeerMessage::NotForwarded { number } => plane.forward_later(from, number),
            PeerMessage::Retained { tenant, topic, frame, version, expires_at_ms } => {
                plane.broker.saw_version(version);
                let retained = &mut plane.broker.retained;
                // An older version than what is known changes nothing.
                let _ = retained.follow(&tenant, &topic, frame, version, expires_at_ms);
            }
            PeerMessage::Ready => {
                self.ready_peers += 1;
                self.open_doors(io);
            }
            PeerMessage::Moved(moved) => self.move_in(io, *moved),
        }
    }

    fn take_message(&mut self, io: &mut Io<'_>, message: Message) {
        match message {
            Message::Authenticated { ticket, result } => {
                self.take_authentication(io, ticket, result)
            }
            Message::Authorised { ticket, device, result } => {
                self.take_authorisation(io, ticket, device, result);
            }
            Message::Commands { tenant, device, commands } => {
                let now = self.plane.now;
                let next = self.plane.commands.loaded(&tenant, &device, commands, now);
                self.plane.dispatch(io, tenant, device, next);
            }
            Message::CommandArrived { tenant, device } => {
                self.plane.look_for_gateway(&tenant, &device);
                let next = self.plane.commands.arrived(&tenant, &device, self.plane.now);
                self.plane.dispatch(io, tenant, device, next);
            }
            Message::Gateways { tenant, device, gateways } => {
                self.plane.gateways_found(io, tenant, device, &gateways);
            }
            Message::CommandExpired { tenant, device, id } => {
                self.plane.expired(tenant, device, id);
            }
            Message::LiveOutcome { ticket, accepted } => {
                let plane = &mut self.plane;
                plane.answer(plane.index, delivery_of_ticket(ticket), accepted);
            }
            Message::SegmentPrepared { journal, number, result } => {
                match journal {
                    JournalKind::Messages => &mut self.plane.stored,
                    JournalKind::Sessions => &mut self.plane.broker.log.stored,
                }
                .segment_prepared(number, result);
                self.plane.release_parked();
            }
            Message::IdentityChanged { recheck } => {
                self.plane.identity_version += 1;
                if recheck {
                    self.plane.recheck_all();
                }
            }
            Message::Evict { tenant, device } => {
                self.evictions.insert((tenant, device));
            }
            Message::Forget { tenant, login } => self.plane.forget(io, &tenant, login.as_deref()),
            Message::Drain => self.begin_drain(io),
        }
    }

    /// Ends the connections of everybody who was evicted since; one look at the table, however many they are.
    fn evict(&mut self, io: &mut Io<'_>) {
        if self.evictions.is_empty() {
            return;
        }
        let evictions = std::mem::take(&mut self.evictions);
        let evicted = self.plane.connections.keys(|connection| {
            let principal = match &connection.protocol {
                Protocol::Mqtt(session) => session.principal(),
                Protocol::Http(session) => session.principal(),
                Protocol::Amqp(session) => session.principal(),
            };
            principal.is_some_and(|Principal { tenant, name, .. }| {
                evictions.contains(&(tenant.clone(), Some(name.clone())))
                    || evictions.contains(&(tenant.clone(), None))
            })
        });
        for key in evicted {
            self.end_with(io, key, ReasonCode::NOT_AUTHORIZED);
        }
    }

    fn take_authentication(
        &mut self,
        io: &mut Io<'_>,
        ticket: Ticket,
        result: Result<Principal, crate::Refusal>,
    ) {
        let key = Key(ticket.0);
        let Some(mut connection) = self.plane.connections.take(key) else { return };
        if connection.hold != Hold::Registry {
            return self.plane.connections.put(connection);
        }
        let (protocol, wire) = connection.parts();
        let goes_on = match protocol {
            Protocol::Mqtt(session) => {
                session.authenticated(&mut Turn { plane: &mut self.plane, io, wire }, result)
            }
            Protocol::Http(session) => {
                session.authenticated(result);
                true
            }
            Protocol::Amqp(session) => {
                session.authenticated(&mut Turn { plane: &mut self.plane, io, wire }, result)
            }
        };
        self.answered_by_registry(io, connection, goes_on);
    }

    fn take_authorisation(
        &mut self,
        io: &mut Io<'_>,
        ticket: Ticket,
        device: String,
        result: Result<(), crate::Refusal>,
    ) {
        if self.plane.gateway_authorised(io, ticket, result) {
            return;
        }
        let key = Key(ticket.0);
        let Some(mut connection) = self.plane.connections.take(key) else { return };
        if connection.hold != Hold::Registry {
            return self.plane.connections.put(connection);
        }
        match &mut connection.protocol {
            Protocol::Mqtt(session) => session.authorised(&mut self.plane, key, device, result),
            Protocol::Http(session) => session.authorised(device, result),
            Protocol::Amqp(session) => session.authorised(device, result),
        }
        self.answered_by_registry(io, connection, true);
    }
    /// The peer's time counts again from here.
    fn answered_by_registry(
        &mut self,
        io: &mut Io<'_>,
        mut connection: Box<Connection>,
        goes_on: bool,
    ) {
        let key = connection.key;
        connection.excuse_silence(self.plane.now);
        connection.watch_silence(io, self.plane.now, self.plane.settings.connect_timeout);
        self.plane.connections.put(connection);
        if goes_on {
            self.plane.release(key, Hold::Registry);
        } else {
            self.plane.ending.push(key);
        }
    }
}
