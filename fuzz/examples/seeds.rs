//! Writes the seed corpora into `corpus/`, from the golden vectors of the codecs: the fuzzer begins
//! where the tests end.

use std::path::{Path, PathBuf};
use std::{fs, io};

use fulcrum_frame::{Class, FrameBuilder, Tag};

#[path = "../../dataplane/wire/http/tests/corpus/mod.rs"]
mod http_corpus;
#[path = "../../dataplane/wire/mqtt/tests/corpus/mod.rs"]
mod mqtt_corpus;

fn main() -> io::Result<()> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let wire = here.join("../dataplane/wire");
    let corpus = here.join("corpus");
    let mqtt = mqtt_seeds(&wire.join("mqtt/vectors"));
    let http = http_seeds(&wire.join("http/vectors"));
    for (target, seeds) in
        [("mqtt_decode", mqtt), ("http_decode", http), ("frame_decode", frame_seeds())]
    {
        write_all(&corpus.join(target), &seeds)?;
        println!("{target}: {} seeds", seeds.len());
    }
    for (target, seeds) in [("websocket", websocket_seeds()), ("proxy", proxy_seeds())] {
        write_all(&corpus.join(target), &seeds)?;
        println!("{target}: {} seeds", seeds.len());
    }
    Ok(())
}

fn write_all(folder: &PathBuf, seeds: &[Vec<u8>]) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    for (number, seed) in seeds.iter().enumerate() {
        fs::write(folder.join(format!("seed-{number:04}")), seed)?;
    }
    Ok(())
}

/// Level and limit in front, as `mqtt_decode` reads them; then each vector alone, and all good ones
/// behind each other as one connection.
fn mqtt_seeds(vectors: &Path) -> Vec<Vec<u8>> {
    let vectors = mqtt_corpus::vectors(vectors);
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

fn http_seeds(vectors: &Path) -> Vec<Vec<u8>> {
    let vectors = http_corpus::vectors(vectors);
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

fn frame_seeds() -> Vec<Vec<u8>> {
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
fn websocket_seeds() -> Vec<Vec<u8>> {
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

fn proxy_seeds() -> Vec<Vec<u8>> {
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
