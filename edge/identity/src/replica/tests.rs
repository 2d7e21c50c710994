//! The store across its layouts.

use super::*;
use crate::tables::GROUPED;
use fulcrum_contract::feed::{Change, ChangePage, Entity};
use fulcrum_contract::registry::CredentialType;

#[test]
fn a_store_of_the_older_layout_is_indexed_when_it_is_opened() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("identity.redb");
    let identity = Identity::open(&path).unwrap();
    let document = r#"{"alias": "a", "trusted-ca": [{"subject-dn": "cn=ca", "public-key": ""}]}"#;
    let set = r#"[{"type": "rpk", "auth-id": "k"}, {"type": "x509-cert", "auth-id": "cn=d, o=x"},
        {"type": "hashed-password", "auth-id": "p"}]"#;
    let (tenant, device) = (TenantId::parse("t").unwrap(), DeviceId::parse("d").unwrap());
    let changes = vec![
        Change {
            version: 1,
            entity: Entity::Tenant {
                tenant: tenant.clone(),
                document: Some(serde_json::from_str(document).unwrap()),
            },
        },
        Change {
            version: 2,
            entity: Entity::Credentials {
                tenant: tenant.clone(),
                device: device.clone(),
                document: Some(serde_json::from_str(set).unwrap()),
            },
        },
        Change {
            version: 3,
            entity: Entity::Device {
                tenant,
                device,
                document: Some(
                    serde_json::from_str(r#"{"memberOf": ["g"], "viaGroups": ["h"]}"#).unwrap(),
                ),
            },
        },
    ];
    let page = ChangePage { feed: "f".into(), changes, cursor: 3, more: false };
    identity.apply(&page).unwrap();
    let make_older = |transaction: &WriteTransaction| {
        transaction.delete_table(GROUPED)?;
        transaction.delete_table(KEY_NAMES)?;
        transaction.delete_table(SUBJECTS)?;
        transaction.delete_table(ANCHORS)?;
        transaction.delete_table(ALIASES)?;
        transaction.delete_table(MEMBERS)?;
        let mut numbers = transaction.open_table(NUMBERS)?;
        numbers.insert(FORMAT_KEY, FORMAT_WITH_FEWER_INDEXES)?;
        Ok(())
    };
    identity.inner.write(make_older).unwrap();
    drop(identity);

    for _ in 0..2 {
        let identity = Identity::open(&path).unwrap();
        let look = |view: &View| {
            assert_eq!(view.tenants_of_anchor("CN=ca")?, ["t"]);
            assert_eq!(view.tenant_named("a")?.as_deref(), Some("t"));
            let (device, set) = view.key_credentials("t", "k")?.unwrap();
            assert_eq!((device.as_str(), set[0].credential_type), ("d", CredentialType::Rpk));
            assert!(view.certificate_credentials("t", "CN=d,O=x")?.is_some());
            assert!(view.password_credentials("t", "p")?.is_some());
            assert_eq!(view.members("t", "g", 9)?, ["d"]);
            assert!(view.0.open_table(GROUPED)?.get(("t", "h", "d"))?.is_some());
            Ok(())
        };
        identity.inner.read(look).unwrap();
    }
}

#[test]
fn a_store_of_the_layout_before_is_indexed_by_group_when_it_is_opened() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("identity.redb");
    let identity = Identity::open(&path).unwrap();
    let change = |version, device: &str, document: &str| Change {
        version,
        entity: Entity::Device {
            tenant: TenantId::parse("t").unwrap(),
            device: DeviceId::parse(device).unwrap(),
            document: Some(serde_json::from_str(document).unwrap()),
        },
    };
    let changes =
        vec![change(1, "gw", r#"{"memberOf": ["g"]}"#), change(2, "d", r#"{"viaGroups": ["g"]}"#)];
    let page = ChangePage { feed: "f".into(), changes, cursor: 2, more: false };
    identity.apply(&page).unwrap();
    let make_old = |transaction: &WriteTransaction| {
        transaction.delete_table(GROUPED)?;
        transaction.open_table(NUMBERS)?.insert(FORMAT_KEY, FORMAT_WITHOUT_GROUPED)?;
        Ok(())
    };
    identity.inner.write(make_old).unwrap();
    drop(identity);

    let identity = Identity::open(&path).unwrap();
    let (tenant, gateway) = (TenantId::parse("t").unwrap(), DeviceId::parse("gw").unwrap());
    let behind = identity.devices_behind(&tenant, &gateway).unwrap();
    assert_eq!(behind.devices.len(), 1);
    assert_eq!(behind.devices[0].0.as_str(), "d");
}
