//! The route table and a list that is searched agree.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed step is a failed test")]

use fulcrum_mqtt::topic::{matches, validate_filter};
use fulcrum_router::{Change, LinkId, Matches, ShardIndex, Subscriber, Topics};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

#[derive(Clone, Debug)]
enum Step {
    Subscribe(usize, String, Option<&'static str>, Subscriber),
    Unsubscribe(usize, String, Option<&'static str>, LinkId),
    /// The nth subscription there is.
    UnsubscribeKnown(usize),
    Online(LinkId, bool),
}

type Key = (usize, String, Option<&'static str>, LinkId);

/// Tenant, filter, group and link of every subscription.
#[derive(Default)]
struct Model {
    subscriptions: BTreeMap<Key, Subscriber>,
    online: BTreeMap<LinkId, bool>,
}

const TENANTS: [&str; 2] = ["acme", "rival"];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn the_table_and_a_list_agree(
        steps in prop::collection::vec(step(), 1..80),
        topics in prop::collection::vec(name(false), 1..12),
        publisher in prop::option::of(link()),
    ) {
        let mut table = Topics::default();
        let mut model = Model::default();
        let mut found = Matches::default();
        for step in steps {
            let before = TENANTS.map(|tenant| table.tenant_version(tenant));
            let changed = model.take(&mut table, step);
            for (tenant, name) in TENANTS.iter().enumerate() {
                let same = table.tenant_version(name) == before[tenant];
                prop_assert_eq!(same, changed != Some(tenant));
            }
        }
        prop_assert_eq!(table.subscriptions(), model.subscriptions.len());
        for (tenant, name) in TENANTS.iter().enumerate() {
            for topic in &topics {
                table.matches(name, topic, publisher, &mut found);
                model.check_targets(tenant, topic, publisher, &found);
                model.check_groups(tenant, topic, &mut table, &found);
            }
        }
        for (tenant, filter, group, link) in model.subscriptions.keys() {
            prop_assert!(table.unsubscribe(TENANTS[*tenant], filter, *group, *link));
        }
        prop_assert_eq!(table.subscriptions(), 0);
        prop_assert_eq!(table.tenant_version("acme"), 0);
    }

    #[test]
    fn a_match_that_was_kept_is_good_exactly_while_its_tenant_is_unchanged(
        before in prop::collection::vec(step(), 0..30),
        after in prop::collection::vec(step(), 0..4),
        topic in name(false),
    ) {
        let mut table = Topics::default();
        let mut model = Model::default();
        for step in before {
            model.take(&mut table, step);
        }
        let mut kept = Matches::default();
        table.matches(TENANTS[0], &topic, None, &mut kept);
        let mut changed = false;
        for step in after {
            changed |= model.take(&mut table, step) == Some(0);
        }
        let current = table.is_current(TENANTS[0], &mut kept);
        // The last subscription's end and no subscription are the same, whatever was in between.
        prop_assert!(current != changed || table.tenant_subscriptions(TENANTS[0]) == 0);
        if current {
            model.check_targets(0, &topic, None, &kept);
            model.check_groups(0, &topic, &mut table, &kept);
        }
    }
}

impl Model {
    /// Does a step in both; the tenant whose subscriptions changed.
    fn take(&mut self, table: &mut Topics, step: Step) -> Option<usize> {
        match step {
            Step::Subscribe(tenant, filter, group, subscriber) => {
                let change = table.subscribe(TENANTS[tenant], &filter, group, subscriber);
                let key = (tenant, filter, group, subscriber.link);
                let replaced = self.subscriptions.insert(key, subscriber).is_some();
                let expected = if replaced { Change::Replaced } else { Change::New };
                assert_eq!(change, Ok(expected));
                if group.is_some() {
                    self.online.insert(subscriber.link, subscriber.online);
                }
                Some(tenant)
            }
            Step::Unsubscribe(tenant, filter, group, link) => {
                self.unsubscribe(table, (tenant, filter, group, link))
            }
            Step::UnsubscribeKnown(nth) => {
                let count = self.subscriptions.len().max(1);
                let key = self.subscriptions.keys().nth(nth % count)?.clone();
                self.unsubscribe(table, key)
            }
            Step::Online(link, online) => {
                table.set_online(link, online);
                self.online.insert(link, online);
                None
            }
        }
    }

    fn unsubscribe(&mut self, table: &mut Topics, key: Key) -> Option<usize> {
        let there = self.subscriptions.remove(&key).is_some();
        assert_eq!(table.unsubscribe(TENANTS[key.0], &key.1, key.2, key.3), there);
        there.then_some(key.0)
    }

    fn matching(&self, tenant: usize, topic: &str) -> impl Iterator<Item = (&Key, &Subscriber)> {
        let all = self.subscriptions.iter();
        all.filter(move |(key, _)| key.0 == tenant && matches(&key.1, topic))
    }

    fn check_targets(
        &self,
        tenant: usize,
        topic: &str,
        publisher: Option<LinkId>,
        found: &Matches,
    ) {
        let mut expected: BTreeMap<LinkId, (u8, bool, Vec<u32>)> = BTreeMap::new();
        for (key, subscriber) in self.matching(tenant, topic) {
            let own = subscriber.no_local && publisher == Some(subscriber.link);
            if key.2.is_some() || own {
                continue;
            }
            let target = expected.entry(subscriber.link).or_default();
            target.0 = target.0.max(subscriber.qos);
            target.1 |= subscriber.retain_as_published;
            target.2.extend(Some(subscriber.subscription_id).filter(|id| *id != 0));
            target.2.sort_unstable();
        }
        let mut targets = BTreeMap::new();
        for target in &found.targets {
            let ids = found.ids(target).to_vec();
            let value = (target.qos, target.retain_as_published, ids);
            assert_eq!(targets.insert(target.link, value), None, "each link once");
        }
        assert_eq!(targets, expected, "{topic}");
    }

    /// Every group that matches is there, and its members take turns.
    fn check_groups(&self, tenant: usize, topic: &str, table: &mut Topics, found: &Matches) {
        let mut groups: BTreeMap<_, BTreeMap<LinkId, &Subscriber>> = BTreeMap::new();
        for (key, subscriber) in self.matching(tenant, topic) {
            if let Some(group) = key.2 {
                groups.entry((group, &key.1)).or_default().insert(key.3, subscriber);
            }
        }
        let mut expected: Vec<_> = groups.values().map(|members| self.round(members)).collect();
        let mut picked: Vec<_> = Vec::new();
        for group in &found.groups {
            let first = table.pick(*group).unwrap();
            let mut round = BTreeSet::from([taken(&first)]);
            loop {
                let next = table.pick(*group).unwrap();
                if next.link == first.link {
                    break;
                }
                assert!(round.insert(taken(&next)), "nobody twice before all had their turn");
            }
            picked.push(round);
        }
        expected.sort();
        picked.sort();
        assert_eq!(picked, expected, "{topic}");
    }

    /// The members that take turns: those that are connected, or all.
    fn round(&self, members: &BTreeMap<LinkId, &Subscriber>) -> BTreeSet<(LinkId, u8, u32, bool)> {
        let is_online = |link: &LinkId| self.online.get(link).copied().unwrap_or_default();
        let any = members.keys().any(is_online);
        let takes_part = members.iter().filter(|(link, _)| !any || is_online(link));
        takes_part.map(|(_, member)| taken(&Subscriber { online: any, ..**member })).collect()
    }
}

fn taken(member: &Subscriber) -> (LinkId, u8, u32, bool) {
    (member.link, member.qos, member.subscription_id, member.online)
}

fn step() -> impl Strategy<Value = Step> {
    let group = || prop::option::of(prop::sample::select(vec!["g", "h"]));
    let tenant = || 0..TENANTS.len();
    prop_oneof![
        4 => (tenant(), name(true), group(), subscriber()).prop_map(
            |(tenant, filter, group, subscriber)| Step::Subscribe(tenant, filter, group, subscriber)
        ),
        1 => (tenant(), name(true), group(), link())
            .prop_map(|(tenant, filter, group, link)| Step::Unsubscribe(tenant, filter, group, link)),
        2 => any::<usize>().prop_map(Step::UnsubscribeKnown),
        1 => (link(), any::<bool>()).prop_map(|(link, online)| Step::Online(link, online)),
    ]
}

fn subscriber() -> impl Strategy<Value = Subscriber> {
    (link(), 0..3_u8, any::<[bool; 3]>(), 0..4_u32).prop_map(|(link, qos, flags, id)| {
        let [no_local, retain_as_published, online] = flags;
        Subscriber { link, qos, no_local, retain_as_published, subscription_id: id, online }
    })
}

fn link() -> impl Strategy<Value = LinkId> {
    (0..2_u16, 0..3_u64).prop_map(|(shard, key)| LinkId { shard: ShardIndex(shard), key })
}

/// A short topic or filter over few names, so that most of them meet.
fn name(filter: bool) -> impl Strategy<Value = String> {
    let levels = if filter { vec!["a", "b", "", "$s", "+", "+"] } else { vec!["a", "b", "", "$s"] };
    let level = prop::sample::select(levels);
    (prop::collection::vec(level, 0..5), any::<bool>()).prop_filter_map(
        "topics and filters have a character",
        move |(mut levels, rest)| {
            if filter && rest {
                levels.push("#");
            }
            let name = levels.join("/");
            validate_filter(&name).is_ok().then_some(name)
        },
    )
}
