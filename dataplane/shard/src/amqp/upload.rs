//! Messages from devices: put together, understood, passed on.

use super::session::{BAD_REQUEST, Session};
use crate::connections::Hold;
use crate::identity::{Adapter, Refusal};
use crate::limits::AMQP_PROPERTIES_MAX;
use crate::mqtt::{PublishTopic, TopicError, parse_publish};
use crate::plane::{EMPTY_NOTIFICATION, Inbound, Producer};
use crate::ports::Ticket;
use crate::stored::{NotStored, Waiter};
use crate::telemetry::{Taken, route_of, topic_of};
use crate::turn::Turn;
use fulcrum_amqp::{BodyKind, Error, Message, Outcome, Rejected, Symbol, Value, condition};
use fulcrum_frame::Class;
use fulcrum_links::{Arrival, LinkRef};
use std::borrow::Cow;
use std::sync::Arc;

/// A link a device sends on.
#[derive(Default)]
pub(super) struct Upload {
    /// The pieces of a message whose last one has not come.
    pieces: Vec<u8>,
    message_format: u32,
    /// Messages whose fate is not known yet.
    pub unanswered: u32,
}

/// A whole message.
pub(super) struct Arrived<'a> {
    pub link: LinkRef,
    pub delivery: u32,
    settled: bool,
    message_format: u32,
    bytes: Cow<'a, [u8]>,
}

impl Arrived<'_> {
    /// The same, to be kept.
    pub(super) fn into_owned(self) -> Arrived<'static> {
        Arrived { bytes: Cow::Owned(self.bytes.into_owned()), ..self }
    }
}

/// What becomes of a message.
pub(super) enum Verdict {
    /// Its fate.
    Known(Outcome<'static>),
    /// It comes later, by the number the delivery was noted with.
    Owed,
    /// It is looked at again when this is over.
    Wait(Hold),
}

impl Upload {
    /// Takes a piece of a message; the message if it is whole now.
    pub(super) fn assemble<'i>(&mut self, arrival: &Arrival<'i>) -> Option<Arrived<'i>> {
        let bytes = match (arrival.is_first, arrival.more) {
            // The usual case: it came in one piece.
            (true, false) => Cow::Borrowed(arrival.payload),
            (is_first, more) => {
                if is_first {
                    self.pieces.clear();
                    self.message_format = arrival.message_format;
                }
                self.pieces.extend_from_slice(arrival.payload);
                if more {
                    return None;
                }
                Cow::Owned(std::mem::take(&mut self.pieces))
            }
        };
        let message_format = match arrival.is_first {
            true => arrival.message_format,
            false => self.message_format,
        };
        let Arrival { link, delivery, settled, .. } = *arrival;
        Some(Arrived { link, delivery, settled, message_format, bytes })
    }

    /// The message will not be whole.
    pub(super) fn abandon(&mut self) {
        self.pieces = Vec::new();
    }

    pub(super) fn assembled_bytes(&self) -> usize {
        self.pieces.len()
    }
}

/// A message as Hono's adapter reads it.
struct Content<'a> {
    to: &'a str,
    content_type: &'a str,
    ttl_s: Option<u32>,
    properties: Vec<(String, String)>,
    payload: Cow<'a, [u8]>,
}

impl Session {
    /// Passes a message on.
    pub(super) fn take_message(
        &mut self,
        turn: &mut Turn<'_, '_>,
        arrived: &Arrived<'_>,
    ) -> Verdict {
        let content = match content_of(arrived) {
            Ok(content) => content,
            Err(text) => return reject(condition::DECODE_ERROR, text),
        };
        let (class, address) = match parse_publish(content.to) {
            Ok(PublishTopic::Message { class, address }) => (class, address),
            Ok(PublishTopic::Response { .. }) => {
                return reject(
                    condition::NOT_IMPLEMENTED,
                    "answers to commands come over MQTT or HTTP",
                );
            }
            Err(TopicError::UnknownEndpoint) => {
                return reject(condition::NOT_FOUND, "'to' names no endpoint: telemetry or event");
            }
            Err(TopicError::Malformed(text)) => return reject(BAD_REQUEST, text),
        };
        if content.payload.is_empty() && content.content_type.is_empty() {
            return reject(BAD_REQUEST, "an empty message needs a content type");
        }
        if !content.payload.is_empty() && content.content_type == EMPTY_NOTIFICATION {
            return reject(BAD_REQUEST, "an empty notification must not have a body");
        }
        let device = match self.device_of(turn, address.tenant, address.device) {
            Ok(device) => device,
            Err(verdict) => return verdict,
        };
        self.pass_on(turn, arrived, class, &device, &content)
    }

    fn pass_on(
        &mut self,
        turn: &mut Turn<'_, '_>,
        arrived: &Arrived<'_>,
        class: Class,
        device: &Arc<str>,
        content: &Content<'_>,
    ) -> Verdict {
        let Some(principal) = self.principal().cloned() else { return released() };
        let number = self.last_number + 1;
        let connection = turn.wire.key;
        let inbound = Inbound {
            class,
            qos: if class == Class::Event { 1 } else { u8::from(!arrived.settled) },
            tenant: &principal.tenant,
            device,
            gateway: if *device == principal.name { "" } else { &principal.name },
            adapter: Adapter::Amqp.type_name(),
            origin: content.to,
            content_type: content.content_type,
            // A time to live is for events.
            ttl_s: content.ttl_s.filter(|_| class == Class::Event),
            retain: false,
            idempotency: "",
            properties: &content.properties,
            response: None,
            payload: &content.payload,
        };
        if class == Class::Event {
            let waiter = match arrived.settled {
                true => Waiter::Nobody,
                false => Waiter::Amqp { connection, number },
            };
            return match turn.plane.store(&inbound, waiter) {
                Ok(()) => self.owe(number, arrived),
                Err(NotStored::Later) => {
                    turn.plane.parked.push(connection);
                    Verdict::Wait(Hold::Journal)
                }
                Err(NotStored::Full | NotStored::Failed) => released(),
                Err(NotStored::Invalid) => {
                    reject(BAD_REQUEST, "the message's properties are too long")
                }
            };
        }
        let mut targets = std::mem::take(&mut turn.plane.targets);
        targets.clear();
        turn.plane.routes.matches(&principal.tenant, &route_of(device), &mut targets);
        let topic = topic_of(&principal.tenant, device);
        let producer = (!arrived.settled).then_some(Producer::Amqp { connection, number });
        let taken = turn.plane.publish_telemetry(turn.io, &inbound, &topic, &targets, producer);
        turn.plane.targets = targets;
        match taken {
            Taken::Pending => self.owe(number, arrived),
            Taken::Accepted => Verdict::Known(Outcome::Accepted),
            // Direct messages are never kept for a consumer that is not there.
            Taken::Released => released(),
        }
    }

    /// The message's fate comes later.
    fn owe(&mut self, number: u64, arrived: &Arrived<'_>) -> Verdict {
        if arrived.settled {
            return Verdict::Known(Outcome::Accepted);
        }
        self.last_number = number;
        self.unanswered.insert(number, (arrived.link, arrived.delivery));
        Verdict::Owed
    }

    /// The device a message is of: the connection's own, or one the gateway may act for.
    fn device_of(
        &mut self,
        turn: &mut Turn<'_, '_>,
        tenant: &str,
        device: &str,
    ) -> Result<Arc<str>, Verdict> {
        let plane = &mut *turn.plane;
        if let Some(refusal) = self.refusal.take() {
            plane.count_refusal(refusal);
            return Err(refused(refusal));
        }
        let Some(principal) = self.principal() else { return Err(released()) };
        if !tenant.is_empty() && *tenant != *principal.tenant {
            plane.count_refusal(Refusal::Forbidden);
            return Err(refused(Refusal::Forbidden));
        }
        if device.is_empty() || *device == *principal.name {
            return Ok(principal.name.clone());
        }
        if self.authorised.holds(device, plane.identity_version) {
            return Ok(device.into());
        }
        let (tenant, gateway) = (principal.tenant.clone(), principal.name.clone());
        let ticket = Ticket(turn.wire.key.0);
        match plane.registry.authorise(ticket, Adapter::Amqp, &tenant, &gateway, device) {
            Ok(()) => {
                self.asking_since = Some(plane.now);
                self.asked_version = plane.identity_version;
                Err(Verdict::Wait(Hold::Registry))
            }
            Err(_) => {
                plane.count_refusal(Refusal::Unavailable);
                Err(refused(Refusal::Unavailable))
            }
        }
    }
}

/// Hono's words for a refusal.
fn refused(refusal: Refusal) -> Verdict {
    match refusal {
        Refusal::Forbidden | Refusal::BadCredentials => {
            reject(condition::UNAUTHORIZED_ACCESS, refusal.text())
        }
        Refusal::NotFound => reject(condition::NOT_FOUND, refusal.text()),
        Refusal::Unavailable => released(),
    }
}

fn released() -> Verdict {
    Verdict::Known(Outcome::Released)
}

fn reject(condition: Symbol<'static>, text: &'static str) -> Verdict {
    let error = Some(Error::new(condition, text));
    Verdict::Known(Outcome::Rejected(Rejected { error }))
}

fn content_of<'a>(arrived: &'a Arrived<'_>) -> Result<Content<'a>, &'static str> {
    let unread = |_| "the message's sections cannot be read";
    if arrived.message_format != 0 {
        return Err("the message is not in AMQP's own format");
    }
    let message = Message::parse(&arrived.bytes).map_err(unread)?;
    let properties = message.properties().map_err(unread)?;
    let header = message.header().map_err(unread)?;
    let more = message.application_properties().map_err(unread)?;
    let named =
        more.iter().filter_map(|(key, value)| Some((key.as_str()?.to_owned(), text_of(value)?)));
    let payload = match message.body_kind() {
        BodyKind::Empty => Cow::Borrowed(&[][..]),
        BodyKind::Data => {
            let mut sections = message.data();
            match (sections.next(), sections.next()) {
                (Some(only), None) => Cow::Borrowed(only),
                _ => message.data().collect::<Vec<_>>().concat().into(),
            }
        }
        BodyKind::Value => match message.value().map_err(unread)? {
            Some(Value::Binary(bytes)) => bytes.into(),
            Some(Value::String(text)) => text.as_bytes().into(),
            None | Some(Value::Null) => Cow::Borrowed(&[][..]),
            Some(_) => return Err("the body is a value other than binary or a string"),
        },
        BodyKind::Sequence => return Err("the body is a sequence; send data"),
    };
    Ok(Content {
        to: properties.to.map_or("", |to| to.0),
        content_type: properties.content_type.map_or("", |symbol| symbol.as_str()),
        // What lives less than a second lives one.
        ttl_s: header.ttl.map(|ms| ms.div_ceil(1000).max(1)),
        properties: named.take(AMQP_PROPERTIES_MAX).collect(),
        payload,
    })
}

/// Scalars travel on as text; what is nothing a line of text could say does not.
fn text_of(value: Value<'_>) -> Option<String> {
    Some(match value {
        Value::String(text) => text.to_owned(),
        Value::Symbol(symbol) => symbol.as_str().to_owned(),
        Value::Boolean(yes) => yes.to_string(),
        Value::Ubyte(number) => number.to_string(),
        Value::Ushort(number) => number.to_string(),
        Value::Uint(number) => number.to_string(),
        Value::Ulong(number) => number.to_string(),
        Value::Byte(number) => number.to_string(),
        Value::Short(number) => number.to_string(),
        Value::Int(number) => number.to_string(),
        Value::Long(number) | Value::Timestamp(number) => number.to_string(),
        Value::Float(number) => number.to_string(),
        Value::Double(number) => number.to_string(),
        Value::Char(character) => character.to_string(),
        Value::Uuid(uuid) => uuid.to_string(),
        _ => return None,
    })
}
