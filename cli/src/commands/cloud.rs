//! `fulcrum cloud`: the cloud side on this machine, in the foreground.

use crate::error::Failure;
use crate::output::Output;
use clap::Args;
use std::net::SocketAddr;
use std::path::PathBuf;

pub const EXAMPLES: &str = "\
Examples:
  fulcrum cloud                                            https://127.0.0.1:8443, data in ./fulcrum-cloud
  fulcrum cloud --listen 0.0.0.0:8443 --data-dir /var/lib/fulcrum-cloud
Other `fulcrum` commands on this machine find it by themselves.";

/// Arguments of `cloud`.
#[derive(Debug, Args)]
pub struct CloudArguments {
    /// Where tenants, devices and streams are kept.
    #[arg(long, default_value = "fulcrum-cloud", value_name = "DIR")]
    data_dir: PathBuf,
    /// Address to listen at.
    #[arg(long, default_value = "127.0.0.1:8443")]
    listen: SocketAddr,
    /// Plain HTTP, for use behind a proxy that speaks TLS. Tokens and passwords cross the network in the clear.
    #[arg(long)]
    no_tls: bool,
}

/// Runs until interrupted.
pub async fn run(options: CloudArguments, _output: &Output) -> Result<(), Failure> {
    Err(Failure::Cloud(format!("not hosted yet: {options:?}")))
}
