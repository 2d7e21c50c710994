//! Addresses and routes: who takes a message that arrives here.
//!
//! Every shard holds the same [`Routes`] table, kept equal by messages between shards, so a publish is matched where it
//! arrives. [`Deliveries`] remembers what a producer is still to be told. [`CommandDesk`] lives on the shard that owns a
//! device's command address and keeps the device's commands in order, one in flight.
//!
//! [`Topics`] is the route table of messaging between a tenant's clients, [`Retained`] their retained messages; every shard
//! has both. [`covers`] and [`pattern_matches`] compare filters and topics with address patterns.
//!
//! All of it is plain data with `&mut self` methods: no I/O, no clock (time is an argument), no other shard. What is
//! deliberately absent: queues of direct messages. A direct message is given to a link that has credit or is refused.

mod commands;
mod deliveries;
mod limits;
mod link;
mod patterns;
mod retained;
mod routes;
mod topics;

pub use commands::{Answered, Command, CommandDesk, Dispatch, Outcome};
pub use deliveries::{Deliveries, DeliveryId, Settled};
pub use limits::{
    DELIVERIES_MAX, FILTER_BYTES_MAX, FILTER_LEVELS_MAX, GROUPS_PER_FILTER_MAX,
    MESSAGING_FILTER_BYTES_MAX, MESSAGING_FILTER_BYTES_PER_TENANT_MAX, MESSAGING_FILTER_LEVELS_MAX,
    MESSAGING_SUBSCRIPTIONS_PER_TENANT_MAX, PENDING_COMMANDS_MAX, RETAINED_BYTES_PER_TENANT_MAX,
    RETAINED_MESSAGES_PER_TENANT_MAX, RETAINED_TOMBSTONE_BYTES_PER_TENANT_MAX,
    RETAINED_TOMBSTONE_MS, RETAINED_TOMBSTONES_PER_TENANT_MAX, RETAINED_TOPIC_BYTES_MAX,
    SUBSCRIPTIONS_PER_TENANT_MAX, WILDCARD_NODES_PER_TENANT_MAX, WILDCARD_SHAPES_PER_TENANT_MAX,
};
pub use link::{LinkId, ShardIndex, owner};
pub use patterns::{covers, pattern_matches};
pub use retained::{Put, RetainRefused, Retained, RetainedCursor, RetainedLimits, RetainedUse};
pub use routes::{RouteRefused, Routes, Target};
pub use topics::{Change, GroupRef, Match, Matches, Subscriber, Topics};
