//! One connection's layers, put together.

use std::net::SocketAddr;

use crate::limits::OUTPUT_CAPACITY_KEPT_BYTES;
use crate::proxy::{ProxiedConnection, ProxyReader};
use crate::tls::TlsSession;
use crate::websocket::WebSocketSession;
use crate::{Layers, TransportError};

/// Expensive handshake steps a shard may still do in this turn.
///
/// A step is the server's part of one client message that needs public-key cryptography: well below
/// a millisecond with elliptic curves, about one with RSA-2048 keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HandshakeBudget(u32);

impl HandshakeBudget {
    /// So many steps.
    pub fn new(steps: u32) -> Self {
        Self(steps)
    }

    /// Steps left.
    pub fn steps_left(&self) -> u32 {
        self.0
    }

    /// Takes one step, if one is left.
    pub(crate) fn take(&mut self) -> bool {
        let left = self.0.checked_sub(1);
        self.0 = left.unwrap_or(0);
        left.is_some()
    }
}

/// What became of the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Progress {
    /// All were taken. Whether the protocol may speak says [`Stack::is_established`].
    Open,
    /// A handshake step waits for a budget: take nothing more from the socket, call [`Stack::resume`] in a later turn.
    HandshakeDue,
    /// The peer has ended the connection in an orderly way. Flush or [`Stack::close`], then close the socket.
    Finished,
}

/// The layers of one connection. Boxed by the caller; connections of plain listeners have none.
pub struct Stack {
    proxy: Proxy,
    tls: Option<Box<TlsSession>>,
    websocket: Option<Box<WebSocketSession>>,
    output: Vec<u8>,
    phase: Phase,
}

enum Proxy {
    None,
    Expected(ProxyReader),
    Read(Box<ProxiedConnection>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Open,
    /// The peer has ended the connection.
    Finished,
    /// Something was wrong; the peer may not know yet.
    Failed,
    /// Everything that will be sent was handed out.
    Closed,
}

impl Stack {
    /// A connection that was just accepted.
    ///
    /// # Errors
    /// None today; kept for layers that need resources.
    pub fn new(layers: &Layers) -> Result<Self, TransportError> {
        Ok(Self {
            proxy: if layers.proxy { Proxy::Expected(ProxyReader::default()) } else { Proxy::None },
            tls: layers.tls.as_ref().map(|tls| Box::new(TlsSession::new(tls))),
            websocket: layers.websocket.as_ref().map(|web| Box::new(WebSocketSession::new(web))),
            output: Vec::new(),
            phase: Phase::Open,
        })
    }

    /// Takes bytes of the socket and appends protocol bytes to `plain`, whose contents are left alone.
    ///
    /// Handshake answers, pongs and the like may have to be sent afterwards: see [`Self::wants_flush`].
    ///
    /// # Errors
    /// The connection must end: [`Self::refuse`], send what it wrote, close the socket. What was appended to
    /// `plain` before the error is what the peer sent before its mistake. After an error, and after [`Self::close`],
    /// [`TransportError::Ended`].
    pub fn receive(
        &mut self,
        bytes: &[u8],
        plain: &mut Vec<u8>,
        budget: &mut HandshakeBudget,
    ) -> Result<Progress, TransportError> {
        match self.phase {
            Phase::Open => {}
            // Bytes behind the peer's own end mean nothing.
            Phase::Finished => return Ok(Progress::Finished),
            Phase::Failed | Phase::Closed => return Err(TransportError::Ended),
        }
        let progress = self.read_layers(bytes, plain, budget);
        match progress {
            Ok(Progress::Finished) => self.phase = Phase::Finished,
            Err(_) => self.phase = Phase::Failed,
            Ok(Progress::Open | Progress::HandshakeDue) => {}
        }
        progress
    }

    fn read_layers(
        &mut self,
        mut bytes: &[u8],
        plain: &mut Vec<u8>,
        budget: &mut HandshakeBudget,
    ) -> Result<Progress, TransportError> {
        if let Proxy::Expected(reader) = &mut self.proxy {
            let Some((connection, rest)) = reader.receive(bytes)? else {
                return Ok(Progress::Open);
            };
            self.proxy = Proxy::Read(Box::new(connection));
            bytes = rest;
        }
        let start = plain.len();
        let progress = match &mut self.tls {
            Some(tls) => tls.receive(bytes, plain, budget),
            None => {
                plain.extend_from_slice(bytes);
                Ok(Progress::Open)
            }
        };
        let Some(websocket) = &mut self.websocket else { return progress };
        if plain.len() == start {
            return progress;
        }
        // What came before TLS failed still counts; but then TLS says why the connection ends.
        match (progress, websocket.receive(plain, start)) {
            (Err(error), _) | (Ok(_), Err(error)) => Err(error),
            (Ok(_), Ok(Progress::Finished)) => Ok(Progress::Finished),
            (Ok(progress), Ok(_)) => Ok(progress),
        }
    }

    /// Goes on after [`Progress::HandshakeDue`], with the bytes that were kept.
    ///
    /// # Errors
    /// As [`Self::receive`].
    pub fn resume(
        &mut self,
        plain: &mut Vec<u8>,
        budget: &mut HandshakeBudget,
    ) -> Result<Progress, TransportError> {
        self.receive(&[], plain, budget)
    }

    /// Where the protocol writes its output: protocol bytes, unframed. May be written to before the
    /// stack is established; nothing of it leaves before that.
    pub fn output(&mut self) -> &mut Vec<u8> {
        &mut self.output
    }

    /// Bytes of the protocol's output that no flush has passed on yet.
    pub fn queued_bytes(&self) -> usize {
        self.output.len()
    }

    /// Appends to `socket_out` whatever can be sent now: handshake answers, pongs, and the protocol's output
    /// framed and encrypted. Everything written to [`Self::output`] since the last call makes one WebSocket message.
    ///
    /// # Errors
    /// [`TransportError::Tls`] when a record cannot be encrypted any more; the connection must end.
    pub fn flush(&mut self, socket_out: &mut Vec<u8>) -> Result<(), TransportError> {
        if !matches!(self.phase, Phase::Open | Phase::Finished) {
            return Ok(());
        }
        let result = self.write_layers(socket_out);
        if result.is_err() {
            self.phase = Phase::Failed;
        }
        result
    }

    fn write_layers(&mut self, socket_out: &mut Vec<u8>) -> Result<(), TransportError> {
        if let Some(tls) = &mut self.tls {
            tls.flush_handshake(socket_out);
            if !tls.is_established() {
                return Ok(());
            }
        }
        if !self.is_established() {
            return Ok(());
        }
        if let Some(websocket) = &mut self.websocket {
            if !websocket.may_send_data() {
                self.output.clear();
            }
            websocket.frame(&mut self.output);
        }
        if !self.output.is_empty() {
            match &mut self.tls {
                Some(tls) => tls.encrypt(&self.output, socket_out)?,
                None => socket_out.extend_from_slice(&self.output),
            }
        }
        if self.output.capacity() > OUTPUT_CAPACITY_KEPT_BYTES {
            self.output = Vec::new();
        } else {
            self.output.clear();
        }
        Ok(())
    }

    /// Whether [`Self::flush`] would write anything.
    pub fn wants_flush(&self) -> bool {
        matches!(self.phase, Phase::Open | Phase::Finished)
            && (self.tls.as_ref().is_some_and(|tls| tls.wants_flush())
                || self.websocket.as_ref().is_some_and(|websocket| websocket.wants_flush())
                || !self.output.is_empty() && self.is_established())
    }

    /// The orderly end by us: flushes, then appends the WebSocket close frame (code 1000) and the TLS
    /// close_notify. Close the socket once `socket_out` is sent. Nothing is written a second time.
    pub fn close(&mut self, socket_out: &mut Vec<u8>) {
        if self.flush(socket_out).is_ok() && matches!(self.phase, Phase::Open | Phase::Finished) {
            if let Some(websocket) = &mut self.websocket {
                websocket.close();
            }
            self.say_goodbye(socket_out);
        }
        self.end();
    }

    /// After an error: what the peer should still be told (an HTTP status, a WebSocket close code, a TLS alert),
    /// appended to `socket_out`. The protocol's unsent output is dropped. Often nothing. Nothing is written a second time.
    pub fn refuse(&mut self, socket_out: &mut Vec<u8>) {
        if self.phase != Phase::Closed {
            self.say_goodbye(socket_out);
        }
        self.end();
    }

    /// What the layers themselves still have to say.
    fn say_goodbye(&mut self, socket_out: &mut Vec<u8>) {
        let words =
            self.websocket.as_mut().map(|websocket| websocket.take_outgoing()).unwrap_or_default();
        let Some(tls) = &mut self.tls else {
            socket_out.extend_from_slice(&words);
            return;
        };
        tls.flush_handshake(socket_out);
        if tls.is_established() {
            let said = words.is_empty() || tls.encrypt(&words, socket_out).is_ok();
            if said {
                tls.close(socket_out);
            }
        }
    }

    fn end(&mut self) {
        self.phase = Phase::Closed;
        self.output = Vec::new();
    }

    /// Frees what an idle connection does not need: the kept capacity of its output buffer.
    pub fn release_idle(&mut self) {
        self.output.shrink_to_fit();
    }

    /// The client's address as the PROXY header gives it. `None` without a header, and for connections
    /// the proxy opened itself (LOCAL), or over UNIX sockets.
    pub fn peer_addr(&self) -> Option<SocketAddr> {
        self.proxied()?.source
    }

    /// All that the PROXY header said, once it was read.
    pub fn proxied(&self) -> Option<&ProxiedConnection> {
        match &self.proxy {
            Proxy::Read(connection) => Some(connection),
            Proxy::None | Proxy::Expected(_) => None,
        }
    }

    /// The host name the client asked for, in lower case: TLS server name, or the PROXY header's authority where
    /// TLS ends at the proxy. A name, not a proof: the client chooses it.
    pub fn server_name(&self) -> Option<&str> {
        let tls = self.tls.as_ref().and_then(|tls| tls.server_name());
        tls.or_else(|| self.proxied()?.authority.as_deref())
    }

    /// The client's own certificate, DER, once the TLS handshake is done. Possession of its key is
    /// proven; whether anyone trusts it is not decided here, see [`crate::ServerTls`].
    pub fn client_certificate(&self) -> Option<&[u8]> {
        self.client_chain().next()
    }

    /// The client's certificates, DER, its own first. Empty without client certificate.
    pub fn client_chain(&self) -> impl Iterator<Item = &[u8]> {
        self.tls.iter().flat_map(|tls| tls.client_chain())
    }

    /// Whether every layer's handshake is done, so that protocol bytes flow.
    pub fn is_established(&self) -> bool {
        !matches!(self.proxy, Proxy::Expected(_))
            && self.tls.as_ref().is_none_or(|tls| tls.is_established())
            && self.websocket.as_ref().is_none_or(|websocket| websocket.is_established())
    }

    /// Whether the connection is over: the peer has ended it, an error has, or we have.
    pub fn is_finished(&self) -> bool {
        self.phase != Phase::Open
    }
}

// A connection may move to another shard's thread.
const _: () = {
    const fn sendable<T: Send>() {}
    sendable::<Stack>();
};
