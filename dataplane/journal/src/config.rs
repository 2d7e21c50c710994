//! Settings of a journal and the limits they have to keep.

use std::path::PathBuf;

use crate::error::JournalError;
use crate::record::RECORD_BYTES_MIN;

/// Batches of [`WriteMode::DirectSync`] begin and end at multiples of this; so do segments of either mode.
pub(crate) const BLOCK_BYTES: u64 = 4096;
/// Shares of a segment its checkpoint may take: one in this many.
pub(crate) const CHECKPOINT_SHARE: u64 = 4;
/// Batches that may wait behind the one being written, as a multiple of `batch_bytes_max`.
pub(crate) const PENDING_BATCHES_MAX: u64 = 4;
/// Partitions of one store; a shard each, and no machine this runs on has more cores.
const PARTITIONS_MAX: u16 = 1024;
/// Largest segment: offsets inside a batch are `u32`.
const SEGMENT_BYTES_MAX: u64 = 1 << 31;

/// How a batch reaches the disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum WriteMode {
    /// A buffered write, then fdatasync, linked. The default: fastest and steadiest where it was measured.
    #[default]
    BufferedThenSync,
    /// One write past the page cache, durable when it completes: files are opened with `O_DIRECT | O_DSYNC`.
    /// Batches are padded to 4096 bytes; the writer must hand the kernel memory aligned to 4096.
    DirectSync,
}

/// Settings of a journal. `partitions` and `segment_bytes` are fixed when the store is created.
#[derive(Clone, Debug)]
pub struct JournalConfig {
    /// Directory of the store; created if absent.
    pub dir: PathBuf,
    /// Number of partitions, one per shard.
    pub partitions: u16,
    /// Bytes of one segment, a multiple of 4096.
    pub segment_bytes: u64,
    /// Hard cap on the bytes of all segments of one partition, prepared ones included.
    pub bytes_max: u64,
    /// Bytes at the end of the last segment that messages may not use, so that cursors can still be written, and
    /// thereby space freed, when the partition is full.
    pub reserve_bytes: u64,
    /// Bytes after which a gathering batch is closed.
    pub batch_bytes_max: usize,
    /// How batches reach the disk.
    pub write_mode: WriteMode,
}

impl JournalConfig {
    /// Defaults for a store in `dir`: segments of 64 MiB, 1 GiB per partition, batches up to 1 MiB.
    pub fn new(dir: impl Into<PathBuf>, partitions: u16) -> JournalConfig {
        JournalConfig {
            dir: dir.into(),
            partitions,
            segment_bytes: 64 << 20,
            bytes_max: 1 << 30,
            reserve_bytes: 256 << 10,
            batch_bytes_max: 1 << 20,
            write_mode: WriteMode::default(),
        }
    }

    /// Checks that the settings fit each other.
    ///
    /// # Errors
    /// [`JournalError::Config`] names the setting and the range it has to be in.
    pub fn validate(&self) -> Result<(), JournalError> {
        let refuse = |what: String| Err(JournalError::Config(what));
        if self.partitions == 0 || self.partitions > PARTITIONS_MAX {
            return refuse(format!(
                "partitions is {}; set it to 1..={PARTITIONS_MAX}",
                self.partitions
            ));
        }
        if self.segment_bytes == 0
            || !self.segment_bytes.is_multiple_of(BLOCK_BYTES)
            || self.segment_bytes > SEGMENT_BYTES_MAX
        {
            return refuse(format!(
                "segment_bytes is {}; set it to a multiple of {BLOCK_BYTES} up to {SEGMENT_BYTES_MAX}",
                self.segment_bytes
            ));
        }
        if self.bytes_max < 2 * self.segment_bytes {
            return refuse(format!(
                "bytes_max is {}; it has to hold two segments, so at least {}",
                self.bytes_max,
                2 * self.segment_bytes
            ));
        }
        let reserve_max = self.segment_bytes / 2;
        // Room for two cursors, each of which is a block of its own in direct mode.
        let reserve_min = match self.write_mode {
            WriteMode::BufferedThenSync => 4 * RECORD_BYTES_MIN,
            WriteMode::DirectSync => 2 * BLOCK_BYTES,
        };
        if self.reserve_bytes < reserve_min || self.reserve_bytes > reserve_max {
            return refuse(format!(
                "reserve_bytes is {}; set it to {reserve_min}..={reserve_max}, and segment_bytes to twice that",
                self.reserve_bytes
            ));
        }
        if self.batch_bytes_max == 0 || self.batch_bytes_max as u64 > self.segment_bytes {
            return refuse(format!(
                "batch_bytes_max is {}; set it to 1..={} (segment_bytes)",
                self.batch_bytes_max, self.segment_bytes
            ));
        }
        Ok(())
    }
}
