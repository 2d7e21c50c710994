//! Who gets in with a client certificate.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail by panicking")]

mod world;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use fulcrum_contract::certificates::TrustAnchor;
use fulcrum_contract::registry::{Credential, CredentialType, Device, Secret, Tenant};
use fulcrum_identity::{Adapter, Login, Peer, Principal, Proof, Refusal};
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, PublicKeyData as _,
};
use serde_json::json;
use std::time::Duration;
use world::*;

const DAY_MS: u64 = 24 * 3_600_000;

/// A certificate authority.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: Certificate,
    subject_dn: String,
    public_key: String,
}

fn name(common_name: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CountryName, "DE");
    name.push(DnType::OrganizationName, "ACME, Inc.");
    name.push(DnType::CommonName, common_name);
    name
}

/// Valid for 30 days around [`NOW_MS`].
fn params(common_name: &str) -> CertificateParams {
    let now = std::time::UNIX_EPOCH + Duration::from_millis(NOW_MS);
    let mut params = CertificateParams::default();
    params.distinguished_name = name(common_name);
    params.not_before = (now - Duration::from_secs(15 * 86_400)).into();
    params.not_after = (now + Duration::from_secs(15 * 86_400)).into();
    params
}

impl Authority {
    fn new(common_name: &str) -> Authority {
        let (params, key) = (authority_params(common_name), KeyPair::generate().unwrap());
        let certificate = params.self_signed(&key).unwrap();
        Authority::of(params, key, certificate, common_name)
    }

    /// One whose certificate this one has signed.
    fn subordinate(&self, common_name: &str) -> Authority {
        let (params, key) = (authority_params(common_name), KeyPair::generate().unwrap());
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Authority::of(params, key, certificate, common_name)
    }

    fn of(
        params: CertificateParams,
        key: KeyPair,
        certificate: Certificate,
        common_name: &str,
    ) -> Authority {
        let public_key = STANDARD.encode(key.subject_public_key_info());
        let subject_dn = format!("CN={common_name}, O=\"ACME, Inc.\", C=DE");
        Authority { issuer: Issuer::new(params, key), certificate, subject_dn, public_key }
    }

    fn sign(&self, params: CertificateParams) -> Vec<u8> {
        let key = KeyPair::generate().unwrap();
        params.signed_by(&key, &self.issuer).unwrap().der().to_vec()
    }

    fn anchor(&self) -> TrustAnchor {
        let anchor = json!({ "subject-dn": self.subject_dn, "public-key": self.public_key });
        serde_json::from_value(anchor).unwrap()
    }

    fn der(&self) -> Vec<u8> {
        self.certificate.der().to_vec()
    }
}

fn authority_params(common_name: &str) -> CertificateParams {
    let mut params = params(common_name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params
}

fn trusting(anchors: Vec<TrustAnchor>) -> Tenant {
    Tenant { trusted_ca: Some(anchors), ..Tenant::default() }
}

fn certificate_of(auth_id: &str) -> Credential {
    Credential { credential_type: CredentialType::X509Cert, ..password(auth_id, Secret::default()) }
}

const PUMP: &str = "cn=pump, o=\"ACME, Inc.\", c=DE";

/// Tenant `t` that trusts `authority`, with device `d` whose certificate's subject is [`PUMP`].
fn world_trusting(authority: &Authority) -> World {
    let mut world = World::empty();
    world.apply(vec![
        tenant("t", Some(trusting(vec![authority.anchor()]))),
        device("t", "d", Some(Device::default())),
        credentials("t", "d", Some(vec![certificate_of(PUMP)])),
    ]);
    world
}

fn show_at(
    world: &World,
    chain: &[Vec<u8>],
    server_name: Option<&str>,
    now_ms: u64,
) -> Result<Principal, Refusal> {
    let (chain, server_name) = (chain.to_vec(), server_name.map(str::to_owned));
    world.present(Proof::Certificate { chain, server_name }, now_ms)
}

fn show(world: &World, chain: &[Vec<u8>]) -> Result<Principal, Refusal> {
    show_at(world, chain, None, NOW_MS)
}

const BAD: Result<Principal, Refusal> = Err(Refusal::BadCredentials);

#[test]
fn a_device_gets_in_with_a_certificate_of_its_tenants_authority() {
    let authority = Authority::new("ca");
    let world = world_trusting(&authority);
    let chain = [authority.sign(params("pump"))];
    assert_eq!(show(&world, &chain), Ok(the_device()));
    // A host name says nothing where the issuer does; the root may come along.
    assert_eq!(show_at(&world, &chain, Some("other.example"), NOW_MS), Ok(the_device()));
    assert_eq!(show(&world, &[chain[0].clone(), authority.der()]), Ok(the_device()));
    let proof = Proof::Certificate { chain: chain.to_vec(), server_name: None };
    let login = Login { proof, adapter: Adapter::Mqtt, now_ms: NOW_MS };
    assert!(world.identity.authenticate_quickly(&login).is_none(), "signatures take their time");
}

#[test]
fn a_certificate_another_key_has_signed_is_refused() {
    let authority = Authority::new("ca");
    let world = world_trusting(&authority);
    let impostor = Authority::new("ca");
    let chain = [impostor.sign(params("pump"))];
    assert_eq!(show(&world, &chain), BAD);
    assert_eq!(show(&world, &[chain[0].clone(), impostor.der()]), BAD);
    let stranger = Authority::new("stranger");
    assert_eq!(show_at(&world, &[stranger.sign(params("pump"))], Some("t"), NOW_MS), BAD);
    let key = KeyPair::generate().unwrap();
    let itself = params("pump").self_signed(&key).unwrap().der().to_vec();
    assert_eq!(show_at(&world, &[itself], Some("t"), NOW_MS), BAD);
}

#[test]
fn an_authority_of_one_tenant_signs_for_no_other() {
    let (authority, other) = (Authority::new("ca"), Authority::new("other"));
    let mut world = world_trusting(&authority);
    world.apply(vec![tenant("u", Some(trusting(vec![other.anchor()])))]);
    // The subject is a device's of `t`; the issuer is trusted by `u`, whatever the host name says.
    for server_name in [None, Some("t"), Some("t.example"), Some("u")] {
        assert_eq!(show_at(&world, &[other.sign(params("pump"))], server_name, NOW_MS), BAD);
    }
}

#[test]
fn a_certificate_counts_within_its_time_and_its_anchors() {
    let authority = Authority::new("ca");
    let mut world = world_trusting(&authority);
    let chain = [authority.sign(params("pump"))];
    for (at_ms, expected) in [
        (NOW_MS - 16 * DAY_MS, BAD),
        (NOW_MS - 14 * DAY_MS, Ok(the_device())),
        (NOW_MS + 14 * DAY_MS, Ok(the_device())),
        (NOW_MS + 16 * DAY_MS, BAD),
    ] {
        assert_eq!(show_at(&world, &chain, None, at_ms), expected, "{at_ms}");
    }
    let over = TrustAnchor { not_after: Some("2026-03-01T07:00:00Z".into()), ..authority.anchor() };
    let to_come =
        TrustAnchor { not_before: Some("2026-03-01T09:00:00Z".into()), ..authority.anchor() };
    let off = TrustAnchor { enabled: false, ..authority.anchor() };
    for anchor in [over, to_come, off] {
        world.apply(vec![tenant("t", Some(trusting(vec![anchor.clone()])))]);
        assert_eq!(show(&world, &chain), BAD, "{anchor:?}");
        // A renewed anchor beside the old one serves.
        let both = trusting(vec![anchor, authority.anchor()]);
        world.apply(vec![tenant("t", Some(both))]);
        assert_eq!(show(&world, &chain), Ok(the_device()));
    }
}

#[test]
fn an_unknown_subject_or_one_that_may_not_is_refused() {
    let authority = Authority::new("ca");
    let mut world = world_trusting(&authority);
    let chain = [authority.sign(params("pump"))];
    assert_eq!(show(&world, &[authority.sign(params("Pump"))]), BAD);
    let off = Credential { enabled: false, ..certificate_of(PUMP) };
    world.apply(vec![credentials("t", "d", Some(vec![off]))]);
    assert_eq!(show(&world, &chain), BAD);
    let over = Secret { not_after: Some("2026-03-01T07:00:00Z".into()), ..Secret::default() };
    let over = Credential { secrets: vec![over], ..certificate_of(PUMP) };
    world.apply(vec![credentials("t", "d", Some(vec![over]))]);
    assert_eq!(show(&world, &chain), BAD);
    // A password under the subject's name is no certificate's credential.
    let subject = "CN=pump,O=ACME\\, Inc.,C=DE";
    world.apply(vec![credentials("t", "d", Some(vec![password(subject, sha_secret())]))]);
    assert_eq!(show(&world, &chain), BAD);
    let none = Credential { secrets: Vec::new(), ..certificate_of(PUMP) };
    world.apply(vec![credentials("t", "d", Some(vec![none]))]);
    assert_eq!(show(&world, &chain), Ok(the_device()));
    world.apply(vec![device("t", "d", Some(Device { enabled: false, ..Device::default() }))]);
    assert_eq!(show(&world, &chain), Err(Refusal::DeviceDisabled));
    world.apply(vec![credentials("t", "d", None)]);
    assert_eq!(show(&world, &chain), BAD);
}

#[test]
fn a_chain_leads_to_the_anchor_through_authorities_between() {
    let root = Authority::new("root");
    let between = root.subordinate("between");
    let world = world_trusting(&root);
    let leaf = between.sign(params("pump"));
    let chain = [leaf.clone(), between.der()];
    // Nobody has the leaf's issuer for an anchor, so the host name says which tenant it is.
    assert_eq!(show_at(&world, &chain, Some("t.mqtt.example"), NOW_MS), Ok(the_device()));
    assert_eq!(show(&world, &chain), BAD);
    assert_eq!(show_at(&world, &[leaf], Some("t"), NOW_MS), BAD);
    let device = root.sign(params("device"));
    let unfit = [between.sign(params("pump")), device];
    assert_eq!(show_at(&world, &unfit, Some("t"), NOW_MS), BAD);
}

#[test]
fn a_host_name_chooses_by_id_or_alias_among_tenants_that_share_an_anchor() {
    let authority = Authority::new("ca");
    let mut world = world_trusting(&authority);
    let shared = Tenant { alias: Some("second".into()), ..trusting(vec![authority.anchor()]) };
    world.apply(vec![
        tenant("u", Some(shared.clone())),
        device("u", "e", Some(Device::default())),
        credentials("u", "e", Some(vec![certificate_of(PUMP)])),
        tenant("other", Some(Tenant::default())),
    ]);
    let chain = [authority.sign(params("pump"))];
    let peer = Peer::Device { device: device_id("e"), is_gateway: false };
    let second = Principal { tenant: tenant_id("u"), peer, ..the_device() };
    for (server_name, expected) in [
        (Some("t.example"), Ok(the_device())),
        (Some("u.example"), Ok(second.clone())),
        (Some("second.example"), Ok(second.clone())),
        (Some("other.example"), BAD),
        (Some("none.example"), BAD),
        (Some(""), BAD),
        (None, BAD),
    ] {
        assert_eq!(show_at(&world, &chain, server_name, NOW_MS), expected, "{server_name:?}");
    }
    // The alias goes with its tenant's document, and so does the anchor.
    world.apply(vec![tenant("u", Some(Tenant { alias: None, ..shared }))]);
    assert_eq!(show_at(&world, &chain, Some("second.example"), NOW_MS), BAD);
    world.apply(vec![tenant("u", None)]);
    assert_eq!(show(&world, &chain), Ok(the_device()), "one tenant is left with the anchor");
}

#[test]
fn a_template_makes_the_auth_id() {
    let authority = Authority::new("ca");
    let mut world = world_trusting(&authority);
    let template = Some("{{subject-o}}/{{subject-cn}}".to_owned());
    let anchor = TrustAnchor { auth_id_template: template, ..authority.anchor() };
    world.apply(vec![tenant("t", Some(trusting(vec![anchor])))]);
    let chain = [authority.sign(params("pump"))];
    assert_eq!(show(&world, &chain), BAD, "the subject itself no longer is");
    world.apply(vec![credentials("t", "d", Some(vec![certificate_of("ACME, Inc./pump")]))]);
    assert_eq!(show(&world, &chain), Ok(the_device()));
}

#[test]
fn a_certificate_for_servers_alone_is_refused() {
    let authority = Authority::new("ca");
    let world = world_trusting(&authority);
    let with = |purpose: ExtendedKeyUsagePurpose| {
        let mut params = params("pump");
        params.extended_key_usages = vec![purpose];
        [authority.sign(params)]
    };
    assert_eq!(show(&world, &with(ExtendedKeyUsagePurpose::ServerAuth)), BAD);
    assert_eq!(show(&world, &with(ExtendedKeyUsagePurpose::ClientAuth)), Ok(the_device()));
}

#[test]
fn what_is_no_chain_is_refused() {
    let authority = Authority::new("ca");
    let world = world_trusting(&authority);
    let leaf = authority.sign(params("pump"));
    let damaged: Vec<Vec<u8>> = (0..leaf.len())
        .map(|at| {
            let mut der = leaf.clone();
            der[at] ^= 0x41;
            der
        })
        .collect();
    for der in damaged {
        assert_eq!(show(&world, &[der]), BAD);
    }
    assert_eq!(show(&world, &[]), BAD);
    assert_eq!(show(&world, &[Vec::new()]), BAD);
    assert_eq!(show(&world, &[leaf.clone(), vec![0x30, 0]]), BAD);
    assert_eq!(show(&world, &vec![leaf; 9]), BAD);
}

#[test]
fn an_anchor_from_a_file_may_be_a_certificate() {
    let authority = Authority::new("ca");
    let mut world = world_trusting(&authority);
    let anchor = serde_json::from_value(json!({ "cert": STANDARD.encode(authority.der()) }));
    world.apply(vec![tenant("t", Some(trusting(vec![anchor.unwrap()])))]);
    assert_eq!(show(&world, &[authority.sign(params("pump"))]), Ok(the_device()));
}
