//! What a client presents, and who it turns out to be.

use crate::rights::MessagingRights;
use fulcrum_contract::registry::Permission;
use fulcrum_contract::{ApplicationId, DeviceId, TenantId};
use std::fmt;
use zeroize::Zeroizing;

/// A protocol adapter, as tenants enable and disable them.
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
    /// Its `type` in a tenant's document.
    pub fn type_name(self) -> &'static str {
        match self {
            Adapter::Mqtt => "hono-mqtt",
            Adapter::Http => "hono-http",
            Adapter::Amqp => "hono-amqp",
        }
    }
}

/// One attempt to authenticate.
#[derive(Debug)]
pub struct Login {
    /// What the client shows.
    pub proof: Proof,
    /// How the client came.
    pub adapter: Adapter,
    /// Milliseconds since the Unix epoch; decides which secrets, certificates and tokens are within their validity.
    pub now_ms: u64,
}

/// What a client shows to prove who it is.
pub enum Proof {
    /// A user name and a password.
    Password {
        /// `{auth-id}@{tenant}` or `{application}@{tenant}`, split at the first `@`; may be empty where a token says it.
        username: String,
        /// As received; UTF-8 by convention, any bytes in fact. May be a JSON Web Token.
        password: Password,
        /// MQTT client id, which may name tenant and auth-id for a token.
        client_id: String,
    },
    /// A certificate whose private key the client has proved to hold.
    Certificate {
        /// DER, the client's own certificate first.
        chain: Vec<Vec<u8>>,
        /// Host name the client asked for (TLS SNI).
        server_name: Option<String>,
    },
}

impl Proof {
    /// A user name and a password from a protocol that has no client id.
    pub fn password(username: &str, password: &[u8]) -> Proof {
        Proof::Password {
            username: username.to_owned(),
            password: Password::new(password),
            client_id: String::new(),
        }
    }
}

impl fmt::Debug for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Proof::Password { username, client_id, .. } => f
                .debug_struct("Password")
                .field("username", username)
                .field("client_id", client_id)
                .finish_non_exhaustive(),
            Proof::Certificate { chain, server_name } => f
                .debug_struct("Certificate")
                .field("certificates", &chain.len())
                .field("server_name", server_name)
                .finish(),
        }
    }
}

/// Who has authenticated, and what goes with it.
#[derive(Clone, PartialEq, Debug)]
pub struct Principal {
    /// The tenant it belongs to.
    pub tenant: TenantId,
    /// Who of that tenant.
    pub peer: Peer,
    /// What it may do at the tenant's messaging addresses; nothing where the adapter knows none.
    pub messaging: MessagingRights,
    /// When the proof it gave is void, in milliseconds since the Unix epoch: its connection ends then.
    pub valid_until_ms: Option<u64>,
    /// Connections the tenant's devices and applications may have at one time (`resource-limits`, `max-connections`).
    /// Whoever has all connections counts them.
    pub connections_max: Option<u64>,
}

/// One of a tenant's peers.
#[derive(Clone, PartialEq, Debug)]
pub enum Peer {
    /// A device or gateway, registered and enabled.
    Device {
        /// Its id.
        device: DeviceId,
        /// Whether any device names it in `via`, or it is a member of a group. `authorise` decides the single case.
        is_gateway: bool,
    },
    /// An application.
    Application {
        /// Its id.
        application: ApplicationId,
        /// What it may do.
        permissions: Vec<Permission>,
    },
}

/// A password on its way to a verify thread: overwritten when dropped, never printed.
pub struct Password(Zeroizing<Vec<u8>>);

impl Password {
    /// Copies the bytes; the original is the caller's to overwrite.
    pub fn new(bytes: &[u8]) -> Self {
        Password(Zeroizing::new(bytes.to_vec()))
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl From<Vec<u8>> for Password {
    fn from(bytes: Vec<u8>) -> Self {
        Password(Zeroizing::new(bytes))
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_do_not_show_in_debug_output() {
        let proof = Proof::password("a@t", b"hunter2");
        let login = Login { proof, adapter: Adapter::Mqtt, now_ms: 0 };
        let shown = format!("{login:?} {:?}", Password::new(b"hunter2"));
        assert!(shown.contains("a@t") && !shown.contains("hunter2"), "{shown}");
        assert!(!shown.contains("104"), "no byte list either: {shown}");
    }
}
