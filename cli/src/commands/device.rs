//! `fulcrum device`.

use crate::client::Client;
use crate::commands::tenant::read_document;
use crate::commands::{search, text_of};
use crate::error::Failure;
use crate::output::{Output, pretty, table};
use clap::{Args, Subcommand};
use fulcrum_contract::paths::DEVICES;
use fulcrum_contract::registry::{Created, Device};
use fulcrum_contract::{DeviceId, TenantId};
use serde_json::{Value, json};
use std::path::PathBuf;

pub const EXAMPLES: &str = "\
Examples:
  fulcrum device create acme sensor-1
  fulcrum device create acme sensor-2 --via gateway-1     gateway-1 may act for it
  fulcrum device update acme sensor-1 --enabled false     its next connection is refused
  fulcrum device list acme";

/// What can be done with devices.
#[derive(Debug, Subcommand)]
pub enum DeviceCommand {
    /// Create a device. It gets an empty set of credentials.
    Create {
        /// Its tenant.
        tenant: TenantId,
        /// The device's id; without it the registry makes one.
        device: Option<DeviceId>,
        #[command(flatten)]
        document: DeviceDocument,
    },
    /// Show a device's document.
    Show {
        /// Its tenant.
        tenant: TenantId,
        /// The device.
        device: DeviceId,
    },
    /// List a tenant's devices.
    List {
        /// The tenant.
        tenant: TenantId,
    },
    /// Change a device.
    Update {
        /// Its tenant.
        tenant: TenantId,
        /// The device.
        device: DeviceId,
        #[command(flatten)]
        document: DeviceDocument,
    },
    /// Delete a device and its credentials.
    Delete {
        /// Its tenant.
        tenant: TenantId,
        /// The device.
        device: DeviceId,
    },
}

/// What a device is to look like.
#[derive(Debug, Args)]
pub struct DeviceDocument {
    /// A gateway that may act for the device. May be repeated.
    #[arg(long, value_name = "GATEWAY")]
    via: Vec<DeviceId>,
    /// Whether the device may send and receive.
    #[arg(long)]
    enabled: Option<bool>,
    /// JSON file with the whole document, as `device show --json` prints it.
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
}

impl DeviceDocument {
    fn apply(self, stored: Device) -> Result<Device, Failure> {
        let mut device = match &self.file {
            Some(path) => read_document(path)?,
            None => stored,
        };
        // The registry sets it; what comes back here is only an old copy.
        device.status = None;
        if let Some(enabled) = self.enabled {
            device.enabled = enabled;
        }
        if !self.via.is_empty() {
            device.via = self.via;
        }
        Ok(device)
    }
}

/// Carries out a `fulcrum device` command.
pub async fn run(
    command: DeviceCommand,
    mut client: Client,
    output: &Output,
) -> Result<(), Failure> {
    match command {
        DeviceCommand::Create { tenant, device, document } => {
            let path = match &device {
                Some(device) => format!("{DEVICES}/{tenant}/{device}"),
                None => format!("{DEVICES}/{tenant}"),
            };
            let created: Created = client.post(&path, &document.apply(Device::default())?).await?;
            output.document(&created, |created| {
                format!("device {} of tenant {tenant} created", created.id)
            });
            let id = &created.id;
            output.remark(format!(
                "next: fulcrum credentials set-password {tenant} {id} --auth-id {id}"
            ));
        }
        DeviceCommand::Show { tenant, device } => {
            let document: Value = client.get(&format!("{DEVICES}/{tenant}/{device}")).await?;
            output.document(&document, pretty);
        }
        DeviceCommand::List { tenant } => {
            let page = search(&mut client, &format!("{DEVICES}/{tenant}")).await?;
            output.document(&page, |page| {
                let rows = page.result.iter().map(|device| {
                    [text_of(device, "id"), text_of(device, "enabled"), text_of(device, "via")]
                });
                table(["DEVICE", "ENABLED", "VIA"], rows)
            });
        }
        DeviceCommand::Update { tenant, device, document } => {
            let path = format!("{DEVICES}/{tenant}/{device}");
            let stored: Device = client.get(&path).await?;
            client.put(&path, &document.apply(stored)?).await?;
            output.document(&json!({"id": device}), |_| {
                format!("device {device} of tenant {tenant} updated")
            });
        }
        DeviceCommand::Delete { tenant, device } => {
            client.delete(&format!("{DEVICES}/{tenant}/{device}")).await?;
            output.document(&json!({"id": device}), |_| {
                format!("device {device} of tenant {tenant} deleted")
            });
        }
    }
    Ok(())
}
