//! How a connection ends.
//!
//! Open -> Lingering -> Closing -> Free, or Open -> Closing -> Free. A connection that is being detached ends like an open one.
//!
//! Lingering: queued output is sent, then FIN, then input is read and thrown away until the peer's FIN, all bounded by the linger
//! time and a number of bytes. (Closing a socket with unread input makes the kernel send RST, which may overtake our last bytes.)
//! Closing: everything on the socket is cancelled, then it is closed; the slot is free after the last completion.
//! The handler hears of the end once, when it leaves Open (or Detaching).

use crate::connections::{CloseReason, ConnectionId, Phase};
use crate::limits::{LINGER_DISCARD_BYTES, LINGER_STOPPING};
use crate::listener::ListenerId;
use crate::state::{Alarm, Course, State};
use crate::token::{Operation, Token};

/// What becomes of queued output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// It is sent first.
    Flush,
    /// It is dropped.
    Now,
}

impl State {
    /// Ends a connection, from whatever phase it is in.
    pub(crate) fn end(&mut self, id: ConnectionId, reason: CloseReason, ending: Ending) {
        let connection = self.connections.in_slot(id.slot());
        debug_assert!(connection.phase != Phase::Free);
        if connection.is_the_handlers() {
            connection.phase = Phase::Lingering;
            connection.drain_wanted = false;
            self.closed.push((id, reason));
        }
        match ending {
            Ending::Now => self.tear_down(id.slot()),
            Ending::Flush => self.linger(id),
        }
    }

    /// Closes or aborts on the handler's behalf; nothing if it has ended.
    pub(crate) fn end_if_open(&mut self, id: ConnectionId, reason: CloseReason, ending: Ending) {
        if self.connections.of_handler(id).is_some() {
            self.end(id, reason, ending);
        }
    }

    fn linger(&mut self, id: ConnectionId) {
        self.continue_lingering(id.slot());
        // Most connections that their peer closed are through by now, without an alarm.
        if self.connections.in_slot(id.slot()).phase == Phase::Lingering {
            self.limit_time(id);
        }
    }

    /// Sets the alarm that bounds lingering and detaching, unless it is set.
    pub(crate) fn limit_time(&mut self, id: ConnectionId) {
        if self.connections.in_slot(id.slot()).linger.is_some() {
            return;
        }
        let limit = match self.course {
            Course::Running => self.config.linger,
            _ => self.config.linger.min(LINGER_STOPPING),
        };
        let key = self.set_alarm(limit, Alarm::Linger(id));
        self.connections.in_slot(id.slot()).linger = Some(key);
    }

    /// Forgets that alarm.
    pub(crate) fn lift_limit(&mut self, slot: u32) {
        if let Some(key) = self.connections.in_slot(slot).linger.take() {
            self.timers.cancel(key);
        }
    }

    /// Takes the next step once output is flushed: FIN, then wait for the peer's. If that came already, closing says it all.
    pub(crate) fn continue_lingering(&mut self, slot: u32) {
        let connection = self.connections.in_slot(slot);
        if connection.phase != Phase::Lingering {
            return;
        }
        if connection.sending {
            return;
        }
        if !connection.output_is_empty() {
            return self.list_for_sending(slot);
        }
        if connection.receive.ended {
            return self.tear_down(slot);
        }
        if !connection.fin_sent {
            connection.fin_sent = true;
            // SAFETY: needed because std's shutdown needs an owned stream. Sound because the descriptor is open until the Close
            // operation of this slot. By call and not by ring, because the ring would start a worker thread for it.
            unsafe { libc::shutdown(connection.fd, libc::SHUT_WR) };
        }
        connection.receive.wanted = true;
        self.list_for_arming(slot);
    }

    /// Input after the handler's end of the connection.
    pub(crate) fn discard(&mut self, id: ConnectionId, bytes: usize) {
        let connection = self.connections.in_slot(id.slot());
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        connection.discarded = connection.discarded.saturating_add(bytes);
        if connection.phase == Phase::Lingering && connection.discarded > LINGER_DISCARD_BYTES {
            self.tear_down(id.slot());
        }
    }

    /// The time for lingering or detaching is over.
    pub(crate) fn linger_expired(&mut self, id: ConnectionId) {
        let connection = self.connections.in_slot(id.slot());
        connection.linger = None;
        match connection.phase {
            Phase::Lingering => self.tear_down(id.slot()),
            Phase::Detaching => self.drop_slow_consumer(id),
            Phase::Free | Phase::Open | Phase::Closing => {}
        }
    }

    fn tear_down(&mut self, slot: u32) {
        let id = self.connections.id_of(slot);
        let connection = self.connections.in_slot(slot);
        if connection.phase == Phase::Closing {
            return;
        }
        debug_assert_eq!(connection.phase, Phase::Lingering);
        connection.phase = Phase::Closing;
        connection.receive.wanted = false;
        if connection.sending {
            // The kernel reads the other buffer; both are kept when the send completed.
            if let Some(outgoing) = &mut connection.outgoing {
                outgoing.output.clear();
            }
        } else if let Some(unsent) = connection.outgoing.take() {
            self.spares.put(unsent);
        }
        self.lift_limit(slot);
        let connection = self.connections.in_slot(slot);
        if connection.operations > 0 {
            connection.operations += 1;
            self.queue.cancel_all(connection.fd, id.token(Operation::Cancel));
        }
        connection.operations += 1;
        self.queue.close(connection.fd, id.token(Operation::Close));
    }

    /// A cancellation or the close completed.
    pub(crate) fn chore_completed(&mut self, token: Token, result: i32) {
        let Some((id, connection)) = self.connections.of_token(token) else { return };
        connection.operations -= 1;
        if token.operation == Operation::Cancel && result < 0 {
            self.cancel_failed(id);
        }
        self.settle(id.slot());
    }

    /// After a completion: frees the slot if it was the last one and the handler was told; goes on with a detach.
    pub(crate) fn settle(&mut self, slot: u32) {
        let connection = self.connections.in_slot(slot);
        if connection.operations > 0 {
            return;
        }
        match connection.phase {
            Phase::Closing if connection.told => self.connections.remove(slot),
            Phase::Detaching => self.detach_if_flushed(slot),
            _ => {}
        }
    }

    /// Stops accepting and closes every connection.
    pub(crate) fn stop(&mut self) {
        if self.course != Course::Running {
            return;
        }
        self.course = Course::Stopping;
        self.listeners.stop(&mut self.queue);
        for slot in self.connections.slots() {
            let id = self.connections.id_of(slot);
            match self.connections.in_slot(slot).phase {
                Phase::Open => self.end(id, CloseReason::Shutdown, Ending::Flush),
                // Their time is shortened like the others'.
                Phase::Detaching => {
                    self.lift_limit(slot);
                    self.end(id, CloseReason::Shutdown, Ending::Flush);
                }
                Phase::Lingering => {
                    self.lift_limit(slot);
                    self.linger(id);
                }
                Phase::Free | Phase::Closing => {}
            }
        }
    }

    /// Accepting has rested long enough.
    pub(crate) fn accept_rested(&mut self, listener: ListenerId) {
        self.listeners.arm(listener, &mut self.queue);
    }
}
