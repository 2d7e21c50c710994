//! Commands that wait for their device.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail by panicking")]

mod world;

use fulcrum_identity::limits::{DONE_MARKERS_MAX, EXPIRE_BATCH_MAX};
use world::*;

fn pending(world: &World, limit: usize) -> Vec<String> {
    let commands =
        world.identity.pending_commands_at(&tenant_id("t"), &device_id("d"), limit, NOW_MS);
    commands.unwrap().iter().map(|command| command.id.to_string()).collect()
}

fn done(world: &World, id: &str) {
    world.identity.command_done(&tenant_id("t"), &device_id("d"), &command_id(id)).unwrap();
}

fn expired(world: &World, now_ms: u64) -> Vec<String> {
    let commands = world.identity.expire_commands(now_ms).unwrap();
    commands.iter().map(|(_, _, command)| command.id.to_string()).collect()
}

#[test]
fn commands_wait_in_the_order_of_their_sequence() {
    let mut world = World::ready();
    world.apply(vec![
        command("t", "d", "a", waiting("a", 300)),
        command("t", "d", "b", waiting("b", 2)),
        command("t", "d", "c", waiting("c", 70_000)),
        command("t", "d2", "x", waiting("x", 1)),
        command("t2", "d", "y", waiting("y", 1)),
    ]);
    let world = world.reopen();
    assert_eq!(pending(&world, 10), ["b", "a", "c"]);
    assert_eq!(pending(&world, 2), ["b", "a"]);
    assert_eq!(pending(&world, 0), [""; 0]);
}

#[test]
fn a_cancelled_command_is_gone() {
    let mut world = World::ready();
    world.apply(vec![command("t", "d", "a", expiring("a", 1, NOW_MS + 1))]);
    world.apply(vec![command("t", "d", "a", None), command("t", "d", "unknown", None)]);
    assert_eq!(pending(&world, 10), [""; 0]);
    assert_eq!(expired(&world, u64::MAX), [""; 0]);
}

#[test]
fn a_changed_command_replaces_the_old_one() {
    let mut world = World::ready();
    world.apply(vec![
        command("t", "d", "a", expiring("a", 1, NOW_MS - 1)),
        command("t", "d", "b", waiting("b", 2)),
    ]);
    world.apply(vec![command("t", "d", "a", expiring("a", 3, NOW_MS + 10))]);
    assert_eq!(pending(&world, 10), ["b", "a"]);
    assert_eq!(expired(&world, NOW_MS), [""; 0], "its old deadline is gone");
    assert_eq!(world.identity.counts().unwrap().commands, 2);
}

#[test]
fn a_done_command_is_not_delivered_again_by_any_replay() {
    let mut world = World::ready();
    let page = world.page(vec![command("t", "d", "a", waiting("a", 1))]);
    world.identity.apply(&page).unwrap();
    done(&world, "a");
    assert_eq!(pending(&world, 10), [""; 0]);

    let applied = world.identity.apply(&page).unwrap();
    assert!(applied.commands.is_empty(), "the same page");
    let mut world = world.reopen();
    world.feed = "feed-2".into();
    let applied = world.apply(vec![
        command("t", "d", "a", waiting("a", 1)),
        command("t", "d", "b", waiting("b", 2)),
    ]);
    assert!(applied.all);
    assert_eq!(pending(&world, 10), ["b"], "a snapshot of another feed");
}

#[test]
fn a_command_done_after_its_cancellation_is_marked_all_the_same() {
    let mut world = World::ready();
    world.apply(vec![command("t", "d", "a", waiting("a", 1))]);
    world.apply(vec![command("t", "d", "a", None)]);
    done(&world, "a");
    world.apply(vec![command("t", "d", "a", waiting("a", 1))]);
    assert_eq!(pending(&world, 10), [""; 0]);
}

#[test]
fn done_in_one_tenant_says_nothing_about_another() {
    let mut world = World::ready();
    done(&world, "a");
    world.apply(vec![
        command("t", "d2", "a", waiting("a", 1)),
        command("t2", "d", "a", waiting("a", 1)),
    ]);
    assert_eq!(world.identity.counts().unwrap().commands, 2);
}

#[test]
fn markers_of_done_commands_are_bounded_and_the_newest_stay() {
    let mut world = World::ready();
    done(&world, "first");
    let mut batch: Vec<_> = (0..DONE_MARKERS_MAX)
        .map(|number| (tenant_id("t"), device_id("d"), command_id(&format!("c{number}"))))
        .collect();
    batch.push(batch[0].clone());
    world.identity.commands_done(&batch).unwrap();
    world.apply(vec![
        command("t", "d", "first", waiting("first", 1)),
        command("t", "d", "c0", waiting("c0", 2)),
        command("t", "d", "c1", waiting("c1", 3)),
        command("t", "d", "c2", waiting("c2", 4)),
    ]);
    // `c0` was done twice, the second time last.
    assert_eq!(pending(&world, 10), ["first"]);
    done(&world, "one-more");
    world.apply(vec![command("t", "d", "c1", waiting("c1", 3))]);
    assert_eq!(pending(&world, 10), ["first", "c1"]);
}

#[test]
fn an_expired_command_is_not_delivered_and_is_handed_out_once() {
    let mut world = World::ready();
    world.apply(vec![
        command("t", "d", "a", expiring("a", 1, NOW_MS - 1)),
        command("t", "d", "b", expiring("b", 2, NOW_MS)),
        command("t", "d", "c", waiting("c", 3)),
    ]);
    assert_eq!(pending(&world, 10), ["b", "c"], "until its time is over, not at it");
    assert_eq!(expired(&world, NOW_MS), ["a"]);
    assert_eq!(expired(&world, NOW_MS), [""; 0]);
    assert_eq!(expired(&world, NOW_MS + 1), ["b"]);
    done(&world, "a");
    done(&world, "b");
    assert_eq!(world.identity.counts().unwrap().commands, 1);
}

#[test]
fn an_expiry_survives_a_crash_before_it_was_reported() {
    let mut world = World::ready();
    world.apply(vec![
        command("t", "d", "a", expiring("a", 1, NOW_MS - 1)),
        command("t", "d", "b", expiring("b", 2, NOW_MS - 1)),
    ]);
    assert_eq!(expired(&world, NOW_MS), ["a", "b"]);
    done(&world, "a");
    let world = world.reopen();
    assert_eq!(expired(&world, NOW_MS), ["b"]);
}

#[test]
fn expiry_comes_in_bounded_batches_without_losing_any() {
    let mut world = World::ready();
    let number = EXPIRE_BATCH_MAX + 5;
    let commands = (0..number).map(|index| {
        let id = format!("c{index}");
        command("t", "d", &id, expiring(&id, index as u64, NOW_MS - 1))
    });
    world.apply(commands.collect());
    assert_eq!(expired(&world, NOW_MS).len(), EXPIRE_BATCH_MAX);
    assert_eq!(expired(&world, NOW_MS).len(), 5);
    assert_eq!(expired(&world, NOW_MS).len(), 0);
}

#[test]
fn the_systems_clock_decides_where_no_time_is_given() {
    let mut world = World::ready();
    world.apply(vec![
        command("t", "d", "past", expiring("past", 1, 1)),
        command("t", "d", "future", expiring("future", 2, u64::MAX)),
    ]);
    let commands = world.identity.pending_commands(&tenant_id("t"), &device_id("d"), 10).unwrap();
    assert_eq!(commands.len(), 1);
    assert_eq!(commands[0].id.as_str(), "future");
    assert_eq!(commands[0].payload, [1, 2, 3]);
}
