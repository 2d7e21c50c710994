"""Acknowledgements of QoS 1 and 2 in both directions, broken connections in their midst, and flow control."""

import pytest
import wire
from wire import MQTT_3, MQTT_5

# From the client to the server ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("packet_id", [1, 255, 256, 65535])
def test_acknowledgements_repeat_the_packet_identifier(connected, version, topic, packet_id):
    """[MQTT-2.3.1-6] [MQTT-4.3.2-2] [MQTT-4.3.3-2] [MQTT-3.3.4-1] [MQTT5-2.2.1-5] [MQTT5-4.3.2-4] [MQTT5-4.3.3-8]
    [MQTT5-4.3.3-11] [MQTT5-3.3.4-1]"""
    client = connected(version)
    client.publish(topic("a"), b"x", 1, packet_id=packet_id)
    client.publish(topic("a"), b"x", 2, packet_id=packet_id)


def test_after_puback_the_identifier_means_a_new_message(connected, version, topic):
    """[MQTT-4.3.2-2] [MQTT5-4.3.2-5]"""
    subscriber, publisher = connected(version), connected(version)
    subscriber.subscribe(topic("a"), qos=1)
    for number, dup in enumerate([False, True, True]):
        publisher.publish(topic("a"), str(number), 1, packet_id=5, dup=dup)
    assert [message.payload for message in subscriber.messages(3)] == [b"0", b"1", b"2"]


@pytest.mark.deviates("mosquitto", "2.0.11 closes at the second repetition")
def test_a_repeated_qos_2_publish_is_delivered_once(connected, version, topic):
    """[MQTT-4.3.3-2] [MQTT5-4.3.3-10]"""
    subscriber, publisher = connected(version), connected(version)
    subscriber.subscribe(topic("a"), qos=2)
    for dup in (False, True, True):
        publisher.start_publish(topic("a"), b"once", 2, packet_id=7, dup=dup)
        assert publisher.expect(wire.PUBREC).packet_id == 7
    publisher.ack(wire.PUBREL, 7)
    assert publisher.expect(wire.PUBCOMP).packet_id == 7
    assert subscriber.message().payload == b"once"
    subscriber.quiet()


@pytest.mark.deviates("mosquitto", "2.0.11 answers 0x00", version=wire.MQTT_5)
def test_a_repeated_pubrel_gets_pubcomp_again(connected, version, topic):
    """[MQTT-4.3.3-2] [MQTT5-4.3.3-11]"""
    subscriber, publisher = connected(version), connected(version)
    subscriber.subscribe(topic("a"), qos=2)
    publisher.publish(topic("a"), b"once", 2, packet_id=7)
    publisher.ack(wire.PUBREL, 7)
    again = publisher.expect(wire.PUBCOMP)
    assert (again.packet_id, again.code) == (7, 0x92 if version == MQTT_5 else 0)
    subscriber.message()
    subscriber.quiet()


def test_after_pubcomp_the_identifier_means_a_new_message(connected, version, topic):
    """[MQTT-4.3.3-2] [MQTT5-4.3.3-12]"""
    subscriber, publisher = connected(version), connected(version)
    subscriber.subscribe(topic("a"), qos=2)
    for number, dup in enumerate([False, True]):
        publisher.publish(topic("a"), str(number), 2, packet_id=7, dup=dup)
    assert [message.payload for message in subscriber.messages(2)] == [b"0", b"1"]


@pytest.mark.deviates("mosquitto", "2.0.11 answers 0x00", version=wire.MQTT_5)
def test_pubrel_of_an_unknown_identifier_is_answered(connected, version):
    """[MQTT5-3.7.2-1] [MQTT-4.3.3-2]"""
    client = connected(version)
    client.ack(wire.PUBREL, 4242)
    answer = client.expect(wire.PUBCOMP)
    assert (answer.packet_id, answer.code) == (4242, 0x92 if version == MQTT_5 else 0)


def test_flows_may_be_interleaved(connected, version, topic):
    """[MQTT-4.3.3-2] [MQTT5-4.3.3-10]"""
    subscriber, publisher = connected(version), connected(version)
    subscriber.subscribe(topic("a"), qos=2)
    for packet_id in (1, 2, 3):
        publisher.start_publish(topic("a"), str(packet_id), 2, packet_id=packet_id)
    assert [publisher.expect(wire.PUBREC).packet_id for _ in range(3)] == [1, 2, 3]
    for packet_id in (2, 3, 1):
        publisher.ack(wire.PUBREL, packet_id)
    assert [publisher.expect(wire.PUBCOMP).packet_id for _ in range(3)] == [2, 3, 1]
    assert sorted(message.payload for message in subscriber.messages(3)) == [b"1", b"2", b"3"]


def test_qos_2_goes_on_with_a_resumed_session(connected, kept, version, topic):
    """PUBREC was lost with the connection; the client repeats the PUBLISH. [MQTT-4.3.3-2] [MQTT-4.4.0-1] [MQTT5-4.3.3-10]"""
    subscriber = connected(version)
    subscriber.subscribe(topic("a"), qos=2)
    first = kept(version)
    first.start_publish(topic("a"), b"once", 2, packet_id=9)
    first.expect(wire.PUBREC)
    first.drop()
    second = kept(version, first.client_id)
    assert second.connack.session_present
    second.start_publish(topic("a"), b"once", 2, packet_id=9, dup=True)
    assert second.expect(wire.PUBREC).packet_id == 9
    second.ack(wire.PUBREL, 9)
    second.expect(wire.PUBCOMP)
    assert subscriber.message().payload == b"once"
    subscriber.quiet()


def test_a_clean_session_forgets_received_identifiers(connected, kept, version, topic):
    """[MQTT-3.1.2-6] [MQTT5-3.1.2-4] [MQTT5-4.3.3-12]"""
    subscriber = connected(version)
    subscriber.subscribe(topic("a"), qos=2)
    first = kept(version)
    first.start_publish(topic("a"), b"one", 2, packet_id=9)
    first.expect(wire.PUBREC)
    first.drop()
    second = kept(version, first.client_id, clean=True)
    second.publish(topic("a"), b"two", 2, packet_id=9)
    payloads = {message.payload for message in subscriber.messages(1)}
    # Whether the first is published at PUBLISH or at PUBREL is the server's choice.
    if payloads == {b"one"}:
        payloads = {subscriber.message().payload}
    assert payloads == {b"two"}


def test_an_expired_message_is_still_acknowledged(connected, topic):
    """[MQTT5-4.3.3-13] [MQTT5-4.3.3-7]"""
    client = connected(MQTT_5)
    client.start_publish(topic("a"), b"x", 2, packet_id=3, given={"message_expiry": 1})
    client.expect(wire.PUBREC)
    client.quiet(1.3)
    client.ack(wire.PUBREL, 3)
    assert client.expect(wire.PUBCOMP).code == 0


# From the server to the client ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("qos", [1, 2])
def test_the_servers_packet_identifiers_are_in_use_once(connected, version, topic, qos):
    """[MQTT-2.3.1-4] [MQTT-4.3.2-1] [MQTT-4.3.3-1] [MQTT5-2.2.1-4] [MQTT5-4.3.2-1] [MQTT5-4.3.3-1]"""
    subscriber, publisher = connected(version), connected(version)
    subscriber.subscribe(topic("a"), qos=2)
    for _ in range(10):
        publisher.publish(topic("a"), b"x", qos)
    messages = subscriber.messages(10, ack=False)
    assert len({message.packet_id for message in messages}) == 10
    assert not any(message.dup for message in messages)


def test_pubrel_has_the_identifier_of_its_publish(connected, version, topic):
    """[MQTT-4.3.3-1] [MQTT-3.6.1-1] [MQTT5-4.3.3-4] [MQTT5-3.6.1-1] [MQTT5-3.6.2-1] [MQTT5-4.3.3-2]"""
    subscriber, publisher = connected(version), connected(version)
    subscriber.subscribe(topic("a"), qos=2)
    for _ in range(3):
        publisher.publish(topic("a"), b"x", 2)
    messages = subscriber.messages(3, ack=False)
    for message in messages[::-1]:
        subscriber.ack(wire.PUBREC, message.packet_id)
        assert subscriber.expect(wire.PUBREL).packet_id == message.packet_id
    for message in messages:
        subscriber.ack(wire.PUBCOMP, message.packet_id)
    subscriber.ping()


def test_nothing_is_sent_again_on_the_same_connection(connected, topic):
    """[MQTT5-4.4.0-1]"""
    subscriber, publisher = connected(MQTT_5), connected(MQTT_5)
    subscriber.subscribe(topic("a"), qos=2)
    publisher.publish(topic("a"), b"x", 1)
    publisher.publish(topic("a"), b"x", 2)
    _, second = subscriber.messages(2, ack=False)
    subscriber.ack(wire.PUBREC, second.packet_id)
    subscriber.expect(wire.PUBREL)
    subscriber.quiet(1.5)


@pytest.mark.parametrize("qos", [1, 2])
@pytest.mark.parametrize("way", ["drop", "take over"])
def test_unacknowledged_messages_are_sent_again_with_dup(kept, connected, version, topic, qos, way):
    """[MQTT-4.4.0-1] [MQTT-3.3.1-1] [MQTT-4.3.2-1] [MQTT-4.3.3-1] [MQTT-4.6.0-1] [MQTT5-4.4.0-1] [MQTT5-3.3.1-1]
    [MQTT5-4.3.2-3] [MQTT5-4.3.3-3] [MQTT5-4.3.2-2] [MQTT-4.6.0-6]"""
    first = kept(version)
    first.subscribe(topic("a"), qos=2)
    publisher = connected(version)
    for number in range(4):
        publisher.publish(topic("a"), str(number), qos)
    sent = first.messages(4, ack=False)
    if qos == 1:
        first.ack(wire.PUBACK, sent[0].packet_id)
        sent = sent[1:]
        first.ping()
    if way == "drop":
        first.drop()
    second = kept(version, first.client_id)
    assert second.connack.session_present
    again = second.messages(len(sent), ack=False)
    assert [(m.packet_id, m.payload, m.qos) for m in again] == [(m.packet_id, m.payload, m.qos) for m in sent]
    assert all(message.dup for message in again) and not any(message.dup for message in sent)
    second.quiet()


def test_after_pubrec_only_pubrel_is_sent_again(kept, connected, version, topic):
    """[MQTT-4.4.0-1] [MQTT-4.3.3-1] [MQTT5-4.4.0-1] [MQTT5-4.3.3-5] [MQTT5-4.3.3-6]"""
    first = kept(version)
    first.subscribe(topic("a"), qos=2)
    connected(version).publish(topic("a"), b"x", 2)
    message = first.message(ack=False)
    first.ack(wire.PUBREC, message.packet_id)
    first.expect(wire.PUBREL)
    first.drop()
    for _ in range(2):
        second = kept(version, first.client_id)
        again = second.receive()
        assert (again.kind, again.packet_id) == (wire.PUBREL, message.packet_id)
        second.quiet()
        second.drop()
    third = kept(version, first.client_id)
    third.expect(wire.PUBREL)
    third.ack(wire.PUBCOMP, message.packet_id)
    third.ping()
    third.drop()
    kept(version, first.client_id).quiet()


def test_an_acknowledged_message_is_not_sent_again(kept, connected, version, topic):
    """[MQTT-4.3.2-1] [MQTT5-4.3.2-3]"""
    first = kept(version)
    first.subscribe(topic("a"), qos=2)
    publisher = connected(version)
    publisher.publish(topic("a"), b"x", 1)
    publisher.publish(topic("a"), b"x", 2)
    first.messages(2)
    first.ping()
    first.drop()
    kept(version, first.client_id).quiet()


def test_pubrel_waits_for_nobody(kept, connected, version, topic):
    """Two flows, one before and one after PUBREC, each resumed where it was. [MQTT-4.4.0-1] [MQTT5-4.4.0-1]"""
    first = kept(version)
    first.subscribe(topic("a"), qos=2)
    publisher = connected(version)
    publisher.publish(topic("a"), b"one", 2)
    publisher.publish(topic("a"), b"two", 2)
    one, two = first.messages(2, ack=False)
    first.ack(wire.PUBREC, one.packet_id)
    first.expect(wire.PUBREL)
    first.drop()
    second = kept(version, first.client_id)
    seen = {packet.kind: packet for packet in (second.receive(), second.receive())}
    assert seen[wire.PUBREL].packet_id == one.packet_id
    assert (seen[wire.PUBLISH].packet_id, seen[wire.PUBLISH].dup) == (two.packet_id, True)


@pytest.mark.parametrize("kind", [wire.PUBACK, wire.PUBREC], ids=["PUBACK", "PUBREC"])
def test_a_refused_message_is_not_sent_again(kept, connected, topic, kind):
    """[MQTT5-4.4.0-2] [MQTT5-4.3.3-4]"""
    first = kept(MQTT_5)
    first.subscribe(topic("a"), qos=2)
    connected(MQTT_5).publish(topic("a"), b"x", 1 if kind == wire.PUBACK else 2)
    first.ack(kind, first.message(ack=False).packet_id, 0x83)
    first.quiet()
    first.drop()
    kept(MQTT_5, first.client_id).quiet()


@pytest.mark.parametrize("kind", [wire.PUBACK, wire.PUBCOMP], ids=["PUBACK", "PUBCOMP"])
def test_an_acknowledgement_nobody_waits_for_is_survived(connected, version, kind):
    """[MQTT5-3.4.2-1]"""
    client = connected(version)
    client.ack(kind, 4242)
    client.ping()


@pytest.mark.deviates("mosquitto", "2.0.11 ignores PUBREC of an unknown identifier")
def test_pubrec_of_an_unknown_identifier_gets_pubrel(connected):
    """[MQTT5-3.6.2-1]"""
    client = connected(MQTT_5)
    client.ack(wire.PUBREC, 4242)
    answer = client.expect(wire.PUBREL, timeout=2)
    assert (answer.packet_id, answer.code) == (4242, 0x92)


@pytest.mark.parametrize("code", [None, 0x00, 0x10])
@pytest.mark.parametrize("given", [None, {}, {"reason_string": "why", "user_property": [("a", "b")]}])
def test_acknowledgements_come_in_short_and_long_forms(connected, topic, code, given):
    """[MQTT5-3.4.2-1] [MQTT5-3.5.2-1] [MQTT5-2.2.2-1]"""
    subscriber, publisher = connected(MQTT_5), connected(MQTT_5)
    subscriber.subscribe(topic("a"), qos=2)
    publisher.publish(topic("a"), b"x", 1)
    publisher.publish(topic("a"), b"x", 2)
    one, two = subscriber.messages(2, ack=False)
    subscriber.ack(wire.PUBACK, one.packet_id, code, given)
    subscriber.ack(wire.PUBREC, two.packet_id, code, given)
    assert subscriber.expect(wire.PUBREL).packet_id == two.packet_id
    subscriber.ack(wire.PUBCOMP, two.packet_id, None if code is None else 0, given)
    subscriber.ping()


# Flow control --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("qos", [1, 2])
@pytest.mark.parametrize("maximum", [1, 3])
def test_the_server_keeps_to_the_clients_receive_maximum(connected, topic, qos, maximum):
    """[MQTT5-3.3.4-9] [MQTT5-4.9.0-1] [MQTT5-4.9.0-2] [MQTT5-4.9.0-3] [MQTT5-3.3.4-10]"""
    subscriber, publisher = connected(MQTT_5, given={"receive_maximum": maximum}), connected(MQTT_5)
    subscriber.subscribe(topic("a"), qos=2)
    for number in range(8):
        publisher.publish(topic("a"), str(number), qos)
    seen, open_flows = [], []
    open_flows = subscriber.messages(maximum, ack=False)
    subscriber.quiet()
    # Everything else goes on.
    subscriber.ping()
    assert subscriber.subscribe(topic("other")) == [0]
    while open_flows:
        seen.append(open_flows.pop(0))
        if qos == 1:
            subscriber.ack(wire.PUBACK, seen[-1].packet_id)
        else:
            subscriber.ack(wire.PUBREC, seen[-1].packet_id)
            subscriber.expect(wire.PUBREL)
            if len(seen) == 1:
                subscriber.quiet()
            subscriber.ack(wire.PUBCOMP, seen[-1].packet_id)
        if len(seen) + len(open_flows) < 8:
            open_flows.append(subscriber.message(ack=False))
    assert [message.payload for message in seen] == [str(number).encode() for number in range(8)]


def test_qos_0_needs_no_quota(connected, topic):
    """[MQTT5-4.9.0-2] [MQTT5-3.3.4-10]"""
    subscriber, publisher = connected(MQTT_5, given={"receive_maximum": 1}), connected(MQTT_5)
    subscriber.subscribe(topic("#"), qos=1)
    publisher.publish(topic("a"), b"x", 1)
    held = subscriber.message(ack=False)
    publisher.publish(topic("a"), b"waits", 1)
    publisher.publish(topic("b"), b"passes", 0)
    # The specification leaves open whether QoS 0 passes; afterwards all is there.
    subscriber.ack(wire.PUBACK, held.packet_id)
    assert {message.payload for message in subscriber.messages(2)} == {b"waits", b"passes"}


def test_a_refusal_by_pubrec_gives_the_quota_back(connected, topic):
    """[MQTT5-3.3.4-9] [MQTT5-4.9.0-2]"""
    subscriber, publisher = connected(MQTT_5, given={"receive_maximum": 1}), connected(MQTT_5)
    subscriber.subscribe(topic("a"), qos=2)
    publisher.publish(topic("a"), b"one", 2)
    publisher.publish(topic("a"), b"two", 2)
    subscriber.ack(wire.PUBREC, subscriber.message(ack=False).packet_id, 0x80)
    assert subscriber.message().payload == b"two"


@pytest.mark.deviates("mosquitto", "2.0.11 sends a resumed session all that was under way")
def test_the_quota_is_new_with_each_connection(kept, connected, topic):
    """[MQTT5-4.9.0-1] [MQTT5-4.4.0-1]"""
    first = kept(MQTT_5, given={"receive_maximum": 5})
    first.subscribe(topic("a"), qos=1)
    publisher = connected(MQTT_5)
    for number in range(5):
        publisher.publish(topic("a"), str(number), 1)
    first.messages(5, ack=False)
    first.drop()
    second = kept(MQTT_5, first.client_id, given={"receive_maximum": 2})
    second.messages(2, ack=False)
    second.quiet()


@pytest.mark.deviates("mosquitto", "2.0.11 answers PUBREC 0x97 and goes on")
def test_more_than_the_servers_receive_maximum_ends_the_connection(connected, topic):
    """[MQTT5-3.3.4-7]"""
    client = connected(MQTT_5)
    maximum = client.connack.receive_maximum or 65535
    client.send(*(wire.publish(MQTT_5, topic("a"), b"", qos=2, packet_id=number + 1) for number in range(maximum)))
    if maximum == 65535:
        return
    client.send(wire.publish(MQTT_5, topic("a"), b"", qos=2, packet_id=maximum + 1))
    seen = [packet for packet in client.wait_closed() if packet.kind != wire.PUBREC]
    assert not seen or (seen[0].kind, seen[0].code) == (wire.DISCONNECT, 0x93), seen
    assert seen or not client.broker.explains


def test_a_used_packet_identifier_is_told_apart_from_a_repetition(connected, topic):
    """A new PUBLISH, without DUP, with the identifier of an unfinished QoS 2 flow. [MQTT5-3.5.2-1] [MQTT5-4.3.3-10]"""
    client = connected(MQTT_5)
    client.start_publish(topic("a"), b"x", 2, packet_id=3)
    assert client.expect(wire.PUBREC).code in (0, 0x10)
    client.start_publish(topic("a"), b"x", 2, packet_id=3)
    assert client.expect(wire.PUBREC).code in (0, 0x10, 0x91)


def test_pings_are_answered_while_deliveries_wait(connected, version, topic):
    """[MQTT-3.12.4-1] [MQTT5-3.12.4-1] [MQTT5-4.9.0-3]"""
    subscriber, publisher = connected(version), connected(version)
    subscriber.subscribe(topic("a"), qos=2)
    for _ in range(50):
        publisher.publish(topic("a"), b"x", 1)
    for _ in range(5):
        subscriber.ping()


def test_pipelined_requests_are_all_answered(connected, version, topic):
    """[MQTT-3.8.4-1] [MQTT-3.10.4-4] [MQTT-3.12.4-1] [MQTT5-3.8.4-1] [MQTT5-3.10.4-4] [MQTT5-3.12.4-1]"""
    client = connected(version)
    client.send(*(
        wire.PING + wire.subscribe(version, number, [(topic(str(number)), 1)])
        + wire.unsubscribe(version, number + 100, [topic(str(number))]) for number in range(1, 21)
    ))  # fmt: skip
    kinds = [client.receive().kind for _ in range(60)]
    for kind in (wire.PINGRESP, wire.SUBACK, wire.UNSUBACK):
        assert kinds.count(kind) == 20


def test_mqtt_3_has_a_window_too(connected, topic):
    """The server bounds what is under way, and delivers all in the end. [MQTT-4.6.0-6]"""
    subscriber, publisher = connected(MQTT_3), connected(MQTT_3)
    subscriber.subscribe(topic("a"), qos=1)
    for number in range(100):
        publisher.publish(topic("a"), str(number), 1)
    assert [int(message.payload) for message in subscriber.messages(100)] == list(range(100))


@pytest.mark.only("fulcrum")
def test_a_refused_identifier_means_a_new_message(connected, topic):
    """A topic nobody may publish to is refused by PUBREC. [MQTT5-4.3.3-9] [MQTT5-3.5.2-1]"""
    subscriber, publisher = connected(MQTT_5), connected(MQTT_5)
    subscriber.subscribe(topic("a"), qos=2)
    assert publisher.publish("$SYS/nobody", b"x", 2, packet_id=9) >= 0x80
    assert publisher.publish(topic("a"), b"x", 2, packet_id=9) == 0
    assert subscriber.message().payload == b"x"
