//! Version 1: one line of text.

use std::net::{IpAddr, SocketAddr};

use super::{Parsed, ProxiedConnection, agrees};
use crate::TransportError;

/// The longest line with its end.
const LINE_BYTES_MAX: usize = 107;

pub(super) fn parse(head: &[u8]) -> Result<Parsed, TransportError> {
    if !agrees(head, b"PROXY ") {
        return Err(TransportError::Proxy("the signature is wrong"));
    }
    let window = &head[..head.len().min(LINE_BYTES_MAX)];
    let Some(end) = window.windows(2).position(|pair| pair == b"\r\n") else {
        if window.len() == LINE_BYTES_MAX {
            return Err(TransportError::Proxy("the line is too long"));
        }
        return Ok(Parsed::NeedMore { at_least: head.len() + 1 });
    };
    let bad = || TransportError::Proxy("the line is malformed");
    let line = std::str::from_utf8(&window[..end]).map_err(|_| bad())?;
    let connection = match line.strip_prefix("PROXY ").ok_or_else(bad)?.split_once(' ') {
        Some(("TCP4", rest)) => addresses(rest, |text| text.parse().ok().map(IpAddr::V4)),
        Some(("TCP6", rest)) => addresses(rest, |text| text.parse().ok().map(IpAddr::V6)),
        // Whatever follows is to be ignored.
        Some(("UNKNOWN", _)) => Some(ProxiedConnection::default()),
        None if line == "PROXY UNKNOWN" => Some(ProxiedConnection::default()),
        _ => None,
    };
    Ok(Parsed::Header { used: end + 2, connection: connection.ok_or_else(bad)? })
}

fn addresses(rest: &str, address: impl Fn(&str) -> Option<IpAddr>) -> Option<ProxiedConnection> {
    let mut fields = rest.split(' ');
    let (source, destination) = (address(fields.next()?)?, address(fields.next()?)?);
    let (from, to) = (port(fields.next()?)?, port(fields.next()?)?);
    if fields.next().is_some() {
        return None;
    }
    Some(ProxiedConnection {
        source: Some(SocketAddr::new(source, from)),
        destination: Some(SocketAddr::new(destination, to)),
        ..ProxiedConnection::default()
    })
}

/// Decimal, without sign or leading zeros.
fn port(text: &str) -> Option<u16> {
    let port: u16 = text.parse().ok()?;
    (port.to_string() == text).then_some(port)
}
