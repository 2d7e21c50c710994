//! What a process costs that has nothing to do: alone, then with connections that only exist.

use crate::error::LoadError;
use crate::handshake::{self, Client};
use crate::process::{self, CpuTime};
use crate::settings::{Login, Target, seconds};
use crate::template::Template;
use clap::Args;
use serde::Serialize;
use std::time::{Duration, Instant};

/// After the last connection, so that the work of connecting is not counted as idling.
const SETTLE: Duration = Duration::from_secs(2);

/// `fulcrum-load idle`.
#[derive(Args)]
pub struct IdleArguments {
    /// The process to watch.
    #[arg(long)]
    server_pid: u32,
    /// Length of each of the two measured times.
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// Idle connections of the second one; 0 leaves it out.
    #[arg(long, default_value_t = 1_000)]
    connections: usize,
    /// Broker's host [default: 127.0.0.1].
    #[arg(long)]
    host: Option<String>,
    /// Broker's port [default: 1883].
    #[arg(long)]
    port: Option<u16>,
    /// What {tenant} stands for [default: bench].
    #[arg(long)]
    tenant: Option<String>,
    /// User of connection i, for example d{i}@{tenant}; without it connections are anonymous.
    #[arg(long)]
    username_template: Option<String>,
    /// Password of the connections.
    #[arg(long, env = "FULCRUM_LOAD_PASSWORD", hide_env_values = true)]
    password: Option<String>,
    /// One JSON object on standard output instead of text.
    #[arg(long)]
    pub json: bool,
}

/// The figures.
#[derive(Debug, Serialize)]
pub struct IdleReport {
    alone: Idle,
    connections: usize,
    connected: Option<Idle>,
    /// Resident memory each connection added.
    bytes_per_connection: Option<f64>,
}

#[derive(Debug, Clone, Copy, Serialize)]
struct Idle {
    resident_mib: f64,
    /// Of one core.
    cpu_percent: f64,
}

/// Watches, connects, watches again.
///
/// # Errors
/// The process is gone, or the broker does not take the connections.
pub fn run(arguments: &IdleArguments) -> Result<IdleReport, LoadError> {
    let pid = arguments.server_pid;
    let time = seconds("seconds", arguments.seconds, 0.1)?;
    let username_template = arguments
        .username_template
        .as_deref()
        .map(|text| Template::parse("username-template", text))
        .transpose()?;
    let login = Login { username: username_template, password: arguments.password.clone() };
    let target = Target::new(
        arguments.host.clone(),
        arguments.port,
        arguments.tenant.clone(),
        time + SETTLE,
    );
    let alone = watch(pid, time)?;
    let streams = (0..arguments.connections)
        .map(|index| {
            let id = format!("load-i{index}");
            let client = Client { id, login: &login, index, clean_session: true };
            handshake::connect(&target, &client)
        })
        .collect::<Result<Vec<_>, LoadError>>()?;
    let connected = if streams.is_empty() {
        None
    } else {
        std::thread::sleep(SETTLE);
        Some(watch(pid, time)?)
    };
    let bytes_per_connection = connected.map(|connected| {
        (connected.resident_mib - alone.resident_mib) * 1_048_576.0 / streams.len() as f64
    });
    Ok(IdleReport { alone, connections: streams.len(), connected, bytes_per_connection })
}

fn watch(pid: u32, time: Duration) -> Result<Idle, LoadError> {
    let (before, start) = (CpuTime::of(pid)?, Instant::now());
    std::thread::sleep(time);
    let spent = CpuTime::of(pid)?.since(&before);
    let elapsed_ns = start.elapsed().as_nanos() as f64;
    Ok(Idle {
        resident_mib: process::resident_kib(pid)? as f64 / 1024.0,
        cpu_percent: 100.0 * spent.run_ns as f64 / elapsed_ns,
    })
}

impl IdleReport {
    /// Writes it to standard output.
    pub fn print(&self, json: bool) {
        if json {
            let text = serde_json::to_string(self).expect("a report has only plain members");
            return println!("{text}");
        }
        let line = |what: &str, idle: &Idle| {
            println!("{what}: {:.1} MiB, {:.3} % of a core", idle.resident_mib, idle.cpu_percent);
        };
        line("alone", &self.alone);
        if let (Some(connected), Some(bytes)) = (&self.connected, self.bytes_per_connection) {
            line(&format!("{} idle connections", self.connections), connected);
            println!("{:.1} KiB for each connection", bytes / 1024.0);
        }
    }
}
