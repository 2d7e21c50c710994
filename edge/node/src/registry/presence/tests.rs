//! Presence of devices behind gateways.

use super::*;
use fulcrum_contract::commands::Command;
use fulcrum_contract::feed::{Change, ChangePage, Entity};
use fulcrum_contract::{CommandId, DeviceId, TenantId};
use fulcrum_uplink::{PresenceReceiver, presence_channel};

fn names(device: &str) -> Names {
    ("t".into(), device.into())
}

/// Gateway `gw` with devices `d1` and `d2`, and `gw2` with `d2`.
fn identity(folder: &tempfile::TempDir) -> Identity {
    let identity = Identity::open(&folder.path().join("identity.redb")).unwrap();
    let device = |id: &str, document: &str| Entity::Device {
        tenant: TenantId::parse("t").unwrap(),
        device: DeviceId::parse(id).unwrap(),
        document: Some(serde_json::from_str(document).unwrap()),
    };
    let entities = [
        device("gw", "{}"),
        device("gw2", "{}"),
        device("d1", r#"{"via": ["gw"]}"#),
        device("d2", r#"{"via": ["gw", "gw2"]}"#),
    ];
    let changes = (1..).zip(entities).map(|(version, entity)| Change { version, entity });
    let page = ChangePage { feed: "f".into(), changes: changes.collect(), cursor: 4, more: false };
    identity.apply(&page).unwrap();
    identity
}

fn present(presences: &Presences) -> Vec<String> {
    let state = presences.state();
    let mut devices: Vec<_> = state.devices.keys().map(|(_, device)| device.to_string()).collect();
    devices.sort();
    devices
}

fn presences() -> (Presences, PresenceReceiver) {
    let (sender, receiver) = presence_channel(64);
    (Presences::new(Some(sender)), receiver)
}

#[test]
fn a_device_is_present_as_long_as_its_desk_or_any_gateway_has_it() {
    let folder = tempfile::tempdir().unwrap();
    let identity = identity(&folder);
    let (presences, _receiver) = presences();
    presences.gateway(names("gw"), 0, true);
    presences.gateway(names("gw2"), 1, true);
    presences.settle(&identity, &[]);
    assert_eq!(present(&presences), ["d1", "d2"]);
    presences.desk(names("d1"), true);
    presences.gateway(names("gw"), 0, false);
    presences.settle(&identity, &[]);
    assert_eq!(present(&presences), ["d1", "d2"]);
    presences.desk(names("d1"), false);
    assert_eq!(present(&presences), ["d2"]);
    presences.gateway(names("gw2"), 1, false);
    presences.settle(&identity, &[]);
    assert!(present(&presences).is_empty());
    assert!(presences.state().gateways.is_empty());
}

#[test]
fn a_gateway_that_subscribes_twice_or_moves_to_another_shard_counts_once() {
    let folder = tempfile::tempdir().unwrap();
    let identity = identity(&folder);
    let (presences, _receiver) = presences();
    for shard in [0, 0, 1] {
        presences.gateway(names("gw"), shard, true);
        presences.settle(&identity, &[]);
    }
    presences.gateway(names("gw"), 0, false);
    presences.settle(&identity, &[]);
    assert_eq!(present(&presences), ["d1", "d2"]);
    presences.gateway(names("gw"), 1, false);
    presences.settle(&identity, &[]);
    assert!(present(&presences).is_empty());
}

#[test]
fn a_gateway_that_has_gone_before_it_was_looked_at_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let identity = identity(&folder);
    for presences in [presences().0, Presences::new(None)] {
        presences.gateway(names("gw"), 0, true);
        presences.gateway(names("gw"), 0, false);
        presences.settle(&identity, &[]);
        assert!(present(&presences).is_empty());
        let state = presences.state();
        assert!(state.gateways.is_empty() && state.unsettled.is_empty());
    }
}

#[test]
fn only_devices_of_a_present_gateway_that_have_commands_are_announced() {
    let folder = tempfile::tempdir().unwrap();
    let identity = identity(&folder);
    let command = Command {
        id: CommandId::parse("c").unwrap(),
        sequence: 1,
        subject: "blink".into(),
        response_required: false,
        content_type: None,
        payload: Vec::new(),
        created_ms: 0,
        deliver_by_ms: None,
    };
    let entity = Entity::Command {
        tenant: TenantId::parse("t").unwrap(),
        device: DeviceId::parse("d1").unwrap(),
        command: CommandId::parse("c").unwrap(),
        document: Some(command),
    };
    let changes = vec![Change { version: 5, entity }];
    let page = ChangePage { feed: "f".into(), changes, cursor: 5, more: false };
    identity.apply(&page).unwrap();
    let (presences, _receiver) = presences();
    presences.gateway(names("gw"), 0, true);
    presences.gateway(names("gw2"), 0, true);
    assert_eq!(presences.settle_one(&identity, &names("gw")), ["d1".into()]);
    assert!(presences.settle_one(&identity, &names("gw2")).is_empty());
    presences.gateway(names("gw"), 0, false);
    assert!(presences.settle_one(&identity, &names("gw")).is_empty());
}
