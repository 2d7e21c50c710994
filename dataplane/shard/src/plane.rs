//! Everything of a shard that a session may touch besides itself.

use crate::broker::Broker;
use crate::connections::{Connections, Hold, Key};
use crate::forward::{Arriving, Forwarded};
use crate::gateways::{Attachment, Gateways};
use crate::identity::Refusal;
use crate::message::PeerMessage;
use crate::metrics::ShardMetrics;
use crate::outbox::Outbox;
use crate::ports::{LiveConsumer, Registry};
use crate::retry::Retry;
use crate::stored::{NotStored, Stored, Waiter};
use fulcrum_frame::{Class, Frame, FrameBuilder, FrameError, Tag};
use fulcrum_router::{
    CommandDesk, Deliveries, DeliveryId, LinkId, Routes, ShardIndex, Target, owner,
};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Settings of a shard that sessions look at.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Largest MQTT packet, HTTP body or AMQP message, in bytes.
    pub message_bytes_max: usize,
    /// Time for a client to send its CONNECT, and for the registry to answer.
    pub connect_timeout: Duration,
    /// QoS 1 and 2 messages an MQTT 5 client may send before it has been answered.
    pub receive_max: u16,
    /// Longest keep-alive an MQTT 5 client is granted, in seconds; 0 for any.
    pub keep_alive_max_s: u16,
    /// Longest time a session outlives its connection, in seconds.
    pub session_expiry_max_s: u32,
    /// Where clients are sent when this node stops (MQTT 5 Server Reference).
    pub server_reference: Option<Arc<str>>,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            message_bytes_max: crate::limits::MESSAGE_BYTES_MAX,
            connect_timeout: crate::limits::CONNECT_TIMEOUT,
            receive_max: crate::limits::RECEIVE_MAX,
            keep_alive_max_s: 0,
            session_expiry_max_s: fulcrum_sessions::Limits::default().session_expiry_max_s,
            server_reference: None,
        }
    }
}

/// Who is told what became of a QoS 1 telemetry message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Producer {
    Mqtt { connection: Key, packet_id: u16 },
    Http { connection: Key, request: u64 },
    Amqp { connection: Key, number: u64 },
}

/// Content type of a message that says only that it is there (Hono).
pub(crate) const EMPTY_NOTIFICATION: &str = "application/vnd.eclipse-hono-empty-notification";

/// A message of a device, before it becomes a frame.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Inbound<'a> {
    pub class: Class,
    pub qos: u8,
    pub tenant: &'a str,
    pub device: &'a str,
    pub gateway: &'a str,
    pub adapter: &'a str,
    pub origin: &'a str,
    pub content_type: &'a str,
    pub ttl_s: Option<u32>,
    pub retain: bool,
    pub idempotency: &'a str,
    pub properties: &'a [(String, String)],
    /// Correlation id, reply id and status of a command response or delivery.
    pub response: Option<(&'a str, &'a str, u16)>,
    pub payload: &'a [u8],
}

/// A command a device has acknowledged.
#[derive(Debug)]
pub(crate) struct TakenCommand {
    pub tenant: Arc<str>,
    pub device: Arc<str>,
    pub link: LinkId,
    pub id: String,
}

/// State shared by all sessions of a shard.
pub(crate) struct Plane {
    pub index: ShardIndex,
    pub settings: Settings,
    /// What this end says of itself over AMQP, and how much of a peer it bears.
    pub amqp: Arc<fulcrum_links::Settings>,
    pub connections: Connections,
    pub routes: Routes,
    pub deliveries: Deliveries<Producer>,
    pub commands: CommandDesk,
    /// Messaging between clients.
    pub broker: Broker,
    pub outbox: Outbox,
    pub stored: Stored,
    /// Stored messages on their way to other shards.
    pub forwarded: Forwarded,
    /// Stored messages of other shards that wait for this one's journal.
    pub arriving: Arriving,
    pub registry: Box<dyn Registry>,
    pub live: Option<Box<dyn LiveConsumer>>,
    pub metrics: Arc<ShardMetrics>,
    pub now: Instant,
    /// Milliseconds since the Unix epoch.
    pub now_ms: u64,
    /// Changes when the registry's replica does; what was cached under another number is asked for again.
    pub identity_version: u64,
    /// Connections that wait for room in the journal's batch.
    pub parked: Vec<Key>,
    /// Connections that wait for room in a lane.
    pub congested: Vec<Key>,
    /// Outcomes on their way to producers on this shard.
    pub settled: VecDeque<(Producer, bool)>,
    /// Commands devices on this shard have acknowledged.
    pub taken_commands: VecDeque<TakenCommand>,
    /// What had no room and is done later.
    pub retry: Retry,
    /// Connections to end.
    pub ending: Vec<Key>,
    /// Connections on their way to the shard that owns their client.
    pub moving: Vec<(Key, ShardIndex)>,
    /// Connections whose silence is judged by another deadline from now on.
    pub watching: Vec<Key>,
    /// Connections that get retained messages.
    pub walking: Vec<Key>,
    /// Devices that take commands from now on.
    pub attaching: Vec<Attachment>,
    /// Gateways, and what devices have their commands go to.
    pub gateways: Gateways,
    /// Connections whose transport has something to pass on.
    pub flushes: Vec<Key>,
    /// Connections whose TLS handshake waits for its turn.
    pub handshakes: Vec<Key>,
    /// Client identifiers given out.
    pub assigned_ids: u64,
    /// Connections whose hold is over.
    pub resuming: Vec<Key>,
    pub draining: bool,
    /// Other shards that drain and want nothing more from this one.
    pub quiet_peers: usize,
    pub frame: Vec<u8>,
    pub targets: Vec<Target>,
}

impl Plane {
    /// Ends a connection's hold, if it is still held for this: it goes on at the end of the turn, once.
    pub(crate) fn release(&mut self, key: Key, from: Hold) {
        if let Some(connection) = self.connections.by_key(key)
            && connection.hold == from
        {
            connection.hold = Hold::Over;
            self.resuming.push(key);
        }
    }

    /// The connections that waited for the journal go on.
    pub(crate) fn release_parked(&mut self) {
        for key in std::mem::take(&mut self.parked) {
            self.release(key, Hold::Journal);
        }
    }

    /// The link of a connection of this shard.
    pub(crate) fn link(&self, key: Key) -> LinkId {
        LinkId { shard: self.index, key: key.0 }
    }

    /// Builds the frame of `inbound` in [`Plane::frame`].
    pub(crate) fn encode(&mut self, inbound: &Inbound<'_>) -> Result<(), FrameError> {
        self.frame.clear();
        let mut frame = FrameBuilder::new(&mut self.frame, inbound.class, inbound.qos, self.now_ms);
        frame
            .text(Tag::Tenant, inbound.tenant)
            .text(Tag::Device, inbound.device)
            .text(Tag::ContentType, inbound.content_type)
            .text(Tag::OriginAdapter, inbound.adapter)
            .text(Tag::OriginAddress, inbound.origin)
            .text(Tag::Gateway, inbound.gateway)
            .text(Tag::Idempotency, inbound.idempotency)
            .ttl_s(inbound.ttl_s)
            .retain(inbound.retain);
        if let Some((correlation, reply, status)) = inbound.response {
            frame.text(Tag::Correlation, correlation).text(Tag::Reply, reply).status(status);
        }
        for (key, value) in inbound.properties {
            match key.as_str() {
                "traceparent" => frame.text(Tag::Trace, value),
                _ => frame.property(key, value),
            };
        }
        frame.finish(inbound.payload)
    }

    /// Stores a message in the partition of its device; `waiter` is told after the commit.
    pub(crate) fn store(&mut self, inbound: &Inbound<'_>, waiter: Waiter) -> Result<(), NotStored> {
        if self.encode(inbound).is_err() {
            return Err(NotStored::Invalid);
        }
        let owner = owner(&[inbound.tenant, inbound.device], self.outbox.shards());
        let result = if owner != self.index {
            self.forward(owner, waiter)
        } else {
            match Frame::parse(&self.frame) {
                Ok(frame) => self.stored.append(&frame, waiter),
                Err(_) => Err(NotStored::Invalid),
            }
        };
        match result {
            Ok(()) => {
                self.metrics.stored_received.add(1);
                self.metrics.payload_bytes_received.add(inbound.payload.len() as u64);
            }
            Err(refused) => self.count_not_stored(refused),
        }
        result
    }

    /// A consumer's answer to a delivery made by `shard`.
    pub(crate) fn answer(&mut self, shard: ShardIndex, delivery: DeliveryId, accepted: bool) {
        if shard != self.index {
            self.outbox.tell(shard, PeerMessage::Outcome { delivery, accepted });
        } else if let Some(settled) = self.deliveries.answer(delivery, accepted) {
            self.settled.push_back((settled.producer, settled.accepted));
        }
    }

    /// Counts a refusal of credentials or permission.
    pub(crate) fn count_refusal(&self, refusal: Refusal) {
        match refusal {
            Refusal::BadCredentials => self.metrics.refused_bad_credentials.add(1),
            Refusal::Forbidden => self.metrics.refused_forbidden.add(1),
            Refusal::NotFound => self.metrics.refused_not_found.add(1),
            Refusal::Unavailable => self.metrics.refused_unavailable.add(1),
        }
    }
}
