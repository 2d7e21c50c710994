//! `fulcrum-edge check`: does this host fit the node, and if not, what is in the way.

use crate::config::{Config, Uplink};
use crate::data_dir;
use crate::listeners::Tls;
use fulcrum_ring::preflight::{Check, Remedy, Requirements, check, is_fit};
use fulcrum_uplink::Key;
use serde_json::json;
use std::path::Path;
use std::process::ExitCode;

/// How a certificate begins.
const PEM: &str = "-----BEGIN CERTIFICATE-----";

/// What the configuration asks of the host.
pub fn requirements(config: &Config) -> Requirements {
    Requirements {
        connections: config.connections(),
        shards: u32::from(config.shards()),
        ring: config.ring(0),
    }
}

/// Everything that is looked at before the node starts.
pub fn checks(config: &Config) -> Vec<Check> {
    let mut checks = check(&requirements(config));
    checks.extend(data_dir::checks(&config.node.data_dir));
    checks.extend(config.tls.as_ref().map(certificates));
    if let Some(uplink) = &config.uplink {
        checks.push(key(uplink));
        checks.extend(uplink.ca_file.as_deref().map(authorities));
    }
    checks
}

fn key(uplink: &Uplink) -> Check {
    let loaded = Key::load(&uplink.key_file);
    let shown = uplink.key_file.display();
    let folder = uplink.key_file.parent().unwrap_or(Path::new("/")).display();
    Check {
        name: "uplink key",
        ok: loaded.is_ok(),
        required: true,
        found: loaded.map_or_else(|error| error.to_string(), |_| shown.to_string()),
        wanted: "the private key this node was enrolled with, readable by its user alone"
            .to_owned(),
        remedy: Remedy {
            shell: format!(
                "fulcrum edge enrol --edge {} --token TOKEN --data-dir {folder}",
                uplink.edge
            ),
            systemd: String::new(),
            container: format!("mount the key at {shown}"),
        },
    }
}

fn certificates(tls: &Tls) -> Check {
    let loaded = tls.load();
    let chains: Vec<_> = tls.certificate.iter().map(|files| files.chain.display()).collect();
    Check {
        name: "certificates",
        ok: loaded.is_ok(),
        required: true,
        found: loaded.map_or_else(
            |error| error,
            |_| chains.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
        ),
        wanted: "[[tls.certificate]] with chain and key: PEM files, readable, the key that of the chain's first certificate"
            .to_owned(),
        remedy: Remedy {
            shell: "openssl pkey -in KEY -pubout and openssl x509 -in CHAIN -noout -pubkey show whether they belong together"
                .to_owned(),
            systemd: String::new(),
            container: "mount the files where the configuration names them".to_owned(),
        },
    }
}

fn authorities(file: &Path) -> Check {
    let text = std::fs::read_to_string(file);
    let found = match &text {
        Ok(text) => format!("{}: {} certificates", file.display(), text.matches(PEM).count()),
        Err(error) => format!("{}: {error}", file.display()),
    };
    Check {
        name: "uplink CA file",
        ok: text.is_ok_and(|text| text.contains(PEM)),
        required: true,
        found,
        wanted: "a PEM file with the certificates to trust".to_owned(),
        remedy: Remedy {
            shell: "copy the cloud's ca.pem there, or leave uplink.ca_file out to trust the system's certificates"
                .to_owned(),
            systemd: String::new(),
            container: String::new(),
        },
    }
}

/// Prints the report; the exit code says whether the node can run.
pub fn run(config: &Config, as_json: bool) -> ExitCode {
    let checks = checks(config);
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
