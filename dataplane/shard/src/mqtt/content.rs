//! A message between clients, whatever it comes from: a packet on its way in, or a frame that was kept.

use fulcrum_frame::{Class, Frame, FrameBuilder, FrameError, Tag};
use fulcrum_mqtt::{
    EncodeError, Properties, Property, PropertyBuffer, PropertyOwner, ProtocolLevel, Publish, QoS,
    encode_publish_parts, v5,
};

/// What a subscriber is to see of a message.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Content<'a> {
    pub topic: &'a str,
    pub payload: &'a [u8],
    pub retain: bool,
    /// Seconds it may still be delivered [MQTT5-3.3.2-5].
    pub expiry_s: Option<u32>,
    extras: Extras<'a>,
}

/// The properties that are passed on unchanged [MQTT5-3.3.2-4] [MQTT5-3.3.2-15] [MQTT5-3.3.2-16] [MQTT5-3.3.2-17]
/// [MQTT5-3.3.2-20].
#[derive(Clone, Copy, Debug)]
enum Extras<'a> {
    None,
    Packet(Properties<'a>),
    Frame(Frame<'a>),
}

impl<'a> Content<'a> {
    /// A publish packet's, with its topic alias resolved.
    pub(crate) fn of_publish(topic: &'a str, publish: &Publish<'a>) -> Content<'a> {
        Content::of_packet(topic, publish.payload, publish.retain, publish.properties)
    }

    /// A message's of a packet that carries these properties.
    pub(crate) fn of_packet(
        topic: &'a str,
        payload: &'a [u8],
        retain: bool,
        properties: Properties<'a>,
    ) -> Content<'a> {
        let mut content = Content { topic, payload, retain, expiry_s: None, extras: Extras::None };
        if !properties.is_empty() {
            content.extras = Extras::Packet(properties);
            content.expiry_s = properties.iter().find_map(|property| match property {
                Property::MessageExpiryInterval(seconds) => Some(seconds),
                _ => None,
            });
        }
        content
    }

    /// Whether it ends what its topic retains [MQTT-3.3.1-10] [MQTT5-3.3.1-6].
    pub(crate) fn is_deletion(&self) -> bool {
        self.retain && self.payload.is_empty()
    }

    /// A kept frame's at `now_ms`; `None` if its time is over.
    pub(crate) fn of_frame(frame: Frame<'a>, now_ms: u64) -> Option<Content<'a>> {
        let expiry_s = match frame.ttl_s() {
            None => None,
            Some(ttl_s) => {
                let age_s = now_ms.saturating_sub(frame.created_ms()) / 1000;
                // The interval is what was left of it when it came in, less the time it waited [MQTT5-3.3.2-6].
                Some(
                    u32::try_from(u64::from(ttl_s).checked_sub(age_s).filter(|left| *left > 0)?)
                        .ok()?,
                )
            }
        };
        Some(Content {
            topic: frame.text(Tag::OriginAddress).unwrap_or_default(),
            payload: frame.payload(),
            retain: frame.retain(),
            expiry_s,
            extras: Extras::Frame(frame),
        })
    }

    /// Writes the frame that is kept and handed between shards. An expiry of 0 counts as one second: 0 is "no limit"
    /// in a frame.
    pub(crate) fn to_frame(
        self,
        tenant: &str,
        qos: QoS,
        now_ms: u64,
        out: &mut Vec<u8>,
    ) -> Result<(), FrameError> {
        out.clear();
        let mut frame = FrameBuilder::new(out, Class::Message, qos.as_u8(), now_ms);
        frame
            .text(Tag::Tenant, tenant)
            .text(Tag::OriginAddress, self.topic)
            .retain(self.retain)
            .ttl_s(self.expiry_s.map(|seconds| seconds.max(1)));
        if let Extras::Frame(kept) = self.extras {
            for field in kept.fields().filter(|field| is_extra(field.tag)) {
                frame.field_as_is(field);
            }
        }
        if let Extras::Packet(properties) = self.extras {
            for property in &properties {
                match property {
                    Property::PayloadFormatIndicator(text) => {
                        frame.bytes(Tag::PayloadFormat, &[text.into()]);
                    }
                    Property::ContentType(content_type) => {
                        frame.bytes(Tag::ContentType, content_type.as_bytes());
                    }
                    Property::ResponseTopic(topic) => {
                        frame.bytes(Tag::ReplyAddress, topic.as_bytes());
                    }
                    Property::CorrelationData(data) => {
                        frame.bytes(Tag::CorrelationData, data);
                    }
                    Property::UserProperty(key, value) => {
                        frame.property(key, value);
                    }
                    _ => {}
                }
            }
        }
        frame.finish(self.payload)
    }

    /// Writes the PUBLISH for one subscriber.
    pub(crate) fn encode(&self, to: &Recipient<'_>, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let Recipient { level, qos, packet_id, dup, retain, subscription_ids, alias } = *to;
        if level == ProtocolLevel::V311 {
            return encode_publish_parts(
                out,
                self.topic,
                qos,
                packet_id,
                retain,
                dup,
                self.payload,
            );
        }
        let publish = |topic, properties| Publish {
            topic,
            packet_id,
            qos,
            retain,
            dup,
            properties,
            payload: self.payload,
        };
        let plain = self.expiry_s.is_none() && matches!(self.extras, Extras::None);
        if plain && subscription_ids.is_empty() && alias == Alias::None {
            return v5::encode_publish(&publish(self.topic, Properties::EMPTY), out);
        }
        let mut properties = PropertyBuffer::new(PropertyOwner::Publish);
        self.push_extras(&mut properties)?;
        if let Some(seconds) = self.expiry_s {
            properties.push(Property::MessageExpiryInterval(seconds))?;
        }
        for id in subscription_ids {
            properties.push(Property::SubscriptionIdentifier(*id))?;
        }
        let topic = match alias {
            Alias::None => self.topic,
            Alias::Made(alias) => {
                properties.push(Property::TopicAlias(alias))?;
                self.topic
            }
            Alias::Known(alias) => {
                properties.push(Property::TopicAlias(alias))?;
                ""
            }
        };
        v5::encode_publish(&publish(topic, properties.properties()), out)
    }

    fn push_extras(&self, out: &mut PropertyBuffer) -> Result<(), EncodeError> {
        match self.extras {
            Extras::None => Ok(()),
            Extras::Packet(properties) => properties
                .iter()
                .filter(|property| is_passed_on(property))
                .try_for_each(|property| out.push(property)),
            Extras::Frame(frame) => {
                if let Some([format]) = frame.bytes(Tag::PayloadFormat) {
                    out.push(Property::PayloadFormatIndicator(*format != 0))?;
                }
                if let Some(content_type) = frame.text(Tag::ContentType) {
                    out.push(Property::ContentType(content_type))?;
                }
                if let Some(topic) = frame.text(Tag::ReplyAddress) {
                    out.push(Property::ResponseTopic(topic))?;
                }
                if let Some(data) = frame.bytes(Tag::CorrelationData) {
                    out.push(Property::CorrelationData(data))?;
                }
                frame
                    .properties()
                    .try_for_each(|(key, value)| out.push(Property::UserProperty(key, value)))
            }
        }
    }
}

fn is_extra(tag: u8) -> bool {
    [
        Tag::PayloadFormat,
        Tag::ContentType,
        Tag::ReplyAddress,
        Tag::CorrelationData,
        Tag::Property,
        Tag::LongProperty,
    ]
    .iter()
    .any(|extra| *extra as u8 == tag)
}

fn is_passed_on(property: &Property<'_>) -> bool {
    matches!(
        property,
        Property::PayloadFormatIndicator(_)
            | Property::ContentType(_)
            | Property::ResponseTopic(_)
            | Property::CorrelationData(_)
            | Property::UserProperty(..)
    )
}

/// How a subscriber gets a message.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Recipient<'a> {
    pub level: ProtocolLevel,
    pub qos: QoS,
    pub packet_id: Option<u16>,
    pub dup: bool,
    pub retain: bool,
    pub subscription_ids: &'a [u32],
    pub alias: Alias,
}

impl<'a> Recipient<'a> {
    /// At QoS 0.
    pub(crate) fn at_most_once(
        level: ProtocolLevel,
        retain: bool,
        subscription_ids: &'a [u32],
        alias: Alias,
    ) -> Recipient<'a> {
        let qos = QoS::AtMostOnce;
        Recipient { level, qos, packet_id: None, dup: false, retain, subscription_ids, alias }
    }
}

/// Whether a topic goes out under a number [MQTT5-3.3.2-8].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Alias {
    /// It does not.
    None,
    /// Topic and number: the receiver learns it.
    Made(u16),
    /// The number alone.
    Known(u16),
}

#[cfg(test)]
mod tests {
    use super::*;
    use fulcrum_mqtt::{DecodeContext, Decoded, Packet, decode};

    fn properties() -> PropertyBuffer {
        let mut properties = PropertyBuffer::new(PropertyOwner::Publish);
        for property in [
            Property::PayloadFormatIndicator(true),
            Property::MessageExpiryInterval(60),
            Property::TopicAlias(7),
            Property::ContentType("text/plain"),
            Property::ResponseTopic("answers/1"),
            Property::CorrelationData(&[0, 255, 1]),
            Property::UserProperty("b", "2"),
            Property::UserProperty("a", "1"),
            Property::UserProperty("b", "2"),
        ] {
            properties.push(property).unwrap();
        }
        properties
    }

    fn to<'a>(level: ProtocolLevel, subscription_ids: &'a [u32]) -> Recipient<'a> {
        Recipient {
            level,
            qos: QoS::AtMostOnce,
            packet_id: None,
            dup: false,
            retain: false,
            subscription_ids,
            alias: Alias::None,
        }
    }

    fn seen(content: &Content<'_>) -> Vec<String> {
        let mut out = Vec::new();
        content.encode(&to(ProtocolLevel::V5, &[9]), &mut out).unwrap();
        let context = DecodeContext { level: Some(ProtocolLevel::V5), packet_bytes_max: 1 << 20 };
        match decode(&out, &context).unwrap() {
            Decoded::Packet { packet: Packet::Publish(publish), .. } => {
                assert_eq!((publish.topic, publish.payload), ("a/b", &b"21"[..]));
                publish.properties.iter().map(|property| format!("{property:?}")).collect()
            }
            other => vec![format!("{other:?}")],
        }
    }

    #[test]
    fn properties_are_passed_on_unchanged_through_a_frame_and_directly() {
        let properties = properties();
        let content = Content::of_packet("a/b", b"21", false, properties.properties());
        let direct = seen(&content);
        assert!(!direct.iter().any(|one| one.contains("TopicAlias")), "{direct:?}");
        assert_eq!(direct.iter().filter(|one| one.contains("UserProperty")).count(), 3);
        let mut frame = Vec::new();
        content.to_frame("acme", QoS::AtLeastOnce, 1000, &mut frame).unwrap();
        let frame = Frame::parse(&frame).unwrap();
        let kept = seen(&Content::of_frame(frame, 1000).unwrap());
        assert_eq!(direct, kept);
    }

    #[test]
    fn time_a_message_waited_is_taken_off_its_expiry() {
        let properties = properties();
        let content = Content::of_packet("a/b", b"21", false, properties.properties());
        let mut frame = Vec::new();
        content.to_frame("acme", QoS::AtLeastOnce, 1000, &mut frame).unwrap();
        let frame = Frame::parse(&frame).unwrap();
        assert_eq!(Content::of_frame(frame, 21_000).unwrap().expiry_s, Some(40));
        assert_eq!(Content::of_frame(frame, 60_000).unwrap().expiry_s, Some(1));
        assert!(Content::of_frame(frame, 61_000).is_none());
        assert_eq!(Content::of_frame(frame, 0).unwrap().expiry_s, Some(60), "a clock set back");
    }

    #[test]
    fn an_older_client_gets_topic_and_payload_alone() {
        let properties = properties();
        let content = Content::of_packet("a/b", b"21", false, properties.properties());
        let mut out = Vec::new();
        content.encode(&to(ProtocolLevel::V311, &[9]), &mut out).unwrap();
        assert_eq!(out, b"\x30\x07\x00\x03a/b21");
    }
}
