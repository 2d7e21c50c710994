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
