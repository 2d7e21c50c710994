"""A connection to the broker under test that does only what it is told to."""

import collections
import contextlib
import itertools
import random
import select
import socket
import time

import wire

# How long a connection may take to come about; how long an answer may take is the broker's `patience_s`.
CONNECT_S = 10.0
# How long it is watched that nothing comes.
QUIET_S = 0.3

# Flows go on while an answer is waited for.
MAY_COME_BETWEEN = {wire.PUBLISH, wire.PUBACK, wire.PUBREC, wire.PUBREL, wire.PUBCOMP}

_NAMES = itertools.count(1)
_RUN = f"{random.randrange(1 << 32):08x}"


def unique(prefix="c"):
    """A name no other test of any run has; letters and digits, at most 23."""
    return f"{prefix}{_RUN}{next(_NAMES):x}"


class Closed(AssertionError):
    """The broker has closed the connection."""


class Silent(AssertionError):
    """Nothing came in time."""


class Client:
    """A socket, packets in both directions, and counters for packet identifiers."""

    def __init__(self, broker, version, client_id=None):
        self.broker, self.version = broker, version
        self.client_id = unique() if client_id is None else client_id
        self.buffer = bytearray()
        self.socket = self.open_socket()
        self.pending = collections.deque()
        self.aliases = {}
        self.ids = itertools.cycle(range(1, 65536))
        self.connack = None
        self.ended = False

    def open_socket(self, port=None):
        """A connection to the broker, without delays."""
        opened = socket.create_connection((self.broker.host, port or self.broker.port), timeout=CONNECT_S)
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return opened

    # Connecting ------------------------------------------------------------------------------------------------------

    def hello(self, **given):
        """The bytes of this client's CONNECT."""
        given.setdefault("username", self.broker.username)
        given.setdefault("password", self.broker.password)
        return wire.connect(self.version, self.client_id, **given)

    def connect(self, expect=0, **given):
        """Sends CONNECT and takes the CONNACK, whose code is `expect`."""
        self.send(self.hello(**given))
        self.connack = self.expect(wire.CONNACK)
        assert self.connack.code == expect, f"CONNACK code {self.connack.code:#x}"
        return self

    # Sending ---------------------------------------------------------------------------------------------------------

    def send(self, *packets):
        """Bytes as they are; the broker may have closed already."""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.socket.sendall(self.wrapped(b"".join(packets)))

    def wrapped(self, data):
        """What stands for `data` on the socket."""
        return data

    def next_id(self):
        return next(self.ids)

    def start_publish(self, topic, payload=b"", qos=0, **given):
        """PUBLISH alone; its packet identifier."""
        packet_id = given.pop("packet_id", None)
        if packet_id is None and qos:
            packet_id = self.next_id()
        self.send(wire.publish(self.version, topic, payload, qos=qos, packet_id=packet_id, **given))
        return packet_id

    def publish(self, topic, payload=b"", qos=0, **given):
        """PUBLISH with its whole handshake; the code of PUBACK or PUBREC."""
        packet_id = self.start_publish(topic, payload, qos, **given)
        if qos == 0:
            return 0
        answer = self.expect(wire.PUBACK if qos == 1 else wire.PUBREC)
        assert answer.packet_id == packet_id, answer
        if qos == 2 and answer.code < 0x80:
            self.ack(wire.PUBREL, packet_id)
            done = self.expect(wire.PUBCOMP)
            assert (done.packet_id, done.code) == (packet_id, 0), done
        return answer.code

    def ack(self, kind, packet_id, code=None, given=None):
        self.send(wire.ack(self.version, kind, packet_id, code, given))

    def subscribe(self, *filters, qos=0, given=None, **options):
        """SUBSCRIBE to filters, or to pairs of filter and options byte; the codes of the SUBACK."""
        byte = wire.options(qos, **options)
        pairs = [each if isinstance(each, tuple) else (each, byte) for each in filters]
        packet_id = self.next_id()
        self.send(wire.subscribe(self.version, packet_id, pairs, given))
        answer = self.expect(wire.SUBACK)
        assert (answer.packet_id, len(answer.codes)) == (packet_id, len(pairs)), answer
        return answer.codes

    def unsubscribe(self, *filters):
        """The codes of the UNSUBACK; in MQTT 3.1.1 there are none."""
        packet_id = self.next_id()
        self.send(wire.unsubscribe(self.version, packet_id, filters))
        answer = self.expect(wire.UNSUBACK)
        assert answer.packet_id == packet_id, answer
        return answer.codes

    def ping(self):
        """The connection is alive, and all that was sent before has been read."""
        self.send(wire.PING)
        self.expect(wire.PINGRESP)

    def disconnect(self, code=None, given=None):
        """DISCONNECT, and the broker's closing."""
        self.send(wire.disconnect(self.version, code, given))
        self.wait_closed()
        self.close()

    def drop(self):
        """Ends the connection without a word, as a broken network would."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.close()

    def close(self):
        self.ended = True
        self.socket.close()

    # Receiving -------------------------------------------------------------------------------------------------------

    def _read(self, deadline):
        """One packet from the socket."""
        while True:
            head = wire.header(self.buffer)
            if head and len(self.buffer) >= head[2] + head[3]:
                kind, flags, start, length = head
                body = bytes(self.buffer[start : start + length])
                del self.buffer[: start + length]
                return self._resolve(wire.parse(self.version, kind, flags, body, start + length))
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self.socket], [], [], left)[0]:
                raise Silent("nothing came")
            try:
                part = self.socket.recv(1 << 16)
            except ConnectionResetError:
                part = b""
            if not part:
                self.ended = True
                raise Closed(f"closed, after {bytes(self.buffer)!r}" if self.buffer else "closed")
            self.arrived(part)

    def arrived(self, part):
        """Takes bytes of the socket."""
        self.buffer += part

    def _resolve(self, packet):
        """Fills in the topic of a topic alias."""
        packet.alias_only = packet.kind == wire.PUBLISH and packet.topic == ""
        if packet.kind == wire.PUBLISH and packet.topic_alias is not None:
            if packet.topic:
                self.aliases[packet.topic_alias] = packet.topic
            else:
                assert packet.topic_alias in self.aliases, f"topic alias {packet.topic_alias} was never set"
                packet.topic = self.aliases[packet.topic_alias]
        return packet

    def receive(self, timeout=None):
        """The next packet of any kind."""
        if self.pending:
            return self.pending.popleft()
        return self._read(self._deadline(timeout))

    def _deadline(self, timeout):
        return time.monotonic() + (self.broker.patience_s if timeout is None else timeout)

    def expect(self, kind, timeout=None):
        """The next packet of `kind`. Deliveries and acknowledgements that come before it are kept for later."""
        for index, packet in enumerate(self.pending):
            if packet.kind == kind:
                del self.pending[index]
                return packet
        deadline = self._deadline(timeout)
        while True:
            try:
                packet = self._read(deadline)
            except (Closed, Silent) as error:
                raise type(error)(f"{error} instead of {wire.NAMES[kind]}; kept: {list(self.pending)}") from None
            if packet.kind == kind:
                return packet
            assert packet.kind in MAY_COME_BETWEEN, f"{packet} instead of {wire.NAMES[kind]}"
            self.pending.append(packet)

    def message(self, timeout=None, ack=True):
        """The next PUBLISH, acknowledged to its end unless told otherwise."""
        packet = self.expect(wire.PUBLISH, timeout)
        if ack and packet.qos == 1:
            self.ack(wire.PUBACK, packet.packet_id)
        elif ack and packet.qos == 2:
            self.ack(wire.PUBREC, packet.packet_id)
            release = self.expect(wire.PUBREL)
            assert release.packet_id == packet.packet_id, release
            self.ack(wire.PUBCOMP, packet.packet_id)
        return packet

    def messages(self, count, **given):
        return [self.message(**given) for _ in range(count)]

    def quiet(self, seconds=QUIET_S):
        """Nothing comes, and the connection stays."""
        try:
            packet = self.receive(seconds)
        except Silent:
            return
        raise AssertionError(f"{packet} where nothing was to come")

    def wait_closed(self, timeout=None):
        """The broker closes; gives the packets that came before."""
        seen = list(self.pending)
        self.pending.clear()
        deadline = self._deadline(timeout)
        while True:
            try:
                seen.append(self._read(deadline))
            except Closed:
                return seen
            except Silent:
                raise AssertionError(f"the connection was not closed in time; came: {seen}") from None

    def refused(self, *codes, timeout=None):
        """The broker ends the connection. To a client of MQTT 5 a DISCONNECT may say why before, with one of `codes`.

        That word is a SHOULD; a broker that is held to it (`explains`) must say it.
        """
        seen = [packet for packet in self.wait_closed(timeout) if packet.kind != wire.PUBLISH]
        if self.version == wire.MQTT_3:
            assert not seen, f"{seen} before the end"
            return None
        assert all(packet.kind == wire.DISCONNECT for packet in seen) and len(seen) <= 1, f"{seen} before the end"
        if not seen:
            assert not (self.broker.explains and codes), f"no DISCONNECT with {[hex(code) for code in codes]}"
            return None
        assert not codes or seen[0].code in codes, f"DISCONNECT {seen[0].code:#x} instead of {[hex(c) for c in codes]}"
        return seen[0]

    def not_connected(self, *codes, timeout=None):
        """The broker ends the connection before it was one; a CONNACK of MQTT 5 may say why before, with one of `codes`.

        That word is a MAY, and who sends a broken CONNECT may be no client of MQTT at all: no broker is held to it.
        """
        seen = self.wait_closed(timeout)
        if self.version == wire.MQTT_3:
            assert not seen, f"{seen} before the end"
            return None
        assert len(seen) <= 1 and all(packet.kind == wire.CONNACK for packet in seen), f"{seen} before the end"
        if not seen:
            return None
        assert seen[0].code >= 0x80 and (not codes or seen[0].code in codes), f"CONNACK {seen[0].code:#x}"
        return seen[0]
