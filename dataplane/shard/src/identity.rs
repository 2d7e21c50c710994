//! Who is on the other end of a connection, as the data plane sees it.

use crate::limits::AUTHORISED_DEVICES_MAX;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

/// Protocol adapter a connection came through, under Hono's names.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Adapter {
    /// MQTT.
    Mqtt,
    /// HTTP.
    Http,
    /// AMQP 1.0.
    Amqp,
}

impl Adapter {
    /// The adapter's type name in messages, metrics and tenant documents.
    pub fn type_name(self) -> &'static str {
        match self {
            Adapter::Mqtt => "hono-mqtt",
            Adapter::Http => "hono-http",
            Adapter::Amqp => "hono-amqp",
        }
    }
}

/// An authenticated peer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Principal {
    /// Its tenant.
    pub tenant: Arc<str>,
    /// Device id or application id.
    pub name: Arc<str>,
    /// Which of the two.
    pub role: Role,
    /// What it may do at the tenant's messaging addresses.
    pub messaging: Arc<MessagingRights>,
    /// When the proof it gave is void, in milliseconds since the Unix epoch: its connection ends then.
    pub valid_until_ms: Option<u64>,
    /// Connections its tenant may have on the node at one time.
    pub connections_max: Option<u64>,
}

impl Principal {
    /// Whether there is nothing for it but the device API.
    pub(crate) fn has_device_api_only(&self) -> bool {
        let MessagingRights { publish, subscribe } = &*self.messaging;
        self.role == Role::Device && publish.is_empty() && subscribe.is_empty()
    }
}

/// Address patterns of a tenant a peer may use: MQTT topic filters relative to the tenant, placeholders filled in.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct MessagingRights {
    /// It may publish to topics these match.
    pub publish: Vec<Box<str>>,
    /// It may subscribe to filters these cover.
    pub subscribe: Vec<Box<str>>,
}

/// Devices a gateway may act for, each with the registry's version when that was said.
#[derive(Default)]
pub(crate) struct Authorised(HashMap<String, u64>);

impl Authorised {
    /// Whether it may, as of this version.
    pub(crate) fn holds(&self, device: &str, version: u64) -> bool {
        self.0.get(device) == Some(&version)
    }

    /// It may. Who acts for more than are remembered is asked about again.
    pub(crate) fn note(&mut self, device: String, version: u64) {
        if self.0.len() >= AUTHORISED_DEVICES_MAX {
            self.0.clear();
        }
        self.0.insert(device, version);
    }
}

/// What a peer shows to prove who it is.
pub enum Login {
    /// User name and password; the password may be a JWT.
    Password {
        /// `{auth-id}@{tenant}`; may be empty where a JWT says it.
        username: String,
        /// The password.
        password: Password,
        /// MQTT client id, which may name tenant and device for a JWT; empty for other protocols.
        client_id: String,
    },
    /// A client certificate whose private key the peer has proved to hold; whether it is trusted is the registry's to say.
    Certificate {
        /// The chain as sent, leaf first, DER.
        chain: Vec<Vec<u8>>,
        /// Host name the client asked for (TLS SNI).
        server_name: Option<String>,
    },
}

/// What a peer is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// Sends its own data, takes its own commands; a gateway acts for other devices too.
    Device,
    /// Consumes its tenant's messages.
    Application {
        /// May subscribe to telemetry and events.
        may_consume: bool,
    },
}

/// Why a peer is refused, with the words each protocol has for it (Hono, device adapters).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Refusal {
    /// Unknown tenant or credentials, wrong or expired secret.
    BadCredentials,
    /// Tenant or adapter disabled, or the peer may not do this.
    Forbidden,
    /// The device is disabled or not registered.
    NotFound,
    /// The registry could not answer in time.
    Unavailable,
}

impl Refusal {
    /// HTTP status.
    pub fn http_status(self) -> u16 {
        match self {
            Refusal::BadCredentials => 401,
            Refusal::Forbidden => 403,
            Refusal::NotFound => 404,
            Refusal::Unavailable => 503,
        }
    }

    /// Text for the error body.
    pub fn text(self) -> &'static str {
        match self {
            Refusal::BadCredentials => {
                "credentials are not valid: check user name (auth-id@tenant) and password"
            }
            Refusal::Forbidden => {
                "not allowed: the tenant or adapter is disabled, or the device is not yours to act for"
            }
            Refusal::NotFound => "the device is not registered or is disabled",
            Refusal::Unavailable => "the registry is busy; try again",
        }
    }

    /// Name in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Refusal::BadCredentials => "bad_credentials",
            Refusal::Forbidden => "forbidden",
            Refusal::NotFound => "not_found",
            Refusal::Unavailable => "unavailable",
        }
    }
}

/// A password on its way to be verified: overwritten when dropped, never shown.
pub struct Password(Vec<u8>);

impl Password {
    /// Copies `bytes`.
    pub fn new(bytes: &[u8]) -> Password {
        Password(bytes.to_vec())
    }

    /// The bytes, for the verifier.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(hidden)")
    }
}

impl Drop for Password {
    fn drop(&mut self) {
        self.0.fill(0);
        std::hint::black_box(&self.0);
    }
}
