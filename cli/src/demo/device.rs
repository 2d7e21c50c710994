//! What both kinds of devices share: who they are, how fast they send, when they stop.
//!
//! A device never gives up an event: it sends it until it is acknowledged, keeps the order, and writes down in its
//! ledger how often it sent it. Telemetry it sends once and forgets.

use super::ledger::SharedLedger;
use super::readings::Series;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// Longest a device waits for the node before it connects anew.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// First pause after a failed connection; doubles up to [`RETRY_MAX`].
const RETRY_MIN: Duration = Duration::from_millis(50);
const RETRY_MAX: Duration = Duration::from_millis(400);

/// The protocol a device speaks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Protocol {
    /// MQTT 3.1.1.
    Mqtt,
    /// HTTP/1.1.
    Http,
}

impl Protocol {
    /// Its name on the screen.
    pub fn as_str(self) -> &'static str {
        match self {
            Protocol::Mqtt => "MQTT",
            Protocol::Http => "HTTP",
        }
    }
}

/// What devices are told to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Phase {
    /// Send readings.
    Run,
    /// Send what is not acknowledged yet, nothing new.
    Drain,
    /// Disconnect.
    Stop,
}

/// One device.
pub struct Device {
    /// What it measures; also its id.
    pub series: Arc<Series>,
    /// How it connects.
    pub protocol: Protocol,
    /// Where the node listens for this protocol.
    pub node: SocketAddr,
    /// `{auth-id}@{tenant}`.
    pub username: String,
    /// Its password.
    pub password: String,
    /// Time between two readings.
    pub interval: Duration,
    /// Its side of the proof.
    pub ledger: SharedLedger,
    /// What to do.
    pub phase: watch::Receiver<Phase>,
    /// Telemetry messages so far.
    pub telemetry: u64,
    /// Until when telemetry goes without asking for an answer.
    pub unasked_until: Option<Instant>,
    /// Events that are not acknowledged, oldest first.
    pub pending: VecDeque<u64>,
}

/// Why a connection ended; the device writes it down and connects anew.
#[derive(Debug)]
pub struct Broken(pub String);

impl From<std::io::Error> for Broken {
    fn from(error: std::io::Error) -> Broken {
        Broken(error.to_string())
    }
}

impl Device {
    /// Sends until told to stop.
    pub async fn run(mut self) {
        let mut pause = RETRY_MIN;
        while self.phase() != Phase::Stop {
            let connections = self.ledger.lock().connections;
            let ended = match self.protocol {
                Protocol::Mqtt => super::mqtt_device::connection(&mut self).await,
                Protocol::Http => super::http_device::connection(&mut self).await,
            };
            let Err(broken) = ended else { return };
            let accepted = self.disconnected(broken) > connections;
            pause = if accepted { RETRY_MIN } else { (pause * 2).min(RETRY_MAX) };
            tokio::time::sleep(pause).await;
        }
    }

    /// What to do now. A demo that is gone means stop.
    pub fn phase(&self) -> Phase {
        if self.phase.has_changed().is_err() { Phase::Stop } else { *self.phase.borrow() }
    }

    /// Writes down that a connection was accepted.
    pub fn connected(&self) {
        let mut ledger = self.ledger.lock();
        ledger.connected = true;
        ledger.connections += 1;
    }

    /// Writes down that a connection ended; how many there were.
    fn disconnected(&self, Broken(reason): Broken) -> u32 {
        let mut ledger = self.ledger.lock();
        ledger.connected = false;
        ledger.trouble = Some(reason);
        ledger.connections
    }

    /// Numbers the next telemetry message.
    pub fn next_telemetry(&mut self) -> u64 {
        self.telemetry += 1;
        self.ledger.lock().telemetry.sent += 1;
        self.telemetry
    }

    /// Numbers the next event; it is pending from now on.
    pub fn next_event(&mut self) -> u64 {
        let n = self.ledger.lock().open();
        self.pending.push_back(n);
        n
    }

    /// Event `n` is acknowledged.
    pub fn acknowledged(&mut self, n: u64) {
        self.pending.retain(|pending| *pending != n);
        self.ledger.lock().acknowledge(n);
    }
}
