//! TLS: certificates from files, or of a development CA made here.
//!
//! The CA lives for ten years, so that clients that trust `ca.pem` go on; the server's certificate lives 825 days (the longest
//! that Apple's platforms accept) and is made anew at a start within 30 days of its end, or when its names change.

use crate::{LocalConfig, LocalError, Tls, files};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use time::{Duration, OffsetDateTime};
use tokio_rustls::TlsAcceptor;

const CA_LIFE: Duration = Duration::days(3650);
const SERVER_LIFE: Duration = Duration::days(825);
const RENEW_BEFORE: Duration = Duration::days(30);

/// Why there is no certificate to serve with.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// A PEM file cannot be read.
    #[error("{0}: {1}; give a PEM file")]
    Pem(PathBuf, String),
    /// The development CA cannot make a certificate.
    #[error(
        "the development CA failed: {0}; remove ca.* and server.* from the data directory for a new one"
    )]
    Make(#[from] rcgen::Error),
    /// Certificate and key cannot be used together.
    #[error("the certificate cannot be used: {0}; do certificate and key belong together?")]
    Use(#[from] rustls::Error),
}

/// What accepts connections, and the file that clients must trust, if we made it.
pub(crate) fn acceptor(
    config: &LocalConfig,
    address: IpAddr,
) -> Result<(Option<TlsAcceptor>, Option<PathBuf>), LocalError> {
    match &config.tls {
        Tls::Off => Ok((None, None)),
        Tls::Files { certificate, key } => Ok((Some(of_files(certificate, key)?), None)),
        Tls::Development => {
            let dir = &config.data_dir;
            let names = names(&config.host_names, address);
            make_development(dir, &names)?;
            let acceptor = of_files(&dir.join("server.pem"), &dir.join("server.key"))?;
            Ok((Some(acceptor), Some(dir.join("ca.pem"))))
        }
    }
}

fn of_files(certificate: &Path, key: &Path) -> Result<TlsAcceptor, CertificateError> {
    let pem = |path: &Path| {
        let path = path.to_owned();
        move |error: rustls::pki_types::pem::Error| {
            CertificateError::Pem(path.clone(), error.to_string())
        }
    };
    let chain = CertificateDer::pem_file_iter(certificate)
        .map_err(pem(certificate))?
        .collect::<Result<Vec<_>, _>>()
        .map_err(pem(certificate))?;
    let key = PrivateKeyDer::from_pem_file(key).map_err(pem(key))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

fn names(host_names: &[String], address: IpAddr) -> Vec<String> {
    let mut names: Vec<_> = ["localhost", "127.0.0.1", "::1"].map(str::to_owned).into();
    if !address.is_unspecified() {
        names.push(address.to_string());
    }
    if let Ok(Some(host)) = files::read(Path::new("/etc/hostname")) {
        names.push(host.trim().to_owned());
    }
    names.extend(host_names.iter().cloned());
    names.retain(|name| !name.is_empty());
    let mut seen = std::collections::HashSet::new();
    names.retain(|name| seen.insert(name.clone()));
    names
}

/// Makes what is missing, near its end, or for other names.
fn make_development(dir: &Path, names: &[String]) -> Result<(), LocalError> {
    let now = OffsetDateTime::now_utc();
    let path = |name: &str| dir.join(name);
    // First line: end of the certificate's life; then its names.
    let wanted = names.join("\n");
    let stamp = files::read(&path("server.names"))?.unwrap_or_default();
    let (ends, stamped) = stamp.split_once('\n').unwrap_or_default();
    let ends = ends.parse().ok().and_then(|s| OffsetDateTime::from_unix_timestamp(s).ok());
    let fresh = ends.is_some_and(|ends| now + RENEW_BEFORE < ends);
    let there =
        ["ca.pem", "ca.key", "server.pem", "server.key"].iter().all(|name| path(name).exists());
    if there && fresh && stamped == wanted {
        return Ok(());
    }
    let issuer = authority(dir, now)?;
    let key = KeyPair::generate().map_err(CertificateError::from)?;
    let mut params = CertificateParams::new(names).map_err(CertificateError::from)?;
    params.distinguished_name.push(DnType::CommonName, "Fulcrum development server");
    params.use_authority_key_identifier_extension = true;
    params.key_usages.push(KeyUsagePurpose::DigitalSignature);
    params.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth);
    params.not_before = now - Duration::days(1);
    params.not_after = params.not_before + SERVER_LIFE;
    let certificate = params.signed_by(&key, &issuer).map_err(CertificateError::from)?;
    files::write(&path("server.key"), &key.serialize_pem(), 0o600)?;
    files::write(&path("server.pem"), &certificate.pem(), 0o600)?;
    let stamp = format!("{}\n{wanted}", params.not_after.unix_timestamp());
    files::write(&path("server.names"), &stamp, 0o600)
}

/// The development CA; made if its files are not there. Its certificate always says the same, so it is not read back.
fn authority(dir: &Path, now: OffsetDateTime) -> Result<Issuer<'static, KeyPair>, LocalError> {
    let (key_path, certificate_path) = (dir.join("ca.key"), dir.join("ca.pem"));
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.distinguished_name.push(DnType::OrganizationName, "Fulcrum");
    params.distinguished_name.push(DnType::CommonName, "Fulcrum development CA");
    params.key_usages.extend([KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign]);
    params.not_before = now - Duration::days(1);
    params.not_after = params.not_before + CA_LIFE;
    let key = match files::read(&key_path)? {
        Some(pem) if certificate_path.exists() => {
            KeyPair::from_pem(&pem).map_err(CertificateError::from)?
        }
        _ => {
            let key = KeyPair::generate().map_err(CertificateError::from)?;
            let certificate = params.self_signed(&key).map_err(CertificateError::from)?;
            files::write(&key_path, &key.serialize_pem(), 0o600)?;
            files::write(&certificate_path, &certificate.pem(), 0o644)?;
            key
        }
    };
    Ok(Issuer::new(params, key))
}
