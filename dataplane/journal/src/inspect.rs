//! Looking at a journal without opening it: checking all of it, and listing records. Reads only; the journal may be in
//! use, in which case the last batch can look torn.

use std::collections::VecDeque;
use std::path::Path;

use fulcrum_frame::Frame;

use crate::error::JournalError;
use crate::images::Images;
use crate::position::{Layout, Position};
use crate::record::{Damage, Decoded, Kind};
use crate::scan;
use crate::store::{self, StoreInfo};

/// What [`verify`] found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Report {
    /// Which store it is.
    pub store: StoreInfo,
    /// One per partition, in order.
    pub partitions: Vec<PartitionCheck>,
}

impl Report {
    /// Whether no damage was found; a torn end is none.
    pub fn is_sound(&self) -> bool {
        self.partitions.iter().all(|partition| partition.damages.is_empty())
    }
}

/// What [`verify`] found in one partition.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct PartitionCheck {
    /// The partition.
    pub partition: u16,
    /// Segment files, prepared ones included.
    pub segments: u64,
    /// Sound records.
    pub records: u64,
    /// Messages among them.
    pub messages: u64,
    /// Start of the oldest segment.
    pub start: Position,
    /// End of the log.
    pub end: Position,
    /// Bytes of a torn write behind the end.
    pub torn_bytes: u64,
    /// Damaged ranges.
    pub damages: Vec<Damage>,
}

/// One thing in the log, as [`dump`] lists it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Entry {
    /// A sound record.
    Record {
        /// Its partition.
        partition: u16,
        /// Its place.
        position: Position,
        /// What it is.
        kind: Kind,
        /// Its sequence; 0 unless it is a message.
        sequence: u64,
        /// Its tenant, if it is a message.
        tenant: Option<String>,
        /// Its body.
        body: Vec<u8>,
    },
    /// A damaged range.
    Damage {
        /// Its partition.
        partition: u16,
        /// Where it is.
        damage: Damage,
    },
}

/// Checks every segment of the journal in `dir` from the oldest on.
///
/// # Errors
/// [`JournalError`] if there is no store or a file cannot be read; damage is in the report.
pub fn verify(dir: &Path) -> Result<Report, JournalError> {
    let store = load(dir)?;
    let mut partitions = Vec::new();
    for partition in 0..store.partitions {
        let mut check = PartitionCheck { partition, ..PartitionCheck::default() };
        let mut walk = Walk::new(dir, &store, partition)?;
        check.segments = walk.images.numbers().len() as u64;
        check.start = walk.at;
        check.end = walk.end;
        check.torn_bytes = walk.torn_bytes;
        while let Some(entry) = walk.next_entry()? {
            match entry {
                Entry::Record { kind, .. } => {
                    check.records += 1;
                    check.messages += u64::from(kind == Kind::Message);
                }
                Entry::Damage { damage, .. } => check.damages.push(damage),
            }
        }
        partitions.push(check);
    }
    Ok(Report { store, partitions })
}

/// Lists everything in the journal in `dir`, partition by partition, oldest first.
///
/// # Errors
/// [`JournalError`] if there is no store; the iterator answers one if a file cannot be read, and then ends.
pub fn dump(
    dir: &Path,
) -> Result<impl Iterator<Item = Result<Entry, JournalError>> + use<>, JournalError> {
    let store = load(dir)?;
    let dir = dir.to_path_buf();
    let mut partitions = 0..store.partitions;
    let mut walk: Option<Walk> = None;
    Ok(std::iter::from_fn(move || {
        loop {
            let next = match &mut walk {
                Some(walk) => walk.next_entry(),
                None => Ok(None),
            };
            match next {
                Ok(Some(entry)) => return Some(Ok(entry)),
                Ok(None) => match Walk::new(&dir, &store, partitions.next()?) {
                    Ok(next) => walk = Some(next),
                    Err(error) => return end(&mut partitions, &mut walk, error),
                },
                Err(error) => return end(&mut partitions, &mut walk, error),
            }
        }
    }))
}

fn end(
    partitions: &mut std::ops::Range<u16>,
    walk: &mut Option<Walk>,
    error: JournalError,
) -> Option<Result<Entry, JournalError>> {
    *partitions = 0..0;
    *walk = None;
    Some(Err(error))
}

fn load(dir: &Path) -> Result<StoreInfo, JournalError> {
    StoreInfo::load(dir)?.ok_or_else(|| JournalError::StoreMissing { dir: dir.to_path_buf() })
}

struct Walk {
    partition: u16,
    images: Images,
    at: Position,
    end: Position,
    torn_bytes: u64,
    damages: VecDeque<Damage>,
}

impl Walk {
    fn new(dir: &Path, store: &StoreInfo, partition: u16) -> Result<Walk, JournalError> {
        let layout = Layout { epoch: store.epoch, segment_bytes: store.segment_bytes };
        let mut images = Images::new(store::partition_dir(dir, partition), layout)?;
        let at = layout.start_of(images.numbers().first().copied().unwrap_or(1));
        let found = scan::scan(&mut images, at)?;
        Ok(Walk {
            partition,
            images,
            at,
            end: found.end,
            torn_bytes: found.written_end.0 - found.end.0,
            damages: found.damages.into(),
        })
    }

    fn next_entry(&mut self) -> Result<Option<Entry>, JournalError> {
        let partition = self.partition;
        while self.at < self.end {
            if let Some(damage) = self.damages.pop_front_if(|damage| damage.from == self.at) {
                self.at = damage.to;
                return Ok(Some(Entry::Damage { partition, damage }));
            }
            let layout = self.images.layout;
            let at = self.at;
            if self.images.is_rest(at) {
                self.at = layout.next_start(at);
                continue;
            }
            let Decoded::Record(record) = self.images.decode(at)? else {
                // The journal is in use and was changed between the scan and now.
                return Ok(None);
            };
            let is_end = record.kind == Kind::SegmentEnd;
            let next = record.next;
            let tenant = match record.kind {
                Kind::Message => Frame::parse(record.body).ok().and_then(|frame| frame.tenant()),
                _ => None,
            };
            let entry = Entry::Record {
                partition,
                position: at,
                kind: record.kind,
                sequence: record.sequence,
                tenant: tenant.map(str::to_owned),
                body: record.body.to_vec(),
            };
            self.at = if is_end { layout.next_start(at) } else { next };
            return Ok(Some(entry));
        }
        Ok(None)
    }
}
