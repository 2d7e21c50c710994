//! The head of a request: where it ends, and what it says.

use std::mem::MaybeUninit;

use crate::decode::Limits;
use crate::error::DecodeError;
use crate::request::{Headers, Method};

/// Most header fields any [`Limits`] can allow: the parser's table lives on the stack.
pub(crate) const HEADERS_CAPACITY: usize = 128;

/// Looks for the empty line that ends a head, and goes on where the last call stopped.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct HeadScan {
    /// Bytes before this were looked at.
    scanned: usize,
    /// Where the unfinished line begins.
    line_start: usize,
    /// Whether a line that is not empty was seen: empty lines before the request line are skipped
    /// (RFC 9112 section 2.2).
    in_head: bool,
}

impl HeadScan {
    /// The length of the head including its empty line, when it is there. A line that ends without
    /// CR is refused: the standard lets a recipient take it, but not every recipient does.
    pub(crate) fn end(
        &mut self,
        bytes: &[u8],
        limits: &Limits,
    ) -> Result<Option<usize>, DecodeError> {
        while let Some(unseen) = bytes.get(self.scanned..) {
            if !self.in_head {
                check_first_byte(bytes, self.line_start)?;
            }
            let Some(found) = unseen.iter().position(|&byte| byte == b'\n') else {
                self.scanned = bytes.len();
                break;
            };
            let line_feed = self.scanned + found;
            if line_feed >= limits.head_bytes_max {
                return Err(DecodeError::HeadTooLarge);
            }
            if line_feed == self.line_start || bytes[line_feed - 1] != b'\r' {
                return Err(DecodeError::BadRequest("a line ends without CR LF"));
            }
            let line_is_empty = line_feed - self.line_start == 1;
            self.scanned = line_feed + 1;
            self.line_start = self.scanned;
            if line_is_empty && self.in_head {
                return Ok(Some(self.scanned));
            }
            self.in_head |= !line_is_empty;
        }
        if bytes.len() >= limits.head_bytes_max {
            return Err(DecodeError::HeadTooLarge);
        }
        Ok(None)
    }
}

/// Refuses another protocol by its first byte (TLS, MQTT), instead of waiting for a line's end.
fn check_first_byte(bytes: &[u8], line_start: usize) -> Result<(), DecodeError> {
    match bytes.get(line_start) {
        None | Some(b'\r' | b'\n' | b'!'..=b'~') => Ok(()),
        Some(_) => Err(DecodeError::BadRequest("the request does not begin with a method")),
    }
}

/// How the end of the body is found (RFC 9112 section 6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    /// That many bytes; 0 when nothing is announced.
    Length(usize),
    /// Chunked transfer coding.
    Chunked,
}

/// A parsed head.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Head<'a> {
    pub(crate) method: Method,
    pub(crate) target: &'a str,
    pub(crate) path: &'a str,
    pub(crate) query: Option<&'a str>,
    pub(crate) version_minor: u8,
    pub(crate) keep_alive: bool,
    pub(crate) expect_continue: bool,
    pub(crate) framing: Framing,
    pub(crate) headers: Headers<'a>,
}

impl<'a> Head<'a> {
    /// Parses a complete head, whose lines all end with CRLF.
    pub(crate) fn parse(bytes: &'a [u8], limits: &Limits) -> Result<Self, DecodeError> {
        let mut table = [const { MaybeUninit::uninit() }; HEADERS_CAPACITY];
        let table = &mut table[..limits.headers_max.min(HEADERS_CAPACITY)];
        let mut parsed = httparse::Request::new(&mut []);
        match parsed.parse_with_uninit_headers(bytes, table) {
            Ok(httparse::Status::Complete(used)) if used == bytes.len() => {}
            Ok(_) => return Err(DecodeError::BadRequest("the request head is malformed")),
            Err(error) => return Err(head_error(error)),
        }
        let (Some(method), Some(target), Some(version_minor)) =
            (parsed.method, parsed.path, parsed.version)
        else {
            return Err(DecodeError::BadRequest("the request line is incomplete"));
        };
        let (path, query) = split_target(target)?;
        let fields = Fields::read(parsed.headers, version_minor)?;
        Ok(Self {
            method: Method::from_token(method),
            target,
            path,
            query,
            version_minor,
            keep_alive: version_minor == 1 && !fields.close,
            expect_continue: fields.expect_continue,
            framing: fields.framing(limits)?,
            headers: header_lines(bytes)?,
        })
    }
}

fn head_error(error: httparse::Error) -> DecodeError {
    match error {
        httparse::Error::TooManyHeaders => DecodeError::HeadTooLarge,
        httparse::Error::Version => DecodeError::VersionNotSupported,
        // Also a folded line and a blank before the colon (RFC 9112 sections 5.1 and 5.2).
        httparse::Error::HeaderName => DecodeError::BadRequest("a header field name is malformed"),
        httparse::Error::HeaderValue => {
            DecodeError::BadRequest("a header field value is malformed")
        }
        _ => DecodeError::BadRequest("the request line is malformed"),
    }
}

/// The header lines of a parsed head: what is between the request line and the empty line. Values
/// have to be UTF-8, so that no field can be there for the peer and absent for us.
fn header_lines(head: &[u8]) -> Result<Headers<'_>, DecodeError> {
    let blank = head.iter().take_while(|&&byte| byte == b'\r' || byte == b'\n').count();
    let request_line = head[blank..].iter().position(|&byte| byte == b'\n').unwrap_or(0);
    let lines = head.get(blank + request_line + 1..head.len() - 2).unwrap_or_default();
    std::str::from_utf8(lines)
        .map(Headers::new)
        .map_err(|_| DecodeError::BadRequest("a header field value is not UTF-8"))
}

/// Path and query of a request target (RFC 9112 section 3.2): origin form, absolute form, or the
/// asterisk. The authority form belongs to CONNECT, which is not served.
fn split_target(target: &str) -> Result<(&str, Option<&str>), DecodeError> {
    if !target.is_ascii() || target.contains('#') {
        return Err(DecodeError::BadRequest(
            "the request target has a character not allowed there",
        ));
    }
    let origin = if target.starts_with('/') || target == "*" {
        target
    } else {
        let (scheme, rest) = target
            .split_once("://")
            .ok_or(DecodeError::BadRequest("the request target has no path"))?;
        if !scheme.eq_ignore_ascii_case("http") && !scheme.eq_ignore_ascii_case("https") {
            return Err(DecodeError::BadRequest("the request target has an unknown scheme"));
        }
        match rest.find(['/', '?']) {
            Some(authority_end) => &rest[authority_end..],
            None => "/",
        }
    };
    let (path, query) = match origin.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (origin, None),
    };
    Ok((if path.is_empty() { "/" } else { path }, query))
}

/// The header fields that decide about framing and the connection.
#[derive(Debug, Default)]
struct Fields<'a> {
    content_length: Option<&'a [u8]>,
    chunked: bool,
    close: bool,
    expect_continue: bool,
}

impl<'a> Fields<'a> {
    fn read(headers: &[httparse::Header<'a>], version_minor: u8) -> Result<Self, DecodeError> {
        let mut fields = Self::default();
        let mut hosts = 0;
        for header in headers {
            let is = |name: &str| header.name.eq_ignore_ascii_case(name);
            if is("Content-Length") {
                fields.content_length(header.value)?;
            } else if is("Transfer-Encoding") {
                fields.transfer_encoding(header.value, version_minor)?;
            } else if is("Connection") {
                let close = |token: &[u8]| token.trim_ascii().eq_ignore_ascii_case(b"close");
                fields.close |= header.value.split(|&byte| byte == b',').any(close);
            } else if is("Expect") {
                fields.expect(header.value, version_minor)?;
            } else if is("Host") {
                hosts += 1;
            }
        }
        // RFC 9112 section 3.2: exactly one Host in HTTP/1.1.
        if hosts > 1 || (hosts == 0 && version_minor == 1) {
            return Err(DecodeError::BadRequest("the request needs exactly one Host field"));
        }
        // RFC 9112 section 6.1: both together are how requests are smuggled.
        if fields.chunked && fields.content_length.is_some() {
            return Err(DecodeError::BadRequest("Content-Length beside Transfer-Encoding"));
        }
        Ok(fields)
    }

    /// RFC 9110 section 8.6: digits only. A repeated field is refused even when the values agree;
    /// the standard leaves that choice, and no honest client needs it.
    fn content_length(&mut self, value: &'a [u8]) -> Result<(), DecodeError> {
        if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
            return Err(DecodeError::BadRequest("Content-Length is not a number"));
        }
        if self.content_length.replace(value).is_some() {
            return Err(DecodeError::BadRequest("Content-Length is repeated"));
        }
        Ok(())
    }

    /// RFC 9112 section 6.1: chunked comes once and last; with HTTP/1.0 it is a faulty framing.
    fn transfer_encoding(&mut self, value: &[u8], version_minor: u8) -> Result<(), DecodeError> {
        if version_minor == 0 {
            return Err(DecodeError::BadRequest("Transfer-Encoding in HTTP/1.0"));
        }
        if self.chunked {
            return Err(DecodeError::BadRequest("Transfer-Encoding after chunked"));
        }
        if !value.eq_ignore_ascii_case(b"chunked") {
            return Err(DecodeError::UnsupportedTransferEncoding);
        }
        self.chunked = true;
        Ok(())
    }

    /// RFC 9110 section 10.1.1: an HTTP/1.0 expectation is ignored.
    fn expect(&mut self, value: &[u8], version_minor: u8) -> Result<(), DecodeError> {
        if version_minor == 0 {
            return Ok(());
        }
        if !value.eq_ignore_ascii_case(b"100-continue") {
            return Err(DecodeError::ExpectationFailed);
        }
        self.expect_continue = true;
        Ok(())
    }

    fn framing(&self, limits: &Limits) -> Result<Framing, DecodeError> {
        if self.chunked {
            return Ok(Framing::Chunked);
        }
        let Some(digits) = self.content_length else {
            return Ok(Framing::Length(0));
        };
        let mut length = 0usize;
        for digit in digits {
            length = length
                .checked_mul(10)
                .and_then(|tens| tens.checked_add(usize::from(digit - b'0')))
                .filter(|length| *length <= limits.body_bytes_max)
                .ok_or(DecodeError::BodyTooLarge)?;
        }
        Ok(Framing::Length(length))
    }
}
