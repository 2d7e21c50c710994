//! Input of connections: taken packet by packet, kept while a connection is on hold, taken up again after.
//!
//! Invariants
//! - A connection is on hold for one thing at a time and goes on once when that is there.
//! - A held connection is not received from: what is kept for it is what the ring had received already.
//! - Time in which this node kept a peer waiting does not count as the peer's silence.

use crate::connections::{Connection, Hold, Key, Protocol};
use crate::flow::Step;
use crate::shard::Shard;
use fulcrum_ring::Io;

/// Most bytes reserved ahead for a packet that is still arriving.
const RESERVE_BYTES_MAX: usize = 64 * 1024;

impl Shard {
    /// Handles input of a connection that was taken out of the table, and puts it back.
    pub(crate) fn take_input(
        &mut self,
        io: &mut Io<'_>,
        mut connection: Box<Connection>,
        bytes: &[u8],
    ) {
        if connection.hold != Hold::None {
            connection.input.extend_from_slice(bytes);
        } else if !connection.input.is_empty() {
            connection.input.extend_from_slice(bytes);
            self.process_kept(io, &mut connection);
        } else {
            let (used, more) = self.process(io, &mut connection, bytes);
            if used < bytes.len() {
                connection.input.reserve(bytes.len() - used + more);
                connection.input.extend_from_slice(&bytes[used..]);
            }
        }
        self.put_back(io, connection);
        self.after_input(io);
    }

    /// A connection whose hold is over goes on.
    pub(crate) fn resume(&mut self, io: &mut Io<'_>, key: Key) {
        let Some(mut connection) = self.plane.connections.take(key) else { return };
        if connection.hold != Hold::Over {
            return self.plane.connections.put(connection);
        }
        connection.hold = Hold::None;
        connection.last_input = self.plane.now;
        self.process_kept(io, &mut connection);
        if connection.hold == Hold::None {
            io.resume_receive(connection.id);
        }
        self.put_back(io, connection);
        self.after_input(io);
    }

    /// Takes packets from the input that is kept, and keeps the rest.
    fn process_kept(&mut self, io: &mut Io<'_>, connection: &mut Connection) {
        let mut input = std::mem::take(&mut connection.input);
        let (used, more) = self.process(io, connection, &input);
        // An idle connection keeps no buffer.
        if used < input.len() {
            input.drain(..used);
            input.reserve(more);
            connection.input = input;
        }
    }

    /// Takes packets from the front of `bytes` as long as the connection may go on; how many bytes are done, and how
    /// many more the packet behind them needs.
    fn process(
        &mut self,
        io: &mut Io<'_>,
        connection: &mut Connection,
        bytes: &[u8],
    ) -> (usize, usize) {
        let mut used = 0;
        let name = (connection.key, connection.id);
        while used < bytes.len() && connection.hold == Hold::None {
            if self.plane.outbox.is_congested() {
                connection.hold = Hold::Lanes;
                self.plane.congested.push(connection.key);
                break;
            }
            let rest = &bytes[used..];
            let step = match &mut connection.protocol {
                Protocol::Mqtt(session) => session.step(&mut self.plane, io, name, rest),
                Protocol::Http(session) => session.step(&mut self.plane, io, name, rest),
            };
            match step {
                Step::Used(bytes) => used += bytes,
                Step::UsedThenHold(bytes, hold) => {
                    used += bytes;
                    connection.hold = hold;
                }
                Step::Again(hold) => connection.hold = hold,
                // The codec has checked the size against the limit.
                Step::NeedMore { at_least } => {
                    return (used, at_least.saturating_sub(rest.len()).min(RESERVE_BYTES_MAX));
                }
                Step::End => {
                    connection.hold = Hold::Closing;
                    io.close(connection.id);
                }
            }
            if connection.hold == Hold::None
                && io.queued_bytes(connection.id) > connection.answers_bytes_max()
            {
                connection.hold = Hold::Output;
                io.notify_drained(connection.id);
            }
        }
        (used, 0)
    }

    fn put_back(&mut self, io: &mut Io<'_>, mut connection: Box<Connection>) {
        match connection.hold {
            Hold::None => {}
            // What still comes is read and dropped, so that the peer's FIN is seen.
            Hold::Closing => {}
            Hold::Registry => {
                io.pause_receive(connection.id);
                connection.watch_silence(io, self.plane.now, self.plane.settings.connect_timeout);
            }
            Hold::Journal | Hold::Pipeline | Hold::Output | Hold::Lanes | Hold::Over => {
                io.pause_receive(connection.id);
            }
        }
        self.plane.connections.put(connection);
    }

    /// Ends a connection whose peer, or the registry for it, has been silent for too long.
    pub(crate) fn check_silence(&mut self, io: &mut Io<'_>, key: Key) {
        let now = self.plane.now;
        let Some(connection) = self.plane.connections.by_key(key) else { return };
        if connection.is_kept_waiting() {
            connection.last_input = now;
        }
        if connection.watch_silence(io, now, self.plane.settings.connect_timeout) {
            return;
        }
        let hold = std::mem::replace(&mut connection.hold, Hold::Closing);
        if hold != Hold::Registry {
            self.plane.metrics.timeouts.add(1);
            return io.close(connection.id);
        }
        self.plane.metrics.refused_unavailable.add(1);
        match &mut connection.protocol {
            Protocol::Mqtt(session) => session.registry_is_silent(io, connection.id),
            Protocol::Http(session) => session.registry_is_silent(io, connection.id),
        }
    }
}
