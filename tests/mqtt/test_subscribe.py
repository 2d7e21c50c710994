"""SUBSCRIBE and UNSUBSCRIBE: answers, options, matching, overlapping and shared subscriptions."""

import pytest
import wire
from client import unique
from wire import MQTT_3, MQTT_5


@pytest.mark.parametrize("packet_id", [1, 256, 65535])
def test_answers_repeat_the_packet_identifier(connected, version, topic, packet_id):
    """[MQTT-2.3.1-7] [MQTT-3.8.4-1] [MQTT-3.8.4-2] [MQTT-3.10.4-4] [MQTT5-2.2.1-6] [MQTT5-3.8.4-1] [MQTT5-3.8.4-2]
    [MQTT5-3.10.4-4] [MQTT5-3.10.4-5]"""
    client = connected(version)
    client.send(wire.subscribe(version, packet_id, [(topic("a"), 0)]))
    assert client.expect(wire.SUBACK).packet_id == packet_id
    client.send(wire.unsubscribe(version, packet_id, [topic("a")]))
    assert client.expect(wire.UNSUBACK).packet_id == packet_id


def test_codes_have_the_order_of_the_filters(connected, version, topic):
    """[MQTT-3.8.4-4] [MQTT-3.8.4-5] [MQTT-3.9.3-1] [MQTT-3.9.3-2] [MQTT5-3.8.4-5] [MQTT5-3.8.4-6] [MQTT5-3.8.4-7]
    [MQTT5-3.9.3-1] [MQTT5-3.9.3-2]"""
    client = connected(version)
    wanted = [2, 0, 1, 1, 0, 2]
    pairs = [(topic(str(index)), qos) for index, qos in enumerate(wanted)]
    assert client.subscribe(*pairs) == wanted


def test_each_filter_of_one_subscribe_works(connected, version, topic):
    """[MQTT-3.8.4-4] [MQTT5-3.8.4-5]"""
    subscriber, publisher = connected(version), connected(version)
    subscriber.subscribe((topic("a"), 0), (topic("b/+"), 1), (topic("c/#"), 2))
    for name in ("a", "b/x", "c/y/z"):
        publisher.publish(topic(name), b"x", 2)
    assert [message.qos for message in subscriber.messages(3)] == [0, 1, 2]


def test_an_identical_filter_replaces_the_subscription(connected, version, topic):
    """[MQTT-3.8.4-3] [MQTT5-3.8.4-3]"""
    subscriber, publisher = connected(version), connected(version)
    for qos in (2, 0, 1):
        subscriber.subscribe(topic("a/#"), qos=qos)
        publisher.publish(topic("a/b"), b"x", 2)
        assert subscriber.message().qos == qos
        subscriber.quiet(0.1)


def test_replacing_a_subscription_loses_nothing(connected, version, topic):
    """[MQTT-3.8.4-3] [MQTT5-3.8.4-4]"""
    subscriber, publisher = connected(version), connected(version)
    subscriber.subscribe(topic("a"), qos=1)
    for number in range(30):
        publisher.start_publish(topic("a"), str(number), 1)
        if number % 3 == 0:
            subscriber.send(wire.subscribe(version, number + 1, [(topic("a"), 1)]))
    for _ in range(10):
        subscriber.expect(wire.SUBACK)
    assert [int(message.payload) for message in subscriber.messages(30)] == list(range(30))


def test_unsubscribe_ends_the_subscription(connected, version, topic):
    """[MQTT-3.10.4-1] [MQTT-3.10.4-2] [MQTT5-3.10.4-1] [MQTT5-3.10.4-2] [MQTT5-3.11.3-2]"""
    subscriber, publisher = connected(version), connected(version)
    subscriber.subscribe(topic("a"), topic("b"), qos=1)
    assert subscriber.unsubscribe(topic("a")) == ([0] if version == MQTT_5 else [])
    publisher.publish(topic("a"), b"x", 1)
    publisher.publish(topic("b"), b"x", 1)
    assert subscriber.message().topic == topic("b")
    subscriber.quiet()


def test_unsubscribe_compares_filters_exactly(connected, version, topic):
    """[MQTT-3.10.4-1] [MQTT-3.10.4-5] [MQTT5-3.10.4-1] [MQTT5-3.10.4-5] [MQTT5-3.11.3-2]"""
    subscriber, publisher = connected(version), connected(version)
    subscriber.subscribe(topic("a/+"))
    for other in ("a/b", "a/#", "a/+/", "A/+", "a"):
        assert subscriber.unsubscribe(topic(other)) == ([0x11] if version == MQTT_5 else [])
    publisher.publish(topic("a/b"), b"x")
    subscriber.message()


def test_unsubscribe_of_many_is_answered_once(connected, version, topic):
    """[MQTT-3.10.4-6] [MQTT5-3.10.4-6] [MQTT5-3.11.3-1]"""
    client = connected(version)
    client.subscribe(topic("a"), topic("c"))
    codes = client.unsubscribe(topic("a"), topic("b"), topic("c"))
    assert codes == ([0, 0x11, 0] if version == MQTT_5 else [])
    client.quiet(0.1)


def test_a_delivery_under_way_survives_unsubscribe(connected, version, topic):
    """[MQTT-3.10.4-3] [MQTT5-3.10.4-3]"""
    subscriber, publisher = connected(version), connected(version)
    subscriber.subscribe(topic("a"), qos=2)
    publisher.publish(topic("a"), b"x", 2)
    message = subscriber.message(ack=False)
    subscriber.unsubscribe(topic("a"))
    subscriber.ack(wire.PUBREC, message.packet_id)
    assert subscriber.expect(wire.PUBREL).packet_id == message.packet_id
    subscriber.ack(wire.PUBCOMP, message.packet_id)
    subscriber.ping()


# Requests that are refused -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("request_of", [wire.subscribe, wire.unsubscribe], ids=["SUBSCRIBE", "UNSUBSCRIBE"])
def test_a_request_has_a_filter(connected, version, request_of):
    """[MQTT-3.8.3-3] [MQTT-3.10.3-2] [MQTT5-3.8.3-2] [MQTT5-3.10.3-2]"""
    client = connected(version)
    client.send(request_of(version, 1, []))
    client.refused(0x81, 0x82)


@pytest.mark.parametrize("kind", ["SUBSCRIBE", "UNSUBSCRIBE"])
def test_a_request_has_a_packet_identifier(connected, version, topic, kind):
    """[MQTT-2.3.1-1] [MQTT5-2.2.1-3]"""
    client = connected(version)
    request = wire.subscribe(version, 0, [(topic("a"), 0)])
    client.send(request if kind == "SUBSCRIBE" else wire.unsubscribe(version, 0, [topic("a")]))
    client.refused(0x81, 0x82)


RESERVED = [3, 0x40, 0x80, 0xC0, 0x30]


@pytest.mark.parametrize("byte", RESERVED)
def test_reserved_subscription_options_are_refused(connected, version, topic, byte):
    """QoS 3, retain handling 3, reserved bits. [MQTT-3.8.3-4] [MQTT5-3.8.3-5]"""
    client = connected(version)
    client.subscribe((topic("fine"), 0))
    client.send(wire.subscribe(version, 1, [(topic("a"), 0), (topic("b"), byte)]))
    client.refused(0x81, 0x82)


@pytest.mark.parametrize("byte", [0x04, 0x08, 0x10, 0x20])
def test_options_of_mqtt_5_are_reserved_bits_of_mqtt_3(connected, topic, byte):
    """[MQTT-3.8.3-4]"""
    client = connected(MQTT_3)
    client.send(wire.subscribe(MQTT_3, 1, [(topic("a"), byte)]))
    client.refused()


BAD_FILTERS = ["", "a#", "a/#/b", "#/", "a/b#", "##", "a+", "+a", "a/+b", "a/b+/c", "++"]


@pytest.mark.parametrize("name", BAD_FILTERS)
def test_a_misplaced_wildcard_is_refused(connected, version, name):
    """By the code for that filter, or by ending the connection. [MQTT-4.7.1-2] [MQTT-4.7.1-3] [MQTT-4.7.3-1] [MQTT5-4.7.1-1]
    [MQTT5-4.7.1-2] [MQTT5-4.7.3-1]"""
    client = connected(version)
    client.send(wire.subscribe(version, 1, [(name, 0)]))
    try:
        answer = client.expect(wire.SUBACK)
    except AssertionError:
        pass
    else:
        assert answer.codes[0] in ((0x80,) if version == MQTT_3 else (0x80, 0x8F)), answer
        return
    client = connected(version)
    client.send(wire.subscribe(version, 1, [(name, 0)]))
    client.refused(0x81, 0x82, 0x8F)


@pytest.mark.parametrize("name", [b"\xff", b"a\0b", b"\xed\xa0\x80", b"\xf8\x88\x80\x80\x80", b"\xc1\xbf"])
@pytest.mark.parametrize("kind", ["SUBSCRIBE", "UNSUBSCRIBE", "PUBLISH"])
def test_filters_and_topic_names_are_utf_8(connected, version, kind, name):
    """[MQTT-1.5.3-1] [MQTT-1.5.3-2] [MQTT-3.8.3-1] [MQTT-3.10.3-1] [MQTT-3.3.2-1] [MQTT-4.7.3-2] [MQTT5-1.5.4-1]
    [MQTT5-1.5.4-2] [MQTT5-3.8.3-1] [MQTT5-3.10.3-1] [MQTT5-3.3.2-1] [MQTT5-4.7.3-2]"""
    client = connected(version)
    client.send({
        "SUBSCRIBE": lambda: wire.subscribe(version, 1, [(name, 0)]),
        "UNSUBSCRIBE": lambda: wire.unsubscribe(version, 1, [name]),
        "PUBLISH": lambda: wire.publish(version, name, b"x"),
    }[kind]())  # fmt: skip
    client.refused(0x81, 0x82, 0x90, 0x8F)


# Matching ------------------------------------------------------------------------------------------------------------

# Filter, what it matches, what not; each below a level of its own.
MATCHING = [
    ("a", ["a"], ["A", "a/", "/a", "aa", "a/b"]),
    ("a/b", ["a/b"], ["a", "a/b/", "a//b"]),
    ("+", ["a", ""], ["a/b", "/", "/a"]),
    ("+/+", ["a/b", "/", "/b", "a/"], ["a", "a/b/c"]),
    ("/+", ["/a", "/"], ["a", "a/b"]),
    ("a/+", ["a/b", "a/"], ["a", "a/b/c"]),
    ("a/+/c", ["a/b/c", "a//c"], ["a/c", "a/b/b/c"]),
    ("+/b/#", ["a/b", "a/b/", "/b/c/d"], ["b", "a/c/b"]),
    ("#", ["a", "a/b/c", "/", ""], []),
    ("a/#", ["a", "a/", "a/b", "a/b/c"], ["b", "ab", "/a"]),
    ("a//b", ["a//b"], ["a/b"]),
    ("+/#", ["a", "a/b", "/"], []),
    ("caf\u00e9", ["caf\u00e9"], ["cafe\u0301", "CAF\u00c9", "cafe"]),
    ("\ufeffa", ["\ufeffa"], ["a"]),
    ("sp ace/+", ["sp ace/x"], ["space/x"]),
    ("a/\U0001f980/#", ["a/\U0001f980", "a/\U0001f980/b"], ["a"]),
]


@pytest.mark.parametrize("name, good, bad", MATCHING, ids=[row[0].encode("unicode_escape").decode() for row in MATCHING])
def test_matching(connected, version, topic, name, good, bad):
    """[MQTT-4.7.1-2] [MQTT-4.7.1-3] [MQTT-4.7.3-4] [MQTT-1.5.3-3] [MQTT5-4.7.1-1] [MQTT5-4.7.1-2] [MQTT5-4.7.3-4]
    [MQTT5-1.5.4-3]"""
    subscriber, publisher = connected(version), connected(version)
    subscriber.subscribe(topic(name))
    for each in bad + good:
        publisher.publish(topic(each), b"x")
    assert [message.topic for message in subscriber.messages(len(good))] == [topic(each) for each in good]
    subscriber.quiet()


@pytest.mark.parametrize("name", ["+/{rest}", "#", "+/#"])
def test_wildcards_do_not_match_topics_that_begin_with_dollar(connected, version, name):
    """[MQTT-4.7.2-1] [MQTT5-4.7.2-1]"""
    subscriber, publisher = connected(version), connected(version)
    rest = unique()
    try:
        subscriber.subscribe(name.format(rest=rest))
        # A server may refuse to carry such a topic at all.
        publisher.start_publish(f"$private/{rest}", b"x")
        publisher.ping()
    except AssertionError:
        return
    deadline = 20
    while deadline:
        deadline -= 1
        try:
            packet = subscriber.receive(0.3)
        except AssertionError:
            return
        assert not packet.topic.startswith("$"), packet


def test_dollar_is_special_at_the_beginning_alone(connected, version, topic):
    """[MQTT-4.7.2-1] [MQTT5-4.7.2-1]"""
    subscriber, publisher = connected(version), connected(version)
    subscriber.subscribe(topic("+"))
    publisher.publish(topic("$a"), b"x")
    assert subscriber.message().topic == topic("$a")


@pytest.mark.only("fulcrum")
@pytest.mark.parametrize("name", ["$SYS/#", "$SYS/broker/version", "$share/g/$SYS/#"])
def test_what_begins_with_sys_is_not_told_to_tenants(connected, version, name):
    """[MQTT-4.7.2-1] [MQTT5-4.7.2-1]"""
    client = connected(version)
    client.send(wire.subscribe(version, 1, [(name, 0)]))
    try:
        codes = client.expect(wire.SUBACK).codes
    except AssertionError:
        return
    assert codes[0] >= 0x80 or not any_message(client)


def any_message(client):
    try:
        return client.message(timeout=1)
    except AssertionError:
        return None


# Overlapping subscriptions -------------------------------------------------------------------------------------------


@pytest.mark.deviates("mosquitto", "2.0.11 takes the first subscription found for MQTT 3.1.1", version=wire.MQTT_3)
def test_overlapping_subscriptions_are_served_with_the_highest_qos(connected, version, topic):
    """One copy or one for each subscription, the server may choose. [MQTT-3.3.5-1] [MQTT5-3.3.4-2]"""
    subscriber, publisher = connected(version), connected(version)
    subscriber.subscribe((topic("a"), 0), (topic("+"), 2), (topic("#"), 1))
    publisher.publish(topic("a"), b"x", 2)
    publisher.publish(topic("b/end"), b"end", 0)
    seen = []
    while not seen or seen[-1].payload != b"end":
        seen.append(subscriber.message())
    assert len(seen) - 1 in (1, 3)
    assert max(message.qos for message in seen) == 2


def test_subscription_identifiers_come_with_the_message(connected, topic):
    """[MQTT5-3.3.4-3] [MQTT5-3.3.4-4] [MQTT5-3.3.4-5]"""
    subscriber, publisher = connected(MQTT_5), connected(MQTT_5)
    for name, number in (("a", 1), ("+", 268_435_455), ("#", 300)):
        subscriber.subscribe(topic(name), given={"subscription_identifier": number})
    subscriber.subscribe(topic("+/#"))
    publisher.publish(topic("a"), b"x")
    publisher.publish(topic("b/c"), b"end")
    copies, ends = [], []
    while not ends:
        message = subscriber.message()
        (ends if message.payload == b"end" else copies).append(message)
    identifiers = [sorted(copy.subscription_identifier or []) for copy in copies]
    assert identifiers == [[1, 300, 268_435_455]] or sorted(identifiers) == [[], [1], [300], [268_435_455]]


def test_a_replaced_subscription_has_its_new_identifier(connected, topic):
    """[MQTT5-3.8.4-3] [MQTT5-3.3.4-3]"""
    subscriber, publisher = connected(MQTT_5), connected(MQTT_5)
    for number in (7, 8, None):
        subscriber.subscribe(topic("a"), given={"subscription_identifier": number} if number else None)
        publisher.publish(topic("a"), b"x")
        assert subscriber.message().subscription_identifier == ([number] if number else None)


def test_a_subscription_identifier_is_kept_with_the_session(kept, connected, topic):
    """[MQTT5-3.3.4-3] [MQTT5-3.1.2-23]"""
    first = kept(MQTT_5)
    first.subscribe(topic("a"), qos=1, given={"subscription_identifier": 9})
    first.disconnect()
    publisher = connected(MQTT_5)
    publisher.publish(topic("a"), b"x", 1)
    second = kept(MQTT_5, first.client_id)
    assert second.message().subscription_identifier == [9]
    publisher.publish(topic("a"), b"x", 1)
    assert second.message().subscription_identifier == [9]


def test_a_subscription_identifier_comes_with_retained_messages(connected, topic):
    """[MQTT5-3.3.4-3]"""
    connected(MQTT_5).publish(topic("a"), b"x", 1, retain=True)
    subscriber = connected(MQTT_5)
    subscriber.subscribe(topic("#"), given={"subscription_identifier": 5})
    assert subscriber.message().subscription_identifier == [5]


@pytest.mark.parametrize(
    "given", [[("subscription_identifier", 0)], [("subscription_identifier", 1)] * 2], ids=["0", "two"]
)
def test_subscribe_has_one_identifier_that_is_not_0(connected, topic, given):
    """[MQTT5-4.13.1-1]"""
    client = connected(MQTT_5)
    client.send(wire.subscribe(MQTT_5, 1, [(topic("a"), 0)], given))
    client.refused(0x81, 0x82)


# Options of MQTT 5 ---------------------------------------------------------------------------------------------------


def test_no_local_keeps_own_messages_away(connected, topic):
    """[MQTT5-3.8.3-3]"""
    client, other = connected(MQTT_5), connected(MQTT_5)
    client.subscribe(topic("a"), qos=1, no_local=True)
    client.publish(topic("a"), b"own", 1)
    other.publish(topic("a"), b"other", 1)
    assert client.message().payload == b"other"
    client.quiet()


def test_no_local_goes_by_the_client_identifier(kept, topic):
    """Also when the publisher was an earlier connection. [MQTT5-3.8.3-3]"""
    first = kept(MQTT_5)
    first.subscribe(topic("a"), qos=1, no_local=True)
    first.disconnect()
    second = kept(MQTT_5, first.client_id)
    second.publish(topic("a"), b"own", 1)
    second.quiet()


def test_no_local_is_each_subscriptions_own(connected, topic):
    """[MQTT5-3.8.3-3]"""
    client = connected(MQTT_5)
    client.subscribe((topic("a"), wire.options(no_local=True)), (topic("b"), 0))
    client.publish(topic("a"), b"x")
    client.publish(topic("b"), b"x")
    assert client.message().topic == topic("b")
    client.quiet()


@pytest.mark.parametrize("set_flag", [False, True])
def test_retain_as_published(connected, topic, set_flag):
    """[MQTT5-3.3.1-12] [MQTT5-3.3.1-13]"""
    subscriber, publisher = connected(MQTT_5), connected(MQTT_5)
    subscriber.subscribe(topic("a"), retain_as_published=set_flag)
    publisher.publish(topic("a"), b"1", retain=True)
    publisher.publish(topic("a"), b"2")
    assert [message.retain for message in subscriber.messages(2)] == [set_flag, False]


# Shared subscriptions ------------------------------------------------------------------------------------------------


def shared(topic, rest, group="g"):
    return f"$share/{group}/{topic(rest)}"


def test_a_shared_message_goes_to_one_of_the_group(connected, topic):
    """[MQTT5-4.8.2-1] [MQTT5-4.8.2-3]"""
    members, publisher = [connected(MQTT_5) for _ in range(3)], connected(MQTT_5)
    for member in members:
        assert member.subscribe(shared(topic, "a"), qos=1) == [1]
    for number in range(30):
        publisher.publish(topic("a"), str(number), 1)
    got = [drain(member) for member in members]
    assert sorted(int(payload) for part in got for payload in part) == list(range(30))


@pytest.mark.only("fulcrum", "mosquitto")
def test_shared_messages_are_spread(connected, topic):
    """[MQTT5-4.8.2-1]"""
    members, publisher = [connected(MQTT_5) for _ in range(3)], connected(MQTT_5)
    for member in members:
        member.subscribe(shared(topic, "a"), qos=1)
    for number in range(60):
        publisher.publish(topic("a"), str(number), 1)
    assert all(drain(member) for member in members)


def drain(client):
    payloads = []
    while True:
        try:
            payloads.append(client.message(timeout=0.5).payload)
        except AssertionError:
            return payloads


def test_groups_and_plain_subscriptions_are_apart(connected, topic):
    """[MQTT5-4.8.2-1] [MQTT5-4.8.2-2]"""
    one, two, plain, publisher = (connected(MQTT_5) for _ in range(4))
    one.subscribe(shared(topic, "a", "one"))
    two.subscribe(shared(topic, "+", "two"))
    plain.subscribe(topic("a"))
    publisher.publish(topic("a"), b"x")
    for client in (one, two, plain):
        assert client.message().payload == b"x"
        client.quiet(0.1)


def test_a_shared_subscription_has_its_members_qos(connected, topic):
    """[MQTT5-4.8.2-3]"""
    member, publisher = connected(MQTT_5), connected(MQTT_5)
    member.subscribe(shared(topic, "a"), qos=0)
    publisher.publish(topic("a"), b"x", 2)
    assert member.message().qos == 0
    member.subscribe(shared(topic, "a"), qos=1)
    publisher.publish(topic("a"), b"x", 2)
    assert member.message().qos == 1


@pytest.mark.deviates("mosquitto", "2.0.11 sends them")
def test_a_shared_subscription_gets_no_retained_messages(connected, topic):
    """[MQTT5-4.8.2-1]"""
    connected(MQTT_5).publish(topic("a"), b"x", 1, retain=True)
    member = connected(MQTT_5)
    member.subscribe(shared(topic, "a"), qos=1)
    member.quiet()


def test_a_shared_subscription_can_be_ended(connected, topic):
    """[MQTT5-3.10.4-1] [MQTT5-3.11.3-2]"""
    one, two, publisher = (connected(MQTT_5) for _ in range(3))
    for member in (one, two):
        member.subscribe(shared(topic, "a"))
    assert one.unsubscribe(topic("a")) == [0x11]
    assert one.unsubscribe(shared(topic, "a")) == [0]
    for _ in range(4):
        publisher.publish(topic("a"), b"x")
    assert len(two.messages(4)) == 4
    one.quiet(0.1)


@pytest.mark.deviates("mosquitto", "2.0.11 takes it")
def test_no_local_on_a_shared_subscription_is_a_protocol_error(connected, topic):
    """[MQTT5-3.8.3-4]"""
    client = connected(MQTT_5)
    client.send(wire.subscribe(MQTT_5, 1, [(shared(topic, "a"), wire.options(no_local=True))]))
    client.refused(0x82)


BAD_SHARES = ["$share/", "$share/g", "$share/g/", "$share//a", "$share/g+/a", "$share/#/a", "$share/+/a"]


@pytest.mark.deviates("mosquitto", "2.0.11 takes these share names")
@pytest.mark.parametrize("name", BAD_SHARES)
def test_a_bad_share_name_is_refused(connected, name):
    """[MQTT5-4.8.2-1] [MQTT5-4.8.2-2]"""
    client = connected(MQTT_5)
    client.send(wire.subscribe(MQTT_5, 1, [(name, 0)]))
    answer = client.receive() if not client.ended else None
    if answer.kind == wire.SUBACK:
        assert answer.codes[0] >= 0x80, answer
    else:
        assert answer.kind == wire.DISCONNECT and answer.code in (0x81, 0x82, 0x8F), answer
        assert not client.wait_closed()


def test_a_member_that_leaves_takes_nothing_more(connected, topic):
    """[MQTT5-4.8.2-1]"""
    one, two, publisher = (connected(MQTT_5) for _ in range(3))
    for member in (one, two):
        member.subscribe(shared(topic, "a"), qos=1)
    one.disconnect()
    for number in range(6):
        publisher.publish(topic("a"), str(number), 1)
    assert [message.payload for message in two.messages(6)] == [b"0", b"1", b"2", b"3", b"4", b"5"]


def test_a_begun_shared_qos_2_delivery_stays_with_its_member(kept, connected, topic):
    """[MQTT5-4.8.2-4]"""
    one, publisher = kept(MQTT_5), connected(MQTT_5)
    one.subscribe(shared(topic, "a"), qos=2)
    publisher.publish(topic("a"), b"x", 2)
    begun = one.message(ack=False)
    two = connected(MQTT_5)
    two.subscribe(shared(topic, "a"), qos=2)
    one.drop()
    two.quiet()
    again = kept(MQTT_5, one.client_id).message()
    assert (again.packet_id, again.dup, again.payload) == (begun.packet_id, True, b"x")
    two.quiet(0.1)


def test_a_begun_shared_qos_2_delivery_dies_with_its_session(connected, topic):
    """[MQTT5-4.8.2-5]"""
    one, two, publisher = (connected(MQTT_5) for _ in range(3))
    one.subscribe(shared(topic, "a"), qos=2)
    publisher.publish(topic("a"), b"x", 2)
    one.message(ack=False)
    two.subscribe(shared(topic, "a"), qos=2)
    one.drop()
    two.quiet(0.6)


def test_a_shared_message_that_is_refused_goes_to_nobody_else(connected, topic):
    """[MQTT5-4.8.2-6]"""
    one, two, publisher = (connected(MQTT_5) for _ in range(3))
    for member in (one, two):
        member.subscribe(shared(topic, "a"), qos=1)
    publisher.publish(topic("a"), b"x", 1)
    for member, other in ((one, two), (two, one)):
        try:
            message = member.message(timeout=0.5, ack=False)
        except AssertionError:
            continue
        member.ack(wire.PUBACK, message.packet_id, 0x80)
        other.quiet()
        return
    raise AssertionError("nobody got it")
