//! AMQP 1.0 connections, sessions and links as state machines without I/O, on top of the codec `fulcrum-amqp`.
//!
//! ```text
//!  bytes in ─▶ Connection::read ─▶ Event          login · session · link · transfer · disposition · flow
//!                    │  ▲
//!  bytes out ◀───────┘  └── accept, refuse, set_credit, send, dispose, settle, detach, end, close
//! ```
//!
//! Both ends are here: a server's and a client's differ in who speaks first and in the login alone.
//!
//! # Drive contract
//! 1. [`Connection::server`] or [`Connection::client`], with the [`Settings`] all connections of a kind share.
//! 2. Keep the unread bytes in one contiguous buffer. Call [`Connection::read`] with them until it takes none; drop what it
//!    took. What an [`Event`] borrows is gone then. All output goes to the end of the buffer given.
//! 3. Act on the event before the next call: a peer has to be answered in order.
//!    - A login: [`Connection::challenge`] or [`Connection::outcome`], now or later; until then `read` takes nothing.
//!    - [`Event::Opened`]: [`Connection::open`] or [`Connection::close`].
//!    - [`Event::LinkAsked`]: [`Connection::accept`] or [`Connection::refuse`], now or later.
//!    - [`Event::Transfer`]: [`Connection::dispose`] when its fate is known, in any order.
//!    - [`Event::Disposition`], then [`Connection::resolve`].
//!    - An event that something is no more, or [`Event::Broken`]: [`Connection::leftovers`].
//! 4. [`Connection::flush`] when the input is worked through; then send the output.
//! 5. [`Connection::handle_timeout`] when [`Connection::next_timeout`] has come.
//! 6. [`Connection::is_over`]: close the socket when the output is sent.
//!
//! # Invariants
//! - A link sends no delivery beyond the receiver's credit, a session no transfer beyond the peer's window, and a peer that
//!   does either is told and ended: its link or its session, not its connection.
//! - What a peer can make this end keep is bounded by [`Settings`]: sessions, links, unsettled deliveries. The bytes of
//!   messages are never kept here.
//! - Every delivery this end sent comes back once with a settled state, or as one of [`Connection::leftovers`].
//! - After this end has detached, ended or closed something, nothing the peer still says of it is seen.
//!
//! # Deliberately not here
//! Who may log in, what an address is, which messages go where, resuming deliveries over links' lives (an attach's unsettled
//! map is in its event), transactions, sockets, clocks, messages put together from their pieces.

mod connection;
mod endpoint;
mod event;
pub mod limits;
mod link;
mod serial;
mod session;
mod settings;
mod unsettled;

pub use connection::{Connection, Step};
pub use endpoint::{Blocked, Delivery, Sent, Terms};
pub use event::{Arrival, Dispositions, Event, Known, LinkRef, Scope, SessionId, Violation};
pub use settings::Settings;
