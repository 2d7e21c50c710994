//! Writing past the page cache: padded batches, and stores that change their write mode.
#![allow(clippy::unwrap_used)] // its own fixtures may panic

mod harness;

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::Path;

use fulcrum_journal::{JournalConfig, PartitionState, Position, WriteMode, inspect};
use harness::{Journal, config, copy, segment};

const SEGMENT_BYTES: u64 = 64 << 10;

fn direct(dir: &Path, write_mode: WriteMode) -> JournalConfig {
    JournalConfig {
        segment_bytes: SEGMENT_BYTES,
        bytes_max: 4 * SEGMENT_BYTES,
        reserve_bytes: 8192,
        batch_bytes_max: 16 << 10,
        write_mode,
        ..config(dir)
    }
}

/// Whether the temporary directory takes direct writes; memory file systems of older kernels do not.
fn takes_direct_writes(dir: &Path) -> bool {
    std::fs::create_dir_all(dir).unwrap();
    let probe = dir.join("probe");
    std::fs::write(&probe, b"").unwrap();
    let takes = fulcrum_journal::open_segment(&probe, WriteMode::DirectSync).is_ok();
    std::fs::remove_file(probe).unwrap();
    takes
}

#[test]
fn batches_are_whole_blocks_and_every_message_is_read_back() {
    let dir = tempfile::tempdir().unwrap();
    if !takes_direct_writes(dir.path()) {
        return;
    }
    let mut journal = Journal::open(&direct(dir.path(), WriteMode::DirectSync));
    let mut stored = 0;
    while journal.tail.committed() < Position(3 * SEGMENT_BYTES + 9000) {
        journal.driver.serve(&mut journal.partition);
        // Sizes that end just before, at and behind the end of a block.
        let payload = vec![1; 3890 + (stored * 8) % 200];
        journal.append("acme", &payload).unwrap();
        stored += 1;
        let Some(write) = journal.partition.poll_write() else { continue };
        assert!(write.offset % 4096 == 0 && write.buffer.len() % 4096 == 0);
        let result = journal.driver.write(&write);
        journal.partition.write_done(write.buffer, result);
        journal.commit();
    }
    let read = journal.read();
    assert!(read.damages.is_empty());
    assert_eq!(read.messages.len(), stored);
    drop(journal);
    assert!(inspect::verify(dir.path()).unwrap().is_sound());
    let journal = Journal::open(&direct(dir.path(), WriteMode::DirectSync));
    assert_eq!((journal.report.torn_bytes, journal.report.quarantined.len()), (0, 0));
    assert_eq!(journal.read().messages.len(), stored);
}

#[test]
fn a_store_may_change_its_write_mode_at_every_start() {
    let dir = tempfile::tempdir().unwrap();
    if !takes_direct_writes(dir.path()) {
        return;
    }
    for start in 0..40_u64 {
        let mode = if start % 2 == 0 { WriteMode::BufferedThenSync } else { WriteMode::DirectSync };
        let mut journal = Journal::open(&direct(dir.path(), mode));
        assert_eq!((journal.report.torn_bytes, journal.report.quarantined.len()), (0, 0));
        journal.store("acme", &vec![1; (start * 97) as usize % 3000]);
        let read = journal.read();
        assert!(read.damages.is_empty());
        assert_eq!(read.messages.last().unwrap().1, start + 1);
    }
}

#[test]
fn a_direct_write_torn_at_any_sector_loses_nothing_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let store = dir.path().join("store");
    if !takes_direct_writes(&store) {
        return;
    }
    let config = direct(&store, WriteMode::DirectSync);
    let mut journal = Journal::open(&config);
    journal.store("acme", b"durable");
    for n in 0..10 {
        journal.append("acme", &[n + 1; 700]).unwrap();
    }
    let write = journal.partition.poll_write().unwrap();
    drop(journal);
    for sector in 0..=write.buffer.len() / 512 {
        for keep_first in [true, false] {
            let crashed = dir.path().join("crashed");
            copy(&store, &crashed);
            let file = OpenOptions::new().write(true).open(segment(&crashed, 1)).unwrap();
            let cut = sector * 512;
            let (bytes, at) = match keep_first {
                true => (&write.buffer[..cut], 0),
                false => (&write.buffer[cut..], cut),
            };
            file.write_all_at(bytes, write.offset + at as u64).unwrap();
            let mut journal = Journal::open(&direct(&crashed, WriteMode::DirectSync));
            assert!(journal.report.quarantined.is_empty(), "{sector} {:?}", journal.report);
            journal.store("acme", b"on");
            let read = journal.read();
            assert!(read.damages.is_empty());
            assert_eq!(read.messages[0].2, b"durable");
            assert!(read.messages.iter().zip(1..).all(|(message, n)| message.1 == n), "dense");
            drop(journal);
            std::fs::remove_dir_all(crashed).unwrap();
        }
    }
}

#[test]
fn a_full_partition_frees_space_with_cursors_that_are_whole_blocks() {
    let dir = tempfile::tempdir().unwrap();
    if !takes_direct_writes(dir.path()) {
        return;
    }
    let mut journal = Journal::open(&direct(dir.path(), WriteMode::DirectSync));
    for _ in 0..5 {
        while journal.partition.state() == PartitionState::Healthy {
            let _ = journal.append("acme", &[1; 1000]);
            journal.commit();
        }
        journal.tail.acknowledge(journal.tail.committed());
        journal.commit();
        assert_eq!(journal.partition.state(), PartitionState::Healthy);
    }
    let committed = journal.tail.committed();
    journal.tail.acknowledge(committed);
    assert_eq!(journal.commit(), None, "acknowledging a cursor calls for no other");
}
