//! What a shard's sessions hold, and what they had to give up.

/// Gauges and counters of one shard; counters since the process was started.
#[derive(Copy, Clone, Eq, PartialEq, Debug, Default)]
pub struct Metrics {
    /// Sessions with a connection.
    pub sessions_connected: u64,
    /// Sessions that wait for their client.
    pub sessions_disconnected: u64,
    /// Messages queued or under way, one per session that holds them.
    pub queued_messages: u64,
    /// Bytes of these messages, each message counted once.
    pub queued_bytes: u64,
    /// Messages in the log that a session still needs.
    pub stored_messages: u64,
    /// About how many bytes the log must keep: what compaction cannot free.
    pub live_bytes: u64,
    /// Retained messages kept for the node.
    pub retained_messages: u64,
    /// Bytes of their frames.
    pub retained_bytes: u64,
    /// Forwards another shard has not confirmed.
    pub forwards_pending: u64,
    /// Wills left by clients, or due and not published yet.
    pub wills: u64,
    /// Deliveries refused because the session's queue was full.
    pub dropped_queue_full: u64,
    /// Deliveries refused because the tenant's share was used up.
    pub dropped_tenant_full: u64,
    /// Queued messages dropped because they expired.
    pub expired_messages: u64,
    /// Sessions that expired.
    pub expired_sessions: u64,
    /// Messages given up because they cannot go to their client.
    pub skipped_messages: u64,
    /// Records copied forward.
    pub copied_records: u64,
    /// Bytes copied forward.
    pub copied_bytes: u64,
    /// Queued messages whose body was not in the log at start.
    pub lost_bodies: u64,
}

/// What one tenant has on this shard.
#[derive(Copy, Clone, Eq, PartialEq, Debug, Default)]
pub struct TenantTotals {
    /// Sessions, connected or not.
    pub sessions: usize,
    /// Bytes of queued messages, each message counted once.
    pub queued_bytes: usize,
    /// Messages queued or under way, one per session that holds them.
    pub queued_messages: usize,
}
