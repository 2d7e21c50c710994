"""A node that is killed and comes back: what was acknowledged is there, and goes on where it was.

Asked of a Fulcrum node alone: the specifications leave open what a server's failure may cost. Each test has a node of its
own.
"""

import contextlib
import time

import brokers
import pytest
import wire
from client import Client, Closed, unique
from wire import MQTT_5, Will

pytestmark = pytest.mark.only("fulcrum")


@pytest.fixture
def node():
    """A node that nobody else uses."""
    running = brokers.start_fulcrum()
    yield running
    assert running.stop() == 0


@pytest.fixture
def kept_here(node, version):
    """Makes connections to that node whose session is kept."""

    def make(client_id=None, **given):
        if version == MQTT_5:
            given.setdefault("given", {"session_expiry": 300})
        return Client(node.broker, version, client_id).connect(clean=False, **given)

    return make


def test_a_session_and_what_waits_for_it_survive(node, kept_here, version):
    """[MQTT-3.1.2-4] [MQTT-3.1.2-5] [MQTT-4.1.0-1] [MQTT5-3.1.2-23] [MQTT5-4.5.0-1]"""
    first = kept_here()
    first.subscribe(("own/a/+", 2), ("own/b", 1), ("own/c", 1))
    first.unsubscribe("own/c")
    first.disconnect()
    publisher = Client(node.broker, version).connect()
    for number in range(50):
        publisher.publish("own/a/x", str(number), 1 + number % 2)
    node.crash()
    second = kept_here(first.client_id)
    assert second.connack.session_present
    got = second.messages(50)
    for qos in (1, 2):
        assert [int(m.payload) for m in got if m.qos == qos] == list(range(qos - 1, 50, 2))
    publisher = Client(node.broker, version).connect()
    for name in ("own/b", "own/c"):
        publisher.publish(name, b"after", 1)
    assert second.message().topic == "own/b"
    second.quiet()


def test_retained_messages_survive(node, version):
    """Set, replaced and removed. [MQTT-3.3.1-5] [MQTT-3.3.1-10] [MQTT5-3.3.1-5] [MQTT5-3.3.1-6]"""
    publisher = Client(node.broker, version).connect()
    for number in range(20):
        publisher.publish(f"kept/{number}", b"old", 1, retain=True)
    for number in range(0, 20, 2):
        publisher.publish(f"kept/{number}", b"new", 1, retain=True)
    for number in range(0, 20, 4):
        publisher.publish(f"kept/{number}", b"", 1, retain=True)
    node.crash()
    reader = Client(node.broker, version).connect()
    reader.subscribe("kept/#", qos=1)
    got = {message.topic: message.payload for message in reader.messages(15)}
    assert got == {f"kept/{number}": b"new" if number % 2 == 0 else b"old" for number in range(20) if number % 4}
    reader.quiet()


def test_qos_2_towards_the_node_is_exactly_once(node, kept_here, version):
    """Killed between PUBREC and PUBREL. [MQTT-4.3.3-2] [MQTT5-4.3.3-10] [MQTT5-4.3.3-12]"""
    reader, publisher = kept_here(), kept_here()
    reader.subscribe("a", qos=2)
    publisher.start_publish("a", b"once", 2, packet_id=7)
    publisher.expect(wire.PUBREC)
    node.crash()
    publisher = kept_here(publisher.client_id)
    assert publisher.connack.session_present
    publisher.start_publish("a", b"once", 2, packet_id=7, dup=True)
    assert publisher.expect(wire.PUBREC).code in (0, 0x10)
    publisher.ack(wire.PUBREL, 7)
    assert publisher.expect(wire.PUBCOMP).code == 0
    reader = kept_here(reader.client_id)
    assert reader.message().payload == b"once"
    reader.quiet()


def test_qos_2_towards_the_client_goes_on(node, kept_here, version):
    """Killed before PUBREC of one message, and between PUBREC and PUBCOMP of another. [MQTT-4.3.3-1] [MQTT-4.4.0-1]
    [MQTT5-4.3.3-3] [MQTT5-4.3.3-5] [MQTT5-4.3.3-6] [MQTT5-4.4.0-1]"""
    reader = kept_here()
    reader.subscribe("a", qos=2)
    publisher = Client(node.broker, version).connect()
    publisher.publish("a", b"one", 2)
    publisher.publish("a", b"two", 2)
    one, two = reader.messages(2, ack=False)
    reader.ack(wire.PUBREC, one.packet_id)
    reader.expect(wire.PUBREL)
    node.crash()
    reader = kept_here(reader.client_id)
    seen = {packet.kind: packet for packet in (reader.receive(), reader.receive())}
    assert seen[wire.PUBREL].packet_id == one.packet_id
    again = seen[wire.PUBLISH]
    assert (again.packet_id, again.payload, again.dup) == (two.packet_id, b"two", True)


def test_acknowledged_deliveries_do_not_return(node, kept_here, version):
    """[MQTT-4.3.2-1] [MQTT5-4.3.2-3]"""
    reader = kept_here()
    reader.subscribe("a", qos=2)
    publisher = Client(node.broker, version).connect()
    publisher.publish("a", b"x", 2)
    reader.message()
    reader.ping()
    # PUBCOMP asks for no answer, so how soon it is on disk is the node's affair.
    time.sleep(0.5)
    node.crash()
    kept_here(reader.client_id).quiet()


def test_a_node_that_dies_publishes_its_clients_wills(node, kept_here, version):
    """[MQTT-3.1.2-8] [MQTT5-3.1.2-8]"""
    watcher = kept_here()
    watcher.subscribe("will/#", qos=1)
    watcher.disconnect()
    kept_here(will=Will("will/kept", qos=1))
    gentle = kept_here(will=Will("will/not", qos=1))
    gentle.disconnect()
    # Nothing answers DISCONNECT either.
    time.sleep(0.5)
    node.crash()
    watcher = kept_here(watcher.client_id)
    assert watcher.message().topic == "will/kept"
    watcher.quiet()


def test_no_acknowledged_message_is_lost_whenever_the_node_dies(node, kept_here, version):
    """Published in a stream, killed in its midst, three times. [MQTT-4.3.2-2] [MQTT5-4.3.2-4]"""
    reader = kept_here()
    reader.subscribe("stream", qos=1)
    reader.disconnect()
    acknowledged = []
    for crash in range(3):
        publisher = Client(node.broker, version, unique()).connect()
        until = time.monotonic() + 0.4
        with contextlib.suppress(Closed):
            # A session's queue has room for a thousand.
            while time.monotonic() < until and len(acknowledged) < 250 * (crash + 1):
                name = f"{crash}/{len(acknowledged)}"
                assert publisher.publish("stream", name, 1) < 0x80
                acknowledged.append(name)
            batch = [f"{crash}/late {number}" for number in range(20)]
            publisher.send(*(wire.publish(version, "stream", each, qos=1, packet_id=100 + number)
                             for number, each in enumerate(batch)))  # fmt: skip
            acknowledged += [batch[publisher.expect(wire.PUBACK).packet_id - 100] for _ in range(5)]
        node.crash()
    reader = kept_here(reader.client_id)
    got = []
    with contextlib.suppress(AssertionError):
        while True:
            got.append(reader.message(timeout=1).payload.decode())
    assert len(acknowledged) > 30
    assert [each for each in acknowledged if each not in set(got)] == []
    in_order = [each for each in got if "late" not in each]
    assert in_order == sorted(in_order, key=lambda each: [int(part) for part in each.split("/")])
