//! The lane's shipping side: from the streams to the cloud, and what its decisions mean.

use super::ship::{Decision, Shipment, ship};
use super::stream::Next;
use super::{GIVEN_UP_FOR, Lane, REFUSALS_MAX, is_served};
use crate::status::DropReason;
use fulcrum_contract::TenantId;
use fulcrum_contract::sync::{BATCH_BODY_BYTES_MAX, BATCH_UNPACKED_BYTES_MAX, BatchHeader, Marks};
use std::rc::Rc;
use tokio::task::JoinError;
use tokio::time::Instant;

impl Lane {
    pub(super) fn mark_of(&self, marks: &Marks, tenant: &TenantId) -> u64 {
        let epoch = self.tail.epoch();
        let mut of_stream = marks.marks.iter().filter(|mark| {
            mark.tenant == *tenant && mark.partition == self.name && mark.epoch == epoch
        });
        of_stream.next().map_or(0, |mark| mark.sequence)
    }

    pub(super) fn learn_marks(&mut self, marks: Option<Rc<Marks>>) {
        let Some(marks) = marks else { return };
        let mut streams = std::mem::take(&mut self.streams);
        for entry in streams.values_mut() {
            let mark = self.mark_of(&marks, &entry.stream.tenant);
            entry.stream.learn_mark(mark, self.limits());
        }
        self.streams = streams;
        self.marks = Some(marks);
    }

    pub(super) fn launch(&mut self) {
        if self.marks.is_none() {
            return;
        }
        let limits = self.limits();
        for tenant in self.busy.clone() {
            let Some(entry) = self.streams.get_mut(&tenant) else { continue };
            if entry.is_paused() {
                continue;
            }
            let id = entry.stream.tenant.clone();
            while let Some(batch) = entry.stream.send(limits) {
                let header = BatchHeader {
                    tenant: id.clone(),
                    partition: self.name.clone(),
                    epoch: self.tail.epoch(),
                    first_sequence: batch.first,
                    count: batch.count,
                };
                let (first, last, bytes_raw) = (batch.first, batch.last(), batch.frames.len());
                let body = match self.link.encode(&header, &batch.frames) {
                    Ok(body) => body,
                    Err(fault) => {
                        tracing::error!(fault.text, "a batch is tried again later");
                        entry.stream.send_again();
                        entry.paused_until = Some(Instant::now() + entry.attempts.pause(None));
                        break;
                    }
                };
                if body.len() > BATCH_BODY_BYTES_MAX || bytes_raw > BATCH_UNPACKED_BYTES_MAX {
                    let given_up = entry.stream.refuse_form(DropReason::TooLarge);
                    tracing::error!(%tenant, given_up, bytes_raw, "a record is larger than the cloud takes");
                    continue;
                }
                let shipment = Rc::new(Shipment { body, first, last, bytes_raw });
                entry.failures.count.set(0);
                let sending = ship(
                    self.link.clone(),
                    self.permits.clone(),
                    shipment.clone(),
                    entry.failures.clone(),
                );
                let tenant = tenant.clone();
                self.under_way.spawn_local(async move { (tenant, shipment, sending.await) });
                break;
            }
        }
    }

    pub(super) fn finish(&mut self, done: Result<(Rc<str>, Rc<Shipment>, Decision), JoinError>) {
        // A task is never aborted while the lane lives, and does not panic.
        let Ok((tenant, shipment, decision)) = done else { return };
        let Some(entry) = self.streams.get_mut(&tenant) else { return };
        let status = &self.link.status;
        let next = match decision {
            Decision::Stored { mark } => {
                let count = (mark.min(shipment.last) + 1).saturating_sub(shipment.first);
                match entry.stream.stand_in_reason() {
                    Some(reason) => {
                        status.gap_records.add(count);
                        status.count_dropped(reason, count);
                    }
                    None => status.records.add(count),
                }
                status.batches.add(1);
                status.bytes_raw.add(shipment.bytes_raw as u64);
                status.bytes_packed.add(shipment.body.len() as u64);
                entry.refusals = 0;
                let next = entry.stream.stored(mark);
                if next == Next::GoOn {
                    entry.attempts.succeeded();
                }
                next
            }
            Decision::Behind { mark } => {
                tracing::error!(%tenant, partition = self.name, mark, first = shipment.first, "the cloud lacks records that were shipped or given up before");
                entry.stream.behind(mark)
            }
            Decision::TooSlow => {
                entry.stream.send_halves();
                Next::GoOn
            }
            Decision::FormRefused(reason, text) => {
                if let Some(sequence) = entry.stream.refuse_form(reason) {
                    tracing::error!(%tenant, sequence, reason = reason.as_str(), text, "the cloud refuses a record; a stand-in takes its place");
                    status.set_error(&format!(
                        "record {sequence} of tenant {tenant} was refused: {text}"
                    ));
                }
                Next::GoOn
            }
            Decision::TenantRefused(text) => {
                entry.refusals = entry.refusals.saturating_add(1);
                status.set_error(&format!("records of tenant {tenant} are refused: {text}"));
                if entry.refusals < REFUSALS_MAX || is_served(&self.identity, &entry.stream.tenant)
                {
                    entry.stream.send_again();
                    Next::Contradiction
                } else {
                    let records = entry.stream.give_up_all();
                    status.count_dropped(DropReason::TenantRefused, records);
                    tracing::error!(%tenant, records, text, "the cloud does not serve this tenant any more; its records are dropped");
                    entry.given_up_until = Some(Instant::now() + GIVEN_UP_FOR);
                    Next::GoOn
                }
            }
        };
        match next {
            Next::GoOn => {}
            Next::ReadAgain => self.cursor = self.tail.acknowledged(),
            Next::Contradiction => {
                entry.paused_until = Some(Instant::now() + entry.attempts.pause(None));
            }
        }
    }

    pub(super) fn wake_paused(&mut self) {
        let now = Instant::now();
        for tenant in &self.busy {
            if let Some(entry) = self.streams.get_mut(tenant)
                && entry.paused_until.is_some_and(|until| until <= now)
            {
                entry.paused_until = None;
            }
        }
    }
}
