//! Reads the golden vectors in `vectors/`; the format is described there. Also included by the fuzz
//! workspace, which makes its seeds from the same files.

#![allow(clippy::panic, dead_code, reason = "part of several tests, each of which uses some of it")]

use std::path::Path;

/// One golden vector.
#[derive(Debug, Clone)]
pub struct Vector {
    /// What it shows, for messages.
    pub name: String,
    /// `protocol`, `value`, `amqp`, `sasl`, `message` or `prefix`.
    pub kind: String,
    /// What the decoder has to say.
    pub verdict: String,
    /// The input.
    pub bytes: Vec<u8>,
}

/// Every vector of every file, in the order of the file names.
pub fn vectors(folder: &Path) -> Vec<Vector> {
    lines(folder).iter().map(|line| parse_line(line)).collect()
}

/// The lines of every file that are no comments, in the order of the file names.
pub fn lines(folder: &Path) -> Vec<String> {
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .expect("the folder of the vectors is there")
        .map(|entry| entry.expect("a readable entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "txt"))
        .collect();
    files.sort();
    let text = |file| std::fs::read_to_string(file).expect("a readable file");
    let is_vector = |line: &&str| !line.trim().is_empty() && !line.starts_with('#');
    let lines = |text: String| text.lines().filter(is_vector).map(str::to_owned).collect();
    files.iter().map(text).flat_map(|text| -> Vec<String> { lines(text) }).collect()
}

fn parse_line(line: &str) -> Vector {
    let mut parts = line.splitn(4, '|').map(str::trim);
    let mut part = || parts.next().unwrap_or_else(|| panic!("four parts in: {line}")).to_owned();
    let (name, kind, verdict, bytes) = (part(), part(), part(), part());
    Vector { name, kind, verdict, bytes: parse_bytes(&bytes) }
}

/// Bytes in the notation of the vectors.
pub fn parse_bytes(text: &str) -> Vec<u8> {
    let (bytes, rest) = parse_until(text, None);
    assert!(rest.is_empty(), "closed too often: {text}");
    bytes
}

/// Bytes up to a closing bracket, and what is behind it.
fn parse_until(text: &str, close: Option<char>) -> (Vec<u8>, &str) {
    let mut bytes = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let tail = &rest[1..];
        rest = match first {
            _ if Some(first) == close => return (bytes, tail),
            '@' => {
                let (body, behind) = parse_until(tail, close);
                bytes.extend(size_32(body.len() + 4));
                bytes.extend(body);
                return (bytes, behind);
            }
            '[' => {
                let (block, behind) = parse_until(tail, Some(']'));
                bytes.push(size_8(block.len()));
                bytes.extend(block);
                behind
            }
            '{' => {
                let (block, behind) = parse_until(tail, Some('}'));
                bytes.extend(size_32(block.len()));
                bytes.extend(block);
                behind
            }
            '$' => {
                let (text, behind) = quoted(tail);
                bytes.push(size_8(text.len()));
                bytes.extend(text.as_bytes());
                behind
            }
            '"' => {
                let (text, behind) = quoted(rest);
                bytes.extend(text.as_bytes());
                behind
            }
            _ => {
                let end = rest.find([' ', '[', ']', '{', '}']).unwrap_or(rest.len());
                bytes.extend(hex_word(&rest[..end]));
                &rest[end..]
            }
        }
        .trim_start();
    }
    assert!(close.is_none(), "not closed: {text}");
    (bytes, rest)
}

fn quoted(text: &str) -> (&str, &str) {
    text.strip_prefix('"')
        .and_then(|text| text.split_once('"'))
        .unwrap_or_else(|| panic!("no text in quotes: {text}"))
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

fn size_8(size: usize) -> u8 {
    u8::try_from(size).expect("a short block")
}

fn size_32(size: usize) -> [u8; 4] {
    u32::try_from(size).expect("not that long a block").to_be_bytes()
}
