//! Subscriptions as a session remembers them; the caller keeps the route table.

use crate::record::Entry;
use crate::session::subscription_bytes;
use crate::sessions::session_of;
use crate::{Log, Room, SessionKey, Sessions, SubscribeRefused};

/// The options of a subscription. Retain handling is for the moment of subscribing alone and not kept.
#[derive(Copy, Clone, Eq, PartialEq, Debug, Default)]
pub struct Subscription {
    /// Maximum QoS, 0 to 2.
    pub qos: u8,
    /// Not to the client that published [MQTT5-3.8.3-3].
    pub no_local: bool,
    /// Retain flag passed on as published [MQTT5-3.3.1-13].
    pub retain_as_published: bool,
    /// Subscription identifier; 0 for none.
    pub subscription_id: u32,
}

/// A subscription is made.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub struct Subscribed {
    /// The session had this filter already [MQTT5-3.8.4-3].
    pub existed: bool,
    /// SUBACK leaves when this is durable.
    pub ticket: Option<u64>,
}

impl Sessions {
    /// Makes or replaces a subscription.
    ///
    /// # Errors
    /// See [`SubscribeRefused`]; nothing has changed then.
    pub fn subscribe(
        &mut self,
        log: &mut (impl Log + ?Sized),
        key: SessionKey,
        filter: &str,
        subscription: Subscription,
    ) -> Result<Subscribed, SubscribeRefused> {
        let max = self.limits.subscriptions_per_session_max;
        let session = self.session(key).ok_or(SubscribeRefused::Gone)?;
        let durable = session.durable.as_ref().map(|durable| (durable.id, durable.last_ticket));
        let position = session.filter_position(filter);
        if let Ok(position) = position
            && session.subscriptions[position].1 == subscription
        {
            let ticket = durable.and_then(|(_, last)| self.books.pending(last));
            return Ok(Subscribed { existed: true, ticket });
        }
        if position.is_err() && session.subscriptions.len() >= max {
            return Err(SubscribeRefused::TooMany);
        }
        let mut ticket = None;
        if let Some((session, _)) = durable {
            let entry = Entry::Subscribed { session, filter, subscription };
            let place = self.append_of(log, key, &[entry], false);
            ticket = Some(place.map_err(SubscribeRefused::Log)?.ticket);
        }
        if let Some(session) = session_of(&mut self.slots, key) {
            match position {
                Ok(position) => session.subscriptions[position].1 = subscription,
                Err(position) => {
                    if session.durable.is_some() {
                        self.books.image_bytes += subscription_bytes(filter);
                    }
                    session.subscriptions.insert(position, (filter.into(), subscription));
                }
            }
        }
        Ok(Subscribed { existed: position.is_ok(), ticket })
    }

    /// Removes a subscription: whether there was one, and the ticket UNSUBACK waits for.
    ///
    /// # Errors
    /// The log does not take the record; nothing has changed then.
    pub fn unsubscribe(
        &mut self,
        log: &mut (impl Log + ?Sized),
        key: SessionKey,
        filter: &str,
    ) -> Result<(bool, Option<u64>), Room> {
        let Some(session) = self.session(key) else { return Ok((false, None)) };
        let durable = session.durable.as_ref().map(|durable| (durable.id, durable.last_ticket));
        let Ok(position) = session.filter_position(filter) else {
            // What removed it may not be durable yet.
            return Ok((false, durable.and_then(|(_, last)| self.books.pending(last))));
        };
        let mut ticket = None;
        if let Some((session, _)) = durable {
            let entry = Entry::Unsubscribed { session, filter };
            ticket = Some(self.append_of(log, key, &[entry], true)?.ticket);
        }
        if let Some(session) = session_of(&mut self.slots, key) {
            if session.durable.is_some() {
                self.books.image_bytes -= subscription_bytes(filter);
            }
            session.subscriptions.remove(position);
        }
        Ok((true, ticket))
    }

    /// The session's subscriptions, by filter.
    pub fn subscriptions(&self, key: SessionKey) -> impl Iterator<Item = (&str, Subscription)> {
        let subscriptions = self.session(key).map_or(&[][..], |session| &session.subscriptions);
        subscriptions.iter().map(|(filter, subscription)| (&**filter, *subscription))
    }

    /// One subscription of a session.
    #[must_use]
    pub fn subscription(&self, key: SessionKey, filter: &str) -> Option<Subscription> {
        let session = self.session(key)?;
        Some(session.subscriptions[session.filter_position(filter).ok()?].1)
    }
}
