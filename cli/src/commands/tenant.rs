//! `fulcrum tenant`.

use crate::client::Client;
use crate::commands::public_credentials::trust_anchor;
use crate::commands::{search, text_of};
use crate::error::Failure;
use crate::output::{Output, pretty, table};
use clap::{Args, Subcommand};
use fulcrum_contract::TenantId;
use fulcrum_contract::messaging::{Messaging, MessagingAddress};
use fulcrum_contract::paths::TENANTS;
use fulcrum_contract::registry::{Created, Tenant};
use serde_json::{Value, json};
use std::path::PathBuf;

pub const EXAMPLES: &str = "\
Examples:
  fulcrum tenant create acme
  fulcrum tenant create acme --address 'site/#' --address 'own/{device}/+'
  fulcrum tenant update acme --enabled false     its devices are refused, at once
  fulcrum tenant show acme --json > acme.json
  fulcrum tenant update acme --file acme.json";

/// What can be done with tenants.
#[derive(Debug, Subcommand)]
pub enum TenantCommand {
    /// Create a tenant.
    Create {
        /// The tenant's id; without it the registry makes one.
        tenant: Option<TenantId>,
        #[command(flatten)]
        document: TenantDocument,
    },
    /// Show a tenant's document.
    Show {
        /// The tenant.
        tenant: TenantId,
    },
    /// List all tenants.
    List,
    /// Change a tenant.
    Update {
        /// The tenant.
        tenant: TenantId,
        #[command(flatten)]
        document: TenantDocument,
    },
    /// Delete a tenant. Its devices stay in the registry, but cannot connect.
    Delete {
        /// The tenant.
        tenant: TenantId,
    },
}

/// What a tenant is to look like.
#[derive(Debug, Args)]
pub struct TenantDocument {
    /// Whether the tenant's devices may connect.
    #[arg(long)]
    enabled: Option<bool>,
    /// Another name for the tenant (a DNS label).
    #[arg(long)]
    alias: Option<String>,
    /// Topics that devices and applications may use among themselves: an MQTT topic filter, in which a level {device}
    /// stands for the device's own id. May be repeated; those given are all there are.
    #[arg(long, value_name = "PATTERN", conflicts_with = "no_addresses")]
    address: Vec<String>,
    /// Take all messaging addresses away.
    #[arg(long)]
    no_addresses: bool,
    /// Certificate (PEM) of an authority that signs certificates of the tenant's devices. May be repeated; those given are
    /// all there are.
    #[arg(long, value_name = "FILE")]
    trusted_ca: Vec<PathBuf>,
    /// JSON file with the whole document, as `tenant show --json` prints it.
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
}

impl TenantDocument {
    fn apply(&self, stored: Tenant) -> Result<Tenant, Failure> {
        let mut tenant = match &self.file {
            Some(path) => read_document(path)?,
            None => stored,
        };
        if let Some(enabled) = self.enabled {
            tenant.enabled = enabled;
        }
        if self.alias.is_some() {
            tenant.alias.clone_from(&self.alias);
        }
        if self.no_addresses {
            tenant.messaging = None;
        }
        if !self.address.is_empty() {
            let before = tenant.messaging.take().unwrap_or_default();
            tenant.messaging = Some(self.declared(&before));
        }
        if !self.trusted_ca.is_empty() {
            let anchors = self.trusted_ca.iter().map(|path| trust_anchor(path));
            tenant.trusted_ca = Some(anchors.collect::<Result<_, _>>()?);
        }
        Ok(tenant)
    }

    /// The addresses given; what is said of one that is there already stays.
    fn declared(&self, before: &Messaging) -> Messaging {
        let known = |pattern: &str| {
            before.addresses.iter().find(|address| address.pattern == pattern).cloned()
        };
        let address = |pattern: &String| {
            known(pattern).unwrap_or_else(|| MessagingAddress::multicast(pattern))
        };
        Messaging { addresses: self.address.iter().map(address).collect() }
    }
}

/// Reads a registry document from a JSON file.
pub fn read_document<T: serde::de::DeserializeOwned>(path: &PathBuf) -> Result<T, Failure> {
    let text = std::fs::read_to_string(path).map_err(Failure::file("read", path))?;
    serde_json::from_str(&text).map_err(|error| {
        Failure::Usage(format!("{} is not the document it should be: {error}", path.display()))
    })
}

/// Carries out a `fulcrum tenant` command.
pub async fn run(
    command: TenantCommand,
    mut client: Client,
    output: &Output,
) -> Result<(), Failure> {
    match command {
        TenantCommand::Create { tenant, document } => {
            let path = match &tenant {
                Some(tenant) => format!("{TENANTS}/{tenant}"),
                None => TENANTS.to_owned(),
            };
            let created: Created = client.post(&path, &document.apply(Tenant::default())?).await?;
            output.document(&created, |created| format!("tenant {} created", created.id));
            output.remark(format!("next: fulcrum device create {} DEVICE", created.id));
        }
        TenantCommand::Show { tenant } => {
            let document: Value = client.get(&format!("{TENANTS}/{tenant}")).await?;
            output.document(&document, pretty);
        }
        TenantCommand::List => {
            let page = search(&mut client, TENANTS).await?;
            output.document(&page, |page| {
                let rows = page.result.iter().map(|tenant| {
                    [text_of(tenant, "id"), text_of(tenant, "enabled"), text_of(tenant, "alias")]
                });
                table(["TENANT", "ENABLED", "ALIAS"], rows)
            });
        }
        TenantCommand::Update { tenant, document } => {
            let path = format!("{TENANTS}/{tenant}");
            let stored: Tenant = client.get(&path).await?;
            client.put(&path, &document.apply(stored)?).await?;
            output.document(&json!({"id": tenant}), |_| format!("tenant {tenant} updated"));
        }
        TenantCommand::Delete { tenant } => {
            client.delete(&format!("{TENANTS}/{tenant}")).await?;
            output.document(&json!({"id": tenant}), |_| format!("tenant {tenant} deleted"));
        }
    }
    Ok(())
}
