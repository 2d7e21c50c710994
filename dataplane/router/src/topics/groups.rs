//! Groups that share a filter: one member for each message, in turn (MQTT 5 section 4.8.2).
//!
//! Members whose session is connected come first in a group's list, so that choosing one costs the same however many are
//! away. When a link comes or goes its members move across that border, found through the link's own list.
//!
//! Invariants
//! - A member and its link's list name each other's place.
//! - A member that is away has a session that is kept: a session that is not kept ends its subscriptions when it ends.

use super::Subscriber;
use super::audience::Entry;
use crate::LinkId;
use crate::link::stable_hash;
use slab::Slab;
use std::collections::HashMap;
use std::num::NonZeroU32;

/// A group with a filter that matched. It stays good while the tenant's version is unchanged, and finds nobody when the
/// group is gone.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct GroupRef {
    slot: u32,
    tag: NonZeroU32,
    serial: u64,
}

impl GroupRef {
    /// Names the group beyond this table: every shard gives the same group and filter the same tag, in every run of the
    /// node. Two groups of a tenant can share one.
    pub fn tag(self) -> NonZeroU32 {
        self.tag
    }
}

/// The groups of all tenants.
#[derive(Default)]
pub(super) struct Groups {
    groups: Slab<Group>,
    links: Slab<Link>,
    by_link: HashMap<LinkId, u32>,
    serial: u64,
}

struct Group {
    serial: u64,
    tag: NonZeroU32,
    name: Box<str>,
    /// The first `online` are connected.
    members: Vec<Member>,
    online: usize,
    turn: usize,
}

#[derive(Clone, Copy)]
struct Member {
    entry: Entry,
    /// Slot of its link.
    link: u32,
    /// Place in the link's list.
    membership: u32,
}

struct Link {
    online: bool,
    memberships: Vec<Membership>,
}

#[derive(Clone, Copy)]
struct Membership {
    group: u32,
    place: u32,
}

impl Groups {
    pub(super) fn add(&mut self, name: &str, filter: &str) -> u32 {
        self.serial += 1;
        let hash = stable_hash(&[name, filter]);
        let group = Group {
            serial: self.serial,
            tag: NonZeroU32::new(hash as u32).unwrap_or(NonZeroU32::MIN),
            name: name.into(),
            members: Vec::new(),
            online: 0,
            turn: 0,
        };
        self.groups.insert(group) as u32
    }

    pub(super) fn name(&self, group: u32) -> &str {
        &self.groups[group as usize].name
    }

    pub(super) fn reference(&self, group: u32) -> GroupRef {
        let Group { serial, tag, .. } = self.groups[group as usize];
        GroupRef { slot: group, tag, serial }
    }

    /// Adds or changes a member; whether it is new.
    pub(super) fn join(&mut self, group: u32, entry: Entry, online: bool) -> bool {
        let slot = match self.by_link.get(&entry.link) {
            Some(&slot) => slot,
            None => {
                let link = Link { online, memberships: Vec::new() };
                let slot = self.links.insert(link) as u32;
                self.by_link.insert(entry.link, slot);
                slot
            }
        };
        self.turn_link(slot, online);
        if let Some(place) = self.place(group, slot) {
            self.groups[group as usize].members[place].entry = entry;
            return false;
        }
        let members = &mut self.groups[group as usize].members;
        let place = members.len();
        let memberships = &mut self.links[slot as usize].memberships;
        members.push(Member { entry, link: slot, membership: memberships.len() as u32 });
        memberships.push(Membership { group, place: place as u32 });
        if online {
            self.cross(group, place, true);
        }
        true
    }

    /// Removes a member; the group with its last one. `None` if it is none; else whether the group is gone.
    pub(super) fn leave(&mut self, group: u32, link: LinkId) -> Option<bool> {
        let slot = *self.by_link.get(&link)?;
        let mut place = self.place(group, slot)?;
        if place < self.groups[group as usize].online {
            place = self.cross(group, place, false);
        }
        let last = self.groups[group as usize].members.len() - 1;
        self.swap(group, place, last);
        let member = self.groups[group as usize].members.pop()?;
        let memberships = &mut self.links[slot as usize].memberships;
        memberships.swap_remove(member.membership as usize);
        if let Some(&moved) = memberships.get(member.membership as usize) {
            let moved = &mut self.groups[moved.group as usize].members[moved.place as usize];
            moved.membership = member.membership;
        } else if memberships.is_empty() {
            self.by_link.remove(&link);
            self.links.remove(slot as usize);
        }
        let gone = last == 0;
        if gone {
            self.groups.remove(group as usize);
        }
        Some(gone)
    }

    /// Whether the link is a member.
    pub(super) fn has(&self, group: u32, link: LinkId) -> bool {
        self.by_link.get(&link).is_some_and(|slot| self.place(group, *slot).is_some())
    }

    pub(super) fn set_online(&mut self, link: LinkId, online: bool) {
        if let Some(&slot) = self.by_link.get(&link) {
            self.turn_link(slot, online);
        }
    }

    pub(super) fn pick(&mut self, group: GroupRef) -> Option<Subscriber> {
        let found = self.groups.get_mut(group.slot as usize)?;
        if found.serial != group.serial {
            return None;
        }
        let candidates = if found.online > 0 { found.online } else { found.members.len() };
        let place = found.turn % candidates;
        found.turn = place + 1;
        Some(found.members.get(place)?.entry.subscriber(found.online > 0))
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.groups.is_empty() && self.links.is_empty() && self.by_link.is_empty()
    }

    fn turn_link(&mut self, slot: u32, online: bool) {
        let link = &mut self.links[slot as usize];
        if link.online == online {
            return;
        }
        link.online = online;
        for at in 0..link.memberships.len() {
            let Membership { group, place } = self.links[slot as usize].memberships[at];
            self.cross(group, place as usize, online);
        }
    }

    /// Where the link is in the group: looked for in the shorter of the two lists.
    fn place(&self, group: u32, slot: u32) -> Option<usize> {
        let members = &self.groups[group as usize].members;
        let memberships = &self.links[slot as usize].memberships;
        if members.len() <= memberships.len() {
            members.iter().position(|member| member.link == slot)
        } else {
            let found = memberships.iter().find(|membership| membership.group == group)?;
            Some(found.place as usize)
        }
    }

    /// Moves a member across the border between connected and away; its new place.
    fn cross(&mut self, group: u32, place: usize, online: bool) -> usize {
        let found = &mut self.groups[group as usize];
        let border = if online {
            found.online += 1;
            found.online - 1
        } else {
            found.online -= 1;
            found.online
        };
        self.swap(group, place, border);
        border
    }

    fn swap(&mut self, group: u32, one: usize, other: usize) {
        self.groups[group as usize].members.swap(one, other);
        for place in [one, other] {
            let member = self.groups[group as usize].members[place];
            let memberships = &mut self.links[member.link as usize].memberships;
            memberships[member.membership as usize].place = place as u32;
        }
    }

    /// Whether every member and its link's list name each other's place.
    #[cfg(test)]
    pub(super) fn assert_consistent(&self) {
        for (slot, group) in &self.groups {
            assert!(!group.members.is_empty());
            for (place, member) in group.members.iter().enumerate() {
                let link = &self.links[member.link as usize];
                let membership = link.memberships[member.membership as usize];
                assert_eq!((membership.group, membership.place), (slot as u32, place as u32));
                assert_eq!(link.online, place < group.online);
                assert_eq!(self.by_link.get(&member.entry.link), Some(&member.link));
            }
        }
        assert!(self.links.iter().all(|(_, link)| !link.memberships.is_empty()));
        assert_eq!(self.links.len(), self.by_link.len());
    }
}
