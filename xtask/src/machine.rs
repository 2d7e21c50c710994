//! What the tests with real clients need on this machine, installed where it is missing.

use crate::error::Failure;
use crate::steps::Cargo;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Programs and the Debian packages they come from, a package's programs side by side.
const PROGRAMS: [(&str, &str); 8] = [
    ("mosquitto_pub", "mosquitto-clients"),
    ("mosquitto_sub", "mosquitto-clients"),
    ("mosquitto_rr", "mosquitto-clients"),
    ("curl", "curl"),
    ("openssl", "openssl"),
    ("python3", "python3"),
    ("node", "nodejs"),
    ("npm", "npm"),
];
/// What the tests need beside Python, at the versions they are written for.
const PYTHON_PACKAGES: [&str; 4] =
    ["paho-mqtt==2.1.0", "pytest==9.2.0", "pytest-xdist==3.8.0", "python-qpid-proton==0.40.0"];
/// Where npm is told what MQTT.js is.
const MQTTJS: &str = "tests/mqtt/mqttjs/package.json";

/// What the tests with real clients are run with.
pub struct Clients {
    /// A Python that has paho-mqtt, Qpid Proton and pytest.
    pub python: PathBuf,
    /// The folder where Node.js finds MQTT.js.
    pub node_modules: PathBuf,
}

/// Installs what is missing.
pub fn prepare(root: &Path) -> Result<Clients, Failure> {
    install_packages(root)?;
    let target = Cargo::target_directory(root)?;
    let python = install_python_packages(&target.join("venv"), root)?;
    let node_modules = install_mqttjs(&target.join("mqttjs"), root)?;
    println!("    mosquitto-clients, curl, {} and MQTT.js are here", PYTHON_PACKAGES.join(", "));
    Ok(Clients { python, node_modules })
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
             As root: apt-get {}\n  On other systems: the packages that hold mosquitto_pub, mosquitto_sub, \
             mosquitto_rr, curl, openssl, python3, node and npm. Without them: cargo xtask test --quick",
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

/// Gives the Python that has them.
fn install_python_packages(venv: &Path, root: &Path) -> Result<PathBuf, Failure> {
    let python = venv.join("bin/python");
    let mut check = Cargo::plain(&python, root);
    let code = "import importlib.metadata as m, sys\n\
                for package in sys.argv[1:]:\n    \
                name, version = package.split('==')\n    \
                assert m.version(name) == version";
    check.args(["-c", code]).args(PYTHON_PACKAGES);
    if !Cargo::succeeds(check) {
        make_venv(venv, root)?;
        let mut install = Cargo::plain(&python, root);
        install.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]);
        install.args(PYTHON_PACKAGES);
        Cargo::run(install)?;
    }
    Ok(python)
}

fn make_venv(venv: &Path, root: &Path) -> Result<(), Failure> {
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
    Ok(())
}

/// Gives the folder that has it.
fn install_mqttjs(folder: &Path, root: &Path) -> Result<PathBuf, Failure> {
    let node_modules = folder.join("node_modules");
    let source = root.join(MQTTJS);
    let wanted = fs::read_to_string(&source)
        .map_err(|error| Failure::Read { path: source.clone(), source: error })?;
    // Written last, so that it is there only when everything is.
    let mark = folder.join("installed.json");
    if fs::read_to_string(&mark).is_ok_and(|has| has == wanted) {
        return Ok(node_modules);
    }
    let write = |path: &Path| {
        fs::create_dir_all(folder)
            .and_then(|()| fs::write(path, &wanted))
            .map_err(|source| Failure::Write { path: path.to_owned(), source })
    };
    write(&folder.join("package.json"))?;
    let mut install = Cargo::plain("npm", root);
    install.args(["install", "--silent", "--no-audit", "--no-fund", "--prefix"]).arg(folder);
    Cargo::run(install)?;
    write(&mark)?;
    Ok(node_modules)
}
