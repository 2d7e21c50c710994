//! The byte cap, the reserve behind it, and how space returns.

#![allow(clippy::unwrap_used, clippy::panic)] // its own fixtures may panic

mod harness;

use std::io;
use std::path::Path;

use fulcrum_journal::{AppendError, Partition, PartitionState, Position, SegmentRequest};
use harness::{Journal, SEGMENT_BYTES, config, frame, segment};

fn bytes_on_disk(dir: &Path) -> u64 {
    let entries = std::fs::read_dir(dir.join("p0")).unwrap();
    entries.map(|entry| entry.unwrap().metadata().unwrap().len()).sum()
}

/// Appends until the partition is full; answers how many messages it took.
fn fill(journal: &mut Journal) -> u64 {
    let mut taken = 0;
    loop {
        match journal.append("acme", &[1; 200]) {
            Ok(_) => taken += 1,
            Err(AppendError::NotReady) => {}
            Err(error) => {
                assert_eq!(error, AppendError::Full);
                journal.commit();
                return taken;
            }
        }
        journal.commit();
    }
}

#[test]
fn the_cap_is_never_exceeded_and_full_is_said_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let mut journal = Journal::open(&config);
    let taken = fill(&mut journal);
    assert!(taken > 40, "most of the cap is usable, {taken}");
    assert_eq!(journal.partition.state(), PartitionState::Full);
    assert_eq!(bytes_on_disk(dir.path()), config.bytes_max);
    let metrics = journal.partition.metrics();
    assert_eq!((metrics.bytes_used, metrics.bytes_max), (config.bytes_max, config.bytes_max));
    assert_eq!((metrics.records, metrics.refused_full), (taken, 1));
    assert_eq!(journal.read().messages.len() as u64, taken);
}

#[test]
fn a_full_partition_frees_space_when_the_consumer_acknowledges() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let mut journal = Journal::open(&config);
    let mut stored = 0;
    for _ in 0..20 {
        stored += fill(&mut journal);
        assert!(bytes_on_disk(dir.path()) <= config.bytes_max);
        journal.tail.acknowledge(journal.tail.committed());
        journal.commit();
        assert_eq!(journal.partition.state(), PartitionState::Healthy);
        assert!(journal.append("acme", b"room again").is_ok());
        stored += 1;
    }
    journal.commit();
    assert_eq!(journal.read().messages.last().unwrap().1, stored, "no sequence was lost or reused");
}

#[test]
fn a_partition_that_was_full_at_its_stop_frees_space_after_its_start() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = Journal::open(&config(dir.path()));
    let taken = fill(&mut journal);
    drop(journal);
    let mut journal = Journal::open(&config(dir.path()));
    assert_eq!(journal.append("acme", &[1; 200]), Err(AppendError::Full));
    assert_eq!(journal.partition.state(), PartitionState::Full);
    assert_eq!(journal.read().messages.len() as u64, taken);
    journal.tail.acknowledge(journal.read().positions[taken as usize / 2]);
    journal.commit();
    journal.store("acme", b"room again");
    assert_eq!(journal.read().messages.last().unwrap().1, taken + 1);
}

#[test]
fn a_segment_goes_only_after_its_last_record_is_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = Journal::open(&config(dir.path()));
    while journal.tail.committed() < Position(2 * SEGMENT_BYTES + 600) {
        journal.store("acme", &[1; 200]);
    }
    let read = journal.read();
    let last_of_first = read.positions.iter().rposition(|p| p.0 < 2 * SEGMENT_BYTES).unwrap();
    journal.tail.acknowledge(read.positions[last_of_first]);
    journal.store("acme", b"carries the cursor");
    assert!(segment(dir.path(), 1).exists());
    journal.tail.acknowledge(read.positions[last_of_first + 1]);
    journal.store("acme", b"carries the cursor");
    assert!(!segment(dir.path(), 1).exists());
    assert_eq!(journal.read().messages[0].1, last_of_first as u64 + 2);
}

#[test]
fn sequences_survive_the_drop_of_every_segment_they_were_used_in() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = Journal::open(&config(dir.path()));
    journal.store("quiet", b"once");
    while journal.tail.committed() < Position(9 * SEGMENT_BYTES) {
        journal.store("busy", &[1; 200]);
        journal.tail.acknowledge(journal.tail.committed());
    }
    drop(journal);
    let mut journal = Journal::open(&config(dir.path()));
    journal.store("quiet", b"twice");
    let last = journal.read().messages.pop().unwrap();
    assert_eq!(last, ("quiet".into(), 2, b"twice".to_vec()));
}

#[test]
fn an_orderly_stop_resumes_exactly_where_the_consumer_was() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = Journal::open(&config(dir.path()));
    for n in 0..4 {
        journal.store("acme", &[n; 10]);
    }
    let position = journal.read().positions[2];
    journal.tail.acknowledge(position);
    journal.partition.flush_cursor();
    journal.commit();
    drop(journal);
    let journal = Journal::open(&config(dir.path()));
    assert_eq!(journal.tail.start(), position);
    assert_eq!(journal.read().messages.len(), 2);
}

/// Answers the next preparation with an error.
fn refuse_preparation(partition: &mut Partition) -> bool {
    let Some(request) = partition.poll_segment_request() else { return false };
    let SegmentRequest::Prepare { number, .. } = request else { panic!("{request:?}") };
    partition.segment_prepared(number, Err(io::ErrorKind::StorageFull.into()));
    true
}

#[test]
fn a_full_disk_is_like_a_full_partition_until_preparing_works_again() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = Journal::open(&config(dir.path()));
    journal.driver.serve(&mut journal.partition);
    let mut last = Ok(());
    while last.is_ok() {
        last = journal.append("acme", &[1; 200]).map(|_| ());
        if let Some(write) = journal.partition.poll_write() {
            journal.driver.write(&write).unwrap();
            journal.partition.write_done(write.buffer, Ok(()));
        }
        refuse_preparation(&mut journal.partition);
    }
    assert_eq!(last, Err(AppendError::Full));
    assert!(journal.partition.preparation_error().is_some());
    assert!(!refuse_preparation(&mut journal.partition), "it is not asked for again by itself");
    journal.partition.retry_preparation();
    assert_eq!(journal.append("acme", &[1; 200]), Err(AppendError::NotReady));
    journal.commit();
    assert!(journal.append("acme", &[1; 200]).is_ok());
    assert_eq!(journal.partition.preparation_error(), None);
}

#[test]
fn an_idle_partition_keeps_one_segment_and_writes_no_cursors() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = Journal::open(&config(dir.path()));
    journal.store("acme", b"one");
    let committed = journal.tail.committed();
    journal.tail.acknowledge(committed);
    for _ in 0..10 {
        assert_eq!(journal.commit(), None);
    }
    assert_eq!(journal.tail.committed(), committed);
    assert_eq!(bytes_on_disk(dir.path()), SEGMENT_BYTES);
    let metrics = journal.partition.metrics();
    assert_eq!((metrics.bytes_unacknowledged, metrics.oldest_created_ms), (0, None));
}

#[test]
fn the_age_of_the_oldest_unacknowledged_message_is_known() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = Journal::open(&config(dir.path()));
    journal.store("acme", b"one");
    assert_eq!(journal.partition.metrics().oldest_created_ms, Some(1_700_000_000_000));
    drop(journal);
    let journal = Journal::open(&config(dir.path()));
    assert_eq!(journal.partition.metrics().oldest_created_ms, Some(1_700_000_000_000));
}

#[test]
fn what_is_essential_uses_the_reserve_and_reading_all_gives_it_back() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = Journal::open(&config(dir.path()));
    let mut stored = 0;
    while journal.partition.check_room(frame("acme", &[7; 1000]).len()).is_ok() {
        journal.store("acme", &[7; 1000]);
        stored += 1;
    }
    let refused = journal.append("acme", &[7; 1000]);
    assert_eq!(refused, Err(AppendError::Full), "the check and the append agree");
    let essential = frame("acme", b"done with it");
    let parsed = fulcrum_frame::Frame::parse(&essential).unwrap();
    journal.partition.append_essential(&parsed).unwrap();
    journal.commit();
    let mut seen = Vec::new();
    fulcrum_journal::blocking::read_all(&journal.tail, |segment, frame| {
        seen.push((segment, frame.payload().len()));
    })
    .unwrap();
    assert_eq!(seen.len(), stored + 1);
    assert_eq!(seen.last().map(|(_, bytes)| *bytes), Some(12));
    assert!(seen.is_sorted_by_key(|(segment, _)| *segment) && seen[0].0 == 1);
}
