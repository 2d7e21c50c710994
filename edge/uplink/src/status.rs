//! How the link is doing: written by the uplink, read by metrics, the status page and the health check.
//!
//! Link health is the age of the oldest record the cloud has not acknowledged, not a socket's state. Ages are computed
//! when they are read, so an idle uplink does nothing to keep them fresh.
//!
//! Deliberately absent: history and rates; those are the reader's.

use fulcrum_journal::Tail;
use serde::Serialize;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

/// Longest error text kept, in bytes.
const ERROR_BYTES_MAX: usize = 300;

/// What is known of the way to the cloud.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LinkState {
    /// Not tried yet.
    Connecting,
    /// The last request was answered.
    Up,
    /// The last request failed.
    Down,
}

/// Why a record did not reach the cloud's stream as it was.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DropReason {
    /// The cloud does not serve the record's tenant through this node any more (403 or 404).
    TenantRefused,
    /// The cloud refuses the record's form (400 or 422).
    RecordRefused,
    /// The record is larger than a batch may be (413, or known beforehand).
    TooLarge,
    /// The journal lost it: damaged on disk, expired or evicted.
    JournalGap,
    /// It was acknowledged once, and the cloud does not have it any more.
    CloudGap,
}

impl DropReason {
    /// All reasons.
    pub const ALL: [DropReason; 5] = [
        DropReason::TenantRefused,
        DropReason::RecordRefused,
        DropReason::TooLarge,
        DropReason::JournalGap,
        DropReason::CloudGap,
    ];

    /// The reason's name in metrics and in the record that marks the gap.
    pub fn as_str(self) -> &'static str {
        match self {
            DropReason::TenantRefused => "tenant_refused",
            DropReason::RecordRefused => "record_refused",
            DropReason::TooLarge => "too_large",
            DropReason::JournalGap => "journal_gap",
            DropReason::CloudGap => "cloud_gap",
        }
    }
}

/// A number others read while the uplink counts.
#[derive(Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The shared numbers. Reading them costs the uplink nothing.
pub struct LinkStatus {
    state: AtomicU8,
    last_success_ms: Counter,
    last_error: Mutex<Option<LastError>>,
    partitions: OnceLock<Box<[PartitionStatus]>>,
    dropped: [Counter; DropReason::ALL.len()],
    pub(crate) requests: Counter,
    pub(crate) retries: Counter,
    pub(crate) batches: Counter,
    pub(crate) records: Counter,
    pub(crate) bytes_raw: Counter,
    pub(crate) bytes_packed: Counter,
    pub(crate) gap_records: Counter,
    pub(crate) streams_halted: Counter,
    pub(crate) live_batches: Counter,
    pub(crate) live_records: Counter,
    pub(crate) live_released: Counter,
    pub(crate) live_epochs: Counter,
    pub(crate) feed_cursor: Counter,
    pub(crate) feed_changes: Counter,
    pub(crate) presence_devices: Counter,
    pub(crate) damage: Counter,
}

/// What one journal partition has waiting.
pub(crate) struct PartitionStatus {
    tail: Tail,
    pub oldest_created_ms: Counter,
    pub held_records: Counter,
    pub held_bytes: Counter,
}

/// A text and when it was.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct LastError {
    /// What happened; bounded, without secrets.
    pub text: String,
    /// Milliseconds since the Unix epoch.
    pub at_ms: u64,
}

impl Default for LinkStatus {
    fn default() -> Self {
        Self::new()
    }
}

impl LinkStatus {
    /// A status before the first request.
    pub fn new() -> LinkStatus {
        LinkStatus {
            state: AtomicU8::new(LinkState::Connecting as u8),
            last_success_ms: Counter::default(),
            last_error: Mutex::new(None),
            partitions: OnceLock::new(),
            dropped: Default::default(),
            requests: Counter::default(),
            retries: Counter::default(),
            batches: Counter::default(),
            records: Counter::default(),
            bytes_raw: Counter::default(),
            bytes_packed: Counter::default(),
            gap_records: Counter::default(),
            streams_halted: Counter::default(),
            live_batches: Counter::default(),
            live_records: Counter::default(),
            live_released: Counter::default(),
            live_epochs: Counter::default(),
            feed_cursor: Counter::default(),
            feed_changes: Counter::default(),
            presence_devices: Counter::default(),
            damage: Counter::default(),
        }
    }

    /// State of the link.
    pub fn state(&self) -> LinkState {
        match self.state.load(Ordering::Relaxed) {
            0 => LinkState::Connecting,
            1 => LinkState::Up,
            _ => LinkState::Down,
        }
    }

    /// Milliseconds since the oldest record without an acknowledgement was created; 0 when there is none.
    pub fn oldest_unacknowledged_ms(&self) -> u64 {
        let now_ms = unix_ms();
        let ages = self.partitions().iter().map(|partition| partition.age_ms(now_ms));
        ages.max().unwrap_or_default()
    }

    /// All numbers at once.
    pub fn snapshot(&self) -> LinkSnapshot {
        let now_ms = unix_ms();
        LinkSnapshot {
            state: self.state(),
            last_success_ms: Some(self.last_success_ms.value()).filter(|ms| *ms != 0),
            last_error: self.last_error.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            oldest_unacknowledged_ms: self.oldest_unacknowledged_ms(),
            partitions: self.partitions().iter().map(|partition| partition.view(now_ms)).collect(),
            dropped: DropReason::ALL.map(|reason| (reason.as_str(), self.dropped(reason))),
            requests: self.requests.value(),
            retries: self.retries.value(),
            batches: self.batches.value(),
            records: self.records.value(),
            bytes_raw: self.bytes_raw.value(),
            bytes_packed: self.bytes_packed.value(),
            gap_records: self.gap_records.value(),
            streams_halted: self.streams_halted.value(),
            live_batches: self.live_batches.value(),
            live_records: self.live_records.value(),
            live_released: self.live_released.value(),
            live_epochs: self.live_epochs.value(),
            feed_cursor: self.feed_cursor.value(),
            feed_changes: self.feed_changes.value(),
            presence_devices: self.presence_devices.value(),
            journal_damage: self.damage.value(),
        }
    }

    /// Records that did not reach the cloud as they were, for `reason`.
    pub fn dropped(&self, reason: DropReason) -> u64 {
        self.dropped[reason as usize].value()
    }

    pub(crate) fn count_dropped(&self, reason: DropReason, records: u64) {
        self.dropped[reason as usize].add(records);
    }

    pub(crate) fn set_state(&self, state: LinkState) {
        self.state.store(state as u8, Ordering::Relaxed);
    }

    pub(crate) fn succeeded(&self) {
        self.last_success_ms.set(unix_ms());
    }

    pub(crate) fn set_error(&self, text: &str) {
        let mut end = text.len().min(ERROR_BYTES_MAX);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        let error = LastError { text: text[..end].to_owned(), at_ms: unix_ms() };
        *self.last_error.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
    }

    pub(crate) fn set_partitions(&self, tails: &[Tail]) {
        // A status that is used for a second run keeps the first run's partitions.
        let _ = self.partitions.set(tails.iter().cloned().map(PartitionStatus::new).collect());
    }

    pub(crate) fn partitions(&self) -> &[PartitionStatus] {
        self.partitions.get().map(AsRef::as_ref).unwrap_or_default()
    }
}

impl PartitionStatus {
    fn new(tail: Tail) -> PartitionStatus {
        PartitionStatus {
            tail,
            oldest_created_ms: Counter::default(),
            held_records: Counter::default(),
            held_bytes: Counter::default(),
        }
    }

    fn backlog_bytes(&self) -> u64 {
        self.tail.committed().0.saturating_sub(self.tail.acknowledged().0)
    }

    fn age_ms(&self, now_ms: u64) -> u64 {
        match self.oldest_created_ms.value() {
            0 => 0,
            created_ms => now_ms.saturating_sub(created_ms),
        }
    }

    fn view(&self, now_ms: u64) -> PartitionSnapshot {
        PartitionSnapshot {
            partition: self.tail.partition(),
            backlog_bytes: self.backlog_bytes(),
            held_records: self.held_records.value(),
            held_bytes: self.held_bytes.value(),
            oldest_unacknowledged_ms: self.age_ms(now_ms),
        }
    }
}

/// The numbers of [`LinkStatus`] at one moment.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct LinkSnapshot {
    /// State of the link.
    pub state: LinkState,
    /// Milliseconds since the Unix epoch of the last answered request.
    pub last_success_ms: Option<u64>,
    /// The last failure, also of a link that has healed since.
    pub last_error: Option<LastError>,
    /// Age of the oldest record without an acknowledgement, in milliseconds; 0 when there is none.
    pub oldest_unacknowledged_ms: u64,
    /// One per journal partition.
    pub partitions: Vec<PartitionSnapshot>,
    /// Records that did not reach the cloud as they were, by reason.
    pub dropped: [(&'static str, u64); DropReason::ALL.len()],
    /// Requests sent, repetitions included.
    pub requests: u64,
    /// Requests that had to be repeated.
    pub retries: u64,
    /// Stored batches the cloud has acknowledged.
    pub batches: u64,
    /// Stored records the cloud has acknowledged.
    pub records: u64,
    /// Bytes of acknowledged batches, live and stored, before packing.
    pub bytes_raw: u64,
    /// Bytes of acknowledged batches, live and stored, as sent.
    pub bytes_packed: u64,
    /// Records sent in place of records that are gone.
    pub gap_records: u64,
    /// Streams that wait for an operator; the last error and the log say why.
    pub streams_halted: u64,
    /// Live batches the cloud has acknowledged.
    pub live_batches: u64,
    /// Live records the cloud has acknowledged.
    pub live_records: u64,
    /// Live records answered as not taken.
    pub live_released: u64,
    /// Live epochs begun because the fate of a batch stayed unknown.
    pub live_epochs: u64,
    /// Cursor of the change feed.
    pub feed_cursor: u64,
    /// Changes applied.
    pub feed_changes: u64,
    /// Devices the cloud knows to be here.
    pub presence_devices: u64,
    /// Damaged places met in the journal while reading.
    pub journal_damage: u64,
}

/// What one journal partition has waiting.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct PartitionSnapshot {
    /// Its number.
    pub partition: u16,
    /// Journal bytes behind the last acknowledged record.
    pub backlog_bytes: u64,
    /// Records read and not yet acknowledged. The backlog behind them has not been read, so not been counted.
    pub held_records: u64,
    /// Their bytes.
    pub held_bytes: u64,
    /// Age of the oldest of them, in milliseconds.
    pub oldest_unacknowledged_ms: u64,
}

/// Milliseconds since the Unix epoch.
pub(crate) fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_text_is_bounded_and_stays_text() {
        let status = LinkStatus::new();
        status.set_error(&"ä".repeat(ERROR_BYTES_MAX));
        let kept = status.snapshot().last_error.unwrap().text;
        assert!(kept.len() <= ERROR_BYTES_MAX && kept.chars().all(|letter| letter == 'ä'));
    }

    #[test]
    fn each_reason_is_counted_under_its_own_name() {
        let status = LinkStatus::new();
        for (count, reason) in (1..).zip(DropReason::ALL) {
            status.count_dropped(reason, count);
        }
        let counted = status.snapshot().dropped;
        assert_eq!(counted.map(|(_, count)| count), [1, 2, 3, 4, 5]);
    }
}
