//! The chunked transfer coding (RFC 9112 section 7.1), strict where implementations differ.

use crate::decode::Limits;
use crate::error::DecodeError;

/// Longest line with a chunk size and its extensions, CRLF included. Extensions are ignored; real
/// ones are rare and short.
const CHUNK_LINE_BYTES_MAX: usize = 256;

/// The shortest end of a body behind a chunk's data: its CRLF, the last chunk, the empty line.
const BODY_END_BYTES_MIN: usize = "\r\n0\r\n\r\n".len();

/// Walks over a chunked body, and goes on where the last call stopped. Positions count from the
/// first byte of the body.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct ChunkScan {
    /// Everything before this is whole chunks.
    position: usize,
    /// Bytes of content in those chunks.
    content_bytes: usize,
    /// Set once the last chunk was read: where the trailer section begins, and how far it was
    /// searched, as (first line, unfinished line).
    trailers: Option<(usize, usize)>,
}

/// What a walk found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ChunksEnd {
    /// The body ends at that position and has that much content.
    At { position: usize, content_bytes: usize },
    /// The body has at least that many bytes.
    NeedMore { at_least: usize },
}

impl ChunkScan {
    pub(crate) fn end(&mut self, body: &[u8], limits: &Limits) -> Result<ChunksEnd, DecodeError> {
        while self.trailers.is_none() {
            let Some(line) = chunk_line(body, self.position)? else {
                return Ok(ChunksEnd::NeedMore { at_least: body.len() + 1 });
            };
            if line.size == 0 {
                self.trailers = Some((line.data_start, line.data_start));
                break;
            }
            let content_bytes = self
                .content_bytes
                .checked_add(line.size)
                .filter(|bytes| *bytes <= limits.body_bytes_max)
                .ok_or(DecodeError::BodyTooLarge)?;
            let data_end = line.data_start + line.size;
            self.check_overhead(data_end, content_bytes, limits)?;
            match body.get(data_end..data_end + 2) {
                Some(b"\r\n") => {}
                Some(_) => return Err(DecodeError::BadRequest("a chunk does not end with CR LF")),
                None => {
                    return Ok(ChunksEnd::NeedMore { at_least: data_end + BODY_END_BYTES_MIN });
                }
            }
            self.position = data_end + 2;
            self.content_bytes = content_bytes;
        }
        self.trailers_end(body, limits)
    }

    /// Reads and drops the trailer section (RFC 9110 section 6.5.1 allows dropping).
    fn trailers_end(&mut self, body: &[u8], limits: &Limits) -> Result<ChunksEnd, DecodeError> {
        let Some((start, mut line_start)) = self.trailers else {
            return Ok(ChunksEnd::NeedMore { at_least: body.len() + 1 });
        };
        while let Some(found) =
            body.get(line_start..).and_then(|unseen| unseen.iter().position(|&byte| byte == b'\n'))
        {
            let line_feed = line_start + found;
            if found == 0 || body[line_feed - 1] != b'\r' {
                return Err(DecodeError::BadRequest("a line ends without CR LF"));
            }
            self.check_overhead(line_feed + 1, self.content_bytes, limits)?;
            if found == 1 {
                check_trailers(&body[start..=line_feed])?;
                let position = line_feed + 1;
                return Ok(ChunksEnd::At { position, content_bytes: self.content_bytes });
            }
            line_start = line_feed + 1;
        }
        self.trailers = Some((start, line_start));
        self.check_overhead(body.len() + 1, self.content_bytes, limits)?;
        Ok(ChunksEnd::NeedMore { at_least: body.len() + 1 })
    }

    /// Bounds what chunk lines and trailers may take in memory: without it, a body of one-byte
    /// chunks with long extensions would be buffered at two hundred times its size.
    fn check_overhead(
        &self,
        position: usize,
        content_bytes: usize,
        limits: &Limits,
    ) -> Result<(), DecodeError> {
        if position.saturating_sub(content_bytes) > limits.chunk_overhead_bytes_max() {
            return Err(DecodeError::BadRequest("the chunks have more framing than content"));
        }
        Ok(())
    }
}

/// The content of a chunked body that was walked to its end.
pub(crate) fn collect(body: &[u8], content_bytes: usize) -> Result<Vec<u8>, DecodeError> {
    let mut content = Vec::with_capacity(content_bytes);
    let mut position = 0;
    while let Some(line) = chunk_line(body, position)? {
        if line.size == 0 {
            break;
        }
        let data_end = line.data_start + line.size;
        content.extend_from_slice(body.get(line.data_start..data_end).unwrap_or_default());
        position = data_end + 2;
    }
    Ok(content)
}

struct ChunkLine {
    size: usize,
    data_start: usize,
}

/// Reads the line at `position`: `None` while it is not complete.
fn chunk_line(body: &[u8], position: usize) -> Result<Option<ChunkLine>, DecodeError> {
    let rest = body.get(position..).unwrap_or_default();
    let window = &rest[..rest.len().min(CHUNK_LINE_BYTES_MAX)];
    let Some(line_feed) = window.iter().position(|&byte| byte == b'\n') else {
        if window.len() == CHUNK_LINE_BYTES_MAX {
            return Err(DecodeError::BadRequest("a chunk size line is too long"));
        }
        return Ok(None);
    };
    let line = window[..line_feed]
        .strip_suffix(b"\r")
        .ok_or(DecodeError::BadRequest("a line ends without CR LF"))?;
    let size = chunk_size(line)?;
    Ok(Some(ChunkLine { size, data_start: position + line_feed + 1 }))
}

/// `chunk-size [ chunk-ext ]`: hexadecimal digits alone, then nothing or a semicolon.
fn chunk_size(line: &[u8]) -> Result<usize, DecodeError> {
    let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    let (number, extension) = line.split_at(digits);
    let extension_starts = extension.trim_ascii_start().first();
    let visible = |&byte: &u8| byte == b'\t' || (byte >= b' ' && byte != 0x7F);
    if number.is_empty()
        || !matches!(extension_starts, None | Some(b';'))
        || (extension_starts.is_none() && !extension.is_empty())
        || !extension.iter().all(visible)
    {
        return Err(DecodeError::BadRequest("a chunk size is malformed"));
    }
    number.iter().try_fold(0usize, |size, &digit| {
        let digit = match digit {
            b'0'..=b'9' => digit - b'0',
            digit => (digit | 0x20) - b'a' + 10,
        };
        // A size with its upper bits in use is over any limit, and adding to it must not overflow.
        if size >> (usize::BITS - 8) != 0 {
            return Err(DecodeError::BodyTooLarge);
        }
        Ok(size << 4 | usize::from(digit))
    })
}

fn check_trailers(section: &[u8]) -> Result<(), DecodeError> {
    let mut table = [httparse::EMPTY_HEADER; 32];
    match httparse::parse_headers(section, &mut table) {
        Ok(httparse::Status::Complete((used, _))) if used == section.len() => Ok(()),
        Err(httparse::Error::TooManyHeaders) => Err(DecodeError::HeadTooLarge),
        _ => Err(DecodeError::BadRequest("the trailer section is malformed")),
    }
}
