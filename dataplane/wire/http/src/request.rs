//! A decoded request, borrowing from the receive buffer.

use std::borrow::Cow;
use std::fmt;

/// The request method. Names are case-sensitive (RFC 9110 section 9.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the methods of RFC 9110 and RFC 5789")]
pub enum Method {
    Get,
    Post,
    Put,
    Delete,
    Options,
    Head,
    Patch,
    /// Any other valid token.
    Other,
}

impl Method {
    pub(crate) fn from_token(token: &str) -> Self {
        match token {
            "GET" => Self::Get,
            "POST" => Self::Post,
            "PUT" => Self::Put,
            "DELETE" => Self::Delete,
            "OPTIONS" => Self::Options,
            "HEAD" => Self::Head,
            "PATCH" => Self::Patch,
            _ => Self::Other,
        }
    }
}

/// A whole request.
#[derive(Clone, PartialEq, Eq)]
pub struct Request<'a> {
    /// Method.
    pub method: Method,
    /// The request target as it was sent, ASCII.
    pub target: &'a str,
    /// Path of the target, still percent-encoded; begins with `/`, or is `*` for OPTIONS.
    pub path: &'a str,
    /// Query of the target without the `?`, still percent-encoded.
    pub query: Option<&'a str>,
    /// 0 or 1: HTTP/1.0 or HTTP/1.1.
    pub version_minor: u8,
    /// Whether the connection may serve another request (RFC 9112 section 9.3). Always `false` for
    /// HTTP/1.0: the offer of its keep-alive option is declined.
    pub keep_alive: bool,
    /// Whether the client announced to wait for 100 (Continue). The body is here all the same.
    pub expect_continue: bool,
    /// The content: borrowed when it has a Content-Length, collected when it came in chunks.
    pub body: Cow<'a, [u8]>,
    pub(crate) headers: Headers<'a>,
}

impl<'a> Request<'a> {
    /// The value of the first header field of that name, without blanks around it. Names are
    /// compared without regard to case.
    pub fn header(&self, name: &str) -> Option<&'a str> {
        self.headers().find(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// Every header field as (name, value), in the order they were sent.
    pub fn headers(&self) -> Headers<'a> {
        self.headers
    }
}

impl fmt::Debug for Request<'_> {
    /// Shows neither header values nor the body: credentials travel in both.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("method", &self.method)
            .field("path", &self.path)
            .field("version_minor", &self.version_minor)
            .field("keep_alive", &self.keep_alive)
            .field("headers", &self.headers().count())
            .field("body_bytes", &self.body.len())
            .finish_non_exhaustive()
    }
}

/// Iterates over header fields. Reads the lines of a head that was validated as a whole, so nothing
/// has to be kept per field.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Headers<'a> {
    /// Header lines, each ended by CRLF, without the empty line behind them.
    lines: &'a str,
}

impl<'a> Headers<'a> {
    /// `lines` must be validated header lines, each with a colon and ended by CRLF.
    pub(crate) fn new(lines: &'a str) -> Self {
        Self { lines }
    }
}

impl<'a> Iterator for Headers<'a> {
    type Item = (&'a str, &'a str);

    fn next(&mut self) -> Option<Self::Item> {
        let (line, rest) = self.lines.split_once('\n')?;
        self.lines = rest;
        let (name, value) = line.split_once(':')?;
        Some((name, value.trim_matches([' ', '\t', '\r'])))
    }
}

impl fmt::Debug for Headers<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.map(|(name, _)| name)).finish()
    }
}
