//! `fulcrum-edge check`: does this host fit the node, and if not, what is in the way.

use crate::config::Config;
use fulcrum_ring::preflight::{Check, Requirements, check, is_fit};
use serde_json::json;
use std::process::ExitCode;

/// What the configuration asks of the host.
pub fn requirements(config: &Config) -> Requirements {
    Requirements {
        connections: config.connections(),
        shards: u32::from(config.shards()),
        ring: config.ring(0),
    }
}

/// Prints the report; the exit code says whether the node can run.
pub fn run(config: &Config, as_json: bool) -> ExitCode {
    let checks = check(&requirements(config));
    let fit = is_fit(&checks);
    if as_json {
        let rows: Vec<_> = checks.iter().map(row).collect();
        println!("{}", json!({ "fit": fit, "checks": rows }));
    } else {
        for check in &checks {
            print!("{}", text(check));
        }
        println!(
            "{}",
            if fit { "The node can run here." } else { "The node cannot run here yet." }
        );
    }
    if fit { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The failed checks as one text, for the log of a node that refuses to start.
pub fn complaint(checks: &[Check]) -> String {
    let failed = checks.iter().filter(|check| !check.ok && check.required);
    failed.map(text).collect::<String>().trim_end().to_owned()
}

fn row(check: &Check) -> serde_json::Value {
    json!({
        "name": check.name,
        "ok": check.ok,
        "required": check.required,
        "found": check.found,
        "wanted": check.wanted,
        "remedy": {
            "shell": check.remedy.shell,
            "systemd": check.remedy.systemd,
            "container": check.remedy.container,
        },
    })
}

fn text(check: &Check) -> String {
    let mark = match (check.ok, check.required) {
        (true, _) => "ok  ",
        (false, true) => "FAIL",
        (false, false) => "note",
    };
    let mut text = format!("{mark}  {:<24} {}\n", check.name, check.found);
    if !check.ok {
        text += &format!("      wanted: {}\n", check.wanted);
        let remedies = [
            ("shell", &check.remedy.shell),
            ("systemd", &check.remedy.systemd),
            ("container", &check.remedy.container),
        ];
        for (place, remedy) in remedies.into_iter().filter(|(_, remedy)| !remedy.is_empty()) {
            text += &format!("      {place}: {remedy}\n");
        }
    }
    text
}
