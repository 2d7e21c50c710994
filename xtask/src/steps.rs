//! Steps with a headline before and a duration after, and a summary at the end.

use crate::error::Failure;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// The steps of one chore.
pub struct Steps {
    root: PathBuf,
    done: Vec<(String, Duration, bool)>,
}

impl Steps {
    /// Steps in the workspace at `root`.
    pub fn new(root: PathBuf) -> Steps {
        Steps { root, done: Vec::new() }
    }

    /// Does one step.
    pub fn step<T>(
        &mut self,
        name: &str,
        work: impl FnOnce(&Path) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        println!("\n==> {name}");
        let begun = Instant::now();
        let result = work(&self.root);
        self.done.push((name.to_owned(), begun.elapsed(), result.is_ok()));
        result
    }

    /// Runs cargo as one step.
    pub fn cargo(&mut self, name: &str, arguments: &[&str]) -> Result<(), Failure> {
        self.step(name, |root| {
            let mut command = Cargo::command(root);
            command.args(arguments);
            Cargo::run(command)
        })
    }

    /// The folder of the debug binaries.
    pub fn binaries(&self) -> Result<PathBuf, Failure> {
        Ok(Cargo::target_directory(&self.root)?.join("debug"))
    }

    /// What was done, and how long it took.
    pub fn summary(&self) {
        println!("\nsteps:");
        for (name, duration, good) in &self.done {
            let mark = if *good { "ok    " } else { "FAILED" };
            println!("  {mark} {:>7.1} s  {name}", duration.as_secs_f64());
        }
    }
}

/// Other programs, started so that they can be repeated by hand.
pub struct Cargo;

impl Cargo {
    /// The cargo that runs this.
    pub fn command(root: &Path) -> Command {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        Cargo::plain(cargo, root)
    }

    /// Any program, in the workspace's folder.
    pub fn plain(program: impl AsRef<OsStr>, root: &Path) -> Command {
        let mut command = Command::new(program);
        command.current_dir(root);
        // Set for this program by cargo; for the programs we start they would be wrong.
        for name in ["CARGO_MANIFEST_DIR", "CARGO_PKG_NAME", "CARGO_PKG_VERSION"] {
            command.env_remove(name);
        }
        command
    }

    /// Runs a command to its good end.
    pub fn run(mut command: Command) -> Result<(), Failure> {
        let shown = shown(&command);
        println!("    {shown}");
        match command.status() {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => Err(Failure::Ended { command: shown, status }),
            Err(source) => Err(Failure::Start { command: shown, source }),
        }
    }

    /// Whether a command can be run and ends well; what it prints is not shown.
    pub fn succeeds(mut command: Command) -> bool {
        command.output().is_ok_and(|output| output.status.success())
    }

    /// Where cargo puts what it builds.
    pub fn target_directory(root: &Path) -> Result<PathBuf, Failure> {
        let mut command = Cargo::command(root);
        command.args(["metadata", "--format-version", "1", "--no-deps", "--offline"]);
        let shown = shown(&command);
        let output =
            command.output().map_err(|source| Failure::Start { command: shown.clone(), source })?;
        if !output.status.success() {
            return Err(Failure::Ended { command: shown, status: output.status });
        }
        let metadata: serde_json::Value = serde_json::from_slice(&output.stdout)
            .map_err(|error| Failure::Machine(format!("`{shown}` printed no JSON: {error}")))?;
        let folder = metadata["target_directory"].as_str();
        folder
            .map(PathBuf::from)
            .ok_or_else(|| Failure::Machine(format!("`{shown}` names no target_directory")))
    }
}

fn shown(command: &Command) -> String {
    let words = [command.get_program()].into_iter().chain(command.get_args());
    words.map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
}
