"""Malformed packets: each ends its connection, for MQTT 5 with the reason where the specification gives one."""

import struct

import pytest
import wire
from wire import MQTT_3, MQTT_5

TOPIC = "conformance/malformed"


def named(kind):
    """A packet type in a test's name."""
    return wire.NAMES[kind]


def two(number):
    return struct.pack(">H", number)


def ended(client, packet, *codes):
    client.send(packet)
    client.refused(*(codes or (0x81, 0x82)))


# Fixed header --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [0, 15])
def test_reserved_packet_types(connected, version, kind):
    """Type 0 is reserved in both versions, 15 in MQTT 3.1.1. [MQTT-4.8.0-1] [MQTT5-4.13.1-1] [MQTT5-3.15.1-1]"""
    for flags in range(16):
        ended(connected(version), wire.packet(kind, b"", flags))


FLAGGED = {
    wire.PUBACK: (0, two(1)), wire.PUBREC: (0, two(1)), wire.PUBREL: (2, two(1)), wire.PUBCOMP: (0, two(1)),
    wire.PINGREQ: (0, b""), wire.DISCONNECT: (0, b""),
}  # fmt: skip


LAX = pytest.mark.deviates("mosquitto", "2.0.11 does not look at the flags of PUBACK, PUBREC, PUBCOMP and PINGREQ")


@pytest.mark.parametrize(
    "kind", [kind if kind in (wire.PUBREL, wire.DISCONNECT) else pytest.param(kind, marks=LAX) for kind in FLAGGED],
    ids=named,
)  # fmt: skip
def test_reserved_flags(connected, version, kind):
    """[MQTT-2.2.2-1] [MQTT-2.2.2-2] [MQTT-3.6.1-1] [MQTT-3.14.1-1] [MQTT5-2.1.3-1] [MQTT5-3.6.1-1] [MQTT5-3.14.1-1]
    [MQTT5-4.13.1-1]"""
    good, body = FLAGGED[kind]
    for flags in set(range(16)) - {good}:
        ended(connected(version), wire.packet(kind, body, flags), 0x81)


@pytest.mark.parametrize("kind", ["SUBSCRIBE", "UNSUBSCRIBE"])
def test_reserved_flags_of_subscribe_and_unsubscribe(connected, version, kind):
    """[MQTT-2.2.2-2] [MQTT-3.8.1-1] [MQTT-3.10.1-1] [MQTT5-2.1.3-1] [MQTT5-3.8.1-1] [MQTT5-3.10.1-1]"""
    for flags in set(range(16)) - {2}:
        if kind == "SUBSCRIBE":
            packet = wire.subscribe(version, 1, [(TOPIC, 0)], flags=flags)
        else:
            packet = wire.unsubscribe(version, 1, [TOPIC], flags=flags)
        ended(connected(version), packet, 0x81)


def test_reserved_flags_of_connect(opened, version):
    """[MQTT-2.2.2-2] [MQTT5-2.1.3-1]"""
    for flags in range(1, 16):
        client = opened(version)
        hello = client.hello()
        client.send(bytes([hello[0] | flags]) + hello[1:])
        client.not_connected(0x81)


@pytest.mark.parametrize("length", [b"\xff\xff\xff\xff\x01", b"\x80\x80\x80\x80\x00", b"\xff" * 10])
@pytest.mark.parametrize("kind", [wire.PUBLISH, wire.PUBACK, wire.PINGREQ, wire.SUBSCRIBE])
def test_a_remaining_length_of_five_bytes(connected, version, kind, length):
    """[MQTT-4.8.0-1] [MQTT5-1.5.5-1] [MQTT5-4.13.1-1]"""
    ended(connected(version), wire.packet(kind, b"", 2 if kind == wire.SUBSCRIBE else 0, length), 0x81)


def test_a_remaining_length_of_five_bytes_in_connect(opened, version):
    """[MQTT-3.1.4-1] [MQTT5-3.1.4-1]"""
    client = opened(version)
    client.send(b"\x10\xff\xff\xff\xff\x7f")
    client.not_connected(0x81)


@pytest.mark.only("fulcrum")
@pytest.mark.parametrize("width", [2, 3, 4])
def test_a_remaining_length_longer_than_needed(connected, width):
    """[MQTT5-1.5.5-1]"""
    ended(connected(MQTT_5), wire.packet(wire.PINGREQ, b"", length=wire.varint(0, width)), 0x81)


@pytest.mark.only("fulcrum")
@pytest.mark.parametrize("width", [2, 3, 4])
def test_a_property_length_longer_than_needed(connected, width):
    """[MQTT5-1.5.5-1] [MQTT5-2.2.2-1]"""
    ended(connected(MQTT_5), wire.publish(MQTT_5, TOPIC, b"x", given=wire.varint(0, width)), 0x81)


KINDS_OF_A_SERVER = [wire.CONNACK, wire.SUBACK, wire.UNSUBACK, wire.PINGRESP]


@pytest.mark.deviates("mosquitto", "2.0.11 takes what a bridge would send")
@pytest.mark.parametrize("kind", KINDS_OF_A_SERVER, ids=named)
def test_packets_only_a_server_sends(connected, version, kind):
    """[MQTT-4.8.0-1] [MQTT5-4.13.1-1]"""
    tail = b"\0" if version == MQTT_5 else b""
    body = {wire.CONNACK: b"\0\0" + tail, wire.SUBACK: two(1) + tail + b"\0", wire.UNSUBACK: two(1) + tail}.get(kind, b"")
    ended(connected(version), wire.packet(kind, body))


# Bodies that are too short or too long -------------------------------------------------------------------------------


def whole(version):
    """One valid packet of each kind a client sends."""
    given = {"user_property": [("a", "b")]} if version == MQTT_5 else None
    packets = {
        "PUBLISH 0": wire.publish(version, TOPIC, b"", given=given),
        "PUBLISH 1": wire.publish(version, TOPIC, b"", qos=1, packet_id=1, given=given),
        "PUBREL": wire.ack(version, wire.PUBREL, 1),
        "PUBACK": wire.ack(version, wire.PUBACK, 1),
        "PUBREC": wire.ack(version, wire.PUBREC, 1),
        "PUBCOMP": wire.ack(version, wire.PUBCOMP, 1),
        "SUBSCRIBE": wire.subscribe(version, 1, [(TOPIC, 0)], given),
        "UNSUBSCRIBE": wire.unsubscribe(version, 1, [TOPIC], given),
    }
    if version == MQTT_5:
        packets["DISCONNECT"] = wire.disconnect(version, 4, given)
        packets["PUBACK long"] = wire.ack(version, wire.PUBACK, 1, 0, given)
        packets["PUBREL long"] = wire.ack(version, wire.PUBREL, 1, 0, given)
    return packets


# Where a packet may be cut and still be whole: shorter forms, and the boundary between filters.
STILL_WHOLE = {"PUBACK long": {2, 3}, "PUBREL long": {2, 3}, "DISCONNECT": {0, 1}}


@pytest.mark.parametrize("name", whole(MQTT_5))
def test_a_truncated_packet(connected, version, name):
    """Each prefix of the body, with a length that fits it. [MQTT-4.8.0-1] [MQTT-3.8.3-3] [MQTT-3.10.3-2] [MQTT5-4.13.1-1]
    [MQTT5-2.2.2-1]"""
    if name not in whole(version):
        pytest.skip("MQTT 3.1.1 has no such packet")
    packet = whole(version)[name]
    body = packet[2:]
    for cut in range(len(body)):
        if name.startswith("PUBLISH") and cut >= 2 + len(TOPIC) + (2 if "1" in name else 0) and version == MQTT_3:
            continue
        if cut in STILL_WHOLE.get(name, ()):
            continue
        ended(connected(version), packet[:1] + bytes([cut]) + body[:cut])


@pytest.mark.deviates("mosquitto", "2.0.11 does not look behind them")
@pytest.mark.parametrize("name", ["PUBREL", "PUBACK", "PUBREC", "PUBCOMP"])
def test_bytes_behind_an_acknowledgement(connected, version, name):
    """[MQTT-4.8.0-1] [MQTT5-4.13.1-1]"""
    body = whole(version)[name][2:] + (b"\0\0x" if version == MQTT_5 else b"x")
    kind = wire.NAMES.index(name)
    ended(connected(version), wire.packet(kind, body, 2 if name == "PUBREL" else 0))


@pytest.mark.parametrize("name", ["SUBSCRIBE", "UNSUBSCRIBE"])
def test_bytes_behind_the_last_filter(connected, version, name):
    """[MQTT-4.8.0-1] [MQTT5-4.13.1-1]"""
    body = whole(version)[name][2:] + b"\0"
    ended(connected(version), wire.packet(wire.NAMES.index(name), body, 2))


@pytest.mark.deviates("mosquitto", "2.0.11 does not look at the body of PINGREQ")
def test_bytes_behind_a_ping(connected, version):
    """[MQTT-4.8.0-1] [MQTT5-4.13.1-1]"""
    ended(connected(version), wire.packet(wire.PINGREQ, b"x"))


def test_bytes_behind_disconnect(connected):
    """[MQTT5-4.13.1-1]"""
    ended(connected(MQTT_5), wire.packet(wire.DISCONNECT, b"\x04\0x"))


def test_a_filter_without_options(connected, version):
    """[MQTT-3.8.3-3] [MQTT5-3.8.3-2]"""
    properties = b"\0" if version == MQTT_5 else b""
    ended(connected(version), wire.packet(wire.SUBSCRIBE, two(1) + properties + wire.field(TOPIC), 2))


def test_a_topic_longer_than_its_packet(connected, version):
    """[MQTT-4.8.0-1] [MQTT-3.3.2-1] [MQTT5-3.3.2-1]"""
    ended(connected(version), wire.packet(wire.PUBLISH, two(1000) + b"short"))


# Packet identifiers and codes ----------------------------------------------------------------------------------------


@pytest.mark.only("fulcrum")
@pytest.mark.parametrize("kind", [wire.PUBACK, wire.PUBREC, wire.PUBREL, wire.PUBCOMP], ids=named)
def test_acknowledgements_of_packet_identifier_0(connected, version, kind):
    """[MQTT-2.3.1-1] [MQTT-4.8.0-1] [MQTT5-2.2.1-3]"""
    ended(connected(version), wire.ack(version, kind, 0))


@pytest.mark.deviates("mosquitto", "2.0.11 takes any code below 0x80, or above")
@pytest.mark.parametrize("kind", [wire.PUBACK, wire.PUBREC, wire.PUBREL, wire.PUBCOMP], ids=named)
def test_acknowledgements_with_a_code_that_is_not_of_their_table(connected, kind):
    """[MQTT5-3.4.2-1] [MQTT5-3.5.2-1] [MQTT5-3.6.2-1] [MQTT5-3.7.2-1]"""
    for code in (0x01, 0x11, 0x7F, 0x81, 0xFF):
        ended(connected(MQTT_5), wire.ack(MQTT_5, kind, 1, code))


@pytest.mark.deviates("mosquitto", "2.0.11 takes any code")
@pytest.mark.parametrize("kind", [wire.PUBREL, wire.PUBCOMP], ids=named)
def test_codes_of_puback_are_not_those_of_pubrel(connected, kind):
    """[MQTT5-3.6.2-1] [MQTT5-3.7.2-1]"""
    ended(connected(MQTT_5), wire.ack(MQTT_5, kind, 1, 0x10))


# Properties ----------------------------------------------------------------------------------------------------------

VALUES = {
    "payload_format": 1, "message_expiry": 9, "content_type": "x", "response_topic": "x", "correlation_data": b"x",
    "subscription_identifier": 1, "session_expiry": 9, "assigned_client_identifier": "x", "server_keep_alive": 9,
    "authentication_method": "x", "authentication_data": b"x", "request_problem_information": 1, "will_delay": 9,
    "request_response_information": 1, "response_information": "x", "server_reference": "x", "reason_string": "x",
    "receive_maximum": 9, "topic_alias_maximum": 9, "topic_alias": 1, "maximum_qos": 1, "retain_available": 1,
    "user_property": ("x", "y"), "maximum_packet_size": 999, "wildcard_subscription_available": 1,
    "subscription_identifier_available": 1, "shared_subscription_available": 1,
}  # fmt: skip
OF_CLIENTS = {
    wire.PUBLISH: {"payload_format", "message_expiry", "content_type", "response_topic", "correlation_data", "topic_alias"},
    wire.SUBSCRIBE: {"subscription_identifier"}, wire.UNSUBSCRIBE: set(),
    wire.PUBACK: {"reason_string"}, wire.PUBREC: {"reason_string"}, wire.PUBREL: {"reason_string"},
    wire.PUBCOMP: {"reason_string"}, wire.DISCONNECT: {"session_expiry", "reason_string"},
    wire.CONNECT: {"session_expiry", "receive_maximum", "maximum_packet_size", "topic_alias_maximum",
                   "request_response_information", "request_problem_information", "authentication_method",
                   "authentication_data"},
}  # fmt: skip


def with_properties(client, kind, given):
    """A packet of `kind` that is valid but for its properties."""
    return {
        wire.CONNECT: lambda: client.hello(given=given),
        wire.PUBLISH: lambda: wire.publish(MQTT_5, TOPIC, b"x", given=given),
        wire.SUBSCRIBE: lambda: wire.subscribe(MQTT_5, 1, [(TOPIC, 0)], given),
        wire.UNSUBSCRIBE: lambda: wire.unsubscribe(MQTT_5, 1, [TOPIC], given),
        wire.DISCONNECT: lambda: wire.disconnect(MQTT_5, 0x04, given),
    }.get(kind, lambda: wire.ack(MQTT_5, kind, 1, 0, given))()


def refused_for(opened, kind, given):
    client = opened(MQTT_5)
    if kind == wire.CONNECT:
        client.send(with_properties(client, kind, given))
        client.not_connected(0x81, 0x82)
    else:
        client.connect()
        ended(client, with_properties(client, kind, given))


TAKEN = pytest.mark.deviates("mosquitto", "2.0.11 takes a subscription identifier in PUBLISH")


@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=TAKEN) if kind == wire.PUBLISH else kind for kind in OF_CLIENTS],
    ids=named,
)  # fmt: skip
def test_properties_in_the_wrong_packet(opened, kind):
    """[MQTT5-4.13.1-1] [MQTT5-3.3.4-6] [MQTT5-3.1.4-1]"""
    for name, value in VALUES.items():
        # A server reference is a property of DISCONNECT; that only servers use it is said nowhere.
        harmless = {"user_property"} | ({"server_reference"} if kind == wire.DISCONNECT else set())
        if name not in OF_CLIENTS[kind] | harmless:
            refused_for(opened, kind, [(name, value)])


@pytest.mark.parametrize("kind", OF_CLIENTS, ids=named)
def test_properties_that_come_twice(opened, kind):
    """[MQTT5-4.13.1-1]"""
    for name in sorted(OF_CLIENTS[kind]):
        refused_for(opened, kind, [(name, VALUES[name])] * 2)


@pytest.mark.parametrize("kind", OF_CLIENTS, ids=named)
def test_unknown_properties(opened, kind):
    """[MQTT5-4.13.1-1]"""
    for number in (0x00, 0x04, 0x0A, 0x2B, 0x7F, 0xFF):
        refused_for(opened, kind, [(number, b"\0")])


@pytest.mark.parametrize("kind", OF_CLIENTS, ids=named)
@pytest.mark.parametrize(
    "given",
    [
        pytest.param(b"\x7f\x26\0\1a\0\1b", id="length beyond the packet"),
        pytest.param(b"\xff\xff\xff\xff\x7f", id="length of five bytes"),
        pytest.param(b"\x06\x26\0\1a\0\1b", id="length within a property"),
        pytest.param(b"\x01\x26", id="property without a value"),
        pytest.param(b"\x04\x26\0\1a", id="pair without its second string"),
        pytest.param(b"\x07\x26\0\1\xff\0\1b", id="key that is not UTF-8"),
        pytest.param(b"\x07\x26\0\1a\0\1\xff", id="value that is not UTF-8"),
        pytest.param(b"\x07\x26\0\1\0\0\1b", id="key with U+0000"),
    ],
)
def test_broken_properties(opened, kind, given):
    """[MQTT5-4.13.1-1] [MQTT5-2.2.2-1] [MQTT5-1.5.7-1] [MQTT5-1.5.4-1] [MQTT5-1.5.4-2]"""
    refused_for(opened, kind, given)


@pytest.mark.deviates("mosquitto", "2.0.11 takes any payload format")
@pytest.mark.parametrize("value", [2, 0xFF])
def test_a_payload_format_that_is_none(connected, value):
    """[MQTT5-4.13.1-1]"""
    ended(connected(MQTT_5), wire.publish(MQTT_5, TOPIC, b"x", given={"payload_format": value}))


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(b"\x80\x80\x80\x80\x01", id="five bytes"),
        pytest.param(b"\x80\x00", id="longer than needed", marks=pytest.mark.only("fulcrum")),
    ],
)
def test_a_subscription_identifier_that_is_no_number(connected, value):
    """[MQTT5-1.5.5-1]"""
    ended(connected(MQTT_5), wire.subscribe(MQTT_5, 1, [(TOPIC, 0)], [(0x0B, value)]))


# One bad client among good ones --------------------------------------------------------------------------------------


def test_neighbours_notice_nothing(connected, version, topic):
    """[MQTT-4.8.0-1] [MQTT5-4.13.2-1]"""
    subscriber, publisher = connected(version), connected(version)
    subscriber.subscribe(topic("a"), qos=1)
    for number, bad in enumerate([b"\x00\x00", b"\x30\xff\xff\xff\xff\x01", b"\xf1\x00", b"\x32\x02\x00\x00", b"\x10\x00"]):
        ended(connected(version), bad)
        publisher.publish(topic("a"), str(number), 1)
        assert subscriber.message().payload == str(number).encode()


def test_what_came_before_the_malformed_packet_counts(connected, version, topic):
    """[MQTT-4.8.0-1] [MQTT5-4.13.1-1]"""
    subscriber, client = connected(version), connected(version)
    subscriber.subscribe(topic("#"), qos=1)
    client.send(wire.publish(version, topic("before"), b"x"), b"\x00\x00", wire.publish(version, topic("behind"), b"x"))
    client.wait_closed()
    assert subscriber.message().topic == topic("before")
    subscriber.quiet()
