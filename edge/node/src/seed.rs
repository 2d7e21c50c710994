//! `fulcrum-edge seed`: the registry's replica from a file, for nodes that have no cloud.

use crate::config::Config;
use crate::data_dir;
use fulcrum_contract::feed::{ChangePage, Entity};
use fulcrum_identity::Identity;
use std::path::Path;

/// Applies one page of the change feed. What the registry would refuse is refused here, before anything is written.
pub fn run(config: &Config, feed: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let text =
        std::fs::read(feed).map_err(|error| format!("cannot read {}: {error}", feed.display()))?;
    let page: ChangePage = serde_json::from_slice(&text).map_err(|error| {
        format!("{}:{}: {error}; expected a page of the change feed", feed.display(), error.line())
    })?;
    check(&page).map_err(|error| format!("{}: {error}", feed.display()))?;
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

/// A page from the cloud has been checked there; one written by hand has not.
fn check(page: &ChangePage) -> Result<(), Box<dyn std::error::Error>> {
    for change in &page.changes {
        if let Entity::Tenant { tenant, document: Some(document) } = &change.entity
            && let Some(messaging) = &document.messaging
        {
            messaging.check().map_err(|error| format!("tenant {tenant}: {error}"))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(pattern: &str) -> ChangePage {
        let text = format!(
            r#"{{"feed": "f", "cursor": 1, "more": false, "changes": [{{"version": 1, "kind": "tenant", "tenant": "acme",
            "document": {{"messaging": {{"addresses": [{{"pattern": "{pattern}", "type": "multicast"}}]}}}}}}]}}"#
        );
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn messaging_addresses_in_a_file_are_taken_as_the_registry_takes_them() {
        assert!(check(&page("site/#")).is_ok());
        let refusal = check(&page("event/#")).unwrap_err().to_string();
        assert!(refusal.contains("acme") && refusal.contains("device API"), "{refusal}");
    }
}
