//! The live lane against a cloud that fails: credit only while it can be honoured, one outcome per ticket, in time.

#![allow(clippy::unwrap_used, reason = "a test that fails says so by panicking")]

mod harness;

use fulcrum_frame::Class;
use fulcrum_uplink::LinkState;
use harness::{Cloud, Fault, Node, eventually, frame, payloads, site_of, start};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

fn send(node: &Node, tenant: &str, number: u64) -> bool {
    let frame = frame(Class::Telemetry, tenant, number.to_string().as_bytes());
    node.live.try_send(frame, Some(number)).is_ok()
}

fn accepted(node: &Node) -> BTreeSet<u64> {
    node.outcomes()
        .into_iter()
        .filter(|(_, accepted)| *accepted)
        .map(|(ticket, _)| ticket)
        .collect()
}

#[test]
fn a_live_record_is_accepted_once_the_cloud_has_it() {
    let cloud = Cloud::start();
    let (dir, config) = site_of(&cloud);
    let node = start(dir.path(), config, Vec::new());
    assert!(!send(&node, "acme", 0), "no credit before the link is up");
    eventually("there is credit", || node.live.has_credit());
    for number in 1..=50 {
        assert!(send(&node, "acme", number) && send(&node, "globex", 100 + number));
    }
    eventually("all are accepted", || accepted(&node).len() == 100);
    assert_eq!(node.outcomes().len(), 100, "one outcome per ticket");
    assert_eq!(cloud.payloads("acme", "t0"), payloads(1..=50));
    assert_eq!(cloud.payloads("globex", "t0"), payloads(101..=150));
    node.stop();
}

#[test]
fn a_cut_link_withdraws_credit_and_answers_what_is_under_way() {
    let cloud = Cloud::start();
    let (dir, config) = site_of(&cloud);
    let node = start(dir.path(), config, Vec::new());
    eventually("there is credit", || node.live.has_credit());
    cloud.state().faults.push_back(Fault::Slow(Duration::from_secs(5)));
    assert!(send(&node, "acme", 1));
    eventually("the batch is under way", || cloud.state().batches.len() == 1);
    for number in 2..=20 {
        assert!(send(&node, "acme", number));
    }
    cloud.cut();
    let cut = Instant::now();
    eventually("all are answered", || node.outcomes().len() == 20);
    assert!(cut.elapsed() < Duration::from_millis(1_500), "{:?}", cut.elapsed());
    assert!(accepted(&node).is_empty());
    assert!(!node.live.has_credit() && !send(&node, "acme", 21));
    cloud.heal();
    eventually("credit comes back", || node.live.has_credit());
    assert!(send(&node, "acme", 30));
    eventually("the next is accepted", || accepted(&node).contains(&30));
    node.stop();
}

#[test]
fn an_unanswered_batch_keeps_the_sequence_dense() {
    let cloud = Cloud::start();
    let (dir, mut config) = site_of(&cloud);
    config.live_outcome_timeout = Duration::from_millis(200);
    let node = start(dir.path(), config, Vec::new());
    eventually("there is credit", || node.live.has_credit());
    // Stored, but answered too late.
    cloud.state().faults.push_back(Fault::Slow(Duration::from_millis(400)));
    assert!(send(&node, "acme", 1));
    eventually("it is answered as not taken", || node.outcomes() == [(1, false)]);
    eventually("credit comes back", || node.live.has_credit() && send(&node, "acme", 2));
    eventually("the outcome comes", || node.outcomes().len() >= 2);
    eventually("a later one is accepted", || {
        send(&node, "acme", 3);
        accepted(&node).contains(&3)
    });
    let state = cloud.state();
    let epochs: BTreeSet<_> = state.records.keys().map(|(_, _, epoch)| *epoch).collect();
    assert_eq!(epochs.len(), 1, "the batch was repeated, no epoch was given up");
    drop(state);
    node.stop();
}

#[test]
fn a_lost_answer_is_asked_for_again_within_the_records_time() {
    let cloud = Cloud::start();
    let (dir, config) = site_of(&cloud);
    let node = start(dir.path(), config, Vec::new());
    eventually("there is credit", || node.live.has_credit());
    cloud.state().faults.extend([Fault::LoseAnswer, Fault::LoseRequest]);
    assert!(send(&node, "acme", 1));
    eventually("it is accepted", || accepted(&node).contains(&1));
    assert_eq!(cloud.payloads("acme", "t0"), payloads([1]));
    node.stop();
}

#[test]
fn a_tenant_that_is_refused_or_busy_takes_no_credit_from_others() {
    let cloud = Cloud::start();
    let (dir, config) = site_of(&cloud);
    cloud.state().refused.insert("gone".into());
    cloud.state().busy.insert("stuck".into());
    let node = start(dir.path(), config, Vec::new());
    eventually("there is credit", || node.live.has_credit());
    assert!(send(&node, "gone", 1_001) && send(&node, "stuck", 1_002));
    for number in 1..=100 {
        assert!(send(&node, "acme", number), "credit for {number}");
        std::thread::sleep(Duration::from_millis(15));
    }
    eventually("all of one are accepted", || accepted(&node).len() == 100);
    let refused: BTreeSet<_> =
        node.outcomes().into_iter().filter(|(_, accepted)| !accepted).collect();
    assert_eq!(refused, BTreeSet::from([(1_001, false), (1_002, false)]));
    node.stop();
}

#[test]
fn a_refused_record_is_found_and_the_others_are_accepted() {
    let cloud = Cloud::start();
    let (dir, config) = site_of(&cloud);
    cloud.state().poison = Some(b"7".to_vec());
    let node = start(dir.path(), config, Vec::new());
    eventually("there is credit", || node.live.has_credit());
    for number in 1..=20 {
        assert!(send(&node, "acme", number));
    }
    eventually("all are answered", || node.outcomes().len() == 20);
    assert_eq!(accepted(&node), (1..=20).filter(|number| *number != 7).collect());
    let expected: Vec<_> = (1..=20).filter(|number| *number != 7).collect();
    assert_eq!(cloud.payloads("acme", "t0"), payloads(expected));
    node.stop();
}

#[test]
fn one_tenants_flood_is_bounded_and_another_gets_through() {
    let cloud = Cloud::start();
    let (dir, mut config) = site_of(&cloud);
    config.live_tenant_bytes_max = 16 * 1024;
    let node = start(dir.path(), config, Vec::new());
    eventually("there is credit", || node.live.has_credit());
    cloud.state().faults.push_back(Fault::Slow(Duration::from_millis(500)));
    assert!(send(&node, "flood", 0));
    eventually("its batch is under way", || cloud.state().batches.len() == 1);
    for number in 1..=2_000 {
        send(&node, "flood", number);
    }
    assert!(send(&node, "acme", 5_000));
    eventually("the other is accepted", || accepted(&node).contains(&5_000));
    eventually("what is too much was answered", || node.status.snapshot().live_released > 500);
    node.stop();
}

#[test]
fn the_end_answers_everything_that_was_taken() {
    let cloud = Cloud::start();
    let (dir, config) = site_of(&cloud);
    let node = start(dir.path(), config, Vec::new());
    eventually("there is credit", || node.live.has_credit());
    cloud.state().faults.push_back(Fault::Slow(Duration::from_millis(200)));
    let sent = (1..=500).filter(|number| send(&node, "acme", *number)).count();
    let (told, live) = (node.told.clone(), node.live.clone());
    node.stop();
    assert_eq!(told.lock().unwrap().outcomes.len(), sent);
    assert!(!live.has_credit());
}

#[test]
fn a_link_that_was_never_there_gives_no_credit() {
    let cloud = Cloud::start();
    cloud.cut();
    let (dir, config) = site_of(&cloud);
    let node = start(dir.path(), config, Vec::new());
    eventually("the link is down", || node.status.state() == LinkState::Down);
    assert!(!node.live.has_credit());
    node.stop();
}

#[test]
fn a_success_that_names_no_mark_accepts_nothing() {
    let cloud = Cloud::start();
    let (dir, config) = site_of(&cloud);
    let node = start(dir.path(), config, Vec::new());
    eventually("there is credit", || node.live.has_credit());
    cloud.state().faults.push_back(Fault::Welcomed);
    assert!(send(&node, "acme", 1));
    eventually("the outcome comes", || node.outcomes().len() == 1);
    assert_eq!(cloud.payloads("acme", "t0").len(), accepted(&node).len());
    assert_eq!(cloud.payloads("acme", "t0"), payloads(1..=1), "it was sent again in time");
    node.stop();
}
