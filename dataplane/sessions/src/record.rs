//! The bytes of a log record.
//!
//! ```text
//! record  = format u8 | tenant | entry*            bytes  = length varint | bytes
//! entry   = kind u8 | fields                       numbers are varints, 7 bits a byte, low bits first
//! ```
//! One record is one transaction: it is read whole before any of it is applied. A number here never changes its
//! meaning; a new kind of entry is a new number.

use std::num::NonZeroU32;

use crate::{RecordError, Subscription, SubscriptionIds};

/// The format written, and the newest one read.
pub(crate) const FORMAT: u8 = 1;

/// A longer image of a session is cut into parts of this size, each a record.
pub(crate) const PART_BYTES: usize = 64 << 10;

/// Most a queue entry takes without subscription identifiers, and each of those.
pub(crate) const QUEUE_BYTES_MAX: usize = 41;
pub(crate) const ID_BYTES_MAX: usize = 5;

/// One change, as it is in the log. `session`, `body` and `will` are numbers of this log, given out once.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Entry<'a> {
    /// A whole session; replaces all that was known of it.
    Image(Image),
    /// A part of an image; the last one completes it.
    Part {
        session: u64,
        index: u64,
        count: u64,
        bytes: &'a [u8],
    },
    Ended {
        session: u64,
    },
    Attached {
        session: u64,
        expiry_s: u32,
        receive_max: u16,
    },
    Detached {
        session: u64,
        at_ms: u64,
        expiry_s: u32,
        sent_through: u64,
    },
    Subscribed {
        session: u64,
        filter: &'a str,
        subscription: Subscription,
    },
    Unsubscribed {
        session: u64,
        filter: &'a str,
    },
    Body {
        body: u64,
        expires_at_ms: Option<u64>,
        frame: &'a [u8],
    },
    /// No session needs the body any more.
    BodyDead {
        body: u64,
    },
    Queued {
        session: u64,
        item: Item,
    },
    /// Acknowledged, expired or given up.
    Done {
        session: u64,
        sequence: u64,
    },
    /// PUBREC came: from now on it is PUBREL that is owed.
    Released {
        session: u64,
        sequence: u64,
    },
    ReleaseDone {
        session: u64,
        sequence: u64,
    },
    Incoming {
        session: u64,
        packet_id: u16,
    },
    IncomingDone {
        session: u64,
        packet_id: u16,
    },
    /// `session` 0: of a session that is not in the log.
    Will {
        will: u64,
        session: u64,
        client_id: &'a str,
        delay_s: u32,
        frame: &'a [u8],
    },
    WillDone {
        will: u64,
    },
    Forward {
        to: u16,
        number: u64,
        frame: &'a [u8],
    },
    ForwardDone {
        to: u16,
        through: u64,
    },
    /// The last number given out to a shard.
    ForwardLast {
        to: u16,
        number: u64,
    },
    Mark {
        from: u16,
        epoch: u64,
        number: u64,
    },
    Retained {
        topic: &'a str,
        version: u64,
        expires_at_ms: Option<u64>,
        frame: &'a [u8],
    },
    RetainDropped {
        topic: &'a str,
        version: u64,
    },
}

/// A queued message of a session.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Item {
    /// Its place in the session's order; its packet identifier follows from it.
    pub sequence: u64,
    pub body: u64,
    pub qos: u8,
    pub retain: bool,
    /// The shared subscription it is a copy for.
    pub group: Option<NonZeroU32>,
    pub ids: SubscriptionIds,
}

/// A whole session, read.
#[derive(Clone, PartialEq, Debug, Default)]
pub(crate) struct Image {
    pub session: u64,
    pub client_id: Box<str>,
    pub principal: Box<str>,
    pub expiry_s: u32,
    pub receive_max: u16,
    /// `None`: connected.
    pub detached_at_ms: Option<u64>,
    pub sent_through: u64,
    pub last_sequence: u64,
    pub subscriptions: Vec<(Box<str>, Subscription)>,
    pub queue: Vec<Item>,
    pub releases: Vec<u64>,
    pub incoming: Vec<u16>,
}

mod kind {
    pub const IMAGE: u8 = 1;
    pub const PART: u8 = 2;
    pub const ENDED: u8 = 3;
    pub const ATTACHED: u8 = 4;
    pub const DETACHED: u8 = 5;
    pub const SUBSCRIBED: u8 = 6;
    pub const UNSUBSCRIBED: u8 = 7;
    pub const BODY: u8 = 8;
    pub const BODY_DEAD: u8 = 9;
    pub const QUEUED: u8 = 10;
    pub const DONE: u8 = 11;
    pub const RELEASED: u8 = 12;
    pub const RELEASE_DONE: u8 = 13;
    pub const INCOMING: u8 = 14;
    pub const INCOMING_DONE: u8 = 15;
    pub const WILL: u8 = 16;
    pub const WILL_DONE: u8 = 17;
    pub const FORWARD: u8 = 18;
    pub const FORWARD_DONE: u8 = 19;
    pub const FORWARD_LAST: u8 = 20;
    pub const MARK: u8 = 21;
    pub const RETAINED: u8 = 22;
    pub const RETAIN_DROPPED: u8 = 23;
}

/// Begins a record in an empty buffer. The same bytes, and nothing behind them, are a record without entries.
pub(crate) fn begin(out: &mut Vec<u8>, tenant: &str) {
    out.clear();
    out.push(FORMAT);
    put_bytes(out, tenant.as_bytes());
}

/// The tenant and the entries of a record.
pub(crate) fn read(record: &[u8]) -> Result<(&str, Vec<Entry<'_>>), RecordError> {
    let mut reader = Reader { rest: record };
    let found = reader.byte("no format")?;
    if found > FORMAT {
        return Err(RecordError::NewerVersion { found, known: FORMAT });
    }
    if found == 0 {
        return Err(RecordError::Malformed { what: "format 0" });
    }
    let tenant = reader.text("tenant")?;
    let mut entries = Vec::new();
    while !reader.rest.is_empty() {
        entries.push(Entry::read(&mut reader)?);
    }
    Ok((tenant, entries))
}

impl<'a> Entry<'a> {
    /// Appends it to a record.
    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        match self {
            Self::Image(image) => {
                out.push(kind::IMAGE);
                image.put(out);
            }
            Self::Part { session, index, count, bytes } => {
                put(out, kind::PART, &[*session, *index, *count]);
                put_bytes(out, bytes);
            }
            Self::Ended { session } => put(out, kind::ENDED, &[*session]),
            Self::Attached { session, expiry_s, receive_max } => {
                let numbers = [*session, u64::from(*expiry_s), u64::from(*receive_max)];
                put(out, kind::ATTACHED, &numbers);
            }
            Self::Detached { session, at_ms, expiry_s, sent_through } => {
                let numbers = [*session, *at_ms, u64::from(*expiry_s), *sent_through];
                put(out, kind::DETACHED, &numbers);
            }
            Self::Subscribed { session, filter, subscription } => {
                put(out, kind::SUBSCRIBED, &[*session]);
                put_subscription(out, filter, subscription);
            }
            Self::Unsubscribed { session, filter } => {
                put(out, kind::UNSUBSCRIBED, &[*session]);
                put_bytes(out, filter.as_bytes());
            }
            Self::Body { body, expires_at_ms, frame } => {
                put(out, kind::BODY, &[*body]);
                put_optional(out, *expires_at_ms);
                put_bytes(out, frame);
            }
            Self::BodyDead { body } => put(out, kind::BODY_DEAD, &[*body]),
            Self::Queued { session, item } => {
                put(out, kind::QUEUED, &[*session]);
                item.put(out);
            }
            Self::Done { session, sequence } => put(out, kind::DONE, &[*session, *sequence]),
            Self::Released { session, sequence } => {
                put(out, kind::RELEASED, &[*session, *sequence]);
            }
            Self::ReleaseDone { session, sequence } => {
                put(out, kind::RELEASE_DONE, &[*session, *sequence]);
            }
            Self::Incoming { session, packet_id } => {
                put(out, kind::INCOMING, &[*session, u64::from(*packet_id)]);
            }
            Self::IncomingDone { session, packet_id } => {
                put(out, kind::INCOMING_DONE, &[*session, u64::from(*packet_id)]);
            }
            Self::Will { will, session, client_id, delay_s, frame } => {
                put(out, kind::WILL, &[*will, *session, u64::from(*delay_s)]);
                put_bytes(out, client_id.as_bytes());
                put_bytes(out, frame);
            }
            Self::WillDone { will } => put(out, kind::WILL_DONE, &[*will]),
            Self::Forward { to, number, frame } => {
                put(out, kind::FORWARD, &[u64::from(*to), *number]);
                put_bytes(out, frame);
            }
            Self::ForwardDone { to, through } => {
                put(out, kind::FORWARD_DONE, &[u64::from(*to), *through]);
            }
            Self::ForwardLast { to, number } => {
                put(out, kind::FORWARD_LAST, &[u64::from(*to), *number]);
            }
            Self::Mark { from, epoch, number } => {
                put(out, kind::MARK, &[u64::from(*from), *epoch, *number]);
            }
            Self::Retained { topic, version, expires_at_ms, frame } => {
                put(out, kind::RETAINED, &[*version]);
                put_optional(out, *expires_at_ms);
                put_bytes(out, topic.as_bytes());
                put_bytes(out, frame);
            }
            Self::RetainDropped { topic, version } => {
                put(out, kind::RETAIN_DROPPED, &[*version]);
                put_bytes(out, topic.as_bytes());
            }
        }
    }

    fn read(reader: &mut Reader<'a>) -> Result<Self, RecordError> {
        let number = reader.byte("no kind")?;
        Ok(match number {
            kind::IMAGE => Self::Image(Image::read(reader)?),
            kind::PART => Self::Part {
                session: reader.number()?,
                index: reader.number()?,
                count: reader.number()?,
                bytes: reader.bytes("part")?,
            },
            kind::ENDED => Self::Ended { session: reader.number()? },
            kind::ATTACHED => Self::Attached {
                session: reader.number()?,
                expiry_s: reader.small()?,
                receive_max: reader.small()?,
            },
            kind::DETACHED => Self::Detached {
                session: reader.number()?,
                at_ms: reader.any_number()?,
                expiry_s: reader.small()?,
                sent_through: reader.number()?,
            },
            kind::SUBSCRIBED => {
                let session = reader.number()?;
                let (filter, subscription) = reader.subscription()?;
                Self::Subscribed { session, filter, subscription }
            }
            kind::UNSUBSCRIBED => {
                Self::Unsubscribed { session: reader.number()?, filter: reader.text("filter")? }
            }
            kind::BODY => Self::Body {
                body: reader.number()?,
                expires_at_ms: reader.optional()?,
                frame: reader.bytes("body")?,
            },
            kind::BODY_DEAD => Self::BodyDead { body: reader.number()? },
            kind::QUEUED => Self::Queued { session: reader.number()?, item: Item::read(reader)? },
            kind::DONE => Self::Done { session: reader.number()?, sequence: reader.number()? },
            kind::RELEASED => {
                Self::Released { session: reader.number()?, sequence: reader.place()? }
            }
            kind::RELEASE_DONE => {
                Self::ReleaseDone { session: reader.number()?, sequence: reader.number()? }
            }
            kind::INCOMING => {
                Self::Incoming { session: reader.number()?, packet_id: reader.small()? }
            }
            kind::INCOMING_DONE => {
                Self::IncomingDone { session: reader.number()?, packet_id: reader.small()? }
            }
            kind::WILL => {
                let (will, session) = (reader.number()?, reader.number()?);
                let delay_s = reader.small()?;
                let client_id = reader.text("client identifier")?;
                Self::Will { will, session, client_id, delay_s, frame: reader.bytes("will")? }
            }
            kind::WILL_DONE => Self::WillDone { will: reader.number()? },
            kind::FORWARD => Self::Forward {
                to: reader.small()?,
                number: reader.number()?,
                frame: reader.bytes("forward")?,
            },
            kind::FORWARD_DONE => {
                Self::ForwardDone { to: reader.small()?, through: reader.number()? }
            }
            kind::FORWARD_LAST => {
                Self::ForwardLast { to: reader.small()?, number: reader.number()? }
            }
            kind::MARK => Self::Mark {
                from: reader.small()?,
                epoch: reader.any_number()?,
                number: reader.number()?,
            },
            kind::RETAINED => Self::Retained {
                version: reader.any_number()?,
                expires_at_ms: reader.optional()?,
                topic: reader.text("topic")?,
                frame: reader.bytes("retained message")?,
            },
            kind::RETAIN_DROPPED => {
                Self::RetainDropped { version: reader.any_number()?, topic: reader.text("topic")? }
            }
            kind => return Err(RecordError::UnknownEntry { version: FORMAT, kind }),
        })
    }
}

impl Item {
    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        put_number(out, self.sequence);
        put_number(out, self.body);
        let flags = u8::from(self.retain) << 2 | u8::from(self.group.is_some()) << 3;
        out.push(self.qos & 3 | flags);
        if let Some(group) = self.group {
            put_number(out, u64::from(group.get()));
        }
        let ids = self.ids.as_slice();
        put_number(out, ids.len() as u64);
        for id in ids {
            put_number(out, u64::from(*id));
        }
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, RecordError> {
        let (sequence, body) = (reader.place()?, reader.number()?);
        let flags = reader.byte("no flags")?;
        let group = match flags & 8 {
            0 => None,
            _ => NonZeroU32::new(reader.small()?),
        };
        let count = reader.number()?;
        let mut ids = Vec::new();
        for _ in 0..count {
            ids.push(reader.small()?);
        }
        let ids = SubscriptionIds::from_slice(&ids);
        let qos = flags & 3;
        if !(1..=2).contains(&qos) {
            return Err(RecordError::Malformed { what: "a queued message without QoS" });
        }
        Ok(Self { sequence, body, qos, retain: flags & 4 != 0, group, ids })
    }
}

impl Image {
    /// What comes behind its kind.
    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        put_number(out, self.session);
        put_bytes(out, self.client_id.as_bytes());
        put_bytes(out, self.principal.as_bytes());
        put_number(out, u64::from(self.expiry_s));
        put_number(out, u64::from(self.receive_max));
        put_optional(out, self.detached_at_ms);
        put_number(out, self.sent_through);
        put_number(out, self.last_sequence);
        put_number(out, self.subscriptions.len() as u64);
        for (filter, subscription) in &self.subscriptions {
            put_subscription(out, filter, subscription);
        }
        put_number(out, self.queue.len() as u64);
        for item in &self.queue {
            item.put(out);
        }
        put_number(out, self.releases.len() as u64);
        for sequence in &self.releases {
            put_number(out, *sequence);
        }
        put_number(out, self.incoming.len() as u64);
        for packet_id in &self.incoming {
            put_number(out, u64::from(*packet_id));
        }
    }

    /// Reads an image that was put together from its parts.
    pub(crate) fn from_parts(bytes: &[u8]) -> Result<Self, RecordError> {
        let mut reader = Reader { rest: bytes };
        let image = Self::read(&mut reader)?;
        if reader.rest.is_empty() {
            Ok(image)
        } else {
            Err(RecordError::Malformed { what: "bytes behind the parts of a session" })
        }
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, RecordError> {
        let mut image = Self {
            session: reader.number()?,
            client_id: reader.text("client identifier")?.into(),
            principal: reader.text("principal")?.into(),
            expiry_s: reader.small()?,
            receive_max: reader.small()?,
            detached_at_ms: reader.optional()?,
            sent_through: reader.number()?,
            last_sequence: reader.number()?,
            ..Self::default()
        };
        for _ in 0..reader.number()? {
            let (filter, subscription) = reader.subscription()?;
            image.subscriptions.push((filter.into(), subscription));
        }
        for _ in 0..reader.number()? {
            image.queue.push(Item::read(reader)?);
        }
        for _ in 0..reader.number()? {
            image.releases.push(reader.place()?);
        }
        for _ in 0..reader.number()? {
            image.incoming.push(reader.small()?);
        }
        Ok(image)
    }
}

fn put(out: &mut Vec<u8>, kind: u8, numbers: &[u64]) {
    out.push(kind);
    for number in numbers {
        put_number(out, *number);
    }
}

fn put_number(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_number(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// A time of the wall clock; none of those recorded is 0.
fn put_optional(out: &mut Vec<u8>, number: Option<u64>) {
    put_number(out, number.map_or(0, |number| number.saturating_add(1)));
}

fn put_subscription(out: &mut Vec<u8>, filter: &str, subscription: &Subscription) {
    put_bytes(out, filter.as_bytes());
    let flags = u8::from(subscription.no_local) << 2;
    out.push(subscription.qos & 3 | flags | u8::from(subscription.retain_as_published) << 3);
    put_number(out, u64::from(subscription.subscription_id));
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn byte(&mut self, what: &'static str) -> Result<u8, RecordError> {
        let (first, rest) = self.rest.split_first().ok_or(RecordError::Malformed { what })?;
        self.rest = rest;
        Ok(*first)
    }

    /// A number given out by counting: so far from the end that it can be counted on from.
    fn number(&mut self) -> Result<u64, RecordError> {
        match self.any_number()? {
            number if number <= u64::MAX >> 2 => Ok(number),
            _ => Err(RecordError::Malformed { what: "a number is too large" }),
        }
    }

    /// A place in a session's order; they begin at 1.
    fn place(&mut self) -> Result<u64, RecordError> {
        match self.number()? {
            0 => Err(RecordError::Malformed { what: "a place in no order" }),
            place => Ok(place),
        }
    }

    fn any_number(&mut self) -> Result<u64, RecordError> {
        let mut number = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte("a number is cut off")?;
            if shift == 63 && byte > 1 {
                break;
            }
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(number);
            }
        }
        Err(RecordError::Malformed { what: "a number is too large" })
    }

    fn small<T: TryFrom<u64>>(&mut self) -> Result<T, RecordError> {
        let number = self.number()?;
        T::try_from(number).map_err(|_| RecordError::Malformed { what: "a number is too large" })
    }

    fn optional(&mut self) -> Result<Option<u64>, RecordError> {
        Ok(self.any_number()?.checked_sub(1))
    }

    fn bytes(&mut self, what: &'static str) -> Result<&'a [u8], RecordError> {
        let length: usize = self.small()?;
        let (bytes, rest) =
            self.rest.split_at_checked(length).ok_or(RecordError::Malformed { what })?;
        self.rest = rest;
        Ok(bytes)
    }

    fn text(&mut self, what: &'static str) -> Result<&'a str, RecordError> {
        std::str::from_utf8(self.bytes(what)?).map_err(|_| RecordError::Malformed { what })
    }

    fn subscription(&mut self) -> Result<(&'a str, Subscription), RecordError> {
        let filter = self.text("filter")?;
        let flags = self.byte("no options")?;
        let subscription = Subscription {
            qos: flags & 3,
            no_local: flags & 4 != 0,
            retain_as_published: flags & 8 != 0,
            subscription_id: self.small()?,
        };
        Ok((filter, subscription))
    }
}
