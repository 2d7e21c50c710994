//! A ring on its own thread, driven by closures, listening on a loopback port.

#![allow(dead_code)] // Each test file is a crate of its own and uses a part.
#![allow(clippy::unwrap_used, clippy::panic)] // Test code outside a test function.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use fulcrum_ring::{
    CloseReason, ConnectionId, Detached, Handler, Io, ListenerId, Ring, RingConfig, RingError,
    RingStats, Waker, WriteDone, bind_listener,
};

type OnConnection = Box<dyn FnMut(&mut Io<'_>, ConnectionId)>;
type OnBytes = Box<dyn FnMut(&mut Io<'_>, ConnectionId, &[u8])>;
type OnClosed = Box<dyn FnMut(&mut Io<'_>, ConnectionId, CloseReason)>;
type OnDetached = Box<dyn FnMut(&mut Io<'_>, ConnectionId, Detached)>;
type OnAdopted = Box<dyn FnMut(&mut Io<'_>, ConnectionId, Vec<u8>)>;
type OnRefused = Box<dyn FnMut(&mut Io<'_>, Detached, Vec<u8>)>;
type OnToken = Box<dyn FnMut(&mut Io<'_>, u64)>;
type OnWritten = Box<dyn FnMut(&mut Io<'_>, u64, io::Result<WriteDone>)>;
/// A socket on its way to a ring, and the bytes the last owner has received and not used.
pub type Moving = (Detached, Vec<u8>);
type On = Box<dyn FnMut(&mut Io<'_>)>;

/// What the handler does; everything defaults to nothing.
pub struct Script {
    pub started: On,
    pub accepted: OnConnection,
    pub received: OnBytes,
    pub drained: OnConnection,
    pub closed: OnClosed,
    pub detached: OnDetached,
    /// Sockets to adopt; looked at in `started` and whenever the ring is woken.
    pub inbox: Option<mpsc::Receiver<Moving>>,
    pub adopted: OnAdopted,
    pub refused: OnRefused,
    pub timer: OnToken,
    pub file_written: OnWritten,
    pub woken: On,
    pub turn_ended: On,
    pub has_inbox: Box<dyn Fn() -> bool>,
}

impl Default for Script {
    fn default() -> Self {
        Self {
            started: Box::new(|_| {}),
            accepted: Box::new(|_, _| {}),
            received: Box::new(|_, _, _| {}),
            drained: Box::new(|_, _| {}),
            closed: Box::new(|_, _, _| {}),
            detached: Box::new(|_, _, socket| drop(socket)),
            inbox: None,
            adopted: Box::new(|_, _, _| {}),
            refused: Box::new(|_, _, _| panic!("an adoption was refused")),
            timer: Box::new(|_, _| {}),
            file_written: Box::new(|_, _, _| {}),
            woken: Box::new(|_| {}),
            turn_ended: Box::new(|_| {}),
            has_inbox: Box::new(|| false),
        }
    }
}

impl Script {
    /// Sends back what comes.
    pub fn echo() -> Self {
        Self {
            received: Box::new(|io, connection, bytes| {
                io.send(connection, bytes);
            }),
            ..Self::default()
        }
    }
}

struct Player {
    script: Script,
    listener: Option<std::net::TcpListener>,
    stop: Arc<AtomicBool>,
    stats: Arc<Mutex<RingStats>>,
    /// Slots whose connection was accepted or adopted and has not ended, to prove that its end comes exactly once.
    open: Vec<Option<ConnectionId>>,
}

impl Player {
    fn opened(&mut self, connection: ConnectionId) {
        let index = connection.index();
        if self.open.len() <= index {
            self.open.resize(index + 1, None);
        }
        assert!(
            self.open[index].replace(connection).is_none(),
            "a slot was reused before it closed"
        );
    }

    fn ended(&mut self, io: &mut Io<'_>, connection: ConnectionId) {
        assert_eq!(self.open[connection.index()].take(), Some(connection), "ended twice");
        assert!(io.output(connection).is_none() && !io.is_open(connection));
        // A stale name does nothing.
        io.detach(connection);
        io.abort(connection);
    }

    fn adopt_all(&mut self, io: &mut Io<'_>) {
        let Some(inbox) = self.script.inbox.take() else { return };
        for (socket, bytes) in inbox.try_iter() {
            match io.adopt(socket) {
                Ok(connection) => {
                    self.opened(connection);
                    (self.script.adopted)(io, connection, bytes);
                }
                Err(socket) => (self.script.refused)(io, socket, bytes),
            }
        }
        self.script.inbox = Some(inbox);
    }
}

impl Handler for Player {
    fn started(&mut self, io: &mut Io<'_>) {
        if let Some(listener) = self.listener.take() {
            io.listen(listener);
        }
        (self.script.started)(io);
        self.adopt_all(io);
    }

    fn accepted(&mut self, io: &mut Io<'_>, _: ListenerId, connection: ConnectionId) {
        self.opened(connection);
        (self.script.accepted)(io, connection);
    }

    fn received(&mut self, io: &mut Io<'_>, connection: ConnectionId, bytes: &[u8]) {
        assert_eq!(self.open[connection.index()], Some(connection), "bytes of a closed connection");
        assert!(!bytes.is_empty());
        (self.script.received)(io, connection, bytes);
    }

    fn drained(&mut self, io: &mut Io<'_>, connection: ConnectionId) {
        assert_eq!(io.queued_bytes(connection), 0);
        (self.script.drained)(io, connection);
    }

    fn closed(&mut self, io: &mut Io<'_>, connection: ConnectionId, reason: CloseReason) {
        self.ended(io, connection);
        (self.script.closed)(io, connection, reason);
    }

    fn detached(&mut self, io: &mut Io<'_>, connection: ConnectionId, socket: Detached) {
        self.ended(io, connection);
        (self.script.detached)(io, connection, socket);
    }

    fn timer(&mut self, io: &mut Io<'_>, token: u64) {
        (self.script.timer)(io, token);
    }

    fn file_written(&mut self, io: &mut Io<'_>, token: u64, result: Result<WriteDone, io::Error>) {
        (self.script.file_written)(io, token, result);
    }

    fn woken(&mut self, io: &mut Io<'_>) {
        if self.stop.load(Ordering::SeqCst) {
            io.stop();
        }
        (self.script.woken)(io);
        self.adopt_all(io);
    }

    fn turn_ended(&mut self, io: &mut Io<'_>) {
        (self.script.turn_ended)(io);
        *self.stats.lock().unwrap() = *io.stats();
    }

    fn has_inbox(&self) -> bool {
        (self.script.has_inbox)()
    }
}

pub struct Running {
    pub addr: SocketAddr,
    pub waker: Waker,
    stop: Arc<AtomicBool>,
    stats: Arc<Mutex<RingStats>>,
    thread: Option<JoinHandle<Result<(), RingError>>>,
}

/// Starts a ring on a thread of its own.
pub fn start(config: RingConfig, script: impl FnOnce() -> Script + Send + 'static) -> Running {
    start_at("127.0.0.1:0", config, script)
}

/// Starts a ring that listens at an address of its own choice of port.
pub fn start_at(
    address: &str,
    config: RingConfig,
    script: impl FnOnce() -> Script + Send + 'static,
) -> Running {
    let listener = bind_listener(address.parse().unwrap(), false, 4096).unwrap();
    let addr = listener.local_addr().unwrap();
    run(addr, Some(listener), config, script)
}

/// Starts a ring without a listener. Its address is nobody's.
pub fn start_deaf(config: RingConfig, script: impl FnOnce() -> Script + Send + 'static) -> Running {
    run("127.0.0.1:0".parse().unwrap(), None, config, script)
}

fn run(
    addr: SocketAddr,
    listener: Option<std::net::TcpListener>,
    config: RingConfig,
    script: impl FnOnce() -> Script + Send + 'static,
) -> Running {
    let stop = Arc::new(AtomicBool::new(false));
    let stats = Arc::new(Mutex::new(RingStats::default()));
    let (send, receive) = mpsc::channel();
    let (stop_too, stats_too) = (stop.clone(), stats.clone());
    let thread = std::thread::spawn(move || {
        let mut ring = Ring::new(config)?;
        send.send(ring.waker()).unwrap();
        let mut player = Player {
            script: script(),
            listener,
            stop: stop_too,
            stats: stats_too,
            open: Vec::new(),
        };
        ring.run(&mut player)?;
        assert!(player.open.iter().all(Option::is_none), "an end was never reported");
        Ok(())
    });
    let waker = receive.recv().expect("the ring could be made");
    Running { addr, waker, stop, stats, thread: Some(thread) }
}

impl Running {
    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.addr).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream.set_write_timeout(Some(Duration::from_secs(20))).unwrap();
        stream
    }

    pub fn stats(&self) -> RingStats {
        *self.stats.lock().unwrap()
    }

    /// Stops the ring; it must drain to zero.
    pub fn stop(mut self) -> RingStats {
        self.join();
        *self.stats.lock().unwrap()
    }

    fn join(&mut self) {
        if let Some(thread) = self.thread.take() {
            self.stop.store(true, Ordering::SeqCst);
            self.waker.wake();
            thread.join().expect("the ring's thread did not panic").expect("the ring drained");
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.join();
        }
    }
}

/// Waits until something becomes true elsewhere.
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(Instant::now() < until, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Bytes that differ by position, so that a lost or moved one shows.
pub fn pattern(seed: usize, len: usize) -> Vec<u8> {
    (0..len).map(|at| ((at.wrapping_mul(31) >> 3) ^ at ^ seed.wrapping_mul(97)) as u8).collect()
}
