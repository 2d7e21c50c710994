//! What the items hold, as JSON: documents with what the rules need beside them.
//!
//! Rows are read by newer code after an upgrade: members are only ever added, with a default.

use crate::Error;
use crate::store::Item;
use bytes::Bytes;
use fulcrum_contract::commands::{Command, CommandResponse, CommandState};
use fulcrum_contract::registry::{Credential, Device, Tenant};
use fulcrum_contract::{EdgeId, TenantId};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// The value of an item that says all by being there.
pub(crate) const PRESENT: Bytes = Bytes::from_static(b"{}");

pub(crate) fn encode<T: Serialize>(row: &T) -> Bytes {
    Bytes::from(serde_json::to_vec(row).expect("rows are plain data with text keys"))
}

pub(crate) fn decode<T: DeserializeOwned>(item: &Item) -> Result<T, Error> {
    serde_json::from_slice(&item.value).map_err(|error| {
        Error::Unavailable(format!("the item {} cannot be read: {error}", item.sort))
    })
}

#[derive(Serialize, Deserialize)]
pub(crate) struct TenantRow {
    pub document: Tenant,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct DeviceRow {
    pub document: Device,
    pub created_ms: u64,
    pub updated_ms: Option<u64>,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct CredentialsRow {
    pub credentials: Vec<Credential>,
}

/// A reference to one id: owner of an auth-id, tenant of an alias, home of a device, command of a place in the queue.
#[derive(Serialize, Deserialize)]
pub(crate) struct Reference {
    pub id: String,
}

pub(crate) fn reference(id: impl AsRef<str>) -> Bytes {
    encode(&Reference { id: id.as_ref().to_owned() })
}

/// Tenants that have trust anchors of one subject DN.
#[derive(Serialize, Deserialize)]
pub(crate) struct AnchorRow {
    /// The group they all name; none where there is one tenant that names none.
    pub group: Option<String>,
    pub tenants: BTreeSet<String>,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct EdgeRow {
    pub tenants: Vec<TenantId>,
    /// Random; new for each creation.
    pub incarnation: String,
    /// Random; new whenever the edge must take a new snapshot.
    pub feed: String,
    /// Base64 SHA-256 of the enrolment token.
    pub token_sha256: Option<String>,
    pub token_expires_ms: u64,
    /// The key that used the token up.
    pub token_used_by: Option<String>,
    /// PEM.
    pub public_key: Option<String>,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct SeenRow {
    pub at_ms: u64,
}

/// One partition of a tenant's stream with its mark.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct PartitionRow {
    /// High-water mark: the highest sequence stored.
    pub mark: u64,
    /// Lowest sequence still there; `mark + 1` when none is.
    pub first: u64,
    /// Sum of the chunks' stored bytes.
    pub bytes: u64,
    pub created_ms: u64,
    pub updated_ms: u64,
    /// Set on live telemetry of an earlier boot: goes with the next retention pass after a while.
    #[serde(default)]
    pub retired_ms: Option<u64>,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct GroupRow {
    pub created_ms: u64,
    /// Its positions are being removed: nobody may add one, and the group is made anew only when they are gone.
    #[serde(default)]
    pub is_going: bool,
}

/// Up to which version an edge's feed was rid of deletions.
#[derive(Serialize, Deserialize)]
pub(crate) struct FloorRow {
    pub value: u64,
    /// The edge's `feed` at that time: for an edge that has begun a newer one it means nothing.
    #[serde(default)]
    pub feed: String,
}

/// A number of its own: a position, a counter.
#[derive(Serialize, Deserialize)]
pub(crate) struct NumberRow {
    pub value: u64,
}

#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct CommandRow {
    pub command: Command,
    pub state: CommandState,
    /// The edge that is to deliver it.
    pub edge: Option<EdgeId>,
    /// Incarnation of that edge: names the feed the command is in.
    pub incarnation: Option<String>,
    pub response: Option<CommandResponse>,
    /// What to be done about it next, see `keys::deadline`.
    pub deadline_ms: Option<u64>,
    /// Base64 SHA-256 of the request, to know a repetition.
    pub request_sha256: String,
}
