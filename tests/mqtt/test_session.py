"""Sessions: kept or not, resumed, expired; what is stored for them; and DISCONNECT."""

import time

import pytest
import wire
from client import Client, unique
from wire import MQTT_3, MQTT_5, Will


def test_session_present_says_whether_there_was_one(kept, version):
    """[MQTT-3.2.2-2] [MQTT-3.2.2-3] [MQTT-3.1.2-4] [MQTT5-3.2.2-3] [MQTT5-3.1.2-5] [MQTT5-3.1.2-6] [MQTT5-3.1.2-23]"""
    first = kept(version)
    assert not first.connack.session_present
    first.disconnect()
    second = kept(version, first.client_id)
    assert second.connack.session_present
    second.drop()
    assert kept(version, first.client_id).connack.session_present


def test_a_clean_session_is_never_present(kept, connected, version):
    """[MQTT-3.2.2-1] [MQTT-3.1.4-3] [MQTT5-3.2.2-2] [MQTT5-3.1.4-4] [MQTT5-3.1.2-4]"""
    first = kept(version)
    first.disconnect()
    second = connected(version, first.client_id, clean=True)
    assert not second.connack.session_present
    second.disconnect()
    assert not kept(version, first.client_id).connack.session_present


def test_a_clean_session_ends_with_its_connection(connected, kept, version, topic):
    """[MQTT-3.1.2-6] [MQTT5-4.1.0-2] [MQTT5-3.1.2-4]"""
    first = connected(version)
    first.subscribe(topic("a"), qos=1)
    first.drop()
    connected(version).publish(topic("a"), b"x", 1)
    second = kept(version, first.client_id)
    assert not second.connack.session_present
    second.quiet()


def test_a_clean_session_discards_what_was_stored(kept, connected, version, topic):
    """[MQTT-3.1.2-6] [MQTT5-3.1.2-4]"""
    first = kept(version)
    first.subscribe(topic("a"), qos=1)
    first.disconnect()
    publisher = connected(version)
    publisher.publish(topic("a"), b"x", 1)
    second = kept(version, first.client_id, clean=True)
    publisher.publish(topic("a"), b"y", 1)
    second.quiet()
    second.disconnect()
    third = kept(version, first.client_id)
    third.quiet()


def test_subscriptions_are_kept(kept, connected, version, topic):
    """[MQTT-3.1.2-4] [MQTT-4.1.0-1] [MQTT5-3.1.2-5] [MQTT5-3.1.2-23]"""
    first = kept(version)
    first.subscribe((topic("a"), 2), (topic("b/+"), 1), (topic("c/#"), 0))
    first.unsubscribe(topic("b/+"))
    first.disconnect()
    second = kept(version, first.client_id)
    publisher = connected(version)
    for name in ("a", "b/x", "c/x"):
        publisher.publish(topic(name), b"x", 2)
    assert [(m.topic, m.qos) for m in second.messages(2)] == [(topic("a"), 2), (topic("c/x"), 0)]
    second.quiet()


@pytest.mark.parametrize("qos", [1, 2])
def test_messages_are_stored_for_a_session_that_is_away(kept, connected, version, topic, qos):
    """[MQTT-3.1.2-5] [MQTT-4.5.0-1] [MQTT-4.6.0-6] [MQTT5-4.5.0-1] [MQTT5-4.6.0-5]"""
    first = kept(version)
    first.subscribe(topic("#"), qos=2)
    first.disconnect()
    publisher = connected(version)
    for number in range(50):
        publisher.publish(topic(str(number % 3)), str(number), qos)
    second = kept(version, first.client_id)
    messages = second.messages(50)
    assert all(message.qos == qos and not message.dup and not message.retain for message in messages)
    for name in range(3):
        got = [int(message.payload) for message in messages if message.topic == topic(str(name))]
        assert got == list(range(name, 50, 3))
    second.quiet()


def test_what_was_delivered_is_not_stored(kept, connected, version, topic):
    """[MQTT-4.3.2-1] [MQTT5-4.3.2-3]"""
    first = kept(version)
    first.subscribe(topic("a"), qos=1)
    publisher = connected(version)
    publisher.publish(topic("a"), b"1", 1)
    assert first.message().payload == b"1"
    first.disconnect()
    publisher.publish(topic("a"), b"2", 1)
    second = kept(version, first.client_id)
    assert second.message().payload == b"2"
    second.quiet()


def test_a_session_can_be_resumed_many_times(kept, connected, version, topic):
    """[MQTT-3.1.2-4] [MQTT5-3.1.2-5]"""
    publisher = connected(version)
    client = kept(version)
    client.subscribe(topic("a"), qos=1)
    for number in range(10):
        client.drop()
        publisher.publish(topic("a"), str(number), 1)
        client = kept(version, client.client_id)
        assert client.connack.session_present
        assert client.message().payload == str(number).encode()


def test_a_session_belongs_to_its_client_identifier(kept, connected, version, topic):
    """[MQTT-3.1.3-2] [MQTT5-3.1.3-2]"""
    first = kept(version)
    first.subscribe(topic("a"), qos=1)
    first.disconnect()
    connected(version).publish(topic("a"), b"x", 1)
    other = kept(version, first.client_id + "x")
    assert not other.connack.session_present
    other.quiet()


def test_take_over_resumes_the_session(kept, connected, version, topic):
    """[MQTT-3.1.4-2] [MQTT-4.4.0-1] [MQTT5-3.1.4-3] [MQTT5-4.1.0-1]"""
    first = kept(version)
    first.subscribe(topic("a"), qos=1)
    second = kept(version, first.client_id)
    assert second.connack.session_present
    first.refused(0x8E)
    connected(version).publish(topic("a"), b"x", 1)
    assert second.message().payload == b"x"


def test_a_session_lasts_as_long_as_its_connection(connected, topic):
    """Session expiry 0 or 1 begins at the connection's end. [MQTT-4.1.0-2] [MQTT5-4.1.0-1]"""
    client, publisher = connected(MQTT_5, given={"session_expiry": 1}), connected(MQTT_5)
    client.subscribe(topic("a"), qos=1)
    time.sleep(2.1)
    publisher.publish(topic("a"), b"x", 1)
    client.message()


def test_sessions_cross_versions(kept, connected, topic):
    """The client identifier counts. [MQTT-3.1.3-2] [MQTT5-3.1.3-2]"""
    first = kept(MQTT_3)
    first.subscribe(topic("a"), qos=1)
    first.disconnect()
    connected(MQTT_3).publish(topic("a"), b"x", 1)
    second = kept(MQTT_5, first.client_id)
    assert second.connack.session_present
    assert second.message().payload == b"x"


def test_ten_thousand_bytes_of_different_messages_wait_in_order(kept, connected, version, topic):
    """[MQTT-3.1.2-5] [MQTT-4.6.0-6] [MQTT5-4.6.0-5]"""
    first = kept(version)
    first.subscribe(topic("a"), qos=1)
    first.drop()
    publisher = connected(version)
    sizes = [1, 5000, 3, 4000, 0, 1000]
    for size in sizes:
        publisher.publish(topic("a"), b"x" * size, 1)
    assert [len(message.payload) for message in kept(version, first.client_id).messages(6)] == sizes


# Session expiry of MQTT 5 --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["disconnect", "drop"])
def test_a_session_expires(kept, connected, topic, way):
    """[MQTT5-4.1.0-2]"""
    first = kept(MQTT_5, seconds=1)
    first.subscribe(topic("a"), qos=1)
    getattr(first, way)()
    time.sleep(2.2)
    connected(MQTT_5).publish(topic("a"), b"x", 1)
    second = kept(MQTT_5, first.client_id)
    assert not second.connack.session_present
    second.quiet()


def test_a_connection_stops_the_expiry(kept):
    """[MQTT5-4.1.0-2] [MQTT5-4.1.0-1]"""
    first = kept(MQTT_5, seconds=2)
    first.disconnect()
    time.sleep(1.0)
    second = kept(MQTT_5, first.client_id, seconds=60)
    assert second.connack.session_present
    time.sleep(1.6)
    second.disconnect()
    time.sleep(0.6)
    assert kept(MQTT_5, first.client_id).connack.session_present


def test_without_an_expiry_the_session_ends_with_its_connection(connected):
    """Absent is 0. [MQTT5-4.1.0-2] [MQTT5-3.1.2-23]"""
    first = connected(MQTT_5, clean=False)
    first.disconnect()
    assert not connected(MQTT_5, first.client_id, clean=False).connack.session_present


def test_the_highest_expiry_is_no_overflow(kept):
    """[MQTT5-3.1.2-23]"""
    first = kept(MQTT_5, seconds=0xFFFFFFFF)
    first.disconnect()
    assert kept(MQTT_5, first.client_id).connack.session_present


def test_clean_start_with_an_expiry_makes_a_session_that_is_kept(kept):
    """[MQTT5-3.1.2-4] [MQTT5-3.1.2-23]"""
    first = kept(MQTT_5, clean=True)
    first.disconnect()
    assert kept(MQTT_5, first.client_id).connack.session_present


def test_disconnect_may_change_the_expiry(kept):
    """[MQTT5-4.1.0-2]"""
    first = kept(MQTT_5, seconds=60)
    first.disconnect(0, {"session_expiry": 0})
    assert not kept(MQTT_5, first.client_id).connack.session_present


def test_disconnect_may_lengthen_the_expiry(kept):
    """[MQTT5-3.1.2-23]"""
    first = kept(MQTT_5, seconds=1)
    first.disconnect(0, {"session_expiry": 60})
    time.sleep(2.2)
    assert kept(MQTT_5, first.client_id).connack.session_present


def test_disconnect_may_not_make_a_session_of_none(connected):
    """From 0 to something else is a protocol error. [MQTT5-4.13.1-1] [MQTT5-3.14.2-2]"""
    client = connected(MQTT_5)
    client.send(wire.disconnect(MQTT_5, 0, {"session_expiry": 60}))
    client.refused(0x82)
    assert not connected(MQTT_5, client.client_id, clean=False).connack.session_present


# DISCONNECT ----------------------------------------------------------------------------------------------------------


def test_disconnect_ends_the_connection(connected, version):
    """[MQTT-3.14.4-1] [MQTT5-3.14.4-2]"""
    client = connected(version)
    client.send(wire.disconnect(version))
    assert not client.wait_closed()


def test_nothing_behind_disconnect_is_processed(connected, version, topic):
    """[MQTT-3.14.4-2] [MQTT5-3.14.4-1]"""
    watcher, client = connected(version), connected(version)
    watcher.subscribe(topic("a"))
    client.send(wire.disconnect(version), wire.publish(version, topic("a"), b"late"))
    client.wait_closed()
    watcher.quiet()


def test_what_came_before_disconnect_is_processed(connected, version, topic):
    """[MQTT-4.5.0-1] [MQTT5-4.5.0-1]"""
    watcher, client = connected(version), connected(version)
    watcher.subscribe(topic("a"), qos=1)
    client.send(wire.publish(version, topic("a"), b"1", qos=1, packet_id=1), wire.publish(version, topic("a"), b"0"),
                wire.disconnect(version))  # fmt: skip
    client.close()
    assert {message.payload for message in watcher.messages(2)} == {b"1", b"0"}


@pytest.mark.parametrize("code", [0x00, 0x04, 0x80, 0x81, 0x82, 0x83, 0x90, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99])
def test_each_code_a_client_may_give_is_taken(connected, code):
    """[MQTT5-3.14.2-1]"""
    client = connected(MQTT_5)
    client.send(wire.disconnect(MQTT_5, code, {"reason_string": "because", "user_property": [("a", "b"), ("a", "b")]}))
    assert not client.wait_closed()


@pytest.mark.parametrize("code", [0x01, 0x02, 0x18, 0x7F, 0xFE])
def test_a_code_that_is_not_of_the_table_is_an_error(connected, topic, code):
    """At the least it is no orderly end. [MQTT5-3.14.2-1]"""
    client = connected(MQTT_5)
    client.send(wire.disconnect(MQTT_5, code, {}))
    client.refused(0x81, 0x82)


@pytest.mark.parametrize("flags", [1, 2, 4, 8])
def test_disconnect_with_reserved_bits_is_refused(connected, version, topic, flags):
    """It is no orderly end either. [MQTT-3.14.1-1] [MQTT5-3.14.1-1]"""
    watcher = connected(version)
    watcher.subscribe(topic("will"))
    client = connected(version, will=Will(topic("will")))
    client.send(wire.disconnect(version, flags=flags))
    client.refused(0x81)
    watcher.message()


def test_disconnect_of_mqtt_3_has_no_body(connected):
    """[MQTT-4.8.0-1]"""
    client = connected(MQTT_3)
    client.send(wire.packet(wire.DISCONNECT, b"\0"))
    client.refused()


# Many at once --------------------------------------------------------------------------------------------------------


def test_many_clients_take_turns_on_one_session(broker, version, topic):
    """Each finds the session, and the last one keeps it. [MQTT-3.1.4-2] [MQTT5-3.1.4-3]"""
    name = unique()
    given = {"session_expiry": 30} if version == MQTT_5 else None
    clients = []
    for number in range(10):
        client = Client(broker, version, name).connect(clean=False, given=given)
        assert client.connack.session_present == (number > 0)
        clients.append(client)
    clients[-1].ping()
    for client in clients[:-1]:
        client.refused(0x8E)
        client.close()
    clients[-1].close()
    Client(broker, version, name).connect(clean=True).close()
