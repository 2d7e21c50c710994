//! The stored lanes against a cloud that fails: exactly once, in order, never stuck.

#![allow(clippy::unwrap_used, reason = "a test that fails says so by panicking")]

mod harness;

use fulcrum_contract::TenantId;
use fulcrum_contract::feed::{Change, Entity};
use fulcrum_uplink::{DropReason, LinkState};
use harness::{Cloud, Fault, Journal, eventually, payloads, site, site_of, start, try_start};
use std::time::{Duration, Instant};

#[test]
fn what_is_committed_reaches_the_cloud_and_may_leave_the_journal() {
    let cloud = Cloud::start();
    let (dir, config) = site_of(&cloud);
    let mut journal = Journal::open(dir.path());
    journal.append("acme", 1..=100);
    let node = start(dir.path(), config, vec![journal.tail.clone()]);
    eventually("the backlog arrives", || cloud.payloads("acme", "p0") == payloads(1..=100));
    journal.append("acme", 101..=150);
    eventually("news arrive", || cloud.payloads("acme", "p0") == payloads(1..=150));
    eventually("all is acknowledged", || journal.is_acknowledged());
    let numbers = node.status.snapshot();
    assert_eq!((numbers.records, numbers.oldest_unacknowledged_ms), (150, 0));
    assert_eq!(numbers.partitions[0].backlog_bytes, 0);
    assert!(numbers.bytes_packed < numbers.bytes_raw);
    assert_eq!(node.status.state(), LinkState::Up);
    node.stop();
}

#[test]
fn a_lost_answer_stores_nothing_twice() {
    let cloud = Cloud::start();
    let (dir, mut config) = site_of(&cloud);
    config.batch_records_max = 10;
    let faults = [Fault::LoseAnswer, Fault::LoseRequest, Fault::LoseAnswer, Fault::LoseAnswer];
    cloud.state().faults.extend(faults);
    let mut journal = Journal::open(dir.path());
    journal.append("acme", 1..=95);
    let node = start(dir.path(), config, vec![journal.tail.clone()]);
    eventually("all arrive", || cloud.payloads("acme", "p0").len() >= 95);
    eventually("all is acknowledged", || journal.is_acknowledged());
    assert_eq!(cloud.payloads("acme", "p0"), payloads(1..=95));
    assert_eq!(cloud.state().batches.len(), 14, "ten batches, four of them repeated");
    node.stop();
}

#[test]
fn a_pause_the_cloud_asks_for_is_kept() {
    let cloud = Cloud::start();
    let (dir, config) = site_of(&cloud);
    cloud.state().faults.push_back(Fault::Busy(1));
    let mut journal = Journal::open(dir.path());
    journal.append("acme", 1..=3);
    let node = start(dir.path(), config, vec![journal.tail.clone()]);
    eventually("the batch comes", || !cloud.state().batches.is_empty());
    let refused_at = Instant::now();
    eventually("all arrive", || cloud.payloads("acme", "p0").len() == 3);
    assert!(refused_at.elapsed() > Duration::from_millis(900), "{:?}", refused_at.elapsed());
    node.stop();
}

#[test]
fn a_restart_goes_on_where_the_cloud_is() {
    let cloud = Cloud::start();
    let (dir, config) = site_of(&cloud);
    let mut journal = Journal::open(dir.path());
    journal.append("acme", 1..=20);
    let node = start(dir.path(), config.clone(), vec![journal.tail.clone()]);
    eventually("all arrive", || cloud.payloads("acme", "p0").len() == 20);
    node.stop();
    // The journal's cursor was never written: the whole backlog is read again.
    drop(journal);
    let mut journal = Journal::open(dir.path());
    journal.append("acme", 21..=30);
    let batches = cloud.state().batches.len();
    let node = start(dir.path(), config, vec![journal.tail.clone()]);
    eventually("the rest arrives", || cloud.payloads("acme", "p0") == payloads(1..=30));
    assert_eq!(cloud.state().batches[batches].first_sequence, 21, "nothing was sent again");
    node.stop();
}

#[test]
fn a_cut_link_is_noticed_and_a_healed_one_is_used_at_once() {
    let cloud = Cloud::start();
    let (dir, mut config) = site_of(&cloud);
    config.backoff.max = Duration::from_millis(500);
    let mut journal = Journal::open(dir.path());
    let node = start(dir.path(), config, vec![journal.tail.clone()]);
    eventually("the link is up", || node.status.state() == LinkState::Up);
    cloud.cut();
    journal.append("acme", 1..=50);
    eventually("the link is down", || node.status.state() == LinkState::Down);
    eventually("the age shows it", || node.status.oldest_unacknowledged_ms() > 0);
    assert!(node.status.snapshot().partitions[0].backlog_bytes > 0);
    journal.append("acme", 51..=60);
    std::thread::sleep(Duration::from_millis(300));
    cloud.heal();
    let healed = Instant::now();
    eventually("all arrive", || cloud.payloads("acme", "p0") == payloads(1..=60));
    assert!(healed.elapsed() < Duration::from_secs(2), "{:?}", healed.elapsed());
    eventually("all is acknowledged", || journal.is_acknowledged());
    node.stop();
}

#[test]
fn a_node_that_starts_without_the_cloud_shows_its_backlog_and_ships_it_later() {
    let cloud = Cloud::start();
    cloud.cut();
    let (dir, config) = site_of(&cloud);
    let mut journal = Journal::open(dir.path());
    journal.append("acme", 1..=5);
    let node = start(dir.path(), config, vec![journal.tail.clone()]);
    eventually("the backlog shows", || node.status.snapshot().partitions[0].held_records == 5);
    journal.append("acme", 6..=9);
    cloud.heal();
    eventually("all arrive", || cloud.payloads("acme", "p0") == payloads(1..=9));
    node.stop();
}

#[test]
fn tenants_of_one_partition_have_their_own_dense_streams() {
    let cloud = Cloud::start();
    let (dir, mut config) = site_of(&cloud);
    config.batch_records_max = 7;
    let mut journal = Journal::open(dir.path());
    for number in 1..=40 {
        for tenant in ["acme", "globex", "initech"] {
            journal.append(tenant, [number]);
        }
    }
    let node = start(dir.path(), config, vec![journal.tail.clone()]);
    for tenant in ["acme", "globex", "initech"] {
        eventually("a stream arrives", || cloud.payloads(tenant, "p0") == payloads(1..=40));
    }
    eventually("all is acknowledged", || journal.is_acknowledged());
    node.stop();
}

#[test]
fn a_refused_tenant_loses_its_records_and_stops_nobody() {
    let cloud = Cloud::start();
    let (dir, config) = site_of(&cloud);
    cloud.state().refused.insert("gone".into());
    let mut journal = Journal::open(dir.path());
    journal.append("gone", 1..=10);
    journal.append("acme", 1..=10);
    let node = start(dir.path(), config, vec![journal.tail.clone()]);
    eventually("the other arrives", || cloud.payloads("acme", "p0") == payloads(1..=10));
    eventually("all is given up", || node.status.dropped(DropReason::TenantRefused) == 10);
    journal.append("gone", 11..=12);
    eventually("news are given up unasked", || {
        node.status.dropped(DropReason::TenantRefused) == 12
    });
    eventually("nothing is held", || journal.is_acknowledged());
    node.stop();
}

#[test]
fn a_tenant_that_is_refused_while_the_feed_still_has_it_keeps_its_records() {
    let cloud = Cloud::start();
    let (dir, config) = site_of(&cloud);
    let tenant = |version, document| {
        let tenant = TenantId::parse("torn").unwrap();
        Change { version, entity: Entity::Tenant { tenant, document } }
    };
    cloud.state().changes.push(tenant(1, Some(Default::default())));
    cloud.state().refused.insert("torn".into());
    let mut journal = Journal::open(dir.path());
    let node = start(dir.path(), config, vec![journal.tail.clone()]);
    eventually("the tenant is known", || node.status.snapshot().feed_cursor == 1);
    journal.append("torn", 1..=10);
    journal.append("acme", 1..=10);
    eventually("the other arrives", || cloud.payloads("acme", "p0") == payloads(1..=10));
    eventually("it is asked often enough", || cloud.state().batches.len() > 6);
    assert_eq!(node.status.dropped(DropReason::TenantRefused), 0);
    cloud.change(|state| state.refused.clear());
    eventually("all arrive", || cloud.payloads("torn", "p0") == payloads(1..=10));
    cloud.change(|state| {
        state.refused.insert("torn".into());
        state.changes = vec![tenant(2, None)];
    });
    journal.append("torn", 11..=12);
    eventually("now it loses them", || node.status.dropped(DropReason::TenantRefused) == 2);
    cloud.change(|state| {
        state.refused.clear();
        state.changes = vec![tenant(3, Some(Default::default()))];
    });
    eventually("the tenant is back", || node.status.snapshot().feed_cursor == 3);
    std::thread::sleep(Duration::from_secs(1));
    journal.append("torn", 13..=13);
    eventually("the stream goes on", || cloud.payloads("torn", "p0").len() == 13);
    let lost = b"cloud_gap".to_vec();
    assert_eq!(cloud.payloads("torn", "p0")[10..], [lost.clone(), lost, b"13".to_vec()]);
    node.stop();
}

#[test]
fn an_answer_that_is_not_the_clouds_costs_no_record() {
    let cloud = Cloud::start();
    let (dir, config) = site_of(&cloud);
    cloud.state().faults.extend([Fault::Misrouted; 6]);
    let mut journal = Journal::open(dir.path());
    journal.append("acme", 1..=10);
    let node = start(dir.path(), config, vec![journal.tail.clone()]);
    eventually("all arrive", || cloud.payloads("acme", "p0") == payloads(1..=10));
    assert_eq!(node.status.dropped(DropReason::TenantRefused), 0);
    node.stop();
}

#[test]
fn a_record_the_cloud_refuses_is_replaced_by_a_gap_and_the_others_arrive() {
    let cloud = Cloud::start();
    let (dir, config) = site_of(&cloud);
    cloud.state().poison = Some(b"13".to_vec());
    let mut journal = Journal::open(dir.path());
    journal.append("acme", 1..=40);
    let node = start(dir.path(), config, vec![journal.tail.clone()]);
    eventually("all arrive", || cloud.payloads("acme", "p0").len() == 40);
    let mut expected = payloads(1..=40);
    expected[12] = b"record_refused".to_vec();
    assert_eq!(cloud.payloads("acme", "p0"), expected);
    eventually("all is acknowledged", || journal.is_acknowledged());
    assert_eq!(node.status.dropped(DropReason::RecordRefused), 1);
    node.stop();
}

#[test]
fn a_cloud_that_lost_records_gets_what_the_journal_has_and_a_gap_for_the_rest() {
    let cloud = Cloud::start();
    let (dir, config) = site_of(&cloud);
    let mut journal = Journal::open(dir.path());
    journal.append("acme", 1..=10);
    let node = start(dir.path(), config, vec![journal.tail.clone()]);
    eventually("all is acknowledged", || journal.is_acknowledged());
    cloud.change(|state| state.records.values_mut().for_each(|records| records.truncate(8)));
    journal.append("acme", 11..=12);
    eventually("the stream goes on", || cloud.payloads("acme", "p0").len() == 12);
    let mut expected = payloads(1..=12);
    expected[8] = b"cloud_gap".to_vec();
    expected[9] = b"cloud_gap".to_vec();
    assert_eq!(cloud.payloads("acme", "p0"), expected);
    assert_eq!(node.status.dropped(DropReason::CloudGap), 2);
    node.stop();
}

#[test]
fn a_cloud_that_is_ahead_stops_the_stream_loudly_and_keeps_its_records() {
    let cloud = Cloud::start();
    let (dir, config) = site_of(&cloud);
    let mut journal = Journal::open(dir.path());
    let stream = ("acme".to_owned(), "p0".to_owned(), journal.epoch);
    cloud.state().records.insert(stream, payloads(1..=100));
    let node = start(dir.path(), config, vec![journal.tail.clone()]);
    eventually("the link is up", || node.status.state() == LinkState::Up);
    journal.append("acme", 1..=3);
    journal.append("globex", 1..=3);
    eventually("the stream stops", || node.status.snapshot().streams_halted == 1);
    eventually("the other goes on", || cloud.payloads("globex", "p0").len() == 3);
    std::thread::sleep(Duration::from_millis(100));
    assert!(!journal.is_acknowledged());
    assert!(node.status.snapshot().last_error.unwrap().text.contains("acme"));
    let requests = cloud.state().batches.len();
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(cloud.state().batches.len(), requests, "no spinning");
    node.stop();
}

#[test]
fn a_batch_stored_in_part_goes_on_behind_the_mark() {
    let cloud = Cloud::start();
    let (dir, config) = site_of(&cloud);
    cloud.state().faults.extend([Fault::StoreFirst; 3]);
    let mut journal = Journal::open(dir.path());
    journal.append("acme", 1..=10);
    let node = start(dir.path(), config, vec![journal.tail.clone()]);
    eventually("all arrive", || cloud.payloads("acme", "p0") == payloads(1..=10));
    node.stop();
}

#[test]
fn a_batch_too_slow_for_the_link_is_sent_in_halves() {
    let cloud = Cloud::start();
    let (dir, mut config) = site_of(&cloud);
    config.request_timeout = Duration::from_millis(300);
    cloud.state().faults.extend([Fault::Slow(Duration::from_millis(600)); 2]);
    let mut journal = Journal::open(dir.path());
    let numbers = 1..=2_000;
    journal.append("acme", numbers.clone());
    let node = start(dir.path(), config, vec![journal.tail.clone()]);
    eventually("all arrive", || cloud.payloads("acme", "p0") == payloads(numbers.clone()));
    let counts: Vec<_> = cloud.state().batches.iter().map(|batch| batch.count).collect();
    assert_eq!(counts[2], counts[0] / 2, "{counts:?}");
    eventually("all is acknowledged", || journal.is_acknowledged());
    node.stop();
}

#[test]
fn a_tenant_that_does_not_get_through_makes_room_for_others_and_is_shipped_later() {
    let cloud = Cloud::start();
    let (dir, mut config) = site_of(&cloud);
    config.batch_bytes_max = 16 * 1024;
    config.window_bytes = 64 * 1024;
    config.read_bytes = 16 * 1024;
    config.backoff.max = Duration::from_millis(50);
    cloud.state().busy.insert("stuck".into());
    let mut journal = Journal::open(dir.path());
    journal.append("stuck", 1..=4_000);
    journal.append("acme", 1..=4_000);
    let node = start(dir.path(), config, vec![journal.tail.clone()]);
    eventually("the other arrives", || cloud.payloads("acme", "p0") == payloads(1..=4_000));
    assert!(cloud.payloads("stuck", "p0").is_empty());
    assert!(node.status.snapshot().partitions[0].held_bytes < 128 * 1024);
    cloud.change(|state| state.busy.clear());
    eventually("the stuck one follows", || cloud.payloads("stuck", "p0") == payloads(1..=4_000));
    eventually("all is acknowledged", || journal.is_acknowledged());
    node.stop();
}

#[test]
fn a_record_larger_than_a_read_and_a_batch_is_shipped() {
    let cloud = Cloud::start();
    let (dir, mut config) = site_of(&cloud);
    config.batch_bytes_max = 16 * 1024;
    config.read_bytes = 4 * 1024;
    let mut journal = Journal::open(dir.path());
    let large = vec![b'x'; 50_000];
    journal.append("acme", [1]);
    journal.append_payload("acme", &large);
    journal.append("acme", [3]);
    let node = start(dir.path(), config, vec![journal.tail.clone()]);
    eventually("all arrive", || cloud.payloads("acme", "p0").len() == 3);
    assert_eq!(cloud.payloads("acme", "p0"), [b"1".to_vec(), large, b"3".to_vec()]);
    node.stop();
}

#[test]
fn damage_in_the_journal_shows_as_a_gap_and_hides_nothing_else() {
    let cloud = Cloud::start();
    let (dir, config) = site_of(&cloud);
    let mut journal = Journal::open(dir.path());
    journal.append("acme", 1..=5);
    journal.append_payload("acme", b"to-be-damaged");
    journal.append("acme", 7..=9);
    let (path, _, _) = journal.tail.segment_path(journal.tail.start());
    let mut bytes = std::fs::read(&path).unwrap();
    let at = bytes.windows(13).position(|window| window == b"to-be-damaged").unwrap();
    bytes[at] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let node = start(dir.path(), config, vec![journal.tail.clone()]);
    eventually("the rest arrives", || cloud.payloads("acme", "p0").len() == 9);
    let mut expected = payloads(1..=9);
    expected[5] = b"journal_gap".to_vec();
    assert_eq!(cloud.payloads("acme", "p0"), expected);
    assert_eq!(node.status.snapshot().journal_damage, 1);
    assert_eq!(node.status.dropped(DropReason::JournalGap), 1);
    node.stop();
}

#[test]
fn a_node_without_a_key_is_told_how_to_get_one() {
    let (dir, config) = site("http://127.0.0.1:9");
    std::fs::remove_file(&config.key_file).unwrap();
    let journal = Journal::open(dir.path());
    let refusal = try_start(dir.path(), config, vec![journal.tail.clone()]).err().unwrap();
    assert!(refusal.to_string().contains("fulcrum edge enrol"), "{refusal}");
}

#[test]
fn what_is_committed_before_the_end_is_shipped_before_the_end() {
    let cloud = Cloud::start();
    let (dir, config) = site_of(&cloud);
    let mut journal = Journal::open(dir.path());
    let node = start(dir.path(), config, vec![journal.tail.clone()]);
    eventually("the link is up", || node.status.state() == LinkState::Up);
    cloud.state().faults.push_back(Fault::Slow(Duration::from_millis(300)));
    journal.append("acme", 1..=5_000);
    node.stop();
    assert_eq!(cloud.payloads("acme", "p0"), payloads(1..=5_000));
    assert!(journal.is_acknowledged());
}

#[test]
fn an_end_without_a_link_does_not_wait() {
    let cloud = Cloud::start();
    let (dir, config) = site_of(&cloud);
    let mut journal = Journal::open(dir.path());
    let node = start(dir.path(), config, vec![journal.tail.clone()]);
    eventually("the link is up", || node.status.state() == LinkState::Up);
    cloud.cut();
    journal.append("acme", 1..=5);
    eventually("the link is down", || node.status.state() == LinkState::Down);
    let asked = Instant::now();
    node.stop();
    assert!(asked.elapsed() < Duration::from_secs(1), "{:?}", asked.elapsed());
}

#[test]
fn a_wrong_clock_is_mended_by_the_clouds_date() {
    let cloud = Cloud::start();
    let (dir, config) = site_of(&cloud);
    cloud.state().clock_ahead_s = 40 * 86_400;
    let mut journal = Journal::open(dir.path());
    journal.append("acme", 1..=3);
    let node = start(dir.path(), config, vec![journal.tail.clone()]);
    eventually("all arrive", || cloud.payloads("acme", "p0") == payloads(1..=3));
    assert!((1..=3).contains(&cloud.state().unauthorized), "one request of each task at most");
    node.stop();
}
