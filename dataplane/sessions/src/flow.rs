//! What is on its way to one client: a ring of messages, those under way in front, and the releases owed.
//!
//! A message's packet identifier follows from its place in the session's order. So it is in the record that queues
//! the message, nothing has to be written when it is sent, and it is the same on every connection. Acknowledgements
//! mostly come in order and find their message at the front.

use std::collections::VecDeque;
use std::num::NonZeroU32;
use std::sync::Arc;

use crate::{Message, SubscriptionIds};

/// Packet identifiers are 1 to 65535 [MQTT5-2.2.1-3]. These are the lower half; the upper one is left to messages
/// that no session keeps.
pub(crate) const IDENTIFIERS: u64 = 0x7fff;

/// Queues that grew beyond this give memory back when they run empty.
const WARM_ENTRIES: usize = 64;

/// The identifier of a place in the order. The log holds places alone: another rule here is another format there.
pub(crate) fn packet_id(sequence: u64) -> u16 {
    ((sequence - 1) % IDENTIFIERS) as u16 + 1
}

/// A message of a session.
#[derive(Debug)]
pub(crate) struct Queued {
    pub sequence: u64,
    pub message: Arc<Message>,
    /// The body in the log; 0 where none is.
    pub body: u64,
    /// Goes out when this is durable.
    pub ticket: u64,
    pub ids: SubscriptionIds,
    pub qos: u8,
    pub retain: bool,
    /// The shared subscription it is a copy for.
    pub group: Option<NonZeroU32>,
}

/// A QoS 2 message the client has; PUBREL is owed until PUBCOMP comes.
#[derive(Debug)]
pub(crate) struct Release {
    pub sequence: u64,
    pub ticket: u64,
    /// PUBREC came on this connection, so its PUBREL is sent by who answered that.
    pub live: bool,
}

#[derive(Debug, Default)]
pub(crate) struct Flow {
    /// By sequence. The first `sent` are under way on this connection.
    pub entries: VecDeque<Queued>,
    pub sent: usize,
    /// In the order PUBREC came [MQTT5-4.6.0-4].
    pub releases: VecDeque<Release>,
    /// Releases before this one were sent on this connection.
    pub resent: usize,
    pub last_sequence: u64,
    /// Up to here messages were sent at some time.
    pub sent_through: u64,
    /// Up to here messages were sent on earlier connections.
    pub dup_through: u64,
    pub bytes: usize,
    /// No release is older than this; kept so that the releases are not looked through for each new message.
    pub release_floor: u64,
}

impl Flow {
    /// A new connection: nothing is under way on it.
    pub(crate) fn restart(&mut self) {
        self.sent = 0;
        self.resent = 0;
        self.dup_through = self.sent_through;
        for release in &mut self.releases {
            release.live = false;
        }
    }

    pub(crate) fn waiting(&self) -> usize {
        self.entries.len() - self.sent
    }

    /// The next place in the order. Its identifier is not in use, not even if one message has been under way for
    /// [`IDENTIFIERS`] others.
    pub(crate) fn allocate(&mut self) -> u64 {
        loop {
            self.last_sequence += 1;
            let sequence = self.last_sequence;
            let oldest_entry = self.entries.front().map_or(sequence, |entry| entry.sequence);
            let far = sequence - oldest_entry >= IDENTIFIERS;
            let queued = far && self.position(packet_id(sequence)).is_some();
            if !queued && !self.is_owed_release(sequence) {
                return sequence;
            }
        }
    }

    fn is_owed_release(&mut self, sequence: u64) -> bool {
        if self.releases.is_empty() || sequence - self.release_floor < IDENTIFIERS {
            return false;
        }
        let oldest = self.releases.iter().map(|release| release.sequence).min();
        self.release_floor = oldest.unwrap_or(sequence);
        sequence - self.release_floor >= IDENTIFIERS
            && self.release_position(packet_id(sequence)).is_some()
    }

    pub(crate) fn push_release(&mut self, release: Release) {
        if self.releases.is_empty() || release.sequence < self.release_floor {
            self.release_floor = release.sequence;
        }
        self.releases.push_back(release);
    }

    /// Where the message with this identifier is.
    pub(crate) fn position(&self, wanted: u16) -> Option<usize> {
        if wanted == 0 || u64::from(wanted) > IDENTIFIERS {
            return None;
        }
        let (first, last) = (self.entries.front()?.sequence, self.entries.back()?.sequence);
        let distance =
            (u64::from(wanted) + IDENTIFIERS - u64::from(packet_id(first))) % IDENTIFIERS;
        let mut sequence = first + distance;
        while sequence <= last {
            let guess = (sequence - first) as usize;
            if self.entries.get(guess).is_some_and(|entry| entry.sequence == sequence) {
                return Some(guess);
            }
            if let Ok(found) = self.entries.binary_search_by_key(&sequence, |e| e.sequence) {
                return Some(found);
            }
            sequence += IDENTIFIERS;
        }
        None
    }

    /// Where a message is that the client may have got, on this or an earlier connection.
    pub(crate) fn position_sent(&self, wanted: u16, qos: u8) -> Option<usize> {
        let position = self.position(wanted)?;
        let entry = &self.entries[position];
        let sent = position < self.sent || entry.sequence <= self.sent_through;
        (sent && entry.qos == qos).then_some(position)
    }

    pub(crate) fn release_position(&self, wanted: u16) -> Option<usize> {
        self.releases.iter().position(|release| packet_id(release.sequence) == wanted)
    }

    pub(crate) fn remove(&mut self, position: usize) -> Option<Queued> {
        let entry = match position {
            0 => self.entries.pop_front()?,
            _ => self.entries.remove(position)?,
        };
        if position < self.sent {
            self.sent -= 1;
        }
        self.bytes -= entry.message.bytes();
        if self.entries.is_empty() && self.entries.capacity() > WARM_ENTRIES {
            self.entries = VecDeque::new();
        }
        Some(entry)
    }

    pub(crate) fn remove_release(&mut self, position: usize) -> Option<Release> {
        let release = self.releases.remove(position)?;
        if position < self.resent {
            self.resent -= 1;
        }
        Some(release)
    }

    /// Takes out all there is. With what a shared subscription may give to another member: what is at QoS 1, and at QoS 2
    /// what never was on its way [MQTT5-4.8.2-5].
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = (Queued, bool)> {
        let (sent, sent_through) = (self.sent, self.sent_through);
        (self.sent, self.bytes) = (0, 0);
        self.entries.drain(..).enumerate().map(move |(position, entry)| {
            let begun = position < sent || entry.sequence <= sent_through;
            let shared = entry.group.is_some() && (entry.qos == 1 || !begun);
            (entry, shared)
        })
    }

    /// Whether something could go out now.
    pub(crate) fn has_next(&self, window: usize, durable: u64) -> bool {
        let owes = self.releases.iter().skip(self.resent).find(|release| !release.live);
        if owes.is_some_and(|release| release.ticket <= durable) {
            return true;
        }
        self.releases.len() + self.sent < window
            && self.entries.get(self.sent).is_some_and(|entry| entry.ticket <= durable)
    }
}
