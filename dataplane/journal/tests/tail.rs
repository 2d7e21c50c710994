//! The reader's side beside a writer on another thread.

mod harness;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use fulcrum_journal::Position;
use harness::{Journal, config, read};

#[test]
fn a_reader_on_another_thread_sees_every_message_once_and_frees_the_space() {
    const MESSAGES: u64 = 400;
    let dir = tempfile::tempdir().unwrap();
    let mut journal = Journal::open(&config(dir.path()));
    let tail = journal.tail.clone();
    let (wake, woken) = mpsc::channel();
    assert!(tail.set_notify(Arc::new(move || {
        let _ = wake.send(());
    })));
    let reader = std::thread::spawn(move || {
        let mut at = tail.start();
        let mut sequences = Vec::new();
        while sequences.len() < MESSAGES as usize {
            let part = read(&tail, at);
            assert!(part.damages.is_empty(), "{:?}", part.damages);
            sequences.extend(part.messages.iter().map(|(_, sequence, _)| *sequence));
            at = part.end;
            tail.acknowledge(at);
            if sequences.len() < MESSAGES as usize && tail.sleep(at) {
                // A lost wake-up would end here.
                woken.recv_timeout(Duration::from_secs(20)).unwrap();
            }
        }
        sequences
    });
    for n in 0..MESSAGES {
        while journal.append("acme", &[n as u8; 200]).is_err() {
            journal.commit();
            std::thread::yield_now();
        }
        if n % 3 == 0 || n == MESSAGES - 1 {
            journal.commit();
        }
    }
    let sequences = reader.join().unwrap();
    assert_eq!(sequences, (1..=MESSAGES).collect::<Vec<_>>());
    assert!(journal.partition.metrics().oldest_segment > 1, "segments were dropped meanwhile");
}

#[test]
fn only_a_sleeping_reader_is_woken_and_only_once() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = Journal::open(&config(dir.path()));
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = calls.clone();
    journal.tail.set_notify(Arc::new(move || {
        counted.fetch_add(1, Ordering::Relaxed);
    }));
    assert!(!journal.tail.set_notify(Arc::new(|| {})), "the first one stays");
    journal.store("acme", b"one");
    assert_eq!(calls.load(Ordering::Relaxed), 0);
    assert!(!journal.tail.sleep(Position(0)), "there is something to read");
    assert!(journal.tail.sleep(journal.tail.committed()));
    journal.store("acme", b"two");
    journal.store("acme", b"three");
    assert_eq!(calls.load(Ordering::Relaxed), 1);
}

#[test]
fn a_reader_cannot_acknowledge_what_is_not_committed_or_take_it_back() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = Journal::open(&config(dir.path()));
    journal.store("acme", b"one");
    let committed = journal.tail.committed();
    journal.tail.acknowledge(Position(u64::MAX));
    assert_eq!(journal.tail.acknowledged(), committed);
    journal.tail.acknowledge(Position(0));
    assert_eq!(journal.tail.acknowledged(), committed);
}
