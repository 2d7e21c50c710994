//! The drive contract over ordinary files and blocking calls, for tools and tests. A shard does the same through its
//! ring, without waiting.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::batch::Write;
use crate::config::WriteMode;
use crate::disk;
use crate::error::JournalError;
use crate::partition::{Committed, Partition};
use crate::position::Position;
use crate::record::{Kind, Step};
use crate::segments::{FileEvent, SegmentRequest};
use crate::tail::Tail;
use fulcrum_frame::Frame;

/// Memory of direct writes begins at a multiple of this.
const ALIGNMENT_BYTES: usize = 4096;

/// Executes what one partition asks for.
#[derive(Debug, Default)]
pub struct Driver {
    files: HashMap<u64, File>,
}

impl Driver {
    /// A driver without files; they come with the first turn.
    pub fn new() -> Driver {
        Driver::default()
    }

    /// Applies the cursor, serves segments and files, and writes until nothing waits. Answers what the last write
    /// led to, if there was one.
    pub fn turn(&mut self, partition: &mut Partition) -> Option<Committed> {
        let mut committed = None;
        partition.apply_cursor();
        loop {
            self.serve(partition);
            let Some(write) = partition.poll_write() else { return committed };
            let result = self.write(&write);
            committed = Some(partition.write_done(write.buffer, result));
            partition.apply_cursor();
        }
    }

    /// Executes segment requests and file events.
    pub fn serve(&mut self, partition: &mut Partition) {
        while let Some(request) = partition.poll_segment_request() {
            execute(partition, &request);
        }
        while let Some(event) = partition.poll_file() {
            match event {
                FileEvent::Open { number, file } => {
                    self.files.insert(number, file);
                }
                FileEvent::Close { number } => {
                    self.files.remove(&number);
                }
            }
        }
    }

    /// Writes a batch and syncs it.
    ///
    /// # Errors
    /// Those of the file system, and `NotFound` for a segment that was never opened.
    pub fn write(&self, write: &Write) -> io::Result<()> {
        let file = self.files.get(&write.segment).ok_or(io::ErrorKind::NotFound)?;
        match write.mode {
            WriteMode::BufferedThenSync => {
                file.write_all_at(&write.buffer, write.offset)?;
                file.sync_data()
            }
            // The file was opened to be written through; only the memory has to be aligned.
            WriteMode::DirectSync => {
                let mut memory = vec![0; write.buffer.len() + ALIGNMENT_BYTES];
                let from = memory.as_ptr().align_offset(ALIGNMENT_BYTES);
                let aligned = &mut memory[from..from + write.buffer.len()];
                aligned.copy_from_slice(&write.buffer);
                file.write_all_at(aligned, write.offset)
            }
        }
    }
}

/// Reads every committed message that is not acknowledged, in order, with blocking calls: its segment and its frame.
/// What is damaged is passed over; it is counted in what opening the journal reported.
///
/// # Errors
/// Those of the file system.
pub fn read_all(tail: &Tail, mut each: impl FnMut(u64, &Frame<'_>)) -> io::Result<()> {
    let reader = tail.reader();
    let end = tail.committed();
    let mut position = tail.start();
    while position < end {
        let (path, offset, _) = tail.segment_path(position);
        let bytes = fs::read(&path)?;
        let segment = position.0 / tail.segment_bytes();
        let mut at = offset as usize;
        while position < end {
            let step = reader.parse(bytes.get(at..).unwrap_or_default(), position, end);
            let next = match step {
                Step::Record(record) => {
                    if record.kind == Kind::Message
                        && let Ok(frame) = Frame::parse(record.body)
                    {
                        each(segment, &frame);
                    }
                    record.next
                }
                Step::EndOfSegment { next } => next,
                Step::Corrupt(damage) => damage.to,
                // The file is shorter than the segment should be: what is missing is damage.
                Step::NeedMore { .. } => Position((segment + 1) * tail.segment_bytes()),
            };
            let left = next.0 / tail.segment_bytes() != segment;
            at += (next.0 - position.0) as usize;
            position = next;
            if left {
                break;
            }
        }
    }
    Ok(())
}

/// Executes one segment request with blocking calls and gives the partition its answer.
pub fn execute(partition: &mut Partition, request: &SegmentRequest) {
    match request {
        SegmentRequest::Prepare { number, path, bytes, mode, .. } => {
            let prepared = prepare(path, *bytes).and_then(|()| disk::open_segment(path, *mode));
            partition.segment_prepared(*number, prepared);
        }
        SegmentRequest::Drop { path, .. } => {
            // What cannot be unlinked now lies before the cursor and goes at a later start.
            let _ = fs::remove_file(path);
        }
    }
}

/// Prepares a segment with blocking calls: zeros, sync, final name, directory sync. On an error nothing is left behind.
///
/// # Errors
/// Those of the file system.
pub fn prepare(path: &Path, bytes: u64) -> io::Result<()> {
    disk::prepare_segment(path, bytes, &mut |_| {}).map_err(into_io)
}

fn into_io(error: JournalError) -> io::Error {
    match error {
        JournalError::Prepare { source, .. } | JournalError::Io { source, .. } => source,
        other => io::Error::other(other),
    }
}
