//! Addresses and routes: who takes a message that arrives here.
//!
//! Every shard holds the same [`Routes`] table, kept equal by messages between shards, so a publish is matched where it
//! arrives. [`Deliveries`] remembers what a producer is still to be told. [`CommandDesk`] lives on the shard that owns a
//! device's command address and keeps the device's commands in order, one in flight.
//!
//! All of it is plain data with `&mut self` methods: no I/O, no clock (time is an argument), no other shard. What is
//! deliberately absent: queues of direct messages. A direct message is given to a link that has credit or is refused.

mod commands;
mod deliveries;
mod limits;
mod link;
mod patterns;
mod routes;
mod topics;

pub use commands::{Answered, Command, CommandDesk, Dispatch, Outcome};
pub use deliveries::{Deliveries, DeliveryId, Settled};
pub use limits::{
    DELIVERIES_MAX, FILTER_BYTES_MAX, FILTER_LEVELS_MAX, GROUPS_PER_FILTER_MAX,
    MESSAGING_FILTER_BYTES_MAX, MESSAGING_FILTER_BYTES_PER_TENANT_MAX, MESSAGING_FILTER_LEVELS_MAX,
    MESSAGING_SUBSCRIPTIONS_PER_TENANT_MAX, PENDING_COMMANDS_MAX, SUBSCRIPTIONS_PER_TENANT_MAX,
    WILDCARD_NODES_PER_TENANT_MAX, WILDCARD_SHAPES_PER_TENANT_MAX,
};
pub use link::{LinkId, ShardIndex, owner};
pub use patterns::{covers, pattern_matches};
pub use routes::{RouteRefused, Routes, Target};
pub use topics::{Change, GroupRef, Match, Matches, Subscriber, Topics};
