"""MQTT within WebSocket (RFC 6455): the handshake, frames of any cut, and what is no binary frame."""

import base64
import hashlib
import os
import struct

import pytest
import wire
from client import Client, Closed
from wire import MQTT_5

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
# RFC 6455, 1.3
GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


def frame(opcode, payload=b"", final=True, masked=True, reserved=0):
    """A frame of a client."""
    head = bytes([final << 7 | reserved << 4 | opcode])
    mask_bit = masked << 7
    if len(payload) < 126:
        head += bytes([mask_bit | len(payload)])
    elif len(payload) < 1 << 16:
        head += struct.pack(">BH", mask_bit | 126, len(payload))
    else:
        head += struct.pack(">BQ", mask_bit | 127, len(payload))
    if not masked:
        return head + payload
    mask = os.urandom(4)
    return head + mask + bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload))


class WebClient(Client):
    """A client whose packets travel in binary frames."""

    def __init__(self, broker, version, client_id=None, protocols="mqtt"):
        self.raw, self.others = bytearray(), []
        self.protocols = protocols
        super().__init__(broker, version, client_id)

    def open_socket(self, port=None):
        opened = super().open_socket(self.broker.web_port)
        key = base64.b64encode(os.urandom(16))
        offer = f"Sec-WebSocket-Protocol: {self.protocols}\r\n" if self.protocols else ""
        opened.sendall(
            f"GET /mqtt HTTP/1.1\r\nHost: broker\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key.decode()}\r\n{offer}\r\n".encode()
        )
        answer = b""
        while b"\r\n\r\n" not in answer:
            part = opened.recv(4096)
            if not part:
                raise Closed(f"the handshake ended with {answer!r}")
            answer += part
        head, rest = answer.split(b"\r\n\r\n", 1)
        self.status, *lines = head.decode().split("\r\n")
        self.fields = {name.strip().lower(): value.strip() for name, value in (line.split(":", 1) for line in lines)}
        self.accepted = base64.b64encode(hashlib.sha1(key + GUID).digest()).decode()
        self.arrived(rest)
        return opened

    def wrapped(self, data):
        return frame(BINARY, data)

    def send_frames(self, *frames):
        self.socket.sendall(b"".join(frames))

    def arrived(self, part):
        self.raw += part
        while len(self.raw) >= 2:
            assert not self.raw[1] & 0x80, "a server does not mask"
            length, start = self.raw[1] & 0x7F, 2
            if length == 126:
                length, start = int.from_bytes(self.raw[2:4], "big"), 4
            elif length == 127:
                length, start = int.from_bytes(self.raw[2:10], "big"), 10
            if len(self.raw) < start + length:
                return
            opcode, payload = self.raw[0] & 0x0F, bytes(self.raw[start : start + length])
            del self.raw[: start + length]
            if opcode in (BINARY, CONTINUATION):
                self.buffer += payload
            else:
                assert opcode in (CLOSE, PING, PONG), f"a frame of type {opcode}"
                self.others.append((opcode, payload))


@pytest.fixture
def web(broker):
    """Makes WebSocket connections."""
    if broker.web_port is None:
        pytest.skip("no WebSocket here")
    made = []

    def make(version, **given):
        made.append(WebClient(broker, version, **given))
        return made[-1]

    yield make
    for client in made:
        client.close()


def test_the_server_selects_mqtt(web, version):
    """[MQTT-6.0.0-4] [MQTT5-6.0.0-4]"""
    client = web(version)
    assert client.status.startswith("HTTP/1.1 101"), client.status
    assert client.fields["sec-websocket-protocol"] == "mqtt"
    assert client.fields["sec-websocket-accept"] == client.accepted
    assert client.connect().connack.code == 0


def test_mqtt_is_found_among_other_offers(web, version):
    """[MQTT-6.0.0-3] [MQTT-6.0.0-4] [MQTT5-6.0.0-3] [MQTT5-6.0.0-4]"""
    client = web(version, protocols="chat, mqtt")
    assert client.fields["sec-websocket-protocol"] == "mqtt"
    client.connect()


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_messages_travel_between_transports(web, connected, version, topic, qos):
    """[MQTT-6.0.0-1] [MQTT-6.0.0-2] [MQTT5-6.0.0-1] [MQTT5-6.0.0-2]"""
    near, far = web(version).connect(), connected(version)
    for client in (near, far):
        client.subscribe(topic("a"), qos=2)
    for sender in (near, far):
        for size in (0, 100, 200, 70_000):
            sender.publish(topic("a"), b"x" * size, qos)
            for receiver in (near, far):
                message = receiver.message()
                assert (len(message.payload), message.qos) == (size, qos)


def test_a_frame_may_hold_several_packets(web, version, topic):
    """[MQTT-6.0.0-2] [MQTT5-6.0.0-2]"""
    client = web(version)
    subscribe = wire.subscribe(version, 1, [(topic("a"), 0)])
    client.send(client.hello() + subscribe + wire.publish(version, topic("a"), b"x") + wire.PING)
    client.expect(wire.CONNACK)
    client.expect(wire.SUBACK)
    client.message()
    client.expect(wire.PINGRESP)


@pytest.mark.parametrize("size", [1, 2, 7])
def test_a_frame_may_hold_a_part_of_a_packet(web, version, size):
    """[MQTT-6.0.0-2] [MQTT5-6.0.0-2]"""
    client = web(version)
    data = client.hello() + wire.PING
    client.send_frames(*(frame(BINARY, data[at : at + size]) for at in range(0, len(data), size)))
    client.expect(wire.CONNACK)
    client.expect(wire.PINGRESP)


def test_a_message_may_be_fragmented(web, version):
    """[MQTT-6.0.0-2] [MQTT5-6.0.0-2]"""
    client = web(version)
    data = client.hello()
    client.send_frames(
        frame(BINARY, data[:5], final=False), frame(PING, b"in between"), frame(CONTINUATION, data[5:9], final=False),
        frame(CONTINUATION, data[9:]),
    )  # fmt: skip
    client.expect(wire.CONNACK)
    client.ping()
    assert (PONG, b"in between") in client.others


def test_frames_may_come_byte_by_byte(web, version):
    """[MQTT-6.0.0-2] [MQTT5-6.0.0-2]"""
    client = web(version)
    for byte in frame(BINARY, client.hello()):
        client.send_frames(bytes([byte]))
    client.expect(wire.CONNACK)


@pytest.mark.deviates("mosquitto", "2.0.11 takes text frames as well")
def test_a_text_frame_ends_the_connection(web, version):
    """[MQTT-6.0.0-1] [MQTT5-6.0.0-1]"""
    client = web(version).connect()
    client.send_frames(frame(TEXT, wire.PING))
    assert not client.wait_closed()


@pytest.mark.parametrize(
    "bad",
    [
        pytest.param(frame(BINARY, wire.PING, masked=False), id="not masked"),
        pytest.param(frame(3, wire.PING), id="reserved type"),
        pytest.param(frame(BINARY, wire.PING, reserved=4), id="reserved bit"),
        pytest.param(frame(CONTINUATION, wire.PING), id="continuation of nothing"),
        pytest.param(frame(PING, b"x" * 126), id="long control frame"),
        pytest.param(frame(PING, b"x", final=False), id="fragmented control frame"),
        pytest.param(b"\x82\xff" + b"\xff" * 8 + b"mask", id="announced: 2^64 - 1 bytes"),
    ],
)
@pytest.mark.only("fulcrum")
def test_a_frame_against_the_rules_ends_the_connection(web, bad):
    """RFC 6455, 5.1 to 5.5. [MQTT5-6.0.0-1]"""
    client = web(MQTT_5).connect()
    client.send_frames(bad)
    client.wait_closed()


def test_a_close_frame_is_answered(web, version):
    """RFC 6455, 5.5.1. [MQTT-6.0.0-1] [MQTT5-6.0.0-1]"""
    client = web(version).connect()
    client.send_frames(frame(CLOSE, struct.pack(">H", 1000)))
    client.wait_closed()
    assert client.others and client.others[-1][0] == CLOSE


def test_an_offer_without_mqtt_gets_no_mqtt(web, version):
    """[MQTT-6.0.0-3] [MQTT5-6.0.0-3]"""
    try:
        client = web(version, protocols="chat")
    except (AssertionError, ConnectionResetError):
        return
    assert "sec-websocket-protocol" not in client.fields or not client.status.startswith("HTTP/1.1 101")
