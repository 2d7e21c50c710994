//! Forwards to other shards, exactly once over crashes: a number per receiver on the one side, a high-water mark per
//! sender on the other, each in the record of what it belongs to.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;

use crate::books::{Books, Entity};
use crate::record::Entry;
use crate::{Log, Origin, Place, Room, Sessions};

#[derive(Debug, Default)]
pub(crate) struct Forwards {
    lanes: HashMap<u16, Lane>,
    marks: HashMap<u16, Mark>,
    pub bytes: u64,
}

#[derive(Debug, Default)]
struct Lane {
    last: u64,
    /// The segment that tells the last number; 0 before there is one.
    last_home: u64,
    /// Not confirmed yet, by number.
    waiting: VecDeque<Waiting>,
    /// How many of them were handed out.
    handed_out: usize,
}

#[derive(Debug)]
struct Waiting {
    number: u64,
    tenant: Arc<str>,
    frame: Bytes,
    ticket: u64,
    home: u64,
}

#[derive(Debug)]
struct Mark {
    epoch: u64,
    number: u64,
    home: u64,
}

impl Sessions {
    /// The next forward to a shard that is durable and was not handed out yet. After recovery these are all that the
    /// other shard has not confirmed, in order.
    pub fn next_forward(&mut self, to_shard: u16) -> Option<(u64, Bytes)> {
        let lane = self.forwards.lanes.get_mut(&to_shard)?;
        let next = lane.waiting.get(lane.handed_out)?;
        if next.ticket > self.books.durable {
            return None;
        }
        lane.handed_out += 1;
        Some((next.number, next.frame.clone()))
    }

    /// First and last number of what was not handed out yet; `None` if all was.
    #[must_use]
    pub fn unsent_forwards(&self, to_shard: u16) -> Option<(u64, u64)> {
        let waiting = &self.forwards.lanes.get(&to_shard)?.waiting;
        let handed_out = self.forwards.lanes.get(&to_shard)?.handed_out;
        Some((waiting.get(handed_out)?.number, waiting.back()?.number))
    }

    /// The other shard has not taken this one and nothing after it: they are handed out again.
    pub fn forward_again(&mut self, to_shard: u16, number: u64) {
        let Some(lane) = self.forwards.lanes.get_mut(&to_shard) else { return };
        let before = lane.waiting.partition_point(|waiting| waiting.number < number);
        lane.handed_out = lane.handed_out.min(before);
    }

    /// The forwards another shard has not confirmed, handed out or not: (shard, number, frame).
    pub fn pending_forwards(&self) -> impl Iterator<Item = (u16, u64, &Bytes)> {
        self.forwards.lanes.iter().flat_map(|(to, lane)| {
            lane.waiting.iter().map(|waiting| (*to, waiting.number, &waiting.frame))
        })
    }

    /// The other shard has everything up to this number durable.
    pub fn forwarded(&mut self, log: &mut (impl Log + ?Sized), to_shard: u16, number: u64) {
        let Some(lane) = self.forwards.lanes.get_mut(&to_shard) else { return };
        if lane.waiting.front().is_none_or(|first| first.number > number) {
            return;
        }
        let tenant = lane.waiting.front().map_or_else(|| "".into(), |w| Arc::clone(&w.tenant));
        // If the log does not take it, the receiver's mark sorts it out after a crash.
        let mut record = self.books.begin(&tenant);
        Entry::ForwardDone { to: to_shard, through: number }.put(&mut record);
        let place = self.books.append(log, &tenant, record, true).ok();
        while let Some(first) = lane.waiting.pop_front_if(|first| first.number <= number) {
            lane.handed_out = lane.handed_out.saturating_sub(1);
            self.forwards.bytes -= first.frame.len() as u64;
            let entity = Entity::Forward(to_shard, first.number);
            self.books.unhome(entity, first.home, place.map(|place| place.ticket));
        }
    }

    /// This shard as a sender; goes with each forward.
    #[must_use]
    pub fn origin(&self) -> Origin {
        self.origin
    }

    /// Whether a forward has not been taken yet. One that has is confirmed again and otherwise ignored.
    #[must_use]
    pub fn is_new_from(&self, from: Origin, number: u64) -> bool {
        let mark = self.forwards.marks.get(&from.shard);
        mark.is_none_or(|mark| mark.epoch != from.epoch || mark.number < number)
    }
}

impl Forwards {
    pub(crate) fn len(&self) -> usize {
        self.lanes.values().map(|lane| lane.waiting.len()).sum()
    }

    pub(crate) fn last(&self, to: u16) -> u64 {
        self.lanes.get(&to).map_or(0, |lane| lane.last)
    }

    /// Puts forwards into a record, with the numbers [`Forwards::push`] will give them.
    pub(crate) fn put(&self, forwards: &[(u16, Bytes)], record: &mut Vec<u8>) {
        for (index, (to, frame)) in forwards.iter().enumerate() {
            let before = forwards[..index].iter().filter(|(other, _)| other == to).count() as u64;
            let number = self.last(*to) + before + 1;
            Entry::Forward { to: *to, number, frame }.put(record);
        }
    }

    pub(crate) fn push(
        &mut self,
        books: &mut Books,
        to: u16,
        tenant: &Arc<str>,
        frame: Bytes,
        place: Place,
    ) {
        let lane = self.lanes.entry(to).or_default();
        lane.last += 1;
        books.rehome(Entity::ForwardLast(to), lane.last_home, place);
        lane.last_home = place.segment;
        let number = lane.last;
        books.settle_in(Entity::Forward(to, number), place.segment);
        self.bytes += frame.len() as u64;
        let (tenant, ticket, home) = (Arc::clone(tenant), place.ticket, place.segment);
        lane.waiting.push_back(Waiting { number, tenant, frame, ticket, home });
    }

    pub(crate) fn mark(&mut self, books: &mut Books, from: Origin, number: u64, place: Place) {
        let fresh = Mark { epoch: from.epoch, number, home: 0 };
        let mark = self.marks.entry(from.shard).or_insert(fresh);
        if mark.epoch != from.epoch {
            mark.number = number;
        }
        mark.epoch = from.epoch;
        mark.number = mark.number.max(number);
        books.rehome(Entity::Mark(from.shard), mark.home, place);
        mark.home = place.segment;
    }

    /// Copies one forward forward.
    pub(crate) fn copy(
        &mut self,
        books: &mut Books,
        log: &mut (impl Log + ?Sized),
        to: u16,
        number: u64,
    ) -> Result<usize, Room> {
        let Some(lane) = self.lanes.get_mut(&to) else { return Ok(0) };
        let Ok(position) = lane.waiting.binary_search_by_key(&number, |w| w.number) else {
            return Ok(0);
        };
        let Some(waiting) = lane.waiting.get_mut(position) else { return Ok(0) };
        let mut record = books.begin(&waiting.tenant);
        Entry::Forward { to, number, frame: &waiting.frame }.put(&mut record);
        let place = books.append(log, &waiting.tenant, record, true)?;
        books.rehome(Entity::Forward(to, number), waiting.home, place);
        waiting.home = place.segment;
        Ok(waiting.frame.len())
    }

    /// Copies the last number given out to a shard forward.
    pub(crate) fn copy_last(
        &mut self,
        books: &mut Books,
        log: &mut (impl Log + ?Sized),
        to: u16,
    ) -> Result<usize, Room> {
        let Some(lane) = self.lanes.get_mut(&to) else { return Ok(0) };
        let mut record = books.begin("");
        Entry::ForwardLast { to, number: lane.last }.put(&mut record);
        let place = books.append(log, "", record, true)?;
        books.rehome(Entity::ForwardLast(to), lane.last_home, place);
        lane.last_home = place.segment;
        Ok(0)
    }

    /// Copies a sender's mark forward.
    pub(crate) fn copy_mark(
        &mut self,
        books: &mut Books,
        log: &mut (impl Log + ?Sized),
        from: u16,
    ) -> Result<usize, Room> {
        let Some(mark) = self.marks.get_mut(&from) else { return Ok(0) };
        let mut record = books.begin("");
        Entry::Mark { from, epoch: mark.epoch, number: mark.number }.put(&mut record);
        let place = books.append(log, "", record, true)?;
        books.rehome(Entity::Mark(from), mark.home, place);
        mark.home = place.segment;
        Ok(0)
    }

    /// A forward found in the log.
    pub(crate) fn replay_forward(
        &mut self,
        to: u16,
        number: u64,
        tenant: &Arc<str>,
        frame: &[u8],
        home: u64,
    ) {
        self.replay_last(to, number, home);
        let lane = self.lanes.entry(to).or_default();
        let frame = Bytes::copy_from_slice(frame);
        let fresh = Waiting { number, tenant: Arc::clone(tenant), frame, ticket: 0, home };
        match lane.waiting.binary_search_by_key(&number, |waiting| waiting.number) {
            Ok(position) => lane.waiting[position] = fresh,
            Err(position) => lane.waiting.insert(position, fresh),
        }
    }

    pub(crate) fn replay_last(&mut self, to: u16, number: u64, home: u64) {
        let lane = self.lanes.entry(to).or_default();
        if number >= lane.last {
            lane.last = number;
            lane.last_home = home;
        }
    }

    pub(crate) fn replay_done(&mut self, to: u16, through: u64) {
        let lane = self.lanes.entry(to).or_default();
        while lane.waiting.pop_front_if(|first| first.number <= through).is_some() {}
    }

    pub(crate) fn replay_mark(&mut self, from: u16, epoch: u64, number: u64, home: u64) {
        self.marks.insert(from, Mark { epoch, number, home });
    }

    /// Books what was found in the log.
    pub(crate) fn settle(&mut self, books: &mut Books) {
        for (to, lane) in &self.lanes {
            if lane.last > 0 {
                books.settle_in(Entity::ForwardLast(*to), lane.last_home);
            }
            for waiting in &lane.waiting {
                self.bytes += waiting.frame.len() as u64;
                books.settle_in(Entity::Forward(*to, waiting.number), waiting.home);
            }
        }
        for (from, mark) in &self.marks {
            books.settle_in(Entity::Mark(*from), mark.home);
        }
    }
}
