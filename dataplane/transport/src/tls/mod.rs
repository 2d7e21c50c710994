//! TLS 1.2 and 1.3 by rustls, on its unbuffered interface: a connection between two records holds
//! keys and no buffers: 3.7 KB of memory when idle, where a buffered one has 7.7 KB (`examples/cost.rs`).
//!
//! # Who trusts a client's certificate
//! Not this crate. It asks for certificates where the listener says so, checks that each is well-formed
//! and that the client holds the key of the first one, and hands the chain out. Whether an anchor of some
//! tenant vouches for it, and whether it is in its period, is decided by the registry, which knows the
//! tenants; a chain from here proves nothing but possession.
//!
//! # Resumption
//! Session tickets are on and stateless: sealed with keys of this process that change every six hours.
//! A ticket carries the client's chain, so a resumed connection hands out the same chain and the registry
//! decides again. Early data is never accepted: it could be replayed.
//!
//! The one lock a shard meets here is rustls' ticket key and the set of certificates, each read once per
//! handshake and held for a few instructions. Tickets are dated by rustls with the system's clock.

mod certificates;
mod client_certificate;
mod handshake;
mod session;

use std::path::PathBuf;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::ring as provider;

use self::certificates::CertificateStore;
use self::client_certificate::PossessionVerifier;
use crate::TransportError;

pub(crate) use self::session::TlsSession;

/// A chain and its key, PEM files. The host names it is for are those of the certificate.
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
    /// Certificates. The first one serves clients that name no server, or one no certificate is for. Where
    /// two are for the same name, the earlier one serves it.
    pub certificates: Vec<CertificateFiles>,
    /// Whether clients are asked for a certificate.
    pub client_certificates: ClientCertificates,
}

/// TLS configuration shared by all connections and all shards.
pub struct ServerTls {
    settings: TlsSettings,
    store: Arc<CertificateStore>,
    config: Arc<ServerConfig>,
}

impl ServerTls {
    /// Reads the files and makes a configuration. Blocks.
    ///
    /// # Errors
    /// [`TransportError::Read`] and [`TransportError::Certificate`] name the file that cannot be used and why,
    /// [`TransportError::NoCertificate`] is for settings without any; [`TransportError::Tls`] when the system has no randomness.
    pub fn load(settings: TlsSettings) -> Result<Arc<Self>, TransportError> {
        let crypto = Arc::new(provider::default_provider());
        let store = Arc::new(CertificateStore::load(&settings.certificates, &crypto)?);
        let builder = ServerConfig::builder_with_provider(Arc::clone(&crypto))
            .with_safe_default_protocol_versions()?;
        let builder = match settings.client_certificates {
            ClientCertificates::NotRequested => builder.with_no_client_auth(),
            ClientCertificates::Optional => {
                builder.with_client_cert_verifier(PossessionVerifier::new(&crypto, false))
            }
            ClientCertificates::Required => {
                builder.with_client_cert_verifier(PossessionVerifier::new(&crypto, true))
            }
        };
        let mut config = builder.with_cert_resolver(Arc::clone(&store) as _);
        config.ticketer = provider::Ticketer::new()?;
        // Each costs an encryption and up to a chain's length of bytes; devices keep one connection.
        config.send_tls13_tickets = 1;
        // Nothing is kept per session: tickets alone.
        config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
        config.max_early_data_size = 0;
        Ok(Arc::new(Self { settings, store, config: Arc::new(config) }))
    }

    /// Reads the files again; handshakes that begin afterwards use what they hold. Running connections and
    /// tickets are untouched. Blocks: never call it on a shard.
    ///
    /// # Errors
    /// Names the file that cannot be used, and why; then all certificates stay as they were.
    pub fn reload(&self) -> Result<(), TransportError> {
        self.store.reload(&self.settings.certificates, self.config.crypto_provider())
    }

    /// Whether a client's encrypted handshake records may hold a certificate to verify.
    fn asks_for_certificates(&self) -> bool {
        self.settings.client_certificates != ClientCertificates::NotRequested
    }
}

impl std::fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServerTls").field("settings", &self.settings).finish_non_exhaustive()
    }
}
