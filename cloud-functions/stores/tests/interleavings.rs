//! What holds when two callers do things at the same time, in the order that hurts.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's own tools fail the test")]

mod cloud;

use cloud::meddling::{Meddling, Moment};
use cloud::{NOW, command, device, drain, edge, events, frame, read, settings, ship, tenant};
use fulcrum_contract::commands::{CommandRequest, CommandState};
use fulcrum_contract::feed::Entity;
use fulcrum_contract::streams::Commit;
use fulcrum_contract::sync::{DevicePresence, Presence};
use fulcrum_domain::changes::ChangesRequest;
use fulcrum_domain::edges::Edge;
use fulcrum_domain::registry::IfMatch;
use fulcrum_domain::{Cloud, Error, Settings};
use fulcrum_frame::Class;
use std::sync::Arc;

async fn meddled(settings: Settings) -> (Cloud, Arc<Meddling>, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let store = Meddling::open(dir.path());
    let cloud = Cloud::new(store.clone(), settings);
    cloud::make_pump(&cloud).await;
    (cloud, store, dir)
}

fn request(id: &str) -> CommandRequest {
    CommandRequest {
        subject: "open".to_owned(),
        response_required: false,
        content_type: None,
        payload: Vec::new(),
        deliver_within_s: None,
        id: Some(command(id)),
    }
}

async fn send(cloud: &Cloud, request: CommandRequest) -> Result<CommandState, Error> {
    let sent = cloud.send_command(&tenant("acme"), &device("pump"), request, NOW).await;
    sent.map(|view| view.state)
}

async fn state(cloud: &Cloud, id: &str) -> Result<CommandState, Error> {
    let view = cloud.command(&tenant("acme"), &device("pump"), &command(id), 0, NOW).await;
    view.map(|view| view.state)
}

async fn appear(cloud: &Cloud, edge: &Edge) {
    let devices = vec![DevicePresence { tenant: tenant("acme"), device: device("pump") }];
    cloud.presence(edge, &Presence { devices }, NOW).await.unwrap();
}

/// How many commands wait in the edge's feed.
async fn waiting(cloud: &Cloud, edge: &Edge) -> usize {
    let edge = cloud.edge_by_id(&edge.id).await.unwrap();
    let request = ChangesRequest { feed: None, after: 0, wait_s: 0 };
    let changes = cloud.changes(edge, &request).await.unwrap().changes;
    let waits = changes
        .iter()
        .filter(|one| matches!(one.entity, Entity::Command { document: Some(_), .. }));
    waits.count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_delivered_just_as_it_falls_due_can_still_be_looked_up() {
    let (cloud, store, _dir) = meddled(Settings { expiry_grace_ms: 0, ..settings() }).await;
    let edge = edge(&cloud, "one").await;
    send(&cloud, CommandRequest { deliver_within_s: Some(5), ..request("a") }).await.unwrap();
    let other = cloud.clone();
    store.at(Moment::AfterScan("deadlines".to_owned()), async move {
        let told = frame(Class::CommandStatus, Some(("a", 200)), "");
        ship(&other, &edge, 1, &[told]).await.unwrap();
    });
    cloud.maintain(NOW + 6000).await.unwrap();
    assert!(store.has_meddled());
    assert_eq!(state(&cloud, "a").await.unwrap(), CommandState::Delivered);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_sent_while_its_device_is_deleted_does_not_wait_for_the_next_of_that_name() {
    let (cloud, store, _dir) = meddled(settings()).await;
    let other = cloud.clone();
    store.at(Moment::BeforeWrite("waiting/acme/pump".to_owned()), async move {
        let (acme, pump) = (tenant("acme"), device("pump"));
        other.delete_device(&acme, &pump, &IfMatch::default(), NOW).await.unwrap();
    });
    assert!(matches!(send(&cloud, request("a")).await, Err(Error::NotFound(_))));
    assert!(store.has_meddled());
}

#[tokio::test(flavor = "multi_thread")]
async fn deleting_a_device_again_ends_the_commands_that_an_interrupted_deletion_left() {
    let (cloud, store, _dir) = meddled(settings()).await;
    send(&cloud, request("a")).await.unwrap();
    let (acme, pump) = (tenant("acme"), device("pump"));
    // The first deletion is cut off between its two writes.
    let (reached, at_it) = tokio::sync::oneshot::channel();
    store.at(Moment::BeforeWrite("waiting/acme/pump".to_owned()), async move {
        reached.send(()).unwrap();
        std::future::pending::<()>().await;
    });
    let other = cloud.clone();
    let cut_off = tokio::spawn(async move {
        other.delete_device(&tenant("acme"), &device("pump"), &IfMatch::default(), NOW).await
    });
    at_it.await.unwrap();
    cut_off.abort();
    assert_eq!(state(&cloud, "a").await.unwrap(), CommandState::Stored);
    let again = cloud.delete_device(&acme, &pump, &IfMatch::default(), NOW).await;
    assert!(matches!(again, Err(Error::NotFound(_))));
    assert_eq!(state(&cloud, "a").await.unwrap(), CommandState::Expired);
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_stay_with_the_edge_that_saw_the_device_last() {
    let (cloud, store, _dir) = meddled(settings()).await;
    let (one, two) = (edge(&cloud, "one").await, edge(&cloud, "two").await);
    send(&cloud, request("a")).await.unwrap();
    // The report of `one` is slow: that of `two`, where the device is now, passes it.
    let (other, late) = (cloud.clone(), two.clone());
    store.at(Moment::AfterScan("waiting/acme/pump".to_owned()), async move {
        appear(&other, &late).await;
    });
    appear(&cloud, &one).await;
    assert!(store.has_meddled());
    assert_eq!((waiting(&cloud, &one).await, waiting(&cloud, &two).await), (0, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_appears_while_its_edge_loses_the_tenant_leaves_no_command_there() {
    let (cloud, store, _dir) = meddled(settings()).await;
    let (one, two) = (edge(&cloud, "one").await, edge(&cloud, "two").await);
    send(&cloud, request("a")).await.unwrap();
    let (other, id) = (cloud.clone(), one.id.clone());
    store.at(Moment::AfterScan("waiting/acme/pump".to_owned()), async move {
        other.update_edge(&id, Vec::new(), NOW).await.unwrap();
    });
    appear(&cloud, &one).await;
    assert!(store.has_meddled());
    assert_eq!(waiting(&cloud, &one).await, 0);
    appear(&cloud, &two).await;
    assert_eq!(waiting(&cloud, &two).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_made_again_does_not_begin_where_a_late_commit_of_the_old_one_was() {
    let (cloud, store, _dir) = meddled(settings()).await;
    let edge = edge(&cloud, "one").await;
    ship(&cloud, &edge, 1, &events(1..=3)).await.unwrap();
    let page = cloud.records(&tenant("acme"), &read("g", 10), NOW).await.unwrap();
    let (begins, ends) = ("groups/acme".to_owned(), "positions/acme/g".to_owned());
    for moment in [Moment::BeforeWrite(begins), Moment::AfterScan(ends)] {
        cloud.records(&tenant("acme"), &read("g", 10), NOW).await.unwrap();
        let (other, positions) = (cloud.clone(), page.commit.clone());
        store.at(moment, async move {
            // In front of the deletion it holds, behind it it does not; it never outlives the group.
            let _ = other.commit(&tenant("acme"), "g", &Commit { positions }).await;
        });
        cloud.delete_group(&tenant("acme"), "g").await.unwrap();
        assert!(store.has_meddled());
        assert_eq!(drain(&cloud, "g", 10).await.len(), 3);
        cloud.delete_group(&tenant("acme"), "g").await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_finds_its_group_deleted_is_refused_and_leaves_nothing() {
    let (cloud, store, _dir) = meddled(settings()).await;
    let edge = edge(&cloud, "one").await;
    ship(&cloud, &edge, 1, &events(1..=3)).await.unwrap();
    let page = cloud.records(&tenant("acme"), &read("g", 10), NOW).await.unwrap();
    let other = cloud.clone();
    store.at(Moment::BeforeWrite("positions/acme/g".to_owned()), async move {
        other.delete_group(&tenant("acme"), "g").await.unwrap();
    });
    let commit = Commit { positions: page.commit };
    let late = cloud.commit(&tenant("acme"), "g", &commit).await;
    assert!(store.has_meddled() && matches!(late, Err(Error::NotFound(_))), "{late:?}");
    assert_eq!(drain(&cloud, "g", 10).await.len(), 3);
}
