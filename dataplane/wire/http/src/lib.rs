//! HTTP/1.1 server codec without I/O for the device API.
//!
//! # How to drive it
//! 1. Keep the unread bytes of a connection in one contiguous buffer, and one [`Progress`] with it.
//! 2. Call [`decode_resumed`].
//! 3. [`Decoded::NeedMore`]: wait until the buffer holds at least `at_least` bytes, go to 2.
//! 4. [`Decoded::ContinueExpected`]: send [`CONTINUE`], or a final answer and close; wait for
//!    bytes, go to 2.
//! 5. [`Decoded::Request`]: act on it, answer with [`encode_response`], drop `used` bytes from the
//!    front, go to 2. Pipelined requests simply follow each other in the buffer; answers go out in
//!    the order of the requests.
//! 6. `Err`: answer with [`DecodeError::status`] and `keep_alive: false`, then close. Where the next
//!    request would begin is unknown.
//!
//! [`decode`] is the same without memory between calls, for callers that have whole requests.
//!
//! # Invariants
//! - One reading of each message. Whatever two implementations could read differently is refused:
//!   a bare LF or CR, folded header lines, blanks before the colon, repeated or malformed
//!   Content-Length, Content-Length beside Transfer-Encoding, transfer codings other than chunked,
//!   a missing or repeated Host (RFC 9112 sections 2.2, 3.2, 5, 6, 11.2).
//! - Linear work: with a [`Progress`], no byte is scanned more than a bounded number of times, however
//!   slowly and in however small pieces a request arrives.
//! - Bounded memory: a request needs at most [`Limits::request_bytes_max`] bytes of buffer. A size
//!   over the limit is refused when it is announced, not when it has arrived.
//!
//! # Deliberately not here
//! Upgrades, trailers (read and dropped), content codings, HTTP/2, and routing: `path` is handed out
//! as it was sent, [`percent_decode`] is for the caller, segment by segment. HTTP/1.0 requests are
//! served and their connections closed.

mod auth;
mod body;
mod decode;
mod error;
mod head;
mod percent;
mod request;
mod response;

pub use auth::{BasicCredentials, basic_credentials, bearer_token};
pub use decode::{Decoded, Limits, Progress, decode, decode_resumed};
pub use error::DecodeError;
pub use percent::{percent_decode, query_pairs, query_value};
pub use request::{Headers, Method, Request};
pub use response::{CONTINUE, encode_response, encode_response_head};
