//! Commands on their way from the store to a device.
//!
//! The shard that owns the device's address keeps order; the shard that has the connection writes. Both are often the
//! same, but nothing here relies on it.

use crate::connections::{Key, Protocol};
use crate::gateways::Attachment;
use crate::message::PeerMessage;
use crate::mqtt::{Alias, Content, Outgoing, Recipient};
use crate::plane::{Inbound, Plane};
use crate::retry::Named;
use crate::stored::{NotStored, Waiter};
use fulcrum_frame::Class;
use fulcrum_mqtt::{Properties, QoS};
use fulcrum_ring::Io;
use fulcrum_router::{Answered, Command, Dispatch, LinkId, Outcome};
use std::sync::Arc;

/// Status of a delivered command (`fulcrum_contract::commands::delivery_status`).
const DELIVERED: u16 = 200;
/// Status of a command whose time was over.
const EXPIRED: u16 = 410;

impl Plane {
    /// A connection takes a device's commands from now on, unless it is a gateway's that has to stand back.
    pub(crate) fn attach(&mut self, io: &mut Io<'_>, attachment: Attachment) {
        let shard = self.desk_of(&attachment.tenant, &attachment.device);
        if shard != self.index {
            return self.outbox.tell(shard, PeerMessage::Attach(attachment));
        }
        if !self.gateways.consume(&attachment) {
            return;
        }
        let Attachment { tenant, device, link, .. } = attachment;
        self.registry.present(&tenant, &device);
        let next = self.commands.attach(tenant.clone(), device.clone(), link, self.now);
        self.dispatch(io, tenant, device, next);
    }

    /// The connection takes no more commands of the device.
    pub(crate) fn detach(&mut self, tenant: Arc<str>, device: Arc<str>, link: LinkId) {
        let shard = self.desk_of(&tenant, &device);
        if shard != self.index {
            return self.outbox.tell(shard, PeerMessage::Detach { tenant, device, link });
        }
        if self.commands.detach(&tenant, &device, link) {
            self.registry.absent(&tenant, &device);
            self.nobody_consumes(&tenant, &device);
        }
    }

    /// The device's link has answered.
    pub(crate) fn command_outcome(
        &mut self,
        io: &mut Io<'_>,
        tenant: Arc<str>,
        device: Arc<str>,
        link: LinkId,
        id: String,
        outcome: Outcome,
    ) {
        let shard = self.desk_of(&tenant, &device);
        if shard != self.index {
            let message = PeerMessage::CommandOutcome { tenant, device, link, id, outcome };
            return self.outbox.tell(shard, message);
        }
        let answered = self.commands.answered(&tenant, &device, link, &id, outcome, self.now);
        let next = match answered {
            Answered::Taken(next) => {
                self.metrics.commands_accepted.add(1);
                let (tenant, device) = (tenant.clone(), device.clone());
                self.report(Named { tenant, device, id }, DELIVERED);
                next
            }
            Answered::Released(command) => {
                self.metrics.commands_released.add(1);
                self.registry.absent(&tenant, &device);
                self.nobody_consumes(&tenant, &device);
                if self.is_late(&command) {
                    self.expired(tenant.clone(), device.clone(), id);
                }
                Dispatch::Idle
            }
            Answered::Nothing(next) => next,
        };
        self.dispatch(io, tenant, device, next);
    }

    /// Does what the desk says is next for a device of this shard.
    pub(crate) fn dispatch(
        &mut self,
        io: &mut Io<'_>,
        tenant: Arc<str>,
        device: Arc<str>,
        first: Dispatch,
    ) {
        let mut next = first;
        loop {
            match next {
                Dispatch::Idle => return,
                Dispatch::Load => {
                    if self.registry.load_commands(&tenant, &device).is_err() {
                        self.commands.not_loaded(&tenant, &device);
                        self.retry.loads.insert((tenant, device));
                    }
                    return;
                }
                Dispatch::Deliver(link, command) if self.is_late(&command) => {
                    let id = command.id.as_str();
                    let outcome = Outcome::Accepted;
                    let answered =
                        self.commands.answered(&tenant, &device, link, id, outcome, self.now);
                    next = match answered {
                        Answered::Taken(next) => {
                            self.metrics.commands_expired.add(1);
                            let (tenant, device) = (tenant.clone(), device.clone());
                            self.report(Named { tenant, device, id: id.to_owned() }, EXPIRED);
                            next
                        }
                        Answered::Nothing(next) => next,
                        Answered::Released(_) => Dispatch::Idle,
                    };
                }
                Dispatch::Deliver(link, command) => {
                    if !self.may_deliver(&tenant, &device, link, &command) {
                        return;
                    }
                    return self.deliver_command(io, link, tenant, device, command);
                }
            }
        }
    }

    fn is_late(&self, command: &Command) -> bool {
        command.deliver_by_ms.is_some_and(|by| by < self.now_ms)
    }

    /// Writes a command to the device's connection, here or on the shard that has it.
    pub(crate) fn deliver_command(
        &mut self,
        io: &mut Io<'_>,
        link: LinkId,
        tenant: Arc<str>,
        device: Arc<str>,
        command: Arc<Command>,
    ) {
        if link.shard != self.index {
            let message = PeerMessage::Deliver { link, tenant, device, command };
            return self.outbox.tell(link.shard, message);
        }
        let outcome = match self.write_command(io, Key(link.key), &tenant, &device, &command) {
            Some(CommandWritten::AtLeastOnce) => return,
            Some(CommandWritten::AtMostOnce) => Outcome::Accepted,
            None => Outcome::Released,
        };
        self.command_outcome(io, tenant, device, link, command.id.clone(), outcome);
    }

    fn write_command(
        &mut self,
        io: &mut Io<'_>,
        key: Key,
        tenant: &Arc<str>,
        device: &Arc<str>,
        command: &Command,
    ) -> Option<CommandWritten> {
        let link = self.link(key);
        let connection = self.connections.by_key(key)?;
        let (Protocol::Mqtt(session), mut wire) = connection.parts() else { return None };
        let (topic, qos, id) = session.command_topic(device, command)?;
        let packet_id = match qos {
            0 => None,
            _ => {
                let (tenant, device) = (tenant.clone(), device.clone());
                let (id, names) = (command.id.clone(), (tenant.clone(), device.clone(), link));
                let packet_id = session.sent(Outgoing::Command { tenant, device, id });
                if packet_id.is_none() {
                    // It takes commands again when it has acknowledged others.
                    self.retry.blocked.insert(names);
                }
                Some(packet_id?)
            }
        };
        let level = if packet_id.is_some() { QoS::AtLeastOnce } else { QoS::AtMostOnce };
        let content = Content::of_packet(&topic, &command.payload, false, Properties::EMPTY);
        let to = Recipient::at_most_once(session.level, false, id.as_slice(), Alias::None);
        let to = Recipient { qos: level, packet_id, ..to };
        let written =
            wire.output(io).is_some_and(|output| session.write_plain(&content, &to, output));
        if wire.stack.is_some() {
            self.flushes.push(key);
        }
        if !written {
            packet_id.and_then(|packet_id| session.acknowledged(packet_id));
            tracing::debug!(%tenant, %device, command = command.id, "a command does not fit the device's connection");
            return None;
        }
        self.metrics.commands_sent.add(1);
        Some(if packet_id.is_some() {
            CommandWritten::AtLeastOnce
        } else {
            CommandWritten::AtMostOnce
        })
    }

    /// Tells the cloud what became of a command; after the commit the store forgets it.
    pub(crate) fn report(&mut self, command: Named, status: u16) {
        let Named { tenant, device, id } = &command;
        let inbound = Inbound {
            class: Class::CommandStatus,
            qos: 1,
            tenant,
            device,
            gateway: "",
            adapter: "",
            origin: "",
            content_type: "",
            ttl_s: None,
            retain: false,
            idempotency: "",
            properties: &[],
            response: Some((id, "", status)),
            payload: &[],
        };
        let waiter =
            Waiter::Command { tenant: tenant.clone(), device: device.clone(), id: id.clone() };
        let untold = match self.store(&inbound, waiter) {
            Ok(()) => return,
            Err(error @ (NotStored::Later | NotStored::Full)) => {
                self.report_later(command, status).map_err(|command| (command, error))
            }
            Err(error) => Err((command, error)),
        };
        if let Err((command, error)) = untold {
            // The device has it, or nobody will; forgetting it is right even if the cloud does not hear of it.
            let Named { tenant, device, id } = &command;
            tracing::warn!(%tenant, %device, command = id, ?error, "cannot report what became of a command");
            self.forget_command(command);
        }
    }

    /// A command's time was over while it waited.
    pub(crate) fn expired(&mut self, tenant: Arc<str>, device: Arc<str>, id: String) {
        if self.commands.expire(&tenant, &device, &id) {
            self.metrics.commands_expired.add(1);
            self.report(Named { tenant, device, id }, EXPIRED);
        }
    }
}

enum CommandWritten {
    AtMostOnce,
    AtLeastOnce,
}
