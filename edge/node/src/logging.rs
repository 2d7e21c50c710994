//! Log lines on standard output, structured unless a person asks for text.

use crate::config::{Log, LogFormat};
use tracing_subscriber::EnvFilter;

/// Starts logging. `RUST_LOG` outranks the configuration.
pub fn start(log: &Log) -> Result<(), Box<dyn std::error::Error>> {
    let filter = match std::env::var(EnvFilter::DEFAULT_ENV) {
        Ok(filter) if !filter.is_empty() => EnvFilter::try_new(filter)?,
        _ => EnvFilter::try_new(&log.level).map_err(|error| {
            format!("log.level '{}': {error}; expected for example info", log.level)
        })?,
    };
    let builder = tracing_subscriber::fmt().with_env_filter(filter);
    match log.format {
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
        LogFormat::Text => builder.with_ansi(false).try_init(),
    }
    .map_err(|error| error.to_string().into())
}
