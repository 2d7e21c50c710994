//! What a topic matched.

use super::audience::Entry;
use super::filters::Walk;
use super::groups::GroupRef;
use crate::LinkId;

/// Who takes messages of a topic. Made once and used again, it allocates nothing when warm; kept by a connection, it stays
/// good while [`crate::Topics::is_current`] says so.
#[derive(Default, Debug)]
pub struct Matches {
    /// Links that subscribed on their own: each once, in the order of [`LinkId`] if more than one filter matched.
    pub targets: Vec<Match>,
    /// Groups, one for each group and filter: each is owed one copy, see [`crate::Topics::pick`].
    pub groups: Vec<GroupRef>,
    /// Subscription identifiers of all targets; see [`Matches::ids`].
    pub subscription_ids: Vec<u32>,
    /// The tenant's version they were found at.
    pub(super) tenant_version: u64,
    /// The table's version they were last known to be good at.
    pub(super) version: u64,
    pub(super) walk: Walk,
}

/// A link that takes a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Match {
    /// The subscriber's link.
    pub link: LinkId,
    /// Highest quality of service among its filters that match (section 3.3.4).
    pub qos: u8,
    /// Whether one of these subscriptions keeps the RETAIN flag as published [MQTT5-3.3.1-12].
    pub retain_as_published: bool,
    /// Where its subscription identifiers begin; until the match is finished, the identifier itself.
    ids_from: u32,
    ids: u32,
}

impl Matches {
    /// Every subscription identifier of the subscriptions that made this target match, to be sent in the one copy
    /// [MQTT5-3.3.4-3] [MQTT5-3.3.4-4] [MQTT5-3.3.4-5]. An identifier that two subscriptions share is there twice, as
    /// section 3.3.4 has it.
    pub fn ids(&self, target: &Match) -> &[u32] {
        let from = target.ids_from as usize;
        self.subscription_ids.get(from..from + target.ids as usize).unwrap_or_default()
    }

    /// Nobody takes it.
    pub fn is_empty(&self) -> bool {
        self.targets.is_empty() && self.groups.is_empty()
    }

    pub(super) fn clear(&mut self) {
        self.targets.clear();
        self.groups.clear();
        self.subscription_ids.clear();
    }

    pub(super) fn add(&mut self, entry: &Entry) {
        self.targets.push(Match {
            link: entry.link,
            qos: entry.qos,
            retain_as_published: entry.retain_as_published,
            ids_from: entry.subscription_id,
            ids: 0,
        });
    }

    /// Makes one target of each link. `overlapping`: more than one filter matched, so a link may be there twice.
    pub(super) fn finish(&mut self, overlapping: bool) {
        if overlapping && self.targets.len() > 1 {
            self.targets.sort_unstable_by_key(|target| (target.link, target.ids_from));
        }
        let mut kept = 0;
        for at in 0..self.targets.len() {
            let next = self.targets[at];
            let merged = kept > 0 && self.targets[kept - 1].link == next.link;
            if merged {
                let target = &mut self.targets[kept - 1];
                target.qos = target.qos.max(next.qos);
                target.retain_as_published |= next.retain_as_published;
            } else {
                let ids_from = self.subscription_ids.len() as u32;
                self.targets[kept] = Match { ids_from, ids: 0, ..next };
                kept += 1;
            }
            let id = next.ids_from;
            if id != 0 {
                self.subscription_ids.push(id);
                self.targets[kept - 1].ids += 1;
            }
        }
        self.targets.truncate(kept);
    }
}
