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
