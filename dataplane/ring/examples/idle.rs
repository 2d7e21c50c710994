//! What an idle connection costs in memory: opens many to itself, from a process of their own, and reads its own resident set.
//!
//! The handler keeps 400 bytes for each connection, as a protocol would. Twice it is measured: with connections that never said
//! anything, and after each has sent a message and got it back. Kernel memory (sockets, receives) is not in the figures. Arguments:
//! `--connections N` (default 10000; the file limit must allow it, for either process) `--message-bytes N` (default 256).

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;

use fulcrum_ring::{
    CloseReason, ConnectionId, Handler, Io, ListenerId, Ring, RingConfig, WriteDone, bind_listener,
    preflight,
};

/// Connections to one address; below the number of ephemeral ports.
const PER_ADDRESS: usize = 20_000;
/// How long after the last event memory is read.
const SETTLE: Duration = Duration::from_secs(1);

/// What a protocol keeps.
struct Session {
    _state: [u8; 400],
}

struct Idle {
    listeners: Vec<TcpListener>,
    sessions: Vec<Option<Box<Session>>>,
    connections: usize,
    message_bytes: usize,
    empty_bytes: usize,
    /// Tells the peers to talk; closing it tells them to go.
    peers: Option<ChildStdin>,
    accepted: usize,
    echoed_bytes: usize,
}

impl Idle {
    fn report(&self, when: &str) {
        let bytes = resident("VmRSS").saturating_sub(self.empty_bytes);
        let peak = resident("VmHWM").saturating_sub(self.empty_bytes);
        let each = bytes / self.connections;
        println!(
            "{when}: {} KiB, {each} bytes per connection (400 of them the handler's), peak {} KiB",
            bytes / 1024,
            peak / 1024,
        );
    }
}

/// A line of the process's status, in bytes.
fn resident(line: &str) -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|found| found.starts_with(line));
    let kib = line.and_then(|line| line.split_whitespace().nth(1));
    kib.and_then(|kib| kib.parse::<usize>().ok()).unwrap_or(0) * 1024
}

impl Handler for Idle {
    fn started(&mut self, io: &mut Io<'_>) {
        for listener in self.listeners.drain(..) {
            io.listen(listener);
        }
    }

    fn accepted(&mut self, io: &mut Io<'_>, _: ListenerId, id: ConnectionId) {
        if self.sessions.len() <= id.index() {
            self.sessions.resize_with(id.index() + 1, || None);
        }
        self.sessions[id.index()] = Some(Box::new(Session { _state: [1; 400] }));
        self.accepted += 1;
        if self.accepted == self.connections {
            io.set_timer(SETTLE, 0);
        }
    }

    fn received(&mut self, io: &mut Io<'_>, connection: ConnectionId, bytes: &[u8]) {
        io.send(connection, bytes);
        self.echoed_bytes += bytes.len();
        if self.echoed_bytes == self.connections * self.message_bytes {
            io.set_timer(SETTLE, 1);
        }
    }

    fn timer(&mut self, io: &mut Io<'_>, token: u64) {
        if token == 0 {
            self.report("silent");
            if let Some(peers) = &mut self.peers {
                // If they are gone, their connections close and the loop ends.
                let _ = peers.write_all(b"t");
            }
        } else {
            self.report("after a message each");
            self.peers = None;
            io.stop();
        }
    }

    fn closed(&mut self, io: &mut Io<'_>, connection: ConnectionId, _: CloseReason) {
        self.sessions[connection.index()] = None;
        io.stop();
    }

    fn drained(&mut self, _: &mut Io<'_>, _: ConnectionId) {}
    fn file_written(&mut self, _: &mut Io<'_>, _: u64, _: Result<WriteDone, io::Error>) {}
    fn woken(&mut self, _: &mut Io<'_>) {}
}

/// The peers: connect, wait for a byte on standard input, talk once, wait for its end.
fn peers(ports: &[u16], connections: usize, message_bytes: usize) -> io::Result<()> {
    let mut streams = Vec::with_capacity(connections);
    for number in 0..connections {
        let place = number / PER_ADDRESS;
        streams.push(TcpStream::connect((address(place), ports[place]))?);
    }
    let mut word = [0];
    io::stdin().read_exact(&mut word)?;
    let mut message = vec![7; message_bytes];
    for stream in &mut streams {
        stream.write_all(&message)?;
    }
    for stream in &mut streams {
        stream.read_exact(&mut message)?;
    }
    io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}

fn address(place: usize) -> Ipv4Addr {
    Ipv4Addr::new(127, 0, 0, 1 + place as u8)
}

fn spawn_peers(ports: &[u16], connections: usize, message_bytes: usize) -> io::Result<Child> {
    let ports: Vec<String> = ports.iter().map(u16::to_string).collect();
    Command::new(std::env::current_exe()?)
        .args(["--connections", &connections.to_string()])
        .args(["--message-bytes", &message_bytes.to_string()])
        .args(["--peers-of", &ports.join(",")])
        .stdin(Stdio::piped())
        .spawn()
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (mut connections, mut message_bytes, mut peers_of) = (10_000usize, 256usize, None);
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        let value = arguments.next().ok_or("each argument has a value")?;
        match name.as_str() {
            "--connections" => connections = value.parse()?,
            "--message-bytes" => message_bytes = value.parse()?,
            "--peers-of" => peers_of = Some(value),
            other => return Err(format!("unknown argument {other}").into()),
        }
    }
    let files = preflight::raise_file_limit()?;
    if files < connections as u64 + 100 {
        return Err(format!("the file limit is {files}; raise it or open fewer").into());
    }
    if let Some(ports) = peers_of {
        let ports = ports.split(',').map(str::parse).collect::<Result<Vec<u16>, _>>()?;
        return Ok(peers(&ports, connections, message_bytes)?);
    }
    let listeners = (0..connections.div_ceil(PER_ADDRESS))
        .map(|place| bind_listener((address(place), 0).into(), false, 4096))
        .collect::<io::Result<Vec<_>>>()?;
    let ports = listeners
        .iter()
        .map(|listener| Ok(listener.local_addr()?.port()))
        .collect::<io::Result<Vec<_>>>()?;
    let config = RingConfig { connections_max: connections as u32, ..RingConfig::default() };
    let mut ring = Ring::new(config)?;
    let mut child = spawn_peers(&ports, connections, message_bytes)?;
    let mut idle = Idle {
        listeners,
        sessions: Vec::new(),
        connections,
        message_bytes,
        empty_bytes: resident("VmRSS"),
        peers: child.stdin.take(),
        accepted: 0,
        echoed_bytes: 0,
    };
    ring.run(&mut idle)?;
    child.wait()?;
    Ok(())
}
