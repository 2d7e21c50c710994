//! One ready connection: bytes in and out without blocking.
//!
//! Invariant: `outbox` is only written to the socket by [`Connection::flush`], once a turn, so a
//! turn's messages leave in one system call.

use fulcrum_mqtt::{DecodeContext, Decoded, Packet, ProtocolLevel, decode};
use mio::net::TcpStream;
use std::io::{ErrorKind, Read, Write};

/// A broker's packet to the driver is at most one of its own messages sent back.
const PACKET_BYTES_MAX: usize = 2 << 20;
/// At this size nothing more is encoded for the connection until the socket took some.
pub const OUTBOX_BYTES_MAX: usize = 1 << 20;

const CONTEXT: DecodeContext =
    DecodeContext { level: Some(ProtocolLevel::V311), packet_bytes_max: PACKET_BYTES_MAX };

/// The broker ended the connection, or it is beyond repair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Closed;

/// A non-blocking connection.
pub struct Connection {
    stream: TcpStream,
    /// The beginning of a packet whose rest has not arrived.
    unread: Vec<u8>,
    /// Encoded and not yet taken by the socket, from `written` on.
    pub outbox: Vec<u8>,
    written: usize,
}

impl Connection {
    /// Takes over a stream whose handshake is done and that is set to non-blocking.
    pub fn new(stream: TcpStream) -> Self {
        Self { stream, unread: Vec::new(), outbox: Vec::new(), written: 0 }
    }

    /// The stream, for registration.
    pub fn stream(&mut self) -> &mut TcpStream {
        &mut self.stream
    }

    /// Reads what is there and hands each whole packet to `on_packet`.
    ///
    /// # Errors
    /// The connection is over.
    pub fn receive(
        &mut self,
        scratch: &mut [u8],
        mut on_packet: impl FnMut(&Packet<'_>),
    ) -> Result<(), Closed> {
        loop {
            let count = match self.stream.read(scratch) {
                Ok(0) => return Err(Closed),
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(_) => return Err(Closed),
            };
            let fresh = &scratch[..count];
            if self.unread.is_empty() {
                let used = packets(fresh, &mut on_packet)?;
                self.unread.extend_from_slice(&fresh[used..]);
            } else {
                self.unread.extend_from_slice(fresh);
                let used = packets(&self.unread, &mut on_packet)?;
                self.unread.drain(..used);
            }
            // epoll(7), question 9: a short read of a stream socket means that it is drained.
            if count < scratch.len() {
                return Ok(());
            }
        }
    }

    /// Writes as much of the outbox as the socket takes. What is left follows when the socket is
    /// reported writable.
    ///
    /// # Errors
    /// The connection is over.
    pub fn flush(&mut self) -> Result<(), Closed> {
        while self.written < self.outbox.len() {
            match self.stream.write(&self.outbox[self.written..]) {
                Ok(0) => return Err(Closed),
                Ok(count) => self.written += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.outbox.drain(..self.written);
                    self.written = 0;
                    return Ok(());
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return Err(Closed),
            }
        }
        self.outbox.clear();
        self.written = 0;
        Ok(())
    }
}

/// Hands over each whole packet at the front of `bytes`; returns how many bytes they had.
fn packets(bytes: &[u8], on_packet: &mut impl FnMut(&Packet<'_>)) -> Result<usize, Closed> {
    let mut at = 0;
    while at < bytes.len() {
        match decode(&bytes[at..], &CONTEXT) {
            Ok(Decoded::Packet { packet, used }) => {
                on_packet(&packet);
                at += used;
            }
            Ok(Decoded::NeedMore { .. }) => break,
            Err(_) => return Err(Closed),
        }
    }
    Ok(at)
}
