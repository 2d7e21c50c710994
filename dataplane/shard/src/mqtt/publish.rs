//! PUBLISH: which face of the listener a topic belongs to, and what both have in common.

use super::device_publish::DeviceRoute;
use super::session::Session;
use super::topics::is_device_topic;
use crate::broker::{Publication, Routed};
use crate::flow::Flow;
use crate::turn::Turn;
use fulcrum_mqtt::{Properties, Property, ProtocolLevel, Publish, QoS, ReasonCode};
use fulcrum_router::{LinkId, Matches, pattern_matches};

use super::alias::AliasError;
use super::content::Content;

/// Where the last topic of this connection leads: most clients publish to one.
#[derive(Default)]
pub(crate) struct RouteCache {
    pub(super) topic: String,
    pub(super) to: To,
}

/// The face it belongs to, and what was found out about it.
#[derive(Default)]
pub(super) enum To {
    #[default]
    Nowhere,
    /// Telemetry of the connection's own device.
    Device(DeviceRoute),
    /// A messaging address the client may publish to.
    Messaging(Box<Matches>),
}

/// A QoS 0 PUBLISH without RETAIN.
const PLAIN_PUBLISH: u8 = 0x30;

impl Session {
    /// Takes the packet at the front of `bytes` if it is a plain PUBLISH of 3.1.1 to the topic of the one before: what was
    /// found out about that one holds for it, and 3.1.1 subscribers get it as it came. How many bytes it has; `None`:
    /// it is to be decoded.
    pub(super) fn publish_again(&mut self, turn: &mut Turn<'_, '_>, bytes: &[u8]) -> Option<usize> {
        if self.level != ProtocolLevel::V311 || bytes.first() != Some(&PLAIN_PUBLISH) {
            return None;
        }
        let (head, remaining) = match bytes {
            [_, low, ..] if *low < 0x80 => (2, usize::from(*low)),
            // A length of more bytes than it needs is malformed [MQTT5-1.5.5-1]: the codec says so.
            [_, low, high, ..] if *high < 0x80 && *high != 0 => {
                (3, usize::from(*low & 0x7f) | usize::from(*high) << 7)
            }
            _ => return None,
        };
        let packet = bytes.get(..head + remaining)?;
        if packet.len() > turn.plane.settings.message_bytes_max {
            return None;
        }
        let route = self.route.as_deref_mut()?;
        let To::Messaging(matches) = &mut route.to else { return None };
        let topic_end = head + 2 + route.topic.len();
        let same = packet.get(head..head + 2)? == (route.topic.len() as u16).to_be_bytes()
            && packet.get(head + 2..topic_end)? == route.topic.as_bytes();
        let tenant = &self.principal.as_ref()?.tenant;
        if !same || !turn.plane.broker.topics.is_current(tenant, matches) {
            return None;
        }
        let payload = &packet[topic_end..];
        let content = Content::of_packet(&route.topic, payload, false, Properties::EMPTY);
        let own = turn.wire.key;
        if !turn.plane.pass_on(turn.io, (&content, packet), matches, own) {
            return None;
        }
        for copy in std::mem::take(&mut turn.plane.broker.self_copies) {
            // The publisher speaks 3.1.1, so its copy is the packet too.
            if let Some(output) = turn.wire.output(turn.io) {
                debug_assert!(!copy.retain);
                output.extend_from_slice(packet);
            }
        }
        Some(packet.len())
    }

    pub(super) fn publish(&mut self, turn: &mut Turn<'_, '_>, publish: &Publish<'_>) -> Flow {
        if publish.properties.is_empty() {
            return self.publish_named(turn, publish);
        }
        let mut alias = None;
        for property in &publish.properties {
            match property {
                Property::TopicAlias(number) => alias = Some(number),
                // A client must not send one [MQTT5-3.3.4-6].
                Property::SubscriptionIdentifier(_) => {
                    return self.break_off(turn, ReasonCode::PROTOCOL_ERROR);
                }
                _ => {}
            }
        }
        let Some(alias) = alias else { return self.publish_named(turn, publish) };
        let known = self.received_aliases.get_or_insert_default();
        let topic = match publish.topic {
            "" => known.topic(alias).map(str::to_owned),
            topic => known.learn(alias, topic).map(|()| topic.to_owned()),
        };
        match topic {
            Ok(topic) => self.publish_named(turn, &Publish { topic: &topic, ..*publish }),
            Err(AliasError::OutOfRange) => self.break_off(turn, ReasonCode::TOPIC_ALIAS_INVALID),
            Err(AliasError::Unknown) => self.break_off(turn, ReasonCode::PROTOCOL_ERROR),
        }
    }

    fn publish_named(&mut self, turn: &mut Turn<'_, '_>, publish: &Publish<'_>) -> Flow {
        if publish.qos != QoS::AtMostOnce
            && self.level == ProtocolLevel::V5
            && self.owed() >= usize::from(turn.plane.settings.receive_max)
        {
            // [MQTT5-3.3.4-7]
            return self.break_off(turn, ReasonCode::RECEIVE_MAXIMUM_EXCEEDED);
        }
        match self.route.as_deref() {
            Some(route) if route.topic == publish.topic => match route.to {
                To::Messaging(_) => return self.publish_messaging(turn, publish),
                To::Device(_) => return self.publish_device(turn, publish),
                To::Nowhere => {}
            },
            _ => {}
        }
        match is_device_topic(publish.topic) {
            true => self.publish_device(turn, publish),
            false => self.publish_messaging(turn, publish),
        }
    }

    fn publish_messaging(&mut self, turn: &mut Turn<'_, '_>, publish: &Publish<'_>) -> Flow {
        let mut route = self.route.take().unwrap_or_default();
        let Some(principal) = &self.principal else { return Flow::End };
        let tenant = &principal.tenant;
        let topics = &turn.plane.broker.topics;
        let current = route.topic == publish.topic
            && match &mut route.to {
                To::Messaging(matches) => topics.is_current(tenant, matches),
                _ => false,
            };
        if !current {
            let mut permitted = principal.messaging.publish.iter();
            if !permitted.any(|pattern| pattern_matches(pattern, publish.topic)) {
                if principal.has_device_api_only() {
                    return self.fail_unknown_endpoint(turn, publish);
                }
                return self.refuse_publish(turn, publish, refusal_of(publish.topic));
            }
            let mut matches = match std::mem::take(&mut route.to) {
                To::Messaging(matches) => matches,
                _ => Box::default(),
            };
            let own = LinkId { shard: turn.plane.index, key: self.session.0 };
            topics.matches(tenant, publish.topic, Some(own), &mut matches);
            route.topic.clear();
            route.topic.push_str(publish.topic);
            route.to = To::Messaging(matches);
        }
        let To::Messaging(matches) = &route.to else { return Flow::End };
        let content = Content::of_publish(publish.topic, publish);
        let publication = Publication {
            tenant,
            content,
            qos: publish.qos,
            publisher: Some((self.session, turn.wire.key, publish.packet_id)),
            will: None,
        };
        let routed = turn.plane.publish_message(turn.io, &publication, matches);
        self.route = Some(route);
        self.take_self_copies(turn, &content);
        match routed {
            Routed::Done(reason) => self.answer_publish(turn, publish, reason),
            Routed::Waiting => {
                publish.packet_id.into_iter().for_each(|id| self.owe(id, publish.qos));
                Flow::Next
            }
            Routed::Later(hold) => {
                turn.plane.parked.push(turn.wire.key);
                Flow::Again(hold)
            }
            // 3.1.1 has no word for it, and one subscriber's full queue is no reason to end a publisher's connection: it is
            // counted, as everywhere in the field.
            Routed::Full if self.level == ProtocolLevel::V311 => {
                self.answer_publish(turn, publish, ReasonCode::SUCCESS)
            }
            Routed::Full => self.refuse_publish(turn, publish, ReasonCode::QUOTA_EXCEEDED),
            Routed::Refused(ReasonCode::RECEIVE_MAXIMUM_EXCEEDED) => {
                self.break_off(turn, ReasonCode::RECEIVE_MAXIMUM_EXCEEDED)
            }
            Routed::Refused(reason) => self.refuse_publish(turn, publish, reason),
        }
    }

    /// The publisher is subscribed to its own topic at QoS 0.
    fn take_self_copies(&mut self, turn: &mut Turn<'_, '_>, content: &Content<'_>) {
        if turn.plane.broker.self_copies.is_empty() {
            return;
        }
        for copy in std::mem::take(&mut turn.plane.broker.self_copies) {
            let Some(output) = turn.wire.output(turn.io) else { return };
            if self.write_at_most_once(content, copy.retain, &copy.ids, output) {
                turn.plane.metrics.messages_sent.add(1);
            }
        }
    }

    pub(super) fn answer_publish(
        &mut self,
        turn: &mut Turn<'_, '_>,
        publish: &Publish<'_>,
        reason: ReasonCode,
    ) -> Flow {
        let Some(packet_id) = publish.packet_id else { return Flow::Next };
        self.owe(packet_id, publish.qos);
        let Some(output) = turn.output() else { return Flow::End };
        self.settle(packet_id, reason, output);
        Flow::Next
    }

    /// Says no in the acknowledgement where the protocol can, and otherwise by ending the connection [MQTT-3.3.5-2]:
    /// never with silence that looks like success.
    pub(super) fn refuse_publish(
        &mut self,
        turn: &mut Turn<'_, '_>,
        publish: &Publish<'_>,
        reason: ReasonCode,
    ) -> Flow {
        turn.plane.metrics.messages_refused.add(1);
        tracing::debug!(topic = publish.topic, reason = reason.as_u8(), "publish refused");
        match (self.level, publish.packet_id) {
            (ProtocolLevel::V5, Some(_)) => self.answer_publish(turn, publish, reason),
            _ => self.end_with(turn, reason),
        }
    }
}

/// Why a client may not publish there.
fn refusal_of(topic: &str) -> ReasonCode {
    match topic.starts_with('$') {
        true => ReasonCode::TOPIC_NAME_INVALID,
        false => ReasonCode::NOT_AUTHORIZED,
    }
}
