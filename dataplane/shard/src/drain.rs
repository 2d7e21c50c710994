//! Draining: no more connections and no more input; what was taken is committed and answered, then all ends.

use crate::connections::{Hold, Key, Protocol};
use crate::message::PeerMessage;
use crate::shard::{DRAIN_TIMER, Shard};
use fulcrum_mqtt::ReasonCode;
use fulcrum_ring::Io;
use fulcrum_router::ShardIndex;
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
            Protocol::Mqtt(session) => session.owes_answers(),
            Protocol::Http(session) => session.close_after_last_answer(),
            Protocol::Amqp(session) => session.owes_answers(),
        };
        connection.hold = Hold::Closing;
        if !waits {
            self.end_with(io, key, ReasonCode::SERVER_SHUTTING_DOWN);
        }
    }

    /// Stops the ring once nothing is left.
    pub(crate) fn finish_drain(&mut self, io: &mut Io<'_>) {
        let owes_nothing = self.plane.connections.len() == 0
            && self.plane.forwarded.len() == 0
            && self.plane.broker.receipts.len() == 0
            && !self.plane.broker.has_leftovers();
        if !self.plane.draining || !owes_nothing {
            return;
        }
        if !self.quiet_told {
            self.quiet_told = true;
            // Behind the last messages: wills of those who were connected are among them.
            let others = (0..self.plane.outbox.shards()).map(ShardIndex);
            for shard in others.filter(|shard| *shard != self.plane.index) {
                self.plane.outbox.tell_behind_messages(shard, PeerMessage::Quiet);
            }
            io.turn_again();
        }
        // The others may still have messages for this shard's journal.
        let others_quiet = self.plane.quiet_peers + 1 >= usize::from(self.plane.outbox.shards());
        let all_stored = self.plane.stored.is_idle()
            && self.plane.arriving.is_empty()
            && self.plane.broker.log.stored.is_idle()
            && self.plane.broker.arriving.is_empty();
        if !others_quiet || !all_stored {
            return;
        }
        if !self.cursor_flushed {
            self.cursor_flushed = true;
            self.plane.stored.flush_cursor();
            self.plane.stored.pump(io, &self.plane.metrics);
            self.plane.broker.log.stored.flush_cursor();
            self.plane.broker.log.stored.pump(io, &self.plane.metrics);
        }
        if self.plane.stored.is_idle() && self.plane.broker.log.stored.is_idle() {
            io.stop();
        }
    }
}
