//! `fulcrum-load`: MQTT 3.1.1 load against any broker, and what a message costs it.
//!
//! One thread and readiness events (`mio`): the driver must not share the ring it measures, and it
//! is pinned from outside (`taskset`). How to run it and how to read its figures: loadtests/README.md.
//!
//! Deliberately not here: starting brokers, comparing them, computing ratios. That is
//! loadtests/run.py.

mod connection;
mod error;
mod handshake;
mod idle;
mod pace;
mod process;
mod report;
mod run;
mod settings;
mod tally;
mod template;
#[cfg(test)]
mod test_broker;
mod traffic;
mod window;
mod wire;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// MQTT load and the cost of a message.
#[derive(Parser)]
#[command(name = "fulcrum-load", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Send messages and measure what comes back.
    Run(Box<settings::RunArguments>),
    /// Watch a process without load, first alone, then with idle connections.
    Idle(idle::IdleArguments),
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().command {
        Command::Run(arguments) => {
            let json = arguments.json;
            arguments.plan().and_then(run::run).map(|report| report.print(json))
        }
        Command::Idle(arguments) => {
            let json = arguments.json;
            idle::run(&arguments).map(|report| report.print(json))
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("fulcrum-load: {error}");
            ExitCode::FAILURE
        }
    }
}
