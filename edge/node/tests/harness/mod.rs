//! The node's binary as a process, with a replica from a file and ports the kernel gives out.

#![allow(dead_code, reason = "each test file uses its part")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that fails says so by panicking")]

use serde_json::{Value, json};
use std::collections::HashSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
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

    pub fn config(&self) -> PathBuf {
        self.folder.path().join("edge.toml")
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
        let messaging = json!({ "addresses": [{ "pattern": "site/#", "type": "multicast" }] });
        let secret = json!({ "hash-function": "sha-256", "pwd-hash": SHA256_OF_HONO_SECRET });
        let credential = json!({ "type": "hashed-password", "auth-id": "d1", "secrets": [secret] });
        let page = json!({
            "feed": "test",
            "changes": [
                {
                    "version": 1, "kind": "tenant", "tenant": "acme",
                    "document": { "messaging": messaging },
                },
                { "version": 2, "kind": "device", "tenant": "acme", "device": "d1", "document": {} },
                {
                    "version": 3, "kind": "credentials", "tenant": "acme", "device": "d1",
                    "document": [credential],
                },
            ],
            "cursor": 3,
            "more": false,
        });
        let feed = self.folder.path().join("feed.json");
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
        std::thread::spawn(move || lines.for_each(drop));
        let address = |name: &str| started[name].as_str().unwrap().parse().unwrap();
        let (mqtt, http, admin) = (address("mqtt"), address("http"), address("admin"));
        Node { process, mqtt, http, admin }
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
    let mut socket = TcpStream::connect(address).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
    socket.write_all(request.as_bytes()).unwrap();
    let mut text = String::new();
    socket.read_to_string(&mut text).unwrap();
    text.split(' ').nth(1).unwrap().parse().unwrap()
}
