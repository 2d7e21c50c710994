//! PUBLISH to the device API: telemetry, events, command responses.

use super::publish::To;
use super::session::Session;
use super::topics::{Address, PublishTopic, bag_pairs, decode_request_id, parse_publish};
use crate::connections::{Hold, Key};
use crate::flow::Flow;
use crate::identity::{Adapter, Refusal, Role};
use crate::limits::AUTHORISED_DEVICES_MAX;
use crate::plane::{Inbound, Plane, Producer};
use crate::ports::Ticket;
use crate::stored::{NotStored, Waiter};
use crate::telemetry::{Taken, route_of, topic_of};
use crate::turn::Turn;
use fulcrum_frame::Class;
use fulcrum_mqtt::{Publish, QoS, ReasonCode};
use fulcrum_router::Target;
use std::sync::Arc;

/// Where a telemetry topic of the connection's own device leads.
#[derive(Default)]
pub(super) struct DeviceRoute {
    version: Option<u64>,
    device: Arc<str>,
    consumer_topic: String,
    targets: Vec<Target>,
}

/// What a topic's property bag says.
#[derive(Default)]
struct Bag {
    content_type: String,
    ttl_s: Option<u32>,
    properties: Vec<(String, String)>,
}

impl Session {
    pub(super) fn publish_device(
        &mut self,
        turn: &mut Turn<'_, '_>,
        publish: &Publish<'_>,
    ) -> Flow {
        let mut cached = self.route.take().unwrap_or_default();
        if cached.topic == publish.topic
            && publish.qos == QoS::AtMostOnce
            && let To::Device(route) = &cached.to
            && route.version == Some(turn.plane.routes.version())
        {
            let flow = self.publish_telemetry(turn, publish, route, &Bag::default());
            self.route = Some(cached);
            return flow;
        }
        cached.to = To::Nowhere;
        self.route = Some(cached);
        self.publish_parsed(turn, publish)
    }

    fn publish_parsed(&mut self, turn: &mut Turn<'_, '_>, publish: &Publish<'_>) -> Flow {
        let Some(principal) = self.principal() else { return Flow::End };
        let topic = parse_publish(publish.topic);
        let (Role::Device, Some(topic), true) =
            (principal.role, topic, publish.qos != QoS::ExactlyOnce)
        else {
            turn.plane.metrics.protocol_errors.add(1);
            tracing::debug!(
                "publish refused: not a topic of the device API, not QoS 0 or 1, or not a device"
            );
            return self.end_with(turn, ReasonCode::TOPIC_NAME_INVALID);
        };
        let (address, bag) = match topic {
            PublishTopic::Message { address, bag, .. } => (address, bag),
            PublishTopic::Response { address, bag, .. } => (address, bag),
        };
        let device = match self.device_of(turn.plane, turn.wire.key, address) {
            Ok(device) => device,
            Err(flow) => return flow,
        };
        let bag = Bag::parse(bag);
        match topic {
            PublishTopic::Message { class: Class::Event, .. } => {
                if publish.qos != QoS::AtLeastOnce {
                    return self.break_off(turn, ReasonCode::QOS_NOT_SUPPORTED);
                }
                self.publish_stored(turn, publish, &device, &bag, None)
            }
            PublishTopic::Message { .. } => {
                let Some(route) = self.device_route(turn.plane, device) else { return Flow::End };
                let flow = self.publish_telemetry(turn, publish, &route, &bag);
                self.remember(publish.topic, route);
                flow
            }
            PublishTopic::Response { request_id, status, .. } => {
                let Some((correlation, reply)) = decode_request_id(request_id, &device) else {
                    return self.break_off(turn, ReasonCode::TOPIC_NAME_INVALID);
                };
                let response = Some((correlation.as_str(), reply.as_str(), status));
                self.publish_stored(turn, publish, &device, &bag, response)
            }
        }
    }

    /// The device a topic names: the connection's own, or one the gateway may act for.
    fn device_of(
        &mut self,
        plane: &mut Plane,
        key: Key,
        address: Address<'_>,
    ) -> Result<Arc<str>, Flow> {
        let Some(principal) = self.principal() else { return Err(Flow::End) };
        if !address.tenant.is_empty() && *address.tenant != *principal.tenant {
            plane.count_refusal(Refusal::Forbidden);
            return Err(Flow::End);
        }
        if address.device.is_empty() || *address.device == *principal.name {
            return Ok(principal.name.clone());
        }
        let known = self.authorised.as_ref().and_then(|known| known.get(address.device));
        if known == Some(&plane.identity_version) {
            return Ok(address.device.into());
        }
        let (tenant, gateway) = (principal.tenant.clone(), principal.name.clone());
        let ticket = Ticket(key.0);
        match plane.registry.authorise(ticket, Adapter::Mqtt, &tenant, &gateway, address.device) {
            Ok(()) => {
                self.asking_since = Some(plane.now);
                self.asked_version = plane.identity_version;
                Err(Flow::Again(Hold::Registry))
            }
            Err(_) => {
                plane.count_refusal(Refusal::Unavailable);
                Err(Flow::End)
            }
        }
    }

    /// The registry's answer about a device the peer wants to act for. False: the connection ends.
    pub(crate) fn authorised(
        &mut self,
        plane: &Plane,
        device: String,
        result: Result<(), Refusal>,
    ) -> bool {
        self.asking_since = None;
        if let Err(refusal) = result {
            plane.count_refusal(refusal);
            return false;
        }
        let authorised = self.authorised.get_or_insert_default();
        if authorised.len() >= AUTHORISED_DEVICES_MAX {
            authorised.clear();
        }
        authorised.insert(device, self.asked_version);
        true
    }

    fn device_route(&self, plane: &Plane, device: Arc<str>) -> Option<DeviceRoute> {
        let tenant = &self.principal()?.tenant;
        let mut targets = Vec::new();
        plane.routes.matches(tenant, &route_of(&device), &mut targets);
        let consumer_topic = topic_of(tenant, &device);
        Some(DeviceRoute { version: Some(plane.routes.version()), device, consumer_topic, targets })
    }

    /// Keeps a route for the connection's own device: a gateway's permission is looked at each time. A property bag is
    /// not remembered either.
    fn remember(&mut self, topic: &str, route: DeviceRoute) {
        let own = self.principal().is_some_and(|own| Arc::ptr_eq(&own.name, &route.device));
        if own
            && !topic.contains("/?")
            && let Some(cached) = &mut self.route
        {
            cached.topic.clear();
            cached.topic.push_str(topic);
            cached.to = To::Device(route);
        }
    }

    fn publish_telemetry(
        &mut self,
        turn: &mut Turn<'_, '_>,
        publish: &Publish<'_>,
        route: &DeviceRoute,
        bag: &Bag,
    ) -> Flow {
        let Some(principal) = self.principal() else { return Flow::End };
        let gateway = if *route.device == *principal.name { "" } else { &*principal.name };
        let inbound = Inbound {
            class: Class::Telemetry,
            device: &route.device,
            ..inbound(&principal.tenant, gateway, publish, bag)
        };
        let connection = turn.wire.key;
        let producer = publish.packet_id.map(|packet_id| Producer::Mqtt { connection, packet_id });
        let (topic, targets) = (&route.consumer_topic, &route.targets);
        let taken = turn.plane.publish_telemetry(turn.io, &inbound, topic, targets, producer);
        let Some(packet_id) = publish.packet_id else { return Flow::Next };
        match taken {
            // 3.1.1 has no word for "not taken" but to close; Hono's default does the same.
            Taken::Released => self.end_with(turn, ReasonCode::UNSPECIFIED_ERROR),
            Taken::Pending => {
                self.owe(packet_id, publish.qos);
                Flow::Next
            }
            Taken::Accepted => self.answer_publish(turn, publish, ReasonCode::SUCCESS),
        }
    }

    fn publish_stored(
        &mut self,
        turn: &mut Turn<'_, '_>,
        publish: &Publish<'_>,
        device: &Arc<str>,
        bag: &Bag,
        response: Option<(&str, &str, u16)>,
    ) -> Flow {
        let Some(principal) = self.principal() else { return Flow::End };
        let gateway = if **device == *principal.name { "" } else { &*principal.name };
        let class = if response.is_some() { Class::CommandResponse } else { Class::Event };
        let inbound = Inbound {
            class,
            device,
            response,
            ..inbound(&principal.tenant, gateway, publish, bag)
        };
        let waiter = match publish.packet_id {
            Some(packet_id) => Waiter::Mqtt { connection: turn.wire.key, packet_id },
            None => Waiter::Nobody,
        };
        match turn.plane.store(&inbound, waiter) {
            Ok(()) => {
                publish.packet_id.into_iter().for_each(|id| self.owe(id, publish.qos));
                Flow::Next
            }
            Err(NotStored::Later) => {
                turn.plane.parked.push(turn.wire.key);
                Flow::Again(Hold::Journal)
            }
            Err(NotStored::Full | NotStored::Failed | NotStored::Invalid) => {
                self.end_with(turn, ReasonCode::QUOTA_EXCEEDED)
            }
        }
    }
}

/// The parts all kinds of publish share; class and device are the caller's.
fn inbound<'a>(
    tenant: &'a str,
    gateway: &'a str,
    publish: &'a Publish<'_>,
    bag: &'a Bag,
) -> Inbound<'a> {
    Inbound {
        class: Class::Telemetry,
        qos: publish.qos.as_u8(),
        tenant,
        device: "",
        gateway,
        adapter: Adapter::Mqtt.type_name(),
        origin: publish.topic,
        content_type: &bag.content_type,
        ttl_s: bag.ttl_s,
        retain: publish.retain,
        idempotency: "",
        properties: &bag.properties,
        response: None,
        payload: publish.payload,
    }
}

impl Bag {
    fn parse(text: &str) -> Bag {
        let mut bag = Bag::default();
        if text.is_empty() {
            return bag;
        }
        for (key, value) in bag_pairs(text) {
            match key.as_str() {
                "content-type" => bag.content_type = value,
                "hono-ttl" => bag.ttl_s = value.parse().ok(),
                "on-error" | "correlation-id" => {}
                _ => bag.properties.push((key, value)),
            }
        }
        bag
    }
}
