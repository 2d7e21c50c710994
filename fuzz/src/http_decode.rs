//! A connection's bytes through the HTTP decoder. The first byte chooses the size of the pieces they
//! arrive in.
//!
//! Held: no panic; pieces and the whole give the same requests; a buffer stays below
//! `request_bytes_max`; header fields are those `httparse` sees; helpers take whatever a request has.

use fulcrum_http::{
    DecodeError, Decoded, Limits, Progress, Request, basic_credentials, decode_resumed,
    percent_decode, query_pairs,
};

const LIMITS: Limits = Limits { head_bytes_max: 512, headers_max: 16, body_bytes_max: 256 };

/// Takes one input.
pub fn run(input: &[u8]) {
    let [piece, bytes @ ..] = input else { return };
    let whole = read_connection(bytes, bytes.len().max(1));
    let split = read_connection(bytes, usize::from(*piece) + 1);
    assert_eq!(whole, split, "the same bytes, the same requests");
}

/// What a request said, for comparing.
type Seen = (String, Vec<u8>, Vec<(String, String)>, bool);

fn read_connection(stream: &[u8], piece: usize) -> (Vec<Seen>, Option<DecodeError>) {
    let mut progress = Progress::default();
    let mut seen = Vec::new();
    let mut start = 0;
    let mut end = 0;
    let mut wanted = 1;
    while end < stream.len() {
        end = (end + piece).min(stream.len());
        // What waits for more than the stream has is looked at once more when the stream ends.
        while end - start >= wanted || (end == stream.len() && start < end) {
            let buffer = &stream[start..end];
            match decode_resumed(buffer, &LIMITS, &mut progress) {
                Ok(Decoded::Request { request, used }) => {
                    assert!(used <= LIMITS.request_bytes_max());
                    assert_eq!(progress, Progress::default());
                    check_request(&request, &buffer[..used]);
                    seen.push(summary(&request));
                    start += used;
                    wanted = 1;
                }
                Ok(Decoded::NeedMore { at_least }) => {
                    assert!(at_least > buffer.len() && at_least <= LIMITS.request_bytes_max());
                    wanted = at_least;
                    if end == stream.len() {
                        break;
                    }
                }
                Ok(Decoded::ContinueExpected) => wanted = buffer.len() + 1,
                Err(error) => {
                    assert!((400..=599).contains(&error.status()));
                    return (seen, Some(error));
                }
            }
        }
    }
    (seen, None)
}

fn summary(request: &Request<'_>) -> Seen {
    let fields =
        request.headers().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    let line = format!("{:?} {} {}", request.method, request.target, request.version_minor);
    (line, request.body.to_vec(), fields, request.keep_alive)
}

fn check_request(request: &Request<'_>, bytes: &[u8]) {
    let mut table = [httparse::EMPTY_HEADER; 16];
    let mut parsed = httparse::Request::new(&mut table);
    assert!(parsed.parse(bytes).expect("a request we accept").is_complete());
    let theirs: Vec<_> = parsed.headers.iter().map(|field| (field.name, field.value)).collect();
    let ours: Vec<_> = request.headers().map(|(name, value)| (name, value.as_bytes())).collect();
    assert_eq!(ours, theirs);

    assert!(request.path.starts_with('/') || request.path == "*");
    assert!(request.body.len() <= LIMITS.body_bytes_max);
    let _ = percent_decode(request.path);
    if let Some(query) = request.query {
        assert!(query_pairs(query).count() <= query.len());
    }
    if let Some(credentials) = request.header("authorization").and_then(basic_credentials) {
        assert!(!credentials.username.contains(':'));
    }
}
