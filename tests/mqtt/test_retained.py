"""Retained messages: set, replaced, removed, sent to new subscriptions, expired."""

import time

import pytest
import wire
from wire import MQTT_3, MQTT_5


def retained(client, name, qos=2, **options):
    """What a new subscription to `name` is sent."""
    client.subscribe(name, qos=qos, **options)
    client.ping()
    messages = []
    while True:
        try:
            messages.append(client.message(timeout=0.25))
        except AssertionError:
            return messages


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_a_retained_message_is_sent_to_a_new_subscription(connected, version, topic, qos):
    """[MQTT-3.3.1-5] [MQTT-3.3.1-6] [MQTT-3.3.1-8] [MQTT5-3.3.1-5] [MQTT5-3.3.1-9]"""
    connected(version).publish(topic("a"), b"kept", qos, retain=True)
    (message,) = retained(connected(version), topic("a"))
    assert (message.topic, message.payload, message.qos, message.retain) == (topic("a"), b"kept", qos, True)


@pytest.mark.parametrize("granted", [0, 1])
def test_a_retained_message_has_the_lower_qos(connected, version, topic, granted):
    """[MQTT-3.8.4-6] [MQTT5-3.8.4-8]"""
    connected(version).publish(topic("a"), b"kept", 2, retain=True)
    (message,) = retained(connected(version), topic("a"), qos=granted)
    assert message.qos == granted


def test_an_established_subscription_sees_no_retain_flag(connected, version, topic):
    """[MQTT-3.3.1-9] [MQTT5-3.3.1-12]"""
    subscriber, publisher = connected(version), connected(version)
    subscriber.subscribe(topic("a"), qos=1)
    publisher.publish(topic("a"), b"x", 1, retain=True)
    assert not subscriber.message().retain


@pytest.mark.parametrize("first, second", [(0, 0), (1, 0), (0, 1), (2, 1)])
def test_the_last_retained_message_counts(connected, version, topic, first, second):
    """[MQTT-3.3.1-5] [MQTT-3.3.1-7] [MQTT5-3.3.1-5]"""
    publisher = connected(version)
    publisher.publish(topic("a"), b"old", first, retain=True)
    publisher.publish(topic("a"), b"new", second, retain=True)
    publisher.ping()
    assert [(m.payload, m.qos) for m in retained(connected(version), topic("a"))] == [(b"new", second)]


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_an_empty_retained_message_removes(connected, version, topic, qos):
    """[MQTT-3.3.1-10] [MQTT-3.3.1-11] [MQTT5-3.3.1-6] [MQTT5-3.3.1-7]"""
    subscriber, publisher = connected(version), connected(version)
    publisher.publish(topic("a"), b"kept", 1, retain=True)
    subscriber.subscribe(topic("a"), qos=2)
    assert subscriber.message().retain
    publisher.publish(topic("a"), b"", qos, retain=True)
    empty = subscriber.message()
    assert (empty.payload, empty.retain) == (b"", False)
    assert retained(connected(version), topic("a")) == []


def test_a_message_without_retain_changes_nothing(connected, version, topic):
    """[MQTT-3.3.1-12] [MQTT5-3.3.1-8]"""
    publisher = connected(version)
    publisher.publish(topic("a"), b"kept", 1, retain=True)
    publisher.publish(topic("a"), b"passing", 1)
    publisher.publish(topic("a"), b"", 1)
    publisher.publish(topic("b"), b"passing", 1)
    assert [message.payload for message in retained(connected(version), topic("#"))] == [b"kept"]


def test_retained_messages_outlive_their_publisher(connected, kept, version, topic):
    """[MQTT-3.1.2-7] [MQTT5-3.3.1-5]"""
    publisher = connected(version)
    publisher.publish(topic("a"), b"kept", 1, retain=True)
    publisher.disconnect()
    connected(version, publisher.client_id).disconnect()
    assert len(retained(connected(version), topic("a"))) == 1


def test_wildcards_find_retained_messages(connected, version, topic):
    """[MQTT-3.3.1-6] [MQTT5-3.3.1-9]"""
    publisher = connected(version)
    names = ["a", "a/b", "a/b/c", "a/x/c", "b/b", "a//c"]
    for name in names:
        publisher.publish(topic(name), name, 1, retain=True)
    for name, wanted in {
        "#": names, "a/#": ["a", "a/b", "a/b/c", "a/x/c", "a//c"], "+": ["a"], "+/b": ["a/b", "b/b"],
        "a/+/c": ["a/b/c", "a/x/c", "a//c"], "a/b": ["a/b"], "c": [],
    }.items():  # fmt: skip
        got = [message.payload.decode() for message in retained(connected(version), topic(name))]
        assert sorted(got) == sorted(wanted), name


def test_subscribing_again_sends_retained_messages_again(connected, version, topic):
    """[MQTT-3.8.4-3] [MQTT5-3.8.4-4] [MQTT5-3.3.1-9]"""
    connected(version).publish(topic("a"), b"kept", 1, retain=True)
    subscriber = connected(version)
    for _ in range(3):
        assert [message.retain for message in retained(subscriber, topic("a"))] == [True]


def test_each_filter_of_one_subscribe_is_sent_its_retained_messages(connected, version, topic):
    """[MQTT-3.8.4-4] [MQTT5-3.8.4-5]"""
    publisher, subscriber = connected(version), connected(version)
    for name in ("a", "b"):
        publisher.publish(topic(name), name, 1, retain=True)
    subscriber.subscribe(topic("a"), topic("b"), topic("c"), qos=1)
    assert {message.payload for message in subscriber.messages(2)} == {b"a", b"b"}
    subscriber.quiet()


def test_a_publisher_finds_its_own_retained_message(connected, version, topic):
    """[MQTT-3.3.1-6] [MQTT5-3.3.1-9]"""
    client = connected(version)
    client.publish(topic("a"), b"kept", 1, retain=True)
    assert len(retained(client, topic("a"))) == 1


def test_a_resumed_session_is_not_sent_retained_messages(kept, connected, version, topic):
    """There is no new subscription. [MQTT-3.3.1-6] [MQTT5-3.3.1-9]"""
    connected(version).publish(topic("a"), b"kept", 1, retain=True)
    first = kept(version)
    first.subscribe(topic("a"), qos=1)
    first.message()
    first.disconnect()
    kept(version, first.client_id).quiet()


def test_retained_messages_cross_versions(connected, topic):
    """[MQTT-3.3.1-6] [MQTT5-3.3.1-9]"""
    connected(MQTT_5).publish(topic("a"), b"5", 1, retain=True, given={"user_property": [("a", "b")]})
    connected(MQTT_3).publish(topic("b"), b"3", 1, retain=True)
    assert {m.payload for m in retained(connected(MQTT_3), topic("#"))} == {b"5", b"3"}
    assert {m.payload for m in retained(connected(MQTT_5), topic("#"))} == {b"5", b"3"}


def test_a_large_number_of_retained_messages_is_sent_completely(connected, version, topic):
    """More than a window of them. [MQTT-3.3.1-6] [MQTT5-3.3.1-9]"""
    publisher, subscriber = connected(version), connected(version)
    for number in range(200):
        publisher.publish(topic(f"a/{number}"), str(number), 1, retain=True)
    subscriber.subscribe(topic("a/+"), qos=1)
    got = {int(message.payload) for message in subscriber.messages(200)}
    assert got == set(range(200))
    subscriber.quiet()


# MQTT 5 --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("handling, new, again", [(0, 1, 1), (1, 1, 0), (2, 0, 0)])
def test_retain_handling(connected, topic, handling, new, again):
    """[MQTT5-3.3.1-9] [MQTT5-3.3.1-10] [MQTT5-3.3.1-11]"""
    connected(MQTT_5).publish(topic("a"), b"kept", 1, retain=True)
    subscriber = connected(MQTT_5)
    for wanted in (new, again):
        assert len(retained(subscriber, topic("a"), retain_handling=handling)) == wanted


def test_retain_handling_1_takes_a_deleted_subscription_for_new(connected, topic):
    """[MQTT5-3.3.1-10]"""
    connected(MQTT_5).publish(topic("a"), b"kept", 1, retain=True)
    subscriber = connected(MQTT_5)
    for _ in range(2):
        assert len(retained(subscriber, topic("a"), retain_handling=1)) == 1
        subscriber.unsubscribe(topic("a"))


def test_retain_handling_1_knows_subscriptions_of_a_resumed_session(kept, connected, topic):
    """[MQTT5-3.3.1-10]"""
    connected(MQTT_5).publish(topic("a"), b"kept", 1, retain=True)
    first = kept(MQTT_5)
    assert len(retained(first, topic("a"), retain_handling=1)) == 1
    first.disconnect()
    assert retained(kept(MQTT_5, first.client_id), topic("a"), retain_handling=1) == []


@pytest.mark.parametrize("set_flag", [False, True])
def test_a_retained_message_has_the_flag_whatever_the_option(connected, topic, set_flag):
    """[MQTT5-3.3.1-9]"""
    connected(MQTT_5).publish(topic("a"), b"kept", 1, retain=True)
    (message,) = retained(connected(MQTT_5), topic("a"), retain_as_published=set_flag)
    assert message.retain


def test_a_retained_message_expires(connected, topic):
    """[MQTT5-3.3.2-5] [MQTT5-3.3.2-6]"""
    publisher = connected(MQTT_5)
    publisher.publish(topic("short"), b"x", 1, retain=True, given={"message_expiry": 1})
    publisher.publish(topic("long"), b"x", 1, retain=True, given={"message_expiry": 50})
    time.sleep(2.1)
    (message,) = retained(connected(MQTT_5), topic("#"))
    assert message.topic == topic("long")
    assert 45 <= message.message_expiry <= 48
    assert [message.topic for message in retained(connected(MQTT_3), topic("#"))] == [topic("long")]


def test_no_local_does_not_concern_the_retained_messages_of_others(connected, topic):
    """[MQTT5-3.8.3-3]"""
    connected(MQTT_5).publish(topic("a"), b"kept", 1, retain=True)
    assert len(retained(connected(MQTT_5), topic("a"), no_local=True)) == 1


def test_a_retained_message_may_exceed_the_subscribers_maximum(connected, topic):
    """[MQTT5-3.1.2-25]"""
    publisher = connected(MQTT_5)
    publisher.publish(topic("large"), b"x" * 500, 1, retain=True)
    publisher.publish(topic("small"), b"x", 1, retain=True)
    subscriber = connected(MQTT_5, given={"maximum_packet_size": 200})
    assert [message.topic for message in retained(subscriber, topic("#"))] == [topic("small")]


def test_a_retained_message_keeps_to_the_window(connected, topic):
    """[MQTT5-3.3.4-9]"""
    publisher = connected(MQTT_5)
    for number in range(5):
        publisher.publish(topic(str(number)), b"x", 1, retain=True)
    subscriber = connected(MQTT_5, given={"receive_maximum": 2})
    subscriber.subscribe(topic("#"), qos=1)
    begun = subscriber.messages(2, ack=False)
    subscriber.quiet()
    for message in begun:
        subscriber.ack(wire.PUBACK, message.packet_id)
    assert len({m.topic for m in begun + subscriber.messages(3)}) == 5
