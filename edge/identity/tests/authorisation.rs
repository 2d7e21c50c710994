//! For whom a gateway may act.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail by panicking")]

mod world;

use fulcrum_contract::registry::{Adapter as AdapterSetting, Device, Tenant};
use fulcrum_identity::{Adapter, Peer, Refusal};
use world::*;

/// Gateways `gw` (in `via` of `d1`) and `member` (of group `g`, which may act for `d2`), and `other`.
fn world_with_gateways() -> World {
    let mut world = World::ready();
    let via = Device { via: vec![device_id("gw")], ..Device::default() };
    let via_group = Device { via_groups: vec!["g".into()], ..Device::default() };
    let member = Device { member_of: vec!["h".into(), "g".into()], ..Device::default() };
    world.apply(vec![
        device("t", "gw", Some(Device::default())),
        device("t", "member", Some(member)),
        device("t", "other", Some(Device::default())),
        device("t", "d1", Some(via)),
        device("t", "d2", Some(via_group)),
    ]);
    world
}

fn authorise(world: &World, principal: &str, target: &str) -> Result<(), Refusal> {
    let (principal, target) = (device_id(principal), device_id(target));
    world.identity.authorise(&tenant_id("t"), &principal, &target, Adapter::Mqtt)
}

#[test]
fn a_gateway_acts_for_devices_that_name_it_or_its_group() {
    let world = world_with_gateways();
    assert_eq!(authorise(&world, "gw", "d1"), Ok(()));
    assert_eq!(authorise(&world, "member", "d2"), Ok(()));
    assert_eq!(authorise(&world, "d1", "d1"), Ok(()), "each device for itself");
}

#[test]
fn a_gateway_acts_for_nobody_else() {
    let world = world_with_gateways();
    for (principal, target) in
        [("gw", "d2"), ("member", "d1"), ("other", "d1"), ("d1", "gw"), ("nobody", "d1")]
    {
        let answer = authorise(&world, principal, target);
        assert_eq!(answer, Err(Refusal::GatewayNotAuthorised), "{principal} for {target}");
    }
    assert_eq!(authorise(&world, "gw", "nothing"), Err(Refusal::DeviceUnknown));
}

#[test]
fn a_disabled_gateway_or_device_stops_it() {
    let mut world = world_with_gateways();
    let target = Device { via: vec![device_id("gw")], enabled: false, ..Device::default() };
    world.apply(vec![device("t", "d1", Some(target.clone()))]);
    assert_eq!(authorise(&world, "gw", "d1"), Err(Refusal::DeviceDisabled));
    assert_eq!(authorise(&world, "other", "d1"), Err(Refusal::GatewayNotAuthorised));
    assert_eq!(authorise(&world, "d1", "d1"), Err(Refusal::DeviceDisabled));
    world.apply(vec![
        device("t", "d1", Some(Device { enabled: true, ..target })),
        device("t", "gw", Some(Device { enabled: false, ..Device::default() })),
    ]);
    assert_eq!(authorise(&world, "gw", "d1"), Err(Refusal::GatewayNotAuthorised));
}

#[test]
fn the_tenant_and_adapter_come_first() {
    let mut world = world_with_gateways();
    let only_http = AdapterSetting {
        adapter_type: Adapter::Http.type_name().into(),
        enabled: true,
        device_authentication_required: true,
        ext: Default::default(),
    };
    world.apply(vec![tenant(
        "t",
        Some(Tenant { adapters: Some(vec![only_http]), ..Tenant::default() }),
    )]);
    assert_eq!(authorise(&world, "gw", "d1"), Err(Refusal::AdapterDisabled));
    world.apply(vec![tenant("t", Some(Tenant { enabled: false, ..Tenant::default() }))]);
    assert_eq!(authorise(&world, "gw", "d1"), Err(Refusal::TenantDisabled));
    world.apply(vec![tenant("t", None)]);
    assert_eq!(authorise(&world, "gw", "d1"), Err(Refusal::TenantUnknown));
}

#[test]
fn a_gateway_of_one_tenant_is_nobody_in_another() {
    let mut world = world_with_gateways();
    let via = Device { via: vec![device_id("gw")], ..Device::default() };
    world.apply(vec![tenant("u", Some(Tenant::default())), device("u", "d1", Some(via))]);
    let answer = world.identity.authorise(
        &tenant_id("u"),
        &device_id("gw"),
        &device_id("d1"),
        Adapter::Http,
    );
    assert_eq!(answer, Err(Refusal::GatewayNotAuthorised));
}

#[test]
fn a_principal_knows_whether_it_is_a_gateway_for_any_device() {
    let mut world = world_with_gateways();
    let is_gateway = |world: &World, device: &str| {
        world.identity.device_state(&tenant_id("t"), &device_id(device)).unwrap().is_gateway
    };
    assert!(is_gateway(&world, "gw"));
    assert!(is_gateway(&world, "member"));
    assert!(!is_gateway(&world, "other"));
    assert!(!is_gateway(&world, "d1"));
    world.apply(vec![device("t", "d1", Some(Device::default()))]);
    assert!(!is_gateway(&world, "gw"), "the last device has gone elsewhere");

    world.apply(vec![credentials("t", "member", Some(vec![password("m", sha_secret())]))]);
    let peer = world.login("m@t", "hono-secret").unwrap().peer;
    assert!(matches!(peer, Peer::Device { is_gateway: true, .. }), "{peer:?}");
}

#[test]
fn the_state_of_a_connected_device_says_whether_it_may_stay() {
    let mut world = World::ready();
    let check = |world: &World| {
        let state = world.identity.device_state(&tenant_id("t"), &device_id("d")).unwrap();
        state.check(Adapter::Mqtt)
    };
    assert_eq!(check(&world), Ok(()));
    world.apply(vec![device("t", "d", Some(Device { enabled: false, ..Device::default() }))]);
    assert_eq!(check(&world), Err(Refusal::DeviceDisabled));
    world.apply(vec![device("t", "d", None)]);
    assert_eq!(check(&world), Err(Refusal::DeviceUnknown));
    world.apply(vec![tenant("t", Some(Tenant { enabled: false, ..Tenant::default() }))]);
    assert_eq!(check(&world), Err(Refusal::TenantDisabled));
    world.apply(vec![tenant("t", None)]);
    assert_eq!(check(&world), Err(Refusal::TenantUnknown));
}

#[test]
fn a_group_counts_for_each_of_its_members_while_they_are_in_it() {
    let mut world = world_with_gateways();
    let member = |groups: &[&str], enabled| {
        let member_of = groups.iter().map(|&group| group.to_owned()).collect();
        Some(Device { member_of, enabled, ..Device::default() })
    };
    world.apply(vec![device("t", "second", member(&["g"], true))]);
    assert_eq!(authorise(&world, "member", "d2"), Ok(()));
    assert_eq!(authorise(&world, "second", "d2"), Ok(()));
    // Leaving the group, being disabled, and the device's leaving take effect at once.
    world.apply(vec![device("t", "second", member(&["h"], true))]);
    assert_eq!(authorise(&world, "second", "d2"), Err(Refusal::GatewayNotAuthorised));
    world.apply(vec![device("t", "member", member(&["g"], false))]);
    assert_eq!(authorise(&world, "member", "d2"), Err(Refusal::GatewayNotAuthorised));
    let either =
        Device { via: vec![device_id("gw")], via_groups: vec!["h".into()], ..Device::default() };
    world.apply(vec![device("t", "d2", Some(either))]);
    assert_eq!(authorise(&world, "gw", "d2"), Ok(()), "via beside a group");
    assert_eq!(authorise(&world, "second", "d2"), Ok(()), "another group");
    // A member of the same group is a gateway, and nobody's device.
    assert_eq!(authorise(&world, "second", "member"), Err(Refusal::GatewayNotAuthorised));
}

#[test]
fn the_gateways_of_a_device_are_those_that_may_act_for_it() {
    let mut world = world_with_gateways();
    let gateways = |world: &World, device: &str| {
        let gateways = world.identity.gateways_of(&tenant_id("t"), &device_id(device)).unwrap();
        for gateway in &gateways {
            assert_eq!(authorise(world, gateway.as_str(), device), Ok(()));
        }
        gateways.into_iter().map(String::from).collect::<Vec<_>>()
    };
    assert_eq!(gateways(&world, "d1"), ["gw"]);
    assert_eq!(gateways(&world, "d2"), ["member"]);
    assert!(gateways(&world, "gw").is_empty() && gateways(&world, "unknown").is_empty());
    let both = Device {
        via: vec![device_id("gw"), device_id("unregistered")],
        via_groups: vec!["g".into(), "h".into(), "none".into()],
        ..Device::default()
    };
    world.apply(vec![device("t", "d1", Some(both.clone()))]);
    assert_eq!(gateways(&world, "d1"), ["gw", "member"]);
    world.apply(vec![device("t", "gw", Some(Device { enabled: false, ..Device::default() }))]);
    assert_eq!(gateways(&world, "d1"), ["member"]);
    world.apply(vec![device("t", "member", None)]);
    assert!(gateways(&world, "d1").is_empty());
    world.apply(vec![device("t", "d2", Some(Device { enabled: false, ..both }))]);
    assert!(gateways(&world, "d2").is_empty());
}

#[test]
fn a_device_with_very_many_gateways_names_a_bounded_number() {
    let mut world = World::ready();
    let member = Device { member_of: vec!["g".into()], ..Device::default() };
    let many = (0..300).map(|number| device("t", &format!("gw-{number}"), Some(member.clone())));
    world.apply(many.collect());
    let grouped = Device { via_groups: vec!["g".into()], ..Device::default() };
    world.apply(vec![device("t", "d", Some(grouped))]);
    let gateways = world.identity.gateways_of(&tenant_id("t"), &device_id("d")).unwrap();
    assert_eq!(gateways.len(), fulcrum_identity::limits::GATEWAYS_OF_DEVICE_MAX);
}

/// The devices behind a gateway, those with commands marked by `!`.
fn behind(world: &World, gateway: &str) -> Vec<String> {
    let found = world.identity.devices_behind(&tenant_id("t"), &device_id(gateway)).unwrap();
    assert!(!found.is_cut);
    let marked = |(device, has_commands): (_, bool)| {
        format!("{device}{}", ["", "!"][usize::from(has_commands)])
    };
    found.devices.into_iter().map(marked).collect()
}

#[test]
fn the_devices_behind_a_gateway_are_those_it_may_act_for() {
    let mut world = world_with_gateways();
    assert_eq!(behind(&world, "gw"), ["d1"]);
    assert_eq!(behind(&world, "member"), ["d2"]);
    assert!(behind(&world, "other").is_empty() && behind(&world, "unregistered").is_empty());
    let both = Device {
        via: vec![device_id("gw"), device_id("member")],
        via_groups: vec!["g".into(), "h".into()],
        ..Device::default()
    };
    world.apply(vec![
        device("t", "d3", Some(both.clone())),
        device("t", "d4", Some(Device { enabled: false, ..both.clone() })),
        tenant("u", Some(Tenant::default())),
        device("u", "d5", Some(both.clone())),
    ]);
    assert_eq!(behind(&world, "gw"), ["d1", "d3"]);
    assert_eq!(behind(&world, "member"), ["d2", "d3"], "each once, whatever names it");
    for gateway in ["gw", "member"] {
        for target in behind(&world, gateway) {
            assert_eq!(authorise(&world, gateway, &target), Ok(()));
        }
    }
    // What they name no more counts no more, at once.
    world.apply(vec![
        device("t", "d2", Some(Device::default())),
        device("t", "d3", Some(Device { via: Vec::new(), via_groups: vec!["h".into()], ..both })),
    ]);
    assert_eq!(behind(&world, "gw"), ["d1"]);
    assert_eq!(behind(&world, "member"), ["d3"]);
    world.apply(vec![device("t", "d3", None), device("t", "d1", None)]);
    assert!(behind(&world, "gw").is_empty() && behind(&world, "member").is_empty());
}

#[test]
fn a_gateway_that_is_disabled_has_no_devices_behind_it() {
    let mut world = world_with_gateways();
    world.apply(vec![device("t", "gw", Some(Device { enabled: false, ..Device::default() }))]);
    assert!(behind(&world, "gw").is_empty());
}

#[test]
fn a_gateway_learns_which_of_its_devices_have_commands_in_the_store() {
    let mut world = world_with_gateways();
    world.apply(vec![
        command("t", "d1", "c", waiting("c", 1)),
        command("u", "d2", "c", waiting("c", 1)),
        command("t", "d20", "c", waiting("c", 1)),
    ]);
    assert_eq!(behind(&world, "gw"), ["d1!"]);
    assert_eq!(behind(&world, "member"), ["d2"], "those of others do not count");
    world.identity.command_done(&tenant_id("t"), &device_id("d1"), &command_id("c")).unwrap();
    assert_eq!(behind(&world, "gw"), ["d1"]);
}

#[test]
fn of_very_many_devices_behind_a_gateway_a_bounded_number_is_looked_at() {
    let max = fulcrum_identity::limits::DEVICES_OF_GATEWAY_MAX;
    let mut world = world_with_gateways();
    let via = Device { via: vec![device_id("member")], ..Device::default() };
    let many = (0..max).map(|number| device("t", &format!("many-{number}"), Some(via.clone())));
    world.apply(many.collect());
    let found = world.identity.devices_behind(&tenant_id("t"), &device_id("member")).unwrap();
    assert_eq!(found.devices.len(), max);
    assert!(found.is_cut, "d2 is one more");
}
