//! One place that decides how an answer looks: lines and tables for people, one JSON document for programs.
//!
//! Answers go to standard output, everything about the way there (progress, hints, failures) to standard error.

use crate::error::Failure;
use comfy_table::{ContentArrangement, Table, presets};
use serde::Serialize;
use serde_json::json;
use std::io::{self, IsTerminal as _, Write as _};
use std::process::ExitCode;

/// Where answers go.
#[derive(Clone, Copy, Debug)]
pub struct Output {
    json: bool,
}

impl Output {
    /// `json`: one JSON document (or one per line, for streams) instead of text.
    pub fn new(json: bool) -> Output {
        Output { json }
    }

    /// Whether a program reads the answers.
    pub fn is_json(&self) -> bool {
        self.json
    }

    /// Whether a person watches: a terminal, and no JSON asked for.
    pub fn is_live(&self) -> bool {
        !self.json && io::stderr().is_terminal() && io::stdout().is_terminal()
    }

    /// Prints `document` as JSON, or what `text` makes of it.
    pub fn document<T: Serialize>(&self, document: &T, text: impl FnOnce(&T) -> String) {
        let line = if self.json {
            serde_json::to_string(document)
                .unwrap_or_else(|error| json!({"error": error.to_string()}).to_string())
        } else {
            text(document)
        };
        put(&line);
    }

    /// Prints a line for people only.
    pub fn line(&self, text: impl AsRef<str>) {
        if !self.json {
            put(text.as_ref());
        }
    }

    /// A remark beside the answer, on standard error, for people only.
    pub fn remark(&self, text: impl AsRef<str>) {
        if !self.json {
            let _ = writeln!(io::stderr(), "{}", text.as_ref());
        }
    }

    /// Reports `failure` and gives the process's exit code.
    pub fn failure(&self, failure: &Failure) -> ExitCode {
        let code = failure.exit_code();
        let _ = if self.json {
            writeln!(io::stderr(), "{}", json!({"error": failure.to_string(), "exitCode": code}))
        } else {
            writeln!(io::stderr(), "error: {failure}")
        };
        ExitCode::from(code)
    }
}

/// A reader that went away (`fulcrum … | head`) is no error of ours.
fn put(line: &str) {
    let _ = writeln!(io::stdout(), "{line}");
}

/// A plain table with a header line.
pub fn table<const N: usize>(
    header: [&str; N],
    rows: impl IntoIterator<Item = [String; N]>,
) -> String {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(header);
    for row in rows {
        table.add_row(row);
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table.lines().map(|line| line.trim_end().to_owned()).collect::<Vec<_>>().join("\n")
}

/// `document` as indented JSON, for people who asked to see one whole thing.
pub fn pretty<T: Serialize>(document: &T) -> String {
    serde_json::to_string_pretty(document).unwrap_or_else(|error| error.to_string())
}
