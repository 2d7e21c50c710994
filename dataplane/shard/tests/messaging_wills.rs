//! Wills and shared subscriptions, with everybody on different shards.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that fails says so by panicking")]

mod harness;

use harness::Node;
use harness::chat::{Chat, Random};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

const SHARDS: usize = 3;
const ENDS: &str = "ends";

/// A client on each shard that hears of every end.
fn mourners(node: &Node) -> Vec<Chat> {
    (0..SHARDS)
        .map(|shard| {
            let mut mourner = node.durable_chat(shard, &format!("mourner{shard}"));
            mourner.connect(node.mqtt[shard]);
            mourner.subscribe(ENDS, 2);
            mourner
        })
        .collect()
}

/// Waits until all have heard exactly these, in any order.
#[track_caller]
fn all_hear(mourners: &mut [Chat], expected: &[&str]) {
    for mourner in mourners {
        mourner.wait_until(|chat| chat.got.len() >= expected.len()).unwrap();
        mourner.take_all(Duration::from_millis(30)).unwrap();
        let mut heard = mourner.texts(ENDS);
        heard.sort();
        let mut expected: Vec<_> = expected.iter().map(ToString::to_string).collect();
        expected.sort();
        assert_eq!(heard, expected, "{}", mourner.client_id);
        mourner.got.clear();
    }
}

#[test]
fn a_will_is_published_once_on_every_shard_when_its_connection_breaks_and_not_when_it_ends() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path(), SHARDS as u16);
    let mut mourners = mourners(&node);
    for (round, qos) in (0..2 * SHARDS).zip([0, 1, 2].into_iter().cycle()) {
        let text = format!("will {round}");
        let shard = round % SHARDS;
        let mut mortal =
            node.chat(shard, &format!("m{round}")).with_will(ENDS, &text, qos, false, 0);
        if round >= SHARDS {
            mortal = mortal.keeping(60);
        }
        mortal.connect(node.mqtt[shard]);
        mortal.leave(0);
        mortal.connect(node.mqtt[shard]);
        mortal.drop_connection();
        all_hear(&mut mourners, &[&text]);
        mortal.connect(node.mqtt[shard]);
        mortal.leave(4);
        all_hear(&mut mourners, &[&text]);
    }
    assert_eq!(node.total(|metrics| metrics.wills_published.value()), 4 * SHARDS as u64);
    // None of them comes again.
    mourners.iter_mut().for_each(Chat::drop_connection);
    node.stop();
    let node = Node::start(dir.path(), SHARDS as u16);
    for mourner in &mut mourners {
        assert!(mourner.connect(node.mqtt[0]));
    }
    std::thread::sleep(Duration::from_millis(200));
    all_hear(&mut mourners, &[]);
    assert_eq!(node.total(|metrics| metrics.wills_published.value()), 0);
    drop(mourners);
    node.stop();
}

#[test]
fn a_will_nobody_hears_is_published_once_and_not_again_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    for qos in [0, 1, 2] {
        let node = Node::start(dir.path(), 1);
        let mut mortal = node.chat(0, "m").with_will(ENDS, "unheard", qos, false, 0);
        mortal.connect(node.mqtt[0]);
        mortal.drop_connection();
        node.wait_for("the will", |node| node.metrics[0].wills_published.value() == 1);
        node.stop();
        let node = Node::start(dir.path(), 1);
        std::thread::sleep(Duration::from_millis(100));
        assert_eq!(node.metrics[0].wills_published.value(), 0, "QoS {qos}");
        node.stop();
    }
}

#[test]
fn a_delayed_will_waits_for_its_client_and_no_longer_than_the_session() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path(), SHARDS as u16);
    let mut mourners = mourners(&node);
    let mortal = |shard: usize, name: &str, delay_s: u32, expiry_s: u32| {
        let mut mortal =
            node.chat(shard, name).with_will(ENDS, name, 1, false, delay_s).keeping(expiry_s);
        mortal.connect(node.mqtt[shard]);
        mortal
    };
    let begun = Instant::now();
    let mut back = mortal(0, "back", 1, 60);
    let mut late = mortal(1, "late", 1, 60);
    let mut over = mortal(2, "over", 60, 1);
    let mut at_once = mortal(0, "at once", 60, 0);
    for chat in [&mut back, &mut late, &mut over, &mut at_once] {
        chat.drop_connection();
    }
    // A session that ends with its connection takes the delay with it.
    all_hear(&mut mourners, &["at once"]);
    assert!(begun.elapsed() < Duration::from_millis(900), "{:?}", begun.elapsed());
    // It came back in time, with no will now.
    back.will = None;
    assert!(back.connect(node.mqtt[1]));
    all_hear(&mut mourners, &["late", "over"]);
    assert!(begun.elapsed() > Duration::from_millis(950), "{:?}", begun.elapsed());
    back.drop_connection();
    std::thread::sleep(Duration::from_millis(1300));
    all_hear(&mut mourners, &[]);
    drop(mourners);
    node.stop();
}

#[test]
fn a_take_over_ends_the_older_connection_and_publishes_its_will_unless_it_is_delayed() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path(), SHARDS as u16);
    let mut mourners = mourners(&node);
    // The session goes on: without a delay the will is due, with one it is not.
    for (delay_s, expected) in [(0, &["old"][..]), (60, &[])] {
        let mut first = node.durable_chat(1, "same").with_will(ENDS, "old", 1, false, delay_s);
        first.connect(node.mqtt[0]);
        let mut second = node.durable_chat(1, "same");
        assert!(second.connect(node.mqtt[2]));
        assert_eq!(first.wait_until(|_| false), Err(harness::chat::Gone));
        assert_eq!(first.goodbye, Some(0x8e));
        all_hear(&mut mourners, expected);
        second.leave(0);
    }
    // It ends: the delay ends with it.
    let mut first = node.durable_chat(1, "same").with_will(ENDS, "old", 2, false, 60);
    first.connect(node.mqtt[0]);
    let mut second = node.chat(1, "same");
    second.connect(node.mqtt[1]);
    all_hear(&mut mourners, &["old"]);
    drop((second, mourners));
    node.stop();
}

/// Members of one group, one on each shard.
fn team(node: &Node, name: &str, filter: &str, qos: u8, durable: bool) -> Vec<Chat> {
    (0..SHARDS)
        .map(|shard| {
            let mut member = match durable {
                true => node.durable_chat(shard, &format!("{name}{shard}")),
                false => node.chat(shard, &format!("{name}{shard}")),
            };
            member.connect(node.mqtt[shard]);
            assert_eq!(member.subscribe(filter, qos), qos);
            member
        })
        .collect()
}

fn counts<'c>(members: impl IntoIterator<Item = &'c Chat>) -> HashMap<String, usize> {
    let mut counts: HashMap<String, usize> = HashMap::new();
    for got in members.into_iter().flat_map(|member| &member.got) {
        *counts.entry(got.text()).or_default() += 1;
    }
    counts
}

/// Publishers on each shard send `count` messages at each QoS, and wait for the answers.
fn publish_from_all(node: &Node, name: &str, count: usize, lowest_qos: u8) -> Vec<String> {
    let mut all = Vec::new();
    std::thread::scope(|scope| {
        let publishers: Vec<_> = (0..SHARDS)
            .map(|shard| {
                scope.spawn(move || {
                    let mut publisher = match shard % 2 {
                        0 => node.chat(shard, &format!("p{name}{shard}")),
                        _ => node.durable_chat(shard, &format!("p{name}{shard}")),
                    };
                    publisher.connect(node.mqtt[shard]);
                    let mut sent = Vec::new();
                    for number in 0..count {
                        for qos in lowest_qos..3 {
                            let text = format!("{name} {shard} {qos} {number}");
                            let sent_it = publisher.publish("work/x", qos, false, text.as_bytes());
                            assert!(sent_it.is_ok(), "{text}: {:?}", publisher.goodbye);
                            sent.push(text);
                        }
                        let held = publisher.wait_until(|chat| chat.under_way() < 30);
                        assert!(held.is_ok(), "{name}: {:?}", publisher.goodbye);
                    }
                    publisher.wait_until(Chat::owes_nothing).unwrap();
                    assert!(publisher.refused.is_empty());
                    sent
                })
            })
            .collect();
        for publisher in publishers {
            all.extend(publisher.join().unwrap());
        }
    });
    all
}

#[track_caller]
fn each_exactly_once(counts: &HashMap<String, usize>, sent: &[String]) {
    let wrong: Vec<_> = sent
        .iter()
        .map(|text| (text, counts.get(text).copied().unwrap_or(0)))
        .filter(|(_, count)| *count != 1)
        .collect();
    assert!(wrong.is_empty(), "{} of {}: {wrong:?}", wrong.len(), sent.len());
}

#[test]
fn a_shared_message_goes_to_exactly_one_member_on_any_shard() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path(), SHARDS as u16);
    let mut members = team(&node, "member", "$share/team/work/#", 2, false);
    let mut others = team(&node, "other", "$share/others/work/+", 2, true);
    let sent = publish_from_all(&node, "all", 40, 0);
    for group in [&mut members, &mut others] {
        for member in group.iter_mut() {
            member.take_all(Duration::from_millis(300)).unwrap();
            assert!(!member.got.is_empty(), "{} got no share", member.client_id);
        }
        each_exactly_once(&counts(group.iter()), &sent);
    }
    drop((members, others));
    node.stop();
}

#[test]
fn a_member_that_unsubscribes_under_load_and_leaves_takes_no_message_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path(), SHARDS as u16);
    let members = team(&node, "member", "$share/team/work/#", 2, false);
    let (sent, members) = std::thread::scope(|scope| {
        let members: Vec<_> = members
            .into_iter()
            .enumerate()
            .map(|(shard, mut member)| {
                scope.spawn(move || {
                    // One after the other leaves in the middle; the first stays.
                    let until = Instant::now() + Duration::from_millis(60 * shard as u64);
                    while shard > 0 && Instant::now() < until {
                        member.take(Duration::from_millis(5)).unwrap();
                    }
                    if shard > 0 {
                        member.unsubscribe("$share/team/work/#");
                        // What came before the answer is taken; no more is to come.
                        member.wait_until(|chat| chat.received_is_released()).unwrap();
                        member.leave(0);
                    }
                    member
                })
            })
            .collect();
        let sent = publish_from_all(&node, "leaving", 120, 1);
        let members: Vec<_> = members.into_iter().map(|member| member.join().unwrap()).collect();
        (sent, members)
    });
    let mut members = members;
    members[0].take_all(Duration::from_millis(400)).unwrap();
    each_exactly_once(&counts(&members), &sent);
    drop(members);
    node.stop();
}

#[test]
fn members_that_leave_without_a_word_leave_their_messages_to_the_others() {
    const FILTER: &str = "$share/team/work/#";
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path(), SHARDS as u16);
    let mut members = team(&node, "member", FILTER, 2, false);
    let over = AtomicBool::new(false);
    let sent = std::thread::scope(|scope| {
        for (shard, member) in members.iter_mut().enumerate().skip(1) {
            let (node, over) = (&node, &over);
            scope.spawn(move || {
                // It comes and goes all the time; the first one stays.
                while !over.load(Relaxed) {
                    let until = Instant::now() + Duration::from_millis(3);
                    while Instant::now() < until {
                        member.take(Duration::from_millis(1)).unwrap();
                    }
                    match shard {
                        1 => member.leave(0),
                        _ => member.drop_connection(),
                    }
                    member.connect(node.mqtt[0]);
                    member.subscribe(FILTER, 2);
                }
            });
        }
        let sent = publish_from_all(&node, "leaving", 400, 1);
        over.store(true, Relaxed);
        sent
    });
    for member in &mut members {
        member.take_all(Duration::from_millis(400)).unwrap();
    }
    let counts = counts(&members);
    for text in &sent {
        let came = counts.get(text).copied().unwrap_or(0);
        match text.split(' ').nth(2) {
            Some("1") => assert!(came > 0, "{text} is lost"),
            // What had begun on its way to one member goes to no other.
            _ => assert!(came < 2, "{text} came {came} times"),
        }
    }
    drop(members);
    node.stop();
}

#[test]
fn what_waits_for_a_member_goes_to_another_one_when_its_session_expires() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path(), SHARDS as u16);
    let mut members: Vec<Chat> = (0..SHARDS)
        .map(|shard| {
            let member = node.durable_chat(shard, &format!("member{shard}"));
            let mut member = member.keeping(if shard == 0 { 3600 } else { 3 });
            member.connect(node.mqtt[shard]);
            assert_eq!(member.subscribe("$share/team/work/#", 2), 2);
            member
        })
        .collect();
    for member in &mut members {
        member.drop_connection();
    }
    node.wait_for("all to be away", |node| {
        node.total(|metrics| metrics.sessions_disconnected.value()) == SHARDS as u64
    });
    let sent = publish_from_all(&node, "waiting", 20, 1);
    node.wait_for("two to expire", |node| {
        node.total(|metrics| metrics.sessions_expired.value()) == SHARDS as u64 - 1
    });
    node.wait_for("theirs to be given on", |node| {
        node.total(|metrics| metrics.messages_shared_again.value()) >= sent.len() as u64 / 2
    });
    node.stop();
    // It is in the journal of the one that is left.
    let node = Node::start(dir.path(), SHARDS as u16);
    assert!(members[0].connect(node.mqtt[1]));
    members[0].take_all(Duration::from_millis(500)).unwrap();
    each_exactly_once(&counts(&members[..1]), &sent);
    drop(members);
    node.stop();
}

#[test]
fn members_that_are_away_get_shares_only_while_nobody_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path(), SHARDS as u16);
    let mut members = team(&node, "member", "$share/team/work/#", 2, true);
    members[1].drop_connection();
    members[2].drop_connection();
    node.wait_for("two to be away", |node| {
        node.total(|metrics| metrics.sessions_disconnected.value()) == 2
    });
    // The others learn of it in their next turn.
    let mut asks = node.chat(0, "asks");
    asks.connect(node.mqtt[0]);
    asks.subscribe("anything", 0);
    let sent = publish_from_all(&node, "one", 20, 1);
    members[0].take_all(Duration::from_millis(300)).unwrap();
    each_exactly_once(&counts(&members), &sent);
    // Nobody is there: it waits for one of them, over a restart too.
    members[0].drop_connection();
    members[0].got.clear();
    node.wait_for("all to be away", |node| {
        node.total(|metrics| metrics.sessions_disconnected.value()) >= 3
    });
    asks.subscribe("anything else", 0);
    let sent = publish_from_all(&node, "none", 20, 1);
    drop(asks);
    node.stop();
    let node = Node::start(dir.path(), SHARDS as u16);
    for member in &mut members {
        assert!(member.connect(node.mqtt[2]));
        member.take_all(Duration::from_millis(300)).unwrap();
    }
    each_exactly_once(&counts(&members), &sent);
    drop(members);
    node.stop();
}

#[test]
fn a_node_told_to_stop_while_it_starts_stops() {
    let dir = tempfile::tempdir().unwrap();
    for _ in 0..40 {
        Node::start(dir.path(), SHARDS as u16).stop();
    }
}

#[test]
fn a_will_at_a_stop_in_order_reaches_sessions_of_all_shards() {
    let mut random = Random::from_environment("FULCRUM_WILL_SEED");
    let dir = tempfile::tempdir().unwrap();
    let mut node = Node::start(dir.path(), SHARDS as u16);
    let mut mourners = mourners(&node);
    for round in 0..12 {
        let text = format!("will {round}");
        let shard = random.below(SHARDS as u64) as usize;
        let mut mortal = node.chat(shard, &format!("m{round}")).with_will(
            ENDS,
            &text,
            1 + round % 2,
            round % 3 == 0,
            0,
        );
        mortal.connect(node.mqtt[random.below(SHARDS as u64) as usize]);
        mourners.iter_mut().for_each(Chat::drop_connection);
        node.stop();
        node = Node::start(dir.path(), SHARDS as u16);
        for mourner in &mut mourners {
            assert!(mourner.connect(node.mqtt[0]));
        }
        all_hear(&mut mourners, &[&text]);
    }
    drop(mourners);
    node.stop();
}
