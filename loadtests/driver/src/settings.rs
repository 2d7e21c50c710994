//! What to run: flags over the scenario file over the mode's own defaults.
//!
//! [`Settings`] is both the flags and the scenario file, so a name means the same in both. [`Plan`]
//! is the checked result; nothing behind it can be out of range.

use crate::error::LoadError;
use crate::template::Template;
use crate::wire::{PAYLOAD_BYTES_MAX, PAYLOAD_BYTES_MIN};
use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

/// One process has one loopback address here, so ephemeral ports are the limit.
const CONNECTIONS_MAX: usize = 28_000;

/// The shape of the load.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// Closed loop, QoS 0, a train of messages in flight from each publisher to its subscriber.
    Pipelined,
    /// Closed loop, QoS 0, one message in flight from each publisher to its subscriber.
    PingPong,
    /// Closed loop, QoS 1, publishers alone: a message counts when its PUBACK came.
    Stored,
    /// Open loop at a fixed rate, latency from the time a message was due.
    Open,
}

/// When a message counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    /// When the subscriber has it (QoS 0).
    Delivery,
    /// When the publisher has its PUBACK (QoS 1).
    Acknowledgement,
}

/// `fulcrum-load run`.
#[derive(Args)]
pub struct RunArguments {
    /// Scenario file (TOML); flags override what it says.
    #[arg(long)]
    pub scenario: Option<PathBuf>,
    #[command(flatten)]
    pub settings: Settings,
    /// Measure the CPU time of this process.
    #[arg(long)]
    pub server_pid: Option<u32>,
    /// One JSON object on standard output instead of text.
    #[arg(long)]
    pub json: bool,
}

/// Flags and members of a scenario file. No `Debug`: there are passwords in it.
#[derive(Args, Deserialize, Default)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Settings {
    /// Shape of the load.
    #[arg(long)]
    mode: Option<Mode>,
    /// Broker's host [default: 127.0.0.1].
    #[arg(long)]
    host: Option<String>,
    /// Broker's port [default: 1883].
    #[arg(long)]
    port: Option<u16>,
    /// What {tenant} stands for [default: bench].
    #[arg(long)]
    tenant: Option<String>,
    /// User of publisher i, for example d{i}@{tenant}; without it publishers are anonymous.
    #[arg(long)]
    username_template: Option<String>,
    /// Password of the publishers.
    #[arg(long, env = "FULCRUM_LOAD_PASSWORD", hide_env_values = true)]
    password: Option<String>,
    /// User of the subscribers, for example app@{tenant}; without it subscribers are anonymous.
    #[arg(long)]
    app_username: Option<String>,
    /// Password of the subscribers.
    #[arg(long, env = "FULCRUM_LOAD_APP_PASSWORD", hide_env_values = true)]
    app_password: Option<String>,
    /// Topic of publisher i [default: telemetry/{tenant}/d{i}, with QoS 1 event/{tenant}/d{i}].
    #[arg(long)]
    topic_template: Option<String>,
    /// Filter of subscriber i [default: the publisher's topic].
    #[arg(long)]
    filter_template: Option<String>,
    /// Before the run, a session that stays subscribes to this filter with QoS 1 and leaves, so that
    /// a broker which only stores for sessions has one to store for.
    #[arg(long)]
    offline_filter: Option<String>,
    /// Connections in all, subscribers included [default: pipelined and open 128, ping-pong 1000,
    /// stored 64].
    #[arg(long)]
    connections: Option<usize>,
    /// Messages in flight from each publisher, at most [default: pipelined 64, ping-pong and stored
    /// 1, open 65535].
    #[arg(long)]
    window: Option<u16>,
    /// Bytes of payload [default: 128].
    #[arg(long)]
    payload: Option<usize>,
    /// QoS in open mode, 0 or 1 [default: 0].
    #[arg(long)]
    qos: Option<u8>,
    /// Messages a second in all, open mode alone.
    #[arg(long)]
    rate: Option<f64>,
    /// Length of the measured time [default: 5].
    #[arg(long)]
    seconds: Option<f64>,
    /// Time under load before it [default: 1].
    #[arg(long)]
    warmup: Option<f64>,
    /// Look for events without ever sleeping: steadier, costs a core [default: true].
    #[arg(long)]
    busy_poll: Option<bool>,
}

/// Who connects.
#[derive(Clone)]
pub struct Login {
    /// `None`: anonymous.
    pub username: Option<Template>,
    /// Never in output.
    pub password: Option<String>,
}

/// The broker, and what each connection to it has in common.
pub struct Target {
    pub host: String,
    pub port: u16,
    /// What `{tenant}` stands for.
    pub tenant: String,
    pub keep_alive_s: u16,
}

impl Target {
    /// `lasting`: how long connections may stay silent. The keep-alive is longer than that, because
    /// the driver sends no PINGREQ, and not 0, which some brokers refuse.
    pub fn new(
        host: Option<String>,
        port: Option<u16>,
        tenant: Option<String>,
        lasting: Duration,
    ) -> Self {
        Self {
            host: host.unwrap_or_else(|| "127.0.0.1".to_owned()),
            port: port.unwrap_or(1883),
            tenant: tenant.unwrap_or_else(|| "bench".to_owned()),
            keep_alive_s: u16::try_from(lasting.as_secs() + 120).unwrap_or(u16::MAX),
        }
    }
}

/// A checked set of settings.
pub struct Plan {
    pub mode: Mode,
    pub measure: Measure,
    pub target: Target,
    pub publisher: Login,
    pub subscriber: Login,
    pub topic: Template,
    pub filter: Template,
    pub offline_filter: Option<Template>,
    /// Publishers; with [`Measure::Delivery`] there are as many subscribers.
    pub publishers: usize,
    pub window: u16,
    pub payload_bytes: usize,
    /// Open loop alone.
    pub rate_per_s: Option<f64>,
    pub measured: Duration,
    pub warmup: Duration,
    pub busy_poll: bool,
    pub server_pid: Option<u32>,
}

impl Plan {
    /// All connections of the run.
    pub fn connections(&self) -> usize {
        match self.measure {
            Measure::Delivery => 2 * self.publishers,
            Measure::Acknowledgement => self.publishers,
        }
    }
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
                let text = fs::read_to_string(&path).map_err(|source| {
                    LoadError::ScenarioUnreadable { path: path.clone(), source }
                })?;
                toml::from_str(&text).map_err(|source| LoadError::ScenarioInvalid {
                    path,
                    source: Box::new(source),
                })?
            }
        };
        let mut plan = self.settings.over(file).plan()?;
        plan.server_pid = self.server_pid;
        Ok(plan)
    }
}

impl Settings {
    fn over(self, base: Self) -> Self {
        Self {
            mode: self.mode.or(base.mode),
            host: self.host.or(base.host),
            port: self.port.or(base.port),
            tenant: self.tenant.or(base.tenant),
            username_template: self.username_template.or(base.username_template),
            password: self.password.or(base.password),
            app_username: self.app_username.or(base.app_username),
            app_password: self.app_password.or(base.app_password),
            topic_template: self.topic_template.or(base.topic_template),
            filter_template: self.filter_template.or(base.filter_template),
            offline_filter: self.offline_filter.or(base.offline_filter),
            connections: self.connections.or(base.connections),
            window: self.window.or(base.window),
            payload: self.payload.or(base.payload),
            qos: self.qos.or(base.qos),
            rate: self.rate.or(base.rate),
            seconds: self.seconds.or(base.seconds),
            warmup: self.warmup.or(base.warmup),
            busy_poll: self.busy_poll.or(base.busy_poll),
        }
    }

    fn plan(self) -> Result<Plan, LoadError> {
        let mode = self.mode.ok_or(LoadError::Setting {
            name: "mode",
            value: "(none)".to_owned(),
            expected: "one of pipelined, ping-pong, stored, open, as a flag or in the scenario",
        })?;
        let measure = measure(mode, self.qos)?;
        let (default_connections, default_window, default_topic) = match (mode, measure) {
            (Mode::Pipelined, _) => (128, 64, "telemetry/{tenant}/d{i}"),
            (Mode::PingPong, _) => (1_000, 1, "telemetry/{tenant}/d{i}"),
            (Mode::Stored, _) => (64, 1, "event/{tenant}/d{i}"),
            (Mode::Open, Measure::Delivery) => (128, u16::MAX, "telemetry/{tenant}/d{i}"),
            (Mode::Open, Measure::Acknowledgement) => (128, u16::MAX, "event/{tenant}/d{i}"),
        };
        let topic = self.topic_template.unwrap_or_else(|| default_topic.to_owned());
        let filter = self.filter_template.unwrap_or_else(|| topic.clone());
        let template =
            |name, text: Option<String>| text.map(|text| Template::parse(name, &text)).transpose();
        let measured = seconds("seconds", self.seconds.unwrap_or(5.0), 0.1)?;
        let warmup = seconds("warmup", self.warmup.unwrap_or(1.0), 0.0)?;
        Ok(Plan {
            mode,
            measure,
            target: Target::new(self.host, self.port, self.tenant, warmup + measured),
            publisher: Login {
                username: template("username-template", self.username_template)?,
                password: self.password,
            },
            subscriber: Login {
                username: template("app-username", self.app_username)?,
                password: self.app_password,
            },
            topic: Template::parse("topic-template", &topic)?,
            filter: Template::parse("filter-template", &filter)?,
            offline_filter: template("offline-filter", self.offline_filter)?,
            publishers: publishers(measure, self.connections.unwrap_or(default_connections))?,
            window: window(mode, self.window.unwrap_or(default_window))?,
            payload_bytes: payload_bytes(self.payload.unwrap_or(128))?,
            rate_per_s: rate(mode, self.rate)?,
            measured,
            warmup,
            busy_poll: self.busy_poll.unwrap_or(true),
            server_pid: None,
        })
    }
}

fn measure(mode: Mode, qos: Option<u8>) -> Result<Measure, LoadError> {
    match (mode, qos) {
        (Mode::Pipelined | Mode::PingPong, None | Some(0)) => Ok(Measure::Delivery),
        (Mode::Stored, None | Some(1)) => Ok(Measure::Acknowledgement),
        (Mode::Open, None | Some(0)) => Ok(Measure::Delivery),
        (Mode::Open, Some(1)) => Ok(Measure::Acknowledgement),
        (_, Some(qos)) => Err(LoadError::Setting {
            name: "qos",
            value: qos.to_string(),
            expected: "0 for pipelined and ping-pong, 1 for stored, either for open",
        }),
    }
}

fn publishers(measure: Measure, connections: usize) -> Result<usize, LoadError> {
    let (per_publisher, expected) = match measure {
        Measure::Delivery => (2, "an even number, 2 to 28000: one publisher for each subscriber"),
        Measure::Acknowledgement => (1, "1 to 28000"),
    };
    if connections == 0
        || connections > CONNECTIONS_MAX
        || !connections.is_multiple_of(per_publisher)
    {
        let value = connections.to_string();
        return Err(LoadError::Setting { name: "connections", value, expected });
    }
    Ok(connections / per_publisher)
}

fn window(mode: Mode, window: u16) -> Result<u16, LoadError> {
    if window == 0 || (mode == Mode::PingPong && window != 1) {
        return Err(LoadError::Setting {
            name: "window",
            value: window.to_string(),
            expected: "1 to 65535; ping-pong has 1",
        });
    }
    Ok(window)
}

fn payload_bytes(bytes: usize) -> Result<usize, LoadError> {
    if (PAYLOAD_BYTES_MIN..=PAYLOAD_BYTES_MAX).contains(&bytes) {
        return Ok(bytes);
    }
    Err(LoadError::Setting {
        name: "payload",
        value: bytes.to_string(),
        expected: "16 (time and sequence are in it) to 1048576 bytes",
    })
}

fn rate(mode: Mode, rate: Option<f64>) -> Result<Option<f64>, LoadError> {
    let value = rate.map_or_else(|| "(none)".to_owned(), |rate| rate.to_string());
    match (mode, rate) {
        (Mode::Open, Some(rate)) if (0.01..=1e8).contains(&rate) => Ok(Some(rate)),
        (Mode::Open, _) => Err(LoadError::Setting {
            name: "rate",
            value,
            expected: "messages a second in all, 0.01 to 100000000",
        }),
        (_, None) => Ok(None),
        (_, Some(_)) => Err(LoadError::Setting {
            name: "rate",
            value,
            expected: "nothing: a closed loop sends when there is room, use --mode open",
        }),
    }
}

/// A time of the command line: `least` to an hour.
///
/// # Errors
/// Outside of that.
pub fn seconds(name: &'static str, value: f64, least: f64) -> Result<Duration, LoadError> {
    if value >= least && value <= 3_600.0 {
        return Ok(Duration::from_secs_f64(value));
    }
    let value = value.to_string();
    Err(LoadError::Setting { name, value, expected: "up to 3600 s; --seconds at least 0.1" })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan_of(text: &str) -> Result<Plan, LoadError> {
        toml::from_str::<Settings>(text).unwrap().plan()
    }

    #[test]
    fn flags_win_over_the_file_and_the_file_over_the_defaults() {
        let file: Settings =
            toml::from_str("mode = 'stored'\nconnections = 8\npayload = 64").unwrap();
        let flags = Settings { connections: Some(4), ..Settings::default() };
        let plan = flags.over(file).plan().unwrap();
        assert_eq!((plan.publishers, plan.payload_bytes, plan.window), (4, 64, 1));
        assert_eq!(plan.topic.render(2, &plan.target.tenant), "event/bench/d2");
    }

    #[test]
    fn subscribers_are_among_the_connections() {
        let plan = plan_of("mode = 'pipelined'").unwrap();
        assert_eq!((plan.publishers, plan.connections(), plan.window), (64, 128, 64));
        let plan = plan_of("mode = 'stored'").unwrap();
        assert_eq!((plan.publishers, plan.connections()), (64, 64));
        assert!(plan_of("mode = 'ping-pong'\nconnections = 7").is_err());
    }

    #[test]
    fn a_setting_that_means_nothing_in_the_mode_is_refused() {
        for text in [
            "",
            "mode = 'open'",
            "mode = 'stored'\nrate = 5.0",
            "mode = 'stored'\nqos = 0",
            "mode = 'ping-pong'\nwindow = 2",
            "mode = 'stored'\npayload = 8",
            "mode = 'stored'\nseconds = nan",
            "mode = 'stored'\ntopic-template = '{x}'",
        ] {
            assert!(plan_of(text).is_err(), "accepted: {text}");
        }
    }

    #[test]
    fn an_unknown_member_of_a_scenario_is_refused() {
        assert!(toml::from_str::<Settings>("mode = 'open'\nspeed = 5").is_err());
    }

    #[test]
    fn every_shipped_scenario_is_valid() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../scenarios");
        let mut count = 0;
        for entry in fs::read_dir(folder).unwrap() {
            let text = fs::read_to_string(entry.unwrap().path()).unwrap();
            plan_of(&text).unwrap();
            count += 1;
        }
        assert!(count > 0);
    }
}
