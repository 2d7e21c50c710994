//! Opening a journal: store file, recovery of every partition, the first segments. Blocking I/O, at start-up alone.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use crate::batch::Batches;
use crate::config::JournalConfig;
use crate::disk;
use crate::error::JournalError;
use crate::metrics::PartitionMetrics;
use crate::partition::{Limits, Partition, Start};
use crate::position::{Layout, Position};
use crate::record::Damage;
use crate::recovery::{self, Recovered};
use crate::segments::Segments;
use crate::store::{self, StoreInfo};
use crate::tail::{Shared, Tail};

/// An open journal.
#[derive(Debug)]
pub struct Opened {
    /// Which store it is.
    pub store: StoreInfo,
    /// The partitions in order, each with its reader's side. The store stays locked until all partitions are dropped.
    pub partitions: Vec<(Partition, Tail)>,
    /// What recovery found.
    pub report: RecoveryReport,
}

/// What recovery found.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct RecoveryReport {
    /// Whether the store was created just now.
    pub created: bool,
    /// One per partition, in order.
    pub partitions: Vec<PartitionReport>,
}

/// What recovery found in one partition.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct PartitionReport {
    /// The partition.
    pub partition: u16,
    /// Sound records behind the last segment checkpoint.
    pub records: u64,
    /// Bytes walked for that.
    pub bytes_scanned: u64,
    /// Bytes of a torn write that were cut off. They were never acknowledged.
    pub torn_bytes: u64,
    /// Damaged ranges, ascending. Reading goes on behind each; the reader meets those that are not yet acknowledged.
    pub quarantined: Vec<Quarantine>,
    /// No checkpoint survived, so it is not known which sequences were given out: every stream goes on at a higher
    /// multiple of 2^48.
    pub sequences_unknown: bool,
    /// Where reading resumes.
    pub cursor: Position,
    /// Where appending resumes.
    pub end: Position,
    /// Next sequence of each tenant, by name.
    pub next_sequences: Vec<(String, u64)>,
}

/// A damaged range and what it may have cost.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Quarantine {
    /// Where it is.
    pub damage: Damage,
    /// Messages lost, at most.
    pub messages_max: u64,
}

/// How far the preparation of a first segment is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Progress {
    /// The partition.
    pub partition: u16,
    /// Bytes written.
    pub bytes: u64,
    /// Bytes to write.
    pub of_bytes: u64,
}

/// Opens the journal in `config.dir`, creating it if there is none, and recovers every partition. A partition without
/// a segment to write to gets one now, so that the node can serve at once.
///
/// # Errors
/// See [`JournalError`]; each message names the remedy. Damage inside a partition is not an error: it is in the report.
pub fn open(config: &JournalConfig) -> Result<Opened, JournalError> {
    open_with_progress(config, &mut |_| {})
}

/// As [`open`]; calls `progress` while segments are written.
///
/// # Errors
/// As [`open`].
pub fn open_with_progress(
    config: &JournalConfig,
    progress: &mut dyn FnMut(Progress),
) -> Result<Opened, JournalError> {
    config.validate()?;
    let dir = &config.dir;
    fs::create_dir_all(dir).map_err(JournalError::io("create", dir))?;
    let lock = Arc::new(store::lock(dir)?);
    let loaded = StoreInfo::load(dir)?;
    let store = match loaded {
        Some(store) => store,
        None => {
            refuse_written_segments(config)?;
            StoreInfo::create(config)?
        }
    };
    store.check(config)?;
    let layout = Layout { epoch: store.epoch, segment_bytes: store.segment_bytes };
    let mut partitions = Vec::new();
    let mut report = RecoveryReport { created: loaded.is_none(), partitions: Vec::new() };
    for number in 0..store.partitions {
        let mut opening = Opening { config, layout, number, progress };
        let dir = store::partition_dir(dir, number);
        fs::create_dir_all(&dir).map_err(JournalError::io("create", &dir))?;
        if report.created {
            opening.prepare(&dir, 1)?;
        }
        let recovered = recovery::recover(&dir, layout, config.write_mode)?;
        report.partitions.push(describe(number, &recovered));
        partitions.push(opening.partition(&dir, recovered, &lock)?);
    }
    if report.created {
        // Last, so that a store without segments can only be one that lost them.
        disk::sync_directory(dir).map_err(JournalError::io("sync", dir))?;
        store.save(dir)?;
    }
    Ok(Opened { store, partitions, report })
}

/// Without a store file segments may only be the zeros of a creation that was interrupted.
fn refuse_written_segments(config: &JournalConfig) -> Result<(), JournalError> {
    let entries = fs::read_dir(&config.dir).map_err(JournalError::io("list", &config.dir))?;
    for entry in entries {
        let path = entry.map_err(JournalError::io("list", &config.dir))?.path();
        if !path.is_dir() {
            continue;
        }
        for number in disk::list_segments(&path)? {
            let segment = path.join(disk::segment_name(number));
            if !recovery::is_clean(&segment, config.segment_bytes)? {
                return Err(JournalError::StoreMissing { dir: config.dir.clone() });
            }
        }
    }
    Ok(())
}

fn describe(partition: u16, recovered: &Recovered) -> PartitionReport {
    let mut next_sequences: Vec<(String, u64)> =
        recovered.streams.iter().map(|(tenant, next)| (tenant.to_owned(), next)).collect();
    next_sequences.sort_unstable();
    let quarantined = recovered.quarantined.iter();
    PartitionReport {
        partition,
        records: recovered.scanned_records,
        bytes_scanned: recovered.scanned_bytes,
        torn_bytes: recovered.torn_bytes,
        quarantined: quarantined
            .map(|damage| Quarantine { damage: *damage, messages_max: damage.messages_max() })
            .collect(),
        sequences_unknown: recovered.sequences_unknown,
        cursor: recovered.cursor,
        end: recovered.head,
        next_sequences,
    }
}

struct Opening<'a> {
    config: &'a JournalConfig,
    layout: Layout,
    number: u16,
    progress: &'a mut dyn FnMut(Progress),
}

impl Opening<'_> {
    fn prepare(&mut self, dir: &Path, segment: u64) -> Result<(), JournalError> {
        let path = dir.join(disk::segment_name(segment));
        let (partition, of_bytes) = (self.number, self.layout.segment_bytes);
        disk::prepare_segment(&path, of_bytes, &mut |bytes| {
            (self.progress)(Progress { partition, bytes, of_bytes });
        })
    }

    fn partition(
        &mut self,
        dir: &Path,
        recovered: Recovered,
        lock: &Arc<fs::File>,
    ) -> Result<(Partition, Tail), JournalError> {
        let (config, layout) = (self.config, self.layout);
        let mut segments = Segments::new(
            (self.number, dir.to_path_buf()),
            layout.segment_bytes,
            config.bytes_max / layout.segment_bytes,
            config.write_mode,
            (recovered.oldest, recovered.current),
        );
        let open = |number: u64| {
            let path = dir.join(disk::segment_name(number));
            disk::open_segment(&path, config.write_mode).map_err(JournalError::io("open", &path))
        };
        let is_full = layout.offset_of(recovered.head) == 0;
        if !is_full {
            segments.open_current(open(recovered.current)?);
        }
        if recovered.next_is_prepared {
            segments.adopt_next(open(recovered.current + 1)?);
        } else if is_full && segments.next_may_come() {
            self.prepare(dir, recovered.current + 1)?;
            segments.adopt_next(open(recovered.current + 1)?);
        }
        let shared = Arc::new(Shared::new(
            self.number,
            layout,
            dir.to_path_buf(),
            recovered.head,
            recovered.cursor,
        ));
        let tail = Tail::new(shared.clone());
        let start = Start {
            layout,
            limits: Limits {
                reserve_bytes: config.reserve_bytes,
                batch_bytes_max: config.batch_bytes_max,
                bytes_max: config.bytes_max,
            },
            shared,
            lock: lock.clone(),
            streams: recovered.streams,
            batches: Batches::new(layout, config.write_mode),
            segments,
            head: recovered.head,
            needs_checkpoint: recovered.sequences_unknown || !recovered.quarantined.is_empty(),
            ages: recovered.ages,
            counters: PartitionMetrics {
                records_ever: recovered.messages,
                torn_bytes: recovered.torn_bytes,
                quarantined: recovered.quarantined.len() as u64,
                lost_max: recovered.lost_max,
                ..PartitionMetrics::default()
            },
        };
        Ok((Partition::new(start), tail))
    }
}
