"""Wills: published at each kind of end but the orderly one, delayed, retained, withheld."""

import socket
import time

import pytest
from wire import MQTT_3, MQTT_5, Will


LOST = pytest.mark.deviates("mosquitto", "2.0.11 publishes the will for 0x04 alone")


@pytest.fixture
def watcher(connected, version, topic):
    """Sees all wills of the test."""
    client = connected(version)
    client.subscribe(topic("#"), qos=2)
    return client


@pytest.fixture
def watcher_5(connected, topic):
    client = connected(MQTT_5)
    client.subscribe(topic("#"), qos=2)
    return client


@pytest.mark.parametrize("qos", [0, 1, 2])
@pytest.mark.parametrize("how", ["reset", "closed"])
def test_a_broken_connection_publishes_the_will(watcher, connected, version, topic, qos, how):
    """[MQTT-3.1.2-8] [MQTT-3.1.2-9] [MQTT-3.1.2-16] [MQTT5-3.1.2-7] [MQTT5-3.1.2-8] [MQTT5-3.1.2-9] [MQTT5-3.1.2-14]"""
    client = connected(version, will=Will(topic("will"), b"\0gone", qos))
    client.drop() if how == "reset" else client.close()
    message = watcher.message()
    assert (message.topic, message.payload, message.qos, message.retain) == (topic("will"), b"\0gone", qos, False)
    late = connected(version)
    late.subscribe(topic("will"))
    late.quiet()


def test_a_half_closed_connection_publishes_the_will(watcher, connected, version, topic):
    """[MQTT-3.1.2-8] [MQTT5-3.1.2-8]"""
    client = connected(version, will=Will(topic("will")))
    client.socket.shutdown(socket.SHUT_WR)
    watcher.message()


def test_disconnect_discards_the_will(watcher, connected, version, topic):
    """[MQTT-3.1.2-10] [MQTT-3.14.4-3] [MQTT5-3.1.2-10] [MQTT5-3.14.4-3]"""
    connected(version, will=Will(topic("will"))).disconnect()
    watcher.quiet()


def test_disconnect_with_code_0_discards_the_will(watcher_5, connected, topic):
    """[MQTT5-3.1.2-10] [MQTT5-3.14.4-3]"""
    connected(MQTT_5, will=Will(topic("will"))).disconnect(0x00, {})
    watcher_5.quiet()


@pytest.mark.parametrize("code", [0x04, *(pytest.param(code, marks=LOST) for code in (0x80, 0x81, 0x82, 0x83))])
def test_disconnect_with_another_code_publishes_the_will(watcher_5, connected, topic, code):
    """[MQTT5-3.1.2-8] [MQTT5-3.14.4-3]"""
    connected(MQTT_5, will=Will(topic("will"))).disconnect(code)
    assert watcher_5.message().payload == b"gone"
    watcher_5.quiet()


def test_a_violation_publishes_the_will(watcher, connected, version, topic):
    """[MQTT-3.1.2-8] [MQTT5-3.1.2-8]"""
    client = connected(version, will=Will(topic("will")))
    client.send(b"\x00\x00")
    assert watcher.message().payload == b"gone"
    client.wait_closed()


def test_keep_alive_expiry_publishes_the_will(watcher, connected, version, topic):
    """[MQTT-3.1.2-8] [MQTT-3.1.2-24] [MQTT5-3.1.2-8] [MQTT5-3.1.2-22]"""
    connected(version, keep_alive=1, will=Will(topic("will")))
    assert watcher.message(timeout=12).payload == b"gone"


def test_take_over_publishes_the_will(watcher, connected, version, topic):
    """[MQTT-3.1.2-8] [MQTT-3.1.4-2] [MQTT5-3.1.2-8]"""
    client = connected(version, will=Will(topic("will")))
    connected(version, client.client_id)
    assert watcher.message().payload == b"gone"


def test_without_a_will_nothing_is_published(watcher, connected, version):
    """[MQTT-3.1.2-12]"""
    connected(version).drop()
    watcher.quiet()


def test_a_will_is_published_once(watcher, kept, version, topic):
    """A later connection of the same client has its own will or none. [MQTT-3.1.2-10] [MQTT5-3.1.2-10]"""
    first = kept(version, will=Will(topic("will")))
    first.drop()
    watcher.message()
    kept(version, first.client_id).drop()
    watcher.quiet()


def test_the_last_connections_will_counts(watcher, kept, version, topic):
    """[MQTT-3.1.2-8] [MQTT5-3.1.2-7]"""
    first = kept(version, will=Will(topic("old")))
    first.disconnect()
    kept(version, first.client_id, will=Will(topic("new"))).drop()
    assert watcher.message().topic == topic("new")
    watcher.quiet()


def test_a_will_may_be_retained(watcher, connected, version, topic):
    """[MQTT-3.1.2-17] [MQTT5-3.1.2-15]"""
    connected(version, will=Will(topic("will"), retain=True)).drop()
    assert not watcher.message().retain
    late = connected(version)
    late.subscribe(topic("will"))
    message = late.message()
    assert (message.payload, message.retain) == (b"gone", True)


def test_an_empty_retained_will_removes(watcher, connected, version, topic):
    """[MQTT-3.1.2-17] [MQTT-3.3.1-10] [MQTT5-3.1.2-15]"""
    connected(version).publish(topic("will"), b"old", 1, retain=True)
    watcher.message()
    connected(version, will=Will(topic("will"), b"", retain=True)).drop()
    assert watcher.message().payload == b""
    late = connected(version)
    late.subscribe(topic("will"))
    late.quiet()


def test_a_will_may_be_empty(watcher, connected, version, topic):
    """[MQTT-3.1.2-9] [MQTT5-3.1.2-9]"""
    connected(version, will=Will(topic("will"), b"")).drop()
    assert watcher.message().payload == b""


def test_a_will_waits_for_a_subscriber_that_is_away(kept, connected, version, topic):
    """[MQTT-3.1.2-5] [MQTT-4.5.0-1] [MQTT5-4.5.0-1]"""
    first = kept(version)
    first.subscribe(topic("will"), qos=1)
    first.disconnect()
    connected(version, will=Will(topic("will"), qos=1)).drop()
    time.sleep(0.3)
    assert kept(version, first.client_id).message().payload == b"gone"


def test_a_client_does_not_meet_its_own_will_when_it_starts_anew(kept, version, topic):
    """The session that had subscribed is gone. [MQTT-3.1.2-6] [MQTT5-3.1.2-4]"""
    first = kept(version, will=Will(topic("will"), qos=1))
    first.subscribe(topic("will"), qos=1)
    first.drop()
    kept(version, first.client_id, clean=True).quiet()


# MQTT 5 --------------------------------------------------------------------------------------------------------------


def test_properties_of_a_will_are_passed_on(watcher_5, connected, topic):
    """[MQTT5-3.1.3-10] [MQTT5-3.3.2-17] [MQTT5-3.3.2-4] [MQTT5-3.3.2-15] [MQTT5-3.3.2-16] [MQTT5-3.3.2-20]"""
    given = {
        "payload_format": 1, "content_type": "text/plain", "response_topic": topic("answers"),
        "correlation_data": b"\0\1", "user_property": [("b", "1"), ("a", "2"), ("b", "1")],
    }  # fmt: skip
    connected(MQTT_5, will=Will(topic("will"), "gone", properties={"will_delay": 0, "message_expiry": 30, **given})).drop()
    message = watcher_5.message()
    assert 29 <= message.properties.pop("message_expiry") <= 30
    assert message.properties == given


def test_a_will_waits_for_its_delay(watcher_5, kept, topic):
    """[MQTT5-3.1.2-8]"""
    client = kept(MQTT_5, will=Will(topic("will"), properties={"will_delay": 2}))
    begun = time.monotonic()
    client.drop()
    watcher_5.quiet(1.0)
    watcher_5.message()
    assert 1.5 < time.monotonic() - begun < 5


def test_a_new_connection_within_the_delay_withholds_the_will(watcher_5, kept, topic):
    """[MQTT5-3.1.3-9] [MQTT5-3.1.2-8]"""
    first = kept(MQTT_5, will=Will(topic("will"), properties={"will_delay": 1}))
    first.drop()
    time.sleep(0.2)
    kept(MQTT_5, first.client_id)
    watcher_5.quiet(2.0)


@pytest.mark.deviates("mosquitto", "2.0.11 publishes it late or never")
def test_take_over_with_a_clean_start_publishes_a_delayed_will(watcher_5, kept, topic):
    """The session ends, and with it the delay. [MQTT5-3.1.2-8]"""
    first = kept(MQTT_5, will=Will(topic("will"), properties={"will_delay": 30}))
    kept(MQTT_5, first.client_id, clean=True)
    watcher_5.message()


def test_the_end_of_the_session_ends_the_delay(watcher_5, kept, topic):
    """[MQTT5-3.1.2-8]"""
    kept(MQTT_5, seconds=1, will=Will(topic("will"), properties={"will_delay": 60})).drop()
    watcher_5.message()


@pytest.mark.deviates("mosquitto", "2.0.11 waits for the delay nevertheless")
def test_without_a_session_there_is_no_delay(watcher_5, connected, topic):
    """[MQTT5-3.1.2-8]"""
    connected(MQTT_5, will=Will(topic("will"), properties={"will_delay": 60})).drop()
    watcher_5.message(timeout=3)


@pytest.mark.deviates("mosquitto", "2.0.11 waits for the delay nevertheless")
def test_a_session_ended_by_disconnect_takes_its_will_along(watcher_5, kept, topic):
    """0x04 with session expiry 0: the will comes at once. [MQTT5-3.1.2-8] [MQTT5-3.14.4-3]"""
    client = kept(MQTT_5, will=Will(topic("will"), properties={"will_delay": 60}))
    client.disconnect(0x04, {"session_expiry": 0})
    watcher_5.message(timeout=3)


def test_a_will_expires_while_it_waits_for_a_subscriber(kept, connected, topic):
    """[MQTT5-3.3.2-5]"""
    first = kept(MQTT_5)
    first.subscribe(topic("will"), qos=1)
    first.disconnect()
    connected(MQTT_5, will=Will(topic("will"), qos=1, properties={"message_expiry": 1})).drop()
    time.sleep(2.2)
    kept(MQTT_5, first.client_id).quiet()


def test_no_local_holds_for_wills_too(kept, topic):
    """The will is its client's message. [MQTT5-3.8.3-3]"""
    first = kept(MQTT_5, will=Will(topic("will"), qos=1))
    first.subscribe(topic("will"), qos=1, no_local=True)
    first.drop()
    time.sleep(0.2)
    kept(MQTT_5, first.client_id).quiet()


def test_wills_cross_versions(connected, topic):
    """[MQTT-3.1.2-8] [MQTT5-3.1.2-8]"""
    old, new = connected(MQTT_3), connected(MQTT_5)
    for watcher in (old, new):
        watcher.subscribe(topic("#"))
    connected(MQTT_3, will=Will(topic("3"))).drop()
    assert [watcher.message().topic for watcher in (old, new)] == [topic("3")] * 2
    connected(MQTT_5, will=Will(topic("5"), properties={"content_type": "x"})).drop()
    assert [watcher.message().topic for watcher in (old, new)] == [topic("5")] * 2
