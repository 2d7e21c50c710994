//! AMQP 1.0: Hono's device adapter. Logins, links devices upload on, and what becomes of their messages.
//!
//! ```text
//!  bytes ─▶ session ─▶ fulcrum-links ─▶ Event ─▶ upload ─▶ telemetry, stored messages
//!                                         ▲                     │
//!  disposition ◀──────────────────────────┴───── outcome ◀──────┘
//! ```
//!
//! Deliberately not here yet: links applications receive on, commands.

mod session;
mod upload;

pub(crate) use session::Session;
