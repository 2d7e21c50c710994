//! Bytes in and bytes out: arming receives, submitting sends, and what their completions mean.
//!
//! Invariants: one send per connection is under way, so bytes keep their order; its buffer is untouched until it completed; all
//! output of a turn leaves in one send.

use std::os::fd::OwnedFd;

use crate::closing::Ending;
use crate::connections::{CloseReason, ConnectionId, Phase};
use crate::queue::Completion;
use crate::state::State;
use crate::token::{Operation, Token};

/// What a receive completion brought.
pub(crate) enum Received {
    /// Bytes for the handler.
    Bytes(ConnectionId),
    /// Nothing for the handler.
    Nothing,
}

impl State {
    /// Takes a connected socket and lists it for its first receive; gives it back if all slots are in use.
    pub(crate) fn admit(&mut self, socket: OwnedFd) -> Result<ConnectionId, OwnedFd> {
        let connection = self.connections.insert(socket)?;
        self.list_for_arming(connection.slot());
        Ok(connection)
    }

    // ---- receiving ---------------------------------------------------------------------------------------------------------

    /// Books a receive completion. The caller hands the bytes to the handler and returns the buffer.
    pub(crate) fn receive_completed(&mut self, token: Token, completion: Completion) -> Received {
        let Some((id, connection)) = self.connections.of_token(token) else {
            return Received::Nothing;
        };
        if !completion.more() {
            connection.receive.armed = false;
            connection.receive.cancelling = false;
            connection.operations -= 1;
        }
        let phase = connection.phase;
        let received = match completion.result {
            bytes if bytes > 0 => {
                self.stats.receives += 1;
                self.stats.receive_bytes += bytes as u64;
                if phase == Phase::Open && !connection.receive.wanted {
                    // Paused, and the peer does not wait for the pause to end.
                    self.stop_receiving(id);
                }
                match phase {
                    Phase::Open | Phase::Detaching => Received::Bytes(id),
                    _ => {
                        self.discard(id, bytes as usize);
                        Received::Nothing
                    }
                }
            }
            0 => {
                connection.receive.ended = true;
                match phase {
                    // A handler that paused at bytes before the FIN hears of it when it reads on.
                    Phase::Open if !connection.receive.wanted => {}
                    // The next owner has the bytes before the FIN, and meets it in the socket.
                    Phase::Detaching => {}
                    _ => self.end(id, CloseReason::Peer, Ending::Flush),
                }
                Received::Nothing
            }
            error => {
                self.receive_failed(id, -error);
                Received::Nothing
            }
        };
        self.list_for_arming(id.slot());
        self.settle(id.slot());
        received
    }

    fn receive_failed(&mut self, id: ConnectionId, errno: i32) {
        match errno {
            // Armed again at the end of the turn, when the turn's buffers are back.
            libc::ENOBUFS => self.stats.enobufs += 1,
            // Our own cancellation, by pause or teardown; or nothing lasting.
            libc::ECANCELED | libc::EINTR | libc::EAGAIN => {}
            // The handler may have bytes it has not taken yet, and hears of the end when it reads on.
            errno if self.is_paused(id) => {
                let failed = u8::try_from(errno).unwrap_or(u8::MAX);
                self.connections.in_slot(id.slot()).receive.failed = failed;
            }
            errno => self.end(id, CloseReason::from_errno(errno), Ending::Now),
        }
    }

    /// Lists a connection for arming if it wants bytes and the kernel does not know.
    pub(crate) fn list_for_arming(&mut self, slot: u32) {
        let connection = self.connections.in_slot(slot);
        let receive = &mut connection.receive;
        let live = matches!(connection.phase, Phase::Open | Phase::Lingering);
        if live && receive.wanted && !receive.armed && !receive.ended && !receive.listed {
            receive.listed = true;
            self.to_arm.push(slot);
        }
    }

    /// Arms every listed receive that is still wanted.
    pub(crate) fn arm_receives(&mut self) {
        // In the order of listing, so that a shortage of buffers is shared.
        let mut listed = std::mem::take(&mut self.to_arm);
        for slot in listed.drain(..) {
            let id = self.connections.id_of(slot);
            let connection = self.connections.in_slot(slot);
            let receive = &mut connection.receive;
            receive.listed = false;
            let live = matches!(connection.phase, Phase::Open | Phase::Lingering);
            if live && receive.wanted && !receive.armed && !receive.ended {
                receive.armed = true;
                connection.operations += 1;
                self.queue.receive_multishot(connection.fd, id.token(Operation::Receive));
            }
        }
        debug_assert!(self.to_arm.is_empty());
        self.to_arm = listed;
    }

    pub(crate) fn pause_receive(&mut self, id: ConnectionId) {
        if let Some(connection) = self.connections.open(id) {
            connection.receive.wanted = false;
        }
    }

    fn is_paused(&self, id: ConnectionId) -> bool {
        self.connections.peek_open(id).is_some_and(|connection| !connection.receive.wanted)
    }

    /// No further receive; the one under way is cancelled.
    pub(crate) fn stop_receiving(&mut self, id: ConnectionId) {
        let connection = self.connections.in_slot(id.slot());
        let receive = &mut connection.receive;
        receive.wanted = false;
        if receive.armed && !receive.cancelling {
            receive.cancelling = true;
            connection.operations += 1;
            self.queue.cancel(id.token(Operation::Receive), id.token(Operation::Cancel));
        }
    }

    pub(crate) fn resume_receive(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.open(id) else { return };
        if connection.receive.failed != 0 {
            let reason = CloseReason::from_errno(connection.receive.failed.into());
            return self.end(id, reason, Ending::Now);
        }
        if connection.receive.ended {
            return self.end(id, CloseReason::Peer, Ending::Flush);
        }
        // If a cancellation is under way, the receive's last completion arms it again.
        connection.receive.wanted = true;
        self.list_for_arming(id.slot());
    }

    // ---- sending -----------------------------------------------------------------------------------------------------------

    /// The handler's output buffer, listed for sending. `None` if closed or far behind.
    pub(crate) fn output(&mut self, id: ConnectionId) -> Option<&mut Vec<u8>> {
        let maximum = self.config.send_queue_bytes_max;
        let queued = self.connections.open(id)?.queued_bytes();
        if queued > maximum {
            self.drop_slow_consumer(id);
            return None;
        }
        self.list_for_sending(id.slot());
        let connection = self.connections.open(id)?;
        let outgoing = connection.outgoing.get_or_insert_with(|| self.spares.take());
        Some(&mut outgoing.output)
    }

    pub(crate) fn list_for_sending(&mut self, slot: u32) {
        let connection = self.connections.in_slot(slot);
        if !connection.dirty {
            connection.dirty = true;
            self.dirty.push(slot);
        }
    }

    /// Submits a send for every connection with new output.
    pub(crate) fn send_dirty(&mut self) {
        let mut dirty = std::mem::take(&mut self.dirty);
        for slot in dirty.drain(..) {
            self.connections.in_slot(slot).dirty = false;
            self.send_output(slot);
        }
        // Nothing above lists connections for sending, so the list's memory can be kept.
        debug_assert!(self.dirty.is_empty());
        self.dirty = dirty;
    }

    fn send_output(&mut self, slot: u32) {
        let id = self.connections.id_of(slot);
        let maximum = self.config.send_queue_bytes_max;
        let connection = self.connections.in_slot(slot);
        match connection.phase {
            Phase::Open | Phase::Detaching if connection.queued_bytes() > maximum => {
                return self.drop_slow_consumer(id);
            }
            Phase::Open | Phase::Detaching | Phase::Lingering => {}
            Phase::Free | Phase::Closing => return,
        }
        if connection.sending {
            return;
        }
        match &mut connection.outgoing {
            Some(outgoing) if !outgoing.output.is_empty() => {
                debug_assert!(outgoing.in_flight.is_empty() && outgoing.sent == 0);
                std::mem::swap(&mut outgoing.in_flight, &mut outgoing.output);
                self.submit_send(id);
            }
            // The handler asked for the buffer and left it empty.
            outgoing => {
                if let Some(unused) = outgoing.take() {
                    self.spares.put(unused);
                }
            }
        }
    }

    fn submit_send(&mut self, id: ConnectionId) {
        let connection = self.connections.in_slot(id.slot());
        let Some(outgoing) = &connection.outgoing else {
            debug_assert!(false, "a send without its buffer");
            return;
        };
        let rest = &outgoing.in_flight[outgoing.sent..];
        // One connection's queue is below 1 GiB plus one append; a longer rest goes in pieces.
        let bytes = rest.len().min(1 << 30) as u32;
        // SAFETY: needed because the kernel reads the buffer later. Sound because `in_flight` is not touched while `sending`:
        // handlers reach only `output`, its heap memory does not move with the slot, and `outgoing` is neither taken from the slot
        // nor freed before the completion (or it is leaked with the ring, see `Ring`'s drop).
        unsafe {
            self.queue.send(connection.fd, rest.as_ptr(), bytes, id.token(Operation::Send));
        }
        connection.sending = true;
        connection.operations += 1;
        self.sends_submitted += 1;
    }

    pub(crate) fn send_completed(&mut self, token: Token, result: i32) {
        let Some((id, connection)) = self.connections.of_token(token) else { return };
        connection.sending = false;
        connection.operations -= 1;
        let closing = connection.phase == Phase::Closing;
        let Some(outgoing) = &mut connection.outgoing else {
            debug_assert!(false, "a send's completion without its buffer");
            return;
        };
        match result {
            bytes if bytes > 0 => {
                self.stats.sends += 1;
                self.stats.send_bytes += bytes as u64;
                outgoing.sent += bytes as usize;
                if !closing && outgoing.sent < outgoing.in_flight.len() {
                    return self.submit_send(id);
                }
                self.reclaim(id);
                if !closing {
                    self.after_send(id);
                }
            }
            error if !closing && (error == -libc::EINTR || error == -libc::EAGAIN) => {
                self.submit_send(id);
            }
            error => {
                self.reclaim(id);
                let errno = if error == 0 { libc::EPIPE } else { -error };
                self.end(id, CloseReason::from_errno(errno), Ending::Now);
            }
        }
        self.settle(id.slot());
    }

    /// The kernel is done with the buffer: if nothing waits behind it, keep it for the next connection.
    fn reclaim(&mut self, id: ConnectionId) {
        let connection = self.connections.in_slot(id.slot());
        if let Some(mut outgoing) = connection.outgoing.take() {
            if outgoing.output.is_empty() {
                return self.spares.put(outgoing);
            }
            outgoing.in_flight.clear();
            outgoing.sent = 0;
            connection.outgoing = Some(outgoing);
        }
    }

    fn after_send(&mut self, id: ConnectionId) {
        let connection = self.connections.in_slot(id.slot());
        if !connection.output_is_empty() {
            return self.list_for_sending(id.slot());
        }
        if connection.drain_wanted && connection.phase == Phase::Open {
            connection.drain_wanted = false;
            self.drained.push(id);
        }
        self.continue_lingering(id.slot());
    }

    pub(crate) fn drop_slow_consumer(&mut self, id: ConnectionId) {
        self.stats.slow_consumers += 1;
        self.end(id, CloseReason::SlowConsumer, Ending::Now);
    }
}
