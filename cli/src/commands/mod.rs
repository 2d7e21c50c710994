//! One module per group of commands: what can be typed, what is asked of the cloud side, how the answer looks.

pub mod application;
pub mod cloud;
pub mod command;
pub mod credentials;
pub mod device;
pub mod edge;
pub mod events;
pub mod public_credentials;
pub mod tenant;

use crate::arguments::{Arguments, Verb};
use crate::client::Client;
use crate::context::Context;
use crate::error::Failure;
use crate::output::Output;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Carries out what was typed.
pub async fn run(arguments: Arguments, output: &Output) -> Result<(), Failure> {
    let operator = || Client::operator(&Context::resolve(&arguments.connection)?);
    match arguments.verb {
        Verb::Cloud(options) => cloud::run(options, output).await,
        Verb::Demo(options) => crate::demo::run(options, output).await,
        Verb::Edge(edge::EdgeCommand::Enrol(options)) => {
            edge::enrol(options, &Context::resolve(&arguments.connection)?, output).await
        }
        Verb::Tenant(command) => tenant::run(command, operator()?, output).await,
        Verb::Device(command) => device::run(command, operator()?, output).await,
        Verb::Credentials(command) => credentials::run(command, operator()?, output).await,
        Verb::Application(command) => application::run(command, operator()?, output).await,
        Verb::Edge(command) => edge::run(command, operator()?, output).await,
        Verb::Events(command) => events::run(command, operator()?, output).await,
        Verb::Command(command) => command::run(command, operator()?, output).await,
    }
}

/// Answer to a search: how many there are, and some of them.
#[derive(Debug, Serialize, Deserialize)]
pub struct SearchPage {
    /// How many match.
    pub total: u64,
    /// This page's entries, each with its `id`.
    pub result: Vec<Map<String, Value>>,
}

/// Most entries the registry gives in one page.
const PAGE_ENTRIES: usize = 200;

/// Reads all pages of a search. The registry answers 404 where nothing is found: an empty list for us, unless
/// `parent` names what must exist.
pub async fn search(client: &mut Client, path: &str) -> Result<SearchPage, Failure> {
    let mut all = SearchPage { total: 0, result: Vec::new() };
    loop {
        let offset = all.result.len() / PAGE_ENTRIES;
        let page = format!("{path}?pageSize={PAGE_ENTRIES}&pageOffset={offset}");
        let page: SearchPage = match client.get(&page).await {
            Ok(page) => page,
            Err(Failure::Refused { status: 404, .. }) => return Ok(all),
            Err(failure) => return Err(failure),
        };
        all.total = page.total;
        let last = page.result.len() < PAGE_ENTRIES;
        all.result.extend(page.result);
        if last || all.result.len() as u64 >= all.total {
            return Ok(all);
        }
    }
}

/// A member of an entry as text for a table.
pub fn text_of(entry: &Map<String, Value>, member: &str) -> String {
    match entry.get(member) {
        None | Some(Value::Null) => "-".to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(items)) if items.is_empty() => "-".to_owned(),
        Some(Value::Array(items)) => items
            .iter()
            .map(|item| item.as_str().map_or_else(|| item.to_string(), str::to_owned))
            .collect::<Vec<_>>()
            .join(","),
        Some(other) => other.to_string(),
    }
}

/// Milliseconds since the Unix epoch as UTC.
pub fn utc(ms: u64) -> String {
    let format = time::macros::format_description!(
        "[year]-[month]-[day] [hour]:[minute]:[second].[subsecond digits:3]"
    );
    i128::from(ms)
        .checked_mul(1_000_000)
        .and_then(|ns| time::OffsetDateTime::from_unix_timestamp_nanos(ns).ok())
        .and_then(|at| at.format(&format).ok())
        .unwrap_or_else(|| ms.to_string())
}

/// A payload for people: text where it is text, else its size and first bytes.
pub fn readable(payload: &[u8]) -> String {
    match std::str::from_utf8(payload) {
        Ok(text) if !text.chars().any(|c| c.is_control() && c != '\n' && c != '\t') => {
            text.to_owned()
        }
        _ => {
            let start: String = payload.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
            format!(
                "({} bytes: {start}{})",
                payload.len(),
                if payload.len() > 16 { "…" } else { "" }
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_cannot_control_the_terminal() {
        assert_eq!(readable(b"21.5"), "21.5");
        assert_eq!(readable(b"\x1b[2J"), "(4 bytes: 1b5b324a)");
        assert_eq!(readable(&[0xff; 20]), format!("(20 bytes: {}…)", "ff".repeat(16)));
    }

    #[test]
    fn time_is_shown_in_utc() {
        assert_eq!(utc(0), "1970-01-01 00:00:00.000");
        assert_eq!(utc(1_700_000_000_123), "2023-11-14 22:13:20.123");
    }
}
