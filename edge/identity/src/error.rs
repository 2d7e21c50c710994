//! Operating errors of the identity store. A login that is refused is a [`Refusal`](crate::Refusal), not an error.

use std::path::PathBuf;

/// What can go wrong with the store or the threads that use it.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The file is not a sound store.
    #[error(
        "identity store {path} is damaged ({detail}): move the file away and start again; it is refilled from the \
         cloud's change feed, and the cloud sends undelivered commands again"
    )]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What was found.
        detail: String,
    },
    /// Another process has the file.
    #[error(
        "identity store {path} is in use by another process: stop the other fulcrum-edge first"
    )]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// The file was written by another version.
    #[error(
        "identity store {path} has format {found}, this version reads {expected}: use the version that wrote it, or \
         move the file away to have it refilled from the cloud's change feed"
    )]
    Format {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u64,
        /// The format of this version.
        expected: u64,
    },
    /// The file cannot be created or opened.
    #[error(
        "identity store {path} cannot be opened: {source}; check the path, its permissions and the disk"
    )]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Reading or writing failed.
    #[error(
        "identity store {path} failed: {source}; check the disk's space and health, then restart the node, which \
         verifies the file"
    )]
    Store {
        /// The file.
        path: PathBuf,
        /// Why.
        source: redb::Error,
    },
    /// A thread could not be started.
    #[error(
        "thread {name} cannot be started: {source}; raise the limit on tasks (TasksMax, ulimit -u)"
    )]
    Thread {
        /// Its name.
        name: String,
        /// Why.
        source: std::io::Error,
    },
}
