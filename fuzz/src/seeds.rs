//! The inputs a fuzzer begins with, from the golden vectors of the codecs and from a few lives of clients: where the
//! tests end.

use std::path::Path;

use fulcrum_frame::{Class, FrameBuilder, Tag};

use crate::packets::{KINDS, Kind};
use crate::session_records;

#[path = "../../dataplane/wire/amqp/tests/corpus/mod.rs"]
#[allow(missing_docs, reason = "a test's")]
mod amqp_vectors;
#[path = "../../dataplane/wire/http/tests/corpus/mod.rs"]
#[allow(missing_docs, reason = "a test's")]
mod http_vectors;
#[path = "../../dataplane/wire/mqtt/tests/corpus/mod.rs"]
#[allow(missing_docs, reason = "a test's")]
mod mqtt_vectors;

/// The seeds of a target; none for a name that is none.
pub fn of(target: &str) -> Vec<Vec<u8>> {
    let wire = Path::new(env!("CARGO_MANIFEST_DIR")).join("../dataplane/wire");
    match target {
        "amqp_connection" => amqp_connections(),
        "amqp_frame" => amqp(&wire.join("amqp/vectors"), &["amqp", "sasl", "protocol"]),
        "amqp_message" => amqp(&wire.join("amqp/vectors"), &["message", "prefix"]),
        "amqp_value" => amqp(&wire.join("amqp/vectors"), &["value"]),
        "mqtt_decode" => mqtt(&wire.join("mqtt/vectors")),
        "mqtt_encode" => scripts_of_packets(),
        "http_decode" => http(&wire.join("http/vectors")),
        "frame_decode" => frames(),
        "journal_recover" => (0..8).map(|number| noise(number, 8 * number)).collect(),
        "proxy" => proxy(),
        "session" => lives(),
        "session_records" => records(),
        "topics" => topics(),
        "transport" => transport(),
        "websocket" => websocket(),
        _ => Vec::new(),
    }
}

/// Bytes without meaning, the same each time.
fn noise(number: usize, length: usize) -> Vec<u8> {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64.wrapping_mul(number as u64 + 1);
    let next = || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    std::iter::repeat_with(next).take(length).collect()
}

/// Each kind of packet at both levels, plain and with whatever noise chooses.
fn scripts_of_packets() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for level in 0..2 {
        for kind in 0..KINDS.len() as u8 {
            seeds.push(vec![level, kind, 0]);
            for round in 0..4 {
                let noise = noise(round * 100 + usize::from(kind), 24 + 24 * round);
                seeds.push([&[level, kind], &noise[..]].concat());
            }
        }
    }
    seeds
}

/// Clients of both levels, durable and not, with and without a will, that subscribe, publish and answer.
fn lives() -> Vec<Vec<u8>> {
    let mut seeds: Vec<Vec<u8>> = (0..48)
        .map(|number| [&[number as u8 * 5], &noise(number, 40 + 4 * number)[..]].concat())
        .collect();
    for head in [0x40, 0x41, 0x44, 0x45, 0x47, 0x60, 0x61, 0x70, 0x71] {
        let is_v5 = head & 1 == 1;
        // CONNECT without properties, and a clean start.
        let mut seed = vec![head];
        seed.extend(if is_v5 { vec![0, 0, 1] } else { vec![] });
        for kind in [Kind::Subscribe, Kind::Publish, Kind::Publish, Kind::Unsubscribe] {
            let place = KINDS.iter().position(|one| *one == kind).unwrap_or(0);
            for qos in 0..3 {
                seed.extend([4, place as u8]);
                seed.extend(if is_v5 { vec![0] } else { vec![] });
                seed.extend(match kind {
                    // Identifier, one filter, its options.
                    Kind::Subscribe if is_v5 => vec![7, 0, qos, qos, 0, 0, 0],
                    Kind::Subscribe => vec![7, 0, qos, qos],
                    Kind::Unsubscribe => vec![8, 0, qos],
                    // QoS, topic, identifier, retained, repeated, payload.
                    _ if qos == 0 => vec![0, 1, 1, 3, b'o', b'n', b'e'],
                    _ => vec![qos, 1, 9 + qos, 1, 0, 3, b't', b'w', b'o'],
                });
            }
            seed.push(2);
        }
        seeds.push(seed);
    }
    seeds
}

/// Records as they were written, alone; then changes of them.
fn records() -> Vec<Vec<u8>> {
    let written = session_records::written();
    let mut seeds: Vec<Vec<u8>> =
        written.iter().map(|(_, record)| [&[0], record.as_slice()].concat()).collect();
    let lengths = written.iter().filter(|(_, record)| record.len() < 64);
    let all = lengths.flat_map(|(segment, record)| {
        [&[*segment as u8, record.len() as u8], record.as_slice(), &[0]].concat()
    });
    seeds.push([1].into_iter().chain(all).collect());
    seeds.extend((0..24).map(|number| [&[2], &noise(number, 4 + 3 * number)[..]].concat()));
    seeds
}

fn topics() -> Vec<Vec<u8>> {
    let texts = [
        "a/b\na/b",
        "+/b\na/b",
        "#\n$SYS/x",
        "$SYS/#\n$SYS/x",
        "a/#\na",
        "a//+\na//b",
        "/\n/",
        "+/+\n/a",
        "$share/g/a/+\na/b",
        "$share/+/a\na",
        "$share//a\na",
        "a#\na#",
        "a/#/b\na/b",
        "\u{fc}/+\n\u{fc}/\u{65e5}",
    ];
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}

/// Layers, who speaks and piece in front, as `transport` reads them.
fn transport() -> Vec<Vec<u8>> {
    let hello = noise(1, 60);
    let mut seeds: Vec<Vec<u8>> = (0..8)
        .map(|layers| [&[layers, 30], &b"\x16\x03\x01\x00\x3c\x01"[..], &hello].concat())
        .collect();
    for layers in [10, 11, 14, 15, 26, 30] {
        // Says something, hears something, leaves.
        seeds.push(
            [&[layers, 200, 0, 5], &b"hello"[..], &[6, 6, 2, 3], b"you", &[0, 1, b'x', 1]].concat(),
        );
        seeds.extend((0..3).map(|number| [&[layers, 90], &noise(number, 30)[..]].concat()));
    }
    for proxied in proxy() {
        seeds.push([&[1], proxied.as_slice()].concat());
    }
    for spoken in websocket() {
        seeds.push([&[4, spoken[0]], &spoken[2..]].concat());
    }
    seeds
}

/// Level and limit in front, as `mqtt_decode` reads them; then each vector alone, and all good ones
/// behind each other as one connection.
fn mqtt(vectors: &Path) -> Vec<Vec<u8>> {
    let vectors = mqtt_vectors::vectors(vectors);
    let head = |level: &str| match level {
        "first" => [0, 17],
        "3.1.1" => [1, 17],
        _ => [2, 17],
    };
    let mut seeds: Vec<Vec<u8>> =
        vectors.iter().map(|vector| [&head(&vector.level)[..], &vector.bytes].concat()).collect();
    for level in ["3.1.1", "5"] {
        let stream = vectors
            .iter()
            .filter(|vector| vector.level == level && vector.verdict.starts_with("ok"))
            .flat_map(|vector| vector.bytes.clone());
        seeds.push(head(level).into_iter().chain(stream).collect());
    }
    seeds
}

/// A link each way that carries a message, one life of both, and noise.
fn amqp_connections() -> Vec<Vec<u8>> {
    let comes = [
        &[0, 0, 2, 0, 0][..],
        &[0, 0, 14, 0, 0],
        &[0, 0, 14, 0, 3, 10, 1],
        &[0, 0, 5, 0, 5, 10],
        &[0, 0, 5, 8, 6, 10],
        &[0, 0, 5, 1, 10],
        &[0, 0, 14, 0, 9, 1],
        &[0, 0, 14, 0, 9, 3],
        &[0, 0, 14, 0, 11, 3],
        &[0, 0, 4, 0],
    ]
    .concat();
    let goes = [
        &[0, 1, 2, 1, 1][..],
        &[0, 0, 14, 0, 0],
        &[0, 1, 8, 0, 0, 9, 0, 0, 9],
        &[0, 0, 14, 0, 5, 3, 200],
        &[0, 0, 14, 0, 5, 1, 20],
        &[0, 0, 14, 0, 7, 1],
        &[0, 0, 14, 0, 5, 1, 20],
        &[0, 0, 14, 0, 8],
        &[0, 0, 10, 0, 4, 9],
        &[0, 0, 14, 0, 10, 0],
        &[0, 0, 1],
    ]
    .concat();
    let both = [&comes[..], &goes, &comes].concat();
    let noise = (0..24).map(|number| noise(number, 60 * number));
    [comes, goes, both].into_iter().chain(noise).collect()
}

/// Each vector of these kinds behind what its target reads in front; then all good frames of a layer behind each other
/// as one connection.
fn amqp(vectors: &Path, kinds: &[&str]) -> Vec<Vec<u8>> {
    let vectors = amqp_vectors::vectors(vectors);
    let head: fn(&str) -> &'static [u8] = |kind| match kind {
        "amqp" => &[0, 13, 0],
        "sasl" => &[1, 6, 0],
        "protocol" => &[0, 13, 1],
        "message" => &[128],
        "prefix" => &[255],
        _ => &[],
    };
    let of_kinds = vectors.iter().filter(|vector| kinds.contains(&vector.kind.as_str()));
    let mut seeds: Vec<Vec<u8>> =
        of_kinds.map(|vector| [head(&vector.kind), &vector.bytes].concat()).collect();
    for kind in kinds.iter().filter(|kind| ["amqp", "sasl"].contains(*kind)) {
        let stream = vectors
            .iter()
            .filter(|vector| vector.kind == **kind && vector.verdict.starts_with("ok"))
            .flat_map(|vector| vector.bytes.clone());
        seeds.push(head(kind).iter().copied().chain(stream).collect());
    }
    seeds
}

fn http(vectors: &Path) -> Vec<Vec<u8>> {
    let vectors = http_vectors::vectors(vectors);
    let pipelined: Vec<u8> = vectors
        .iter()
        .filter(|vector| vector.verdict.starts_with("ok"))
        .flat_map(|vector| vector.bytes.clone())
        .collect();
    let mut seeds: Vec<Vec<u8>> =
        vectors.iter().map(|vector| [&[6], vector.bytes.as_slice()].concat()).collect();
    seeds.push([&[40], pipelined.as_slice()].concat());
    seeds
}

fn frames() -> Vec<Vec<u8>> {
    let classes = [
        Class::Telemetry,
        Class::Event,
        Class::Command,
        Class::CommandResponse,
        Class::CommandStatus,
    ];
    classes.iter().flat_map(|class| [false, true].map(|full| frame(*class, full))).collect()
}

fn frame(class: Class, full: bool) -> Vec<u8> {
    let mut out = Vec::new();
    let mut builder = FrameBuilder::new(&mut out, class, u8::from(full), 1_700_000_000_000);
    builder.text(Tag::Tenant, "acme").text(Tag::Device, "pump-7");
    if full {
        builder
            .text(Tag::OriginAddress, "event/acme/pump-7")
            .text(Tag::ContentType, "application/json")
            .text(Tag::Correlation, "42")
            .text(Tag::Trace, "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
            .status(200)
            .property("unit", "°C")
            .retain(true)
            .ttl_s(Some(60));
    }
    builder.finish(b"21.5").expect("a small frame");
    out
}

/// Piece and whether the handshake is done in front, as `websocket` reads them.
fn websocket() -> Vec<Vec<u8>> {
    let request = b"GET /mqtt HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\
        Sec-WebSocket-Protocol: mqttv3.1, mqtt\r\n\r\n";
    let frames: [&[u8]; 9] = [
        b"\x82\x83\x01\x02\x03\x04abc",
        b"\x02\x81\0\0\0\0a\x89\x81\0\0\0\0p\x80\x81\0\0\0\0b",
        b"\x88\x85\0\0\0\0\x03\xe8bye",
        b"\x88\x80\0\0\0\0",
        b"\x81\x81\0\0\0\0t",
        b"\x82\x03abc",
        b"\x82\xfe\x00\x80\x01\x02\x03\x04",
        b"\x82\xff\0\0\0\0\0\x01\0\0\x01\x02\x03\x04",
        b"\x8a\x80\x01\x02\x03\x04",
    ];
    let shaken = frames.iter().map(|frame| [&[2, 1], *frame].concat());
    shaken.chain([[&[6, 0], &request[..], frames[0]].concat()]).collect()
}

fn proxy() -> Vec<Vec<u8>> {
    let signature = b"\r\n\r\n\0\r\nQUIT\n";
    let binary: [&[u8]; 5] = [
        b"\x21\x11\0\x0c\xc0\0\x02\x07\xc6\x33\x64\x01\x30\x39\x07\x5bconnect",
        b"\x20\0\0\0connect",
        b"\x21\x11\0\x10\xc0\0\x02\x07\xc6\x33\x64\x01\x30\x39\x07\x5b\x02\0\x01a",
        b"\x21\x11\0\x13\xc0\0\x02\x07\xc6\x33\x64\x01\x30\x39\x07\x5b\x03\0\x04\0\0\0\0",
        b"\x21\x11\0\x1c\xc0\0\x02\x07\xc6\x33\x64\x01\x30\x39\x07\x5b\x20\0\x0d\x07\0\0\0\0\
          \x22\0\x05dev-7",
    ];
    let text: [&[u8]; 3] = [
        b"PROXY TCP4 192.0.2.7 198.51.100.1 12345 1883\r\nconnect",
        b"PROXY TCP6 2001:db8::7 2001:db8::1 1 2\r\n",
        b"PROXY UNKNOWN\r\n",
    ];
    let binary = binary.iter().map(|rest| [&[4], &signature[..], *rest].concat());
    binary.chain(text.iter().map(|line| [&[4], *line].concat())).collect()
}
