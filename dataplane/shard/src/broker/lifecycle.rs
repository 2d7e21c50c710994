//! Sessions begin, end and time out; wills are published.

use super::link_of;
use super::publish::{Outgoing, Routed};
use crate::connections::Key;
use crate::identity::MessagingRights;
use crate::message::PeerMessage;
use crate::mqtt::Content;
use crate::plane::Plane;
use fulcrum_frame::Frame;
use fulcrum_mqtt::{QoS, ReasonCode, topic};
use fulcrum_ring::Io;
use fulcrum_router::{LinkId, Subscriber, covers};
use fulcrum_sessions::{Due, Ended, Leave, SessionKey, Subscription, Will};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How soon what is not finished goes on.
const AGAIN: Duration = Duration::from_millis(100);
/// How soon what is only cut into turns goes on.
const NEXT_TURN: Duration = Duration::from_millis(1);
/// Topics whose retained message expired, forgotten in one turn.
const EXPIRED_PER_TURN: usize = 256;

/// Group and filter of a subscription as a client spells it: `$share/{group}/{filter}` or the filter alone.
pub(crate) fn group_of(filter: &str) -> (Option<&str>, &str) {
    match topic::shared_subscription(filter) {
        Ok(Some((group, filter))) => (Some(group), filter),
        _ => (None, filter),
    }
}

impl Plane {
    /// Puts a subscription into the tables of all shards; false if it does not fit.
    pub(crate) fn enter_subscription(
        &mut self,
        tenant: &Arc<str>,
        spelled: &str,
        session: SessionKey,
        subscription: Subscription,
        online: bool,
    ) -> bool {
        let (group, filter) = group_of(spelled);
        let subscriber = Subscriber {
            link: link_of(self.index, session),
            qos: subscription.qos,
            no_local: subscription.no_local,
            retain_as_published: subscription.retain_as_published,
            subscription_id: subscription.subscription_id,
            online,
        };
        if let Err(refused) = self.broker.topics.subscribe(tenant, filter, group, subscriber) {
            tracing::debug!(%tenant, %refused, "subscription refused");
            return false;
        }
        self.outbox.tell_all(|| PeerMessage::TopicSubscribed {
            tenant: tenant.clone(),
            filter: filter.into(),
            group: group.map(Into::into),
            subscriber,
        });
        true
    }

    /// Takes a subscription out of the tables of all shards.
    pub(crate) fn leave_subscription(
        &mut self,
        tenant: &Arc<str>,
        spelled: &str,
        session: SessionKey,
    ) {
        let (group, filter) = group_of(spelled);
        let link = link_of(self.index, session);
        self.broker.topics.unsubscribe(tenant, filter, group, link);
        self.outbox.tell_all(|| PeerMessage::TopicUnsubscribed {
            tenant: tenant.clone(),
            filter: filter.into(),
            group: group.map(Into::into),
            link,
        });
    }

    /// Tells shared subscriptions on all shards whether the session's client is there.
    pub(crate) fn tell_online(&mut self, session: SessionKey, online: bool) {
        let shared = |filter: &str| group_of(filter).0.is_some();
        if !self.broker.sessions.subscriptions(session).any(|(filter, _)| shared(filter)) {
            return;
        }
        let link: LinkId = link_of(self.index, session);
        self.broker.topics.set_online(link, online);
        self.outbox.tell_all(|| PeerMessage::Online { link, online });
    }

    /// A connection has left its session.
    pub(crate) fn leave_session(
        &mut self,
        io: &mut Io<'_>,
        session: SessionKey,
        connection: Key,
        how: Leave,
    ) {
        if self.broker.sessions.link(session) == Some(connection.0) {
            self.tell_online(session, false);
        }
        let (now, now_ms) = (self.now, self.now_ms);
        let broker = &mut self.broker;
        let detached =
            broker.sessions.detach(&mut broker.log, session, connection.0, how, now, now_ms);
        if let Some(ended) = detached.ended {
            self.session_ended(io, ended);
        }
        if let Some(will) = detached.will_due {
            self.publish_will(io, will);
        }
    }

    /// A tenant or one of its logins is no more. Whoever bears the name next begins with nothing of it.
    pub(crate) fn forget(&mut self, io: &mut Io<'_>, tenant: &str, login: Option<&str>) {
        let broker = &mut self.broker;
        let all = match login {
            Some(login) => broker.sessions.forget_principal(&mut broker.log, tenant, login),
            None => {
                broker.retained.remove_tenant(tenant);
                broker.sessions.forget_tenant(&mut broker.log, tenant)
            }
        };
        for mut ended in all {
            if let Some(will) = ended.will.take() {
                self.forget_will(&will);
            }
            if login.is_none() {
                ended.shared.clear();
            }
            self.session_ended(io, ended);
        }
    }

    /// A session is no more.
    pub(crate) fn session_ended(&mut self, io: &mut Io<'_>, ended: Ended) {
        for filter in &ended.filters {
            self.leave_subscription(&ended.tenant, filter, ended.key);
        }
        self.broker.parked_walks.remove(&ended.key);
        if !ended.shared.is_empty() {
            self.inherit(&ended.tenant, ended.shared);
            self.give_leftovers(io);
        }
        if let Some(link) = ended.link {
            self.broker.taken_over.push(Key(link));
        }
        if let Some(will) = ended.will {
            self.publish_will(io, will);
        }
    }

    /// Publishes a will; one that finds no room is published as soon as there is [MQTT-3.1.2-8].
    pub(crate) fn publish_will(&mut self, io: &mut Io<'_>, will: Will) {
        let bytes = will.frame.clone();
        let Ok(frame) = Frame::parse(&bytes) else { return };
        // Its expiry begins with its publication (MQTT 5, 3.1.3.2.4).
        let Some(content) = Content::of_frame(frame, frame.created_ms()) else { return };
        let mut matches = std::mem::take(&mut self.broker.scratch.matches);
        // A will is its client's message, so it does not come back where that wants none of its own [MQTT5-3.8.3-3].
        let own = self.broker.sessions.find(&will.tenant, &will.client_id);
        let own = own.map(|session| link_of(self.index, session));
        self.broker.topics.matches(&will.tenant, content.topic, own, &mut matches);
        let qos = QoS::from_u8(frame.qos()).unwrap_or(QoS::AtMostOnce);
        let message =
            Outgoing { tenant: &will.tenant, content, qos, publisher: None, will: Some(&will) };
        let routed = self.publish_message(io, &message, &matches);
        self.broker.scratch.matches = matches;
        match routed {
            Routed::Done(_) | Routed::Waiting => self.metrics.wills_published.add(1),
            Routed::Full => {
                self.metrics.wills_refused.add(1);
                self.forget_will(&will);
            }
            // A full journal has room again when somebody has taken messages.
            Routed::Later(_) | Routed::Refused(ReasonCode::QUOTA_EXCEEDED) => {
                self.broker.unpublished.push_back(will);
            }
            Routed::Refused(reason) => {
                tracing::warn!(tenant = %will.tenant, reason = reason.as_u8(), "a will could not be published");
                self.metrics.wills_refused.add(1);
                self.forget_will(&will);
            }
        }
    }

    /// Notes that a will is over although nobody got it, so that it does not come back at the next start.
    fn forget_will(&mut self, will: &Will) {
        let broker = &mut self.broker;
        let mut transaction = broker.sessions.begin(&will.tenant);
        broker.sessions.published(&mut transaction, will);
        if let Err(room) = broker.sessions.commit(&mut broker.log, transaction) {
            tracing::warn!(?room, "a will that nobody takes cannot be forgotten yet");
        }
    }

    /// What has become due by the passing of time.
    pub(crate) fn session_timeouts(&mut self, io: &mut Io<'_>) {
        for _ in 0..self.broker.unpublished.len() {
            let before = self.broker.unpublished.len();
            let Some(will) = self.broker.unpublished.pop_front() else { break };
            self.publish_will(io, will);
            if self.broker.unpublished.len() == before {
                // It is the last now. What the others want, the next time shows.
                break;
            }
        }
        let (now, now_ms) = (self.now, self.now_ms);
        let mut dues = std::mem::take(&mut self.broker.scratch.dues);
        let broker = &mut self.broker;
        broker.sessions.timeout(&mut broker.log, now, now_ms, &mut dues);
        for due in dues.drain(..) {
            match due {
                Due::Ended(ended) => self.session_ended(io, ended),
                Due::Will(will) => self.publish_will(io, will),
            }
        }
        self.broker.scratch.dues = dues;
        self.give_leftovers(io);
        self.broker.expiring = self.broker.retained.expire(now_ms, EXPIRED_PER_TURN);
    }

    /// When [`Plane::session_timeouts`] has something to do.
    pub(crate) fn next_session_timeout(&self) -> Option<Instant> {
        let broker = &self.broker;
        let soon = !broker.unpublished.is_empty() || broker.expiring;
        let soon = soon.then(|| self.now + AGAIN);
        let leftovers = broker.has_leftovers().then(|| self.now + NEXT_TURN);
        let retained = broker.retained.next_expiry_ms().map(|at_ms| {
            self.now + Duration::from_millis(at_ms.saturating_sub(self.now_ms)).max(AGAIN)
        });
        broker
            .sessions
            .next_timeout()
            .into_iter()
            .chain(soon)
            .chain(leftovers)
            .chain(retained)
            .min()
    }

    /// Takes subscriptions from a session that its principal may not have any more: they were made under other rights.
    pub(crate) fn prune_subscriptions(&mut self, session: SessionKey, rights: &MessagingRights) {
        let permitted = |filter: &str| {
            let (_, filter) = group_of(filter);
            rights.subscribe.iter().any(|pattern| covers(pattern, filter))
        };
        let Some(tenant) = self.broker.sessions.tenant(session).cloned() else { return };
        let gone: Vec<String> = self
            .broker
            .sessions
            .subscriptions(session)
            .filter(|(filter, _)| !permitted(filter))
            .map(|(filter, _)| filter.to_owned())
            .collect();
        for filter in gone {
            let broker = &mut self.broker;
            if broker.sessions.unsubscribe(&mut broker.log, session, &filter).is_ok() {
                self.leave_subscription(&tenant, &filter, session);
            }
        }
    }

    /// Tells all shards what was found in this one's session journal; then that this was all.
    pub(crate) fn announce_recovered(&mut self) {
        let keys: Vec<SessionKey> = self.broker.sessions.keys().collect();
        for key in keys {
            let Some(tenant) = self.broker.sessions.tenant(key).cloned() else { continue };
            let found: Vec<(String, Subscription)> = self
                .broker
                .sessions
                .subscriptions(key)
                .map(|(filter, subscription)| (filter.to_owned(), subscription))
                .collect();
            for (filter, subscription) in found {
                self.enter_subscription(&tenant, &filter, key, subscription, false);
            }
        }
        let broker = &mut self.broker;
        for kept in broker.sessions.retained() {
            let frame: Arc<[u8]> = Arc::from(&kept.frame[..]);
            let (version, expires_at_ms) = (kept.version, kept.expires_at_ms);
            let copy = Some(frame.clone());
            // An older version than what is known changes nothing.
            let _ = broker.retained.follow(kept.tenant, kept.topic, copy, version, expires_at_ms);
            self.outbox.tell_all(|| PeerMessage::Retained {
                tenant: kept.tenant.clone(),
                topic: kept.topic.into(),
                frame: Some(frame.clone()),
                version,
                expires_at_ms,
            });
        }
        // A message that another shard forwards again may be older than its topic's end.
        let has_others = self.outbox.shards() > 1;
        let ended = broker.sessions.take_ended_topics().filter(|_| has_others);
        for (tenant, topic, version) in ended {
            let _ = broker.retained.follow(&tenant, &topic, None, version, None);
            self.outbox.tell_all(|| PeerMessage::Retained {
                tenant: tenant.clone(),
                topic: (*topic).into(),
                frame: None,
                version,
                expires_at_ms: None,
            });
        }
        self.outbox.tell_all(|| PeerMessage::Ready);
    }

    /// Has the session journal keep few segments.
    pub(crate) fn copy_forward(&mut self) {
        let live_bytes = self.broker.sessions.metrics().live_bytes;
        let Some(budget) = self.broker.log.copy_budget(live_bytes) else { return };
        let broker = &mut self.broker;
        if let Some(segment) = broker.sessions.compact(&mut broker.log, budget) {
            broker.log.release_below(segment);
        }
    }
}
