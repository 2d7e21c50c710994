//! Subscriptions of the device API: a device takes its commands, an application takes telemetry.

use super::session::{CommandSubscription, Session};
use super::topics::{CommandFilter, parse_application_filter};
use crate::identity::{Principal, Role};
use crate::limits::SUBSCRIPTIONS_PER_CONNECTION_MAX;
use crate::message::PeerMessage;
use crate::plane::Plane;
use fulcrum_mqtt::{QoS, ReasonCode};
use fulcrum_router::{LinkId, Target};
use std::sync::Arc;

impl Session {
    /// One filter of the device API; the code for the SUBACK.
    pub(super) fn subscribe_device(
        &mut self,
        plane: &mut Plane,
        principal: &Principal,
        filter: &str,
        qos: QoS,
        link: LinkId,
    ) -> ReasonCode {
        match principal.role {
            Role::Device => self.subscribe_commands(principal, filter, qos),
            Role::Application { may_consume } => {
                match parse_application_filter(filter, &principal.tenant) {
                    Some(filter) if may_consume => {
                        self.subscribe_telemetry(plane, principal, filter, qos, link)
                    }
                    _ => ReasonCode::UNSPECIFIED_ERROR,
                }
            }
        }
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
        self.commands = Some(Box::new(CommandSubscription { filter, qos: qos.as_u8(), device }));
        ReasonCode::granted(qos)
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
        ReasonCode::granted(qos)
    }

    /// Ends a subscription of the device API; whether it was there.
    pub(super) fn unsubscribe_device(
        &mut self,
        plane: &mut Plane,
        principal: &Principal,
        filter: &str,
        link: LinkId,
    ) -> bool {
        match principal.role {
            Role::Device => {
                let named = CommandFilter::parse(filter);
                let present = self.commands.as_ref().map(|subscription| &subscription.filter);
                let existed = named.is_some() && named.as_ref() == present;
                if existed {
                    self.commands = None;
                    plane.detach(principal.tenant.clone(), principal.name.clone(), link);
                }
                existed
            }
            Role::Application { .. } => {
                let named = parse_application_filter(filter, &principal.tenant);
                let place = named.and_then(|named| self.filters.iter().position(|f| **f == *named));
                if let Some(place) = place {
                    let filter = self.filters.swap_remove(place);
                    plane.unsubscribe(&principal.tenant, filter, link);
                }
                place.is_some()
            }
        }
    }
}

impl Plane {
    /// Ends a telemetry subscription here and on every other shard.
    pub(crate) fn unsubscribe(&mut self, tenant: &Arc<str>, filter: Box<str>, link: LinkId) {
        self.routes.unsubscribe(tenant, &filter, link);
        self.outbox.tell_all(|| PeerMessage::Unsubscribed {
            tenant: tenant.clone(),
            filter: filter.clone(),
            link,
        });
    }
}
