//! The node's binary as a process, with a replica from a file and ports the kernel gives out.

#![allow(dead_code, reason = "each test file uses its part")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that fails says so by panicking")]

use serde_json::{Value, json};
use std::collections::HashSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const BINARY: &str = env!("CARGO_BIN_EXE_fulcrum-edge");
/// "hono-secret", made with Python's hashlib.
const SHA256_OF_HONO_SECRET: &str = "1kkUGFVe8TyUi+9KxFPkOXRFU0drt2mO5xLRRrBOkHY=";
/// d1@acme:hono-secret
const D1: &str = "ZDFAYWNtZTpob25vLXNlY3JldA==";
pub const SHARDS: u16 = 2;
const SEGMENT_BYTES: u64 = 1 << 20;
const JOURNAL_BYTES_MAX: u64 = 32 << 20;

/// A folder with a configuration and a replica.
pub struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    /// Listens on `ports` (MQTT, HTTP, admin); 0 is any.
    pub fn new(ports: [u16; 3]) -> Place {
        let place = Place { folder: tempfile::tempdir().unwrap() };
        let [mqtt, http, admin] = ports;
        place.write_config(&format!(
            "[node]\ndata_dir = \"data\"\nshards = {SHARDS}\n[mqtt]\nlisten = \"127.0.0.1:{mqtt}\"\n\
             [http]\nlisten = \"127.0.0.1:{http}\"\n[admin]\nlisten = \"127.0.0.1:{admin}\"\n\
             [limits]\nconnections = 64\n[journal]\nsegment_bytes = {SEGMENT_BYTES}\nbytes_max = {JOURNAL_BYTES_MAX}\n"
        ));
        place
    }

    /// A file beside the configuration.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn config(&self) -> PathBuf {
        self.file("edge.toml")
    }

    pub fn data_dir(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    pub fn write_config(&self, text: &str) {
        std::fs::write(self.config(), text).unwrap();
    }

    pub fn add_config(&self, text: &str) {
        let all = std::fs::read_to_string(self.config()).unwrap() + text;
        self.write_config(&all);
    }

    /// Gives the replica tenant `acme` with device `d1` and messaging addresses `site/#`.
    pub fn seed(&self) {
        self.seed_with(json!({}), Vec::new());
    }

    /// The same with more members for the tenant's document, and with further entities, whose versions are filled in.
    pub fn seed_with(&self, mut tenant: Value, more: Vec<Value>) {
        tenant["messaging"] =
            json!({ "addresses": [{ "pattern": "site/#", "type": "multicast" }] });
        let secret = json!({ "hash-function": "sha-256", "pwd-hash": SHA256_OF_HONO_SECRET });
        let credential = json!({ "type": "hashed-password", "auth-id": "d1", "secrets": [secret] });
        let mut changes = vec![
            json!({ "kind": "tenant", "tenant": "acme", "document": tenant }),
            json!({ "kind": "device", "tenant": "acme", "device": "d1", "document": {} }),
            json!({ "kind": "credentials", "tenant": "acme", "device": "d1", "document": [credential] }),
        ];
        changes.extend(more);
        for (version, change) in (1..).zip(&mut changes) {
            change["version"] = json!(version);
        }
        let cursor = changes.len();
        let page = json!({ "feed": "test", "changes": changes, "cursor": cursor, "more": false });
        let feed = self.file("feed.json");
        std::fs::write(&feed, page.to_string()).unwrap();
        let output = self.execute(&["seed", "--feed", feed.to_str().unwrap()]);
        assert!(output.status.success(), "{output:?}");
    }

    /// Runs a command that ends by itself.
    pub fn execute(&self, arguments: &[&str]) -> Output {
        let (command, rest) = arguments.split_first().unwrap();
        let mut command = command_of(command, &self.config());
        command.args(rest).output().unwrap()
    }

    /// The text of a `run` that ends by itself with a failure.
    #[track_caller]
    pub fn refusal(&self) -> String {
        let begun = Instant::now();
        let output = self.execute(&["run"]);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
        String::from_utf8(output.stderr).unwrap()
    }

    /// Payloads of all messages in the journal of a node that does not run.
    pub fn stored(&self) -> HashSet<String> {
        let config = fulcrum_journal::JournalConfig {
            segment_bytes: SEGMENT_BYTES,
            bytes_max: JOURNAL_BYTES_MAX,
            ..fulcrum_journal::JournalConfig::new(self.data_dir().join("journal"), SHARDS)
        };
        let opened = fulcrum_journal::open(&config).unwrap();
        opened.partitions.iter().flat_map(|(_, tail)| messages(tail)).collect()
    }
}

fn command_of(command: &str, config: &Path) -> Command {
    let mut process = Command::new(BINARY);
    process.arg(command).arg("--config").arg(config).env_remove("RUST_LOG");
    process
}

fn messages(tail: &fulcrum_journal::Tail) -> Vec<String> {
    let mut found = Vec::new();
    let mut position = tail.start();
    while position < tail.committed() {
        let (path, offset, segment_bytes) = tail.segment_path(position);
        let bytes = std::fs::read(path).unwrap();
        let rest = &bytes[offset as usize..segment_bytes as usize];
        match tail.reader().parse(rest, position, tail.committed()) {
            fulcrum_journal::Step::Record(record) => {
                if record.kind == fulcrum_journal::Kind::Message {
                    let frame = fulcrum_frame::Frame::parse(record.body).unwrap();
                    found.push(String::from_utf8(frame.payload().to_vec()).unwrap());
                }
                position = record.next;
            }
            fulcrum_journal::Step::EndOfSegment { next } => position = next,
            other => panic!("the journal is not readable at {position:?}: {other:?}"),
        }
    }
    found
}

/// A node that runs.
pub struct Node {
    process: Child,
    pub mqtt: SocketAddr,
    pub http: SocketAddr,
    pub admin: SocketAddr,
    /// All listeners in the order of the configuration, `mqtt` and `http` among them.
    pub listeners: Vec<SocketAddr>,
    log: Arc<Mutex<Vec<String>>>,
}

impl Node {
    /// Starts the node and waits until it says so.
    pub fn start(place: &Place) -> Node {
        let mut command = command_of("run", &place.config());
        let mut process = command.stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn().unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let started = loop {
            let line = lines.next().expect("the node has ended while starting").unwrap();
            let line: Value = serde_json::from_str(&line).expect("log lines are JSON");
            if line["message"] == "started" {
                break line;
            }
        };
        // Read on, so that the node never waits for its log.
        let log = Arc::<Mutex<Vec<String>>>::default();
        let kept = log.clone();
        std::thread::spawn(move || {
            lines.map_while(Result::ok).for_each(|line| kept.lock().unwrap().push(line));
        });
        let address = |name: &str| started[name].as_str().unwrap().parse().unwrap();
        let (mqtt, http, admin) = (address("mqtt"), address("http"), address("admin"));
        let listeners = started["listeners"].as_str().unwrap();
        let listeners = listeners.split([' ', ')']).filter_map(|word| word.parse().ok()).collect();
        Node { process, mqtt, http, admin, listeners, log }
    }

    /// Waits for a line of the log with `text`.
    pub fn logs(&self, text: &str) {
        for _ in 0..1000 {
            if self.log.lock().unwrap().iter().any(|line| line.contains(text)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("the log says no '{text}'");
    }

    /// Has it read its certificates again.
    pub fn hang_up(&self) {
        let id = self.process.id().to_string();
        assert!(Command::new("kill").args(["-HUP", &id]).status().unwrap().success());
    }

    /// Resident memory in bytes.
    pub fn memory(&self) -> u64 {
        let status = format!("/proc/{}/status", self.process.id());
        let status = std::fs::read_to_string(status).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.split_whitespace().next().unwrap().parse::<u64>().unwrap() * 1024
    }

    /// A metric, summed over the shards.
    pub fn metric(&self, name: &str) -> f64 {
        let text = fetch(self.admin, "/metrics");
        let lines = text.lines().filter_map(|line| line.strip_prefix(name));
        let values = lines.filter(|rest| rest.starts_with(['{', ' ']));
        values.map(|rest| rest.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
    }

    /// Asks it to stop.
    pub fn terminate(&self) {
        let id = self.process.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
    }

    /// Waits for its end, at most ten seconds.
    pub fn wait(mut self) -> ExitStatus {
        for _ in 0..1000 {
            if let Some(status) = self.process.try_wait().unwrap() {
                return status;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("the node does not end");
    }

    pub fn kill(mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A device that sends events over HTTP.
pub struct Device {
    socket: TcpStream,
}

impl Device {
    pub fn connect(address: SocketAddr) -> Device {
        let socket = TcpStream::connect(address).unwrap();
        socket.set_nodelay(true).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        Device { socket }
    }

    /// Sends an event; its status, or none if the node has gone.
    pub fn event(&mut self, body: &str) -> Option<u16> {
        let head = format!(
            "POST /event HTTP/1.1\r\nHost: h\r\nAuthorization: Basic {D1}\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        self.socket.write_all(head.as_bytes()).ok()?;
        let mut text = Vec::new();
        while !text.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            if self.socket.read(&mut byte).ok()? == 0 {
                return None;
            }
            text.push(byte[0]);
        }
        std::str::from_utf8(&text).unwrap().split(' ').nth(1)?.parse().ok()
    }
}

/// Status of a GET on the admin endpoint.
pub fn get(address: SocketAddr, path: &str) -> u16 {
    fetch(address, path).split(' ').nth(1).unwrap().parse().unwrap()
}

fn fetch(address: SocketAddr, path: &str) -> String {
    let mut socket = TcpStream::connect(address).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
    socket.write_all(request.as_bytes()).unwrap();
    let mut text = String::new();
    socket.read_to_string(&mut text).unwrap();
    text
}
