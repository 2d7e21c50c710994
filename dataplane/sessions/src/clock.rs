//! What becomes due: the end of sessions, delayed wills, expired messages in queues and retained ones.
//!
//! Deadlines of a running process are monotonic, so a step of the wall clock expires no session. The wall clock is
//! in records alone, and in the expiry of messages.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::session::Debt;
use crate::sessions::session_of;
use crate::{Due, Log, Message, SessionKey, Sessions, Will};

/// Bounds of one call.
const DUE_MAX: usize = 64;
const SLOTS_MAX: usize = 256;
const ENTRIES_MAX: usize = 4096;
const DEBTS_MAX: usize = 64;

/// Queues are looked through for expired messages this often.
const SWEEP_EVERY: Duration = Duration::from_secs(1);
/// What the log did not take is tried again after this.
const RETRY_AFTER: Duration = Duration::from_millis(100);

#[derive(Debug, Default)]
pub(crate) struct Clock {
    now: Option<Instant>,
    pub now_ms: u64,
    /// Queued messages that can expire.
    expirable: usize,
    sweep_at: Option<Instant>,
    /// The slot the sweep goes on with.
    cursor: usize,
    /// Wills found in the log whose session is over.
    pub orphans: VecDeque<Will>,
}

impl Clock {
    pub(crate) fn saw(&mut self, now: Instant, now_ms: u64) {
        self.now = Some(now);
        self.now_ms = now_ms;
    }

    pub(crate) fn note(&mut self, message: &Message) {
        self.expirable += usize::from(message.expires_at_ms().is_some());
    }

    pub(crate) fn forget(&mut self, message: &Message) {
        self.expirable -= usize::from(message.expires_at_ms().is_some());
    }
}

impl Sessions {
    /// When [`Sessions::timeout`] has something to do.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Instant> {
        let now = self.clock.now?;
        if !self.clock.orphans.is_empty() {
            return Some(now);
        }
        let sweep = self.clock.sweep_at.unwrap_or(now + SWEEP_EVERY);
        let owes = !self.debts.is_empty() || !self.books.owed.is_empty();
        let retained = self.retained.next_expiry_ms().map(|at_ms| {
            // Never at once: a stretch of them goes together.
            now + Duration::from_millis(at_ms.saturating_sub(self.clock.now_ms)).max(RETRY_AFTER)
        });
        [
            self.deadlines.first().map(|(at, _)| *at),
            (self.clock.expirable > 0).then_some(sweep),
            owes.then_some(now + RETRY_AFTER),
            retained,
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Does what is due, a bounded part per call: sessions that expired, wills whose delay is over, messages that
    /// expired in queues.
    pub fn timeout(
        &mut self,
        log: &mut (impl Log + ?Sized),
        now: Instant,
        now_ms: u64,
        out: &mut Vec<Due>,
    ) {
        self.clock.saw(now, now_ms);
        self.settle_debts(log);
        let orphans = self.clock.orphans.len().min(DUE_MAX);
        out.extend(self.clock.orphans.drain(..orphans).map(Due::Will));
        for _ in 0..DUE_MAX {
            let Some((at, key)) = self.deadlines.first().copied() else { break };
            if at > now {
                break;
            }
            self.expire(log, key, now, out);
        }
        self.sweep(log, now, now_ms);
        self.retained.expire(&mut self.books, now_ms, ENTRIES_MAX);
    }

    fn expire(
        &mut self,
        log: &mut (impl Log + ?Sized),
        key: SessionKey,
        now: Instant,
        out: &mut Vec<Due>,
    ) {
        let Some(session) = session_of(&mut self.slots, key) else { return };
        let Some(durable) = &mut session.durable else { return };
        if durable.ends_at.is_some_and(|at| at <= now) {
            self.counters.expired_sessions += 1;
            out.extend(self.finish(log, key, 0).map(Due::Ended));
            return;
        }
        durable.will_at = None;
        let will = std::mem::take(&mut session.will);
        out.extend(self.books.wills.get(&will).map(|stored| Due::Will(stored.will.clone())));
        self.set_deadline(key);
    }

    fn sweep(&mut self, log: &mut (impl Log + ?Sized), now: Instant, now_ms: u64) {
        if self.clock.expirable == 0 {
            self.clock.sweep_at = None;
            return;
        }
        if *self.clock.sweep_at.get_or_insert(now) > now {
            return;
        }
        let mut seen = 0;
        for _ in 0..SLOTS_MAX {
            let index = self.clock.cursor;
            let Some(slot) = self.slots.get(index) else {
                self.clock.cursor = 0;
                self.clock.sweep_at = Some(now + SWEEP_EVERY);
                return;
            };
            self.clock.cursor += 1;
            let key = SessionKey::new(index, slot.generation);
            seen += self.drop_expired(log, key, now_ms);
            if seen >= ENTRIES_MAX {
                break;
            }
        }
    }

    /// Drops what expired in a session's queue and was never sent; answers how many messages were looked at.
    fn drop_expired(
        &mut self,
        log: &mut (impl Log + ?Sized),
        key: SessionKey,
        now_ms: u64,
    ) -> usize {
        let Some(flow) = self.session(key).and_then(|session| session.flow.as_ref()) else {
            return 0;
        };
        let (seen, sent_through) = (flow.entries.len(), flow.sent_through);
        let expired: Vec<usize> = (flow.sent..seen)
            .rev()
            .filter(|position| {
                let entry = &flow.entries[*position];
                entry.sequence > sent_through && entry.message.is_expired(now_ms)
            })
            .collect();
        for position in expired {
            self.counters.expired_messages += 1;
            self.drop_entry(log, key, position);
        }
        seen
    }

    /// Tells the log what it did not take before, as far as it takes it now.
    pub(crate) fn settle_debts(&mut self, log: &mut (impl Log + ?Sized)) {
        if !self.books.pay(log) {
            return;
        }
        for _ in 0..DEBTS_MAX {
            let Some(key) = self.debts.front().copied() else { return };
            if !self.settle_debt(log, key) {
                return;
            }
            self.debts.pop_front();
        }
    }

    fn settle_debt(&mut self, log: &mut (impl Log + ?Sized), key: SessionKey) -> bool {
        let Some(session) = self.session(key) else { return true };
        let Some(durable) = &session.durable else { return true };
        match (durable.debt, durable.detached_at_ms) {
            (Debt::None, _) => true,
            (Debt::Detached, Some(at_ms)) => {
                let entry = crate::record::Entry::Detached {
                    session: durable.id,
                    at_ms,
                    expiry_s: session.expiry_s,
                    sent_through: session.flow.as_ref().map_or(0, |flow| flow.sent_through),
                };
                let told = self.append_of(log, key, &[entry], true).is_ok();
                if told {
                    self.clear_debt(key);
                }
                told
            }
            _ => self.write_image(log, key).is_ok(),
        }
    }

    fn clear_debt(&mut self, key: SessionKey) {
        if let Some(durable) =
            session_of(&mut self.slots, key).and_then(|session| session.durable.as_mut())
        {
            durable.debt = Debt::None;
        }
    }
}
