//! The command line against a real local cloud, as two processes.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "the whole file is tests; a panic is their verdict"
)]

use serde_json::Value;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use tempfile::TempDir;

const FULCRUM: &str = env!("CARGO_BIN_EXE_fulcrum");

/// A local cloud on a free port, with a context file of its own.
struct Cloud {
    child: Child,
    folder: TempDir,
    announced: Value,
}

impl Cloud {
    fn start() -> Cloud {
        let folder = tempfile::tempdir().unwrap();
        let mut child = command(folder.path())
            .args(["cloud", "--listen", "127.0.0.1:0", "--json", "--data-dir"])
            .arg(folder.path().join("cloud"))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let announced = serde_json::from_str(&line).unwrap();
        Cloud { child, folder, announced }
    }

    fn run(&self, words: &[&str]) -> Output {
        command(self.folder.path()).args(words).stdin(Stdio::null()).output().unwrap()
    }

    /// The answer of a command that must succeed.
    fn json(&self, words: &[&str]) -> Value {
        let output = self.run(&[words, &["--json"]].concat());
        assert!(output.status.success(), "{words:?}: {}", text(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// Exit code and words of a command that must fail.
    fn refusal(&self, words: &[&str]) -> (i32, String) {
        let output = self.run(words);
        assert!(!output.status.success(), "{words:?}: {}", text(&output.stdout));
        (output.status.code().unwrap(), text(&output.stderr))
    }
}

impl Drop for Cloud {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn command(folder: &Path) -> Command {
    let mut command = Command::new(FULCRUM);
    command.env("FULCRUM_CONTEXT", folder.join("context.json"));
    for name in ["FULCRUM_CLOUD", "FULCRUM_CA", "FULCRUM_TOKEN_FILE"] {
        command.env_remove(name);
    }
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn a_tenant_with_a_device_and_an_edge_is_set_up_from_the_command_line() {
    let cloud = Cloud::start();
    assert_eq!(cloud.json(&["tenant", "create", "acme"])["id"], "acme");
    assert_eq!(
        cloud.json(&["device", "create", "acme", "sensor-1", "--via", "gateway"])["id"],
        "sensor-1"
    );
    assert_eq!(cloud.json(&["device", "show", "acme", "sensor-1"])["via"][0], "gateway");
    assert_eq!(cloud.json(&["device", "list", "acme"])["total"], 1);

    let application = cloud.json(&["application", "create", "acme", "dashboard"]);
    assert_eq!(application["username"], "dashboard@acme");
    assert!(application["password"].as_str().unwrap().len() >= 32);

    let created = cloud.json(&["edge", "create", "edge-1", "--tenant", "acme"]);
    let data_dir = cloud.folder.path().join("edge");
    let token = created["token"].as_str().unwrap();
    let enrol = [
        "edge",
        "enrol",
        "--edge",
        "edge-1",
        "--token",
        token,
        "--data-dir",
        data_dir.to_str().unwrap(),
    ];
    assert_eq!(cloud.json(&enrol)["tenants"][0], "acme");
    assert!(data_dir.join("edge-key.pem").exists());
    assert_eq!(cloud.json(&["edge", "show", "edge-1"])["enrolled"], true);

    // The same node may ask again, its answer could have been lost; another node cannot.
    assert_eq!(cloud.json(&enrol)["edge"], "edge-1");
    let other_dir = cloud.folder.path().join("other");
    let other = [
        "edge",
        "enrol",
        "--edge",
        "edge-1",
        "--token",
        token,
        "--data-dir",
        other_dir.to_str().unwrap(),
    ];
    let (code, words) = cloud.refusal(&other);
    assert_eq!(code, 2);
    assert!(words.contains("fulcrum edge token edge-1"), "{words}");
}

#[test]
fn messaging_addresses_are_declared_shown_and_taken_away() {
    let cloud = Cloud::start();
    let both = ["--address", "site/#", "--address", "own/{device}/+"];
    cloud.json(&[&["tenant", "create", "acme"][..], &both].concat());
    let patterns = || {
        let shown = cloud.json(&["tenant", "show", "acme"])["messaging"]["addresses"].take();
        let pattern = |one: &Value| one["pattern"].as_str().unwrap().to_owned();
        shown.as_array().map(|all| all.iter().map(pattern).collect::<Vec<_>>())
    };
    assert_eq!(patterns().unwrap(), ["site/#", "own/{device}/+"]);

    // Those given are all there are, and keep what a file said of them.
    let file = cloud.folder.path().join("acme.json");
    let document =
        r#"{"messaging":{"addresses":[{"pattern":"a/b","type":"multicast","devices":"none"}]}}"#;
    std::fs::write(&file, document).unwrap();
    cloud.json(&["tenant", "update", "acme", "--file", file.to_str().unwrap()]);
    cloud.json(&["tenant", "update", "acme", "--address", "a/b", "--address", "x"]);
    assert_eq!(patterns().unwrap(), ["a/b", "x"]);
    let shown = cloud.json(&["tenant", "show", "acme"]);
    assert_eq!(shown["messaging"]["addresses"][0]["devices"], "none");

    let (code, words) = cloud.refusal(&["tenant", "update", "acme", "--address", "telemetry/#"]);
    assert_eq!(code, 4);
    assert!(words.contains("belongs to the device API"), "{words}");
    cloud.json(&["tenant", "update", "acme", "--no-addresses"]);
    assert_eq!(patterns(), None);

    let meter = ["application", "create", "acme", "meter", "--permission", "publish"];
    cloud.json(&meter);
    let shown = cloud.json(&["application", "show", "acme", "meter"]);
    assert_eq!(shown["permissions"], serde_json::json!(["publish"]));
}

#[test]
fn certificates_and_keys_are_given_to_devices_from_files() {
    let cloud = Cloud::start();
    let file = |name: &str, text: String| {
        let path = cloud.folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let made = rcgen::generate_simple_self_signed(["sensor-1".to_owned()]).unwrap();
    let certificate = file("cert.pem", made.cert.pem());
    let key = file("key.pem", made.signing_key.public_key_pem());
    cloud.json(&["tenant", "create", "acme", "--trusted-ca", &certificate]);
    let anchor = cloud.json(&["tenant", "show", "acme"])["trusted-ca"][0].take();
    assert_eq!(anchor["subject-dn"], "CN=rcgen self signed cert");
    assert_eq!((anchor["algorithm"].as_str(), anchor["cert"].as_str()), (Some("EC"), None));

    cloud.json(&["device", "create", "acme", "sensor-1"]);
    let set = |words: &[&str]| {
        cloud.json(&[&["credentials", words[0], "acme", "sensor-1"], &words[1..]].concat())
    };
    let subject = "CN=rcgen self signed cert";
    assert_eq!(set(&["set-certificate", "--cert", &certificate])["subject"], subject);
    set(&["set-certificate", "--subject", "cn=rcgen self signed cert"]);
    set(&["set-key", "--auth-id", "k", "--public-key", &key]);
    set(&["set-key", "--auth-id", "k", "--public-key", &certificate]);
    let shown = cloud.json(&["credentials", "show", "acme", "sensor-1"]);
    let kinds = |at: usize| (shown[at]["type"].as_str(), shown[at]["auth-id"].as_str());
    assert_eq!(shown.as_array().unwrap().len(), 2, "each replaces the one before: {shown}");
    assert_eq!(kinds(0), (Some("x509-cert"), Some(subject)));
    assert_eq!(kinds(1), (Some("rpk"), Some("k")));

    let empty = file("empty.pem", String::new());
    let refused =
        ["credentials", "set-key", "acme", "sensor-1", "--auth-id", "k", "--public-key", &empty];
    let (code, words) = cloud.refusal(&refused);
    assert!(code == 2 && words.contains("empty.pem"), "{code} {words}");
}

#[test]
fn a_password_is_never_shown_again() {
    let cloud = Cloud::start();
    cloud.json(&["tenant", "create", "acme"]);
    cloud.json(&["device", "create", "acme", "sensor-1"]);
    for hash_function in ["bcrypt", "sha-256", "sha-512"] {
        let mut child = command(cloud.folder.path())
            .args(["credentials", "set-password", "acme", "sensor-1", "--auth-id", "sensor-1"])
            .args(["--password-stdin", "--json", "--hash-function", hash_function])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(b"open sesame\n").unwrap();
        let output = child.wait_with_output().unwrap();
        let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(answer["username"], "sensor-1@acme");
        let shown = cloud.json(&["credentials", "show", "acme", "sensor-1"]);
        assert_eq!(shown.as_array().unwrap().len(), 1, "the password replaces the one before");
        assert_eq!(shown[0]["secrets"][0]["hash-function"], hash_function);
        for secret in ["pwd-plain", "pwd-hash", "salt"] {
            assert!(shown[0]["secrets"][0][secret].is_null(), "{shown}");
        }
    }
}

#[test]
fn a_command_that_nobody_takes_is_told_apart_from_one_that_succeeded() {
    let cloud = Cloud::start();
    cloud.json(&["tenant", "create", "acme"]);
    cloud.json(&["device", "create", "acme", "sensor-1"]);
    let (code, words) =
        cloud.refusal(&["command", "send", "acme", "sensor-1", "reboot", "--wait", "1"]);
    assert_eq!(code, 5);
    assert!(words.contains("fulcrum command show acme sensor-1"), "{words}");
    let sent =
        cloud.json(&["command", "send", "acme", "sensor-1", "reboot", "--wait", "0", "--id", "c1"]);
    assert_eq!(sent["id"], "c1");
    assert_eq!(cloud.json(&["command", "show", "acme", "sensor-1", "c1"])["subject"], "reboot");
}

#[test]
fn failures_have_their_own_exit_codes_and_name_the_remedy() {
    let cloud = Cloud::start();
    cloud.json(&["tenant", "create", "acme"]);
    let (code, words) = cloud.refusal(&["tenant", "create", "acme"]);
    assert_eq!(code, 4);
    assert!(words.contains("exists already"), "{words}");

    let wrong_token = cloud.folder.path().join("token");
    std::fs::write(&wrong_token, "no token").unwrap();
    let (code, words) =
        cloud.refusal(&["tenant", "list", "--token-file", wrong_token.to_str().unwrap()]);
    assert_eq!(code, 4);
    assert!(words.contains("--token-file"), "{words}");

    // Without the development authority the system's list decides, and that does not know it.
    let url = cloud.announced["cloud"].as_str().unwrap();
    let token = cloud.announced["tokenFile"].as_str().unwrap();
    let other = url.replace("127.0.0.1", "localhost");
    let output = cloud.run(&["tenant", "list", "--cloud", &other, "--token-file", token, "--json"]);
    let failure: Value = serde_json::from_slice(&output.stderr).unwrap();
    assert!(failure["error"].as_str().unwrap().contains("--ca FILE"), "{failure}");

    assert_eq!(
        cloud.refusal(&["tenant", "list", "--cloud", "localhost:8443", "--token-file", token]).0,
        2
    );
    assert_eq!(cloud.refusal(&["tenant", "show", "a/b"]).0, 2);
}

#[test]
fn a_stream_without_records_ends_at_once() {
    let cloud = Cloud::start();
    cloud.json(&["tenant", "create", "acme"]);
    let output = cloud.run(&["events", "tail", "acme", "--json"]);
    assert!(output.status.success() && output.stdout.is_empty(), "{}", text(&output.stderr));
}

#[test]
fn the_cloud_ends_in_order_and_finds_its_data_again() {
    let mut cloud = Cloud::start();
    cloud.json(&["tenant", "create", "acme"]);
    let id = cloud.child.id().to_string();
    assert!(
        Command::new("sh").args(["-c", &format!("kill -TERM {id}")]).status().unwrap().success()
    );
    assert_eq!(cloud.child.wait().unwrap().code(), Some(0));
    assert_eq!(cloud.refusal(&["tenant", "list"]).0, 3, "nobody listens any more");

    let folder = std::mem::replace(&mut cloud.folder, tempfile::tempdir().unwrap());
    let address =
        cloud.announced["cloud"].as_str().unwrap().trim_start_matches("https://").to_owned();
    cloud.child = command(folder.path())
        .args(["cloud", "--listen", &address, "--json", "--data-dir"])
        .arg(folder.path().join("cloud"))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(cloud.child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    cloud.folder = folder;
    assert_eq!(cloud.json(&["tenant", "list"])["total"], 1);
}
