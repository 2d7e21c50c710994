//! Every bound of this crate.

/// Subscriptions of one tenant on all shards together. At about 200 bytes each a tenant can cost 20 MB a shard.
pub const SUBSCRIPTIONS_PER_TENANT_MAX: usize = 100_000;

/// Levels of a filter. The table is walked level by level, by recursion; the addresses there are have two.
pub const FILTER_LEVELS_MAX: usize = 16;

/// Bytes of a filter, which every shard keeps.
pub const FILTER_BYTES_MAX: usize = 1024;

/// Deliveries of one shard whose producer waits for an outcome. Above it a producer is told at once that the message
/// was not taken.
pub const DELIVERIES_MAX: usize = 65_536;

/// Commands of one device held in memory; the rest wait in the store and are asked for when these are done.
pub const PENDING_COMMANDS_MAX: usize = 16;

const _: () = assert!(PENDING_COMMANDS_MAX > 0);
// A delivery id keeps its slot in 16 bits.
const _: () = assert!(DELIVERIES_MAX <= 1 << 16);

/// Subscriptions of one tenant's messaging clients on all shards together, members of groups included. One with a filter
/// of its own costs about 160 bytes, 340 with wildcards, one more of the same filter 24 to 80, a
/// membership in a group about 130 (measured by `examples/match_cost.rs`), on every shard.
pub const MESSAGING_SUBSCRIPTIONS_PER_TENANT_MAX: usize = 1_000_000;

/// Levels of a filter of [`crate::Topics`]. Wildcard filters cost a node a level, so this keeps one of them small; no
/// name anybody gives a topic is as deep.
pub const MESSAGING_FILTER_LEVELS_MAX: usize = 128;

/// Bytes of a filter of [`crate::Topics`]: what fits an MQTT string.
pub const MESSAGING_FILTER_BYTES_MAX: usize = 65_535;

/// Bytes of one tenant's different filters and names of groups together.
pub const MESSAGING_FILTER_BYTES_PER_TENANT_MAX: usize = 128 << 20;

/// Nodes of one tenant's wildcard filters, at about 70 bytes each.
pub const WILDCARD_NODES_PER_TENANT_MAX: usize = 1_000_000;

/// Different ways to place `+` in the beginnings of one tenant's wildcard filters, and so the nodes one match visits at
/// most, whatever the filters and the topic are: at about 20 ns each, 80 microseconds. All placements in filters of up to
/// eleven levels fit; tenants use a few dozen.
pub const WILDCARD_SHAPES_PER_TENANT_MAX: usize = 4096;

/// Groups with one filter. Each is given its own copy of every message of that filter.
pub const GROUPS_PER_FILTER_MAX: usize = 1024;

const _: () = assert!(MESSAGING_FILTER_LEVELS_MAX < WILDCARD_SHAPES_PER_TENANT_MAX);
const _: () = assert!(MESSAGING_FILTER_LEVELS_MAX < WILDCARD_NODES_PER_TENANT_MAX);
const _: () = assert!(2 * MESSAGING_FILTER_BYTES_MAX < MESSAGING_FILTER_BYTES_PER_TENANT_MAX);
// Slots are u32 and the highest is not a slot.
const _: () = assert!(WILDCARD_NODES_PER_TENANT_MAX < u32::MAX as usize);

/// Retained messages of one tenant, unless its [`crate::RetainedLimits`] say otherwise.
pub const RETAINED_MESSAGES_PER_TENANT_MAX: usize = 1_000_000;

/// Bytes of one tenant's retained messages, topics and frames, unless its [`crate::RetainedLimits`] say otherwise. Shards
/// share the frames; each has its own topics.
pub const RETAINED_BYTES_PER_TENANT_MAX: usize = 1 << 30;

/// Deleted topics of one tenant whose version is remembered: more than the changes under way between shards.
pub const RETAINED_TOMBSTONES_PER_TENANT_MAX: usize = 16_384;

/// Bytes of these topics.
pub const RETAINED_TOMBSTONE_BYTES_PER_TENANT_MAX: usize = 4 << 20;

/// Milliseconds a deleted topic's version is remembered: far longer than a change takes from shard to shard.
pub const RETAINED_TOMBSTONE_MS: u64 = 600_000;

/// Bytes of a retained message's topic: what fits an MQTT string.
pub const RETAINED_TOPIC_BYTES_MAX: usize = 65_535;

const _: () = assert!(RETAINED_TOPIC_BYTES_MAX < RETAINED_TOMBSTONE_BYTES_PER_TENANT_MAX);
const _: () = assert!(RETAINED_TOMBSTONES_PER_TENANT_MAX > 0 && RETAINED_TOMBSTONE_MS > 0);
