//! Tenants, devices, credentials (Hono's Device Registry Management API 1.13) and applications.

use crate::IdError;
use crate::certificates::TrustAnchor;
use crate::ids::{AuthId, DeviceId};
use crate::messaging::Messaging;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::fmt;

pub(crate) fn yes() -> bool {
    true
}

pub(crate) fn is_true(value: &bool) -> bool {
    *value
}

/// Member of `resource-limits`: concurrent connections, -1 for any number.
pub const MAX_CONNECTIONS: &str = "max-connections";

/// Free-form JSON members.
pub type Extension = Map<String, Value>;

/// A tenant's document. Unknown members are refused; `ext` is the free-form area.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Tenant {
    /// Whether the tenant's devices may connect. Default true.
    #[serde(default = "yes")]
    pub enabled: bool,
    /// Another name for the tenant (a DNS label).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alias: Option<String>,
    /// If present, adapters not listed are off; if absent, all are on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adapters: Option<Vec<Adapter>>,
    /// Message properties used where a device gives none.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub defaults: Extension,
    /// Free-form.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub ext: Extension,
    /// Bytes to which payload sizes are rounded up in accounting.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub minimum_message_size: Option<u32>,
    /// Limits on connections, volume and time to live.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource_limits: Option<Extension>,
    /// Limits on devices and credentials.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registration_limits: Option<Extension>,
    /// Trace sampling.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tracing: Option<Extension>,
    /// Group of tenants that may share trust anchors.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trust_anchor_group: Option<String>,
    /// Trust anchors.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trusted_ca: Option<Vec<TrustAnchor>>,
    /// Topics beside the device API's that devices and applications may use among themselves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub messaging: Option<Messaging>,
}

impl Default for Tenant {
    fn default() -> Self {
        Tenant {
            enabled: true,
            alias: None,
            adapters: None,
            defaults: Map::new(),
            ext: Map::new(),
            minimum_message_size: None,
            resource_limits: None,
            registration_limits: None,
            tracing: None,
            trust_anchor_group: None,
            trusted_ca: None,
            messaging: None,
        }
    }
}

impl Tenant {
    /// Whether the adapter `adapter_type` (`hono-mqtt`, `hono-http`) may be used.
    pub fn adapter_enabled(&self, adapter_type: &str) -> bool {
        match &self.adapters {
            None => true,
            Some(adapters) => adapters
                .iter()
                .any(|adapter| adapter.adapter_type == adapter_type && adapter.enabled),
        }
    }

    /// Connections its devices and applications may have at one time; none is no limit (Hono's -1).
    pub fn connections_max(&self) -> Option<u64> {
        self.resource_limits.as_ref()?.get(MAX_CONNECTIONS)?.as_u64()
    }
}

/// One protocol adapter's setting within a tenant.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Adapter {
    /// `hono-mqtt`, `hono-http`, ...
    #[serde(rename = "type")]
    pub adapter_type: String,
    /// Default false, as in Hono.
    #[serde(default)]
    pub enabled: bool,
    /// Default true.
    #[serde(default = "yes")]
    pub device_authentication_required: bool,
    /// Free-form, for example `max-ttd`.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub ext: Extension,
}

/// A device's document.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Device {
    /// Whether the device may send and receive. Default true.
    #[serde(default = "yes")]
    pub enabled: bool,
    /// Message properties used where the device gives none.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub defaults: Extension,
    /// Gateways that may act for the device.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub via: Vec<DeviceId>,
    /// Gateway groups that may act for the device.
    #[serde(default, rename = "viaGroups", skip_serializing_if = "Vec::is_empty")]
    pub via_groups: Vec<String>,
    /// Gateway groups this gateway belongs to.
    #[serde(default, rename = "memberOf", skip_serializing_if = "Vec::is_empty")]
    pub member_of: Vec<String>,
    /// What a gateway may do beyond sending.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub authorities: Vec<String>,
    /// Name of a mapper for messages from the device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub downstream_message_mapper: Option<String>,
    /// Name of a mapper for messages to the device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upstream_message_mapper: Option<String>,
    /// HTTP endpoint that takes the device's commands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command_endpoint: Option<Extension>,
    /// Free-form.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub ext: Extension,
    /// Set by the registry; what a client sends here is ignored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<Extension>,
}

impl Default for Device {
    fn default() -> Self {
        Device {
            enabled: true,
            defaults: Map::new(),
            via: Vec::new(),
            via_groups: Vec::new(),
            member_of: Vec::new(),
            authorities: Vec::new(),
            downstream_message_mapper: None,
            upstream_message_mapper: None,
            command_endpoint: None,
            ext: Map::new(),
            status: None,
        }
    }
}

/// Kinds of credentials.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CredentialType {
    /// User name and password.
    HashedPassword,
    /// Pre-shared key.
    Psk,
    /// Client certificate.
    X509Cert,
    /// Raw public key.
    Rpk,
}

/// One credential of a device.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Credential {
    /// Its kind.
    #[serde(rename = "type")]
    pub credential_type: CredentialType,
    /// The name the device authenticates with.
    pub auth_id: String,
    /// Default true.
    #[serde(default = "yes", skip_serializing_if = "is_true")]
    pub enabled: bool,
    /// Free-form.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub ext: Extension,
    /// Any one within its validity suffices.
    #[serde(default)]
    pub secrets: Vec<Secret>,
}

impl Credential {
    /// The auth-id, checked against its pattern (not applicable to subject DNs).
    pub fn parsed_auth_id(&self) -> Result<AuthId, IdError> {
        AuthId::parse(&self.auth_id)
    }
}

/// One secret of a credential. `Debug` shows no private member.
#[derive(Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Secret {
    /// Given by the registry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// `None` means enabled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// ISO 8601.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_before: Option<String>,
    /// ISO 8601.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_after: Option<String>,
    /// Free text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// Plain password; only ever on its way in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pwd_plain: Option<String>,
    /// `bcrypt`, `sha-256` (default) or `sha-512`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hash_function: Option<String>,
    /// Hash of the password: Base64 for SHA-2, the `$2a$…` text for bcrypt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pwd_hash: Option<String>,
    /// Base64 salt in front of the password for SHA-2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub salt: Option<String>,
    /// Base64 key of `psk` and `rpk`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Algorithm of `rpk`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub algorithm: Option<String>,
    /// Base64 DER certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cert: Option<String>,
}

impl Secret {
    /// The secret without its private members, as a client may see it.
    pub fn redacted(&self) -> Secret {
        Secret { pwd_plain: None, pwd_hash: None, salt: None, key: None, ..self.clone() }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secret")
            .field("id", &self.id)
            .field("enabled", &self.enabled)
            .field("not_before", &self.not_before)
            .field("not_after", &self.not_after)
            .field("hash_function", &self.hash_function)
            .finish_non_exhaustive()
    }
}

/// What an application may do within its tenant.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Permission {
    /// Read telemetry and events; subscribe to messaging addresses.
    Consume,
    /// Publish to messaging addresses.
    Publish,
    /// Send commands and read their responses.
    Command,
}

/// An application of a tenant, as edge nodes and the cloud side know it.
///
/// It authenticates with `{application}@{tenant}` and a password made by the registry: 256 random bits, so one round
/// of SHA-256 is all the hashing it needs.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Application {
    /// Default true.
    #[serde(default = "yes")]
    pub enabled: bool,
    /// Default: all.
    #[serde(default = "Application::all_permissions")]
    pub permissions: Vec<Permission>,
    /// Base64 SHA-256 of the password; never shown by the API.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password_sha256: Option<String>,
}

impl Application {
    /// Every permission there is.
    pub fn all_permissions() -> Vec<Permission> {
        vec![Permission::Consume, Permission::Publish, Permission::Command]
    }

    /// Whether it holds `permission`.
    pub fn may(&self, permission: Permission) -> bool {
        self.enabled && self.permissions.contains(&permission)
    }
}

impl fmt::Debug for Application {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Application")
            .field("enabled", &self.enabled)
            .field("permissions", &self.permissions)
            .finish_non_exhaustive()
    }
}

/// Answer to creating an application: the only time its password is shown.
#[derive(Clone, Serialize, Deserialize)]
pub struct ApplicationCreated {
    /// The application's id.
    pub id: String,
    /// User name for Basic authentication and MQTT: `{application}@{tenant}`.
    pub username: String,
    /// Its password.
    pub password: String,
}

/// Answer to creating a tenant or device.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Created {
    /// The given or generated id.
    pub id: String,
}
