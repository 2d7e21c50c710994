//! Finding the end of the log, and telling torn writes from damage.
//!
//! A batch is written only after the one before it was durable. Let *S* be the start of the newest batch of which any
//! sound record exists. What is broken before *S* was durable once: damage. What is broken from *S* on may be a
//! write that a crash interrupted. In a segment of zeros such a write shows: its record stops before its end, or a
//! whole sector of it is still zero. Then nothing from there on was ever acknowledged and the log ends there.
//! Anything else broken is damage too, and sound records behind it are kept.
//!
//! Sectors of [`SECTOR_BYTES`] are taken to be written wholly or not at all.

use crate::error::JournalError;
use crate::images::Images;
use crate::position::Position;
use crate::record::{Damage, Decoded, END_MARK, Kind};

/// The smallest unit disks write atomically.
const SECTOR_BYTES: u64 = 512;

/// Where the log ends, and what is broken before.
#[derive(Debug, Default)]
pub(crate) struct Scan {
    /// Where the next record goes.
    pub end: Position,
    /// End of the last byte that is not zero; never before `end` unless the log is empty.
    pub written_end: Position,
    /// Start of the newest batch before `end`: what is not known to be on disk.
    pub last_batch: Position,
    /// Damage before `end`, ascending.
    pub damages: Vec<Damage>,
}

/// Walks from `start`, the beginning of a segment, to the end of the log.
pub(crate) fn scan(images: &mut Images, start: Position) -> Result<Scan, JournalError> {
    let mut walk = Walk { at: start, newest_batch: start, damages: Vec::new(), cut_short: None };
    while walk.step(images)? {}
    let written_end = images.written_end(walk.at)?.unwrap_or(walk.at);
    let mut scan = Scan {
        end: walk.at,
        written_end,
        last_batch: walk.newest_batch,
        damages: std::mem::take(&mut walk.damages),
    };
    if let Some(torn) = first_torn(images, &scan, walk.cut_short)? {
        // Measured from the cut on: what follows it in sound records is cut off too.
        scan.written_end = images.written_end(torn)?.unwrap_or(torn);
        scan.end = torn;
        scan.damages.retain(|damage| damage.from < torn);
    }
    if images.is_rest(scan.end) {
        scan.end = images.layout.next_start(scan.end);
    }
    scan.written_end = scan.written_end.max(scan.end);
    scan.last_batch = scan.last_batch.min(scan.end);
    Ok(scan)
}

struct Walk {
    at: Position,
    newest_batch: Position,
    damages: Vec<Damage>,
    /// Start of a last record with a sound head whose end was never written.
    cut_short: Option<Position>,
}

impl Walk {
    /// Goes over one record or one damaged range; `false` at the end of the log.
    fn step(&mut self, images: &mut Images) -> Result<bool, JournalError> {
        let layout = images.layout;
        if !images.has(layout.segment_of(self.at)) {
            return self.step_over(images, None);
        }
        if images.is_rest(self.at) {
            self.at = layout.next_start(self.at);
            return Ok(true);
        }
        match images.decode(self.at)? {
            Decoded::Record(record) => {
                let ended = record.kind == Kind::SegmentEnd;
                let (next, batch) = (record.next, record.batch_start);
                self.newest_batch = self.newest_batch.max(batch);
                self.at = if ended { layout.next_start(self.at) } else { next };
                Ok(true)
            }
            Decoded::BadBody { kind, sequence, bytes } => {
                let next = Position(self.at.0 + bytes as u64);
                self.step_over(images, Some((kind, sequence, next)))
            }
            Decoded::BadHead | Decoded::Empty | Decoded::Short { .. } => {
                self.step_over(images, None)
            }
        }
    }

    /// Goes over what is no record, to the next sound one; a sound head tells where that is.
    fn step_over(
        &mut self,
        images: &mut Images,
        head: Option<(Kind, u64, Position)>,
    ) -> Result<bool, JournalError> {
        let from = self.at;
        if let Some(to) = images.find_sound(from)? {
            let record = head.filter(|(_, _, next)| *next == to);
            let record = record.map(|(kind, sequence, _)| (kind, sequence));
            self.damages.push(Damage { from, to, record });
            self.at = to;
            return Ok(true);
        }
        let Some(end) = images.written_end(from)? else {
            return Ok(false);
        };
        // Nothing sound follows. If this is damage, the log goes on behind it.
        self.cut_short = head.filter(|(_, _, next)| *next > end).map(|_| from);
        let known = head.filter(|(_, _, next)| *next == end);
        let to = Position(end.0.next_multiple_of(8));
        let record = known.map(|(kind, sequence, _)| (kind, sequence));
        self.damages.push(Damage { from, to, record });
        self.at = to;
        Ok(false)
    }
}

/// Start of the first broken range that is a torn write.
fn first_torn(
    images: &mut Images,
    scan: &Scan,
    cut_short: Option<Position>,
) -> Result<Option<Position>, JournalError> {
    for damage in scan.damages.iter().filter(|damage| damage.from >= scan.last_batch) {
        if cut_short == Some(damage.from) || is_torn(images, damage, scan)? {
            return Ok(Some(damage.from));
        }
    }
    Ok(None)
}

fn is_torn(images: &mut Images, damage: &Damage, scan: &Scan) -> Result<bool, JournalError> {
    let layout = images.layout;
    let number = layout.segment_of(damage.from);
    if !images.has(number) {
        return Ok(false);
    }
    let nothing_follows = damage.to >= scan.end;
    let written_end = images.written_end(damage.from)?.unwrap_or(damage.from);
    let segment_end = layout.next_start(damage.from);
    let bytes = images.load(number)?;
    let at =
        |position: Position| (position.0.min(segment_end.0) - layout.start_of(number).0) as usize;
    if nothing_follows && damage.record.is_none() {
        let last = bytes[..at(written_end)].last();
        let whole = written_end.0.is_multiple_of(8) && last == Some(&END_MARK);
        if !whole {
            return Ok(true);
        }
    }
    let mut from = damage.from;
    while from < damage.to && from < segment_end {
        let sector_end = Position((from.0 / SECTOR_BYTES + 1) * SECTOR_BYTES);
        let part = &bytes[at(from)..at(sector_end.min(written_end))];
        if part.iter().all(|byte| *byte == 0) {
            return Ok(true);
        }
        from = sector_end;
    }
    Ok(false)
}
