//! The live stream of one tenant: records that wait, and the one batch under way.
//!
//! Sequences are dense within an epoch and used up only by batches that have reached the cloud. A batch whose fate stays
//! unknown keeps its sequences: its producers are told that it was not taken, and it is sent again, unchanged, before
//! the next one. When that has not settled its fate for a minute, or the cloud's mark contradicts ours, a new epoch
//! begins at 1, whatever became of the old.

use bytes::Bytes;
use fulcrum_contract::TenantId;
use fulcrum_contract::sync::{BatchHeader, push_frame};
use std::collections::VecDeque;
use std::time::Duration;
use tokio::time::Instant;

/// Name of the live partition.
pub(crate) const PARTITION: &str = "t0";

/// How long a batch of unknown fate is repeated before its epoch is given up.
const DOUBT_MAX: Duration = Duration::from_secs(60);

/// A record of the live lane.
pub(crate) struct LiveRecord {
    pub frame: Bytes,
    pub ticket: Option<u64>,
    /// When its outcome is due.
    pub due: Instant,
}

/// One tenant's live telemetry.
pub(crate) struct LiveStream {
    tenant: TenantId,
    epoch: u64,
    next_sequence: u64,
    waiting: VecDeque<LiveRecord>,
    waiting_bytes: usize,
    under_way: Vec<LiveRecord>,
    is_sending: bool,
    /// The cloud has records of another run under this epoch.
    is_foreign: bool,
    /// Since when nobody knows the fate of the batch under way.
    in_doubt_since: Option<Instant>,
    /// Most records of the next batch; lowered to find the one that the cloud refuses.
    records_max: usize,
    /// The cloud refuses this tenant or cannot take its records; do not ask before.
    pub closed_until: Option<Instant>,
}

/// A batch to be sent.
pub(crate) struct LiveBatch {
    pub header: BatchHeader,
    pub frames: Vec<u8>,
    pub due: Instant,
}

impl LiveStream {
    pub fn new(tenant: TenantId, epoch: u64) -> LiveStream {
        LiveStream {
            tenant,
            epoch,
            next_sequence: 1,
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            under_way: Vec::new(),
            is_sending: false,
            is_foreign: false,
            in_doubt_since: None,
            records_max: usize::MAX,
            closed_until: None,
        }
    }

    pub fn waiting_bytes(&self) -> usize {
        self.waiting_bytes
    }

    /// Bytes kept to settle the fate of a batch.
    pub fn bytes_in_doubt(&self) -> usize {
        let kept =
            self.in_doubt_since.map(|_| self.under_way.iter().map(|record| record.frame.len()));
        kept.map_or(0, Iterator::sum)
    }

    /// When the oldest waiting record is due.
    pub fn due(&self) -> Option<Instant> {
        self.waiting.front().map(|record| record.due)
    }

    pub fn can_send(&self) -> bool {
        !self.is_sending && !self.waiting.is_empty()
    }

    pub fn push(&mut self, record: LiveRecord) {
        self.waiting_bytes += record.frame.len();
        self.waiting.push_back(record);
    }

    /// The next batch: the one in doubt, else as much of what waits as the limits allow.
    pub fn take_batch(
        &mut self,
        bytes_max: usize,
        records_max: u32,
        new_epoch: u64,
    ) -> Option<LiveBatch> {
        let due = self.due().filter(|_| self.can_send())?;
        if self.in_doubt_since.is_some_and(|since| since.elapsed() > DOUBT_MAX) {
            self.begin_epoch(new_epoch);
        }
        if self.in_doubt_since.is_none() {
            self.fill(bytes_max, records_max);
        }
        let mut frames = Vec::new();
        for record in &self.under_way {
            push_frame(&mut frames, &record.frame);
        }
        self.is_sending = true;
        let header = BatchHeader {
            tenant: self.tenant.clone(),
            partition: PARTITION.to_owned(),
            epoch: self.epoch,
            first_sequence: self.next_sequence,
            count: self.under_way.len() as u32,
        };
        Some(LiveBatch { header, frames, due })
    }

    fn fill(&mut self, bytes_max: usize, records_max: u32) {
        let records_max = self.records_max.min(records_max as usize);
        let mut bytes = 0;
        while let Some(record) = self.waiting.front() {
            bytes += record.frame.len();
            let full = bytes > bytes_max || self.under_way.len() >= records_max;
            if full && !self.under_way.is_empty() {
                return;
            }
            self.waiting_bytes -= record.frame.len();
            self.under_way.extend(self.waiting.pop_front());
        }
    }

    /// Records of the batch under way.
    pub fn under_way(&self) -> usize {
        self.under_way.len()
    }

    /// The cloud has stored everything up to `mark`. The records stored; others of the batch wait again. A mark beyond the batch
    /// speaks of another run's records under this epoch (a clock that was set back): then none of ours is stored.
    pub fn stored(&mut self, mark: u64) -> Vec<LiveRecord> {
        if mark >= self.next_sequence + self.under_way.len() as u64 {
            self.put_back(usize::MAX);
            self.is_foreign = true;
            return Vec::new();
        }
        let count = (mark + 1).saturating_sub(self.next_sequence).min(self.under_way.len() as u64);
        let rest = self.under_way.split_off(count as usize);
        let stored = self.settle();
        self.next_sequence += count;
        self.wait_again(rest);
        stored
    }

    /// Whether the epoch turned out to be another run's; a new one has to begin.
    pub fn contradicts(&self) -> bool {
        self.is_foreign
    }

    /// The batch is certainly not stored and will not be: its sequences are free.
    pub fn refused(&mut self) -> Vec<LiveRecord> {
        self.settle()
    }

    /// Nobody knows whether the batch is stored. The tickets of its records, to be answered now.
    pub fn in_doubt(&mut self) -> Vec<LiveRecord> {
        self.is_sending = false;
        self.in_doubt_since.get_or_insert_with(Instant::now);
        let told = |record: &mut LiveRecord| LiveRecord {
            frame: Bytes::new(),
            ticket: record.ticket.take(),
            due: record.due,
        };
        self.under_way.iter_mut().map(told).collect()
    }

    /// The batch is certainly not stored and waits again; the next one has at most `records_max` records.
    pub fn put_back(&mut self, records_max: usize) {
        let records = self.settle();
        self.records_max = records_max.max(1);
        self.wait_again(records);
    }

    /// The next batch begins a new epoch, later than the present one. What is in doubt is given up.
    pub fn begin_epoch(&mut self, new_epoch: u64) {
        self.settle();
        self.epoch = new_epoch.max(self.epoch + 1);
        self.next_sequence = 1;
        self.is_foreign = false;
    }

    fn settle(&mut self) -> Vec<LiveRecord> {
        self.is_sending = false;
        self.in_doubt_since = None;
        self.records_max = usize::MAX;
        std::mem::take(&mut self.under_way)
    }

    fn wait_again(&mut self, records: Vec<LiveRecord>) {
        for record in records.into_iter().rev() {
            self.waiting_bytes += record.frame.len();
            self.waiting.push_front(record);
        }
    }

    /// Takes waiting records that are due.
    pub fn expired(&mut self, now: Instant) -> Vec<LiveRecord> {
        let late = self.waiting.iter().take_while(|record| record.due <= now).count();
        let expired: Vec<_> = self.waiting.drain(..late).collect();
        self.waiting_bytes -= expired.iter().map(|record| record.frame.len()).sum::<usize>();
        expired
    }

    /// Takes all waiting records.
    pub fn drain(&mut self) -> Vec<LiveRecord> {
        self.waiting_bytes = 0;
        self.waiting.drain(..).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream_with(records: usize) -> LiveStream {
        let mut stream = LiveStream::new(TenantId::parse("acme").unwrap(), 7);
        for ticket in 0..records as u64 {
            let due = Instant::now() + Duration::from_secs(1);
            stream.push(LiveRecord {
                frame: Bytes::from_static(b"0123456789"),
                ticket: Some(ticket),
                due,
            });
        }
        stream
    }

    fn take(stream: &mut LiveStream, records_max: u32) -> (u64, u64, u32) {
        let header = stream.take_batch(1000, records_max, 9).unwrap().header;
        (header.epoch, header.first_sequence, header.count)
    }

    fn tickets(records: Vec<LiveRecord>) -> Vec<u64> {
        records.into_iter().filter_map(|record| record.ticket).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn sequences_are_dense_over_stored_and_refused_batches() {
        let mut stream = stream_with(5);
        assert_eq!(stream.take_batch(25, 100, 9).unwrap().header.count, 2);
        assert!(stream.take_batch(25, 100, 9).is_none(), "one batch at a time");
        assert_eq!(tickets(stream.stored(2)), [0, 1]);
        assert_eq!(take(&mut stream, 2), (7, 3, 2));
        assert_eq!(tickets(stream.refused()), [2, 3]);
        assert_eq!(take(&mut stream, 100), (7, 3, 1));
        assert_eq!(stream.waiting_bytes(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_batch_in_doubt_is_repeated_unchanged_before_the_next() {
        let mut stream = stream_with(3);
        assert_eq!(take(&mut stream, 2), (7, 1, 2));
        assert_eq!(tickets(stream.in_doubt()), [0, 1]);
        assert_eq!(stream.bytes_in_doubt(), 20);
        assert_eq!(take(&mut stream, 100), (7, 1, 2));
        assert_eq!(tickets(stream.stored(2)), [0; 0], "they were answered before");
        assert_eq!(take(&mut stream, 100), (7, 3, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn doubt_that_lasts_ends_the_epoch() {
        let mut stream = stream_with(3);
        assert_eq!(take(&mut stream, 2), (7, 1, 2));
        stream.in_doubt();
        tokio::time::advance(DOUBT_MAX * 2).await;
        assert_eq!(take(&mut stream, 100), (9, 1, 1));
        stream.begin_epoch(3);
        assert_eq!(stream.epoch, 10);
    }

    #[tokio::test(start_paused = true)]
    async fn a_batch_put_back_keeps_its_order_and_comes_smaller() {
        let mut stream = stream_with(4);
        take(&mut stream, 100);
        stream.put_back(2);
        assert_eq!((stream.waiting_bytes(), stream.under_way()), (40, 0));
        assert_eq!(take(&mut stream, 100), (7, 1, 2));
        assert_eq!(tickets(stream.stored(1)), [0], "stored in part");
        assert_eq!(take(&mut stream, 100), (7, 2, 3));
    }

    #[tokio::test(start_paused = true)]
    async fn a_mark_beyond_the_batch_is_of_another_run_and_accepts_nothing() {
        let mut stream = stream_with(3);
        take(&mut stream, 2);
        assert_eq!(tickets(stream.stored(40)), [0; 0]);
        assert_eq!(stream.waiting_bytes(), 30, "they wait again");
        assert!(stream.contradicts());
    }
}
