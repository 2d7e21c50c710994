//! Identifiers: parsed once at the border, then carried as types.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;

/// Longest identifier in bytes; keeps a frame's head and a store's keys small.
pub const ID_BYTES_MAX: usize = 255;

/// Why a text is not an identifier.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{what} '{text}' is not valid: use 1 to {ID_BYTES_MAX} characters of {allowed}")]
pub struct IdError {
    what: &'static str,
    text: String,
    allowed: &'static str,
}

macro_rules! identifier {
    ($(#[$doc:meta])* $name:ident, $what:literal, $allowed:literal, $extra:pat) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            /// Parses `text`.
            pub fn parse(text: &str) -> Result<Self, IdError> {
                let valid = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, $extra);
                if text.is_empty() || text.len() > ID_BYTES_MAX || !text.bytes().all(valid) {
                    let text = text.chars().take(64).collect();
                    return Err(IdError { what: $what, text, allowed: $allowed });
                }
                Ok(Self(text.into()))
            }

            /// The identifier's text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", &self.0)
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdError;
            fn try_from(text: String) -> Result<Self, IdError> {
                Self::parse(&text)
            }
        }

        impl std::str::FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                Self::parse(text)
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0.as_ref().to_owned()
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }
    };
}

identifier!(
    /// A tenant: the unit of isolation. Pattern of the Device Registry Management API.
    TenantId, "tenant id", "letters, digits, '-', '_' and '.'", b'-' | b'_' | b'.'
);
identifier!(
    /// A device or gateway within a tenant. Pattern of the Device Registry Management API.
    DeviceId, "device id", "letters, digits, '-', '_', '.', ':' and '='", b'-' | b'_' | b'.' | b':' | b'='
);
identifier!(
    /// The name a device authenticates with.
    AuthId, "auth-id", "letters, digits, '-', '_', '=' and '.'", b'-' | b'_' | b'=' | b'.'
);
identifier!(
    /// An application of a tenant: it consumes streams and sends commands.
    ApplicationId, "application id", "letters, digits, '-', '_' and '.'", b'-' | b'_' | b'.'
);
identifier!(
    /// An edge node.
    EdgeId, "edge id", "letters, digits, '-', '_' and '.'", b'-' | b'_' | b'.'
);
identifier!(
    /// A command, given by the application or made by the cloud side.
    CommandId, "command id", "letters, digits, '-', '_' and '.'", b'-' | b'_' | b'.'
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_patterns_of_the_registry_api_hold() {
        assert!(TenantId::parse("DEFAULT_TENANT.x-1").is_ok());
        assert!(TenantId::parse("a:b").is_err());
        assert!(DeviceId::parse("urn:dev=1").is_ok());
        assert!(DeviceId::parse("a/b").is_err());
        assert!(AuthId::parse("sensor1@x").is_err());
        assert!(TenantId::parse("").is_err());
    }

    #[test]
    fn length_is_limited_on_both_sides() {
        assert!(DeviceId::parse(&"d".repeat(ID_BYTES_MAX)).is_ok());
        assert!(DeviceId::parse(&"d".repeat(ID_BYTES_MAX + 1)).is_err());
    }
}
