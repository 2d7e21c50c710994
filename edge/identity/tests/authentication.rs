//! Who gets in, and in which words the others are turned away.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail by panicking")]

mod world;

use fulcrum_contract::messaging::{Messaging, MessagingAddress};
use fulcrum_contract::registry::{
    Adapter as AdapterSetting, Application, Device, Permission, Tenant,
};
use fulcrum_contract::registry::{Credential, CredentialType, Secret};
use fulcrum_identity::{Adapter, Login, Peer, Principal, Proof, Refusal};
use world::*;

fn without_adapter(adapter: Adapter) -> Tenant {
    let other = match adapter {
        Adapter::Mqtt => Adapter::Http,
        Adapter::Http | Adapter::Amqp => Adapter::Mqtt,
    };
    let setting = AdapterSetting {
        adapter_type: other.type_name().into(),
        enabled: true,
        device_authentication_required: true,
        ext: Default::default(),
    };
    Tenant { adapters: Some(vec![setting]), ..Tenant::default() }
}

#[test]
fn a_registered_device_gets_in_with_each_kind_of_hash() {
    let mut world = World::ready();
    assert_eq!(world.login("sensor@t", "Fulcrum-1"), Ok(the_device()));
    for secret in [sha_secret(), secret("sha-512", SHA512_OF_HONO_SECRET)] {
        world.apply(vec![credentials("t", "d", Some(vec![password("sensor", secret)]))]);
        assert_eq!(world.login("sensor@t", "hono-secret"), Ok(the_device()));
        assert_eq!(world.login("sensor@t", "Fulcrum-1"), Err(Refusal::BadCredentials));
    }
}

#[test]
fn any_valid_secret_of_a_credential_suffices() {
    let mut world = World::ready();
    let mut rotating = password("sensor", bcrypt_secret());
    rotating.secrets.insert(0, secret("bcrypt", "$2a$04$malformed"));
    rotating.secrets.push(sha_secret());
    world.apply(vec![credentials("t", "d", Some(vec![rotating]))]);
    assert_eq!(world.login("sensor@t", "Fulcrum-1"), Ok(the_device()));
    assert_eq!(world.login("sensor@t", "hono-secret"), Ok(the_device()));
    assert_eq!(world.login("sensor@t", "neither"), Err(Refusal::BadCredentials));
}

#[test]
fn whatever_is_wrong_with_the_credentials_is_refused_in_the_same_words() {
    let world = World::ready();
    for username in ["sensor@t", "nobody@t", "sensor@nowhere", "sensor", "", "@t", "@", "sensor@"] {
        assert_eq!(world.login(username, "wrong"), Err(Refusal::BadCredentials), "{username}");
    }
    assert_eq!(world.login("sensor@t", ""), Err(Refusal::BadCredentials));
    assert_eq!(world.login("d@t", "Fulcrum-1"), Err(Refusal::BadCredentials), "not an auth-id");
    assert_eq!(world.login(&"s".repeat(70_000), "x"), Err(Refusal::BadCredentials));
}

#[test]
fn the_user_name_is_split_at_its_first_at_sign() {
    let world = World::ready();
    assert_eq!(world.login("sensor@t@t", "Fulcrum-1"), Err(Refusal::BadCredentials));
    assert_eq!(world.login("x@sensor@t", "Fulcrum-1"), Err(Refusal::BadCredentials));
}

#[test]
fn disabled_credentials_and_secrets_are_bad_credentials() {
    let mut world = World::ready();
    let off = Credential { enabled: false, ..password("sensor", bcrypt_secret()) };
    world.apply(vec![credentials("t", "d", Some(vec![off]))]);
    assert_eq!(world.login("sensor@t", "Fulcrum-1"), Err(Refusal::BadCredentials));
    let off = Secret { enabled: Some(false), ..bcrypt_secret() };
    world.apply(vec![credentials("t", "d", Some(vec![password("sensor", off)]))]);
    assert_eq!(world.login("sensor@t", "Fulcrum-1"), Err(Refusal::BadCredentials));
}

#[test]
fn credentials_of_another_kind_are_no_password() {
    let mut world = World::ready();
    let psk =
        Credential { credential_type: CredentialType::Psk, ..password("sensor", sha_secret()) };
    world.apply(vec![credentials("t", "d", Some(vec![psk]))]);
    assert_eq!(world.login("sensor@t", "hono-secret"), Err(Refusal::BadCredentials));
    assert_eq!(world.identity.counts().unwrap().credentials, 0);
}

#[test]
fn a_secret_counts_only_within_its_validity() {
    let mut world = World::ready();
    let window = Secret {
        not_before: Some("2026-03-01T09:00:00+01:00".into()),
        not_after: Some("2026-03-01T08:00:10Z".into()),
        ..bcrypt_secret()
    };
    world.apply(vec![credentials("t", "d", Some(vec![password("sensor", window)]))]);
    let at = |now_ms| world.login_at("sensor@t", "Fulcrum-1", now_ms);
    assert_eq!(at(NOW_MS - 1), Err(Refusal::BadCredentials));
    assert_eq!(at(NOW_MS), Ok(the_device()));
    assert_eq!(at(NOW_MS + 10_000), Ok(the_device()));
    assert_eq!(at(NOW_MS + 10_001), Err(Refusal::BadCredentials), "although it is remembered");
}

#[test]
fn a_disabled_tenant_is_named_to_those_with_good_credentials_alone() {
    let mut world = World::ready();
    world.apply(vec![tenant("t", Some(Tenant { enabled: false, ..Tenant::default() }))]);
    assert_eq!(world.login("sensor@t", "Fulcrum-1"), Err(Refusal::TenantDisabled));
    assert_eq!(world.login("app@t", "application-secret"), Err(Refusal::TenantDisabled));
    assert_eq!(world.login("sensor@t", "wrong"), Err(Refusal::BadCredentials));
}

#[test]
fn a_disabled_adapter_is_closed_to_devices_and_to_no_application() {
    let mut world = World::ready();
    world.apply(vec![tenant("t", Some(without_adapter(Adapter::Mqtt)))]);
    assert_eq!(world.login("sensor@t", "Fulcrum-1"), Err(Refusal::AdapterDisabled));
    assert!(world.login("app@t", "application-secret").is_ok());
    world.apply(vec![tenant("t", Some(without_adapter(Adapter::Http)))]);
    assert_eq!(world.login("sensor@t", "Fulcrum-1"), Ok(the_device()));
}

#[test]
fn a_disabled_or_missing_device_is_refused() {
    let mut world = World::ready();
    world.apply(vec![device("t", "d", Some(Device { enabled: false, ..Device::default() }))]);
    assert_eq!(world.login("sensor@t", "Fulcrum-1"), Err(Refusal::DeviceDisabled));

    let mut world = World::empty();
    world.apply(vec![
        tenant("t", Some(Tenant::default())),
        credentials("t", "d", Some(vec![password("sensor", bcrypt_secret())])),
    ]);
    assert_eq!(world.login("sensor@t", "Fulcrum-1"), Err(Refusal::DeviceUnknown));
}

#[test]
fn an_application_gets_in_with_its_permissions() {
    let mut world = World::ready();
    let read_only =
        Application { permissions: vec![Permission::Consume], ..application_document() };
    world.apply(vec![application("t", "app", Some(read_only))]);
    let expected = Peer::Application {
        application: application_id("app"),
        permissions: vec![Permission::Consume],
    };
    let principal = world.login("app@t", "application-secret").unwrap();
    assert_eq!((principal.tenant, principal.peer), (tenant_id("t"), expected));
    assert_eq!(world.login("app@t", "wrong"), Err(Refusal::BadCredentials));
    let disabled = Application { enabled: false, ..application_document() };
    world.apply(vec![application("t", "app", Some(disabled))]);
    assert_eq!(world.login("app@t", "application-secret"), Err(Refusal::BadCredentials));
}

#[test]
fn an_application_without_a_password_lets_nobody_in() {
    let mut world = World::ready();
    let open = Application { password_sha256: None, ..application_document() };
    world.apply(vec![application("t", "app", Some(open))]);
    assert_eq!(world.login("app@t", ""), Err(Refusal::BadCredentials));
}

#[test]
fn of_a_device_and_an_application_with_one_name_the_password_chooses() {
    let mut world = World::ready();
    world.apply(vec![application("t", "sensor", Some(application_document()))]);
    assert_eq!(world.login("sensor@t", "Fulcrum-1"), Ok(the_device()));
    let answer = world.login("sensor@t", "application-secret");
    assert!(matches!(answer, Ok(Principal { peer: Peer::Application { .. }, .. })), "{answer:?}");
}

#[test]
fn a_password_is_worth_nothing_in_another_tenant() {
    let mut world = World::ready();
    world.apply(vec![
        tenant("u", Some(Tenant::default())),
        device("u", "d", Some(Device::default())),
        credentials("u", "d", Some(vec![password("sensor", sha_secret())])),
    ]);
    assert_eq!(world.login("sensor@u", "Fulcrum-1"), Err(Refusal::BadCredentials));
    assert_eq!(world.login("sensor@t", "hono-secret"), Err(Refusal::BadCredentials));
    assert_eq!(world.login("app@u", "application-secret"), Err(Refusal::BadCredentials));
}

#[test]
fn bcrypt_is_computed_once_for_a_password_that_stays_the_same() {
    let world = World::ready();
    assert!(!world.is_quick("sensor@t", "Fulcrum-1"));
    assert_eq!(world.login("sensor@t", "Fulcrum-1"), Ok(the_device()));
    assert!(world.is_quick("sensor@t", "Fulcrum-1"));
    assert!(!world.is_quick("sensor@t", "Fulcrum-2"), "a refusal is never quick");
    assert!(!world.is_quick("nobody@t", "Fulcrum-1"), "a refusal is never quick");
    assert_eq!(world.identity.remembered_passwords(), 1);
    let world = world.reopen();
    assert!(!world.is_quick("sensor@t", "Fulcrum-1"), "nothing of it is on disk");
}

#[test]
fn a_remembered_password_is_void_as_soon_as_its_secret_is() {
    let changes: [(&str, Vec<fulcrum_contract::feed::Entity>, Refusal); 6] = [
        (
            "another secret",
            vec![credentials("t", "d", Some(vec![password("sensor", sha_secret())]))],
            Refusal::BadCredentials,
        ),
        ("no credentials", vec![credentials("t", "d", None)], Refusal::BadCredentials),
        (
            "a disabled device",
            vec![device("t", "d", Some(Device { enabled: false, ..Device::default() }))],
            Refusal::DeviceDisabled,
        ),
        ("a deleted device", vec![device("t", "d", None)], Refusal::BadCredentials),
        (
            "a disabled tenant",
            vec![tenant("t", Some(Tenant { enabled: false, ..Tenant::default() }))],
            Refusal::TenantDisabled,
        ),
        ("a deleted tenant", vec![tenant("t", None)], Refusal::BadCredentials),
    ];
    for (name, entities, refusal) in changes {
        let mut world = World::ready();
        assert_eq!(world.login("sensor@t", "Fulcrum-1"), Ok(the_device()));
        world.apply(entities);
        assert_eq!(world.login("sensor@t", "Fulcrum-1"), Err(refusal), "{name}");
    }
}

#[test]
fn a_name_that_moves_between_devices_belongs_to_the_last_that_got_it() {
    let mut world = World::ready();
    world.apply(vec![
        device("t", "e", Some(Device::default())),
        credentials("t", "e", Some(vec![password("sensor", sha_secret())])),
    ]);
    // The feed has not yet said that `d` lost the name.
    let peer = Peer::Device { device: device_id("e"), is_gateway: false };
    let other = Principal { peer, ..the_device() };
    assert_eq!(world.login("sensor@t", "hono-secret"), Ok(other.clone()));
    assert_eq!(world.login("sensor@t", "Fulcrum-1"), Err(Refusal::BadCredentials));
    world.apply(vec![credentials("t", "d", Some(vec![]))]);
    assert_eq!(world.login("sensor@t", "hono-secret"), Ok(other));
}

#[test]
fn everything_works_from_the_file_alone() {
    let world = World::ready().reopen();
    assert_eq!(world.login("sensor@t", "Fulcrum-1"), Ok(the_device()));
    assert!(world.login("app@t", "application-secret").is_ok());
    assert_eq!(world.login("sensor@t", "wrong"), Err(Refusal::BadCredentials));
    assert_eq!(world.identity.feed_position().unwrap().cursor, 4);
}

#[test]
fn an_empty_store_refuses_and_does_not_fail() {
    let world = World::empty();
    assert_eq!(world.login("sensor@t", "Fulcrum-1"), Err(Refusal::BadCredentials));
    assert_eq!(world.identity.counts().unwrap(), Default::default());
}

#[test]
fn a_login_over_mqtt_comes_with_the_rights_at_messaging_addresses() {
    let mut world = World::ready();
    let addresses = ["site/#", "own/{device}"].map(MessagingAddress::multicast).to_vec();
    let messaging = Some(Messaging { addresses });
    world.apply(vec![tenant("t", Some(Tenant { messaging, ..Tenant::default() }))]);
    let device = world.login("sensor@t", "Fulcrum-1").unwrap().messaging;
    assert_eq!(device.publish, ["site/#", "own/d"]);
    assert_eq!(device.subscribe, device.publish);
    let application = world.login("app@t", "application-secret").unwrap().messaging;
    assert_eq!(application.publish, ["site/#", "own/+"]);
    assert_eq!(application.subscribe, application.publish);
    let proof = Proof::password("sensor@t", b"Fulcrum-1");
    let login = Login { proof, adapter: Adapter::Http, now_ms: NOW_MS };
    assert_eq!(world.identity.authenticate(&login).result.unwrap().messaging, Default::default());
}

#[test]
fn a_login_comes_with_the_tenants_limit_on_connections() {
    let mut world = World::ready();
    for (limits, expected) in [
        (r#"{"max-connections": 2}"#, Some(2)),
        (r#"{"max-connections": 0}"#, Some(0)),
        (r#"{"max-connections": -1}"#, None),
        (r#"{"max-ttl": 5}"#, None),
    ] {
        let resource_limits = Some(serde_json::from_str(limits).unwrap());
        world.apply(vec![tenant("t", Some(Tenant { resource_limits, ..Tenant::default() }))]);
        let device = world.login("sensor@t", "Fulcrum-1").unwrap();
        let application = world.login("app@t", "application-secret").unwrap();
        assert_eq!(device.connections_max, expected, "{limits}");
        assert_eq!(application.connections_max, expected, "{limits}");
    }
}
