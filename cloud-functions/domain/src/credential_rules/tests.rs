//! The form of credentials, case by case.

use super::*;
use rcgen::PublicKeyData as _;
use serde_json::{Value, json};

const BCRYPT: &str = "$2b$04$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW";

fn try_set(credential: Value) -> Result<Vec<Credential>, Error> {
    let set = serde_json::from_value(json!([credential])).map_err(Error::invalid)?;
    merge(&[], set, 4)
}

fn secret_of(kind: &str, secret: Value) -> Result<Vec<Credential>, Error> {
    try_set(json!({ "type": kind, "auth-id": "sensor", "secrets": [secret] }))
}

fn ec_key() -> String {
    STANDARD.encode(rcgen::KeyPair::generate().unwrap().subject_public_key_info())
}

fn certificate() -> String {
    let made = rcgen::generate_simple_self_signed(["device".to_owned()]).unwrap();
    STANDARD.encode(made.cert.der())
}

#[test]
fn a_key_is_taken_out_of_its_certificate() {
    let secret = &secret_of("rpk", json!({ "cert": certificate() })).unwrap()[0].secrets[0];
    assert_eq!((secret.algorithm.as_deref(), &secret.cert), (Some("EC"), &None));
    let key = secret.key.as_deref().unwrap();
    assert!(secret_of("rpk", json!({ "key": key, "algorithm": "EC" })).is_ok());
}

#[test]
fn a_subject_has_one_spelling_and_other_names_stay_as_they_are() {
    let auth_id = |text: &str| {
        let set = try_set(json!({ "type": "x509-cert", "auth-id": text, "secrets": [{}] }));
        set.unwrap()[0].auth_id.clone()
    };
    assert_eq!(auth_id("cn=device-1, O=ACME"), "CN=device-1,O=ACME");
    assert_eq!(auth_id("device-1"), "device-1");
    let twice = json!([
        { "type": "x509-cert", "auth-id": "CN=a, O=b", "secrets": [{}] },
        { "type": "x509-cert", "auth-id": "cn=a,o=b", "secrets": [{}] },
    ]);
    assert!(merge(&[], serde_json::from_value(twice).unwrap(), 4).is_err());
}

#[test]
fn every_kind_of_valid_secret_is_taken() {
    let sha256 = STANDARD.encode([7; 32]);
    let sha512 = STANDARD.encode([7; 64]);
    for (kind, secret) in [
        ("hashed-password", json!({ "pwd-plain": "secret" })),
        ("hashed-password", json!({ "pwd-hash": sha256 })),
        ("hashed-password", json!({ "pwd-hash": sha256, "salt": "AAAA" })),
        ("hashed-password", json!({ "hash-function": "sha-512", "pwd-hash": sha512 })),
        ("hashed-password", json!({ "hash-function": "bcrypt", "pwd-hash": BCRYPT })),
        ("psk", json!({ "key": "AAAA" })),
        ("x509-cert", json!({ "not-before": "2026-01-01T00:00:00+01:00" })),
        ("rpk", json!({ "key": ec_key(), "algorithm": "EC" })),
        ("rpk", json!({ "cert": certificate() })),
    ] {
        let set =
            secret_of(kind, secret.clone()).unwrap_or_else(|error| panic!("{secret}: {error}"));
        assert!(set[0].secrets[0].id.is_some());
    }
}

#[test]
fn what_is_malformed_is_refused() {
    let short = STANDARD.encode([7; 31]);
    for (kind, secret) in [
        ("hashed-password", json!({})),
        ("hashed-password", json!({ "pwd-plain": "" })),
        ("hashed-password", json!({ "pwd-plain": "x".repeat(73) })),
        ("hashed-password", json!({ "pwd-plain": "x", "pwd-hash": short })),
        ("hashed-password", json!({ "pwd-hash": short })),
        ("hashed-password", json!({ "pwd-hash": "not base64" })),
        ("hashed-password", json!({ "hash-function": "md5", "pwd-hash": "AAAA" })),
        ("hashed-password", json!({ "key": "AAAA" })),
        ("psk", json!({})),
        ("psk", json!({ "key": "?" })),
        ("psk", json!({ "pwd-plain": "secret" })),
        ("rpk", json!({ "key": "AAAA" })),
        ("rpk", json!({ "key": ec_key(), "algorithm": "DSA" })),
        ("rpk", json!({ "key": ec_key(), "algorithm": "RSA" })),
        ("rpk", json!({ "key": "AAAA", "algorithm": "EC" })),
        ("rpk", json!({ "cert": ec_key() })),
        ("x509-cert", json!({ "key": "AAAA" })),
        ("psk", json!({ "key": "AAAA", "not-before": "yesterday" })),
        ("psk", json!({ "key": "AAAA", "unknown": 1 })),
        ("token", json!({})),
    ] {
        assert!(matches!(secret_of(kind, secret.clone()), Err(Error::Invalid(_))), "{secret}");
    }
    let (from, until) = ("2026-01-02T00:00:00Z", "2026-01-01T00:00:00Z");
    let backwards = json!({ "key": "AAAA", "not-before": from, "not-after": until });
    assert!(secret_of("psk", backwards).is_err());
}

#[test]
fn a_bcrypt_hash_is_checked_for_form_and_cost() {
    let set = |hash: &str| {
        secret_of("hashed-password", json!({ "hash-function": "bcrypt", "pwd-hash": hash }))
    };
    assert!(set(BCRYPT).is_ok());
    assert!(set(&BCRYPT.replace("$2b$", "$2y$")).is_ok());
    for wrong in [
        BCRYPT.replace("$2b$", "$2x$"),
        BCRYPT.replace("$04$", "$05$"),
        BCRYPT.replace("$04$", "$4$"),
        BCRYPT.replace("$04$", "$+4$"),
        BCRYPT.replace("$04$", "$03$"),
        BCRYPT[..59].to_owned(),
        format!("{BCRYPT}x"),
        BCRYPT.replace('E', "é"),
        String::new(),
    ] {
        assert!(set(&wrong).is_err(), "{wrong}");
    }
}

#[test]
fn a_set_names_each_pair_and_each_secret_once() {
    let one = json!({ "type": "psk", "auth-id": "a", "secrets": [{ "key": "AAAA" }] });
    let twice: Vec<Credential> = serde_json::from_value(json!([one, one])).unwrap();
    assert!(merge(&[], twice, 4).is_err());
    for wrong in [
        json!({ "type": "psk", "auth-id": "a@b", "secrets": [{ "key": "AAAA" }] }),
        json!({ "type": "psk", "auth-id": "a", "secrets": [] }),
        json!({ "type": "psk", "secrets": [{ "key": "AAAA" }] }),
        json!({ "auth-id": "a", "secrets": [{ "key": "AAAA" }] }),
        json!({ "type": "x509-cert", "auth-id": "CN=a", "secrets": [{}, {}] }),
        json!({ "type": "x509-cert", "auth-id": "", "secrets": [{}] }),
    ] {
        assert!(try_set(wrong.clone()).is_err(), "{wrong}");
    }
    let many: Vec<_> = (0..65).map(|_| json!({ "key": "AAAA" })).collect();
    assert!(try_set(json!({ "type": "psk", "auth-id": "a", "secrets": many })).is_err());
    assert!(try_set(json!({ "type": "x509-cert", "auth-id": "CN=a,O=b", "secrets": [] })).is_ok());
}
