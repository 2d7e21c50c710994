//! What lies between MQTT and the socket: TLS, WebSocket, or one in the other. Bytes in, bytes out.
//!
//! Deliberately small: the driver trusts the broker it measures. WebSocket's accept key is not
//! checked, and its masks are all zero, which the broker has to apply all the same.

use crate::error::LoadError;
use crate::plan::Plan;
use crate::settings::Carrier;
use crate::wire::Closed;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use std::io::{Read, Write};
use std::sync::Arc;

/// Makes the channels of a run.
pub struct Channels {
    tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
    upgrade: Option<Arc<[u8]>>,
}

impl Channels {
    /// For the carrier of `plan`.
    ///
    /// # Errors
    /// The authority's file is unreadable or holds no certificate; the name is none.
    pub fn new(plan: &Plan) -> Result<Self, LoadError> {
        let upgrade = matches!(plan.carrier, Carrier::Ws | Carrier::Wss).then(|| upgrade(plan));
        Ok(Self { tls: plan.ca.is_some().then(|| tls(plan)).transpose()?.flatten(), upgrade })
    }

    /// A channel for one connection; `None`: nothing is in between.
    ///
    /// # Errors
    /// The TLS library refuses its own settings.
    pub fn open(&self) -> Result<Option<Box<Channel>>, LoadError> {
        if self.tls.is_none() && self.upgrade.is_none() {
            return Ok(None);
        }
        let tls = match &self.tls {
            None => None,
            Some((config, name)) => {
                let mut tls = ClientConnection::new(config.clone(), name.clone())
                    .map_err(|source| LoadError::Tls { source })?;
                tls.set_buffer_limit(None);
                Some(tls)
            }
        };
        let socket = self.upgrade.clone().map(|request| WebSocket {
            to_send: request.to_vec(),
            is_upgraded: false,
            unread: Vec::new(),
        });
        Ok(Some(Box::new(Channel { tls, socket })))
    }
}

fn tls(plan: &Plan) -> Result<Option<(Arc<ClientConfig>, ServerName<'static>)>, LoadError> {
    let Some(path) =
        plan.ca.as_ref().filter(|_| matches!(plan.carrier, Carrier::Tls | Carrier::Wss))
    else {
        return Ok(None);
    };
    let unusable = |reason: String| LoadError::Authority { path: path.clone(), reason };
    let mut roots = RootCertStore::empty();
    for certificate in
        CertificateDer::pem_file_iter(path).map_err(|error| unusable(error.to_string()))?
    {
        let certificate = certificate.map_err(|error| unusable(error.to_string()))?;
        roots.add(certificate).map_err(|error| unusable(error.to_string()))?;
    }
    if roots.is_empty() {
        return Err(unusable("there is no certificate in it".to_owned()));
    }
    let mut config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    // Each handshake is a whole one, whatever the broker offers: what a first connection costs.
    config.resumption = rustls::client::Resumption::disabled();
    let name = ServerName::try_from(plan.server_name.clone()).map_err(|_| LoadError::Setting {
        name: "server-name",
        value: plan.server_name.clone(),
        expected: "a host name or an IP address",
    })?;
    Ok(Some((Arc::new(config), name)))
}

fn upgrade(plan: &Plan) -> Arc<[u8]> {
    format!(
        "GET {} HTTP/1.1\r\nHost: {}:{}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: ZnVsY3J1bSBsb2FkIHRlcw==\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Protocol: mqtt\r\n\r\n",
        plan.ws_path, plan.address, plan.port
    )
    .into_bytes()
    .into()
}

/// Of one connection.
pub struct Channel {
    tls: Option<ClientConnection>,
    socket: Option<WebSocket>,
}

impl Channel {
    /// Takes bytes of the socket; MQTT's are appended to `plain`.
    ///
    /// # Errors
    /// The broker ends the connection, or breaks a protocol.
    pub fn open(&mut self, mut raw: &[u8], plain: &mut Vec<u8>) -> Result<(), Closed> {
        let Some(tls) = &mut self.tls else {
            return match &mut self.socket {
                Some(socket) => socket.open(raw, plain),
                None => {
                    plain.extend_from_slice(raw);
                    Ok(())
                }
            };
        };
        while !raw.is_empty() {
            tls.read_tls(&mut raw).map_err(|_| Closed)?;
            let state = tls.process_new_packets().map_err(|_| Closed)?;
            let start = plain.len();
            plain.resize(start + state.plaintext_bytes_to_read(), 0);
            tls.reader().read_exact(&mut plain[start..]).map_err(|_| Closed)?;
            if let Some(socket) = &mut self.socket {
                let framed = plain.split_off(start);
                socket.open(&framed, plain)?;
            }
            if state.peer_has_closed() {
                return Err(Closed);
            }
        }
        Ok(())
    }

    /// Turns MQTT's bytes into the socket's, appended to `raw`. What cannot go yet stays in `plain`.
    pub fn seal(&mut self, plain: &mut Vec<u8>, raw: &mut Vec<u8>) {
        match (&mut self.tls, &mut self.socket) {
            (None, None) => raw.append(plain),
            (None, Some(socket)) => socket.seal(plain, raw),
            (Some(tls), socket) => {
                let mut framed = Vec::new();
                let bytes = match socket {
                    Some(socket) => {
                        socket.seal(plain, &mut framed);
                        &mut framed
                    }
                    None => plain,
                };
                // Into memory and without a limit: neither can fail.
                let _ = tls.writer().write_all(bytes);
                bytes.clear();
                while tls.wants_write() {
                    if tls.write_tls(raw).is_err() {
                        break;
                    }
                }
            }
        }
    }
}

/// The client's side of RFC 6455.
struct WebSocket {
    /// The request; later, answers to pings.
    to_send: Vec<u8>,
    is_upgraded: bool,
    unread: Vec<u8>,
}

const FINAL_BINARY: u8 = 0x82;
const FINAL_PONG: u8 = 0x8A;
const MASKED: u8 = 0x80;

impl WebSocket {
    fn open(&mut self, raw: &[u8], plain: &mut Vec<u8>) -> Result<(), Closed> {
        self.unread.extend_from_slice(raw);
        if !self.is_upgraded {
            let Some(end) = self.unread.windows(4).position(|window| window == b"\r\n\r\n") else {
                return Ok(());
            };
            if !self.unread.starts_with(b"HTTP/1.1 101") {
                return Err(Closed);
            }
            self.unread.drain(..end + 4);
            self.is_upgraded = true;
        }
        let mut at = 0;
        while let Some((opcode, head, length)) = frame_head(&self.unread[at..]) {
            let Some(payload) = self.unread.get(at + head..at + head + length) else { break };
            match opcode {
                0..=2 => plain.extend_from_slice(payload),
                9 => frame(FINAL_PONG, payload, &mut self.to_send),
                10 => {}
                _ => return Err(Closed),
            }
            at += head + length;
        }
        self.unread.drain(..at);
        Ok(())
    }

    fn seal(&mut self, plain: &mut Vec<u8>, raw: &mut Vec<u8>) {
        raw.append(&mut self.to_send);
        if self.is_upgraded && !plain.is_empty() {
            frame(FINAL_BINARY, plain, raw);
            plain.clear();
        }
    }
}

/// Opcode, bytes of the head, bytes of the payload; `None`: not all there. A broker does not mask.
fn frame_head(bytes: &[u8]) -> Option<(u8, usize, usize)> {
    let opcode = bytes.first()? & 0x0F;
    Some(match bytes.get(1)? & 0x7F {
        126 => (opcode, 4, usize::from(u16::from_be_bytes(*bytes.get(2..)?.first_chunk()?))),
        127 => (opcode, 10, u64::from_be_bytes(*bytes.get(2..)?.first_chunk()?) as usize),
        length => (opcode, 2, usize::from(length)),
    })
}

fn frame(first: u8, payload: &[u8], out: &mut Vec<u8>) {
    out.push(first);
    match payload.len() {
        length @ 0..126 => out.push(MASKED | length as u8),
        length @ 126..=0xFFFF => {
            out.push(MASKED | 126);
            out.extend_from_slice(&(length as u16).to_be_bytes());
        }
        length => {
            out.push(MASKED | 127);
            out.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(payload);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn socket() -> WebSocket {
        WebSocket { to_send: b"GET".to_vec(), is_upgraded: false, unread: Vec::new() }
    }

    #[test]
    fn nothing_but_the_request_is_sent_before_the_upgrade() {
        let (mut socket, mut plain, mut raw) = (socket(), b"abc".to_vec(), Vec::new());
        socket.seal(&mut plain, &mut raw);
        assert_eq!((raw.as_slice(), plain.as_slice()), (&b"GET"[..], &b"abc"[..]));
        let mut seen = Vec::new();
        socket.open(b"HTTP/1.1 101 Switching\r\nX: y\r", &mut seen).unwrap();
        socket.open(b"\n\r\n\x82\x02hi\x82", &mut seen).unwrap();
        socket.open(b"\x01!", &mut seen).unwrap();
        assert_eq!(seen, b"hi!");
        raw.clear();
        socket.seal(&mut plain, &mut raw);
        assert_eq!(raw, [0x82, 0x83, 0, 0, 0, 0, b'a', b'b', b'c']);
    }

    #[test]
    fn a_refused_upgrade_and_a_close_frame_end_the_connection() {
        let mut seen = Vec::new();
        assert_eq!(socket().open(b"HTTP/1.1 404 No\r\n\r\n", &mut seen), Err(Closed));
        assert_eq!(socket().open(b"HTTP/1.1 101 Ok\r\n\r\n\x88\x00", &mut seen), Err(Closed));
    }

    #[test]
    fn a_ping_is_answered() {
        let (mut seen, mut raw) = (Vec::new(), Vec::new());
        let mut socket = WebSocket { to_send: Vec::new(), ..socket() };
        socket.open(b"HTTP/1.1 101 Ok\r\n\r\n\x89\x01p", &mut seen).unwrap();
        socket.seal(&mut seen, &mut raw);
        assert_eq!(raw, [0x8A, 0x81, 0, 0, 0, 0, b'p']);
    }

    #[test]
    fn a_frame_of_any_length_is_read_back() {
        for length in [0, 125, 126, 65_535, 65_536] {
            let mut out = Vec::new();
            frame(FINAL_BINARY, &vec![b'x'; length], &mut out);
            let (opcode, head, found) = frame_head(&out).unwrap();
            assert_eq!((opcode, head + 4 + found, found), (2, out.len(), length));
        }
    }
}
