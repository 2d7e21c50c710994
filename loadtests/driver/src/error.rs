//! What stops the driver. What goes wrong with single messages is counted in the report instead.

use std::io;
use std::path::PathBuf;

/// Why no measurement came about.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// A flag or a member of a scenario file makes no sense.
    #[error("{name} = {value}: {expected}")]
    Setting {
        /// The flag without its dashes.
        name: &'static str,
        /// What was given.
        value: String,
        /// What would be right.
        expected: &'static str,
    },
    /// A scenario file cannot be read.
    #[error("scenario {path}: {source}; see loadtests/scenarios for examples")]
    FileUnreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A scenario file is not what was expected.
    #[error("scenario {path}: {source}")]
    ScenarioInvalid {
        /// The file.
        path: PathBuf,
        /// Line, column and what was expected.
        source: Box<toml::de::Error>,
    },
    /// The broker is not there, or there are no descriptors left.
    #[error(
        "connect to {address}: {source}; is the broker listening, and is `ulimit -n` above the number of connections?"
    )]
    Connect {
        /// Host and port.
        address: String,
        /// Why.
        source: io::Error,
    },
    /// Connecting does not go on.
    #[error(
        "{left} connections are not ready and none became ready for 30 s; is the broker overloaded, or at its limit of connections?"
    )]
    ConnectStalled {
        /// How many are missing.
        left: usize,
    },
    /// No TLS client could be made.
    #[error("TLS client: {source}; check --server-name")]
    Tls {
        /// Why.
        source: rustls::Error,
    },
    /// The file with the authority's certificate is of no use.
    #[error("authority {path}: {reason}; --ca wants a PEM file with the broker's authority")]
    Authority {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The broker refused.
    #[error(
        "client {client}: refused ({reason}); check user name, password and permission for the topic"
    )]
    Refused {
        /// MQTT client identifier.
        client: String,
        /// The broker's words.
        reason: String,
    },
    /// A packet could not be written.
    #[error("client {client}: {source}; check topic template and payload size")]
    Encode {
        /// MQTT client identifier.
        client: String,
        /// The clause that is broken.
        source: fulcrum_mqtt::EncodeError,
    },
    /// The process whose cost is measured is not there.
    #[error(
        "process {pid}: {source}; --server-pid must be a process of this host that you may read"
    )]
    Process {
        /// Its number.
        pid: u32,
        /// Why.
        source: io::Error,
    },
    /// Waiting for readiness failed.
    #[error("event loop: {0}")]
    Poll(io::Error),
    /// Nobody is left to send.
    #[error("every connection was closed by the broker; see its log")]
    AllClosed,
}
