//! The packets, as views into the receive buffer.
//!
//! One type per packet serves both protocol levels: what only MQTT 5 has (properties, reason codes,
//! subscription options) is empty or "success" for 3.1.1. `Debug` shows lengths instead of payloads,
//! and never a password.

use std::fmt;

use crate::property::{Properties, PropertyOwner};
use crate::reader::Reader;
use crate::reason::{ConnectReturnCode, ReasonCode};

/// The protocol levels that are served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ProtocolLevel {
    /// MQTT 3.1.1, level byte 4.
    V311,
    /// MQTT 5, level byte 5.
    V5,
}

/// Quality of service (section 4.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum QoS {
    /// QoS 0.
    AtMostOnce = 0,
    /// QoS 1.
    AtLeastOnce = 1,
    /// QoS 2.
    ExactlyOnce = 2,
}

impl QoS {
    /// The QoS with that number; 3 and above do not exist.
    pub fn from_u8(value: u8) -> Option<Self> {
        match value {
            0 => Some(Self::AtMostOnce),
            1 => Some(Self::AtLeastOnce),
            2 => Some(Self::ExactlyOnce),
            _ => None,
        }
    }

    /// The number on the wire.
    pub fn as_u8(self) -> u8 {
        self as u8
    }
}

/// One control packet (section 3). Acknowledgements of 3.1.1 carry `ReasonCode::SUCCESS` and no
/// properties.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields mean the same in each acknowledgement")]
pub enum Packet<'a> {
    /// Client asks to connect.
    Connect(Connect<'a>),
    /// Server answers CONNECT.
    ConnAck(ConnAck<'a>),
    /// An application message.
    Publish(Publish<'a>),
    /// Acknowledges a QoS 1 PUBLISH.
    PubAck { packet_id: u16, reason: ReasonCode, properties: Properties<'a> },
    /// First answer to a QoS 2 PUBLISH.
    PubRec { packet_id: u16, reason: ReasonCode, properties: Properties<'a> },
    /// Releases a QoS 2 message.
    PubRel { packet_id: u16, reason: ReasonCode, properties: Properties<'a> },
    /// Completes a QoS 2 message.
    PubComp { packet_id: u16, reason: ReasonCode, properties: Properties<'a> },
    /// Client asks for subscriptions.
    Subscribe(Subscribe<'a>),
    /// Server answers SUBSCRIBE.
    SubAck(SubAck<'a>),
    /// Client ends subscriptions.
    Unsubscribe(Unsubscribe<'a>),
    /// Server answers UNSUBSCRIBE.
    UnsubAck(UnsubAck<'a>),
    /// Client is alive.
    PingReq,
    /// Server is alive.
    PingResp,
    /// The connection ends in order. From a 3.1.1 client: without a will.
    Disconnect { reason: ReasonCode, properties: Properties<'a> },
    /// A step of extended authentication, MQTT 5 alone.
    Auth { reason: ReasonCode, properties: Properties<'a> },
}

/// CONNECT (section 3.1).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Connect<'a> {
    /// The protocol level the client speaks.
    pub level: ProtocolLevel,
    /// Clean session (3.1.1) or clean start (MQTT 5).
    pub clean_session: bool,
    /// Keep-alive in seconds; 0 turns it off [MQTT-3.1.2-24].
    pub keep_alive_s: u16,
    /// Client identifier; when empty the server chooses one.
    pub client_id: &'a str,
    /// The message to publish when the connection ends without DISCONNECT.
    pub will: Option<Will<'a>>,
    /// User name.
    pub username: Option<&'a str>,
    /// Password: any bytes.
    pub password: Option<&'a [u8]>,
    /// Properties, MQTT 5 alone.
    pub properties: Properties<'a>,
}

impl fmt::Debug for Connect<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connect")
            .field("level", &self.level)
            .field("clean_session", &self.clean_session)
            .field("keep_alive_s", &self.keep_alive_s)
            .field("client_id", &self.client_id)
            .field("will", &self.will)
            .field("username", &self.username)
            .field("password", &self.password.map(|_| "(hidden)"))
            .field("properties", &self.properties)
            .finish()
    }
}

/// The will of a CONNECT (section 3.1.2.5).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Will<'a> {
    /// Topic name the will is published to.
    pub topic: &'a str,
    /// Payload of the will.
    pub payload: &'a [u8],
    /// QoS the will is published with.
    pub qos: QoS,
    /// Whether the will becomes the topic's retained message.
    pub retain: bool,
    /// Properties of the will, MQTT 5 alone.
    pub properties: Properties<'a>,
}

impl fmt::Debug for Will<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Will")
            .field("topic", &self.topic)
            .field("payload_bytes", &self.payload.len())
            .field("qos", &self.qos)
            .field("retain", &self.retain)
            .field("properties", &self.properties)
            .finish()
    }
}

/// CONNACK (section 3.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnAck<'a> {
    /// Whether the server had a session for the client identifier.
    pub session_present: bool,
    /// The verdict.
    pub code: ConnAckCode,
    /// Properties, MQTT 5 alone.
    pub properties: Properties<'a>,
}

/// The verdict of a CONNACK, in the numbers of the protocol level.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConnAckCode {
    /// MQTT 3.1.1.
    V311(ConnectReturnCode),
    /// MQTT 5.
    V5(ReasonCode),
}

impl ConnAckCode {
    /// Whether the connection was accepted.
    pub fn is_accepted(self) -> bool {
        matches!(self, Self::V311(ConnectReturnCode::Accepted) | Self::V5(ReasonCode::SUCCESS))
    }
}

/// PUBLISH (section 3.3).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Publish<'a> {
    /// Topic name. Empty in MQTT 5 alone, when a topic alias property stands for it.
    pub topic: &'a str,
    /// Packet identifier, never zero; present exactly when the QoS is above 0 [MQTT-2.3.1-5].
    pub packet_id: Option<u16>,
    /// Quality of service.
    pub qos: QoS,
    /// From a client: keep as the topic's retained message. From a server: it was one.
    pub retain: bool,
    /// Whether this may be a repetition of an earlier attempt.
    pub dup: bool,
    /// Properties, empty in 3.1.1.
    pub properties: Properties<'a>,
    /// The application's bytes; may be empty.
    pub payload: &'a [u8],
}

/// A PUBLISH to be written is the same structure as one that was read.
pub type PublishOut<'a> = Publish<'a>;

impl fmt::Debug for Publish<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Publish")
            .field("topic", &self.topic)
            .field("packet_id", &self.packet_id)
            .field("qos", &self.qos)
            .field("retain", &self.retain)
            .field("dup", &self.dup)
            .field("properties", &self.properties)
            .field("payload_bytes", &self.payload.len())
            .finish()
    }
}

/// SUBSCRIBE (section 3.8): at least one filter, each validated when the packet was decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subscribe<'a> {
    /// Packet identifier, never zero.
    pub packet_id: u16,
    /// Properties, MQTT 5 alone.
    pub properties: Properties<'a>,
    pub(crate) raw: &'a [u8],
    pub(crate) count: usize,
}

impl<'a> Subscribe<'a> {
    /// The filters in the order of the packet; a SUBACK has one code for each.
    pub fn filters(&self) -> SubscribeFilters<'a> {
        SubscribeFilters { reader: Reader::new(self.raw), left: self.count }
    }

    /// How many filters there are: one or more.
    pub fn filter_count(&self) -> usize {
        self.count
    }
}

/// One topic filter of a SUBSCRIBE with what was asked for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SubscribeFilter<'a> {
    /// A valid topic filter. In MQTT 5 it may be `$share/{group}/{filter}`.
    pub filter: &'a str,
    /// Options; in 3.1.1 only the QoS.
    pub options: SubscribeOptions,
}

/// Subscription options (MQTT 5 section 3.8.3.1). 3.1.1 has the QoS alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SubscribeOptions {
    /// The highest QoS messages are wanted with.
    pub qos: QoS,
    /// Do not send the client its own messages.
    pub no_local: bool,
    /// Keep the retain flag as the publisher set it.
    pub retain_as_published: bool,
    /// What to do with retained messages at subscribe time.
    pub retain_handling: RetainHandling,
}

impl SubscribeOptions {
    /// The options 3.1.1 can express.
    pub const fn qos(qos: QoS) -> Self {
        Self {
            qos,
            no_local: false,
            retain_as_published: false,
            retain_handling: RetainHandling::Send,
        }
    }

    pub(crate) fn from_bits(bits: u8) -> Option<Self> {
        Some(Self {
            qos: QoS::from_u8(bits & 0b11)?,
            no_local: bits & 0b100 != 0,
            retain_as_published: bits & 0b1000 != 0,
            retain_handling: match (bits >> 4) & 0b11 {
                0 => RetainHandling::Send,
                1 => RetainHandling::SendIfNew,
                2 => RetainHandling::DoNotSend,
                _ => return None,
            },
        })
    }

    pub(crate) fn to_bits(self) -> u8 {
        self.qos.as_u8()
            | u8::from(self.no_local) << 2
            | u8::from(self.retain_as_published) << 3
            | (self.retain_handling as u8) << 4
    }
}

/// When retained messages are sent for a new subscription (MQTT 5 section 3.8.3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum RetainHandling {
    /// At each subscribe; what 3.1.1 does.
    Send = 0,
    /// Only when the subscription did not exist.
    SendIfNew = 1,
    /// Never.
    DoNotSend = 2,
}

/// Iterates over the filters of a SUBSCRIBE. Cannot fail: decoding checked each of them.
#[derive(Debug, Clone)]
pub struct SubscribeFilters<'a> {
    reader: Reader<'a>,
    left: usize,
}

impl<'a> Iterator for SubscribeFilters<'a> {
    type Item = SubscribeFilter<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        let filter = self.reader.string().ok()?;
        let options = SubscribeOptions::from_bits(self.reader.byte().ok()?)?;
        Some(SubscribeFilter { filter, options })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for SubscribeFilters<'_> {}

/// SUBACK (section 3.9): one code for each filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SubAck<'a> {
    /// Packet identifier of the SUBSCRIBE.
    pub packet_id: u16,
    /// Properties, MQTT 5 alone.
    pub properties: Properties<'a>,
    /// One code for each filter of the SUBSCRIBE.
    pub codes: ReasonCodes<'a>,
}

/// UNSUBACK (section 3.11).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnsubAck<'a> {
    /// Packet identifier of the UNSUBSCRIBE.
    pub packet_id: u16,
    /// Properties, MQTT 5 alone.
    pub properties: Properties<'a>,
    /// One code for each filter in MQTT 5, none in 3.1.1.
    pub codes: ReasonCodes<'a>,
}

/// The validated codes of a SUBACK or UNSUBACK.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ReasonCodes<'a> {
    raw: &'a [u8],
}

impl<'a> ReasonCodes<'a> {
    /// Checks each byte; `None` when one is reserved.
    pub(crate) fn validated(
        raw: &'a [u8],
        level: ProtocolLevel,
        carrier: PropertyOwner,
    ) -> Option<Self> {
        let known = |&value: &u8| match level {
            ProtocolLevel::V311 => ReasonCode::in_suback_v311(value).is_some(),
            ProtocolLevel::V5 => ReasonCode::in_packet(value, carrier).is_some(),
        };
        raw.iter().all(known).then_some(Self { raw })
    }

    /// How many codes there are.
    pub fn len(&self) -> usize {
        self.raw.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.raw.is_empty()
    }

    /// The codes in the order of the filters.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = ReasonCode> + 'a {
        self.raw.iter().map(|&value| ReasonCode::unchecked(value))
    }

    pub(crate) fn as_bytes(&self) -> &'a [u8] {
        self.raw
    }
}

/// UNSUBSCRIBE (section 3.10): at least one filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unsubscribe<'a> {
    /// Packet identifier, never zero.
    pub packet_id: u16,
    /// Properties, MQTT 5 alone.
    pub properties: Properties<'a>,
    pub(crate) raw: &'a [u8],
    pub(crate) count: usize,
}

impl<'a> Unsubscribe<'a> {
    /// The filters in the order of the packet.
    pub fn filters(&self) -> Filters<'a> {
        Filters { reader: Reader::new(self.raw), left: self.count }
    }

    /// How many filters there are: one or more.
    pub fn filter_count(&self) -> usize {
        self.count
    }
}

/// Iterates over the filters of an UNSUBSCRIBE. Cannot fail: decoding checked each of them.
#[derive(Debug, Clone)]
pub struct Filters<'a> {
    reader: Reader<'a>,
    left: usize,
}

impl<'a> Iterator for Filters<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        self.reader.string().ok()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for Filters<'_> {}
