//! Hono's MQTT adapter, connecting and publishing: who is let in, which topics there are, and what of a message reaches
//! those who read it. Every property holds for MQTT 3.1.1 and MQTT 5.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that fails says so by panicking")]

mod device;
mod harness;

use device::{Device, LEVELS, Said, frames};
use fulcrum_frame::{Class, Frame, Tag};
use fulcrum_mqtt::{Packet, Properties, Property, ProtocolLevel, Publish, QoS};
use harness::{Client, Node};

/// Runs `check` with a node for each version.
fn on_both_versions(check: impl Fn(&Node, ProtocolLevel)) {
    let dir = tempfile::tempdir().unwrap();
    for level in LEVELS {
        let node = Node::start(&dir.path().join(format!("{level:?}")), 1);
        check(&node, level);
        node.stop();
    }
}

/// Publishes at QoS 1 and waits for PUBACK; what `look` sees in the journal of it.
fn stored_with<T>(
    node: &Node,
    device: &mut Device,
    topic: &str,
    properties: &[Property<'_>],
    look: impl Fn(&Frame<'_>) -> T,
) -> T {
    device.publish_with(topic, 1, 1, b"21", properties);
    assert_eq!(device.read(), Some(Said::PubAck(1, 0)), "{topic}");
    let all = frames(&node.tails[0]);
    look(&Frame::parse(all.last().unwrap()).unwrap())
}

/// Hono's table of CONNACK codes: 3.1.1 beside MQTT 5.
#[test]
fn a_refused_login_gets_the_code_of_its_version() {
    on_both_versions(|node, level| {
        let connected: Vec<_> = ["d1@small", "d2@small"]
            .iter()
            .map(|name| Device::connect(node.mqtt[0], name, level))
            .collect();
        for (username, password, v311, v5) in [
            ("d1@acme", "wrong", 0x04, 0x86),
            ("d1@", "secret", 0x04, 0x86),
            ("d1", "secret", 0x04, 0x86),
            ("off@acme", "secret", 0x05, 0x87),
            ("barred@acme", "secret", 0x05, 0x87),
            ("d3@small", "secret", 0x05, 0x97),
        ] {
            let mut device = Device::open(node.mqtt[0], level);
            let code = if level == ProtocolLevel::V5 { v5 } else { v311 };
            let answer = device.greet(node.mqtt[0], username, password);
            assert_eq!(answer, Some(Said::ConnAck(code)), "{username}");
            assert_eq!(device.read(), None);
        }
        node.store.lock().unwrap().silent = true;
        let mut device = Device::open(node.mqtt[0], level);
        let code = if level == ProtocolLevel::V5 { 0x88 } else { 0x03 };
        let answer = device.greet(node.mqtt[0], "d1@acme", "secret");
        assert_eq!(answer, Some(Said::ConnAck(code)), "a registry that does not answer");
        drop(connected);
    });
}

/// Hono: telemetry and events in long and short form, of the device itself and by its gateway, tenant left out or not.
#[test]
fn every_form_of_an_address_reaches_its_device() {
    on_both_versions(|node, level| {
        let mut consumer = Client::connect(node.mqtt[0], "app@acme");
        assert_eq!(consumer.subscribe("telemetry/acme/#", 1), [1]);
        let mut gateway = Device::connect(node.mqtt[0], "gw@acme", level);
        for (topic, device) in [
            ("telemetry", "gw"),
            ("t", "gw"),
            ("t//", "gw"),
            ("t/acme/gw", "gw"),
            ("telemetry//gw", "gw"),
            ("telemetry/acme/behind", "behind"),
            ("t//behind", "behind"),
            ("t//behind/?x=y", "behind"),
        ] {
            for qos in [0, 1] {
                gateway.publish(topic, qos, 2, b"21");
                let (seen, _, packet_id) = consumer.expect_publish();
                assert_eq!(seen, format!("telemetry/acme/{device}"), "{topic}");
                if let Some(packet_id) = packet_id {
                    consumer.acknowledge(packet_id);
                    assert_eq!(gateway.read(), Some(Said::PubAck(2, 0)));
                }
            }
        }
        for (topic, device) in [
            ("event", "gw"),
            ("e", "gw"),
            ("e/acme/behind", "behind"),
            ("event//behind/?content-type=a", "behind"),
        ] {
            let seen = stored_with(node, &mut gateway, topic, &[], |frame| {
                assert_eq!(frame.class(), Class::Event);
                assert_eq!(frame.text(Tag::OriginAddress), Some(topic));
                assert_eq!(frame.text(Tag::OriginAdapter), Some("hono-mqtt"));
                let gateway = frame.text(Tag::Gateway).unwrap_or("gw").to_owned();
                (frame.device().unwrap().to_owned(), gateway)
            });
            assert_eq!(seen, (device.to_owned(), "gw".to_owned()));
        }
    });
}

/// Hono: the property bag begins at the last `/?` and is URL-encoded; `hono-ttl` is for events.
#[test]
fn what_the_property_bag_says_is_in_the_message() {
    on_both_versions(|node, level| {
        let mut device = Device::connect(node.mqtt[0], "d1@acme", level);
        let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let bag = format!(
            "content-type=text%2Fplain&hono-ttl=30&site=n%20orth&traceparent={trace}&on-error=ignore&correlation-id=7"
        );
        stored_with(node, &mut device, &format!("event/?{bag}"), &[], |frame| {
            assert_eq!(frame.text(Tag::ContentType), Some("text/plain"));
            assert_eq!(frame.ttl_s(), Some(30));
            assert_eq!(frame.text(Tag::Trace), Some(trace));
            let properties: Vec<_> = frame.properties().collect();
            assert_eq!(properties, [("site", "n orth")], "what has a meaning is no property");
        });
        let response = format!("command///res/001a/200/?{bag}");
        stored_with(node, &mut device, &response, &[], |frame| {
            assert_eq!((frame.class(), frame.status()), (Class::CommandResponse, Some(200)));
            assert_eq!(frame.text(Tag::Correlation), Some("a"));
            assert_eq!(frame.text(Tag::ContentType), Some("text/plain"));
            assert_eq!(frame.ttl_s(), None, "hono-ttl is for events");
        });
        stored_with(node, &mut device, "e/?", &[], |frame| {
            assert_eq!((frame.text(Tag::ContentType), frame.ttl_s()), (None, None));
        });
    });
}

/// Hono: the content type of an MQTT 5 packet counts if the bag has none. Its expiry and user properties likewise.
#[test]
fn properties_of_a_packet_count_where_the_bag_is_silent() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path(), 1);
    let mut device = Device::connect(node.mqtt[0], "d1@acme", ProtocolLevel::V5);
    let properties = [
        Property::ContentType("application/cbor"),
        Property::MessageExpiryInterval(60),
        Property::UserProperty("site", "north"),
    ];
    stored_with(&node, &mut device, "event", &properties, |frame| {
        assert_eq!(frame.text(Tag::ContentType), Some("application/cbor"));
        assert_eq!(frame.ttl_s(), Some(60));
        assert_eq!(frame.properties().collect::<Vec<_>>(), [("site", "north")]);
    });
    let topic = "event/?content-type=text%2Fplain&hono-ttl=5";
    stored_with(&node, &mut device, topic, &properties, |frame| {
        assert_eq!(frame.text(Tag::ContentType), Some("text/plain"));
        assert_eq!(frame.ttl_s(), Some(5));
    });
    // A topic by its number is the topic.
    for topic in ["event//d1", ""] {
        device.publish_with(topic, 1, 1, b"x", &[Property::TopicAlias(3)]);
        assert_eq!(device.read(), Some(Said::PubAck(1, 0)));
    }
    let all = frames(&node.tails[0]);
    let last = Frame::parse(all.last().unwrap()).unwrap();
    assert_eq!(last.text(Tag::OriginAddress), Some("event//d1"));
    node.stop();
}

/// Hono: an empty message needs a content type, which makes it a notification; the retain flag is passed on.
#[test]
fn an_empty_notification_and_a_retained_event_are_taken() {
    on_both_versions(|node, level| {
        let mut device = Device::connect(node.mqtt[0], "d1@acme", level);
        let topic = "e/?content-type=application%2Fvnd.eclipse-hono-empty-notification";
        device.write(&Packet::Publish(Publish {
            topic,
            packet_id: Some(4),
            qos: QoS::AtLeastOnce,
            retain: true,
            dup: false,
            properties: Properties::default(),
            payload: b"",
        }));
        assert_eq!(device.read(), Some(Said::PubAck(4, 0)));
        let all = frames(&node.tails[0]);
        let frame = Frame::parse(&all[0]).unwrap();
        assert!(frame.retain() && frame.payload().is_empty());
    });
}

/// Hono: a registry that cannot be asked about a gateway's device is a 503, and a denial is no verdict on later messages.
#[test]
fn a_gateways_permission_is_looked_at_again_after_a_refusal() {
    on_both_versions(|node, level| {
        let mut gateway = Device::connect(node.mqtt[0], "gw@acme", level);
        gateway.subscribe("error//+/#", 0);
        node.store.lock().unwrap().busy = true;
        gateway.publish("event//behind", 1, 1, b"x");
        assert_eq!(gateway.expect_publish().0, "error//behind/event/1/503");
        assert_eq!(gateway.read(), Some(Said::PubAck(1, gateway.reason(0x80))));
        node.store.lock().unwrap().busy = false;
        node.store.lock().unwrap().revoked = true;
        gateway.publish("event//behind", 1, 2, b"x");
        assert_eq!(gateway.expect_publish().0, "error//behind/event/2/403");
        assert_eq!(gateway.read(), Some(Said::PubAck(2, gateway.reason(0x80))));
        node.store.lock().unwrap().revoked = false;
        gateway.publish("event//behind", 1, 3, b"x");
        assert_eq!(gateway.read(), Some(Said::PubAck(3, 0)));
    });
}
