//! Messages to clients: order, identifiers, windows, acknowledgements, redelivery.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed expectation is a failed test")]

mod harness;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use fulcrum_sessions::*;
use harness::*;

fn publish(id: u16, dup: bool, qos: u8, text: &str) -> Sent {
    Sent::Publish { id, dup, qos, text: text.into() }
}

#[test]
fn a_durable_delivery_goes_out_only_when_its_record_is_durable() {
    let mut shard = Shard::new();
    let key = shard.connect("c", 100);
    let ticket = shard.deliver(key, 1, "x").unwrap();
    assert_eq!(shard.ready(), []);
    assert_eq!(shard.sent(key), []);
    shard.sessions.durable(ticket);
    assert_eq!(shard.ready(), [key]);
    assert_eq!(shard.sent(key), [publish(1, false, 1, "x")]);
}

#[test]
fn a_non_durable_delivery_goes_out_at_once_even_beside_durable_ones() {
    let mut shard = Shard::new();
    let fleeting = shard.connect("a", 0);
    let durable = shard.connect("b", 100);
    let (delivered, ticket) = shard.deliver_message(&[fleeting, durable], 1, &message("x"));
    assert_eq!(delivered, [Delivered::Taken; 2]);
    assert!(ticket.unwrap().is_some());
    assert_eq!(shard.ready(), [fleeting]);
    assert_eq!(shard.sent_texts(fleeting), ["x"]);
}

#[test]
fn a_session_is_handed_out_once_until_it_was_asked() {
    let mut shard = Shard::new();
    let key = shard.connect("c", 0);
    shard.deliver(key, 1, "x");
    shard.deliver(key, 1, "y");
    assert_eq!(shard.ready(), [key]);
    assert_eq!(shard.ready(), []);
    // The connection took nothing; later it does.
    shard.sessions.wake(key);
    assert_eq!(shard.ready(), [key]);
    assert_eq!(shard.sent_texts(key), ["x", "y"]);
    shard.sessions.wake(key);
    assert_eq!(shard.ready(), []);
}

#[test]
fn the_window_bounds_what_is_under_way_and_opens_with_each_acknowledgement() {
    let mut shard = Shard::new();
    let key = shard.connect_narrow("c", 100, 2);
    for text in ["a", "b", "c", "d"] {
        shard.deliver(key, 2, text);
    }
    shard.sync();
    assert_eq!(shard.sent_texts(key), ["a", "b"]);
    assert_eq!(shard.sessions.pubrec(&mut shard.log, key, 1, false).unwrap().0, Ack::Known);
    shard.sync();
    // Until PUBCOMP the exchange counts.
    assert_eq!(shard.sent(key), []);
    shard.ready();
    assert_eq!(shard.sessions.pubcomp(&mut shard.log, key, 1), Ack::Known);
    assert_eq!(shard.ready(), [key]);
    assert_eq!(shard.sent_texts(key), ["c"]);
    assert_eq!(shard.sessions.pubrec(&mut shard.log, key, 2, true).unwrap(), (Ack::Known, None));
    assert_eq!(shard.sent_texts(key), ["d"]);
}

#[test]
fn a_reconnect_sends_again_in_the_original_order_before_anything_new() {
    for crash in [false, true] {
        let mut shard = Shard::new();
        let key = shard.connect_narrow("c", 100, 4);
        for text in ["a", "b", "c", "d", "e"] {
            shard.deliver(key, 2, text);
        }
        shard.sync();
        assert_eq!(shard.sent(key).len(), 4);
        // The client has b, then a.
        shard.sessions.pubrec(&mut shard.log, key, 2, false).unwrap();
        shard.sessions.pubrec(&mut shard.log, key, 1, false).unwrap();
        shard.sync();
        if crash {
            shard.crash(0);
        } else {
            shard.leave(key, true);
        }
        let key = shard.sessions.find("plant", "c").unwrap();
        shard.deliver(key, 1, "f");
        let key = shard.connect_narrow("c", 100, 5);
        let expected = [
            Sent::Rel(2),
            Sent::Rel(1),
            publish(3, true, 2, "c"),
            publish(4, true, 2, "d"),
            // After a crash it is not known how far the window had come.
            publish(5, crash, 2, "e"),
        ];
        assert_eq!(shard.sent(key), expected, "crash {crash}");
        assert_eq!(shard.sessions.pubcomp(&mut shard.log, key, 2), Ack::Known);
        assert_eq!(shard.sent(key), [publish(6, false, 1, "f")]);
    }
}

#[test]
fn a_message_that_was_never_sent_goes_out_without_dup() {
    let mut shard = Shard::new();
    let key = shard.connect_narrow("c", 100, 1);
    shard.deliver(key, 1, "a");
    shard.deliver(key, 1, "b");
    shard.sync();
    assert_eq!(shard.sent(key), [publish(1, false, 1, "a")]);
    shard.leave(key, true);
    shard.sync();
    shard.crash(0);
    let key = shard.connect("c", 100);
    assert_eq!(shard.sent(key), [publish(1, true, 1, "a"), publish(2, false, 1, "b")]);
}

#[test]
fn pubrel_waits_for_its_record_and_is_asked_for_again_with_the_same_ticket() {
    let mut shard = Shard::new();
    let key = shard.connect("c", 100);
    shard.deliver(key, 2, "x");
    shard.sync();
    shard.sent(key);
    let (ack, ticket) = shard.sessions.pubrec(&mut shard.log, key, 1, false).unwrap();
    assert_eq!((ack, ticket), (Ack::Known, Some(shard.log.last)));
    assert_eq!(shard.sessions.pubrec(&mut shard.log, key, 1, false), Ok((Ack::Known, ticket)));
    // On a new connection it is not sent before either.
    shard.leave(key, true);
    shard.attach("c", false, 100);
    assert_eq!(shard.sent(key), []);
    shard.sync();
    assert_eq!(shard.sessions.pubrec(&mut shard.log, key, 1, false), Ok((Ack::Known, None)));
    assert_eq!(shard.sent(key), [Sent::Rel(1)]);
}

#[test]
fn a_pubrec_the_log_refuses_changes_nothing() {
    let mut shard = Shard::new();
    let key = shard.connect("c", 100);
    shard.deliver(key, 2, "x");
    shard.sync();
    shard.sent(key);
    shard.log.refuses = Some(Room::Later);
    let refused = shard.sessions.pubrec(&mut shard.log, key, 1, false);
    assert_eq!(refused.unwrap_err(), Room::Later);
    shard.log.refuses = None;
    let again = shard.sessions.pubrec(&mut shard.log, key, 1, false).unwrap();
    assert_eq!(again.0, Ack::Known);
}

#[test]
fn an_acknowledgement_the_log_refuses_is_in_the_sessions_next_image() {
    let mut shard = Shard::new();
    let key = shard.connect("c", 100);
    shard.deliver(key, 1, "a");
    shard.deliver(key, 1, "b");
    shard.sync();
    shard.sent(key);
    shard.log.refuses = Some(Room::Later);
    assert_eq!(shard.sessions.puback(&mut shard.log, key, 1), Ack::Known);
    shard.log.refuses = None;
    shard.due();
    shard.sync();
    shard.crash(0);
    let key = shard.connect("c", 100);
    assert_eq!(shard.sent_texts(key), ["b"]);
}

#[test]
fn acknowledgements_that_fit_nothing_are_unknown() {
    let mut shard = Shard::new();
    let key = shard.connect_narrow("c", 100, 2);
    shard.deliver(key, 1, "one");
    shard.deliver(key, 2, "two");
    shard.deliver(key, 1, "waits");
    shard.sync();
    shard.sent(key);
    let log = &mut shard.log;
    assert_eq!(shard.sessions.puback(log, key, 2), Ack::Unknown);
    assert_eq!(shard.sessions.pubrec(log, key, 1, false).unwrap().0, Ack::Unknown);
    assert_eq!(shard.sessions.puback(log, key, 3), Ack::Unknown);
    assert_eq!(shard.sessions.pubcomp(log, key, 2), Ack::Unknown);
    assert_eq!(shard.sessions.puback(log, key, 0), Ack::Unknown);
    for id in [0x8000, 0x8001, u16::MAX] {
        assert_eq!(shard.sessions.puback(log, key, id), Ack::Unknown);
    }
    assert_eq!(shard.sessions.puback(log, key, 1), Ack::Known);
    assert_eq!(shard.sessions.puback(log, key, 1), Ack::Unknown);
}

#[test]
fn packet_identifiers_never_collide_however_long_one_message_stays_under_way() {
    let mut shard = Shard::new();
    let key = shard.connect_narrow("c", 0, 3);
    shard.deliver(key, 1, "stuck");
    shard.deliver(key, 2, "released");
    let [Sent::Publish { id: stuck, .. }, Sent::Publish { id: released, .. }] = shard.sent(key)[..]
    else {
        panic!("two go out")
    };
    shard.sessions.pubrec(&mut shard.log, key, released, false).unwrap();
    let mut seen = std::collections::HashSet::new();
    for _ in 0..150_000u32 {
        shard.deliver(key, 1, "");
        let [Sent::Publish { id, .. }] = shard.sent(key)[..] else { panic!("one goes out") };
        // The upper half is left to others.
        assert!(id != stuck && id != released && (1..0x8000).contains(&id));
        seen.insert(id);
        assert_eq!(shard.sessions.puback(&mut shard.log, key, id), Ack::Known);
    }
    assert_eq!(seen.len(), 0x7fff - 2);
    assert_eq!(shard.sessions.puback(&mut shard.log, key, stuck), Ack::Known);
    assert_eq!(shard.sessions.pubcomp(&mut shard.log, key, released), Ack::Known);
}

#[test]
fn acknowledgements_out_of_order_find_their_messages() {
    let mut shard = Shard::new();
    let key = shard.connect("c", 0);
    for text in 0..100 {
        shard.deliver(key, 1, &text.to_string());
    }
    shard.sent(key);
    for id in (1..=100).rev().step_by(2) {
        assert_eq!(shard.sessions.puback(&mut shard.log, key, id), Ack::Known);
    }
    for id in (1..=99).step_by(2) {
        assert_eq!(shard.sessions.puback(&mut shard.log, key, id), Ack::Known);
    }
    assert_eq!(shard.sessions.metrics().queued_messages, 0);
    assert_eq!(shard.sessions.metrics().queued_bytes, 0);
}

#[test]
fn a_full_queue_refuses_the_new_and_loses_nothing_it_has() {
    let mut shard = Shard::with(Limits { queue_messages_max: 2, ..limits() }, 1 << 20);
    let key = shard.connect("c", 100);
    shard.leave(key, false);
    for _ in 0..2 {
        shard.deliver(key, 1, "kept");
    }
    let (delivered, _) = shard.deliver_message(&[key], 1, &message("too much"));
    assert_eq!(delivered, [Delivered::Full]);
    assert_eq!(shard.sessions.metrics().dropped_queue_full, 1);
    shard.sync();
    shard.crash(0);
    let key = shard.connect("c", 100);
    assert_eq!(shard.sent_texts(key), ["kept", "kept"]);
}

#[test]
fn bytes_of_a_session_and_of_a_tenant_are_bounded_and_a_shared_message_counts_once() {
    let bytes = message("x").bytes();
    let limits = Limits { queue_bytes_max: 2 * bytes, tenant_bytes_max: 3 * bytes, ..limits() };
    let mut shard = Shard::with(limits, 1 << 20);
    let a = shard.connect("a", 100);
    let b = shard.connect("b", 100);
    let shared = message("x");
    let (delivered, _) = shard.deliver_message(&[a, b], 1, &shared);
    assert_eq!(delivered, [Delivered::Taken; 2]);
    assert_eq!(shard.sessions.tenant_totals("plant").unwrap().queued_bytes, bytes);
    shard.deliver(a, 1, "x");
    assert_eq!(shard.deliver_message(&[a], 1, &message("x")).0, [Delivered::Full]);
    assert_eq!(shard.sessions.metrics().dropped_queue_full, 1);
    shard.deliver(b, 1, "x");
    let c = shard.connect("c", 0);
    assert_eq!(shard.deliver_message(&[c], 1, &message("x")).0, [Delivered::Full]);
    assert_eq!(shard.sessions.metrics().dropped_tenant_full, 1);
    shard.sessions.end(&mut shard.log, a);
    shard.sessions.end(&mut shard.log, b);
    assert_eq!(shard.sessions.tenant_totals("plant").unwrap().queued_bytes, 0);
    shard.deliver(c, 1, "x");
}

#[test]
fn subscriptions_of_a_session_are_bounded() {
    let mut shard = Shard::with(Limits { subscriptions_per_session_max: 1, ..limits() }, 1 << 20);
    let key = shard.connect("c", 100);
    let options = Subscription { qos: 2, subscription_id: 9, ..Default::default() };
    shard.sessions.subscribe(&mut shard.log, key, "a", Subscription::default()).unwrap();
    let refused = shard.sessions.subscribe(&mut shard.log, key, "b", options);
    assert_eq!(refused.unwrap_err(), SubscribeRefused::TooMany);
    let replaced = shard.sessions.subscribe(&mut shard.log, key, "a", options).unwrap();
    assert!(replaced.existed);
    shard.sync();
    shard.crash(0);
    let key = shard.sessions.find("plant", "c").unwrap();
    assert_eq!(shard.sessions.subscription(key, "a"), Some(options));
}

#[test]
fn expired_messages_are_dropped_when_they_come_up_or_by_the_sweep_but_not_once_they_were_sent() {
    let mut shard = Shard::new();
    let key = shard.connect_narrow("c", 600, 1);
    for text in ["sent", "swept", "passed"] {
        let frame = Bytes::copy_from_slice(text.as_bytes());
        let soon = if text == "passed" { 90_000 } else { 30_000 };
        let expiring = Arc::new(Message::new(frame, Some(shard.now_ms + soon)));
        shard.deliver_message(&[key], 1, &expiring).1.unwrap();
    }
    shard.deliver(key, 1, "lasts");
    shard.sync();
    assert_eq!(shard.sent_texts(key), ["sent"]);
    shard.leave(key, true);
    shard.pass(Duration::from_secs(60));
    assert!(shard.sessions.next_timeout().unwrap() <= shard.now);
    shard.due();
    assert_eq!(shard.sessions.metrics().expired_messages, 1);
    shard.pass(Duration::from_secs(60));
    let key = shard.connect("c", 600);
    assert_eq!(shard.sent(key), [publish(1, true, 1, "sent"), publish(4, false, 1, "lasts")]);
    assert_eq!(shard.sessions.metrics().expired_messages, 2);
    shard.sync();
    shard.crash(0);
    let key = shard.connect("c", 600);
    assert_eq!(shard.sent_texts(key), ["sent", "lasts"]);
}

#[test]
fn a_skipped_message_is_done_with_also_after_a_crash() {
    let mut shard = Shard::new();
    let key = shard.connect_narrow("c", 100, 1);
    shard.deliver(key, 2, "too large");
    shard.deliver(key, 2, "fits");
    shard.sync();
    let [Sent::Publish { id, .. }] = shard.sent(key)[..] else { panic!("one goes out") };
    shard.sessions.skip(&mut shard.log, key, id);
    assert_eq!(shard.sent_texts(key), ["fits"]);
    shard.sync();
    shard.crash(0);
    let key = shard.connect("c", 100);
    assert_eq!(shard.sent_texts(key), ["fits"]);
    assert_eq!(shard.sessions.metrics().lost_bodies, 0);
}

#[test]
fn subscription_identifiers_and_retain_go_with_the_message_over_a_crash() {
    let mut shard = Shard::new();
    let key = shard.connect("c", 100);
    for ids in [&[][..], &[7][..], &[7, 268_435_455][..]] {
        let mut transaction = shard.sessions.begin(&tenant());
        let options = Options { qos: 1, retain: true, subscription_ids: ids, group: None };
        let _ = shard.sessions.deliver(&mut transaction, key, &message("x"), options);
        shard.sessions.commit(&mut shard.log, transaction).unwrap();
    }
    shard.sync();
    shard.crash(0);
    let key = shard.connect("c", 100);
    for expected in [&[][..], &[7][..], &[7, 268_435_455][..]] {
        let out = shard.sessions.next(&mut shard.log, key, shard.now_ms).unwrap();
        let Outgoing::Publish { retain, subscription_ids, .. } = out else { panic!("a message") };
        assert!(retain);
        assert_eq!(subscription_ids.as_slice(), expected);
    }
}

/// Queues a message for a shared subscription.
fn share(shard: &mut Shard, key: SessionKey, qos: u8, text: &str, group: u32) {
    let mut transaction = shard.sessions.begin(&tenant());
    let group = std::num::NonZeroU32::new(group);
    let options = Options { qos, retain: false, subscription_ids: &[], group };
    let delivered = shard.sessions.deliver(&mut transaction, key, &message(text), options);
    assert_eq!(delivered, Delivered::Taken);
    shard.sessions.commit(&mut shard.log, transaction).unwrap();
}

fn left(ended: &Ended) -> Vec<(u32, String)> {
    ended.shared.iter().map(|copy| (copy.group.get(), text(&copy.message))).collect()
}

#[test]
fn a_session_that_ends_gives_back_what_its_groups_still_may_give_to_others() {
    for expiry_s in [0, 100] {
        let mut shard = Shard::new();
        let key = shard.connect_narrow("c", expiry_s, 4);
        share(&mut shard, key, 1, "acknowledged", 7);
        share(&mut shard, key, 1, "under way", 7);
        share(&mut shard, key, 2, "begun", 7);
        shard.deliver(key, 1, "its own");
        share(&mut shard, key, 2, "waits", 8);
        share(&mut shard, key, 1, "waits too", 7);
        shard.sync();
        assert_eq!(shard.sent_texts(key), ["acknowledged", "under way", "begun", "its own"]);
        assert_eq!(shard.sessions.puback(&mut shard.log, key, 1), Ack::Known);
        if expiry_s > 0 {
            // The order and the groups are in the log.
            shard.leave(key, false);
            shard.sync();
            shard.crash(0);
        }
        let key = shard.sessions.find(&tenant(), "c").unwrap();
        let ended = shard.sessions.end(&mut shard.log, key).unwrap();
        let expected = [(7, "under way"), (8, "waits"), (7, "waits too")];
        assert_eq!(left(&ended), expected.map(|(group, text)| (group, text.to_owned())));
        assert_eq!(shard.sessions.metrics().queued_messages, 0);
    }
}
