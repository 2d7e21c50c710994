//! A ring that sleeps is woken by whoever has something for it, and no wake-up is lost.

#![allow(clippy::unwrap_used)] // Test code outside test functions.

mod harness;

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use fulcrum_ring::{
    CloseReason, ConnectionId, Doorbell, Handler, Io, ListenerId, Ring, RingConfig, RingStats,
    WriteDone,
};
use harness::{Script, eventually, start};

type Inbox = Arc<Mutex<VecDeque<u64>>>;

/// One of two rings that answer each message with the next number.
struct Player {
    own: Inbox,
    other: Inbox,
    doorbell: Doorbell,
    last: u64,
    expected: u64,
    asks_inbox: bool,
    stats: RingStats,
}

impl Player {
    fn drain(&mut self, io: &mut Io<'_>) {
        loop {
            let Some(number) = self.own.lock().unwrap().pop_front() else { return };
            assert_eq!(number, self.expected, "a message was lost");
            self.expected += 2;
            if number < self.last {
                self.other.lock().unwrap().push_back(number + 1);
                io.ring_doorbell(&self.doorbell);
            }
            if number + 1 >= self.last {
                io.stop();
            }
        }
    }
}

impl Handler for Player {
    fn accepted(&mut self, _: &mut Io<'_>, _: ListenerId, _: ConnectionId) {}
    fn received(&mut self, _: &mut Io<'_>, _: ConnectionId, _: &[u8]) {}
    fn drained(&mut self, _: &mut Io<'_>, _: ConnectionId) {}
    fn closed(&mut self, _: &mut Io<'_>, _: ConnectionId, _: CloseReason) {}
    fn timer(&mut self, _: &mut Io<'_>, _: u64) {}
    fn file_written(&mut self, _: &mut Io<'_>, _: u64, _: Result<WriteDone, io::Error>) {}
    fn woken(&mut self, io: &mut Io<'_>) {
        self.drain(io);
    }
    fn turn_ended(&mut self, io: &mut Io<'_>) {
        if self.asks_inbox {
            self.drain(io);
        }
        self.stats = *io.stats();
    }
    fn has_inbox(&self) -> bool {
        self.asks_inbox && !self.own.lock().unwrap().is_empty()
    }
}

/// Two rings hand a number to and fro until it reaches `last`.
fn ping_pong(last: u64, config: RingConfig, asks_inbox: bool) -> Vec<RingStats> {
    let inboxes: [Inbox; 2] = Default::default();
    let (send, doorbells): (Vec<_>, Vec<_>) = (0..2).map(|_| mpsc::channel::<Doorbell>()).unzip();
    let done = Arc::new(std::sync::Barrier::new(2));
    let threads: Vec<_> = doorbells
        .into_iter()
        .enumerate()
        .map(|(index, doorbell)| {
            let (own, other) = (inboxes[index].clone(), inboxes[1 - index].clone());
            let (to_other, config, done) = (send[1 - index].clone(), config.clone(), done.clone());
            std::thread::spawn(move || {
                let mut ring = Ring::new(config).unwrap();
                to_other.send(ring.doorbell()).unwrap();
                let doorbell = doorbell.recv().unwrap();
                if index == 0 {
                    own.lock().unwrap().push_back(0);
                    ring.waker().wake();
                }
                let mut player = Player {
                    own,
                    other,
                    doorbell,
                    last,
                    expected: index as u64,
                    asks_inbox,
                    stats: RingStats::default(),
                };
                ring.run(&mut player).unwrap();
                done.wait();
                player.stats
            })
        })
        .collect();
    threads.into_iter().map(|thread| thread.join().unwrap()).collect()
}

#[test]
fn two_rings_ring_each_other_a_hundred_thousand_times_and_lose_nothing() {
    let stats = ping_pong(100_000, RingConfig::default(), false);
    assert!(stats.iter().all(|stats| stats.wakeups <= stats.turns && stats.wakeups > 0));
    assert_eq!(stats.iter().map(|stats| stats.doorbell_fallbacks).sum::<u64>(), 0);
}

#[test]
fn rings_that_spin_and_ask_their_inbox_lose_nothing_either() {
    let config = RingConfig { spin: Duration::from_micros(20), ..RingConfig::default() };
    ping_pong(50_000, config, true);
}

#[test]
fn a_doorbell_of_a_ring_that_is_gone_rings_nobody() {
    let gone =
        std::thread::spawn(|| Ring::new(RingConfig::default()).unwrap().doorbell()).join().unwrap();
    let (send, receive) = mpsc::channel();
    let ring = start(RingConfig::default(), move || Script {
        woken: Box::new(move |io| {
            io.ring_doorbell(&gone);
            send.send(()).unwrap();
        }),
        ..Script::default()
    });
    for _ in 0..3 {
        ring.waker.wake();
        receive.recv_timeout(Duration::from_secs(10)).unwrap();
    }
    ring.stop();
}

#[test]
fn a_foreign_thread_wakes_a_sleeping_ring_every_time() {
    let (asked, seen) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let (asked_too, seen_too) = (asked.clone(), seen.clone());
    let ring = start(RingConfig::default(), move || Script {
        woken: Box::new(move |_| {
            seen_too.store(asked_too.load(Ordering::SeqCst), Ordering::SeqCst)
        }),
        ..Script::default()
    });
    for number in 1..=5000 {
        asked.store(number, Ordering::SeqCst);
        ring.waker.wake();
        eventually("woken", || seen.load(Ordering::SeqCst) == number);
    }
    ring.stop();
}

#[test]
fn wakes_of_many_threads_come_together_and_none_is_missed() {
    let queue: Inbox = Arc::default();
    let inbox = queue.clone();
    let total = Arc::new(AtomicU64::new(0));
    let sum = total.clone();
    let ring = start(RingConfig::default(), move || Script {
        woken: Box::new(move |_| {
            let taken: u64 = inbox.lock().unwrap().drain(..).sum();
            sum.fetch_add(taken, Ordering::SeqCst);
        }),
        ..Script::default()
    });
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let (queue, waker) = (queue.clone(), ring.waker.clone());
            std::thread::spawn(move || {
                for _ in 0..20_000 {
                    queue.lock().unwrap().push_back(1);
                    waker.wake();
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    eventually("all were seen", || total.load(Ordering::SeqCst) == 80_000);
    ring.stop();
}

#[test]
fn work_left_over_gets_another_turn_without_an_event() {
    let turns = Arc::new(AtomicU64::new(0));
    let counter = turns.clone();
    let ring = start(RingConfig::default(), move || Script {
        turn_ended: Box::new(move |io| {
            if counter.fetch_add(1, Ordering::SeqCst) < 1000 {
                io.turn_again();
            }
        }),
        ..Script::default()
    });
    eventually("the turns came", || turns.load(Ordering::SeqCst) >= 1000);
    ring.stop();
}
