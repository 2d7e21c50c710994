//! Where records end, and who the client wants to talk to: what has to be known before the first
//! expensive step.

use rustls::server::Acceptor;

/// Bytes of a record's header: type, version, length.
const RECORD_HEADER_BYTES: usize = 5;
const RECORD_PAYLOAD_BYTES_MAX: usize = 16 * 1024 + 2048;
/// A record with (a part of) a handshake message in clear.
pub(super) const TYPE_HANDSHAKE: u8 = 22;
/// A record with application data, or in TLS 1.3 with anything encrypted.
pub(super) const TYPE_APPLICATION_DATA: u8 = 23;

/// What begins at an offset of a buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Record {
    /// A whole record of this type, and where it ends.
    Whole { kind: u8, end: usize },
    /// A part of one; it can be read once the buffer has this many bytes.
    Part { needed: usize },
    /// No record rustls would read further; it says why when it sees it.
    Invalid,
}

/// Looks at the record that begins at `from`.
pub(super) fn record_at(buffer: &[u8], from: usize) -> Record {
    let header = buffer.get(from..).and_then(<[u8]>::first_chunk::<RECORD_HEADER_BYTES>);
    let Some(&[kind, major, _, high, low]) = header else {
        // A wrong first byte need not wait for its header: whoever speaks no TLS may say nothing more.
        return match buffer.get(from) {
            Some(kind) if !(20..=24).contains(kind) => Record::Invalid,
            _ => Record::Part { needed: from + RECORD_HEADER_BYTES },
        };
    };
    let length = usize::from(u16::from_be_bytes([high, low]));
    if !(20..=24).contains(&kind) || major != 3 || length > RECORD_PAYLOAD_BYTES_MAX {
        return Record::Invalid;
    }
    let end = from + RECORD_HEADER_BYTES + length;
    if end <= buffer.len() { Record::Whole { kind, end } } else { Record::Part { needed: end } }
}

/// What the first records hold.
pub(super) enum Hello {
    /// A whole ClientHello.
    Whole { server_name: Option<Box<str>> },
    /// The beginning of one.
    Part,
    /// None; with the alert for the client.
    Bad { error: rustls::Error, alert: Vec<u8> },
}

/// Reads the ClientHello in `records`, which are whole. Costs microseconds: no cryptography yet.
pub(super) fn read_hello(mut records: &[u8]) -> Hello {
    let mut acceptor = Acceptor::default();
    loop {
        match acceptor.accept() {
            Ok(Some(accepted)) => {
                let server_name = accepted.client_hello().server_name().map(Box::from);
                return Hello::Whole { server_name };
            }
            Ok(None) if records.is_empty() => return Hello::Part,
            Ok(None) => {}
            Err((error, mut alert)) => {
                let mut bytes = Vec::new();
                // Writing to memory does not fail.
                let _ = alert.write_all(&mut bytes);
                return Hello::Bad { error, alert: bytes };
            }
        }
        if !acceptor.read_tls(&mut records).is_ok_and(|read| read > 0) {
            let error = rustls::Error::General("the ClientHello is too long".to_owned());
            return Hello::Bad { error, alert: Vec::new() };
        }
    }
}
