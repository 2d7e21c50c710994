//! Reads the golden vectors in `vectors/`; the format is described there. Also included by the fuzz
//! workspace, which makes its seeds from the same files.

#![allow(clippy::panic, dead_code, reason = "part of several tests, each of which uses some of it")]

use std::path::Path;

/// One golden vector.
#[derive(Debug, Clone)]
pub struct Vector {
    /// What it shows, for messages.
    pub name: String,
    /// `first`, `3.1.1` or `5`.
    pub level: String,
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
    let mut parts = line.splitn(4, '|').map(str::trim);
    let mut part = || parts.next().unwrap_or_else(|| panic!("four parts in: {line}")).to_owned();
    let (name, level, verdict, bytes) = (part(), part(), part(), part());
    Vector { name, level, verdict, bytes: parse_bytes(&bytes) }
}

fn parse_bytes(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let behind;
        if let Some(tail) = rest.strip_prefix('@') {
            let body = parse_bytes(tail);
            bytes.extend(remaining_length(body.len()));
            bytes.extend(body);
            return bytes;
        } else if let Some((block, tail)) =
            rest.strip_prefix('[').and_then(|rest| rest.split_once(']'))
        {
            let block = parse_bytes(block);
            bytes.extend(remaining_length(block.len()));
            bytes.extend(block);
            behind = tail;
        } else if let Some((string, tail)) = rest.strip_prefix("$\"").and_then(quoted) {
            bytes.extend(u16::try_from(string.len()).expect("a short string").to_be_bytes());
            bytes.extend(string.as_bytes());
            behind = tail;
        } else if let Some((string, tail)) = rest.strip_prefix('"').and_then(quoted) {
            bytes.extend(string.as_bytes());
            behind = tail;
        } else {
            let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
            bytes.extend(hex_word(&rest[..end]));
            behind = &rest[end..];
        }
        rest = behind.trim_start();
    }
    bytes
}

fn quoted(text: &str) -> Option<(&str, &str)> {
    text.split_once('"')
}

/// Hex digits, or one byte and how often it comes: `ff*3`.
fn hex_word(word: &str) -> Vec<u8> {
    if let Some((byte, count)) = word.split_once('*') {
        return hex_word(byte).repeat(count.parse().expect("a count"));
    }
    assert!(word.len().is_multiple_of(2), "an even number of hex digits in {word}");
    (0..word.len())
        .step_by(2)
        .map(|index| u8::from_str_radix(&word[index..index + 2], 16).expect("hex digits"))
        .collect()
}

fn remaining_length(mut value: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let group = (value % 128) as u8;
        value /= 128;
        bytes.push(if value > 0 { group | 0x80 } else { group });
        if value == 0 {
            return bytes;
        }
    }
}
