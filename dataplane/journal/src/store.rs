//! The store file and the lock: which journal this is, and that only one process has it.
//!
//! ```text
//!  magic "FULCRUMJ" · format u32 · partitions u16 · zero u16 · segment bytes u64 · epoch u64 · crc32c u32
//! ```

use std::fs::{self, File, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use crate::config::JournalConfig;
use crate::disk;
use crate::error::JournalError;

const MAGIC: &[u8; 8] = b"FULCRUMJ";
const FORMAT: u32 = 1;
const STORE_BYTES: usize = 36;
/// Epochs have 53 bits, so that they pass unharmed through readers that keep numbers as doubles.
const EPOCH_MASK: u64 = (1 << 53) - 1;

/// What was fixed when the store was created.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StoreInfo {
    /// Random number of this store; a stream's sequences are unique within it. Never 0.
    pub epoch: u64,
    /// Number of partitions.
    pub partitions: u16,
    /// Bytes of one segment.
    pub segment_bytes: u64,
}

impl StoreInfo {
    /// A new store with a random epoch; nothing is written yet.
    pub(crate) fn create(config: &JournalConfig) -> Result<StoreInfo, JournalError> {
        Ok(StoreInfo {
            epoch: random_epoch()?,
            partitions: config.partitions,
            segment_bytes: config.segment_bytes,
        })
    }

    /// Reads the store file; `None` if there is none.
    pub(crate) fn load(dir: &Path) -> Result<Option<StoreInfo>, JournalError> {
        let path = dir.join("store");
        match fs::read(&path) {
            Ok(bytes) => StoreInfo::parse(&bytes, dir, &path).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(JournalError::io("read", &path)(error)),
        }
    }

    /// Writes the store file durably.
    pub(crate) fn save(&self, dir: &Path) -> Result<(), JournalError> {
        let path = dir.join("store");
        let unfinished = disk::unfinished(&path);
        let write = || {
            let mut file = File::create(&unfinished)?;
            file.write_all(&self.encode())?;
            file.sync_all()?;
            fs::rename(&unfinished, &path)?;
            disk::sync_directory(dir)
        };
        write().map_err(JournalError::io("write", &path))
    }

    /// Checks what is fixed against what is configured.
    pub(crate) fn check(&self, config: &JournalConfig) -> Result<(), JournalError> {
        if self.partitions != config.partitions {
            return Err(JournalError::Partitions {
                dir: config.dir.clone(),
                stored: self.partitions,
                configured: config.partitions,
            });
        }
        if self.segment_bytes != config.segment_bytes {
            return Err(JournalError::SegmentBytes {
                dir: config.dir.clone(),
                stored: self.segment_bytes,
                configured: config.segment_bytes,
            });
        }
        Ok(())
    }

    fn encode(&self) -> [u8; STORE_BYTES] {
        let mut bytes = [0; STORE_BYTES];
        bytes[..8].copy_from_slice(MAGIC);
        bytes[8..12].copy_from_slice(&FORMAT.to_le_bytes());
        bytes[12..14].copy_from_slice(&self.partitions.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.segment_bytes.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.epoch.to_le_bytes());
        let crc = crc32c::crc32c(&bytes[..32]);
        bytes[32..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    fn parse(bytes: &[u8], dir: &Path, path: &Path) -> Result<StoreInfo, JournalError> {
        let damaged = |what| JournalError::StoreFile { path: path.to_path_buf(), what };
        let bytes: &[u8; STORE_BYTES] =
            bytes.try_into().map_err(|_| damaged("its length is wrong"))?;
        if &bytes[..8] != MAGIC {
            return Err(damaged("it is not a journal's store file"));
        }
        if crc32c::crc32c(&bytes[..32]).to_le_bytes() != bytes[32..] {
            return Err(damaged("its checksum does not match"));
        }
        let format = u32::from_le_bytes([bytes[8], bytes[9], bytes[10], bytes[11]]);
        if format != FORMAT {
            return Err(JournalError::Format {
                dir: dir.to_path_buf(),
                found: format,
                known: FORMAT,
            });
        }
        let word = |at: usize| {
            let mut word = [0; 8];
            word.copy_from_slice(&bytes[at..at + 8]);
            u64::from_le_bytes(word)
        };
        let info = StoreInfo {
            epoch: word(24),
            partitions: u16::from_le_bytes([bytes[12], bytes[13]]),
            segment_bytes: word(16),
        };
        if info.segment_bytes == 0 || info.partitions == 0 {
            return Err(damaged("it describes no store"));
        }
        Ok(info)
    }
}

/// Directory of a partition.
pub(crate) fn partition_dir(dir: &Path, partition: u16) -> PathBuf {
    dir.join(format!("p{partition}"))
}

/// Takes the store for this process; it is free again when the file is closed.
pub(crate) fn lock(dir: &Path) -> Result<File, JournalError> {
    let path = dir.join("lock");
    let file = File::create(&path).map_err(JournalError::io("create", &path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(JournalError::Locked { dir: dir.to_path_buf() }),
        Err(TryLockError::Error(error)) => Err(JournalError::io("lock", &path)(error)),
    }
}

fn random_epoch() -> Result<u64, JournalError> {
    let path = Path::new("/dev/urandom");
    let mut bytes = [0; 8];
    File::open(path)
        .and_then(|mut file| file.read_exact(&mut bytes))
        .map_err(JournalError::io("read", path))?;
    Ok((u64::from_le_bytes(bytes) & EPOCH_MASK).max(1))
}
