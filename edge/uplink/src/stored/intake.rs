//! The lane's reading side: from the journal to the streams, within the window.

use super::ship::Failures;
use super::stream::{Stream, Taken};
use super::{Entry, Lane};
use crate::backoff::Attempts;
use crate::status::DropReason;
use fulcrum_contract::TenantId;
use fulcrum_frame::Frame;
use fulcrum_journal::{Damage, Gap, GapReason, Kind, Position, Record, Step};
use std::rc::Rc;
use tokio::time::Instant;

impl Lane {
    pub(super) fn can_read(&mut self) -> bool {
        if self.read_again_at.is_some_and(|at| Instant::now() < at)
            || self.cursor >= self.tail.committed()
        {
            return false;
        }
        self.read_again_at = None;
        self.has_room() || self.park()
    }

    /// Reads one chunk and hands its records to their streams. Whether it got any further.
    pub(super) async fn read(&mut self) -> bool {
        let limit = self.tail.committed();
        let bytes = match self.reader.read(self.cursor, self.read_bytes).await {
            Ok(bytes) => bytes,
            Err(error) => {
                self.read_failed(&error);
                return false;
            }
        };
        let records = self.tail.reader();
        let (begin, mut at) = (self.cursor, 0);
        let mut at_least = None;
        while at < bytes.len() {
            match records.parse(&bytes[at..], self.cursor, limit) {
                Step::Record(record) => {
                    self.take(&record);
                    self.cursor = record.next;
                }
                Step::NeedMore { at_least: bytes_min } => {
                    at_least = Some(bytes_min);
                    break;
                }
                Step::EndOfSegment { next } => {
                    self.cursor = next;
                    break;
                }
                Step::Corrupt(damage) => {
                    self.damaged(&damage);
                    self.cursor = damage.to;
                }
            }
            at = (self.cursor.0 - begin.0) as usize;
        }
        let has_moved = self.cursor > begin;
        let read_bytes = self.link.config.read_bytes;
        let had = bytes.len();
        self.reader.recycle(bytes, read_bytes);
        self.read_bytes = match at_least {
            Some(wanted) if !has_moved && wanted > had => wanted,
            Some(_) if !has_moved => {
                self.read_failed(&std::io::ErrorKind::InvalidData.into());
                read_bytes
            }
            _ => read_bytes,
        };
        if has_moved {
            self.read_attempts.succeeded();
        }
        has_moved || self.read_bytes > had
    }

    fn read_failed(&mut self, error: &std::io::Error) {
        self.reader.close();
        let (path, offset, segment_bytes) = self.tail.segment_path(self.cursor);
        let text =
            format!("cannot read the journal at {}: {error}; check the disk", path.display());
        tracing::error!("{text}");
        self.link.status.set_error(&text);
        self.link.status.damage.add(1);
        if error.kind() == std::io::ErrorKind::NotFound {
            // A segment below the committed end that is not there any more: its records are gone.
            self.cursor = Position(self.cursor.0 - offset + segment_bytes);
        } else {
            self.read_again_at = Some(Instant::now() + self.read_attempts.pause(None));
        }
    }

    fn damaged(&mut self, damage: &Damage) {
        self.link.status.damage.add(1);
        tracing::error!(
            partition = self.name,
            from = damage.from.0,
            to = damage.to.0,
            records_max = damage.messages_max(),
            "the journal is damaged; what was there shows as a gap in its stream"
        );
    }

    fn take(&mut self, record: &Record<'_>) {
        let limits = self.limits();
        match record.kind {
            Kind::Message => {
                let Some((tenant, created_ms)) = head(record.body) else {
                    self.link.status.count_dropped(DropReason::RecordRefused, 1);
                    tracing::error!(
                        partition = self.name,
                        position = record.position.0,
                        "a journal record has no usable frame"
                    );
                    return;
                };
                let is_old = record.position < self.old_until;
                let taken = Taken {
                    sequence: record.sequence,
                    frame: record.body,
                    from: record.position,
                    created_ms,
                    is_old,
                };
                let (status, identity) = (self.link.status.clone(), self.identity.clone());
                let Some(entry) = self.entry(tenant) else {
                    self.link.status.count_dropped(DropReason::RecordRefused, 1);
                    return;
                };
                if entry.is_given_up(&identity) {
                    if entry.stream.pass(taken.sequence) {
                        status.count_dropped(DropReason::TenantRefused, 1);
                    }
                    return;
                }
                entry.stream.take(&taken, limits);
            }
            Kind::Gap => {
                let Some(gap) = Gap::decode(record.body) else { return };
                let reason = match gap.reason {
                    GapReason::Expired | GapReason::Evicted | GapReason::Quarantined => {
                        DropReason::JournalGap
                    }
                };
                if let Some(entry) = self.entry(&gap.tenant) {
                    entry.stream.miss(gap.first, gap.last, reason, record.position, limits);
                }
            }
            _ => {}
        }
    }

    /// The tenant's entry, listed as busy; none if the text is no tenant.
    fn entry(&mut self, tenant: &str) -> Option<&mut Entry> {
        let key: Rc<str> = match self.streams.get_key_value(tenant) {
            Some((key, entry)) if entry.is_busy => return self.streams.get_mut(&key.clone()),
            Some((key, _)) => key.clone(),
            None => {
                let tenant = TenantId::parse(tenant).ok()?;
                let mark = self.marks.as_ref().map(|marks| self.mark_of(marks, &tenant));
                let key: Rc<str> = tenant.as_str().into();
                let entry = Entry {
                    stream: Stream::new(tenant, mark),
                    is_busy: false,
                    attempts: Attempts::new(self.link.config.backoff),
                    paused_until: None,
                    refusals: 0,
                    given_up_until: None,
                    failures: Failures { count: Rc::default(), news: self.failure.clone() },
                    halt_told: false,
                };
                self.streams.insert(key.clone(), entry);
                key
            }
        };
        self.busy.push(key.clone());
        let entry = self.streams.get_mut(&key)?;
        entry.is_busy = true;
        Some(entry)
    }

    /// The window is full: forgets what struggling streams hold, if the link is up for others. Whether there is room now.
    fn park(&mut self) -> bool {
        if !self.link.is_up() {
            return false;
        }
        for tenant in &self.busy {
            if let Some(entry) = self.streams.get_mut(tenant)
                && entry.is_struggling()
                && entry.stream.park()
            {
                tracing::warn!(%tenant, partition = self.name, "this stream does not get through and makes room for others");
            }
        }
        self.has_room()
    }

    /// Reads parked streams again once their requests get through and there is room.
    pub(super) fn unpark(&mut self) {
        if self.held_bytes() > self.link.config.window_bytes / 2 {
            return;
        }
        for tenant in &self.busy {
            if let Some(entry) = self.streams.get_mut(tenant)
                && entry.stream.is_parked()
                && !entry.stream.is_under_way()
                && !entry.is_paused()
                && !entry.stream.can_send()
                && let Some(from) = entry.stream.unpark()
            {
                self.cursor = self.cursor.min(from);
            }
        }
    }
}

/// Tenant and creation time of a frame.
fn head(frame: &[u8]) -> Option<(&str, u64)> {
    let frame = Frame::parse(frame).ok()?;
    Some((frame.tenant()?, frame.created_ms()))
}
