//! Hono's MQTT adapter, command subscriptions: whose commands a filter is for, and the topics they come on. Every property
//! holds for MQTT 3.1.1 and MQTT 5.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that fails says so by panicking")]

mod device;
mod harness;

use device::{Device, LEVELS, Said};
use fulcrum_mqtt::{Property, ProtocolLevel};
use fulcrum_shard::{Command, Message};
use harness::Node;

/// Runs `check` with a node of two shards for each version, so that gateway and device are often apart.
fn on_both_versions(check: impl Fn(&Node, ProtocolLevel)) {
    let dir = tempfile::tempdir().unwrap();
    for level in LEVELS {
        let node = Node::start(&dir.path().join(format!("{level:?}")), 2);
        check(&node, level);
        node.stop();
    }
}

fn command(id: &str, response_required: bool, payload: &[u8]) -> Command {
    Command {
        id: id.to_owned(),
        subject: "set".to_owned(),
        response_required,
        payload: payload.to_vec(),
        deliver_by_ms: None,
    }
}

/// Puts commands into the store, and tells the shards as the uplink does.
fn send(node: &Node, device: &str, commands: Vec<Command>) {
    let key = ("acme".to_owned(), device.to_owned());
    node.store.lock().unwrap().commands.entry(key).or_default().extend(commands);
    let shard = fulcrum_shard::owner(&["acme", device], node.handles.len() as u16).0;
    let message = Message::CommandArrived { tenant: "acme".into(), device: device.into() };
    node.handles[usize::from(shard)].send(message).unwrap();
}

fn send_one(node: &Node, device: &str, id: &str) {
    send(node, device, vec![command(id, true, b"on")]);
}

/// The topic of the next command, which is acknowledged if it wants that.
#[track_caller]
fn taken(device: &mut Device) -> String {
    let (topic, _, packet_id) = device.expect_publish();
    packet_id.into_iter().for_each(|packet_id| device.acknowledge(packet_id));
    topic
}

/// Hono: the command's topic repeats the filter's spelling; a one-way command has an empty request id; an empty payload is
/// allowed; QoS 0 and 1 are granted as asked.
#[test]
fn a_devices_own_commands_come_on_the_topic_as_it_was_subscribed() {
    on_both_versions(|node, level| {
        for (number, (filter, qos, topic, one_way)) in [
            ("command///req/#", 0, "command///req/", "command///req//set"),
            ("c///q/#", 1, "c///q/", "c///q//set"),
            ("command/acme/d1/q/#", 1, "command/acme/d1/q/", "command/acme/d1/q//set"),
            ("c//d1/req/#", 0, "c//d1/req/", "c//d1/req//set"),
            ("c/acme//req/#", 1, "c/acme//req/", "c/acme//req//set"),
        ]
        .into_iter()
        .enumerate()
        {
            let mut device = Device::connect(node.mqtt[number % 2], "d1@acme", level);
            assert_eq!(device.subscribe(filter, qos), qos, "{filter}");
            let id = format!("id{number}");
            let one_way_id = format!("one-way{number}");
            let both = vec![command(&id, true, b""), command(&one_way_id, false, b"on")];
            send(node, "d1", both);
            let (seen, payload, packet_id) = device.expect_publish();
            assert_eq!((seen, payload.as_str()), (format!("{topic}003{id}/set"), ""));
            assert_eq!(packet_id.is_some(), qos == 1);
            packet_id.into_iter().for_each(|packet_id| device.acknowledge(packet_id));
            assert_eq!(taken(&mut device), one_way);
            node.wait_for("the command to be done", |node| {
                node.store.lock().unwrap().done.contains(&one_way_id)
            });
        }
    });
}

/// Hono: exactly five levels, QoS 0 or 1, the own tenant, and a device the gateway may act for; anything else is 0x80.
#[test]
fn filters_that_are_not_in_honos_table_are_refused() {
    on_both_versions(|node, level| {
        let mut gateway = Device::connect(node.mqtt[0], "gw@acme", level);
        for (filter, qos, reason) in [
            ("command///req/#", 2, 0x80),
            ("command//+/req/#", 2, 0x80),
            ("command/#", 1, 0x8f),
            ("command//req/#", 1, 0x8f),
            ("command////req/#", 1, 0x8f),
            ("command///req/+", 1, 0x8f),
            ("command///res/#", 1, 0x8f),
            ("command/+//req/#", 1, 0x8f),
            ("telemetry/#", 1, 0x8f),
            ("control///req/#", 1, 0x8f),
            ("command/rival//req/#", 1, 0x87),
            ("command/rival/gw/req/#", 1, 0x87),
            ("command//other/req/#", 1, 0x87),
            ("command//nobody/req/#", 1, 0x87),
        ] {
            assert_eq!(gateway.subscribe(filter, qos), gateway.code(reason), "{filter}");
        }
        let mixed = [("c//behind/q/#", 1), ("c//other/q/#", 1), ("c///q/#", 0)];
        assert_eq!(gateway.subscribe_all(&mixed), [1, gateway.code(0x87), 0]);
    });
}

/// Hono: `command//{d}/req/#` is for one device of a gateway; a gateway has as many of them as it wants.
#[test]
fn a_gateway_takes_the_commands_of_each_device_it_subscribed_for() {
    on_both_versions(|node, level| {
        let mut gateway = Device::connect(node.mqtt[0], "gw@acme", level);
        let filters = [("command//behind/req/#", 1), ("c/acme/behind2/q/#", 0)];
        assert_eq!(gateway.subscribe_all(&filters), [1, 0]);
        for (device, topic) in
            [("behind", "command//behind/req/001a/set"), ("behind2", "c/acme/behind2/q/001a/set")]
        {
            send_one(node, device, "a");
            assert_eq!(taken(&mut gateway), topic);
        }
        send_one(node, "gw", "b");
        send_one(node, "behind3", "b");
        gateway.expect_silence();
        gateway.unsubscribe("command//behind/req/#");
        send_one(node, "behind", "c");
        gateway.expect_silence();
        send_one(node, "behind2", "d");
        assert_eq!(taken(&mut gateway), "c/acme/behind2/q/001d/set");
    });
}

/// Hono: `command///req/#` of a gateway is for itself only.
#[test]
fn a_gateways_own_subscription_brings_its_own_commands_only() {
    on_both_versions(|node, level| {
        let mut gateway = Device::connect(node.mqtt[0], "gw@acme", level);
        assert_eq!(gateway.subscribe("command///req/#", 1), 1);
        send_one(node, "behind", "a");
        gateway.expect_silence();
        send_one(node, "gw", "b");
        assert_eq!(taken(&mut gateway), "command///req/001b/set");
    });
}

/// Hono: `command//+/req/#` is for all devices of a gateway; the device's level is filled.
#[test]
fn a_gateway_takes_the_commands_of_all_its_devices() {
    on_both_versions(|node, level| {
        let mut gateway = Device::connect(node.mqtt[0], "gw@acme", level);
        assert_eq!(gateway.subscribe("command//+/req/#", 1), 1);
        node.wait_for("the gateway to be there", |node| {
            node.store.lock().unwrap().present.contains(&"+gw".to_owned())
        });
        for device in ["behind", "behind2", "behind3", "behind4"] {
            send_one(node, device, "a");
            assert_eq!(taken(&mut gateway), format!("command//{device}/req/001a/set"));
        }
        send_one(node, "other", "b");
        gateway.expect_silence();
        send_one(node, "gw", "c");
        assert_eq!(taken(&mut gateway), "command//gw/req/001c/set");
        gateway.unsubscribe("command//+/req/#");
        send_one(node, "behind", "d");
        gateway.expect_silence();
        assert_eq!(gateway.subscribe("c/acme/+/q/#", 0), 0);
        send_one(node, "behind", "e");
        assert_eq!(taken(&mut gateway), "c/acme/behind/q/001d/set", "what waited comes first");
        assert_eq!(taken(&mut gateway), "c/acme/behind/q/001e/set");
    });
}

/// Hono: a device that subscribes itself, or for which a gateway subscribed alone, does not get its commands through a
/// gateway for all.
#[test]
fn a_gateway_for_all_stands_back_for_a_subscription_for_one() {
    on_both_versions(|node, level| {
        let mut all = Device::connect(node.mqtt[0], "gw@acme", level);
        assert_eq!(all.subscribe("command//+/req/#", 1), 1);
        send_one(node, "behind", "a");
        assert_eq!(taken(&mut all), "command//behind/req/001a/set");
        let mut own = Device::connect(node.mqtt[1], "behind@acme", level);
        assert_eq!(own.subscribe("command///req/#", 1), 1);
        node.wait_for("the device", |node| {
            let present = &node.store.lock().unwrap().present;
            present.iter().filter(|present| *present == "behind").count() == 2
        });
        all.publish("event//behind", 1, 1, b"x");
        assert_eq!(all.read(), Some(Said::PubAck(1, 0)));
        send_one(node, "behind", "b");
        assert_eq!(taken(&mut own), "command///req/001b/set");
        drop(own);
        node.wait_for("the device to be gone", |node| {
            node.total(|metrics| metrics.connections.value()) == 1
        });
        send_one(node, "behind", "c");
        assert_eq!(taken(&mut all), "command//behind/req/001c/set");
        let mut one = Device::connect(node.mqtt[1], "gw2@acme", level);
        assert_eq!(one.subscribe("c//behind/q/#", 0), 0);
        node.wait_for("the other gateway", |node| {
            let present = &node.store.lock().unwrap().present;
            present.iter().filter(|present| *present == "behind").count() == 2
        });
        send_one(node, "behind", "d");
        assert_eq!(taken(&mut one), "c//behind/q/001d/set");
        all.expect_silence();
    });
}

/// Hono: of several gateways the one the device used last.
#[test]
fn of_several_gateways_the_one_that_acted_for_the_device_last_gets_its_commands() {
    on_both_versions(|node, level| {
        let mut gateways: Vec<_> = ["gw@acme", "gw2@acme"]
            .iter()
            .enumerate()
            .map(|(place, name)| Device::connect(node.mqtt[place], name, level))
            .collect();
        for gateway in &mut gateways {
            assert_eq!(gateway.subscribe("command//+/req/#", 1), 1);
        }
        // Nothing but its own message says whose device it is.
        node.store.lock().unwrap().knows_no_gateways = true;
        for (round, place) in [0, 1].into_iter().enumerate() {
            let gateway = &mut gateways[place];
            gateway.publish("event//behind", 1, 1, b"x");
            assert_eq!(gateway.read(), Some(Said::PubAck(1, 0)));
            node.wait_for("the claim", |node| {
                let present = &node.store.lock().unwrap().present;
                present.iter().filter(|present| *present == "behind").count() == round + 1
            });
            send_one(node, "behind", &format!("{round}"));
            assert_eq!(taken(gateway), format!("command//behind/req/001{round}/set"));
            // What is under way when the gateway changes is sent again.
            node.wait_for("the command to be done", |node| {
                node.store.lock().unwrap().done.contains(&format!("{round}"))
            });
        }
        drop(gateways.pop());
        node.store.lock().unwrap().knows_no_gateways = false;
        node.wait_for("it to be gone", |node| {
            node.total(|metrics| metrics.connections.value()) == 1
        });
        send_one(node, "behind", "z");
        assert_eq!(taken(&mut gateways[0]), "command//behind/req/001z/set");
    });
}

/// A gateway that was taken from a device gets no more of its commands, whichever way it subscribed.
#[test]
fn a_gateway_that_may_no_longer_act_for_a_device_gets_no_more_of_its_commands() {
    on_both_versions(|node, level| {
        for filter in ["command//behind/req/#", "command//+/req/#"] {
            let mut gateway = Device::connect(node.mqtt[0], "gw@acme", level);
            assert_eq!(gateway.subscribe(filter, 1), 1);
            send_one(node, "behind", "a");
            assert_eq!(taken(&mut gateway), "command//behind/req/001a/set");
            node.store.lock().unwrap().revoked = true;
            for handle in &node.handles {
                handle.send(Message::IdentityChanged { recheck: false }).unwrap();
            }
            send_one(node, "behind", "b");
            gateway.expect_silence();
            let waiting = |node: &Node| {
                let key = ("acme".to_owned(), "behind".to_owned());
                node.store.lock().unwrap().commands[&key].len()
            };
            assert_eq!(waiting(node), 1, "it waits in the store");
            drop(gateway);
            node.store.lock().unwrap().revoked = false;
            let mut own = Device::connect(node.mqtt[1], "behind@acme", level);
            own.subscribe("command///req/#", 1);
            assert_eq!(taken(&mut own), "command///req/001b/set");
            drop(own);
            node.wait_for("the device to be gone", |node| {
                node.total(|metrics| metrics.connections.value()) == 0 && waiting(node) == 0
            });
        }
    });
}

/// A busy registry delays a gateway's commands and loses none.
#[test]
fn commands_for_a_gateway_wait_for_a_busy_registry() {
    on_both_versions(|node, level| {
        let mut gateway = Device::connect(node.mqtt[0], "gw@acme", level);
        assert_eq!(gateway.subscribe("command//behind/req/#", 1), 1);
        node.store.lock().unwrap().busy = true;
        send_one(node, "behind", "a");
        gateway.expect_silence();
        node.store.lock().unwrap().busy = false;
        assert_eq!(taken(&mut gateway), "command//behind/req/001a/set");
    });
}

/// More devices than the gateway takes unacknowledged messages: each gets its command when there is room.
#[test]
fn a_gateways_receive_maximum_delays_commands_and_loses_none() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path(), 2);
    let mut gateway = Device::open(node.mqtt[0], ProtocolLevel::V5);
    let with = [Property::ReceiveMaximum(2)];
    let greeting = gateway.greet_with(node.mqtt[0], "gw@acme", "secret", &with);
    assert_eq!(greeting, Some(Said::ConnAck(0)));
    assert_eq!(gateway.subscribe("c//+/q/#", 1), 1);
    let devices: Vec<_> = (0..6).map(|number| format!("behind{number}")).collect();
    devices.iter().for_each(|device| send_one(&node, device, "a"));
    let mut seen = Vec::new();
    let mut unanswered = std::collections::VecDeque::new();
    while seen.len() < devices.len() {
        let (topic, _, packet_id) = gateway.expect_publish();
        seen.push(topic);
        unanswered.push_back(packet_id.unwrap());
        assert!(unanswered.len() <= 2, "more than the gateway takes");
        if unanswered.len() == 2 {
            std::thread::sleep(std::time::Duration::from_millis(50));
            gateway.acknowledge(unanswered.pop_front().unwrap());
        }
    }
    seen.sort();
    let expected: Vec<_> = devices.iter().map(|device| format!("c//{device}/q/001a/set")).collect();
    assert_eq!(seen, expected);
    node.stop();
}

/// MQTT 5: no packet is sent that the client said is too large [MQTT-3.1.2-24]. The command waits.
#[test]
fn a_command_larger_than_the_device_takes_is_not_sent() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path(), 1);
    let mut device = Device::open(node.mqtt[0], ProtocolLevel::V5);
    let with = [Property::MaximumPacketSize(64)];
    let greeting = device.greet_with(node.mqtt[0], "d1@acme", "secret", &with);
    assert_eq!(greeting, Some(Said::ConnAck(0)));
    assert_eq!(device.subscribe("c///q/#", 1), 1);
    send(&node, "d1", vec![command("a", true, &[b'x'; 64])]);
    device.expect_silence();
    drop(device);
    let mut device = Device::connect(node.mqtt[0], "d1@acme", ProtocolLevel::V5);
    device.subscribe("c///q/#", 1);
    assert_eq!(taken(&mut device), "c///q/001a/set");
    node.stop();
}

/// MQTT 5: what a subscription brings carries its identifier [MQTT5-3.3.4-3].
#[test]
fn commands_and_error_reports_carry_the_identifier_of_their_subscription() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path(), 1);
    let mut device = Device::connect(node.mqtt[0], "d1@acme", ProtocolLevel::V5);
    assert_eq!(device.subscribe_as(7, "c///q/#"), 0);
    assert_eq!(device.subscribe_as(8, "e///#"), 0);
    send_one(&node, "d1", "a");
    assert_eq!((taken(&mut device).as_str(), device.ids.as_slice()), ("c///q/001a/set", &[7][..]));
    device.publish("weather", 0, 0, b"x");
    let topic = device.expect_publish().0;
    assert_eq!((topic.as_str(), device.ids.as_slice()), ("e///unknown/-1/404", &[8][..]));
    node.stop();
}

/// Hono: of several subscriptions for the same devices the last wins.
#[test]
fn the_last_of_several_command_subscriptions_wins() {
    on_both_versions(|node, level| {
        let mut device = Device::connect(node.mqtt[0], "d1@acme", level);
        let filters = [("command///req/#", 1), ("c/acme/d1/q/#", 0)];
        assert_eq!(device.subscribe_all(&filters), [1, 0]);
        send_one(node, "d1", "a");
        let (topic, _, packet_id) = device.expect_publish();
        assert_eq!((topic.as_str(), packet_id), ("c/acme/d1/q/001a/set", None));
        device.unsubscribe("c/acme/d1/q/#");
        send_one(node, "d1", "b");
        device.expect_silence();
    });
}

/// Hono: an answer goes to `command/[t]/[d]/res/{request id}/{status}`, by the device or its gateway, at QoS 0 or 1.
#[test]
fn a_gateway_answers_for_its_device() {
    on_both_versions(|node, level| {
        let mut gateway = Device::connect(node.mqtt[0], "gw@acme", level);
        gateway.publish("c//behind/s/001a/200", 1, 1, b"done");
        assert_eq!(gateway.read(), Some(Said::PubAck(1, 0)));
        gateway.publish("command/acme/behind/res/001b/503", 0, 0, b"");
        gateway.publish("command///res/001c/204", 1, 2, b"");
        assert_eq!(gateway.read(), Some(Said::PubAck(2, 0)));
        node.wait_for("the answers", |node| {
            let all: Vec<_> = node.tails.iter().flat_map(harness::stored).collect();
            let of = |name: &str| all.iter().filter(|(_, device, _)| device == name).count();
            (of("behind"), of("gw")) == (2, 1)
        });
    });
}
