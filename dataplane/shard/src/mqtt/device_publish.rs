//! PUBLISH to the device API: telemetry, events, command responses.

use super::device_bag::Bag;
use super::device_errors::{Concern, Failure, OnError};
use super::publish::To;
use super::session::Session;
use super::topics::{
    Address, PublishTopic, TopicError, decode_request_id, parse_publish, split_bag,
};
use crate::connections::{Hold, Key};
use crate::flow::Flow;
use crate::identity::{Adapter, Refusal, Role};
use crate::limits::AUTHORISED_DEVICES_MAX;
use crate::plane::{EMPTY_NOTIFICATION, Inbound, Plane, Producer};
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

/// Why the device a topic names is not at hand.
enum NoDevice {
    Failed(Failure),
    /// The registry is asked.
    Later,
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
            let bag = Bag::parse("", publish.properties);
            let flow = self.publish_telemetry(turn, publish, route, &bag);
            self.route = Some(cached);
            return flow;
        }
        cached.to = To::Nowhere;
        self.route = Some(cached);
        self.publish_parsed(turn, publish)
    }

    fn publish_parsed(&mut self, turn: &mut Turn<'_, '_>, publish: &Publish<'_>) -> Flow {
        let Some(principal) = self.principal() else { return Flow::End };
        if principal.role != Role::Device {
            return self.refuse_publish(turn, publish, ReasonCode::NOT_AUTHORIZED);
        }
        let (path, bag) = split_bag(publish.topic);
        let bag = Bag::parse(bag, publish.properties);
        // Until the device is known, a failure is the connection's own.
        let own = bag.concern(publish.topic, None);
        let topic = match parse_publish(path) {
            Ok(topic) => topic,
            Err(TopicError::UnknownEndpoint) => {
                return self.fail_publish(turn, publish, &own, Failure::UNKNOWN_ENDPOINT);
            }
            Err(TopicError::Malformed(text)) => {
                return self.fail_publish(turn, publish, &own, Failure::malformed(text));
            }
        };
        if publish.qos == QoS::ExactlyOnce {
            return self.fail_publish(turn, publish, &own, Failure::QOS_NOT_SUPPORTED);
        }
        let (PublishTopic::Message { address, .. } | PublishTopic::Response { address, .. }) =
            topic;
        let own_name = principal.name.clone();
        let device = match self.device_of(turn, address) {
            Ok(device) => device,
            Err(NoDevice::Later) => return Flow::Again(Hold::Registry),
            Err(NoDevice::Failed(failure)) => {
                let named = (!address.device.is_empty() && *address.device != *own_name)
                    .then(|| Arc::from(address.device));
                let concern = bag.concern(publish.topic, named.as_ref());
                return self.fail_publish(turn, publish, &concern, failure);
            }
        };
        self.publish_for(turn, publish, topic, device, &bag)
    }

    /// A publish whose topic and device are as they must be.
    fn publish_for(
        &mut self,
        turn: &mut Turn<'_, '_>,
        publish: &Publish<'_>,
        topic: PublishTopic<'_>,
        device: Arc<str>,
        bag: &Bag,
    ) -> Flow {
        match topic {
            PublishTopic::Message { class: Class::Event, .. } => {
                let unfit = match publish.qos {
                    QoS::AtLeastOnce => unfit_payload(publish, bag),
                    _ => Some(Failure::EVENT_QOS),
                };
                if let Some(failure) = unfit {
                    let concern = self.concern(publish, bag, &device);
                    return self.fail_publish(turn, publish, &concern, failure);
                }
                self.publish_stored(turn, publish, &device, bag, None)
            }
            PublishTopic::Message { .. } => {
                let Some(route) = self.device_route(turn.plane, device) else { return Flow::End };
                let flow = self.publish_telemetry(turn, publish, &route, bag);
                self.remember(publish.topic, route);
                flow
            }
            PublishTopic::Response { request_id, status, .. } => {
                let failure = match decode_request_id(request_id, &device) {
                    Some((correlation, reply)) if !claims_to_be_empty(publish, bag) => {
                        let response = Some((correlation.as_str(), reply.as_str(), status));
                        return self.publish_stored(turn, publish, &device, bag, response);
                    }
                    Some(_) => Failure::NOT_EMPTY,
                    None => Failure::REQUEST_ID,
                };
                let concern = self.concern(publish, bag, &device);
                self.fail_publish(turn, publish, &concern, failure)
            }
        }
    }

    /// What is to be known about a message for `device` when it fails.
    fn concern(&self, publish: &Publish<'_>, bag: &Bag, device: &Arc<str>) -> Concern {
        let own = self.principal().is_some_and(|own| own.name == *device);
        bag.concern(publish.topic, (!own).then_some(device))
    }

    /// The device a topic names: the connection's own, or one the gateway may act for.
    fn device_of(
        &mut self,
        turn: &mut Turn<'_, '_>,
        address: Address<'_>,
    ) -> Result<Arc<str>, NoDevice> {
        let plane = &mut *turn.plane;
        let Some(principal) = &self.principal else {
            return Err(NoDevice::Failed(Failure::refused(Refusal::Forbidden)));
        };
        if !address.tenant.is_empty() && *address.tenant != *principal.tenant {
            plane.count_refusal(Refusal::Forbidden);
            return Err(NoDevice::Failed(Failure::OTHER_TENANT));
        }
        if address.device.is_empty() || *address.device == *principal.name {
            return Ok(principal.name.clone());
        }
        let answers = self.device.as_mut().map(|face| std::mem::take(&mut face.answers));
        let refused = answers
            .into_iter()
            .flatten()
            .find_map(|(device, answer)| answer.err().filter(|_| *device == *address.device));
        if let Some(refusal) = refused {
            return Err(NoDevice::Failed(Failure::refused(refusal)));
        }
        let known = self.device.as_ref().and_then(|face| face.authorised.get(address.device));
        if known == Some(&plane.identity_version) {
            return Ok(address.device.into());
        }
        let (tenant, gateway) = (principal.tenant.clone(), principal.name.clone());
        let ticket = Ticket(turn.wire.key.0);
        match plane.registry.authorise(ticket, Adapter::Mqtt, &tenant, &gateway, address.device) {
            Ok(()) => {
                self.asking_since = Some(plane.now);
                self.asked_version = plane.identity_version;
                Err(NoDevice::Later)
            }
            Err(_) => {
                plane.count_refusal(Refusal::Unavailable);
                Err(NoDevice::Failed(Failure::refused(Refusal::Unavailable)))
            }
        }
    }

    /// The registry's answer about a device the peer wants to act for; the packet that asked is taken again.
    pub(crate) fn authorised(
        &mut self,
        plane: &mut Plane,
        key: Key,
        device: String,
        result: Result<(), Refusal>,
    ) {
        self.asking_since = None;
        let face = self.device.get_or_insert_default();
        match result {
            Ok(()) => {
                if face.authorised.len() >= AUTHORISED_DEVICES_MAX {
                    face.authorised.clear();
                }
                face.authorised.insert(device.as_str().into(), self.asked_version);
            }
            Err(refusal) => plane.count_refusal(refusal),
        }
        let device: Arc<str> = device.into();
        face.answers.push((device.clone(), result));
        if result.is_ok() {
            self.claim_commands(plane, key, device);
        }
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
        if let Some(failure) = unfit_payload(publish, bag) {
            let concern = self.concern(publish, bag, &route.device);
            return self.fail_publish(turn, publish, &concern, failure);
        }
        let connection = turn.wire.key;
        let producer = publish.packet_id.map(|packet_id| Producer::Mqtt { connection, packet_id });
        let (topic, targets) = (&route.consumer_topic, &route.targets);
        let taken = turn.plane.publish_telemetry(turn.io, &inbound, topic, targets, producer);
        match (taken, publish.packet_id) {
            (Taken::Released, None) if self.lets_go(bag, &route.device) => Flow::Next,
            (Taken::Released, _) => {
                let concern = self.concern(publish, bag, &route.device);
                self.fail_publish(turn, publish, &concern, Failure::NO_CONSUMER)
            }
            (_, None) => Flow::Next,
            (Taken::Pending, Some(packet_id)) => {
                let concern = self.concern(publish, bag, &route.device);
                self.owe_device(packet_id, publish.qos, concern);
                Flow::Next
            }
            (Taken::Accepted, Some(_)) => self.answer_publish(turn, publish, ReasonCode::SUCCESS),
        }
    }

    /// Whether telemetry at QoS 0 that nobody takes is dropped and counted only. A node cut off from the cloud would
    /// otherwise disconnect all its devices with each of their messages. Hono does so; here the device has to ask for it.
    fn lets_go(&self, bag: &Bag, device: &str) -> bool {
        bag.on_error == OnError::Default && !self.sees_errors_of(device)
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
            // `hono-ttl` is for events.
            ttl_s: bag.ttl_s.filter(|_| class == Class::Event),
            ..inbound(&principal.tenant, gateway, publish, bag)
        };
        let waiter = match publish.packet_id {
            Some(packet_id) => Waiter::Mqtt { connection: turn.wire.key, packet_id },
            None => Waiter::Nobody,
        };
        let failure = match turn.plane.store(&inbound, waiter) {
            Ok(()) => {
                if let Some(packet_id) = publish.packet_id {
                    let concern = self.concern(publish, bag, device);
                    self.owe_device(packet_id, publish.qos, concern);
                }
                return Flow::Next;
            }
            Err(NotStored::Later) => {
                turn.plane.parked.push(turn.wire.key);
                return Flow::Again(Hold::Journal);
            }
            Err(NotStored::Full | NotStored::Failed) => Failure::NOT_STORED,
            Err(NotStored::Invalid) => Failure::PROPERTIES_TOO_LONG,
        };
        let concern = self.concern(publish, bag, device);
        self.fail_publish(turn, publish, &concern, failure)
    }
}

/// What is wrong with telemetry's or an event's payload (Hono, body rules).
fn unfit_payload(publish: &Publish<'_>, bag: &Bag) -> Option<Failure> {
    if publish.payload.is_empty() && bag.content_type.is_empty() {
        return Some(Failure::EMPTY);
    }
    claims_to_be_empty(publish, bag).then_some(Failure::NOT_EMPTY)
}

fn claims_to_be_empty(publish: &Publish<'_>, bag: &Bag) -> bool {
    !publish.payload.is_empty() && bag.content_type == EMPTY_NOTIFICATION
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
        ttl_s: None,
        retain: publish.retain,
        idempotency: "",
        properties: &bag.properties,
        response: None,
        payload: publish.payload,
    }
}
