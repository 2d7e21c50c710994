//! One message up and one command down, over TLS, as an edge node, an operator and an application see it.
#![allow(clippy::unwrap_used, reason = "a test's own tools fail the test")]

mod support;

use fulcrum_contract::commands::{CommandState, CommandView};
use fulcrum_contract::enrolment::Enrolled;
use fulcrum_contract::feed::{ChangePage, Entity};
use fulcrum_contract::registry::ApplicationCreated;
use fulcrum_contract::streams::{GroupView, RecordPage};
use fulcrum_contract::sync::{BatchAnswer, Marks};
use fulcrum_frame::Class;
use support::{Auth, EdgeNode, Host, command_frame, events, with_pump};

fn changes(host: &Host, edge: &EdgeNode, before: Option<&ChangePage>) -> ChangePage {
    let query = match before {
        None => "changes".to_owned(),
        Some(page) => format!("changes?feed={}&after={}&wait=10", page.feed, page.cursor),
    };
    let reply = edge.get(host, &query);
    assert_eq!(reply.status, 200);
    reply.json()
}

fn has_command(page: &ChangePage, id: &str, present: bool) -> bool {
    page.changes.iter().any(|change| {
        matches!(&change.entity, Entity::Command { command, document, .. }
            if command.as_str() == id && document.is_some() == present)
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_goes_up_once_and_a_command_comes_down_and_is_answered() {
    let host = Host::start().await;
    with_pump(&host);
    let created = host.post("/v1/applications/acme/reader", "");
    assert_eq!(created.status, 201);
    let app: ApplicationCreated = created.json();
    let auth = Auth::Basic(&app.username, &app.password);
    let edge = EdgeNode::enrol(&host, "site-1", &["acme"]);

    // Up: two batches that overlap.
    assert!(edge.get(&host, "marks").json::<Marks>().marks.is_empty());
    for (first, frames) in [(1, events(1..=3)), (1, events(1..=3)), (2, events(2..=5))] {
        assert_eq!(edge.ship(&host, "p0", first, &frames).status, 200);
    }
    let gap = edge.ship(&host, "p0", 9, &events(9..=9));
    assert_eq!((gap.status, gap.json::<BatchAnswer>().high_water_mark), (409, 5));
    assert_eq!(edge.get(&host, "marks").json::<Marks>().marks[0].sequence, 5);

    let read = |path: &str| host.ask("GET", path, &auth, &[], None);
    let page: RecordPage = read("/v1/streams/acme/records?group=g&max=10").json();
    let payloads: Vec<_> = page.records.iter().map(|record| record.payload.clone()).collect();
    assert_eq!(payloads, [b"1", b"2", b"3", b"4", b"5"]);
    assert_eq!(page.records[0].properties["key"], "value");
    assert_eq!(read("/v1/streams/acme/records?group=g&max=10").json::<RecordPage>(), page);
    let commit = serde_json::json!({ "positions": page.commit }).to_string();
    let json = ["Content-Type: application/json"];
    let path = "/v1/streams/acme/groups/g/commit";
    assert_eq!(host.ask("POST", path, &auth, &json, Some(commit.as_bytes())).status, 204);
    assert!(read("/v1/streams/acme/records?group=g").json::<RecordPage>().records.is_empty());
    assert_eq!(read("/v1/streams/acme/groups/g").json::<GroupView>().lag, 0);

    // Down: a command, through the feed.
    let snapshot = changes(&host, &edge, None);
    assert_eq!(snapshot.changes.len(), 4);
    let body = br#"{"id":"c1","subject":"open","responseRequired":true,"payload":"aGk="}"#;
    let sent = host.ask("POST", "/v1/commands/acme/pump", &auth, &json, Some(body));
    assert_eq!((sent.status, sent.json::<CommandView>().state), (202, CommandState::Queued));
    let delta = changes(&host, &edge, Some(&snapshot));
    assert!(has_command(&delta, "c1", true));
    let frames = [
        command_frame(Class::CommandStatus, "pump", Some(("c1", 200)), b""),
        command_frame(Class::CommandResponse, "pump", Some(("c1", 204)), b"done"),
    ];
    assert_eq!(edge.ship(&host, "p1", 1, &frames).status, 200);
    let view: CommandView = read("/v1/commands/acme/pump/c1?wait=20").json();
    assert_eq!(view.state, CommandState::Succeeded);
    assert_eq!(view.response.unwrap().payload, b"done");
    assert!(has_command(&changes(&host, &edge, Some(&delta)), "c1", false));

    // What was answered is there after an end and a new start.
    let host = Host::start_in(host.stop().await, |_| {}).await;
    let marks = edge.get(&host, "marks").json::<Marks>().marks;
    assert_eq!(marks.iter().map(|mark| mark.sequence).collect::<Vec<_>>(), [5, 2]);
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_enrolment_token_makes_one_key_trusted_and_no_second() {
    let host = Host::start().await;
    with_pump(&host);
    let created = host.post("/v1/edges/site-1", r#"{"tenants":["acme"]}"#);
    let token = created.value()["token"].as_str().unwrap().to_owned();
    let (node, thief) = (EdgeNode::with_new_key("site-1"), EdgeNode::with_new_key("site-1"));
    assert_eq!(node.present(&host, "wrong").status, 401);
    let enrolled = node.present(&host, &token);
    assert_eq!(enrolled.status, 200);
    assert_eq!(enrolled.json::<Enrolled>().tenants[0].as_str(), "acme");
    assert_eq!(node.present(&host, &token).status, 200, "a lost answer is given again");
    assert_eq!(thief.present(&host, &token).status, 401);
    assert_eq!(thief.get(&host, "marks").status, 401);
    assert_eq!(node.get(&host, "marks").status, 200);
    assert_eq!(host.delete("/v1/edges/site-1").status, 204);
    assert_eq!(node.get(&host, "marks").status, 401);
    host.stop().await;
}
