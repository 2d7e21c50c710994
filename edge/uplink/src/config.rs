//! Settings of the uplink and their ranges.
//!
//! Invariant: after [`UplinkConfig::validate`] a batch made under these settings fits the contract's limits.

use crate::error::UplinkError;
use fulcrum_contract::EdgeId;
use fulcrum_contract::sync::{BATCH_RECORDS_MAX, BATCH_UNPACKED_BYTES_MAX};
use http::Uri;
use std::path::PathBuf;
use std::time::Duration;

/// Largest `batch_bytes_max`: a record that is incompressible and as large as this still fits one request.
pub const BATCH_BYTES_MAX: usize = 3 * 1024 * 1024;
/// Smallest batch limit the uplink falls back to on a link that is too slow for larger ones, in bytes.
pub(crate) const BATCH_BYTES_MIN: usize = 16 * 1024;
const _: () = assert!(BATCH_BYTES_MAX <= BATCH_UNPACKED_BYTES_MAX);

/// Pause between attempts: a random time between `min` and a bound that doubles from `min` to `max`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Backoff {
    /// Shortest pause.
    pub min: Duration,
    /// Longest pause.
    pub max: Duration,
}

/// Settings of the uplink.
#[derive(Clone, Debug)]
pub struct UplinkConfig {
    /// Where the cloud side listens: `https://host[:port]`, without a path. `http://` is for tests alone.
    pub cloud: Uri,
    /// PEM file with the certificates to trust. None: the file `SSL_CERT_FILE` names, else the system's bundle.
    pub ca_file: Option<PathBuf>,
    /// This node.
    pub edge: EdgeId,
    /// The node's P-256 key, PKCS#8 PEM, readable by its owner alone.
    pub key_file: PathBuf,
    /// Bytes of frames after which a batch is closed, 16 KiB to [`BATCH_BYTES_MAX`]. One larger frame is a batch alone.
    pub batch_bytes_max: usize,
    /// Records after which a batch is closed.
    pub batch_records_max: u32,
    /// zstd level, 1 to 9. Packing runs on the uplink's thread.
    pub compression_level: i32,
    /// Bytes of one journal read.
    pub read_bytes: usize,
    /// Bytes of records read and not yet acknowledged that one journal partition may hold in memory.
    pub window_bytes: usize,
    /// Batches of stored records under way at once, all partitions together; one per stream at most.
    pub stored_requests_max: usize,
    /// Missing records of one stream that are made visible to the cloud one by one; above it the stream halts and
    /// waits for an operator.
    pub gap_records_max: u64,
    /// Time to reach the cloud and finish TLS.
    pub connect_timeout: Duration,
    /// Time from sending a request to the end of its answer, after which the connection is given up.
    pub request_timeout: Duration,
    /// How long the cloud may hold a request for changes, in whole seconds.
    pub feed_wait: Duration,
    /// Pause between attempts.
    pub backoff: Backoff,
    /// Records in the queue between shards and the live lane.
    pub live_queue_records: usize,
    /// Bytes in that queue, and the bytes of live records waiting behind it.
    pub live_queue_bytes: usize,
    /// Bytes of live records one tenant may have waiting; above it its records are answered as not taken.
    pub live_tenant_bytes_max: usize,
    /// Live batches under way at once; one per tenant at most.
    pub live_requests_max: usize,
    /// Time in which a live record gets its outcome.
    pub live_outcome_timeout: Duration,
    /// Devices in one presence request.
    pub presence_devices_max: usize,
    /// Time the last attempt to ship what is committed may take at shutdown.
    pub drain_timeout: Duration,
}

impl UplinkConfig {
    /// Defaults for a node `edge` that talks to `cloud`.
    pub fn new(cloud: Uri, edge: EdgeId, key_file: impl Into<PathBuf>) -> UplinkConfig {
        UplinkConfig {
            cloud,
            ca_file: None,
            edge,
            key_file: key_file.into(),
            batch_bytes_max: 1024 * 1024,
            batch_records_max: 5_000,
            compression_level: 1,
            read_bytes: 256 * 1024,
            window_bytes: 8 * 1024 * 1024,
            stored_requests_max: 8,
            gap_records_max: 4 * 1024 * 1024,
            connect_timeout: Duration::from_secs(5),
            request_timeout: Duration::from_secs(10),
            feed_wait: Duration::from_secs(20),
            backoff: Backoff { min: Duration::from_millis(100), max: Duration::from_secs(30) },
            live_queue_records: 4_096,
            live_queue_bytes: 8 * 1024 * 1024,
            live_tenant_bytes_max: 2 * 1024 * 1024,
            live_requests_max: 8,
            live_outcome_timeout: Duration::from_secs(1),
            presence_devices_max: 1_000,
            drain_timeout: Duration::from_secs(3),
        }
    }

    /// Checks each setting's range.
    ///
    /// # Errors
    /// [`UplinkError::Config`] names the setting and what it has to be.
    pub fn validate(&self) -> Result<(), UplinkError> {
        let ranges = [
            (
                "batch_bytes_max",
                self.batch_bytes_max as u64,
                BATCH_BYTES_MIN as u64,
                BATCH_BYTES_MAX as u64,
            ),
            ("batch_records_max", self.batch_records_max.into(), 1, BATCH_RECORDS_MAX.into()),
            ("compression_level", self.compression_level.max(0) as u64, 1, 9),
            ("read_bytes", self.read_bytes as u64, 4_096, 16 << 20),
            ("window_bytes", self.window_bytes as u64, self.batch_bytes_max as u64, 1 << 30),
            ("stored_requests_max", self.stored_requests_max as u64, 1, 64),
            ("live_queue_records", self.live_queue_records as u64, 1, 1 << 20),
            ("live_queue_bytes", self.live_queue_bytes as u64, 1_024, 1 << 30),
            ("live_tenant_bytes_max", self.live_tenant_bytes_max as u64, 1_024, 1 << 30),
            ("live_requests_max", self.live_requests_max as u64, 1, 64),
            ("presence_devices_max", self.presence_devices_max as u64, 1, 10_000),
            ("connect_timeout (ms)", millis(self.connect_timeout), 1, 600_000),
            ("request_timeout (ms)", millis(self.request_timeout), 1, 600_000),
            ("live_outcome_timeout (ms)", millis(self.live_outcome_timeout), 1, 60_000),
            ("feed_wait (ms)", millis(self.feed_wait), 0, 600_000),
            ("backoff.min (ms)", millis(self.backoff.min), 1, millis(self.backoff.max)),
        ];
        for (name, value, min, max) in ranges {
            if !(min..=max).contains(&value) {
                return Err(UplinkError::Config(format!(
                    "{name} is {value}; set it to {min} to {max}"
                )));
            }
        }
        Ok(())
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> UplinkConfig {
        let edge = EdgeId::parse("e1").unwrap();
        UplinkConfig::new(Uri::from_static("https://cloud.example"), edge, "/nowhere/key.pem")
    }

    #[test]
    fn the_defaults_are_within_their_own_ranges() {
        config().validate().unwrap();
    }

    #[test]
    fn a_setting_out_of_range_is_named() {
        let mut config = config();
        config.batch_records_max = BATCH_RECORDS_MAX + 1;
        let refusal = config.validate().unwrap_err().to_string();
        assert!(refusal.contains("batch_records_max"), "{refusal}");
    }
}
