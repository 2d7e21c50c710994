//! The sockets of one thread, without blocking.
//!
//! A turn: wait, read and judge what came, encode what may go out, write once for each connection
//! that has something. Deliberately not here: reconnecting. A broker that drops connections under
//! load shows that in the report.

use crate::channel::{Channel, Channels};
use crate::error::LoadError;
use crate::plan::Plan;
use crate::progress::Progress;
use crate::traffic::Outlets;
use crate::wire::Closed;
use crate::worker::Worker;
use mio::event::Event;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use socket2::{Domain, Protocol, Socket, Type};
use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::time::Duration;

/// Large enough for a whole turn's train of small messages.
const READ_BYTES: usize = 256 * 1024;
const EVENTS_PER_TURN: usize = 1_024;
/// Ports a client is bound to when there are several source addresses.
const FIRST_PORT: u16 = 2_048;
/// So many of them.
pub const PORTS_PER_SOURCE: usize = 16_000;

/// Drives `worker` until its run is over.
///
/// # Errors
/// What the worker calls an end, or the event loop itself fails.
pub fn drive(worker: &mut Worker<'_>, plan: &Plan, progress: &Progress) -> Result<(), LoadError> {
    let poll = Poll::new().map_err(LoadError::Poll)?;
    let mut sockets = Sockets {
        connections: (0..worker.len()).map(|_| None).collect(),
        to_flush: Vec::new(),
        poll,
        scratch: vec![0; READ_BYTES],
        plain: Vec::new(),
        channels: Channels::new(plan)?,
    };
    let mut events = Events::with_capacity(EVENTS_PER_TURN);
    let mut turn_ns = progress.now_ns();
    while worker.step(turn_ns)? {
        sockets.connect(worker, plan, turn_ns)?;
        let is_idle = sockets.wait(&mut events, patience(worker, plan, turn_ns))?;
        let now_ns = progress.now_ns();
        for event in &events {
            sockets.on_event(event, worker, now_ns);
        }
        worker.produce(&mut sockets, now_ns);
        sockets.flush(worker);
        let end_ns = progress.now_ns();
        if is_idle {
            worker.idled(end_ns - turn_ns);
        }
        turn_ns = end_ns;
    }
    Ok(())
}

/// How long to sleep: whole milliseconds, because that is what the kernel's wait has; below that the
/// loop spins.
fn patience(worker: &Worker<'_>, plan: &Plan, now_ns: u64) -> Duration {
    if plan.busy_poll && worker.is_loaded() {
        return Duration::ZERO;
    }
    Duration::from_millis(worker.wake_ns(now_ns).saturating_sub(now_ns) / 1_000_000)
}

struct Sockets {
    connections: Vec<Option<Connection>>,
    /// Connections with something new in their outbox.
    to_flush: Vec<usize>,
    poll: Poll,
    scratch: Vec<u8>,
    plain: Vec<u8>,
    channels: Channels,
}

struct Connection {
    stream: TcpStream,
    /// Something lies between MQTT and the socket.
    channel: Option<Box<Channel>>,
    is_established: bool,
    /// MQTT, not yet taken by the socket; from `written` on if there is no channel.
    outbox: Vec<u8>,
    /// What a channel made of it; from `written` on.
    sealed: Vec<u8>,
    written: usize,
}

impl Outlets for Sockets {
    fn outbox(&mut self, client: usize) -> Option<&mut Vec<u8>> {
        let connection = self.connections[client].as_mut()?;
        self.to_flush.push(client);
        Some(&mut connection.outbox)
    }
}

impl Sockets {
    /// Begins as many connections as the worker wants.
    fn connect(
        &mut self,
        worker: &mut Worker<'_>,
        plan: &Plan,
        now_ns: u64,
    ) -> Result<(), LoadError> {
        while let Some(client) = worker.next_to_connect(now_ns) {
            match begin(plan, worker.thread(), client) {
                Ok(mut stream) => {
                    let both = Interest::READABLE | Interest::WRITABLE;
                    self.poll
                        .registry()
                        .register(&mut stream, Token(client), both)
                        .map_err(LoadError::Poll)?;
                    self.connections[client] = Some(Connection {
                        stream,
                        channel: self.channels.open()?,
                        is_established: false,
                        outbox: Vec::new(),
                        sealed: Vec::new(),
                        written: 0,
                    });
                }
                Err(source) => worker.not_opened(client, source),
            }
        }
        Ok(())
    }

    /// Whether nothing came.
    fn wait(&mut self, events: &mut Events, patience: Duration) -> Result<bool, LoadError> {
        match self.poll.poll(events, Some(patience)) {
            Ok(()) => Ok(events.is_empty()),
            Err(error) if error.kind() == ErrorKind::Interrupted => {
                events.clear();
                Ok(true)
            }
            Err(error) => Err(LoadError::Poll(error)),
        }
    }

    fn on_event(&mut self, event: &Event, worker: &mut Worker<'_>, now_ns: u64) {
        let Token(client) = event.token();
        let Some(connection) = &mut self.connections[client] else { return };
        if !connection.is_established {
            match connection.stream.take_error() {
                Ok(None) if event.is_writable() => {
                    connection.is_established = true;
                    worker.opened(client, &mut connection.outbox, now_ns);
                }
                Ok(None) => return,
                Ok(Some(error)) | Err(error) => {
                    self.connections[client] = None;
                    return worker.not_opened(client, error);
                }
            }
        } else if event.is_writable() {
            worker.writable(client);
        }
        self.to_flush.push(client);
        if !(event.is_readable() || event.is_read_closed() || event.is_error()) {
            return;
        }
        if receive(connection, &mut self.scratch, &mut self.plain, worker, client, now_ns).is_err()
        {
            self.connections[client] = None;
            worker.closed(client);
        }
    }

    fn flush(&mut self, worker: &mut Worker<'_>) {
        while let Some(client) = self.to_flush.pop() {
            let Some(connection) = &mut self.connections[client] else { continue };
            if connection.flush().is_err() {
                self.connections[client] = None;
                worker.closed(client);
            }
        }
    }
}

/// Starts to connect client `client` of thread `thread`.
///
/// Beyond what one address has ports for, clients come from several, each with a port of its own
/// choice below the ephemeral ones: a port that was bound by name is not given to others by the
/// kernel, even long after.
fn begin(plan: &Plan, thread: usize, client: usize) -> io::Result<TcpStream> {
    let target = SocketAddr::new(plan.address, plan.port);
    let socket = Socket::new(Domain::for_address(target), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    socket.set_tcp_nodelay(true)?;
    if plan.sources > 1 {
        socket.set_reuse_address(true)?;
        bind(&socket, plan, client * plan.threads + thread)?;
    }
    match socket.connect(&target.into()) {
        Ok(()) => {}
        Err(error) if error.raw_os_error() == Some(EINPROGRESS) => {}
        Err(error) => return Err(error),
    }
    Ok(TcpStream::from_std(socket.into()))
}

/// Somebody else on this machine may have a few of the ports: then the same one of an address that
/// is used for nothing else.
fn bind(socket: &Socket, plan: &Plan, number: usize) -> io::Result<()> {
    let sources = usize::from(plan.sources);
    let port = FIRST_PORT + (number / sources % PORTS_PER_SOURCE) as u16;
    let at = |last: usize| SocketAddr::from(([127, 0, (last >> 8) as u8, last as u8], port));
    let source = number % sources + 1;
    socket.bind(&at(source).into()).or_else(|_| socket.bind(&at(source + 256).into()))
}

/// connect(2): the socket is nonblocking and the connection cannot be completed immediately.
const EINPROGRESS: i32 = 115;

/// Reads what is there and hands it to the worker.
fn receive(
    connection: &mut Connection,
    scratch: &mut [u8],
    plain: &mut Vec<u8>,
    worker: &mut Worker<'_>,
    client: usize,
    now_ns: u64,
) -> Result<(), Closed> {
    loop {
        let count = match connection.stream.read(scratch) {
            Ok(0) => return Err(Closed),
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(_) => return Err(Closed),
        };
        match &mut connection.channel {
            None => {
                worker.received(client, &scratch[..count], &mut connection.outbox, now_ns)?;
            }
            Some(channel) => {
                plain.clear();
                channel.open(&scratch[..count], plain)?;
                worker.received(client, plain, &mut connection.outbox, now_ns)?;
            }
        }
        // epoll(7), question 9: a short read of a stream socket means that it is drained.
        if count < scratch.len() {
            return Ok(());
        }
    }
}

impl Connection {
    /// Writes as much as the socket takes. What is left follows when the socket is reported writable.
    fn flush(&mut self) -> Result<(), Closed> {
        if !self.is_established {
            return Ok(());
        }
        let out = match &mut self.channel {
            None => &mut self.outbox,
            Some(channel) => {
                channel.seal(&mut self.outbox, &mut self.sealed);
                &mut self.sealed
            }
        };
        while self.written < out.len() {
            match self.stream.write(&out[self.written..]) {
                Ok(0) => return Err(Closed),
                Ok(count) => self.written += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    out.drain(..self.written);
                    self.written = 0;
                    return Ok(());
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return Err(Closed),
            }
        }
        out.clear();
        self.written = 0;
        Ok(())
    }
}
