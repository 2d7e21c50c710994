//! `fulcrum cloud`: the cloud side on this machine, in the foreground.
//!
//! Standard output has what a person (or, as JSON, a program) needs to go on; the log is on standard error.

use crate::context::Context;
use crate::error::Failure;
use crate::output::Output;
use clap::Args;
use fulcrum_local::{LocalConfig, Running, Tls};
use serde_json::json;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

pub const EXAMPLES: &str = "\
Examples:
  fulcrum cloud                                  https://127.0.0.1:8443, data in ./fulcrum-cloud
  fulcrum cloud --listen 0.0.0.0:8443 --host-name cloud.example --data-dir /var/lib/fulcrum-cloud
  fulcrum cloud --tls-certificate chain.pem --tls-key key.pem
  RUST_LOG=info fulcrum cloud                    with one log line per request
Other `fulcrum` commands of this user find it by themselves. Ctrl-C or SIGTERM ends it in order.";

/// Arguments of `cloud`.
#[derive(Debug, Args)]
pub struct CloudArguments {
    /// Where tenants, devices and streams are kept.
    #[arg(long, default_value = "fulcrum-cloud", value_name = "DIR")]
    data_dir: PathBuf,
    /// Address to listen at; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:8443")]
    listen: SocketAddr,
    /// A name or address for the development certificate besides the listening address. May be repeated.
    #[arg(long, value_name = "NAME")]
    host_name: Vec<String>,
    /// Certificate chain (PEM) to use instead of a development certificate.
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_certificate: Option<PathBuf>,
    /// Private key (PEM) of that certificate.
    #[arg(long, value_name = "FILE", requires = "tls_certificate")]
    tls_key: Option<PathBuf>,
    /// Plain HTTP, for use behind a proxy that speaks TLS. Tokens and passwords cross the network in the clear.
    #[arg(long, conflicts_with_all = ["tls_certificate", "tls_key"])]
    no_tls: bool,
}

impl CloudArguments {
    fn config(self) -> LocalConfig {
        let tls = match (self.tls_certificate, self.tls_key) {
            (Some(certificate), Some(key)) => Tls::Files { certificate, key },
            _ if self.no_tls => Tls::Off,
            _ => Tls::Development,
        };
        LocalConfig {
            tls,
            host_names: self.host_name,
            ..LocalConfig::new(self.data_dir, self.listen)
        }
    }
}

/// Runs until interrupted.
pub async fn run(options: CloudArguments, output: &Output) -> Result<(), Failure> {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn"));
    // Set once per process; a second time cannot happen here.
    let _ =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).try_init();
    let no_handler = |source| Failure::Host { what: "listen for signals", source };
    let mut interrupt = signal(SignalKind::interrupt()).map_err(no_handler)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(no_handler)?;

    let config = options.config();
    let scheme = if config.tls == Tls::Off { "http" } else { "https" };
    let running =
        fulcrum_local::start(config).await.map_err(|error| Failure::Cloud(error.to_string()))?;
    let context = context_of(&running, scheme)?;
    let context_file = context.save()?;
    announce(&context, context_file.as_deref(), output);

    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    output.remark("ending: requests under way are finished first ...");
    running.shutdown().await;
    Ok(())
}

fn context_of(running: &Running, scheme: &str) -> Result<Context, Failure> {
    let mut address = running.address();
    if address.ip().is_unspecified() {
        let loopback: std::net::IpAddr = match address {
            SocketAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
        };
        address.set_ip(loopback);
    }
    Ok(Context {
        cloud: Some(format!("{scheme}://{address}")),
        ca_file: running.ca_path().map(absolute).transpose()?,
        token_file: Some(absolute(running.operator_token_path())?),
    })
}

fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    std::path::absolute(path).map_err(Failure::file("find", path))
}

fn announce(context: &Context, context_file: Option<&Path>, output: &Output) {
    let document = json!({
        "cloud": context.cloud,
        "caFile": context.ca_file,
        "tokenFile": context.token_file,
        "contextFile": context_file,
    });
    output.document(&document, |_| {
        let path = |path: Option<&Path>| {
            path.map_or_else(|| "-".to_owned(), |path| path.display().to_string())
        };
        format!(
            "the cloud side is up at {}\n  \
             certificate authority  {}\n  \
             operator token         {}\n  \
             context for commands   {}\n\
             next, in another terminal:\n  \
             fulcrum tenant create acme\n  \
             fulcrum device create acme sensor-1\n  \
             fulcrum credentials set-password acme sensor-1 --auth-id sensor-1\n  \
             fulcrum edge create edge-1 --tenant acme",
            context.cloud.as_deref().unwrap_or("-"),
            path(context.ca_file.as_deref()),
            path(context.token_file.as_deref()),
            path(context_file),
        )
    });
}
