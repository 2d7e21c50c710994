//! Subscriptions of the device API: a device takes commands and reports of errors, an application takes telemetry.
//!
//! Whether a gateway may take a device's commands is the registry's to say: a SUBSCRIBE stays at the front of the input
//! until all its devices have been asked about, and is then done at once.

use super::session::Session;
use super::topics::{
    CommandFilter, ErrorFilter, Scope, encode_request_id, parse_application_filter,
};
use crate::connections::{Hold, Key};
use crate::flow::Flow;
use crate::gateways::{Attachment, Gateway};
use crate::identity::{Adapter, Principal, Refusal, Role};
use crate::limits::SUBSCRIPTIONS_PER_CONNECTION_MAX;
use crate::message::PeerMessage;
use crate::plane::Plane;
use crate::ports::Ticket;
use crate::turn::Turn;
use fulcrum_mqtt::{QoS, ReasonCode, Subscribe};
use fulcrum_router::{Command, LinkId, Target};
use std::collections::HashMap;
use std::sync::Arc;

/// What a connection has of the device API beyond publishing.
#[derive(Default)]
pub(crate) struct DeviceFace {
    /// No two are for the same devices.
    pub commands: Vec<CommandSubscription>,
    /// No two are for the same devices.
    pub errors: Vec<ErrorSubscription>,
    /// Devices a gateway may act for, with the registry version the answer is good for.
    pub authorised: HashMap<Box<str>, u64>,
    /// What the registry has said about devices the packet at the front of the input names.
    pub answers: Vec<(Arc<str>, Result<(), Refusal>)>,
}

/// A subscription to reports of errors.
pub(crate) struct ErrorSubscription {
    pub filter: ErrorFilter,
    /// Its identifier, in what it brings [MQTT-3.3.4-3].
    pub id: Option<u32>,
}

/// A subscription to commands.
pub(crate) struct CommandSubscription {
    filter: CommandFilter,
    qos: u8,
    id: Option<u32>,
    /// The desk of the device has not been told yet.
    is_new: bool,
}

impl Session {
    /// Asks the registry about the next device a SUBSCRIBE names that is not the connection's own; `None` when there is
    /// none left.
    pub(super) fn ask_about_filters(
        &mut self,
        turn: &mut Turn<'_, '_>,
        subscribe: &Subscribe<'_>,
    ) -> Option<Flow> {
        let principal = self.principal.as_ref().filter(|known| known.role == Role::Device)?;
        for wanted in subscribe.filters() {
            let Some(filter) = CommandFilter::parse(wanted.filter) else { continue };
            let Scope::Device(device) = filter.scope().among(&principal.name) else { continue };
            let answers = self.device.as_ref().map_or(&[][..], |face| &face.answers);
            let answered = answers.iter().any(|(known, _)| **known == *device);
            let foreign = !is_own_tenant(filter.tenant(), principal);
            if answered || foreign || answers.len() >= SUBSCRIPTIONS_PER_CONNECTION_MAX {
                continue;
            }
            let (plane, ticket) = (&mut *turn.plane, Ticket(turn.wire.key.0));
            let (tenant, gateway) = (&principal.tenant, &principal.name);
            if plane.registry.authorise(ticket, Adapter::Mqtt, tenant, gateway, device).is_err() {
                let answers = &mut self.device.get_or_insert_default().answers;
                answers.push((device.into(), Err(Refusal::Unavailable)));
                continue;
            }
            self.asking_since = Some(plane.now);
            self.asked_version = plane.identity_version;
            return Some(Flow::Again(Hold::Registry));
        }
        None
    }

    /// One filter of the device API, with the quality of service and identifier it is given; the code for the SUBACK.
    pub(super) fn subscribe_device(
        &mut self,
        plane: &mut Plane,
        principal: &Principal,
        (filter, qos, id): (&str, QoS, Option<u32>),
        link: LinkId,
    ) -> ReasonCode {
        match principal.role {
            Role::Device => match (CommandFilter::parse(filter), ErrorFilter::parse(filter)) {
                (Some(filter), _) => self.subscribe_commands(principal, filter, qos, id),
                (None, Some(filter)) => self.subscribe_errors(ErrorSubscription { filter, id }),
                (None, None) => ReasonCode::TOPIC_FILTER_INVALID,
            },
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

    /// A device subscribes to its own commands, a gateway also to those of its devices. The last of several filters for
    /// the same devices wins, as in Hono.
    fn subscribe_commands(
        &mut self,
        principal: &Principal,
        filter: CommandFilter,
        qos: QoS,
        id: Option<u32>,
    ) -> ReasonCode {
        if !is_own_tenant(filter.tenant(), principal) {
            return ReasonCode::NOT_AUTHORIZED;
        }
        if qos == QoS::ExactlyOnce {
            return ReasonCode::UNSPECIFIED_ERROR;
        }
        let own = &principal.name;
        let face = self.device.get_or_insert_default();
        if let Scope::Device(device) = filter.scope().among(own) {
            let answer = face.answers.iter().find(|(known, _)| **known == *device);
            match answer {
                Some((_, Ok(()))) => {}
                Some((_, Err(Refusal::Unavailable))) => return ReasonCode::UNSPECIFIED_ERROR,
                Some((_, Err(_))) => return ReasonCode::NOT_AUTHORIZED,
                None => return ReasonCode::QUOTA_EXCEEDED,
            }
        }
        let scope = filter.scope().among(own);
        let same = |known: &CommandSubscription| known.filter.scope().among(own) == scope;
        let place = face.commands.iter().position(same);
        let subscription = CommandSubscription { filter, qos: qos.as_u8(), id, is_new: true };
        match place {
            Some(place) => face.commands[place] = subscription,
            None if face.commands.len() >= SUBSCRIPTIONS_PER_CONNECTION_MAX => {
                return ReasonCode::QUOTA_EXCEEDED;
            }
            None => face.commands.push(subscription),
        }
        ReasonCode::granted(qos)
    }

    /// SUBACK is written: commands may come for what was subscribed.
    pub(super) fn attach_commands(&mut self, plane: &mut Plane, key: Key) {
        let Some(principal) = &self.principal else { return };
        let Some(face) = &mut self.device else { return };
        face.answers.clear();
        let Principal { tenant, name, .. } = principal;
        let link = plane.link(key);
        for subscription in face.commands.iter_mut().filter(|known| known.is_new) {
            subscription.is_new = false;
            let mut attach = |device: Arc<str>, gateway| {
                let tenant = tenant.clone();
                plane.attaching.push(Attachment { tenant, device, link, gateway });
            };
            match subscription.filter.scope().among(name) {
                Scope::Own => attach(name.clone(), None),
                Scope::Device(device) => {
                    let gateway = Gateway { name: name.clone(), for_one: true };
                    attach(device.into(), Some(gateway));
                }
                Scope::All => {
                    attach(name.clone(), None);
                    let current = plane.identity_version;
                    let known = face.authorised.iter().filter(|(_, asked)| **asked == current);
                    for (device, _) in known {
                        let gateway = Gateway { name: name.clone(), for_one: false };
                        attach((&**device).into(), Some(gateway));
                    }
                    plane.gateway_here(tenant, name, link);
                }
            }
        }
    }

    /// The gateway acts for a device: its commands come here if the connection takes those of all its devices.
    pub(super) fn claim_commands(&self, plane: &mut Plane, key: Key, device: Arc<str>) {
        let Some(principal) = &self.principal else { return };
        let link = plane.link(key);
        let attachment = self.attachment_for(principal.tenant.clone(), device, link);
        let for_all = |attachment: &Attachment| {
            attachment.gateway.as_ref().is_some_and(|gateway| !gateway.for_one)
        };
        plane.attaching.extend(attachment.filter(for_all));
    }

    /// How the connection takes the device's commands, if it does.
    pub(crate) fn attachment_for(
        &self,
        tenant: Arc<str>,
        device: Arc<str>,
        link: LinkId,
    ) -> Option<Attachment> {
        let subscription = self.subscription_for(&device)?;
        let name = &self.principal.as_ref()?.name;
        let for_one = subscription.filter.scope() != Scope::All;
        let gateway = (*device != **name).then(|| Gateway { name: name.clone(), for_one });
        Some(Attachment { tenant, device, link, gateway })
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
            Role::Device => match (CommandFilter::parse(filter), ErrorFilter::parse(filter)) {
                (Some(filter), _) => self.unsubscribe_commands(plane, principal, &filter, link),
                (None, Some(filter)) => self.unsubscribe_errors(&filter),
                (None, None) => false,
            },
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

    fn unsubscribe_commands(
        &mut self,
        plane: &mut Plane,
        principal: &Principal,
        filter: &CommandFilter,
        link: LinkId,
    ) -> bool {
        let Some(face) = &mut self.device else { return false };
        let place = face.commands.iter().position(|known| known.filter == *filter);
        let Some(place) = place else { return false };
        let ended = face.commands.swap_remove(place);
        self.detach_commands(plane, principal, &ended, link);
        true
    }

    /// Ends all subscriptions to commands; the connection is gone.
    pub(super) fn detach_all_commands(&mut self, plane: &mut Plane, link: LinkId) {
        let (Some(face), Some(principal)) = (self.device.take(), self.principal.clone()) else {
            return;
        };
        for ended in face.commands {
            self.detach_commands(plane, &principal, &ended, link);
        }
    }

    fn detach_commands(
        &self,
        plane: &mut Plane,
        principal: &Principal,
        ended: &CommandSubscription,
        link: LinkId,
    ) {
        let Principal { tenant, name: own, .. } = principal;
        let scope = ended.filter.scope().among(own);
        if scope == Scope::All {
            plane.gateway_gone(tenant, own, link);
        }
        let device = match scope {
            Scope::Own | Scope::All => own.clone(),
            Scope::Device(device) => Arc::from(device),
        };
        // They may still come through another subscription of the same connection.
        let other = self.attachment_for(tenant.clone(), device.clone(), link);
        if matches!(scope, Scope::Own | Scope::All) && other.is_some() {
            return;
        }
        plane.detach(tenant.clone(), device, link);
        plane.attaching.extend(other);
    }

    /// Topic and QoS of a command for `device`, and the subscription's identifier; `None` when the connection takes none
    /// for it.
    pub(crate) fn command_topic(
        &self,
        device: &str,
        command: &Command,
    ) -> Option<(String, u8, Option<u32>)> {
        let CommandSubscription { filter, qos, id, .. } = self.subscription_for(device)?;
        let request_id = match command.response_required {
            true => encode_request_id(&command.id)?,
            false => String::new(),
        };
        let through_gateway = *self.principal()?.name != *device;
        let subject = &command.subject;
        Some((filter.command_topic(device, through_gateway, &request_id, subject), *qos, *id))
    }

    /// The subscription a device's commands come through: one for it alone before the one for all.
    fn subscription_for(&self, device: &str) -> Option<&CommandSubscription> {
        let commands = &self.device.as_ref()?.commands;
        let own = &*self.principal.as_ref()?.name;
        let wanted = Scope::Device(device).among(own);
        let exact = commands.iter().find(|known| known.filter.scope().among(own) == wanted);
        exact.or_else(|| commands.iter().find(|known| known.filter.scope() == Scope::All))
    }
}

fn is_own_tenant(named: &str, principal: &Principal) -> bool {
    named.is_empty() || *named == *principal.tenant
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
