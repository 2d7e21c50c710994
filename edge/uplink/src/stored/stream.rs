//! One stream (tenant and partition) between the journal and the cloud's mark.
//!
//! ```text
//!    cloud's mark                                  next
//!   ──────┬───────────┬──────────────────────────────┬──────────────▶ sequence
//!  stored │ under way │ waiting: records and holes   │ not yet taken from the journal
//! ```
//!
//! Invariants:
//! - What is under way and what waits is dense: each piece begins right behind the one before it.
//! - Everything below the smallest [`Stream::held_from`] of all streams may leave the journal.
//! - A sequence is taken from the journal once; reading the journal again changes nothing but a stream that was parked
//!   or told to begin again.
//!
//! No I/O and no clock here.

use super::batch::{Batch, Hole, Piece};
use crate::status::DropReason;
use fulcrum_contract::TenantId;
use fulcrum_journal::Position;
use std::borrow::Cow;
use std::collections::VecDeque;

/// How large a batch may become.
#[derive(Clone, Copy)]
pub(crate) struct Limits {
    pub bytes_max: usize,
    pub records_max: u32,
    /// Longest hole that is made visible record by record.
    pub hole_max: u64,
}

/// A record as the journal has it.
pub(crate) struct Taken<'a> {
    pub sequence: u64,
    pub frame: &'a [u8],
    pub from: Position,
    pub created_ms: u64,
    /// It was committed before this run began.
    pub is_old: bool,
}

/// Why a stream waits for an operator.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Halt {
    /// The cloud has records under sequences that this store gives out only now.
    CloudAhead { mark: u64, sequence: u64 },
    /// More is missing than may be replaced.
    HoleTooLong { first: u64, last: u64 },
    /// The cloud refuses the stand-in of a record that it has refused.
    StandInRefused { sequence: u64 },
}

impl std::fmt::Display for Halt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Halt::CloudAhead { mark, sequence } => write!(
                f,
                "the cloud already has records up to {mark}, this journal is at {sequence}: it is an old copy or runs \
                 twice; stop other nodes with this identity, drain, and begin a new store"
            ),
            Halt::HoleTooLong { first, last } => write!(
                f,
                "the records {first} to {last} are gone from this journal and missing in the cloud; raise \
                 gap_records_max to go on behind them, or begin a new store"
            ),
            Halt::StandInRefused { sequence } => {
                write!(
                    f,
                    "the cloud refuses what stands for record {sequence}; upgrade this node or the cloud"
                )
            }
        }
    }
}

/// One stream.
pub(crate) struct Stream {
    pub tenant: TenantId,
    /// The cloud's mark, once known.
    mark: Option<u64>,
    /// The highest mark that this run's own batches have not moved: the first it learnt, and any ahead of what it has taken.
    first_mark: u64,
    /// Next sequence to take from the journal; 0 before the first.
    next: u64,
    /// Highest sequence ever taken from the journal in this run.
    taken_max: u64,
    /// First sequence that was given out in this run.
    first_new: Option<u64>,
    /// The journal is read again because the cloud has lost records: what is missing now is the cloud's loss.
    reads_again: bool,
    waiting: VecDeque<Piece>,
    waiting_bytes: usize,
    waiting_records: u64,
    under_way: Option<Piece>,
    /// Its records are not taken; they will be read again from here.
    parked: Option<Hold>,
    halted: Option<(Halt, Hold)>,
}

/// A place that must stay in the journal.
#[derive(Clone, Copy)]
struct Hold {
    from: Position,
    created_ms: u64,
}

/// What the cloud's answer asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Next {
    /// Go on with what waits.
    GoOn,
    /// Read the journal again from the oldest place that is still there.
    ReadAgain,
    /// The answer contradicts itself; pause.
    Contradiction,
}

impl Stream {
    /// A stream of which the cloud's mark is not known yet.
    pub fn new(tenant: TenantId, mark: Option<u64>) -> Stream {
        Stream {
            tenant,
            mark,
            first_mark: mark.unwrap_or_default(),
            next: 0,
            taken_max: 0,
            first_new: None,
            reads_again: false,
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            waiting_records: 0,
            under_way: None,
            parked: None,
            halted: None,
        }
    }

    /// Takes a record, if it is the next one or behind it.
    pub fn take(&mut self, record: &Taken<'_>, limits: Limits) {
        if self.halted.is_some() || self.parked.is_some() || record.sequence < self.next {
            return;
        }
        if !record.is_old {
            self.first_new.get_or_insert(record.sequence);
        }
        if let Some(mark) = self.mark.filter(|mark| record.sequence <= *mark) {
            if !record.is_old && record.sequence <= self.first_mark {
                let halt = Halt::CloudAhead { mark, sequence: record.sequence };
                return self.halt_at(halt, record.from, record.created_ms);
            }
            self.next = record.sequence + 1;
            return;
        }
        let expected = match (self.next, self.mark) {
            (0, None) => record.sequence,
            (0, Some(mark)) => mark + 1,
            (next, mark) => next.max(mark.map_or(0, |mark| mark + 1)),
        };
        if expected < record.sequence {
            let lost_by_cloud = self.next == 0 || self.reads_again;
            let reason = if lost_by_cloud { DropReason::CloudGap } else { DropReason::JournalGap };
            self.miss(expected, record.sequence - 1, reason, record.from, limits);
            if self.halted.is_some() {
                return;
            }
        }
        self.reads_again = false;
        self.next = record.sequence + 1;
        self.taken_max = self.taken_max.max(record.sequence);
        self.waiting_records += 1;
        if let Some(Piece::Records(batch)) = self.waiting.back_mut()
            && batch.has_room(record.frame.len(), limits.bytes_max, limits.records_max)
        {
            let before = batch.frames.len();
            batch.push(record.frame);
            self.waiting_bytes += batch.frames.len() - before;
            return;
        }
        let batch = Batch::new(record.sequence, record.frame, record.from, record.created_ms);
        self.waiting_bytes += batch.frames.len();
        self.waiting.push_back(Piece::Records(batch));
    }

    /// The records `first` to `last` are gone from the journal.
    pub fn miss(
        &mut self,
        first: u64,
        last: u64,
        reason: DropReason,
        from: Position,
        limits: Limits,
    ) {
        let known = self.next.max(self.mark.map_or(0, |mark| mark + 1));
        let first = first.max(known);
        if self.halted.is_some() || self.parked.is_some() || first > last || first == 0 {
            return;
        }
        if last - first >= limits.hole_max {
            return self.halt_at(Halt::HoleTooLong { first, last }, from, 0);
        }
        self.waiting.push_back(Piece::Hole(Hole { first, last, reason, from }));
        self.next = last + 1;
        self.taken_max = self.taken_max.max(last);
    }

    /// The cloud's marks are known: this is the one of this stream, 0 if it has none.
    pub fn learn_mark(&mut self, mark: u64, limits: Limits) {
        if self.mark.is_some() {
            return;
        }
        self.first_mark = mark;
        match self.first_new.filter(|first_new| *first_new <= mark) {
            Some(sequence) => self.halt(Halt::CloudAhead { mark, sequence }),
            None => {
                self.advance(mark);
                self.close_front(mark, limits);
            }
        }
    }

    /// Whether a batch can be sent.
    pub fn can_send(&self) -> bool {
        self.mark.is_some()
            && self.halted.is_none()
            && self.under_way.is_none()
            && !self.waiting.is_empty()
    }

    /// The next batch; it stays under way until an answer is given to one of the methods below.
    pub fn send(&mut self, limits: Limits) -> Option<Cow<'_, Batch>> {
        if !self.can_send() {
            return None;
        }
        let piece = match self.pop_waiting()? {
            // The limits may have shrunk since the batch was gathered.
            Piece::Records(batch)
                if batch.count > 1 && batch.frames.len() / 2 > limits.bytes_max =>
            {
                let half = batch.count / 2;
                let (left, right) = batch.split(half);
                self.push_waiting_front(Piece::Records(right));
                Piece::Records(left)
            }
            piece => piece,
        };
        Some(match self.under_way.insert(piece) {
            Piece::Records(batch) => Cow::Borrowed(batch),
            Piece::Hole(hole) => Cow::Owned(hole.stand_in(&self.tenant, limits.records_max)),
        })
    }

    /// Why the records under way stand for others; none for real ones.
    pub fn stand_in_reason(&self) -> Option<DropReason> {
        match &self.under_way {
            Some(Piece::Hole(hole)) => Some(hole.reason),
            _ => None,
        }
    }

    /// The cloud has stored everything up to `mark`.
    pub fn stored(&mut self, mark: u64) -> Next {
        let known = self.taken_max.max(self.next.saturating_sub(1)).max(self.first_mark);
        if mark > known && self.first_new.is_some() {
            self.halt(Halt::CloudAhead { mark, sequence: known });
            return Next::GoOn;
        }
        // Ahead of us by what the run before had on its way when it was killed. Those records come from the journal yet; one
        // that is given out only now under such a sequence stops the stream.
        if mark > known {
            self.first_mark = mark;
        }
        let before = self.mark;
        self.put_back();
        self.advance(mark);
        if before == self.mark { Next::Contradiction } else { Next::GoOn }
    }

    /// The cloud misses records between `mark` and the batch under way. They may still be in the journal, held there by
    /// another stream.
    pub fn behind(&mut self, mark: u64) -> Next {
        let sent_first = self.under_way.as_ref().map_or(0, Piece::first);
        self.put_back();
        if mark + 1 >= sent_first {
            self.advance(mark);
            return Next::Contradiction;
        }
        self.clear_waiting();
        self.parked = None;
        self.mark = Some(mark);
        self.next = mark + 1;
        self.reads_again = true;
        Next::ReadAgain
    }

    /// The batch was not answered and will be sent again.
    pub fn send_again(&mut self) {
        self.put_back();
    }

    /// The batch is to be sent again in halves, where it has any.
    pub fn send_halves(&mut self) {
        match self.under_way.take() {
            Some(Piece::Records(batch)) if batch.count > 1 => {
                let half = batch.count / 2;
                let (left, right) = batch.split(half);
                self.push_waiting_front(Piece::Records(right));
                self.push_waiting_front(Piece::Records(left));
            }
            Some(piece) => self.push_waiting_front(piece),
            None => {}
        }
    }

    /// The cloud refuses the batch for its form. It goes on in halves until the record is found that is refused; a
    /// stand-in takes that one's place. Answers the sequence given up, if it was.
    pub fn refuse_form(&mut self, reason: DropReason) -> Option<u64> {
        match self.under_way.take() {
            Some(Piece::Records(batch)) if batch.count == 1 => {
                let (first, last, from) = (batch.first, batch.last(), batch.from);
                self.waiting.push_front(Piece::Hole(Hole { first, last, reason, from }));
                Some(first)
            }
            Some(Piece::Hole(hole)) => {
                let halt = Halt::StandInRefused { sequence: hole.first };
                self.waiting.push_front(Piece::Hole(hole));
                self.halt(halt);
                None
            }
            records => {
                self.under_way = records;
                self.send_halves();
                None
            }
        }
    }

    /// The cloud refuses the tenant: what is held is given up. Answers how many records.
    pub fn give_up_all(&mut self) -> u64 {
        self.put_back();
        let records = self.waiting_records;
        self.clear_waiting();
        records
    }

    /// A record of a tenant that is refused: it is given up at once. Whether it was a new one.
    pub fn pass(&mut self, sequence: u64) -> bool {
        let is_new = sequence >= self.next && self.mark.is_none_or(|mark| sequence > mark);
        self.next = self.next.max(sequence + 1);
        self.taken_max = self.taken_max.max(sequence);
        is_new
    }

    /// The stream cannot be shipped now and takes too much memory: what waits will be read again.
    /// Whether anything waited.
    pub fn park(&mut self) -> bool {
        let Some(front) = self.waiting.front() else { return false };
        let (from, created_ms) = (front.from(), front.created_ms().unwrap_or_default());
        if self.parked.is_none() {
            self.next = front.first();
            self.parked = Some(Hold { from, created_ms });
            self.clear_waiting();
            return true;
        }
        false
    }

    /// Takes records again; answers from where the journal has to be read.
    pub fn unpark(&mut self) -> Option<Position> {
        self.parked.take().map(|hold| hold.from)
    }

    pub fn is_parked(&self) -> bool {
        self.parked.is_some()
    }

    pub fn is_under_way(&self) -> bool {
        self.under_way.is_some()
    }

    pub fn halted(&self) -> Option<Halt> {
        self.halted.as_ref().map(|(halt, _)| *halt)
    }

    /// The first place in the journal that this stream still needs.
    pub fn held_from(&self) -> Option<Position> {
        let pieces = self.under_way.iter().chain(self.waiting.front()).map(Piece::from);
        let holds = self.parked.iter().chain(self.halted.iter().map(|(_, hold)| hold));
        pieces.chain(holds.map(|hold| hold.from)).min()
    }

    /// Creation time of the oldest record that is not acknowledged.
    pub fn oldest_created_ms(&self) -> Option<u64> {
        let pieces =
            self.under_way.iter().chain(self.waiting.front()).filter_map(Piece::created_ms);
        let holds = self.parked.iter().chain(self.halted.iter().map(|(_, hold)| hold));
        pieces.chain(holds.map(|hold| hold.created_ms)).filter(|ms| *ms != 0).min()
    }

    /// Bytes held in memory.
    pub fn bytes(&self) -> usize {
        self.waiting_bytes + self.under_way.as_ref().map_or(0, Piece::bytes)
    }

    /// Records held in memory.
    pub fn records(&self) -> u64 {
        self.waiting_records + self.under_way.as_ref().map_or(0, Piece::records)
    }

    /// Whether nothing has to be done for it.
    pub fn is_idle(&self) -> bool {
        self.under_way.is_none()
            && self.waiting.is_empty()
            && self.parked.is_none()
            && self.halted.is_none()
    }

    fn advance(&mut self, mark: u64) {
        let mark = self.mark.unwrap_or_default().max(mark);
        self.mark = Some(mark);
        while self.waiting.front().is_some_and(|piece| piece.first() <= mark) {
            let Some(piece) = self.pop_waiting() else { return };
            if piece.last() > mark {
                self.push_waiting_front(piece.behind(mark));
                return;
            }
        }
    }

    /// Where what waits does not begin right behind the mark, what lies between is gone.
    fn close_front(&mut self, mark: u64, limits: Limits) {
        let Some((first, from)) = self.waiting.front().map(|piece| (piece.first(), piece.from()))
        else {
            return;
        };
        if first <= mark + 1 {
            return;
        }
        let (first, last) = (mark + 1, first - 1);
        if last - first >= limits.hole_max {
            return self.halt(Halt::HoleTooLong { first, last });
        }
        let reason = DropReason::CloudGap;
        self.waiting.push_front(Piece::Hole(Hole { first, last, reason, from }));
    }

    fn put_back(&mut self) {
        if let Some(piece) = self.under_way.take() {
            self.push_waiting_front(piece);
        }
    }

    fn push_waiting_front(&mut self, piece: Piece) {
        self.waiting_bytes += piece.bytes();
        self.waiting_records += piece.records();
        self.waiting.push_front(piece);
    }

    fn pop_waiting(&mut self) -> Option<Piece> {
        let piece = self.waiting.pop_front()?;
        self.waiting_bytes -= piece.bytes();
        self.waiting_records -= piece.records();
        Some(piece)
    }

    fn clear_waiting(&mut self) {
        self.waiting.clear();
        self.waiting_bytes = 0;
        self.waiting_records = 0;
    }

    fn halt(&mut self, halt: Halt) {
        self.put_back();
        let front = self.waiting.front();
        let from = front.map_or(Position::default(), Piece::from);
        let created_ms = front.and_then(Piece::created_ms).unwrap_or_default();
        self.halt_at(halt, from, created_ms);
    }

    /// Stops the stream; the first place it needs stays held, its memory is given back.
    fn halt_at(&mut self, halt: Halt, from: Position, created_ms: u64) {
        self.put_back();
        let held = self.waiting.front().map(Piece::from);
        let parked = self.parked.take().map(|hold| hold.from);
        let from = held.into_iter().chain(parked).min().map_or(from, |held| held.min(from));
        self.clear_waiting();
        self.halted = Some((halt, Hold { from, created_ms }));
    }
}

#[cfg(test)]
#[path = "stream_tests.rs"]
mod tests;
