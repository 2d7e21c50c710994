//! The server's certificates by host name, and their files.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};
use std::{fmt, fs};

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::CertificateFiles;
use crate::TransportError;
use crate::limits::CERTIFICATE_FILE_BYTES_MAX;

/// The certificates handshakes use now.
pub(super) struct CertificateStore {
    current: RwLock<Arc<Certificates>>,
}

/// One loaded set.
struct Certificates {
    default: Arc<CertifiedKey>,
    by_name: HashMap<Box<str>, Arc<CertifiedKey>>,
    /// By what follows `*.`.
    by_wildcard: HashMap<Box<str>, Arc<CertifiedKey>>,
}

impl CertificateStore {
    pub(super) fn load(
        files: &[CertificateFiles],
        crypto: &CryptoProvider,
    ) -> Result<Self, TransportError> {
        let certificates = Certificates::load(files, crypto)?;
        Ok(Self { current: RwLock::new(Arc::new(certificates)) })
    }

    pub(super) fn reload(
        &self,
        files: &[CertificateFiles],
        crypto: &CryptoProvider,
    ) -> Result<(), TransportError> {
        let certificates = Arc::new(Certificates::load(files, crypto)?);
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = certificates;
        Ok(())
    }

    fn current(&self) -> Arc<Certificates> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl ResolvesServerCert for CertificateStore {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let certificates = self.current();
        Some(Arc::clone(match hello.server_name() {
            Some(name) => certificates.for_name(name),
            None => &certificates.default,
        }))
    }
}

impl fmt::Debug for CertificateStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CertificateStore").finish_non_exhaustive()
    }
}

impl Certificates {
    fn load(files: &[CertificateFiles], crypto: &CryptoProvider) -> Result<Self, TransportError> {
        let mut pairs = files.iter();
        let first = pairs.next().ok_or(TransportError::NoCertificate)?;
        let default = Arc::new(read_pair(first, crypto)?);
        let mut certificates =
            Self { default, by_name: HashMap::new(), by_wildcard: HashMap::new() };
        certificates.add(first, &Arc::clone(&certificates.default))?;
        for pair in pairs {
            certificates.add(pair, &Arc::new(read_pair(pair, crypto)?))?;
        }
        Ok(certificates)
    }

    fn add(
        &mut self,
        files: &CertificateFiles,
        pair: &Arc<CertifiedKey>,
    ) -> Result<(), TransportError> {
        let unusable = |error: &dyn fmt::Display| TransportError::Certificate {
            path: files.chain.clone(),
            reason: error.to_string(),
        };
        let leaf = pair.end_entity_cert().map_err(|error| unusable(&error))?;
        let leaf = webpki::EndEntityCert::try_from(leaf).map_err(|error| unusable(&error))?;
        for name in leaf.valid_dns_names() {
            let name = name.to_ascii_lowercase();
            let (map, key) = match name.strip_prefix("*.") {
                Some(parent) => (&mut self.by_wildcard, parent),
                None => (&mut self.by_name, name.as_str()),
            };
            map.entry(Box::from(key)).or_insert_with(|| Arc::clone(pair));
        }
        Ok(())
    }

    /// `name` is in lower case.
    fn for_name(&self, name: &str) -> &Arc<CertifiedKey> {
        let wildcard = || name.split_once('.').and_then(|(_, parent)| self.by_wildcard.get(parent));
        self.by_name.get(name).or_else(wildcard).unwrap_or(&self.default)
    }
}

fn read_pair(
    files: &CertificateFiles,
    crypto: &CryptoProvider,
) -> Result<CertifiedKey, TransportError> {
    let unusable =
        |path: &Path, reason: String| TransportError::Certificate { path: path.to_owned(), reason };
    let chain = CertificateDer::pem_slice_iter(&read_bounded(&files.chain)?)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| unusable(&files.chain, format!("not PEM: {error}")))?;
    if chain.is_empty() {
        return Err(unusable(&files.chain, "it holds no certificate".to_owned()));
    }
    let key = PrivateKeyDer::from_pem_slice(&read_bounded(&files.key)?)
        .map_err(|_| unusable(&files.key, "it holds no unencrypted private key".to_owned()))?;
    CertifiedKey::from_der(chain, key, crypto).map_err(|error| {
        unusable(&files.key, format!("{error}; is it the key of {}?", files.chain.display()))
    })
}

fn read_bounded(path: &Path) -> Result<Vec<u8>, TransportError> {
    let unreadable = |source| TransportError::Read { path: path.to_owned(), source };
    let bytes = fs::metadata(path).map_err(unreadable)?.len();
    if bytes > CERTIFICATE_FILE_BYTES_MAX {
        return Err(TransportError::Certificate {
            path: path.to_owned(),
            reason: format!("{bytes} bytes are more than certificates and keys have"),
        });
    }
    fs::read(path).map_err(unreadable)
}
