//! Connections that move from one ring to another.
//!
//! ```text
//! Open --detach--> Detaching --output sent, receive cancelled, last completion--> Handler::detached --> another ring's adopt
//!                      |
//!                      '--peer closed, error, time over, stop, close, abort--> as any end, see `closing`
//! ```
//!
//! Invariants: a socket is given away when the kernel holds no operation on it, so the bytes before that moment are this ring's and
//! all after it are the next owner's: none is lost and none comes twice. The handler hears of exactly one of `detached` and `closed`.
//!
//! Not here: carrying the socket, and bytes received but not used, to the other ring. That is the handler's.

use std::net::{SocketAddr, TcpStream};
use std::os::fd::{FromRawFd, OwnedFd};

use crate::connections::{ConnectionId, Phase};
use crate::listener::peer_of;
use crate::state::{Course, State};

/// A connected socket that belongs to no ring. Dropping it closes the connection.
///
/// Made by [`Io::detach`](crate::Io::detach) or from a `TcpStream`, which becomes blocking and gets TCP_NODELAY, as accepted sockets
/// are; used up by [`Io::adopt`](crate::Io::adopt).
#[derive(Debug)]
pub struct Detached(OwnedFd);

impl Detached {
    /// The peer's address; `None` if it is gone already.
    pub fn peer_addr(&self) -> Option<SocketAddr> {
        peer_of(&self.0)
    }
}

impl From<TcpStream> for Detached {
    fn from(stream: TcpStream) -> Self {
        // A socket that does not block would make the kernel answer EAGAIN instead of waiting; and a ring sends all output of a turn
        // at once, so there is nothing to wait for. The calls fail only for what is no TCP socket.
        let prepared = stream.set_nonblocking(false).and_then(|()| stream.set_nodelay(true));
        debug_assert!(prepared.is_ok());
        Self(stream.into())
    }
}

impl From<Detached> for TcpStream {
    fn from(socket: Detached) -> Self {
        socket.0.into()
    }
}

impl State {
    pub(crate) fn adopt(&mut self, socket: Detached) -> Result<ConnectionId, Detached> {
        if self.course != Course::Running {
            return Err(socket);
        }
        let connection = self.admit(socket.0).map_err(Detached)?;
        self.stats.adopted += 1;
        Ok(connection)
    }

    /// Begins to give a connection up; nothing if it is not open.
    pub(crate) fn detach(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.open(id) else { return };
        connection.phase = Phase::Detaching;
        connection.drain_wanted = false;
        self.stop_receiving(id);
        let connection = self.connections.in_slot(id.slot());
        if connection.operations > 0 || !connection.output_is_empty() {
            self.limit_time(id);
        }
        self.settle(id.slot());
    }

    /// The kernel holds nothing of a connection that is being detached: it may go, unless output waits for the end of the turn.
    pub(crate) fn detach_if_flushed(&mut self, slot: u32) {
        let id = self.connections.id_of(slot);
        if self.connections.in_slot(slot).output_is_empty() {
            self.detached.push(id);
        }
    }

    /// A cancellation found no receive, or could not stop it. If one runs nevertheless, a detach asks again: it waits for the end
    /// of the receive, within the linger time.
    pub(crate) fn cancel_failed(&mut self, id: ConnectionId) {
        let connection = self.connections.in_slot(id.slot());
        if connection.phase == Phase::Detaching && connection.receive.armed {
            connection.receive.cancelling = false;
            self.stop_receiving(id);
        }
    }

    /// Takes the socket out of the slot for the handler. `None` if the connection has ended since it was listed.
    pub(crate) fn give_up(&mut self, id: ConnectionId) -> Option<Detached> {
        let connection = self.connections.of_handler(id)?;
        if connection.phase != Phase::Detaching {
            return None;
        }
        debug_assert_eq!(connection.operations, 0, "the kernel still holds an operation");
        connection.phase = Phase::Closing;
        // SAFETY: needed because the slot holds a bare number, which the kernel closes in all other cases. Sound because the slot
        // owns the descriptor, gives it up with the next statement, and no operation on it is queued or under way: a Close is
        // submitted only by `tear_down`, which leaves Detaching.
        let socket = unsafe { OwnedFd::from_raw_fd(connection.fd) };
        connection.fd = -1;
        if let Some(unused) = connection.outgoing.take() {
            self.spares.put(unused);
        }
        self.lift_limit(id.slot());
        self.stats.detached += 1;
        Some(Detached(socket))
    }
}
