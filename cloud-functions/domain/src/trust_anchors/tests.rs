//! The form of trust anchors, case by case.

use super::*;
use rcgen::{CertificateParams, DnType, KeyPair, PublicKeyData as _};
use serde_json::{Value, json};

fn certificate(subject: &str) -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, "ACME");
    params.distinguished_name.push(DnType::CommonName, subject);
    params.not_before = rcgen::date_time_ymd(2026, 1, 1);
    params.not_after = rcgen::date_time_ymd(2027, 1, 1);
    let certificate = params.self_signed(&key).unwrap();
    (STANDARD.encode(certificate.der()), STANDARD.encode(key.subject_public_key_info()))
}

fn complete_all(anchors: Value) -> Result<Vec<TrustAnchor>, Error> {
    let document = serde_json::from_value(json!({ "trusted-ca": anchors }));
    let document: Tenant = document.map_err(Error::invalid)?;
    completed(document).map(|document| document.trusted_ca.unwrap_or_default())
}

#[test]
fn a_certificate_becomes_its_subject_key_and_dates() {
    let (cert, key) = certificate("ca");
    let anchor = complete_all(json!([{ "cert": cert }])).unwrap().remove(0);
    assert_eq!(anchor.subject_dn.as_deref(), Some("CN=ca,O=ACME"));
    assert_eq!(anchor.public_key, Some(key));
    assert_eq!((anchor.algorithm.as_deref(), anchor.cert), (Some("EC"), None));
    assert_eq!(anchor.not_before.as_deref(), Some("2026-01-01T00:00:00Z"));
    assert_eq!(anchor.not_after.as_deref(), Some("2027-01-01T00:00:00Z"));
    assert!(anchor.enabled && anchor.id.is_some());
}

#[test]
fn the_stored_form_is_taken_again_as_it_is() {
    let (cert, _) = certificate("ca");
    let first = complete_all(json!([{ "id": "a", "cert": cert, "enabled": false }])).unwrap();
    assert_eq!(complete_all(json!(first)).unwrap(), first);
}

#[test]
fn what_an_anchor_lacks_or_an_edge_would_not_do_is_refused() {
    let (cert, key) = certificate("ca");
    let good = json!({ "subject-dn": "CN=ca", "public-key": key });
    assert!(complete_all(json!([good])).is_ok());
    let with = |name: &str, value: Value| {
        let mut anchor = good.clone();
        anchor[name] = value;
        json!([anchor])
    };
    for anchors in [
        json!([]),
        json!([{}]),
        json!([{ "subject-dn": "CN=ca" }]),
        json!([{ "public-key": key }]),
        json!([{ "cert": "AAAA" }]),
        json!([{ "cert": cert, "subject-dn": "CN=ca" }]),
        with("subject-dn", json!("ca")),
        with("public-key", json!(cert)),
        with("algorithm", json!("RSA")),
        with("not-after", json!("soon")),
        with("auth-id-template", json!("{{subject}}")),
        with("auto-provisioning-enabled", json!(true)),
        with("ocsp-revocation-enabled", json!(true)),
        with("unknown", json!(1)),
        json!([{ "id": "a", "cert": cert }, { "id": "a", "cert": cert }]),
        json!(vec![good.clone(); ANCHORS_MAX + 1]),
    ] {
        assert!(matches!(complete_all(anchors.clone()), Err(Error::Invalid(_))), "{anchors}");
    }
    assert!(complete_all(with("auto-provisioning-enabled", json!(false))).is_ok());
}
