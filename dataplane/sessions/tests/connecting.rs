//! Sessions come, are taken over, outlive their connection, end.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed expectation is a failed test")]

mod harness;

use std::time::Duration;

use fulcrum_sessions::*;
use harness::*;

const HOUR: Duration = Duration::from_secs(3600);

#[test]
fn a_durable_session_is_present_after_a_crash_and_a_non_durable_one_is_not() {
    let mut shard = Shard::new();
    let durable = shard.connect("durable", 100);
    shard.connect("fleeting", 0);
    shard
        .sessions
        .subscribe(&mut shard.log, durable, "a/#", Subscription { qos: 1, ..Default::default() })
        .unwrap();
    shard.sync();
    shard.crash(0);
    assert!(shard.sessions.find("plant", "fleeting").is_none());
    let again = shard.attach("durable", false, 100);
    assert!(again.present);
    let filters: Vec<_> =
        shard.sessions.subscriptions(again.key).map(|(f, s)| (f, s.qos)).collect();
    assert_eq!(filters, [("a/#", 1)]);
}

#[test]
fn a_non_durable_session_without_a_will_writes_nothing() {
    let mut shard = Shard::new();
    let attached = shard.attach("c", true, 0);
    assert_eq!(attached.ticket, None);
    let key = attached.key;
    let subscribed =
        shard.sessions.subscribe(&mut shard.log, key, "a", Subscription::default()).unwrap();
    assert_eq!(subscribed, Subscribed { existed: false, ticket: None });
    assert_eq!(shard.deliver(key, 2, "x"), None);
    let [Sent::Publish { id, .. }] = shard.sent(key)[..] else { panic!("one message") };
    let rec = shard.sessions.pubrec(&mut shard.log, key, id, false).unwrap();
    assert_eq!(rec, (Ack::Known, None));
    assert_eq!(shard.sessions.pubcomp(&mut shard.log, key, id), Ack::Known);
    assert!(shard.leave(key, false).ended.is_some());
    assert!(shard.log.records.is_empty());
}

#[test]
fn connack_and_suback_of_a_durable_session_wait_for_their_records() {
    let mut shard = Shard::new();
    let attached = shard.attach("c", false, 100);
    assert_eq!(attached.ticket, Some(shard.log.last));
    let subscribed = shard
        .sessions
        .subscribe(&mut shard.log, attached.key, "a", Subscription::default())
        .unwrap();
    assert_eq!(subscribed.ticket, Some(shard.log.last));
    // The same again writes nothing, but does not overtake the first either.
    let again = shard
        .sessions
        .subscribe(&mut shard.log, attached.key, "a", Subscription::default())
        .unwrap();
    assert_eq!(again, Subscribed { existed: true, ticket: subscribed.ticket });
    let removed = shard.sessions.unsubscribe(&mut shard.log, attached.key, "a").unwrap();
    assert_eq!(removed, (true, Some(shard.log.last)));
    let removed = shard.sessions.unsubscribe(&mut shard.log, attached.key, "a").unwrap();
    assert_eq!(removed, (false, Some(shard.log.last)));
    shard.sync();
    let removed = shard.sessions.unsubscribe(&mut shard.log, attached.key, "a").unwrap();
    assert_eq!(removed, (false, None));
}

#[test]
fn nothing_goes_out_before_connack() {
    let mut shard = Shard::new();
    let key = shard.connect("c", 100);
    shard.leave(key, false);
    shard.deliver(key, 1, "x");
    shard.sync();
    let attached = shard.attach("c", false, 100);
    assert_eq!(shard.ready(), []);
    assert_eq!(shard.sent(attached.key), []);
    shard.sync();
    assert_eq!(shard.ready(), [key]);
    assert_eq!(shard.sent_texts(key), ["x"]);
}

#[test]
fn a_second_connection_takes_over_and_the_first_ones_end_changes_nothing() {
    let mut shard = Shard::new();
    let first = shard.attach("c", false, 100);
    let second = shard.attach("c", false, 100);
    assert!(second.present);
    assert_eq!(second.key, first.key);
    assert_eq!(second.taken_over, Some(1));
    let how = Leave { keep_will: true, expiry_s: None };
    let late = shard.sessions.detach(&mut shard.log, first.key, 1, how, shard.now, shard.now_ms);
    assert!(late.ended.is_none());
    assert_eq!(shard.sessions.link(second.key), Some(2));
}

#[test]
fn clean_start_wipes_the_old_session_and_names_its_filters() {
    let mut shard = Shard::new();
    let key = shard.connect("c", 100);
    shard.sessions.subscribe(&mut shard.log, key, "a/b", Subscription::default()).unwrap();
    shard.deliver(key, 1, "old");
    let fresh = shard.attach("c", true, 100);
    assert!(!fresh.present);
    let ended = fresh.ended.unwrap();
    assert_eq!((ended.key, &*ended.filters[0]), (key, "a/b"));
    assert_eq!(shard.sessions.link(key), None);
    shard.sync();
    assert_eq!(shard.sent(fresh.key), []);
    shard.crash(0);
    assert!(shard.attach("c", false, 100).present);
    assert_eq!(shard.sessions.metrics().queued_messages, 0);
    assert_eq!(shard.sessions.metrics().stored_messages, 0);
}

#[test]
fn taking_over_a_session_that_ends_with_its_connection_ends_it_and_publishes_its_will() {
    let mut shard = Shard::new();
    shard.try_attach("c", true, 0, Some(will("gone", 30))).unwrap();
    let second = shard.attach("c", false, 0);
    assert!(!second.present);
    assert_eq!(second.taken_over, Some(1));
    assert_eq!(&second.ended.unwrap().will.unwrap().frame[..], b"gone");
}

#[test]
fn taking_over_a_session_that_goes_on_publishes_a_will_without_delay_and_drops_one_with() {
    let mut shard = Shard::new();
    shard.try_attach("c", false, 100, Some(will("now", 0))).unwrap();
    let second = shard.try_attach("c", false, 100, Some(will("later", 30))).unwrap();
    assert_eq!(&second.will_due.unwrap().frame[..], b"now");
    let third = shard.attach("c", false, 100);
    assert!(third.will_due.is_none() && third.ended.is_none());
    shard.pass(HOUR);
    assert!(shard.due().is_empty());
}

#[test]
fn a_client_identifier_belongs_to_the_principal_that_made_the_session() {
    let mut shard = Shard::new();
    shard.connect("c", 100);
    let who = Attach {
        tenant: &tenant(),
        client_id: "c",
        principal: &"somebody-else".into(),
        clean_start: true,
        expiry_s: 0,
        receive_max: 0,
        link: 99,
        will: None,
    };
    let refused = shard.sessions.attach(&mut shard.log, who, shard.now, shard.now_ms);
    assert_eq!(refused.unwrap_err(), AttachRefused::OtherPrincipal);
    assert_eq!(shard.sessions.forget_principal(&mut shard.log, "plant", "device-1").len(), 1);
    assert!(shard.sessions.find("plant", "c").is_none());
}

#[test]
fn the_tenants_number_of_sessions_is_bounded_and_an_existing_one_can_be_continued() {
    let mut shard = Shard::with(Limits { tenant_sessions_max: 2, ..limits() }, 1 << 20);
    shard.connect("a", 100);
    let b = shard.connect("b", 0);
    assert_eq!(shard.try_attach("c", true, 0, None).unwrap_err(), AttachRefused::TooManySessions);
    assert!(shard.attach("a", false, 100).present);
    shard.leave(b, false);
    shard.attach("c", true, 0);
}

#[test]
fn a_session_expires_after_its_time_and_not_by_a_step_of_the_wall_clock() {
    let mut shard = Shard::new();
    let key = shard.connect("c", 3600);
    shard.sessions.subscribe(&mut shard.log, key, "a", Subscription::default()).unwrap();
    shard.leave(key, false);
    shard.now_ms += 100 * 3_600_000;
    assert!(shard.due().is_empty());
    shard.now += HOUR - Duration::from_secs(1);
    assert!(shard.due().is_empty());
    assert!(shard.sessions.next_timeout().unwrap() > shard.now);
    shard.now += Duration::from_secs(1);
    let [Due::Ended(ended)] = &shard.due()[..] else { panic!("it ends") };
    assert_eq!(&*ended.filters[0], "a");
    shard.sync();
    shard.crash(0);
    assert!(shard.sessions.find("plant", "c").is_none());
}

#[test]
fn an_expired_session_that_was_not_swept_yet_is_not_continued() {
    let mut shard = Shard::new();
    let key = shard.connect("c", 10);
    shard.leave(key, false);
    shard.pass(HOUR);
    let again = shard.attach("c", false, 10);
    assert!(!again.present);
    assert!(again.ended.is_some());
}

#[test]
fn expiry_over_a_crash_counts_from_the_recorded_disconnect_or_from_the_crash() {
    let mut shard = Shard::new();
    let away = shard.connect("away", 3600);
    shard.connect("there", 3600);
    shard.leave(away, false);
    shard.sync();
    shard.pass(HOUR / 2);
    shard.crash(0);
    shard.pass(HOUR / 2);
    let due = shard.due();
    let [Due::Ended(ended)] = &due[..] else { panic!("one ends: {due:?}") };
    assert_eq!(&*ended.client_id, "away");
    shard.sync();
    // A second crash does not begin the other one's time again.
    shard.crash(0);
    shard.pass(HOUR / 2);
    assert_eq!(shard.due().len(), 1);
}

#[test]
fn the_expiry_of_the_disconnect_replaces_that_of_the_connect() {
    let mut shard = Shard::new();
    let key = shard.connect("c", 3600);
    let how = Leave { keep_will: false, expiry_s: Some(0) };
    let link = shard.sessions.link(key).unwrap();
    let left = shard.sessions.detach(&mut shard.log, key, link, how, shard.now, shard.now_ms);
    assert!(left.ended.is_some());
    // From 0 it cannot be raised [MQTT5-3.14.2-2].
    let key = shard.connect("d", 0);
    let how = Leave { keep_will: false, expiry_s: Some(100) };
    let link = shard.sessions.link(key).unwrap();
    let left = shard.sessions.detach(&mut shard.log, key, link, how, shard.now, shard.now_ms);
    assert!(left.ended.is_some());
}

#[test]
fn a_session_continued_with_expiry_0_ends_with_its_connection_and_is_not_in_the_log() {
    let mut shard = Shard::new();
    let key = shard.connect("c", 100);
    shard.deliver(key, 1, "kept");
    shard.leave(key, false);
    let again = shard.attach("c", false, 0);
    assert!(again.present);
    shard.sync();
    assert_eq!(shard.sent_texts(key), ["kept"]);
    shard.crash(0);
    assert!(shard.sessions.find("plant", "c").is_none());
    assert_eq!(shard.sessions.metrics().stored_messages, 0);
}

#[test]
fn a_refused_attach_changes_nothing() {
    let mut shard = Shard::new();
    let key = shard.connect("c", 100);
    shard.deliver(key, 1, "x");
    shard.log.refuses = Some(Room::Full);
    let refused = shard.try_attach("c", true, 100, None).unwrap_err();
    assert_eq!(refused, AttachRefused::Log(Room::Full));
    assert_eq!(shard.sessions.link(key), Some(1));
    let refused = shard.try_attach("new", true, 100, None).unwrap_err();
    assert_eq!(refused, AttachRefused::Log(Room::Full));
    shard.log.refuses = None;
    shard.sync();
    assert_eq!(shard.sent_texts(key), ["x"]);
}

#[test]
fn a_stale_key_finds_nobody() {
    let mut shard = Shard::new();
    let old = shard.connect("c", 0);
    shard.leave(old, false);
    let new = shard.connect("c", 0);
    assert_ne!(old, new);
    let (delivered, ticket) = shard.deliver_message(&[old], 1, &message("x"));
    assert_eq!((delivered, ticket), (vec![Delivered::Gone], Ok(None)));
    assert_eq!(shard.sessions.puback(&mut shard.log, old, 1), Ack::Unknown);
    assert_eq!(shard.sent(new), []);
}

#[test]
fn what_the_log_did_not_take_of_an_end_is_told_later() {
    let mut shard = Shard::new();
    let key = shard.connect("c", 100);
    let other = shard.connect("d", 100);
    shard.log.refuses = Some(Room::Later);
    assert!(shard.sessions.end(&mut shard.log, key).is_some());
    shard.leave(other, false);
    shard.log.refuses = None;
    assert!(shard.sessions.next_timeout().is_some());
    shard.pass(Duration::from_secs(60));
    shard.due();
    shard.sync();
    shard.pass(Duration::from_secs(40));
    shard.crash(0);
    assert!(shard.sessions.find("plant", "c").is_none());
    // The other one's time counts from when its client left.
    assert!(matches!(&shard.due()[..], [Due::Ended(ended)] if &*ended.client_id == "d"));
}

#[test]
fn a_deleted_tenant_leaves_nothing() {
    let mut shard = Shard::new();
    let key = shard.connect("c", 100);
    shard.deliver(key, 1, "x");
    let mut transaction = shard.sessions.begin(&tenant());
    shard.sessions.retain(&mut transaction, "t", Some(&bytes::Bytes::from_static(b"r")), 1, None);
    shard.sessions.commit(&mut shard.log, transaction).unwrap();
    assert_eq!(shard.sessions.forget_tenant(&mut shard.log, "plant").len(), 1);
    shard.sync();
    shard.crash(0);
    let metrics = shard.sessions.metrics();
    assert_eq!(metrics, Metrics::default());
}
