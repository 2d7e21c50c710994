"""paho-mqtt, the client most applications in Python use: both versions, each transport and QoS."""

import queue
import ssl

import pytest
from client import unique
from wire import MQTT_3, MQTT_5

paho = pytest.importorskip("paho.mqtt.client")
from paho.mqtt.packettypes import PacketTypes  # noqa: E402
from paho.mqtt.properties import Properties  # noqa: E402
from paho.mqtt.subscribeoptions import SubscribeOptions  # noqa: E402

TIMEOUT_S = 10


class Peer:
    """One connection whose events can be waited for; as a context it is connected inside."""

    def __init__(self, broker, transport, version, client_id=None, clean=True, will=None):
        name, port = transport
        self.version, self.clean = version, clean
        self.messages, self.connected, self.subscribed = (queue.Queue() for _ in range(3))
        self.client = paho.Client(
            paho.CallbackAPIVersion.VERSION2, client_id or unique(),
            clean_session=clean if version == MQTT_3 else None,
            protocol=paho.MQTTv311 if version == MQTT_3 else paho.MQTTv5,
            transport="websockets" if name.startswith("ws") else "tcp",
        )  # fmt: skip
        if name in ("tls", "wss"):
            self.client.tls_set(broker.ca_file, tls_version=ssl.PROTOCOL_TLS_CLIENT)
        self.client.username_pw_set(broker.username, broker.password)
        self.client.on_connect = lambda _c, _u, flags, reason, _p: self.connected.put((flags, reason))
        self.client.on_subscribe = lambda _c, _u, _id, reasons, _p: self.subscribed.put(reasons)
        self.client.on_message = lambda _c, _u, message: self.messages.put(message)
        if will:
            self.client.will_set(*will)
        self.address = broker.host, port

    def __enter__(self):
        more = {}
        if self.version == MQTT_5:
            more["properties"] = Properties(PacketTypes.CONNECT)
            more["properties"].SessionExpiryInterval = 0 if self.clean else 60
            more["clean_start"] = self.clean
        self.client.connect(*self.address, keepalive=30, **more)
        self.client.loop_start()
        self.flags, reason = self.connected.get(timeout=TIMEOUT_S)
        assert not reason.is_failure, reason
        return self

    def __exit__(self, *_):
        self.client.disconnect()
        self.client.loop_stop()

    def subscribe(self, topic, qos):
        if self.version == MQTT_5:
            self.client.subscribe(topic, options=SubscribeOptions(qos))
        else:
            self.client.subscribe(topic, qos)
        (reason,) = self.subscribed.get(timeout=TIMEOUT_S)
        assert reason.value == qos, reason

    def publish(self, topic, payload, qos, **more):
        info = self.client.publish(topic, payload, qos, **more)
        info.wait_for_publish(TIMEOUT_S)
        assert info.is_published()

    def message(self):
        return self.messages.get(timeout=TIMEOUT_S)


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_messages_arrive_whole_and_in_order(broker, transport, version, topic, qos):
    payloads = [b"one", b"", bytes(range(256)), b"x" * 70_000]
    with Peer(broker, transport, version) as subscriber, Peer(broker, transport, version) as publisher:
        subscriber.subscribe(topic("#"), qos)
        for payload in payloads:
            publisher.publish(topic("a"), payload, qos)
        got = [subscriber.message() for _ in payloads]
    assert [(message.topic, message.payload, message.qos) for message in got] == [(topic("a"), p, qos) for p in payloads]


def test_retained_messages_are_kept(broker, transport, version, topic):
    with Peer(broker, transport, version) as publisher:
        publisher.publish(topic("a"), b"kept", 1, retain=True)
    with Peer(broker, transport, version) as subscriber:
        subscriber.subscribe(topic("a"), 1)
        message = subscriber.message()
    assert (message.payload, message.retain) == (b"kept", True)


def test_a_kept_session_is_sent_what_it_missed(broker, transport, version, topic):
    name = unique()
    with Peer(broker, transport, version, name, clean=False) as subscriber:
        subscriber.subscribe(topic("a"), 2)
    with Peer(broker, transport, version) as publisher:
        for qos in (1, 2):
            publisher.publish(topic("a"), str(qos), qos)
    with Peer(broker, transport, version, name, clean=False) as subscriber:
        assert subscriber.flags.session_present
        assert [subscriber.message().payload for _ in range(2)] == [b"1", b"2"]
    with Peer(broker, transport, version, name) as subscriber:
        assert not subscriber.flags.session_present


def test_a_will_is_published(broker, transport, version, topic):
    with Peer(broker, transport, version) as watcher:
        watcher.subscribe(topic("will"), 1)
        with Peer(broker, transport, version, will=(topic("will"), b"gone", 1)) as client:
            client.client.socket().close() if transport[0] == "tcp" else client.client._sock_close()
            assert watcher.message().payload == b"gone"


def test_properties_arrive(broker, transport, topic):
    properties = Properties(PacketTypes.PUBLISH)
    properties.ContentType, properties.ResponseTopic, properties.CorrelationData = "text/plain", "answers", b"\0\1"
    properties.UserProperty = [("a", "1"), ("a", "2")]
    with Peer(broker, transport, MQTT_5) as subscriber, Peer(broker, transport, MQTT_5) as publisher:
        subscriber.subscribe(topic("a"), 1)
        publisher.publish(topic("a"), b"x", 1, properties=properties)
        got = subscriber.message().properties
    assert (got.ContentType, got.ResponseTopic, got.CorrelationData) == ("text/plain", "answers", b"\0\1")
    assert got.UserProperty == [("a", "1"), ("a", "2")]


def test_a_shared_subscription_serves_each_message_once(broker, transport, topic):
    with Peer(broker, transport, MQTT_5) as one, Peer(broker, transport, MQTT_5) as two:
        for member in (one, two):
            member.subscribe(f"$share/group/{topic('a')}", 1)
        with Peer(broker, transport, MQTT_5) as publisher:
            for number in range(20):
                publisher.publish(topic("a"), str(number), 1)
        got = []
        while len(got) < 20:
            for member in (one, two):
                try:
                    got.append(int(member.messages.get(timeout=0.05).payload))
                except queue.Empty:
                    continue
    assert sorted(got) == list(range(20))
