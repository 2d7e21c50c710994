//! What a publish to the device API says beside topic and payload: the property bag at the end of its topic, and the
//! properties of an MQTT 5 packet.
//!
//! The bag wins over the packet's properties, as in Hono. Keys without a meaning of their own, and user properties, become
//! properties of the message.

use super::device_errors::{Concern, OnError};
use super::topics::bag_pairs;
use fulcrum_mqtt::{Properties, Property};
use std::sync::Arc;

/// Longest correlation id of an error report, in bytes; a longer one is ignored. It is kept until the message is answered.
const CORRELATION_BYTES_MAX: usize = 256;

/// What a publish says about itself.
#[derive(Default)]
pub(super) struct Bag {
    pub content_type: String,
    /// `hono-ttl`, else the message expiry interval, in seconds. It counts for events.
    pub ttl_s: Option<u32>,
    /// What error reports about the message are to carry.
    pub correlation: Option<Box<str>>,
    pub on_error: OnError,
    pub properties: Vec<(String, String)>,
}

impl Bag {
    /// Of a topic's bag and a packet's properties.
    pub(super) fn parse(text: &str, properties: Properties<'_>) -> Bag {
        let mut bag = Bag::default();
        if !text.is_empty() {
            bag.take_pairs(text);
        }
        if !properties.is_empty() {
            bag.take_properties(properties);
        }
        bag
    }

    /// What is to be known about the message when it fails; `device` where it is not the publisher's own.
    pub(super) fn concern(&self, topic: &str, device: Option<&Arc<str>>) -> Concern {
        Concern::new(topic, self.on_error, self.correlation.as_deref(), device)
    }

    fn take_pairs(&mut self, text: &str) {
        for (key, value) in bag_pairs(text) {
            match key.as_str() {
                "content-type" => self.content_type = value,
                "hono-ttl" => self.ttl_s = value.parse().ok().map(whole_second),
                "on-error" => self.on_error = OnError::named(&value),
                "correlation-id" => {
                    let fits = !value.is_empty() && value.len() <= CORRELATION_BYTES_MAX;
                    self.correlation = fits.then(|| value.into());
                }
                _ => self.properties.push((key, value)),
            }
        }
    }

    fn take_properties(&mut self, properties: Properties<'_>) {
        for property in &properties {
            match property {
                Property::ContentType(content_type) if self.content_type.is_empty() => {
                    content_type.clone_into(&mut self.content_type);
                }
                Property::MessageExpiryInterval(seconds) if self.ttl_s.is_none() => {
                    self.ttl_s = Some(whole_second(seconds));
                }
                Property::UserProperty(key, value) if !key.is_empty() => {
                    self.properties.push((key.to_owned(), value.to_owned()));
                }
                _ => {}
            }
        }
    }
}

/// 0 is "no limit" in a frame: what is to live for no time lives for a second.
fn whole_second(seconds: u32) -> u32 {
    seconds.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use fulcrum_mqtt::{PropertyBuffer, PropertyOwner};

    #[test]
    fn every_key_of_the_property_bag_has_its_meaning() {
        let bag = Bag::parse(
            "content-type=text%2Fplain&hono-ttl=30&correlation-id=a%2Bb&on-error=skip-ack&traceparent=00-1&x=y",
            Properties::EMPTY,
        );
        assert_eq!((bag.content_type.as_str(), bag.ttl_s), ("text/plain", Some(30)));
        assert_eq!((bag.correlation.as_deref(), bag.on_error), (Some("a+b"), OnError::SkipAck));
        let properties: Vec<_> =
            bag.properties.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        assert_eq!(properties, [("traceparent", "00-1"), ("x", "y")]);
    }

    #[test]
    fn a_packets_properties_count_where_the_bag_is_silent() {
        let mut packet = PropertyBuffer::new(PropertyOwner::Publish);
        for property in [
            Property::ContentType("text/html"),
            Property::MessageExpiryInterval(0),
            Property::UserProperty("site", "north"),
        ] {
            packet.push(property).unwrap();
        }
        let silent = Bag::parse("", packet.properties());
        assert_eq!((silent.content_type.as_str(), silent.ttl_s), ("text/html", Some(1)));
        assert_eq!(silent.properties, [("site".to_owned(), "north".to_owned())]);
        let bag = Bag::parse("content-type=text%2Fplain&hono-ttl=30", packet.properties());
        assert_eq!((bag.content_type.as_str(), bag.ttl_s), ("text/plain", Some(30)));
    }

    #[test]
    fn values_without_a_meaning_are_as_if_they_were_not_there() {
        let long = format!("correlation-id={}", "x".repeat(CORRELATION_BYTES_MAX + 1));
        let bag = Bag::parse(&format!("hono-ttl=-1&on-error=explode&{long}"), Properties::EMPTY);
        assert_eq!((bag.ttl_s, bag.on_error, bag.correlation), (None, OnError::Default, None));
    }
}
