//! Reads the golden vectors in `vectors/`; the format is described there. Also included by the fuzz
//! workspace, which makes its seeds from the same files.

#![allow(clippy::panic, dead_code, reason = "part of several tests, each of which uses some of it")]

use std::path::Path;

/// One golden vector.
#[derive(Debug, Clone)]
pub struct Vector {
    /// What it shows, for messages.
    pub name: String,
    /// What the decoder has to say.
    pub verdict: String,
    /// The input.
    pub bytes: Vec<u8>,
}

/// Every vector of every file, in the order of the file names.
pub fn vectors(folder: &Path) -> Vec<Vector> {
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .expect("the folder of the vectors is there")
        .map(|entry| entry.expect("a readable entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "txt"))
        .collect();
    files.sort();
    files
        .iter()
        .flat_map(|file| {
            let text = std::fs::read_to_string(file).expect("a readable file");
            text.lines()
                .filter(|line| !line.trim().is_empty() && !line.starts_with('#'))
                .map(parse_line)
                .collect::<Vec<_>>()
        })
        .collect()
}

fn parse_line(line: &str) -> Vector {
    let mut parts = line.splitn(3, '|').map(str::trim);
    let mut part = || parts.next().unwrap_or_else(|| panic!("three parts in: {line}")).to_owned();
    let (name, verdict, text) = (part(), part(), part());
    let verdict = String::from_utf8(unescape(&verdict)).expect("verdicts are text");
    Vector { name, verdict, bytes: unescape(&text) }
}

fn unescape(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text;
    while let Some((plain, escape)) = rest.split_once('\\') {
        bytes.extend(plain.as_bytes());
        let (byte, used) = match escape.as_bytes().first() {
            Some(b'r') => (b'\r', 1),
            Some(b'n') => (b'\n', 1),
            Some(b't') => (b'\t', 1),
            Some(b'p') => (b'|', 1),
            Some(b'\\') => (b'\\', 1),
            Some(b'x') => (u8::from_str_radix(&escape[1..3], 16).expect("hex digits"), 3),
            _ => panic!("unknown escape in {text}"),
        };
        bytes.push(byte);
        rest = &escape[used..];
    }
    bytes.extend(rest.as_bytes());
    bytes
}
