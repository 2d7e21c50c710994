//! A shard's counters: written by the shard alone, read by anyone.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// One counter or gauge. The shard is its only writer, so an addition is a load and a store.
#[derive(Default, Debug)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `n`; called by the owning shard alone.
    #[inline]
    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(n), Relaxed);
    }

    /// Sets the value; called by the owning shard alone.
    #[inline]
    pub fn set(&self, n: u64) {
        self.0.store(n, Relaxed);
    }

    /// The value.
    pub fn value(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

macro_rules! metrics {
    ($($(#[doc = $doc:literal])+ $name:ident: $kind:ident,)*) => {
        /// The counters and gauges of one shard.
        #[derive(Default, Debug)]
        pub struct ShardMetrics {
            $($(#[doc = $doc])+ pub $name: Counter,)*
        }

        impl ShardMetrics {
            /// Calls `visit` with name, kind, help text and value of each.
            pub fn each(&self, mut visit: impl FnMut(&'static str, MetricKind, &'static str, u64)) {
                $(visit(stringify!($name), MetricKind::$kind, concat!($($doc),+).trim_ascii(), self.$name.value());)*
            }
        }
    };
}

/// What a metric counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MetricKind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
}

metrics! {
    /// Open connections.
    connections: Gauge,
    /// Authenticated connections.
    connections_authenticated: Gauge,
    /// Connections accepted.
    connections_accepted: Counter,
    /// Logins that were known to be good, without a look at the registry.
    logins_known: Counter,
    /// Connections ended because the peer broke its protocol.
    protocol_errors: Counter,
    /// Connections ended because the peer was silent for too long.
    timeouts: Counter,
    /// Connections ended because the peer did not read what was sent to it.
    slow_consumers: Counter,
    /// Refused: credentials unknown or wrong.
    refused_bad_credentials: Counter,
    /// Refused: tenant or adapter disabled, or not allowed.
    refused_forbidden: Counter,
    /// Refused: device unknown or disabled.
    refused_not_found: Counter,
    /// Refused: registry busy.
    refused_unavailable: Counter,
    /// Refused: the tenant has as many connections as it may.
    refused_connection_limit: Counter,
    /// Telemetry messages taken from devices.
    telemetry_received: Counter,
    /// Telemetry copies handed to consumers.
    telemetry_delivered: Counter,
    /// Telemetry messages no consumer took.
    telemetry_no_consumer: Counter,
    /// Copies refused because the consumer had no credit.
    consumer_no_credit: Counter,
    /// Telemetry messages whose consumers did not answer in time.
    telemetry_released: Counter,
    /// Messages clients published to messaging addresses.
    messages_received: Counter,
    /// Copies of them written to subscribers.
    messages_sent: Counter,
    /// Publishes refused: not permitted, not possible, or over a limit.
    messages_refused: Counter,
    /// Publishes refused because the session journal is full.
    messages_refused_full: Counter,
    /// QoS 0 copies dropped because the subscriber was away.
    messages_dropped_offline: Counter,
    /// QoS 0 copies dropped because the subscriber did not read.
    messages_dropped_slow: Counter,
    /// Copies refused because the session's queue was full.
    messages_dropped_queue_full: Counter,
    /// Copies refused because the tenant's queues were full.
    messages_dropped_tenant_full: Counter,
    /// Copies of shared subscriptions given to another member because the session of theirs ended.
    messages_shared_again: Counter,
    /// Such copies dropped: nobody was left in the group, or nobody had room.
    messages_dropped_group_gone: Counter,
    /// Queued messages whose expiry was over.
    messages_expired: Counter,
    /// Messages queued in sessions.
    messages_queued: Gauge,
    /// Bytes queued in sessions.
    messages_queued_bytes: Gauge,
    /// Sessions whose client is connected.
    sessions_connected: Gauge,
    /// Sessions that wait for their client.
    sessions_disconnected: Gauge,
    /// Sessions that ended because their expiry was over.
    sessions_expired: Counter,
    /// Retained messages.
    retained_messages: Gauge,
    /// Retained messages not taken because the tenant has as many as it may.
    retained_refused: Counter,
    /// Wills published.
    wills_published: Counter,
    /// Wills that could not be published.
    wills_refused: Counter,
    /// Subscriptions to messaging addresses, of all shards.
    topic_subscriptions: Gauge,
    /// Publishers waiting for other shards.
    receipts_waiting: Gauge,
    /// Connections moved to the shard that owns their client identifier.
    connections_moved: Counter,
    /// Connections taken over by another one of the same client.
    connections_taken_over: Counter,
    /// Connections ended because their transport (TLS, WebSocket, PROXY) was broken.
    transport_errors: Counter,
    /// TLS handshakes waiting for their turn.
    handshakes_waiting: Gauge,
    /// Stored messages (events, command responses) taken from devices.
    stored_received: Counter,
    /// Stored messages acknowledged after they were durable.
    stored_acknowledged: Counter,
    /// Stored messages refused because the journal is full.
    stored_refused_full: Counter,
    /// Stored messages refused because the journal failed.
    stored_refused_failed: Counter,
    /// Commands handed to devices.
    commands_sent: Counter,
    /// Commands devices have taken.
    commands_accepted: Counter,
    /// Commands given back undelivered.
    commands_released: Counter,
    /// Commands whose time was over before delivery.
    commands_expired: Counter,
    /// Devices that can take commands on this shard's desk.
    command_consumers: Gauge,
    /// Subscriptions in the route table.
    subscriptions: Gauge,
    /// QoS 1 telemetry messages waiting for an outcome.
    deliveries_waiting: Gauge,
    /// Stored messages waiting for their commit.
    stored_waiting: Gauge,
    /// Connections waiting for room in the journal's batch.
    connections_parked: Gauge,
    /// Messages handed to other shards.
    cross_shard_sent: Counter,
    /// Payload bytes taken from devices.
    payload_bytes_received: Counter,
    /// Turns of the event loop.
    turns: Counter,
    /// Journal records appended.
    journal_records: Counter,
    /// Journal batches committed.
    journal_batches: Counter,
    /// Journal bytes written.
    journal_bytes: Counter,
    /// Bytes the journal occupies.
    journal_bytes_used: Gauge,
    /// Bytes the journal may occupy.
    journal_bytes_max: Gauge,
    /// Journal state: 0 healthy, 1 full, 2 failed.
    journal_state: Gauge,
    /// Time of the last journal commit in microseconds.
    journal_commit_us: Gauge,
    /// Session journal records appended.
    session_journal_records: Counter,
    /// Session journal batches committed.
    session_journal_batches: Counter,
    /// Session journal bytes written.
    session_journal_bytes: Counter,
    /// Bytes the session journal occupies.
    session_journal_bytes_used: Gauge,
    /// Bytes the session journal may occupy.
    session_journal_bytes_max: Gauge,
    /// Acknowledgements waiting for a commit of the session journal.
    session_journal_waiting: Gauge,
    /// Session journal state: 0 healthy, 1 full, 2 failed.
    session_journal_state: Gauge,
    /// Time of the last session journal commit in microseconds.
    session_journal_commit_us: Gauge,
}
