use super::*;
use crate::ShardIndex;

fn link(key: u64) -> LinkId {
    LinkId { shard: ShardIndex(0), key }
}

fn subscriber(key: u64, qos: u8) -> Subscriber {
    Subscriber {
        link: link(key),
        qos,
        no_local: false,
        retain_as_published: false,
        subscription_id: 0,
        online: true,
    }
}

fn found(topics: &Topics, tenant: &str, topic: &str) -> Vec<(u64, u8)> {
    let mut matches = Matches::default();
    topics.matches(tenant, topic, None, &mut matches);
    let mut targets: Vec<_> = matches.targets.iter().map(|m| (m.link.key, m.qos)).collect();
    targets.sort_unstable();
    targets
}

#[test]
fn filters_match_as_the_specification_says() {
    let mut topics = Topics::default();
    let filters =
        ["sport/d1", "sport/+", "sport/#", "#", "+", "+/d1", "/#", "+/+", "/+", "$SYS/#", "$SYS/+"];
    for (key, filter) in filters.iter().enumerate() {
        topics.subscribe("acme", filter, None, subscriber(key as u64, 0)).unwrap();
    }
    let keys = |topic| found(&topics, "acme", topic).into_iter().map(|(key, _)| key);
    assert!(keys("sport/d1").eq([0, 1, 2, 3, 5, 7]));
    assert!(keys("sport").eq([2, 3, 4]));
    assert!(keys("sport/").eq([1, 2, 3, 7]));
    assert!(keys("sport/d1/x").eq([2, 3]));
    assert!(keys("/finance").eq([3, 6, 7, 8]));
    assert!(keys("$SYS/d1").eq([9, 10]));
    assert!(keys("$SYS").eq([9]));
}

#[test]
fn the_last_subscription_leaves_nothing_behind() {
    let mut topics = Topics::default();
    topics.subscribe("acme", "a/+/c", Some("g"), subscriber(1, 0)).unwrap();
    topics.subscribe("acme", "a/+/d/#", None, subscriber(1, 0)).unwrap();
    assert_eq!(topics.tenants["acme"].filters.nodes(), 4);
    topics.groups.assert_consistent();
    assert!(topics.unsubscribe("acme", "a/+/d/#", None, link(1)));
    assert_eq!(topics.tenants["acme"].filters.nodes(), 3);
    assert!(!topics.unsubscribe("acme", "a/+/c", None, link(1)));
    assert!(topics.unsubscribe("acme", "a/+/c", Some("g"), link(1)));
    assert!(topics.groups.is_empty());
    assert!(topics.tenants.is_empty());
    assert_eq!(topics.subscriptions(), 0);
}

#[test]
fn no_filters_make_a_match_visit_more_than_the_limit() {
    let mut topics = Topics::default();
    let mut refused = 0;
    for key in 0..100_000_u64 {
        let levels = (0..17).map(|level| if key >> level & 1 == 1 { "+" } else { "a" });
        let filter = levels.chain(["z"]).collect::<Vec<_>>().join("/");
        match topics.subscribe("acme", &filter, None, subscriber(key, 0)) {
            Ok(change) => assert_eq!(change, Change::New),
            Err(error) => {
                assert_eq!(error, RouteRefused::WildcardShapes);
                refused += 1;
            }
        }
    }
    assert!(refused > 90_000);
    let mut found = Matches::default();
    topics.matches("acme", &["a"; 18].join("/"), None, &mut found);
    assert!(found.is_empty());
    assert!(found.walk.visited > 1_000);
    assert!(found.walk.visited <= crate::WILDCARD_SHAPES_PER_TENANT_MAX);
}

#[test]
fn a_hundred_thousand_filters_cost_a_match_no_more_than_their_few_shapes() {
    let mut topics = Topics::default();
    for key in 0..100_000_u64 {
        let filter = format!("site/{key}/+/state");
        topics.subscribe("acme", &filter, None, subscriber(key, 0)).unwrap();
    }
    let mut found = Matches::default();
    topics.matches("acme", "site/77777/door/state", None, &mut found);
    assert_eq!(found.targets.len(), 1);
    assert_eq!(found.walk.visited, 4);
}

#[test]
fn a_topic_of_slashes_alone_is_read_only_as_far_as_filters_go() {
    let mut topics = Topics::default();
    let deepest = vec!["+"; MESSAGING_FILTER_LEVELS_MAX].join("/");
    topics.subscribe("acme", &deepest, None, subscriber(1, 0)).unwrap();
    topics.subscribe("acme", "/#", None, subscriber(2, 0)).unwrap();
    let mut found = Matches::default();
    topics.matches("acme", &"/".repeat(MESSAGING_FILTER_BYTES_MAX), None, &mut found);
    assert_eq!(found.targets.len(), 1);
    assert!(found.walk.visited <= MESSAGING_FILTER_LEVELS_MAX + 2);
}

#[test]
fn what_is_too_deep_or_too_long_is_refused_and_leaves_nothing() {
    let mut topics = Topics::default();
    let too_long = Err(RouteRefused::MessagingFilterTooLong);
    let slashes = "/".repeat(MESSAGING_FILTER_BYTES_MAX);
    let long = "a".repeat(MESSAGING_FILTER_BYTES_MAX + 1);
    let deep = vec!["+"; MESSAGING_FILTER_LEVELS_MAX + 1].join("/");
    for filter in [&slashes, &long, &deep] {
        assert_eq!(topics.subscribe("acme", filter, None, subscriber(1, 0)), too_long);
        assert!(!topics.unsubscribe("acme", filter, None, link(1)));
    }
    assert_eq!(topics.subscribe("acme", "a", Some(&long), subscriber(1, 0)), too_long);
    assert!(topics.tenants.is_empty());
    assert_eq!(topics.version(), 0);
}

#[test]
fn a_filter_has_a_limited_number_of_groups_but_members_may_still_join() {
    let mut topics = Topics::default();
    for group in 0..GROUPS_PER_FILTER_MAX {
        topics.subscribe("acme", "a", Some(&group.to_string()), subscriber(1, 0)).unwrap();
    }
    let refused = topics.subscribe("acme", "a", Some("more"), subscriber(1, 0));
    assert_eq!(refused, Err(RouteRefused::Groups));
    assert_eq!(topics.subscribe("acme", "a", Some("0"), subscriber(2, 0)), Ok(Change::New));
    assert_eq!(topics.subscribe("acme", "b", Some("more"), subscriber(1, 0)), Ok(Change::New));
    topics.groups.assert_consistent();
}

#[test]
fn a_full_tenant_may_change_what_it_has_and_no_other_tenant_is_touched() {
    let mut topics = Topics::default();
    topics.subscribe("acme", "a", None, subscriber(1, 0)).unwrap();
    topics.subscribe("acme", "a", Some("g"), subscriber(1, 0)).unwrap();
    topics.tenants.get_mut("acme").unwrap().subscriptions = MESSAGING_SUBSCRIPTIONS_PER_TENANT_MAX;
    for group in [None, Some("g"), Some("h")] {
        let more = topics.subscribe("acme", "a", group, subscriber(2, 0));
        assert_eq!(more, Err(RouteRefused::MessagingFull));
    }
    assert_eq!(topics.subscribe("acme", "a", None, subscriber(1, 2)), Ok(Change::Replaced));
    assert_eq!(topics.subscribe("acme", "a", Some("g"), subscriber(1, 2)), Ok(Change::Replaced));
    assert_eq!(topics.subscribe("rival", "a", None, subscriber(1, 0)), Ok(Change::New));
}

#[test]
fn members_that_are_connected_take_turns_and_the_others_only_when_none_is() {
    let mut topics = Topics::default();
    for key in 0..3 {
        topics.subscribe("acme", "jobs/#", Some("g"), subscriber(key, 1)).unwrap();
    }
    let mut found = Matches::default();
    topics.matches("acme", "jobs/1", None, &mut found);
    let group = found.groups[0];
    let turns = |topics: &mut Topics| {
        let mut turns: Vec<_> = (0..6).map(|_| topics.pick(group).unwrap()).collect();
        turns.sort_by_key(|member| member.link);
        turns.iter().map(|member| (member.link.key, member.online)).collect::<Vec<_>>()
    };
    let (on, off) = (true, false);
    assert_eq!(turns(&mut topics), [(0, on), (0, on), (1, on), (1, on), (2, on), (2, on)]);
    topics.set_online(link(0), false);
    topics.set_online(link(2), false);
    assert_eq!(turns(&mut topics), [(1, on); 6]);
    topics.set_online(link(1), false);
    assert_eq!(turns(&mut topics), [(0, off), (0, off), (1, off), (1, off), (2, off), (2, off)]);
    topics.set_online(link(2), true);
    assert_eq!(turns(&mut topics), [(2, on); 6]);
    assert!(topics.is_current("acme", &mut found), "comings and goings change no match");
    topics.groups.assert_consistent();
}

#[test]
fn a_group_that_is_gone_finds_nobody_even_when_another_has_its_place() {
    let mut topics = Topics::default();
    topics.subscribe("acme", "a", Some("g"), subscriber(1, 0)).unwrap();
    let mut found = Matches::default();
    topics.matches("acme", "a", None, &mut found);
    topics.unsubscribe("acme", "a", Some("g"), link(1));
    topics.subscribe("rival", "a", Some("g"), subscriber(2, 0)).unwrap();
    assert_eq!(topics.pick(found.groups[0]), None);
    assert!(!topics.is_current("acme", &mut found));
}

#[test]
fn one_filter_of_many_subscribers_keeps_each_of_them_once() {
    let mut topics = Topics::default();
    for round in [Change::New, Change::Replaced] {
        for key in 0..1_000 {
            let qos = u8::from(round == Change::Replaced);
            assert_eq!(topics.subscribe("acme", "a", None, subscriber(key, qos)), Ok(round));
        }
    }
    for key in (0..1_000).filter(|key| key % 50 != 0) {
        assert!(topics.unsubscribe("acme", "a", None, link(key)));
        assert!(!topics.unsubscribe("acme", "a", None, link(key)));
    }
    let expected: Vec<_> = (0..1_000).step_by(50).map(|key| (key, 1)).collect();
    assert_eq!(found(&topics, "acme", "a"), expected);
}
