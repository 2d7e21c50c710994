//! The processes of the demo: where their binaries are, how they start, how they are killed.

use crate::error::Failure;
use std::env;
use std::ffi::OsStr;
use std::fs::{self, OpenOptions};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;
use tokio::process::{Child, Command};
use tokio::time::timeout;

/// Time a process has to end in order before it is killed.
const TERMINATE_TIMEOUT: Duration = Duration::from_secs(10);
/// Below the range the kernel gives to outgoing connections, so that a port stays free while its process is down.
const PORTS: std::ops::Range<u16> = 20_000..32_000;

/// One running process with its log.
pub struct Process {
    name: &'static str,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `binary`; what it prints is appended to `log`.
    pub fn start<I, S>(
        name: &'static str,
        binary: &Path,
        arguments: I,
        log: &Path,
    ) -> Result<Process, Failure>
    where
        I: IntoIterator<Item = S>,
        S: AsRef<OsStr>,
    {
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(log)
            .map_err(Failure::file("open", log))?;
        let errors = file.try_clone().map_err(Failure::file("open", log))?;
        let context = log.with_file_name("context.json");
        let child = Command::new(binary)
            .args(arguments)
            // Its own context file: the demo does not change what other commands on this machine talk to.
            .env("FULCRUM_CONTEXT", context)
            .stdin(Stdio::null())
            .stdout(file)
            .stderr(errors)
            .kill_on_drop(true)
            .spawn()
            .map_err(Failure::file("run", binary))?;
        Ok(Process { name, child, log: log.to_owned() })
    }

    /// An error when the process has ended by itself.
    pub fn check_running(&mut self) -> Result<(), Failure> {
        match self.child.try_wait() {
            Ok(Some(status)) => Err(self.ended(status)),
            Ok(None) => Ok(()),
            Err(source) => Err(Failure::Host { what: "look after a process", source }),
        }
    }

    /// SIGKILL: no handler runs, nothing is flushed.
    pub async fn kill(&mut self) -> Result<(), Failure> {
        self.child.kill().await.map_err(|source| Failure::Host { what: "kill a process", source })
    }

    /// SIGTERM, and SIGKILL if that does not end it in time.
    pub async fn terminate(mut self) -> Result<(), Failure> {
        let Some(id) = self.child.id() else { return Ok(()) };
        let _ = Command::new("sh").arg("-c").arg(format!("kill -TERM {id}")).status().await;
        match timeout(TERMINATE_TIMEOUT, self.child.wait()).await {
            Ok(Ok(status)) if status.success() => Ok(()),
            Ok(Ok(status)) => Err(self.ended(status)),
            Ok(Err(source)) => Err(Failure::Host { what: "wait for a process", source }),
            Err(_) => {
                self.kill().await?;
                let seconds = TERMINATE_TIMEOUT.as_secs();
                Err(Failure::Demo(format!(
                    "the {} did not end within {seconds} s of SIGTERM",
                    self.name
                )))
            }
        }
    }

    fn ended(&self, status: ExitStatus) -> Failure {
        Failure::Demo(format!("the {} ended with {status}\n{}", self.name, tail(&self.log, 20)))
    }
}

/// The last lines of a log.
pub fn tail(log: &Path, lines: usize) -> String {
    let text = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let all: Vec<&str> = text.lines().collect();
    let start = all.len().saturating_sub(lines);
    let mut shown = format!("  last lines of {}:\n", log.display());
    for line in &all[start..] {
        shown += &format!("  | {line}\n");
    }
    shown
}

/// A local address that nothing listens at.
pub fn free_address() -> Result<SocketAddr, Failure> {
    for _ in 0..1000 {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, rand::random_range(PORTS)));
        if TcpListener::bind(address).is_ok() {
            return Ok(address);
        }
    }
    Err(Failure::Demo(format!("no free port between {} and {}", PORTS.start, PORTS.end)))
}

/// This program.
pub fn own_binary() -> Result<PathBuf, Failure> {
    env::current_exe().map_err(|source| Failure::Host { what: "find this program's file", source })
}

/// The node's binary: `named`, or the one beside this program. Under `cargo run` it is built first, in the same profile.
pub async fn node_binary(named: Option<&Path>) -> Result<PathBuf, Failure> {
    if let Some(path) = named {
        return Ok(path.to_owned());
    }
    let own = own_binary()?;
    let sibling = own.with_file_name("fulcrum-edge");
    if let (Some(cargo), Some(manifest)) = (env::var_os("CARGO"), env::var_os("CARGO_MANIFEST_DIR"))
    {
        build_node(&cargo, Path::new(&manifest), &own).await?;
    }
    if sibling.exists() {
        return Ok(sibling);
    }
    Err(Failure::Demo(format!(
        "the edge node's binary is not at {}\n  Build it with `cargo build --release -p fulcrum-edge`, or name it with \
         --node FILE.",
        sibling.display()
    )))
}

async fn build_node(cargo: &OsStr, manifest: &Path, own: &Path) -> Result<(), Failure> {
    let profile_folder = own.parent().and_then(Path::file_name).and_then(OsStr::to_str);
    let profile = match profile_folder {
        None | Some("debug") => "dev",
        Some(profile) => profile,
    };
    let status = Command::new(cargo)
        .args(["build", "--package", "fulcrum-edge", "--profile", profile])
        .current_dir(manifest)
        .stdin(Stdio::null())
        // Cargo's own progress is on standard error; standard output stays ours.
        .stdout(Stdio::null())
        .status()
        .await
        .map_err(|source| Failure::Host { what: "run cargo to build the edge node", source })?;
    if status.success() {
        return Ok(());
    }
    Err(Failure::Demo("the edge node does not build; cargo's messages above say why".to_owned()))
}
