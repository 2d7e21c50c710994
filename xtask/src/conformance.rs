//! Which test covers which normative statement of MQTT, and the tests that speak bytes.
//!
//! The statements are in `docs/protocols/mqtt-conformance.toml`. A test covers one by naming it: `[MQTT-3.1.2-24]` is a
//! statement of 3.1.1, `[MQTT5-3.1.2-22]` one of 5.0. In Python a name counts for the test it stands in, or, outside any
//! test, for the next one; in Rust for the `#[test]` it stands in, or that its comment stands before. A test that compares
//! with a `clause::NAME` of the codec covers what that clause names.
//!
//! Deliberately absent: any judgement whether a test proves what it names. That is for who reads it.

use crate::error::Failure;
use crate::machine::Clients;
use crate::steps::Cargo;
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

const STATEMENTS: &str = "docs/protocols/mqtt-conformance.toml";
const TESTS: &str = "tests/mqtt";
/// Where the codec names what a peer can break.
const CLAUSES: &str = "dataplane/wire/mqtt/src/clause.rs";
/// Tests wait more than they work.
const PROCESSES: &str = "8";

/// The exit status of pytest when nothing was selected.
const NO_TESTS: i32 = 5;

/// Who has to satisfy a statement.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum Who {
    Server,
    Client,
    Both,
    None,
}

/// A normative statement.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Statement {
    who: Who,
    says: String,
    why: Option<String>,
}

impl Statement {
    fn is_the_servers(&self) -> bool {
        matches!(self.who, Who::Server | Who::Both)
    }
}

/// A statement's name as tests write it, and what orders it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Name {
    version: u8,
    numbers: Vec<u32>,
    text: String,
}

/// Tests by the statement they name.
type Coverage = BTreeMap<Name, BTreeSet<String>>;

/// Lists what is covered; a gap is a failure unless only a report is wanted.
pub fn report(root: &Path, only_report: bool) -> Result<(), Failure> {
    let faults = faults(root, print)?;
    if only_report && !faults.is_empty() {
        println!("\n{} faults:\n  {}", faults.len(), faults.join("\n  "));
        return Ok(());
    }
    verdict(faults)
}

/// Counts what is covered; a gap is a failure.
pub fn check(root: &Path) -> Result<(), Failure> {
    verdict(faults(root, |_, _, _| ())?)
}

fn verdict(faults: Vec<String>) -> Result<(), Failure> {
    if faults.is_empty() { Ok(()) } else { Err(Failure::Documents(faults)) }
}

fn faults(
    root: &Path,
    show: impl Fn(&Name, &Statement, &BTreeSet<String>),
) -> Result<Vec<String>, Failure> {
    let statements = statements(root)?;
    let coverage = coverage(root)?;
    let mut faults = Vec::new();
    for (version, title) in [(3, "MQTT 3.1.1"), (5, "MQTT 5.0")] {
        println!("\n{title}");
        let mut counts = Counts::default();
        for (name, statement) in statements.iter().filter(|(name, _)| name.version == version) {
            let tests = coverage.get(name).cloned().unwrap_or_default();
            show(name, statement, &tests);
            counts.add(statement, &tests);
            faults.extend(fault(name, statement, &tests));
        }
        counts.print(title);
    }
    for (name, tests) in coverage.iter().filter(|(name, _)| !statements.contains_key(name)) {
        let tests: Vec<_> = tests.iter().map(String::as_str).collect();
        faults.push(format!("{} is no statement; named by {}", name.text, tests.join(", ")));
    }
    Ok(faults)
}

/// Runs the tests against a debug node, or against what `arguments` name.
pub fn run(
    root: &Path,
    clients: &Clients,
    edge: &Path,
    arguments: &[String],
) -> Result<(), Failure> {
    // Side by side those that do not meet; then those that want the broker for themselves.
    let mut is_one_empty = false;
    let selections = [["-m", "not hostile", "-n", PROCESSES].as_slice(), &["-m", "hostile"]];
    for selection in selections {
        let mut command = Cargo::plain(&clients.python, root);
        command.args(["-m", "pytest", TESTS]).args(selection).args(arguments);
        command.env("FULCRUM_EDGE_BINARY", edge).env("PYTHONDONTWRITEBYTECODE", "1");
        command.env("MQTTJS_MODULES", &clients.node_modules);
        match Cargo::run(command) {
            // Arguments that select tests may leave none of one kind, but not of both.
            Err(Failure::Ended { status, .. })
                if status.code() == Some(NO_TESTS) && !is_one_empty =>
            {
                is_one_empty = true;
            }
            result => result?,
        }
    }
    Ok(())
}

fn statements(root: &Path) -> Result<BTreeMap<Name, Statement>, Failure> {
    let path = root.join(STATEMENTS);
    let text = read(&path)?;
    let versions: BTreeMap<String, BTreeMap<String, Statement>> = toml::from_str(&text)
        .map_err(|error| Failure::Machine(format!("{STATEMENTS}: {error}")))?;
    let mut all = BTreeMap::new();
    for (title, statements) in versions {
        let prefix = if title == "MQTT 5.0" { "MQTT5-" } else { "MQTT-" };
        for (number, statement) in statements {
            let text = format!("{prefix}{number}");
            let name = names_in(&text).pop().filter(|name| name.text == text).ok_or_else(|| {
                Failure::Machine(format!("{STATEMENTS}: '{number}' is no statement's number"))
            })?;
            all.insert(name, statement);
        }
    }
    Ok(all)
}

fn fault(name: &Name, statement: &Statement, tests: &BTreeSet<String>) -> Option<String> {
    let text = &name.text;
    match (statement.who, tests.is_empty(), &statement.why) {
        (Who::None, _, None) => Some(format!("{text} is nobody's, without a reason")),
        (Who::Server | Who::Both, true, None) => Some(format!(
            "{text} is the server's and has neither test nor reason: {}",
            statement.says
        )),
        (Who::Server | Who::Both, false, Some(_)) => {
            Some(format!("{text} has a test and also a reason why it has none"))
        }
        _ => None,
    }
}

fn print(name: &Name, statement: &Statement, tests: &BTreeSet<String>) {
    let who = match statement.who {
        Who::Server => "server",
        Who::Client => "client",
        Who::Both => "both",
        Who::None => "nobody",
    };
    println!("  {:<16} {who:<6}  {}", name.text, statement.says);
    for test in tests {
        println!("      {test}");
    }
    if let Some(why) = &statement.why {
        println!("      no test: {why}");
    }
}

#[derive(Default)]
struct Counts {
    all: usize,
    servers: usize,
    tested: usize,
    reasoned: usize,
    clients: usize,
    clients_tested: usize,
}

impl Counts {
    fn add(&mut self, statement: &Statement, tests: &BTreeSet<String>) {
        self.all += 1;
        if statement.is_the_servers() {
            self.servers += 1;
            self.tested += usize::from(!tests.is_empty());
            self.reasoned += usize::from(tests.is_empty() && statement.why.is_some());
        } else if statement.who == Who::Client {
            self.clients += 1;
            self.clients_tested += usize::from(!tests.is_empty());
        }
    }

    fn print(&self, title: &str) {
        let Counts { all, servers, tested, reasoned, clients, clients_tested } = self;
        println!(
            "{title}: {all} statements. {servers} are the server's: {tested} have tests, {reasoned} a reason, {} neither. \
             {clients} are the client's alone: what a server does about {clients_tested} of them is tested.",
            servers - tested - reasoned
        );
    }
}

fn coverage(root: &Path) -> Result<Coverage, Failure> {
    let clauses = clauses(&read(&root.join(CLAUSES))?);
    let mut coverage = Coverage::new();
    for file in sources(root)? {
        let text = read(&root.join(&file))?;
        let found = match file.extension().and_then(|extension| extension.to_str()) {
            Some("py") => in_python(&text),
            _ => in_rust(&text, &clauses),
        };
        for (test, name) in found {
            coverage.entry(name).or_default().insert(format!("{}:{test}", file.display()));
        }
    }
    Ok(coverage)
}

fn sources(root: &Path) -> Result<Vec<PathBuf>, Failure> {
    let mut command = Cargo::plain("git", root);
    command.args(["ls-files", "--cached", "--others", "--exclude-standard", "*.py", "*.rs"]);
    let shown = "git ls-files".to_owned();
    let output = command.output().map_err(|source| Failure::Start { command: shown, source })?;
    let text = String::from_utf8_lossy(&output.stdout);
    // The examples in this file are no tests of MQTT.
    let own = Path::new("xtask/src/conformance.rs");
    let files = text.lines().map(PathBuf::from);
    Ok(files.filter(|file| file != own && root.join(file).is_file()).collect())
}

fn read(path: &Path) -> Result<String, Failure> {
    fs::read_to_string(path).map_err(|source| Failure::Read { path: path.to_owned(), source })
}

/// The names of statements in a text.
fn names_in(text: &str) -> Vec<Name> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find("MQTT") {
        rest = &rest[at + "MQTT".len()..];
        let (version, behind) = match (rest.strip_prefix("5-"), rest.strip_prefix('-')) {
            (Some(behind), _) => (5, behind),
            (_, Some(behind)) => (3, behind),
            _ => continue,
        };
        let end = behind.find(|c: char| !c.is_ascii_digit() && c != '.' && c != '-');
        let number = behind[..end.unwrap_or(behind.len())].trim_end_matches(['.', '-']);
        // One statement of 3.1.1 is printed as 3-8.3-4 in its specification.
        let number = if version == 3 && number == "3-8.3-4" { "3.8.3-4" } else { number };
        if let Some(numbers) = numbers_of(number) {
            let prefix = if version == 5 { "MQTT5" } else { "MQTT" };
            found.push(Name { version, numbers, text: format!("{prefix}-{number}") });
        }
    }
    found
}

/// "3.1.2-24" as numbers.
fn numbers_of(text: &str) -> Option<Vec<u32>> {
    let (section, statement) = text.split_once('-')?;
    section.split('.').chain([statement]).map(|part| part.parse().ok()).collect()
}

/// What each clause of the codec names.
fn clauses(text: &str) -> BTreeMap<String, Vec<Name>> {
    text.lines()
        .filter_map(|line| line.trim().split_once(" = \""))
        .map(|(name, text)| (name.to_owned(), names_in(text)))
        .collect()
}

/// Tests of a Python file with the statements they name.
fn in_python(text: &str) -> Vec<(String, Name)> {
    let mut found = Vec::new();
    // The function around the line, and how far it is indented.
    let mut around: Option<(&str, usize)> = None;
    let mut pending = Vec::new();
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        let trimmed = line.trim_start();
        let indent = line.len() - trimmed.len();
        if around.is_some_and(|(_, own)| indent <= own && !trimmed.starts_with(')')) {
            around = None;
        }
        let name = trimmed.strip_prefix("def ").and_then(|rest| rest.split('(').next());
        if let (None, Some(name)) = (around, name) {
            around = Some((name, indent));
            let before = std::mem::take(&mut pending);
            if name.starts_with("test_") {
                found.extend(before.into_iter().map(|statement| (name.to_owned(), statement)));
            }
        }
        match around {
            Some((name, _)) if name.starts_with("test_") => {
                found.extend(
                    names_in(line).into_iter().map(|statement| (name.to_owned(), statement)),
                );
            }
            Some(_) => {}
            None => pending.extend(names_in(line)),
        }
    }
    found
}

/// Tests of a Rust file with the statements they name.
fn in_rust(text: &str, clauses: &BTreeMap<String, Vec<Name>>) -> Vec<(String, Name)> {
    let mut found = Vec::new();
    let mut test: Option<(String, String)> = None;
    let mut pending = Vec::new();
    let mut is_test = false;
    for line in text.lines() {
        let trimmed = line.trim_start();
        let indent = &line[..line.len() - trimmed.len()];
        if let Some((name, _)) = &test {
            if trimmed.starts_with('}') && test.as_ref().is_some_and(|(_, own)| own == indent) {
                test = None;
                continue;
            }
            let named = names_in(line).into_iter();
            let compared =
                clauses_in(line).filter_map(|clause| clauses.get(clause)).flatten().cloned();
            found.extend(named.chain(compared).map(|statement| (name.clone(), statement)));
        } else if trimmed.starts_with("//") {
            pending.extend(names_in(trimmed));
        } else if trimmed.starts_with("#[") {
            is_test |= trimmed.starts_with("#[test]") || trimmed.contains("::test]");
        } else if !trimmed.is_empty() {
            let name =
                trimmed.split_once("fn ").and_then(|(_, rest)| rest.split(['(', '<']).next());
            if let Some(name) = name.filter(|_| is_test) {
                found.extend(
                    pending.iter().map(|statement| (name.to_owned(), Name::clone(statement))),
                );
                test = Some((name.to_owned(), indent.to_owned()));
            }
            pending.clear();
            is_test = false;
        }
    }
    found
}

/// Names behind `clause::` in a line.
fn clauses_in(line: &str) -> impl Iterator<Item = &str> {
    line.split("clause::")
        .skip(1)
        .filter_map(|rest| rest.split(|c: char| c != '_' && !c.is_ascii_alphanumeric()).next())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(found: Vec<(String, Name)>) -> Vec<(String, String)> {
        found.into_iter().map(|(test, name)| (test, name.text)).collect()
    }

    fn pair(test: &str, name: &str) -> (String, String) {
        (test.to_owned(), name.to_owned())
    }

    #[test]
    fn names_are_found_in_any_text() {
        let text = "[MQTT-3.1.2-24], MQTT5-4.2-1: MQTT-3-8.3-4. No names: MQTT 5, MQTT5 section 3.1, MQTT-, MQTT-5.0";
        let names: Vec<_> = names_in(text).into_iter().map(|name| name.text).collect();
        assert_eq!(names, ["MQTT-3.1.2-24", "MQTT5-4.2-1", "MQTT-3.8.3-4"]);
    }

    #[test]
    fn statements_are_ordered_by_number() {
        let mut names = names_in("MQTT5-3.10.1-1 MQTT5-3.2.2-10 MQTT-6.0.0-1 MQTT5-3.2.2-9");
        names.sort();
        let texts: Vec<_> = names.iter().map(|name| name.text.as_str()).collect();
        assert_eq!(texts, ["MQTT-6.0.0-1", "MQTT5-3.2.2-9", "MQTT5-3.2.2-10", "MQTT5-3.10.1-1"]);
    }

    #[test]
    fn in_python_a_name_counts_for_its_test_or_the_next() {
        let text = "def helper():\n    x = 'MQTT-1.5.3-1'\n\n# MQTT-1.5.3-2\n@mark\ndef test_a(x):\n    \"\"\"[MQTT5-4.2-1]\"\"\"\n\nX = 1\n";
        let found = texts(in_python(text));
        assert_eq!(found, [pair("test_a", "MQTT-1.5.3-2"), pair("test_a", "MQTT5-4.2-1")]);
    }

    #[test]
    fn in_rust_names_count_in_tests_alone() {
        let clauses = clauses("    BAD = \"MQTT-2.2.2-2, MQTT5-2.1.3-1: bad\";");
        let text = "// MQTT-1.5.3-1\nfn no_test() {}\n/// [MQTT-1.5.3-2]\n#[test]\nfn a() {\n    x(clause::BAD); // MQTT5-4.2-1\n}\n// MQTT-1.5.3-3\n";
        let wanted = ["MQTT-1.5.3-2", "MQTT5-4.2-1", "MQTT-2.2.2-2", "MQTT5-2.1.3-1"];
        assert_eq!(texts(in_rust(text, &clauses)), wanted.map(|name| pair("a", name)));
    }

    #[test]
    fn a_statement_of_the_server_needs_a_test_or_a_reason() {
        let name = names_in("MQTT-1.5.3-1").pop().unwrap();
        let statement = |who, why: Option<&str>| Statement {
            who,
            says: String::new(),
            why: why.map(str::to_owned),
        };
        let (none, some) = (BTreeSet::new(), BTreeSet::from(["test".to_owned()]));
        assert!(fault(&name, &statement(Who::Both, None), &none).is_some());
        assert!(fault(&name, &statement(Who::Server, Some("because")), &some).is_some());
        assert!(fault(&name, &statement(Who::None, None), &none).is_some());
        assert!(fault(&name, &statement(Who::Server, None), &some).is_none());
        assert!(fault(&name, &statement(Who::Server, Some("because")), &none).is_none());
        assert!(fault(&name, &statement(Who::Client, None), &none).is_none());
    }
}
