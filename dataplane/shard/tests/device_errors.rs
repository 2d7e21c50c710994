//! Hono's MQTT adapter, error handling: who is told of a message that failed, in which words, and what becomes of the
//! connection. Every property holds for MQTT 3.1.1 and MQTT 5.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that fails says so by panicking")]

mod device;
mod harness;

use device::{Device, LEVELS, Said};
use fulcrum_mqtt::ProtocolLevel;
use harness::{Client, Node, stored};
use std::path::Path;

/// Runs `check` with a node for each version.
fn on_both_versions(check: impl Fn(&Node, ProtocolLevel)) {
    let dir = tempfile::tempdir().unwrap();
    for level in LEVELS {
        let node = Node::start(&dir.path().join(format!("{level:?}")), 1);
        check(&node, level);
        node.stop();
    }
}

/// A node whose journal is full.
fn full_node(dir: &Path) -> Node {
    let config =
        fulcrum_journal::JournalConfig { bytes_max: 3 << 20, ..harness::journal_config(dir, 1) };
    let node = Node::start_with(&config, Default::default());
    for payload in [32 * 1024, 4096, 512, 64, 1] {
        let mut filler = Device::connect(node.mqtt[0], "filler@acme", ProtocolLevel::V311);
        let mut number = 0;
        loop {
            number += 1;
            filler.publish("event", 1, number, &vec![7; payload]);
            match filler.read() {
                Some(Said::PubAck(..)) => {}
                None => break,
                other => panic!("{other:?}"),
            }
        }
    }
    node
}

/// Hono: a report's topic is `{error|e}/[t]/[d]/{endpoint}/{correlation}/{status}`, its body JSON.
#[test]
fn a_device_that_subscribed_to_errors_is_told_and_stays() {
    on_both_versions(|node, level| {
        let mut device = Device::connect(node.mqtt[0], "d1@acme", level);
        assert_eq!(device.subscribe("error///#", 1), 0, "granted QoS 0 whatever was asked");
        device.publish("telemetry", 1, 7, b"x");
        let (topic, body, packet_id) = device.expect_publish();
        assert_eq!((topic.as_str(), packet_id), ("error///telemetry/7/503", None));
        for part in ["\"code\":503,", "\"message\":\"", "\"correlation-id\":\"7\""] {
            assert!(body.contains(part), "{body}");
        }
        let timestamp = body.split("\"timestamp\":\"").nth(1).unwrap().split('"').next().unwrap();
        assert_eq!((timestamp.len(), &timestamp[4..5], &timestamp[19..20]), (24, "-", "."));
        assert!(timestamp.ends_with('Z'), "{timestamp}");
        assert_eq!(device.read(), Some(Said::PubAck(7, device.reason(0x80))));
        device.expect_silence();
    });
}

/// Hono: correlation is the bag's `correlation-id`, else the packet id, else -1.
#[test]
fn the_correlation_of_a_report_is_the_bags_else_the_packet_id_else_minus_one() {
    on_both_versions(|node, level| {
        let mut device = Device::connect(node.mqtt[0], "d1@acme", level);
        device.subscribe("e///#", 0);
        device.publish("event/?correlation-id=a%2Fb", 0, 0, b"x");
        let (topic, body, _) = device.expect_publish();
        assert_eq!(topic, "e///event/a/b/400");
        assert!(body.contains("\"correlation-id\":\"a/b\""), "{body}");
        device.publish("e", 0, 0, b"x");
        assert_eq!(device.expect_publish().0, "e///e/-1/400");
        device.publish("t/acme", 1, 8, b"x");
        assert_eq!(device.expect_publish().0, "e///t/8/400");
    });
}

/// Hono's table of failures: the status and the endpoint as the publisher spelled it.
#[test]
fn every_failure_has_its_status_and_names_the_endpoint_as_it_was_spelled() {
    let rows: [(&str, u8, &[u8], &str); 20] = [
        ("telemetry", 2, b"x", "telemetry/3/400"),
        ("event", 2, b"x", "event/3/400"),
        ("event", 0, b"x", "event/-1/400"),
        ("e", 0, b"x", "e/-1/400"),
        ("telemetry", 1, b"x", "telemetry/3/503"),
        ("t", 1, b"x", "t/3/503"),
        ("t", 0, b"x", "t/-1/503"),
        ("weather", 1, b"x", "unknown/3/404"),
        ("command_response/acme/x", 1, b"x", "unknown/3/404"),
        ("telemetry/rival/d1", 1, b"x", "telemetry/3/403"),
        ("telemetry/acme", 1, b"x", "telemetry/3/400"),
        ("event/acme/d1/x", 1, b"x", "event/3/400"),
        ("event", 1, b"", "event/3/400"),
        ("t/?content-type=application%2Fvnd.eclipse-hono-empty-notification", 1, b"x", "t/3/400"),
        ("command///res/001a/302", 1, b"x", "command-response/3/400"),
        ("command///res/001a/x", 1, b"x", "command-response/3/400"),
        ("c///s/zz/200", 1, b"x", "c-s/3/400"),
        ("c///s//200", 0, b"x", "c-s/-1/400"),
        ("command///req/001a/200", 1, b"x", "command-response/3/400"),
        ("c/acme//s/001a/200", 1, b"x", "c-s/3/400"),
    ];
    on_both_versions(|node, level| {
        let mut device = Device::connect(node.mqtt[0], "d1@acme", level);
        device.subscribe("error///#", 0);
        for (topic, qos, payload, expected) in rows {
            device.publish(topic, qos, 3, payload);
            let report = device.expect_publish().0;
            assert_eq!(report, format!("error///{expected}"), "{topic} at QoS {qos}");
            let answer = match qos {
                0 => continue,
                1 => Said::PubAck(3, device.reason(0x80)),
                _ => Said::PubRec(3, device.reason(0x80)),
            };
            assert_eq!(device.read(), Some(answer), "{topic} at QoS {qos}");
        }
        device.expect_silence();
        assert!(stored(&node.tails[0]).is_empty(), "nothing of it was taken");
    });
}

/// Hono: without an error subscription the default is to disconnect.
#[test]
fn a_failure_ends_the_connection_of_a_device_that_has_not_subscribed_to_errors() {
    on_both_versions(|node, level| {
        for (topic, qos, payload, reason) in [
            ("telemetry", 1, &b"x"[..], 0x80),
            ("telemetry", 2, b"x", 0x9b),
            ("event", 0, b"x", 0x9b),
            ("weather", 0, b"x", 0x90),
            ("telemetry/rival/d1", 0, b"x", 0x87),
            ("telemetry/acme", 1, b"x", 0x90),
            ("event", 1, b"", 0x99),
            ("telemetry/?on-error=default", 1, b"x", 0x80),
        ] {
            let mut device = Device::connect(node.mqtt[0], "d1@acme", level);
            device.publish(topic, qos, 3, payload);
            device.expect_end(reason);
        }
    });
}

/// Hono: `on-error` is one of `default`, `disconnect`, `ignore`, `skip-ack`; a report goes out in each.
#[test]
fn on_error_decides_what_becomes_of_the_connection_and_the_acknowledgement() {
    on_both_versions(|node, level| {
        for subscribes in [false, true] {
            let mut device = Device::connect(node.mqtt[0], "d1@acme", level);
            if subscribes {
                device.subscribe("error///#", 0);
            }
            let report = |device: &mut Device, packet_id: u16| {
                if subscribes {
                    let topic = device.expect_publish().0;
                    assert_eq!(topic, format!("error///telemetry/{packet_id}/503"));
                }
            };
            device.publish("telemetry/?on-error=ignore", 1, 1, b"x");
            report(&mut device, 1);
            assert_eq!(device.read(), Some(Said::PubAck(1, device.reason(0x80))));
            device.publish("telemetry/?on-error=skip-ack", 1, 2, b"x");
            report(&mut device, 2);
            device.expect_silence();
            device.publish("telemetry/?on-error=disconnect", 1, 3, b"x");
            report(&mut device, 3);
            device.expect_end(0x80);
        }
    });
}

/// The same for a failure that is known only when the consumer has let the message go.
#[test]
fn telemetry_a_consumer_lets_go_is_treated_like_telemetry_without_one() {
    on_both_versions(|node, level| {
        for (on_error, subscribes) in
            [("default", true), ("default", false), ("ignore", false), ("skip-ack", true)]
        {
            let mut consumer = Client::connect(node.mqtt[0], "app@acme");
            assert_eq!(consumer.subscribe("telemetry/acme/#", 1), [1]);
            let mut device = Device::connect(node.mqtt[0], "d1@acme", level);
            if subscribes {
                device.subscribe("error///#", 0);
            }
            let topic = format!("t/?on-error={on_error}&correlation-id=mine");
            device.publish(&topic, 1, 4, b"x");
            consumer.expect_publish();
            drop(consumer);
            if subscribes {
                assert_eq!(device.expect_publish().0, "error///t/mine/503");
            }
            match (on_error, subscribes) {
                ("default", false) => {
                    device.expect_end(0x80);
                    continue;
                }
                ("skip-ack", _) => {}
                _ => assert_eq!(device.read(), Some(Said::PubAck(4, device.reason(0x80)))),
            }
            device.publish("event", 1, 5, b"x");
            assert_eq!(device.read(), Some(Said::PubAck(5, 0)), "answers go on behind it");
        }
    });
}

/// Hono: an event that cannot be stored is a 503.
#[test]
fn an_event_a_full_store_refuses_is_reported() {
    for level in LEVELS {
        let dir = tempfile::tempdir().unwrap();
        let node = full_node(dir.path());
        let mut device = Device::connect(node.mqtt[0], "d1@acme", level);
        device.subscribe("error///#", 0);
        device.publish("event", 1, 6, &[7; 4096]);
        assert_eq!(device.expect_publish().0, "error///event/6/503");
        assert_eq!(device.read(), Some(Said::PubAck(6, device.reason(0x80))));
        device.publish("command///res/001a/200", 0, 0, &[7; 4096]);
        assert_eq!(device.expect_publish().0, "error///command-response/-1/503");
        device.expect_silence();
        let mut other = Device::connect(node.mqtt[0], "d2@acme", level);
        other.publish("event", 1, 6, &[7; 4096]);
        other.expect_end(0x97);
        node.stop();
    }
}

/// The same for a store that fails while the event waits for its commit.
#[test]
fn an_event_whose_write_fails_is_reported() {
    on_both_versions(|node, level| {
        node.store.lock().unwrap().disk_fails = true;
        let mut device = Device::connect(node.mqtt[0], "d1@acme", level);
        device.subscribe("error///#", 0);
        let mut stored = 0;
        for number in 1..=100 {
            device.publish("event", 1, number, &[7; 32 * 1024]);
            match device.read() {
                Some(Said::PubAck(_, 0)) => stored += 1,
                Some(Said::Publish { topic, .. }) => {
                    assert_eq!(topic, format!("error///event/{number}/503"));
                    assert_eq!(device.read(), Some(Said::PubAck(number, device.reason(0x80))));
                    break;
                }
                other => panic!("{other:?}"),
            }
        }
        assert!((10..100).contains(&stored), "{stored} before the first segment was full");
        device.expect_silence();
    });
}

/// Hono: a gateway that may not act for a device gets 403, one that names a device nobody registered 404.
#[test]
fn a_gateway_is_told_which_device_its_message_failed_for() {
    on_both_versions(|node, level| {
        let mut gateway = Device::connect(node.mqtt[0], "gw@acme", level);
        let filters = [("error//+/#", 0), ("e/acme/behind/#", 0), ("error///#", 1)];
        assert_eq!(gateway.subscribe_all(&filters), [0, 0, 0]);
        for (topic, expected) in [
            ("telemetry//other", "error//other/telemetry/3/403"),
            ("e//nobody", "error//nobody/e/3/404"),
            ("telemetry/acme/behind", "e/acme/behind/telemetry/3/503"),
            ("t", "error///t/3/503"),
        ] {
            gateway.publish(topic, 1, 3, b"x");
            assert_eq!(gateway.expect_publish().0, expected);
            assert_eq!(gateway.read(), Some(Said::PubAck(3, gateway.reason(0x80))));
        }
        gateway.unsubscribe("error//+/#");
        gateway.publish("telemetry//other", 1, 4, b"x");
        gateway.expect_end(0x87);
    });
}

/// Hono: of several error subscriptions for the same device the last wins.
#[test]
fn the_last_of_several_error_subscriptions_wins() {
    on_both_versions(|node, level| {
        let mut device = Device::connect(node.mqtt[0], "d1@acme", level);
        let filters = [("error///#", 0), ("e/acme/d1/#", 0)];
        assert_eq!(device.subscribe_all(&filters), [0, 0]);
        device.publish("t", 1, 1, b"x");
        assert_eq!(device.expect_publish().0, "e/acme/d1/t/1/503");
        assert_eq!(device.read(), Some(Said::PubAck(1, device.reason(0x80))));
        device.unsubscribe("error///#");
        device.publish("t", 1, 2, b"x");
        assert_eq!(device.expect_publish().0, "e/acme/d1/t/2/503", "the old one was gone already");
    });
}

/// Hono: an error filter has exactly four levels.
#[test]
fn error_filters_of_another_shape_or_tenant_are_refused() {
    on_both_versions(|node, level| {
        let mut device = Device::connect(node.mqtt[0], "d1@acme", level);
        for (filter, reason) in [
            ("error/#", 0x8f),
            ("error//#", 0x8f),
            ("error////#", 0x8f),
            ("error///+", 0x8f),
            ("error/+//#", 0x8f),
            ("error/rival/d1/#", 0x87),
        ] {
            assert_eq!(device.subscribe(filter, 0), device.code(reason), "{filter}");
        }
    });
}

/// QoS 0 telemetry nobody takes is dropped and counted; a device that asks for it learns of it (Hono: 503 also at QoS 0).
#[test]
fn qos_0_telemetry_nobody_takes_ends_a_connection_only_where_that_is_asked_for() {
    on_both_versions(|node, level| {
        let mut device = Device::connect(node.mqtt[0], "d1@acme", level);
        device.publish("telemetry", 0, 0, b"x");
        device.expect_silence();
        device.publish("telemetry/?on-error=disconnect", 0, 0, b"x");
        device.expect_end(0x80);
    });
}

/// A correlation id cannot make a topic that is none.
#[test]
fn a_hostile_correlation_id_does_not_break_the_report() {
    on_both_versions(|node, level| {
        let mut device = Device::connect(node.mqtt[0], "d1@acme", level);
        device.subscribe("error///#", 0);
        for (correlation, seen) in
            [("%2B%23%00%22", "%2B%23%00\""), (&"x".repeat(257), "9"), ("", "9"), ("%zz", "9")]
        {
            device.publish(&format!("t/?correlation-id={correlation}"), 1, 9, b"x");
            assert_eq!(device.expect_publish().0, format!("error///t/{seen}/503"));
            assert_eq!(device.read(), Some(Said::PubAck(9, device.reason(0x80))));
        }
    });
}

/// Hono: terminal errors end the connection whatever `on-error` says.
#[test]
fn a_device_that_is_disabled_is_disconnected_although_it_ignores_errors() {
    on_both_versions(|node, level| {
        let mut device = Device::connect(node.mqtt[0], "d1@acme", level);
        device.subscribe("error///#", 0);
        device.publish("t/?on-error=ignore", 1, 1, b"x");
        device.expect_publish();
        device.read();
        let evict = fulcrum_shard::Message::Evict { tenant: "acme".into(), device: None };
        node.handles[0].send(evict).unwrap();
        device.expect_end(0x87);
    });
}
