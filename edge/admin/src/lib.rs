//! Metrics, health and a status report of one node over HTTP/1.1, for whoever is on the machine.
//!
//! | path | answer |
//! |---|---|
//! | `/started` | 200 once every component has been up, 503 before |
//! | `/readiness` | 200 while no component is starting or failed; a degraded one is named and does its work |
//! | `/liveness` | 200 while no component has failed: 503 asks for a restart |
//! | `/metrics` | Prometheus text format 0.0.4 |
//! | `/status` | JSON from the node |
//!
//! Invariants:
//! - Everything is read-only: no request changes anything.
//! - Connections, header sizes, and the time a connection may take are bounded ([`server`]); a client that floods or
//!   stalls delays other clients of this endpoint by seconds at most, and the node not at all.
//! - It runs on one thread beside other tasks, so sources and the status closure must answer from memory.
//!
//! Deliberately not here: TLS and authentication. The listener is the node's to bind, to loopback unless an operator says
//! otherwise; what is shown holds no secrets.

mod health;
mod metrics;
mod routes;
pub mod server;

pub use health::{Health, State};
pub use metrics::{Histogram, MetricsSource, MetricsText};
pub use server::{AdminConfig, AdminError, serve};
