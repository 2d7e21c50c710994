//! The threads between the shards and the store.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail by panicking")]

mod world;

use fulcrum_identity::verifier::{Answer, VerifierConfig};
use fulcrum_identity::{Adapter, Busy, Login, Principal, Proof, Refusal, Verifier};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;
use world::*;

const PATIENCE: Duration = Duration::from_secs(20);

type Decision = (Result<Principal, Refusal>, Option<String>);

fn job(username: &str, password: &str) -> Login {
    Login {
        proof: Proof::password(username, password.as_bytes()),
        adapter: Adapter::Http,
        now_ms: NOW_MS,
    }
}

fn send(to: &Sender<Decision>) -> Answer {
    let to = to.clone();
    Box::new(move |verdict| {
        let thread = std::thread::current().name().map(str::to_owned);
        to.send((verdict.result, thread)).unwrap();
    })
}

fn decide(verifier: &Verifier, username: &str, password: &str) -> Decision {
    let (sender, receiver) = channel();
    verifier.submit(job(username, password), send(&sender)).unwrap();
    receiver.recv_timeout(PATIENCE).unwrap()
}

/// Occupies the store thread until the returned sender is dropped.
fn hold_store(verifier: &Verifier) -> Sender<()> {
    let (release, held) = channel::<()>();
    let (started, has_started) = channel();
    let work = move |_: &_| {
        started.send(()).unwrap();
        let _ = held.recv();
    };
    verifier.submit_store(Box::new(work)).unwrap();
    has_started.recv_timeout(PATIENCE).unwrap();
    release
}

#[test]
fn bcrypt_is_computed_on_a_verify_thread_and_all_else_in_the_quick_lane() {
    let world = World::ready();
    let verifier = Verifier::start(world.identity.clone(), VerifierConfig::default()).unwrap();
    let slow = Some("verify-0".to_owned());
    let quick = Some("verify-quick".to_owned());
    assert_eq!(decide(&verifier, "sensor@t", "Fulcrum-1"), (Ok(the_device()), slow.clone()));
    assert_eq!(decide(&verifier, "sensor@t", "Fulcrum-1"), (Ok(the_device()), quick.clone()));
    assert_eq!(decide(&verifier, "app@t", "application-secret").1, quick);
    assert_eq!(decide(&verifier, "sensor@t", "bad"), (Err(Refusal::BadCredentials), slow));
    let stats = verifier.stats();
    assert_eq!((stats.decided_quickly, stats.decided_slowly, stats.busy), (2, 2, 0));
}

#[test]
fn a_flood_of_bad_passwords_is_refused_and_delays_no_known_device() {
    let world = World::ready();
    let config = VerifierConfig { slow_queue: 2, quick_queue: 1_000, ..Default::default() };
    let verifier = Verifier::start(world.identity.clone(), config).unwrap();
    assert!(decide(&verifier, "sensor@t", "Fulcrum-1").0.is_ok());

    let (sender, receiver) = channel();
    for _ in 0..100 {
        verifier.submit(job("sensor@t", "bad"), send(&sender)).unwrap();
    }
    assert_eq!(decide(&verifier, "sensor@t", "Fulcrum-1").1.as_deref(), Some("verify-quick"));
    // Whoever was not answered by now waits for bcrypt, and those are few.
    let answered = std::iter::from_fn(|| receiver.try_recv().ok()).collect::<Vec<_>>();
    let unavailable =
        answered.iter().filter(|(decision, _)| *decision == Err(Refusal::Unavailable)).count();
    assert!(unavailable >= 50, "{unavailable} of {}", answered.len());
    assert_eq!(verifier.stats().busy as usize, unavailable);
    let rest = drain(&receiver, 100 - answered.len());
    assert!(rest.iter().all(|(decision, _)| *decision == Err(Refusal::BadCredentials)));
}

fn drain(receiver: &Receiver<Decision>, count: usize) -> Vec<Decision> {
    (0..count).map(|_| receiver.recv_timeout(PATIENCE).unwrap()).collect()
}

#[test]
fn a_full_queue_says_so_at_once() {
    let world = World::ready();
    let config = VerifierConfig { store_queue: 1, ..Default::default() };
    let verifier = Verifier::start(world.identity.clone(), config).unwrap();
    let release = hold_store(&verifier);
    assert_eq!(verifier.submit_store(Box::new(|_| {})), Ok(()));
    assert_eq!(verifier.submit_store(Box::new(|_| {})), Err(Busy));
    assert_eq!((verifier.stats().store_waiting, verifier.stats().busy), (1, 1));
    drop(release);
}

#[test]
fn the_store_lane_does_not_wait_for_logins_nor_they_for_it() {
    let world = World::ready();
    let verifier = Verifier::start(world.identity.clone(), VerifierConfig::default()).unwrap();
    let release = hold_store(&verifier);
    assert!(decide(&verifier, "sensor@t", "Fulcrum-1").0.is_ok());
    drop(release);

    let (sender, decisions) = channel();
    for _ in 0..20 {
        verifier.submit(job("nobody@t", "x"), send(&sender)).unwrap();
    }
    let (answer, answered) = channel();
    let work = move |identity: &fulcrum_identity::Identity| {
        let allowed =
            identity.authorise(&tenant_id("t"), &device_id("d"), &device_id("d"), Adapter::Http);
        answer.send(allowed).unwrap();
    };
    verifier.submit_store(Box::new(work)).unwrap();
    assert_eq!(answered.recv_timeout(PATIENCE).unwrap(), Ok(()));
    assert!(decisions.try_iter().count() < 20, "logins were still waiting for bcrypt");
}

#[test]
fn stopping_answers_everything_that_was_taken() {
    let world = World::ready();
    let verifier = Verifier::start(world.identity.clone(), VerifierConfig::default()).unwrap();
    let (sender, receiver) = channel();
    for _ in 0..5 {
        verifier.submit(job("sensor@t", "bad"), send(&sender)).unwrap();
    }
    drop(verifier);
    drop(sender);
    assert_eq!(receiver.iter().count(), 5);
}
