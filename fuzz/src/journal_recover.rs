//! A journal's segment with changed bytes through the record reader, and any bytes through its bodies.
//!
//! Held: no panic; every step advances or asks for bytes that exist; the same records whatever pieces the bytes come in;
//! no message that was not written.

use std::sync::OnceLock;

use fulcrum_frame::{Class, Frame, FrameBuilder, Tag};
use fulcrum_journal::blocking::Driver;
use fulcrum_journal::{
    Checkpoint, Cursor, Gap, JournalConfig, Kind, Position, RecordReader, Step, open,
};

const SEGMENT_BYTES: u64 = 4096;
const START: Position = Position(SEGMENT_BYTES);

/// One segment of a journal, its reader, and the end of its log.
struct Image {
    bytes: Vec<u8>,
    reader: RecordReader,
    end: Position,
}

/// Made once a run. Its epoch is random, so an input that changes a checksum may need several runs to show again.
static IMAGE: OnceLock<Image> = OnceLock::new();

/// Takes one input.
pub fn run(input: &[u8]) {
    let _ = Checkpoint::decode(input);
    let _ = Cursor::decode(input);
    let _ = Gap::decode(input);
    let image = IMAGE.get_or_init(image);
    let as_written = walk(image, &image.bytes, usize::MAX);
    let mut bytes = image.bytes.clone();
    // Each four bytes change one: where, to what, and how large the reader's window is.
    let mut window = 64;
    for change in input.chunks_exact(4) {
        let at = usize::from(u16::from_le_bytes([change[0], change[1]])) % bytes.len();
        bytes[at] = change[2];
        window = 1 + usize::from(change[3]) * 8;
    }
    let whole = walk(image, &bytes, usize::MAX);
    let pieces = walk(image, &bytes, window);
    assert_eq!(whole, pieces, "what is read depends on how it is read");
    assert!(whole.iter().all(|record| as_written.contains(record)), "a record was invented");
    walk_anything(input);
}

/// The sound messages, by position and body.
fn walk(image: &Image, bytes: &[u8], window: usize) -> Vec<(Position, Vec<u8>)> {
    let mut messages = Vec::new();
    let (mut at, mut given) = (START, window);
    while at < image.end {
        let from = (at.0 - START.0) as usize;
        let to = from.saturating_add(given).min((image.end.0 - START.0) as usize);
        let piece = &bytes[from..to];
        let next = match image.reader.parse(piece, at, image.end) {
            Step::Record(record) => {
                if record.kind == Kind::Message {
                    messages.push((at, record.body.to_vec()));
                }
                record.next
            }
            Step::EndOfSegment { next } => next,
            Step::Corrupt(damage) => {
                assert_eq!(damage.from, at);
                damage.to
            }
            Step::NeedMore { at_least } => {
                assert!(at_least > piece.len(), "asks for what it has");
                assert!(at.0 + at_least as u64 <= image.end.0, "asks for what is not there");
                given = at_least;
                continue;
            }
        };
        assert!(next > at, "a step that goes nowhere");
        (at, given) = (next, window);
    }
    messages
}

/// Bytes nobody wrote.
fn walk_anything(input: &[u8]) {
    let reader = RecordReader::new(7, SEGMENT_BYTES);
    let mut at = START;
    let end = Position(START.0 + input.len() as u64);
    while at < end {
        let rest = &input[(at.0 - START.0) as usize..];
        at = match reader.parse(rest, at, end) {
            Step::Record(record) => record.next,
            Step::EndOfSegment { next } => next,
            Step::Corrupt(damage) => damage.to,
            Step::NeedMore { .. } => unreachable!("everything below the limit was given"),
        };
    }
}

fn image() -> Image {
    let dir = std::env::temp_dir().join(format!("fulcrum-journal-fuzz-{}", std::process::id()));
    let config = JournalConfig {
        segment_bytes: SEGMENT_BYTES,
        bytes_max: 2 * SEGMENT_BYTES,
        reserve_bytes: 512,
        batch_bytes_max: 1024,
        ..JournalConfig::new(&dir, 1)
    };
    let mut opened = open(&config).expect("a temporary directory can be written");
    let (mut partition, tail) = opened.partitions.remove(0);
    let mut driver = Driver::new();
    for n in 0..12_u8 {
        let mut out = Vec::new();
        let mut frame = FrameBuilder::new(&mut out, Class::Event, 1, 1_700_000_000_000);
        frame.text(Tag::Tenant, "acme").text(Tag::Device, "pump-7");
        frame.finish(&vec![n; usize::from(n) * 15]).expect("a small frame");
        let frame = Frame::parse(&out).expect("a frame just built");
        partition.append(&frame).expect("an empty journal has room");
        if n % 3 == 2 {
            driver.turn(&mut partition);
        }
    }
    let bytes = std::fs::read(tail.segment_path(START).0).expect("a segment just written");
    let image = Image { bytes, reader: tail.reader(), end: tail.committed() };
    let _ = std::fs::remove_dir_all(&dir);
    image
}
