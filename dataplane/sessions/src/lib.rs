//! MQTT session state of one shard, and what of it survives a crash.
//!
//! A shard owns a part of all client identifiers, connected or not. For each it keeps here: the subscriptions, what
//! is queued and under way to the client, the identifiers of QoS 2 messages from it, its will. A session that
//! outlives its connection is *durable*: each change of it is a record in an append-only [`Log`]. One that does not
//! is memory alone, but for its will.
//!
//! # Drive contract
//! In each turn the shard does, in this order:
//! 1. [`Sessions::durable`] with the ticket the last commit reached; then it sends what it held back for tickets up
//!    to it: CONNACK, SUBACK, UNSUBACK, PUBACK, PUBREC, PUBREL and PUBCOMP.
//! 2. [`Sessions::timeout`] when [`Sessions::next_timeout`] has come; it publishes the wills and removes the filters.
//! 3. Packets and lanes. One PUBLISH is one [`Transaction`]: [`Sessions::begin`]; [`Sessions::incoming`] for QoS 2;
//!    [`Sessions::deliver`] for each subscriber here, [`Sessions::forward`] for each other shard,
//!    [`Sessions::retain`]; [`Sessions::commit`]. Nothing of it has happened before the commit, all of it after.
//! 4. [`Sessions::poll_ready`] until `None`; for each, [`Sessions::next`] until `None` or until the connection takes
//!    no more, and then [`Sessions::wake`] when it does again.
//! 5. [`Sessions::next_forward`] for each shard whose lane has room.
//! 6. [`Sessions::compact`] when the log has grown; it answers which segments may be dropped.
//!
//! # Invariants
//! - What a peer is told has happened is durable before it is told: every method whose effect is acknowledged answers
//!   with a ticket, `None` where nothing has to be waited for.
//! - A message goes to a durable session's client only when the record that queues it is durable. The record carries
//!   the packet identifier, so QoS 2 stays exactly once over a crash without a write per packet sent.
//! - A record is all or nothing, and replay of any prefix of the log that holds all durable records is a state in
//!   which nothing acknowledged is missing.
//! - A message body is written once per shard, however many sessions queue it.
//! - No peer makes this grow beyond [`Limits`].
//!
//! Deliberately absent: sockets, packets, topic matching, retained matching, access rights, other shards' sessions,
//! timers, files.

mod books;
mod clock;
mod connection;
mod error;
mod flow;
mod forwards;
mod limits;
mod log;
mod message;
mod metrics;
mod outgoing;
mod record;
#[cfg(test)]
mod record_tests;
mod recovery;
mod retained;
mod session;
mod sessions;
mod subscription;
mod transaction;
mod upkeep;

pub use connection::{Attach, Attached, Detached, Leave};
pub use error::{AttachRefused, RecordError, SubscribeRefused};
pub use limits::Limits;
pub use log::{Log, Place, Room};
pub use message::{Due, Ended, Message, SharedCopy, SubscriptionIds, Will};
pub use metrics::{Metrics, TenantTotals};
pub use outgoing::{Ack, Outgoing};
pub use recovery::Recovery;
pub use retained::Retained;
pub use sessions::{SessionKey, Sessions};
pub use subscription::{Subscribed, Subscription};
pub use transaction::{Delivered, Incoming, Options, Origin, Transaction};
