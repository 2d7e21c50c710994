//! Which segments a partition has, wants and is done with. Knows numbers and files, never contents.
//!
//! Invariants: live, prepared and requested segments together never exceed `segments_max`; requests are executed in
//! order, so the disk never holds more either. At most one segment is prepared ahead.

use std::collections::VecDeque;
use std::fs::File;
use std::path::PathBuf;

use crate::config::WriteMode;
use crate::disk;

/// Work for the maintenance thread, to be executed in order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SegmentRequest {
    /// Write a file of zeros, sync it, give it its name, sync the directory, open it as
    /// [`crate::open_segment`] does, and answer with [`crate::Partition::segment_prepared`].
    Prepare {
        /// Partition that asks.
        partition: u16,
        /// Segment number.
        number: u64,
        /// Final name; use the same with `.tmp` behind it until the file is complete.
        path: PathBuf,
        /// Size.
        bytes: u64,
        /// How the file will be written.
        mode: WriteMode,
    },
    /// Unlink the file; that it is gone already is no error.
    Drop {
        /// Partition that asks.
        partition: u16,
        /// Segment number.
        number: u64,
        /// The file.
        path: PathBuf,
    },
}

/// What the ring has to do with segment files.
#[derive(Debug)]
pub enum FileEvent {
    /// Register the file; writes to this segment follow.
    Open {
        /// Segment number.
        number: u64,
        /// The file, opened as the write mode needs it.
        file: File,
    },
    /// No more writes go to this segment.
    Close {
        /// Segment number.
        number: u64,
    },
}

pub(crate) struct Segments {
    partition: u16,
    dir: PathBuf,
    segment_bytes: u64,
    segments_max: u64,
    mode: WriteMode,
    /// Oldest live segment; above `current` when there is none.
    oldest: u64,
    /// The segment written to, or the last one that was.
    current: u64,
    prepared: bool,
    requested: bool,
    refused: Option<String>,
    requests: VecDeque<SegmentRequest>,
    files: VecDeque<FileEvent>,
}

impl Segments {
    pub fn new(
        (partition, dir): (u16, PathBuf),
        segment_bytes: u64,
        segments_max: u64,
        mode: WriteMode,
        (oldest, current): (u64, u64),
    ) -> Segments {
        Segments {
            partition,
            dir,
            segment_bytes,
            segments_max,
            mode,
            oldest,
            current,
            prepared: false,
            requested: false,
            refused: None,
            requests: VecDeque::new(),
            files: VecDeque::new(),
        }
    }

    /// The current segment's file goes to the ring.
    pub fn open_current(&mut self, file: File) {
        self.files.push_back(FileEvent::Open { number: self.current, file });
    }

    /// The segment behind the current one is on disk.
    pub fn adopt_next(&mut self, file: File) {
        self.requested = false;
        self.prepared = true;
        self.files.push_back(FileEvent::Open { number: self.current + 1, file });
    }

    /// The answer to a request.
    pub fn prepared(&mut self, number: u64, result: std::io::Result<File>) {
        if !self.requested || number != self.current + 1 {
            return;
        }
        match result {
            Ok(file) => self.adopt_next(file),
            Err(error) => {
                self.requested = false;
                self.refused = Some(format!("cannot prepare segment {number}: {error}"));
            }
        }
    }

    /// Moves on to the prepared segment.
    pub fn roll(&mut self) {
        debug_assert!(self.prepared, "room was checked before");
        self.current += 1;
        self.prepared = false;
    }

    /// Asks for the next segment, if it is not there or asked for, and the cap allows it.
    pub fn want_next(&mut self) {
        if self.prepared || self.requested || !self.may_prepare() {
            return;
        }
        self.requested = true;
        let number = self.current + 1;
        self.requests.push_back(SegmentRequest::Prepare {
            partition: self.partition,
            number,
            path: self.path(number),
            bytes: self.segment_bytes,
            mode: self.mode,
        });
    }

    /// Gives up the oldest segment, which must not be the current one.
    pub fn drop_oldest(&mut self) {
        let number = self.oldest;
        self.oldest += 1;
        self.refused = None;
        self.requests.push_back(SegmentRequest::Drop {
            partition: self.partition,
            number,
            path: self.path(number),
        });
    }

    pub fn close(&mut self, number: u64) {
        self.files.push_back(FileEvent::Close { number });
    }

    pub fn retry(&mut self) {
        self.refused = None;
    }

    pub fn poll_request(&mut self) -> Option<SegmentRequest> {
        self.requests.pop_front()
    }

    pub fn poll_file(&mut self) -> Option<FileEvent> {
        self.files.pop_front()
    }

    /// Whether a next segment is there, on its way, or could be asked for.
    pub fn next_is_ready(&self) -> bool {
        self.prepared
    }

    pub fn next_may_come(&self) -> bool {
        self.requested || self.may_prepare()
    }

    pub fn oldest(&self) -> u64 {
        self.oldest
    }

    pub fn current(&self) -> u64 {
        self.current
    }

    /// Why the last preparation failed, until it is tried again.
    pub fn refused(&self) -> Option<&str> {
        self.refused.as_deref()
    }

    pub fn count(&self) -> u64 {
        (self.current + 1).saturating_sub(self.oldest)
            + u64::from(self.prepared)
            + u64::from(self.requested)
    }

    pub fn path(&self, number: u64) -> PathBuf {
        self.dir.join(disk::segment_name(number))
    }

    fn may_prepare(&self) -> bool {
        self.refused.is_none() && self.count() < self.segments_max
    }
}
