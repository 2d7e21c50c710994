//! Connections end once, in order, and leave nothing behind.

#![allow(clippy::unwrap_used)] // Test code outside test functions.

mod harness;

use std::cell::Cell;
use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use fulcrum_ring::{CloseReason, ConnectionId, RingConfig, SendOutcome};
use harness::{Script, eventually, pattern, start};

/// A script that reports why connections closed.
fn reporting(script: Script) -> (Script, mpsc::Receiver<CloseReason>) {
    let (send, receive) = mpsc::channel();
    let closed = Box::new(move |_: &mut fulcrum_ring::Io<'_>, _, reason| {
        send.send(reason).unwrap();
    });
    (Script { closed, ..script }, receive)
}

/// Starts a ring whose script is made by `make`, and gives back the reasons connections close for.
fn start_reporting(
    config: RingConfig,
    make: impl FnOnce() -> Script + Send + 'static,
) -> (harness::Running, mpsc::Receiver<CloseReason>) {
    let (send, receive) = mpsc::channel();
    let ring = start(config, move || {
        let (script, reasons) = reporting(make());
        std::thread::spawn(move || reasons.iter().try_for_each(|reason| send.send(reason)));
        script
    });
    (ring, receive)
}

const SOON: Duration = Duration::from_secs(10);

#[test]
fn what_was_queued_before_close_arrives_and_then_the_end() {
    let (ring, reasons) = start_reporting(RingConfig::default(), || Script {
        received: Box::new(|io, connection, _| {
            assert_eq!(io.send(connection, &pattern(1, 3_000_000)), SendOutcome::Backlogged);
            io.close(connection);
            assert!(io.output(connection).is_none());
            assert_eq!(io.send(connection, b"late"), SendOutcome::Closed);
            io.close(connection);
            io.abort(connection);
        }),
        ..Script::default()
    });
    let mut stream = ring.connect();
    // Input that the handler will not read must not reset the connection.
    stream.write_all(b"go").unwrap();
    std::thread::sleep(Duration::from_millis(50));
    stream.write_all(&[0; 10_000]).unwrap();
    let mut got = Vec::new();
    stream.read_to_end(&mut got).unwrap();
    assert!(got == pattern(1, 3_000_000), "{} bytes came", got.len());
    assert_eq!(reasons.recv_timeout(SOON), Ok(CloseReason::Local));
    drop(stream);
    eventually("the slot is free", || {
        ring.waker.wake();
        ring.stats().connections == 0
    });
    ring.stop();
}

#[test]
fn a_peer_that_only_half_closed_still_gets_its_answer() {
    let (ring, reasons) = start_reporting(RingConfig::default(), Script::echo);
    let mut stream = ring.connect();
    let bytes = pattern(2, 200_000);
    let mut writer = stream.try_clone().unwrap();
    let sent = bytes.clone();
    let writing = std::thread::spawn(move || {
        writer.write_all(&sent).unwrap();
        writer.shutdown(Shutdown::Write).unwrap();
    });
    let mut got = Vec::new();
    stream.read_to_end(&mut got).unwrap();
    writing.join().unwrap();
    assert!(got == bytes);
    assert_eq!(reasons.recv_timeout(SOON), Ok(CloseReason::Peer));
    ring.stop();
}

#[test]
fn abort_closes_at_once_with_a_receive_pending_and_output_queued() {
    let (ring, reasons) = start_reporting(RingConfig::default(), || Script {
        received: Box::new(|io, connection, _| {
            io.send(connection, &[1; 100_000]);
            io.set_timer(Duration::from_millis(20), 0);
            io.notify_drained(connection);
        }),
        drained: Box::new(|io, connection| io.abort(connection)),
        ..Script::default()
    });
    let mut stream = ring.connect();
    stream.write_all(b"x").unwrap();
    let mut got = Vec::new();
    let end = stream.read_to_end(&mut got);
    assert!(end.is_ok() || end.is_err_and(|error| error.kind() == ErrorKind::ConnectionReset));
    assert_eq!(reasons.recv_timeout(SOON), Ok(CloseReason::Local));
    eventually("the slot is free", || {
        ring.waker.wake();
        ring.stats().connections == 0
    });
    ring.stop();
}

#[test]
fn closing_in_accepted_shows_the_peer_the_end() {
    let (ring, reasons) = start_reporting(RingConfig::default(), || Script {
        accepted: Box::new(|io, connection| {
            io.send(connection, b"bye");
            io.close(connection);
        }),
        ..Script::default()
    });
    for _ in 0..100 {
        let mut got = Vec::new();
        ring.connect().read_to_end(&mut got).unwrap();
        assert_eq!(got, b"bye");
        assert_eq!(reasons.recv_timeout(SOON), Ok(CloseReason::Local));
    }
    ring.stop();
}

#[test]
fn a_peer_that_never_closes_is_cut_off_after_the_linger_time() {
    let config = RingConfig { linger: Duration::from_millis(200), ..RingConfig::default() };
    let (ring, reasons) = start_reporting(config, || Script {
        accepted: Box::new(|io, connection| io.close(connection)),
        ..Script::default()
    });
    let stream = ring.connect();
    assert_eq!(reasons.recv_timeout(SOON), Ok(CloseReason::Local));
    eventually("the slot is free", || {
        ring.waker.wake();
        ring.stats().connections == 0
    });
    drop(stream);
    ring.stop();
}

#[test]
fn a_peer_that_keeps_sending_after_close_is_cut_off() {
    let (ring, _reasons) = start_reporting(RingConfig::default(), || Script {
        accepted: Box::new(|io, connection| io.close(connection)),
        ..Script::default()
    });
    let mut stream = ring.connect();
    let started = Instant::now();
    while stream.write(&[0; 65_536]).is_ok() {
        assert!(started.elapsed() < Duration::from_secs(4), "the linger time, not the byte limit");
    }
    ring.stop();
}

#[test]
fn a_reset_is_reported_as_such() {
    let (ring, reasons) = start_reporting(RingConfig::default(), Script::echo);
    let stream = ring.connect();
    eventually("accepted", || ring.stats().accepted == 1);
    // Linger zero makes close send RST.
    socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
    drop(stream);
    assert_eq!(reasons.recv_timeout(SOON), Ok(CloseReason::Reset));
    ring.stop();
}

#[test]
fn a_storm_of_short_connections_leaves_every_slot_free() {
    let (ring, reasons) = start_reporting(RingConfig::default(), Script::echo);
    let addr = ring.addr;
    let threads: Vec<_> = (0..4)
        .map(|number| {
            std::thread::spawn(move || {
                for round in 0..250 {
                    let mut stream = std::net::TcpStream::connect(addr).unwrap();
                    match (round + number) % 3 {
                        0 => {
                            stream.write_all(b"ping").unwrap();
                            stream.read_exact(&mut [0; 4]).unwrap();
                        }
                        1 => stream.write_all(b"never read").unwrap(),
                        _ => {}
                    }
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    eventually("all slots are free", || {
        ring.waker.wake();
        let stats = ring.stats();
        stats.connections == 0 && stats.accepted + stats.accept_errors == 1000
    });
    let stats = ring.stop();
    assert_eq!(reasons.iter().count() as u64, stats.accepted);
}

#[test]
fn stopping_drains_to_zero_with_everything_under_way() {
    let dir = tempfile::tempdir().unwrap();
    let file = std::fs::File::create(dir.path().join("log")).unwrap();
    let (written_send, written) = mpsc::channel();
    let (ring, reasons) = start_reporting(RingConfig::default(), move || {
        let mut file = Some(file);
        let mut offset = 0;
        let id = std::rc::Rc::new(std::cell::Cell::new(None));
        let opened = id.clone();
        Script {
            started: Box::new(move |io| {
                let file = file.take().unwrap();
                opened.set(Some(io.open_file(file, fulcrum_ring::WriteMode::BufferedThenSync)));
                io.set_timer(Duration::from_secs(3600), 1);
            }),
            received: Box::new(move |io, connection, bytes| {
                io.send(connection, &bytes.repeat(50));
                let mut buffer = fulcrum_ring::WriteBuffer::with_capacity_aligned(bytes.len());
                buffer.extend_from_slice(bytes);
                io.write_durable(id.get().unwrap(), offset, buffer, offset);
                offset += bytes.len() as u64;
            }),
            file_written: Box::new(move |_, token, result| {
                result.unwrap();
                written_send.send(token).unwrap();
            }),
            ..Script::default()
        }
    });
    // Some idle, some sending, some not reading, one gone.
    let mut streams: Vec<_> = (0..60).map(|_| ring.connect()).collect();
    for stream in streams.iter_mut().skip(20) {
        stream.write_all(&[9; 20_000]).unwrap();
    }
    streams.pop();
    eventually("the work began", || ring.stats().receives > 10);
    let started = Instant::now();
    let stats = ring.stop();
    assert!(started.elapsed() < Duration::from_secs(3));
    assert_eq!(reasons.iter().count() as u64, stats.accepted);
    assert_eq!(written.iter().count() as u64, stats.writes);
    assert_eq!((stats.write_errors, stats.accepted), (0, 60));
}

#[test]
fn peers_see_queued_output_and_the_end_when_the_ring_stops() {
    let (ring, reasons) = start_reporting(RingConfig::default(), Script::echo);
    let mut stream = ring.connect();
    stream.write_all(b"last words").unwrap();
    eventually("echoed", || ring.stats().receives == 1);
    let reading = std::thread::spawn(move || {
        let mut got = Vec::new();
        stream.read_to_end(&mut got).unwrap();
        got
    });
    ring.stop();
    assert_eq!(reading.join().unwrap(), b"last words");
    assert_eq!(reasons.iter().collect::<Vec<_>>(), [CloseReason::Shutdown]);
}

#[test]
fn after_stop_accepting_open_connections_go_on() {
    let (ring, _reasons) = start_reporting(RingConfig::default(), || Script {
        received: Box::new(|io, connection, bytes| {
            if bytes == b"stop" {
                io.stop_accepting();
            }
            io.send(connection, bytes);
        }),
        ..Script::default()
    });
    let mut stream = ring.connect();
    for word in [b"stop", b"more"] {
        stream.write_all(word).unwrap();
        let mut back = [0; 4];
        stream.read_exact(&mut back).unwrap();
        assert_eq!(&back, word);
    }
    assert!(std::net::TcpStream::connect(ring.addr).is_err());
    ring.stop();
}

#[test]
fn a_ring_dropped_before_it_ran_and_one_that_ran_are_both_clean() {
    for _ in 0..20 {
        drop(fulcrum_ring::Ring::new(RingConfig::default()).unwrap());
    }
    let ring = start(RingConfig::default(), Script::default);
    let waker = ring.waker.clone();
    ring.stop();
    // A waker may outlive its ring.
    waker.wake();
    waker.wake();
}

#[test]
fn a_handler_that_panics_takes_its_ring_down_and_nothing_else() {
    let config = RingConfig::default();
    let panicking = std::thread::spawn(move || {
        let listener =
            fulcrum_ring::bind_listener("127.0.0.1:0".parse().unwrap(), false, 16).unwrap();
        let stream = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        struct Panics(Option<std::net::TcpListener>);
        impl fulcrum_ring::Handler for Panics {
            fn started(&mut self, io: &mut fulcrum_ring::Io<'_>) {
                io.listen(self.0.take().unwrap());
            }
            fn accepted(
                &mut self,
                io: &mut fulcrum_ring::Io<'_>,
                _: fulcrum_ring::ListenerId,
                connection: fulcrum_ring::ConnectionId,
            ) {
                io.send(connection, b"queued");
                panic!("on purpose");
            }
            fn received(
                &mut self,
                _: &mut fulcrum_ring::Io<'_>,
                _: fulcrum_ring::ConnectionId,
                _: &[u8],
            ) {
            }
            fn drained(&mut self, _: &mut fulcrum_ring::Io<'_>, _: fulcrum_ring::ConnectionId) {}
            fn closed(
                &mut self,
                _: &mut fulcrum_ring::Io<'_>,
                _: fulcrum_ring::ConnectionId,
                _: CloseReason,
            ) {
            }
            fn timer(&mut self, _: &mut fulcrum_ring::Io<'_>, _: u64) {}
            fn file_written(
                &mut self,
                _: &mut fulcrum_ring::Io<'_>,
                _: u64,
                _: Result<fulcrum_ring::WriteDone, std::io::Error>,
            ) {
            }
            fn woken(&mut self, _: &mut fulcrum_ring::Io<'_>) {}
        }
        let mut ring = fulcrum_ring::Ring::new(config).unwrap();
        let _ = ring.run(&mut Panics(Some(listener)));
        drop(stream);
    });
    assert!(panicking.join().is_err());
    let ring = start(RingConfig::default(), Script::echo);
    let mut stream = ring.connect();
    stream.write_all(b"fine").unwrap();
    stream.read_exact(&mut [0; 4]).unwrap();
    ring.stop();
}

/// The FIN comes right behind the bytes, in the same turn as a rule: a handler that needs time for the bytes is not told of
/// the end before it reads on.
#[test]
fn a_paused_connection_ends_when_it_reads_on() {
    let (events_send, events) = mpsc::channel();
    let ring = start(RingConfig::default(), move || {
        let closed = events_send.clone();
        let resumed = events_send.clone();
        let paused: Rc<Cell<Option<ConnectionId>>> = Rc::default();
        let pausing = paused.clone();
        Script {
            received: Box::new(move |io, connection, bytes| {
                events_send.send(String::from_utf8(bytes.to_vec()).unwrap()).unwrap();
                io.pause_receive(connection);
                pausing.set(Some(connection));
                io.set_timer(Duration::from_millis(50), 1);
            }),
            timer: Box::new(move |io, _| {
                let connection = paused.take().unwrap();
                assert!(io.is_open(connection));
                resumed.send("resumed".to_owned()).unwrap();
                io.resume_receive(connection);
            }),
            closed: Box::new(move |_, _, reason| closed.send(format!("{reason:?}")).unwrap()),
            ..Script::default()
        }
    });
    for round in 0..20 {
        let mut stream = ring.connect();
        stream.write_all(b"last").unwrap();
        assert_eq!(events.recv_timeout(SOON).unwrap(), "last");
        let reset = round % 2 == 1;
        if reset {
            socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
        }
        drop(stream);
        for expected in ["resumed", if reset { "Reset" } else { "Peer" }] {
            assert_eq!(events.recv_timeout(SOON).unwrap(), expected);
        }
    }
    // And as fast as it goes: the FIN right behind the bytes.
    for _ in 0..20 {
        let mut stream = ring.connect();
        stream.write_all(b"last").unwrap();
        drop(stream);
        for expected in ["last", "resumed", "Peer"] {
            assert_eq!(events.recv_timeout(SOON).unwrap(), expected);
        }
    }
    ring.stop();
}

/// The receive that runs when a handler pauses is not cancelled before it brings something: it must stop then.
#[test]
fn a_peer_that_sends_into_a_pause_is_stopped_by_its_window_and_loses_nothing() {
    const LONG: usize = 32 * 1024 * 1024;
    let (resume_send, resume) = mpsc::channel::<()>();
    let received = Arc::new(AtomicUsize::new(0));
    let count = received.clone();
    let ring = start(RingConfig::default(), move || {
        let paused: Rc<Cell<Option<ConnectionId>>> = Rc::default();
        let named = paused.clone();
        let (mut at, expected) = (0, pattern(1, LONG));
        Script {
            received: Box::new(move |io, connection, bytes| {
                if at == 0 {
                    io.pause_receive(connection);
                    named.set(Some(connection));
                }
                assert!(bytes == &expected[at..at + bytes.len()]);
                at += bytes.len();
                count.store(at, Ordering::SeqCst);
            }),
            woken: Box::new(move |io| {
                if resume.try_recv().is_ok() {
                    io.resume_receive(paused.take().unwrap());
                }
            }),
            ..Script::default()
        }
    });
    let mut stream = ring.connect();
    let bytes = pattern(1, LONG);
    stream.write_all(&bytes[..1]).unwrap();
    eventually("it has paused", || received.load(Ordering::SeqCst) == 1);
    stream.set_nonblocking(true).unwrap();
    let (mut sent, mut full) = (1, 0);
    while full < 20 {
        match stream.write(&bytes[sent..]) {
            Ok(count) => (sent, full) = (sent + count, 0),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::WouldBlock);
                full += 1;
                std::thread::sleep(Duration::from_millis(10));
            }
        }
    }
    let before = received.load(Ordering::SeqCst);
    assert!(sent < bytes.len(), "the window never filled: {before} bytes received");
    resume_send.send(()).unwrap();
    ring.waker.wake();
    stream.set_nonblocking(false).unwrap();
    stream.write_all(&bytes[sent..]).unwrap();
    eventually("all came", || received.load(Ordering::SeqCst) == bytes.len());
    ring.stop();
}
