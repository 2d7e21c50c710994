//! What a partition says about itself.

use crate::position::Position;

/// Whether a partition takes messages.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PartitionState {
    /// It does.
    Healthy,
    /// It refuses new messages until the consumer acknowledges or the disk has room again.
    Full,
    /// An I/O error stopped it until it is opened again.
    Failed {
        /// The error.
        reason: String,
    },
}

/// Counters and gauges of one partition; counters run since it was opened unless said otherwise.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PartitionMetrics {
    /// Messages appended.
    pub records: u64,
    /// Bytes of their frames.
    pub bytes: u64,
    /// Messages appended since the store was created.
    pub records_ever: u64,
    /// Batches made durable.
    pub batches: u64,
    /// Records that wait for their write to begin.
    pub pending_records: u64,
    /// Bytes that wait for their write to begin.
    pub pending_bytes: u64,
    /// Bytes of all segments, prepared and requested ones included.
    pub bytes_used: u64,
    /// The cap on [`PartitionMetrics::bytes_used`].
    pub bytes_max: u64,
    /// Bytes between the acknowledged position and the end of what was appended.
    pub bytes_unacknowledged: u64,
    /// End of what is durable.
    pub committed: Position,
    /// Acknowledged by the consumer.
    pub acknowledged: Position,
    /// Oldest segment kept.
    pub oldest_segment: u64,
    /// Creation time of a message at or shortly before the oldest unacknowledged one (within a 64th of a segment), in
    /// milliseconds since the Unix epoch; `None` when everything is acknowledged.
    pub oldest_created_ms: Option<u64>,
    /// Tenants with a stream in this partition.
    pub tenants: usize,
    /// Messages refused because the partition was full.
    pub refused_full: u64,
    /// Messages refused because the disk was behind.
    pub refused_not_ready: u64,
    /// Messages refused for what they are: too large, no tenant, one tenant too many.
    pub refused_invalid: u64,
    /// Bytes of a torn write that were cut off when the partition was opened.
    pub torn_bytes: u64,
    /// Damaged ranges found when the partition was opened.
    pub quarantined: u64,
    /// Messages lost to damage since the store was created, at most.
    pub lost_max: u64,
}
