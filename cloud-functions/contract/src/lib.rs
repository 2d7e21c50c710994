//! The types that cross the wire between edge nodes, cloud functions and applications.
//!
//! One module per conversation. Everything here is data with its serde form and its own validity rules; rules that need
//! a store are in `fulcrum-domain`. JSON member names follow Eclipse Hono's Device Registry Management API where it
//! has one (kebab case), and camel case elsewhere.
//!
//! Secrets: a type that can hold one has a `Debug` that hides it.

pub mod certificates;
pub mod commands;
pub mod enrolment;
pub mod feed;
pub mod ids;
pub mod messaging;
pub mod names;
pub mod paths;
pub mod registry;
pub mod streams;
pub mod sync;

pub use ids::{ApplicationId, AuthId, CommandId, DeviceId, EdgeId, IdError, TenantId};

use serde::{Deserialize, Serialize};

/// Body of every refusal: `{"error": "..."}`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ErrorBody {
    /// What went wrong and what to do about it.
    pub error: String,
}

/// Bytes as a Base64 string in JSON (RFC 4648 section 4, padded).
pub mod base64_bytes {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use serde::{Deserialize, Deserializer, Serializer};

    /// Writes the bytes.
    pub fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(bytes))
    }

    /// Reads the bytes.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        STANDARD.decode(text.as_bytes()).map_err(serde::de::Error::custom)
    }
}
