//! What can go wrong, and what to do about it.

use std::io;
use std::path::{Path, PathBuf};

/// Why a journal cannot be opened or read.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// A setting is out of range.
    #[error("journal setting: {0}")]
    Config(String),
    /// The store was created with another partition count.
    #[error(
        "the journal in {dir} was created with {stored} partitions, the configuration asks for {configured}; \
         set partitions to {stored}, or drain the node, move the directory away and start with a new store"
    )]
    Partitions {
        /// The store's directory.
        dir: PathBuf,
        /// Partitions it has.
        stored: u16,
        /// Partitions asked for.
        configured: u16,
    },
    /// The store was created with another segment size.
    #[error(
        "the journal in {dir} was created with segments of {stored} bytes, the configuration asks for {configured}; \
         set segment_bytes to {stored}, or drain the node, move the directory away and start with a new store"
    )]
    SegmentBytes {
        /// The store's directory.
        dir: PathBuf,
        /// Segment size it has.
        stored: u64,
        /// Segment size asked for.
        configured: u64,
    },
    /// The store was written by a newer or older version.
    #[error(
        "the journal in {dir} has format {found}, this version reads format {known}; \
         run the version that wrote it, or drain it with that version first"
    )]
    Format {
        /// The store's directory.
        dir: PathBuf,
        /// Format found.
        found: u32,
        /// Format this version reads and writes.
        known: u32,
    },
    /// The store file is damaged.
    #[error(
        "{path} is damaged ({what}); restore it from a backup, or move the journal's directory away to begin a \
         new store (records not yet shipped stay readable in the old directory)"
    )]
    StoreFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: &'static str,
    },
    /// There are records, but no store file says which epoch they belong to.
    #[error(
        "{dir} holds written segments but its store file is missing; restore the file `store`, or move the \
         directory away to begin a new store"
    )]
    StoreMissing {
        /// The store's directory.
        dir: PathBuf,
    },
    /// Another process has the store open.
    #[error("the journal in {dir} is open in another process; stop that one first")]
    Locked {
        /// The store's directory.
        dir: PathBuf,
    },
    /// A segment could not be prepared.
    #[error(
        "cannot prepare {bytes} bytes for {path}: {source}; free disk space or lower bytes_max"
    )]
    Prepare {
        /// The segment.
        path: PathBuf,
        /// Its size.
        bytes: u64,
        /// The system's answer.
        source: io::Error,
    },
    /// The file system refused something.
    #[error("cannot {action} {path}: {source}; check the disk and the directory's owner and mode")]
    Io {
        /// What was attempted.
        action: &'static str,
        /// On which file or directory.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
}

impl JournalError {
    /// For `map_err`: names the action and the path.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> JournalError {
        let path = path.to_path_buf();
        move |source| JournalError::Io { action, path, source }
    }
}

/// Why a message was not taken. Nothing was written, no sequence was used.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum AppendError {
    /// The byte cap is reached, or the disk has no room for the next segment. Refuse the producer; space returns when
    /// the consumer acknowledges.
    #[error("the journal partition is full; let the uplink drain it or raise bytes_max")]
    Full,
    /// An I/O error stopped the partition.
    #[error("the journal partition has failed; check the disk, then restart the node")]
    Failed,
    /// The next segment is not prepared yet, or the disk is behind by several batches. Try again in a moment.
    #[error("the journal partition is waiting for the disk; try again")]
    NotReady,
    /// The message cannot fit into a segment.
    #[error("a message of {bytes} bytes does not fit a segment; at most {max} do")]
    TooLarge {
        /// Bytes of the frame.
        bytes: u64,
        /// Largest frame taken.
        max: u64,
    },
    /// The frame names no tenant, or one longer than [`crate::TENANT_BYTES_MAX`].
    #[error("the message names no tenant of 1 to 255 bytes")]
    Tenant,
    /// One tenant more than a checkpoint can hold.
    #[error(
        "the journal partition already keeps as many tenants as it can; spread tenants over more nodes"
    )]
    TenantLimit,
}
