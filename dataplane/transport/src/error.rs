//! What goes wrong with a transport: at a connection, or when certificates are loaded.

use std::path::PathBuf;

/// Why a connection has to end, or why certificates were not loaded.
#[derive(Debug, thiserror::Error)]
pub enum TransportError {
    /// The connection did not begin with a usable PROXY header. Nothing is told to the peer.
    #[error("no usable PROXY header: {0}; let only the proxy connect to this listener")]
    Proxy(&'static str),
    /// The TLS handshake or a record failed. The peer gets the matching alert.
    #[error("TLS failed: {0}")]
    Tls(#[from] rustls::Error),
    /// The peer does not speak TLS.
    #[error("no TLS record where one must begin: the client may speak plain to a TLS listener")]
    NotTls,
    /// A bound of the TLS handshake was passed.
    #[error("TLS handshake over the limit: {0}")]
    TlsLimit(&'static str),
    /// The WebSocket request was refused. The peer gets an HTTP response with `status`.
    #[error("WebSocket request refused with status {status}: {reason}")]
    WebSocketRequest {
        /// HTTP status code of the answer.
        status: u16,
        /// What was wrong.
        reason: &'static str,
    },
    /// The WebSocket's frames were against RFC 6455. The peer gets a close frame with `code`.
    #[error("WebSocket closed with code {code}: {reason}")]
    WebSocket {
        /// Close code (RFC 6455 section 7.4.1).
        code: u16,
        /// What was wrong.
        reason: &'static str,
    },
    /// The stack was driven on after an error or after its end.
    #[error("the connection has ended: drop its stack")]
    Ended,
    /// A certificate or key file could not be read.
    #[error(
        "cannot read {path}: {source}; check that it exists and that the node's user may read it"
    )]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A certificate or key file does not hold what it should.
    #[error("{path} is not usable: {reason}")]
    Certificate {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// No certificate was named for a TLS listener.
    #[error("a TLS listener has no certificate: name at least one chain and key file")]
    NoCertificate,
}
