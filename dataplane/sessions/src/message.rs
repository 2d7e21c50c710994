//! What passes through a session: messages, wills, and what is left of a session that ended.

use std::fmt;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use bytes::Bytes;

use crate::SessionKey;

/// What an entry of a queue costs besides the message's own bytes, for accounting.
pub(crate) const ENTRY_BYTES: usize = 64;

/// A message, held once however many sessions of a shard queue it.
///
/// Make one per shard: the count of its holders belongs to one [`Sessions`](crate::Sessions).
pub struct Message {
    frame: Bytes,
    expires_at_ms: Option<u64>,
    holders: AtomicU32,
}

impl Message {
    /// A message from its frame (opaque here) and the wall clock time, in milliseconds, at which it is worth
    /// nothing any more [MQTT5-3.3.2-5].
    #[must_use]
    pub fn new(frame: Bytes, expires_at_ms: Option<u64>) -> Self {
        Self { frame, expires_at_ms, holders: AtomicU32::new(0) }
    }

    /// The frame, as given.
    #[must_use]
    pub fn frame(&self) -> &Bytes {
        &self.frame
    }

    /// When it expires, in milliseconds of the wall clock.
    #[must_use]
    pub fn expires_at_ms(&self) -> Option<u64> {
        self.expires_at_ms
    }

    /// What it counts for in limits and metrics.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.frame.len() + ENTRY_BYTES
    }

    pub(crate) fn is_expired(&self, now_ms: u64) -> bool {
        self.expires_at_ms.is_some_and(|at| at <= now_ms)
    }

    /// Counts one more queue that holds it; true for the first. One shard alone counts, so a load and a store do.
    pub(crate) fn hold(&self) -> bool {
        let holders = self.holders.load(Ordering::Relaxed);
        self.holders.store(holders + 1, Ordering::Relaxed);
        holders == 0
    }

    pub(crate) fn is_held(&self) -> bool {
        self.holders.load(Ordering::Relaxed) > 0
    }

    /// Counts one queue less; true for the last.
    pub(crate) fn release(&self) -> bool {
        let holders = self.holders.load(Ordering::Relaxed);
        self.holders.store(holders.saturating_sub(1), Ordering::Relaxed);
        holders == 1
    }
}

impl fmt::Debug for Message {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Message")
            .field("frame_bytes", &self.frame.len())
            .field("expires_at_ms", &self.expires_at_ms)
            .finish()
    }
}

/// Subscription identifiers that go out with a message [MQTT5-3.3.4-3].
#[derive(Clone, Eq, PartialEq, Debug, Default)]
pub enum SubscriptionIds {
    /// None matched with an identifier.
    #[default]
    None,
    /// The usual case.
    One(u32),
    /// Several overlapping subscriptions.
    Many(Box<[u32]>),
}

impl SubscriptionIds {
    pub(crate) fn from_slice(ids: &[u32]) -> Self {
        match ids {
            [] => Self::None,
            [one] => Self::One(*one),
            many => Self::Many(many.into()),
        }
    }

    /// The identifiers.
    #[must_use]
    pub fn as_slice(&self) -> &[u32] {
        match self {
            Self::None => &[],
            Self::One(id) => std::slice::from_ref(id),
            Self::Many(ids) => ids,
        }
    }
}

/// A last will [MQTT5-3.1.2-7]. It stays in the log until [`Sessions::published`](crate::Sessions::published) of it
/// is committed, so a crash in between publishes it again rather than not at all.
#[derive(Clone)]
pub struct Will {
    /// Whose it is.
    pub tenant: Arc<str>,
    /// Who left it.
    pub client_id: Arc<str>,
    /// The message to publish; opaque here.
    pub frame: Bytes,
    /// Seconds between the end of the connection and the publication [MQTT5-3.1.3-9].
    pub delay_s: u32,
    pub(crate) id: u64,
}

impl Will {
    /// A will that is not in any session yet.
    #[must_use]
    pub fn new(tenant: Arc<str>, client_id: Arc<str>, frame: Bytes, delay_s: u32) -> Self {
        Self { tenant, client_id, frame, delay_s, id: 0 }
    }
}

impl fmt::Debug for Will {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Will")
            .field("tenant", &self.tenant)
            .field("client_id", &self.client_id)
            .field("frame_bytes", &self.frame.len())
            .field("delay_s", &self.delay_s)
            .finish()
    }
}

/// A session that is no more. The caller takes its filters out of the route table and publishes its will.
#[derive(Clone, Debug)]
pub struct Ended {
    /// The key it had; nobody has it now.
    pub key: SessionKey,
    /// Whose it was.
    pub tenant: Arc<str>,
    /// The client it belonged to.
    pub client_id: Arc<str>,
    /// The connection it had, where it was ended under a connected client.
    pub link: Option<u64>,
    /// The filters it was subscribed to.
    pub filters: Vec<Box<str>>,
    /// The will to publish now: the end of a session does not wait for the will's delay [MQTT5-3.1.3-9].
    pub will: Option<Will>,
    /// What its client has not acknowledged and other members of shared subscriptions should get (section 4.8.2): all of
    /// QoS 1, and of QoS 2 what never was on its way [MQTT5-4.8.2-5]. In order.
    pub shared: Vec<SharedCopy>,
}

/// A copy for a shared subscription whose member will not take it any more.
#[derive(Clone, Debug)]
pub struct SharedCopy {
    /// As it was given in [`Options::group`](crate::Options::group).
    pub group: NonZeroU32,
    /// The message.
    pub message: Arc<Message>,
}

/// What became due by the passing of time.
#[derive(Clone, Debug)]
pub enum Due {
    /// A session expired [MQTT-4.1.0-2].
    Ended(Ended),
    /// A will's delay is over; the session lives on.
    Will(Will),
}
