//! Reading a tenant's stream: pull with a consumer group and a committed cursor.
//!
//! A stream is partitioned by (edge, partition, epoch): one writer each, so the offset is the edge's own dense sequence
//! and a hole in it can be seen. Order holds within a partition, and all of a device's stored messages through one edge
//! node are in one partition, over reconnects too.

use crate::ids::{DeviceId, EdgeId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Name of one partition of a tenant's stream.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PartitionKey {
    /// The edge node that writes it.
    pub edge: EdgeId,
    /// `p0`, `p1`, … for stored classes, `t0` for live telemetry.
    pub partition: String,
    /// Changes when the edge's store is new.
    pub epoch: u64,
}

/// Answer to `GET /v1/streams/{tenant}/records?group={group}&max={n}&wait={seconds}`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct RecordPage {
    /// Records after the group's position, in order within each partition.
    pub records: Vec<Record>,
    /// Positions behind the last record of this page; pass them to the commit call once they are processed.
    pub commit: Vec<Position>,
}

/// A position of a consumer group within a partition.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Position {
    /// The partition.
    #[serde(flatten)]
    pub partition: PartitionKey,
    /// Sequence of the last record processed.
    pub sequence: u64,
}

/// Body of `POST /v1/streams/{tenant}/groups/{group}/commit`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Commit {
    /// New positions; a position never moves back.
    pub positions: Vec<Position>,
}

/// One message.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// Partition it is in.
    #[serde(flatten)]
    pub partition: PartitionKey,
    /// Its place in the partition, from 1, dense.
    pub sequence: u64,
    /// `telemetry`, `event`, `command_response` or `command_status`.
    pub class: String,
    /// The device it comes from.
    pub device: DeviceId,
    /// Milliseconds since the Unix epoch.
    pub created_ms: u64,
    /// Quality of service the device used.
    pub qos: u8,
    /// Media type of the payload.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    /// `hono-mqtt`, `hono-http`, …
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub orig_adapter: Option<String>,
    /// The address as the device spelled it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub orig_address: Option<String>,
    /// The gateway that acted for the device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<String>,
    /// Command the record answers or reports on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correlation_id: Option<String>,
    /// Status of a command response or delivery.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Application properties.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub properties: BTreeMap<String, String>,
    /// Payload, Base64.
    #[serde(with = "crate::base64_bytes")]
    pub payload: Vec<u8>,
}

/// Answer to `GET /v1/streams/{tenant}/groups/{group}`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct GroupView {
    /// The group.
    pub group: String,
    /// Records that wait for the group in all partitions.
    pub lag: u64,
    /// Where it is in each partition.
    pub partitions: Vec<GroupPartition>,
}

/// A group's place in one partition.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct GroupPartition {
    /// The partition.
    #[serde(flatten)]
    pub partition: PartitionKey,
    /// Sequence of the last record the group has committed.
    pub position: u64,
    /// Lowest sequence still there.
    pub first: u64,
    /// Highest sequence there.
    pub last: u64,
    /// Records that wait.
    pub lag: u64,
    /// Records that retention dropped before the group came to them.
    pub lost: u64,
}
