//! Certificates made for one test.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair,
    PublicKeyData as _,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use serde_json::{Value, json};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// A certificate with its chain and key.
pub struct Identity {
    pub chain: Vec<CertificateDer<'static>>,
    pub key: KeyPair,
    pem: String,
}

/// A certificate authority.
pub struct Authority {
    certificate: rcgen::Certificate,
    issuer: Issuer<'static, KeyPair>,
    name: String,
    /// What a chain needs between its first certificate and a trust anchor.
    above: Vec<CertificateDer<'static>>,
}

fn params(common_name: &str, names: &[&str]) -> CertificateParams {
    let names: Vec<String> = names.iter().map(ToString::to_string).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params
}

impl Authority {
    pub fn new(name: &str) -> Authority {
        let (mut params, key) = (params(name, &[]), KeyPair::generate().unwrap());
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).unwrap();
        let issuer = Issuer::new(params, key);
        Authority { certificate, issuer, name: name.to_owned(), above: Vec::new() }
    }

    /// One whose certificate this one has signed.
    pub fn subordinate(&self, name: &str) -> Authority {
        let (mut params, key) = (params(name, &[]), KeyPair::generate().unwrap());
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let above = vec![certificate.der().clone()];
        let issuer = Issuer::new(params, key);
        Authority { certificate, issuer, name: name.to_owned(), above }
    }

    /// A certificate for `common_name` and the host names.
    pub fn issue(&self, common_name: &str, hosts: &[&str]) -> Identity {
        self.sign(params(common_name, hosts))
    }

    /// One whose time is over.
    pub fn issue_expired(&self, common_name: &str) -> Identity {
        let mut params = params(common_name, &[]);
        let day = Duration::from_secs(86_400);
        params.not_before = (SystemTime::now() - 20 * day).into();
        params.not_after = (SystemTime::now() - day).into();
        self.sign(params)
    }

    fn sign(&self, params: CertificateParams) -> Identity {
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let mut chain = vec![certificate.der().clone()];
        chain.extend(self.above.iter().cloned());
        Identity { chain, key, pem: certificate.pem() }
    }

    /// As a member of a tenant's `trusted-ca`.
    pub fn anchor(&self) -> Value {
        let key = BASE64.encode(self.issuer.key().subject_public_key_info());
        json!({ "subject-dn": format!("CN={}", self.name), "public-key": key })
    }

    /// A client that trusts this authority, and shows a certificate if it has one.
    pub fn client(&self, identity: Option<&Identity>) -> Arc<ClientConfig> {
        self.client_of(rustls::ALL_VERSIONS, identity)
    }

    pub fn client_of(
        &self,
        versions: &[&'static rustls::SupportedProtocolVersion],
        identity: Option<&Identity>,
    ) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots);
        Arc::new(match identity {
            None => builder.with_no_client_auth(),
            Some(Identity { chain, key, .. }) => {
                let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
                builder.with_client_auth_cert(chain.clone(), key).unwrap()
            }
        })
    }
}

impl Identity {
    /// Writes `name.pem` and `name.key`, over what they held.
    pub fn write(&self, folder: &Path, name: &str) {
        std::fs::write(folder.join(format!("{name}.pem")), &self.pem).unwrap();
        std::fs::write(folder.join(format!("{name}.key")), self.key.serialize_pem()).unwrap();
    }
}
