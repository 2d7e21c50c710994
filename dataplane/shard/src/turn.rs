//! What a session works with while something of its connection is handled.

use crate::connections::Key;
use crate::identity::Login;
use crate::plane::Plane;
use fulcrum_ring::{ConnectionId, Io};
use fulcrum_transport::Stack;

/// The plane, the ring, and the session's own connection.
pub(crate) struct Turn<'a, 'io> {
    pub plane: &'a mut Plane,
    pub io: &'a mut Io<'io>,
    pub wire: Wire<'a>,
}

impl Turn<'_, '_> {
    /// Where bytes for the peer go; `None` once the connection is closed.
    pub(crate) fn output(&mut self) -> Option<&mut Vec<u8>> {
        self.wire.output(self.io)
    }
}

/// The way to a connection's peer: the ring's output, or the transport in front of it.
pub(crate) struct Wire<'a> {
    pub key: Key,
    pub id: ConnectionId,
    pub stack: Option<&'a mut Stack>,
}

impl Wire<'_> {
    /// Where bytes for the peer go; `None` once the connection is closed. What is written into a transport leaves when
    /// the connection is flushed.
    pub(crate) fn output<'s>(&'s mut self, io: &'s mut Io<'_>) -> Option<&'s mut Vec<u8>> {
        match &mut self.stack {
            None => io.output(self.id),
            Some(stack) => io.is_open(self.id).then(|| stack.output()),
        }
    }

    /// The login by the certificate the peer has shown in its TLS handshake, if it has shown one.
    pub(crate) fn certificate_login(&self) -> Option<Login> {
        let stack = self.stack.as_deref()?;
        let chain: Vec<Vec<u8>> = stack.client_chain().map(<[u8]>::to_vec).collect();
        let server_name = stack.server_name().map(str::to_owned);
        (!chain.is_empty()).then_some(Login::Certificate { chain, server_name })
    }

    /// Sends what is written, says goodbye in the transport's words, and closes.
    pub(crate) fn close(&mut self, io: &mut Io<'_>) {
        if let Some(stack) = &mut self.stack
            && let Some(output) = io.output(self.id)
        {
            stack.close(output);
        }
        io.close(self.id);
    }

    /// Has the transport pass on what is written into it.
    pub(crate) fn flush(&mut self, io: &mut Io<'_>) {
        let Some(stack) = &mut self.stack else { return };
        if !stack.wants_flush() {
            return;
        }
        let Some(output) = io.output(self.id) else { return };
        if let Err(error) = stack.flush(output) {
            tracing::debug!(%error, "a transport cannot go on");
            io.close(self.id);
        }
    }

    /// Bytes the peer has not been sent yet.
    pub(crate) fn queued_bytes(&self, io: &Io<'_>) -> usize {
        io.queued_bytes(self.id) + self.stack.as_deref().map_or(0, Stack::queued_bytes)
    }
}
