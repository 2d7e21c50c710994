//! Making an edge node known: a one-time token, then the node's own key.
//!
//! 1. An operator creates the edge (`POST /v1/edges/{edge}`) and gets a token, shown once.
//! 2. The node makes a P-256 key and sends the token with its public key (`POST /v1/enrol`); the token is used up.
//! 3. From then on the node signs a short-lived ES256 token for each request (`sub` = edge id, `aud` = [`AUDIENCE`]).

use crate::ids::{EdgeId, TenantId};
use serde::{Deserialize, Serialize};
use std::fmt;

/// Audience of an edge node's tokens.
pub const AUDIENCE: &str = "fulcrum-sync";
/// Longest life of an edge node's token, in seconds.
pub const TOKEN_LIFE_S_MAX: u64 = 600;
/// Clock difference tolerated between edge and cloud, in seconds.
pub const CLOCK_SKEW_S: u64 = 600;

/// Body of `POST /v1/edges/{edge}`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EdgeRequest {
    /// Tenants the edge serves.
    pub tenants: Vec<TenantId>,
}

/// Answer to creating an edge: the only time the token is shown.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EdgeCreated {
    /// The edge's id.
    pub id: EdgeId,
    /// One-time enrolment token.
    pub token: String,
    /// Milliseconds since the Unix epoch after which the token is void.
    pub expires_ms: u64,
}

/// Answer to looking an edge up.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EdgeView {
    /// The edge's id.
    pub id: EdgeId,
    /// Tenants it serves.
    pub tenants: Vec<TenantId>,
    /// Whether it has a key.
    pub enrolled: bool,
    /// Milliseconds since the Unix epoch of its last request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_seen_ms: Option<u64>,
}

/// Body of `POST /v1/enrol`.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EnrolRequest {
    /// The edge's id.
    pub edge: EdgeId,
    /// The one-time token.
    pub token: String,
    /// The node's P-256 public key, PEM (SubjectPublicKeyInfo).
    pub public_key: String,
}

impl fmt::Debug for EnrolRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EnrolRequest").field("edge", &self.edge).finish_non_exhaustive()
    }
}

/// Answer to enrolling.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Enrolled {
    /// The edge's id.
    pub edge: EdgeId,
    /// Tenants it serves.
    pub tenants: Vec<TenantId>,
}

/// Claims of an edge node's token.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct EdgeClaims {
    /// The edge's id.
    pub sub: String,
    /// [`AUDIENCE`].
    pub aud: String,
    /// Seconds since the Unix epoch.
    pub iat: u64,
    /// Seconds since the Unix epoch.
    pub exp: u64,
}
