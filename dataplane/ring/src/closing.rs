//! How a connection ends.
//!
//! Open -> Lingering -> Closing -> Free, or Open -> Closing -> Free.
//!
//! Lingering: queued output is sent, then FIN, then input is read and thrown away until the peer's FIN, all bounded by the linger
//! time and a number of bytes. (Closing a socket with unread input makes the kernel send RST, which may overtake our last bytes.)
//! Closing: everything on the socket is cancelled, then it is closed; the slot is free after the last completion.
//! The handler hears of the end once, when it leaves Open.

use std::time::Duration;

use crate::connections::{CloseReason, ConnectionId, Phase};
use crate::limits::{LINGER_DISCARD_BYTES, LINGER_STOPPING};
use crate::listener::ListenerId;
use crate::state::{Alarm, Course, State};
use crate::token::Operation;

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
        if connection.phase == Phase::Open {
            connection.phase = Phase::Lingering;
            connection.drain_wanted = false;
            self.closed.push((id, reason));
        }
        match ending {
            Ending::Now => self.tear_down(id.slot()),
            Ending::Flush => self.linger(id),
        }
    }

    /// Closes or aborts on the handler's behalf; nothing if it is no longer open.
    pub(crate) fn end_if_open(&mut self, id: ConnectionId, reason: CloseReason, ending: Ending) {
        if self.connections.open(id).is_some() {
            self.end(id, reason, ending);
        }
    }

    fn linger(&mut self, id: ConnectionId) {
        let limit = self.linger_limit();
        let connection = self.connections.in_slot(id.slot());
        if connection.phase != Phase::Lingering {
            return;
        }
        if connection.linger.is_none() {
            let key = self.set_alarm(limit, Alarm::Linger(id));
            self.connections.in_slot(id.slot()).linger = Some(key);
        }
        self.continue_lingering(id.slot());
    }

    fn linger_limit(&self) -> Duration {
        match self.course {
            Course::Running => self.config.linger,
            _ => self.config.linger.min(LINGER_STOPPING),
        }
    }

    /// Takes the next step once output is flushed: FIN, then wait for the peer's.
    pub(crate) fn continue_lingering(&mut self, slot: u32) {
        let connection = self.connections.in_slot(slot);
        if connection.phase != Phase::Lingering {
            return;
        }
        if connection.sending {
            return;
        }
        if !connection.output.is_empty() {
            return self.list_for_sending(slot);
        }
        if !connection.fin_sent {
            connection.fin_sent = true;
            // SAFETY: needed because std's shutdown needs an owned stream. Sound because the descriptor is open until the Close
            // operation of this slot. By call and not by ring, because the ring would start a worker thread for it.
            unsafe { libc::shutdown(connection.fd, libc::SHUT_WR) };
        }
        if connection.receive.ended {
            return self.tear_down(slot);
        }
        connection.receive.wanted = true;
        self.list_for_arming(slot);
    }

    /// Input after the handler's end of the connection.
    pub(crate) fn discard(&mut self, id: ConnectionId, bytes: usize) {
        let connection = self.connections.in_slot(id.slot());
        connection.discarded += bytes;
        if connection.phase == Phase::Lingering && connection.discarded > LINGER_DISCARD_BYTES {
            self.tear_down(id.slot());
        }
    }

    /// The linger time is over.
    pub(crate) fn linger_expired(&mut self, id: ConnectionId) {
        let connection = self.connections.in_slot(id.slot());
        connection.linger = None;
        if connection.phase == Phase::Lingering {
            self.tear_down(id.slot());
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
        let unsent = std::mem::take(&mut connection.output);
        self.spares.put(unsent);
        let connection = self.connections.in_slot(slot);
        if let Some(key) = connection.linger.take() {
            self.timers.cancel(key);
        }
        if connection.operations > 0 {
            connection.operations += 1;
            self.queue.cancel_all(connection.fd, id.token(Operation::Cancel));
        }
        connection.operations += 1;
        self.queue.close(connection.fd, id.token(Operation::Close));
    }

    /// A cancellation or the close completed.
    pub(crate) fn chore_completed(&mut self, token: crate::token::Token) {
        let Some((id, connection)) = self.connections.of_token(token) else { return };
        connection.operations -= 1;
        self.release_if_done(id.slot());
    }

    /// Frees the slot after the last completion, if the handler was told.
    pub(crate) fn release_if_done(&mut self, slot: u32) {
        let connection = self.connections.in_slot(slot);
        if connection.phase == Phase::Closing && connection.operations == 0 && connection.told {
            self.connections.remove(slot);
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
                // Its time is shortened like the others'.
                Phase::Lingering => {
                    if let Some(key) = self.connections.in_slot(slot).linger.take() {
                        self.timers.cancel(key);
                    }
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
