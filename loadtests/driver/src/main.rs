//! `fulcrum-load`: MQTT load against any broker, and what a message costs it.
//!
//! ```text
//!  run ── a thread: net (sockets) ── channel (TLS, WebSocket) ── worker (phases, handshakes)
//!   │                                                               └─ traffic ─ flight   what publishers have sent
//!   └── report ◀── tally                                                 └─ receivers ─ stream   what came of it
//! ```
//!
//! Below `net` nothing does I/O or asks for the time. The driver is pinned from outside (`taskset`).
//! How to run it and how to read its figures: loadtests/README.md.
//!
//! Deliberately not here: starting brokers, comparing them, computing ratios. That is
//! loadtests/run.py.

mod channel;
mod error;
mod flight;
mod handshake;
mod net;
mod pace;
mod plan;
mod probe;
mod process;
mod progress;
mod receivers;
mod report;
mod run;
mod settings;
mod stream;
mod tally;
mod template;
#[cfg(test)]
mod test_broker;
#[cfg(test)]
mod test_tls;
mod traffic;
mod wire;
mod worker;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// The run came to its end and shows that the broker broke a promise.
const BROKEN_PROMISE: u8 = 3;

/// MQTT load and the cost of a message.
#[derive(Parser)]
#[command(name = "fulcrum-load", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Connect, send messages, and measure what comes back and what it cost.
    Run(Box<settings::RunArguments>),
}

fn main() -> ExitCode {
    let Command::Run(arguments) = Arguments::parse().command;
    let json = arguments.json;
    match arguments.plan().and_then(|plan| run::run(&plan)) {
        Ok(report) => {
            report.print(json);
            if report.failures.is_empty() {
                return ExitCode::SUCCESS;
            }
            eprintln!("fulcrum-load: FAILED: {}", report.failures.join(", "));
            ExitCode::from(BROKEN_PROMISE)
        }
        Err(error) => {
            eprintln!("fulcrum-load: {error}");
            ExitCode::FAILURE
        }
    }
}
