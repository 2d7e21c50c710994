//! What a peer may do at its tenant's messaging addresses.
//!
//! - Devices: what each address grants to devices, with their own id in place of `{device}`. A gateway is a device here:
//!   it has the rights of its own id and of no other.
//! - Applications: `publish` to publish, `consume` to subscribe, at every address; the placeholder is `+` to them.
//!
//! An address that cannot be declared (its document came from a newer registry, or by hand) is left out, never widened.
//! Patterns are given, not matched: that is the data plane's work.

use fulcrum_contract::DeviceId;
use fulcrum_contract::messaging::{ADDRESSES_MAX, MessagingAddress};
use fulcrum_contract::registry::{Permission, Tenant};

/// Address patterns a peer may use: MQTT topic filters relative to its tenant, placeholders filled in, in the order of
/// the tenant's document.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct MessagingRights {
    /// It may publish to topics these match.
    pub publish: Vec<String>,
    /// It may subscribe to filters these cover.
    pub subscribe: Vec<String>,
}

impl MessagingRights {
    /// Those of a device.
    pub fn of_device(tenant: &Tenant, device: &DeviceId) -> MessagingRights {
        let mut rights = MessagingRights::default();
        for address in usable(tenant) {
            let pattern = address.pattern_for(device.as_str());
            if address.devices.may_publish() {
                rights.publish.push(pattern.clone());
            }
            if address.devices.may_subscribe() {
                rights.subscribe.push(pattern);
            }
        }
        rights
    }

    /// Those of an application with these permissions.
    pub fn of_application(tenant: &Tenant, permissions: &[Permission]) -> MessagingRights {
        let patterns = || usable(tenant).map(|address| address.pattern_for("+")).collect();
        let if_permitted = |permission| match permissions.contains(&permission) {
            true => patterns(),
            false => Vec::new(),
        };
        MessagingRights {
            publish: if_permitted(Permission::Publish),
            subscribe: if_permitted(Permission::Consume),
        }
    }
}

fn usable(tenant: &Tenant) -> impl Iterator<Item = &MessagingAddress> {
    let addresses = tenant.messaging.iter().flat_map(|messaging| &messaging.addresses);
    addresses.take(ADDRESSES_MAX).filter(|address| match address.check() {
        Ok(()) => true,
        Err(error) => {
            tracing::debug!(%error, "a messaging address is left out");
            false
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tenant(messaging: &str) -> Tenant {
        Tenant { messaging: Some(serde_json::from_str(messaging).unwrap()), ..Tenant::default() }
    }

    const ADDRESSES: &str = r##"{"addresses": [
        {"pattern": "site/#", "type": "multicast"},
        {"pattern": "own/{device}/+", "type": "multicast", "devices": "publish"},
        {"pattern": "orders/{device}", "type": "multicast", "devices": "subscribe"},
        {"pattern": "back-office/#", "type": "multicast", "devices": "none"}]}"##;

    #[test]
    fn a_device_has_what_each_address_grants_with_its_own_id_alone() {
        let rights =
            MessagingRights::of_device(&tenant(ADDRESSES), &DeviceId::parse("d:1").unwrap());
        assert_eq!(rights.publish, ["site/#", "own/d:1/+"]);
        assert_eq!(rights.subscribe, ["site/#", "orders/d:1"]);
    }

    #[test]
    fn an_application_has_every_address_as_far_as_its_permissions_go() {
        let all = ["site/#", "own/+/+", "orders/+", "back-office/#"];
        let of = |permissions: &[Permission]| {
            MessagingRights::of_application(&tenant(ADDRESSES), permissions)
        };
        let rights = of(&[Permission::Publish]);
        assert_eq!((rights.publish, rights.subscribe), (all.map(str::to_owned).to_vec(), vec![]));
        let rights = of(&[Permission::Consume]);
        assert_eq!((rights.publish, rights.subscribe), (vec![], all.map(str::to_owned).to_vec()));
        assert_eq!(of(&[Permission::Command]), MessagingRights::default());
    }

    #[test]
    fn an_address_that_cannot_be_declared_grants_nothing() {
        let odd = r##"{"addresses": [{"pattern": "a/#/b", "type": "multicast"},
            {"pattern": "t/#", "type": "multicast"}, {"pattern": "$SYS/#", "type": "multicast"},
            {"pattern": "q", "type": "queue"}, {"pattern": "good", "type": "multicast"}]}"##;
        let device = DeviceId::parse("d").unwrap();
        assert_eq!(MessagingRights::of_device(&tenant(odd), &device).publish, ["good"]);
        assert_eq!(MessagingRights::of_device(&Tenant::default(), &device), Default::default());
    }
}
