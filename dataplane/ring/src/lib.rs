//! The io_uring event loop of one core.
//!
//! ```text
//!            accept (multishot)      receive (multishot, shared buffers)     timers      eventfd, messages of other rings
//!                   |                             |                             |                    |
//!                   v                             v                             v                    v
//!   one turn:   Handler::accepted          Handler::received           Handler::timer        Handler::woken
//!                                  \              |                      /
//!                                   Io: output, close, set_timer, write_durable, ring_doorbell, ...
//!                                                 |
//!                                one io_uring_enter: submit everything, wait
//! ```
//!
//! A [`Ring`] is made on its thread, driven by a [`Handler`], and used through [`Io`]. What makes small-message networking cheap is
//! done here once: one system call per turn, one receive operation per connection and not per message, receive buffers shared by all
//! connections, all output of a turn in one send, and under load a short wait for company ([`RingConfig::latency_target`]).
//!
//! Invariants
//! - One send per connection is under way, so bytes keep their order; output is bounded per connection.
//! - A slot is reused after its last completion; every operation carries the slot's generation.
//! - A connection leaves the ring once: by `closed`, or as an owned socket by `detached`, and then the kernel holds nothing of it.
//! - Memory the kernel may use is never freed: on an unclean end it is leaked.
//! - [`Ring::run`] returns Ok only when the kernel holds nothing.
//!
//! Not here: protocols, TLS, connecting out ([`Io::adopt`] takes sockets that are connected), reading files. No locks, no async, no allocation per message.
//!
//! This is the only crate of the project that may use `unsafe`: the kernel shares memory with it. Each block says why it is needed
//! and why it is sound.

mod adaptive;
mod affinity;
mod buffers;
mod closing;
mod config;
mod connections;
mod files;
mod handler;
mod io;
pub mod limits;
mod listener;
mod moving;
pub mod preflight;
mod queue;
mod ring;
mod state;
mod stats;
mod timers;
mod token;
mod transfer;
mod wake;
mod write_buffer;

pub use affinity::pin_thread;
pub use config::{RingConfig, RingError};
pub use connections::{CloseReason, ConnectionId};
pub use files::{FileId, WriteDone, WriteMode};
pub use handler::Handler;
pub use io::{Io, SendOutcome, TimerId};
pub use listener::{ListenerId, accept_on_input, bind_listener};
pub use moving::Detached;
pub use ring::Ring;
pub use stats::RingStats;
pub use wake::{Doorbell, Waker};
pub use write_buffer::WriteBuffer;
