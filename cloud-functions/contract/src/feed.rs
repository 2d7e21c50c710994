//! The change feed from the cloud to one edge node: a snapshot first, deltas after, in one form.
//!
//! An entity is always sent whole, so applying a change twice, or only the newest of several, gives the same state.
//! The edge keeps the cursor in the same transaction as the state; it never asks twice for what it has.

use crate::commands::Command;
use crate::ids::{ApplicationId, CommandId, DeviceId, TenantId};
use crate::registry::{Application, Credential, Device, Tenant};
use serde::{Deserialize, Serialize};

/// Answer to `GET /v1/sync/{edge}/changes?feed={feed}&after={cursor}&wait={seconds}`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ChangePage {
    /// Identity of the feed. When it differs from what the edge has, the page starts a new snapshot and what the edge
    /// holds from the old feed is dropped.
    pub feed: String,
    /// Changes in order.
    pub changes: Vec<Change>,
    /// Where the next request starts.
    pub cursor: u64,
    /// Whether more is there right now.
    pub more: bool,
}

/// One entity's present state.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Change {
    /// The feed's order.
    pub version: u64,
    /// What it is about.
    #[serde(flatten)]
    pub entity: Entity,
}

/// An entity and its document; no document means it was deleted.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Entity {
    /// A tenant this edge serves.
    Tenant {
        /// Its id.
        tenant: TenantId,
        /// Its document.
        document: Option<Tenant>,
    },
    /// A device.
    Device {
        /// Its tenant.
        tenant: TenantId,
        /// Its id.
        device: DeviceId,
        /// Its document.
        document: Option<Device>,
    },
    /// All credentials of a device, hashes included.
    Credentials {
        /// The device's tenant.
        tenant: TenantId,
        /// The device.
        device: DeviceId,
        /// The whole set.
        document: Option<Vec<Credential>>,
    },
    /// An application that may use the edge node's local endpoints.
    Application {
        /// Its tenant.
        tenant: TenantId,
        /// Its id.
        application: ApplicationId,
        /// Its document with the password's hash.
        document: Option<Application>,
    },
    /// A command this edge is to deliver; no document means it was cancelled, or another edge delivers it now.
    Command {
        /// The device's tenant.
        tenant: TenantId,
        /// The device.
        device: DeviceId,
        /// The command's id.
        command: CommandId,
        /// The command.
        document: Option<Command>,
    },
}
