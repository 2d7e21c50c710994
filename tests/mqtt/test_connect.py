"""CONNECT and CONNACK: what is accepted, what is refused and how, and what the answer says."""

import socket
import struct
import time

import pytest
import wire
from client import Client, unique
from wire import MQTT_3, MQTT_5, Will

LETTERS = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"


def test_a_connection_is_accepted(connected, version):
    """[MQTT-3.1.4-4] [MQTT-3.2.0-1] [MQTT5-3.1.4-5] [MQTT5-3.2.0-1] [MQTT-7.1.1-1] [MQTT5-4.2-1]"""
    client = connected(version)
    assert (client.connack.code, client.connack.session_present) == (0, False)
    client.ping()


def test_there_is_one_connack(connected, version):
    """[MQTT5-3.2.0-2]"""
    client = connected(version)
    client.ping()
    client.quiet()


def test_what_follows_connect_at_once_is_served(opened, version, topic):
    """A client need not wait for CONNACK. [MQTT-3.2.0-1] [MQTT5-3.2.0-1]"""
    client = opened(version)
    subscribe = wire.subscribe(version, 1, [(topic("a"), 1)])
    client.send(client.hello(), subscribe, wire.publish(version, topic("a"), b"early"), wire.PING)
    first = client.receive()
    assert (first.kind, first.code) == (wire.CONNACK, 0)
    assert client.expect(wire.SUBACK).codes == [1]
    assert client.message().payload == b"early"
    client.expect(wire.PINGRESP)


def test_connect_may_come_byte_by_byte(opened, version):
    """TCP knows no packets. [MQTT-7.1.1-1] [MQTT5-4.2-1]"""
    client = opened(version)
    for byte in client.hello():
        client.send(bytes([byte]))
    assert client.expect(wire.CONNACK).code == 0


def test_something_else_before_connect_ends_the_connection(opened, version, topic):
    """[MQTT-3.1.0-1] [MQTT5-3.1.0-1] [MQTT5-3.14.0-1]"""
    firsts = [
        wire.PING,
        wire.publish(version, topic("a"), b"x"),
        wire.publish(version, topic("a"), b"x", qos=1, packet_id=1),
        wire.subscribe(version, 1, [(topic("a"), 0)]),
        wire.unsubscribe(version, 1, [topic("a")]),
        wire.ack(version, wire.PUBACK, 1),
        wire.ack(version, wire.PUBREL, 1),
        wire.disconnect(version),
        wire.packet(wire.AUTH),
    ]
    for first in firsts:
        client = opened(version)
        client.send(first)
        assert not client.wait_closed()


def test_a_second_connect_ends_the_connection(connected, version):
    """[MQTT-3.1.0-2] [MQTT5-3.1.0-2]"""
    client = connected(version)
    client.send(client.hello())
    client.refused(0x82)


@pytest.mark.deviates("mosquitto", "2.0.11 publishes no will after a second CONNECT")
def test_a_second_connect_publishes_the_will(connected, version, topic):
    """The violation is no orderly end. [MQTT-3.1.2-8] [MQTT5-3.1.2-8]"""
    watcher = connected(version)
    watcher.subscribe(topic("will"))
    client = connected(version, will=Will(topic("will")))
    client.send(client.hello())
    assert watcher.message().payload == b"gone"


@pytest.mark.parametrize("name", ["MQTt", "mqtt", "MQTTX", "", "HTTP", "MQIsdpX"])
def test_another_protocol_name_is_not_served(opened, version, name):
    """[MQTT-3.1.2-1] [MQTT5-3.1.2-1]"""
    client = opened(version)
    client.send(client.hello(name=name))
    seen = client.wait_closed()
    assert all(packet.kind == wire.CONNACK and packet.code in (1, 0x84) for packet in seen), seen


@pytest.mark.parametrize("level", [0, 1, 2, 6, 7, 127, 255])
def test_an_unknown_protocol_level_is_refused(opened, level):
    """[MQTT-3.1.2-2] [MQTT-3.2.2-4] [MQTT-3.2.2-5] [MQTT5-3.1.2-2]"""
    client = opened(MQTT_3)
    client.send(client.hello(level=level))
    # A server that speaks MQTT 5 may answer in its form; either way the code is at the same place.
    head = client.socket.recv(64)
    assert head[:1] == b"\x20" and head[2] == 0 and head[3] in (1, 0x84), head
    assert client.socket.recv(1) == b""


def test_the_reserved_connect_flag_is_checked(opened, version):
    """[MQTT-3.1.2-3] [MQTT5-3.1.2-3] [MQTT-3.1.4-1] [MQTT5-3.1.4-1]"""
    client = opened(version)
    client.send(client.hello(flags=1))
    client.not_connected(0x81, 0x82)


@pytest.mark.parametrize(
    "flags",
    [
        pytest.param(0x08, id="will QoS without will"),
        pytest.param(0x10, id="will QoS 2 without will"),
        pytest.param(0x20, id="will retain without will"),
    ],
)
def test_will_flags_without_a_will_are_refused(opened, version, flags):
    """[MQTT-3.1.2-11] [MQTT-3.1.2-13] [MQTT-3.1.2-15] [MQTT5-3.1.2-11] [MQTT5-3.1.2-13]"""
    client = opened(version)
    client.send(client.hello(flags=flags))
    client.not_connected(0x81, 0x82)


def test_a_will_qos_of_3_is_refused(opened, version, topic):
    """[MQTT-3.1.2-14] [MQTT5-3.1.2-12]"""
    client = opened(version)
    client.send(client.hello(will=Will(topic("will"), qos=3)))
    client.not_connected(0x81, 0x82)


@pytest.mark.parametrize("missing", ["will", "username", "password"])
def test_a_field_that_is_announced_must_be_there(opened, version, missing, topic):
    """[MQTT-3.1.2-9] [MQTT-3.1.2-19] [MQTT-3.1.2-21] [MQTT5-3.1.2-9] [MQTT5-3.1.2-17] [MQTT5-3.1.2-19]"""
    flags = {"will": 0x04, "username": 0x80, "password": 0xC0}[missing]
    client = opened(version)
    username = "name" if missing == "password" else None
    client.send(client.hello(username=username, password=None, flags=flags))
    client.not_connected(0x81, 0x82)


@pytest.mark.parametrize("announced", ["nothing", "user name alone"])
def test_a_field_that_is_not_announced_must_not_be_there(opened, version, announced):
    """[MQTT-3.1.2-18] [MQTT-3.1.2-20] [MQTT-3.1.3-1] [MQTT5-3.1.2-16] [MQTT5-3.1.2-18] [MQTT5-3.1.3-1]"""
    client = opened(version)
    flags = b"\x02" if announced == "nothing" else b"\x82"
    client.send(client.hello(username="name", password="word", flags=flags))
    client.not_connected(0x81, 0x82)


def test_bytes_behind_the_payload_are_refused(opened, version):
    """[MQTT-3.1.4-1] [MQTT-3.1.3-1] [MQTT5-3.1.4-1]"""
    client = opened(version)
    client.send(client.hello(tail=b"\0"))
    client.not_connected(0x81, 0x82)


def test_a_password_without_user_name_is_for_mqtt_5_alone(opened):
    """[MQTT-3.1.2-22]"""
    client = opened(MQTT_3)
    client.send(client.hello(username=None, password="word"))
    client.not_connected()


@pytest.mark.only("fulcrum", "mosquitto")
def test_wrong_credentials_are_refused(opened, version):
    """[MQTT-3.2.2-4] [MQTT-3.2.2-5] [MQTT5-3.1.4-2] [MQTT5-3.2.2-6] [MQTT5-3.2.2-7] [MQTT5-3.2.2-8]"""
    client = opened(version)
    client.send(client.hello(password="guess", clean=False))
    (answer,) = client.wait_closed()
    assert answer.kind == wire.CONNACK and not answer.session_present
    assert answer.code in ((4, 5) if version == MQTT_3 else (0x86, 0x87)), answer


@pytest.mark.only("fulcrum", "mosquitto")
def test_nothing_is_processed_behind_a_refused_connect(opened, connected, version, topic):
    """[MQTT-3.1.4-5] [MQTT5-3.1.4-6] [MQTT5-4.13.2-1]"""
    watcher = connected(version)
    watcher.subscribe(topic("#"))
    client = opened(version)
    client.send(client.hello(password="guess"), wire.publish(version, topic("a"), b"x", retain=True))
    client.wait_closed()
    watcher.quiet()


def test_a_refused_client_leaves_no_will(opened, connected, version, topic):
    """[MQTT-3.1.2-8] [MQTT5-3.1.2-7]"""
    watcher = connected(version)
    watcher.subscribe(topic("#"))
    client = opened(version)
    client.send(client.hello(will=Will(topic("will")), flags=1))
    client.wait_closed()
    watcher.quiet()


# Client identifiers --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("client_id", ["z", LETTERS[:23], LETTERS[23:46], LETTERS[39:]], ids=len)
def test_short_client_identifiers_are_allowed(connected, version, client_id):
    """[MQTT-3.1.3-5] [MQTT5-3.1.3-5]"""
    assert connected(version, client_id).connack.code == 0


def test_longer_client_identifiers_are_allowed(connected, version):
    """Freedom of the server, which this project uses. [MQTT-3.1.3-5] [MQTT5-3.1.3-5]"""
    assert connected(version, unique() + "x" * 100).connack.code == 0


def test_an_empty_client_identifier_is_replaced(connected, version, topic):
    """[MQTT-3.1.3-6] [MQTT5-3.1.3-6] [MQTT5-3.1.3-7] [MQTT5-3.2.2-16]"""
    clients = [connected(version, "") for _ in range(3)]
    for client in clients:
        client.subscribe(topic("a"))
    for client in clients:
        client.ping()
    if version == MQTT_5:
        names = [client.connack.assigned_client_identifier for client in clients]
        assert all(names) and len(set(names)) == 3


def test_an_assigned_client_identifier_is_the_clients_own(connected):
    """[MQTT5-3.1.3-7] [MQTT5-3.1.3-2]"""
    first = connected(MQTT_5, "", given={"session_expiry": 30})
    name = first.connack.assigned_client_identifier
    first.disconnect()
    second = connected(MQTT_5, name, clean=False)
    assert second.connack.session_present
    assert second.connack.assigned_client_identifier is None


def test_an_empty_client_identifier_wants_a_clean_session(opened):
    """[MQTT-3.1.3-7] [MQTT-3.1.3-8] [MQTT-3.2.2-4] [MQTT-3.2.2-5]"""
    client = opened(MQTT_3, "")
    client.send(client.hello(clean=False))
    (answer,) = client.wait_closed()
    assert (answer.kind, answer.code, answer.session_present) == (wire.CONNACK, 2, False)


@pytest.mark.parametrize("client_id", [b"\xff\xfe", b"a\0b", b"\xed\xa0\x80", b"\xc0\x80"])
def test_a_client_identifier_that_is_no_string_is_refused(opened, version, client_id):
    """[MQTT-3.1.3-4] [MQTT-1.5.3-1] [MQTT-1.5.3-2] [MQTT5-3.1.3-4] [MQTT5-1.5.4-1] [MQTT5-1.5.4-2] [MQTT5-3.1.3-8]"""
    client = opened(version, client_id)
    client.send(client.hello())
    seen = client.wait_closed()
    wanted = (2,) if version == MQTT_3 else (0x81, 0x82, 0x85)
    assert all(packet.kind == wire.CONNACK and packet.code in wanted for packet in seen), seen


@pytest.mark.only("fulcrum")
def test_a_client_identifier_above_the_limit_is_refused(opened, version):
    """[MQTT-3.1.3-9] [MQTT5-3.1.3-8]"""
    client = opened(version, "x" * 2000)
    client.send(client.hello())
    (answer,) = client.wait_closed()
    assert (answer.kind, answer.code) == (wire.CONNACK, 2 if version == MQTT_3 else 0x85)


def test_a_connect_without_client_identifier_is_refused(opened, version):
    """[MQTT-3.1.3-3] [MQTT-3.1.4-1] [MQTT5-3.1.3-3]"""
    client = opened(version)
    head = wire.field("MQTT") + bytes([version, 2, 0, 60]) + (b"\0" if version == MQTT_5 else b"")
    client.send(wire.packet(wire.CONNECT, head))
    client.not_connected(0x81, 0x82)


@pytest.mark.parametrize("where", ["username", "will topic"])
@pytest.mark.parametrize("text", [b"\xff", b"a\0", b"\xed\xbf\xbf"])
def test_strings_of_connect_are_utf_8(opened, version, where, text):
    """[MQTT-3.1.3-10] [MQTT-3.1.3-11] [MQTT5-3.1.3-11] [MQTT5-3.1.3-12]"""
    client = opened(version)
    client.send(client.hello(username=text) if where == "username" else client.hello(will=Will(text)))
    client.not_connected(0x81, 0x82, 0x90)


@pytest.mark.parametrize("name", ["", "a/+", "#"])
def test_a_will_topic_is_a_topic_name(opened, version, name):
    """[MQTT-4.7.1-1] [MQTT-4.7.3-1] [MQTT5-4.7.0-1] [MQTT5-4.7.3-1]"""
    client = opened(version)
    client.send(client.hello(will=Will(name)))
    client.not_connected(0x81, 0x82, 0x90)


# Take-over -----------------------------------------------------------------------------------------------------------


def test_a_second_connection_takes_the_first_ones_place(connected, version):
    """[MQTT-3.1.4-2] [MQTT-3.1.3-2] [MQTT5-3.1.4-3] [MQTT5-3.1.3-2]"""
    first = connected(version)
    second = connected(version, first.client_id)
    first.refused(0x8E)
    second.ping()
    third = connected(version, first.client_id)
    second.refused(0x8E)
    third.ping()


def test_a_taken_over_client_is_not_served_any_more(connected, version, topic):
    """[MQTT-3.1.4-2] [MQTT5-3.1.4-3] [MQTT5-3.14.4-1] [MQTT5-3.14.4-2]"""
    watcher = connected(version)
    watcher.subscribe(topic("#"))
    first = connected(version)
    connected(version, first.client_id)
    first.send(wire.publish(version, topic("a"), b"late"))
    first.wait_closed()
    watcher.quiet()


def test_take_over_holds_between_versions(connected):
    """The client identifier counts, not the version. [MQTT-3.1.4-2] [MQTT5-3.1.4-3]"""
    old = connected(MQTT_3)
    new = connected(MQTT_5, old.client_id)
    old.refused()
    connected(MQTT_3, old.client_id)
    new.refused(0x8E)


# Keep alive ----------------------------------------------------------------------------------------------------------


def test_silence_beyond_the_keep_alive_ends_the_connection(connected, broker, version):
    """[MQTT-3.1.2-24] [MQTT5-3.1.2-22] [MQTT5-3.2.2-22]"""
    client = connected(version, keep_alive=1)
    begun = time.monotonic()
    client.refused(0x8D, timeout=12)
    # Not before one and a half times; how long after is said by nobody, and mosquitto looks every five seconds.
    assert 1.4 < time.monotonic() - begun < (4 if broker.kind == "fulcrum" else 12)


def test_any_packet_keeps_the_connection_alive(connected, version, topic):
    """[MQTT-3.1.2-23] [MQTT-3.12.4-1] [MQTT5-3.1.2-20] [MQTT5-3.12.4-1]"""
    client, publisher = connected(version, keep_alive=1), connected(version, keep_alive=1)
    for _ in range(5):
        time.sleep(0.6)
        client.ping()
        publisher.publish(topic("a"), b"x")
    publisher.ping()


def test_keep_alive_0_is_none(connected, version):
    """[MQTT-3.1.2-24] [MQTT5-3.2.2-22]"""
    client = connected(version, keep_alive=0)
    client.quiet(2.5)
    client.ping()


def test_receiving_does_not_keep_a_client_alive(connected, version, topic):
    """[MQTT-3.1.2-24] [MQTT5-3.1.2-22]"""
    publisher, client = connected(version), connected(version, keep_alive=1)
    client.subscribe(topic("a"))
    deadline = time.monotonic() + 12
    while time.monotonic() < deadline:
        publisher.publish(topic("a"), b"x")
        try:
            client.message(timeout=0.3)
        except AssertionError:
            client.wait_closed(3)
            return
    raise AssertionError("never closed")


def test_a_server_keep_alive_is_the_one_that_counts(connected):
    """[MQTT5-3.1.2-21] [MQTT5-3.2.2-21] [MQTT5-3.2.2-22]"""
    client = connected(MQTT_5, keep_alive=65535)
    assert client.connack.server_keep_alive != 0
    assert connected(MQTT_5, keep_alive=30).connack.server_keep_alive in (None, *range(1, 31))


# Properties of MQTT 5 ------------------------------------------------------------------------------------------------


def test_all_properties_of_connect_are_taken(connected, topic):
    """[MQTT5-3.1.3-1] [MQTT5-2.2.2-1]"""
    will = Will(
        topic("will"), b"x", 1, True,
        {"will_delay": 1, "payload_format": 1, "message_expiry": 60, "content_type": "text/plain",
         "response_topic": topic("answer"), "correlation_data": b"\0\xff", "user_property": [("a", "b"), ("a", "c")]},
    )  # fmt: skip
    given = {
        "session_expiry": 0, "receive_maximum": 10, "maximum_packet_size": 100_000, "topic_alias_maximum": 5,
        "request_response_information": 1, "request_problem_information": 0, "user_property": [("k", "v"), ("k", "")],
    }  # fmt: skip
    client = connected(MQTT_5, will=will, given=given)
    client.disconnect()


@pytest.mark.parametrize(
    "given",
    [
        pytest.param([("receive_maximum", 0)], id="receive maximum 0"),
        pytest.param([("maximum_packet_size", 0)], id="maximum packet size 0"),
        pytest.param([("request_response_information", 2)], id="request response information 2"),
        pytest.param([("request_problem_information", 2)], id="request problem information 2"),
        pytest.param(
            [("authentication_data", b"x")], id="authentication data without method",
            marks=pytest.mark.deviates("mosquitto", "2.0.11 ignores authentication data without a method"),
        ),
    ],
)
def test_values_no_connect_may_have_are_refused(opened, given):
    """[MQTT5-3.1.4-1] [MQTT5-4.13.1-1]"""
    client = opened(MQTT_5)
    client.send(client.hello(given=given))
    client.not_connected(0x81, 0x82)


SINGLE = {
    "session_expiry": 1, "receive_maximum": 1, "maximum_packet_size": 1000, "topic_alias_maximum": 1,
    "request_response_information": 0, "request_problem_information": 1, "authentication_method": "x",
}  # fmt: skip


@pytest.mark.parametrize("name", SINGLE)
def test_a_property_of_connect_comes_once(opened, name):
    """[MQTT5-3.1.4-1] [MQTT5-4.13.1-1]"""
    client = opened(MQTT_5)
    client.send(client.hello(given=[(name, SINGLE[name])] * 2))
    client.not_connected(0x81, 0x82)


@pytest.mark.parametrize("name", ["will_delay", "payload_format", "message_expiry", "content_type", "correlation_data"])
def test_a_property_of_a_will_comes_once(opened, topic, name):
    """[MQTT5-3.1.4-1]"""
    value = {"content_type": "x", "correlation_data": b"x"}.get(name, 1)
    client = opened(MQTT_5)
    client.send(client.hello(will=Will(topic("will"), properties=[(name, value)] * 2)))
    client.not_connected(0x81, 0x82)


@pytest.mark.parametrize("given", ["connect in will", "will in connect"])
def test_properties_of_connect_and_will_are_not_mixed_up(opened, topic, given):
    """[MQTT5-3.1.4-1]"""
    client = opened(MQTT_5)
    if given == "connect in will":
        client.send(client.hello(will=Will(topic("will"), properties={"session_expiry": 1})))
    else:
        client.send(client.hello(given={"will_delay": 1}))
    client.not_connected(0x81, 0x82)


def test_connack_properties_make_sense(connected, broker):
    """[MQTT5-3.2.2-1] [MQTT5-3.2.2-8] [MQTT5-2.2.2-1]"""
    connack = connected(MQTT_5).connack
    assert connack.maximum_qos is None, "QoS 2 is supported, which is said by leaving the property out"
    for name in ("retain_available", "wildcard_subscription_available", "shared_subscription_available",
                 "subscription_identifier_available"):  # fmt: skip
        assert connack.properties.get(name, 1) == 1
    assert connack.assigned_client_identifier is None
    assert connack.reason_string is None or connack.code


def test_response_information_comes_only_if_asked_for(connected):
    """[MQTT5-3.1.2-28]"""
    assert connected(MQTT_5).connack.response_information is None
    asked = connected(MQTT_5, given={"request_response_information": 0})
    assert asked.connack.response_information is None


def test_connack_fits_the_maximum_packet_size(opened):
    """[MQTT5-3.2.2-19] [MQTT5-3.2.2-20] [MQTT5-3.1.2-24]"""
    for size in (20, 30, 60):
        client = opened(MQTT_5, unique())
        client.send(client.hello(given={"maximum_packet_size": size}))
        answer = [packet for packet in client_answers(client)]
        assert all(packet.size <= size for packet in answer), answer


def client_answers(client):
    """CONNACK, or what came before the end: a broker may find a limit too small for its CONNACK."""
    try:
        return [client.receive()]
    except AssertionError:
        return []


def test_an_unknown_authentication_method_is_refused(opened):
    """[MQTT5-4.12.0-1] [MQTT5-4.12.0-4] [MQTT5-4.12.0-2]"""
    client = opened(MQTT_5)
    client.send(client.hello(given={"authentication_method": "no-such-method", "authentication_data": b"x"}))
    refusal = client.not_connected(0x8C, 0x87)
    assert refusal or not client.broker.explains


def test_without_a_method_there_is_no_authentication_exchange(connected):
    """[MQTT5-4.12.0-6] [MQTT5-4.12.0-5]"""
    connack = connected(MQTT_5).connack
    assert connack.authentication_method is None and connack.authentication_data is None


@pytest.mark.parametrize("code", [0x00, 0x18, 0x19])
def test_auth_without_a_method_is_a_protocol_error(connected, code):
    """[MQTT5-4.12.0-7] [MQTT5-4.12.1-1] [MQTT5-4.12.1-2] [MQTT5-4.13.1-1]"""
    for given in ({"authentication_method": "x"}, {}):
        client = connected(MQTT_5)
        client.send(wire.auth(code, given))
        client.refused(0x82, 0x8C)


def test_auth_with_wrong_flags_is_malformed(connected):
    """[MQTT5-3.15.1-1] [MQTT5-2.1.3-1]"""
    client = connected(MQTT_5)
    client.send(wire.auth(0x18, {"authentication_method": "x"}, flags=1))
    client.refused(0x81)


@pytest.mark.parametrize("code", [0x01, 0x17, 0x80, 0xFF])
def test_auth_with_a_code_that_is_not_of_its_table_is_an_error(connected, code):
    """[MQTT5-3.15.2-1]"""
    client = connected(MQTT_5)
    client.send(wire.auth(code, {"authentication_method": "x"}))
    client.refused(0x81, 0x82)


def test_auth_is_unknown_to_mqtt_3(connected):
    """[MQTT-4.8.0-1]"""
    client = connected(MQTT_3)
    client.send(wire.packet(wire.AUTH))
    client.refused()


def test_half_a_connect_says_nothing_and_hurts_nobody(broker, connected, version):
    """[MQTT-7.1.1-1]"""
    halves = []
    for _ in range(10):
        half = Client(broker, version)
        half.send(half.hello()[:-3])
        halves.append(half)
    connected(version).ping()
    for half in halves:
        half.quiet(0.01)
        half.close()


def test_an_end_in_mid_connect_is_survived(broker, connected, version):
    """[MQTT-4.8.0-1]"""
    whole = Client(broker, version).hello()
    for cut in range(1, len(whole)):
        with socket.create_connection((broker.host, broker.port), timeout=5) as half:
            half.sendall(whole[:cut])
            half.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connected(version).ping()
