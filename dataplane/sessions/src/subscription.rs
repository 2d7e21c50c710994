//! Subscriptions as a session remembers them; the caller keeps the route table.

use crate::{Log, Room, SessionKey, Sessions, SubscribeRefused};

/// The options of a subscription. Retain handling is for the moment of subscribing alone and not kept.
#[derive(Copy, Clone, Eq, PartialEq, Debug, Default)]
pub struct Subscription {
    /// Maximum QoS, 0 to 2.
    pub qos: u8,
    /// Not to the client that published [MQTT-3.8.3-3].
    pub no_local: bool,
    /// Retain flag passed on as published [MQTT-3.3.1-13].
    pub retain_as_published: bool,
    /// Subscription identifier; 0 for none.
    pub subscription_id: u32,
}

/// A subscription is made.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub struct Subscribed {
    /// The session had this filter already [MQTT-3.8.4-3].
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
        let _ = (log, key, filter, subscription);
        Err(SubscribeRefused::Gone)
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
        let _ = (log, key, filter);
        Ok((false, None))
    }

    /// The session's subscriptions, by filter.
    pub fn subscriptions(&self, key: SessionKey) -> impl Iterator<Item = (&str, Subscription)> {
        let _ = key;
        std::iter::empty()
    }
}
