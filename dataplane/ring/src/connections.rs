//! The table of connections and the pool of their output buffers.
//!
//! Invariants: a slot is reused only when the kernel holds no operation of it and the handler was told it closed; an idle
//! connection owns no buffer.
//!
//! Not here: what drives a connection from one phase to the next, see `transfer` and `closing`.

use std::os::fd::{IntoRawFd, OwnedFd, RawFd};

use crate::limits::{OUTPUT_INITIAL_BYTES, SPARE_BUFFER_BYTES_MAX, SPARE_BYTES_MAX};
use crate::timers::TimerKey;
use crate::token::{GENERATION_MASK, Operation, Token};

/// Names one life of a connection slot. A stale one names nothing.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId {
    slot: u32,
    generation: u32,
}

impl ConnectionId {
    /// The slot, dense from 0: an index for side tables. It is reused, but only after `closed` was called for this life.
    pub fn index(self) -> usize {
        self.slot as usize
    }

    pub(crate) fn slot(self) -> u32 {
        self.slot
    }

    pub(crate) fn token(self, operation: Operation) -> Token {
        Token::new(operation, self.generation, self.slot)
    }
}

impl std::fmt::Debug for ConnectionId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ConnectionId({}/{})", self.slot, self.generation)
    }
}

/// Why a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CloseReason {
    /// The handler closed or aborted it.
    Local,
    /// The peer sent FIN. What was queued is still sent.
    Peer,
    /// The peer reset the connection, or is gone.
    Reset,
    /// Another error of the socket, as an errno.
    Failed(i32),
    /// The peer reads too slowly: more than `send_queue_bytes_max` bytes were queued, or a detach found output that did not leave
    /// within the linger time.
    SlowConsumer,
    /// The ring stops. What was queued is still sent.
    Shutdown,
}

impl CloseReason {
    /// The reason behind a failed receive or send.
    pub(crate) fn from_errno(errno: i32) -> Self {
        match errno {
            libc::ECONNRESET | libc::EPIPE | libc::ETIMEDOUT | libc::ECONNABORTED => Self::Reset,
            other => Self::Failed(other),
        }
    }
}

/// Where a slot is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Nobody's.
    Free,
    /// The handler's.
    Open,
    /// The handler's still, on its way out of the ring: output is flushed, receiving is cancelled, bytes already received are
    /// handed over. See `moving`.
    Detaching,
    /// Closed for the handler; output is flushed, then FIN, then input is discarded until the peer's FIN.
    Lingering,
    /// Cancelled and closed; waiting for the last completions.
    Closing,
}

/// The multishot receive of a connection.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Receive {
    /// The handler (or lingering) wants bytes.
    pub(crate) wanted: bool,
    /// The kernel holds the operation.
    pub(crate) armed: bool,
    /// Its cancellation was submitted.
    pub(crate) cancelling: bool,
    /// The peer's FIN came.
    pub(crate) ended: bool,
    /// The errno it failed with while the handler had paused; 0 for none. All of Linux's are below 256.
    pub(crate) failed: u8,
    /// Listed for arming at the end of the turn.
    pub(crate) listed: bool,
}

pub(crate) struct Connection {
    pub(crate) fd: RawFd,
    generation: u32,
    /// Operations whose last completion is still to come.
    pub(crate) operations: u16,
    pub(crate) phase: Phase,
    pub(crate) receive: Receive,
    pub(crate) sending: bool,
    /// Listed for sending at the end of the turn.
    pub(crate) dirty: bool,
    pub(crate) fin_sent: bool,
    /// Tell the handler when the queue is empty.
    pub(crate) drain_wanted: bool,
    /// The handler was told it closed.
    pub(crate) told: bool,
    /// Bytes thrown away since it ended.
    pub(crate) discarded: u32,
    /// Bounds lingering or detaching.
    pub(crate) linger: Option<TimerKey>,
    /// The output buffers, while there is output.
    pub(crate) outgoing: Option<Box<Outgoing>>,
}

// A hundred thousand idle connections cost 5 MB here. Everything that only a busy one needs belongs into `Outgoing`.
const _: () = assert!(size_of::<Connection>() <= 48);

impl Connection {
    /// Unsent bytes.
    pub(crate) fn queued_bytes(&self) -> usize {
        self.outgoing
            .as_ref()
            .map_or(0, |outgoing| outgoing.in_flight.len() - outgoing.sent + outgoing.output.len())
    }

    /// Nothing waits to be sent. Says nothing about what is under way.
    pub(crate) fn output_is_empty(&self) -> bool {
        self.outgoing.as_ref().is_none_or(|outgoing| outgoing.output.is_empty())
    }

    /// The handler may still end it, and has not been told of its end.
    pub(crate) fn is_the_handlers(&self) -> bool {
        matches!(self.phase, Phase::Open | Phase::Detaching)
    }
}

/// The output of one connection: what the handler appends to, and what the kernel sends.
#[derive(Default)]
pub(crate) struct Outgoing {
    /// The handler's.
    pub(crate) output: Vec<u8>,
    /// The kernel's while the connection is `sending`.
    pub(crate) in_flight: Vec<u8>,
    /// Bytes of `in_flight` the kernel took.
    pub(crate) sent: usize,
}

/// All connections of a ring.
pub(crate) struct Connections {
    slots: Vec<Connection>,
    free: Vec<u32>,
    maximum: u32,
}

impl Connections {
    pub(crate) fn new(maximum: u32) -> Self {
        Self { slots: Vec::new(), free: Vec::new(), maximum }
    }

    /// Slots in use.
    pub(crate) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Takes a slot for a connected socket; gives it back if all are in use.
    pub(crate) fn insert(&mut self, socket: OwnedFd) -> Result<ConnectionId, OwnedFd> {
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None if self.slots.len() < self.maximum as usize => {
                self.slots.push(Connection::vacant());
                (self.slots.len() - 1) as u32
            }
            None => return Err(socket),
        };
        let connection = &mut self.slots[slot as usize];
        debug_assert_eq!(connection.phase, Phase::Free);
        debug_assert_eq!(connection.operations, 0);
        let generation = connection.generation;
        *connection = Connection {
            fd: socket.into_raw_fd(),
            generation,
            phase: Phase::Open,
            receive: Receive { wanted: true, ..Receive::default() },
            ..Connection::vacant()
        };
        Ok(ConnectionId { slot, generation })
    }

    /// Gives a slot back. Its next life has another generation.
    pub(crate) fn remove(&mut self, slot: u32) {
        let connection = &mut self.slots[slot as usize];
        debug_assert_eq!(connection.phase, Phase::Closing);
        debug_assert_eq!(connection.operations, 0, "the kernel still holds an operation");
        debug_assert!(connection.told && connection.linger.is_none());
        debug_assert!(connection.outgoing.is_none());
        connection.phase = Phase::Free;
        connection.fd = -1;
        connection.generation = (connection.generation + 1) & GENERATION_MASK;
        self.free.push(slot);
    }

    /// The connection a handler may use under this name.
    pub(crate) fn open(&mut self, id: ConnectionId) -> Option<&mut Connection> {
        self.slots.get_mut(id.slot as usize).filter(|connection| {
            connection.generation == id.generation && connection.phase == Phase::Open
        })
    }

    /// The connection under this name while the handler may still end it.
    pub(crate) fn of_handler(&mut self, id: ConnectionId) -> Option<&mut Connection> {
        self.slots.get_mut(id.slot as usize).filter(|connection| {
            connection.generation == id.generation && connection.is_the_handlers()
        })
    }

    /// As [`open`](Self::open), to read.
    pub(crate) fn peek_open(&self, id: ConnectionId) -> Option<&Connection> {
        self.slots.get(id.slot as usize).filter(|connection| {
            connection.generation == id.generation && connection.phase == Phase::Open
        })
    }

    /// The connection whose life an operation belongs to.
    pub(crate) fn of_token(&mut self, token: Token) -> Option<(ConnectionId, &mut Connection)> {
        let connection = self.slots.get_mut(token.slot as usize).filter(|connection| {
            connection.generation == token.generation && connection.phase != Phase::Free
        });
        debug_assert!(connection.is_some(), "a completion without its connection: {token:?}");
        let id = ConnectionId { slot: token.slot, generation: token.generation };
        connection.map(|connection| (id, connection))
    }

    /// The connection in a slot, whoever's it is now.
    pub(crate) fn in_slot(&mut self, slot: u32) -> &mut Connection {
        &mut self.slots[slot as usize]
    }

    /// The present life of a slot.
    pub(crate) fn id_of(&self, slot: u32) -> ConnectionId {
        ConnectionId { slot, generation: self.slots[slot as usize].generation }
    }

    pub(crate) fn slots(&self) -> std::ops::Range<u32> {
        0..self.slots.len() as u32
    }
}

impl Connection {
    fn vacant() -> Self {
        Self {
            fd: -1,
            generation: 0,
            operations: 0,
            phase: Phase::Free,
            receive: Receive::default(),
            sending: false,
            dirty: false,
            fin_sent: false,
            drain_wanted: false,
            told: false,
            discarded: 0,
            linger: None,
            outgoing: None,
        }
    }
}

/// Output buffers between uses. Last in, first out: the warm ones go round.
pub(crate) struct Spares {
    #[expect(
        clippy::vec_box,
        reason = "the boxes go in and out of slots; unboxing would allocate each time"
    )]
    idle: Vec<Box<Outgoing>>,
    bytes: usize,
}

impl Spares {
    pub(crate) fn new() -> Self {
        Self { idle: Vec::new(), bytes: 0 }
    }

    /// Empty buffers; the handler's has room.
    pub(crate) fn take(&mut self) -> Box<Outgoing> {
        match self.idle.pop() {
            Some(outgoing) => {
                self.bytes -= resting_bytes(&outgoing);
                outgoing
            }
            None => Box::new(Outgoing {
                output: Vec::with_capacity(OUTPUT_INITIAL_BYTES),
                ..Outgoing::default()
            }),
        }
    }

    /// Keeps the buffers, or frees them if there are enough. A large one is always freed. They must not be the kernel's.
    pub(crate) fn put(&mut self, mut outgoing: Box<Outgoing>) {
        let Outgoing { output, in_flight, sent } = &mut *outgoing;
        *sent = 0;
        for buffer in [&mut *output, &mut *in_flight] {
            buffer.clear();
            if buffer.capacity() > SPARE_BUFFER_BYTES_MAX {
                *buffer = Vec::new();
            }
        }
        // The one that was just sent is the warm one, and the next to be filled.
        if in_flight.capacity() > 0 {
            std::mem::swap(output, in_flight);
        }
        let bytes = resting_bytes(&outgoing);
        if outgoing.output.capacity() > 0 && self.bytes + bytes <= SPARE_BYTES_MAX {
            self.bytes += bytes;
            self.idle.push(outgoing);
        }
    }
}

/// What spare buffers cost.
fn resting_bytes(outgoing: &Outgoing) -> usize {
    outgoing.output.capacity() + outgoing.in_flight.capacity()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn socket() -> OwnedFd {
        std::fs::File::open("/dev/null").unwrap().into()
    }

    #[test]
    fn a_stale_name_names_nothing_after_the_slot_was_reused() {
        let mut connections = Connections::new(1);
        let first = connections.insert(socket()).unwrap();
        assert!(connections.insert(socket()).is_err());
        let connection = connections.open(first).unwrap();
        connection.phase = Phase::Closing;
        connection.told = true;
        assert!(connections.open(first).is_none());
        connections.remove(first.slot());
        let second = connections.insert(socket()).unwrap();
        assert_eq!(first.index(), second.index());
        assert_ne!(first, second);
        assert!(connections.open(first).is_none());
        assert!(connections.open(second).is_some());
    }

    fn outgoing(bytes: usize) -> Box<Outgoing> {
        Box::new(Outgoing { in_flight: Vec::with_capacity(bytes), ..Outgoing::default() })
    }

    #[test]
    fn spare_buffers_are_bounded_in_bytes() {
        let mut spares = Spares::new();
        for _ in 0..1000 {
            spares.put(outgoing(SPARE_BUFFER_BYTES_MAX));
        }
        assert!(spares.bytes <= SPARE_BYTES_MAX);
        let kept = spares.idle.len();
        spares.put(outgoing(SPARE_BUFFER_BYTES_MAX + 1));
        spares.put(outgoing(0));
        assert_eq!(spares.idle.len(), kept);
        for _ in 0..kept {
            let taken = spares.take();
            assert!(taken.output.is_empty() && taken.in_flight.is_empty() && taken.sent == 0);
            assert!(taken.output.capacity() >= OUTPUT_INITIAL_BYTES);
        }
        assert_eq!(spares.bytes, 0);
    }

    #[test]
    fn an_idle_connection_owns_no_buffer() {
        let mut connections = Connections::new(1);
        let id = connections.insert(socket()).unwrap();
        let connection = connections.open(id).unwrap();
        assert!(connection.outgoing.is_none());
        assert_eq!((connection.queued_bytes(), connection.output_is_empty()), (0, true));
    }
}
