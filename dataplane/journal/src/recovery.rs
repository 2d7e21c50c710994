//! Bringing one partition back: find the end of the log, restore what it says, mend its end. Blocking I/O.
//!
//! Order matters: nothing is changed on disk before everything needed was read; the end is mended and synced before
//! any of it counts as committed.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use fulcrum_frame::Frame;

use crate::batch::{ZEROS, padding_body};
use crate::config::{CHECKPOINT_SHARE, WriteMode};
use crate::control::{Checkpoint, Cursor};
use crate::disk;
use crate::error::JournalError;
use crate::images::{Images, written_bytes};
use crate::position::{Layout, Position};
use crate::record::{self, Damage, Decoded, Kind, Place, RECORD_HEAD_BYTES};
use crate::scan::{Scan, scan};
use crate::streams::Streams;

/// Age samples restored per segment; the partition thins them out in the same way.
const AGE_SAMPLES: u64 = 64;
/// Zeros written at a time while mending.
const ZERO_BLOCK_BYTES: usize = 64 * 1024;

/// What one partition is after recovery.
pub(crate) struct Recovered {
    /// Where the next record goes; everything before is on disk.
    pub head: Position,
    pub cursor: Position,
    pub streams: Streams,
    /// Oldest segment on disk; one above `current` when there is none.
    pub oldest: u64,
    /// The segment to write to, or the last full one.
    pub current: u64,
    /// Whether the segment behind `current` is there and clean.
    pub next_is_prepared: bool,
    pub ages: Vec<(Position, u64)>,
    pub messages: u64,
    pub lost_max: u64,
    /// No checkpoint was found; sequences continue in a new era.
    pub sequences_unknown: bool,
    pub scanned_records: u64,
    pub scanned_bytes: u64,
    pub torn_bytes: u64,
    pub quarantined: Vec<Damage>,
}

pub(crate) fn recover(
    dir: &Path,
    layout: Layout,
    mode: WriteMode,
) -> Result<Recovered, JournalError> {
    disk::remove_unfinished(dir)?;
    let mut images = Images::new(dir.to_path_buf(), layout)?;
    let oldest = images.numbers().first().copied();
    let start = layout.start_of(last_checkpoint(&images)?.or(oldest).unwrap_or(1));
    let scan = scan(&mut images, start)?;
    let mut restored = Restored::new(layout);
    restored.replay(&mut images, &scan, start)?;
    let was_never_written = oldest == Some(1) && scan.end == layout.start_of(1);
    let sequences_unknown = !restored.checkpoint_seen && !was_never_written;
    if sequences_unknown {
        restored.streams.skip_era();
    }
    let mut quarantined = missing_segments(&images, start);
    quarantined.extend(scan.damages.iter().copied());
    let head = mend(&mut images, &scan, mode)?;
    let tail = tidy(&mut images, head, oldest)?;
    // A cursor below the oldest segment is an old one: segments go only after they were acknowledged.
    let lowest = layout.start_of(tail.oldest);
    Ok(Recovered {
        head,
        cursor: restored.cursor.max(lowest).min(head),
        streams: restored.streams,
        oldest: tail.oldest,
        current: tail.current,
        next_is_prepared: tail.next_is_prepared,
        ages: restored.ages,
        messages: restored.messages,
        lost_max: restored.lost_max,
        sequences_unknown,
        scanned_records: restored.records,
        scanned_bytes: scan.end.0 - start.0,
        torn_bytes: scan.written_end.0 - scan.end.0,
        quarantined,
    })
}

/// The newest segment that begins with a sound checkpoint.
fn last_checkpoint(images: &Images) -> Result<Option<u64>, JournalError> {
    for number in images.numbers().iter().rev() {
        if images.begins_with_checkpoint(*number)? {
            return Ok(Some(*number));
        }
    }
    Ok(None)
}

/// Holes in the numbering before `start`; behind it the scan finds them.
fn missing_segments(images: &Images, start: Position) -> Vec<Damage> {
    let layout = images.layout;
    let holes = images.numbers().windows(2).filter(|pair| pair[1] > pair[0] + 1);
    holes
        .map(|pair| Damage {
            from: layout.start_of(pair[0] + 1),
            to: layout.start_of(pair[1]),
            record: None,
        })
        .filter(|damage| damage.from < start)
        .collect()
}

/// What the records say.
struct Restored {
    layout: Layout,
    streams: Streams,
    checkpoint_seen: bool,
    cursor: Position,
    messages: u64,
    lost_max: u64,
    records: u64,
    ages: Vec<(Position, u64)>,
}

impl Restored {
    fn new(layout: Layout) -> Restored {
        Restored {
            layout,
            streams: Streams::new(checkpoint_bytes_max(layout.segment_bytes)),
            checkpoint_seen: false,
            cursor: Position(0),
            messages: 0,
            lost_max: 0,
            records: 0,
            ages: Vec::new(),
        }
    }

    /// Applies every sound record between `start` and the scan's end, and what damage in between may hide.
    fn replay(
        &mut self,
        images: &mut Images,
        scan: &Scan,
        start: Position,
    ) -> Result<(), JournalError> {
        let mut at = start;
        let mut damages = scan.damages.iter().peekable();
        while at < scan.end {
            if let Some(damage) = damages.next_if(|damage| damage.from == at) {
                self.lose(damage);
                at = damage.to;
                continue;
            }
            let layout = self.layout;
            if images.is_rest(at) {
                at = layout.next_start(at);
                continue;
            }
            let Decoded::Record(record) = images.decode(at)? else {
                // The scan found a record here a moment ago: the disk answers differently each time.
                let path = images.path(layout.segment_of(at));
                let source = io::Error::other("two reads of the same place differ");
                return Err(JournalError::Io { action: "trust", path, source });
            };
            let next = match record.kind {
                Kind::SegmentEnd => layout.next_start(at),
                _ => record.next,
            };
            self.apply(&record);
            at = next;
        }
        Ok(())
    }

    fn apply(&mut self, record: &record::Record<'_>) {
        self.records += 1;
        match record.kind {
            Kind::Message => self.apply_message(record),
            Kind::Checkpoint => {
                if let Some(checkpoint) = Checkpoint::decode(record.body) {
                    self.streams.restore(&checkpoint);
                    self.checkpoint_seen = true;
                    self.cursor = self.cursor.max(checkpoint.head.cursor);
                    self.messages = checkpoint.head.messages;
                    self.lost_max = checkpoint.head.lost_max;
                }
            }
            Kind::Cursor => {
                if let Some(Cursor(cursor)) = Cursor::decode(record.body) {
                    self.cursor = self.cursor.max(cursor);
                }
            }
            Kind::Gap | Kind::Padding | Kind::SegmentEnd => {}
        }
    }

    fn apply_message(&mut self, record: &record::Record<'_>) {
        self.messages += 1;
        let Ok(frame) = Frame::parse(record.body) else { return };
        if let Some(tenant) = frame.tenant() {
            self.streams.observe(tenant, record.sequence);
        }
        let spacing = self.layout.segment_bytes / AGE_SAMPLES;
        if self.ages.last().is_none_or(|(last, _)| record.position.0 - last.0 >= spacing) {
            self.ages.push((record.position, frame.created_ms()));
        }
    }

    fn lose(&mut self, damage: &Damage) {
        let messages_max = damage.messages_max();
        self.streams.skip(messages_max);
        self.lost_max = self.lost_max.saturating_add(messages_max);
    }
}

/// Most a checkpoint's body may take.
pub(crate) fn checkpoint_bytes_max(segment_bytes: u64) -> usize {
    (segment_bytes / CHECKPOINT_SHARE) as usize - 2 * RECORD_HEAD_BYTES
}

/// Makes the end of the log what it will count as: the newest batch is written again and synced, because after a
/// failed sync the page cache may hold what the disk does not; everything behind the end becomes zero; for
/// [`WriteMode::DirectSync`] the end moves to a block's start. Answers the end.
fn mend(images: &mut Images, scan: &Scan, mode: WriteMode) -> Result<Position, JournalError> {
    let layout = images.layout;
    let number = layout.segment_of(scan.last_batch);
    let batch_end = scan.end.min(layout.next_start(scan.last_batch));
    let mut head = scan.end;
    let in_segment = layout.offset_of(scan.end) > 0;
    let mut padding = Vec::new();
    if in_segment && mode == WriteMode::DirectSync && padding_body(head) > 0 {
        let place = Place { epoch: layout.epoch, position: head, batch_start: head };
        record::encode(&mut padding, place, Kind::Padding, 0, &ZEROS[..padding_body(head)]);
        head = Position(head.0 + padding.len() as u64);
    }
    if batch_end > scan.last_batch && images.has(number) {
        let from = layout.offset_of(scan.last_batch);
        let bytes = &images.load(number)?[from as usize..];
        let bytes = &bytes[..(batch_end.0 - scan.last_batch.0) as usize];
        let bytes = bytes.to_vec();
        change(images, number, |file| file.write_all_at(&bytes, from))?;
    }
    let number = layout.segment_of(scan.end);
    if in_segment && images.has(number) {
        let from = layout.offset_of(head);
        let end = match images.is_whole(number)? {
            true => images.written(number)? as u64,
            false => layout.segment_bytes,
        };
        let at = layout.offset_of(scan.end);
        if !padding.is_empty() || end > from {
            change(images, number, |file| {
                file.write_all_at(&padding, at)?;
                write_zeros(file, from, end)
            })?;
        }
    }
    Ok(head)
}

fn change(
    images: &Images,
    number: u64,
    write: impl FnOnce(&File) -> io::Result<()>,
) -> Result<(), JournalError> {
    let path = images.path(number);
    let change = || {
        let file = OpenOptions::new().write(true).open(&path)?;
        write(&file)?;
        file.sync_all()
    };
    change().map_err(JournalError::io("mend", &path))
}

fn write_zeros(file: &File, from: u64, end: u64) -> io::Result<()> {
    let zeros = [0; ZERO_BLOCK_BYTES];
    let mut at = from;
    while at < end {
        let part = zeros.len().min((end - at) as usize);
        file.write_all_at(&zeros[..part], at)?;
        at += part as u64;
    }
    Ok(())
}

struct TailSegments {
    oldest: u64,
    current: u64,
    next_is_prepared: bool,
}

/// Decides which segments stay: the one behind the end if it is clean, nothing later.
fn tidy(
    images: &mut Images,
    head: Position,
    oldest: Option<u64>,
) -> Result<TailSegments, JournalError> {
    let layout = images.layout;
    // At a segment's very start the one before is full and this one is only prepared.
    let current = match layout.offset_of(head) {
        0 => layout.segment_of(head) - 1,
        _ => layout.segment_of(head),
    };
    let mut next_is_prepared = false;
    let mut removed = None;
    let later = images.numbers().iter().copied().filter(|number| *number > current);
    for number in later.collect::<Vec<_>>() {
        let path = images.path(number);
        let is_next = number == current + 1;
        if is_next && images.is_whole(number)? && images.written(number)? == 0 {
            next_is_prepared = true;
        } else {
            fs::remove_file(&path).map_err(JournalError::io("remove", &path))?;
            removed = Some(path);
        }
    }
    if let Some(dir) = removed.as_deref().and_then(Path::parent) {
        disk::sync_directory(dir).map_err(JournalError::io("sync", dir))?;
    }
    let oldest = oldest.unwrap_or(current + 1).min(current + 1);
    Ok(TailSegments { oldest, current, next_is_prepared })
}

/// Whether a file is a whole segment of zeros.
pub(crate) fn is_clean(path: &Path, segment_bytes: u64) -> Result<bool, JournalError> {
    let bytes = fs::read(path).map_err(JournalError::io("read", path))?;
    Ok(bytes.len() as u64 == segment_bytes && written_bytes(&bytes) == 0)
}
