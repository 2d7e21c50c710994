//! One session. What few sessions have is behind a box, so that an idle one is small.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use crate::flow::Flow;
use crate::record::{Image, Item};
use crate::{SessionKey, Subscription};

#[derive(Debug)]
pub(crate) struct Session {
    pub client_id: Arc<str>,
    pub principal: Arc<str>,
    /// By filter.
    pub subscriptions: Vec<(Box<str>, Subscription)>,
    pub flow: Option<Box<Flow>>,
    /// QoS 2 messages from the client that it has not released.
    #[allow(
        clippy::box_collection,
        reason = "32 bytes that nearly every session would have for nothing"
    )]
    pub incoming: Option<Box<VecDeque<Unreleased>>>,
    pub durable: Option<Box<Durable>>,
    pub link: Option<u64>,
    /// Nothing goes out before this is durable: CONNACK comes first.
    pub open_after: u64,
    /// The will of the present connection, or of the last one while it is delayed; 0 for none.
    pub will: u64,
    pub tenant: u32,
    pub expiry_s: u32,
    pub receive_max: u16,
    /// In the queue of those that have something to send.
    pub ready: bool,
}

#[derive(Debug)]
pub(crate) struct Unreleased {
    pub packet_id: u16,
    pub ticket: u64,
}

/// What a session in the log has besides.
#[derive(Debug)]
pub(crate) struct Durable {
    /// Its number in the log.
    pub id: u64,
    /// The segment of its image.
    pub home: u64,
    pub last_ticket: u64,
    pub debt: Debt,
    pub detached_at_ms: Option<u64>,
    pub ends_at: Option<Instant>,
    pub will_at: Option<Instant>,
    /// The one of the two that is in the shard's order of deadlines.
    pub deadline: Option<Instant>,
}

/// What the log should know of a session, and does not yet.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(crate) enum Debt {
    None,
    /// That its connection is gone.
    Detached,
    /// Several things: a new image says them all.
    Image,
}

#[derive(Debug, Default)]
pub(crate) struct Slot {
    pub generation: u32,
    pub session: Option<Session>,
}

impl SessionKey {
    pub(crate) fn new(index: usize, generation: u32) -> Self {
        Self(u64::from(generation) << 32 | index as u64)
    }

    pub(crate) fn index(self) -> usize {
        (self.0 & 0xffff_ffff) as usize
    }

    pub(crate) fn generation(self) -> u32 {
        (self.0 >> 32) as u32
    }
}

impl Durable {
    pub(crate) fn new(id: u64, home: u64, ticket: u64) -> Self {
        Self {
            id,
            home,
            last_ticket: ticket,
            debt: Debt::None,
            detached_at_ms: None,
            ends_at: None,
            will_at: None,
            deadline: None,
        }
    }

    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        match (self.ends_at, self.will_at) {
            (Some(ends), Some(will)) => Some(ends.min(will)),
            (ends, will) => ends.or(will),
        }
    }
}

/// About what a session takes in the log besides its names and subscriptions.
const IMAGE_BYTES: u64 = 64;

/// About what a subscription takes there.
pub(crate) fn subscription_bytes(filter: &str) -> u64 {
    filter.len() as u64 + 16
}

impl Session {
    /// About what its image takes in the log, without its queue.
    pub(crate) fn image_bytes(&self) -> u64 {
        let names = (self.client_id.len() + self.principal.len()) as u64;
        let filters = self.subscriptions.iter().map(|(filter, _)| subscription_bytes(filter));
        IMAGE_BYTES + names + filters.sum::<u64>()
    }

    pub(crate) fn flow(&mut self) -> &mut Flow {
        self.flow.get_or_insert_default()
    }

    pub(crate) fn window(&self, inflight_max: u16) -> usize {
        usize::from(self.receive_max.min(inflight_max))
    }

    pub(crate) fn has_next(&self, inflight_max: u16, durable: u64) -> bool {
        self.link.is_some()
            && self.open_after <= durable
            && self.flow.as_ref().is_some_and(|f| f.has_next(self.window(inflight_max), durable))
    }

    pub(crate) fn knows_incoming(&self, packet_id: u16) -> Option<&Unreleased> {
        self.incoming.as_ref()?.iter().find(|one| one.packet_id == packet_id)
    }

    /// Where a filter is, or would be.
    pub(crate) fn filter_position(&self, filter: &str) -> Result<usize, usize> {
        self.subscriptions.binary_search_by(|(known, _)| (**known).cmp(filter))
    }

    /// The session as the log should know it.
    pub(crate) fn image(&self, id: u64, detached_at_ms: Option<u64>) -> Image {
        let mut image = Image {
            session: id,
            client_id: (*self.client_id).into(),
            principal: (*self.principal).into(),
            expiry_s: self.expiry_s,
            receive_max: self.receive_max,
            detached_at_ms,
            subscriptions: self.subscriptions.clone(),
            ..Image::default()
        };
        if let Some(flow) = &self.flow {
            image.sent_through = flow.sent_through;
            image.last_sequence = flow.last_sequence;
            image.queue = flow
                .entries
                .iter()
                .map(|entry| Item {
                    sequence: entry.sequence,
                    body: entry.body,
                    qos: entry.qos,
                    retain: entry.retain,
                    group: entry.group,
                    ids: entry.ids.clone(),
                })
                .collect();
            image.releases = flow.releases.iter().map(|release| release.sequence).collect();
        }
        if let Some(incoming) = &self.incoming {
            image.incoming = incoming.iter().map(|one| one.packet_id).collect();
        }
        image
    }
}

#[cfg(test)]
mod tests {
    use std::mem::size_of;
    use std::sync::Arc;

    use super::*;

    #[test]
    fn an_idle_session_that_is_not_durable_takes_less_than_200_bytes_besides_its_name() {
        let slot = size_of::<Slot>();
        // An entry of the tenant's table, which is at least 7/16 full, and the counts before the name.
        let entry = (size_of::<(Arc<str>, SessionKey)>() + 1) * 8 / 7;
        let name = 2 * size_of::<usize>();
        assert!(slot + entry + name < 200, "{slot} + {entry} + {name}");
    }
}
