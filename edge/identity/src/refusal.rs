//! Why a login or a request is refused, and how each protocol says so (Hono's tables for the HTTP and MQTT adapters).

/// A refusal. Each protocol's answer follows from it alone.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, thiserror::Error)]
pub enum Refusal {
    /// Unknown tenant or user, wrong password, credentials disabled or outside their validity: not told apart.
    #[error("the credentials are not valid")]
    BadCredentials,
    /// The tenant was deleted while one of its devices was connected.
    #[error("the tenant is not known")]
    TenantUnknown,
    /// The tenant is disabled.
    #[error("the tenant is disabled")]
    TenantDisabled,
    /// The tenant does not allow this protocol.
    #[error("the protocol adapter is disabled for the tenant")]
    AdapterDisabled,
    /// The device is not registered.
    #[error("the device is not registered")]
    DeviceUnknown,
    /// The device is disabled.
    #[error("the device is disabled")]
    DeviceDisabled,
    /// The gateway is missing, disabled, or neither in the device's `via` nor in one of its `viaGroups`.
    #[error("the gateway may not act for the device")]
    GatewayNotAuthorised,
    /// Nobody could decide just now: too many logins are waiting, or the store failed.
    #[error("authentication is not available at the moment")]
    Unavailable,
}

impl Refusal {
    /// Every refusal, for metrics that want a series for each.
    pub const ALL: [Refusal; 8] = [
        Refusal::BadCredentials,
        Refusal::TenantUnknown,
        Refusal::TenantDisabled,
        Refusal::AdapterDisabled,
        Refusal::DeviceUnknown,
        Refusal::DeviceDisabled,
        Refusal::GatewayNotAuthorised,
        Refusal::Unavailable,
    ];

    /// HTTP status.
    pub fn http_status(self) -> u16 {
        match self {
            Refusal::BadCredentials => 401,
            Refusal::TenantDisabled | Refusal::AdapterDisabled | Refusal::GatewayNotAuthorised => {
                403
            }
            Refusal::TenantUnknown | Refusal::DeviceUnknown | Refusal::DeviceDisabled => 404,
            Refusal::Unavailable => 503,
        }
    }

    /// CONNACK return code of MQTT 3.1.1 (section 3.2.2.3).
    pub fn mqtt_connack_code(self) -> u8 {
        match self {
            Refusal::BadCredentials => 0x04,
            Refusal::Unavailable => 0x03,
            _ => 0x05,
        }
    }

    /// CONNACK reason code of MQTT 5 (section 3.2.2.2).
    pub fn mqtt5_reason_code(self) -> u8 {
        match self {
            Refusal::BadCredentials => 0x86,
            Refusal::Unavailable => 0x88,
            _ => 0x87,
        }
    }

    /// A short name for logs and metrics' labels.
    pub fn name(self) -> &'static str {
        match self {
            Refusal::BadCredentials => "bad-credentials",
            Refusal::TenantUnknown => "tenant-unknown",
            Refusal::TenantDisabled => "tenant-disabled",
            Refusal::AdapterDisabled => "adapter-disabled",
            Refusal::DeviceUnknown => "device-unknown",
            Refusal::DeviceDisabled => "device-disabled",
            Refusal::GatewayNotAuthorised => "gateway-not-authorised",
            Refusal::Unavailable => "unavailable",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_follow_the_tables_of_the_device_apis() {
        let rows = [
            (Refusal::BadCredentials, 401, 0x04, 0x86),
            (Refusal::TenantUnknown, 404, 0x05, 0x87),
            (Refusal::TenantDisabled, 403, 0x05, 0x87),
            (Refusal::AdapterDisabled, 403, 0x05, 0x87),
            (Refusal::DeviceUnknown, 404, 0x05, 0x87),
            (Refusal::DeviceDisabled, 404, 0x05, 0x87),
            (Refusal::GatewayNotAuthorised, 403, 0x05, 0x87),
            (Refusal::Unavailable, 503, 0x03, 0x88),
        ];
        assert_eq!(rows.map(|row| row.0), Refusal::ALL);
        for (refusal, http, mqtt, mqtt5) in rows {
            assert_eq!(refusal.http_status(), http, "{refusal:?}");
            assert_eq!(refusal.mqtt_connack_code(), mqtt, "{refusal:?}");
            assert_eq!(refusal.mqtt5_reason_code(), mqtt5, "{refusal:?}");
        }
    }
}
