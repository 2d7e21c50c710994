//! Why a chore stopped.

use std::io;
use std::path::PathBuf;

/// A chore that did not get to its end. The text says what to do.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// A program said no.
    #[error("`{command}` ended with {status}")]
    Ended {
        /// The command line.
        command: String,
        /// Its exit status.
        status: std::process::ExitStatus,
    },
    /// A program could not be started.
    #[error("`{command}` cannot be run: {source}")]
    Start {
        /// The command line.
        command: String,
        /// The system's reason.
        source: io::Error,
    },
    /// The machine lacks something that cannot be installed from here.
    #[error("{0}")]
    Machine(String),
    /// A file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// A file cannot be written.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// Documents that are not right.
    #[error("{} faults in the documents:\n  {}", .0.len(), .0.join("\n  "))]
    Documents(Vec<String>),
    /// More than one step failed.
    #[error("{} steps failed:\n- {}", .0.len(), .0.iter().map(Failure::to_string).collect::<Vec<_>>().join("\n- "))]
    Several(Vec<Failure>),
}
