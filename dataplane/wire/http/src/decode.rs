//! Decoding one request from the front of a buffer.

use std::borrow::Cow;

use crate::body::{self, ChunkScan, ChunksEnd};
use crate::error::DecodeError;
use crate::head::{Framing, Head, HeadScan};
use crate::request::Request;

/// What a request may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Request line and header fields together, and empty lines before them.
    pub head_bytes_max: usize,
    /// Number of header fields; values over 128 count as 128.
    pub headers_max: usize,
    /// Content of the body, without its framing.
    pub body_bytes_max: usize,
}

impl Default for Limits {
    /// Room for the header fields any device library sends, and 64 KiB of content.
    fn default() -> Self {
        Self { head_bytes_max: 8192, headers_max: 64, body_bytes_max: 64 * 1024 }
    }
}

impl Limits {
    /// What chunk lines and trailers of one body may take: as much as head and content together.
    pub(crate) fn chunk_overhead_bytes_max(&self) -> usize {
        self.head_bytes_max.saturating_add(self.body_bytes_max)
    }

    /// The largest buffer a request can need: head, content, and the framing of its chunks.
    pub fn request_bytes_max(&self) -> usize {
        self.chunk_overhead_bytes_max().saturating_mul(2)
    }
}

/// What the front of a buffer holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decoded<'a> {
    /// A whole request.
    Request {
        /// The request, borrowing from the buffer.
        request: Request<'a>,
        /// How many bytes it has: the next request begins behind them.
        used: usize,
    },
    /// The beginning of a request.
    NeedMore {
        /// The size the buffer must have before another call can get further. The exact size of
        /// the request once a Content-Length is known.
        at_least: usize,
    },
    /// The head is complete and acceptable, nothing of the body is there, and the client waits for
    /// 100 (Continue) before sending it: send [`crate::CONTINUE`] once (RFC 9110 section 10.1.1).
    ContinueExpected,
}

/// What is known about a request that is still arriving. Belongs to one buffer, of which nothing
/// was removed since; starts over by itself behind each whole request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    scan: HeadScan,
    head: Option<HeadDone>,
    chunks: ChunkScan,
    continue_reported: bool,
}

/// The part of an accepted head that is needed until the body is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct HeadDone {
    bytes: usize,
    framing: Framing,
    expect_continue: bool,
}

/// Decodes one request from the front of `bytes`, without memory of earlier calls. While a client
/// waits for 100 (Continue), each call says so again.
///
/// # Errors
/// The request is refused and the connection has to be closed, see [`DecodeError`].
pub fn decode<'a>(bytes: &'a [u8], limits: &Limits) -> Result<Decoded<'a>, DecodeError> {
    decode_resumed(bytes, limits, &mut Progress::default())
}

/// Decodes one request from the front of `bytes`, going on where the last call with the same
/// `progress` stopped. [`Decoded::ContinueExpected`] is reported once.
///
/// # Errors
/// The request is refused and the connection has to be closed, see [`DecodeError`].
pub fn decode_resumed<'a>(
    bytes: &'a [u8],
    limits: &Limits,
    progress: &mut Progress,
) -> Result<Decoded<'a>, DecodeError> {
    let mut fresh_head = None;
    let done = match progress.head {
        Some(done) => done,
        None => {
            let Some(head_bytes) = progress.scan.end(bytes, limits)? else {
                return Ok(Decoded::NeedMore { at_least: bytes.len() + 1 });
            };
            let head = Head::parse(&bytes[..head_bytes], limits)?;
            fresh_head = Some(head);
            let done = HeadDone {
                bytes: head_bytes,
                framing: head.framing,
                expect_continue: head.expect_continue,
            };
            *progress.head.insert(done)
        }
    };
    let Some(rest) = bytes.get(done.bytes..) else {
        return Ok(Decoded::NeedMore { at_least: done.bytes });
    };
    let end = match done.framing {
        Framing::Length(length) if rest.len() >= length => {
            ChunksEnd::At { position: length, content_bytes: length }
        }
        Framing::Length(length) => ChunksEnd::NeedMore { at_least: length },
        Framing::Chunked => progress.chunks.end(rest, limits)?,
    };
    match end {
        ChunksEnd::NeedMore { .. }
            if done.expect_continue && rest.is_empty() && !progress.continue_reported =>
        {
            progress.continue_reported = true;
            Ok(Decoded::ContinueExpected)
        }
        ChunksEnd::NeedMore { at_least } => {
            Ok(Decoded::NeedMore { at_least: done.bytes + at_least })
        }
        ChunksEnd::At { position, content_bytes } => {
            *progress = Progress::default();
            let head = match fresh_head {
                Some(head) => head,
                None => Head::parse(&bytes[..done.bytes], limits)?,
            };
            let raw = &rest[..position];
            let body = match done.framing {
                Framing::Length(_) => Cow::Borrowed(raw),
                Framing::Chunked => Cow::Owned(body::collect(raw, content_bytes)?),
            };
            Ok(Decoded::Request { request: request(head, body), used: done.bytes + position })
        }
    }
}

fn request<'a>(head: Head<'a>, body: Cow<'a, [u8]>) -> Request<'a> {
    Request {
        method: head.method,
        target: head.target,
        path: head.path,
        query: head.query,
        version_minor: head.version_minor,
        keep_alive: head.keep_alive,
        expect_continue: head.expect_continue,
        body,
        headers: head.headers,
    }
}
