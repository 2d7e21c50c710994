//! A flood of stored messages slows its sender, not its neighbours.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that fails says so by panicking")]

mod harness;

use harness::{Client, Node, Seen};
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

#[test]
fn an_event_does_not_wait_behind_a_flood_of_others() {
    let dir = tempfile::tempdir().unwrap();
    let config = fulcrum_journal::JournalConfig {
        bytes_max: 4 << 30,
        segment_bytes: 16 << 20,
        ..harness::journal_config(dir.path(), 1)
    };
    let node = Node::start_with(&config, Default::default());
    let stop = Arc::new(AtomicBool::new(false));
    let floods: Vec<_> = (0..4)
        .map(|number| {
            let mut reader = Client::connect(node.mqtt[0], &format!("f{number}@acme"));
            let mut writer = reader.duplicate();
            let stop = stop.clone();
            let writing = std::thread::spawn(move || {
                let mut out = Vec::new();
                for id in 1..=64 {
                    fulcrum_mqtt::encode_publish_parts(
                        &mut out,
                        "event",
                        fulcrum_mqtt::QoS::AtLeastOnce,
                        Some(id),
                        false,
                        false,
                        &[7; 4096],
                    )
                    .unwrap();
                }
                while !stop.load(Ordering::Relaxed) {
                    writer.write(|all| all.extend_from_slice(&out));
                }
                writer.socket.shutdown(std::net::Shutdown::Write).unwrap();
            });
            let reading = std::thread::spawn(move || while reader.read().is_some() {});
            (writing, reading)
        })
        .collect();
    std::thread::sleep(Duration::from_millis(300));
    let mut neighbour = Client::connect(node.mqtt[0], "d1@acme");
    let before = node.metrics[0].journal_batches.value();
    for number in 1..=50 {
        neighbour.publish("event", 1, Some(number), b"x");
        assert_eq!(neighbour.read(), Some(Seen::PubAck(number)));
    }
    let batches = node.metrics[0].journal_batches.value() - before;
    // A turn of each, and room for a machine that is busy with other things.
    assert!(batches < 50 * 30, "50 events waited for {batches} commits");
    stop.store(true, Ordering::Relaxed);
    for (writing, reading) in floods {
        writing.join().unwrap();
        reading.join().unwrap();
    }
    node.stop();
}

#[test]
fn a_journal_that_waits_for_its_disk_does_not_keep_the_core_busy() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path(), 2);
    node.store.lock().unwrap().segments_held = true;
    // Events of devices of both shards, on both shards, more than the prepared segments hold.
    let mut devices: Vec<_> = (0..8)
        .map(|number| Client::connect(node.mqtt[number % 2], &format!("d{number}@acme")))
        .collect();
    for device in &mut devices {
        device.socket.set_write_timeout(Some(Duration::from_millis(100))).unwrap();
        let mut out = Vec::new();
        for id in 1..=100 {
            let qos = fulcrum_mqtt::QoS::AtLeastOnce;
            fulcrum_mqtt::encode_publish_parts(
                &mut out,
                "event",
                qos,
                Some(id),
                false,
                false,
                &[7; 16 * 1024],
            )
            .unwrap();
        }
        // As much as the sockets take.
        let _ = device.socket.write(&out);
    }
    std::thread::sleep(Duration::from_millis(500));
    assert!(node.total(|metrics| metrics.cross_shard_sent.value()) > 0);
    let (taken, stored) = (
        node.total(|metrics| metrics.stored_received.value()),
        node.total(|metrics| metrics.stored_acknowledged.value()),
    );
    assert!(stored < taken, "{stored} of {taken} are stored although no segment is prepared");
    let turns = || node.total(|metrics| metrics.turns.value());
    let before = turns();
    std::thread::sleep(Duration::from_millis(500));
    let turned = turns() - before;
    assert!(turned < 2000, "{turned} turns in half a second in which nothing can be done");
    node.store.lock().unwrap().segments_held = false;
    drop(devices);
    node.stop();
}
