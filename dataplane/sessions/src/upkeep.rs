//! Keeps the log short: what lives in the oldest segment is written again at the end.

use crate::books::Entity;
use crate::record::Entry;
use crate::{Log, Room, Sessions};

impl Sessions {
    /// Copies what lives in the oldest segment forward, about so many bytes of it; with a budget of 0 nothing.
    /// Answers the segment below which nothing is needed any more, if such segments exist: the caller lets the log
    /// drop them, oldest first.
    ///
    /// Each live byte is copied once per round of the log. Call it with a budget only while the log is a few times
    /// as large as [`Metrics::live_bytes`](crate::Metrics::live_bytes).
    pub fn compact(&mut self, log: &mut (impl Log + ?Sized), budget_bytes: usize) -> Option<u64> {
        self.settle_debts(log);
        let current = log.current_segment();
        let target = self.books.homes.first().map(|(segment, _)| *segment);
        let mut spent = 0;
        while spent < budget_bytes {
            let Some((segment, entity)) = self.books.homes.first().copied() else { break };
            if Some(segment) != target || segment >= current {
                break;
            }
            let Ok(bytes) = self.copy(log, entity) else { break };
            // It has moved; what nobody owns goes here.
            self.books.homes.remove(&(segment, entity));
            spent += bytes + 64;
            self.counters.copied_records += 1;
            self.counters.copied_bytes += bytes as u64;
        }
        let needed = self.books.floor().unwrap_or(current).min(current);
        (needed > log.oldest_segment()).then_some(needed)
    }

    fn copy(&mut self, log: &mut (impl Log + ?Sized), entity: Entity) -> Result<usize, Room> {
        let books = &mut self.books;
        match entity {
            Entity::Session(key) => self.write_image(log, key),
            Entity::Body(id) => self.copy_body(log, id),
            Entity::Will(id) => self.copy_will(log, id),
            Entity::Forward(to, number) => self.forwards.copy(books, log, to, number),
            Entity::ForwardLast(to) => self.forwards.copy_last(books, log, to),
            Entity::Mark(from) => self.forwards.copy_mark(books, log, from),
            Entity::Retained(id) => self.retained.copy(books, log, id, self.clock.now_ms),
        }
    }

    fn copy_body(&mut self, log: &mut (impl Log + ?Sized), id: u64) -> Result<usize, Room> {
        let Some(body) = self.books.bodies.get(&id) else { return Ok(0) };
        let (tenant, message, home) = (body.tenant.clone(), body.message.clone(), body.home);
        let mut record = self.books.begin(&tenant);
        let (expires_at_ms, frame) = (message.expires_at_ms(), &message.frame()[..]);
        Entry::Body { body: id, expires_at_ms, frame }.put(&mut record);
        let place = self.books.append(log, &tenant, record, true)?;
        if let Some(body) = self.books.bodies.get_mut(&id) {
            body.home = place.segment;
        }
        self.books.rehome(Entity::Body(id), home, place);
        Ok(frame.len())
    }

    fn copy_will(&mut self, log: &mut (impl Log + ?Sized), id: u64) -> Result<usize, Room> {
        let Some(stored) = self.books.wills.get(&id) else { return Ok(0) };
        let (will, session, home) = (stored.will.clone(), stored.session, stored.home);
        let mut record = self.books.begin(&will.tenant);
        Entry::Will {
            will: id,
            session,
            client_id: &will.client_id,
            delay_s: will.delay_s,
            frame: &will.frame,
        }
        .put(&mut record);
        let place = self.books.append(log, &will.tenant, record, true)?;
        if let Some(stored) = self.books.wills.get_mut(&id) {
            stored.home = place.segment;
        }
        self.books.rehome(Entity::Will(id), home, place);
        Ok(will.frame.len())
    }
}
