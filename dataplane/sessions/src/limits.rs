//! Every bound of a shard's session state.

use crate::flow::IDENTIFIERS;

/// How much session state a shard keeps, and for whom.
///
/// A limit that is reached refuses what is new and loses nothing that is there.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Messages that wait in one session, those in flight not counted.
    pub queue_messages_max: usize,
    /// Bytes of messages one session holds, waiting or in flight.
    pub queue_bytes_max: usize,
    /// Bytes of messages one tenant's sessions hold on this shard. A message counts once, however many sessions
    /// hold it.
    pub tenant_bytes_max: usize,
    /// Sessions of one tenant on this shard, connected or not.
    pub tenant_sessions_max: usize,
    /// Subscriptions of one session.
    pub subscriptions_per_session_max: usize,
    /// QoS 1 and 2 messages under way to one client; a client's own receive maximum may lower it [MQTT5-3.3.4-9].
    pub inflight_max: u16,
    /// Longest time a session outlives its connection, in seconds; longer wishes are cut to it.
    pub session_expiry_max_s: u32,
    /// QoS 2 messages of one client whose release (PUBREL) has not come yet.
    pub incoming_qos2_max: u16,
}

/// What waits and what is under way all has one of [`IDENTIFIERS`], so the two limits together must leave some free.
const QUEUE_CEILING: usize = 16_000;
const INFLIGHT_CEILING: u16 = 16_000;
const _: () = assert!(QUEUE_CEILING + (INFLIGHT_CEILING as usize) < IDENTIFIERS as usize);

impl Default for Limits {
    fn default() -> Self {
        Self {
            queue_messages_max: 1000,
            queue_bytes_max: 16 << 20,
            tenant_bytes_max: 256 << 20,
            tenant_sessions_max: 100_000,
            subscriptions_per_session_max: 4096,
            inflight_max: 1024,
            session_expiry_max_s: 7 * 24 * 3600,
            incoming_qos2_max: 1024,
        }
    }
}

impl Limits {
    /// The same limits where they fit the space of packet identifiers, the nearest that do otherwise.
    pub(crate) fn fitted(mut self) -> Self {
        self.queue_messages_max = self.queue_messages_max.clamp(1, QUEUE_CEILING);
        self.inflight_max = self.inflight_max.clamp(1, INFLIGHT_CEILING);
        self
    }
}
