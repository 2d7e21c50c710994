//! Logins that are known to be good, and every way in which they stop being so.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail by panicking")]

mod world;

use fulcrum_contract::feed::Entity;
use fulcrum_contract::registry::{Application, Credential, Device, Secret, Tenant};
use fulcrum_identity::{Adapter, KnownLogins, Lesson, Login, Proof, Standing};
use std::sync::mpsc::sync_channel;
use world::*;

type Known = KnownLogins<&'static str>;

const PASSWORDS: [(&str, &str); 2] = [("sensor@t", "Fulcrum-1"), ("app@t", "application-secret")];

fn login(username: &str, password: &str, now_ms: u64) -> Login {
    let proof = Proof::password(username, password.as_bytes());
    Login { proof, adapter: Adapter::Mqtt, now_ms }
}

fn lesson(known: &Known, username: &str, password: &str) -> Lesson<&'static str> {
    known.lesson(known.shown(Adapter::Mqtt, username, password.as_bytes()).unwrap())
}

/// How long the store says that a login stands.
fn standing(world: &World, username: &str, password: &str, now_ms: u64) -> Option<Standing> {
    world.identity.authenticate(&login(username, password, now_ms)).standing
}

/// Logs in, and has it remembered if that may be.
fn learn(world: &World, known: &Known, username: &str, password: &str) {
    if let Some(standing) = standing(world, username, password, NOW_MS) {
        lesson(known, username, password).learn(standing, "somebody");
    }
}

fn is_known(known: &mut Known, username: &str, password: &str) -> bool {
    is_known_at(known, username, password, NOW_MS)
}

fn is_known_at(known: &mut Known, username: &str, password: &str, now_ms: u64) -> bool {
    let shown = known.shown(Adapter::Mqtt, username, password.as_bytes()).unwrap();
    known.find(&shown, now_ms).is_some()
}

fn disabled_device() -> Entity {
    device("t", "d", Some(Device { enabled: false, ..Device::default() }))
}

#[test]
fn a_login_that_was_good_is_known_and_no_other() {
    let world = World::ready();
    let mut known = world.identity.known_logins();
    for (username, password) in PASSWORDS {
        assert!(!is_known(&mut known, username, password));
        learn(&world, &known, username, password);
        assert!(is_known(&mut known, username, password));
        assert!(!is_known(&mut known, username, "another"));
        let shown = known.shown(Adapter::Http, username, password.as_bytes()).unwrap();
        assert_eq!(known.find(&shown, NOW_MS), None, "the tenant may bar one adapter alone");
    }
}

#[test]
fn a_refused_login_stands_for_nothing() {
    let mut world = World::ready();
    assert_eq!(standing(&world, "sensor@t", "bad", NOW_MS), None);
    assert_eq!(standing(&world, "nobody@t", "Fulcrum-1", NOW_MS), None);
    world.apply(vec![disabled_device()]);
    assert_eq!(standing(&world, "sensor@t", "Fulcrum-1", NOW_MS), None);
}

#[test]
fn every_change_of_the_tenant_is_in_force_at_once() {
    let other_password = vec![password("sensor", sha_secret())];
    let changes: [(&str, Vec<Entity>); 9] = [
        ("device disabled", vec![disabled_device()]),
        ("device deleted", vec![device("t", "d", None)]),
        ("password changed", vec![credentials("t", "d", Some(other_password))]),
        ("credentials deleted", vec![credentials("t", "d", None)]),
        (
            "tenant disabled",
            vec![tenant("t", Some(Tenant { enabled: false, ..Tenant::default() }))],
        ),
        ("tenant deleted", vec![tenant("t", None)]),
        (
            "application disabled",
            vec![application(
                "t",
                "app",
                Some(Application { enabled: false, ..application_document() }),
            )],
        ),
        ("application deleted", vec![application("t", "app", None)]),
        (
            "name given to another device",
            vec![
                device("t", "e", Some(Device::default())),
                credentials("t", "e", Some(vec![password("sensor", sha_secret())])),
            ],
        ),
    ];
    for (what, change) in changes {
        let mut world = World::ready();
        let mut known = world.identity.known_logins();
        for (username, password) in PASSWORDS {
            learn(&world, &known, username, password);
            assert!(is_known(&mut known, username, password), "{what}");
        }
        world.apply(change);
        for (username, password) in PASSWORDS {
            assert!(!is_known(&mut known, username, password), "{what}: {username}");
        }
    }
}

#[test]
fn a_snapshot_of_another_feed_makes_everything_be_looked_up_anew() {
    let mut world = World::ready();
    let mut known = world.identity.known_logins();
    learn(&world, &known, "sensor@t", "Fulcrum-1");
    world.feed = "feed-2".into();
    let mut page = world.page(vec![]);
    page.more = true;
    world.identity.apply(&page).unwrap();
    assert!(!is_known(&mut known, "sensor@t", "Fulcrum-1"));
    // Until the snapshot is complete the device may log in, and is known again; then it is not in it.
    learn(&world, &known, "sensor@t", "Fulcrum-1");
    assert!(is_known(&mut known, "sensor@t", "Fulcrum-1"));
    world.apply(vec![tenant("u", Some(Tenant::default()))]);
    assert!(!is_known(&mut known, "sensor@t", "Fulcrum-1"));
}

#[test]
fn commands_and_other_tenants_disturb_nobody() {
    let mut world = World::ready();
    let mut known = world.identity.known_logins();
    learn(&world, &known, "sensor@t", "Fulcrum-1");
    world.apply(vec![command("t", "d", "c-1", waiting("c-1", 1))]);
    assert!(is_known(&mut known, "sensor@t", "Fulcrum-1"));
    // One in a thousand tenants may share the number of this one; not all of these do.
    let mut undisturbed = 0;
    for other in ["u", "v", "w", "x"] {
        learn(&world, &known, "sensor@t", "Fulcrum-1");
        world.apply(vec![tenant(other, Some(Tenant::default()))]);
        undisturbed += u32::from(is_known(&mut known, "sensor@t", "Fulcrum-1"));
    }
    assert!(undisturbed > 0);
}

#[test]
fn a_decision_made_before_a_change_is_void_however_late_it_is_learnt() {
    let mut world = World::ready();
    let mut known = world.identity.known_logins();
    let before = standing(&world, "sensor@t", "Fulcrum-1", NOW_MS).unwrap();
    world.apply(vec![disabled_device()]);
    lesson(&known, "sensor@t", "Fulcrum-1").learn(before, "somebody");
    assert!(!is_known(&mut known, "sensor@t", "Fulcrum-1"));
    world.apply(vec![device("t", "d", Some(Device::default()))]);
    assert!(!is_known(&mut known, "sensor@t", "Fulcrum-1"), "nor does it come back");
}

#[test]
fn a_login_is_known_within_the_validity_of_its_secret() {
    let mut world = World::ready();
    let end_ms = NOW_MS + 60_000;
    let window = Secret {
        not_before: Some("2026-03-01T08:00:00Z".into()),
        not_after: Some("2026-03-01T08:01:00Z".into()),
        ..sha_secret()
    };
    world.apply(vec![credentials("t", "d", Some(vec![password("sensor", window)]))]);
    let mut known = world.identity.known_logins();
    learn(&world, &known, "sensor@t", "hono-secret");
    for (now_ms, is_good) in
        [(NOW_MS - 1, false), (NOW_MS, true), (end_ms, true), (end_ms + 1, false)]
    {
        assert_eq!(is_known_at(&mut known, "sensor@t", "hono-secret", now_ms), is_good, "{now_ms}");
        assert_eq!(world.login_at("sensor@t", "hono-secret", now_ms).is_ok(), is_good, "{now_ms}");
    }
}

#[test]
fn a_second_secret_that_becomes_valid_has_the_first_looked_up_anew() {
    let mut world = World::ready();
    let later = Secret { not_before: Some("2026-03-01T08:01:00Z".into()), ..bcrypt_secret() };
    let both =
        Credential { secrets: vec![later, sha_secret()], ..password("sensor", sha_secret()) };
    world.apply(vec![credentials("t", "d", Some(vec![both]))]);
    let mut known = world.identity.known_logins();
    learn(&world, &known, "sensor@t", "hono-secret");
    assert!(is_known_at(&mut known, "sensor@t", "hono-secret", NOW_MS + 59_999));
    assert!(!is_known_at(&mut known, "sensor@t", "hono-secret", NOW_MS + 60_000));
}

/// Verify threads decide and teach without pause while the device is disabled and enabled: whenever a page that disables
/// it is in force, it is not known.
#[test]
fn no_race_between_a_decision_and_a_change_leaves_a_stale_login_known() {
    const ROUNDS: usize = 60;
    let mut world = World::ready();
    world.apply(vec![credentials("t", "d", Some(vec![password("sensor", sha_secret())]))]);
    let mut known: Known = world.identity.known_logins();
    let identity = world.identity.clone();
    let (give, take) = sync_channel::<Lesson<&'static str>>(4);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let login = login("sensor@t", "hono-secret", NOW_MS);
            for lesson in take {
                // A quick decision or none: bad credentials would cost bcrypt.
                let verdict = identity.authenticate_quickly(&login);
                if let Some(standing) = verdict.and_then(|verdict| verdict.standing) {
                    lesson.learn(standing, "somebody");
                }
            }
        });
        for _ in 0..ROUNDS {
            let mut tries = 0;
            while !is_known(&mut known, "sensor@t", "hono-secret") {
                let _ = give.try_send(lesson(&known, "sensor@t", "hono-secret"));
                std::thread::yield_now();
                tries += 1;
                assert!(tries < 10_000_000, "an enabled device is known at last");
            }
            for _ in 0..4 {
                let _ = give.try_send(lesson(&known, "sensor@t", "hono-secret"));
            }
            world.apply(vec![disabled_device()]);
            for _ in 0..200 {
                assert!(!is_known(&mut known, "sensor@t", "hono-secret"));
                let _ = give.try_send(lesson(&known, "sensor@t", "hono-secret"));
            }
            world.apply(vec![device("t", "d", Some(Device::default()))]);
        }
        drop(give);
    });
}
