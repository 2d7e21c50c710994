//! `fulcrum-edge seed`: the registry's replica from a file, for nodes that have no cloud.

use crate::config::Config;
use crate::data_dir;
use fulcrum_contract::feed::ChangePage;
use fulcrum_identity::Identity;
use std::path::Path;

/// Applies one page of the change feed.
pub fn run(config: &Config, feed: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let text =
        std::fs::read(feed).map_err(|error| format!("cannot read {}: {error}", feed.display()))?;
    let page: ChangePage = serde_json::from_slice(&text).map_err(|error| {
        format!("{}:{}: {error}; expected a page of the change feed", feed.display(), error.line())
    })?;
    data_dir::prepare(&config.node.data_dir)?;
    let identity = Identity::open(&config.identity_file())?;
    identity.apply(&page)?;
    let counts = identity.counts()?;
    println!(
        "{} tenants, {} devices, {} credentials, {} applications",
        counts.tenants, counts.devices, counts.credentials, counts.applications
    );
    Ok(())
}
