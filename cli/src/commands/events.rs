//! `fulcrum events`: reading a tenant's stream as a consumer group.
//!
//! A page is committed after it was printed: a reader that is stopped in between sees the page again, never a hole.

use crate::client::Client;
use crate::commands::{readable, utc};
use crate::error::Failure;
use crate::output::Output;
use clap::{Args, Subcommand, ValueEnum};
use fulcrum_contract::paths::STREAMS;
use fulcrum_contract::streams::{Commit, Position, Record, RecordPage};
use fulcrum_contract::{ApplicationId, TenantId};
use std::time::Duration;

pub const EXAMPLES: &str = "\
Examples:
  fulcrum events tail acme                                 what this group has not seen yet
  fulcrum events tail acme --follow --class event          and what comes, events only
  fulcrum events tail acme --group audit --json > all.ndjson
A group that reads for the first time starts at the beginning of the stream.";

/// Longest a page is held back for news.
const POLL_WAIT: Duration = Duration::from_secs(20);

/// What can be done with streams.
#[derive(Debug, Subcommand)]
pub enum EventsCommand {
    /// Print what the group has not read yet, and commit it as read.
    Tail(TailArguments),
}

/// Arguments of `tail`.
#[derive(Debug, Args)]
pub struct TailArguments {
    /// The tenant.
    tenant: TenantId,
    /// The consumer group; each group has its own position in the stream.
    #[arg(long, default_value = "fulcrum-cli")]
    group: ApplicationId,
    /// Only records of this class. May be repeated.
    #[arg(long, value_enum)]
    class: Vec<ClassName>,
    /// Wait for more, until interrupted.
    #[arg(long, short)]
    follow: bool,
    /// Most records of one page.
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=1000))]
    page: u32,
}

/// Classes of records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum ClassName {
    /// Live readings.
    Telemetry,
    /// Stored before they were acknowledged.
    Event,
    /// Devices' answers to commands.
    CommandResponse,
    /// What became of commands.
    CommandStatus,
}

impl ClassName {
    fn as_str(self) -> &'static str {
        match self {
            ClassName::Telemetry => "telemetry",
            ClassName::Event => "event",
            ClassName::CommandResponse => "command_response",
            ClassName::CommandStatus => "command_status",
        }
    }
}

/// Carries out a `fulcrum events` command.
pub async fn run(
    command: EventsCommand,
    mut client: Client,
    output: &Output,
) -> Result<(), Failure> {
    let EventsCommand::Tail(options) = command;
    let classes: Vec<&str> = options.class.iter().map(|class| class.as_str()).collect();
    let mut reader =
        GroupReader::new(&options.tenant, options.group.as_str(), options.page, &classes);
    loop {
        let wait = if options.follow { POLL_WAIT } else { Duration::ZERO };
        let interrupted = tokio::signal::ctrl_c();
        let page = tokio::select! {
            page = reader.read(&mut client, wait) => page?,
            _ = interrupted => return Ok(()),
        };
        if page.commit.is_empty() && !options.follow {
            return Ok(());
        }
        for record in &page.records {
            output.document(record, line);
        }
        reader.commit(&mut client, page.commit).await?;
    }
}

/// Reads a tenant's stream for one consumer group.
pub struct GroupReader {
    records_path: String,
    commit_path: String,
}

impl GroupReader {
    /// A reader of pages of at most `page` records, of all classes or of `classes` alone.
    pub fn new(tenant: &TenantId, group: &str, page: u32, classes: &[&str]) -> GroupReader {
        let filter = if classes.is_empty() {
            String::new()
        } else {
            format!("&class={}", classes.join(","))
        };
        GroupReader {
            records_path: format!("{STREAMS}/{tenant}/records?group={group}&max={page}{filter}"),
            commit_path: format!("{STREAMS}/{tenant}/groups/{group}/commit"),
        }
    }

    /// The next page; empty when nothing came within `wait`.
    pub async fn read(
        &mut self,
        client: &mut Client,
        wait: Duration,
    ) -> Result<RecordPage, Failure> {
        let path = format!("{}&wait={}", self.records_path, wait.as_secs());
        client.poll(&path, wait).await
    }

    /// Marks a page as processed.
    pub async fn commit(
        &mut self,
        client: &mut Client,
        positions: Vec<Position>,
    ) -> Result<(), Failure> {
        if positions.is_empty() {
            return Ok(());
        }
        client.post_quietly(&self.commit_path, &Commit { positions }).await
    }
}

fn line(record: &Record) -> String {
    let status = record.status.map(|status| format!(" {status}")).unwrap_or_default();
    format!(
        "{}  {:<9} {:<20} {}/{}#{}{}  {}",
        utc(record.created_ms),
        record.class,
        record.device.as_str(),
        record.partition.edge,
        record.partition.partition,
        record.sequence,
        status,
        readable(&record.payload)
    )
}
