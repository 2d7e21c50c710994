"""Peers that mean harm: what they cost the node is bounded, and their neighbours are served meanwhile.

The bounds are no benchmark: they tell "bounded" from "grows with what the peer sends", and "served" from "stalled", on a
debug build and a busy machine. These tests want the broker for themselves, so they do not run within pytest-xdist.
"""

import contextlib
import os
import socket
import statistics
import threading
import time

import pytest
import wire
from client import Client, Closed, Silent, unique
from wire import MQTT_3, MQTT_5

pytestmark = [
    pytest.mark.hostile,
    pytest.mark.only("fulcrum"),
    pytest.mark.skipif("PYTEST_XDIST_WORKER" in os.environ, reason="wants the broker for itself; run without -n"),
]

MIB = 1 << 20
# A neighbour's request and answer through the broker: half of them, and the worst of them.
MEDIAN_S, WORST_S = 0.25, 3.0
# The node's own bound on a CONNECT that does not come to its end.
CONNECT_S = 10
MESSAGE_BYTES = 262_144


@pytest.fixture
def unharmed(broker):
    """A context in which a pair of neighbours keeps talking, and behind which the broker's memory is compared."""

    @contextlib.contextmanager
    def watch(growth_bytes):
        before = broker.rss_bytes() if broker.process_id else 0
        stop, durations, faults = threading.Event(), [], []

        def talk():
            try:
                _talk(broker, stop, durations)
            except Exception as error:  # the thread's end is judged below
                faults.append(error)

        neighbours = threading.Thread(target=talk)
        neighbours.start()
        try:
            yield
        finally:
            stop.set()
            neighbours.join()
        assert not faults, faults
        assert len(durations) >= 3, "the neighbours hardly came to speak"
        median, worst = statistics.median(durations), max(durations)
        assert median < MEDIAN_S and worst < WORST_S, f"median {median:.3f} s, worst {worst:.3f} s"
        if broker.process_id:
            grown = broker.rss_bytes() - before
            assert grown < growth_bytes, f"{grown / MIB:.0f} MiB more, {growth_bytes / MIB:.0f} allowed"

    return watch


def _talk(broker, stop, durations):
    """Requests and answers at QoS 1 until told to stop; how long each took."""
    name = f"{broker.prefix}{unique('neighbours')}"
    asker, teller = Client(broker, MQTT_5).connect(), Client(broker, MQTT_3).connect()
    asker.subscribe(f"{name}/answer", qos=1)
    teller.subscribe(f"{name}/question", qos=1)
    while not stop.is_set() or len(durations) < 3:
        begun = time.monotonic()
        asker.start_publish(f"{name}/question", b"?", 1)
        teller.message()
        teller.start_publish(f"{name}/answer", b"!", 1)
        asker.message()
        for client in (asker, teller):
            client.expect(wire.PUBACK)
        durations.append(time.monotonic() - begun)
        time.sleep(0.02)
    asker.close()
    teller.close()


@pytest.fixture
def crowd(broker):
    """Makes many connections; all end with the test."""
    made = []

    def make(count, version=MQTT_5):
        new = [Client(broker, version) for _ in range(count)]
        made.extend(new)
        return new

    yield make
    for client in made:
        client.close()


def gone(client, timeout=0):
    """Whether the broker has closed the connection."""
    try:
        while True:
            client.receive(timeout)
    except Closed:
        return True
    except Silent:
        return False


def test_a_connect_that_does_not_come_to_its_end_is_cut_off(unharmed, crowd):
    """Slow loris: one byte now and then, or none at all. [MQTT-3.1.0-1] [MQTT-3.1.4-1] [MQTT5-3.1.0-1] [MQTT5-3.1.4-1]"""
    with unharmed(48 * MIB):
        trickling, silent = crowd(200), crowd(200)
        hellos = [client.hello(will=wire.Will("x" * 100)) for client in trickling]
        begun = time.monotonic()
        for at in range(len(hellos[0])):
            for client, hello in zip(trickling, hellos, strict=True):
                client.send(hello[at : at + 1])
            time.sleep(0.3)
            if time.monotonic() > begun + CONNECT_S + 4 or gone(silent[-1]):
                break
        assert all(gone(client, 1) for client in trickling + silent)


@pytest.mark.parametrize(
    "length", [wire.varint(268_435_455), wire.varint(MESSAGE_BYTES * 2)], ids=["256 MB", "twice the limit"]
)
def test_an_announced_length_beyond_the_limit_is_refused_at_once(unharmed, crowd, length):
    """The fixed header is enough. [MQTT5-3.2.2-15]"""
    with unharmed(32 * MIB):
        for client in crowd(50):
            client.connect()
            client.send(wire.packet(wire.PUBLISH, length=length))
            client.refused(0x95)


def test_a_huge_connect_is_refused_at_once(unharmed, crowd):
    """[MQTT-3.1.4-1] [MQTT5-3.1.4-1] [MQTT5-3.1.4-2]"""
    with unharmed(32 * MIB):
        for client in crowd(50):
            client.send(wire.packet(wire.CONNECT, length=wire.varint(268_435_455)))
            client.not_connected(0x95, 0x81)


def test_announcing_costs_the_node_nothing(unharmed, crowd):
    """Room is for what has come, not for what is announced. [MQTT5-3.1.2-24]"""
    with unharmed(48 * MIB):
        for client in crowd(400):
            client.connect()
            client.send(wire.packet(wire.PUBLISH, wire.field("a"), length=wire.varint(MESSAGE_BYTES - 100)))
        time.sleep(1)


def test_deep_wildcards_cost_no_neighbour_its_patience(unharmed, crowd, broker, topic):
    """Filters of many + at many depths, topics of as many levels. [MQTT-4.7.1-3] [MQTT5-4.7.1-2]"""
    with unharmed(96 * MIB):
        clients = crowd(8)
        for number, client in enumerate(clients):
            client.connect()
            filters = [
                topic("/".join("+" if bit >> level % 8 & 1 else "a" for level in range(depth)) + end)
                for depth in (8, 16, 24) for bit in range(number, 256, 8) for end in ("", "/#")
            ]  # fmt: skip
            for at in range(0, len(filters), 32):
                with contextlib.suppress(Closed):
                    client.subscribe(*filters[at : at + 32])
        publisher = Client(broker, MQTT_5).connect()
        for depth in (4, 8, 16, 24, 40):
            for _ in range(5):
                publisher.publish(topic("/".join("a" * depth)), b"x", 1)
        publisher.close()
        for client in clients:
            gone(client)


@pytest.mark.parametrize("levels", [129, 1000, 60_000])
def test_topics_of_absurd_depth_are_survived(unharmed, crowd, version, levels):
    """They are carried or refused. [MQTT-4.7.3-3] [MQTT5-4.7.3-3]"""
    with unharmed(64 * MIB):
        for packet in (
            wire.subscribe(version, 1, [("+/" * (levels // 2) + "#", 0)]),
            wire.subscribe(version, 1, [("/" * (levels - 1), 1)]),
            wire.publish(version, "/" * (levels - 1), b"x", qos=1, packet_id=1),
            wire.publish(version, "/" * (levels - 1), b"", qos=1, packet_id=1, retain=True),
        ):
            (client,) = crowd(1, version)
            client.connect()
            client.send(packet)
            try:
                assert client.receive().kind in (wire.SUBACK, wire.PUBACK, wire.DISCONNECT)
            except Closed:
                assert version == MQTT_3


def test_a_hundred_thousand_subscriptions_are_bounded(unharmed, crowd, topic):
    """One client, until it is told that it is enough, or not. [MQTT5-3.9.3-2] [MQTT-3.9.3-2]"""
    granted = 0
    with unharmed(256 * MIB):
        (client,) = crowd(1)
        client.connect()
        for batch in range(100):
            filters = [topic(f"{batch}/{number}/+") for number in range(1000)]
            try:
                codes = client.subscribe(*filters)
            except AssertionError:
                break
            granted += codes.count(0)
            assert set(codes) <= {0, 0x80, 0x97}, codes
            if codes[-1]:
                break
        client.close()
    assert granted > 0


def test_aliases_of_long_topics_are_bounded(unharmed, crowd, topic):
    """Each alias holds a topic; how many is the node's to say. [MQTT5-3.3.2-12]"""
    with unharmed(96 * MIB):
        for client in crowd(40):
            client.connect()
            for alias in range(1, (client.connack.topic_alias_maximum or 0) + 1):
                client.start_publish(topic("x" * 20_000), b"", given={"topic_alias": alias})
            client.ping()


def test_aliases_set_anew_again_and_again_are_bounded(unharmed, crowd, topic):
    """[MQTT5-3.3.2-12]"""
    with unharmed(32 * MIB):
        (client,) = crowd(1)
        client.connect()
        for number in range(2000):
            client.start_publish(topic(f"{number}" + "x" * 2000), b"", given={"topic_alias": 1})
        client.ping()


def test_flows_that_are_never_released_are_bounded(unharmed, crowd, version, topic):
    """PUBLISH at QoS 2 with each packet identifier there is, and no PUBREL. [MQTT-4.3.3-2] [MQTT5-3.3.4-7]"""
    with unharmed(96 * MIB):
        (client,) = crowd(1, version)
        client.connect()
        for first in range(1, 65_536, 512):
            client.send(*(
                wire.publish(version, topic("a"), b"x" * 100, qos=2, packet_id=number)
                for number in range(first, min(first + 512, 65_536))
            ))  # fmt: skip
            if gone(client):
                break


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_a_subscriber_that_never_answers_is_bounded(unharmed, crowd, version, topic, qos):
    """Neither reads nor acknowledges, while 60 MB are sent to it. [MQTT5-4.9.0-2] [MQTT-4.5.0-1]"""
    with unharmed(64 * MIB):
        publisher, silent = crowd(2, version)
        silent.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        for client in (publisher, silent):
            client.connect()
        silent.subscribe(topic("a"), qos=qos)
        for _ in range(1200):
            if publisher.publish(topic("a"), b"x" * 50_000, qos) >= 0x80:
                break
        publisher.ping()


def test_a_session_that_stays_away_is_bounded(unharmed, kept, crowd, topic):
    """80 MB for one who does not come. [MQTT-3.1.2-5] [MQTT5-4.5.0-1]"""
    with unharmed(128 * MIB):
        away = kept(MQTT_5)
        away.subscribe(topic("a"), qos=1)
        away.disconnect()
        (publisher,) = crowd(1)
        publisher.connect()
        for _ in range(800):
            if publisher.publish(topic("a"), b"x" * 100_000, 1) >= 0x80:
                break


def test_peers_that_vanish_are_forgotten(unharmed, crowd):
    """Half-open: the other end neither speaks nor closes. [MQTT-3.1.2-24] [MQTT5-3.1.2-22]"""
    with unharmed(32 * MIB):
        clients = crowd(200)
        for client in clients:
            client.connect(keep_alive=1)
        time.sleep(4)
        assert all(gone(client, 0.05) for client in clients)


@pytest.mark.parametrize("kept_session", [False, True], ids=["clean", "kept"])
def test_a_storm_of_one_client_identifier_ends_in_one_connection(unharmed, broker, version, kept_session):
    """Eight peers at once, again and again, all by the same name. [MQTT-3.1.4-2] [MQTT5-3.1.4-3]"""
    name, until = unique(), time.monotonic() + 2
    given = {"session_expiry": 60} if kept_session and version == MQTT_5 else None
    accepted = []

    def storm():
        while time.monotonic() < until:
            client = Client(broker, version, name)
            with contextlib.suppress(AssertionError, OSError):
                client.connect(clean=not kept_session, given=given)
                accepted.append(True)
            client.close()

    with unharmed(48 * MIB):
        peers = [threading.Thread(target=storm) for _ in range(8)]
        for peer in peers:
            peer.start()
        for peer in peers:
            peer.join()
        last = Client(broker, version, name).connect(clean=not kept_session, given=given)
        assert last.connack.session_present == kept_session
        last.subscribe(f"{broker.prefix}{name}", qos=1)
        last.publish(f"{broker.prefix}{name}", b"still here", 1)
        assert last.message().payload == b"still here"
        last.disconnect()
        Client(broker, version, name).connect(clean=True).close()
    assert len(accepted) > 8


def test_many_retained_topics_are_bounded_and_all_found(unharmed, crowd, topic):
    """[MQTT-3.3.1-6] [MQTT5-3.3.1-9]"""
    count, refused = 10_000, 0
    with unharmed(160 * MIB):
        publisher, reader, lazy = crowd(3)
        for client in (publisher, reader, lazy):
            client.connect()
        window = min(publisher.connack.receive_maximum or 65_535, 500)
        for first in range(0, count, window):
            ids = range(first, min(first + window, count))
            publisher.send(*(
                wire.publish(MQTT_5, topic(f"{number % 100}/{number}"), b"x" * 100, qos=1, packet_id=number % 65_535 + 1,
                             retain=True) for number in ids
            ))  # fmt: skip
            refused += sum(publisher.expect(wire.PUBACK).code >= 0x80 for _ in ids)
        # One who asks for all of it and reads nothing, beside one who reads.
        lazy.send(wire.subscribe(MQTT_5, 1, [(topic("#"), 1)]))
        reader.subscribe(topic("#"), qos=0)
        assert len({reader.message().topic for _ in range(count - refused)}) == count - refused
        for first in range(0, count, window):
            ids = range(first, min(first + window, count))
            publisher.send(*(
                wire.publish(MQTT_5, topic(f"{number % 100}/{number}"), b"", qos=1, packet_id=number % 65_535 + 1,
                             retain=True) for number in ids
            ))  # fmt: skip
            for _ in ids:
                publisher.expect(wire.PUBACK)


def test_a_flood_of_malformed_packets_hurts_nobody_else(unharmed, crowd):
    """[MQTT-4.8.0-1] [MQTT5-4.13.1-1]"""
    with unharmed(32 * MIB):
        for round_number in range(300):
            (client,) = crowd(1, MQTT_3 if round_number % 2 else MQTT_5)
            client.connect()
            client.send(os.urandom(1) + b"\xff" * 5 + os.urandom(200))
            client.close()


def test_ping_floods_hurt_nobody_else(unharmed, crowd):
    """[MQTT-3.12.4-1] [MQTT5-3.12.4-1]"""
    with unharmed(48 * MIB):
        (client,) = crowd(1)
        client.connect()
        client.socket.settimeout(2)
        # Its answers are not read for as long as this takes.
        with contextlib.suppress(TimeoutError, OSError):
            for _ in range(50):
                client.socket.sendall(wire.PING * 20_000)
