//! From the session journal back into memory, before a shard starts.

use super::SessionLog;
use crate::stored::{JournalKind, Stored};
use crate::{Segments, ports};
use fulcrum_journal::{Partition, Tail, WriteMode, blocking};
use fulcrum_sessions::{Limits, Recovery, Sessions};
use std::io;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// A shard's session journal, read whole.
pub struct SessionStore {
    sessions: Sessions,
    partition: Partition,
    tail: Tail,
    write_mode: WriteMode,
    segments: Box<dyn ports::Segments>,
    boot: u64,
    /// Records that could not be read and were passed over.
    pub unreadable: u64,
}

impl SessionStore {
    /// Reads what shard `shard` has written in its partition of the session journal. Blocks on the disk.
    ///
    /// # Errors
    /// Those of the file system. Records that cannot be read are counted and logged, not errors.
    pub fn read(
        shard: u16,
        limits: Limits,
        (partition, tail): (Partition, Tail),
        write_mode: WriteMode,
        segments: Box<dyn Segments>,
    ) -> io::Result<SessionStore> {
        let mut recovery = Recovery::new(limits, shard, tail.epoch());
        let mut unreadable = 0;
        blocking::read_all(&tail, |segment, frame| {
            if let Err(error) = recovery.replay(segment, frame.payload()) {
                unreadable += 1;
                tracing::error!(shard, segment, %error, "a record of the session journal is passed over");
            }
        })?;
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let sessions = recovery.finish(Instant::now(), since.as_millis() as u64);
        let boot = since.as_nanos() as u64;
        Ok(SessionStore { sessions, partition, tail, write_mode, segments, boot, unreadable })
    }

    /// Makes every shard of a node agree on which run this is.
    pub fn set_boot(&mut self, boot: u64) {
        self.boot = boot;
    }

    /// Sessions found.
    pub fn sessions(&self) -> u64 {
        self.sessions.metrics().sessions_disconnected
    }

    /// Retained messages found.
    pub fn retained(&self) -> u64 {
        self.sessions.metrics().retained_messages
    }

    /// Messages that wait for their clients.
    pub fn queued(&self) -> u64 {
        self.sessions.metrics().queued_messages
    }

    pub(super) fn into_parts(self, shard: u16) -> (Sessions, SessionLog, u64) {
        let SessionStore { sessions, partition, tail, write_mode, segments, boot, .. } = self;
        let kind = JournalKind::Sessions;
        let stored = Stored::new(kind, shard, partition, segments, write_mode);
        (sessions, SessionLog::new(stored, tail), boot)
    }
}
