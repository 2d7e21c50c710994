//! The route table of messaging: who of a tenant's clients takes a message of a topic.
//!
//! Every shard holds the same table, so a message is matched where it is published. Filters and topics are relative to
//! the tenant: one tenant's filter cannot name another tenant's topic. Filters come without `$share/<group>/`; the
//! group is named beside them.
//!
//! ```text
//!  tenant ─▶ filters (exact: a map; with wildcards: a tree) ─▶ audience of a filter ─▶ links
//!                                                                                   └▶ groups ─▶ members
//! ```
//!
//! Invariants
//! - A match costs at most [`crate::WILDCARD_SHAPES_PER_TENANT_MAX`] visited nodes, besides what it finds.
//! - A tenant's version changes with its subscriptions alone; neither other tenants nor links that come and go change it.
//! - A refused subscription leaves the table as it was; the last one's end leaves nothing behind.
//!
//! Deliberately absent: what a client is permitted to subscribe, queues, retained messages.

mod audience;
mod filters;
mod found;
mod groups;
mod shapes;
#[cfg(test)]
mod tests;

pub use found::{Match, Matches};
pub use groups::GroupRef;

use crate::limits::{
    GROUPS_PER_FILTER_MAX, MESSAGING_FILTER_BYTES_MAX, MESSAGING_FILTER_BYTES_PER_TENANT_MAX,
    MESSAGING_FILTER_LEVELS_MAX, MESSAGING_SUBSCRIPTIONS_PER_TENANT_MAX,
};
use crate::{LinkId, RouteRefused};
use audience::{Audience, Entry};
use filters::Filters;
use groups::Groups;
use slab::Slab;
use std::collections::HashMap;

/// A subscription of one link.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Subscriber {
    /// Its session: the shard and the session's key there.
    pub link: LinkId,
    /// Highest quality of service it asked for.
    pub qos: u8,
    /// Its own messages do not come back to it [MQTT5-3.8.3-3]. Has no meaning in groups [MQTT5-3.8.3-4].
    pub no_local: bool,
    /// The RETAIN flag is passed on as it was published [MQTT5-3.3.1-12].
    pub retain_as_published: bool,
    /// Its subscription identifier; 0 for none.
    pub subscription_id: u32,
    /// Whether it is connected. Has meaning in groups alone, for all groups of the link: what was said last counts.
    pub online: bool,
}

/// What a subscription changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Change {
    /// There was none of this link, filter and group.
    New,
    /// It took the place of an older one [MQTT5-3.8.4-3].
    Replaced,
}

/// Who takes which topic.
#[derive(Default)]
pub struct Topics {
    tenants: HashMap<Box<str>, Tenant>,
    groups: Groups,
    subscriptions: usize,
    version: u64,
}

struct Tenant {
    filters: Filters,
    audiences: Slab<Audience>,
    subscriptions: usize,
    filter_bytes: usize,
    version: u64,
}

impl Topics {
    /// Adds a subscription, or changes the one this link has for this filter and group. The filter has been validated by
    /// the codec.
    pub fn subscribe(
        &mut self,
        tenant: &str,
        filter: &str,
        group: Option<&str>,
        subscriber: Subscriber,
    ) -> Result<Change, RouteRefused> {
        let levels = filter.split('/').take(MESSAGING_FILTER_LEVELS_MAX + 1).count();
        let longest = filter.len().max(group.map_or(0, str::len));
        if levels > MESSAGING_FILTER_LEVELS_MAX || longest > MESSAGING_FILTER_BYTES_MAX {
            return Err(RouteRefused::MessagingFilterTooLong);
        }
        let found = match self.tenants.get_mut(tenant) {
            Some(found) => found,
            None => self.tenants.entry(tenant.into()).or_insert_with(Tenant::new),
        };
        let change = found.subscribe(&mut self.groups, filter, group, subscriber)?;
        self.version += 1;
        found.version = self.version;
        if change == Change::New {
            self.subscriptions += 1;
        }
        Ok(change)
    }

    /// Removes a subscription; whether it was there.
    pub fn unsubscribe(
        &mut self,
        tenant: &str,
        filter: &str,
        group: Option<&str>,
        link: LinkId,
    ) -> bool {
        let Some(found) = self.tenants.get_mut(tenant) else { return false };
        if !found.unsubscribe(&mut self.groups, filter, group, link) {
            return false;
        }
        self.version += 1;
        found.version = self.version;
        self.subscriptions -= 1;
        if found.subscriptions == 0 {
            self.tenants.remove(tenant);
        }
        true
    }

    /// A session is connected or no longer is. Groups prefer members that are; nothing else changes, versions neither.
    /// Costs as much as the link has memberships; nothing for a link that has none.
    pub fn set_online(&mut self, link: LinkId, online: bool) {
        self.groups.set_online(link, online);
    }

    /// Finds who takes a message of `topic`, in place of what `found` held. Each link is there once with its highest
    /// quality of service, whatever number of its filters match; a link that is also in a group can be owed a second copy.
    /// `publisher` is the link the message came from.
    pub fn matches(
        &self,
        tenant: &str,
        topic: &str,
        publisher: Option<LinkId>,
        found: &mut Matches,
    ) {
        found.clear();
        found.version = self.version;
        found.tenant_version = 0;
        let Some(tenant) = self.tenants.get(tenant) else { return };
        found.tenant_version = tenant.version;
        let mut walk = std::mem::take(&mut found.walk);
        let mut filters = 0;
        tenant.filters.matches(topic, &mut walk, |audience| {
            filters += 1;
            let audience = &tenant.audiences[audience as usize];
            for entry in audience.direct() {
                if !(entry.no_local && publisher == Some(entry.link)) {
                    found.add(entry);
                }
            }
            found.groups.extend(audience.groups.iter().map(|group| self.groups.reference(*group)));
        });
        found.walk = walk;
        found.finish(filters > 1);
    }

    /// The member whose turn it is: of those that are connected, or of all if none is (`online` says which; that one's
    /// session keeps the message). `None` if the group is gone.
    pub fn pick(&mut self, group: GroupRef) -> Option<Subscriber> {
        self.groups.pick(group)
    }

    /// Changes with every change of the table.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Changes with every change of the tenant's subscriptions; 0 while it has none.
    pub fn tenant_version(&self, tenant: &str) -> u64 {
        self.tenants.get(tenant).map_or(0, |tenant| tenant.version)
    }

    /// Whether what [`Topics::matches`] found for this tenant is what it would find now. Costs a comparison while the
    /// table is unchanged, a look-up of the tenant after a change.
    pub fn is_current(&self, tenant: &str, found: &mut Matches) -> bool {
        if found.version == self.version {
            return true;
        }
        let current = found.tenant_version == self.tenant_version(tenant);
        if current {
            found.version = self.version;
        }
        current
    }

    /// Subscriptions of all tenants.
    pub fn subscriptions(&self) -> usize {
        self.subscriptions
    }

    /// Subscriptions of one tenant.
    pub fn tenant_subscriptions(&self, tenant: &str) -> usize {
        self.tenants.get(tenant).map_or(0, |tenant| tenant.subscriptions)
    }
}

impl Tenant {
    fn new() -> Tenant {
        Tenant {
            filters: Filters::new(),
            audiences: Slab::new(),
            subscriptions: 0,
            filter_bytes: 0,
            version: 0,
        }
    }

    fn subscribe(
        &mut self,
        groups: &mut Groups,
        filter: &str,
        group: Option<&str>,
        subscriber: Subscriber,
    ) -> Result<Change, RouteRefused> {
        let slot = self.filters.find(filter);
        let known_group = group.and_then(|name| self.group(groups, slot?, name));
        let full = self.subscriptions >= MESSAGING_SUBSCRIPTIONS_PER_TENANT_MAX;
        if full && !self.is_subscribed(groups, slot, group, known_group, subscriber.link) {
            return Err(RouteRefused::MessagingFull);
        }
        let filter_bytes = if slot.is_none() { filter.len() } else { 0 };
        let group_bytes = if known_group.is_none() { group.map_or(0, str::len) } else { 0 };
        let bytes = self.filter_bytes + filter_bytes + group_bytes;
        if bytes > MESSAGING_FILTER_BYTES_PER_TENANT_MAX {
            return Err(RouteRefused::FilterBytes);
        }
        let named = slot.map_or(0, |slot| self.audiences[slot as usize].groups.len());
        if group.is_some() && known_group.is_none() && named >= GROUPS_PER_FILTER_MAX {
            return Err(RouteRefused::Groups);
        }
        let slot = match slot {
            Some(slot) => slot,
            None => self.add_filter(filter)?,
        };
        self.filter_bytes = bytes;
        let audience = &mut self.audiences[slot as usize];
        let entry = Entry::new(&subscriber);
        let new = match group {
            None => audience.put(entry),
            Some(name) => {
                let group = known_group.unwrap_or_else(|| {
                    let group = groups.add(name, filter);
                    audience.groups.push(group);
                    group
                });
                groups.join(group, entry, subscriber.online)
            }
        };
        self.subscriptions += usize::from(new);
        Ok(if new { Change::New } else { Change::Replaced })
    }

    fn unsubscribe(
        &mut self,
        groups: &mut Groups,
        filter: &str,
        group: Option<&str>,
        link: LinkId,
    ) -> bool {
        let Some(slot) = self.filters.find(filter) else { return false };
        match group {
            None => {
                if !self.audiences[slot as usize].take(link) {
                    return false;
                }
            }
            Some(name) => {
                let Some(group) = self.group(groups, slot, name) else { return false };
                let Some(gone) = groups.leave(group, link) else { return false };
                if gone {
                    let audience = &mut self.audiences[slot as usize];
                    audience.groups.retain(|present| *present != group);
                    self.filter_bytes -= name.len();
                }
            }
        }
        self.subscriptions -= 1;
        if self.audiences[slot as usize].is_empty() {
            self.audiences.remove(slot as usize);
            self.filters.remove(filter);
            self.filter_bytes -= filter.len();
        }
        true
    }

    fn add_filter(&mut self, filter: &str) -> Result<u32, RouteRefused> {
        let slot = self.audiences.insert(Audience::default()) as u32;
        let added = self.filters.insert(filter, slot);
        if added.is_err() {
            self.audiences.remove(slot as usize);
        }
        added.map(|()| slot)
    }

    fn group(&self, groups: &Groups, audience: u32, name: &str) -> Option<u32> {
        let named = self.audiences[audience as usize].groups.iter().copied();
        named.into_iter().find(|group| groups.name(*group) == name)
    }

    fn is_subscribed(
        &self,
        groups: &Groups,
        audience: Option<u32>,
        group: Option<&str>,
        known_group: Option<u32>,
        link: LinkId,
    ) -> bool {
        match (group, known_group) {
            (None, _) => audience.is_some_and(|slot| self.audiences[slot as usize].has(link)),
            (Some(_), group) => group.is_some_and(|group| groups.has(group, link)),
        }
    }
}
