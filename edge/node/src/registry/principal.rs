//! A peer as the replica knows it, put as the shards want it; and whether one that is connected is still what it was.

use fulcrum_contract::registry::Permission;
use fulcrum_contract::{ApplicationId, DeviceId, TenantId};
use fulcrum_identity::{Identity, IdentityError, Peer};
use fulcrum_shard::{MessagingRights, Principal, Role};
use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// The shards' form of an authenticated peer.
pub fn shard_principal(principal: fulcrum_identity::Principal) -> Principal {
    let (name, role) = match principal.peer {
        Peer::Device { device, .. } => (device.as_str().into(), Role::Device),
        Peer::Application { application, permissions } => (
            application.as_str().into(),
            Role::Application { may_consume: permissions.contains(&Permission::Consume) },
        ),
    };
    Principal {
        tenant: principal.tenant.as_str().into(),
        name,
        role,
        messaging: shared(shard_rights(principal.messaging)),
        valid_until_ms: principal.valid_until_ms,
        connections_max: principal.connections_max,
    }
}

/// Whether the tenant's document grants the peer what it was granted when it connected, no less and no more. A peer for
/// whom that has changed connects anew. What cannot be read takes nothing from anybody.
pub fn has_its_rights(identity: &Identity, principal: &Principal) -> bool {
    match rights_now(identity, principal) {
        Ok(rights) => rights.is_some_and(|rights| shard_rights(rights) == *principal.messaging),
        Err(_) => true,
    }
}

fn rights_now(
    identity: &Identity,
    principal: &Principal,
) -> Result<Option<fulcrum_identity::MessagingRights>, IdentityError> {
    use fulcrum_identity::MessagingRights as Rights;
    let Ok(tenant_id) = TenantId::parse(&principal.tenant) else { return Ok(None) };
    let Some(tenant) = identity.tenant(&tenant_id)? else { return Ok(None) };
    match principal.role {
        Role::Device => {
            let device = DeviceId::parse(&principal.name).ok();
            Ok(device.map(|device| Rights::of_device(&tenant, &device)))
        }
        Role::Application { .. } => {
            let Ok(id) = ApplicationId::parse(&principal.name) else { return Ok(None) };
            let application = identity.application(&tenant_id, &id)?;
            Ok(application.map(|document| Rights::of_application(&tenant, &document.permissions)))
        }
    }
}

fn shard_rights(rights: fulcrum_identity::MessagingRights) -> MessagingRights {
    let boxed = |patterns: Vec<String>| patterns.into_iter().map(String::into_boxed_str).collect();
    MessagingRights { publish: boxed(rights.publish), subscribe: boxed(rights.subscribe) }
}

/// Rights that somebody connected has. Most devices of a tenant have the same ones, and a node may have a hundred
/// thousand connected: they share one list.
static IN_USE: Mutex<Option<InUse>> = Mutex::new(None);

/// Fewest entries among which it is worth looking for those nobody has any more.
const SWEEP_ENTRIES_MIN: usize = 64;

#[derive(Default)]
struct InUse {
    state: RandomState,
    by_hash: HashMap<u64, Weak<MessagingRights>>,
    sweep_at: usize,
}

fn shared(rights: MessagingRights) -> Arc<MessagingRights> {
    // Every entry is whole at every point where a panic could leave the map.
    let mut in_use = IN_USE.lock().unwrap_or_else(PoisonError::into_inner);
    in_use.get_or_insert_default().share(rights)
}

impl InUse {
    fn share(&mut self, rights: MessagingRights) -> Arc<MessagingRights> {
        let hash = self.state.hash_one((&rights.publish, &rights.subscribe));
        let known = self.by_hash.get(&hash).and_then(Weak::upgrade);
        if let Some(known) = known.filter(|known| **known == rights) {
            return known;
        }
        if self.by_hash.len() >= self.sweep_at.max(SWEEP_ENTRIES_MIN) {
            self.by_hash.retain(|_, rights| rights.strong_count() > 0);
            self.sweep_at = self.by_hash.len() * 2;
        }
        let rights = Arc::new(rights);
        self.by_hash.insert(hash, Arc::downgrade(&rights));
        rights
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fulcrum_contract::feed::{Change, ChangePage, Entity};
    use fulcrum_contract::messaging::{Messaging, MessagingAddress};
    use fulcrum_contract::registry::{Application, Device, Tenant};

    fn rights(pattern: &str) -> MessagingRights {
        MessagingRights { publish: vec![pattern.into()], subscribe: Vec::new() }
    }

    #[test]
    fn equal_rights_are_one_list_and_those_nobody_has_are_forgotten() {
        let mut in_use = InUse::default();
        let first = in_use.share(rights("site/#"));
        assert!(Arc::ptr_eq(&first, &in_use.share(rights("site/#"))));
        assert!(!Arc::ptr_eq(&first, &in_use.share(rights("other/#"))));
        for number in 0..10_000 {
            in_use.share(rights(&number.to_string()));
            assert!(in_use.by_hash.len() <= SWEEP_ENTRIES_MIN);
        }
        assert!(Arc::ptr_eq(&first, &in_use.share(rights("site/#"))), "still in use");
    }

    struct World {
        _folder: tempfile::TempDir,
        identity: Identity,
        cursor: u64,
    }

    impl World {
        fn new() -> World {
            let folder = tempfile::tempdir().unwrap();
            let identity = Identity::open(&folder.path().join("identity.redb")).unwrap();
            World { _folder: folder, identity, cursor: 0 }
        }

        fn apply(&mut self, entity: Entity) {
            self.cursor += 1;
            let changes = vec![Change { version: self.cursor, entity }];
            let page = ChangePage { feed: "f".into(), changes, cursor: self.cursor, more: false };
            self.identity.apply(&page).unwrap();
        }

        fn tenant(&mut self, patterns: &[&str]) {
            let addresses = patterns.iter().map(|one| MessagingAddress::multicast(one)).collect();
            let document = Tenant { messaging: Some(Messaging { addresses }), ..Tenant::default() };
            self.apply(Entity::Tenant { tenant: tenant(), document: Some(document) });
        }

        fn application(&mut self, permissions: &[Permission]) {
            let permissions = permissions.to_vec();
            let document = Application { enabled: true, permissions, password_sha256: None };
            let application = ApplicationId::parse("app").unwrap();
            self.apply(Entity::Application {
                tenant: tenant(),
                application,
                document: Some(document),
            });
        }
    }

    fn tenant() -> TenantId {
        TenantId::parse("t").unwrap()
    }

    fn connected(peer: Peer, publish: &[&str], subscribe: &[&str]) -> Principal {
        let owned = |patterns: &[&str]| patterns.iter().map(|&one| one.to_owned()).collect();
        shard_principal(fulcrum_identity::Principal {
            tenant: tenant(),
            peer,
            messaging: fulcrum_identity::MessagingRights {
                publish: owned(publish),
                subscribe: owned(subscribe),
            },
            valid_until_ms: Some(7),
            connections_max: Some(3),
        })
    }

    #[test]
    fn a_peer_reaches_the_shard_whole() {
        let peer = Peer::Device { device: DeviceId::parse("d").unwrap(), is_gateway: false };
        let principal = connected(peer, &["a"], &["b"]);
        assert_eq!((&*principal.tenant, &*principal.name), ("t", "d"));
        assert_eq!(principal.role, Role::Device);
        assert_eq!(principal.messaging.publish, ["a".into()]);
        assert_eq!(principal.messaging.subscribe, ["b".into()]);
        assert_eq!((principal.valid_until_ms, principal.connections_max), (Some(7), Some(3)));
    }

    #[test]
    fn changed_addresses_are_noticed_for_a_connected_device() {
        let mut world = World::new();
        let device = DeviceId::parse("d").unwrap();
        world.tenant(&["site/#", "own/{device}"]);
        world.apply(Entity::Device {
            tenant: tenant(),
            device: device.clone(),
            document: Some(Device::default()),
        });
        let all = ["site/#", "own/d"];
        let principal = connected(Peer::Device { device, is_gateway: false }, &all, &all);
        assert!(has_its_rights(&world.identity, &principal));
        world.tenant(&["site/#"]);
        assert!(!has_its_rights(&world.identity, &principal), "an address has gone");
        world.tenant(&["site/#", "own/{device}", "new/#"]);
        assert!(!has_its_rights(&world.identity, &principal), "an address has come");
        world.tenant(&["site/#", "own/{device}"]);
        assert!(has_its_rights(&world.identity, &principal));
        world.apply(Entity::Tenant { tenant: tenant(), document: None });
        assert!(!has_its_rights(&world.identity, &principal));
    }

    #[test]
    fn changed_permissions_are_noticed_for_a_connected_application() {
        let mut world = World::new();
        world.tenant(&["site/#"]);
        world.application(&[Permission::Consume]);
        let application = ApplicationId::parse("app").unwrap();
        let peer = Peer::Application { application, permissions: vec![Permission::Consume] };
        let principal = connected(peer, &[], &["site/#"]);
        assert!(has_its_rights(&world.identity, &principal));
        world.application(&[Permission::Consume, Permission::Publish]);
        assert!(!has_its_rights(&world.identity, &principal));
        world.application(&[Permission::Publish]);
        assert!(!has_its_rights(&world.identity, &principal));
    }
}
