//! What the uplink trusts: the configured CA file, else the file named by `SSL_CERT_FILE`, else the system's bundle.
//!
//! Deliberately absent: a list of authorities built into the binary. A site replaces its bundle without us.

use crate::error::UplinkError;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Where Linux distributions keep their bundle.
const SYSTEM_BUNDLES: [&str; 5] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// TLS settings that trust `ca_file`, or the system where there is none. ALPN is HTTP/1.1.
pub(crate) fn client_config(ca_file: Option<&Path>) -> Result<Arc<ClientConfig>, UplinkError> {
    let roots = match ca_file {
        Some(path) => read_roots(path)?,
        None => read_roots(&system_bundle()?)?,
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| UplinkError::Config(format!("TLS cannot be set up: {error}")))?;
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

fn system_bundle() -> Result<PathBuf, UplinkError> {
    if let Some(path) = std::env::var_os("SSL_CERT_FILE") {
        return Ok(path.into());
    }
    let found = SYSTEM_BUNDLES.iter().map(PathBuf::from).find(|path| path.is_file());
    found.ok_or_else(|| UplinkError::Trust {
        source_name: "the system's usual places".to_owned(),
        what: "no bundle found".to_owned(),
    })
}

/// All usable certificates of a PEM file. A certificate rustls cannot use is passed over: bundles hold odd ones.
fn read_roots(path: &Path) -> Result<RootCertStore, UplinkError> {
    let refuse =
        |what: String| UplinkError::Trust { source_name: path.display().to_string(), what };
    let certificates: Vec<_> = CertificateDer::pem_file_iter(path)
        .map_err(|error| refuse(error.to_string()))?
        .collect::<Result<_, _>>()
        .map_err(|error| refuse(error.to_string()))?;
    let mut roots = RootCertStore::empty();
    let (added, ignored) = roots.add_parsable_certificates(certificates);
    if added == 0 {
        return Err(refuse(format!("{ignored} certificates, none usable")));
    }
    Ok(roots)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ca_file_without_a_certificate_is_refused_by_name() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let refusal = client_config(Some(file.path())).unwrap_err().to_string();
        assert!(refusal.contains(&file.path().display().to_string()), "{refusal}");
        assert!(client_config(Some(Path::new("/nowhere/ca.pem"))).is_err());
    }
}
