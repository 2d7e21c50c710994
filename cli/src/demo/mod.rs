//! `fulcrum demo`: the whole platform once, on recorded data, broken in the middle, with a proof at the end.
//!
//! ```text
//!   12 devices (tasks here) ──MQTT, HTTP──▶ fulcrum-edge (process) ──▶ link (task here) ──▶ fulcrum cloud (process)
//!       │ ledger: what was sent, what was acknowledged                                            │ consumer group
//!       └───────────────────────────────▶ audit ◀──────────────────── application (task here) ◀──┘
//! ```
//!
//! Invariant: the proof uses what a device and an application can see, never the platform's own counters.

mod application;
mod audit;
mod device;
mod http_device;
mod ledger;
mod mqtt_device;
mod processes;
mod proxy;
mod readings;
mod screen;
mod site;
mod story;

use crate::error::Failure;
use crate::output::Output;
use clap::Args;
use rand::{Rng as _, SeedableRng as _};
use screen::Screen;
use serde_json::json;
use std::path::{Path, PathBuf};
use std::time::Duration;
use story::{RunReport, Timing};

pub const EXAMPLES: &str = "\
Examples:
  fulcrum demo                             once, with a live table on a terminal; under two minutes
  fulcrum demo --runs 20 --kill-at random  the same proof 20 times, the node killed at another moment each time
  fulcrum demo --keep                      leaves data, configuration and logs behind to look at
  fulcrum demo --json                      the verdict as JSON
Exit code 5 means that the proof failed.";

/// Arguments of `demo`.
#[derive(Debug, Args)]
pub struct DemoArguments {
    /// Seconds from the cut of the uplink to the kill of the node, or `random`.
    #[arg(long, default_value = "3", value_name = "SECONDS|random", value_parser = parse_kill_at)]
    kill_at: KillAt,
    /// How often to do it all, each time with fresh data.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    runs: u32,
    /// Seed of the random kill points.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Readings per second and device.
    #[arg(long, default_value_t = 25, value_parser = clap::value_parser!(u32).range(1..=200))]
    rate: u32,
    /// Keep data, configuration and logs.
    #[arg(long)]
    keep: bool,
    /// The edge node's binary. Default: `fulcrum-edge` beside this program; under `cargo run` it is built first.
    #[arg(long, value_name = "FILE")]
    node: Option<PathBuf>,
}

/// When the node is killed.
#[derive(Clone, Copy, PartialEq, Debug)]
enum KillAt {
    After(Duration),
    Random,
}

const KILL_AT_MAX_S: f64 = 30.0;

fn parse_kill_at(text: &str) -> Result<KillAt, String> {
    if text == "random" {
        return Ok(KillAt::Random);
    }
    match text.parse::<f64>() {
        Ok(seconds) if (0.0..=KILL_AT_MAX_S).contains(&seconds) => {
            Ok(KillAt::After(Duration::from_secs_f64(seconds)))
        }
        _ => Err(format!("give seconds between 0 and {KILL_AT_MAX_S}, or the word random")),
    }
}

/// Runs the demo as often as asked; an error when one proof failed.
pub async fn run(options: DemoArguments, output: &Output) -> Result<(), Failure> {
    let node = processes::node_binary(options.node.as_deref()).await?;
    let mut random = rand::rngs::StdRng::seed_from_u64(options.seed);
    let many = options.runs > 1;
    let mut failed = Vec::new();
    for number in 1..=options.runs {
        let until_kill = match options.kill_at {
            KillAt::After(duration) => duration,
            KillAt::Random => Duration::from_millis(random.random_range(50..4000)),
        };
        let folder = tempfile::Builder::new()
            .prefix("fulcrum-demo-")
            .tempdir()
            .map_err(|source| Failure::Host { what: "make a temporary directory", source })?;
        let mut screen = Screen::new(*output, many);
        let interval = Duration::from_secs(1) / options.rate;
        let story =
            story::run(folder.path(), &node, timing(until_kill, many), interval, &mut screen);
        let outcome = tokio::select! {
            outcome = story => outcome,
            _ = tokio::signal::ctrl_c() => Err(Failure::Demo("interrupted".to_owned())),
        };
        drop(screen);
        let holds = matches!(&outcome, Ok(report) if report.holds());
        if options.keep || !holds {
            let kept = folder.keep();
            output.remark(format!("data, configuration and logs are kept in {}", kept.display()));
            show(number, &options, &outcome, Some(&kept), output);
        } else {
            show(number, &options, &outcome, None, output);
        }
        if !holds {
            failed.push(number);
        }
        if let (Err(failure), false) = (outcome, many) {
            return Err(failure);
        }
    }
    if failed.is_empty() {
        if many {
            output.remark(format!("all {} proofs hold", options.runs));
        }
        return Ok(());
    }
    Err(Failure::Demo(format!(
        "the proof failed in {} of {} runs: {failed:?}",
        failed.len(),
        options.runs
    )))
}

/// Many runs are shorter; what happens in them is the same.
fn timing(until_kill: Duration, many: bool) -> Timing {
    let seconds = Duration::from_secs_f64;
    if many {
        let (healthy, dead, offline, healed) =
            (seconds(3.0), seconds(0.5), seconds(2.0), seconds(2.0));
        Timing { healthy, until_kill, dead, offline, healed }
    } else {
        let (healthy, dead, offline, healed) =
            (seconds(8.0), seconds(2.0), seconds(6.0), seconds(6.0));
        Timing { healthy, until_kill, dead, offline, healed }
    }
}

fn show(
    number: u32,
    options: &DemoArguments,
    outcome: &Result<RunReport, Failure>,
    kept: Option<&Path>,
    output: &Output,
) {
    match outcome {
        Ok(report) => {
            let document = json!({
                "run": number, "seed": options.seed, "holds": report.holds(), "report": report, "kept": kept,
            });
            output.document(&document, |_| {
                if options.runs > 1 { brief(number, report) } else { full(report) }
            });
        }
        Err(failure) if options.runs > 1 => {
            let document =
                json!({"run": number, "holds": false, "error": failure.to_string(), "kept": kept});
            output.document(&document, |_| format!("run {number:>3}  FAILED  {failure}"));
        }
        // Told once, as the command's own failure.
        Err(_) => {}
    }
}

fn brief(number: u32, report: &RunReport) -> String {
    let verdict = &report.verdict;
    let faults = if verdict.findings.is_empty() {
        String::new()
    } else {
        format!("\n  {}", verdict.findings.join("\n  "))
    };
    format!(
        "run {number:>3}  {}  killed {:>4} ms after the cut  {} acknowledged, {} of {} once-sent exactly once, {} sent \
         again ({} copies)  {:.1} s{faults}",
        if report.holds() { "holds " } else { "FAILED" },
        report.killed_after_ms,
        verdict.acknowledged,
        verdict.exactly_once,
        verdict.acknowledged_on_first_send,
        verdict.sent_again,
        verdict.permitted_copies,
        report.took_ms as f64 / 1000.0,
    )
}

fn full(report: &RunReport) -> String {
    let verdict = &report.verdict;
    let faults = verdict.faults;
    let mark = |good: bool| if good { "ok    " } else { "FAILED" };
    let answered = report.commands.iter().filter(|command| command.response.is_some()).count();
    let mut text = format!(
        "\nThe proof, from the devices' ledgers and the application's records:\n\
         \x20 {}  {} acknowledged events, {} lost\n\
         \x20 {}  sent once and acknowledged: {} events, {} of them in the stream exactly once, {} copies\n\
         \x20 {}  sent again because the acknowledgement was lost: {} events, {} there, {} of them also a second time\n\
         \x20 {}  order per device: {} devices, {} events out of order ({} devices went on at another core)\n\
         \x20 {}  content: {} events differ from what the device measured\n\
         \x20 {}  sequences: {} records in {} partitions, {} missing, {} repeated\n\
         \x20 {}  commands: {} of {} answered by their device\n\
         telemetry (direct, never stored on the way): {} sent, {} refused, {} read by the application;\n\
         \x20 the rest went at QoS 0 while nobody could take it\n\
         {} in {:.1} s",
        mark(faults.lost == 0 && verdict.acknowledged > 0),
        verdict.acknowledged,
        faults.lost,
        mark(faults.duplicated == 0 && verdict.exactly_once == verdict.acknowledged_on_first_send),
        verdict.acknowledged_on_first_send,
        verdict.exactly_once,
        faults.duplicated,
        mark(verdict.sent_again_and_there == verdict.sent_again),
        verdict.sent_again,
        verdict.sent_again_and_there,
        verdict.permitted_copies,
        mark(faults.out_of_order == 0),
        verdict.devices,
        faults.out_of_order,
        verdict.devices_in_several_partitions,
        mark(faults.altered == 0),
        faults.altered,
        mark(faults.holes == 0 && faults.repeated_sequences == 0),
        verdict.records,
        verdict.partitions,
        faults.holes,
        faults.repeated_sequences,
        mark(answered == report.commands.len()),
        answered,
        report.commands.len(),
        report.telemetry.sent,
        report.telemetry.refused,
        report.telemetry.arrived,
        if report.holds() { "THE PROOF HOLDS" } else { "THE PROOF FAILED" },
        report.took_ms as f64 / 1000.0,
    );
    for finding in &verdict.findings {
        text += &format!("\n  - {finding}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kill_point_is_seconds_or_random() {
        assert_eq!(parse_kill_at("random"), Ok(KillAt::Random));
        assert_eq!(parse_kill_at("0.5"), Ok(KillAt::After(Duration::from_millis(500))));
        for wrong in ["-1", "31", "soon", "NaN"] {
            assert!(parse_kill_at(wrong).is_err(), "{wrong}");
        }
    }
}
