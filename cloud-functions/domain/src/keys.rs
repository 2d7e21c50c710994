//! Where everything is kept: the one place that spells partitions and sort keys.
//!
//! Identifiers hold no `/`, so it separates. Numbers in sort keys are 16 hexadecimal digits: their order is the number's.

use crate::store::Key;
use fulcrum_contract::streams::PartitionKey;
use fulcrum_contract::{ApplicationId, CommandId, DeviceId, EdgeId, TenantId};

pub(crate) const TENANTS: &str = "tenants";
/// Ids of tenants that were deleted: what is kept of them still has its retention.
pub(crate) const GONE_TENANTS: &str = "gone-tenants";
pub(crate) const EDGES: &str = "edges";
pub(crate) const DEADLINES: &str = "deadlines";

pub(crate) fn number(value: u64) -> String {
    format!("{value:016x}")
}

pub(crate) fn tenant(tenant: &TenantId) -> Key {
    Key::new(TENANTS, tenant.as_str())
}

/// Another name of a tenant -> its id.
pub(crate) fn alias(alias: &str) -> Key {
    Key::new("aliases", alias)
}

/// Subject DN of a trust anchor -> the tenants that have it.
pub(crate) fn trust_anchor(subject: &str) -> Key {
    Key::new("trust-anchors", subject)
}

pub(crate) fn devices(tenant: &TenantId) -> String {
    format!("devices/{tenant}")
}

pub(crate) fn device(tenant: &TenantId, device: &DeviceId) -> Key {
    Key::new(devices(tenant), device.as_str())
}

pub(crate) fn credentials(tenant: &TenantId, device: &DeviceId) -> Key {
    Key::new(format!("credentials/{tenant}"), device.as_str())
}

/// (type, auth-id) -> the device that owns it.
pub(crate) fn auth_id(tenant: &TenantId, kind: &str, auth_id: &str) -> Key {
    Key::new(format!("auth-ids/{tenant}"), format!("{kind}/{auth_id}"))
}

pub(crate) fn applications(tenant: &TenantId) -> String {
    format!("applications/{tenant}")
}

pub(crate) fn application(tenant: &TenantId, application: &ApplicationId) -> Key {
    Key::new(applications(tenant), application.as_str())
}

pub(crate) fn edge(edge: &EdgeId) -> Key {
    Key::new(EDGES, edge.as_str())
}

/// When the edge was last heard of; apart from the edge's row so that it never conflicts with a change of it.
pub(crate) fn edge_seen(edge: &EdgeId) -> Key {
    Key::new("edges-seen", edge.as_str())
}

/// The edges that serve a tenant.
pub(crate) fn edges_of(tenant: &TenantId) -> String {
    format!("edges-of/{tenant}")
}

pub(crate) fn edge_of(tenant: &TenantId, edge: &EdgeId) -> Key {
    Key::new(edges_of(tenant), edge.as_str())
}

/// Partitions of a tenant's stream, each with its mark. Also the topic that a stream's readers watch.
pub(crate) fn partitions(tenant: &TenantId) -> String {
    format!("partitions/{tenant}")
}

pub(crate) fn partition_sort(key: &PartitionKey) -> String {
    format!("{}/{}/{}", key.edge, key.partition, number(key.epoch))
}

pub(crate) fn partition(tenant: &TenantId, key: &PartitionKey) -> Key {
    Key::new(partitions(tenant), partition_sort(key))
}

/// Reads [`partition_sort`] back.
pub(crate) fn parse_partition_sort(sort: &str) -> Option<PartitionKey> {
    let mut parts = sort.split('/');
    let edge = EdgeId::parse(parts.next()?).ok()?;
    let partition = parts.next()?.to_owned();
    let epoch = u64::from_str_radix(parts.next()?, 16).ok()?;
    parts.next().is_none().then_some(PartitionKey { edge, partition, epoch })
}

/// Chunks of records, each under the sequence of its last record.
pub(crate) fn chunks(tenant: &TenantId, key: &PartitionKey) -> String {
    format!("chunks/{tenant}/{}", partition_sort(key))
}

pub(crate) fn groups(tenant: &TenantId) -> String {
    format!("groups/{tenant}")
}

pub(crate) fn group(tenant: &TenantId, group: &str) -> Key {
    Key::new(groups(tenant), group)
}

/// A group's positions, sorted as the partitions are.
pub(crate) fn positions(tenant: &TenantId, group: &str) -> String {
    format!("positions/{tenant}/{group}")
}

pub(crate) fn commands(tenant: &TenantId, device: &DeviceId) -> String {
    format!("commands/{tenant}/{device}")
}

pub(crate) fn command(tenant: &TenantId, device: &DeviceId, command: &CommandId) -> Key {
    Key::new(commands(tenant, device), command.as_str())
}

/// Commands of a device that are not final, in their order: sequence -> command id.
pub(crate) fn waiting(tenant: &TenantId, device: &DeviceId) -> String {
    format!("waiting/{tenant}/{device}")
}

/// The edge a device was last seen at.
pub(crate) fn home(tenant: &TenantId, device: &DeviceId) -> Key {
    Key::new(format!("homes/{tenant}"), device.as_str())
}

/// Last sequence given to a command of the device.
pub(crate) fn command_sequence(tenant: &TenantId, device: &DeviceId) -> Key {
    Key::new(format!("command-sequences/{tenant}"), device.as_str())
}

/// When something is to be done about a command: its expiry, later its removal.
pub(crate) fn deadline(
    at_ms: u64,
    tenant: &TenantId,
    device: &DeviceId,
    command: &CommandId,
) -> Key {
    Key::new(DEADLINES, format!("{}/{tenant}/{device}/{command}", number(at_ms)))
}

/// Feed of a tenant's documents.
pub(crate) fn tenant_scope(tenant: &TenantId) -> String {
    format!("feed/tenant/{tenant}")
}

/// Feed of the commands an edge is to deliver. `incarnation` keeps an edge that was deleted and made again apart.
pub(crate) fn edge_scope(edge: &EdgeId, incarnation: &str) -> String {
    format!("feed/edge/{edge}/{incarnation}")
}

/// Version below which a feed scope has lost tombstones.
pub(crate) fn floor(scope: &str) -> Key {
    Key::new("feed-floors", scope)
}
