//! `fulcrum-edge`: the edge node's binary.

mod check;
mod config;
mod data_dir;
mod listeners;
mod logging;
mod node;
mod observe;
mod registry;
mod seed;
mod segments;
mod shards;
mod uplink;

use clap::{Parser, Subcommand};
use config::Config;
use std::path::PathBuf;
use std::process::ExitCode;

const EXAMPLES: &str = "\
A configuration that is enough to try it:

    [node]
    data_dir = \"/var/lib/fulcrum-edge\"
    [mqtt]
    listen = \"127.0.0.1:1883\"
    [http]
    listen = \"127.0.0.1:8080\"

With TLS and WebSocket beside it:

    [[tls.certificate]]
    chain = \"server.pem\"
    key = \"server.key\"
    [[listener]]
    listen = \"[::]:8883\"
    tls = true
    [[listener]]
    listen = \"0.0.0.0:8084\"
    tls = true
    websocket = \"/mqtt\"

With [uplink] (cloud, edge, key_file; see `fulcrum edge enrol --help`) the node gets its tenants, devices and commands
from the cloud and ships events there. Health and metrics are on [admin] listen, by default 127.0.0.1:9090:
/started /readiness /liveness /metrics /status.

A listener may speak HTTP or AMQP 1.0 (speaks = \"http\", \"amqp\"; plain ones have [http] and [amqp] with listen) or
expect a proxy's header (proxy_protocol = true); with [tls]
client_certificates = \"optional\" clients may show a certificate instead of a password.

SIGHUP reads the certificates again. Stop it with SIGTERM or Ctrl-C: it commits what it has acknowledged, tries to ship it, and exits with 0.";

#[derive(Parser)]
#[command(name = "fulcrum-edge", version, about = "The Fulcrum edge node", after_help = EXAMPLES)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the node in the foreground.
    Run {
        /// Configuration file (TOML).
        #[arg(long, default_value = "/etc/fulcrum/edge.toml", env = "FULCRUM_EDGE_CONFIG")]
        config: PathBuf,
    },
    /// Check whether this host and the configuration fit the node, and say how to mend what does not.
    Check {
        /// Configuration file (TOML).
        #[arg(long, default_value = "/etc/fulcrum/edge.toml", env = "FULCRUM_EDGE_CONFIG")]
        config: PathBuf,
        /// Print one JSON object.
        #[arg(long)]
        json: bool,
    },
    /// Fill the registry's replica of a node without a cloud from a file. The node must be stopped.
    Seed {
        /// Configuration file (TOML).
        #[arg(long, default_value = "/etc/fulcrum/edge.toml", env = "FULCRUM_EDGE_CONFIG")]
        config: PathBuf,
        /// A page of the cloud's change feed as JSON: `{"feed", "changes", "cursor", "more"}`.
        #[arg(long)]
        feed: PathBuf,
    },
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Run { config } => Config::load(&config).map_err(Into::into).and_then(node::run),
        Command::Check { config, json } => {
            return match Config::load(&config) {
                Ok(config) => check::run(&config, json),
                Err(error) => fail(&error),
            };
        }
        Command::Seed { config, feed } => {
            Config::load(&config).map_err(Into::into).and_then(|config| seed::run(&config, &feed))
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&*error),
    }
}

fn fail(error: &dyn std::error::Error) -> ExitCode {
    eprintln!("fulcrum-edge: {error}");
    ExitCode::FAILURE
}
