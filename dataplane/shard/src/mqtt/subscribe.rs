//! SUBSCRIBE and UNSUBSCRIBE, and subscriptions to messaging addresses.
//!
//! SUBACK leaves when the subscription is durable, if the session is, and when every shard knows of it: what is published
//! anywhere after that is delivered. The packet stays at the front of the input until then.

use super::reply::{put_suback, put_unsuback};
use super::session::Session;
use super::topics::is_device_topic;
use crate::broker::Walk;
use crate::connections::Hold;
use crate::flow::Flow;
use crate::identity::Principal;
use crate::limits::{SUBSCRIBE_RECORD_BYTES, WALKS_MAX};
use crate::plane::Plane;
use crate::stored::Waiter;
use crate::turn::Turn;
use fulcrum_journal::Ticket;
use fulcrum_mqtt::{
    Property, ReasonCode, RetainHandling, Subscribe, SubscribeFilter, Unsubscribe, topic,
};
use fulcrum_router::covers;
use fulcrum_sessions::{Log, Room, SubscribeRefused, Subscription};

/// Room in the journal one packet waits for, at most: a session has so many subscriptions only.
const SUBSCRIBE_BYTES_MAX: usize = 1 << 20;

/// What has to be on disk, or known elsewhere, before the answer.
#[derive(Default)]
struct Awaited {
    ticket: Option<u64>,
    shards: bool,
}

impl Session {
    pub(super) fn subscribe(&mut self, turn: &mut Turn<'_, '_>, subscribe: &Subscribe<'_>) -> Flow {
        if let Some(codes) = self.subscribing.take() {
            return self.subscribed(turn, subscribe.packet_id, codes.into());
        }
        if let Some(flow) =
            self.wait_for_room(turn, subscribe.filters().map(|wanted| wanted.filter.len()))
        {
            return flow;
        }
        if let Some(flow) = self.ask_about_filters(turn, subscribe) {
            return flow;
        }
        let Some(principal) = self.principal().cloned() else { return Flow::End };
        let subscription_id = subscribe.properties.iter().find_map(|property| match property {
            Property::SubscriptionIdentifier(id) => Some(id),
            _ => None,
        });
        let link = turn.plane.link(turn.wire.key);
        let mut awaited = Awaited::default();
        let mut codes = Vec::with_capacity(subscribe.filter_count());
        for wanted in subscribe.filters() {
            codes.push(if is_device_topic(wanted.filter) {
                let qos = wanted.options.qos;
                let wanted = (wanted.filter, qos, subscription_id);
                self.subscribe_device(turn.plane, &principal, wanted, link)
            } else {
                let id = subscription_id.unwrap_or(0);
                self.subscribe_messaging(turn.plane, &principal, &wanted, id, &mut awaited)
            });
        }
        self.waits = u16::from(awaited.ticket.is_some());
        if let Some(ticket) = awaited.ticket {
            let waiter = Waiter::Held { connection: turn.wire.key };
            turn.plane.broker.log.stored.wait(Ticket(ticket), waiter);
        }
        if awaited.shards {
            self.waits += u16::from(turn.plane.raise_barrier(turn.wire.key, false));
        }
        if self.waits == 0 {
            return self.subscribed(turn, subscribe.packet_id, codes);
        }
        self.subscribing = Some(codes.into());
        Flow::Again(Hold::Commit)
    }

    fn subscribed(
        &mut self,
        turn: &mut Turn<'_, '_>,
        packet_id: u16,
        mut codes: Vec<ReasonCode>,
    ) -> Flow {
        let level = self.level;
        let Some(output) = turn.output() else { return Flow::End };
        // SUBACK goes into the output before any command or retained message can.
        put_suback(level, packet_id, &mut codes, output);
        if !self.walks.is_empty() {
            turn.plane.walking.push(turn.wire.key);
        }
        self.attach_commands(turn.plane, turn.wire.key);
        Flow::Next
    }

    fn subscribe_messaging(
        &mut self,
        plane: &mut Plane,
        principal: &Principal,
        wanted: &SubscribeFilter<'_>,
        subscription_id: u32,
        awaited: &mut Awaited,
    ) -> ReasonCode {
        let spelled = wanted.filter;
        let shared = topic::shared_subscription(spelled);
        let (filter, shared) = match shared {
            Ok(Some((_, filter))) => (filter, true),
            Ok(None) => (spelled, false),
            Err(_) => return ReasonCode::TOPIC_FILTER_INVALID,
        };
        if shared && wanted.options.no_local {
            // [MQTT5-3.8.3-4]
            return ReasonCode::UNSPECIFIED_ERROR;
        }
        let rights = &principal.messaging.subscribe;
        if !rights.iter().any(|pattern| covers(pattern, filter)) {
            return ReasonCode::NOT_AUTHORIZED;
        }
        let subscription = Subscription {
            qos: wanted.options.qos.as_u8(),
            no_local: wanted.options.no_local,
            retain_as_published: wanted.options.retain_as_published,
            subscription_id,
        };
        let tenant = &principal.tenant;
        let broker = &mut plane.broker;
        let subscribed =
            broker.sessions.subscribe(&mut broker.log, self.session, spelled, subscription);
        let subscribed = match subscribed {
            Ok(subscribed) => subscribed,
            Err(SubscribeRefused::TooMany) => return ReasonCode::QUOTA_EXCEEDED,
            Err(_) => return ReasonCode::UNSPECIFIED_ERROR,
        };
        awaited.ticket = awaited.ticket.max(subscribed.ticket);
        if !plane.enter_subscription(tenant, spelled, self.session, subscription, true) {
            let broker = &mut plane.broker;
            if !subscribed.existed {
                // There was room for it a moment ago, and an end may use the reserve.
                let _ = broker.sessions.unsubscribe(&mut broker.log, self.session, spelled);
            }
            return ReasonCode::QUOTA_EXCEEDED;
        }
        awaited.shards = true;
        let sends_retained = match wanted.options.retain_handling {
            RetainHandling::Send => true,
            RetainHandling::SendIfNew => !subscribed.existed,
            RetainHandling::DoNotSend => false,
        };
        // To a shared subscription no retained message goes (MQTT 5, 4.8.2).
        if sends_retained && !shared && self.walks.len() < WALKS_MAX {
            let (qos, cursor) = (subscription.qos, None);
            self.walks.push_back(Walk { filter: filter.into(), qos, subscription_id, cursor });
        }
        ReasonCode::granted(wanted.options.qos)
    }

    pub(super) fn unsubscribe(
        &mut self,
        turn: &mut Turn<'_, '_>,
        unsubscribe: &Unsubscribe<'_>,
    ) -> Flow {
        if let Some(codes) = self.subscribing.take() {
            return self.unsubscribed(turn, unsubscribe.packet_id, &codes);
        }
        if let Some(flow) = self.wait_for_room(turn, unsubscribe.filters().map(str::len)) {
            return flow;
        }
        let Some(principal) = self.principal().cloned() else { return Flow::End };
        let link = turn.plane.link(turn.wire.key);
        let mut left_group = false;
        let mut ticket = None;
        let mut codes = Vec::with_capacity(unsubscribe.filter_count());
        for filter in unsubscribe.filters() {
            let existed = if is_device_topic(filter) {
                self.unsubscribe_device(turn.plane, &principal, filter, link)
            } else {
                let broker = &mut turn.plane.broker;
                let ended = broker.sessions.unsubscribe(&mut broker.log, self.session, filter);
                let (existed, durable) = ended.unwrap_or((false, None));
                if existed {
                    turn.plane.leave_subscription(&principal.tenant, filter, self.session);
                    left_group |= matches!(topic::shared_subscription(filter), Ok(Some(_)));
                }
                ticket = ticket.max(durable);
                existed
            };
            codes.push(match existed {
                true => ReasonCode::SUCCESS,
                false => ReasonCode::NO_SUBSCRIPTION_EXISTED,
            });
        }
        self.waits = u16::from(ticket.is_some());
        if let Some(ticket) = ticket {
            let waiter = Waiter::Held { connection: turn.wire.key };
            turn.plane.broker.log.stored.wait(Ticket(ticket), waiter);
        }
        if left_group {
            // What other shards have given this member is here before the answer: it may leave after that, and takes no
            // message of its group with it.
            self.waits += u16::from(turn.plane.raise_barrier(turn.wire.key, true));
        }
        if self.waits == 0 {
            return self.unsubscribed(turn, unsubscribe.packet_id, &codes);
        }
        self.subscribing = Some(codes.into());
        Flow::Again(Hold::Commit)
    }

    fn unsubscribed(
        &mut self,
        turn: &mut Turn<'_, '_>,
        packet_id: u16,
        codes: &[ReasonCode],
    ) -> Flow {
        let level = self.level;
        let Some(output) = turn.output() else { return Flow::End };
        put_unsuback(level, packet_id, codes, output);
        Flow::Next
    }

    /// A packet with many filters is done whole or not yet.
    fn wait_for_room(
        &self,
        turn: &mut Turn<'_, '_>,
        filters: impl Iterator<Item = usize>,
    ) -> Option<Flow> {
        let broker = &turn.plane.broker;
        if !broker.sessions.is_durable(self.session) {
            return None;
        }
        let bytes: usize = filters.map(|bytes| SUBSCRIBE_RECORD_BYTES + bytes).sum();
        let bytes = bytes.min(SUBSCRIBE_BYTES_MAX);
        let later = broker.log.room(bytes) == Room::Later;
        later.then(|| {
            turn.plane.parked.push(turn.wire.key);
            Flow::Again(Hold::Journal)
        })
    }
}
