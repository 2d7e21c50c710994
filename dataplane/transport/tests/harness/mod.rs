//! Certificates made for one test, and a client that talks to a `Stack` without sockets.
#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::panic,
    missing_docs,
    reason = "shared by test programs, none of which uses all of it"
)]

use std::fs;
use std::io::{Read, Write};
use std::path::PathBuf;
use std::sync::Arc;

use fulcrum_transport::{
    CertificateFiles, ClientCertificates, HandshakeBudget, Layers, Progress, ServerTls, Stack,
    TlsSettings, TransportError, WebSocketSettings,
};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use tempfile::TempDir;

/// A certificate authority with a folder for the files it writes.
pub struct Authority {
    pub folder: TempDir,
    certificate: rcgen::Certificate,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    pub fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).unwrap();
        let issuer = Issuer::new(params, key);
        Self { folder: tempfile::tempdir().unwrap(), certificate, issuer }
    }

    pub fn issue(&self, names: &[&str]) -> (CertificateDer<'static>, KeyPair, String) {
        let key = KeyPair::generate().unwrap();
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let params = CertificateParams::new(names).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        (certificate.der().clone(), key, certificate.pem())
    }

    /// Writes `file.pem` and `file.key`, over what they held.
    pub fn files(&self, file: &str, names: &[&str]) -> CertificateFiles {
        let (_, key, pem) = self.issue(names);
        let files = self.paths(file);
        fs::write(&files.chain, pem).unwrap();
        fs::write(&files.key, key.serialize_pem()).unwrap();
        files
    }

    pub fn paths(&self, file: &str) -> CertificateFiles {
        let path = |end: &str| -> PathBuf { self.folder.path().join(format!("{file}.{end}")) };
        CertificateFiles { chain: path("pem"), key: path("key") }
    }

    pub fn server(&self, client_certificates: ClientCertificates) -> Arc<ServerTls> {
        let certificates = vec![self.files("server", &["edge.example"])];
        ServerTls::load(TlsSettings { certificates, client_certificates }).unwrap()
    }

    pub fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.der().clone()).unwrap();
        roots
    }

    /// A client that trusts this authority and has no certificate of its own.
    pub fn client(&self) -> ClientConfig {
        self.client_of(rustls::ALL_VERSIONS)
    }

    pub fn client_of(
        &self,
        versions: &[&'static rustls::SupportedProtocolVersion],
    ) -> ClientConfig {
        builder(versions).with_root_certificates(self.roots()).with_no_client_auth()
    }

    pub fn client_with(
        &self,
        versions: &[&'static rustls::SupportedProtocolVersion],
        chain: Vec<CertificateDer<'static>>,
        key: &KeyPair,
    ) -> ClientConfig {
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        builder(versions)
            .with_root_certificates(self.roots())
            .with_client_auth_cert(chain, key)
            .unwrap()
    }
}

fn builder(
    versions: &[&'static rustls::SupportedProtocolVersion],
) -> rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier> {
    ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_protocol_versions(versions)
        .unwrap()
}

pub fn tls_layers(tls: &Arc<ServerTls>) -> Layers {
    Layers { tls: Some(Arc::clone(tls)), ..Layers::default() }
}

pub fn websocket_layers() -> Layers {
    Layers { websocket: Some(WebSocketSettings::default()), ..Layers::default() }
}

pub fn generous() -> HandshakeBudget {
    HandshakeBudget::new(u32::MAX)
}

/// Both ends of one connection and the bytes between them.
pub struct Pair {
    pub client: ClientConnection,
    pub server: Stack,
    /// What the server's protocol got.
    pub plain: Vec<u8>,
    /// What the client's application got.
    pub answered: Vec<u8>,
    /// How many bytes travel at once; 0 is all there are.
    pub piece: usize,
}

impl Pair {
    pub fn new(layers: &Layers, config: &Arc<ClientConfig>, name: &str) -> Self {
        let name = ServerName::try_from(name.to_owned()).unwrap();
        Self {
            client: ClientConnection::new(Arc::clone(config), name).unwrap(),
            server: Stack::new(layers).unwrap(),
            plain: Vec::new(),
            answered: Vec::new(),
            piece: 0,
        }
    }

    /// Carries bytes until neither side has any.
    pub fn exchange(&mut self) -> Result<Progress, TransportError> {
        let mut progress = Progress::Open;
        loop {
            let from_client = self.take_from_client();
            for piece in pieces(&from_client, self.piece) {
                progress = self.server.receive(piece, &mut self.plain, &mut generous())?;
                assert_ne!(progress, Progress::HandshakeDue, "the budget is generous");
            }
            let mut from_server = Vec::new();
            self.server.flush(&mut from_server)?;
            assert!(!self.server.wants_flush());
            self.give_to_client(&from_server);
            if from_client.is_empty() && from_server.is_empty() {
                return Ok(progress);
            }
        }
    }

    /// Exchanges what there is; the connection must stay open.
    pub fn settle(&mut self) {
        assert_eq!(self.exchange().unwrap(), Progress::Open);
    }

    pub fn take_from_client(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        while self.client.wants_write() {
            self.client.write_tls(&mut bytes).unwrap();
        }
        bytes
    }

    /// Whether the client is content with what it got.
    pub fn give_to_client(&mut self, bytes: &[u8]) -> bool {
        for mut piece in pieces(bytes, self.piece) {
            while !piece.is_empty() {
                if self.client.read_tls(&mut piece).is_err() {
                    return false;
                }
                let Ok(state) = self.client.process_new_packets() else { return false };
                let mut answered = vec![0; state.plaintext_bytes_to_read()];
                self.client.reader().read_exact(&mut answered).unwrap();
                self.answered.extend(answered);
            }
        }
        true
    }

    pub fn send(&mut self, bytes: &[u8]) {
        self.client.writer().write_all(bytes).unwrap();
    }

    /// Protocol output of the server, all the way to the client.
    pub fn answer(&mut self, bytes: &[u8]) {
        self.server.output().extend_from_slice(bytes);
        self.settle();
    }
}

pub fn pieces(bytes: &[u8], piece: usize) -> std::slice::Chunks<'_, u8> {
    bytes.chunks(if piece == 0 { bytes.len().max(1) } else { piece })
}

/// A client's frame, masked.
pub fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    const MASK: [u8; 4] = [0x5A, 0x01, 0xFE, 0x33];
    let mut out = vec![first];
    match payload.len() {
        0..=125 => out.push(0x80 | payload.len() as u8),
        126..=0xFFFF => {
            out.push(0x80 | 126);
            out.extend((payload.len() as u16).to_be_bytes());
        }
        _ => {
            out.push(0x80 | 127);
            out.extend((payload.len() as u64).to_be_bytes());
        }
    }
    out.extend(MASK);
    out.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    out
}

pub const REQUEST: &str = "GET /mqtt HTTP/1.1\r\nHost: edge.example\r\nUpgrade: websocket\r\n\
    Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n";
