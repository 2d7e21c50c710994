//! The bare loop: forwards length-prefixed frames between paired connections, and nothing else.
//!
//! What a message costs here is what the loop costs; a protocol's cost is measured against it. Frames are a little-endian u16 and
//! that many bytes; the first connection is paired with the second, the third with the fourth, and so on. Arguments:
//! `--port N` `--cpu N` `--latency-us N` (0 wakes at once, always) `--report 1` (counters each second).

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use fulcrum_ring::{
    CloseReason, ConnectionId, Handler, Io, ListenerId, Ring, RingConfig, RingStats, WriteDone,
    bind_listener, preflight,
};

/// A connection's pair and the beginning of a frame that has not come whole.
#[derive(Default)]
struct Side {
    id: Option<ConnectionId>,
    partial: Vec<u8>,
}

struct Forward {
    listener: Option<std::net::TcpListener>,
    sides: Vec<Side>,
    report: bool,
    last: RingStats,
}

/// Bytes of the whole frames at the start of `bytes`.
fn whole_frames(bytes: &[u8]) -> usize {
    let mut end = 0;
    while let Some([low, high]) = bytes.get(end..end + 2) {
        let next = end + 2 + usize::from(u16::from_le_bytes([*low, *high]));
        if next > bytes.len() {
            break;
        }
        end = next;
    }
    end
}

impl Handler for Forward {
    fn started(&mut self, io: &mut Io<'_>) {
        if let Some(listener) = self.listener.take() {
            io.listen(listener);
        }
        if self.report {
            io.set_timer(Duration::from_secs(1), 0);
        }
    }

    fn accepted(&mut self, _: &mut Io<'_>, _: ListenerId, connection: ConnectionId) {
        let index = connection.index();
        if self.sides.len() <= index | 1 {
            self.sides.resize_with((index | 1) + 1, Side::default);
        }
        self.sides[index].id = Some(connection);
    }

    fn received(&mut self, io: &mut Io<'_>, connection: ConnectionId, bytes: &[u8]) {
        let index = connection.index();
        let Some(peer) = self.sides[index ^ 1].id else { return };
        let Some(output) = io.output(peer) else { return };
        let partial = &mut self.sides[index].partial;
        if partial.is_empty() {
            let end = whole_frames(bytes);
            output.extend_from_slice(&bytes[..end]);
            partial.extend_from_slice(&bytes[end..]);
        } else {
            partial.extend_from_slice(bytes);
            let end = whole_frames(partial);
            output.extend_from_slice(&partial[..end]);
            partial.drain(..end);
        }
    }

    fn closed(&mut self, _: &mut Io<'_>, connection: ConnectionId, _: CloseReason) {
        self.sides[connection.index()] = Side::default();
    }

    fn timer(&mut self, io: &mut Io<'_>, _: u64) {
        let stats = *io.stats();
        eprintln!(
            "turns {} completions {} receives {} sends {} adaptive waits {} expired {}",
            stats.turns - self.last.turns,
            stats.completions - self.last.completions,
            stats.receives - self.last.receives,
            stats.sends - self.last.sends,
            stats.adaptive_waits - self.last.adaptive_waits,
            stats.adaptive_expired - self.last.adaptive_expired,
        );
        self.last = stats;
        io.set_timer(Duration::from_secs(1), 0);
    }

    fn drained(&mut self, _: &mut Io<'_>, _: ConnectionId) {}
    fn file_written(&mut self, _: &mut Io<'_>, _: u64, _: Result<WriteDone, io::Error>) {}
    fn woken(&mut self, _: &mut Io<'_>) {}
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (mut port, mut report) = (9000u16, false);
    let mut config = RingConfig::default();
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        let value = arguments.next().ok_or("each argument has a value")?;
        match name.as_str() {
            "--port" => port = value.parse()?,
            "--cpu" => config.cpu = Some(value.parse()?),
            "--latency-us" => config.latency_target = Duration::from_micros(value.parse()?),
            "--report" => report = value == "1",
            other => return Err(format!("unknown argument {other}").into()),
        }
    }
    preflight::raise_file_limit()?;
    let listener = bind_listener(SocketAddr::from(([127, 0, 0, 1], port)), false, 4096)?;
    let mut forward =
        Forward { listener: Some(listener), sides: Vec::new(), report, last: RingStats::default() };
    Ring::new(config)?.run(&mut forward)?;
    Ok(())
}
