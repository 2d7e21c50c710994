//! The change feed and presence: applied, told, and followed into a new feed.

#![allow(clippy::unwrap_used, reason = "a test that fails says so by panicking")]

mod harness;

use fulcrum_contract::feed::{Change, Entity};
use fulcrum_contract::{DeviceId, TenantId};
use fulcrum_uplink::LinkState;
use harness::{Cloud, eventually, site_of, start};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

fn tenant(version: u64, name: &str) -> Change {
    let tenant = TenantId::parse(name).unwrap();
    Change { version, entity: Entity::Tenant { tenant, document: Some(Default::default()) } }
}

#[test]
fn changes_are_in_force_when_the_node_is_told() {
    let cloud = Cloud::start();
    let (dir, config) = site_of(&cloud);
    cloud.state().changes.push(tenant(1, "acme"));
    let node = start(dir.path(), config, Vec::new());
    let acme = TenantId::parse("acme").unwrap();
    eventually("the snapshot is applied", || node.identity.tenant(&acme).unwrap().is_some());
    let globex = TenantId::parse("globex").unwrap();
    cloud.change(|state| state.changes.push(tenant(2, "globex")));
    let changed = Instant::now();
    eventually("the node is told", || {
        node.told
            .lock()
            .unwrap()
            .applied
            .iter()
            .any(|page| page.tenants_changed == [globex.clone()])
    });
    assert!(changed.elapsed() < Duration::from_secs(1), "by the long poll, not the next one");
    assert!(node.identity.tenant(&globex).unwrap().is_some());
    assert_eq!(node.status.snapshot().feed_cursor, 2);
    node.stop();
}

#[test]
fn a_restart_goes_on_behind_the_cursor_and_a_new_feed_starts_over() {
    let cloud = Cloud::start();
    let (dir, config) = site_of(&cloud);
    cloud.state().changes.push(tenant(5, "acme"));
    let node = start(dir.path(), config.clone(), Vec::new());
    eventually("it is applied", || node.status.snapshot().feed_cursor == 5);
    node.stop();
    let node = start(dir.path(), config, Vec::new());
    eventually("the link is up", || node.status.state() == LinkState::Up);
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(node.status.snapshot().feed_changes, 0, "nothing comes twice");
    cloud.change(|state| {
        state.feed = "feed 2&after=9".into();
        state.changes = vec![tenant(1, "globex")];
    });
    let acme = TenantId::parse("acme").unwrap();
    eventually("the old feed's state goes", || node.identity.tenant(&acme).unwrap().is_none());
    // Only then is the node told of it.
    eventually("everything is told", || {
        node.told.lock().unwrap().applied.iter().any(|page| page.all)
    });
    node.stop();
}

#[test]
fn a_quiet_feed_is_polled_without_haste() {
    let cloud = Cloud::start();
    let (dir, mut config) = site_of(&cloud);
    config.feed_wait = Duration::from_secs(0);
    let node = start(dir.path(), config, Vec::new());
    std::thread::sleep(Duration::from_millis(1_500));
    let polls = cloud.state().polls;
    assert!((2..=6).contains(&polls), "{polls} polls in 1.5 s of a cloud that does not wait");
    node.stop();
}

fn told_present(cloud: &Cloud) -> Vec<String> {
    let state = cloud.state();
    state.presence.iter().flatten().map(|one| one.device.to_string()).collect()
}

#[test]
fn present_devices_are_told_once_and_again_to_a_new_feed() {
    let cloud = Cloud::start();
    let (dir, mut config) = site_of(&cloud);
    config.presence_devices_max = 4;
    let node = start(dir.path(), config, Vec::new());
    let acme = TenantId::parse("acme").unwrap();
    let device = |number: u32| DeviceId::parse(&format!("d{number}")).unwrap();
    eventually("the first feed is known", || node.status.state() == LinkState::Up);
    std::thread::sleep(Duration::from_millis(100));
    cloud.cut();
    for number in 0..10 {
        node.presence.present(acme.clone(), device(number)).unwrap();
        node.presence.present(acme.clone(), device(number)).unwrap();
    }
    cloud.heal();
    eventually("all are told", || told_present(&cloud).len() >= 10);
    let told = told_present(&cloud);
    assert_eq!((told.len(), told.iter().collect::<BTreeSet<_>>().len()), (10, 10));
    assert!(cloud.state().presence.iter().all(|group| group.len() <= 4));
    node.presence.absent(acme.clone(), device(0)).unwrap();
    cloud.change(|state| state.feed = "feed-2".into());
    eventually("those present are told again", || told_present(&cloud).len() == 19);
    // The node knows when the last answer has come back.
    eventually("nine are present", || node.status.snapshot().presence_devices == 9);
    node.stop();
}
