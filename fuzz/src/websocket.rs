//! A client's WebSocket bytes. The first byte chooses the size of the pieces they arrive in; the second
//! whether the handshake is done for it.
//!
//! Held: no panic; pieces and the whole give the same protocol bytes, answers and end; no layer makes more
//! of less; pongs and close are bounded.

use fulcrum_transport::limits::PONGS_QUEUED_BYTES_MAX;
use fulcrum_transport::{HandshakeBudget, Layers, Progress, Stack, WebSocketSettings};

const REQUEST: &[u8] = b"GET /mqtt HTTP/1.1\r\nHost: edge.example\r\nUpgrade: websocket\r\n\
    Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n";

/// Takes one input.
pub fn run(input: &[u8]) {
    let [piece, shaken, bytes @ ..] = input else { return };
    // All pings of a longer input need not be answered: only the latest are while nobody reads.
    let bytes = &bytes[..bytes.len().min(PONGS_QUEUED_BYTES_MAX)];
    let stream = if shaken & 1 == 0 { bytes.to_vec() } else { [REQUEST, bytes].concat() };
    let whole = talk(&stream, stream.len().max(1));
    let split = talk(&stream, usize::from(*piece) + 1);
    assert_eq!(whole.plain, split.plain, "the same bytes, the same payload");
    assert_eq!(whole.end, split.end);
    assert_eq!(whole.answer, split.answer);
    assert!(whole.plain.len() <= stream.len());
    assert!(whole.answer.len() <= stream.len() + 1024);
}

struct Outcome {
    plain: Vec<u8>,
    answer: Vec<u8>,
    end: Result<Progress, String>,
}

fn talk(stream: &[u8], piece: usize) -> Outcome {
    let settings = WebSocketSettings { path: "/mqtt".into(), message_bytes_max: 2000 };
    let layers = Layers { websocket: Some(settings), ..Layers::default() };
    let mut stack = Stack::new(&layers).expect("a WebSocket needs nothing");
    let mut budget = HandshakeBudget::new(0);
    let (mut plain, mut answer) = (Vec::new(), Vec::new());
    let mut end = Ok(Progress::Open);
    for part in stream.chunks(piece) {
        match stack.receive(part, &mut plain, &mut budget) {
            Ok(progress) => end = Ok(progress),
            Err(error) => {
                end = Err(error.to_string());
                stack.refuse(&mut answer);
                break;
            }
        }
        stack.flush(&mut answer).expect("nothing is encrypted");
    }
    stack.close(&mut answer);
    Outcome { plain, answer, end }
}
