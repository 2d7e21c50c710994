//! The live lane's task: takes records from the shards' queue, ships them, answers each within its time.
//!
//! Invariant: each record taken from the queue leaves through [`Lane::answer`], once.

use super::stream::{LiveBatch, LiveRecord, LiveStream};
use super::{LiveReceiver, Shared};
use crate::backoff::Attempts;
use crate::client::Answer;
use crate::config::{BATCH_BYTES_MIN, Backoff};
use crate::link::{Fault, Link, refusal, refusal_text};
use crate::status::unix_ms;
use bytes::Bytes;
use fulcrum_contract::TenantId;
use fulcrum_contract::sync::BatchAnswer;
use fulcrum_frame::Frame;
use http::StatusCode;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout_at};

/// Pause between attempts to send one batch within its time.
const RESEND: Backoff = Backoff { min: Duration::from_millis(20), max: Duration::from_millis(200) };
/// How long the lane stays closed after a batch that was not answered in time, longer each time in a row.
const CLOSED: Backoff = Backoff { min: Duration::from_millis(200), max: Duration::from_secs(5) };
/// How long a tenant the cloud refuses is answered without asking.
const REFUSED_FOR: Duration = Duration::from_secs(10);
/// How long a tenant's records are answered without asking after a batch that was not answered in time.
const BUSY_FOR: Duration = Duration::from_millis(500);
/// Records taken from the queue before other tasks get their turn.
const TURN_RECORDS_MAX: usize = 1_024;

/// Runs until `stop` turns true; then answers what it holds.
pub(crate) async fn run(link: Rc<Link>, receiver: LiveReceiver, mut stop: watch::Receiver<bool>) {
    let mut lane = Lane {
        shared: receiver.shared.clone(),
        streams: HashMap::new(),
        under_way: JoinSet::new(),
        waiting_bytes: 0,
        batch_bytes: link.config.batch_bytes_max,
        epoch: unix_ms().max(1),
        closed_until: None,
        late: Attempts::new(CLOSED),
        link,
    };
    lane.shared.lane_open.store(true, Ordering::Relaxed);
    while !*stop.borrow() {
        lane.turn();
        let timer = lane.next_timer();
        let (shared, waits) = (lane.shared.clone(), lane.waiting_bytes > 0);
        let has_work = || !shared.queue.is_empty() || (waits && !shared.has_credit());
        tokio::select! {
            Some(done) = lane.under_way.join_next() => lane.finish(done),
            () = shared.doorbell.wait_until(has_work) => {}
            () = sleep_until(timer.unwrap_or_else(Instant::now)), if timer.is_some() => {}
            _ = stop.changed() => break,
        }
    }
    lane.close().await;
    drop(receiver);
}

struct Lane {
    link: Rc<Link>,
    shared: Arc<Shared>,
    streams: HashMap<TenantId, LiveStream>,
    under_way: JoinSet<(TenantId, Fate)>,
    waiting_bytes: usize,
    /// Bytes after which a batch is closed: halved when one was late, doubled when one was in time.
    batch_bytes: usize,
    epoch: u64,
    closed_until: Option<Instant>,
    late: Attempts,
}

/// What became of a batch.
enum Fate {
    /// Stored up to the mark.
    Stored(u64),
    /// Answered otherwise.
    Answered(Answer),
    Unknown {
        /// The link works for others.
        others_get_through: bool,
    },
    /// It could not be made into a request.
    Unsendable,
}

impl Lane {
    fn turn(&mut self) {
        let now = Instant::now();
        if self.closed_until.is_some_and(|until| until <= now) {
            self.closed_until = None;
            self.shared.lane_open.store(true, Ordering::Relaxed);
        }
        self.take_from_queue(now);
        if self.shared.has_credit() {
            self.release_expired(now);
            self.send();
        } else {
            self.release_waiting();
        }
    }

    fn next_timer(&self) -> Option<Instant> {
        let due = self.streams.values().filter_map(LiveStream::due).min();
        due.into_iter().chain(self.closed_until).min()
    }

    fn take_from_queue(&mut self, now: Instant) {
        let due = now + self.link.config.live_outcome_timeout;
        for _ in 0..TURN_RECORDS_MAX {
            let Some(item) = self.shared.pop() else { return };
            self.place(LiveRecord { frame: item.frame, ticket: item.ticket, due }, now);
        }
    }

    /// Puts a record behind its tenant's others, or answers it at once: no tenant may take another's room.
    fn place(&mut self, record: LiveRecord, now: Instant) {
        let config = &self.link.config;
        let tenant = Frame::parse(&record.frame).ok().and_then(|frame| frame.tenant());
        let Some(tenant) = tenant.and_then(|tenant| TenantId::parse(tenant).ok()) else {
            tracing::error!("a live record names no valid tenant; it is not sent");
            return self.answer(vec![record], false);
        };
        let epoch = self.epoch;
        let stream = self
            .streams
            .entry(tenant)
            .or_insert_with_key(|tenant| LiveStream::new(tenant.clone(), epoch));
        let bytes = record.frame.len();
        let full = stream.waiting_bytes() + bytes > config.live_tenant_bytes_max
            || self.waiting_bytes + bytes > config.live_queue_bytes;
        if full || stream.closed_until.is_some_and(|until| now < until) {
            return self.answer(vec![record], false);
        }
        self.waiting_bytes += bytes;
        stream.push(record);
    }

    fn release_expired(&mut self, now: Instant) {
        let expired: Vec<_> =
            self.streams.values_mut().flat_map(|stream| stream.expired(now)).collect();
        self.release(expired);
    }

    fn release_waiting(&mut self) {
        if self.waiting_bytes > 0 {
            let waiting: Vec<_> = self.streams.values_mut().flat_map(LiveStream::drain).collect();
            self.release(waiting);
        }
    }

    /// Answers records that were waiting.
    fn release(&mut self, records: Vec<LiveRecord>) {
        self.waiting_bytes -= records.iter().map(|record| record.frame.len()).sum::<usize>();
        self.answer(records, false);
    }

    /// Starts batches, those with the oldest record first.
    fn send(&mut self) {
        while self.under_way.len() < self.link.config.live_requests_max {
            let ready = self.streams.iter_mut().filter(|(_, stream)| stream.can_send());
            let Some((tenant, stream)) = ready.min_by_key(|(_, stream)| stream.due()) else {
                return;
            };
            let before = stream.waiting_bytes();
            let records_max = self.link.config.batch_records_max;
            let batch = stream.take_batch(self.batch_bytes, records_max, unix_ms());
            self.waiting_bytes -= before - stream.waiting_bytes();
            let Some(batch) = batch else { return };
            let (tenant, link) = (tenant.clone(), self.link.clone());
            self.under_way.spawn_local(async move { (tenant, ship(&link, batch).await) });
        }
    }

    fn finish(&mut self, done: Result<(TenantId, Fate), tokio::task::JoinError>) {
        // A task is never aborted while the lane lives, and does not panic.
        let Ok((tenant, fate)) = done else { return };
        let Some(stream) = self.streams.get_mut(&tenant) else { return };
        let answer = match fate {
            Fate::Stored(mark) => {
                let records = stream.stored(mark);
                if stream.contradicts() {
                    tracing::warn!(%tenant, "another run's live telemetry has this epoch; a new one begins");
                    stream.begin_epoch(unix_ms());
                    self.link.status.live_epochs.add(1);
                }
                self.late.succeeded();
                self.batch_bytes = (self.batch_bytes * 2).min(self.link.config.batch_bytes_max);
                self.waiting_bytes = self.count_waiting();
                self.link.status.live_batches.add(1);
                self.link.status.live_records.add(records.len() as u64);
                return self.answer(records, true);
            }
            Fate::Answered(answer) => answer,
            Fate::Unsendable => {
                let records = stream.refused();
                return self.answer(records, false);
            }
            Fate::Unknown { others_get_through } => {
                self.batch_bytes = (self.batch_bytes / 2).max(BATCH_BYTES_MIN);
                let records = stream.in_doubt();
                if others_get_through {
                    stream.closed_until = Some(Instant::now() + BUSY_FOR);
                } else {
                    self.close_for_a_while();
                }
                self.bound_doubt(&tenant);
                return self.answer(records, false);
            }
        };
        let records = stream.under_way();
        match answer.status {
            StatusCode::CONFLICT => {
                stream.put_back(usize::MAX);
                stream.begin_epoch(unix_ms());
                self.waiting_bytes = self.count_waiting();
                self.link.status.live_epochs.add(1);
            }
            StatusCode::BAD_REQUEST
            | StatusCode::PAYLOAD_TOO_LARGE
            | StatusCode::UNPROCESSABLE_ENTITY
                if records > 1 =>
            {
                stream.put_back(records / 2);
                self.waiting_bytes = self.count_waiting();
            }
            status => {
                let tenant_refused =
                    matches!(status, StatusCode::FORBIDDEN | StatusCode::NOT_FOUND)
                        && refusal(&answer.body).is_some();
                if tenant_refused {
                    stream.closed_until = Some(Instant::now() + REFUSED_FOR);
                }
                let records = stream.refused();
                let reason = refusal_text(&answer.body);
                tracing::warn!(%tenant, %status, reason, "the cloud refuses live telemetry");
                self.answer(records, false);
            }
        }
    }

    /// Batches in doubt are kept in memory, of all tenants together no more than the queue may hold.
    fn bound_doubt(&mut self, newest: &TenantId) {
        let in_doubt: usize = self.streams.values().map(LiveStream::bytes_in_doubt).sum();
        if in_doubt > self.link.config.live_queue_bytes
            && let Some(stream) = self.streams.get_mut(newest)
        {
            stream.begin_epoch(unix_ms());
            self.link.status.live_epochs.add(1);
        }
    }

    fn count_waiting(&self) -> usize {
        self.streams.values().map(LiveStream::waiting_bytes).sum()
    }

    /// A batch was not answered in time. What waits behind it would not be either.
    fn close_for_a_while(&mut self) {
        self.shared.lane_open.store(false, Ordering::Relaxed);
        self.closed_until = Some(Instant::now() + self.late.pause(None));
        self.link.overdue();
        self.release_waiting();
    }

    fn answer(&self, records: Vec<LiveRecord>, accepted: bool) {
        if !accepted {
            self.link.status.live_released.add(records.len() as u64);
        }
        for ticket in records.into_iter().filter_map(|record| record.ticket) {
            self.link.events.live_outcome(ticket, accepted);
        }
    }

    /// Takes no more, waits for the batches under way (at most until they are due), answers the rest.
    async fn close(&mut self) {
        self.shared.lane_open.store(false, Ordering::Relaxed);
        loop {
            self.take_from_queue(Instant::now());
            self.release_waiting();
            match self.under_way.join_next().await {
                Some(done) => self.finish(done),
                None if self.shared.queue.is_empty() => return,
                None => {}
            }
        }
    }
}

/// Sends one batch, as often as its time allows.
async fn ship(link: &Link, batch: LiveBatch) -> Fate {
    let body: Bytes = match link.encode(&batch.header, &batch.frames) {
        Ok(body) if body.len() <= fulcrum_contract::sync::BATCH_BODY_BYTES_MAX => body,
        _ => return Fate::Unsendable,
    };
    let (mut attempts, started) = (Attempts::new(RESEND), std::time::Instant::now());
    let mut was_answered = false;
    loop {
        let Ok(sent) = timeout_at(batch.due, link.post_batch(body.clone())).await else { break };
        let fault = match sent {
            Ok(answer) if answer.status.is_success() => {
                match serde_json::from_slice(&answer.body) {
                    Ok(BatchAnswer { high_water_mark }) => {
                        link.status.bytes_raw.add(batch.frames.len() as u64);
                        link.status.bytes_packed.add(body.len() as u64);
                        return Fate::Stored(high_water_mark);
                    }
                    // Not the cloud's functions: nothing is stored on a stranger's word.
                    Err(error) => {
                        Fault::new(format!("the answer to a batch cannot be read: {error}"))
                    }
                }
            }
            Ok(answer) => return Fate::Answered(answer),
            Err(fault) => fault,
        };
        was_answered = fault.is_answer;
        let again = Instant::now() + attempts.pause(fault.retry_after);
        if again >= batch.due {
            break;
        }
        link.status.retries.add(1);
        sleep_until(again).await;
    }
    let others_get_through = was_answered || (link.is_up() && link.succeeded_since(started));
    Fate::Unknown { others_get_through }
}
