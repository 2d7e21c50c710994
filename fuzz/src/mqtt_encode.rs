//! Packets through the MQTT encoder and back. The input is a script: the level, then packets.
//!
//! Held: no panic; what is written reads back the same, alone and in a stream; what is refused writes nothing.

use fulcrum_mqtt::{DecodeContext, Decoded, ProtocolLevel, decode};

use crate::packets::{KINDS, Kind, Made, make};
use crate::script::Script;

const PACKET_BYTES_MAX: usize = 1 << 16;

/// Takes one input.
pub fn run(input: &[u8]) {
    let mut script = Script::new(input);
    let level = script.one_of(&[ProtocolLevel::V311, ProtocolLevel::V5]);
    let mut stream = Vec::new();
    while !script.is_over() {
        let kind = script.one_of(&KINDS);
        make(&mut script, kind, level, |made| check(&made, kind, level, &mut stream));
    }
}

fn check(made: &Made<'_>, kind: Kind, level: ProtocolLevel, stream: &mut Vec<u8>) {
    let before = stream.len();
    if let Err(error) = made.encode(level, stream) {
        assert_eq!(stream.len(), before, "{error}, and yet something was written");
        assert!(!error.to_string().is_empty());
        return;
    }
    let level = (kind != Kind::Connect).then_some(level);
    let context = DecodeContext { level, packet_bytes_max: PACKET_BYTES_MAX };
    match decode(&stream[before..], &context) {
        Ok(Decoded::Packet { packet, used }) => {
            assert_eq!(used, stream.len() - before);
            assert!(made.is(&packet), "{packet:?} instead of {made:?}");
        }
        other => panic!("{other:?} instead of {made:?}"),
    }
}
