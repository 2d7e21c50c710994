//! Tenants, devices, credentials, applications and who may do what.
#![allow(clippy::unwrap_used, reason = "a test's own tools fail the test")]

mod cloud;

use base64::Engine as _;
use cloud::{NOW, device, is_invalid, settings, tenant, with_pump};
use fulcrum_contract::ApplicationId;
use fulcrum_contract::feed::Entity;
use fulcrum_contract::registry::{Application, Credential, Device, Permission, Tenant};
use fulcrum_domain::access::{Presented, Principal};
use fulcrum_domain::changes::ChangesRequest;
use fulcrum_domain::registry::IfMatch;
use fulcrum_domain::{Cloud, Error};
use rcgen::{KeyPair, PublicKeyData as _};
use serde_json::json;

fn credentials(json: serde_json::Value) -> Vec<Credential> {
    serde_json::from_value(json).unwrap()
}

fn password(auth_id: &str, secret: serde_json::Value) -> Vec<Credential> {
    credentials(json!([{ "type": "hashed-password", "auth-id": auth_id, "secrets": [secret] }]))
}

async fn set(cloud: &Cloud, id: &str, set: Vec<Credential>) -> Result<(), Error> {
    let any = IfMatch::default();
    cloud.update_credentials(&tenant("acme"), &device(id), set, &any).await.map(drop)
}

/// The credentials of `pump` as edges get them, hashes included.
async fn published(cloud: &Cloud) -> Vec<Credential> {
    let edge = cloud::edge(cloud, "reader").await;
    let all = ChangesRequest { feed: None, after: 0, wait_s: 0 };
    let page = cloud.changes(edge.clone(), &all).await.unwrap();
    cloud.delete_edge(&edge.id, NOW).await.unwrap();
    let found = page.changes.into_iter().find_map(|change| match change.entity {
        Entity::Credentials { device, document, .. } if device.as_str() == "pump" => document,
        _ => None,
    });
    found.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plain_password_is_hashed_for_the_edges_and_shown_to_nobody() {
    let (cloud, _dir) = with_pump(settings()).await;
    set(&cloud, "pump", password("sensor", json!({ "pwd-plain": "secret" }))).await.unwrap();
    let (shown, _) = cloud.credentials(&tenant("acme"), &device("pump")).await.unwrap();
    let secret = &shown[0].secrets[0];
    assert!(secret.id.is_some() && secret.pwd_hash.is_none() && secret.pwd_plain.is_none());
    let stored = published(&cloud).await[0].secrets[0].clone();
    assert!(stored.pwd_hash.unwrap().starts_with("$2a$04$"));
    assert_eq!((stored.hash_function.as_deref(), stored.pwd_plain), (Some("bcrypt"), None));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_named_by_its_id_keeps_what_is_stored_and_others_go() {
    let (cloud, _dir) = with_pump(settings()).await;
    set(&cloud, "pump", password("sensor", json!({ "pwd-plain": "secret" }))).await.unwrap();
    let before = published(&cloud).await[0].secrets[0].clone();
    let kept = json!({ "id": before.id, "comment": "kept", "not-after": "2030-01-01T00:00:00Z" });
    set(&cloud, "pump", password("sensor", kept.clone())).await.unwrap();
    let after = published(&cloud).await[0].secrets[0].clone();
    assert_eq!((&after.pwd_hash, after.comment.as_deref()), (&before.pwd_hash, Some("kept")));
    assert!(is_invalid(set(&cloud, "pump", password("sensor", json!({ "id": "unknown" }))).await));
    assert!(is_invalid(set(&cloud, "pump", password("another", kept)).await));
    set(&cloud, "pump", Vec::new()).await.unwrap();
    assert!(published(&cloud).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_auth_id_belongs_to_one_device_of_a_tenant_until_it_is_given_up() {
    let (cloud, _dir) = with_pump(settings()).await;
    let acme = tenant("acme");
    cloud.create_device(&acme, Some(device("valve")), Device::default(), NOW).await.unwrap();
    let mine = || password("sensor", json!({ "pwd-plain": "secret" }));
    set(&cloud, "pump", mine()).await.unwrap();
    set(&cloud, "pump", mine()).await.unwrap();
    assert!(matches!(set(&cloud, "valve", mine()).await, Err(Error::Exists(_))));
    let psk = json!([{ "type": "psk", "auth-id": "sensor", "secrets": [{ "key": "AAAA" }] }]);
    set(&cloud, "valve", credentials(psk)).await.unwrap();
    cloud.delete_device(&acme, &device("pump"), &IfMatch::default(), NOW).await.unwrap();
    set(&cloud, "valve", mine()).await.unwrap();
    assert!(matches!(set(&cloud, "pump", Vec::new()).await, Err(Error::NotFound(_))));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_etag_changes_nothing_and_an_id_made_again_has_a_new_one() {
    let (cloud, _dir) = with_pump(settings()).await;
    let acme = tenant("acme");
    let (_, first) = cloud.tenant(&acme).await.unwrap();
    let only = |etag: &str| IfMatch(Some(etag.to_owned()));
    let disabled = Tenant { enabled: false, ..Tenant::default() };
    let old = only(&first.to_string());
    let second = cloud.update_tenant(&acme, disabled.clone(), &old).await.unwrap();
    assert_ne!(first, second);
    assert_eq!(cloud.update_tenant(&acme, Tenant::default(), &old).await, Err(Error::Stale));
    assert_eq!(cloud.delete_tenant(&acme, &old).await, Err(Error::Stale));
    assert_eq!(cloud.tenant(&acme).await.unwrap(), (disabled, second));
    let unquoted = second.to_string().trim_matches('"').to_owned();
    cloud.delete_tenant(&acme, &only(&unquoted)).await.unwrap();
    let (_, third) = cloud.create_tenant(Some(acme), Tenant::default()).await.unwrap();
    assert!(third != first && third != second);
}

#[tokio::test(flavor = "multi_thread")]
async fn ids_and_aliases_are_unique_and_an_alias_is_free_again_when_given_up() {
    let (cloud, _dir) = with_pump(settings()).await;
    let named = |alias: &str| Tenant { alias: Some(alias.to_owned()), ..Tenant::default() };
    let create = async |id: &str, document| cloud.create_tenant(Some(tenant(id)), document).await;
    assert!(matches!(create("acme", Tenant::default()).await, Err(Error::Exists(_))));
    create("one", named("short")).await.unwrap();
    assert!(matches!(create("two", named("short")).await, Err(Error::Exists(_))));
    assert!(is_invalid(create("two", named("Not-A-Label")).await));
    cloud.update_tenant(&tenant("one"), Tenant::default(), &IfMatch::default()).await.unwrap();
    create("two", named("short")).await.unwrap();
    let acme = tenant("acme");
    let again = cloud.create_device(&acme, Some(device("pump")), Device::default(), NOW).await;
    assert!(matches!(again, Err(Error::Exists(_))));
    let lost = cloud.create_device(&tenant("none"), None, Device::default(), NOW).await;
    assert!(matches!(lost, Err(Error::NotFound(_))));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_application_may_what_its_permissions_say_in_its_own_tenant() {
    let (cloud, _dir) = with_pump(settings()).await;
    let id = ApplicationId::parse("reader").unwrap();
    let permissions = vec![Permission::Consume];
    let document = Application { enabled: true, permissions, password_sha256: None };
    let (created, _) =
        cloud.create_application(&tenant("acme"), &id, document.clone()).await.unwrap();
    let basic = async |username: &str, password: &str| {
        cloud.authenticate(Presented::Basic { username, password }).await
    };
    let principal = basic(&created.username, &created.password).await.unwrap();
    assert!(principal.require(&tenant("acme"), Permission::Consume).is_ok());
    assert!(matches!(
        principal.require(&tenant("acme"), Permission::Command),
        Err(Error::Forbidden(_))
    ));
    assert!(matches!(
        principal.require(&tenant("other"), Permission::Consume),
        Err(Error::Forbidden(_))
    ));
    assert!(principal.require_operator().is_err());
    for (username, password) in [
        (created.username.as_str(), "wrong"),
        (created.username.as_str(), ""),
        ("reader@other", created.password.as_str()),
        ("reader", created.password.as_str()),
        ("nobody@acme", ""),
    ] {
        assert!(matches!(basic(username, password).await, Err(Error::Unauthorized(_))));
    }
    let (shown, _) = cloud.application(&tenant("acme"), &id).await.unwrap();
    assert_eq!(shown, document);
    cloud.delete_application(&tenant("acme"), &id, &IfMatch::default()).await.unwrap();
    assert!(basic(&created.username, &created.password).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_known_operator_token_makes_an_operator() {
    let token = fulcrum_domain::secrets::new_secret();
    let hash = fulcrum_domain::secrets::sha256(token.as_bytes());
    let known = fulcrum_domain::Settings { operator_token_sha256: vec![hash], ..settings() };
    let (cloud, _dir) = with_pump(known).await;
    assert_eq!(cloud.authenticate(Presented::Bearer(&token)).await, Ok(Principal::Operator));
    assert!(cloud.authenticate(Presented::Bearer("")).await.is_err());
    assert!(cloud.authenticate(Presented::Bearer(&token[1..])).await.is_err());
    assert!(cloud.authenticate(Presented::Nothing).await.is_err());
}

fn tenant_document(json: serde_json::Value) -> Tenant {
    serde_json::from_value(json).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn messaging_addresses_are_checked_and_reach_the_edges() {
    let (cloud, _dir) = with_pump(settings()).await;
    let acme = tenant("acme");
    let update =
        async |json| cloud.update_tenant(&acme, tenant_document(json), &IfMatch::default()).await;
    let with = |pattern: &str, kind: &str| json!({ "messaging": { "addresses": [{ "pattern": pattern, "type": kind }] } });
    for (pattern, kind) in [
        ("telemetry/#", "multicast"),
        ("$SYS/#", "multicast"),
        ("a/#/b", "multicast"),
        ("q", "queue"),
    ] {
        assert!(is_invalid(update(with(pattern, kind)).await), "{pattern} {kind}");
        let document = tenant_document(with(pattern, kind));
        assert!(is_invalid(cloud.create_tenant(None, document).await), "{pattern} {kind}");
    }
    let document = tenant_document(with("site/#", "multicast"));
    update(with("site/#", "multicast")).await.unwrap();
    assert_eq!(cloud.tenant(&acme).await.unwrap().0, document);
    let edge = cloud::edge(&cloud, "reader").await;
    let all = ChangesRequest { feed: None, after: 0, wait_s: 0 };
    let page = cloud.changes(edge, &all).await.unwrap();
    let sent = page.changes.into_iter().find_map(|change| match change.entity {
        Entity::Tenant { document, .. } => document,
        _ => None,
    });
    assert_eq!(sent.unwrap(), document);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_on_connections_is_a_number_or_none() {
    let (cloud, _dir) = with_pump(settings()).await;
    for (limit, valid) in [
        (json!(0), true),
        (json!(10_000), true),
        (json!(-1), true),
        (json!(-2), false),
        (json!(1.5), false),
        (json!("many"), false),
        (json!(null), false),
    ] {
        let document = tenant_document(json!({ "resource-limits": { "max-connections": limit } }));
        let answer = cloud.update_tenant(&tenant("acme"), document, &IfMatch::default()).await;
        assert_eq!(answer.is_ok(), valid, "{limit}: {answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trust_anchors_subject_belongs_to_one_tenant_or_one_group() {
    let (cloud, _dir) = with_pump(settings()).await;
    let key = KeyPair::generate().unwrap().subject_public_key_info();
    let key = base64::engine::general_purpose::STANDARD.encode(key);
    let with = |subject: &str, group: Option<&str>| {
        let anchor = json!({ "subject-dn": subject, "public-key": key });
        let mut document = json!({ "trusted-ca": [anchor] });
        if let Some(group) = group {
            document["trust-anchor-group"] = json!(group);
        }
        tenant_document(document)
    };
    let create = async |id: &str, document| cloud.create_tenant(Some(tenant(id)), document).await;
    let update = async |id: &str, document| {
        cloud.update_tenant(&tenant(id), document, &IfMatch::default()).await
    };
    create("one", with("CN=ca, O=x", None)).await.unwrap();
    // The tenant itself may be written again, in any spelling.
    update("one", with("cn=ca,o=x", None)).await.unwrap();
    for document in [with("CN=ca,O=x", None), with("CN=ca,O=x", Some("g"))] {
        assert!(matches!(create("two", document).await, Err(Error::Exists(_))));
    }
    update("one", with("CN=ca,O=x", Some("g"))).await.unwrap();
    create("two", with("CN=ca,O=x", Some("g"))).await.unwrap();
    assert!(matches!(create("three", with("CN=ca,O=x", Some("h"))).await, Err(Error::Exists(_))));
    // Leaving the group with the anchor is refused while another has it, giving it up is not.
    assert!(matches!(update("one", with("CN=ca,O=x", None)).await, Err(Error::Exists(_))));
    update("one", with("CN=other", None)).await.unwrap();
    cloud.delete_tenant(&tenant("two"), &IfMatch::default()).await.unwrap();
    create("three", with("CN=ca,O=x", None)).await.unwrap();
}
