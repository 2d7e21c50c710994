//! Version 2: a signature, addresses by family, and typed fields.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

use super::{Parsed, ProxiedConnection, ProxiedTls, agrees};
use crate::TransportError;
use crate::limits::PROXY_HEADER_BYTES_MAX;

const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// Signature, version and command, family and transport, length of the rest.
const FIXED_BYTES: usize = 16;
const UNIX_ADDRESSES_BYTES: usize = 216;

const FIELD_AUTHORITY: u8 = 0x02;
const FIELD_CRC32C: u8 = 0x03;
const FIELD_SSL: u8 = 0x20;
const SSL_VERSION: u8 = 0x21;
const SSL_COMMON_NAME: u8 = 0x22;
/// The client used TLS.
const SSL_CLIENT: u8 = 0x01;
/// It showed a certificate on this connection, or on the one its session comes from.
const SSL_CERTIFICATE: u8 = 0x02 | 0x04;

pub(super) fn parse(head: &[u8]) -> Result<Parsed, TransportError> {
    if !agrees(head, SIGNATURE) {
        return Err(TransportError::Proxy("the signature is wrong"));
    }
    let Some(fixed) = head.first_chunk::<FIXED_BYTES>() else {
        // A wrong signature is seen at its first wrong byte, not when sixteen have come.
        let signed = head.len() >= SIGNATURE.len();
        return Ok(Parsed::NeedMore {
            at_least: if signed { FIXED_BYTES } else { head.len() + 1 },
        });
    };
    let used = FIXED_BYTES + usize::from(u16::from_be_bytes([fixed[14], fixed[15]]));
    if used > PROXY_HEADER_BYTES_MAX {
        return Err(TransportError::Proxy("it is too long"));
    }
    let Some(header) = head.get(..used) else {
        return Ok(Parsed::NeedMore { at_least: used });
    };
    let connection = match fixed[12] {
        // LOCAL: the proxy's own connection, for instance to see whether we are there.
        0x20 => ProxiedConnection::default(),
        0x21 => proxied(header, fixed[13])?,
        _ => return Err(TransportError::Proxy("version or command is unknown")),
    };
    Ok(Parsed::Header { used, connection })
}

fn proxied(header: &[u8], family: u8) -> Result<ProxiedConnection, TransportError> {
    let rest = &header[FIXED_BYTES..];
    let short = TransportError::Proxy("the addresses are cut off");
    let (mut connection, fields) = match family {
        // Unspecified: the addresses, if any, cannot be told from the fields.
        0x00 => return Ok(ProxiedConnection::default()),
        0x11 => tcp4(rest).ok_or(short)?,
        0x21 => tcp6(rest).ok_or(short)?,
        0x31 => (ProxiedConnection::default(), rest.get(UNIX_ADDRESSES_BYTES..).ok_or(short)?),
        _ => {
            return Err(TransportError::Proxy("the address family or transport is not a stream's"));
        }
    };
    read_fields(header, fields, &mut connection)?;
    Ok(connection)
}

fn tcp4(bytes: &[u8]) -> Option<(ProxiedConnection, &[u8])> {
    let (source, rest) = bytes.split_first_chunk::<4>()?;
    let (destination, rest) = rest.split_first_chunk::<4>()?;
    let (from, to, rest) = ports(rest)?;
    let address = |ip: [u8; 4], port| SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::from(ip), port));
    Some((between(address(*source, from), address(*destination, to)), rest))
}

fn tcp6(bytes: &[u8]) -> Option<(ProxiedConnection, &[u8])> {
    let (source, rest) = bytes.split_first_chunk::<16>()?;
    let (destination, rest) = rest.split_first_chunk::<16>()?;
    let (from, to, rest) = ports(rest)?;
    let address =
        |ip: [u8; 16], port| SocketAddr::V6(SocketAddrV6::new(Ipv6Addr::from(ip), port, 0, 0));
    Some((between(address(*source, from), address(*destination, to)), rest))
}

fn ports(bytes: &[u8]) -> Option<(u16, u16, &[u8])> {
    let (from, rest) = bytes.split_first_chunk::<2>()?;
    let (to, rest) = rest.split_first_chunk::<2>()?;
    Some((u16::from_be_bytes(*from), u16::from_be_bytes(*to), rest))
}

fn between(source: SocketAddr, destination: SocketAddr) -> ProxiedConnection {
    ProxiedConnection {
        source: Some(source),
        destination: Some(destination),
        ..ProxiedConnection::default()
    }
}

fn read_fields(
    header: &[u8],
    mut fields: &[u8],
    connection: &mut ProxiedConnection,
) -> Result<(), TransportError> {
    let mut checked = false;
    while !fields.is_empty() {
        let (kind, value, rest) =
            field(fields).ok_or(TransportError::Proxy("a field is cut off"))?;
        match kind {
            FIELD_AUTHORITY => {
                if connection.authority.is_some() {
                    return Err(TransportError::Proxy("it has two authorities"));
                }
                connection.authority = Some(host_name(value)?);
            }
            FIELD_CRC32C => {
                if checked {
                    return Err(TransportError::Proxy("it has two checksums"));
                }
                let end = header.len() - rest.len();
                check_sum(header, end - value.len(), value)?;
                checked = true;
            }
            FIELD_SSL => connection.tls = tls(value)?,
            // Others are for other readers.
            _ => {}
        }
        fields = rest;
    }
    Ok(())
}

/// Type, value, and what follows.
fn field(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&[kind, high, low], rest) = bytes.split_first_chunk::<3>()?;
    let (value, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes([high, low])))?;
    Some((kind, value, rest))
}

/// A host name as TLS would carry it: at most 255 bytes, in lower case.
fn host_name(value: &[u8]) -> Result<Box<str>, TransportError> {
    let bad = TransportError::Proxy("the authority is no host name");
    if value.is_empty() || value.len() > 255 || !value.iter().all(u8::is_ascii_graphic) {
        return Err(bad);
    }
    let name = std::str::from_utf8(value).map_err(|_| bad)?;
    Ok(name.to_ascii_lowercase().into_boxed_str())
}

/// CRC32C over the whole header, the checksum's own bytes as zeros.
fn check_sum(header: &[u8], at: usize, value: &[u8]) -> Result<(), TransportError> {
    let wrong = TransportError::Proxy("the checksum does not match");
    let Ok(value) = <[u8; 4]>::try_from(value) else { return Err(wrong) };
    let sum = crc32c::crc32c(&header[..at]);
    let sum = crc32c::crc32c_append(sum, &[0; 4]);
    let sum = crc32c::crc32c_append(sum, &header[at + 4..]);
    if sum == u32::from_be_bytes(value) { Ok(()) } else { Err(wrong) }
}

fn tls(value: &[u8]) -> Result<Option<ProxiedTls>, TransportError> {
    let short = || TransportError::Proxy("the field about TLS is cut off");
    let (&[client, verify @ ..], mut fields) = value.split_first_chunk::<5>().ok_or_else(short)?;
    let mut tls = ProxiedTls {
        client_verified: client & SSL_CERTIFICATE != 0 && verify == [0; 4],
        ..ProxiedTls::default()
    };
    while !fields.is_empty() {
        let (kind, value, rest) = field(fields).ok_or_else(short)?;
        let text = || String::from_utf8_lossy(value).into_owned().into_boxed_str();
        match kind {
            SSL_VERSION => tls.version = Some(text()),
            SSL_COMMON_NAME => tls.common_name = Some(text()),
            _ => {}
        }
        fields = rest;
    }
    Ok((client & SSL_CLIENT != 0).then_some(tls))
}
