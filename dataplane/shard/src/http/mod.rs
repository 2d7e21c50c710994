//! HTTP sessions: the device API of Hono's HTTP adapter.
//!
//! Requests may be pipelined: each gets a number, answers are written in the order of the numbers. A request that needs the
//! registry or room in the journal is decoded again when that is there; it stays at the front of the connection's input.
//!
//! Deliberately not here: waiting for a command (`hono-ttd`), CORS preflights, anonymous devices.

mod routes;
mod session;

pub(crate) use session::Session;
