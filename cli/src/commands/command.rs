//! `fulcrum command`: sending commands to devices and looking at what became of them.

use crate::client::Client;
use crate::commands::{readable, utc};
use crate::error::Failure;
use crate::output::Output;
use clap::{Args, Subcommand};
use fulcrum_contract::commands::{CommandRequest, CommandState, CommandView};
use fulcrum_contract::paths::COMMANDS;
use fulcrum_contract::{CommandId, DeviceId, TenantId};
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

pub const EXAMPLES: &str = "\
Examples:
  fulcrum command send acme sensor-1 set-interval --payload '{\"seconds\":5}'
  fulcrum command send acme sensor-1 reboot --one-way --wait 0       gives it to the cloud and leaves
  fulcrum command send acme sensor-1 update --payload-file fw.json --expires-in 3600
  fulcrum command show acme sensor-1 COMMAND
Exit code 0 of `send` means: the device answered with success (or, one-way, has taken the command).";

/// Longest one request waits for news; longer waits are several requests.
const POLL_WAIT: Duration = Duration::from_secs(20);

/// What can be done with commands.
#[derive(Debug, Subcommand)]
pub enum CommandCommand {
    /// Send a command to a device and wait for its answer.
    Send(SendArguments),
    /// Show what became of a command.
    Show {
        /// The device's tenant.
        tenant: TenantId,
        /// The device.
        device: DeviceId,
        /// The command.
        command: CommandId,
    },
}

/// Arguments of `send`.
#[derive(Debug, Args)]
pub struct SendArguments {
    /// The device's tenant.
    tenant: TenantId,
    /// The device.
    device: DeviceId,
    /// The command's name.
    subject: String,
    /// The payload, as text.
    #[arg(long, conflicts_with = "payload_file", allow_hyphen_values = true)]
    payload: Option<String>,
    /// File with the payload.
    #[arg(long, value_name = "FILE")]
    payload_file: Option<PathBuf>,
    /// Media type of the payload.
    #[arg(long)]
    content_type: Option<String>,
    /// Seconds to wait for the outcome; 0 does not wait.
    #[arg(long, default_value_t = 30, value_name = "SECONDS")]
    wait: u64,
    /// The device is not to answer.
    #[arg(long)]
    one_way: bool,
    /// Seconds after which a command that no device has taken is void. Without it, the command waits for its device.
    #[arg(long, value_name = "SECONDS")]
    expires_in: Option<u32>,
    /// The command's id: a command that is sent again under its id stays one command.
    #[arg(long)]
    id: Option<CommandId>,
}

/// Carries out a `fulcrum command` command.
pub async fn run(
    command: CommandCommand,
    mut client: Client,
    output: &Output,
) -> Result<(), Failure> {
    match command {
        CommandCommand::Send(options) => send(options, &mut client, output).await,
        CommandCommand::Show { tenant, device, command } => {
            let view: CommandView =
                client.get(&format!("{COMMANDS}/{tenant}/{device}/{command}")).await?;
            output.document(&view, describe);
            Ok(())
        }
    }
}

async fn send(options: SendArguments, client: &mut Client, output: &Output) -> Result<(), Failure> {
    let payload = match (options.payload, &options.payload_file) {
        (Some(text), _) => text.into_bytes(),
        (None, Some(path)) => fs::read(path).map_err(Failure::file("read", path))?,
        (None, None) => Vec::new(),
    };
    let request = CommandRequest {
        subject: options.subject,
        response_required: !options.one_way,
        content_type: options.content_type,
        payload,
        deliver_within_s: options.expires_in,
        id: options.id,
    };
    let path = format!("{COMMANDS}/{}/{}", options.tenant, options.device);
    let sent: CommandView = client.post(&path, &request).await?;
    let view = settle(client, sent, Duration::from_secs(options.wait)).await?;
    output.document(&view, describe);
    if options.wait == 0 { Ok(()) } else { judge(&view, options.wait) }
}

/// Waits until nothing more will happen to `command`, at most `limit`.
pub async fn settle(
    client: &mut Client,
    command: CommandView,
    limit: Duration,
) -> Result<CommandView, Failure> {
    let path = format!("{COMMANDS}/{}/{}/{}", command.tenant, command.device, command.id);
    let until = Instant::now() + limit;
    let mut view = command;
    while !view.state.is_final(view.response_required) {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break;
        }
        // Whole seconds, rounded up: a wait of 0 would spin.
        let wait = Duration::from_secs(left.min(POLL_WAIT).as_millis().div_ceil(1000) as u64);
        view = client.poll(&format!("{path}?wait={}", wait.as_secs()), wait).await?;
    }
    Ok(view)
}

fn judge(view: &CommandView, waited_s: u64) -> Result<(), Failure> {
    let CommandView { tenant, device, id, .. } = view;
    match view.state {
        CommandState::Succeeded => Ok(()),
        CommandState::Delivered if !view.response_required => Ok(()),
        CommandState::Failed => {
            Err(Failure::CommandOutcome(format!("device {device} refused the command")))
        }
        CommandState::Expired => Err(Failure::CommandOutcome(format!(
            "device {device} was not there in time; the command is void. Send it again with a longer --expires-in."
        ))),
        CommandState::Stored | CommandState::Queued | CommandState::Delivered => {
            Err(Failure::CommandOutcome(format!(
                "no answer within {waited_s} s; the command is still under way.\n  Look again with `fulcrum command show \
                 {tenant} {device} {id}`, or wait longer with --wait."
            )))
        }
    }
}

fn describe(view: &CommandView) -> String {
    let state = serde_json::to_value(view.state).ok();
    let state = state.as_ref().and_then(|state| state.as_str()).unwrap_or("unknown");
    let mut text = format!(
        "command {}  {} to {}  {state}  (sent {} UTC)",
        view.id,
        view.subject,
        view.device,
        utc(view.created_ms)
    );
    if let Some(response) = &view.response {
        text += &format!("\nresponse {}  {}", response.status, readable(&response.payload));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(state: CommandState, response_required: bool) -> CommandView {
        CommandView {
            id: "c1".parse().unwrap(),
            tenant: "t".parse().unwrap(),
            device: "d".parse().unwrap(),
            subject: "s".to_owned(),
            response_required,
            state,
            created_ms: 0,
            response: None,
        }
    }

    #[test]
    fn only_success_gives_exit_code_zero() {
        assert!(judge(&view(CommandState::Succeeded, true), 1).is_ok());
        assert!(judge(&view(CommandState::Delivered, false), 1).is_ok());
        for state in [
            CommandState::Delivered,
            CommandState::Failed,
            CommandState::Expired,
            CommandState::Queued,
        ] {
            assert_eq!(judge(&view(state, true), 1).unwrap_err().exit_code(), 5);
        }
    }
}
