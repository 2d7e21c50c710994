//! Messaging: what a shard does for the clients of a tenant that talk to each other.
//!
//! A client's session lives on the shard that owns its name, and the connection with it. Every shard has the whole
//! subscription table and all retained messages, so a message is matched where it is published; what other shards'
//! sessions are to get crosses a lane once per shard and is matched again there, by the table of the shard that owns
//! the sessions.
//!
//! ```text
//!   PUBLISH ─▶ publish ─┬─ deliver ─▶ sessions here ─▶ session journal, connections
//!                       ├─ remote ──▶ lane ─▶ publish on the other shard ─▶ receipt
//!                       └─ retained ▶ every shard's memory, the owner's session journal
//! ```
//!
//! Invariants
//! - A publisher is answered when every shard that has to store its message has it on disk.
//! - A QoS 2 message goes to another shard from this one's journal, numbered, so it is taken there once.
//! - What is written to another connection's output is bounded; a session that takes no more keeps its messages queued,
//!   within its limits.

mod deliver;
mod groups;
mod lifecycle;
mod log;
mod parcel;
mod publish;
mod receipts;
mod recover;
mod remote;
mod retained;

pub(crate) use deliver::SelfCopy;
pub(crate) use log::SessionLog;
pub(crate) use publish::{Outgoing as Publication, Routed};
pub(crate) use receipts::Answer;
pub use recover::SessionStore;
pub(crate) use retained::{Walk, Walked, Walks};

use crate::connections::Key;
use fulcrum_router::{LinkId, Matches, Retained, ShardIndex, Topics};
use fulcrum_sessions::{Due, SessionKey, Sessions, Will};
use groups::Leftover;
use parcel::Pick;
use receipts::Receipts;
use std::collections::{HashMap, VecDeque};

/// A shard's part of messaging.
pub(crate) struct Broker {
    pub sessions: Sessions,
    pub log: SessionLog,
    pub topics: Topics,
    pub retained: Retained,
    pub receipts: Receipts,
    /// Of what is published here next; larger than any seen.
    version: u64,
    /// Wills whose publication found no room.
    unpublished: VecDeque<Will>,
    /// Copies of shared subscriptions whose member's session ended, for other members.
    leftovers: VecDeque<Leftover>,
    /// Walks through retained messages that wait for their session's next connection.
    pub parked_walks: HashMap<SessionKey, Walks>,
    /// Retained messages whose time is over are still to be forgotten.
    expiring: bool,
    /// Copies for the connection whose packet is being handled.
    pub self_copies: Vec<SelfCopy>,
    /// Connections that were taken over by another one of the same client.
    pub taken_over: Vec<Key>,
    /// Subscriptions that wait until every shard knows them: connection and how many have not said so.
    barriers: VecDeque<Barrier>,
    /// Messages of other shards that wait for this one's journal.
    pub arriving: remote::Arriving,
    /// This run of the node: session keys of another one name nobody.
    boot: u64,
    scratch: Scratch,
}

/// Subscription identifiers of a session that [`Sessions::record_bytes`] counts.
const SUBSCRIPTION_IDS_COUNTED: usize = 4;
/// Most bytes each takes in a record.
const SUBSCRIPTION_ID_BYTES: usize = 5;

/// A subscription whose SUBACK waits for other shards.
struct Barrier {
    connection: Key,
    number: u64,
    missing: u16,
}

/// Buffers that are used again.
#[derive(Default)]
struct Scratch {
    matches: Matches,
    /// While the other one is in use.
    regrouped: Matches,
    shards: Vec<ShardIndex>,
    members: Vec<Pick>,
    encoded: Vec<u8>,
    parcel: Vec<u8>,
    dues: Vec<Due>,
}

impl Broker {
    pub(crate) fn new(store: SessionStore, shard: u16) -> Broker {
        let (sessions, log, boot) = store.into_parts(shard);
        let version = sessions.retained().map(|retained| retained.version).max().unwrap_or(0);
        Broker {
            sessions,
            log,
            topics: Topics::default(),
            retained: Retained::default(),
            receipts: Receipts::default(),
            version,
            unpublished: VecDeque::new(),
            leftovers: VecDeque::new(),
            parked_walks: HashMap::new(),
            expiring: false,
            self_copies: Vec::new(),
            taken_over: Vec::new(),
            barriers: VecDeque::new(),
            arriving: remote::Arriving::default(),
            boot,
            scratch: Scratch::default(),
        }
    }

    /// A version newer than any this shard has seen: milliseconds of the clock where it goes on, the shard's number in
    /// the low bits so that no two shards give out the same.
    fn next_version(&mut self, now_ms: u64, shard: ShardIndex) -> u64 {
        let at_least = (self.version >> 16) + 1;
        self.version = now_ms.max(at_least) << 16 | u64::from(shard.0);
        self.version
    }

    /// Whether copies that ended sessions left to their groups still wait for their turn.
    pub(crate) fn has_leftovers(&self) -> bool {
        !self.leftovers.is_empty()
    }

    pub(crate) fn saw_version(&mut self, version: u64) {
        self.version = self.version.max(version);
    }
}

/// Bytes of subscription identifiers in a message's record beyond those [`Sessions::record_bytes`] counts.
fn more_id_bytes(matches: &Matches) -> usize {
    let more = |target| matches.ids(target).len().saturating_sub(SUBSCRIPTION_IDS_COUNTED);
    matches.targets.iter().map(more).sum::<usize>() * SUBSCRIPTION_ID_BYTES
}

/// The link of a session.
pub(crate) fn link_of(shard: ShardIndex, key: fulcrum_sessions::SessionKey) -> LinkId {
    LinkId { shard, key: key.0 }
}
