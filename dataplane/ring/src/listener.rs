//! Listening sockets: making them, and the multishot accept on each.
//!
//! Invariant: accepting never spins. When the system is out of descriptors or memory the accept rests for 100 ms; other failures
//! concern one peer and accepting goes on.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsRawFd, OwnedFd};

use socket2::{Domain, Protocol, SockRef, Socket, Type};

use crate::limits::ACCEPT_INPUT_WAIT_S;
use crate::queue::Queue;
use crate::token::{Operation, Token};

/// Names a listener of one ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ListenerId(pub u32);

/// A listening socket for [`Io::listen`](crate::Io::listen): address reuse, TCP_NODELAY (accepted sockets inherit it), close on exec.
///
/// An IPv6 address serves IPv6 alone (IPV6_V6ONLY), whatever the system's default: `[::]:1883` and `0.0.0.0:1883` are two listeners
/// that can be open side by side, and no IPv4 peer appears under a mapped address (`::ffff:192.0.2.1`), which rules about addresses
/// would miss.
///
/// With `reuse_port` several rings may listen on the same address; the kernel spreads the connections over them.
///
/// # Errors
/// What the kernel says to socket, setsockopt, bind or listen.
pub fn bind_listener(addr: SocketAddr, reuse_port: bool, backlog: i32) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if reuse_port {
        socket.set_reuse_port(true)?;
    }
    if addr.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_tcp_nodelay(true)?;
    socket.bind(&addr.into())?;
    socket.listen(backlog)?;
    Ok(socket.into())
}

/// Has a listening socket hand over connections when their first bytes are there, or after a second or so without any: for
/// protocols in which the peer speaks first. A connection then costs one wake-up and a receive that finds its bytes at once, where
/// it would cost a wake-up for the connection and another for the bytes; and who connects and says nothing costs next to nothing.
///
/// Until then the connection is the kernel's, which forgets it without a word to the peer should the listener close.
///
/// # Errors
/// What the kernel says to setsockopt.
pub fn accept_on_input(listener: &TcpListener) -> io::Result<()> {
    let seconds: libc::c_int = ACCEPT_INPUT_WAIT_S;
    // SAFETY: needed because neither std nor socket2 has TCP_DEFER_ACCEPT. Sound because the descriptor is open as long as the
    // listener is borrowed, and the kernel copies the integer, whose size is given, before the call returns.
    let refused = unsafe {
        libc::setsockopt(
            listener.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_DEFER_ACCEPT,
            (&raw const seconds).cast(),
            size_of_val(&seconds) as libc::socklen_t,
        )
    };
    if refused == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The peer of a connected socket; `None` if it is gone already.
pub(crate) fn peer_of(socket: &OwnedFd) -> Option<SocketAddr> {
    SockRef::from(socket).peer_addr().ok()?.as_socket()
}

/// Whether an accept failure means that another attempt would fail at once, too.
pub(crate) fn is_shortage(errno: i32) -> bool {
    matches!(errno, libc::EMFILE | libc::ENFILE | libc::ENOMEM | libc::ENOBUFS)
}

struct Listener {
    socket: Option<TcpListener>,
    armed: bool,
}

pub(crate) struct Listeners {
    listeners: Vec<Listener>,
    accepting: bool,
}

impl Listeners {
    pub(crate) fn new() -> Self {
        Self { listeners: Vec::new(), accepting: true }
    }

    /// Accepts are still wanted.
    pub(crate) fn accepting(&self) -> bool {
        self.accepting
    }

    pub(crate) fn add(&mut self, socket: TcpListener, queue: &mut Queue) -> ListenerId {
        // A socket that does not block would make the kernel answer EAGAIN instead of waiting.
        let blocking = socket.set_nonblocking(false);
        debug_assert!(blocking.is_ok());
        let id = ListenerId(self.listeners.len() as u32);
        self.listeners.push(Listener { socket: Some(socket), armed: false });
        self.arm(id, queue);
        id
    }

    /// Starts accepting unless it runs or is no longer wanted.
    pub(crate) fn arm(&mut self, id: ListenerId, queue: &mut Queue) {
        let accepting = self.accepting;
        let Some(listener) = self.listeners.get_mut(id.0 as usize) else { return };
        match &listener.socket {
            Some(socket) if accepting && !listener.armed => {
                listener.armed = true;
                queue.accept_multishot(socket.as_raw_fd(), Token::new(Operation::Accept, 0, id.0));
            }
            _ => {}
        }
    }

    /// The multishot accept ended.
    pub(crate) fn disarmed(&mut self, id: ListenerId) {
        let accepting = self.accepting;
        if let Some(listener) = self.listeners.get_mut(id.0 as usize) {
            listener.armed = false;
            if !accepting {
                listener.socket = None;
            }
        }
    }

    /// Cancels all accepts; each socket closes after its last completion.
    pub(crate) fn stop(&mut self, queue: &mut Queue) {
        if !std::mem::replace(&mut self.accepting, false) {
            return;
        }
        for (index, listener) in self.listeners.iter_mut().enumerate() {
            if listener.armed {
                let accept = Token::new(Operation::Accept, 0, index as u32);
                queue.cancel(accept, Token::new(Operation::Ignored, 0, 0));
            } else {
                listener.socket = None;
            }
        }
    }

    /// No socket is left.
    pub(crate) fn is_idle(&self) -> bool {
        self.listeners.iter().all(|listener| listener.socket.is_none())
    }
}
