//! What the maintenance thread leaves on disk.
#![allow(clippy::unwrap_used)] // its own fixtures may panic

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use fulcrum_journal::{SegmentRequest, WriteMode, segment_name};
use fulcrum_maintenance::{Maintenance, MaintenanceConfig, spawn};

type Answered = (u16, u64, io::Result<File>);

fn start() -> (Maintenance, Receiver<Answered>) {
    let (answer, answers) = mpsc::channel();
    let answer = Box::new(move |partition, number, result| {
        let _ = answer.send((partition, number, result));
    });
    (spawn(MaintenanceConfig { queue: 16, answer }).unwrap(), answers)
}

fn prepare(dir: &Path, number: u64, bytes: u64) -> SegmentRequest {
    let path = dir.join(segment_name(number));
    SegmentRequest::Prepare { partition: 3, number, path, bytes, mode: WriteMode::default() }
}

fn names(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

fn check_prepared_and_dropped(dir: &Path) {
    const BYTES: u64 = (3 << 20) + 8192;
    let (maintenance, answers) = start();
    let requests = maintenance.requests();
    requests.submit(prepare(dir, 7, BYTES)).unwrap();
    let (partition, number, file) = answers.recv_timeout(Duration::from_secs(60)).unwrap();
    assert_eq!((partition, number), (3, 7));
    assert_eq!(file.unwrap().metadata().unwrap().len(), BYTES);
    assert_eq!(names(dir), [segment_name(7)]);
    let bytes = std::fs::read(dir.join(segment_name(7))).unwrap();
    assert!(bytes.len() as u64 == BYTES && bytes.iter().all(|byte| *byte == 0));
    let path = dir.join(segment_name(7));
    requests.submit(SegmentRequest::Drop { partition: 3, number: 7, path: path.clone() }).unwrap();
    // Dropping what is gone is no error, and a later request waits for the earlier ones.
    requests.submit(SegmentRequest::Drop { partition: 3, number: 7, path }).unwrap();
    requests.submit(prepare(dir, 8, 4096)).unwrap();
    let (_, number, file) = answers.recv_timeout(Duration::from_secs(60)).unwrap();
    assert!(number == 8 && file.is_ok());
    assert_eq!(names(dir), [segment_name(8)]);
    maintenance.stop();
}

#[test]
fn a_prepared_segment_is_all_zeros_and_a_dropped_one_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    check_prepared_and_dropped(dir.path());
}

#[test]
fn a_relative_path_will_do() {
    let dir = tempfile::tempdir().unwrap();
    let up: std::path::PathBuf =
        std::env::current_dir().unwrap().components().skip(1).map(|_| "..").collect();
    check_prepared_and_dropped(&up.join(dir.path().strip_prefix("/").unwrap()));
}

#[test]
fn a_file_system_in_memory_will_do() {
    // Where there is no such mount the other test has said it all.
    if let Ok(dir) = tempfile::tempdir_in("/dev/shm") {
        check_prepared_and_dropped(dir.path());
    }
}

#[test]
fn a_disk_without_room_is_an_error_and_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let (maintenance, answers) = start();
    // 8 TiB: more than any machine this is tested on has to spare.
    maintenance.requests().submit(prepare(dir.path(), 1, 8 << 40)).unwrap();
    let (_, number, file) = answers.recv_timeout(Duration::from_secs(60)).unwrap();
    let kind = file.unwrap_err().kind();
    assert_eq!(number, 1);
    assert!(matches!(kind, io::ErrorKind::StorageFull | io::ErrorKind::FileTooLarge), "{kind:?}");
    assert!(names(dir.path()).is_empty());
}

#[test]
fn a_directory_that_is_gone_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let (maintenance, answers) = start();
    maintenance.requests().submit(prepare(&dir.path().join("absent"), 1, 4096)).unwrap();
    let (_, _, file) = answers.recv_timeout(Duration::from_secs(60)).unwrap();
    assert_eq!(file.unwrap_err().kind(), io::ErrorKind::NotFound);
}

#[test]
fn a_stopped_thread_takes_no_requests() {
    let dir = tempfile::tempdir().unwrap();
    let (maintenance, _answers) = start();
    let requests = maintenance.requests();
    maintenance.stop();
    assert!(requests.submit(prepare(dir.path(), 1, 4096)).is_err());
}
