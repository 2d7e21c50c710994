//! Who subscribed one filter.

use super::Subscriber;
use crate::LinkId;
use std::collections::HashMap;

/// Above it a list has an index: looking through it would make many subscribers of one filter cost their square.
const SCANNED_MAX: usize = 32;

/// Subscribers of one filter: links of their own, and groups.
#[derive(Default)]
pub(super) struct Audience {
    direct: Vec<Entry>,
    #[expect(clippy::box_collection, reason = "few filters have one, and each would pay for it")]
    places: Option<Box<HashMap<LinkId, u32>>>,
    /// Slots of the groups with this filter.
    pub(super) groups: Vec<u32>,
}

/// A subscription as it is kept.
#[derive(Clone, Copy)]
pub(super) struct Entry {
    pub(super) link: LinkId,
    pub(super) subscription_id: u32,
    pub(super) qos: u8,
    pub(super) no_local: bool,
    pub(super) retain_as_published: bool,
}

impl Entry {
    pub(super) fn new(subscriber: &Subscriber) -> Entry {
        Entry {
            link: subscriber.link,
            subscription_id: subscriber.subscription_id,
            qos: subscriber.qos,
            no_local: subscriber.no_local,
            retain_as_published: subscriber.retain_as_published,
        }
    }

    pub(super) fn subscriber(&self, online: bool) -> Subscriber {
        Subscriber {
            link: self.link,
            qos: self.qos,
            no_local: self.no_local,
            retain_as_published: self.retain_as_published,
            subscription_id: self.subscription_id,
            online,
        }
    }
}

impl Audience {
    pub(super) fn direct(&self) -> &[Entry] {
        &self.direct
    }

    pub(super) fn is_empty(&self) -> bool {
        self.direct.is_empty() && self.groups.is_empty()
    }

    /// Whether the link is in the list.
    pub(super) fn has(&self, link: LinkId) -> bool {
        self.place(link).is_some()
    }

    /// Adds or changes a link's subscription; whether it is new.
    pub(super) fn put(&mut self, entry: Entry) -> bool {
        if let Some(place) = self.place(entry.link) {
            self.direct[place] = entry;
            return false;
        }
        if self.direct.is_empty() {
            // Most filters have one subscriber, ever.
            self.direct.reserve_exact(1);
        }
        self.direct.push(entry);
        if let Some(places) = &mut self.places {
            places.insert(entry.link, self.direct.len() as u32 - 1);
        } else if self.direct.len() > SCANNED_MAX {
            let places = self.direct.iter().enumerate();
            let places = places.map(|(place, entry)| (entry.link, place as u32)).collect();
            self.places = Some(Box::new(places));
        }
        true
    }

    /// Removes a link's subscription; whether it was there.
    pub(super) fn take(&mut self, link: LinkId) -> bool {
        let Some(place) = self.place(link) else { return false };
        self.direct.swap_remove(place);
        if let Some(places) = &mut self.places {
            places.remove(&link);
            if let Some(moved) = self.direct.get(place) {
                places.insert(moved.link, place as u32);
            }
        }
        if self.direct.len() <= SCANNED_MAX / 2 {
            self.places = None;
        }
        if self.direct.len() < self.direct.capacity() / 4 {
            self.direct.shrink_to(self.direct.len() * 2);
        }
        true
    }

    fn place(&self, link: LinkId) -> Option<usize> {
        match &self.places {
            Some(places) => places.get(&link).map(|place| *place as usize),
            None => self.direct.iter().position(|entry| entry.link == link),
        }
    }
}
