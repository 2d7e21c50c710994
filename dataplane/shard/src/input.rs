//! Input of connections: taken packet by packet, kept while a connection is on hold, taken up again after.
//!
//! Invariants
//! - A connection is on hold for one thing at a time and goes on once when that is there.
//! - A held connection is not received from: what is kept for it is what the ring had received already, or receives before
//!   it has stopped.
//! - Time in which this node kept a peer waiting does not count as the peer's silence.

use crate::connections::{Connection, Hold, Key, Protocol};
use crate::flow::Step;
use crate::limits::HANDSHAKES_PER_TURN;
use crate::shard::Shard;
use crate::turn::Turn;
use fulcrum_mqtt::ReasonCode;
use fulcrum_ring::Io;
use fulcrum_transport::{HandshakeBudget, Progress, Stack};

/// Most bytes reserved ahead for a packet that is still arriving.
const RESERVE_BYTES_MAX: usize = 64 * 1024;
/// Capacity kept for decrypted input, shared by all connections.
const PLAIN_BYTES_KEPT: usize = 256 * 1024;

impl Shard {
    /// Handles input of a connection that was taken out of the table, and puts it back.
    pub(crate) fn take_input(
        &mut self,
        io: &mut Io<'_>,
        mut connection: Box<Connection>,
        bytes: &[u8],
    ) {
        if connection.stack.is_some() {
            self.take_wrapped(io, &mut connection, Some(bytes));
        } else {
            self.take_bytes(io, &mut connection, bytes);
        }
        self.put_back(io, connection);
        self.after_input(io);
    }

    fn take_bytes(&mut self, io: &mut Io<'_>, connection: &mut Connection, bytes: &[u8]) {
        if connection.hold != Hold::None {
            connection.input.extend_from_slice(bytes);
        } else if !connection.input.is_empty() {
            connection.input.extend_from_slice(bytes);
            self.process_kept(io, connection);
        } else {
            let (used, more) = self.process(io, connection, bytes);
            if used < bytes.len() {
                connection.input.reserve(bytes.len() - used + more);
                connection.input.extend_from_slice(&bytes[used..]);
            }
        }
    }

    /// Bytes of a connection with a transport; without any, a handshake goes on that had to wait.
    fn take_wrapped(&mut self, io: &mut Io<'_>, connection: &mut Connection, bytes: Option<&[u8]>) {
        let Some(stack) = &mut connection.stack else { return };
        let mut plain = std::mem::take(&mut self.plain);
        plain.clear();
        let progress = match bytes {
            Some(bytes) => stack.receive(bytes, &mut plain, &mut self.handshake_budget),
            None => stack.resume(&mut plain, &mut self.handshake_budget),
        };
        if !plain.is_empty() {
            self.take_bytes(io, connection, &plain);
        }
        plain.shrink_to(PLAIN_BYTES_KEPT);
        self.plain = plain;
        match progress {
            Ok(Progress::Open) => {}
            Ok(Progress::HandshakeDue) => {
                io.pause_receive(connection.id);
                if self.plane.handshakes.last() != Some(&connection.key) {
                    self.plane.handshakes.push(connection.key);
                }
            }
            Ok(Progress::Finished) => end_if_finished(io, connection),
            Err(error) => {
                self.plane.metrics.transport_errors.add(1);
                tracing::debug!(%error, "a connection's transport is refused");
                if let (Some(stack), Some(output)) =
                    (&mut connection.stack, io.output(connection.id))
                {
                    stack.refuse(output);
                }
                connection.hold = Hold::Closing;
                io.close(connection.id);
            }
        }
    }

    /// Handshakes that wait go on, a few a turn.
    pub(crate) fn continue_handshakes(&mut self, io: &mut Io<'_>) {
        self.handshake_budget = HandshakeBudget::new(HANDSHAKES_PER_TURN);
        let waiting = std::mem::take(&mut self.plane.handshakes);
        for (place, key) in waiting.iter().enumerate() {
            if self.handshake_budget.steps_left() == 0 {
                self.plane.handshakes.extend_from_slice(&waiting[place..]);
                return;
            }
            let Some(mut connection) = self.plane.connections.take(*key) else { continue };
            if connection.hold != Hold::Closing {
                self.take_wrapped(io, &mut connection, None);
                let again = self.plane.handshakes.last() == Some(key);
                if !again && connection.hold == Hold::None {
                    io.resume_receive(connection.id);
                }
            }
            self.put_back(io, connection);
            self.after_input(io);
        }
    }

    /// A connection whose hold is over goes on.
    pub(crate) fn resume(&mut self, io: &mut Io<'_>, key: Key) {
        let Some(mut connection) = self.plane.connections.take(key) else { return };
        if connection.hold != Hold::Over {
            return self.plane.connections.put(connection);
        }
        connection.hold = Hold::None;
        connection.excuse_silence(self.plane.now);
        self.process_kept(io, &mut connection);
        end_if_finished(io, &mut connection);
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
        while used < bytes.len() && connection.hold == Hold::None {
            if self.plane.outbox.is_congested() {
                connection.hold = Hold::Lanes;
                self.plane.congested.push(connection.key);
                break;
            }
            let rest = &bytes[used..];
            let (protocol, wire) = connection.parts();
            let mut turn = Turn { plane: &mut self.plane, io, wire };
            let step = match protocol {
                Protocol::Mqtt(session) => session.step(&mut turn, rest),
                Protocol::Http(session) => session.step(&mut turn, rest),
                Protocol::Amqp(session) => session.step(&mut turn, rest),
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
                    connection.wire().close(io);
                }
            }
            if connection.hold == Hold::None
                && connection.wire().queued_bytes(io) > connection.answers_bytes_max()
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
            Hold::Journal
            | Hold::Pipeline
            | Hold::Output
            | Hold::Lanes
            | Hold::Commit
            | Hold::Moving
            | Hold::Over => {
                io.pause_receive(connection.id);
            }
        }
        connection.flush(io);
        self.plane.connections.put(connection);
    }

    /// Ends a connection whose peer, or the registry for it, has been silent for too long.
    pub(crate) fn check_silence(&mut self, io: &mut Io<'_>, key: Key) {
        let now = self.plane.now;
        let Some(connection) = self.plane.connections.by_key(key) else { return };
        if connection.is_kept_waiting() {
            connection.excuse_silence(now);
        }
        if let Some(stack) = &mut connection.stack {
            // Here at the latest a connection is idle: greeted, or a keep-alive has passed.
            stack.release_idle();
        }
        let (protocol, mut wire) = connection.parts();
        if let Protocol::Amqp(session) = protocol
            && let Some(output) = wire.output(io)
        {
            session.tick(now, output);
            wire.flush(io);
        }
        if connection.watch_silence(io, now, self.plane.settings.connect_timeout) {
            return;
        }
        let hold = std::mem::replace(&mut connection.hold, Hold::Closing);
        let void = match &connection.protocol {
            Protocol::Mqtt(session) => session.is_void(now),
            Protocol::Amqp(session) => session.is_void(now),
            Protocol::Http(_) => false,
        };
        if void {
            // A token whose time is over ends its connection (Hono: terminal errors).
            return self.end_with(io, key, ReasonCode::NOT_AUTHORIZED);
        }
        if hold != Hold::Registry {
            self.plane.metrics.timeouts.add(1);
            return self.end_with(io, key, ReasonCode::KEEP_ALIVE_TIMEOUT);
        }
        self.plane.metrics.refused_unavailable.add(1);
        let (protocol, mut wire) = connection.parts();
        match protocol {
            Protocol::Mqtt(session) => {
                session.registry_is_silent(&mut wire, io);
                wire.close(io);
            }
            Protocol::Http(session) => {
                session.registry_is_silent(&mut wire, io);
                wire.flush(io);
            }
            Protocol::Amqp(session) => {
                session.registry_is_silent(&mut wire, io);
                wire.close(io);
            }
        }
    }
}

/// Ends a connection whose peer has said goodbye in the transport's words, once what it said before is done: a
/// DISCONNECT among it must be seen, or the will would be published.
fn end_if_finished(io: &mut Io<'_>, connection: &mut Connection) {
    let is_finished = connection.stack.as_deref().is_some_and(Stack::is_finished);
    if is_finished && connection.hold == Hold::None {
        connection.hold = Hold::Closing;
        connection.wire().close(io);
    }
}
