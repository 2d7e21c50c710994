//! PUBLISH from a device: telemetry, events, command responses.

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
use fulcrum_frame::Class;
use fulcrum_mqtt::{Publish, QoS};
use fulcrum_ring::{ConnectionId, Io};
use fulcrum_router::Target;
use std::sync::Arc;

/// Where the last telemetry topic of this connection leads: most devices publish to one.
#[derive(Default)]
pub(crate) struct RouteCache {
    topic: String,
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
    pub(super) fn publish(
        &mut self,
        plane: &mut Plane,
        io: &mut Io<'_>,
        connection: (Key, ConnectionId),
        publish: &Publish<'_>,
    ) -> Flow {
        let hit = self.route.version == Some(plane.routes.version());
        if hit && self.route.topic == publish.topic && publish.qos == QoS::AtMostOnce {
            return self.publish_telemetry(plane, io, connection, publish, &Bag::default());
        }
        self.publish_parsed(plane, io, connection, publish)
    }

    fn publish_parsed(
        &mut self,
        plane: &mut Plane,
        io: &mut Io<'_>,
        connection: (Key, ConnectionId),
        publish: &Publish<'_>,
    ) -> Flow {
        let Some(principal) = self.principal() else { return Flow::End };
        let topic = parse_publish(publish.topic);
        let (Role::Device, Some(topic), true) =
            (principal.role, topic, publish.qos != QoS::ExactlyOnce)
        else {
            plane.metrics.protocol_errors.add(1);
            tracing::debug!(
                "publish refused: not a topic of the device API, not QoS 0 or 1, or not a device"
            );
            return Flow::End;
        };
        let (address, bag) = match topic {
            PublishTopic::Message { address, bag, .. } => (address, bag),
            PublishTopic::Response { address, bag, .. } => (address, bag),
        };
        let device = match self.device_of(plane, connection.0, address) {
            Ok(device) => device,
            Err(flow) => return flow,
        };
        let bag = Bag::parse(bag);
        match topic {
            PublishTopic::Message { class: Class::Event, .. } => {
                if publish.qos != QoS::AtLeastOnce {
                    plane.metrics.protocol_errors.add(1);
                    return Flow::End;
                }
                self.publish_stored(plane, connection.0, publish, &device, &bag, None)
            }
            PublishTopic::Message { .. } => {
                self.refresh_route(plane, publish.topic, device);
                self.publish_telemetry(plane, io, connection, publish, &bag)
            }
            PublishTopic::Response { request_id, status, .. } => {
                let Some((correlation, reply)) = decode_request_id(request_id, &device) else {
                    plane.metrics.protocol_errors.add(1);
                    return Flow::End;
                };
                let response = Some((correlation.as_str(), reply.as_str(), status));
                self.publish_stored(plane, connection.0, publish, &device, &bag, response)
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
        if self.authorised.get(address.device) == Some(&plane.identity_version) {
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
        if self.authorised.len() >= AUTHORISED_DEVICES_MAX {
            self.authorised.clear();
        }
        self.authorised.insert(device, self.asked_version);
        true
    }

    fn refresh_route(&mut self, plane: &Plane, topic: &str, device: Arc<str>) {
        let Some(principal) = self.principal() else { return };
        let tenant = principal.tenant.clone();
        let route = &mut self.route;
        route.topic.clear();
        route.version = Some(plane.routes.version());
        route.consumer_topic = topic_of(&tenant, &device);
        route.targets.clear();
        plane.routes.matches(&tenant, &route_of(&device), &mut route.targets);
        // A cached route is for the connection's own device: a gateway's permission is looked at each time. A property
        // bag is not remembered either.
        if !Arc::ptr_eq(&device, &principal_name(self)) || topic.contains("/?") {
            self.route.version = None;
        } else {
            self.route.topic.push_str(topic);
        }
        self.route.device = device;
    }

    fn publish_telemetry(
        &mut self,
        plane: &mut Plane,
        io: &mut Io<'_>,
        (key, id): (Key, ConnectionId),
        publish: &Publish<'_>,
        bag: &Bag,
    ) -> Flow {
        let route = std::mem::take(&mut self.route);
        let Some(principal) = self.principal() else { return Flow::End };
        let gateway = if *route.device == *principal.name { "" } else { &*principal.name };
        let inbound = Inbound {
            class: Class::Telemetry,
            device: &route.device,
            ..inbound(&principal.tenant, gateway, publish, bag)
        };
        let producer =
            publish.packet_id.map(|packet_id| Producer::Mqtt { connection: key, packet_id });
        let topic = &route.consumer_topic;
        let taken = plane.publish_telemetry(io, &inbound, topic, &route.targets, producer);
        self.route = route;
        let Some(packet_id) = publish.packet_id else { return Flow::Next };
        match taken {
            // 3.1.1 has no word for "not taken" but to close; Hono's default does the same.
            Taken::Released => return Flow::End,
            Taken::Pending => self.owe(packet_id),
            Taken::Accepted => {
                self.owe(packet_id);
                let Some(output) = io.output(id) else { return Flow::End };
                self.settle(packet_id, output);
            }
        }
        Flow::Next
    }

    fn publish_stored(
        &mut self,
        plane: &mut Plane,
        key: Key,
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
            Some(packet_id) => Waiter::Mqtt { connection: key, packet_id },
            None => Waiter::Nobody,
        };
        match plane.store(&inbound, waiter) {
            Ok(()) => {
                publish.packet_id.into_iter().for_each(|packet_id| self.owe(packet_id));
                Flow::Next
            }
            Err(NotStored::Later) => {
                plane.parked.push(key);
                Flow::Again(Hold::Journal)
            }
            Err(NotStored::Full | NotStored::Failed | NotStored::Invalid) => Flow::End,
        }
    }
}

fn principal_name(session: &Session) -> Arc<str> {
    session.principal().map(|principal| principal.name.clone()).unwrap_or_default()
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
