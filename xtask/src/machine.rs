//! What the tests with real clients need on this machine, installed where it is missing.

use crate::error::Failure;
use crate::steps::Cargo;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Programs and the Debian packages they come from.
const PROGRAMS: [(&str, &str); 4] = [
    ("mosquitto_pub", "mosquitto-clients"),
    ("mosquitto_sub", "mosquitto-clients"),
    ("curl", "curl"),
    ("python3", "python3"),
];
/// The version the tests are written for.
const PAHO: &str = "paho-mqtt==2.1.0";

/// What the tests with real clients are run with.
pub struct Clients {
    /// A Python that has paho-mqtt.
    pub python: PathBuf,
}

/// Installs what is missing.
pub fn prepare(root: &Path) -> Result<Clients, Failure> {
    install_packages(root)?;
    let venv = Cargo::target_directory(root)?.join("venv");
    let python = venv.join("bin/python");
    if !has_paho(&python, root) {
        make_venv(&venv, &python, root)?;
    }
    println!("    mosquitto-clients, curl and {PAHO} are here");
    Ok(Clients { python })
}

fn install_packages(root: &Path) -> Result<(), Failure> {
    let mut missing: Vec<&str> = PROGRAMS
        .iter()
        .filter(|(program, _)| !is_installed(program))
        .map(|(_, package)| *package)
        .collect();
    missing.dedup();
    if missing.is_empty() {
        return Ok(());
    }
    apt_get(&["update"], root)?;
    let mut arguments = vec!["install", "--yes", "--no-install-recommends"];
    arguments.extend(&missing);
    apt_get(&arguments, root)
}

fn is_installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

fn apt_get(arguments: &[&str], root: &Path) -> Result<(), Failure> {
    let by_hand = || {
        Failure::Machine(format!(
            "the tests with real clients need programs that are missing here, and this user cannot install them.\n  \
             As root: apt-get {}\n  On other systems: the packages that hold mosquitto_pub, mosquitto_sub, curl and \
             python3. Without them: cargo xtask test --quick",
            arguments.join(" ")
        ))
    };
    if !is_installed("apt-get") {
        return Err(by_hand());
    }
    let mut id = Command::new("id");
    id.arg("-u");
    let is_root = id.output().is_ok_and(|output| output.stdout.trim_ascii() == b"0");
    let mut command = if is_root {
        Cargo::plain("apt-get", root)
    } else {
        let mut sudo = Command::new("sudo");
        sudo.args(["--non-interactive", "true"]);
        if !is_installed("sudo") || !Cargo::succeeds(sudo) {
            return Err(by_hand());
        }
        let mut command = Cargo::plain("sudo", root);
        command.args(["--non-interactive", "apt-get"]);
        command
    };
    command.args(arguments).env("DEBIAN_FRONTEND", "noninteractive");
    Cargo::run(command)
}

fn has_paho(python: &Path, root: &Path) -> bool {
    let version = PAHO.rsplit('=').next().unwrap_or_default();
    let mut command = Cargo::plain(python, root);
    let check =
        format!("import importlib.metadata as m; assert m.version('paho-mqtt') == '{version}'");
    command.args(["-c", &check]);
    Cargo::succeeds(command)
}

fn make_venv(venv: &Path, python: &Path, root: &Path) -> Result<(), Failure> {
    // What an interrupted run left over.
    let _ = fs::remove_dir_all(venv);
    let make = || {
        let mut command = Cargo::plain("python3", root);
        command.args(["-m", "venv"]).arg(venv);
        Cargo::run(command)
    };
    if make().is_err() {
        // Debian keeps what `venv` needs in a package of its own.
        apt_get(&["install", "--yes", "--no-install-recommends", "python3-venv"], root)?;
        make()?;
    }
    let mut command = Cargo::plain(python, root);
    command.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", PAHO]);
    Cargo::run(command)
}
