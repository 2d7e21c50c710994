//! What pages of the change feed do to the replica.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail by panicking")]

mod world;

use fulcrum_contract::feed::{ChangePage, Entity};
use fulcrum_contract::registry::{Device, Tenant};
use fulcrum_identity::{
    Adapter, Applied, Counts, Identity, IdentityError, Login, Principal, Proof, Refusal,
};
use proptest::prelude::*;
use std::os::unix::fs::PermissionsExt as _;
use world::*;

#[test]
fn a_page_and_its_cursor_are_on_disk_when_apply_returns() {
    let mut world = World::ready();
    world.apply(vec![command("t", "d", "c1", waiting("c1", 1))]);
    let world = world.reopen();
    let position = world.identity.feed_position().unwrap();
    assert_eq!((position.feed.as_deref(), position.cursor), (Some("feed-1"), 5));
    let expected = Counts { tenants: 1, devices: 1, credentials: 1, applications: 1, commands: 1 };
    assert_eq!(world.identity.counts().unwrap(), expected);
    assert_eq!(world.identity.tenant(&tenant_id("t")).unwrap(), Some(Tenant::default()));
    let application = world.identity.application(&tenant_id("t"), &application_id("app"));
    assert_eq!(application.unwrap(), Some(application_document()));
}

#[test]
fn applied_names_what_changed_once_each() {
    let mut world = World::empty();
    let applied = world.apply(vec![
        tenant("t", Some(Tenant::default())),
        device("t", "d", Some(Device::default())),
        credentials("t", "d", Some(vec![])),
        application("t", "app", Some(application_document())),
        command("t", "d", "c1", waiting("c1", 1)),
        command("t", "d", "c2", waiting("c2", 2)),
    ]);
    let expected = Applied {
        tenants_changed: vec![tenant_id("t")],
        devices_changed: vec![(tenant_id("t"), device_id("d"))],
        applications_changed: vec![(tenant_id("t"), application_id("app"))],
        commands: vec![(tenant_id("t"), device_id("d"))],
        all: true,
        stale: false,
    };
    assert_eq!(applied, expected);
    let applied = world.apply(vec![command("t", "d", "c1", waiting("c1", 1))]);
    assert_eq!(applied, Applied::default(), "pending already");
}

#[test]
fn an_empty_page_changes_nothing() {
    let mut world = World::ready();
    assert_eq!(world.apply(vec![]), Applied::default());
    let mut page = world.page(vec![]);
    page.cursor = 9;
    assert_eq!(world.identity.apply(&page).unwrap(), Applied::default());
    assert_eq!(world.identity.feed_position().unwrap().cursor, 9, "the cursor may move on");
}

#[test]
fn a_stale_page_is_recognised_and_brings_nothing_back() {
    let mut world = World::ready();
    let stale = world.page(vec![device("t", "d", Some(Device::default()))]);
    world.apply(vec![device("t", "d", None)]);
    let applied = world.identity.apply(&stale).unwrap();
    assert_eq!(applied, Applied { stale: true, ..Applied::default() });
    assert_eq!(world.identity.device(&tenant_id("t"), &device_id("d")).unwrap(), None);
}

#[test]
fn a_deleted_tenant_takes_everything_of_its_own_along_and_nothing_else() {
    let mut world = World::ready();
    let via = Device { via: vec![device_id("gw")], ..Device::default() };
    world.apply(vec![
        device("t", "e", Some(via)),
        command("t", "d", "c1", expiring("c1", 1, NOW_MS)),
        // Sorts directly behind `t`.
        tenant("t-2", Some(Tenant::default())),
        device("t-2", "d", Some(Device::default())),
        credentials("t-2", "d", Some(vec![password("sensor", sha_secret())])),
        application("t-2", "app", Some(application_document())),
        command("t-2", "d", "c1", waiting("c1", 1)),
    ]);
    world.apply(vec![tenant("t", None)]);
    let left = Counts { tenants: 1, devices: 1, credentials: 1, applications: 1, commands: 1 };
    assert_eq!(world.identity.counts().unwrap(), left);
    assert!(world.login("sensor@t-2", "hono-secret").is_ok());
    assert_eq!(world.identity.expire_commands(u64::MAX).unwrap(), vec![]);
}

#[test]
fn a_deleted_device_takes_its_credentials_and_commands_along() {
    let mut world = World::ready();
    world.apply(vec![
        device("t", "d2", Some(Device::default())),
        command("t", "d", "c1", waiting("c1", 1)),
        command("t", "d2", "c1", waiting("c1", 1)),
    ]);
    world.apply(vec![device("t", "d", None)]);
    let left = Counts { tenants: 1, devices: 1, credentials: 0, applications: 1, commands: 1 };
    assert_eq!(world.identity.counts().unwrap(), left);
}

#[test]
fn devices_keep_logging_in_while_a_snapshot_is_on_its_way() {
    let mut world = World::ready();
    world.apply(vec![
        tenant("gone", Some(Tenant::default())),
        device("gone", "d", Some(Device::default())),
        credentials("gone", "d", Some(vec![password("sensor", sha_secret())])),
        application("gone", "app", Some(application_document())),
        command("gone", "d", "c1", waiting("c1", 1)),
    ]);

    world.feed = "feed-2".into();
    world.cursor = 0;
    let mut page = world.page(vec![tenant("t", Some(Tenant::default()))]);
    page.more = true;
    assert!(world.identity.apply(&page).unwrap().all, "a snapshot starts");
    let world = world.reopen();
    assert_eq!(world.identity.feed_position().unwrap().cursor, 1);
    assert_eq!(world.login("sensor@t", "Fulcrum-1"), Ok(the_device()), "not renewed yet");
    assert!(world.login("sensor@gone", "hono-secret").is_ok(), "not known to be gone yet");

    let mut world = world;
    let applied = world.apply(vec![
        device("t", "d", Some(Device::default())),
        credentials("t", "d", Some(vec![password("sensor", bcrypt_secret())])),
    ]);
    assert!(applied.all, "the snapshot is complete");
    assert_eq!(world.login("sensor@t", "Fulcrum-1"), Ok(the_device()));
    assert_eq!(world.login("sensor@gone", "hono-secret"), Err(Refusal::BadCredentials));
    let left = Counts { tenants: 1, devices: 1, credentials: 1, applications: 0, commands: 0 };
    assert_eq!(world.identity.counts().unwrap(), left);
    assert!(!world.apply(vec![device("t", "d", None)]).all, "deltas again");
}

#[test]
fn a_snapshot_that_is_complete_without_changes_empties_the_replica() {
    let mut world = World::ready();
    world.feed = "feed-2".into();
    world.cursor = 0;
    let mut page = world.page(vec![]);
    page.more = true;
    world.identity.apply(&page).unwrap();
    assert_eq!(world.identity.counts().unwrap().tenants, 1);
    page.more = false;
    assert!(world.identity.apply(&page).unwrap().all);
    assert_eq!(world.identity.counts().unwrap(), Counts::default());
}

#[test]
fn a_killed_process_has_lost_nothing_it_was_told_is_applied() {
    let mut world = World::ready();
    world.apply(vec![
        command("t", "d", "a", waiting("a", 1)),
        command("t", "d", "b", waiting("b", 2)),
    ]);
    world.identity.command_done(&tenant_id("t"), &device_id("d"), &command_id("a")).unwrap();
    // What is in the file while the process has it open is what a kill leaves behind.
    let path = world.folder.path().join("after-the-kill.redb");
    std::fs::copy(world.folder.path().join("identity.redb"), &path).unwrap();
    let identity = Identity::open(&path).unwrap();
    assert_eq!(identity.feed_position().unwrap(), world.identity.feed_position().unwrap());
    assert_eq!(identity.counts().unwrap(), world.identity.counts().unwrap());
    let login = Login {
        proof: Proof::password("sensor@t", b"Fulcrum-1"),
        adapter: Adapter::Mqtt,
        now_ms: NOW_MS,
    };
    assert_eq!(identity.authenticate(&login).result, Ok(the_device()));
    let left = identity.pending_commands(&tenant_id("t"), &device_id("d"), 10).unwrap();
    assert_eq!(left.iter().map(|command| command.id.as_str()).collect::<Vec<_>>(), ["b"]);
}

#[test]
fn the_file_is_readable_by_its_owner_alone() {
    let world = World::empty();
    let file = std::fs::metadata(world.folder.path().join("identity.redb")).unwrap();
    assert_eq!(file.permissions().mode() & 0o777, 0o600);
}

#[test]
fn a_damaged_file_is_refused_with_the_remedy() {
    let sound = {
        let world = World::ready();
        let path = world.folder.path().join("identity.redb");
        let World { folder, identity, .. } = world;
        drop(identity);
        let bytes = std::fs::read(path).unwrap();
        drop(folder);
        bytes
    };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("identity.redb");
    let mut flipped = sound.clone();
    for byte in &mut flipped[sound.len() / 8..] {
        *byte ^= 0x55;
    }
    let damages: [(&str, &[u8]); 5] = [
        ("text", b"this is not a database, and it is longer than a header would be ......"),
        ("zeroes", &[0; 65_536]),
        ("cut to a page", &sound[..4_096]),
        ("cut in half", &sound[..sound.len() / 2]),
        ("flipped", &flipped),
    ];
    for (name, bytes) in damages {
        std::fs::write(&path, bytes).unwrap();
        let error = Identity::open(&path).err().unwrap_or_else(|| panic!("{name}: opened"));
        let text = error.to_string();
        assert!(matches!(error, IdentityError::Corrupt { .. }), "{name}: {error:?}");
        assert!(text.contains("identity.redb") && text.contains("move the file away"), "{text}");
    }
}

#[test]
fn a_second_process_is_told_that_the_file_is_in_use() {
    let world = World::empty();
    let error = Identity::open(&world.folder.path().join("identity.redb")).err().unwrap();
    assert!(matches!(error, IdentityError::InUse { .. }), "{error:?}");
}

#[test]
fn a_folder_that_does_not_exist_is_named() {
    let error = Identity::open("/nonexistent/identity.redb".as_ref()).err().unwrap();
    assert!(error.to_string().contains("/nonexistent/identity.redb"), "{error}");
}

/// One change in a small world, where collisions are the rule.
fn any_entity() -> impl Strategy<Value = Entity> {
    let name = prop::sample::select(vec!["a", "b"]);
    let names = (name.clone(), name.clone(), name);
    (names, 0..10u8, any::<bool>()).prop_map(|((t, d, other), kind, there)| match kind {
        0 => tenant(t, there.then(Tenant::default)),
        1 | 2 => device(t, d, there.then(Device::default)),
        3 => {
            let via = Device { via: vec![device_id(other)], ..Device::default() };
            device(t, d, there.then_some(via))
        }
        4..=6 => {
            let set = vec![password(other, sha_secret())];
            credentials(t, d, there.then_some(set))
        }
        7 => application(t, d, there.then(application_document)),
        _ => {
            let id = format!("c{kind}{other}");
            let document = if kind == 8 { waiting(&id, 8) } else { expiring(&id, 9, NOW_MS) };
            command(t, d, &id, document.filter(|_| there))
        }
    })
}

/// Everything the store answers about the small world.
#[derive(PartialEq, Debug)]
struct Answers {
    counts: Counts,
    logins: Vec<Result<Principal, Refusal>>,
    documents: Vec<(Option<Tenant>, Option<Device>, bool)>,
    commands: Vec<Vec<fulcrum_contract::commands::Command>>,
    expired: usize,
}

fn answers(world: &World) -> Answers {
    let identity = &world.identity;
    let mut answers = Answers {
        counts: identity.counts().unwrap(),
        logins: Vec::new(),
        documents: Vec::new(),
        commands: Vec::new(),
        expired: identity.expire_commands(u64::MAX).unwrap().len(),
    };
    for t in ["a", "b"] {
        for d in ["a", "b"] {
            let username = format!("{d}@{t}");
            let login = Login {
                proof: Proof::password(&username, b"hono-secret"),
                adapter: Adapter::Mqtt,
                now_ms: NOW_MS,
            };
            // Quick refusals do not exist, so none stands for bad credentials and costs no bcrypt here.
            let verdict = identity.authenticate_quickly(&login);
            answers.logins.push(verdict.map_or(Err(Refusal::BadCredentials), |known| known.result));
            let (t, d) = (tenant_id(t), device_id(d));
            answers.documents.push((
                identity.tenant(&t).unwrap(),
                identity.device(&t, &d).unwrap(),
                identity.device_state(&t, &d).unwrap().is_gateway,
            ));
            answers.commands.push(identity.pending_commands_at(&t, &d, 10, NOW_MS).unwrap());
        }
    }
    answers
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn pages_may_arrive_again_in_any_order(
        changes in prop::collection::vec(prop::collection::vec(any_entity(), 0..6), 1..8),
        again in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>()), 0..6),
    ) {
        let mut once = World::empty();
        let pages: Vec<ChangePage> = changes.into_iter().map(|page| once.page(page)).collect();
        for page in &pages {
            once.identity.apply(page).unwrap();
        }

        let often = World::empty();
        for (position, page) in pages.iter().enumerate() {
            often.identity.apply(page).unwrap();
            for (place, which) in &again {
                if place.index(pages.len()) == position {
                    often.identity.apply(&pages[which.index(position + 1)]).unwrap();
                }
            }
        }
        prop_assert_eq!(
            often.identity.feed_position().unwrap(),
            once.identity.feed_position().unwrap()
        );
        prop_assert_eq!(answers(&often), answers(&once));
    }

    #[test]
    fn a_snapshot_gives_the_same_whatever_was_there_before(
        before in prop::collection::vec(any_entity(), 0..20),
        snapshot in prop::collection::vec(any_entity(), 0..20),
        pages in 1..4usize,
    ) {
        let fresh = World::empty();
        let used = {
            let mut used = World::empty();
            used.apply(before);
            used
        };
        let mut feed = World::empty();
        feed.feed = "feed-2".into();
        let chunk = snapshot.len().div_ceil(pages).max(1);
        let mut chunks: Vec<Vec<Entity>> = snapshot.chunks(chunk).map(<[Entity]>::to_vec).collect();
        chunks.push(vec![]);
        let last = chunks.len() - 1;
        for (index, chunk) in chunks.into_iter().enumerate() {
            let mut page = feed.page(chunk);
            page.more = index != last;
            fresh.identity.apply(&page).unwrap();
            used.identity.apply(&page).unwrap();
        }
        prop_assert_eq!(answers(&used), answers(&fresh));
    }
}
