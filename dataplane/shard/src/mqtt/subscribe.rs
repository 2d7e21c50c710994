//! SUBSCRIBE and UNSUBSCRIBE: a device takes its commands, an application takes telemetry.

use super::session::{CommandSubscription, Session};
use super::topics::{CommandFilter, parse_application_filter};
use crate::connections::Key;
use crate::flow::Flow;
use crate::identity::{Principal, Role};
use crate::limits::SUBSCRIPTIONS_PER_CONNECTION_MAX;
use crate::message::PeerMessage;
use crate::plane::Plane;
use fulcrum_mqtt::{QoS, ReasonCode, Subscribe, Unsubscribe, encode_suback, encode_unsuback};
use fulcrum_ring::{ConnectionId, Io};
use fulcrum_router::{LinkId, Target};
use std::sync::Arc;

impl Session {
    pub(super) fn subscribe(
        &mut self,
        plane: &mut Plane,
        io: &mut Io<'_>,
        (key, id): (Key, ConnectionId),
        subscribe: &Subscribe<'_>,
    ) -> Flow {
        let Some(principal) = self.principal().cloned() else { return Flow::End };
        let link = plane.link(key);
        let mut codes = Vec::with_capacity(subscribe.filter_count());
        let mut takes_commands = false;
        for wanted in subscribe.filters() {
            let qos = wanted.options.qos;
            codes.push(match principal.role {
                Role::Device => {
                    let code = self.subscribe_commands(&principal, wanted.filter, qos);
                    takes_commands |= code != ReasonCode::UNSPECIFIED_ERROR;
                    code
                }
                Role::Application { may_consume } => {
                    match parse_application_filter(wanted.filter, &principal.tenant) {
                        Some(filter) if may_consume => {
                            self.subscribe_telemetry(plane, &principal, filter, qos, link)
                        }
                        _ => ReasonCode::UNSPECIFIED_ERROR,
                    }
                }
            });
        }
        let Some(output) = io.output(id) else { return Flow::End };
        // SUBACK goes into the output before any command can.
        if encode_suback(subscribe.packet_id, &codes, output).is_err() {
            return Flow::End;
        }
        if takes_commands {
            plane.attach(io, principal.tenant, principal.name, link);
        }
        Flow::Next
    }

    /// A device subscribes to its own commands. The last of several filters wins, as in Hono.
    fn subscribe_commands(&mut self, principal: &Principal, filter: &str, qos: QoS) -> ReasonCode {
        let parsed = CommandFilter::parse(filter).filter(|filter| {
            let address = filter.address();
            let own_tenant = address.tenant.is_empty() || *address.tenant == *principal.tenant;
            let own_device = address.device.is_empty() || *address.device == *principal.name;
            own_tenant && own_device
        });
        let (Some(filter), true) = (parsed, qos != QoS::ExactlyOnce) else {
            return ReasonCode::UNSPECIFIED_ERROR;
        };
        let device = principal.name.clone();
        self.commands = Some(CommandSubscription { filter, qos: qos.as_u8(), device });
        granted(qos)
    }

    fn subscribe_telemetry(
        &mut self,
        plane: &mut Plane,
        principal: &Principal,
        filter: String,
        qos: QoS,
        link: LinkId,
    ) -> ReasonCode {
        let known = self.filters.iter().any(|present| **present == *filter);
        if !known && self.filters.len() >= SUBSCRIPTIONS_PER_CONNECTION_MAX {
            return ReasonCode::UNSPECIFIED_ERROR;
        }
        let qos = qos.min(QoS::AtLeastOnce);
        let target = Target { link, qos: qos.as_u8() };
        if plane.routes.subscribe(&principal.tenant, &filter, target).is_err() {
            return ReasonCode::UNSPECIFIED_ERROR;
        }
        let filter: Box<str> = filter.into();
        plane.outbox.tell_all(|| PeerMessage::Subscribed {
            tenant: principal.tenant.clone(),
            filter: filter.clone(),
            target,
        });
        if !known {
            self.filters.push(filter);
        }
        granted(qos)
    }

    pub(super) fn unsubscribe(
        &mut self,
        plane: &mut Plane,
        io: &mut Io<'_>,
        (key, id): (Key, ConnectionId),
        unsubscribe: &Unsubscribe<'_>,
    ) -> Flow {
        let Some(principal) = self.principal().cloned() else { return Flow::End };
        let link = plane.link(key);
        for filter in unsubscribe.filters() {
            match principal.role {
                Role::Device => {
                    let named = CommandFilter::parse(filter);
                    let present = self.commands.as_ref().map(|subscription| &subscription.filter);
                    if named.is_some() && named.as_ref() == present {
                        self.commands = None;
                        plane.detach(principal.tenant.clone(), principal.name.clone(), link);
                    }
                }
                Role::Application { .. } => {
                    let named = parse_application_filter(filter, &principal.tenant);
                    let place =
                        named.and_then(|named| self.filters.iter().position(|f| **f == *named));
                    if let Some(place) = place {
                        let filter = self.filters.swap_remove(place);
                        plane.unsubscribe(&principal.tenant, filter, link);
                    }
                }
            }
        }
        let Some(output) = io.output(id) else { return Flow::End };
        encode_unsuback(unsubscribe.packet_id, output);
        Flow::Next
    }
}

fn granted(qos: QoS) -> ReasonCode {
    match qos {
        QoS::AtMostOnce => ReasonCode::GRANTED_QOS_0,
        QoS::AtLeastOnce => ReasonCode::GRANTED_QOS_1,
        QoS::ExactlyOnce => ReasonCode::GRANTED_QOS_2,
    }
}

impl Plane {
    /// Ends a subscription here and on every other shard.
    pub(crate) fn unsubscribe(&mut self, tenant: &Arc<str>, filter: Box<str>, link: LinkId) {
        self.routes.unsubscribe(tenant, &filter, link);
        self.outbox.tell_all(|| PeerMessage::Unsubscribed {
            tenant: tenant.clone(),
            filter: filter.clone(),
            link,
        });
    }
}
