//! `fulcrum`: the operator's and the application's command line.
//!
//! ```text
//!   arguments ─▶ commands/* ─▶ client ─▶ cloud side (HTTPS)        commands/cloud hosts the cloud side itself
//!                    │                                             demo/* runs the whole platform once and proves it
//!                    ▼
//!                 output (lines for people, JSON for programs)
//! ```
//!
//! Invariants: every command can answer in JSON; every error says what to do next; the exit code tells the kind of
//! failure ([`error::Failure::exit_code`]); a secret is printed exactly where a command exists to hand it out.
//!
//! Deliberately absent: rules. What a tenant or a device may look like is decided by the cloud side alone.

mod arguments;
mod client;
mod commands;
mod context;
mod demo;
mod error;
mod output;

use clap::Parser as _;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments = arguments::Arguments::parse();
    let output = output::Output::new(arguments.json);
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(source) => {
            let failure = error::Failure::Host { what: "start the runtime's threads", source };
            return output.failure(&failure);
        }
    };
    let outcome = runtime.block_on(commands::run(arguments, &output));
    // A blocking read (a password prompt) must not hold up the end of the process.
    runtime.shutdown_background();
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => output.failure(&failure),
    }
}
