//! What lies between a socket's bytes and a protocol's bytes: PROXY header, TLS, WebSocket. No I/O.
//!
//! # How to drive it
//! 1. On accept: [`Layers::is_plain`]? Then there is no stack, socket bytes are protocol bytes.
//!    Otherwise box a [`Stack`].
//! 2. Once per turn make a [`HandshakeBudget`] for all connections of the shard.
//! 3. Bytes arrived: [`Stack::receive`] with a buffer for protocol bytes (may be the shard's own, used for
//!    one connection after the other).
//! 4. [`Progress::HandshakeDue`]: put the connection into a queue, stop receiving from its socket, and call
//!    [`Stack::resume`] when a turn has budget. Buffers already received go to `receive` as always.
//! 5. Act on the protocol bytes; the protocol writes to [`Stack::output`].
//! 6. [`Stack::wants_flush`]: [`Stack::flush`] into the socket's send buffer. After `receive` and `resume`
//!    too: handshakes and pongs need it.
//! 7. [`Progress::Finished`]: act on the protocol bytes, [`Stack::close`], send, close the socket.
//! 8. Error: act on nothing more, [`Stack::refuse`], send, close the socket.
//! 9. To end the connection: [`Stack::close`], send, close the socket.
//!
//! Until [`Stack::is_established`] the caller's own timer bounds the connection's life: this crate
//! bounds bytes, and reads no clock to bound time.

mod error;
mod layers;
pub mod limits;
mod proxy;
mod stack;
mod tls;
mod websocket;

pub use error::TransportError;
pub use layers::{Layers, WebSocketSettings};
pub use proxy::{ProxiedConnection, ProxiedTls};
pub use stack::{HandshakeBudget, Progress, Stack};
pub use tls::{CertificateFiles, ClientCertificates, ServerTls, TlsSettings};
