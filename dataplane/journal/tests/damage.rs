//! Bytes that change on disk after they were acknowledged: reported, counted, stepped over, and never a reason to give
//! a sequence out twice.

#![allow(clippy::unwrap_used, clippy::panic)] // its own fixtures may panic

mod harness;

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::Path;

use fulcrum_journal::{Damage, Kind, Position, RecordReader, Step, inspect};
use harness::{Journal, Read, SEGMENT_BYTES, config, copy, flip, segment};
use proptest::prelude::*;

const MESSAGES: u64 = 6;

/// Six messages in three batches, alternately of two tenants. Answers what a reader sees.
fn written(dir: &Path) -> Read {
    let mut journal = Journal::open(&config(dir));
    for n in 0..MESSAGES {
        let tenant = if n % 2 == 0 { "acme" } else { "other" };
        journal.append(tenant, format!("message {n}").as_bytes()).unwrap();
        if n % 2 == 1 {
            journal.commit();
        }
    }
    journal.read()
}

#[test]
fn a_changed_bit_anywhere_costs_one_record_and_is_reported() {
    let dir = tempfile::tempdir().unwrap();
    let store = dir.path().join("store");
    let before = written(&store);
    let first = SEGMENT_BYTES;
    for at in 0..before.end.0 - first {
        let hurt = dir.path().join(format!("byte{at}"));
        copy(&store, &hurt);
        flip(&segment(&hurt, 1), at);
        let mut journal = Journal::open(&config(&hurt));
        assert_eq!(journal.report.torn_bytes, 0, "byte {at}");
        assert_eq!(journal.report.quarantined.len(), 1, "byte {at}: {:?}", journal.report);
        let read = journal.read();
        assert_eq!(read.damages.len(), 1, "byte {at}");
        let damage = read.damages[0];
        assert_eq!(journal.report.quarantined[0].damage, damage, "both sides see the same");
        assert!((damage.from.0..damage.to.0).contains(&(first + at)));
        let survivors: Vec<_> = before
            .messages
            .iter()
            .zip(&before.positions)
            .filter(|(_, position)| !(damage.from..damage.to).contains(position))
            .map(|(message, _)| message.clone())
            .collect();
        assert_eq!(read.messages, survivors, "byte {at}");
        assert!(survivors.len() as u64 >= MESSAGES - 1);
        // No sequence comes again, for either tenant, whichever record was lost.
        for tenant in ["acme", "other", "third"] {
            journal.store(tenant, b"after");
        }
        let mut ids: Vec<_> = before.messages.iter().map(|(t, s, _)| (t.clone(), *s)).collect();
        ids.extend(
            journal.read().messages.iter().filter(|m| m.2 == b"after").map(|m| (m.0.clone(), m.1)),
        );
        ids.sort_unstable();
        assert!(ids.windows(2).all(|pair| pair[0] != pair[1]), "byte {at}: {ids:?}");
        std::fs::remove_dir_all(hurt).unwrap();
    }
}

#[test]
fn a_damaged_record_with_a_sound_head_tells_its_sequence() {
    let dir = tempfile::tempdir().unwrap();
    let before = written(dir.path());
    let hurt = before.positions[2];
    flip(&segment(dir.path(), 1), hurt.0 - SEGMENT_BYTES + 60);
    let journal = Journal::open(&config(dir.path()));
    let expected = Damage { from: hurt, to: before.positions[3], record: Some((Kind::Message, 2)) };
    assert_eq!(journal.read().damages, [expected]);
    assert_eq!(journal.report.quarantined[0].messages_max, 1);
}

#[test]
fn zeros_in_the_middle_are_damage_and_not_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = Journal::open(&config(dir.path()));
    for n in 0..9_u8 {
        journal.store("acme", &[n + 1; 200]);
    }
    let before = journal.read();
    drop(journal);
    let file = OpenOptions::new().write(true).open(segment(dir.path(), 1)).unwrap();
    file.write_all_at(&[0; 512], 1024).unwrap();
    let journal = Journal::open(&config(dir.path()));
    let read = journal.read();
    assert_eq!(read.damages.len(), 1);
    assert_eq!(journal.report.torn_bytes, 0);
    assert_eq!(read.messages.last(), before.messages.last());
    assert!(read.messages.len() >= 5);
    assert_eq!(journal.report.next_sequences, [("acme".to_owned(), 10)]);
}

#[test]
fn a_missing_segment_is_reported_and_stepped_over() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = Journal::open(&config(dir.path()));
    let mut n = 0;
    while journal.tail.committed() < Position(3 * SEGMENT_BYTES + 1000) {
        journal.store("acme", &[n; 100]);
        n += 1;
    }
    drop(journal);
    std::fs::remove_file(segment(dir.path(), 2)).unwrap();
    let mut journal = Journal::open(&config(dir.path()));
    let hole =
        Damage { from: Position(2 * SEGMENT_BYTES), to: Position(3 * SEGMENT_BYTES), record: None };
    assert_eq!(journal.report.quarantined[0].damage, hole);
    let read = journal.read();
    assert_eq!(read.damages, [hole]);
    assert_eq!(read.messages.last().unwrap().1, u64::from(n), "sequences are known from later on");
    journal.store("acme", b"next");
    assert_eq!(journal.read().messages.last().unwrap().1, u64::from(n) + 1);
}

/// One segment is left; of its two checkpoints the first is destroyed.
#[test]
fn sequences_survive_the_loss_of_one_checkpoint() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = Journal::open(&config(dir.path()));
    journal.store("quiet", b"once");
    while journal.tail.committed() < Position(2 * SEGMENT_BYTES + 600) {
        journal.store("busy", &[1; 200]);
        journal.tail.acknowledge(journal.tail.committed());
    }
    journal.commit();
    assert!(!segment(dir.path(), 1).exists());
    journal.store("busy", b"last");
    let busy = journal.read().messages.last().unwrap().1;
    drop(journal);
    flip(&segment(dir.path(), 2), 30);
    let journal = Journal::open(&config(dir.path()));
    assert!(!journal.report.sequences_unknown);
    let next = [("busy".to_owned(), busy + 1), ("quiet".to_owned(), 2)];
    assert_eq!(journal.report.next_sequences, next);
}

#[test]
fn without_any_checkpoint_sequences_go_on_above_all_that_were_used() {
    let dir = tempfile::tempdir().unwrap();
    let before = written(dir.path());
    flip(&segment(dir.path(), 1), 30);
    let mut journal = Journal::open(&config(dir.path()));
    assert!(journal.report.sequences_unknown);
    assert_eq!(journal.read().messages, before.messages);
    journal.store("acme", b"after");
    let after = journal.read().messages.last().unwrap().1;
    assert!(after >= 1 << 48, "{after}");
    drop(journal);
    let journal = Journal::open(&config(dir.path()));
    assert!(!journal.report.sequences_unknown, "what was settled on was written down");
    assert_eq!(journal.report.next_sequences[0], ("acme".to_owned(), after + 1));
    drop(journal);
    std::fs::remove_file(segment(dir.path(), 1)).unwrap();
    let journal = Journal::open(&config(dir.path()));
    assert!(journal.report.sequences_unknown, "a store that lost its segments is not a new one");
}

#[test]
fn bytes_of_another_store_or_another_place_are_no_records() {
    let dir = tempfile::tempdir().unwrap();
    let (one, two) = (dir.path().join("one"), dir.path().join("two"));
    let before = written(&one);
    drop(Journal::open(&config(&two)));
    std::fs::copy(segment(&one, 1), segment(&two, 1)).unwrap();
    let journal = Journal::open(&config(&two));
    assert!(journal.read().messages.is_empty(), "another epoch");
    drop(journal);
    std::fs::rename(segment(&one, 1), segment(&one, 2)).unwrap();
    let journal = Journal::open(&config(&one));
    let read = journal.read();
    assert!(!before.messages.is_empty() && read.messages.is_empty(), "another position");
}

#[test]
fn verify_and_dump_tell_what_recovery_would() {
    let dir = tempfile::tempdir().unwrap();
    let before = written(dir.path());
    let report = inspect::verify(dir.path()).unwrap();
    assert!(report.is_sound());
    assert_eq!((report.partitions[0].messages, report.partitions[0].end), (MESSAGES, before.end));
    flip(&segment(dir.path(), 1), before.positions[1].0 - SEGMENT_BYTES + 50);
    let report = inspect::verify(dir.path()).unwrap();
    assert_eq!(report.partitions[0].damages.len(), 1);
    let entries: Vec<_> = inspect::dump(dir.path()).unwrap().map(Result::unwrap).collect();
    let messages = entries.iter().filter(|entry| {
        matches!(entry, inspect::Entry::Record { kind: Kind::Message, tenant: Some(_), .. })
    });
    assert_eq!(messages.count() as u64, MESSAGES - 1);
    assert!(entries.iter().any(|entry| matches!(entry, inspect::Entry::Damage { .. })));
}

/// Walks bytes to their end and answers the records; fails if a step does not advance.
fn walk(reader: RecordReader, bytes: &[u8], start: Position) -> Vec<(Position, Vec<u8>)> {
    let limit = Position(start.0 + bytes.len() as u64);
    let mut at = start;
    let mut records = Vec::new();
    while at < limit {
        let rest = &bytes[(at.0 - start.0) as usize..];
        at = match reader.parse(rest, at, limit) {
            Step::Record(record) => {
                assert!(record.next > at);
                records.push((at, record.body.to_vec()));
                record.next
            }
            Step::EndOfSegment { next } => {
                assert!(next > at);
                next
            }
            Step::Corrupt(damage) => {
                assert!(damage.from == at && damage.to > at);
                damage.to
            }
            Step::NeedMore { at_least } => panic!("{at_least} bytes wanted, all were given"),
        };
    }
    records
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn a_reader_makes_its_way_through_any_bytes(
        bytes in prop::collection::vec(prop_oneof![3 => Just(0_u8), 1 => any::<u8>()], 0..4096),
        start in 512..2048_u64,
    ) {
        let reader = RecordReader::new(7, SEGMENT_BYTES);
        prop_assert!(walk(reader, &bytes, Position(start * 8)).is_empty());
    }

    #[test]
    fn recovery_survives_any_damage_and_invents_nothing(
        hits in prop::collection::vec((0..SEGMENT_BYTES, any::<u8>()), 1..40),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let before = written(dir.path());
        let path = segment(dir.path(), 1);
        let mut bytes = std::fs::read(&path).unwrap();
        for (at, byte) in hits {
            bytes[at as usize] = byte;
        }
        std::fs::write(&path, bytes).unwrap();
        let mut journal = Journal::open(&config(dir.path()));
        for message in journal.read().messages {
            prop_assert!(before.messages.contains(&message));
        }
        journal.store("acme", b"after");
        let read = journal.read();
        prop_assert_eq!(&read.messages.last().unwrap().2, b"after");
    }
}
