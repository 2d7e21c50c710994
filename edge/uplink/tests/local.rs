//! The uplink against the cloud's own functions, over TLS with a development CA.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that fails says so by panicking")]

mod harness;

use fulcrum_contract::enrolment::EdgeCreated;
use fulcrum_contract::registry::ApplicationCreated;
use fulcrum_contract::streams::RecordPage;
use fulcrum_contract::{DeviceId, EdgeId, TenantId};
use fulcrum_frame::Class;
use fulcrum_local::{LocalConfig, Running};
use fulcrum_uplink::{DropReason, LinkState, UplinkConfig, UplinkError, enrol};
use harness::{Journal, eventually, frame, payloads, start};
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;
use tempfile::TempDir;

/// A local cloud with a tenant `acme`, its device `pump-7` and an edge `e1`.
struct Host {
    running: Option<Running>,
    address: SocketAddr,
    dir: TempDir,
}

impl Host {
    async fn start() -> Host {
        let dir = tempfile::tempdir().unwrap();
        let running = serve(dir.path(), "127.0.0.1:0".parse().unwrap()).await;
        let address = running.address();
        let host = Host { running: Some(running), address, dir };
        host.ask("POST", "/v1/tenants/acme", "{}");
        host.ask("POST", "/v1/devices/acme/pump-7", "{}");
        host
    }

    fn edge_token(&self) -> String {
        let created = self.ask("POST", "/v1/edges/e1", r#"{"tenants":["acme"]}"#);
        serde_json::from_str::<EdgeCreated>(&created).unwrap().token
    }

    async fn stop(&mut self) {
        self.running.take().unwrap().shutdown().await;
    }

    async fn start_again(&mut self) {
        self.running = Some(serve(self.dir.path(), self.address).await);
    }

    /// Asks as an operator; the answer's body.
    fn ask(&self, method: &str, path: &str, body: &str) -> String {
        let token = std::fs::read_to_string(self.dir.path().join("operator.token")).unwrap();
        self.curl(&["-H", &format!("Authorization: Bearer {}", token.trim())], method, path, body)
    }

    fn curl(&self, auth: &[&str], method: &str, path: &str, body: &str) -> String {
        let mut curl = Command::new("curl");
        curl.args(["-s", "--fail-with-body", "--max-time", "20", "-X", method]).args(auth);
        curl.arg("--cacert").arg(self.dir.path().join("ca.pem"));
        if !body.is_empty() {
            curl.args(["-H", "Content-Type: application/json", "--data-binary", body]);
        }
        let output = curl.arg(format!("https://{}{path}", self.address)).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{method} {path}: {text}");
        text
    }

    /// Payloads of all records of `acme`, as an application reads them.
    fn payloads(&self, application: &ApplicationCreated) -> Vec<Vec<u8>> {
        let login = format!("{}:{}", application.username, application.password);
        let path = "/v1/streams/acme/records?group=g&max=1000";
        let page = self.curl(&["-u", &login], "GET", path, "");
        let page: RecordPage = serde_json::from_str(&page).unwrap();
        page.records.into_iter().map(|record| record.payload).collect()
    }

    fn config(&self, dir: &Path) -> UplinkConfig {
        let cloud = format!("https://{}", self.address).parse().unwrap();
        let mut config =
            UplinkConfig::new(cloud, EdgeId::parse("e1").unwrap(), dir.join("edge.key"));
        config.ca_file = Some(self.dir.path().join("ca.pem"));
        config.backoff.max = Duration::from_millis(300);
        config
    }
}

async fn serve(dir: &Path, listen: SocketAddr) -> Running {
    let mut config = LocalConfig::new(dir, listen);
    config.settings.bcrypt_cost = 4;
    fulcrum_local::start(config).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn records_go_up_exactly_once_over_an_outage_and_changes_come_down() {
    let mut host = Host::start().await;
    let created = host.ask("POST", "/v1/applications/acme/reader", "");
    let application: ApplicationCreated = serde_json::from_str(&created).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let config = host.config(dir.path());
    let enrolled = enrol(&config, &host.edge_token()).await.unwrap();
    assert_eq!(enrolled.tenants, [TenantId::parse("acme").unwrap()]);

    let mut journal = Journal::open(dir.path());
    journal.append("acme", 1..=50);
    let node = start(dir.path(), config, vec![journal.tail.clone()]);
    eventually("the backlog arrives", || host.payloads(&application) == payloads(1..=50));
    let (acme, pump) = (TenantId::parse("acme").unwrap(), DeviceId::parse("pump-7").unwrap());
    eventually("the device is replicated", || {
        node.identity.device(&acme, &pump).unwrap().is_some()
    });

    node.presence.present(acme.clone(), pump).unwrap();
    eventually("the device is told", || node.status.snapshot().presence_devices == 1);
    host.ask("POST", "/v1/commands/acme/pump-7", r#"{"id":"c1","subject":"open"}"#);
    let told_of_command = || {
        let told = node.told.lock().unwrap();
        told.applied.iter().any(|page| page.commands.iter().any(|(tenant, _)| *tenant == acme))
    };
    eventually("the command comes down", told_of_command);

    assert!(node.live.has_credit());
    node.live.try_send(frame(Class::Telemetry, "acme", b"live"), Some(1)).unwrap();
    eventually("the live record is accepted", || node.outcomes() == [(1, true)]);

    host.stop().await;
    eventually("the link is down", || node.status.state() == LinkState::Down);
    assert!(!node.live.has_credit());
    journal.append("acme", 51..=80);
    host.start_again().await;
    let mut expected = payloads(1..=80);
    expected.push(b"live".to_vec());
    expected.sort();
    let all_arrived = || {
        let mut arrived = host.payloads(&application);
        arrived.sort();
        arrived == expected
    };
    eventually("all arrive, once", all_arrived);
    eventually("all is acknowledged", || journal.is_acknowledged());
    node.stop();
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_taken_from_the_edge_and_given_back_shows_a_gap() {
    let mut host = Host::start().await;
    let created = host.ask("POST", "/v1/applications/acme/reader", "");
    let application: ApplicationCreated = serde_json::from_str(&created).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let config = host.config(dir.path());
    enrol(&config, &host.edge_token()).await.unwrap();
    let mut journal = Journal::open(dir.path());
    journal.append("acme", 1..=3);
    let node = start(dir.path(), config.clone(), vec![journal.tail.clone()]);
    eventually("the first arrive", || host.payloads(&application) == payloads(1..=3));
    host.ask("PUT", "/v1/edges/e1", r#"{"tenants":[]}"#);
    journal.append("acme", 4..=5);
    eventually("those after are given up", || journal.is_acknowledged());
    node.stop();
    // The journal remembers that it needs them no more.
    journal.append("other", 1..=1);
    // Only a new start asks before the refusal's time is over.
    host.ask("PUT", "/v1/edges/e1", r#"{"tenants":["acme"]}"#);
    drop(journal);
    let mut journal = Journal::open(dir.path());
    journal.append("acme", 6..=6);
    let node = start(dir.path(), config, vec![journal.tail.clone()]);
    eventually("the stream goes on", || host.payloads(&application).len() == 6);
    let expected = [&b"1"[..], b"2", b"3", b"", b"", b"6"];
    assert_eq!(host.payloads(&application), expected);
    eventually("all is acknowledged", || journal.is_acknowledged());
    assert_eq!(node.status.dropped(DropReason::CloudGap), 2);
    node.stop();
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_token_and_an_unknown_authority_are_refused_in_words() {
    let mut host = Host::start().await;
    let dir = tempfile::tempdir().unwrap();
    let mut config = host.config(dir.path());
    let token = host.edge_token();
    let wrong = enrol(&config, "wrong").await.unwrap_err();
    assert!(matches!(&wrong, UplinkError::Refused { status: 401, .. }), "{wrong}");
    config.ca_file = None;
    let stranger = enrol(&config, &token).await.unwrap_err();
    assert!(matches!(&stranger, UplinkError::Unreachable { .. }), "{stranger}");
    assert!(!stranger.to_string().contains(&token));
    host.stop().await;
}
