//! What is malformed, oversized, foreign or forged gets the API's own refusal, over real TLS.
#![allow(clippy::unwrap_used, reason = "a test's own tools fail the test")]

mod support;

use fulcrum_contract::enrolment::AUDIENCE;
use fulcrum_contract::sync::{BATCH_BODY_BYTES_MAX, Marks};
use fulcrum_frame::Class;
use fulcrum_local::{LocalConfig, LocalError, Tls, start};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};
use support::{Auth, EdgeNode, Host, batch, events, frame, mode, with_pump};

#[tokio::test(flavor = "multi_thread")]
async fn the_registry_speaks_as_hono_does() {
    let host = Host::start().await;
    let created = host.post("/v1/tenants/acme", "{}");
    assert_eq!((created.status, created.value()), (201, serde_json::json!({ "id": "acme" })));
    assert_eq!(created.header("location"), Some("/v1/tenants/acme"));
    let etag = created.header("etag").unwrap().to_owned();
    assert_eq!(host.get("/v1/tenants/acme").header("etag"), Some(etag.as_str()));
    assert_eq!(host.post("/v1/tenants/acme", "").status, 409);

    let if_match = format!("If-Match: {etag}");
    let headers = ["Content-Type: application/json", if_match.as_str()];
    let put = |headers| host.ask("PUT", "/v1/tenants/acme", &Auth::Operator, headers, Some(b"{}"));
    let updated = put(&headers);
    assert_eq!(updated.status, 204);
    assert_ne!(updated.header("etag"), Some(etag.as_str()));
    assert_eq!(put(&headers).status, 412);

    // An empty body needs no media type, a body does.
    assert_eq!(host.ask("POST", "/v1/devices/acme/pump", &Auth::Operator, &[], None).status, 201);
    let typeless = host.ask(
        "POST",
        "/v1/devices/acme/x",
        &Auth::Operator,
        &["Content-Type: text/plain"],
        Some(b"{}"),
    );
    assert_eq!(typeless.status, 400);
    assert_eq!(host.get("/v1/credentials/acme/pump").value(), serde_json::json!([]));
    let generated = host.post("/v1/devices/acme", "").value()["id"].as_str().unwrap().to_owned();
    assert_eq!(host.get(&format!("/v1/devices/acme/{generated}")).status, 200);
    let listed = host.get("/v1/devices/acme?pageSize=1").value();
    assert_eq!((&listed["total"], listed["result"].as_array().unwrap().len()), (&2.into(), 1));
    assert_eq!(host.get("/v1/devices/other").status, 404);
    assert_eq!(host.delete("/v1/devices/acme/pump").status, 204);
    assert_eq!(host.get("/v1/credentials/acme/pump").status, 404);
    assert_eq!(host.delete("/v1/devices/acme/pump").status, 404);
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_malformed_is_refused_with_a_json_error() {
    let host = Host::start().await;
    with_pump(&host);
    for (method, path, body, status) in [
        ("POST", "/v1/tenants/a", Some("{"), 400),
        ("POST", "/v1/tenants/a", Some(r#"{"unknown":1}"#), 400),
        ("POST", "/v1/tenants/a", Some("[1]"), 400),
        ("POST", "/v1/tenants/a%2Fb", None, 400),
        ("POST", "/v1/tenants/%zz", None, 400),
        ("GET", "/v1/tenants/", None, 400),
        ("PUT", "/v1/tenants/acme", None, 400),
        ("PATCH", "/v1/tenants/acme", Some("{}"), 405),
        ("GET", "/v1/tenants?pageSize=201", None, 400),
        ("GET", "/v1/tenants?pageOffset=-1", None, 400),
        ("GET", "/v1/tenants/a/b/c", None, 404),
        ("GET", "/v2/tenants", None, 404),
        ("GET", "/", None, 404),
        ("PUT", "/v1/credentials/acme/pump", Some("{}"), 400),
        ("PUT", "/v1/credentials/acme/none", Some("[]"), 404),
        ("POST", "/v1/edges/e", Some(r#"{"tenants":["none"]}"#), 404),
        ("POST", "/v1/enrol", Some(r#"{"edge":"e","token":"t","publicKey":"no"}"#), 400),
        ("GET", "/v1/streams/acme/records", None, 400),
        ("GET", "/v1/streams/acme/records?group=g&max=0", None, 400),
        ("GET", "/v1/streams/acme/records?group=g&max=1001", None, 400),
        ("GET", "/v1/streams/acme/records?group=g&class=all", None, 400),
        ("GET", "/v1/streams/acme/records?group=g&wait=x", None, 400),
        ("GET", "/v1/streams/acme/records?group=a%2Fb", None, 400),
        ("POST", "/v1/streams/acme/groups/g/commit", Some(r#"{"positions":[]}"#), 404),
        ("POST", "/v1/commands/acme/pump", Some(r#"{"subject":""}"#), 400),
        ("POST", "/v1/commands/acme/pump", Some(r#"{"subject":"s","payload":"?"}"#), 400),
        ("POST", "/v1/commands/acme/none", Some(r#"{"subject":"s"}"#), 404),
    ] {
        let json = ["Content-Type: application/json"];
        let reply = host.ask(method, path, &Auth::Operator, &json, body.map(str::as_bytes));
        assert_eq!(reply.status, status, "{method} {path}");
        assert!(reply.value()["error"].is_string(), "{method} {path}");
    }
    let deep = "[".repeat(100_000);
    assert_eq!(host.post("/v1/tenants/a", &deep).status, 400);
    assert_eq!(host.post("/v1/tenants/a", &" ".repeat(1024 * 1024 + 1)).status, 413);
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_gets_in_without_a_valid_token_and_no_tenant_sees_another() {
    let host = Host::start().await;
    with_pump(&host);
    host.post("/v1/tenants/other", "");
    let app = host.post("/v1/applications/acme/reader", r#"{"permissions":["consume"]}"#).value();
    let password = app["password"].as_str().unwrap();
    let reader = Auth::Basic("reader@acme", password);
    let get = |path: &str, auth: &Auth<'_>| host.ask("GET", path, auth, &[], None);
    for path in [
        "/v1/tenants",
        "/v1/edges",
        "/v1/streams/acme/records?group=g",
        "/v1/commands/acme/pump",
        "/v1/sync/e/marks",
    ] {
        for auth in [Auth::Nobody, Auth::Bearer("x".to_owned()), Auth::Basic("reader@acme", "x")] {
            let reply = get(path, &auth);
            assert_eq!(reply.status, 401, "{path}");
            assert!(reply.header("www-authenticate").is_some());
        }
    }
    assert_eq!(get("/v1/tenants", &reader).status, 403);
    assert_eq!(get("/v1/streams/acme/records?group=g", &reader).status, 200);
    assert_eq!(get("/v1/streams/other/records?group=g", &reader).status, 403);
    assert_eq!(get("/v1/commands/acme/pump", &reader).status, 403);
    assert!(!String::from_utf8(host.get("/v1/applications/acme").body).unwrap().contains("sha256"));
    assert_eq!(host.ask("GET", "/healthz", &Auth::Nobody, &[], None).status, 200);
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forged_stale_or_borrowed_edge_token_is_refused() {
    let host = Host::start().await;
    with_pump(&host);
    let (edge, other) =
        (EdgeNode::enrol(&host, "one", &["acme"]), EdgeNode::enrol(&host, "two", &[]));
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let marks =
        |token| host.ask("GET", "/v1/sync/one/marks", &Auth::Bearer(token), &[], None).status;
    assert_eq!(marks(edge.token_of("one", AUDIENCE, now, now + 600)), 200);
    assert_eq!(marks(other.token_of("one", AUDIENCE, now, now + 600)), 401);
    assert_eq!(marks(edge.token_of("two", AUDIENCE, now, now + 600)), 401);
    assert_eq!(marks(edge.token_of("one", "another", now, now + 600)), 401);
    assert_eq!(marks(edge.token_of("one", AUDIENCE, now, now + 601)), 401);
    assert_eq!(marks(edge.token_of("one", AUDIENCE, now - 1300, now - 700)), 401);
    let good = edge.token();
    let unsigned = format!("eyJhbGciOiJub25lIn0.{}.", good.split('.').nth(1).unwrap());
    assert_eq!(marks(unsigned), 401);
    assert_eq!(marks(good.split('.').next().unwrap().to_owned()), 401);
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_lies_stores_nothing() {
    let host = Host::start().await;
    with_pump(&host);
    host.post("/v1/tenants/other", "");
    let edge = EdgeNode::enrol(&host, "site", &["acme"]);
    let ship = |body: &[u8]| edge.ship_body(&host, body).status;
    let good = batch("acme", "p0", 7, 1, &events(1..=3));
    for cut in [0, 3, 40, good.len() - 1] {
        assert_eq!(ship(&good[..cut]), 400, "cut at {cut}");
    }
    assert_eq!(ship(&batch("other", "p0", 7, 1, &events(1..=1))), 403);
    assert_eq!(ship(&batch("none", "p0", 7, 1, &events(1..=1))), 403);
    let mut foreign = Vec::new();
    let mut builder = fulcrum_frame::FrameBuilder::new(&mut foreign, Class::Event, 1, 1);
    builder.text(fulcrum_frame::Tag::Tenant, "other").text(fulcrum_frame::Tag::Device, "pump");
    builder.finish(b"").unwrap();
    assert_eq!(ship(&batch("acme", "p0", 7, 1, &[foreign])), 403);
    for name in ["", "p", "q0", "p0/x", "p123456", "../p0"] {
        assert_eq!(ship(&batch("acme", name, 7, 1, &events(1..=1))), 400, "{name}");
    }
    assert_eq!(ship(&batch("acme", "t0", 7, 1, &events(1..=1))), 400);
    assert_eq!(ship(&batch("acme", "p0", 7, 1, &[b"not a frame".to_vec()])), 400);
    assert_eq!(ship(&batch("acme", "p0", 7, 1, &[frame(Class::Command, "pump", b"")])), 400);
    assert_eq!(ship(&batch("acme", "p0", 7, 1, &[frame(Class::Event, "", b"")])), 400);
    let bomb = vec![frame(Class::Event, "pump", &vec![0; 9 * 1024 * 1024]); 2];
    assert_eq!(ship(&batch("acme", "p0", 7, 1, &bomb)), 400);
    assert_eq!(ship(&vec![0; BATCH_BODY_BYTES_MAX + 1]), 413);
    let path = "/v1/sync/site/batches";
    let typeless =
        host.ask("POST", path, &Auth::Bearer(edge.token()), &["Content-Type: x/y"], Some(&good));
    assert_eq!(typeless.status, 400);
    let foreign = r#"{"devices":[{"tenant":"other","device":"pump"}]}"#;
    assert_eq!(edge.post(&host, "presence", foreign).status, 403);
    assert!(edge.get(&host, "marks").json::<Marks>().marks.is_empty());
    assert_eq!(ship(&good), 200);
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_are_for_the_owner_alone_and_outlive_a_new_start() {
    let host = Host::start().await;
    let token = std::fs::read_to_string(host.running.operator_token_path()).unwrap();
    let dir = host.stop().await;
    for name in ["operator.token", "ca.key", "server.key", "server.pem", "cloud.redb"] {
        assert_eq!(mode(&dir.path().join(name)), 0o600, "{name}");
    }
    assert_eq!(mode(&dir.path().join("ca.pem")), 0o644);
    let ca = std::fs::read(dir.path().join("ca.pem")).unwrap();
    let server = std::fs::read(dir.path().join("server.pem")).unwrap();
    let host =
        Host::start_in(dir, |config| config.host_names = vec!["cloud.example".to_owned()]).await;
    assert_eq!(std::fs::read_to_string(host.running.operator_token_path()).unwrap(), token);
    assert_eq!(std::fs::read(host.running.ca_path().unwrap()).unwrap(), ca);
    // Another name needs another certificate, of the same CA.
    assert_ne!(std::fs::read(host.dir.path().join("server.pem")).unwrap(), server);
    assert_eq!(host.get("/healthz").status, 200);
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn http2_and_plain_http_serve_the_same_api() {
    let host = Host::start().await;
    let url = format!("https://localhost:{}/healthz", host.running.address().port());
    let mut curl = Command::new("curl");
    curl.args([
        "-s",
        "--http2",
        "-o",
        "/dev/null",
        "-w",
        "%{http_version} %{http_code}",
        "--cacert",
    ]);
    let output = curl.arg(host.running.ca_path().unwrap()).arg(url).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "2 200");
    host.stop().await;
    let plain = Host::start_with(|config| config.tls = Tls::Off).await;
    assert_eq!(plain.running.ca_path(), None);
    assert_eq!(plain.get("/v1/tenants").status, 404);
    plain.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_on_the_wire_ends_its_own_connection_only() {
    let host = Host::start_with(|config| config.tls = Tls::Off).await;
    for garbage in [&b"\x16\x03\x01\x02\x00"[..], b"GET / HTTP/9.9\r\n\r\n", &[0xff; 70_000]] {
        let mut stream = TcpStream::connect(host.running.address()).unwrap();
        // The peer may close before everything is written.
        let _ = stream.write_all(garbage);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        assert!(
            answer.is_empty()
                || answer.starts_with(b"HTTP/1.1 4")
                || answer.starts_with(b"HTTP/1.1 5")
        );
    }
    assert_eq!(host.get("/healthz").status, 200);
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_host_on_one_directory_and_a_damaged_token_are_told_apart() {
    let host = Host::start().await;
    let config = || LocalConfig::new(host.dir.path(), "127.0.0.1:0".parse().unwrap());
    assert!(matches!(start(config()).await, Err(LocalError::Store(_))));
    std::fs::write(host.running.operator_token_path(), "short").unwrap();
    assert!(matches!(start(config()).await, Err(LocalError::Damaged(_))));
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_poll_does_not_hold_the_end_of_the_host_up() {
    let host = Host::start().await;
    with_pump(&host);
    let edge = EdgeNode::enrol(&host, "site", &["acme"]);
    let feed = edge.get(&host, "changes").value();
    let address = host.running.address();
    let path = format!(
        "https://localhost:{}/v1/sync/site/changes?feed={}&after={}&wait=25",
        address.port(),
        feed["feed"].as_str().unwrap(),
        feed["cursor"]
    );
    let mut curl = Command::new("curl");
    curl.args(["-s", "-H", &format!("Authorization: Bearer {}", edge.token()), "--cacert"]);
    let mut waiting = curl.arg(host.running.ca_path().unwrap()).arg(path).spawn().unwrap();
    std::thread::sleep(std::time::Duration::from_millis(300));
    let started = std::time::Instant::now();
    let dir = host.stop().await;
    assert!(started.elapsed() < std::time::Duration::from_secs(10));
    waiting.wait().unwrap();
    // The store is closed: it can be opened again at once.
    Host::start_in(dir, |_| {}).await.stop().await;
}
