"""PUBLISH: what it carries to subscribers, its flags, and the properties of MQTT 5."""

import time

import pytest
import wire
from wire import MQTT_3, MQTT_5


@pytest.mark.parametrize("published", [0, 1, 2])
@pytest.mark.parametrize("granted", [0, 1, 2])
def test_a_delivery_has_the_lower_qos(connected, version, topic, published, granted):
    """[MQTT-3.8.4-6] [MQTT-4.3.1-1] [MQTT-3.3.4-1] [MQTT-4.5.0-1] [MQTT5-3.8.4-8] [MQTT5-3.3.4-1] [MQTT5-4.5.0-1]
    [MQTT5-4.3.1-1] [MQTT-3.3.5-2]"""
    subscriber, publisher = connected(version), connected(version)
    assert subscriber.subscribe(topic("a"), qos=granted) == [granted]
    publisher.publish(topic("a"), b"payload", published)
    message = subscriber.message()
    assert (message.topic, message.payload, message.qos) == (topic("a"), b"payload", min(published, granted))
    assert not message.dup and not message.retain
    subscriber.quiet()


@pytest.mark.parametrize("sender, receiver", [(MQTT_3, MQTT_5), (MQTT_5, MQTT_3)], ids=["3 to 5", "5 to 3"])
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_messages_cross_versions(connected, topic, sender, receiver, qos):
    """[MQTT-4.5.0-1] [MQTT5-4.5.0-1]"""
    subscriber, publisher = connected(receiver), connected(sender)
    subscriber.subscribe(topic("a"), qos=2)
    given = {"user_property": [("a", "b")], "content_type": "x"} if sender == MQTT_5 else None
    publisher.publish(topic("a"), b"x" * 100, qos, given=given)
    message = subscriber.message()
    assert (message.payload, message.qos) == (b"x" * 100, qos)


@pytest.mark.parametrize("size", [0, 1, 127, 128, 16_383, 16_384, 100_000])
def test_a_payload_of_any_size_arrives_whole(connected, version, topic, size):
    """[MQTT5-1.5.5-1] [MQTT-2.2.2-1]"""
    subscriber, publisher = connected(version), connected(version)
    subscriber.subscribe(topic("a"), qos=1)
    payload = bytes(index * 31 % 251 for index in range(size))
    publisher.publish(topic("a"), payload, 1)
    assert subscriber.message().payload == payload


def test_a_publisher_gets_its_own_messages_too(connected, version, topic):
    """[MQTT-4.5.0-1] [MQTT5-4.5.0-1]"""
    client = connected(version)
    client.subscribe(topic("a"), qos=1)
    client.publish(topic("a"), b"mine", 1)
    assert client.message().payload == b"mine"


def test_many_subscribers_each_get_one_copy(connected, version, topic):
    """[MQTT-4.5.0-1] [MQTT5-4.5.0-1]"""
    subscribers = [connected(version) for _ in range(10)]
    for subscriber in subscribers:
        subscriber.subscribe(topic("a"), qos=1)
    connected(version).publish(topic("a"), b"x", 1)
    for subscriber in subscribers:
        assert subscriber.message().payload == b"x"
    subscribers[0].quiet()


@pytest.mark.parametrize("qos", [1, 2])
def test_dup_is_not_passed_on(connected, version, topic, qos):
    """[MQTT-3.3.1-3] [MQTT5-3.3.1-3]"""
    subscriber, publisher = connected(version), connected(version)
    subscriber.subscribe(topic("a"), qos=2)
    publisher.publish(topic("a"), b"x", qos, dup=True)
    message = subscriber.message()
    assert (message.dup, message.qos) == (False, qos)


@pytest.mark.deviates("mosquitto", "2.0.11 takes DUP at QoS 0")
def test_dup_at_qos_0_is_a_violation(connected, version, topic):
    """[MQTT-3.3.1-2] [MQTT5-3.3.1-2]"""
    client = connected(version)
    client.send(wire.publish(version, topic("a"), b"x", dup=True))
    client.refused(0x81, 0x82)


def test_qos_3_ends_the_connection(connected, version, topic):
    """[MQTT-3.3.1-4] [MQTT5-3.3.1-4]"""
    for dup in (False, True):
        client = connected(version)
        client.send(wire.publish(version, topic("a"), b"x", qos=3, packet_id=1, dup=dup))
        client.refused(0x81, 0x82)


@pytest.mark.parametrize("qos", [1, 2])
def test_packet_identifier_0_is_a_violation(connected, version, topic, qos):
    """[MQTT-2.3.1-1] [MQTT5-2.2.1-3]"""
    client = connected(version)
    client.send(wire.publish(version, topic("a"), b"x", qos=qos, packet_id=0))
    client.refused(0x81, 0x82)


@pytest.mark.parametrize("name", ["a/+", "a/#", "#", "+", "a+b", "a#"])
def test_a_topic_name_has_no_wildcards(connected, version, topic, name):
    """[MQTT-3.3.2-2] [MQTT-4.7.1-1] [MQTT5-3.3.2-2] [MQTT5-4.7.0-1]"""
    client = connected(version)
    client.send(wire.publish(version, topic(name), b"x"))
    client.refused(0x81, 0x82, 0x90)


def test_a_topic_name_is_not_empty(connected, version):
    """In MQTT 5 without a topic alias. [MQTT-4.7.3-1] [MQTT5-4.7.3-1]"""
    client = connected(version)
    client.send(wire.publish(version, "", b"x"))
    client.refused(0x81, 0x82, 0x90)


def test_the_server_sends_no_packet_identifier_at_qos_0(connected, version, topic):
    """It would be the payload's first bytes. [MQTT-2.3.1-5] [MQTT5-2.2.1-2]"""
    subscriber = connected(version)
    subscriber.subscribe(topic("a"), qos=0)
    connected(version).publish(topic("a"), b"just this", 2)
    assert subscriber.message().payload == b"just this"


def test_topic_names_may_be_long(connected, version, topic):
    """[MQTT-4.7.3-3] [MQTT5-4.7.3-3]"""
    subscriber, publisher = connected(version), connected(version)
    subscriber.subscribe(topic("#"))
    name = topic("x" * 1000)
    publisher.publish(name, b"long")
    assert subscriber.message().topic == name


def test_the_topic_delivered_matches_the_filter(connected, version, topic):
    """[MQTT-3.3.2-3] [MQTT5-3.3.2-3]"""
    subscriber, publisher = connected(version), connected(version)
    subscriber.subscribe(topic("+/b"))
    for name in ("a/b", "x/b", "a/c", "b"):
        publisher.publish(topic(name), name)
    assert [message.topic for message in subscriber.messages(2)] == [topic("a/b"), topic("x/b")]
    subscriber.quiet()


# Order ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_order_is_kept(connected, version, topic, qos):
    """[MQTT-4.6.0-5] [MQTT-4.6.0-6] [MQTT5-4.6.0-5] [MQTT5-4.6.0-6]"""
    subscriber, publisher = connected(version), connected(version)
    subscriber.subscribe(topic("a"), qos=2)
    # Ten at once: any broker's receive maximum allows that.
    batches = [range(first, first + 10) for first in range(0, 60, 10)]
    for batch in batches:
        publisher.send(*(
            wire.publish(version, topic("a"), str(number), qos=qos, packet_id=number + 1 if qos else None)
            for number in batch
        ))  # fmt: skip
        for kind in ((), (wire.PUBACK,), (wire.PUBREC, wire.PUBCOMP))[qos]:
            assert [publisher.expect(kind).packet_id for _ in batch] == [number + 1 for number in batch]
            if kind == wire.PUBREC:
                publisher.send(*(wire.ack(version, wire.PUBREL, number + 1) for number in batch))
    assert [int(message.payload) for message in subscriber.messages(60)] == list(range(60))


# Properties of MQTT 5 ------------------------------------------------------------------------------------------------

ALL = {
    "payload_format": 1,
    "content_type": "application/x-\u00e4",
    "response_topic": "answers/here",
    "correlation_data": bytes(range(256)),
    "user_property": [("b", "1"), ("a", "2"), ("b", "1"), ("", ""), ("a", "\U0001f980")],
}


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_properties_are_passed_on_unchanged(connected, topic, qos):
    """[MQTT5-3.3.2-4] [MQTT5-3.3.2-15] [MQTT5-3.3.2-16] [MQTT5-3.3.2-17] [MQTT5-3.3.2-18] [MQTT5-3.3.2-20]
    [MQTT5-1.5.7-1]"""
    subscriber, publisher = connected(MQTT_5), connected(MQTT_5)
    subscriber.subscribe(topic("a"), qos=2)
    publisher.publish(topic("a"), "text \u00fc", qos, given=ALL)
    assert subscriber.message().properties == ALL


def test_payload_format_0_is_passed_on_too(connected, topic):
    """[MQTT5-3.3.2-4]"""
    subscriber, publisher = connected(MQTT_5), connected(MQTT_5)
    subscriber.subscribe(topic("a"))
    publisher.publish(topic("a"), b"\xff", given={"payload_format": 0})
    # 0 and absent say the same.
    assert subscriber.message().payload_format in (0, None)


def test_properties_survive_storage(kept, connected, topic):
    """[MQTT5-3.3.2-17] [MQTT5-3.3.2-18] [MQTT5-3.3.2-15]"""
    first = kept(MQTT_5)
    first.subscribe(topic("a"), qos=1)
    first.disconnect()
    connected(MQTT_5).publish(topic("a"), "x", 1, given=ALL)
    assert kept(MQTT_5, first.client_id).message().properties == ALL


def test_properties_of_a_retained_message_are_kept(connected, topic):
    """[MQTT5-3.3.2-17] [MQTT5-3.3.2-18] [MQTT5-3.3.2-16]"""
    connected(MQTT_5).publish(topic("a"), "x", 1, retain=True, given=ALL)
    subscriber = connected(MQTT_5)
    subscriber.subscribe(topic("a"), qos=1)
    assert subscriber.message().properties == ALL


def test_message_expiry_counts_down_while_a_message_waits(kept, connected, topic):
    """[MQTT5-3.3.2-6]"""
    first = kept(MQTT_5)
    first.subscribe(topic("a"), qos=1)
    first.disconnect()
    connected(MQTT_5).publish(topic("a"), b"x", 1, given={"message_expiry": 100})
    time.sleep(2.1)
    assert 95 <= kept(MQTT_5, first.client_id).message().message_expiry <= 98


def test_message_expiry_is_unchanged_for_a_message_that_does_not_wait(connected, topic):
    """[MQTT5-3.3.2-6]"""
    subscriber, publisher = connected(MQTT_5), connected(MQTT_5)
    subscriber.subscribe(topic("a"))
    publisher.publish(topic("a"), b"x", given={"message_expiry": 100})
    publisher.publish(topic("a"), b"x")
    assert 99 <= subscriber.message().message_expiry <= 100
    assert subscriber.message().message_expiry is None


@pytest.mark.parametrize("receiver", [MQTT_3, MQTT_5])
def test_an_expired_message_is_not_delivered(kept, connected, topic, receiver):
    """[MQTT5-3.3.2-5]"""
    first = kept(receiver)
    first.subscribe(topic("a"), qos=1)
    first.disconnect()
    publisher = connected(MQTT_5)
    publisher.publish(topic("a"), b"short", 1, given={"message_expiry": 1})
    publisher.publish(topic("a"), b"long", 1, given={"message_expiry": 60})
    time.sleep(2.1)
    second = kept(receiver, first.client_id)
    assert second.message().payload == b"long"
    second.quiet()


@pytest.mark.deviates("mosquitto", "2.0.11 stops delivering where the next message of a full window has expired")
def test_an_expired_message_is_not_delivered_to_a_full_window(connected, topic):
    """It waited because of the client's receive maximum. [MQTT5-3.3.2-5]"""
    subscriber, publisher = connected(MQTT_5, given={"receive_maximum": 1}), connected(MQTT_5)
    subscriber.subscribe(topic("a"), qos=1)
    publisher.publish(topic("a"), b"first", 1)
    publisher.publish(topic("a"), b"short", 1, given={"message_expiry": 1})
    publisher.publish(topic("a"), b"last", 1)
    first = subscriber.message(ack=False)
    time.sleep(2.1)
    subscriber.ack(wire.PUBACK, first.packet_id)
    assert subscriber.message().payload == b"last"


@pytest.mark.deviates("mosquitto", "2.0.11 does not look at the response topic")
@pytest.mark.parametrize("name", ["a/+", "#", "a/#"])
def test_a_response_topic_has_no_wildcards(connected, topic, name):
    """[MQTT5-3.3.2-14]"""
    client = connected(MQTT_5)
    client.send(wire.publish(MQTT_5, topic("a"), b"x", given={"response_topic": name}))
    client.refused(0x81, 0x82, 0x90)


@pytest.mark.parametrize("name", ["response_topic", "content_type"])
@pytest.mark.parametrize("text", [b"\xff", b"a\0", b"\xed\xa0\x80"])
def test_string_properties_are_utf_8(connected, topic, name, text):
    """[MQTT5-3.3.2-13] [MQTT5-3.3.2-19] [MQTT5-1.5.4-1] [MQTT5-1.5.4-2]"""
    client = connected(MQTT_5)
    client.send(wire.publish(MQTT_5, topic("a"), b"x", given={name: text}))
    client.refused(0x81, 0x82, 0x90)


@pytest.mark.parametrize("pair", [(b"\xff", "a"), ("a", b"\xff"), (b"\0", "a"), ("a", b"a\0")])
def test_both_strings_of_a_user_property_are_utf_8(connected, topic, pair):
    """[MQTT5-1.5.7-1]"""
    client = connected(MQTT_5)
    client.send(wire.publish(MQTT_5, topic("a"), b"x", given={"user_property": [pair]}))
    client.refused(0x81, 0x82)


@pytest.mark.deviates("mosquitto", "2.0.11 takes them")
def test_a_client_may_not_send_subscription_identifiers(connected, topic):
    """[MQTT5-3.3.4-6]"""
    client = connected(MQTT_5)
    client.send(wire.publish(MQTT_5, topic("a"), b"x", given={"subscription_identifier": 1}))
    client.refused(0x81, 0x82)


def test_request_and_response(connected, topic):
    """A requester names where it wants its answer. [MQTT5-3.3.2-15] [MQTT5-3.3.2-16]"""
    requester, responder = connected(MQTT_5), connected(MQTT_5)
    requester.subscribe(topic("answers"), qos=1)
    responder.subscribe(topic("questions"), qos=1)
    question = {"response_topic": topic("answers"), "correlation_data": b"\x01\x02"}
    requester.publish(topic("questions"), b"?", 1, given=question)
    asked = responder.message()
    responder.publish(asked.response_topic, b"!", 1, given={"correlation_data": asked.correlation_data})
    answer = requester.message()
    assert (answer.payload, answer.correlation_data) == (b"!", b"\x01\x02")


def test_a_publish_nobody_takes_may_say_so(connected, topic):
    """[MQTT5-3.4.2-1] [MQTT5-3.5.2-1] [MQTT5-3.7.2-1]"""
    client = connected(MQTT_5)
    for qos in (1, 2):
        assert client.publish(topic("nobody"), b"x", qos) in (0x00, 0x10)


# Topic aliases -------------------------------------------------------------------------------------------------------


def alias_maximum(client):
    return client.connack.topic_alias_maximum or 0


def test_a_topic_alias_stands_for_its_topic(connected, topic):
    """[MQTT5-3.3.2-12]"""
    subscriber, publisher = connected(MQTT_5), connected(MQTT_5)
    maximum = alias_maximum(publisher)
    assert maximum, "this broker takes no topic alias"
    subscriber.subscribe(topic("#"), qos=2)
    for alias in {1, maximum}:
        publisher.publish(topic(str(alias)), b"set", given={"topic_alias": alias})
        publisher.publish("", b"used", 1, given={"topic_alias": alias})
        publisher.publish("", b"used", 2, given={"topic_alias": alias})
    for alias in {1, maximum}:
        assert [message.topic for message in subscriber.messages(3)] == [topic(str(alias))] * 3


def test_a_topic_alias_can_be_given_to_another_topic(connected, topic):
    """[MQTT5-3.3.2-12]"""
    subscriber, publisher = connected(MQTT_5), connected(MQTT_5)
    subscriber.subscribe(topic("#"))
    for name in ("a", "b"):
        publisher.publish(topic(name), b"set", given={"topic_alias": 1})
        publisher.publish("", b"used", given={"topic_alias": 1})
    assert [message.topic for message in subscriber.messages(4)] == [topic(name) for name in "aabb"]


def test_a_topic_alias_ends_with_its_connection(connected, topic):
    """[MQTT5-3.3.2-7]"""
    first = connected(MQTT_5, given={"session_expiry": 5})
    first.publish(topic("a"), b"set", given={"topic_alias": 1})
    first.disconnect()
    second = connected(MQTT_5, first.client_id, clean=False)
    assert second.connack.session_present
    second.send(wire.publish(MQTT_5, "", b"used", given={"topic_alias": 1}))
    second.refused(0x82, 0x94)


def test_a_topic_alias_of_one_client_is_not_another_clients(connected, topic):
    """[MQTT5-3.3.2-7]"""
    one, other = connected(MQTT_5), connected(MQTT_5)
    one.publish(topic("a"), b"set", 1, given={"topic_alias": 1})
    other.send(wire.publish(MQTT_5, "", b"used", given={"topic_alias": 1}))
    other.refused(0x82, 0x94)


@pytest.mark.parametrize("alias", ["0", "unknown", "above the maximum", "above the maximum, with topic"])
def test_topic_alias_abuse_ends_the_connection(connected, topic, alias):
    """[MQTT5-3.3.2-8] [MQTT5-3.3.2-9] [MQTT5-3.2.2-17] [MQTT5-3.2.2-18]"""
    client = connected(MQTT_5)
    number = {"0": 0, "unknown": 1}.get(alias, alias_maximum(client) + 1)
    name = topic("a") if "with" in alias or alias == "0" else ""
    client.send(wire.publish(MQTT_5, name, b"x", given={"topic_alias": number}))
    client.refused(0x81, 0x82, 0x94)


def test_the_server_uses_no_alias_unless_it_may(connected, topic):
    """[MQTT5-3.1.2-27] [MQTT5-3.3.2-11]"""
    subscriber, publisher = connected(MQTT_5), connected(MQTT_5)
    subscriber.subscribe(topic("#"), qos=1)
    for _ in range(3):
        publisher.publish(topic("a"), b"x", 1)
    assert all(message.topic_alias is None for message in subscriber.messages(3))


def test_the_server_keeps_to_the_clients_alias_maximum(connected, topic):
    """[MQTT5-3.1.2-26] [MQTT5-3.3.2-11]"""
    subscriber, publisher = connected(MQTT_5, given={"topic_alias_maximum": 2}), connected(MQTT_5)
    subscriber.subscribe(topic("#"), qos=1)
    names = [topic(name) for name in "aabbccddabcdddccbbaa"]
    for name in names:
        publisher.publish(name, b"x", 1)
    messages = subscriber.messages(len(names))
    assert [message.topic for message in messages] == names
    assert {message.topic_alias for message in messages} <= {None, 1, 2}


@pytest.mark.only("fulcrum")
def test_the_server_saves_bytes_with_aliases_where_it_may(connected, topic):
    """[MQTT5-3.1.2-26]"""
    subscriber, publisher = connected(MQTT_5, given={"topic_alias_maximum": 4}), connected(MQTT_5)
    subscriber.subscribe(topic("#"), qos=1)
    for _ in range(4):
        publisher.publish(topic("a"), b"x", 1)
    assert any(message.alias_only for message in subscriber.messages(4))


# Maximum packet size -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_a_message_too_large_for_the_client_is_dropped(connected, topic, qos):
    """[MQTT5-3.1.2-24] [MQTT5-3.1.2-25]"""
    subscriber, publisher = connected(MQTT_5, given={"maximum_packet_size": 200}), connected(MQTT_5)
    subscriber.subscribe(topic("a"), qos=qos)
    for payload in (b"small", b"x" * 300, b"x" * 100_000, b"also small"):
        publisher.publish(topic("a"), payload, qos)
    messages = subscriber.messages(2)
    assert [message.payload for message in messages] == [b"small", b"also small"]
    assert all(message.size <= 200 for message in messages)
    subscriber.quiet()


@pytest.mark.deviates("mosquitto", "2.0.11 forgets the byte of the property length")
def test_a_message_of_exactly_the_maximum_arrives(connected, topic):
    """[MQTT5-3.1.2-24] [MQTT5-3.1.2-25]"""
    publisher = connected(MQTT_5)
    size = len(wire.publish(MQTT_5, topic("a"), b"x" * 50))
    exact = connected(MQTT_5, given={"maximum_packet_size": size})
    less = connected(MQTT_5, given={"maximum_packet_size": size - 1})
    for subscriber in (exact, less):
        subscriber.subscribe(topic("a"))
    publisher.publish(topic("a"), b"x" * 50)
    assert exact.message().size == size
    less.quiet()


@pytest.mark.deviates("mosquitto", "2.0.11 keeps the window occupied")
def test_dropping_what_is_too_large_leaves_the_window_free(connected, topic):
    """As if it had been delivered. [MQTT5-3.1.2-25]"""
    given = {"maximum_packet_size": 200, "receive_maximum": 1}
    subscriber, publisher = connected(MQTT_5, given=given), connected(MQTT_5)
    subscriber.subscribe(topic("a"), qos=1)
    for _ in range(5):
        publisher.publish(topic("a"), b"x" * 300, 1)
    publisher.publish(topic("a"), b"small", 1)
    assert subscriber.message().payload == b"small"


def test_a_client_keeps_to_the_servers_maximum(connected, topic):
    """[MQTT5-3.2.2-15]"""
    client = connected(MQTT_5)
    maximum = client.connack.maximum_packet_size
    if maximum is None:
        pytest.skip("this broker names no maximum packet size")
    client.send(wire.packet(wire.PUBLISH, length=wire.varint(maximum)))
    client.refused(0x95)


# Problem information -------------------------------------------------------------------------------------------------


def test_without_problem_information_no_packet_says_more_than_its_code(connected, topic):
    """[MQTT5-3.1.2-29]"""
    client = connected(MQTT_5, given={"request_problem_information": 0})
    packet_id = client.next_id()
    client.send(wire.subscribe(MQTT_5, packet_id, [(topic("a"), 0), (topic("#x"), 0)]))
    answers = [client.receive()]
    if answers[0].kind == wire.SUBACK:
        client.send(wire.unsubscribe(MQTT_5, client.next_id(), [topic("unknown")]))
        answers.append(client.expect(wire.UNSUBACK))
        client.start_publish(topic("nobody"), b"x", 1)
        answers.append(client.expect(wire.PUBACK))
        client.send(wire.ack(MQTT_5, wire.PUBREL, 77))
        answers.append(client.expect(wire.PUBCOMP))
    for answer in answers:
        if answer.kind not in (wire.CONNACK, wire.DISCONNECT):
            assert answer.reason_string is None and answer.user_property is None, answer


def test_answers_fit_a_small_maximum_packet_size(connected, topic):
    """[MQTT5-3.4.2-2] [MQTT5-3.4.2-3] [MQTT5-3.5.2-2] [MQTT5-3.5.2-3] [MQTT5-3.7.2-2] [MQTT5-3.7.2-3] [MQTT5-3.9.2-1]
    [MQTT5-3.9.2-2] [MQTT5-3.11.2-1] [MQTT5-3.11.2-2] [MQTT5-3.6.2-2] [MQTT5-3.6.2-3] [MQTT5-3.14.2-3] [MQTT5-3.14.2-4]"""
    size = 30
    client = connected(MQTT_5, given={"maximum_packet_size": size})
    seen = [client.connack]
    client.start_publish(topic("nobody"), b"x", 1)
    seen.append(client.expect(wire.PUBACK))
    client.start_publish(topic("nobody"), b"x", 2, packet_id=9)
    seen.append(client.expect(wire.PUBREC))
    client.ack(wire.PUBREL, 9)
    seen.append(client.expect(wire.PUBCOMP))
    client.ack(wire.PUBREL, 99)
    seen.append(client.expect(wire.PUBCOMP))
    client.send(wire.subscribe(MQTT_5, 3, [("$share/g", 0)]))
    answer = client.receive()
    seen.append(answer)
    if answer.kind == wire.SUBACK:
        client.send(wire.unsubscribe(MQTT_5, 4, [topic("unknown")]))
        seen.append(client.expect(wire.UNSUBACK))
        client.ack(wire.PUBREC, 1234)
        seen.append(client.expect(wire.PUBREL))
        client.send(b"\x00\x00")
        seen += client.wait_closed()
    assert all(packet.size <= size for packet in seen), seen
