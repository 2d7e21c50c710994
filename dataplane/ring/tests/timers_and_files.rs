//! Timers fire when and in the order they should; durable means on disk, and failure is told.

#![allow(clippy::unwrap_used)] // Test code outside test functions.

mod harness;

use std::fs::{File, OpenOptions};
use std::io::{Error, Read};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use fulcrum_ring::{RingConfig, WriteBuffer, WriteMode};
use harness::{Script, pattern, start};

const SOON: Duration = Duration::from_secs(10);

#[test]
fn timers_fire_in_order_and_never_early() {
    let (send, fired) = mpsc::channel();
    let delays = [70u64, 5, 1, 30, 300, 5, 0, 12];
    let ring = start(RingConfig::default(), move || {
        let begun = Instant::now();
        Script {
            started: Box::new(move |io| {
                for delay in delays {
                    io.set_timer(Duration::from_millis(delay), delay);
                }
                let cancelled = io.set_timer(Duration::from_millis(20), 999);
                io.cancel_timer(cancelled);
                io.cancel_timer(cancelled);
            }),
            timer: Box::new(move |io, token| {
                assert!(begun.elapsed() >= Duration::from_millis(token));
                assert!(io.now() >= begun);
                send.send(token).unwrap();
            }),
            ..Script::default()
        }
    });
    let got: Vec<_> = delays.iter().map(|_| fired.recv_timeout(SOON).unwrap()).collect();
    let mut expected = delays.to_vec();
    expected.sort_unstable();
    assert_eq!(got, expected);
    assert_eq!(ring.stop().timers_fired, delays.len() as u64);
}

#[test]
fn a_timer_that_sets_itself_again_does_not_spin() {
    let ring = start(RingConfig::default(), || Script {
        started: Box::new(|io| {
            io.set_timer(Duration::ZERO, 0);
        }),
        timer: Box::new(|io, _| {
            io.set_timer(Duration::ZERO, 0);
        }),
        ..Script::default()
    });
    std::thread::sleep(Duration::from_millis(200));
    let stats = ring.stop();
    assert!((5..=210).contains(&stats.timers_fired), "{} in 200 ms", stats.timers_fired);
    assert!(stats.turns < 1000);
}

#[test]
fn an_idle_ring_sleeps() {
    let ring = start(RingConfig::default(), Script::default);
    let _idle: Vec<_> = (0..10).map(|_| ring.connect()).collect();
    std::thread::sleep(Duration::from_millis(200));
    assert!(ring.stop().turns < 60);
}

/// Runs a script that writes `batches` one after the other to `file`, and gives back each result, the buffer included.
fn write_all(
    file: File,
    mode: WriteMode,
    batches: Vec<WriteBuffer>,
) -> Vec<Result<WriteBuffer, Error>> {
    let (send, results) = mpsc::channel();
    let count = batches.len();
    let ring = start(RingConfig::default(), move || {
        let mut file = Some(file);
        let mut batches = Some(batches);
        Script {
            started: Box::new(move |io| {
                let id = io.open_file(file.take().unwrap(), mode);
                let mut offset = 0;
                for (token, buffer) in batches.take().unwrap().into_iter().enumerate() {
                    let bytes = buffer.len() as u64;
                    io.write_durable(id, offset, buffer, token as u64);
                    offset += bytes;
                }
                // Closing waits for the writes under way; afterwards the name is stale.
                io.close_file(id);
                io.write_durable(id, 0, WriteBuffer::with_capacity_aligned(1), 99);
            }),
            file_written: Box::new(move |_, token, result| {
                send.send((token, result.map(|done| done.buffer))).unwrap();
            }),
            ..Script::default()
        }
    });
    let mut got: Vec<_> = (0..=count).map(|_| results.recv_timeout(SOON).unwrap()).collect();
    got.sort_by_key(|(token, _)| *token);
    let (token, stale) = got.pop().unwrap();
    assert_eq!((token, stale.unwrap_err().raw_os_error()), (99, Some(9)), "EBADF");
    ring.stop();
    got.into_iter().map(|(_, result)| result).collect()
}

fn buffer(bytes: &[u8]) -> WriteBuffer {
    let mut buffer = WriteBuffer::with_capacity_aligned(bytes.len());
    buffer.extend_from_slice(bytes);
    buffer
}

#[test]
fn a_durable_write_is_in_the_file_and_its_buffer_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("segment");
    let batches: Vec<_> = (1..20).map(|n| buffer(&pattern(n, n * 1777))).collect();
    let results = write_all(File::create(&path).unwrap(), WriteMode::BufferedThenSync, batches);
    let mut expected = Vec::new();
    for (n, result) in (1..20).zip(results) {
        let given_back = result.unwrap();
        assert_eq!(given_back.as_slice(), pattern(n, n * 1777));
        expected.extend_from_slice(given_back.as_slice());
    }
    assert!(std::fs::read(&path).unwrap() == expected);
}

#[test]
fn a_direct_write_is_in_the_file() {
    use std::os::unix::fs::OpenOptionsExt;
    let dir = tempfile::tempdir_in(".").unwrap();
    let path = dir.path().join("segment");
    let direct = OpenOptions::new()
        .create(true)
        .truncate(true)
        .write(true)
        .custom_flags(libc::O_DIRECT)
        .open(&path);
    let Ok(file) = direct else { return }; // tmpfs of old kernels has no direct writes
    let mut padded = buffer(&pattern(4, 10_000));
    padded.pad_to(4096);
    let results = write_all(file, WriteMode::DirectSync, vec![padded, buffer(b"unaligned")]);
    assert_eq!(results[0].as_ref().unwrap().len(), 12_288);
    assert_eq!(results[1].as_ref().unwrap_err().raw_os_error(), Some(libc::EINVAL));
    let content = std::fs::read(&path).unwrap();
    assert_eq!(content.len(), 12_288);
    assert!(content[..10_000] == pattern(4, 10_000));
}

#[test]
fn a_failing_write_is_reported_with_its_cause() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("read-only");
    std::fs::write(&path, b"before").unwrap();
    let results =
        write_all(File::open(&path).unwrap(), WriteMode::BufferedThenSync, vec![buffer(b"after")]);
    assert_eq!(results[0].as_ref().unwrap_err().raw_os_error(), Some(libc::EBADF));
    assert_eq!(std::fs::read(&path).unwrap(), b"before");

    let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
    let results = write_all(full, WriteMode::BufferedThenSync, vec![buffer(b"no room")]);
    assert_eq!(results[0].as_ref().unwrap_err().raw_os_error(), Some(libc::ENOSPC));
}

#[test]
fn a_sync_that_fails_after_a_good_write_is_a_failure() {
    // A pipe takes bytes and cannot be synced.
    let (reader, writer) = std::io::pipe().unwrap();
    let file = File::from(std::os::fd::OwnedFd::from(writer));
    let results = write_all(file, WriteMode::BufferedThenSync, vec![buffer(b"through")]);
    assert!(results[0].is_err(), "{results:?}");
    drop(reader);
}

#[test]
fn a_short_write_is_a_failure_even_though_bytes_were_taken() {
    // A pipe nobody reads takes 64 KiB at once, and the kernel reports that much.
    let (mut reader, writer) = std::io::pipe().unwrap();
    let file = File::from(std::os::fd::OwnedFd::from(writer));
    // It goes once the write has begun, however long that takes.
    let late = std::thread::spawn(move || reader.read_exact(&mut [0]).unwrap());
    let results = write_all(file, WriteMode::BufferedThenSync, vec![buffer(&pattern(1, 300_000))]);
    assert_eq!(results[0].as_ref().unwrap_err().kind(), std::io::ErrorKind::WriteZero);
    late.join().unwrap();
}
