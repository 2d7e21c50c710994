//! To the client: what its session has for it, into its connection's output.

use crate::connections::{Key, Protocol};
use crate::limits::SUBSCRIBER_BACKLOG_BYTES_MAX;
use crate::mqtt::{Alias, Content, Recipient, put_pubrel};
use crate::plane::Plane;
use fulcrum_frame::Frame;
use fulcrum_mqtt::{ProtocolLevel, QoS};
use fulcrum_ring::Io;
use fulcrum_sessions::{Outgoing, SessionKey};

/// How one subscriber gets a copy at QoS 0.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct SelfCopy {
    pub retain: bool,
    pub ids: Vec<u32>,
}

impl SelfCopy {
    /// Allocates only if there are identifiers.
    pub(super) fn new(retain: bool, ids: &[u32]) -> SelfCopy {
        SelfCopy { retain, ids: ids.to_vec() }
    }
}

impl Plane {
    /// QoS 0 to a session of this shard: written if it is connected and reads, otherwise dropped and counted. A copy
    /// for the connection whose packet is being handled is noted for it.
    pub(super) fn hand_at_most_once(
        &mut self,
        io: &mut Io<'_>,
        session: SessionKey,
        content: &Content<'_>,
        copy: SelfCopy,
        own: Option<Key>,
    ) -> bool {
        self.hand_or_drop(io, session, content, None, copy, own)
    }

    /// The same; `raw` is the packet as it came, if a 3.1.1 subscriber is to get just that.
    pub(super) fn hand_or_drop(
        &mut self,
        io: &mut Io<'_>,
        session: SessionKey,
        content: &Content<'_>,
        raw: Option<&[u8]>,
        copy: SelfCopy,
        own: Option<Key>,
    ) -> bool {
        let Some(link) = self.broker.sessions.link(session) else {
            self.metrics.messages_dropped_offline.add(1);
            return false;
        };
        if own == Some(Key(link)) {
            self.broker.self_copies.push(copy);
            return true;
        }
        let Some(connection) = self.connections.by_key(Key(link)) else { return false };
        let (protocol, mut wire) = connection.parts();
        let Protocol::Mqtt(client) = protocol else { return false };
        if !client.is_open() || wire.queued_bytes(io) > SUBSCRIBER_BACKLOG_BYTES_MAX {
            self.metrics.messages_dropped_slow.add(1);
            return false;
        }
        let stacked = wire.stack.is_some();
        let Some(output) = wire.output(io) else { return false };
        let plain = !copy.retain && client.level == ProtocolLevel::V311;
        let written = if let (true, Some(raw)) = (plain, raw) {
            output.extend_from_slice(raw);
            true
        } else if plain {
            // Every 3.1.1 subscriber gets the same bytes.
            let encoded = &mut self.broker.scratch.encoded;
            if encoded.is_empty() {
                let to = Recipient::at_most_once(ProtocolLevel::V311, false, &[], Alias::None);
                if content.encode(&to, encoded).is_err() {
                    return false;
                }
            }
            output.extend_from_slice(encoded);
            true
        } else {
            client.write_at_most_once(content, copy.retain, &copy.ids, output)
        };
        if stacked {
            self.flushes.push(Key(link));
        }
        self.metrics.messages_sent.add(written.into());
        written
    }

    /// Writes what sessions have ready, for as long as their connections take it.
    pub(crate) fn pump_sessions(&mut self, io: &mut Io<'_>) {
        while let Some(session) = self.broker.sessions.poll_ready() {
            self.pump_session(io, session);
        }
    }

    fn pump_session(&mut self, io: &mut Io<'_>, session: SessionKey) {
        let Some(link) = self.broker.sessions.link(session) else { return };
        let Some(connection) = self.connections.by_key(Key(link)) else { return };
        let (protocol, mut wire) = connection.parts();
        let Protocol::Mqtt(client) = protocol else { return };
        if !client.is_open() {
            return;
        }
        if wire.stack.is_some() {
            self.flushes.push(Key(link));
        }
        if !client.walks.is_empty() {
            // What goes out, or cannot, makes room for more.
            self.walking.push(Key(link));
        }
        loop {
            if wire.queued_bytes(io) > SUBSCRIBER_BACKLOG_BYTES_MAX {
                client.stalled = true;
                io.notify_drained(wire.id);
                return;
            }
            let broker = &mut self.broker;
            let Some(next) = broker.sessions.next(&mut broker.log, session, self.now_ms) else {
                return;
            };
            let Some(output) = wire.output(io) else { return };
            match next {
                Outgoing::PubRel { packet_id } => put_pubrel(client.level, packet_id, output),
                Outgoing::Publish { packet_id, dup, qos, retain, message, subscription_ids } => {
                    let content = Frame::parse(message.frame())
                        .ok()
                        .and_then(|frame| Content::of_frame(frame, self.now_ms));
                    let qos = QoS::from_u8(qos).unwrap_or(QoS::AtLeastOnce);
                    let written = content.is_some_and(|content| {
                        let ids = subscription_ids.as_slice();
                        client.write_kept(&content, qos, packet_id, (dup, retain), ids, output)
                    });
                    if written {
                        self.metrics.messages_sent.add(1);
                    } else {
                        broker.sessions.skip(&mut broker.log, session, packet_id);
                    }
                }
            }
        }
    }
}
