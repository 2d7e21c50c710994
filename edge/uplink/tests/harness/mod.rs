//! A node around the uplink: a journal that is written to, an identity store, and what the uplink has told.

#![allow(dead_code, unused_imports, reason = "each test binary uses its own part")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that fails says so by panicking")]

mod cloud;

pub use cloud::{Cloud, Fault, eventually};

use fulcrum_contract::EdgeId;
use fulcrum_frame::{Class, Frame, FrameBuilder, Tag};
use fulcrum_identity::{Applied, Identity};
use fulcrum_journal::blocking::Driver;
use fulcrum_journal::{JournalConfig, Partition, Tail};
use fulcrum_uplink::{
    Backoff, Key, LinkState, LinkStatus, LiveSender, PresenceSender, UplinkConfig, UplinkError,
    UplinkEvents, UplinkHandle, UplinkParts, live_channel, presence_channel, spawn,
};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tempfile::TempDir;

/// What the uplink has told.
#[derive(Default)]
pub struct Told {
    pub outcomes: Vec<(u64, bool)>,
    pub applied: Vec<Applied>,
    pub states: Vec<LinkState>,
}

struct Events(Arc<Mutex<Told>>);

impl UplinkEvents for Events {
    fn applied(&self, applied: &Applied) {
        self.0.lock().unwrap().applied.push(applied.clone());
    }

    fn live_outcome(&self, ticket: u64, accepted: bool) {
        self.0.lock().unwrap().outcomes.push((ticket, accepted));
    }

    fn link(&self, state: LinkState) {
        self.0.lock().unwrap().states.push(state);
    }
}

/// The journal of one partition, driven with blocking calls.
pub struct Journal {
    partition: Partition,
    driver: Driver,
    pub tail: Tail,
    pub epoch: u64,
}

impl Journal {
    pub fn open(dir: &Path) -> Journal {
        let config = JournalConfig {
            segment_bytes: 256 * 1024,
            bytes_max: 16 << 20,
            reserve_bytes: 4096,
            batch_bytes_max: 64 * 1024,
            ..JournalConfig::new(dir.join("journal"), 1)
        };
        let opened = fulcrum_journal::open(&config).unwrap();
        let (partition, tail) = opened.partitions.into_iter().next().unwrap();
        let mut journal = Journal { partition, driver: Driver::new(), epoch: tail.epoch(), tail };
        journal.driver.turn(&mut journal.partition);
        journal
    }

    /// Appends events whose payloads are the numbers, and commits them.
    pub fn append(&mut self, tenant: &str, numbers: impl IntoIterator<Item = u64>) {
        for number in numbers {
            self.append_payload(tenant, number.to_string().as_bytes());
        }
        self.driver.turn(&mut self.partition);
    }

    /// Appends one event without committing it.
    pub fn append_payload(&mut self, tenant: &str, payload: &[u8]) {
        let bytes = frame(Class::Event, tenant, payload);
        let frame = Frame::parse(&bytes).unwrap();
        while self.partition.append(&frame).is_err() {
            self.driver.turn(&mut self.partition);
        }
    }

    pub fn commit(&mut self) {
        self.driver.turn(&mut self.partition);
    }

    pub fn is_acknowledged(&self) -> bool {
        self.tail.acknowledged() >= self.tail.committed()
    }
}

pub fn frame(class: Class, tenant: &str, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut frame = FrameBuilder::new(&mut bytes, class, 1, 1_700_000_000_000);
    frame.text(Tag::Tenant, tenant).text(Tag::Device, "pump-7");
    frame.finish(payload).unwrap();
    bytes
}

/// Payloads of the numbers, as [`Journal::append`] writes them.
pub fn payloads(numbers: impl IntoIterator<Item = u64>) -> Vec<Vec<u8>> {
    numbers.into_iter().map(|number| number.to_string().into_bytes()).collect()
}

/// A running uplink.
pub struct Node {
    pub live: LiveSender,
    pub presence: PresenceSender,
    pub status: Arc<LinkStatus>,
    pub told: Arc<Mutex<Told>>,
    pub identity: Identity,
    handle: UplinkHandle,
}

impl Node {
    pub fn outcomes(&self) -> Vec<(u64, bool)> {
        self.told.lock().unwrap().outcomes.clone()
    }

    pub fn stop(self) {
        self.handle.stop().unwrap();
    }
}

/// A directory with a key, and settings that hurry.
pub fn site(cloud: &str) -> (TempDir, UplinkConfig) {
    let dir = tempfile::tempdir().unwrap();
    let key_file: PathBuf = dir.path().join("edge.key");
    Key::load_or_create(&key_file).unwrap();
    let mut config =
        UplinkConfig::new(cloud.parse().unwrap(), EdgeId::parse("e1").unwrap(), key_file);
    config.backoff = Backoff { min: Duration::from_millis(10), max: Duration::from_millis(100) };
    config.request_timeout = Duration::from_secs(2);
    config.feed_wait = Duration::from_secs(2);
    (dir, config)
}

/// A site that talks to `cloud`.
pub fn site_of(cloud: &Cloud) -> (TempDir, UplinkConfig) {
    site(&format!("http://{}", cloud.address))
}

pub fn start(dir: &Path, config: UplinkConfig, tails: Vec<Tail>) -> Node {
    try_start(dir, config, tails).unwrap()
}

pub fn try_start(dir: &Path, config: UplinkConfig, tails: Vec<Tail>) -> Result<Node, UplinkError> {
    let identity = Identity::open(&dir.join("identity.redb")).unwrap();
    let (live, receiver) = live_channel(config.live_queue_records, config.live_queue_bytes);
    let (presence, presence_receiver) = presence_channel(64);
    let (told, status) = (Arc::new(Mutex::new(Told::default())), Arc::new(LinkStatus::new()));
    let parts = UplinkParts {
        tails,
        identity: identity.clone(),
        live: receiver,
        events: Box::new(Events(told.clone())),
        presence: presence_receiver,
        status: status.clone(),
    };
    let handle = spawn(config, parts, || async {})?;
    Ok(Node { live, presence, status, told, identity, handle })
}
