//! Towards the client: what goes out next, and its acknowledgements; and the release of what came from it.

use std::sync::Arc;

use crate::flow::{Release, packet_id as id_of};
use crate::record::Entry;
use crate::sessions::{discharge, session_of};
use crate::{Log, Message, Room, SessionKey, Sessions, SubscriptionIds};

/// What goes to a client next.
#[derive(Clone, Debug)]
pub enum Outgoing {
    /// A PUBLISH.
    Publish {
        /// Its identifier; unused otherwise until it is acknowledged.
        packet_id: u16,
        /// It was sent on an earlier connection [MQTT5-3.3.1-1]; or may have been, if a crash ended that one.
        dup: bool,
        /// 1 or 2.
        qos: u8,
        /// The retain flag.
        retain: bool,
        /// The message.
        message: Arc<Message>,
        /// Identifiers to send with it.
        subscription_ids: SubscriptionIds,
    },
    /// A PUBREL that is sent again [MQTT-4.4.0-1].
    PubRel {
        /// Its identifier.
        packet_id: u16,
    },
}

/// Whether an acknowledgement fits something under way.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub enum Ack {
    /// It does.
    Known,
    /// Nothing with this identifier waits for it: reason 0x92 where the packet has one.
    Unknown,
}

impl Sessions {
    /// What goes to the client next; it counts as sent. First what was under way on an earlier connection, in its
    /// order, then what waits [MQTT-4.6.0-1]. Expired messages are dropped on the way.
    pub fn next(
        &mut self,
        log: &mut (impl Log + ?Sized),
        key: SessionKey,
        now_ms: u64,
    ) -> Option<Outgoing> {
        let (inflight_max, durable) = (self.limits.inflight_max, self.books.durable);
        loop {
            let session = session_of(&mut self.slots, key)?;
            if session.link.is_none() || session.open_after > durable {
                return None;
            }
            let window = session.window(inflight_max);
            let flow = session.flow.as_mut()?;
            while let Some(release) = flow.releases.get(flow.resent) {
                if release.live {
                    flow.resent += 1;
                    continue;
                }
                if release.ticket > durable {
                    return None;
                }
                flow.resent += 1;
                return Some(Outgoing::PubRel { packet_id: id_of(release.sequence) });
            }
            if flow.releases.len() + flow.sent >= window {
                return None;
            }
            let entry = flow.entries.get(flow.sent)?;
            if entry.ticket > durable {
                return None;
            }
            if entry.sequence > flow.sent_through && entry.message.is_expired(now_ms) {
                let position = flow.sent;
                self.counters.expired_messages += 1;
                self.drop_entry(log, key, position);
                continue;
            }
            flow.sent += 1;
            let dup = entry.sequence <= flow.dup_through;
            flow.sent_through = flow.sent_through.max(entry.sequence);
            return Some(Outgoing::Publish {
                packet_id: id_of(entry.sequence),
                dup,
                qos: entry.qos,
                retain: entry.retain,
                message: Arc::clone(&entry.message),
                subscription_ids: entry.ids.clone(),
            });
        }
    }

    /// The message just handed out cannot go to this client [MQTT5-3.1.2-25]: done with it.
    pub fn skip(&mut self, log: &mut (impl Log + ?Sized), key: SessionKey, packet_id: u16) {
        let Some(flow) = self.session(key).and_then(|session| session.flow.as_ref()) else {
            return;
        };
        if let Some(position) = flow.position(packet_id) {
            self.counters.skipped_messages += 1;
            self.drop_entry(log, key, position);
            self.wake(key);
        }
    }

    /// PUBACK came.
    pub fn puback(
        &mut self,
        log: &mut (impl Log + ?Sized),
        key: SessionKey,
        packet_id: u16,
    ) -> Ack {
        let Some(position) = self.sent_position(key, packet_id, 1) else { return Ack::Unknown };
        self.drop_entry(log, key, position);
        self.wake(key);
        Ack::Known
    }

    /// PUBREC came; `refused` if its reason is 0x80 or more, which ends the exchange. The ticket is what PUBREL waits
    /// for (none is sent if refused).
    ///
    /// # Errors
    /// The log does not take the record; nothing has changed then, and PUBREL must not be sent.
    pub fn pubrec(
        &mut self,
        log: &mut (impl Log + ?Sized),
        key: SessionKey,
        packet_id: u16,
        refused: bool,
    ) -> Result<(Ack, Option<u64>), Room> {
        let Some(position) = self.sent_position(key, packet_id, 2) else {
            let release = self.session(key).and_then(|session| {
                let flow = session.flow.as_ref()?;
                flow.releases.get(flow.release_position(packet_id)?)
            });
            return Ok(match release {
                Some(release) => (Ack::Known, self.books.pending(release.ticket)),
                None => (Ack::Unknown, None),
            });
        };
        if refused {
            self.drop_entry(log, key, position);
            self.wake(key);
            return Ok((Ack::Known, None));
        }
        let Some((sequence, durable)) = self.numbers(key, position) else {
            return Ok((Ack::Unknown, None));
        };
        let ticket = match durable {
            Some(session) => {
                let released = Entry::Released { session, sequence };
                Some(self.append_of(log, key, &[released], true)?.ticket)
            }
            None => None,
        };
        self.take_entry(key, position, ticket);
        if let Some(session) = session_of(&mut self.slots, key) {
            let release = Release { sequence, ticket: ticket.unwrap_or(0), live: true };
            session.flow().push_release(release);
        }
        Ok((Ack::Known, ticket))
    }

    /// PUBCOMP came.
    pub fn pubcomp(
        &mut self,
        log: &mut (impl Log + ?Sized),
        key: SessionKey,
        packet_id: u16,
    ) -> Ack {
        let Some(session) = session_of(&mut self.slots, key) else { return Ack::Unknown };
        let durable = session.durable.as_ref().map(|durable| durable.id);
        let release = session.flow.as_mut().and_then(|flow| {
            let position = flow.release_position(packet_id)?;
            flow.remove_release(position)
        });
        let Some(Release { sequence, .. }) = release else { return Ack::Unknown };
        if let Some(session) = durable {
            self.append_done(log, key, &[Entry::ReleaseDone { session, sequence }]);
        }
        self.wake(key);
        Ack::Known
    }

    /// Whether a QoS 2 message with this identifier came and was not released yet.
    #[must_use]
    pub fn incoming_is_known(&self, key: SessionKey, packet_id: u16) -> bool {
        self.session(key).is_some_and(|session| session.knows_incoming(packet_id).is_some())
    }

    /// PUBREL came: forgets the identifier. Whether it was known, and the ticket PUBCOMP waits for.
    ///
    /// # Errors
    /// The log does not take the record; nothing has changed then, and PUBCOMP must not be sent.
    pub fn pubrel(
        &mut self,
        log: &mut (impl Log + ?Sized),
        key: SessionKey,
        packet_id: u16,
    ) -> Result<(bool, Option<u64>), Room> {
        let Some(session) = self.session(key) else { return Ok((false, None)) };
        let durable = session.durable.as_ref().map(|durable| (durable.id, durable.last_ticket));
        if session.knows_incoming(packet_id).is_none() {
            // Its removal may not be durable yet; a client told so now would use the identifier for something else.
            return Ok((false, durable.and_then(|(_, last)| self.books.pending(last))));
        }
        let ticket = match durable {
            Some((session, _)) => {
                let done = Entry::IncomingDone { session, packet_id };
                Some(self.append_of(log, key, &[done], true)?.ticket)
            }
            None => None,
        };
        if let Some(incoming) =
            session_of(&mut self.slots, key).and_then(|session| session.incoming.as_mut())
            && let Some(position) = incoming.iter().position(|one| one.packet_id == packet_id)
        {
            incoming.remove(position);
        }
        Ok((true, ticket))
    }
}

impl Sessions {
    fn sent_position(&self, key: SessionKey, packet_id: u16, qos: u8) -> Option<usize> {
        self.session(key)?.flow.as_ref()?.position_sent(packet_id, qos)
    }

    /// A message's place in the order, and its session's number in the log.
    fn numbers(&self, key: SessionKey, position: usize) -> Option<(u64, Option<u64>)> {
        let session = self.session(key)?;
        let entry = session.flow.as_ref()?.entries.get(position)?;
        Some((entry.sequence, session.durable.as_ref().map(|durable| durable.id)))
    }

    /// A message is done with, and the log is told.
    pub(crate) fn drop_entry(
        &mut self,
        log: &mut (impl Log + ?Sized),
        key: SessionKey,
        position: usize,
    ) {
        let mut ticket = None;
        if let Some((sequence, Some(session))) = self.numbers(key, position) {
            ticket = self.append_done(log, key, &[Entry::Done { session, sequence }]);
        }
        self.take_entry(key, position, ticket);
    }

    /// Takes a message out of memory, as of the record with this ticket.
    fn take_entry(&mut self, key: SessionKey, position: usize, ticket: Option<u64>) {
        let Some(session) = session_of(&mut self.slots, key) else { return };
        let Some(entry) = session.flow.as_mut().and_then(|flow| flow.remove(position)) else {
            return;
        };
        self.books.release_body(entry.body, ticket);
        self.clock.forget(&entry.message);
        discharge(&mut self.tenants, &mut self.counters, session.tenant, &entry);
    }
}
