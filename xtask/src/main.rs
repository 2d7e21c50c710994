//! The project's chores, each one command that does all its own set-up.
//!
//! `cargo xtask test` is what a change must pass; `.ci/run` calls nothing else. Each step says what it runs, so that it
//! can be repeated by hand.
//!
//! Deliberately absent: what the tests check. That is in the crates, in `tests/clients`, and in `xtask/tests`.

mod conformance;
mod documents;
mod error;
mod machine;
mod steps;

use clap::{Parser, Subcommand};
use error::Failure;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use steps::{Cargo, Steps};

/// The project's chores.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", after_help = EXAMPLES)]
struct Arguments {
    #[command(subcommand)]
    chore: Chore,
}

const EXAMPLES: &str = "\
Examples:
  cargo xtask test              everything a change must pass; first run on a new machine: about half an hour
  cargo xtask test --quick      format, lints and Rust tests alone
  cargo xtask clients           tests with real MQTT and HTTP clients alone
  cargo xtask demo -- --runs 3  the demo with a debug build, and its own arguments";

#[derive(Debug, Subcommand)]
enum Chore {
    /// Everything: format, documents, lints, Rust tests, fuzz corpora, the own tests of the runners of load tests and of
    /// other kernels, conformance to MQTT, real clients, the demo's proof.
    Test {
        /// Without conformance tests, real clients and the demo.
        #[arg(long)]
        quick: bool,
    },
    /// Tests with paho-mqtt, mosquitto_pub, mosquitto_sub, Qpid Proton and curl against a real node and a real local cloud.
    Clients {
        /// Only tests whose name contains this.
        #[arg(long, short)]
        filter: Option<String>,
    },
    /// The demo, with a debug build.
    Demo {
        /// Arguments of `fulcrum demo`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// The tests of the project itself: which crate may use which, what the documents must name.
    Architecture,
    /// Links and commands of the Markdown files.
    Documents,
    /// Which test covers which normative statement of MQTT; fails where one of the server's has neither test nor reason.
    Conformance {
        /// Only list, whatever is missing.
        #[arg(long)]
        report: bool,
        /// Run the tests of tests/mqtt, against a debug node unless the arguments name another broker.
        #[arg(long, conflicts_with = "report")]
        run: bool,
        /// Arguments of pytest.
        #[arg(last = true, allow_hyphen_values = true, requires = "run")]
        arguments: Vec<String>,
    },
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let root = root();
    let mut steps = Steps::new(root.clone());
    let outcome = carry_out(arguments.chore, &mut steps);
    steps.summary();
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("\nerror: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn root() -> PathBuf {
    let manifest = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().map(PathBuf::from).unwrap_or(manifest)
}

fn carry_out(chore: Chore, steps: &mut Steps) -> Result<(), Failure> {
    match chore {
        Chore::Test { quick } => test(quick, steps),
        Chore::Clients { filter } => {
            let clients = prepare(steps)?;
            build_binaries(steps)?;
            run_clients(&clients, filter.as_deref(), steps)
        }
        Chore::Demo { arguments } => {
            build_binaries(steps)?;
            run_demo(&arguments, steps)
        }
        Chore::Architecture => architecture(steps),
        Chore::Documents => steps.step("documents", documents::check),
        Chore::Conformance { run: true, arguments, .. } => {
            let clients = prepare(steps)?;
            build_binaries(steps)?;
            run_conformance(&clients, &arguments, steps)
        }
        Chore::Conformance { report, .. } => {
            steps.step("conformance to MQTT", |root| conformance::report(root, report))
        }
    }
}

/// Goes on behind a step that failed, so that one run says all that is wrong.
fn test(quick: bool, steps: &mut Steps) -> Result<(), Failure> {
    // First, because it is the step that can fail for want of a network or a privilege.
    let clients = if quick { None } else { Some(prepare(steps)?) };
    let mut outcomes = vec![
        steps.cargo("format", &["fmt", "--all", "--check"]),
        steps.step("documents", documents::check),
        steps.step("statements of MQTT", conformance::check),
        steps.step("load test runner", test_load_runner),
        steps.step("runner of tests on other kernels", test_kernel_runner),
        steps.cargo("lints", &["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]),
    ];
    let built = steps.cargo("build", &["test", "--workspace", "--no-run"]);
    let is_built = built.is_ok();
    outcomes.push(built);
    if is_built {
        let every_crate = ["test", "--workspace", "--no-fail-fast"];
        outcomes.push(steps.cargo("Rust and documentation tests", &every_crate));
        outcomes.push(steps.step("fuzz corpora", replay_corpora));
    }
    if let (Some(clients), true) = (clients, is_built) {
        build_binaries(steps)?;
        outcomes.push(run_conformance(&clients, &[], steps));
        outcomes.push(run_clients(&clients, None, steps));
        outcomes.push(run_demo(&[], steps));
    }
    let mut failures: Vec<_> = outcomes.into_iter().filter_map(Result::err).collect();
    match failures.len() {
        0 => Ok(()),
        1 => Err(failures.remove(0)),
        _ => Err(Failure::Several(failures)),
    }
}

fn test_load_runner(root: &Path) -> Result<(), Failure> {
    let mut command = Cargo::plain("python3", root);
    command.args(["-m", "unittest", "discover", "--start-directory", "loadtests"]);
    command.args(["--top-level-directory", "loadtests"]);
    command.env("PYTHONDONTWRITEBYTECODE", "1");
    Cargo::run(command)
}

/// What of it needs no virtual machine.
fn test_kernel_runner(root: &Path) -> Result<(), Failure> {
    let mut command = Cargo::plain("python3", root);
    command.args(["-m", "unittest", "discover", "--start-directory", "tests/kernels"]);
    command.env("PYTHONDONTWRITEBYTECODE", "1");
    Cargo::run(command)
}

fn replay_corpora(root: &Path) -> Result<(), Failure> {
    // A workspace of its own, but for what it builds: some of that is there already.
    let target = Cargo::target_directory(root)?;
    let mut command = Cargo::command(root);
    command.args(["test", "--manifest-path", "fuzz/Cargo.toml"]);
    command.args(["--no-default-features", "--target-dir"]).arg(target);
    Cargo::run(command)
}

fn prepare(steps: &mut Steps) -> Result<machine::Clients, Failure> {
    steps.step("what the tests with real clients need", machine::prepare)
}

/// The whole workspace's binaries. With examples, because then dependencies have the features that tests want of them, and
/// are not built a second time.
fn build_binaries(steps: &mut Steps) -> Result<(), Failure> {
    steps.cargo("binaries", &["build", "--workspace", "--bins", "--examples"])
}

fn run_clients(
    clients: &machine::Clients,
    filter: Option<&str>,
    steps: &mut Steps,
) -> Result<(), Failure> {
    let binaries = steps.binaries()?;
    steps.step("tests with real clients", |root| {
        let mut command = Cargo::plain(&clients.python, root);
        command.args([
            "-m",
            "unittest",
            "discover",
            "--verbose",
            "--start-directory",
            "tests/clients",
        ]);
        if let Some(filter) = filter {
            command.args(["-k", filter]);
        }
        command.env("FULCRUM_BINARY", binaries.join("fulcrum"));
        command.env("FULCRUM_EDGE_BINARY", binaries.join("fulcrum-edge"));
        // Bytecode would be left beside the sources.
        command.env("PYTHONDONTWRITEBYTECODE", "1");
        Cargo::run(command)
    })
}

fn run_conformance(
    clients: &machine::Clients,
    arguments: &[String],
    steps: &mut Steps,
) -> Result<(), Failure> {
    let edge = steps.binaries()?.join("fulcrum-edge");
    steps.step("conformance tests", |root| conformance::run(root, clients, &edge, arguments))
}

fn run_demo(arguments: &[String], steps: &mut Steps) -> Result<(), Failure> {
    let binaries = steps.binaries()?;
    steps.step("the demo's proof", |root| {
        let mut command = Cargo::plain(binaries.join("fulcrum"), root);
        command.arg("demo").arg("--node").arg(binaries.join("fulcrum-edge")).args(arguments);
        Cargo::run(command)
    })
}

fn architecture(steps: &mut Steps) -> Result<(), Failure> {
    steps.cargo("architecture", &["test", "--package", "xtask", "--test", "architecture"])
}
