//! One connection's TLS: handshake in budgeted steps, then records both ways.

use std::mem;
use std::sync::Arc;

use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncodeTlsData, EncryptError, InsufficientSizeError,
    UnbufferedStatus,
};

use super::ServerTls;
use super::handshake::{
    Hello, Record, TYPE_APPLICATION_DATA, TYPE_HANDSHAKE, read_hello, record_at,
};
use crate::limits::{
    CLIENT_HELLO_BYTES_MAX, HANDSHAKE_BYTES_MAX, HANDSHAKE_RECORDS_MAX, TLS_RECORD_BYTES_MAX,
    WAITING_BYTES_MAX,
};
use crate::{HandshakeBudget, Progress, TransportError};

/// The most a record adds to its payload, over both versions and all cipher suites we speak.
const RECORD_OVERHEAD_BYTES: usize = 32;
const RECORD_PLAIN_BYTES_MAX: usize = 16 * 1024;

pub(crate) struct TlsSession {
    shared: Arc<ServerTls>,
    phase: Phase,
    /// Bytes rustls still needs in front of the next ones: parts of a record, and whole records while
    /// a step is due. Empty and without memory on an idle connection.
    pending: Vec<u8>,
    /// How much of `pending` rustls has seen.
    seen: usize,
    hello_records: u32,
    /// Handshake messages and alerts for the client.
    outgoing: Vec<u8>,
    server_name: Option<Box<str>>,
    connection: Option<UnbufferedServerConnection>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// The ClientHello is not there yet.
    Hello,
    /// It is, in the first bytes of `pending`, and waits for a step.
    HelloDue {
        end: usize,
    },
    Handshake {
        bytes: usize,
        records: u32,
    },
    Traffic,
    PeerClosed,
    Failed,
}

/// How far rustls went with the bytes it got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reached {
    NeedsMore,
    PeerClosed,
}

impl TlsSession {
    pub(crate) fn new(shared: &Arc<ServerTls>) -> Self {
        Self {
            shared: Arc::clone(shared),
            phase: Phase::Hello,
            pending: Vec::new(),
            seen: 0,
            hello_records: 0,
            outgoing: Vec::new(),
            server_name: None,
            connection: None,
        }
    }

    /// Takes records, appends what they hold to `plain`.
    pub(crate) fn receive(
        &mut self,
        bytes: &[u8],
        plain: &mut Vec<u8>,
        budget: &mut HandshakeBudget,
    ) -> Result<Progress, TransportError> {
        let result = match self.phase {
            Phase::Traffic => self.decrypt(bytes, plain),
            Phase::PeerClosed => Ok(Progress::Finished),
            Phase::Failed => Err(TransportError::Ended),
            Phase::Hello | Phase::HelloDue { .. } | Phase::Handshake { .. } => {
                self.pending.extend_from_slice(bytes);
                self.shake_hands(plain, budget)
            }
        };
        if result.is_err() {
            self.phase = Phase::Failed;
            self.pending = Vec::new();
        }
        result
    }

    fn shake_hands(
        &mut self,
        plain: &mut Vec<u8>,
        budget: &mut HandshakeBudget,
    ) -> Result<Progress, TransportError> {
        if self.phase == Phase::Hello {
            self.find_hello()?;
            if self.phase == Phase::Hello {
                return Ok(Progress::Open);
            }
        }
        if let Phase::HelloDue { end } = self.phase {
            if !budget.take() {
                return self.due();
            }
            let config = Arc::clone(&self.shared.config);
            self.connection = Some(UnbufferedServerConnection::new(config)?);
            self.phase = Phase::Handshake { bytes: end, records: self.hello_records };
            self.feed(end)?;
        }
        while let Phase::Handshake { bytes, records } = self.phase {
            let next = record_at(&self.pending, self.seen);
            let end = match next {
                Record::Part { .. } => return Ok(Progress::Open),
                Record::Invalid => self.pending.len(),
                Record::Whole { kind, end } => {
                    if self.is_expensive(kind) && !budget.take() {
                        return self.due();
                    }
                    end
                }
            };
            let bytes = bytes + (end - self.seen);
            if bytes > HANDSHAKE_BYTES_MAX {
                return Err(TransportError::TlsLimit("too many bytes"));
            }
            if records >= HANDSHAKE_RECORDS_MAX {
                return Err(TransportError::TlsLimit("too many records"));
            }
            self.phase = Phase::Handshake { bytes, records: records + 1 };
            self.feed(end)?;
            if next == Record::Invalid {
                return Err(TransportError::NotTls);
            }
        }
        // Whatever followed the last handshake record.
        let rest = mem::take(&mut self.pending);
        match self.phase {
            Phase::Traffic if !rest.is_empty() => self.decrypt(&rest, plain),
            Phase::PeerClosed => Ok(Progress::Finished),
            _ => Ok(Progress::Open),
        }
    }

    /// Looks for a whole ClientHello at the beginning of `pending`, record by record.
    fn find_hello(&mut self) -> Result<(), TransportError> {
        loop {
            let next = record_at(&self.pending, self.seen);
            match next {
                Record::Whole { end, .. } => self.seen = end,
                Record::Invalid => self.seen = self.pending.len(),
                Record::Part { .. } => break,
            }
            self.hello_records += 1;
            if self.read_hello()? {
                return Ok(());
            }
            if next == Record::Invalid {
                return Err(TransportError::NotTls);
            }
            if self.hello_records >= HANDSHAKE_RECORDS_MAX || self.seen > CLIENT_HELLO_BYTES_MAX {
                break;
            }
        }
        if self.hello_records >= HANDSHAKE_RECORDS_MAX
            || self.pending.len() > CLIENT_HELLO_BYTES_MAX
        {
            return Err(TransportError::TlsLimit("the ClientHello is too long"));
        }
        Ok(())
    }

    /// Whether the records up to `seen` hold a ClientHello.
    fn read_hello(&mut self) -> Result<bool, TransportError> {
        let records = self.pending.get(..self.seen).unwrap_or_default();
        match read_hello(records) {
            Hello::Part => Ok(false),
            Hello::Whole { server_name } => {
                self.server_name = server_name;
                self.phase = Phase::HelloDue { end: self.seen };
                self.seen = 0;
                Ok(true)
            }
            Hello::Bad { error, alert } => {
                self.outgoing = alert;
                Err(error.into())
            }
        }
    }

    /// Whether a handshake record of this type may need public-key cryptography. Encrypted ones (TLS 1.3)
    /// do when they may hold a certificate and its proof; otherwise they end the handshake with a hash.
    fn is_expensive(&self, kind: u8) -> bool {
        kind == TYPE_HANDSHAKE
            || kind == TYPE_APPLICATION_DATA && self.shared.asks_for_certificates()
    }

    fn due(&self) -> Result<Progress, TransportError> {
        if self.pending.len() > WAITING_BYTES_MAX {
            return Err(TransportError::TlsLimit("too many bytes before its turn"));
        }
        Ok(Progress::HandshakeDue)
    }

    /// Gives rustls handshake records: `pending` up to `end`.
    fn feed(&mut self, end: usize) -> Result<(), TransportError> {
        let Some(connection) = &mut self.connection else { return Err(TransportError::Ended) };
        let records = self.pending.get_mut(..end).unwrap_or_default();
        // No application data can be among them: it is refused before the handshake is done.
        let (discarded, reached) = process(connection, records, &mut self.outgoing, |_| ())?;
        self.pending.drain(..discarded);
        self.seen = end - discarded;
        if reached == Reached::PeerClosed {
            self.phase = Phase::PeerClosed;
        } else if !connection.is_handshaking() {
            self.phase = Phase::Traffic;
        }
        Ok(())
    }

    fn decrypt(&mut self, bytes: &[u8], plain: &mut Vec<u8>) -> Result<Progress, TransportError> {
        let Some(connection) = &mut self.connection else { return Err(TransportError::Ended) };
        let total = self.pending.len() + bytes.len();
        if !self.pending.is_empty() && total < self.seen {
            self.pending.extend_from_slice(bytes);
            return Ok(Progress::Open);
        }
        // Records are decrypted at the end of `plain` and written in front of where they were: there is
        // always room, as a record is longer than what it holds, and nothing is allocated.
        let start = plain.len();
        plain.resize(start + total, 0);
        plain.extend_from_slice(&self.pending);
        plain.extend_from_slice(bytes);
        let (out, records) = plain.split_at_mut(start + total);
        let mut end = start;
        let processed = process(connection, records, &mut self.outgoing, |payload| {
            out[end..end + payload.len()].copy_from_slice(payload);
            end += payload.len();
        });
        let kept = match &processed {
            Ok((discarded, Reached::NeedsMore)) => &records[*discarded..],
            _ => &[],
        };
        self.seen = needed(kept);
        self.pending.clear();
        if kept.is_empty() {
            self.pending = Vec::new();
        } else {
            self.pending.extend_from_slice(kept);
        }
        plain.truncate(end);
        let (_, reached) = processed?;
        if self.pending.len() > 2 * TLS_RECORD_BYTES_MAX {
            return Err(TransportError::TlsLimit("a message in too many records"));
        }
        if reached == Reached::PeerClosed {
            self.phase = Phase::PeerClosed;
            return Ok(Progress::Finished);
        }
        Ok(Progress::Open)
    }

    /// Appends what the client must get before anything else.
    pub(crate) fn flush_handshake(&mut self, socket_out: &mut Vec<u8>) {
        socket_out.append(&mut mem::take(&mut self.outgoing));
    }

    pub(crate) fn wants_flush(&self) -> bool {
        !self.outgoing.is_empty()
    }

    /// Encrypts `plain` onto `socket_out`.
    pub(crate) fn encrypt(
        &mut self,
        plain: &[u8],
        socket_out: &mut Vec<u8>,
    ) -> Result<(), TransportError> {
        let records = plain.len().div_ceil(RECORD_PLAIN_BYTES_MAX) + 1;
        let mut room = plain.len() + records * RECORD_OVERHEAD_BYTES;
        self.write(socket_out, |traffic, out| {
            loop {
                let start = out.len();
                out.resize(start + room, 0);
                let written = traffic.encrypt(plain, &mut out[start..]);
                out.truncate(start + written.as_ref().map_or(0, |written| *written));
                match written {
                    Ok(_) => return Ok(()),
                    Err(EncryptError::InsufficientSize(InsufficientSizeError {
                        required_size,
                    })) if required_size > room => room = required_size,
                    Err(_) => return Err(TransportError::Tls(rustls::Error::EncryptError)),
                }
            }
        })
    }

    /// Appends the close_notify alert.
    pub(crate) fn close(&mut self, socket_out: &mut Vec<u8>) {
        if !matches!(self.phase, Phase::Traffic | Phase::PeerClosed) {
            return;
        }
        // A connection whose keys are used up cannot say goodbye either.
        let _ = self.write(socket_out, |traffic, out| {
            let start = out.len();
            out.resize(start + 4 * RECORD_OVERHEAD_BYTES, 0);
            let written = traffic.queue_close_notify(&mut out[start..]).unwrap_or(0);
            out.truncate(start + written);
            Ok(())
        });
        if let Some(connection) = &mut self.connection {
            encode_waiting(connection, &mut self.pending, socket_out);
        }
        self.phase = Phase::Failed;
    }

    /// Calls `write` once rustls has nothing of its own to send first.
    fn write(
        &mut self,
        socket_out: &mut Vec<u8>,
        write: impl FnOnce(&mut WriteTraffic<'_>, &mut Vec<u8>) -> Result<(), TransportError>,
    ) -> Result<(), TransportError> {
        self.flush_handshake(socket_out);
        let Some(connection) = &mut self.connection else { return Err(TransportError::Ended) };
        loop {
            // The bytes of an unfinished record have to be shown again: rustls counts on its place.
            let UnbufferedStatus { discard, state } =
                connection.process_tls_records(&mut self.pending);
            match state? {
                ConnectionState::WriteTraffic(mut traffic) => {
                    return write(&mut traffic, socket_out);
                }
                ConnectionState::EncodeTlsData(data) => encode(data, socket_out)?,
                ConnectionState::TransmitTlsData(transmitted) => transmitted.done(),
                ConnectionState::PeerClosed => {}
                _ => return Err(TransportError::Ended),
            }
            self.pending.drain(..discard);
        }
    }

    pub(crate) fn is_established(&self) -> bool {
        matches!(self.phase, Phase::Traffic | Phase::PeerClosed)
            && self.connection.as_ref().is_some_and(|connection| !connection.is_handshaking())
    }

    pub(crate) fn server_name(&self) -> Option<&str> {
        self.server_name.as_deref()
    }

    /// The client's chain, once possession of the first certificate's key is proven.
    pub(crate) fn client_chain(&self) -> impl Iterator<Item = &[u8]> {
        let connection = self.connection.as_ref().filter(|_| self.is_established());
        let chain = connection.and_then(|connection| connection.peer_certificates());
        chain.unwrap_or_default().iter().map(|certificate| certificate.as_ref())
    }
}

type WriteTraffic<'a> = rustls::unbuffered::WriteTraffic<'a, rustls::server::ServerConnectionData>;

/// How long `kept` must become before rustls can do more with it.
fn needed(kept: &[u8]) -> usize {
    let mut from = 0;
    loop {
        match record_at(kept, from) {
            Record::Whole { end, .. } => from = end,
            Record::Part { needed } => return needed,
            Record::Invalid => return 0,
        }
    }
}

/// Drives rustls until it needs more. Returns how many bytes of `records` are done with.
fn process(
    connection: &mut UnbufferedServerConnection,
    records: &mut [u8],
    outgoing: &mut Vec<u8>,
    mut plain: impl FnMut(&[u8]),
) -> Result<(usize, Reached), TransportError> {
    let mut start = 0;
    loop {
        let UnbufferedStatus { mut discard, state } =
            connection.process_tls_records(&mut records[start..]);
        let mut reached = None;
        match state {
            Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                while let Some(record) = traffic.next_record() {
                    let record = record?;
                    discard += record.discard;
                    plain(record.payload);
                }
            }
            Ok(ConnectionState::EncodeTlsData(data)) => encode(data, outgoing)?,
            Ok(ConnectionState::TransmitTlsData(transmitted)) => transmitted.done(),
            Ok(ConnectionState::BlockedHandshake | ConnectionState::WriteTraffic(_)) => {
                reached = Some(Reached::NeedsMore);
            }
            Ok(ConnectionState::PeerClosed | ConnectionState::Closed) => {
                reached = Some(Reached::PeerClosed);
            }
            Ok(_) => {
                let unknown = "rustls reached a state this crate does not ask for";
                return Err(rustls::Error::General(unknown.to_owned()).into());
            }
            Err(error) => {
                encode_waiting(connection, &mut records[start..], outgoing);
                return Err(error.into());
            }
        }
        start += discard;
        if let Some(reached) = reached {
            return Ok((start, reached));
        }
    }
}

/// Takes the alerts rustls has queued; reads no further record.
fn encode_waiting(
    connection: &mut UnbufferedServerConnection,
    records: &mut [u8],
    outgoing: &mut Vec<u8>,
) {
    while connection.wants_write() {
        match connection.process_tls_records(records).state {
            Ok(ConnectionState::EncodeTlsData(data)) => {
                if encode(data, outgoing).is_err() {
                    return;
                }
            }
            _ => return,
        }
    }
}

fn encode(
    mut data: EncodeTlsData<'_, rustls::server::ServerConnectionData>,
    out: &mut Vec<u8>,
) -> Result<(), TransportError> {
    let start = out.len();
    let mut written = data.encode(&mut []);
    if let Err(EncodeError::InsufficientSize(InsufficientSizeError { required_size })) = written {
        out.resize(start + required_size, 0);
        written = data.encode(&mut out[start..]);
    }
    match written {
        Ok(_) => Ok(()),
        Err(error) => Err(rustls::Error::General(error.to_string()).into()),
    }
}
