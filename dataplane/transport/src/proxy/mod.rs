//! The PROXY protocol's header, versions 2 and 1: who connected to the proxy in front of us.
//!
//! A listener has it or has not. Where it is expected, a connection without a well-formed header is refused:
//! reading on would let anyone who reaches the listener pass as the proxy's client, or the other way round.

mod v1;
mod v2;

use std::net::SocketAddr;

use crate::TransportError;
use crate::limits::PROXY_HEADER_BYTES_MAX;

/// What the header said.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProxiedConnection {
    /// The client's address. `None` for connections the proxy opened for itself, and of UNIX sockets.
    pub source: Option<SocketAddr>,
    /// The address the client connected to.
    pub destination: Option<SocketAddr>,
    /// The host name the client asked for, in lower case.
    pub authority: Option<Box<str>>,
    /// TLS that ended at the proxy.
    pub tls: Option<ProxiedTls>,
}

/// TLS between client and proxy, as the proxy tells it. For logs: nothing of it proves anything here.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProxiedTls {
    /// Whether the client showed a certificate and the proxy found it good.
    pub client_verified: bool,
    /// For instance `TLSv1.3`.
    pub version: Option<Box<str>>,
    /// Common name of the client's certificate.
    pub common_name: Option<Box<str>>,
}

/// What a look at the connection's first bytes gives.
#[derive(Debug, PartialEq, Eq)]
enum Parsed {
    /// The header is not complete; it may be with this many bytes.
    NeedMore { at_least: usize },
    /// It took so many bytes.
    Header { used: usize, connection: ProxiedConnection },
}

/// Gathers the header's bytes.
#[derive(Debug, Default)]
pub(crate) struct ProxyReader {
    head: Vec<u8>,
    at_least: usize,
}

impl ProxyReader {
    /// Takes bytes. When the header is complete: what it says, and the bytes behind it.
    pub(crate) fn receive<'a>(
        &mut self,
        bytes: &'a [u8],
    ) -> Result<Option<(ProxiedConnection, &'a [u8])>, TransportError> {
        let before = self.head.len();
        let room = PROXY_HEADER_BYTES_MAX.saturating_sub(before);
        self.head.extend_from_slice(&bytes[..bytes.len().min(room)]);
        if self.head.len() < self.at_least {
            return Ok(None);
        }
        match parse(&self.head)? {
            Parsed::NeedMore { at_least } => {
                self.at_least = at_least;
                Ok(None)
            }
            // What was there before was no whole header, so the header ends in these bytes.
            Parsed::Header { used, connection } => {
                self.head = Vec::new();
                Ok(Some((connection, &bytes[used.saturating_sub(before)..])))
            }
        }
    }
}

fn parse(head: &[u8]) -> Result<Parsed, TransportError> {
    match head.first() {
        None => Ok(Parsed::NeedMore { at_least: 1 }),
        Some(b'P') => v1::parse(head),
        Some(_) => v2::parse(head),
    }
}

/// Whether `head` begins with `signature`, as far as it is there.
fn agrees(head: &[u8], signature: &[u8]) -> bool {
    head.iter().zip(signature).all(|(byte, wanted)| byte == wanted)
}
