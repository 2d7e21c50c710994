//! What can be typed. The examples of each command are part of its help.

use crate::commands::{application, cloud, command, credentials, device, edge, events, tenant};
use crate::demo;
use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;

/// Operate Fulcrum: tenants, devices, edge nodes, streams and commands.
#[derive(Debug, Parser)]
#[command(name = "fulcrum", version, about = "Operate Fulcrum: tenants, devices, edge nodes, streams and commands.", after_help = EXAMPLES, max_term_width = 110)]
pub struct Arguments {
    /// Answer in JSON, one document per answer (one per line for streams).
    #[arg(long, global = true)]
    pub json: bool,
    #[command(flatten)]
    pub connection: Connection,
    #[command(subcommand)]
    pub verb: Verb,
}

const EXAMPLES: &str = "\
Start here:
  fulcrum demo                                   the whole platform once, with a proof at the end
  fulcrum cloud                                  the cloud side on this machine; then, in another terminal:
  fulcrum tenant create acme
  fulcrum device create acme sensor-1
  fulcrum credentials set-password acme sensor-1 --auth-id sensor-1
  fulcrum edge create edge-1 --tenant acme       prints the token to enrol the node with
  fulcrum events tail acme --follow

Exit codes:
  0 done   1 failed on this machine   2 wrong usage   3 cloud not reachable   4 refused by the cloud
  5 a device's command or the demo's proof did not succeed";

/// Which cloud side to talk to. Without these, the context file that `fulcrum cloud` writes decides
/// (~/.config/fulcrum/context.json, or the file FULCRUM_CONTEXT names).
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Which cloud")]
pub struct Connection {
    /// The cloud's URL, like https://127.0.0.1:8443.
    #[arg(long, global = true, env = "FULCRUM_CLOUD", value_name = "URL")]
    pub cloud: Option<String>,
    /// PEM file with the certificate authority to trust instead of the system's.
    #[arg(long, global = true, env = "FULCRUM_CA", value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// File with the operator token.
    #[arg(long, global = true, env = "FULCRUM_TOKEN_FILE", value_name = "FILE")]
    pub token_file: Option<PathBuf>,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Host the cloud side on this machine, in the foreground.
    #[command(after_help = cloud::EXAMPLES)]
    Cloud(cloud::CloudArguments),
    /// Run the whole platform once on recorded weather readings, break it in the middle, and prove that nothing was lost.
    #[command(after_help = demo::EXAMPLES)]
    Demo(demo::DemoArguments),
    /// Tenants: the units of isolation.
    #[command(subcommand, after_help = tenant::EXAMPLES)]
    Tenant(tenant::TenantCommand),
    /// Devices and gateways of a tenant.
    #[command(subcommand, after_help = device::EXAMPLES)]
    Device(device::DeviceCommand),
    /// What a device authenticates with.
    #[command(subcommand, after_help = credentials::EXAMPLES)]
    Credentials(credentials::CredentialsCommand),
    /// Applications: they read a tenant's streams and send commands.
    #[command(subcommand, after_help = application::EXAMPLES)]
    Application(application::ApplicationCommand),
    /// Edge nodes: make them known, enrol them.
    #[command(subcommand, after_help = edge::EXAMPLES)]
    Edge(edge::EdgeCommand),
    /// Read a tenant's stream.
    #[command(subcommand, after_help = events::EXAMPLES)]
    Events(events::EventsCommand),
    /// Send commands to devices.
    #[command(subcommand, after_help = command::EXAMPLES)]
    Command(command::CommandCommand),
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn every_command_has_examples() {
        for command in Arguments::command().get_subcommands() {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.contains("fulcrum "), "`{}` has no example", command.get_name());
        }
    }

    #[test]
    fn every_command_answers_in_json_when_asked() {
        for line in ["tenant list", "demo", "cloud", "events tail t", "command send t d s"] {
            let words = ["fulcrum"].into_iter().chain(line.split(' ')).chain(["--json"]);
            let arguments = Arguments::try_parse_from(words).unwrap();
            assert!(arguments.json, "{line}");
        }
    }

    #[test]
    fn a_token_or_payload_may_begin_with_a_hyphen() {
        for line in [
            "edge enrol --edge e --data-dir d --token -GjftO",
            "command send t d s --payload -1.5",
            "credentials set-password t d --auth-id a --password -x",
        ] {
            let words = ["fulcrum"].into_iter().chain(line.split(' '));
            assert!(Arguments::try_parse_from(words).is_ok(), "{line}");
        }
    }
}
