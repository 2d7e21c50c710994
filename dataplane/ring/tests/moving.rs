//! Connections move between rings, and no byte is lost or comes twice.

#![allow(clippy::unwrap_used)] // Test code outside test functions.

mod harness;

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::rc::Rc;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use fulcrum_ring::{CloseReason, Detached, RingConfig, SendOutcome, Waker};
use harness::{Moving, Running, Script, eventually, pattern, start, start_deaf};

const SOON: Duration = Duration::from_secs(10);

/// More output than the socket buffers of both sides take: it is stuck until the peer reads.
const STUCK: usize = 24 * 1024 * 1024;

fn roomy() -> RingConfig {
    RingConfig { send_queue_bytes_max: 2 * STUCK, ..RingConfig::default() }
}

/// Waits until the ring has asked the kernel for the detach of its only connection, and sees that it does not end.
fn stuck(ring: &Running, ends: &mpsc::Receiver<End>) {
    eventually("the detach began", || ring.stats().receives == 1);
    assert!(ends.recv_timeout(Duration::from_millis(200)).is_err(), "the output was not stuck");
}

/// How a connection left its ring.
#[derive(Debug)]
enum End {
    Closed(CloseReason),
    Detached(Detached, Vec<u8>),
}

impl End {
    fn reason(self) -> Option<CloseReason> {
        match self {
            Self::Closed(reason) => Some(reason),
            Self::Detached(..) => None,
        }
    }
}

/// Fills in `closed` and `detached`: ends go to the channel. With a detached socket go the bytes `received` had collected in `kept`.
fn tell_ends(script: Script, kept: Rc<RefCell<Vec<u8>>>, ends: mpsc::Sender<End>) -> Script {
    let also = ends.clone();
    Script {
        closed: Box::new(move |_, _, reason| also.send(End::Closed(reason)).unwrap()),
        detached: Box::new(move |_, _, socket| {
            ends.send(End::Detached(socket, kept.take())).unwrap();
        }),
        ..script
    }
}

/// Answers the first bytes of a connection with `answer` bytes of a pattern and detaches it.
fn answer_and_detach(answer: usize, ends: mpsc::Sender<End>) -> Script {
    let kept = Rc::new(RefCell::new(Vec::new()));
    let (seen, keep) = (RefCell::new(HashSet::new()), kept.clone());
    let answer = pattern(1, answer);
    let script = Script {
        received: Box::new(move |io, connection, bytes| {
            if !seen.borrow_mut().insert(connection) {
                assert!(!io.is_open(connection) && io.output(connection).is_none());
                keep.borrow_mut().extend_from_slice(bytes);
                return;
            }
            io.send(connection, &answer);
            io.notify_drained(connection);
            io.detach(connection);
            assert_eq!(io.send(connection, b"late"), SendOutcome::Closed);
            assert!(io.output(connection).is_none() && !io.is_open(connection));
            // None of these means anything now.
            io.detach(connection);
            io.pause_receive(connection);
            io.resume_receive(connection);
            io.notify_drained(connection);
        }),
        ..Script::default()
    };
    tell_ends(script, kept, ends)
}

#[test]
fn queued_output_leaves_before_the_socket_does() {
    let (ends_send, ends) = mpsc::channel();
    let ring = start(roomy(), move || answer_and_detach(STUCK, ends_send));
    let mut stream = ring.connect();
    stream.write_all(b"go").unwrap();
    // The peer does not read: the output cannot leave, and the connection stays.
    stuck(&ring, &ends);
    let mut got = vec![0; STUCK];
    stream.read_exact(&mut got).unwrap();
    assert!(got == pattern(1, STUCK));
    let End::Detached(socket, kept) = ends.recv_timeout(SOON).unwrap() else { panic!("closed") };
    assert_eq!((socket.peer_addr(), kept.len()), (Some(stream.local_addr().unwrap()), 0));
    eventually("the slot is free", || {
        ring.waker.wake();
        ring.stats().connections == 0
    });
    let stats = ring.stop();
    assert_eq!((stats.detached, stats.slow_consumers), (1, 0));
    // The socket has outlived its ring, and nobody reads from it but us.
    let mut socket = TcpStream::from(socket);
    socket.write_all(b"bye").unwrap();
    stream.write_all(b"back").unwrap();
    let (mut bye, mut back) = ([0; 3], [0; 4]);
    stream.read_exact(&mut bye).unwrap();
    socket.read_exact(&mut back).unwrap();
    assert_eq!((&bye, &back), (b"bye", b"back"));
}

#[test]
fn output_that_cannot_leave_closes_instead() {
    let (ends_send, ends) = mpsc::channel();
    let config = RingConfig { linger: Duration::from_millis(200), ..roomy() };
    let ring = start(config, move || answer_and_detach(STUCK, ends_send));
    let mut stream = ring.connect();
    stream.write_all(b"go").unwrap();
    let end = ends.recv_timeout(SOON).unwrap();
    assert_eq!(end.reason(), Some(CloseReason::SlowConsumer));
    eventually("the slot is free", || {
        ring.waker.wake();
        ring.stats().connections == 0
    });
    let stats = ring.stop();
    assert_eq!((stats.detached, stats.slow_consumers), (0, 1));
    assert!(ends.try_recv().is_err(), "a second end");
}

#[test]
fn bytes_in_flight_are_in_the_handlers_hands_or_still_in_the_socket() {
    for round in 0..20 {
        let (ends_send, ends) = mpsc::channel();
        let ring = start(RingConfig::default(), move || answer_and_detach(1000, ends_send));
        let mut stream = ring.connect();
        stream.write_all(b"x").unwrap();
        let mut writer = stream.try_clone().unwrap();
        let sent = pattern(round, 2_000_000);
        let bytes = sent.clone();
        let writing = std::thread::spawn(move || {
            // From when the detach has begun, but not ended.
            writer.write_all(&bytes).unwrap();
            writer.shutdown(Shutdown::Write).unwrap();
        });
        let end = ends.recv_timeout(SOON).unwrap();
        let End::Detached(socket, mut got) = end else { panic!("{end:?}") };
        TcpStream::from(socket).read_to_end(&mut got).unwrap();
        writing.join().unwrap();
        // What came together with the first byte is the answered message's.
        let first = sent.len() - got.len();
        assert!(first < 20_000 && got == sent[first..], "round {round}: {} bytes", got.len());
        ring.stop();
    }
}

#[test]
fn a_peer_that_closes_during_the_detach_ends_it_once() {
    let (ends_send, ends) = mpsc::channel();
    let ring = start(roomy(), move || answer_and_detach(STUCK, ends_send));
    // The output is stuck, so this one cannot be detached: the reset must show although nothing is received any more.
    let mut stream = ring.connect();
    stream.write_all(b"go").unwrap();
    stuck(&ring, &ends);
    drop(stream);
    assert_eq!(ends.recv_timeout(SOON).unwrap().reason(), Some(CloseReason::Reset));
    ring.stop();
    let (ends_send, ends) = mpsc::channel();
    let ring = start(roomy(), move || answer_and_detach(100_000, ends_send));
    // These race.
    for round in 0..300 {
        let mut stream = ring.connect();
        stream.write_all(b"go").unwrap();
        match round % 3 {
            0 => drop(stream),
            1 => stream.shutdown(Shutdown::Write).unwrap(),
            _ => std::thread::sleep(Duration::from_micros(round)),
        }
    }
    let accepted = || {
        ring.waker.wake();
        let stats = ring.stats();
        (stats.accepted + stats.accept_errors == 300 && stats.connections == 0)
            .then_some(stats.accepted)
    };
    eventually("all ended", || accepted().is_some());
    let stats = ring.stop();
    let ends: Vec<End> = ends.iter().collect();
    assert_eq!(ends.len() as u64, stats.accepted);
    let detached = ends.into_iter().filter(|end| matches!(end, End::Detached(..))).count();
    assert_eq!(detached as u64, stats.detached);
}

#[test]
fn a_fin_that_came_after_the_last_receive_is_the_next_owners() {
    let (ends_send, ends) = mpsc::channel();
    let ring = start(roomy(), move || answer_and_detach(STUCK, ends_send));
    let mut stream = ring.connect();
    stream.write_all(b"go").unwrap();
    // The receive is cancelled by now, the output stuck.
    stuck(&ring, &ends);
    stream.write_all(b"last").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    stream.read_exact(&mut vec![0; STUCK]).unwrap();
    let end = ends.recv_timeout(SOON).unwrap();
    let End::Detached(socket, kept) = end else { panic!("{end:?}") };
    assert!(kept.is_empty());
    let mut got = Vec::new();
    TcpStream::from(socket).read_to_end(&mut got).unwrap();
    assert_eq!(got, b"last");
    ring.stop();
}

#[test]
fn a_fin_right_behind_the_bytes_that_make_it_leave_is_the_next_owners() {
    let (ends_send, ends) = mpsc::channel();
    let ring = start(RingConfig::default(), move || answer_and_detach(10, ends_send));
    for round in 0..100 {
        let mut stream = ring.connect();
        stream.write_all(b"go").unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let end = ends.recv_timeout(SOON).unwrap();
        let End::Detached(socket, kept) = end else { panic!("round {round}: {end:?}") };
        assert!(kept.is_empty());
        assert_eq!(TcpStream::from(socket).read(&mut [0]).unwrap(), 0);
    }
    ring.stop();
}

#[test]
fn a_handler_may_think_better_of_a_detach() {
    let (ends_send, ends) = mpsc::channel();
    let ring = start(RingConfig::default(), move || {
        let mut count = 0;
        let script = Script {
            accepted: Box::new(move |io, connection| {
                count += 1;
                if count > 2 {
                    io.send(connection, b"bye");
                }
                io.detach(connection);
                match count % 2 {
                    0 => io.abort(connection),
                    _ => io.close(connection),
                }
            }),
            ..Script::default()
        };
        tell_ends(script, Rc::default(), ends_send)
    });
    for count in 1..=4 {
        let mut got = Vec::new();
        let _reset_by_abort = ring.connect().read_to_end(&mut got);
        assert!(count != 3 || got == b"bye");
        let end = ends.recv_timeout(SOON).unwrap();
        assert_eq!(end.reason(), Some(CloseReason::Local));
    }
    ring.stop();
    assert!(ends.try_recv().is_err(), "a second end");
}

#[test]
fn what_is_idle_or_paused_is_detached_in_the_same_turn() {
    let (ends_send, ends) = mpsc::channel();
    let ring = start(RingConfig::default(), move || {
        let turn = Rc::new(Cell::new(0u32));
        let (began, now) = (turn.clone(), turn.clone());
        let script = Script {
            accepted: Box::new(move |io, connection| {
                io.output(connection).unwrap();
                io.pause_receive(connection);
                io.detach(connection);
                began.set(0);
            }),
            turn_ended: Box::new(move |_| turn.set(turn.get() + 1)),
            ..Script::default()
        };
        let script = tell_ends(script, Rc::default(), ends_send);
        let mut told = script.detached;
        Script {
            detached: Box::new(move |io, connection, socket| {
                assert_eq!(now.get(), 0);
                told(io, connection, socket);
            }),
            ..script
        }
    });
    let stream = ring.connect();
    let end = ends.recv_timeout(SOON).unwrap();
    assert!(matches!(end, End::Detached(..)));
    drop((end, stream));
    ring.stop();
}

/// Echoes; after every few receives the connection goes to the other ring, and the bytes it brought are echoed first there.
fn wandering(
    inbox: mpsc::Receiver<Moving>,
    other: mpsc::Sender<Moving>,
    wake_other: mpsc::Receiver<Waker>,
) -> Script {
    let leaving: Rc<RefCell<HashMap<_, Vec<u8>>>> = Rc::default();
    let (kept, gone) = (leaving.clone(), leaving.clone());
    let mut receives = 0u32;
    let mut waker = None;
    Script {
        inbox: Some(inbox),
        adopted: Box::new(|io, connection, bytes| {
            io.send(connection, &bytes);
        }),
        received: Box::new(move |io, connection, bytes| {
            if let Some(kept) = kept.borrow_mut().get_mut(&connection) {
                return kept.extend_from_slice(bytes);
            }
            io.send(connection, bytes);
            receives += 1;
            if receives.is_multiple_of(5) {
                io.detach(connection);
                kept.borrow_mut().insert(connection, Vec::new());
            }
        }),
        detached: Box::new(move |_, connection, socket| {
            let kept = gone.borrow_mut().remove(&connection).unwrap();
            other.send((socket, kept)).unwrap();
            waker.get_or_insert_with(|| wake_other.recv().unwrap()).wake();
        }),
        closed: Box::new(move |_, connection, _| {
            leaving.borrow_mut().remove(&connection);
        }),
        ..Script::default()
    }
}

#[test]
fn connections_wander_between_two_rings_under_load_and_no_byte_is_lost_or_doubled() {
    const BYTES: usize = 2_000_000;
    let (to_first, first_inbox) = mpsc::channel();
    let (to_second, second_inbox) = mpsc::channel();
    let (first_waker_send, first_waker) = mpsc::channel();
    let (second_waker_send, second_waker) = mpsc::channel();
    // Small buffers and no waiting, so that a stream is many receives.
    let config = RingConfig {
        receive_buffer_bytes: 4096,
        latency_target: Duration::ZERO,
        ..RingConfig::default()
    };
    let first = start(config.clone(), move || wandering(first_inbox, to_second, second_waker));
    let second = start_deaf(config, move || wandering(second_inbox, to_first, first_waker));
    first_waker_send.send(first.waker.clone()).unwrap();
    second_waker_send.send(second.waker.clone()).unwrap();
    let clients: Vec<_> = (0..12)
        .map(|seed| {
            let mut stream = first.connect();
            std::thread::spawn(move || {
                let bytes = pattern(seed, BYTES);
                let mut writer = stream.try_clone().unwrap();
                let sent = bytes.clone();
                let writing = std::thread::spawn(move || {
                    for piece in sent.chunks(1 + 3001 * (seed + 1)) {
                        writer.write_all(piece).unwrap();
                    }
                });
                let mut back = vec![0; BYTES];
                stream.read_exact(&mut back).unwrap();
                writing.join().unwrap();
                assert!(back == bytes, "the bytes differ");
                // Nothing comes behind them.
                stream.shutdown(Shutdown::Write).unwrap();
                let mut rest = Vec::new();
                stream.read_to_end(&mut rest).unwrap();
                assert!(rest.is_empty());
            })
        })
        .collect();
    clients.into_iter().for_each(|client| client.join().unwrap());
    let (first, second) = (first.stop(), second.stop());
    assert_eq!((first.detached, second.detached), (second.adopted, first.adopted));
    assert!(first.detached > 20 && second.detached > 20, "{first:?} {second:?}");
    assert_eq!(first.receive_bytes + second.receive_bytes, 12 * BYTES as u64);
}

#[test]
fn a_ring_without_a_listener_takes_connected_streams_blocking_or_not() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (send, inbox) = mpsc::channel();
    let mut peers = Vec::new();
    for number in 0..200u8 {
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        stream.set_nonblocking(number.is_multiple_of(2)).unwrap();
        let socket = Detached::from(stream);
        assert_eq!(socket.peer_addr(), Some(listener.local_addr().unwrap()));
        send.send((socket, vec![number])).unwrap();
        peers.push(listener.accept().unwrap().0);
    }
    let ring = start_deaf(RingConfig::default(), move || Script {
        inbox: Some(inbox),
        adopted: Box::new(|io, connection, bytes| {
            io.send(connection, &bytes);
        }),
        ..Script::echo()
    });
    for (number, peer) in peers.iter_mut().enumerate() {
        peer.set_read_timeout(Some(SOON)).unwrap();
        let mut got = [0; 6];
        peer.read_exact(&mut got[..1]).unwrap();
        peer.write_all(b"there").unwrap();
        peer.read_exact(&mut got[1..]).unwrap();
        assert_eq!((got[0], &got[1..]), (number as u8, b"there".as_slice()));
    }
    drop(peers);
    eventually("all slots are free", || {
        ring.waker.wake();
        ring.stats().connections == 0
    });
    let stats = ring.stop();
    assert_eq!((stats.adopted, stats.accepted), (200, 0));
}

#[test]
fn a_full_ring_and_a_stopping_one_give_the_socket_back_unharmed() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (send, inbox) = mpsc::channel();
    let (back_send, back) = mpsc::channel();
    let config = RingConfig { connections_max: 1, ..RingConfig::default() };
    let ring = start_deaf(config, move || Script {
        inbox: Some(inbox),
        refused: Box::new(move |_, socket, _| back_send.send(socket).unwrap()),
        ..Script::echo()
    });
    let mut peers = Vec::new();
    let mut connect = || {
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        peers.push(listener.accept().unwrap().0);
        send.send((stream.into(), Vec::new())).unwrap();
    };
    connect();
    ring.waker.wake();
    eventually("the first is in", || ring.stats().adopted == 1);
    connect();
    ring.waker.wake();
    let full = back.recv_timeout(SOON).unwrap();
    connect();
    let stats = ring.stop();
    let stopping = back.recv_timeout(SOON).unwrap();
    assert_eq!((stats.adopted, stats.accepts_refused), (1, 0));
    for (socket, peer) in [full, stopping].into_iter().zip(&mut peers[1..]) {
        TcpStream::from(socket).write_all(b"whole").unwrap();
        let mut got = Vec::new();
        peer.read_to_end(&mut got).unwrap();
        assert_eq!(got, b"whole");
    }
}

#[test]
fn stopping_while_detaching_drains_to_zero() {
    let (ends_send, ends) = mpsc::channel();
    let ring = start(roomy(), move || answer_and_detach(STUCK, ends_send));
    let mut streams: Vec<_> = (0..16).map(|_| ring.connect()).collect();
    for stream in streams.iter_mut().skip(10) {
        stream.write_all(b"go").unwrap();
    }
    eventually("the detaches began", || ring.stats().receives == 6);
    // One peer reads on, so that its detach may end in time or not; the others are stuck.
    let mut reader = streams.pop().unwrap();
    let reading = std::thread::spawn(move || reader.read_to_end(&mut Vec::new()));
    let started = Instant::now();
    let stats = ring.stop();
    assert!(started.elapsed() < Duration::from_secs(3), "the linger time was not shortened");
    let mut closed = 0;
    for end in ends.iter() {
        match end {
            End::Closed(reason) => {
                assert_eq!(reason, CloseReason::Shutdown);
                closed += 1;
            }
            End::Detached(..) => {}
        }
    }
    assert_eq!((closed + stats.detached, stats.accepted), (16, 16));
    assert!(stats.detached <= 1);
    drop(streams);
    reading.join().unwrap().ok();
}
