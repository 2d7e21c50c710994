//! Reading streams: groups, positions, filters, retention.
#![allow(clippy::unwrap_used, reason = "a test's own tools fail the test")]

mod cloud;

use cloud::{
    EPOCH, NOW, drain, edge, events, frame, read, settings, ship, ship_to, tenant, with_pump,
};
use fulcrum_contract::streams::Commit;
use fulcrum_domain::registry::IfMatch;
use fulcrum_domain::streams::{ReadRequest, RecordClasses, Start};
use fulcrum_domain::{Error, Settings};
use fulcrum_frame::Class;
use std::time::{Duration, Instant};

#[tokio::test(flavor = "multi_thread")]
async fn a_page_comes_again_until_it_is_committed_and_a_position_never_moves_back() {
    let (cloud, _dir) = with_pump(settings()).await;
    let (acme, edge) = (tenant("acme"), edge(&cloud, "site").await);
    ship(&cloud, &edge, 1, &events(1..=6)).await.unwrap();
    let first = cloud.records(&acme, &read("g", 2), NOW).await.unwrap();
    assert_eq!(cloud.records(&acme, &read("g", 2), NOW).await.unwrap(), first);
    let commit = async |positions| cloud.commit(&acme, "g", &Commit { positions }).await;
    let all = cloud.records(&acme, &read("g", 6), NOW).await.unwrap();
    commit(all.commit.clone()).await.unwrap();
    commit(first.commit.clone()).await.unwrap();
    assert_eq!(cloud.group(&acme, "g").await.unwrap().partitions[0].position, 6);
    let mut beyond = all.commit;
    beyond[0].sequence = 7;
    assert!(matches!(commit(beyond).await, Err(Error::Invalid(_))));
    assert!(matches!(
        cloud.commit(&acme, "unknown", &Commit { positions: first.commit }).await,
        Err(Error::NotFound(_))
    ));
}

#[tokio::test(flavor = "multi_thread")]
async fn groups_are_independent_and_a_new_one_may_start_at_the_end() {
    let (cloud, _dir) = with_pump(settings()).await;
    let (acme, edge) = (tenant("acme"), edge(&cloud, "site").await);
    ship(&cloud, &edge, 1, &events(1..=3)).await.unwrap();
    let latest = ReadRequest { start: Start::Latest, ..read("late", 10) };
    assert!(cloud.records(&acme, &latest, NOW).await.unwrap().records.is_empty());
    ship(&cloud, &edge, 4, &events(4..=5)).await.unwrap();
    let sequences = |page: fulcrum_contract::streams::RecordPage| {
        page.records.iter().map(|record| record.sequence).collect::<Vec<_>>()
    };
    assert_eq!(sequences(cloud.records(&acme, &latest, NOW).await.unwrap()), [4, 5]);
    assert_eq!(drain(&cloud, "early", 2).await.len(), 5);
    assert_eq!(cloud.group(&acme, "late").await.unwrap().lag, 2);
    cloud.delete_group(&acme, "early").await.unwrap();
    assert_eq!(drain(&cloud, "early", 10).await.len(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_busy_partition_does_not_hide_a_quiet_one() {
    let (cloud, _dir) = with_pump(settings()).await;
    let (acme, edge) = (tenant("acme"), edge(&cloud, "site").await);
    ship_to(&cloud, &edge, "p0", EPOCH, 1, &events(1..=100)).await.unwrap();
    ship_to(&cloud, &edge, "p1", EPOCH, 1, &events(1..=2)).await.unwrap();
    let page = cloud.records(&acme, &read("g", 10), NOW).await.unwrap();
    assert_eq!(page.records.len(), 7);
    assert_eq!(page.records.iter().filter(|one| one.partition.partition == "p1").count(), 2);
    assert_eq!(drain(&cloud, "g", 10).await.len(), 102);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_of_large_records_does_not_hide_a_quiet_one() {
    let (cloud, _dir) = with_pump(settings()).await;
    let (acme, edge) = (tenant("acme"), edge(&cloud, "site").await);
    let large = frame(Class::Event, None, &"x".repeat(250 * 1024));
    ship_to(&cloud, &edge, "p0", EPOCH, 1, &vec![large; 40]).await.unwrap();
    ship_to(&cloud, &edge, "p1", EPOCH, 1, &events(1..=2)).await.unwrap();
    let page = cloud.records(&acme, &read("g", 100), NOW).await.unwrap();
    assert_eq!(page.records.iter().filter(|one| one.partition.partition == "p1").count(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_of_one_record_at_a_time_comes_to_every_partition() {
    let (cloud, _dir) = with_pump(settings()).await;
    let (acme, edge) = (tenant("acme"), edge(&cloud, "site").await);
    for partition in ["p0", "p1", "p2"] {
        ship_to(&cloud, &edge, partition, EPOCH, 1, &events(1..=50)).await.unwrap();
    }
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..6 {
        let page = cloud.records(&acme, &read("g", 1), NOW).await.unwrap();
        seen.extend(page.records.into_iter().map(|record| record.partition.partition));
        cloud.commit(&acme, "g", &Commit { positions: page.commit }).await.unwrap();
    }
    assert_eq!(seen.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_filter_leaves_out_classes_and_the_commit_passes_over_them() {
    let (cloud, _dir) = with_pump(settings()).await;
    let (acme, edge) = (tenant("acme"), edge(&cloud, "site").await);
    let status = |n| frame(Class::CommandStatus, Some(("c", 200)), n);
    let mixed =
        [frame(Class::Event, None, "1"), status("2"), frame(Class::Event, None, "3"), status("4")];
    ship(&cloud, &edge, 1, &mixed).await.unwrap();
    let classes = RecordClasses::parse("event").unwrap();
    let events_only = ReadRequest { classes, ..read("g", 10) };
    let page = cloud.records(&acme, &events_only, NOW).await.unwrap();
    let sequences: Vec<_> = page.records.iter().map(|record| record.sequence).collect();
    assert_eq!((sequences, page.commit[0].sequence), (vec![1, 3], 4));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_waits_gets_the_record_as_soon_as_it_is_stored() {
    let (cloud, _dir) = with_pump(Settings { wait_s_max: 20, ..settings() }).await;
    let edge = edge(&cloud, "site").await;
    let waiting = {
        let cloud = cloud.clone();
        let request = ReadRequest { wait_s: 20, ..read("g", 10) };
        tokio::spawn(async move { cloud.records(&tenant("acme"), &request, NOW).await })
    };
    tokio::time::sleep(Duration::from_millis(50)).await;
    let stored = Instant::now();
    ship(&cloud, &edge, 1, &events(1..=1)).await.unwrap();
    assert_eq!(waiting.await.unwrap().unwrap().records.len(), 1);
    assert!(stored.elapsed() < Duration::from_secs(10), "the wait went on to its end");
}

#[tokio::test(flavor = "multi_thread")]
async fn live_telemetry_is_bounded_and_an_earlier_boot_goes_when_a_new_one_begins() {
    let bounded = Settings { telemetry_records_per_partition: 10, ..settings() };
    let (cloud, _dir) = with_pump(bounded).await;
    let (acme, edge) = (tenant("acme"), edge(&cloud, "site").await);
    for first in (1..=46).step_by(5) {
        let live: Vec<_> = (0..5).map(|n| frame(Class::Telemetry, None, &n.to_string())).collect();
        ship_to(&cloud, &edge, "t0", 1, first, &live).await.unwrap();
    }
    assert_eq!(drain(&cloud, "g", 100).await.first().map(|one| one.1), Some(41));
    assert!(cloud.marks(&edge).await.unwrap().marks.is_empty());

    ship_to(&cloud, &edge, "t0", 2, 1, &[frame(Class::Telemetry, None, "")]).await.unwrap();
    cloud.maintain(NOW + 60 * 60 * 1000).await.unwrap();
    let view = cloud.group(&acme, "g").await.unwrap();
    assert_eq!(view.partitions.iter().map(|one| one.partition.epoch).collect::<Vec<_>>(), [2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_retention_drops_is_counted_as_lost_for_a_group_that_had_not_read_it() {
    let (cloud, _dir) = with_pump(Settings { stored_age_ms: 1000, ..settings() }).await;
    let (acme, edge) = (tenant("acme"), edge(&cloud, "site").await);
    ship(&cloud, &edge, 1, &events(1..=3)).await.unwrap();
    cloud.records(&acme, &read("g", 1), NOW).await.unwrap();
    cloud.maintain(NOW + 500).await.unwrap();
    assert_eq!(cloud.group(&acme, "g").await.unwrap().lag, 3);
    cloud.maintain(NOW + 2000).await.unwrap();
    let view = cloud.group(&acme, "g").await.unwrap();
    assert_eq!((view.lag, view.partitions[0].lost), (0, 3));
    // The mark stays: the edge does not start again.
    assert_eq!(ship(&cloud, &edge, 4, &events(4..=4)).await, Ok(4));
    assert_eq!(drain(&cloud, "g", 10).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_above_its_bytes_loses_its_oldest_records_first() {
    let (cloud, _dir) = with_pump(Settings { stored_bytes_per_tenant: 400, ..settings() }).await;
    let edge = edge(&cloud, "site").await;
    for n in 1..=20 {
        ship(&cloud, &edge, n, &events(n..=n)).await.unwrap();
    }
    cloud.maintain(NOW).await.unwrap();
    let left: Vec<_> = drain(&cloud, "g", 100).await.into_iter().map(|one| one.1).collect();
    assert!(!left.is_empty() && left.len() < 20);
    assert_eq!(left, (21 - left.len() as u64..=20).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn records_of_a_deleted_tenant_go_with_their_age_all_the_same() {
    let (cloud, _dir) = with_pump(Settings { stored_age_ms: 1000, ..settings() }).await;
    let (acme, edge) = (tenant("acme"), edge(&cloud, "site").await);
    ship(&cloud, &edge, 1, &events(1..=5)).await.unwrap();
    cloud.delete_tenant(&acme, &IfMatch::default()).await.unwrap();
    cloud.maintain(NOW + 2000).await.unwrap();
    cloud.create_tenant(Some(acme.clone()), Default::default()).await.unwrap();
    let page = cloud.records(&acme, &read("g", 10), NOW + 2000).await.unwrap();
    assert!(page.records.is_empty());
    assert_eq!(cloud.group(&acme, "g").await.unwrap().partitions[0].lost, 5);
}
