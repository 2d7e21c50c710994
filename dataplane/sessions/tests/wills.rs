//! Wills are published once, when they should be, also over crashes.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed expectation is a failed test")]

mod harness;

use std::time::Duration;

use fulcrum_sessions::*;
use harness::*;

const MINUTE: Duration = Duration::from_secs(60);

fn published(shard: &mut Shard, will: &Will) {
    let mut transaction = shard.sessions.begin(&will.tenant);
    shard.sessions.published(&mut transaction, will);
    shard.sessions.commit(&mut shard.log, transaction).unwrap();
    shard.sync();
}

fn wills(due: &[Due]) -> Vec<String> {
    let wills = due.iter().filter_map(|due| match due {
        Due::Will(will) => Some(will),
        Due::Ended(ended) => ended.will.as_ref(),
    });
    wills.map(|will| String::from_utf8(will.frame.to_vec()).unwrap()).collect()
}

#[test]
fn a_normal_disconnect_drops_the_will_for_good() {
    let mut shard = Shard::new();
    for expiry_s in [0, 100] {
        let key = shard.try_attach("c", true, expiry_s, Some(will("w", 0))).unwrap().key;
        let left = shard.leave(key, false);
        assert!(left.will_due.is_none() && left.ended.is_none_or(|ended| ended.will.is_none()));
        shard.sync();
        shard.crash(0);
        shard.pass(MINUTE);
        assert_eq!(wills(&shard.due()), [""; 0]);
        assert_eq!(shard.sessions.metrics().wills, 0);
    }
}

#[test]
fn a_lost_connection_publishes_the_will_at_once_or_after_its_delay() {
    let mut shard = Shard::new();
    let key = shard.try_attach("c", false, 100, Some(will("now", 0))).unwrap().key;
    assert_eq!(&shard.leave(key, true).will_due.unwrap().frame[..], b"now");
    let key = shard.try_attach("d", false, 100, Some(will("later", 60))).unwrap().key;
    assert!(shard.leave(key, true).will_due.is_none());
    shard.pass(MINUTE - Duration::from_secs(1));
    assert_eq!(wills(&shard.due()), [""; 0]);
    shard.pass(Duration::from_secs(1));
    assert_eq!(wills(&shard.due()), ["later"]);
    assert!(shard.sessions.find("plant", "d").is_some());
}

#[test]
fn the_end_of_the_session_does_not_wait_for_the_wills_delay() {
    let mut shard = Shard::new();
    let key = shard.try_attach("c", false, 60, Some(will("w", 600))).unwrap().key;
    shard.leave(key, true);
    shard.pass(MINUTE);
    assert_eq!(wills(&shard.due()), ["w"]);
    let key = shard.try_attach("c", false, 0, Some(will("v", 600))).unwrap().key;
    let ended = shard.leave(key, true).ended.unwrap();
    assert_eq!(&ended.will.unwrap().frame[..], b"v");
}

#[test]
fn coming_back_before_the_delay_is_over_drops_the_will() {
    let mut shard = Shard::new();
    let key = shard.try_attach("c", false, 600, Some(will("w", 60))).unwrap().key;
    shard.leave(key, true);
    assert!(shard.attach("c", false, 600).will_due.is_none());
    shard.sync();
    shard.pass(2 * MINUTE);
    assert_eq!(wills(&shard.due()), [""; 0]);
    shard.crash(0);
    shard.pass(2 * MINUTE);
    assert_eq!(wills(&shard.due()), [""; 0]);
}

#[test]
fn a_crash_makes_the_wills_of_connected_clients_due_after_their_delay() {
    let mut shard = Shard::new();
    shard.try_attach("fleeting", true, 0, Some(will("fleeting", 60))).unwrap();
    shard.try_attach("durable", false, 600, Some(will("durable", 60))).unwrap();
    shard.sync();
    shard.crash(0);
    assert!(shard.sessions.next_timeout().unwrap() <= shard.now);
    // Its session did not outlive the crash, so its delay does not count.
    assert_eq!(wills(&shard.due()), ["fleeting"]);
    shard.pass(MINUTE);
    assert_eq!(wills(&shard.due()), ["durable"]);
}

#[test]
fn a_delay_that_began_before_the_crash_goes_on_after_it() {
    let mut shard = Shard::new();
    let key = shard.try_attach("c", false, 600, Some(will("w", 60))).unwrap().key;
    shard.leave(key, true);
    shard.sync();
    shard.pass(MINUTE / 2);
    shard.crash(0);
    assert_eq!(wills(&shard.due()), [""; 0]);
    shard.pass(MINUTE / 2);
    assert_eq!(wills(&shard.due()), ["w"]);
}

#[test]
fn a_will_is_due_again_after_a_crash_until_its_publication_is_durable() {
    let mut shard = Shard::new();
    let key = shard.try_attach("c", true, 0, Some(will("w", 0))).unwrap().key;
    let due = shard.leave(key, true).ended.unwrap().will.unwrap();
    shard.sync();
    shard.crash(0);
    assert_eq!(wills(&shard.due()), ["w"]);
    // Recorded, but lost with the tail of the log.
    shard.crash(0);
    let [Due::Will(again)] = &shard.due()[..] else { panic!("it is due again") };
    assert_eq!(again.frame, due.frame);
    published(&mut shard, again);
    assert_eq!(shard.sessions.metrics().wills, 0);
    shard.crash(0);
    assert_eq!(wills(&shard.due()), [""; 0]);
}

#[test]
fn a_will_survives_the_drop_of_its_segment_until_it_is_published() {
    let mut shard = Shard::with(limits(), 256);
    shard.try_attach("c", true, 0, Some(will("w", 0))).unwrap();
    for _ in 0..50 {
        let key = shard.connect("other", 100);
        shard.leave(key, false);
        if let Some(segment) = shard.sessions.compact(&mut shard.log, 1 << 20) {
            shard.log.drop_below(segment);
        }
    }
    assert!(shard.log.oldest > 2);
    shard.crash(0);
    assert_eq!(wills(&shard.due()), ["w"]);
}
