//! What a handler may do.

use std::fs::File;
use std::net::TcpListener;
use std::time::{Duration, Instant};

use crate::closing::Ending;
use crate::connections::{CloseReason, ConnectionId};
use crate::files::{FileId, WriteMode};
use crate::listener::ListenerId;
use crate::moving::Detached;
use crate::state::{Alarm, State};
use crate::stats::RingStats;
use crate::timers::TimerKey;
use crate::wake::{Doorbell, Waker};
use crate::write_buffer::WriteBuffer;

/// Names a timer; stale after it fired or was cancelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TimerId(TimerKey);

/// What [`Io::send`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendOutcome {
    /// Queued.
    Queued,
    /// Queued, and the queue is above the high-water mark: stop until [`Handler::drained`](crate::Handler::drained).
    Backlogged,
    /// The connection is closed, or was just dropped as a slow consumer; nothing was queued.
    Closed,
}

/// The ring, as its handler sees it. Nothing here waits; requests reach the kernel at the end of the turn.
pub struct Io<'a> {
    pub(crate) state: &'a mut State,
}

impl Io<'_> {
    /// The time this turn began. Read once per turn.
    pub fn now(&self) -> Instant {
        self.state.now
    }

    // ---- connections ---------------------------------------------------------------------------------------------------------

    /// The connection's output buffer: append here. All output of a turn leaves in one send. `None` if the connection is closed,
    /// also if this call finds more than `send_queue_bytes_max` queued and drops it.
    ///
    /// Bytes already in the buffer must not be changed or removed; what is there may be half of an earlier append.
    pub fn output(&mut self, connection: ConnectionId) -> Option<&mut Vec<u8>> {
        self.state.output(connection)
    }

    /// Appends to the output and says whether to stop for now.
    pub fn send(&mut self, connection: ConnectionId, bytes: &[u8]) -> SendOutcome {
        let Some(output) = self.state.output(connection) else { return SendOutcome::Closed };
        output.extend_from_slice(bytes);
        let high_water = self.state.config.send_high_water_bytes;
        match self.state.connections.open(connection) {
            Some(open) if open.queued_bytes() > high_water => {
                open.drain_wanted = true;
                SendOutcome::Backlogged
            }
            _ => SendOutcome::Queued,
        }
    }

    /// Bytes not yet taken by the kernel; 0 if closed.
    pub fn queued_bytes(&self, connection: ConnectionId) -> usize {
        self.state.connections.peek_open(connection).map_or(0, |open| open.queued_bytes())
    }

    /// Asks for one [`Handler::drained`](crate::Handler::drained) when the queue is empty, in the next turn if it is already.
    pub fn notify_drained(&mut self, connection: ConnectionId) {
        let Some(open) = self.state.connections.open(connection) else { return };
        if open.queued_bytes() > 0 {
            open.drain_wanted = true;
        } else {
            self.state.drained.push(connection);
        }
    }

    /// Whether the name still stands for an open connection. `false` from [`detach`](Self::detach) on.
    pub fn is_open(&self, connection: ConnectionId) -> bool {
        self.state.connections.peek_open(connection).is_some()
    }

    /// Sends what is queued, then FIN; at most for the linger time.
    pub fn close(&mut self, connection: ConnectionId) {
        self.state.end_if_open(connection, CloseReason::Local, Ending::Flush);
    }

    /// Closes now; queued output is dropped.
    pub fn abort(&mut self, connection: ConnectionId) {
        self.state.end_if_open(connection, CloseReason::Local, Ending::Now);
    }

    /// Gives the connection up to another ring: stops receiving, sends what is queued, waits until the kernel is done with the
    /// socket, then calls [`Handler::detached`](crate::Handler::detached) with it. Never within this call; in the same turn if
    /// nothing was under way.
    ///
    /// From now on nothing can be sent: [`output`](Self::output) is `None`. Bytes already received still come to
    /// [`Handler::received`](crate::Handler::received) before `detached`. If the peer closes meanwhile, an error happens, the ring
    /// stops, the output does not leave within the linger time ([`CloseReason::SlowConsumer`]) or the handler thinks better of it
    /// ([`close`](Self::close), [`abort`](Self::abort)), `closed` comes instead: exactly one of the two. Ignored if not open.
    pub fn detach(&mut self, connection: ConnectionId) {
        self.state.detach(connection);
    }

    /// Takes over a connected socket, of another ring or of `TcpStream`. From now on it is like an accepted connection;
    /// [`Handler::accepted`](crate::Handler::accepted) is not called. Needs no listener.
    ///
    /// # Errors
    /// Gives the socket back if `connections_max` are open or the ring is stopping.
    pub fn adopt(&mut self, socket: Detached) -> Result<ConnectionId, Detached> {
        self.state.adopt(socket)
    }

    /// Stops receiving, so that the peer's window fills. The receive under way is left to the kernel until it brings bytes, which
    /// are handed over, and is cancelled then: most pauses are over before, and cost nothing. What still comes is bounded by the
    /// receive buffers. While paused, the end of the peer's stream is not told.
    pub fn pause_receive(&mut self, connection: ConnectionId) {
        self.state.pause_receive(connection);
    }

    /// Receives again.
    pub fn resume_receive(&mut self, connection: ConnectionId) {
        self.state.resume_receive(connection);
    }

    // ---- time ----------------------------------------------------------------------------------------------------------------

    /// Calls [`Handler::timer`](crate::Handler::timer) with `token` after a while: never early, late by up to a millisecond and a
    /// turn. Timers fire in the order of their deadlines.
    pub fn set_timer(&mut self, after: Duration, token: u64) -> TimerId {
        TimerId(self.state.set_alarm(after, Alarm::Handler(token)))
    }

    /// Cancels a timer, even one that is due in this turn. A stale name is ignored.
    pub fn cancel_timer(&mut self, timer: TimerId) {
        self.state.timers.cancel(timer.0);
    }

    /// Asks that the coming wait, and it alone, ends after `duration` at the latest. Finer than a timer, which counts milliseconds.
    pub fn wake_within(&mut self, duration: Duration) {
        let shortest = self.state.wake_within.map_or(duration, |before| before.min(duration));
        self.state.wake_within = Some(shortest);
    }

    /// Asks for another turn without waiting: work was left over.
    pub fn turn_again(&mut self) {
        self.state.again = true;
    }

    // ---- files ---------------------------------------------------------------------------------------------------------------

    /// Takes over an opened file. Close it with [`close_file`](Self::close_file).
    pub fn open_file(&mut self, file: File, mode: WriteMode) -> FileId {
        self.state.files.open(file, mode)
    }

    /// Closes a file after its writes.
    pub fn close_file(&mut self, file: FileId) {
        self.state.files.close(file, &mut self.state.queue);
    }

    /// Writes the whole buffer at `offset` and makes it durable; the result comes to
    /// [`Handler::file_written`](crate::Handler::file_written) with `token`. Success means written completely and synced; a short
    /// write is a failure. Several writes may be under way; nothing orders them.
    pub fn write_durable(&mut self, file: FileId, offset: u64, buffer: WriteBuffer, token: u64) {
        self.state.files.write(file, offset, buffer, token, &mut self.state.queue);
    }

    // ---- other threads -------------------------------------------------------------------------------------------------------

    /// Wakes another ring. Push the message first. Costs a submission if that ring sleeps, and next to nothing if not.
    pub fn ring_doorbell(&mut self, doorbell: &Doorbell) {
        self.state.ring(doorbell);
    }

    /// A waker of this ring.
    pub fn waker(&self) -> Waker {
        Waker(self.state.bell.clone())
    }

    // ---- listening and stopping ----------------------------------------------------------------------------------------------

    /// Accepts connections from now on. See [`bind_listener`](crate::bind_listener).
    pub fn listen(&mut self, listener: TcpListener) -> ListenerId {
        self.state.listeners.add(listener, &mut self.state.queue)
    }

    /// Accepts no more, on any listener; open connections stay.
    pub fn stop_accepting(&mut self) {
        self.state.listeners.stop(&mut self.state.queue);
    }

    /// Stops: accepts no more, closes every connection (flushing its output), finishes writes under way. [`Ring::run`](crate::Ring::run)
    /// returns when nothing is left. Timers that are not due by then never fire.
    pub fn stop(&mut self) {
        self.state.stop();
    }

    /// The counters.
    pub fn stats(&self) -> &RingStats {
        &self.state.stats
    }
}
