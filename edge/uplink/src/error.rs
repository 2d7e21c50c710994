//! What can go wrong for good, and what to do about it. A link that is down is not here: the uplink keeps trying and
//! says so in its status.

use std::io;
use std::path::PathBuf;

/// Why the uplink cannot start, or an enrolment failed.
#[derive(Debug, thiserror::Error)]
pub enum UplinkError {
    /// A setting is out of range.
    #[error("uplink setting: {0}")]
    Config(String),
    /// The cloud's address is not one.
    #[error(
        "the cloud address '{address}' is not usable ({what}); write it as https://host or https://host:port"
    )]
    Address {
        /// As configured.
        address: String,
        /// What is wrong with it.
        what: &'static str,
    },
    /// The key file is not there.
    #[error("the node has no key at {path}; enrol it: fulcrum edge enrol")]
    KeyMissing {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// The key file is no key.
    #[error(
        "{path} is not a P-256 private key in PKCS#8 PEM; restore it, or remove it and enrol the node again"
    )]
    KeyInvalid {
        /// The file.
        path: PathBuf,
    },
    /// Others than the owner can read the key.
    #[error("{path} can be read by others than its owner (mode {mode:03o}); run: chmod 600 {path}")]
    KeyMode {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The key's mathematics refused.
    #[error("the node's key cannot be used: {0}; remove the key file and enrol the node again")]
    KeyUnusable(String),
    /// No certificate to trust.
    #[error(
        "no trusted certificate in {source_name} ({what}); set the CA file of the uplink, or install the system's ca-certificates"
    )]
    Trust {
        /// Where certificates were looked for.
        source_name: String,
        /// What was found there.
        what: String,
    },
    /// The file system refused something.
    #[error("cannot {action} {path}: {source}; check that the directory exists and who owns it")]
    Io {
        /// What was attempted.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// The uplink's thread or its ring could not be made.
    #[error(
        "cannot start the uplink's io_uring runtime: {0}; run fulcrum-edge check to see what is in the way"
    )]
    Runtime(io::Error),
    /// The thread has panicked.
    #[error("the uplink's thread has ended unexpectedly; restart the node and report the log")]
    Ended,
    /// The cloud could not be reached while enrolling.
    #[error("cannot reach {cloud}: {what}; check the address, the network and the CA file")]
    Unreachable {
        /// Where it was looked for.
        cloud: String,
        /// What happened.
        what: String,
    },
    /// The cloud refused the enrolment.
    #[error("the cloud refused the enrolment with {status}: {what}")]
    Refused {
        /// HTTP status.
        status: u16,
        /// The cloud's words.
        what: String,
    },
}

impl UplinkError {
    /// For `map_err`: names the action and the file.
    pub(crate) fn io(
        action: &'static str,
        path: &std::path::Path,
    ) -> impl FnOnce(io::Error) -> UplinkError {
        let path = path.to_path_buf();
        move |source| UplinkError::Io { action, path, source }
    }
}
