//! Who gets in with a JSON Web Token for a password.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail by panicking")]

mod world;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use fulcrum_contract::registry::{Credential, CredentialType, Device, Secret, Tenant};
use fulcrum_identity::{Adapter, Login, Password, Principal, Proof, Refusal};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use rcgen::{KeyPair, PublicKeyData as _};
use serde_json::{Value, json};
use world::*;

const NOW_S: u64 = NOW_MS / 1000;
const BAD: Result<Principal, Refusal> = Err(Refusal::BadCredentials);

/// A device's key pair.
struct Key {
    algorithm: Algorithm,
    private: EncodingKey,
    public: String,
}

impl Key {
    fn ec() -> Key {
        let pair = KeyPair::generate().unwrap();
        Key {
            algorithm: Algorithm::ES256,
            private: EncodingKey::from_ec_der(&pair.serialize_der()),
            public: STANDARD.encode(pair.subject_public_key_info()),
        }
    }

    fn secret(&self) -> Secret {
        Secret { key: Some(self.public.clone()), ..Secret::default() }
    }

    fn credential(&self) -> Credential {
        let secret = self.secret();
        Credential { credential_type: CredentialType::Rpk, ..password("key-1", secret) }
    }

    fn token(&self, claims: &Value) -> String {
        encode(&Header::new(self.algorithm), claims, &self.private).unwrap()
    }

    /// A token of an hour that names no tenant.
    fn bare(&self) -> String {
        self.token(&json!({ "iat": NOW_S, "exp": NOW_S + 3600 }))
    }
}

/// Tenant `t`, device `d` with key `key-1`.
fn world_with(key: &Key) -> World {
    let mut world = World::empty();
    world.apply(vec![
        tenant("t", Some(Tenant::default())),
        device("t", "d", Some(Device::default())),
        credentials("t", "d", Some(vec![key.credential()])),
    ]);
    world
}

fn login(username: &str, token: &str, client_id: &str) -> Login {
    let proof = Proof::Password {
        username: username.into(),
        password: Password::new(token.as_bytes()),
        client_id: client_id.into(),
    };
    Login { proof, adapter: Adapter::Mqtt, now_ms: NOW_MS }
}

const CLIENT_ID: &str = "tenants/t/devices/key-1";

fn show(world: &World, token: &str) -> Result<Principal, Refusal> {
    world.identity.authenticate(&login("", token, CLIENT_ID)).result
}

fn until(exp_s: u64) -> Result<Principal, Refusal> {
    Ok(Principal { valid_until_ms: Some((exp_s + 600) * 1000), ..the_device() })
}

#[test]
fn a_token_signed_with_the_devices_key_lets_it_in_until_it_is_void() {
    let key = Key::ec();
    let world = world_with(&key);
    assert_eq!(show(&world, &key.bare()), until(NOW_S + 3600));
}

#[test]
fn tenant_and_auth_id_are_named_by_claims_client_id_or_user_name() {
    let key = Key::ec();
    let world = world_with(&key);
    let claims = json!({ "iat": NOW_S, "exp": NOW_S + 60, "aud": "hono-adapter", "tid": "t", "sub": "key-1" });
    let named = |username: &str, token: &str, client_id: &str| {
        world.identity.authenticate(&login(username, token, client_id)).result.map(|_| ())
    };
    let (token, bare) = (key.token(&claims), key.bare());
    let bad = Err(Refusal::BadCredentials);
    assert_eq!(named("", &token, "anything"), Ok(()));
    assert_eq!(named("ignored", &token, "tenants/other/devices/other"), Ok(()));
    assert_eq!(named("ignored", &bare, CLIENT_ID), Ok(()));
    assert_eq!(named("key-1@t", &bare, "anything"), Ok(()));
    assert_eq!(named("", &bare, "anything"), bad);
    assert_eq!(named("key-2@t", &bare, "anything"), bad);
    assert_eq!(named("key-1@other", &bare, "anything"), bad);
}

#[test]
fn another_key_or_a_changed_token_is_refused() {
    let (key, other) = (Key::ec(), Key::ec());
    let world = world_with(&key);
    assert_eq!(show(&world, &other.bare()), BAD);
    let token = key.bare();
    let longer = key.token(&json!({ "iat": NOW_S, "exp": NOW_S + 7200 }));
    let (head, _) = longer.rsplit_once('.').unwrap();
    let (_, signature) = token.rsplit_once('.').unwrap();
    assert_eq!(show(&world, &format!("{head}.{signature}")), BAD);
    assert_eq!(show(&world, &format!("{head}.")), BAD);
    // The public key as the secret of a symmetric signature.
    let symmetric = EncodingKey::from_secret(key.public.as_bytes());
    let claims = json!({ "iat": NOW_S, "exp": NOW_S + 60 });
    let forged = encode(&Header::new(Algorithm::HS256), &claims, &symmetric).unwrap();
    assert_eq!(show(&world, &forged), BAD);
}

#[test]
fn a_token_out_of_its_time_is_refused_though_it_was_verified_before() {
    let key = Key::ec();
    let world = world_with(&key);
    let token = key.bare();
    let at = |now_s: u64| {
        let login = Login { now_ms: now_s * 1000, ..login("", &token, CLIENT_ID) };
        world.identity.authenticate(&login).result
    };
    assert_eq!(at(NOW_S + 3600 + 599), until(NOW_S + 3600));
    assert_eq!(at(NOW_S + 3600 + 600), BAD);
    assert_eq!(at(NOW_S - 601), BAD);
    let day = key.token(&json!({ "iat": NOW_S, "exp": NOW_S + 86_401 }));
    assert_eq!(show(&world, &day), BAD);
}

#[test]
fn a_key_that_is_disabled_out_of_its_time_or_gone_is_refused() {
    let key = Key::ec();
    let mut world = world_with(&key);
    let token = key.bare();
    assert!(show(&world, &token).is_ok());
    let off = Secret { enabled: Some(false), ..key.secret() };
    let over = Secret { not_after: Some("2026-03-01T07:00:00Z".into()), ..key.secret() };
    for secret in [off, over] {
        let set = vec![Credential { secrets: vec![secret], ..key.credential() }];
        world.apply(vec![credentials("t", "d", Some(set))]);
        assert_eq!(show(&world, &token), BAD);
    }
    let set = vec![Credential { enabled: false, ..key.credential() }];
    world.apply(vec![credentials("t", "d", Some(set))]);
    assert_eq!(show(&world, &token), BAD);
    world.apply(vec![credentials("t", "d", Some(vec![key.credential()]))]);
    assert!(show(&world, &token).is_ok());
    world.apply(vec![tenant("t", Some(Tenant { enabled: false, ..Tenant::default() }))]);
    assert_eq!(show(&world, &token), Err(Refusal::TenantDisabled));
}

#[test]
fn a_verified_token_is_known_the_next_time() {
    let key = Key::ec();
    let world = world_with(&key);
    let token = key.bare();
    let quick = || {
        world
            .identity
            .authenticate_quickly(&login("", &token, CLIENT_ID))
            .map(|verdict| verdict.result)
    };
    assert_eq!(quick(), None);
    assert!(show(&world, &token).is_ok());
    assert_eq!(quick(), Some(until(NOW_S + 3600)));
}

#[test]
fn a_token_stands_for_itself_alone_and_is_verified_each_time() {
    let key = Key::ec();
    let world = world_with(&key);
    let verdict = world.identity.authenticate(&login("key-1@t", &key.bare(), "x"));
    assert!(verdict.result.is_ok());
    assert_eq!(verdict.standing, None);
}

#[test]
fn where_a_name_has_a_password_a_token_is_only_a_wrong_one() {
    let key = Key::ec();
    let mut world = world_with(&key);
    let token = key.bare();
    let show = |world: &World| world.identity.authenticate(&login("key-1@t", &token, "x")).result;
    assert!(show(&world).is_ok());
    let both = vec![key.credential(), password("key-1", sha_secret())];
    world.apply(vec![credentials("t", "d", Some(both))]);
    assert_eq!(show(&world), BAD);
    assert_eq!(world.login("key-1@t", "hono-secret"), Ok(the_device()));
}

#[test]
fn rsa_keys_sign_in_both_ways() {
    let public = include_str!("tokens/rsa-public.b64").trim().to_owned();
    let private = STANDARD.decode(include_str!("tokens/rsa-private.b64").trim()).unwrap();
    for algorithm in [Algorithm::RS256, Algorithm::RS512, Algorithm::PS256, Algorithm::PS384] {
        let private = EncodingKey::from_rsa_der(&private);
        let key = Key { algorithm, private, public: public.clone() };
        let world = world_with(&key);
        assert_eq!(show(&world, &key.bare()), until(NOW_S + 3600), "{algorithm:?}");
        // An RSA token does not fit an EC key.
        let other = world_with(&Key::ec());
        assert_eq!(show(&other, &key.bare()), BAD);
    }
}
