//! Bytes through the reader of AMQP values.
//!
//! Held: no panic; a value is exactly its bytes, and no front of them is one; what was read can be written, not longer
//! than it came, and reads back the same; so does what is put together again item by item; shown in bounded space.

use fulcrum_amqp::{Value, decode_value, encode_value};

use crate::amqp_rebuild;

/// Takes one input.
pub fn run(bytes: &[u8]) {
    let mut rest = bytes;
    while let Ok((value, used)) = decode_value(rest) {
        assert!(used > 0 && used <= rest.len());
        check(&value, &rest[..used]);
        rest = &rest[used..];
    }
    if let Err(error) = decode_value(rest) {
        assert!(!error.to_string().is_empty());
        assert!(error.clause().is_some());
    }
}

fn check(value: &Value<'_>, bytes: &[u8]) {
    let places = (0..bytes.len()).take(8).chain(bytes.len().saturating_sub(8)..bytes.len());
    for length in places {
        assert!(decode_value(&bytes[..length]).is_err(), "a value in the front of a value");
    }
    let mut written = Vec::new();
    encode_value(value, &mut written).expect("what was read can be written");
    assert!(written.len() <= bytes.len(), "the shortest form is not longer");
    assert_eq!(decode_value(&written), Ok((*value, written.len())));

    let rebuilt = amqp_rebuild::value(value);
    let (again, used) = decode_value(&rebuilt).expect("what was put together can be read");
    assert_eq!((again, used), (*value, rebuilt.len()));
    // An array of nothing has 256 elements at most, which are shown in some bytes each.
    assert!(format!("{value:?}").len() < 1024 * bytes.len() + 1024, "shown in bounded space");
}
