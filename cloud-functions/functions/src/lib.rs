//! The cloud side's HTTP API as Lambda functions: requests in, [`fulcrum_domain::Cloud`] asked, responses out.
//!
//! | function | paths |
//! |---|---|
//! | [`registry`] | `/v1/tenants`, `/v1/devices`, `/v1/applications` |
//! | [`credentials`] | `/v1/credentials` |
//! | [`enrolment`] | `/v1/edges`, `/v1/enrol` |
//! | [`sync`] | `/v1/sync` |
//! | [`streams`] | `/v1/streams` |
//! | [`commands`] | `/v1/commands` |
//!
//! Each module has one `handle`; the binary of the same name runs it under the Lambda runtime, the local host calls it directly.
//!
//! Invariants:
//! - Every request is answered: a handler has no error of its own, a refusal is a response with `{"error": …}`.
//! - Nothing but the method, the path and the outcome is logged.
//!
//! Deliberately absent: rules (`fulcrum-domain`), CORS, and any state besides [`State`].

pub mod call;
pub mod commands;
pub mod credentials;
pub mod enrolment;
pub mod launch;
pub mod registry;
pub mod reply;
pub mod streams;
pub mod sync;

use fulcrum_domain::Cloud;
use std::time::{SystemTime, UNIX_EPOCH};

/// What a function keeps between invocations.
#[derive(Clone)]
pub struct State {
    /// The rules and the store.
    pub cloud: Cloud,
}

impl State {
    /// State over `cloud`.
    pub fn new(cloud: Cloud) -> State {
        State { cloud }
    }

    /// Milliseconds since the Unix epoch.
    pub(crate) fn now_ms(&self) -> u64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }
}
