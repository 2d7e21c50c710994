//! The route table: per tenant a trie of topic filters (MQTT 3.1.1 section 4.7), at its nodes the subscribed links.
//!
//! Filters and topics are relative to the tenant, so one tenant's filter cannot name another tenant's topic.

use crate::LinkId;
use crate::limits::{
    FILTER_BYTES_MAX, FILTER_LEVELS_MAX, GROUPS_PER_FILTER_MAX,
    MESSAGING_FILTER_BYTES_PER_TENANT_MAX, MESSAGING_FILTER_LEVELS_MAX,
    MESSAGING_SUBSCRIPTIONS_PER_TENANT_MAX, SUBSCRIPTIONS_PER_TENANT_MAX,
    WILDCARD_NODES_PER_TENANT_MAX, WILDCARD_SHAPES_PER_TENANT_MAX,
};
use std::collections::HashMap;

/// A link that takes messages of a matching topic.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Target {
    /// The consumer's link.
    pub link: LinkId,
    /// Highest quality of service the consumer asked for.
    pub qos: u8,
}

/// Why a subscription does not go into the table.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum RouteRefused {
    /// The tenant has as many subscriptions as it may have.
    #[error(
        "the tenant has {SUBSCRIPTIONS_PER_TENANT_MAX} subscriptions, the most there can be; end some first"
    )]
    Full,
    /// The filter is longer than any address.
    #[error(
        "the filter has more than {FILTER_LEVELS_MAX} levels or {FILTER_BYTES_MAX} bytes; no address is as long"
    )]
    FilterTooLong,
    /// The tenant's messaging clients have as many subscriptions as they may have together.
    #[error(
        "the tenant's clients have {MESSAGING_SUBSCRIPTIONS_PER_TENANT_MAX} subscriptions, the most there can be; end some first"
    )]
    MessagingFull,
    /// The filter is deeper or longer than the table takes.
    #[error(
        "the filter has more than {MESSAGING_FILTER_LEVELS_MAX} levels, or it or its group's name is longer than an MQTT string; subscribe a shorter one"
    )]
    MessagingFilterTooLong,
    /// The tenant's different filters are too long together.
    #[error(
        "the tenant's filters have {MESSAGING_FILTER_BYTES_PER_TENANT_MAX} bytes together, the most there can be; end some subscriptions or use shorter filters"
    )]
    FilterBytes,
    /// The tenant's wildcard filters have too many levels together.
    #[error(
        "the tenant's wildcard filters have {WILDCARD_NODES_PER_TENANT_MAX} different levels together, the most there can be; end some of them first"
    )]
    WildcardNodes,
    /// The tenant's wildcard filters have `+` in too many different places.
    #[error(
        "the tenant's filters place \"+\" in {WILDCARD_SHAPES_PER_TENANT_MAX} different ways, the most there can be; use fewer \"+\" or end some of these subscriptions"
    )]
    WildcardShapes,
    /// The filter has too many groups.
    #[error(
        "the filter has {GROUPS_PER_FILTER_MAX} groups, the most there can be; join one of them"
    )]
    Groups,
}

/// Who takes which topic.
#[derive(Default)]
pub struct Routes {
    tenants: HashMap<Box<str>, TenantRoutes>,
    subscriptions: usize,
    version: u64,
}

#[derive(Default)]
struct TenantRoutes {
    root: Node,
    subscriptions: usize,
}

#[derive(Default)]
struct Node {
    children: HashMap<Box<str>, Node>,
    any: Option<Box<Node>>,
    here: Vec<Target>,
    rest: Vec<Target>,
}

impl Routes {
    /// Changes with every change of the table; a match stays good while it is the same.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Adds a subscription, or changes the quality of service of the one the link has for this filter.
    /// The filter has been validated by the codec.
    pub fn subscribe(
        &mut self,
        tenant: &str,
        filter: &str,
        target: Target,
    ) -> Result<(), RouteRefused> {
        let levels = filter.split('/').take(FILTER_LEVELS_MAX + 1).count();
        if filter.len() > FILTER_BYTES_MAX || levels > FILTER_LEVELS_MAX {
            return Err(RouteRefused::FilterTooLong);
        }
        let routes = match self.tenants.get_mut(tenant) {
            Some(routes) => routes,
            None => self.tenants.entry(tenant.into()).or_default(),
        };
        if routes.subscriptions >= SUBSCRIPTIONS_PER_TENANT_MAX {
            return Err(RouteRefused::Full);
        }
        let targets = routes.root.targets_of(filter);
        match targets.iter_mut().find(|present| present.link == target.link) {
            Some(present) => present.qos = target.qos,
            None => {
                targets.push(target);
                routes.subscriptions += 1;
                self.subscriptions += 1;
            }
        }
        self.version += 1;
        Ok(())
    }

    /// Removes a subscription; whether it was there.
    pub fn unsubscribe(&mut self, tenant: &str, filter: &str, link: LinkId) -> bool {
        let Some(routes) = self.tenants.get_mut(tenant) else { return false };
        if !routes.root.remove(filter, link) {
            return false;
        }
        self.version += 1;
        routes.subscriptions -= 1;
        self.subscriptions -= 1;
        if routes.subscriptions == 0 {
            self.tenants.remove(tenant);
        }
        true
    }

    /// Appends the targets of `topic` to `found`, each link once with its highest quality of service
    /// (MQTT 3.1.1 section 3.3.5, [MQTT-3.3.5-1]).
    pub fn matches(&self, tenant: &str, topic: &str, found: &mut Vec<Target>) {
        let Some(routes) = self.tenants.get(tenant) else { return };
        let start = found.len();
        routes.root.collect(Some(topic), topic.starts_with('$'), found);
        if found.len() - start > 1 {
            found[start..].sort_by_key(|target| (target.link, std::cmp::Reverse(target.qos)));
            let mut last = None;
            let mut at = 0;
            found.retain(|target| {
                at += 1;
                at <= start || last.replace(target.link) != Some(target.link)
            });
        }
    }

    /// Subscriptions of all tenants.
    pub fn subscriptions(&self) -> usize {
        self.subscriptions
    }
}

impl Node {
    fn targets_of(&mut self, filter: &str) -> &mut Vec<Target> {
        let (level, behind) = split(filter);
        let child = match level {
            "#" => return &mut self.rest,
            "+" => self.any.get_or_insert_default(),
            _ => self.children.entry(level.into()).or_default(),
        };
        match behind {
            Some(behind) => child.targets_of(behind),
            None => &mut child.here,
        }
    }

    fn remove(&mut self, filter: &str, link: LinkId) -> bool {
        let (level, behind) = split(filter);
        if level == "#" {
            return take(&mut self.rest, link);
        }
        let child = match level {
            "+" => self.any.as_deref_mut(),
            _ => self.children.get_mut(level),
        };
        let Some(child) = child else { return false };
        let removed = match behind {
            Some(behind) => child.remove(behind, link),
            None => take(&mut child.here, link),
        };
        if removed && child.is_empty() {
            match level {
                "+" => self.any = None,
                _ => drop(self.children.remove(level)),
            }
        }
        removed
    }

    /// `topic` is what is left of it; `None` behind its last level. `hidden`: the first level starts with `$` and
    /// wildcards do not match it ([MQTT-4.7.2-1]).
    fn collect(&self, topic: Option<&str>, hidden: bool, found: &mut Vec<Target>) {
        if !hidden {
            // "sport/#" also matches "sport" (section 4.7.1.2).
            found.extend_from_slice(&self.rest);
        }
        let Some(topic) = topic else {
            found.extend_from_slice(&self.here);
            return;
        };
        let (level, behind) = split(topic);
        if let Some(any) = self.any.as_deref().filter(|_| !hidden) {
            any.collect(behind, false, found);
        }
        if let Some(child) = self.children.get(level) {
            child.collect(behind, false, found);
        }
    }

    fn is_empty(&self) -> bool {
        self.children.is_empty()
            && self.any.is_none()
            && self.here.is_empty()
            && self.rest.is_empty()
    }
}

fn split(topic: &str) -> (&str, Option<&str>) {
    match topic.split_once('/') {
        Some((level, behind)) => (level, Some(behind)),
        None => (topic, None),
    }
}

fn take(targets: &mut Vec<Target>, link: LinkId) -> bool {
    let before = targets.len();
    targets.retain(|target| target.link != link);
    targets.len() < before
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ShardIndex;

    fn target(key: u64, qos: u8) -> Target {
        Target { link: LinkId { shard: ShardIndex(0), key }, qos }
    }

    fn found(routes: &Routes, tenant: &str, topic: &str) -> Vec<(u64, u8)> {
        let mut targets = Vec::new();
        routes.matches(tenant, topic, &mut targets);
        targets.iter().map(|target| (target.link.key, target.qos)).collect()
    }

    #[test]
    fn filters_match_as_the_specification_says() {
        let mut routes = Routes::default();
        let filters = ["telemetry/d1", "telemetry/+", "telemetry/#", "#", "+", "+/d1", "event/#"];
        for (key, filter) in filters.iter().enumerate() {
            routes.subscribe("acme", filter, target(key as u64, 0)).unwrap();
        }
        let keys = |topic| found(&routes, "acme", topic).into_iter().map(|(key, _)| key);
        assert!(keys("telemetry/d1").eq([0, 1, 2, 3, 5]));
        assert!(keys("telemetry").eq([2, 3, 4]));
        assert!(keys("telemetry/d1/x").eq([2, 3]));
        assert!(keys("event/d9").eq([3, 6]));
        assert!(keys("$SYS/d1").eq([]));
    }

    #[test]
    fn a_tenant_never_matches_another_tenants_topic() {
        let mut routes = Routes::default();
        routes.subscribe("acme", "#", target(1, 0)).unwrap();
        assert_eq!(found(&routes, "rival", "telemetry/d1"), []);
        assert!(!routes.unsubscribe("rival", "#", target(1, 0).link));
    }

    #[test]
    fn overlapping_filters_of_one_link_deliver_once_at_the_highest_qos() {
        let mut routes = Routes::default();
        routes.subscribe("acme", "telemetry/#", target(7, 0)).unwrap();
        routes.subscribe("acme", "telemetry/d1", target(7, 1)).unwrap();
        routes.subscribe("acme", "telemetry/d1", target(8, 0)).unwrap();
        assert_eq!(found(&routes, "acme", "telemetry/d1"), [(7, 1), (8, 0)]);
    }

    #[test]
    fn subscribing_again_replaces_and_unsubscribing_leaves_nothing_behind() {
        let mut routes = Routes::default();
        routes.subscribe("acme", "a/+/c", target(1, 0)).unwrap();
        routes.subscribe("acme", "a/+/c", target(1, 1)).unwrap();
        assert_eq!(found(&routes, "acme", "a/b/c"), [(1, 1)]);
        assert_eq!(routes.subscriptions(), 1);
        let version = routes.version();
        assert!(routes.unsubscribe("acme", "a/+/c", target(1, 0).link));
        assert!(!routes.unsubscribe("acme", "a/+/c", target(1, 0).link));
        assert!(routes.version() > version);
        assert!(routes.tenants.is_empty());
    }

    #[test]
    fn a_tenants_subscriptions_are_limited_and_another_tenants_are_not_touched() {
        let mut routes = Routes::default();
        for key in 0..SUBSCRIPTIONS_PER_TENANT_MAX as u64 {
            routes.subscribe("acme", "#", target(0, 0)).unwrap();
            routes.tenants.get_mut("acme").unwrap().subscriptions = key as usize + 1;
        }
        assert_eq!(routes.subscribe("acme", "x", target(1, 0)), Err(RouteRefused::Full));
        assert!(routes.subscribe("rival", "x", target(1, 0)).is_ok());
    }

    #[test]
    fn a_filter_longer_than_any_address_is_refused_and_leaves_nothing() {
        let mut routes = Routes::default();
        let too_long = Err(RouteRefused::FilterTooLong);
        let levels = |count: usize| vec!["a"; count].join("/");
        for filter in
            [levels(FILTER_LEVELS_MAX + 1), levels(30_000), "a".repeat(FILTER_BYTES_MAX + 1)]
        {
            assert_eq!(routes.subscribe("acme", &filter, target(1, 0)), too_long);
            assert!(!routes.unsubscribe("acme", &filter, target(1, 0).link));
        }
        assert!(routes.tenants.is_empty());
        assert!(routes.subscribe("acme", &levels(FILTER_LEVELS_MAX), target(1, 0)).is_ok());
        assert_eq!(found(&routes, "acme", &levels(30_000)), []);
    }
}
