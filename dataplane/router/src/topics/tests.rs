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
