//! What to run, as people write it: flags over the scenario file.
//!
//! [`Settings`] is both the flags and the members of a scenario file, so a name means the same in
//! both. What they amount to, and whether it makes sense, is [`Plan`]'s business.

use crate::error::LoadError;
use crate::plan::Plan;
use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::PathBuf;

/// Who sends to whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pattern {
    /// Publisher i to subscriber i, on a topic of their own.
    Pairs,
    /// All publishers to each subscriber, which has a wildcard filter.
    FanIn,
    /// Each publisher's topic is subscribed by every subscriber.
    FanOut,
    /// All publishers to one shared subscription.
    Shared,
    /// Publishers alone: a message counts when it is acknowledged.
    Ingest,
    /// Connections that only exist.
    Idle,
    /// As many connections as fast as they are taken.
    Storm,
}

/// What is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
pub enum Protocol {
    /// MQTT 3.1.1.
    #[value(name = "3.1.1")]
    #[serde(rename = "3.1.1")]
    V311,
    /// MQTT 5.
    #[value(name = "5")]
    #[serde(rename = "5")]
    V5,
    /// PUBLISH packets behind a two-byte length, no handshake: for the ring's `forward` example,
    /// which only passes frames on between the two connections of a pair.
    #[value(name = "bare")]
    #[serde(rename = "bare")]
    Bare,
}

/// What is under the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Carrier {
    /// Plain TCP.
    Tcp,
    /// TLS 1.2 or 1.3.
    Tls,
    /// WebSocket, subprotocol `mqtt`.
    Ws,
    /// WebSocket over TLS.
    Wss,
}

/// `fulcrum-load run`.
#[derive(Args)]
pub struct RunArguments {
    /// Scenario file (TOML); flags override what it says.
    #[arg(long)]
    pub scenario: Option<PathBuf>,
    #[command(flatten)]
    pub settings: Settings,
    /// Measure CPU time and memory of this process.
    #[arg(long)]
    pub server_pid: Option<u32>,
    /// One JSON object on standard output instead of text.
    #[arg(long)]
    pub json: bool,
}

impl RunArguments {
    /// Reads the scenario file, if any, and checks the whole.
    ///
    /// # Errors
    /// File unreadable or wrong, a setting missing or out of range.
    pub fn plan(self) -> Result<Plan, LoadError> {
        let file = match self.scenario {
            None => Settings::default(),
            Some(path) => {
                let text = fs::read_to_string(&path)
                    .map_err(|source| LoadError::FileUnreadable { path: path.clone(), source })?;
                toml::from_str(&text).map_err(|source| LoadError::ScenarioInvalid {
                    path,
                    source: Box::new(source),
                })?
            }
        };
        let mut plan = Plan::new(self.settings.over(file))?;
        plan.server_pid = self.server_pid;
        Ok(plan)
    }
}

/// Declares [`Settings`] and how one set of them lies over another.
macro_rules! settings {
    ($($(#[$attribute:meta])* $name:ident: $type:ty,)*) => {
        /// Flags and members of a scenario file. No `Debug`: there are passwords in it.
        #[derive(Args, Deserialize, Default)]
        #[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
        pub struct Settings {
            $($(#[$attribute])* #[arg(long)] pub $name: Option<$type>,)*
            /// Password of the publishers and of idle connections.
            #[arg(long, env = "FULCRUM_LOAD_PASSWORD", hide_env_values = true)]
            pub password: Option<String>,
            /// Password of the subscribers [default: the publishers'].
            #[arg(long, env = "FULCRUM_LOAD_SUBSCRIBER_PASSWORD", hide_env_values = true)]
            pub subscriber_password: Option<String>,
        }

        impl Settings {
            fn over(self, base: Self) -> Self {
                Self {
                    $($name: self.$name.or(base.$name),)*
                    password: self.password.or(base.password),
                    subscriber_password: self.subscriber_password.or(base.subscriber_password),
                }
            }
        }
    };
}

settings! {
    /// Who sends to whom.
    pattern: Pattern,
    /// What is spoken [default: 3.1.1].
    protocol: Protocol,
    /// What is under it [default: tcp].
    carrier: Carrier,
    /// Broker's address [default: 127.0.0.1].
    host: String,
    /// Broker's port [default: 1883].
    port: u16,
    /// Path of a WebSocket request [default: /mqtt].
    ws_path: String,
    /// PEM file with the certificate authority to trust; needed with TLS.
    ca: PathBuf,
    /// Name the broker's certificate must have [default: localhost].
    server_name: String,
    /// What {tenant} stands for [default: bench].
    tenant: String,
    /// User of publisher or idle connection i, for example d{i%1000}@{tenant}; without it they are
    /// anonymous.
    username_template: String,
    /// User of subscriber i [default: the publishers'].
    subscriber_username_template: String,
    /// Client identifier; {role} is p, s or c [default: load-{role}{i}].
    client_id_template: String,
    /// Topic of publisher i [default: bench/{i}].
    topic_template: String,
    /// Filter of subscriber i [default: pairs and fan-out the publisher's topic, else bench/#].
    filter_template: String,
    /// Before the run, a session that stays subscribes to this filter with the run's QoS and
    /// leaves, so that a broker which only stores for sessions has one to store for.
    offline_filter: String,
    /// Publishers [default: 1].
    publishers: usize,
    /// Subscribers; pairs have as many as publishers [default: 1].
    subscribers: usize,
    /// Connections of idle and storm [default: 1000].
    connections: usize,
    /// Closed loop: messages in flight from each publisher, at most [default: 1].
    window: u16,
    /// Open loop: messages a second in all; whatever comes back, latency from the time a message
    /// was due.
    rate: f64,
    /// Bytes of payload [default: 128].
    payload: usize,
    /// QoS of publications and subscriptions [default: 0].
    qos: u8,
    /// Publish with the retain flag [default: false].
    retain: bool,
    /// Sessions that outlive their connections: clean session or clean start off, and in MQTT 5 an
    /// expiry of an hour [default: false].
    persistent: bool,
    /// Local addresses to connect from, 127.0.0.1 on [default: 1 up to 20000 connections, then one
    /// for each 16000].
    sources: u8,
    /// Connections whose handshake is under way at once, at most [default: 64].
    connect_window: usize,
    /// Connections begun each second, time to CONNACK from when each was due [default: as the
    /// window allows].
    connect_rate: f64,
    /// Threads of the driver [default: 1].
    threads: usize,
    /// Length of the measured time [default: 5].
    seconds: f64,
    /// Time under load, or of idle connections, before it [default: 1].
    warmup: f64,
    /// Look for events without ever sleeping: steadier, costs a core [default: true; idle false].
    busy_poll: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan_of(text: &str) -> Result<Plan, LoadError> {
        Plan::new(toml::from_str(text).unwrap())
    }

    #[test]
    fn a_flag_overrides_the_scenario() {
        let file: Settings = toml::from_str("pattern = 'pairs'\nwindow = 7\npayload = 64").unwrap();
        let flags = Settings { window: Some(9), ..Settings::default() };
        let plan = Plan::new(flags.over(file)).unwrap();
        assert_eq!((plan.window(), plan.payload_bytes), (Some(9), 64));
    }

    #[test]
    fn a_setting_that_makes_no_sense_is_refused() {
        for text in [
            "",
            "pattern = 'pairs'\nrate = 5.0\nwindow = 3",
            "pattern = 'pairs'\nwindow = 0",
            "pattern = 'pairs'\nqos = 3",
            "pattern = 'pairs'\nrate = nan",
            "pattern = 'pairs'\nsubscribers = 3",
            "pattern = 'ingest'",
            "pattern = 'ingest'\nqos = 1\nsubscribers = 1",
            "pattern = 'idle'\nrate = 1.0",
            "pattern = 'fan-out'\nsubscribers = 100000\npublishers = 1000",
            "pattern = 'shared'\nthreads = 2",
            "pattern = 'fan-in'\nthreads = 2",
            "pattern = 'pairs'\nprotocol = 'bare'\nqos = 1",
            "pattern = 'fan-in'\nprotocol = 'bare'",
            "pattern = 'pairs'\ncarrier = 'tls'",
            "pattern = 'pairs'\npayload = 8",
            "pattern = 'pairs'\nseconds = nan",
            "pattern = 'pairs'\ntopic-template = '{x}'",
            "pattern = 'pairs'\nhost = 'localhost'",
            "pattern = 'idle'\nconnections = 0",
        ] {
            assert!(plan_of(text).is_err(), "accepted: {text}");
        }
    }

    #[test]
    fn an_unknown_member_of_a_scenario_is_refused() {
        assert!(toml::from_str::<Settings>("pattern = 'pairs'\nspeed = 5").is_err());
    }

    #[test]
    fn every_shipped_scenario_is_valid() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../scenarios");
        let mut count = 0;
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let text = fs::read_to_string(&path).unwrap();
            let mut settings: Settings = toml::from_str(&text).unwrap();
            // The runner names the authority, whose certificate it makes for the run.
            settings.ca = Some("ca.pem".into());
            Plan::new(settings).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            count += 1;
        }
        assert!(count > 0);
    }
}
