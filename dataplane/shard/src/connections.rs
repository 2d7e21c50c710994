//! The connections of a shard and the keys that name them.

use crate::amqp;
use crate::http;
use crate::limits::{ANSWERS_BYTES_MAX, SUBSCRIBER_OUTPUT_BYTES_MAX};
use crate::mqtt;
use crate::turn::Wire;
use fulcrum_ring::{ConnectionId, Io, TimerId};
use fulcrum_transport::Stack;
use std::time::{Duration, Instant};

/// Names a connection for as long as it lives, and nobody after: index in the low half, a serial number in the high.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct Key(pub u64);

impl Key {
    /// Names no connection: there is no such place in the table.
    pub(crate) const NOBODY: Key = Key(u64::MAX);

    fn new(index: usize, serial: u32) -> Key {
        Key(u64::from(serial) << 32 | index as u64)
    }

    fn index(self) -> usize {
        (self.0 & 0xffff_ffff) as usize
    }
}

/// Why a connection's input is not read on.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) enum Hold {
    /// It is.
    #[default]
    None,
    /// The registry is asked.
    Registry,
    /// The journal's batch is full; it goes on after the next commit.
    Journal,
    /// As many HTTP answers are outstanding as may be.
    Pipeline,
    /// The peer has not read what it was answered.
    Output,
    /// Too much waits for other shards.
    Lanes,
    /// What it asked for is on its way to the disk, or to other shards.
    Commit,
    /// It goes to the shard that owns its client identifier.
    Moving,
    /// What it waited for is there: it goes on at the end of the turn.
    Over,
    /// It is being closed, or will be when the last answer is out.
    Closing,
}

/// What a connection speaks.
#[expect(
    clippy::large_enum_variant,
    reason = "nearly all are MQTT, and each is boxed with its connection"
)]
pub(crate) enum Protocol {
    Mqtt(mqtt::Session),
    Http(Box<http::Session>),
    Amqp(Box<amqp::Session>),
}

/// One connection.
pub(crate) struct Connection {
    pub key: Key,
    pub id: ConnectionId,
    pub protocol: Protocol,
    /// What is between the socket and the protocol, where that is something.
    pub stack: Option<Box<Stack>>,
    /// Bytes received and not taken yet: the start of a packet, or what came while on hold.
    pub input: Vec<u8>,
    pub hold: Hold,
    /// When the peer was last heard; until the transport is established, when it connected.
    pub last_input: Instant,
    /// Looks after the peer's silence.
    pub watch: Option<TimerId>,
}

impl Connection {
    /// The protocol's session, and the way to the peer.
    pub(crate) fn parts(&mut self) -> (&mut Protocol, Wire<'_>) {
        let (key, id) = (self.key, self.id);
        (&mut self.protocol, Wire { key, id, stack: self.stack.as_deref_mut() })
    }

    /// The way to the peer.
    pub(crate) fn wire(&mut self) -> Wire<'_> {
        self.parts().1
    }

    /// Has the protocol write what it gathered, and the transport pass it on.
    pub(crate) fn flush(&mut self, io: &mut Io<'_>) {
        let (protocol, mut wire) = self.parts();
        if let Protocol::Amqp(session) = protocol {
            session.flush(io, &mut wire);
        }
        wire.flush(io);
    }

    /// Whether the protocol may speak: there is no transport, or its handshakes are done.
    pub(crate) fn is_established(&self) -> bool {
        self.stack.as_deref().is_none_or(Stack::is_established)
    }

    /// When the peer will have been silent for too long; `None` if it may be silent for ever.
    fn deadline(&self, connect_timeout: Duration) -> Option<Instant> {
        if !self.is_established() {
            // Bytes of a handshake do not count as input: however they drip, it is over in time.
            return Some(self.last_input + connect_timeout);
        }
        match &self.protocol {
            Protocol::Mqtt(session) => session.deadline(self.last_input, connect_timeout),
            Protocol::Http(session) => Some(session.deadline(self.last_input, connect_timeout)),
            Protocol::Amqp(session) => session.deadline(self.last_input, connect_timeout),
        }
    }

    /// Unread answers above which the peer is not read from.
    pub(crate) fn answers_bytes_max(&self) -> usize {
        match &self.protocol {
            // Messages it subscribed to are bounded where they are handed over, and are no answers.
            Protocol::Mqtt(session) if session.is_open() => {
                SUBSCRIBER_OUTPUT_BYTES_MAX + ANSWERS_BYTES_MAX
            }
            _ => ANSWERS_BYTES_MAX,
        }
    }

    /// Whether it is this node and not the peer that keeps the connection silent.
    pub(crate) fn is_kept_waiting(&self) -> bool {
        matches!(
            self.hold,
            Hold::Journal | Hold::Pipeline | Hold::Lanes | Hold::Commit | Hold::Moving | Hold::Over
        )
    }

    /// The peer's silence counts from now: until now it was this node that kept the connection silent.
    pub(crate) fn excuse_silence(&mut self, now: Instant) {
        self.last_input = now;
        if let Protocol::Amqp(session) = &mut self.protocol {
            session.excuse_silence(now);
        }
    }

    /// Sets the timer for the present deadline; false when that is over.
    pub(crate) fn watch_silence(
        &mut self,
        io: &mut Io<'_>,
        now: Instant,
        connect_timeout: Duration,
    ) -> bool {
        if let Some(timer) = self.watch.take() {
            io.cancel_timer(timer);
        }
        match self.deadline(connect_timeout) {
            Some(deadline) if deadline <= now => return false,
            Some(deadline) => self.watch = Some(io.set_timer(deadline - now, self.key.0)),
            None => {}
        }
        true
    }
}

/// The table of connections, indexed as the ring indexes them.
#[derive(Default)]
pub(crate) struct Connections {
    entries: Vec<Option<Box<Connection>>>,
    serial: u32,
    open: usize,
}

impl Connections {
    pub(crate) fn insert(
        &mut self,
        id: ConnectionId,
        protocol: Protocol,
        stack: Option<Box<Stack>>,
        now: Instant,
    ) -> Key {
        let index = id.index();
        if self.entries.len() <= index {
            self.entries.resize_with(index + 1, || None);
        }
        self.serial = self.serial.wrapping_add(1);
        let key = Key::new(index, self.serial);
        let hold = Hold::None;
        let (input, watch) = (Vec::new(), None);
        let connection =
            Connection { key, id, protocol, stack, input, hold, last_input: now, watch };
        self.entries[index] = Some(Box::new(connection));
        self.open += 1;
        key
    }

    /// The connection the ring names, taken out while its input is handled; see [`Connections::put`].
    pub(crate) fn take_by_id(&mut self, id: ConnectionId) -> Option<Box<Connection>> {
        let entry = self.entries.get_mut(id.index())?;
        entry.take_if(|connection| connection.id == id)
    }

    /// The connection a key names, taken out.
    pub(crate) fn take(&mut self, key: Key) -> Option<Box<Connection>> {
        let entry = self.entries.get_mut(key.index())?;
        entry.take_if(|connection| connection.key == key)
    }

    /// Puts a connection back.
    pub(crate) fn put(&mut self, connection: Box<Connection>) {
        let index = connection.key.index();
        debug_assert!(self.entries[index].is_none(), "a slot holds one connection at a time");
        self.entries[index] = Some(connection);
    }

    /// A connection that was taken out is gone.
    pub(crate) fn forget(&mut self, connection: Box<Connection>) {
        self.open -= 1;
        drop(connection);
    }

    /// The key of the connection the ring names.
    pub(crate) fn key_of(&self, id: ConnectionId) -> Option<Key> {
        let entry = self.entries.get(id.index())?.as_deref()?;
        (entry.id == id).then_some(entry.key)
    }

    pub(crate) fn by_key(&mut self, key: Key) -> Option<&mut Connection> {
        let connection = self.entries.get_mut(key.index())?.as_deref_mut()?;
        (connection.key == key).then_some(connection)
    }

    /// All connections but one that is taken out.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Connection> {
        self.entries.iter().flatten().map(|connection| &**connection)
    }

    /// Keys of all connections that `wanted` picks.
    pub(crate) fn keys(&self, wanted: impl Fn(&Connection) -> bool) -> Vec<Key> {
        self.iter()
            .filter(|connection| wanted(connection))
            .map(|connection| connection.key)
            .collect()
    }

    /// Open connections.
    pub(crate) fn len(&self) -> usize {
        self.open
    }
}
