//! Group commit: what is acknowledged, when, and what an error does.

mod harness;

use std::io;

use fulcrum_frame::{Class, Frame, FrameBuilder};
use fulcrum_journal::{AppendError, Committed, JournalError, PartitionState, Ticket, open};
use harness::{Journal, config, frame};

#[test]
fn a_committed_message_is_read_with_a_dense_sequence_per_tenant() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = Journal::open(&config(dir.path()));
    for (tenant, payload) in [("acme", "one"), ("other", "two"), ("acme", "three")] {
        journal.store(tenant, payload.as_bytes());
    }
    let seen: Vec<(String, u64)> = journal
        .read()
        .messages
        .into_iter()
        .map(|(tenant, sequence, _)| (tenant, sequence))
        .collect();
    assert_eq!(seen, [("acme".into(), 1), ("other".into(), 1), ("acme".into(), 2)]);
}

#[test]
fn an_acknowledged_message_survives_a_restart_and_sequences_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = Journal::open(&config(dir.path()));
    journal.store("acme", b"before");
    drop(journal);
    let mut journal = Journal::open(&config(dir.path()));
    assert_eq!(journal.report.next_sequences, [("acme".to_owned(), 2)]);
    journal.store("acme", b"after");
    let messages = journal.read().messages;
    assert_eq!(messages[0], ("acme".into(), 1, b"before".to_vec()));
    assert_eq!(messages[1], ("acme".into(), 2, b"after".to_vec()));
}

#[test]
fn one_batch_is_out_while_the_next_gathers() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = Journal::open(&config(dir.path()));
    let first = journal.append("acme", b"1").unwrap();
    journal.driver.serve(&mut journal.partition);
    let write = journal.partition.poll_write().unwrap();
    let second = journal.append("acme", b"2").unwrap();
    let third = journal.append("acme", b"3").unwrap();
    assert!(journal.partition.poll_write().is_none(), "one write is out");
    assert_eq!(journal.partition.pending_records(), 2);
    let before = journal.tail.committed();
    journal.driver.write(&write).unwrap();
    assert_eq!(journal.tail.committed(), before, "nothing is committed before its completion");
    let done = journal.partition.write_done(write.buffer, Ok(()));
    assert_eq!(done, Committed::Durable { through: first });
    let write = journal.partition.poll_write().unwrap();
    journal.driver.write(&write).unwrap();
    let done = journal.partition.write_done(write.buffer, Ok(()));
    assert_eq!(done, Committed::Durable { through: third });
    assert_eq!((first, second, third), (Ticket(1), Ticket(2), Ticket(3)));
    assert!(journal.partition.poll_write().is_none());
}

#[test]
fn a_write_error_fails_the_partition_and_acknowledges_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = Journal::open(&config(dir.path()));
    journal.store("acme", b"safe");
    let committed = journal.tail.committed();
    journal.append("acme", b"lost").unwrap();
    let write = journal.partition.poll_write().unwrap();
    journal.append("acme", b"gathering").unwrap();
    let done = journal.partition.write_done(write.buffer, Err(io::Error::other("bad sector")));
    assert!(matches!(done, Committed::Failed { reason } if reason.contains("bad sector")));
    assert_eq!(journal.append("acme", b"more"), Err(AppendError::Failed));
    assert!(journal.partition.poll_write().is_none(), "what gathered is not written");
    assert!(matches!(journal.partition.state(), PartitionState::Failed { .. }));
    assert_eq!(journal.tail.committed(), committed);
    assert_eq!(journal.read().messages.len(), 1, "the reader keeps what was committed");
}

#[test]
fn a_slow_disk_bounds_what_gathers() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(dir.path());
    config.segment_bytes = 64 << 10;
    config.bytes_max = 1 << 20;
    let mut journal = Journal::open(&config);
    journal.append("acme", &[1; 200]).unwrap();
    journal.driver.serve(&mut journal.partition);
    let write = journal.partition.poll_write().unwrap();
    let refused = (0..1000).find(|_| journal.append("acme", &[1; 200]).is_err());
    assert!(refused.is_some());
    assert!(journal.partition.pending_bytes() <= 4 * config.batch_bytes_max as u64);
    journal.driver.write(&write).unwrap();
    journal.partition.write_done(write.buffer, Ok(()));
    journal.commit();
    assert!(journal.append("acme", &[1; 200]).is_ok());
}

#[test]
fn frames_that_cannot_be_stored_are_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = Journal::open(&config(dir.path()));
    assert!(matches!(journal.append("acme", &[0; 4000]), Err(AppendError::TooLarge { .. })));
    let AppendError::TooLarge { max, .. } = journal.append("acme", &[0; 4000]).unwrap_err() else {
        unreachable!()
    };
    let overhead = frame("acme", b"").len() as u64;
    journal.store("acme", &vec![7; (max - overhead) as usize]);
    let mut bytes = Vec::new();
    FrameBuilder::new(&mut bytes, Class::Event, 1, 0).finish(b"nobody's").unwrap();
    let nobodys = Frame::parse(&bytes).unwrap();
    assert_eq!(journal.partition.append(&nobodys), Err(AppendError::Tenant));
    assert_eq!(journal.append(&"t".repeat(256), b""), Err(AppendError::Tenant));
    let mut limit = None;
    for n in 0..100 {
        journal.commit();
        let refused = journal.append(&format!("tenant-{n}"), b"").err();
        limit = limit.or(refused.filter(|error| *error != AppendError::NotReady));
        journal.tail.acknowledge(journal.tail.committed());
    }
    assert_eq!(limit, Some(AppendError::TenantLimit));
    journal.store("acme", b"known tenants go on");
}

#[test]
fn what_was_fixed_at_creation_cannot_be_configured_away() {
    let dir = tempfile::tempdir().unwrap();
    drop(Journal::open(&config(dir.path())));
    let mut other = config(dir.path());
    other.partitions = 2;
    let error = open(&other).unwrap_err();
    assert!(matches!(error, JournalError::Partitions { stored: 1, configured: 2, .. }));
    assert!(error.to_string().contains("set partitions to 1"), "{error}");
    let mut other = config(dir.path());
    other.segment_bytes = 8192;
    let error = open(&other).unwrap_err();
    assert!(error.to_string().contains("set segment_bytes to 4096"), "{error}");
}

#[test]
fn a_second_process_is_kept_out() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::open(&config(dir.path()));
    assert!(matches!(open(&config(dir.path())), Err(JournalError::Locked { .. })));
    drop(journal);
    assert!(open(&config(dir.path())).is_ok());
}

#[test]
fn written_segments_without_a_store_file_are_not_taken_for_a_new_store() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = Journal::open(&config(dir.path()));
    journal.store("acme", b"precious");
    drop(journal);
    std::fs::rename(dir.path().join("store"), dir.path().join("elsewhere")).unwrap();
    assert!(matches!(open(&config(dir.path())), Err(JournalError::StoreMissing { .. })));
    std::fs::rename(dir.path().join("elsewhere"), dir.path().join("store")).unwrap();
    assert_eq!(Journal::open(&config(dir.path())).read().messages.len(), 1);
}

#[test]
fn every_partition_is_a_log_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(dir.path());
    config.partitions = 3;
    let mut progress = Vec::new();
    let opened =
        fulcrum_journal::open_with_progress(&config, &mut |step| progress.push(step)).unwrap();
    assert_eq!(opened.partitions.len(), 3);
    assert!(opened.report.created);
    assert_eq!(progress.iter().map(|step| step.partition).collect::<Vec<_>>(), [0, 1, 2]);
    let numbers: Vec<u16> = opened.partitions.iter().map(|(_, tail)| tail.partition()).collect();
    assert_eq!(numbers, [0, 1, 2]);
}
