//! Every bound of this crate, each with its reason.

/// Bytes of the whole PROXY header. Addresses take at most 232; a proxy in front adds an authority, the
/// client's TLS facts and private fields, well below a kilobyte.
pub const PROXY_HEADER_BYTES_MAX: usize = 4096;

/// Bytes of a ClientHello with its record headers. Hybrid key shares make 2 KiB, many extensions
/// and a ticket 4 KiB more.
pub const CLIENT_HELLO_BYTES_MAX: usize = 16 * 1024;

/// Bytes a client may send in a whole handshake. Its certificate chain is most of it.
pub const HANDSHAKE_BYTES_MAX: usize = 64 * 1024;

/// Handshake records of a client. A whole handshake with a certificate needs fewer than ten; more
/// is a client that cuts messages small to buy work.
pub const HANDSHAKE_RECORDS_MAX: u32 = 32;

/// Certificates in a client's chain: the leaf and the authorities above it.
pub const CLIENT_CHAIN_CERTIFICATES_MAX: usize = 8;

/// Bytes of a client's chain in all. It also travels inside the session ticket.
pub const CLIENT_CHAIN_BYTES_MAX: usize = 16 * 1024;

/// Bytes of a server's certificate or key file. A chain has some kilobytes; a wrong path may name anything.
pub const CERTIFICATE_FILE_BYTES_MAX: u64 = 1 << 20;

/// Bytes kept while a handshake step waits for its turn: the handshake itself, and what the caller's
/// receive buffers held when it stopped reading.
pub const WAITING_BYTES_MAX: usize = 256 * 1024;

/// Bytes of a TLS record with its header (RFC 8446 section 5.2, RFC 5246 section 6.2.3).
pub const TLS_RECORD_BYTES_MAX: usize = 5 + 16 * 1024 + 2048;

/// Bytes of a WebSocket request's head. Browsers send cookies; 4 KiB is what proxies allow too.
pub const WEBSOCKET_HEAD_BYTES_MAX: usize = 4096;

/// Header fields of a WebSocket request.
pub const WEBSOCKET_HEADERS_MAX: usize = 48;

/// Bytes of pongs that may wait for the socket. A client that pings and does not read is cut off.
pub const PONGS_QUEUED_BYTES_MAX: usize = 4096;

/// Capacity of an output buffer that is kept between two flushes.
pub const OUTPUT_CAPACITY_KEPT_BYTES: usize = 512;

const _: () = assert!(CLIENT_HELLO_BYTES_MAX <= HANDSHAKE_BYTES_MAX);
const _: () = assert!(CLIENT_CHAIN_BYTES_MAX < HANDSHAKE_BYTES_MAX);
const _: () = assert!(HANDSHAKE_BYTES_MAX + TLS_RECORD_BYTES_MAX <= WAITING_BYTES_MAX);
const _: () = assert!(PONGS_QUEUED_BYTES_MAX >= 4 * (2 + 125));
