//! One PUBLISH is one record: all of it or nothing, from the client, to sessions, to other shards, retained.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed expectation is a failed test")]

mod harness;

use bytes::Bytes;
use fulcrum_sessions::*;
use harness::*;

const FROM: Origin = Origin { shard: 5, epoch: 11 };

#[test]
fn a_body_is_written_once_however_many_sessions_queue_it_and_removed_with_the_last() {
    let mut shard = Shard::new();
    let keys: Vec<_> = (0..20).map(|n| shard.connect(&format!("c{n}"), 100)).collect();
    let (before, live_bytes) = (shard.log.bytes(), shard.sessions.metrics().live_bytes);
    let large = message(&"x".repeat(10_000));
    let bound = Sessions::record_bytes(large.frame().len(), keys.len());
    shard.deliver_message(&keys, 1, &large).1.unwrap();
    let record = shard.log.bytes() - before;
    assert!(record < 11_000 && record <= bound, "{record} of {bound}");
    shard.sync();
    assert_eq!(shard.sessions.metrics().stored_messages, 1);
    for key in &keys {
        shard.sent(*key);
        assert_eq!(shard.sessions.metrics().stored_messages, 1);
        shard.sessions.puback(&mut shard.log, *key, 1);
    }
    assert_eq!(shard.sessions.metrics().stored_messages, 0);
    shard.sync();
    shard.crash(0);
    assert_eq!(shard.sessions.metrics().stored_messages, 0);
    assert_eq!(shard.sessions.metrics().live_bytes, live_bytes);
}

#[test]
fn a_refused_commit_and_a_dropped_transaction_have_done_nothing() {
    let mut shard = Shard::new();
    let durable = shard.connect("durable", 100);
    let fleeting = shard.connect("fleeting", 0);
    for refused in [true, false] {
        let mut transaction = shard.sessions.begin(&tenant());
        let options = Options { qos: 2, retain: false, subscription_ids: &[], group: None };
        assert_eq!(shard.sessions.incoming(&mut transaction, durable, 4), Incoming::New);
        for key in [durable, fleeting] {
            let _ = shard.sessions.deliver(&mut transaction, key, &message("x"), options);
        }
        let frame = Bytes::from_static(b"f");
        shard.sessions.forward(&mut transaction, 1, &frame);
        shard.sessions.retain(&mut transaction, "t", Some(&frame), 1, None);
        shard.sessions.note_from(&mut transaction, FROM, 1);
        if refused {
            shard.log.refuses_new = Some(Room::Full);
            assert_eq!(shard.sessions.commit(&mut shard.log, transaction), Err(Room::Full));
            shard.log.refuses_new = None;
        } else {
            drop(transaction);
        }
        shard.sync();
        assert!(!shard.sessions.incoming_is_known(durable, 4));
        assert_eq!((shard.sent(durable), shard.sent(fleeting)), (vec![], vec![]));
        assert!(shard.sessions.is_new_from(FROM, 1));
        let Metrics { queued_bytes, queued_messages, stored_messages, .. } =
            shard.sessions.metrics();
        assert_eq!((queued_bytes, queued_messages, stored_messages), (0, 0, 0));
        assert_eq!(shard.sessions.retained().count(), 0);
        assert_eq!(shard.sessions.pending_forwards().count(), 0);
    }
}

#[test]
fn a_record_is_never_longer_than_the_transaction_said() {
    let mut shard = Shard::new();
    let keys: Vec<_> = (0..9).map(|n| shard.connect(&format!("c{n}"), 100)).collect();
    let mut transaction = shard.sessions.begin(&tenant());
    assert_eq!(transaction.record_bytes(), 0);
    for n in 0..50 {
        let message = message(&"m".repeat(n));
        for key in &keys {
            let options =
                Options { qos: 2, retain: true, subscription_ids: &[268_435_455; 6], group: None };
            let _ = shard.sessions.deliver(&mut transaction, *key, &message, options);
        }
        shard.sessions.incoming(&mut transaction, keys[0], n as u16 + 1);
        let frame = Bytes::from(vec![0; n]);
        shard.sessions.forward(&mut transaction, n as u16, &frame);
        shard.sessions.retain(&mut transaction, "topic", Some(&frame), u64::MAX, Some(u64::MAX));
        shard.sessions.note_from(&mut transaction, Origin { shard: 1, epoch: u64::MAX }, 1);
    }
    let bound = transaction.record_bytes();
    shard.sessions.commit(&mut shard.log, transaction).unwrap();
    assert!(shard.log.records.last().unwrap().3.len() <= bound);
}

#[test]
fn an_incoming_qos_2_message_is_known_until_it_is_released_also_over_a_crash() {
    let mut shard = Shard::new();
    let from = shard.connect("from", 100);
    let to = shard.connect("to", 100);
    assert_eq!(shard.publish2(from, 9, to, "once"), Incoming::New);
    let ticket = shard.log.last;
    assert_eq!(shard.publish2(from, 9, to, "once"), Incoming::Duplicate { ticket: Some(ticket) });
    shard.sync();
    assert_eq!(shard.publish2(from, 9, to, "once"), Incoming::Duplicate { ticket: None });
    shard.crash(0);
    let from = shard.connect("from", 100);
    let to = shard.connect("to", 100);
    assert_eq!(shard.publish2(from, 9, to, "once"), Incoming::Duplicate { ticket: None });
    assert_eq!(shard.sent_texts(to), ["once"]);
    let (known, ticket) = shard.sessions.pubrel(&mut shard.log, from, 9).unwrap();
    assert_eq!((known, ticket), (true, Some(shard.log.last)));
    // PUBCOMP for a repeated PUBREL does not overtake the first.
    assert_eq!(shard.sessions.pubrel(&mut shard.log, from, 9), Ok((false, ticket)));
    shard.sync();
    assert_eq!(shard.sessions.pubrel(&mut shard.log, from, 9), Ok((false, None)));
    shard.crash(0);
    let from = shard.connect("from", 100);
    assert_eq!(shard.publish2(from, 9, to, "next"), Incoming::New);
}

#[test]
fn a_publication_lost_with_the_tail_of_the_log_is_new_again() {
    let mut shard = Shard::new();
    let from = shard.connect("from", 100);
    let to = shard.connect("to", 100);
    shard.publish2(from, 1, to, "once");
    shard.crash(0);
    let from = shard.connect("from", 100);
    let to = shard.connect("to", 100);
    assert_eq!(shard.publish2(from, 1, to, "once"), Incoming::New);
    shard.sync();
    assert_eq!(shard.sent_texts(to), ["once"]);
}

#[test]
fn unreleased_messages_of_a_client_are_bounded() {
    let mut shard = Shard::with(Limits { incoming_qos2_max: 2, ..limits() }, 1 << 20);
    let key = shard.connect("c", 0);
    assert_eq!(shard.publish2(key, 1, key, "x"), Incoming::New);
    assert_eq!(shard.publish2(key, 2, key, "x"), Incoming::New);
    assert_eq!(shard.publish2(key, 3, key, "x"), Incoming::TooMany);
    assert_eq!(shard.sessions.pubrel(&mut shard.log, key, 1), Ok((true, None)));
    assert_eq!(shard.publish2(key, 3, key, "x"), Incoming::New);
}

#[test]
fn forwards_go_out_in_order_when_durable_and_again_after_a_crash_until_confirmed() {
    let mut shard = Shard::new();
    for text in ["a", "b", "c"] {
        let mut transaction = shard.sessions.begin(&tenant());
        let frame = Bytes::copy_from_slice(text.as_bytes());
        shard.sessions.forward(&mut transaction, 1, &frame);
        shard.sessions.commit(&mut shard.log, transaction).unwrap();
    }
    assert_eq!(shard.sessions.next_forward(1), None);
    shard.sync();
    let all = |shard: &mut Shard| -> Vec<u64> {
        std::iter::from_fn(|| shard.sessions.next_forward(1).map(|(number, _)| number)).collect()
    };
    assert_eq!(all(&mut shard), [1, 2, 3]);
    assert_eq!(all(&mut shard), []);
    shard.sessions.forwarded(&mut shard.log, 1, 2);
    shard.sync();
    shard.crash(0);
    assert_eq!(all(&mut shard), [3]);
    shard.sessions.forwarded(&mut shard.log, 1, 3);
    shard.sync();
    shard.crash(0);
    assert_eq!(all(&mut shard), []);
    let mut transaction = shard.sessions.begin(&tenant());
    let number = shard.sessions.forward(&mut transaction, 1, &Bytes::from_static(b"d"));
    assert_eq!(number, 4);
    drop(transaction);
}

#[test]
fn forward_numbers_go_on_after_every_segment_that_told_them_was_dropped() {
    let mut shard = Shard::with(limits(), 64);
    let mut transaction = shard.sessions.begin(&tenant());
    shard.sessions.forward(&mut transaction, 1, &Bytes::from_static(b"a"));
    shard.sessions.note_from(&mut transaction, FROM, 40);
    shard.sessions.commit(&mut shard.log, transaction).unwrap();
    shard.sync();
    shard.sessions.forwarded(&mut shard.log, 1, 1);
    for _ in 0..20 {
        let key = shard.connect("c", 100);
        shard.leave(key, false);
        if let Some(segment) = shard.sessions.compact(&mut shard.log, 1 << 20) {
            shard.log.drop_below(segment);
        }
    }
    assert!(shard.log.oldest > 3);
    shard.crash(0);
    let mut transaction = shard.sessions.begin(&tenant());
    assert_eq!(shard.sessions.forward(&mut transaction, 1, &Bytes::from_static(b"b")), 2);
    drop(transaction);
    assert!(!shard.sessions.is_new_from(FROM, 40));
    assert!(shard.sessions.is_new_from(FROM, 41));
}

#[test]
fn a_forward_is_taken_once_and_a_sender_with_a_new_log_counts_from_the_start() {
    let mut shard = Shard::new();
    assert!(shard.sessions.is_new_from(FROM, 1));
    let mut transaction = shard.sessions.begin(&tenant());
    shard.sessions.note_from(&mut transaction, FROM, 2);
    shard.sessions.commit(&mut shard.log, transaction).unwrap();
    shard.sync();
    shard.crash(0);
    assert!(!shard.sessions.is_new_from(FROM, 2));
    assert!(shard.sessions.is_new_from(FROM, 3));
    let wiped = Origin { epoch: 12, ..FROM };
    assert!(shard.sessions.is_new_from(wiped, 1));
    let mut transaction = shard.sessions.begin(&tenant());
    shard.sessions.note_from(&mut transaction, wiped, 1);
    shard.sessions.commit(&mut shard.log, transaction).unwrap();
    assert!(!shard.sessions.is_new_from(wiped, 1));
    assert!(shard.sessions.is_new_from(wiped, 2));
}

#[test]
fn retained_messages_survive_and_the_newest_version_stays() {
    let mut shard = Shard::new();
    let retain = |shard: &mut Shard, topic: &str, text: Option<&'static str>, version: u64| {
        let mut transaction = shard.sessions.begin(&tenant());
        let frame = text.map(|text| Bytes::from_static(text.as_bytes()));
        let expires_at_ms = (topic == "soon").then_some(shard.now_ms + 10);
        shard.sessions.retain(&mut transaction, topic, frame.as_ref(), version, expires_at_ms);
        shard.sessions.commit(&mut shard.log, transaction).unwrap();
    };
    retain(&mut shard, "a", Some("old"), 1);
    retain(&mut shard, "a", Some("new"), 3);
    retain(&mut shard, "a", Some("late"), 2);
    retain(&mut shard, "a", None, 2);
    retain(&mut shard, "b", Some("gone"), 4);
    retain(&mut shard, "b", None, 5);
    retain(&mut shard, "soon", Some("expires"), 6);
    assert_eq!(shard.sessions.metrics().retained_messages, 2);
    shard.sync();
    shard.now_ms += 10;
    shard.crash(0);
    let kept: Vec<_> = shard
        .sessions
        .retained()
        .map(|r| (r.topic.to_owned(), r.frame.clone(), r.version))
        .collect();
    assert_eq!(kept, [("a".to_owned(), Bytes::from_static(b"new"), 3)]);
    assert_eq!(shard.sessions.metrics().retained_bytes, 3);
    // What comes late from elsewhere is compared with this.
    let ended: Vec<_> = shard.sessions.take_ended_topics().collect();
    assert_eq!(ended, [(tenant(), "b".into(), 5)]);
    assert_eq!(shard.sessions.take_ended_topics().count(), 0);
}
