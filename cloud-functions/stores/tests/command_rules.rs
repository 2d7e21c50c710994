//! Commands: where they wait, in which order, and how they end.
#![allow(clippy::unwrap_used, reason = "a test's own tools fail the test")]

mod cloud;

use cloud::{NOW, command, device, edge, frame, settings, ship, tenant, with_pump};
use fulcrum_contract::commands::{CommandRequest, CommandState, CommandView};
use fulcrum_contract::feed::{ChangePage, Entity};
use fulcrum_contract::sync::{DevicePresence, Presence};
use fulcrum_domain::changes::ChangesRequest;
use fulcrum_domain::edges::Edge;
use fulcrum_domain::registry::{IfMatch, Page};
use fulcrum_domain::{Cloud, Error, Settings};
use fulcrum_frame::Class;

fn request(id: &str) -> CommandRequest {
    CommandRequest {
        subject: "open".to_owned(),
        response_required: true,
        content_type: None,
        payload: b"now".to_vec(),
        deliver_within_s: None,
        id: Some(command(id)),
    }
}

async fn send(cloud: &Cloud, request: CommandRequest) -> Result<CommandView, Error> {
    cloud.send_command(&tenant("acme"), &device("pump"), request, NOW).await
}

async fn state(cloud: &Cloud, id: &str, now_ms: u64) -> CommandState {
    let view = cloud.command(&tenant("acme"), &device("pump"), &command(id), 0, now_ms).await;
    view.unwrap().state
}

async fn appear(cloud: &Cloud, edge: &Edge) {
    let devices = vec![DevicePresence { tenant: tenant("acme"), device: device("pump") }];
    cloud.presence(edge, &Presence { devices }, NOW).await.unwrap();
}

/// The ids and sequences of the commands that wait in the edge's feed.
async fn feed(cloud: &Cloud, edge: &Edge) -> Vec<(String, u64)> {
    let changes = snapshot(cloud, edge).await.changes;
    let waits = changes.into_iter().filter_map(|change| match change.entity {
        Entity::Command { document: Some(command), .. } => {
            Some((command.id.to_string(), command.sequence))
        }
        _ => None,
    });
    waits.collect()
}

async fn snapshot(cloud: &Cloud, edge: &Edge) -> ChangePage {
    // As its token is checked for each request.
    let edge = cloud.edge_by_id(&edge.id).await.unwrap();
    cloud.changes(edge, &ChangesRequest { feed: None, after: 0, wait_s: 0 }).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_only_edge_of_a_tenant_gets_its_commands_in_order() {
    let (cloud, _dir) = with_pump(settings()).await;
    let edge = edge(&cloud, "one").await;
    for id in ["b", "a", "c"] {
        assert_eq!(send(&cloud, request(id)).await.unwrap().state, CommandState::Queued);
    }
    let wanted = [("b", 1), ("a", 2), ("c", 3)].map(|(id, n)| (id.to_owned(), n));
    assert_eq!(feed(&cloud, &edge).await, wanted);
}

#[tokio::test(flavor = "multi_thread")]
async fn among_several_edges_a_command_waits_until_the_device_is_seen_and_follows_it() {
    let (cloud, _dir) = with_pump(settings()).await;
    let (one, two) = (edge(&cloud, "one").await, edge(&cloud, "two").await);
    for id in ["a", "b"] {
        assert_eq!(send(&cloud, request(id)).await.unwrap().state, CommandState::Stored);
    }
    appear(&cloud, &two).await;
    let both = [("a".to_owned(), 1), ("b".to_owned(), 2)];
    assert_eq!(feed(&cloud, &two).await, both);
    assert_eq!(send(&cloud, request("c")).await.unwrap().state, CommandState::Queued);
    appear(&cloud, &one).await;
    assert!(feed(&cloud, &two).await.is_empty());
    assert_eq!(feed(&cloud, &one).await.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_of_an_edge_that_is_revoked_or_loses_the_tenant_wait_for_another() {
    let (cloud, _dir) = with_pump(settings()).await;
    let (one, two) = (edge(&cloud, "one").await, edge(&cloud, "two").await);
    appear(&cloud, &one).await;
    send(&cloud, request("a")).await.unwrap();
    cloud.update_edge(&one.id, Vec::new(), NOW).await.unwrap();
    assert_eq!(feed(&cloud, &two).await, [("a".to_owned(), 1)]);
    cloud.delete_edge(&two.id, NOW).await.unwrap();
    assert_eq!(state(&cloud, "a", NOW).await, CommandState::Stored);
    let again = edge(&cloud, "two").await;
    assert!(feed(&cloud, &again).await.is_empty(), "a new edge of an old name starts empty");
    appear(&cloud, &again).await;
    assert_eq!(feed(&cloud, &again).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_request_makes_no_second_command() {
    let (cloud, _dir) = with_pump(settings()).await;
    let first = send(&cloud, request("a")).await.unwrap();
    assert_eq!(send(&cloud, request("a")).await.unwrap(), first);
    let other = CommandRequest { subject: "close".to_owned(), ..request("a") };
    assert!(matches!(send(&cloud, other).await, Err(Error::Exists(_))));
    let page = Page { size: 10, offset: 0 };
    assert_eq!(cloud.commands(&tenant("acme"), &device("pump"), page).await.unwrap().total, 1);
    let unknown = cloud.send_command(&tenant("acme"), &device("none"), request("a"), NOW).await;
    assert!(matches!(unknown, Err(Error::NotFound(_))));
}

#[tokio::test(flavor = "multi_thread")]
async fn reports_are_taken_once_and_a_delivered_command_leaves_the_feed() {
    let (cloud, _dir) = with_pump(settings()).await;
    let edge = edge(&cloud, "one").await;
    send(&cloud, request("a")).await.unwrap();
    let delivered = frame(Class::CommandStatus, Some(("a", 200)), "");
    let refused = frame(Class::CommandResponse, Some(("a", 503)), "no");
    let late = frame(Class::CommandResponse, Some(("a", 200)), "yes");
    let unknown = frame(Class::CommandResponse, Some(("other", 200)), "?");
    ship(&cloud, &edge, 1, &[unknown, delivered.clone()]).await.unwrap();
    assert_eq!(state(&cloud, "a", NOW).await, CommandState::Delivered);
    assert!(feed(&cloud, &edge).await.is_empty());
    ship(&cloud, &edge, 3, &[refused, late, delivered]).await.unwrap();
    let view =
        cloud.command(&tenant("acme"), &device("pump"), &command("a"), 0, NOW).await.unwrap();
    assert_eq!(view.state, CommandState::Failed);
    assert_eq!(view.response.unwrap().payload, b"no");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_nobody_took_in_time_expires_but_the_edges_word_counts() {
    let (cloud, _dir) = with_pump(Settings { expiry_grace_ms: 1000, ..settings() }).await;
    let within = |id| CommandRequest { deliver_within_s: Some(5), ..request(id) };
    send(&cloud, within("stored")).await.unwrap();
    assert_eq!(state(&cloud, "stored", NOW + 4999).await, CommandState::Stored);
    assert_eq!(state(&cloud, "stored", NOW + 5000).await, CommandState::Expired);

    let edge = edge(&cloud, "one").await;
    send(&cloud, within("queued")).await.unwrap();
    cloud.maintain(NOW + 5500).await.unwrap();
    assert_eq!(state(&cloud, "queued", NOW + 5500).await, CommandState::Queued);
    cloud.maintain(NOW + 6000).await.unwrap();
    assert_eq!(state(&cloud, "queued", NOW + 6000).await, CommandState::Expired);
    assert!(feed(&cloud, &edge).await.is_empty());
    ship(&cloud, &edge, 1, &[frame(Class::CommandStatus, Some(("queued", 200)), "")])
        .await
        .unwrap();
    assert_eq!(state(&cloud, "queued", NOW + 6000).await, CommandState::Delivered);
}

#[tokio::test(flavor = "multi_thread")]
async fn finished_commands_are_removed_after_their_time() {
    let (cloud, _dir) = with_pump(Settings { finished_command_ms: 1000, ..settings() }).await;
    let edge = edge(&cloud, "one").await;
    send(&cloud, request("done")).await.unwrap();
    send(&cloud, request("open")).await.unwrap();
    ship(&cloud, &edge, 1, &[frame(Class::CommandResponse, Some(("done", 200)), "")])
        .await
        .unwrap();
    cloud.maintain(NOW + 1000).await.unwrap();
    let gone = cloud.command(&tenant("acme"), &device("pump"), &command("done"), 0, NOW).await;
    assert!(matches!(gone, Err(Error::NotFound(_))));
    assert_eq!(state(&cloud, "open", NOW).await, CommandState::Queued);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_has_room_for_so_many_commands_and_takes_them_along_when_it_goes() {
    let (cloud, _dir) = with_pump(Settings { waiting_commands_per_device: 2, ..settings() }).await;
    send(&cloud, request("a")).await.unwrap();
    send(&cloud, request("b")).await.unwrap();
    assert!(matches!(send(&cloud, request("c")).await, Err(Error::Limit(_))));
    let (acme, pump) = (tenant("acme"), device("pump"));
    cloud.delete_device(&acme, &pump, &IfMatch::default(), NOW).await.unwrap();
    assert_eq!(state(&cloud, "a", NOW).await, CommandState::Expired);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_malformed_command_is_refused() {
    let (cloud, _dir) = with_pump(settings()).await;
    for subject in ["", "a#b", "a+", "a\nb", &"s".repeat(256)] {
        let subject = subject.to_owned();
        assert!(cloud::is_invalid(send(&cloud, CommandRequest { subject, ..request("a") }).await));
    }
    let payload = vec![0; 256 * 1024 + 1];
    assert!(cloud::is_invalid(send(&cloud, CommandRequest { payload, ..request("a") }).await));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edge_sees_its_own_tenants_alone_and_a_new_snapshot_when_they_change() {
    let (cloud, _dir) = with_pump(settings()).await;
    cloud.create_tenant(Some(tenant("other")), Default::default()).await.unwrap();
    cloud
        .create_device(&tenant("other"), Some(device("d")), Default::default(), NOW)
        .await
        .unwrap();
    let edge = edge(&cloud, "one").await;
    let before = snapshot(&cloud, &edge).await;
    assert_eq!(before.changes.len(), 3);
    cloud.update_edge(&edge.id, vec![tenant("other")], NOW).await.unwrap();
    let edge = cloud.edge_by_id(&edge.id).await.unwrap();
    let request =
        ChangesRequest { feed: Some(before.feed.clone()), after: before.cursor, wait_s: 1 };
    let after = cloud.changes(edge.clone(), &request).await.unwrap();
    assert_ne!(after.feed, before.feed);
    let of_other = |entity: &Entity| match entity {
        Entity::Tenant { tenant, .. }
        | Entity::Device { tenant, .. }
        | Entity::Credentials { tenant, .. } => tenant.as_str() == "other",
        _ => false,
    };
    assert!(after.changes.len() == 3 && after.changes.iter().all(|one| of_other(&one.entity)));
    // A cursor this store cannot have given: it was restored from an earlier time.
    let future = ChangesRequest { feed: Some(after.feed.clone()), after: 1_000_000, wait_s: 1 };
    let restarted = cloud.changes(edge, &future).await.unwrap();
    assert!(restarted.feed != after.feed && restarted.changes.len() == 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cursor_below_dropped_deletions_gets_a_new_snapshot() {
    let (cloud, _dir) = with_pump(settings()).await;
    let edge = edge(&cloud, "one").await;
    send(&cloud, request("a")).await.unwrap();
    let before = snapshot(&cloud, &edge).await;
    ship(&cloud, &edge, 1, &[frame(Class::CommandStatus, Some(("a", 200)), "")]).await.unwrap();
    let behind = |after| ChangesRequest { feed: Some(before.feed.clone()), after, wait_s: 0 };
    let delta = cloud.changes(edge.clone(), &behind(before.cursor)).await.unwrap();
    assert_eq!(delta.changes.len(), 1);
    // The poll that waits with the newest cursor has the deletion: it is dropped.
    let idle = ChangesRequest { wait_s: 1, ..behind(delta.cursor) };
    assert!(cloud.changes(edge.clone(), &idle).await.unwrap().changes.is_empty());
    let restored = cloud.changes(edge, &behind(before.cursor)).await.unwrap();
    assert_ne!(restored.feed, before.feed);
    assert_eq!(restored.changes.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_of_several_pages_comes_to_its_end_after_deletions_were_dropped() {
    let (cloud, _dir) = with_pump(settings()).await;
    for number in 0..300 {
        let id = device(&format!("d{number}"));
        cloud.create_device(&tenant("acme"), Some(id), Default::default(), NOW).await.unwrap();
    }
    let edge = edge(&cloud, "one").await;
    send(&cloud, request("a")).await.unwrap();
    ship(&cloud, &edge, 1, &[frame(Class::CommandStatus, Some(("a", 200)), "")]).await.unwrap();
    let mut changes = Vec::new();
    for round in 0..2 {
        let edge = cloud.edge_by_id(&edge.id).await.unwrap();
        let (mut feed, mut after) = (None, 0);
        changes.clear();
        for _ in 0..5 {
            let request = ChangesRequest { feed: feed.clone(), after, wait_s: 0 };
            let page = cloud.changes(edge.clone(), &request).await.unwrap();
            assert!(feed.is_none_or(|feed| feed == page.feed), "round {round} begins anew");
            (feed, after) = (Some(page.feed), page.cursor);
            changes.extend(page.changes);
            if !page.more {
                break;
            }
        }
        // The poll with the newest cursor drops what was deleted; then the edge has to begin anew.
        let idle = ChangesRequest { feed, after, wait_s: 1 };
        assert!(cloud.changes(edge.clone(), &idle).await.unwrap().changes.is_empty());
        cloud.update_edge(&edge.id, vec![tenant("acme")], NOW).await.unwrap();
    }
    assert_eq!(changes.len(), 1 + 2 * 301);
}

#[tokio::test(flavor = "multi_thread")]
async fn deletions_are_dropped_although_many_commands_wait_in_front_of_them() {
    let (cloud, _dir) = with_pump(settings()).await;
    let edge = edge(&cloud, "one").await;
    for id in 0..6 {
        let payload = vec![0; 250 * 1024];
        send(&cloud, CommandRequest { payload, ..request(&format!("w{id}")) }).await.unwrap();
    }
    send(&cloud, request("a")).await.unwrap();
    ship(&cloud, &edge, 1, &[frame(Class::CommandStatus, Some(("a", 200)), "")]).await.unwrap();
    let tombstones = async || {
        let (mut after, mut feed, mut found) = (0, None, 0);
        loop {
            let edge = cloud.edge_by_id(&edge.id).await.unwrap();
            let request = ChangesRequest { feed, after, wait_s: 0 };
            let page = cloud.changes(edge, &request).await.unwrap();
            let gone = |entity: &Entity| matches!(entity, Entity::Command { document: None, .. });
            found += page.changes.iter().filter(|change| gone(&change.entity)).count();
            (after, feed) = (page.cursor, Some(page.feed));
            if !page.more {
                return (found, after, feed);
            }
        }
    };
    let (found, after, feed) = tombstones().await;
    assert_eq!(found, 1);
    for _ in 0..3 {
        let idle = ChangesRequest { feed: feed.clone(), after, wait_s: 1 };
        assert!(cloud.changes(edge.clone(), &idle).await.unwrap().changes.is_empty());
    }
    cloud.update_edge(&edge.id, vec![tenant("acme")], NOW).await.unwrap();
    assert_eq!(tombstones().await.0, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn edges_are_sent_a_tenant_that_comes_back_with_all_it_has() {
    let (cloud, _dir) = with_pump(settings()).await;
    let edge = edge(&cloud, "one").await;
    let before = snapshot(&cloud, &edge).await;
    cloud.delete_tenant(&tenant("acme"), &IfMatch::default()).await.unwrap();
    let behind = |after| ChangesRequest { feed: Some(before.feed.clone()), after, wait_s: 0 };
    let gone = cloud.changes(edge.clone(), &behind(before.cursor)).await.unwrap();
    assert_eq!(gone.changes.len(), 1);
    // The edge has dropped the tenant's devices with it; the cloud side keeps them.
    cloud.create_tenant(Some(tenant("acme")), Default::default()).await.unwrap();
    let edge = cloud.edge_by_id(&edge.id).await.unwrap();
    let back = cloud.changes(edge, &behind(gone.cursor)).await.unwrap();
    let is_pump = |entity: &Entity| matches!(entity, Entity::Device { document: Some(_), .. });
    assert!(back.changes.iter().any(|change| is_pump(&change.entity)), "{back:?}");
}
