//! Draining: no more connections and no more input; what was taken is committed and answered, then all ends.

use crate::connections::{Hold, Key, Protocol};
use crate::shard::{DRAIN_TIMER, Shard};
use fulcrum_ring::Io;
use std::time::Duration;

/// Time for a drain to write out what is pending before the ring stops all the same.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

impl Shard {
    pub(crate) fn begin_drain(&mut self, io: &mut Io<'_>) {
        if self.plane.draining {
            return;
        }
        self.plane.draining = true;
        io.stop_accepting();
        for key in self.plane.connections.keys(|_| true) {
            self.dismiss(io, key);
        }
        io.set_timer(DRAIN_TIMEOUT, DRAIN_TIMER);
    }

    /// Takes nothing more from a connection, and ends it when the last answer it waits for is out.
    fn dismiss(&mut self, io: &mut Io<'_>, key: Key) {
        let Some(connection) = self.plane.connections.by_key(key) else { return };
        let waits = match &mut connection.protocol {
            Protocol::Mqtt(session) => session.answers_due > 0,
            Protocol::Http(session) => session.close_after_last_answer(),
        };
        connection.hold = Hold::Closing;
        if !waits {
            io.close(connection.id);
        }
    }

    /// Stops the ring once nothing is left.
    pub(crate) fn finish_drain(&mut self, io: &mut Io<'_>) {
        if !self.plane.draining || !self.plane.stored.is_idle() || self.plane.connections.len() > 0
        {
            return;
        }
        if !self.cursor_flushed {
            self.cursor_flushed = true;
            self.plane.stored.flush_cursor();
            self.plane.stored.pump(io, &self.plane.metrics);
        }
        if self.plane.stored.is_idle() {
            io.stop();
        }
    }
}
