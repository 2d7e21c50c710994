//! The client's HTTP request and our answer (RFC 6455 section 4.2).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};

use crate::limits::{WEBSOCKET_HEAD_BYTES_MAX, WEBSOCKET_HEADERS_MAX};

/// Appended to the key before it is hashed (section 1.3).
const ACCEPT_SUFFIX: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// MQTT 3.1.1 and 5 [MQTT-6.0.0-3], and MQTT 3.1, which some libraries still name. First is preferred.
const SUBPROTOCOLS: [&str; 2] = ["mqtt", "mqttv3.1"];
const HEAD_END: &[u8] = b"\r\n\r\n";

/// Gathers the request's head. Every byte is looked at once, however slowly they come.
#[derive(Debug, Default)]
pub(super) struct RequestReader {
    head: Vec<u8>,
}

#[derive(Debug)]
pub(super) enum Answer {
    NeedMore,
    /// So many of the bytes just given belong to the request.
    Accept {
        response: Vec<u8>,
        used: usize,
    },
    Refuse {
        response: Vec<u8>,
        status: u16,
        reason: &'static str,
    },
}

impl RequestReader {
    pub(super) fn receive(&mut self, bytes: &[u8], path: &str) -> Answer {
        let before = self.head.len();
        let room = WEBSOCKET_HEAD_BYTES_MAX - before;
        self.head.extend_from_slice(&bytes[..bytes.len().min(room)]);
        // Whoever speaks another protocol may never send the end of a head.
        if !self.head.first().is_none_or(u8::is_ascii_uppercase) {
            return Refusal::new(400, "this is no HTTP request").into();
        }
        // The end may have begun in what was there before.
        let from = before.saturating_sub(HEAD_END.len() - 1);
        let end = self.head[from..].windows(HEAD_END.len()).position(|window| window == HEAD_END);
        let Some(end) = end.map(|end| from + end + HEAD_END.len()) else {
            if self.head.len() == WEBSOCKET_HEAD_BYTES_MAX {
                return Refusal::new(431, "the head is over the limit").into();
            }
            return Answer::NeedMore;
        };
        let head = std::mem::take(&mut self.head);
        match accept(&head[..end], path) {
            Ok(response) => Answer::Accept { response, used: end - before },
            Err(refusal) => refusal.into(),
        }
    }
}

/// An answer other than 101.
struct Refusal {
    status: u16,
    reason: &'static str,
    field: &'static str,
}

impl Refusal {
    fn new(status: u16, reason: &'static str) -> Self {
        Self { status, reason, field: "" }
    }
}

impl From<Refusal> for Answer {
    fn from(refusal: Refusal) -> Self {
        let Refusal { status, reason, field } = refusal;
        let phrase = match status {
            404 => "Not Found",
            405 => "Method Not Allowed",
            426 => "Upgrade Required",
            431 => "Request Header Fields Too Large",
            505 => "HTTP Version Not Supported",
            _ => "Bad Request",
        };
        let response = format!(
            "HTTP/1.1 {status} {phrase}\r\n{field}Connection: close\r\nContent-Type: text/plain\r\n\
             Content-Length: {}\r\n\r\n{reason}\n",
            reason.len() + 1
        );
        Self::Refuse { response: response.into_bytes(), status, reason }
    }
}

fn accept(head: &[u8], path: &str) -> Result<Vec<u8>, Refusal> {
    let mut table = [httparse::EMPTY_HEADER; WEBSOCKET_HEADERS_MAX];
    let mut request = httparse::Request::new(&mut table);
    match request.parse(head) {
        Ok(httparse::Status::Complete(used)) if used == head.len() => {}
        Err(httparse::Error::TooManyHeaders) => {
            return Err(Refusal::new(431, "there are too many header fields"));
        }
        Err(httparse::Error::Version) => {
            return Err(Refusal::new(505, "speak HTTP/1.1"));
        }
        _ => return Err(Refusal::new(400, "the request is malformed")),
    }
    if request.version != Some(1) {
        return Err(Refusal::new(505, "speak HTTP/1.1"));
    }
    if request.path.map(|target| target.split('?').next().unwrap_or(target)) != Some(path) {
        return Err(Refusal::new(404, "no WebSocket is served under this path"));
    }
    if request.method != Some("GET") {
        let field = "Allow: GET\r\n";
        return Err(Refusal { field, ..Refusal::new(405, "a WebSocket begins with GET") });
    }
    check_fields(&Fields(request.headers))
}

fn check_fields(fields: &Fields<'_>) -> Result<Vec<u8>, Refusal> {
    let bad = |reason| Refusal::new(400, reason);
    fields.one("Host").ok_or(bad("Host must be there once"))?;
    let body = fields.all("Content-Length").any(|length| length != b"0");
    if body || fields.all("Transfer-Encoding").next().is_some() {
        return Err(bad("the request must not have a body"));
    }
    if !fields.has_token("Upgrade", "websocket") || !fields.has_token("Connection", "upgrade") {
        let field = "Upgrade: websocket\r\n";
        return Err(Refusal { field, ..Refusal::new(426, "only WebSocket is served here") });
    }
    if fields.one("Sec-WebSocket-Version") != Some(b"13") {
        let field = "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n";
        return Err(Refusal { field, ..Refusal::new(426, "speak WebSocket version 13") });
    }
    let key = fields.one("Sec-WebSocket-Key").ok_or(bad("Sec-WebSocket-Key must be there once"))?;
    if !BASE64.decode(key).is_ok_and(|key| key.len() == 16) {
        return Err(bad("Sec-WebSocket-Key must be 16 bytes in base64"));
    }
    // [MQTT-6.0.0-3], [MQTT-6.0.0-4]
    let subprotocol = SUBPROTOCOLS
        .into_iter()
        .find(|name| fields.tokens("Sec-WebSocket-Protocol").any(|token| token == name.as_bytes()))
        .ok_or(bad("offer the subprotocol mqtt"))?;
    Ok(response(key, subprotocol))
}

fn response(key: &[u8], subprotocol: &str) -> Vec<u8> {
    let hash = digest(&SHA1_FOR_LEGACY_USE_ONLY, &[key, ACCEPT_SUFFIX].concat());
    let accept = BASE64.encode(hash);
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {accept}\r\nSec-WebSocket-Protocol: {subprotocol}\r\n\r\n"
    )
    .into_bytes()
}

struct Fields<'a>(&'a [httparse::Header<'a>]);

impl<'a> Fields<'a> {
    fn all(&self, name: &str) -> impl Iterator<Item = &'a [u8]> {
        let named = move |field: &&httparse::Header<'_>| field.name.eq_ignore_ascii_case(name);
        self.0.iter().filter(named).map(|field| field.value.trim_ascii())
    }

    /// The value of a field that must not repeat.
    fn one(&self, name: &str) -> Option<&'a [u8]> {
        let mut values = self.all(name);
        values.next().filter(|_| values.next().is_none())
    }

    /// The members of a list field, over all its lines.
    fn tokens(&self, name: &str) -> impl Iterator<Item = &'a [u8]> {
        self.all(name).flat_map(|value| value.split(|byte| *byte == b',')).map(<[u8]>::trim_ascii)
    }

    fn has_token(&self, name: &str, token: &str) -> bool {
        self.tokens(name).any(|member| member.eq_ignore_ascii_case(token.as_bytes()))
    }
}
