//! What a crash leaves behind: a batch written in part, a file cut off, a restart in the middle of anything.

#![allow(clippy::unwrap_used)] // its own fixtures may panic

mod harness;

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::Path;

use fulcrum_journal::{AppendError, Committed, Write};
use harness::{Journal, SEGMENT_BYTES, config, copy, segment};
use proptest::prelude::*;

/// A store with three acknowledged messages, and the write of three more that a crash interrupts.
fn interrupted(dir: &Path, payload_bytes: usize) -> Write {
    let mut journal = Journal::open(&config(dir));
    for n in 0..3 {
        journal.store("acme", format!("durable {n}").as_bytes());
    }
    for n in 0..3 {
        journal.append("acme", &vec![n + 1; payload_bytes]).unwrap();
    }
    journal.partition.poll_write().unwrap()
}

/// Reopens after a crash and checks the promises; then appends and reopens once more.
fn check_after_crash(dir: &Path, payload_bytes: usize) -> usize {
    let mut journal = Journal::open(&config(dir));
    assert!(journal.report.quarantined.is_empty(), "{:?}", journal.report);
    let read = journal.read();
    assert!(read.damages.is_empty(), "{:?}", read.damages);
    let kept = read.messages.len();
    assert!((3..=6).contains(&kept));
    for (index, (tenant, sequence, payload)) in read.messages.iter().enumerate() {
        assert_eq!((tenant.as_str(), *sequence), ("acme", index as u64 + 1));
        match index {
            0..3 => assert_eq!(payload, format!("durable {index}").as_bytes()),
            _ => assert_eq!(payload, &vec![index as u8 - 2; payload_bytes]),
        }
    }
    // Shorter than what was torn, so that anything left behind would show.
    journal.store("acme", b"x");
    drop(journal);
    let journal = Journal::open(&config(dir));
    assert!(journal.report.quarantined.is_empty());
    assert_eq!(journal.report.torn_bytes, 0);
    let read = journal.read();
    assert_eq!(read.messages.len(), kept + 1);
    assert_eq!(read.messages[kept], ("acme".into(), kept as u64 + 1, b"x".to_vec()));
    kept
}

fn put(dir: &Path, write: &Write, bytes: std::ops::Range<usize>) {
    let file = OpenOptions::new().write(true).open(segment(dir, write.segment)).unwrap();
    file.write_all_at(&write.buffer[bytes.clone()], write.offset + bytes.start as u64).unwrap();
}

#[test]
fn acknowledged_messages_survive_a_write_torn_at_any_byte() {
    let dir = tempfile::tempdir().unwrap();
    let write = interrupted(&dir.path().join("store"), 40);
    let mut kept = Vec::new();
    for cut in 0..=write.buffer.len() {
        let crashed = dir.path().join(format!("cut{cut}"));
        copy(&dir.path().join("store"), &crashed);
        put(&crashed, &write, 0..cut);
        kept.push(check_after_crash(&crashed, 40));
        std::fs::remove_dir_all(crashed).unwrap();
    }
    assert!(kept.is_sorted());
    assert_eq!((kept[0], kept[write.buffer.len()]), (3, 6));
}

#[test]
fn acknowledged_messages_survive_a_file_cut_off_at_any_byte_of_the_torn_write() {
    let dir = tempfile::tempdir().unwrap();
    let write = interrupted(&dir.path().join("store"), 40);
    for cut in 0..write.buffer.len() {
        let crashed = dir.path().join(format!("cut{cut}"));
        copy(&dir.path().join("store"), &crashed);
        put(&crashed, &write, 0..write.buffer.len());
        let path = segment(&crashed, write.segment);
        let file = OpenOptions::new().write(true).open(&path).unwrap();
        file.set_len(write.offset + cut as u64).unwrap();
        check_after_crash(&crashed, 40);
        assert_eq!(std::fs::metadata(&path).unwrap().len(), SEGMENT_BYTES);
        std::fs::remove_dir_all(crashed).unwrap();
    }
}

#[test]
fn acknowledged_messages_survive_a_write_of_which_any_sectors_are_missing() {
    let dir = tempfile::tempdir().unwrap();
    let write = interrupted(&dir.path().join("store"), 500);
    let first = (write.offset / 512) as usize;
    let last = (write.offset as usize + write.buffer.len()).div_ceil(512);
    assert!(last - first >= 4, "the batch spans several sectors");
    for written in 0..1_u32 << (last - first) {
        let crashed = dir.path().join(format!("sectors{written:b}"));
        copy(&dir.path().join("store"), &crashed);
        for sector in (first..last).filter(|sector| written >> (sector - first) & 1 == 1) {
            let from = (sector * 512).saturating_sub(write.offset as usize);
            let to = ((sector + 1) * 512 - write.offset as usize).min(write.buffer.len());
            put(&crashed, &write, from..to);
        }
        check_after_crash(&crashed, 500);
        std::fs::remove_dir_all(crashed).unwrap();
    }
}

#[test]
fn a_first_start_that_was_interrupted_is_taken_up_again() {
    let dir = tempfile::tempdir().unwrap();
    drop(Journal::open(&config(dir.path())));
    std::fs::remove_file(dir.path().join("store")).unwrap();
    std::fs::write(dir.path().join("p0/00000000000000000002.seg.tmp"), b"half").unwrap();
    let mut journal = Journal::open(&config(dir.path()));
    journal.store("acme", b"first");
    assert_eq!(journal.read().messages[0].1, 1);
    assert!(!dir.path().join("p0/00000000000000000002.seg.tmp").exists());
}

#[test]
fn a_roll_that_was_interrupted_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = dir.path().join("store");
    let mut journal = Journal::open(&config(&store));
    let mut durable = 0;
    let payload = vec![9; 100];
    // Stop at the append that opens the second segment: its write is the first one there.
    let write = loop {
        journal.driver.serve(&mut journal.partition);
        journal.append("acme", &payload).unwrap();
        let write = journal.partition.poll_write().unwrap();
        journal.driver.write(&write).unwrap();
        let buffer = write.buffer.clone();
        journal.partition.write_done(buffer, Ok(()));
        if let Some(next) = journal.partition.poll_write() {
            assert_eq!(next.segment, 2);
            break next;
        }
        durable += 1;
    };
    drop(journal);
    for cut in 0..=write.buffer.len() {
        let crashed = dir.path().join(format!("cut{cut}"));
        copy(&store, &crashed);
        put(&crashed, &write, 0..cut);
        let mut journal = Journal::open(&config(&crashed));
        assert!(journal.report.quarantined.is_empty(), "{cut}: {:?}", journal.report);
        let kept = journal.read().messages.len();
        assert!(kept == durable || cut == write.buffer.len() && kept == durable + 1);
        journal.store("acme", b"on");
        let read = journal.read();
        assert_eq!(read.messages.last().unwrap().1, kept as u64 + 1);
        assert!(read.damages.is_empty());
        std::fs::remove_dir_all(crashed).unwrap();
    }
}

#[derive(Clone, Debug)]
enum Step {
    Append { tenant: usize, bytes: usize },
    Commit,
    Acknowledge { share: u8 },
    Restart,
    Crash { written: u16 },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0..3_usize, 0..700_usize).prop_map(|(tenant, bytes)| Step::Append { tenant, bytes }),
        4 => Just(Step::Commit),
        2 => any::<u8>().prop_map(|share| Step::Acknowledge { share }),
        1 => Just(Step::Restart),
        2 => any::<u16>().prop_map(|written| Step::Crash { written }),
    ]
}

const TENANTS: [&str; 3] = ["acme", "b", "a-tenant-with-a-longer-name"];

/// What was appended and not yet dropped, by tenant and sequence.
#[derive(Default)]
struct Model {
    payloads: BTreeMap<(String, u64), Vec<u8>>,
    pending: Vec<(String, u64)>,
    durable: Vec<(String, u64)>,
    /// How many of the durable ones, from the first on, were acknowledged.
    acknowledged: usize,
    appended: u64,
}

impl Model {
    fn append(&mut self, journal: &mut Journal, tenant: &str, bytes: usize) {
        self.appended += 1;
        let mut payload = self.appended.to_le_bytes().to_vec();
        payload.resize(8 + bytes, 0);
        let next = journal.partition.next_sequences().find(|(name, _)| *name == tenant);
        let sequence = next.map_or(1, |(_, next)| next);
        match journal.append(tenant, &payload) {
            Ok(_) => {
                let id = (tenant.to_owned(), sequence);
                self.payloads.insert(id.clone(), payload);
                self.pending.push(id);
            }
            Err(error) => assert!(matches!(error, AppendError::Full | AppendError::NotReady)),
        }
    }

    fn commit(&mut self, journal: &mut Journal) {
        if let Some(committed) = journal.commit() {
            assert!(matches!(committed, Committed::Durable { .. }));
            self.durable.append(&mut self.pending);
        }
    }

    /// A reader sees, in order, all that is durable and not acknowledged, and nothing that was not appended.
    fn check(&self, journal: &Journal) {
        let read = journal.read();
        assert!(read.damages.is_empty(), "{:?}", read.damages);
        let mut last: BTreeMap<&str, u64> = BTreeMap::new();
        for (tenant, sequence, payload) in &read.messages {
            assert_eq!(self.payloads.get(&(tenant.clone(), *sequence)), Some(payload));
            if let Some(before) = last.insert(tenant, *sequence) {
                assert_eq!(*sequence, before + 1, "dense and in order");
            }
        }
        let seen: Vec<(String, u64)> =
            read.messages.iter().map(|(tenant, sequence, _)| (tenant.clone(), *sequence)).collect();
        assert!(self.durable.ends_with(&seen), "{seen:?} is no end of {:?}", self.durable);
        assert!(self.durable.len() - seen.len() <= self.acknowledged, "something is missing");
    }
}

/// Puts a part of the next write on disk, as a crash in the middle of it does.
fn tear(dir: &Path, journal: &mut Journal, written: u16) {
    let Some(write) = journal.partition.poll_write() else { return };
    let bytes = usize::from(written) * (write.buffer.len() + 1) / 65536;
    // Its file may still be in the making.
    if segment(dir, write.segment).exists() {
        put(dir, &write, 0..bytes);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn no_history_of_crashes_loses_what_was_acknowledged(steps in prop::collection::vec(step(), 1..80)) {
        let dir = tempfile::tempdir().unwrap();
        let config = config(dir.path());
        let mut journal = Journal::open(&config);
        let mut model = Model::default();
        for step in steps {
            match step {
                Step::Append { tenant, bytes } => model.append(&mut journal, TENANTS[tenant], bytes),
                Step::Commit => model.commit(&mut journal),
                Step::Acknowledge { share } => {
                    let read = journal.read();
                    let index = read.positions.len() * usize::from(share) / 256;
                    if let Some(position) = read.positions.get(index) {
                        journal.tail.acknowledge(*position);
                        model.acknowledged = model.durable.len() - read.positions.len() + index;
                    }
                }
                Step::Restart | Step::Crash { .. } => {
                    if let Step::Crash { written } = step {
                        tear(dir.path(), &mut journal, written);
                    } else {
                        model.commit(&mut journal);
                        journal.partition.flush_cursor();
                        journal.commit();
                    }
                    let (durable, acknowledged) = (journal.read().messages, journal.tail.acknowledged());
                    drop(journal);
                    journal = Journal::open(&config);
                    prop_assert!(journal.report.quarantined.is_empty(), "{:?}", journal.report);
                    if matches!(step, Step::Restart) {
                        prop_assert!(journal.tail.start() >= acknowledged.min(journal.tail.committed()));
                    }
                    // What survived of the pending ones is durable now; the others never were.
                    let read = journal.read();
                    let pending = std::mem::take(&mut model.pending);
                    for id in pending {
                        let survived = read.messages.iter().any(|(tenant, sequence, payload)| {
                            (tenant, *sequence) == (&id.0, id.1) && model.payloads.get(&id) == Some(payload)
                        });
                        if survived {
                            model.durable.push(id);
                        }
                    }
                    for message in &durable {
                        prop_assert!(read.messages.contains(message), "lost {message:?}");
                    }
                }
            }
            model.check(&journal);
            let used: u64 = std::fs::read_dir(dir.path().join("p0")).unwrap()
                .map(|entry| entry.unwrap().metadata().unwrap().len()).sum();
            prop_assert!(used <= config.bytes_max);
        }
    }
}
