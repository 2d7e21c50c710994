//! A small journal in a temporary directory, driven with blocking calls.
#![allow(dead_code, clippy::unwrap_used)] // each test binary uses a part; a harness may panic

use std::path::{Path, PathBuf};

use fulcrum_frame::{Class, Frame, FrameBuilder, Tag};
use fulcrum_journal::blocking::Driver;
use fulcrum_journal::{
    AppendError, Committed, Damage, JournalConfig, Kind, Partition, PartitionReport, Position,
    Step, Tail, Ticket, open,
};

pub const SEGMENT_BYTES: u64 = 4096;

pub fn config(dir: &Path) -> JournalConfig {
    JournalConfig {
        segment_bytes: SEGMENT_BYTES,
        bytes_max: 4 * SEGMENT_BYTES,
        reserve_bytes: 512,
        batch_bytes_max: 2048,
        ..JournalConfig::new(dir, 1)
    }
}

/// A frame of `tenant` whose payload is `payload`.
pub fn frame(tenant: &str, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut builder = FrameBuilder::new(&mut out, Class::Event, 1, 1_700_000_000_000);
    builder.text(Tag::Tenant, tenant).text(Tag::Device, "pump-7");
    builder.finish(payload).unwrap();
    out
}

pub struct Journal {
    pub partition: Partition,
    pub tail: Tail,
    pub driver: Driver,
    pub report: PartitionReport,
}

impl Journal {
    pub fn open(config: &JournalConfig) -> Journal {
        let mut opened = open(config).unwrap();
        let (partition, tail) = opened.partitions.remove(0);
        let report = opened.report.partitions.remove(0);
        Journal { partition, tail, driver: Driver::new(), report }
    }

    pub fn append(&mut self, tenant: &str, payload: &[u8]) -> Result<Ticket, AppendError> {
        let bytes = frame(tenant, payload);
        self.partition.append(&Frame::parse(&bytes).unwrap())
    }

    pub fn commit(&mut self) -> Option<Committed> {
        self.driver.turn(&mut self.partition)
    }

    /// Appends and commits one message after the other; a full turn is given to a partition that is not ready.
    pub fn store(&mut self, tenant: &str, payload: &[u8]) {
        let ticket = match self.append(tenant, payload) {
            Err(AppendError::NotReady) => {
                self.commit();
                self.append(tenant, payload).unwrap()
            }
            appended => appended.unwrap(),
        };
        assert_eq!(self.commit(), Some(Committed::Durable { through: ticket }));
    }

    /// Everything a reader sees from where it resumes.
    pub fn read(&self) -> Read {
        read(&self.tail, self.tail.start())
    }
}

#[derive(Debug, Default, PartialEq, Eq)]
pub struct Read {
    /// Tenant, sequence and payload.
    pub messages: Vec<(String, u64, Vec<u8>)>,
    pub positions: Vec<Position>,
    pub damages: Vec<Damage>,
    pub end: Position,
}

/// Reads from `at` to what is committed, a few bytes at a time.
pub fn read(tail: &Tail, mut at: Position) -> Read {
    let (reader, committed) = (tail.reader(), tail.committed());
    let mut read = Read::default();
    let mut window = 64;
    while at < committed {
        let (path, offset, segment_bytes) = tail.segment_path(at);
        let Ok(bytes) = std::fs::read(&path) else {
            let to = Position(at.0 - offset + segment_bytes);
            read.damages.push(Damage { from: at, to, record: None });
            at = to;
            continue;
        };
        let end = bytes.len().min(offset as usize + window);
        match reader.parse(&bytes[offset as usize..end], at, committed) {
            Step::Record(record) => {
                if record.kind == Kind::Message {
                    let frame = Frame::parse(record.body).unwrap();
                    let tenant = frame.tenant().unwrap().to_owned();
                    read.messages.push((tenant, record.sequence, frame.payload().to_vec()));
                    read.positions.push(record.position);
                }
                at = record.next;
                window = 64;
            }
            Step::NeedMore { at_least } => {
                assert!(
                    at_least > window.min(end - offset as usize),
                    "asks for more than it was given"
                );
                window = at_least;
            }
            Step::EndOfSegment { next } => at = next,
            Step::Corrupt(damage) => {
                assert!(damage.to > at, "damage is stepped over");
                at = damage.to;
                // One range comes in several steps, as the window is small.
                match read.damages.last_mut() {
                    Some(last) if last.to == damage.from => last.to = damage.to,
                    _ => read.damages.push(damage),
                }
            }
        }
    }
    read.end = at;
    read
}

pub fn segment(dir: &Path, number: u64) -> PathBuf {
    dir.join("p0").join(format!("{number:020}.seg"))
}

/// Changes one byte of a file.
pub fn flip(path: &Path, at: u64) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[at as usize] ^= 0x10;
    std::fs::write(path, bytes).unwrap();
}

/// Copies a store, so that what a crash leaves can be tried many times.
pub fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}
