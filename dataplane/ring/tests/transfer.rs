//! Bytes arrive whole, in order, and only as fast as they are read.

#![allow(clippy::unwrap_used)] // Test code outside test functions.

mod harness;

use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use fulcrum_ring::{CloseReason, RingConfig, SendOutcome};
use harness::{Script, eventually, pattern, start};

#[test]
fn bytes_come_back_whole_however_they_are_cut() {
    let ring = start(RingConfig::default(), Script::echo);
    let mut streams: Vec<_> = (0..50).map(|_| ring.connect()).collect();
    for round in 0..5 {
        let sent: Vec<Vec<u8>> =
            (0..streams.len()).map(|index| pattern(index + round, 1 + index * 700)).collect();
        for (stream, bytes) in streams.iter_mut().zip(&sent) {
            for piece in bytes.chunks(1 + round * 333) {
                stream.write_all(piece).unwrap();
            }
        }
        for (stream, bytes) in streams.iter_mut().zip(&sent) {
            let mut back = vec![0; bytes.len()];
            stream.read_exact(&mut back).unwrap();
            assert_eq!(&back, bytes);
        }
    }
    let stats = ring.stop();
    assert_eq!(stats.accepted, 50);
    assert_eq!(stats.receive_bytes, stats.send_bytes);
}

#[test]
fn a_thousand_connections_are_served_and_the_slots_reused() {
    let ring = start(RingConfig { connections_max: 1100, ..RingConfig::default() }, Script::echo);
    for round in 0..3u8 {
        let mut streams: Vec<_> = (0..1000).map(|_| ring.connect()).collect();
        for (index, stream) in streams.iter_mut().enumerate() {
            stream.write_all(&[round, index as u8, (index >> 8) as u8]).unwrap();
        }
        for (index, stream) in streams.iter_mut().enumerate() {
            let mut back = [0; 3];
            stream.read_exact(&mut back).unwrap();
            assert_eq!(back, [round, index as u8, (index >> 8) as u8]);
        }
        drop(streams);
        eventually("all slots are free", || {
            // A turn is needed to refresh the gauge.
            ring.waker.wake();
            ring.stats().connections == 0
        });
    }
    assert_eq!(ring.stop().accepted, 3000);
}

#[test]
fn a_full_ring_refuses_further_connections_and_recovers() {
    let ring = start(RingConfig { connections_max: 2, ..RingConfig::default() }, Script::echo);
    let (mut first, second) = (ring.connect(), ring.connect());
    eventually("two are in", || ring.stats().accepted == 2);
    let mut third = ring.connect();
    assert!(matches!(third.read(&mut [0; 1]), Ok(0) | Err(_)));
    drop(second);
    eventually("a slot is free", || {
        ring.waker.wake();
        ring.stats().connections == 1
    });
    let mut fourth = ring.connect();
    for stream in [&mut first, &mut fourth] {
        stream.write_all(b"x").unwrap();
        stream.read_exact(&mut [0; 1]).unwrap();
    }
    assert_eq!(ring.stop().accepts_refused, 1);
}

#[test]
fn order_survives_backpressure_and_the_handler_hears_of_it() {
    const TOTAL: usize = 24 * 1024 * 1024;
    let backlogs = Arc::new(AtomicUsize::new(0));
    let counter = backlogs.clone();
    let ring = start(RingConfig::default(), move || {
        // Sends until told to stop, goes on when drained.
        let expected = pattern(5, TOTAL);
        let position = std::rc::Rc::new(std::cell::Cell::new(0));
        let pump = move |io: &mut fulcrum_ring::Io<'_>, connection| {
            while position.get() < TOTAL {
                let piece = &expected[position.get()..TOTAL.min(position.get() + 10_000)];
                let outcome = io.send(connection, piece);
                assert_ne!(outcome, SendOutcome::Closed);
                position.set(position.get() + piece.len());
                assert!(io.queued_bytes(connection) <= 256 * 1024 + 10_000);
                if outcome == SendOutcome::Backlogged {
                    counter.fetch_add(1, Ordering::Relaxed);
                    return;
                }
            }
            io.close(connection);
        };
        let again = pump.clone();
        let first = pump;
        Script {
            accepted: Box::new(move |io, connection| first(io, connection)),
            drained: Box::new(move |io, connection| again(io, connection)),
            ..Script::default()
        }
    });
    let mut stream = ring.connect();
    let mut got = Vec::with_capacity(TOTAL);
    let mut piece = vec![0; 100_000];
    loop {
        let bytes = stream.read(&mut piece).unwrap();
        if bytes == 0 {
            break;
        }
        got.extend_from_slice(&piece[..bytes]);
        if got.len() < 2 * 1024 * 1024 {
            std::thread::sleep(Duration::from_millis(2));
        }
    }
    assert!(got == pattern(5, TOTAL), "the bytes differ");
    assert!(backlogs.load(Ordering::Relaxed) > 10);
    drop(stream);
    ring.stop();
}

#[test]
fn a_consumer_that_does_not_read_is_dropped_at_the_limit() {
    let (send, receive) = mpsc::channel();
    let config = RingConfig {
        send_queue_bytes_max: 256 * 1024,
        send_high_water_bytes: 64 * 1024,
        ..RingConfig::default()
    };
    let ring = start(config, move || {
        let mut most = 0;
        let sender = send.clone();
        Script {
            // Ignores backpressure.
            accepted: Box::new(|io, _| {
                io.set_timer(Duration::ZERO, 0);
            }),
            received: Box::new(move |io, connection, bytes| {
                for _ in 0..10 {
                    io.send(connection, &bytes.repeat(4));
                }
                most = most.max(io.queued_bytes(connection));
                assert!(most <= 256 * 1024 + 64 * 1024 + 65_536);
            }),
            closed: Box::new(move |_, _, reason| sender.send(reason).unwrap()),
            ..Script::default()
        }
    });
    let mut stream = ring.connect();
    loop {
        match stream.write(&[7; 4096]) {
            Ok(_) => {}
            Err(error) => {
                assert_ne!(error.kind(), ErrorKind::WouldBlock, "never dropped");
                break;
            }
        }
        if let Ok(reason) = receive.try_recv() {
            assert_eq!(reason, CloseReason::SlowConsumer);
            assert_eq!(ring.stop().slow_consumers, 1);
            return;
        }
    }
    assert_eq!(receive.recv_timeout(Duration::from_secs(5)), Ok(CloseReason::SlowConsumer));
    assert_eq!(ring.stop().slow_consumers, 1);
}

#[test]
fn a_paused_connection_fills_its_peers_window_and_loses_nothing() {
    let resume = Arc::new(AtomicBool::new(false));
    let (flag, received) = (resume.clone(), Arc::new(AtomicUsize::new(0)));
    let count = received.clone();
    let ring = start(RingConfig::default(), move || {
        let name = std::rc::Rc::new(std::cell::Cell::new(None));
        let named = name.clone();
        let mut at = 0usize;
        Script {
            accepted: Box::new(move |io, connection| {
                named.set(Some(connection));
                io.pause_receive(connection);
                // A change of mind costs nothing and changes nothing.
                io.resume_receive(connection);
                io.pause_receive(connection);
            }),
            received: Box::new(move |_, _, bytes| {
                for byte in bytes {
                    assert_eq!(*byte, (at % 251) as u8);
                    at += 1;
                }
                count.store(at, Ordering::SeqCst);
            }),
            woken: Box::new(move |io| {
                if let (true, Some(connection)) = (flag.load(Ordering::SeqCst), name.get()) {
                    io.resume_receive(connection);
                }
            }),
            ..Script::default()
        }
    });
    let mut stream = ring.connect();
    stream.set_nonblocking(true).unwrap();
    let bytes: Vec<u8> = (0..32 * 1024 * 1024).map(|at: usize| (at % 251) as u8).collect();
    let (mut sent, mut full) = (0, 0);
    while full < 20 {
        match stream.write(&bytes[sent..]) {
            Ok(count) => {
                sent += count;
                full = 0;
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::WouldBlock);
                full += 1;
                std::thread::sleep(Duration::from_millis(10));
            }
        }
    }
    assert!(sent < bytes.len(), "the window never filled");
    assert_eq!(received.load(Ordering::SeqCst), 0, "bytes while paused before the first receive");
    resume.store(true, Ordering::SeqCst);
    ring.waker.wake();
    stream.set_nonblocking(false).unwrap();
    stream.write_all(&bytes[sent..]).unwrap();
    eventually("all came", || received.load(Ordering::SeqCst) == bytes.len());
    stream.shutdown(Shutdown::Both).unwrap();
    ring.stop();
}

#[test]
fn pausing_in_the_middle_of_a_stream_loses_nothing() {
    let ring = start(RingConfig::default(), || {
        let turns = std::rc::Rc::new(std::cell::Cell::new(0u32));
        Script {
            received: Box::new(move |io, connection, bytes| {
                io.send(connection, bytes);
                turns.set(turns.get() + 1);
                if turns.get().is_multiple_of(3) {
                    io.pause_receive(connection);
                    io.set_timer(Duration::from_millis(1), 1);
                    if turns.get().is_multiple_of(2) {
                        io.resume_receive(connection);
                    } else {
                        io.notify_drained(connection);
                    }
                }
            }),
            drained: Box::new(|io, connection| io.resume_receive(connection)),
            ..Script::default()
        }
    });
    let mut stream = ring.connect();
    let bytes = pattern(3, 4 * 1024 * 1024);
    let mut writer = stream.try_clone().unwrap();
    let sent = bytes.clone();
    let writing = std::thread::spawn(move || writer.write_all(&sent).unwrap());
    let mut back = vec![0; bytes.len()];
    stream.read_exact(&mut back).unwrap();
    writing.join().unwrap();
    assert!(back == bytes, "the bytes differ");
    ring.stop();
}

#[test]
fn four_buffers_serve_two_hundred_connections() {
    let config =
        RingConfig { receive_buffers: 4, receive_buffer_bytes: 512, ..RingConfig::default() };
    let ring = start(config, Script::echo);
    let mut streams: Vec<_> = (0..200).map(|_| ring.connect()).collect();
    for round in 0..5 {
        for (index, stream) in streams.iter_mut().enumerate() {
            stream.write_all(&pattern(index + round, 3000)).unwrap();
        }
        for (index, stream) in streams.iter_mut().enumerate() {
            let mut back = vec![0; 3000];
            stream.read_exact(&mut back).unwrap();
            assert_eq!(back, pattern(index + round, 3000));
        }
    }
    assert!(ring.stop().enobufs > 0, "the test did not exhaust the buffers");
}

#[test]
fn tiny_queues_submit_in_the_middle_of_a_turn_and_lose_nothing() {
    let config = RingConfig { entries: 8, completion_entries: 16, ..RingConfig::default() };
    let ring = start(config, Script::echo);
    let mut streams: Vec<_> = (0..300).map(|_| ring.connect()).collect();
    for round in 0..10 {
        for (index, stream) in streams.iter_mut().enumerate() {
            stream.write_all(&pattern(index + round, 100)).unwrap();
        }
        for (index, stream) in streams.iter_mut().enumerate() {
            let mut back = vec![0; 100];
            stream.read_exact(&mut back).unwrap();
            assert_eq!(back, pattern(index + round, 100));
        }
    }
    let stats = ring.stop();
    assert_eq!(stats.receive_bytes, 300 * 10 * 100);
}
