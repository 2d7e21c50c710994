//! Paths of the cloud side's HTTP API, in one place for its clients.

/// Tenants: `/v1/tenants/{tenant}`.
pub const TENANTS: &str = "/v1/tenants";
/// Devices: `/v1/devices/{tenant}/{device}`.
pub const DEVICES: &str = "/v1/devices";
/// Credentials: `/v1/credentials/{tenant}/{device}`.
pub const CREDENTIALS: &str = "/v1/credentials";
/// Applications: `/v1/applications/{tenant}/{application}`.
pub const APPLICATIONS: &str = "/v1/applications";
/// Edge nodes: `/v1/edges/{edge}`.
pub const EDGES: &str = "/v1/edges";
/// Enrolment of an edge node.
pub const ENROL: &str = "/v1/enrol";
/// Streams: `/v1/streams/{tenant}/records`, `/v1/streams/{tenant}/groups/{group}/commit`.
pub const STREAMS: &str = "/v1/streams";
/// Commands: `/v1/commands/{tenant}/{device}`, `/v1/commands/{tenant}/{device}/{command}?wait={seconds}`.
pub const COMMANDS: &str = "/v1/commands";
/// Sync: `/v1/sync/{edge}/marks`, `/batches`, `/changes`, `/presence`.
pub const SYNC: &str = "/v1/sync";
/// Liveness of the host.
pub const HEALTH: &str = "/healthz";
