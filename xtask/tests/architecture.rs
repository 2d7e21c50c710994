//! The project's own rules, held by a test: which crate may use which, where unsafe code may be, how files are named.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "the whole file is tests; a panic is their verdict"
)]

use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

const FILE_LINES_MAX: usize = 800;

/// What each crate may depend on among our own. Dependencies point one way:
/// wire, router, journal, sessions, transport, ring <- shard <- node; contract <- domain <- functions.
const MAY_USE: [(&str, &[&str]); 24] = [
    ("fulcrum-ring", &[]),
    ("fulcrum-frame", &[]),
    ("fulcrum-mqtt", &[]),
    ("fulcrum-amqp", &[]),
    ("fulcrum-links", &["fulcrum-amqp"]),
    ("fulcrum-http", &[]),
    ("fulcrum-router", &[]),
    ("fulcrum-journal", &["fulcrum-frame"]),
    ("fulcrum-sessions", &[]),
    ("fulcrum-transport", &[]),
    (
        "fulcrum-shard",
        &[
            "fulcrum-ring",
            "fulcrum-frame",
            "fulcrum-mqtt",
            "fulcrum-http",
            "fulcrum-amqp",
            "fulcrum-links",
            "fulcrum-router",
            "fulcrum-journal",
            "fulcrum-sessions",
            "fulcrum-transport",
        ],
    ),
    ("fulcrum-contract", &[]),
    ("fulcrum-identity", &["fulcrum-contract"]),
    (
        "fulcrum-uplink",
        &["fulcrum-contract", "fulcrum-frame", "fulcrum-journal", "fulcrum-identity"],
    ),
    ("fulcrum-maintenance", &["fulcrum-journal"]),
    ("fulcrum-admin", &[]),
    (
        "fulcrum-edge",
        &[
            "fulcrum-ring",
            "fulcrum-frame",
            "fulcrum-router",
            "fulcrum-journal",
            // Their limits and settings, which a configuration sets.
            "fulcrum-sessions",
            "fulcrum-transport",
            "fulcrum-shard",
            "fulcrum-contract",
            "fulcrum-identity",
            "fulcrum-uplink",
            "fulcrum-maintenance",
            "fulcrum-admin",
        ],
    ),
    ("fulcrum-domain", &["fulcrum-contract", "fulcrum-frame"]),
    ("fulcrum-stores", &["fulcrum-contract", "fulcrum-domain"]),
    ("fulcrum-functions", &["fulcrum-contract", "fulcrum-domain", "fulcrum-stores"]),
    (
        "fulcrum-local",
        &["fulcrum-contract", "fulcrum-domain", "fulcrum-stores", "fulcrum-functions"],
    ),
    ("fulcrum", &["fulcrum-contract", "fulcrum-local", "fulcrum-mqtt"]),
    ("fulcrum-load", &["fulcrum-mqtt"]),
    ("xtask", &[]),
];

/// Crates of the data plane: synchronous, so no async runtime may get in.
const DATA_PLANE: [&str; 11] = [
    "fulcrum-ring",
    "fulcrum-frame",
    "fulcrum-mqtt",
    "fulcrum-amqp",
    "fulcrum-links",
    "fulcrum-http",
    "fulcrum-router",
    "fulcrum-journal",
    "fulcrum-sessions",
    "fulcrum-transport",
    "fulcrum-shard",
];
const RUNTIMES: [&str; 7] =
    ["tokio", "tokio-uring", "glommio", "async-std", "smol", "futures-executor", "hyper"];

/// Names that say nothing about what lives there.
const VAGUE_NAMES: [&str; 9] =
    ["utils", "util", "common", "helpers", "helper", "misc", "manager", "stuff", "shared"];

struct Project {
    root: PathBuf,
    packages: Vec<Value>,
    resolved: BTreeMap<String, BTreeSet<String>>,
}

impl Project {
    fn load() -> &'static Project {
        static PROJECT: LazyLock<Project> = LazyLock::new(Project::read_all);
        &PROJECT
    }

    fn read_all() -> Project {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned();
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        // Other platforms' packages were never downloaded.
        let host = host();
        let arguments = [
            "metadata",
            "--format-version",
            "1",
            "--locked",
            "--offline",
            "--filter-platform",
            &host,
        ];
        let output = Command::new(cargo).args(arguments).current_dir(&root).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
        let members: BTreeSet<&str> = metadata["workspace_members"]
            .as_array()
            .unwrap()
            .iter()
            .map(|id| id.as_str().unwrap())
            .collect();
        let all = metadata["packages"].as_array().unwrap();
        let packages = all
            .iter()
            .filter(|package| members.contains(package["id"].as_str().unwrap()))
            .cloned()
            .collect();
        Project { root, packages, resolved: resolved(&metadata) }
    }

    fn names(&self) -> BTreeSet<&str> {
        self.packages.iter().map(|package| package["name"].as_str().unwrap()).collect()
    }

    /// Our own crates that a crate uses in what it ships; tests may use more.
    fn own_dependencies(&self, package: &Value) -> BTreeSet<String> {
        let names = self.names();
        let dependencies = package["dependencies"].as_array().unwrap();
        let shipped = dependencies.iter().filter(|dependency| dependency["kind"].is_null());
        let used = shipped.map(|dependency| dependency["name"].as_str().unwrap());
        used.filter(|name| names.contains(name)).map(str::to_owned).collect()
    }

    /// Rust and Python sources, as git knows them.
    fn sources(&self) -> Vec<PathBuf> {
        let arguments = ["ls-files", "--cached", "--others", "--exclude-standard", "*.rs", "*.py"];
        let output = Command::new("git").args(arguments).current_dir(&self.root).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout).unwrap();
        text.lines().map(PathBuf::from).filter(|file| self.root.join(file).is_file()).collect()
    }

    fn read(&self, file: &Path) -> String {
        fs::read_to_string(self.root.join(file)).unwrap()
    }
}

/// The platform this runs on, as rustc names it.
fn host() -> String {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc).arg("-vV").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().find_map(|line| line.strip_prefix("host: ")).unwrap().to_owned()
}

/// Normal dependencies of every package, by name.
fn resolved(metadata: &Value) -> BTreeMap<String, BTreeSet<String>> {
    let name_of: BTreeMap<&str, &str> = metadata["packages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|package| (package["id"].as_str().unwrap(), package["name"].as_str().unwrap()))
        .collect();
    let mut resolved: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for node in metadata["resolve"]["nodes"].as_array().unwrap() {
        let uses = resolved.entry(name_of[node["id"].as_str().unwrap()].to_owned()).or_default();
        for dependency in node["deps"].as_array().unwrap() {
            let mut kinds = dependency["dep_kinds"].as_array().unwrap().iter();
            if kinds.any(|kind| kind["kind"].is_null()) {
                uses.insert(name_of[dependency["pkg"].as_str().unwrap()].to_owned());
            }
        }
    }
    resolved
}

#[test]
fn dependencies_between_crates_point_one_way() {
    let project = Project::load();
    let may_use: BTreeMap<&str, &[&str]> = MAY_USE.into_iter().collect();
    for package in &project.packages {
        let name = package["name"].as_str().unwrap();
        let allowed = may_use.get(name).unwrap_or_else(|| {
            panic!(
                "crate {name} is new: say in {} what it may use, and why it is a crate of its own",
                file!()
            )
        });
        for used in project.own_dependencies(package) {
            assert!(
                allowed.contains(&used.as_str()),
                "{name} may not use {used}; see design: dependencies point one way"
            );
        }
    }
    let unknown: Vec<&&str> =
        may_use.keys().filter(|name| !project.names().contains(*name)).collect();
    assert!(unknown.is_empty(), "{unknown:?} are gone: take them out of {}", file!());
}

#[test]
fn nothing_uses_a_binary() {
    let project = Project::load();
    let is_library = |package: &Value| {
        let targets = package["targets"].as_array().unwrap();
        targets
            .iter()
            .any(|target| target["kind"].as_array().unwrap().iter().any(|kind| kind == "lib"))
    };
    let binaries: BTreeSet<&str> = project
        .packages
        .iter()
        .filter(|package| !is_library(package))
        .map(|package| package["name"].as_str().unwrap())
        .collect();
    assert!(binaries.contains("fulcrum") && binaries.contains("fulcrum-edge"), "{binaries:?}");
    for package in &project.packages {
        for used in project.own_dependencies(package) {
            assert!(
                !binaries.contains(used.as_str()),
                "{} uses the binary {used}",
                package["name"]
            );
        }
    }
}

#[test]
fn the_data_plane_has_no_async_runtime() {
    let project = Project::load();
    for name in DATA_PLANE {
        let mut seen = BTreeSet::new();
        let mut open = vec![name.to_owned()];
        while let Some(next) = open.pop() {
            assert!(
                !RUNTIMES.contains(&next.as_str()),
                "{name} gets {next}, maybe through another crate"
            );
            if seen.insert(next.clone()) {
                open.extend(project.resolved.get(&next).into_iter().flatten().cloned());
            }
        }
    }
}

#[test]
fn wire_crates_touch_neither_network_nor_clock() {
    let project = Project::load();
    let forbidden = ["std::net", "std::fs", "Instant::now", "SystemTime::now", "std::thread"];
    for file in project.sources() {
        let path = file.to_string_lossy();
        if !path.starts_with("dataplane/wire/") || !path.contains("/src/") {
            continue;
        }
        let text = project.read(&file);
        for word in forbidden {
            assert!(
                !text.contains(word),
                "{path} uses {word}: bytes in, frames out, and nothing else"
            );
        }
    }
}

#[test]
fn unsafe_code_is_in_the_ring_alone() {
    let project = Project::load();
    for file in project.sources() {
        let path = file.to_string_lossy().into_owned();
        // The rule itself has to be written down somewhere.
        if path.starts_with("dataplane/ring/") || path == "xtask/tests/architecture.rs" {
            continue;
        }
        let text = project.read(&file);
        for (index, line) in text.lines().enumerate() {
            let code = line.split("//").next().unwrap_or("");
            let is_unsafe = [
                "unsafe {",
                "unsafe fn",
                "unsafe impl",
                "unsafe trait",
                "unsafe extern",
                "unsafe(",
            ]
            .iter()
            .any(|word| code.contains(word));
            assert!(!is_unsafe, "{path}:{}: unsafe code belongs into dataplane/ring", index + 1);
        }
    }
    for package in &project.packages {
        let manifest = PathBuf::from(package["manifest_path"].as_str().unwrap());
        let text = fs::read_to_string(&manifest).unwrap();
        let lenient = text.contains("unsafe_code");
        let is_ring = package["name"] == "fulcrum-ring";
        assert!(
            is_ring || !lenient,
            "{}: only dataplane/ring may have its own rule on unsafe code",
            manifest.display()
        );
        let inherits = text.contains("[lints]\nworkspace = true");
        assert!(is_ring || inherits, "{}: [lints] workspace = true is missing", manifest.display());
    }
}

#[test]
fn files_are_short_and_named_for_what_they_hold() {
    let project = Project::load();
    for file in project.sources() {
        let lines = project.read(&file).lines().count();
        assert!(lines <= FILE_LINES_MAX, "{} has {lines} lines; split it by idea", file.display());
        for part in file.iter() {
            let name = part.to_string_lossy();
            let stem = name.split('.').next().unwrap_or("");
            assert!(
                !VAGUE_NAMES.contains(&stem),
                "{}: '{stem}' does not say what lives there",
                file.display()
            );
        }
    }
}

#[test]
fn every_source_says_what_it_is_for() {
    let project = Project::load();
    for file in project.sources() {
        let text = project.read(&file);
        let path = file.to_string_lossy();
        // What tests beside the code are for, their names say; a fuzz target is one call, and what it calls says it.
        let is_named = path.ends_with("tests.rs") || path.starts_with("fuzz/fuzz_targets/");
        if text.trim().is_empty() || is_named {
            continue;
        }
        let first = text.lines().find(|line| !line.starts_with("#!")).unwrap_or("");
        let says = first.starts_with("//!") || first.starts_with("\"\"\"");
        assert!(says, "{} does not begin with its purpose", file.display());
    }
}

#[test]
fn the_architecture_document_names_every_crate() {
    let project = Project::load();
    let text = project.read(Path::new("ARCHITECTURE.md"));
    for package in &project.packages {
        let name = package["name"].as_str().unwrap();
        assert!(text.contains(&format!("`{name}`")), "ARCHITECTURE.md does not name `{name}`");
    }
}

#[test]
fn every_dependency_is_in_the_workspace_table() {
    let project = Project::load();
    for package in &project.packages {
        let manifest = PathBuf::from(package["manifest_path"].as_str().unwrap());
        let text = fs::read_to_string(&manifest).unwrap();
        let mut in_dependencies = false;
        for line in text.lines() {
            if line.starts_with('[') {
                in_dependencies = line.contains("dependencies");
            } else if in_dependencies && line.contains('=') && !line.starts_with('#') {
                let from_table =
                    line.contains(".workspace = true") || line.contains("workspace = true");
                assert!(
                    from_table,
                    "{}: `{line}` must come from the workspace's table",
                    manifest.display()
                );
            }
        }
    }
}
