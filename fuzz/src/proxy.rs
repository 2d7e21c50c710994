//! A connection's first bytes where a PROXY header must be. The first byte chooses the size of the
//! pieces they arrive in.
//!
//! Held: no panic; pieces and the whole say the same; without a header nothing comes through; a header is
//! below its limit, and everything behind it comes through unchanged.

use fulcrum_transport::limits::PROXY_HEADER_BYTES_MAX;
use fulcrum_transport::{HandshakeBudget, Layers, ProxiedConnection, Stack};

/// Takes one input.
pub fn run(input: &[u8]) {
    let [piece, bytes @ ..] = input else { return };
    let whole = read(bytes, bytes.len().max(1));
    let split = read(bytes, usize::from(*piece) + 1);
    assert_eq!(whole, split, "the same bytes, the same connection");
}

fn read(stream: &[u8], piece: usize) -> Result<(Option<ProxiedConnection>, Vec<u8>), String> {
    let layers = Layers { proxy: true, ..Layers::default() };
    let mut stack = Stack::new(&layers).expect("a header needs nothing");
    let mut plain = Vec::new();
    for part in stream.chunks(piece) {
        if let Err(error) = stack.receive(part, &mut plain, &mut HandshakeBudget::new(0)) {
            assert!(plain.is_empty(), "nothing comes through before a header");
            return Err(error.to_string());
        }
    }
    assert!(stream.ends_with(&plain));
    match stack.proxied() {
        Some(_) => assert!(stream.len() - plain.len() <= PROXY_HEADER_BYTES_MAX),
        None => assert!(plain.is_empty() && stream.len() < PROXY_HEADER_BYTES_MAX),
    }
    Ok((stack.proxied().cloned(), plain))
}
