//! Writing responses.

/// The interim answer to [`crate::Decoded::ContinueExpected`].
pub const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// Appends a response. Content-Length is always there, but for 204, which has neither length nor
/// body (RFC 9110 section 8.6). `Connection: close` is added when the connection ends with it.
///
/// Header values come from other tenants' messages, too: control characters in them are written as
/// blanks, so none can begin a header field of its own (RFC 9110 section 5.5). The fields that frame
/// the message (Content-Length, Transfer-Encoding, Connection) are this function's; a caller that
/// names one of them, or an invalid field name, has made a mistake, and the field is left out.
pub fn encode_response(
    out: &mut Vec<u8>,
    status: u16,
    headers: &[(&str, &str)],
    body: &[u8],
    keep_alive: bool,
) {
    encode_response_head(out, status, headers, body.len(), keep_alive);
    if status != 204 {
        out.extend_from_slice(body);
    }
}

/// Appends a response's head alone: for HEAD requests, and for bodies that are sent apart. See
/// [`encode_response`]. `body_bytes` is the length the body has, or would have.
pub fn encode_response_head(
    out: &mut Vec<u8>,
    status: u16,
    headers: &[(&str, &str)],
    body_bytes: usize,
    keep_alive: bool,
) {
    out.extend_from_slice(b"HTTP/1.1 ");
    push_number(out, usize::from(status));
    out.push(b' ');
    out.extend_from_slice(reason_phrase(status).as_bytes());
    out.extend_from_slice(b"\r\n");
    for (name, value) in headers {
        push_header(out, name, value);
    }
    if status != 204 {
        out.extend_from_slice(b"Content-Length: ");
        push_number(out, body_bytes);
        out.extend_from_slice(b"\r\n");
    }
    if !keep_alive {
        out.extend_from_slice(b"Connection: close\r\n");
    }
    out.extend_from_slice(b"\r\n");
}

fn push_header(out: &mut Vec<u8>, name: &str, value: &str) {
    let valid = !name.is_empty() && name.bytes().all(is_token);
    let ours = ["Content-Length", "Transfer-Encoding", "Connection"];
    if !valid || ours.iter().any(|reserved| name.eq_ignore_ascii_case(reserved)) {
        debug_assert!(false, "header field {name:?} cannot be set by a caller");
        return;
    }
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    let blanked = |byte: u8| if byte.is_ascii_control() { b' ' } else { byte };
    out.extend(value.bytes().map(blanked));
    out.extend_from_slice(b"\r\n");
}

/// `tchar` of RFC 9110 section 5.6.2.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

fn push_number(out: &mut Vec<u8>, number: usize) {
    let mut digits = [0; 20];
    let mut first = digits.len();
    let mut rest = number;
    loop {
        first -= 1;
        digits[first] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[first..]);
}

/// For people reading a capture; clients ignore it (RFC 9112 section 4).
fn reason_phrase(status: u16) -> &'static str {
    match status {
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        204 => "No Content",
        304 => "Not Modified",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        406 => "Not Acceptable",
        408 => "Request Timeout",
        409 => "Conflict",
        411 => "Length Required",
        412 => "Precondition Failed",
        413 => "Content Too Large",
        415 => "Unsupported Media Type",
        417 => "Expectation Failed",
        422 => "Unprocessable Content",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        507 => "Insufficient Storage",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn response(status: u16, headers: &[(&str, &str)], body: &[u8], keep_alive: bool) -> String {
        let mut out = Vec::new();
        encode_response(&mut out, status, headers, body, keep_alive);
        String::from_utf8(out).expect("ASCII in, ASCII out")
    }

    #[test]
    fn a_response_always_says_where_it_ends() {
        assert_eq!(
            response(202, &[], b"", true),
            "HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n"
        );
        assert_eq!(
            response(200, &[("hono-command", "set")], b"on", false),
            "HTTP/1.1 200 OK\r\nhono-command: set\r\nContent-Length: 2\r\n\
             Connection: close\r\n\r\non"
        );
        assert_eq!(response(204, &[], b"ignored", true), "HTTP/1.1 204 No Content\r\n\r\n");
        assert_eq!(response(299, &[], b"", true), "HTTP/1.1 299 \r\nContent-Length: 0\r\n\r\n");
    }

    #[test]
    fn a_header_value_cannot_begin_another_line() {
        let text = response(200, &[("hono-command", "x\r\nSet-Cookie: a\0")], b"", true);
        assert_eq!(
            text,
            "HTTP/1.1 200 OK\r\nhono-command: x  Set-Cookie: a \r\nContent-Length: 0\r\n\r\n"
        );
    }

    #[test]
    fn numbers_are_written_in_full() {
        for number in [0, 9, 10, 12_345, usize::MAX] {
            let mut out = Vec::new();
            push_number(&mut out, number);
            assert_eq!(out, number.to_string().into_bytes());
        }
    }
}
