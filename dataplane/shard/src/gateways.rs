//! Gateways that take commands for other devices: for one each, or for all that name them.
//!
//! A device's commands go to one link. Which: the last that subscribed for the device alone, be it its own or a
//! gateway's; without one a gateway that takes the commands of all its devices, and of several the one that acted for the
//! device last. Every shard knows the gateways of the second kind; what a device's commands go to is known where the
//! device's desk is.
//!
//! Invariants
//! - Before a command goes through a gateway, the registry has said so since the identities last changed.
//! - A gateway that takes the commands of all its devices never takes them away from a link for the device alone.

use crate::connections::{Key, Protocol};
use crate::identity::{Adapter, Refusal};
use crate::message::PeerMessage;
use crate::mqtt;
use crate::plane::Plane;
use crate::ports::Ticket;
use fulcrum_ring::Io;
use fulcrum_router::{Command, LinkId, Outcome, ShardIndex, owner};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Tenant and device.
type Names = (Arc<str>, Arc<str>);

/// An answer of the registry that takes longer is given up: it is asked again.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// Gateways of one tenant by name, where each is, and a number that says who came last.
type Here = HashMap<Arc<str>, (LinkId, u64)>;

/// A command on its way to a gateway the registry could not be asked about.
pub(crate) struct Unasked {
    tenant: Arc<str>,
    device: Arc<str>,
    link: LinkId,
    command: Arc<Command>,
}

/// Low half of tickets of questions asked here: no connection has that place in the table.
const TICKET_PLACE: u64 = 0xffff_ffff;

/// A gateway as the consumer of a device's commands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Gateway {
    pub name: Arc<str>,
    /// It has subscribed for this device alone.
    pub for_one: bool,
}

/// A connection that takes a device's commands from now on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Attachment {
    pub tenant: Arc<str>,
    pub device: Arc<str>,
    pub link: LinkId,
    /// Whose connection it is, if not the device's.
    pub gateway: Option<Gateway>,
}

/// A device's commands go through a gateway.
struct Claim {
    gateway: Gateway,
    link: LinkId,
    /// The identities the registry's answer was given under; none yet if not asked.
    version: Option<u64>,
}

/// A command that waits for the registry to say whether the gateway may have it.
struct Question {
    names: Names,
    link: LinkId,
    command: Arc<Command>,
    version: u64,
    asked: Instant,
}

/// What a shard knows of gateways.
#[derive(Default)]
pub(crate) struct Gateways {
    /// Gateways of the node that take the commands of all their devices, by tenant.
    all: HashMap<Arc<str>, Here>,
    last: u64,
    /// What the devices of this shard have their commands go to: a claim, or a link of their own.
    consumers: HashMap<Names, Option<Box<Claim>>>,
    /// Devices a link has claimed.
    claimed: HashMap<LinkId, HashSet<Names>>,
    questions: HashMap<u32, Question>,
    last_question: u32,
}

impl Gateways {
    /// Notes who takes a device's commands; false if somebody does who comes first.
    pub(crate) fn consume(&mut self, attachment: &Attachment) -> bool {
        let Attachment { tenant, device, link, gateway } = attachment;
        let names = (tenant.clone(), device.clone());
        let present = self.consumers.get(&names);
        let Some(gateway) = gateway else {
            self.forget(&names);
            self.consumers.insert(names, None);
            return true;
        };
        let stands_back = match present {
            _ if gateway.for_one => false,
            None => false,
            Some(None) => true,
            Some(Some(claim)) => claim.gateway.for_one && claim.link != *link,
        };
        if stands_back {
            return false;
        }
        let version = present
            .and_then(Option::as_ref)
            .and_then(|claim| claim.version.filter(|_| claim.link == *link));
        self.forget(&names);
        let claim = Claim { gateway: gateway.clone(), link: *link, version };
        self.consumers.insert(names.clone(), Some(Box::new(claim)));
        self.claimed.entry(*link).or_default().insert(names);
        true
    }

    /// Nobody takes the device's commands any more.
    fn forget(&mut self, names: &Names) {
        let Some(Some(claim)) = self.consumers.remove(names) else { return };
        if let Some(devices) = self.claimed.get_mut(&claim.link) {
            devices.remove(names);
            if devices.is_empty() {
                self.claimed.remove(&claim.link);
            }
        }
    }

    /// Whether the registry owes an answer.
    pub(crate) fn is_asking(&self) -> bool {
        !self.questions.is_empty()
    }

    fn has_any(&self, tenant: &str) -> bool {
        self.all.contains_key(tenant)
    }

    /// Of `named` the one that is here and came last.
    fn latest(&self, tenant: &str, named: &[String]) -> Option<(Arc<str>, LinkId)> {
        let here = self.all.get(tenant)?;
        let found = named.iter().filter_map(|name| here.get_key_value(name.as_str()));
        let (name, (link, _)) = found.max_by_key(|(_, (_, number))| *number)?;
        Some((name.clone(), *link))
    }
}

impl Plane {
    /// The gateway takes the commands of all its devices from now on.
    pub(crate) fn gateway_here(&mut self, tenant: &Arc<str>, gateway: &Arc<str>, link: LinkId) {
        self.note_gateway(tenant.clone(), gateway.clone(), link);
        self.outbox.tell_all(|| PeerMessage::GatewayHere {
            tenant: tenant.clone(),
            gateway: gateway.clone(),
            link,
        });
        self.registry.gateway_present(tenant, gateway);
    }

    /// It takes them no more.
    pub(crate) fn gateway_gone(&mut self, tenant: &Arc<str>, gateway: &Arc<str>, link: LinkId) {
        self.forget_gateway(tenant, gateway, link);
        self.outbox.tell_all(|| PeerMessage::GatewayGone {
            tenant: tenant.clone(),
            gateway: gateway.clone(),
            link,
        });
        self.registry.gateway_absent(tenant, gateway);
    }

    /// Notes a gateway of this or another shard.
    pub(crate) fn note_gateway(&mut self, tenant: Arc<str>, gateway: Arc<str>, link: LinkId) {
        let gateways = &mut self.gateways;
        gateways.last += 1;
        gateways.all.entry(tenant).or_default().insert(gateway, (link, gateways.last));
    }

    /// Forgets it, with the devices that have their commands go to it only because it takes all.
    pub(crate) fn forget_gateway(&mut self, tenant: &Arc<str>, gateway: &Arc<str>, link: LinkId) {
        let gateways = &mut self.gateways;
        if let Some(here) = gateways.all.get_mut(tenant) {
            if here.get(gateway).is_some_and(|(known, _)| *known == link) {
                here.remove(gateway);
            }
            if here.is_empty() {
                gateways.all.remove(tenant);
            }
        }
        let claimed = gateways.claimed.get(&link).into_iter().flatten();
        let only_so = |names: &&Names| match gateways.consumers.get(*names) {
            Some(Some(claim)) => !claim.gateway.for_one,
            _ => false,
        };
        let devices: Vec<Names> = claimed.filter(only_so).cloned().collect();
        for (tenant, device) in devices {
            self.detach(tenant, device, link);
        }
    }

    /// The link does not take the device's commands any more: maybe a gateway does.
    pub(crate) fn nobody_consumes(&mut self, tenant: &Arc<str>, device: &Arc<str>) {
        self.gateways.forget(&(tenant.clone(), device.clone()));
        if self.gateways.has_any(tenant) {
            self.retry.unclaimed.insert((tenant.clone(), device.clone()));
        }
    }

    /// Looks for a gateway that takes the commands of a device without a consumer.
    pub(crate) fn look_for_gateway(&mut self, tenant: &Arc<str>, device: &Arc<str>) {
        let names = (tenant.clone(), device.clone());
        if !self.gateways.has_any(tenant) || self.gateways.consumers.contains_key(&names) {
            return;
        }
        if self.registry.gateways_of(tenant, device).is_err() {
            self.retry.unclaimed.insert(names);
        }
    }

    /// The registry's answer to that.
    pub(crate) fn gateways_found(
        &mut self,
        io: &mut Io<'_>,
        tenant: Arc<str>,
        device: Arc<str>,
        named: &[String],
    ) {
        if self.gateways.consumers.contains_key(&(tenant.clone(), device.clone())) {
            return;
        }
        if let Some((name, link)) = self.gateways.latest(&tenant, named) {
            let gateway = Some(Gateway { name, for_one: false });
            self.attach(io, Attachment { tenant, device, link, gateway });
        }
    }

    /// Whether a command may go out on the link now. If not, the registry is asked first, and it goes out then.
    pub(crate) fn may_deliver(
        &mut self,
        tenant: &Arc<str>,
        device: &Arc<str>,
        link: LinkId,
        command: &Arc<Command>,
    ) -> bool {
        let names = (tenant.clone(), device.clone());
        let version = self.identity_version;
        let gateways = &mut self.gateways;
        let Some(Some(claim)) = gateways.consumers.get(&names) else { return true };
        if claim.link != link || claim.version == Some(version) {
            return true;
        }
        let number = gateways.last_question.wrapping_add(1);
        let ticket = Ticket(u64::from(number) << 32 | TICKET_PLACE);
        let gateway = &claim.gateway.name;
        let asked = self.registry.authorise(ticket, Adapter::Mqtt, tenant, gateway, device);
        if asked.is_err() {
            let ((tenant, device), command) = (names, command.clone());
            self.retry.unasked.push(Unasked { tenant, device, link, command });
            return false;
        }
        gateways.last_question = number;
        let (command, asked) = (command.clone(), self.now);
        let question = Question { names, link, command, version, asked };
        gateways.questions.insert(number, question);
        false
    }

    /// The registry's answer to a question asked here; false if it is one of a connection's.
    pub(crate) fn gateway_authorised(
        &mut self,
        io: &mut Io<'_>,
        ticket: Ticket,
        result: Result<(), Refusal>,
    ) -> bool {
        if ticket.0 & TICKET_PLACE != TICKET_PLACE {
            return false;
        }
        let number = (ticket.0 >> 32) as u32;
        let Some(question) = self.gateways.questions.remove(&number) else { return true };
        let Question { names: (tenant, device), link, command, version, .. } = question;
        let names = (tenant.clone(), device.clone());
        match (result, self.gateways.consumers.get_mut(&names)) {
            (Ok(()), Some(Some(claim))) if claim.link == link => {
                claim.version = Some(version);
                // The identities may have changed meanwhile: then it is asked again.
                if self.may_deliver(&tenant, &device, link, &command) {
                    self.deliver_command(io, link, tenant, device, command);
                }
            }
            (Err(Refusal::Unavailable), _) => {
                self.retry.unasked.push(Unasked { tenant, device, link, command });
            }
            _ => {
                let id = command.id.clone();
                self.command_outcome(io, tenant, device, link, id, Outcome::Released);
            }
        }
        true
    }

    /// Tries again what found the registry busy, and devices whose connection could not take a command when it came.
    pub(crate) fn retry_gateways(&mut self, io: &mut Io<'_>) {
        let now = self.now;
        let late = |_: &u32, question: &mut Question| now >= question.asked + ANSWER_TIMEOUT;
        for (_, question) in self.gateways.questions.extract_if(late) {
            let Question { names: (tenant, device), link, command, .. } = question;
            self.retry.unasked.push(Unasked { tenant, device, link, command });
        }
        for Unasked { tenant, device, link, command } in std::mem::take(&mut self.retry.unasked) {
            if self.may_deliver(&tenant, &device, link, &command) {
                self.deliver_command(io, link, tenant, device, command);
            }
        }
        for (tenant, device, link) in std::mem::take(&mut self.retry.blocked) {
            let Some(session) = self.mqtt_session(link) else { continue };
            if let Some(attachment) = session.attachment_for(tenant, device, link) {
                self.attach(io, attachment);
            }
        }
        for (tenant, device) in std::mem::take(&mut self.retry.unclaimed) {
            self.look_for_gateway(&tenant, &device);
        }
    }

    /// The MQTT session of a link of this shard.
    fn mqtt_session(&mut self, link: LinkId) -> Option<&mqtt::Session> {
        let connection = self.connections.by_key(Key(link.key))?;
        match &connection.protocol {
            Protocol::Mqtt(session) => Some(session),
            Protocol::Http(_) | Protocol::Amqp(_) => None,
        }
    }

    /// The shard that has the device's desk.
    pub(crate) fn desk_of(&self, tenant: &str, device: &str) -> ShardIndex {
        owner(&[tenant, device], self.outbox.shards())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attachment(key: u64, gateway: Option<(&str, bool)>) -> Attachment {
        let gateway = gateway.map(|(name, for_one)| Gateway { name: name.into(), for_one });
        let link = LinkId { shard: ShardIndex(0), key };
        Attachment { tenant: "acme".into(), device: "d".into(), link, gateway }
    }

    #[test]
    fn a_gateway_for_all_takes_a_devices_commands_from_no_link_for_the_device_alone() {
        let mut gateways = Gateways::default();
        assert!(gateways.consume(&attachment(1, Some(("gw", false)))));
        assert!(gateways.consume(&attachment(2, Some(("gw2", false)))), "the last that acted");
        assert!(gateways.consume(&attachment(3, Some(("gw", true)))));
        assert!(!gateways.consume(&attachment(2, Some(("gw2", false)))));
        assert!(gateways.consume(&attachment(4, None)));
        assert!(!gateways.consume(&attachment(2, Some(("gw2", false)))));
        assert!(gateways.consume(&attachment(3, Some(("gw", true)))), "the last for it alone");
        gateways.forget(&("acme".into(), "d".into()));
        assert!(gateways.claimed.is_empty() && gateways.consumers.is_empty());
    }
}
