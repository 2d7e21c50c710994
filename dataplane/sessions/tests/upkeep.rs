//! The log stays short, and what is copied forward replays to the same state.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed expectation is a failed test")]

mod harness;

use bytes::Bytes;
use fulcrum_sessions::*;
use harness::*;

const SEGMENT_BYTES: usize = 4096;

/// A shard with something of every kind that lives long.
fn settled() -> (Shard, SessionKey) {
    let mut shard = Shard::with(limits(), SEGMENT_BYTES);
    let key = shard.connect("keeper", 3600);
    let other = shard.connect("other", 3600);
    for filter in ["a", "b/#", "+/c"] {
        let options = Subscription { qos: 2, no_local: true, ..Default::default() };
        shard.sessions.subscribe(&mut shard.log, key, filter, options).unwrap();
    }
    shard.publish2(other, 3, key, "released");
    shard.publish2(other, 4, key, "under way");
    shard.deliver_message(&[key, other], 1, &message("shared")).1.unwrap();
    shard.sync();
    shard.sent(key);
    shard.sessions.pubrec(&mut shard.log, key, 1, false).unwrap();
    let mut transaction = shard.sessions.begin(&tenant());
    let frame = Bytes::from_static(b"frame");
    shard.sessions.forward(&mut transaction, 1, &frame);
    shard.sessions.forward(&mut transaction, 2, &frame);
    shard.sessions.retain(&mut transaction, "topic", Some(&frame), 1, None);
    shard.sessions.note_from(&mut transaction, Origin { shard: 9, epoch: 9 }, 9);
    shard.sessions.commit(&mut shard.log, transaction).unwrap();
    shard.leave(key, true);
    shard.leave(other, true);
    shard.try_attach("testator", false, 3600, Some(will("w", 60))).unwrap();
    shard.sync();
    (shard, key)
}

fn assert_settled(shard: &mut Shard) {
    assert!(!shard.sessions.is_new_from(Origin { shard: 9, epoch: 9 }, 9));
    let metrics = shard.sessions.metrics();
    assert_eq!((metrics.wills, metrics.stored_messages, metrics.lost_bodies), (1, 2, 0));
    let key = shard.connect("keeper", 3600);
    let sent: Vec<_> = shard.sent(key);
    assert_eq!(sent[0], Sent::Rel(1));
    assert!(
        matches!(&sent[1], Sent::Publish { id: 2, dup: true, qos: 2, text } if text == "under way")
    );
    assert!(
        matches!(&sent[2], Sent::Publish { id: 3, dup: true, qos: 1, text } if text == "shared")
    );
    let other = shard.connect("other", 3600);
    assert_eq!(shard.sent_texts(other), ["shared"]);
}

fn churn(shard: &mut Shard, rounds: usize) {
    let busy = shard.connect("busy", 3600);
    for _ in 0..rounds {
        shard.deliver(busy, 1, &"x".repeat(100));
        shard.sync();
        let [Sent::Publish { id, .. }] = shard.sent(busy)[..] else { panic!("one goes out") };
        shard.sessions.puback(&mut shard.log, busy, id);
    }
    shard.leave(busy, false);
    shard.sync();
}

#[test]
fn the_log_stays_bounded_while_state_lives_and_replays_to_the_same() {
    let (mut shard, _) = settled();
    let mut longest = 0;
    for _ in 0..60 {
        churn(&mut shard, 20);
        if let Some(segment) = shard.sessions.compact(&mut shard.log, SEGMENT_BYTES) {
            shard.log.drop_below(segment);
        }
        shard.sync();
        longest = longest.max(shard.log.bytes());
    }
    assert!(longest < 6 * SEGMENT_BYTES, "{longest} bytes");
    assert!(shard.log.oldest > 20);
    let before = described(&shard.sessions);
    shard.crash(0);
    assert_eq!(described(&shard.sessions), before);
    assert_settled(&mut shard);
}

#[test]
fn segments_without_anything_living_go_without_copying() {
    let mut shard = Shard::with(limits(), SEGMENT_BYTES);
    churn(&mut shard, 200);
    let busy = shard.sessions.find("plant", "busy").unwrap();
    shard.sessions.end(&mut shard.log, busy);
    assert!(shard.sessions.compact(&mut shard.log, 0).unwrap_or(0) <= shard.log.segment);
    shard.sync();
    assert_eq!(shard.sessions.compact(&mut shard.log, 0), Some(shard.log.segment));
    assert_eq!(shard.sessions.metrics().copied_records, 0);
}

#[test]
fn a_segment_stays_until_the_copies_of_what_it_held_are_durable() {
    let (mut shard, _) = settled();
    churn(&mut shard, 100);
    let oldest = shard.log.oldest;
    for _ in 0..10 {
        assert_eq!(shard.sessions.compact(&mut shard.log, 1 << 20), None);
    }
    assert!(shard.sessions.metrics().copied_records > 0);
    shard.sync();
    assert!(shard.sessions.compact(&mut shard.log, 0).unwrap() > oldest);
}

#[test]
fn a_segment_stays_until_what_made_it_needless_is_durable() {
    let mut shard = Shard::with(limits(), 64);
    let key = shard.connect("c", 3600);
    shard.deliver(key, 2, &"x".repeat(64));
    shard.sync();
    shard.sent(key);
    shard.sessions.pubrec(&mut shard.log, key, 1, false).unwrap();
    // The session's image moves on and is durable, the end of the body is not.
    let body_segment = shard.log.records.iter().find(|record| record.3.len() > 64).unwrap().1;
    shard.sessions.compact(&mut shard.log, 1);
    let needed = shard.sessions.compact(&mut shard.log, 0);
    assert!(needed.is_none_or(|segment| segment <= body_segment));
    shard.sync();
    assert!(shard.sessions.compact(&mut shard.log, 0).unwrap() > body_segment);
}

#[test]
fn a_crash_at_any_record_of_a_compaction_replays_to_the_same_state() {
    let (mut shard, _) = settled();
    churn(&mut shard, 100);
    for _ in 0..4 {
        shard.sessions.compact(&mut shard.log, 1 << 20);
    }
    let copied = shard.log.records.iter().filter(|record| record.0 > shard.log.durable).count();
    assert!(copied > 8);
    let before = described(&shard.sessions);
    let (log, now, now_ms) = (shard.log.clone(), shard.now, shard.now_ms);
    for kept in 0..=copied {
        let mut shard = Shard::with(limits(), SEGMENT_BYTES);
        (shard.log, shard.now, shard.now_ms, shard.links) = (log.clone(), now, now_ms, 1000);
        shard.crash(kept);
        assert_eq!(described(&shard.sessions), before, "{kept} of {copied} copies");
        assert_settled(&mut shard);
    }
}

#[test]
fn replaying_a_copy_over_its_original_changes_nothing() {
    let (mut shard, _) = settled();
    churn(&mut shard, 50);
    for _ in 0..4 {
        shard.sessions.compact(&mut shard.log, 1 << 20);
    }
    shard.sync();
    let before = described(&shard.sessions);
    shard.crash(0);
    assert_eq!(described(&shard.sessions), before);
    assert_settled(&mut shard);
}

#[test]
fn a_large_session_is_copied_in_parts_and_half_a_copy_counts_for_nothing() {
    let mut shard = Shard::with(limits(), 1 << 20);
    let key = shard.connect("large", 3600);
    for n in 0..1000 {
        let filter = format!("{n}/{}", "x".repeat(200));
        shard.sessions.subscribe(&mut shard.log, key, &filter, Subscription::default()).unwrap();
    }
    shard.sync();
    shard.log.segment += 1;
    let before = described(&shard.sessions);
    let whole = shard.log.records.len();
    shard.sessions.compact(&mut shard.log, 1);
    let parts = shard.log.records.len() - whole;
    assert!(parts > 2);
    assert!(shard.log.records[whole..].iter().all(|record| record.3.len() < 70_000));
    for kept in 0..=parts {
        let log = shard.log.after_crash(kept);
        let sessions = replayed(&log, &shard.limits, shard.now, shard.now_ms);
        assert_eq!(described(&sessions), before, "{kept} of {parts} parts");
    }
    // Only the parts, after their segment is the oldest.
    shard.sync();
    shard.log.drop_below(2);
    shard.crash(0);
    assert_eq!(described(&shard.sessions), before);
}

#[test]
fn a_record_of_a_newer_version_is_an_error_that_names_it_and_changes_nothing() {
    let mut shard = Shard::new();
    shard.connect("c", 100);
    let record = shard.log.records[0].3.clone();
    let mut recovery = Recovery::new(limits(), 3, EPOCH);
    let mut newer = record.clone();
    newer[0] = 2;
    let error = recovery.replay(1, &newer).unwrap_err();
    assert_eq!(error, RecordError::NewerVersion { found: 2, known: 1 });
    let mut unknown = record.clone();
    unknown.push(200);
    let error = recovery.replay(1, &unknown).unwrap_err();
    assert_eq!(error, RecordError::UnknownEntry { version: 1, kind: 200 });
    for length in 0..record.len() {
        let cut = recovery.replay(1, &record[..length]);
        assert!(cut.is_err() || length == 1 + 1 + "plant".len(), "{length}");
    }
    let sessions = recovery.finish(shard.now, shard.now_ms);
    assert_eq!(sessions.keys().count(), 0);
}

proptest::proptest! {
    #[test]
    fn no_bytes_make_replay_panic(records in proptest::collection::vec(
        proptest::collection::vec(0u8..26, 0..60), 0..20)) {
        let mut recovery = Recovery::new(limits(), 3, EPOCH);
        for mut record in records {
            let mut whole = vec![1, 1, b't'];
            whole.append(&mut record);
            let _ = recovery.replay(1, &whole);
        }
        let mut shard = Shard::new();
        shard.sessions = recovery.finish(shard.now, shard.now_ms);
        for key in shard.sessions.keys().collect::<Vec<_>>() {
            let _ = shard.sessions.end(&mut shard.log, key);
        }
        proptest::prop_assert_eq!(shard.sessions.keys().count(), 0);
    }
}

#[test]
fn retained_messages_that_have_expired_are_kept_nowhere() {
    let mut shard = Shard::with(limits(), SEGMENT_BYTES);
    shard.connect("c", 3600);
    let frame = Bytes::from_static(&[7; 100]);
    let before = shard.sessions.metrics().live_bytes;
    let at_ms = shard.now_ms + 5000;
    let mut transaction = shard.sessions.begin(&tenant());
    for n in 0..200 {
        let topic = format!("t/{n}");
        shard.sessions.retain(&mut transaction, &topic, Some(&frame), n + 1, Some(at_ms));
    }
    shard.sessions.retain(&mut transaction, "stays", Some(&frame), 1, None);
    shard.sessions.commit(&mut shard.log, transaction).unwrap();
    shard.sync();
    let timeout = shard.sessions.next_timeout().unwrap();
    assert_eq!(timeout, shard.now + std::time::Duration::from_secs(5));
    let mut dues = Vec::new();
    shard.sessions.timeout(&mut shard.log, timeout, at_ms, &mut dues);
    let metrics = shard.sessions.metrics();
    assert_eq!((metrics.retained_messages, metrics.retained_bytes), (1, 100));
    assert_eq!(metrics.live_bytes, before + 100);
    assert_eq!(shard.sessions.next_timeout(), None);
    shard.now_ms = at_ms;
    let state = described(&shard.sessions);
    shard.crash(0);
    assert_eq!(described(&shard.sessions), state);
}

#[test]
fn what_sessions_take_in_the_log_counts_as_needed_until_they_end() {
    let mut shard = Shard::with(limits(), SEGMENT_BYTES);
    let key = shard.connect("c", 3600);
    let alone = shard.sessions.metrics().live_bytes;
    assert!(alone > 0, "else a log of sessions alone is copied again and again");
    let options = Subscription::default();
    shard.sessions.subscribe(&mut shard.log, key, "a/long/filter", options).unwrap();
    shard.deliver(key, 1, "message");
    shard.sync();
    let whole = shard.sessions.metrics().live_bytes;
    assert!(whole > alone + "a/long/filter".len() as u64);
    shard.crash(0);
    assert_eq!(shard.sessions.metrics().live_bytes, whole);
    let key = shard.connect("c", 3600);
    shard.sessions.unsubscribe(&mut shard.log, key, "a/long/filter").unwrap();
    for sent in shard.sent(key) {
        let Sent::Publish { id, .. } = sent else { panic!("{sent:?}") };
        shard.sessions.puback(&mut shard.log, key, id);
    }
    assert_eq!(shard.sessions.metrics().live_bytes, alone);
    shard.sessions.end(&mut shard.log, key);
    assert_eq!(shard.sessions.metrics().live_bytes, 0);
}
