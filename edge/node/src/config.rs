//! The configuration file: what may be in it, defaults, and errors that name file, line and what was expected.

use crate::listeners::{Listener, Protocol, Tls};
use fulcrum_contract::EdgeId;
use fulcrum_journal::{JournalConfig, WriteMode};
use serde::Deserialize;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Descriptors kept free for segments, rings, the store, the uplink and logs; the preflight check wants half of it.
const OTHER_FILES: u64 = 1024;
/// Connections unless configured otherwise.
const CONNECTIONS_DEFAULT: u64 = 65_536;

/// The whole file. A member that is not known is an error: a misspelt limit must not be silently without effect.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    pub node: Node,
    pub mqtt: Option<Mqtt>,
    pub http: Option<Http>,
    pub amqp: Option<Amqp>,
    /// More addresses, with TLS, WebSocket or PROXY protocol.
    #[serde(default)]
    pub listener: Vec<Listener>,
    pub tls: Option<Tls>,
    #[serde(default)]
    pub sessions: Sessions,
    #[serde(default)]
    pub admin: Admin,
    #[serde(default)]
    pub limits: Limits,
    #[serde(default)]
    pub ring: Ring,
    #[serde(default)]
    pub journal: Journal,
    pub uplink: Option<Uplink>,
    #[serde(default)]
    pub log: Log,
}

/// `[node]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Node {
    /// Where everything that must survive a restart is kept.
    pub data_dir: PathBuf,
    /// Event loops, one per core. Fixed when the data directory is created. Default: one per processor.
    pub shards: Option<u16>,
    /// Processors the shards are pinned to, in order. Default: not pinned.
    #[serde(default)]
    pub cpus: Vec<usize>,
    /// Threads that verify passwords.
    #[serde(default = "one")]
    pub verify_threads: usize,
}

/// `[mqtt]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mqtt {
    /// Address and port of plain MQTT.
    pub listen: SocketAddr,
    /// Longest keep-alive an MQTT 5 client is granted, in seconds; 0 for any.
    #[serde(default)]
    pub keep_alive_max_s: u16,
    /// Where MQTT 5 clients are sent when this node stops, for example `other.example:1883`.
    pub server_reference: Option<String>,
}

/// `[http]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Http {
    /// Address and port of plain HTTP.
    pub listen: SocketAddr,
}

/// `[amqp]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Amqp {
    /// Address and port of plain AMQP 1.0.
    pub listen: SocketAddr,
}

/// `[sessions]`: what is kept for MQTT clients that are away, per session and per tenant and shard. What is full refuses
/// new messages for the session; nothing that is queued is lost.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Sessions {
    /// Longest time a session outlives its connection, in seconds.
    pub expiry_max_s: u32,
    /// Messages queued for one session.
    pub queue_messages_max: usize,
    /// Bytes queued for one session.
    pub queue_bytes_max: usize,
    /// Bytes queued for one tenant's sessions on one shard.
    pub tenant_bytes_max: usize,
    /// Sessions of one tenant on one shard.
    pub tenant_sessions_max: usize,
    /// Bytes of one segment of the session journal, a multiple of 4096. Fixed when the data directory is created.
    pub segment_bytes: u64,
    /// Most bytes of one shard's session journal on disk.
    pub bytes_max: u64,
}

impl Default for Sessions {
    fn default() -> Self {
        let limits = fulcrum_sessions::Limits::default();
        Sessions {
            expiry_max_s: limits.session_expiry_max_s,
            queue_messages_max: limits.queue_messages_max,
            queue_bytes_max: limits.queue_bytes_max,
            tenant_bytes_max: limits.tenant_bytes_max,
            tenant_sessions_max: limits.tenant_sessions_max,
            segment_bytes: 16 << 20,
            bytes_max: 2 << 30,
        }
    }
}

/// `[admin]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Admin {
    /// Address and port of health, metrics and status. Unprotected: keep it on loopback or a management network.
    pub listen: SocketAddr,
}

impl Default for Admin {
    fn default() -> Self {
        Admin { listen: SocketAddr::from(([127, 0, 0, 1], 9090)) }
    }
}

/// `[limits]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Connections of one shard. Default: 65536, or what the file limit allows if that is less.
    pub connections: Option<u32>,
    /// Largest MQTT packet or HTTP body, in bytes.
    pub message_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { connections: None, message_bytes: fulcrum_shard::limits::MESSAGE_BYTES_MAX }
    }
}

/// `[ring]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Ring {
    /// Receive buffers per shard, a power of two; 16 KiB each.
    pub receive_buffers: u16,
    /// How long an event may wait for company under load, in microseconds; 0 wakes at once, always.
    pub latency_target_us: u64,
}

impl Default for Ring {
    fn default() -> Self {
        let ring = fulcrum_ring::RingConfig::default();
        Ring {
            receive_buffers: ring.receive_buffers,
            latency_target_us: ring.latency_target.as_micros() as u64,
        }
    }
}

/// `[journal]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Journal {
    /// Bytes of one segment, a multiple of 4096. Fixed when the data directory is created.
    pub segment_bytes: u64,
    /// Most bytes of one shard's segments on disk; when they are used up, events are refused.
    pub bytes_max: u64,
    /// `buffered` (write, then fdatasync) or `direct` (O_DIRECT with synchronous writes).
    pub write_mode: JournalWriteMode,
}

impl Default for Journal {
    fn default() -> Self {
        let journal = JournalConfig::new("", 1);
        Journal {
            segment_bytes: journal.segment_bytes,
            bytes_max: journal.bytes_max,
            write_mode: JournalWriteMode::Buffered,
        }
    }
}

/// How the journal writes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum JournalWriteMode {
    Buffered,
    Direct,
}

impl From<JournalWriteMode> for WriteMode {
    fn from(mode: JournalWriteMode) -> WriteMode {
        match mode {
            JournalWriteMode::Buffered => WriteMode::BufferedThenSync,
            JournalWriteMode::Direct => WriteMode::DirectSync,
        }
    }
}

/// `[uplink]`; without it the node works alone.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Uplink {
    /// `https://host:port` of the cloud side.
    pub cloud: String,
    /// PEM file with the certificates to trust. Default: the system's.
    pub ca_file: Option<PathBuf>,
    /// This node's id, as it was enrolled.
    pub edge: EdgeId,
    /// The node's private key, made by `fulcrum edge enrol`.
    pub key_file: PathBuf,
    /// Longest pause between attempts, in milliseconds.
    pub backoff_max_ms: Option<u64>,
}

/// `[log]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    /// `error`, `warn`, `info`, `debug`, `trace`, or a filter like `info,fulcrum_shard=debug`.
    pub level: String,
    /// `json` or `text`.
    pub format: LogFormat,
}

impl Default for Log {
    fn default() -> Self {
        Log { level: "info".to_owned(), format: LogFormat::Json }
    }
}

/// How log lines look.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    Json,
    Text,
}

fn one() -> usize {
    1
}

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("cannot read {path}: {source}; give the file with --config")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{path}:{line}: {message}")]
    Syntax { path: PathBuf, line: usize, message: String },
    #[error("{path}: {message}")]
    Value { path: PathBuf, message: String },
}

impl Config {
    /// Reads and checks `path`. Relative paths in it are relative to its folder.
    pub fn load(path: &Path) -> Result<Config, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
        let mut config = Config::parse(&text, path)?;
        let whole = std::path::absolute(path)
            .map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
        let folder = whole.parent().unwrap_or(Path::new("/"));
        let absolute = |file: &mut PathBuf| *file = folder.join(&*file);
        absolute(&mut config.node.data_dir);
        for files in config.tls.iter_mut().flat_map(|tls| &mut tls.certificate) {
            absolute(&mut files.chain);
            absolute(&mut files.key);
        }
        if let Some(uplink) = &mut config.uplink {
            absolute(&mut uplink.key_file);
            uplink.ca_file.as_mut().map(absolute);
        }
        Ok(config)
    }

    fn parse(text: &str, path: &Path) -> Result<Config, ConfigError> {
        let config: Config = toml::from_str(text).map_err(|error| {
            let at = error.span().map_or(0, |span| span.start.min(text.len()));
            let line = text.as_bytes()[..at].iter().filter(|byte| **byte == b'\n').count() + 1;
            let message = error.message().replace('\n', ": ");
            ConfigError::Syntax { path: path.to_owned(), line, message }
        })?;
        let complaint = config.complaint();
        complaint.map_or(Ok(config), |message| {
            Err(ConfigError::Value { path: path.to_owned(), message })
        })
    }

    fn complaint(&self) -> Option<String> {
        if self.listeners().is_empty() {
            return Some(
                "expected [mqtt], [http] or [amqp] with `listen`, or a [[listener]], or nobody can connect"
                    .to_owned(),
            );
        }
        let has_tls = self.tls.as_ref().is_some_and(|tls| !tls.certificate.is_empty());
        let complaint = self.listener.iter().find_map(|listener| listener.complaint(has_tls));
        if complaint.is_some() {
            return complaint;
        }
        if let Some(complaint) = self.shared_address() {
            return Some(complaint);
        }
        let shards = self.shards();
        if shards == 0 || shards > 256 {
            return Some(format!("node.shards is {shards}; expected 1 to 256"));
        }
        if !self.node.cpus.is_empty() && self.node.cpus.len() != usize::from(shards) {
            let cpus = self.node.cpus.len();
            return Some(format!(
                "node.cpus names {cpus} processors for {shards} shards; expected one each, or none"
            ));
        }
        let message_bytes_max = fulcrum_shard::limits::SUBSCRIBER_BACKLOG_BYTES_MAX / 4;
        if !(1024..=message_bytes_max).contains(&self.limits.message_bytes) {
            return Some(format!(
                "limits.message_bytes is {}; expected 1024 to {message_bytes_max}",
                self.limits.message_bytes
            ));
        }
        if !(1..=1 << 20).contains(&self.limits.connections.unwrap_or(1)) {
            return Some("limits.connections must be 1 to 1048576".to_owned());
        }
        if let Some(uplink) = &self.uplink
            && !uplink.cloud.starts_with("https://")
            && !uplink.cloud.starts_with("http://")
        {
            return Some("uplink.cloud: expected https://host:port".to_owned());
        }
        let journal = self.journal().validate().err().map(|error| format!("[journal] {error}"));
        let sessions = || self.session_journal().validate().err();
        journal.or_else(|| sessions().map(|error| format!("[sessions] {error}")))
    }

    /// Two listeners that would share one address: the kernel would give each half of the other's connections.
    fn shared_address(&self) -> Option<String> {
        let mqtt = self.mqtt.as_ref().map(|mqtt| ("mqtt", mqtt.listen));
        let http = self.http.as_ref().map(|http| ("http", http.listen));
        let amqp = self.amqp.as_ref().map(|amqp| ("amqp", amqp.listen));
        let more = self.listener.iter().map(|listener| ("listener", listener.listen));
        let all: Vec<_> = mqtt
            .into_iter()
            .chain(http)
            .chain(amqp)
            .chain([("admin", self.admin.listen)])
            .chain(more)
            .collect();
        all.iter().enumerate().find_map(|(index, (name, address))| {
            let (other, _) = all[..index].iter().find(|(_, taken)| taken == address)?;
            let is_fixed = address.port() != 0;
            is_fixed.then(|| {
                format!(
                    "{other}.listen and {name}.listen are both {address}; expected one address each"
                )
            })
        })
    }

    /// Number of shards.
    pub fn shards(&self) -> u16 {
        self.node.shards.unwrap_or_else(|| {
            std::thread::available_parallelism().map_or(1, |cores| cores.get().min(256) as u16)
        })
    }

    /// Most connections: as configured, else as many as the process may have files, up to 65536.
    pub fn connections(&self) -> u32 {
        self.limits.connections.unwrap_or_else(|| {
            let files = fulcrum_ring::preflight::raise_file_limit().unwrap_or(1024);
            let connections = files - OTHER_FILES.min(files / 2);
            connections.clamp(1, CONNECTIONS_DEFAULT) as u32
        })
    }

    /// The journal's settings.
    pub fn journal(&self) -> JournalConfig {
        JournalConfig {
            segment_bytes: self.journal.segment_bytes,
            bytes_max: self.journal.bytes_max,
            write_mode: self.journal.write_mode.into(),
            ..JournalConfig::new(self.node.data_dir.join("journal"), self.shards())
        }
    }

    /// The ring of shard `index`.
    pub fn ring(&self, index: u16) -> fulcrum_ring::RingConfig {
        fulcrum_ring::RingConfig {
            receive_buffers: self.ring.receive_buffers,
            latency_target: Duration::from_micros(self.ring.latency_target_us),
            connections_max: self.connections(),
            cpu: self.node.cpus.get(usize::from(index)).copied(),
            ..fulcrum_ring::RingConfig::default()
        }
    }

    /// Every listener, the plain ones of `[mqtt]`, `[http]` and `[amqp]` first.
    pub fn listeners(&self) -> Vec<Listener> {
        let mqtt = self.mqtt.as_ref().map(|mqtt| Listener::plain(mqtt.listen, Protocol::Mqtt));
        let http = self.http.as_ref().map(|http| Listener::plain(http.listen, Protocol::Http));
        let amqp = self.amqp.as_ref().map(|amqp| Listener::plain(amqp.listen, Protocol::Amqp));
        let more = self.listener.iter().cloned();
        mqtt.into_iter().chain(http).chain(amqp).chain(more).collect()
    }

    /// The journal of what MQTT sessions must not forget.
    pub fn session_journal(&self) -> JournalConfig {
        JournalConfig {
            segment_bytes: self.sessions.segment_bytes,
            bytes_max: self.sessions.bytes_max,
            write_mode: self.journal.write_mode.into(),
            ..JournalConfig::new(self.node.data_dir.join("sessions"), self.shards())
        }
    }

    /// What is kept for MQTT sessions.
    pub fn session_limits(&self) -> fulcrum_sessions::Limits {
        fulcrum_sessions::Limits {
            session_expiry_max_s: self.sessions.expiry_max_s,
            queue_messages_max: self.sessions.queue_messages_max,
            queue_bytes_max: self.sessions.queue_bytes_max,
            tenant_bytes_max: self.sessions.tenant_bytes_max,
            tenant_sessions_max: self.sessions.tenant_sessions_max,
            ..fulcrum_sessions::Limits::default()
        }
    }

    /// The replica of the registry.
    pub fn identity_file(&self) -> PathBuf {
        self.node.data_dir.join("identity.redb")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALLEST: &str = "[node]\ndata_dir = \"d\"\n[mqtt]\nlisten = \"127.0.0.1:1883\"\n";

    fn refusal(text: &str) -> String {
        Config::parse(text, Path::new("edge.toml")).unwrap_err().to_string()
    }

    #[test]
    fn a_data_directory_and_a_listener_are_enough() {
        let config = Config::parse(SMALLEST, Path::new("edge.toml")).unwrap();
        assert!(config.shards() > 0 && config.uplink.is_none());
    }

    #[test]
    fn a_mistake_is_named_with_file_line_and_expectation() {
        let misspelt = format!("{SMALLEST}[limits]\nconections = 5\n");
        let text = refusal(&misspelt);
        assert!(text.starts_with("edge.toml:6: ") && text.contains("`connections`"), "{text}");
        let wrong_type = refusal("[node]\ndata_dir = 7\n");
        assert!(
            wrong_type.starts_with("edge.toml:2: ") && wrong_type.contains("string"),
            "{wrong_type}"
        );
        let unfinished = refusal("[node]\ndata_dir = \"d\n");
        assert!(unfinished.starts_with("edge.toml:2: "), "{unfinished}");
    }

    #[test]
    fn values_out_of_range_say_the_range() {
        assert!(refusal("[node]\ndata_dir = \"d\"\n").contains("[mqtt], [http] or [amqp]"));
        assert!(refusal(&format!("{SMALLEST}[limits]\nmessage_bytes = 10\n")).contains("1024 to"));
        assert!(refusal(&SMALLEST.replace("\"d\"", "\"d\"\nshards = 0")).contains("1 to 256"));
        assert!(
            refusal(&SMALLEST.replace("\"d\"", "\"d\"\nshards = 2\ncpus = [0]"))
                .contains("one each")
        );
        assert!(refusal(&format!("{SMALLEST}[journal]\nsegment_bytes = 5\n")).contains("4096"));
        let twice = refusal(&format!("{SMALLEST}[http]\nlisten = \"127.0.0.1:1883\"\n"));
        assert!(twice.contains("mqtt.listen and http.listen are both 127.0.0.1:1883"), "{twice}");
        let admin = refusal(&format!("{SMALLEST}[admin]\nlisten = \"127.0.0.1:1883\"\n"));
        assert!(admin.contains("mqtt.listen and admin.listen"), "{admin}");
    }
}
