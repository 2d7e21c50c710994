//! One core put together: ring, transports, protocol sessions, routers and journals.
//!
//! ```text
//!            ┌───────────────────────── shard (one thread, one core) ─────────────────────────┐
//!  devices ──┤ ring ── transport ── session ───┬─ telemetry ── routes ── links with credit    ├── other shards
//!            │                 (MQTT | HTTP)   ├─ stored ───── journal ── write + fdatasync   │   (lanes)
//!            │                                 ├─ commands ─── desk ── the device's link      ├── threads
//!            │                                 └─ broker ───── sessions ── session journal    │   (control queue)
//!            └────────────────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! # One turn
//! 1. The ring hands over what came: bytes of connections, finished writes, timers. Sessions take packets one at a time.
//! 2. The inbox: batches of other shards, answers of the registry, outcomes; at most [`limits::INBOX_PER_TURN`], and at
//!    most [`limits::MESSAGES_PER_TURN`] messages of other shards' clients.
//! 3. Who waited for a commit is answered; connections whose hold is over go on.
//! 4. Work that is done a part at a time: retained messages for new subscriptions, TLS handshakes, the session journal's
//!    oldest segment.
//! 5. The journals' batches are handed to the ring where no write is out.
//! 6. Batches for other shards are handed over and their doorbells rung.
//! 7. The ring submits everything with one system call and waits.
//!
//! # Invariants
//! - Nothing here blocks: whatever may (hashing, the registry, preparing segments) is asked through [`ports`](Registry)
//!   and answered by a [`Message`].
//! - A producer of a stored message is answered after the commits that hold it, never before.
//! - A direct message is given to a link with credit or refused at once.
//! - A connection on hold is not read from; its buffered input is bounded by the receive buffers.
//! - A session never touches another connection's session: it reaches links through the plane, which writes to their
//!   output.
//! - An MQTT client's session lives on the shard that owns its name; its connection is moved there before it is greeted.
//!
//! Deliberately absent: AMQP; consumers of stored messages on the node itself; `$SYS` topics.

mod amqp;
mod broker;
mod commands;
mod connections;
mod drain;
mod flow;
mod forward;
mod gateways;
mod gather;
mod http;
mod identity;
mod inbox;
mod input;
pub mod limits;
mod message;
mod metrics;
mod mqtt;
mod outbox;
mod plane;
mod ports;
mod retry;
mod settle;
mod shard;
mod stored;
mod telemetry;
mod turn;

pub use broker::SessionStore;
pub use fulcrum_router::{Command, PENDING_COMMANDS_MAX, owner};
pub use identity::{Adapter, Login, MessagingRights, Password, Principal, Refusal, Role};
pub use message::{Mailbox, Message, ShardHandle};
pub use metrics::{Counter, MetricKind, ShardMetrics};
pub use outbox::Peer;
pub use plane::Settings;
pub use ports::{Busy, LiveConsumer, Registry, Segments, Ticket};
pub use shard::{Shard, ShardParts, Speaks};
pub use stored::JournalKind;
pub use telemetry::shard_of_ticket;
