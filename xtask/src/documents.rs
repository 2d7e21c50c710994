//! Markdown files: links within the project lead somewhere, and the commands of the README exist.

use crate::error::Failure;
use crate::steps::Cargo;
use std::fs;
use std::path::{Path, PathBuf};

/// What the README promises to a newcomer, word for word.
const PROMISED: [&str; 2] = ["cargo run --release -- demo", "cargo xtask test"];

/// Checks every Markdown file that git knows or could know.
pub fn check(root: &Path) -> Result<(), Failure> {
    let mut faults = Vec::new();
    let files = markdown_files(root)?;
    for file in &files {
        let path = root.join(file);
        let text = fs::read_to_string(&path)
            .map_err(|source| Failure::Read { path: path.clone(), source })?;
        for (line, target) in links(&text) {
            if let Some(fault) = link_fault(root, file, &target) {
                faults.push(format!("{}:{line}: {fault}", file.display()));
            }
        }
        if file == Path::new("README.md") {
            for command in PROMISED.iter().filter(|command| !text.contains(*command)) {
                faults.push(format!("README.md does not name `{command}`"));
            }
        }
    }
    if !files.iter().any(|file| file == Path::new("README.md")) {
        faults.push("README.md is missing".to_owned());
    }
    println!("    {} Markdown files", files.len());
    if faults.is_empty() { Ok(()) } else { Err(Failure::Documents(faults)) }
}

fn markdown_files(root: &Path) -> Result<Vec<PathBuf>, Failure> {
    let mut command = Cargo::plain("git", root);
    command.args(["ls-files", "--cached", "--others", "--exclude-standard", "*.md"]);
    let shown = "git ls-files".to_owned();
    let output =
        command.output().map_err(|source| Failure::Start { command: shown.clone(), source })?;
    if !output.status.success() {
        return Err(Failure::Ended { command: shown, status: output.status });
    }
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(text.lines().map(PathBuf::from).filter(|file| root.join(file).is_file()).collect())
}

/// Targets of inline links with their lines; what stands in code is no link.
fn links(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut fenced = false;
    for (index, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        }
        if fenced {
            continue;
        }
        let prose: String = line.split('`').step_by(2).collect::<Vec<_>>().join(" ");
        let mut rest = prose.as_str();
        while let Some((_, behind)) = rest.split_once("](") {
            let Some((target, behind)) = behind.split_once(')') else { break };
            found.push((index + 1, target.to_owned()));
            rest = behind;
        }
    }
    found
}

fn link_fault(root: &Path, file: &Path, target: &str) -> Option<String> {
    let elsewhere =
        ["http://", "https://", "mailto:", "#"].iter().any(|start| target.starts_with(start));
    if elsewhere || target.is_empty() {
        return None;
    }
    let path = target.split('#').next().unwrap_or(target);
    let base =
        if path.starts_with('/') { root.to_owned() } else { root.join(file).parent()?.to_owned() };
    let there = base.join(path.trim_start_matches('/')).exists();
    (!there).then(|| format!("the link to '{target}' leads nowhere"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_found_in_prose_and_not_in_code() {
        let text =
            "see [a](x.md) and [b](y.md#z)\n```\n[c](no.md)\n```\n`[d](no.md)` [e](https://e)\n";
        let targets: Vec<_> = links(text);
        assert_eq!(
            targets,
            [(1, "x.md".to_owned()), (1, "y.md#z".to_owned()), (5, "https://e".to_owned())]
        );
    }

    #[test]
    fn a_link_that_leads_nowhere_is_a_fault() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let file = Path::new("src/main.rs");
        assert_eq!(link_fault(root, file, "steps.rs#x"), None);
        assert_eq!(link_fault(root, file, "/Cargo.toml"), None);
        assert_eq!(link_fault(root, file, "https://elsewhere"), None);
        assert!(link_fault(root, file, "nowhere.md").is_some());
    }
}
