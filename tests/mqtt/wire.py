"""MQTT packets as bytes, for MQTT 3.1.1 (version 4) and 5.0 (version 5).

Building checks nothing: tests need packets no client library would send. Whatever a packet is made of may be given as text,
as bytes taken as they are, or left to its default. Reading checks everything a server can get wrong in a single packet,
so each test also holds the server to the format: flags, lengths, strings, reason codes, properties and where they may be.
"""

import dataclasses
import struct

CONNECT, CONNACK, PUBLISH, PUBACK, PUBREC, PUBREL, PUBCOMP = range(1, 8)
SUBSCRIBE, SUBACK, UNSUBSCRIBE, UNSUBACK, PINGREQ, PINGRESP, DISCONNECT, AUTH = range(8, 16)
NAMES = (
    "reserved CONNECT CONNACK PUBLISH PUBACK PUBREC PUBREL PUBCOMP SUBSCRIBE SUBACK UNSUBSCRIBE UNSUBACK PINGREQ PINGRESP "
    "DISCONNECT AUTH"
).split()
MQTT_3, MQTT_5 = 4, 5

# Properties: number, encoding, and the packets of a server that may have them.
BYTE, TWO, FOUR, VARINT, TEXT, BINARY, PAIR = range(7)
PROPERTIES = {
    "payload_format": (0x01, BYTE, {PUBLISH}),
    "message_expiry": (0x02, FOUR, {PUBLISH}),
    "content_type": (0x03, TEXT, {PUBLISH}),
    "response_topic": (0x08, TEXT, {PUBLISH}),
    "correlation_data": (0x09, BINARY, {PUBLISH}),
    "subscription_identifier": (0x0B, VARINT, {PUBLISH}),
    "session_expiry": (0x11, FOUR, {CONNACK}),
    "assigned_client_identifier": (0x12, TEXT, {CONNACK}),
    "server_keep_alive": (0x13, TWO, {CONNACK}),
    "authentication_method": (0x15, TEXT, {CONNACK, AUTH}),
    "authentication_data": (0x16, BINARY, {CONNACK, AUTH}),
    "request_problem_information": (0x17, BYTE, set()),
    "will_delay": (0x18, FOUR, set()),
    "request_response_information": (0x19, BYTE, set()),
    "response_information": (0x1A, TEXT, {CONNACK}),
    "server_reference": (0x1C, TEXT, {CONNACK, DISCONNECT}),
    "reason_string": (0x1F, TEXT, {CONNACK, PUBACK, PUBREC, PUBREL, PUBCOMP, SUBACK, UNSUBACK, DISCONNECT, AUTH}),
    "receive_maximum": (0x21, TWO, {CONNACK}),
    "topic_alias_maximum": (0x22, TWO, {CONNACK}),
    "topic_alias": (0x23, TWO, {PUBLISH}),
    "maximum_qos": (0x24, BYTE, {CONNACK}),
    "retain_available": (0x25, BYTE, {CONNACK}),
    "user_property": (0x26, PAIR, {CONNACK, PUBLISH, PUBACK, PUBREC, PUBREL, PUBCOMP, SUBACK, UNSUBACK, DISCONNECT, AUTH}),
    "maximum_packet_size": (0x27, FOUR, {CONNACK}),
    "wildcard_subscription_available": (0x28, BYTE, {CONNACK}),
    "subscription_identifier_available": (0x29, BYTE, {CONNACK}),
    "shared_subscription_available": (0x2A, BYTE, {CONNACK}),
}
BY_NUMBER = {number: (name, kind, packets) for name, (number, kind, packets) in PROPERTIES.items()}
FLAGS_0_OR_1 = {"payload_format", "maximum_qos", "retain_available", "wildcard_subscription_available",
                "subscription_identifier_available", "shared_subscription_available"}  # fmt: skip
NEVER_0 = {"topic_alias", "receive_maximum", "maximum_packet_size", "subscription_identifier"}

# Reason codes a server may send, by packet.
CODES = {
    CONNACK: {0x00, *range(0x80, 0x8B), 0x8C, 0x90, 0x95, 0x97, 0x99, 0x9A, 0x9B, 0x9C, 0x9D, 0x9F},
    PUBACK: {0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99},
    PUBREC: {0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99},
    PUBREL: {0x00, 0x92},
    PUBCOMP: {0x00, 0x92},
    SUBACK: {0x00, 0x01, 0x02, 0x80, 0x83, 0x87, 0x8F, 0x91, 0x97, 0x9E, 0xA1, 0xA2},
    UNSUBACK: {0x00, 0x11, 0x80, 0x83, 0x87, 0x8F, 0x91},
    DISCONNECT: {0x00, 0x80, 0x81, 0x82, 0x83, 0x87, 0x89, *range(0x8B, 0x91), *range(0x93, 0xA3)},
    AUTH: {0x00, 0x18},
}


class Malformed(AssertionError):
    """The server sent what the specification forbids."""


# Building ------------------------------------------------------------------------------------------------------------


def varint(number, width=1):
    """A variable byte integer, of at least `width` bytes."""
    encoded = bytearray()
    while True:
        number, low = number >> 7, number & 0x7F
        more = number or len(encoded) + 1 < width
        encoded.append(low | (0x80 if more else 0))
        if not more:
            return bytes(encoded)


def raw(value):
    """Text as UTF-8; bytes as they are."""
    return value.encode() if isinstance(value, str) else bytes(value)


def field(value):
    """A string or binary field with its length."""
    value = raw(value)
    return struct.pack(">H", len(value)) + value


def one_property(name, value):
    """A property; as name a number and as value bytes make any other."""
    if isinstance(name, int):
        return bytes([name]) + raw(value)
    number, kind, _ = PROPERTIES[name]
    encode = {
        BYTE: lambda: bytes([value]), TWO: lambda: struct.pack(">H", value), FOUR: lambda: struct.pack(">I", value),
        VARINT: lambda: varint(value), TEXT: lambda: field(value), BINARY: lambda: field(value),
        PAIR: lambda: field(value[0]) + field(value[1]),
    }[kind]  # fmt: skip
    return bytes([number]) + encode()


def properties(pairs=(), **named):
    """The properties of a packet with their length; a list as value repeats the property."""
    if isinstance(pairs, bytes):
        return pairs
    body = b"".join(one_property(name, value) for name, value in pairs)
    for name, value in named.items():
        for each in value if isinstance(value, list) else [value]:
            body += one_property(name, each)
    return varint(len(body)) + body


def _properties(version, given):
    """`given`: none, a dictionary, pairs, or bytes as they are."""
    if version != MQTT_5:
        return b""
    if isinstance(given, bytes):
        return given
    return properties(**given) if isinstance(given, dict) else properties(given or ())


def packet(kind, body=b"", flags=0, length=None):
    """A whole packet; `length` announces something else than there is."""
    return bytes([kind << 4 | flags]) + (varint(len(body)) if length is None else length) + body


@dataclasses.dataclass
class Will:
    """A will for `connect`."""

    topic: object
    payload: object = b"gone"
    qos: int = 0
    retain: bool = False
    properties: object = None


def connect(version, client_id, *, clean=True, keep_alive=60, will=None, username=None, password=None, given=None,
            flags=None, name="MQTT", level=None, tail=b""):  # fmt: skip
    """CONNECT; `flags` are set besides those that follow from the rest, or, if bytes, instead of them."""
    bits = 0x02 if clean else 0
    payload = field(client_id)
    if will:
        bits |= 0x04 | will.qos << 3 | (0x20 if will.retain else 0)
        payload += _properties(version, will.properties) + field(will.topic) + field(will.payload)
    if username is not None:
        bits |= 0x80
        payload += field(username)
    if password is not None:
        bits |= 0x40
        payload += field(password)
    bits = flags[0] if isinstance(flags, bytes) else bits | (flags or 0)
    head = field(name) + bytes([version if level is None else level, bits]) + struct.pack(">H", keep_alive)
    return packet(CONNECT, head + _properties(version, given) + payload + tail)


def publish(version, topic, payload=b"", *, qos=0, packet_id=None, dup=False, retain=False, given=None):
    body = field(topic)
    if packet_id is not None:
        body += struct.pack(">H", packet_id)
    body += _properties(version, given) + raw(payload)
    return packet(PUBLISH, body, dup << 3 | qos << 1 | retain)


def ack(version, kind, packet_id, code=None, given=None, flags=None):
    """PUBACK, PUBREC, PUBREL or PUBCOMP; without `code` in its short form."""
    body = struct.pack(">H", packet_id)
    if code is not None:
        body += bytes([code])
        if given is not None:
            body += _properties(version, given)
    return packet(kind, body, (2 if kind == PUBREL else 0) if flags is None else flags)


def subscribe(version, packet_id, filters, given=None, flags=2):
    """`filters`: pairs of filter and options byte."""
    body = b"".join(field(name) + bytes([options]) for name, options in filters)
    return packet(SUBSCRIBE, struct.pack(">H", packet_id) + _properties(version, given) + body, flags)


def unsubscribe(version, packet_id, filters, given=None, flags=2):
    body = b"".join(field(name) for name in filters)
    return packet(UNSUBSCRIBE, struct.pack(">H", packet_id) + _properties(version, given) + body, flags)


def options(qos=0, no_local=False, retain_as_published=False, retain_handling=0):
    """The options byte of a filter."""
    return qos | no_local << 2 | retain_as_published << 3 | retain_handling << 4


def disconnect(version, code=None, given=None, flags=0):
    body = b"" if code is None else bytes([code]) + (b"" if given is None else _properties(version, given))
    return packet(DISCONNECT, body, flags)


def auth(code=None, given=None, flags=0):
    return packet(AUTH, b"" if code is None else bytes([code]) + _properties(MQTT_5, given), flags)


PING = packet(PINGREQ)


# Reading -------------------------------------------------------------------------------------------------------------


@dataclasses.dataclass
class Packet:
    """What a server sent. Members that its kind does not have keep their defaults."""

    kind: int
    size: int
    dup: bool = False
    qos: int = 0
    retain: bool = False
    topic: str = None
    packet_id: int = None
    payload: bytes = b""
    session_present: bool = False
    code: int = 0
    codes: list = dataclasses.field(default_factory=list)
    properties: dict = dataclasses.field(default_factory=dict)

    @property
    def name(self):
        return NAMES[self.kind]

    def __getattr__(self, name):
        """A property by its name; None where it is absent."""
        if name in PROPERTIES:
            return self.properties.get(name)
        raise AttributeError(name)


class Reader:
    """Takes a packet's body apart."""

    def __init__(self, body):
        self.body, self.at = body, 0

    def take(self, count):
        if self.at + count > len(self.body):
            raise Malformed(f"{count} bytes wanted at {self.at} of {self.body!r}")
        self.at += count
        return self.body[self.at - count : self.at]

    def number(self, size):
        return int.from_bytes(self.take(size), "big")

    def varint(self):
        number, shift = 0, 0
        while True:
            byte = self.number(1)
            number |= (byte & 0x7F) << shift
            shift += 7
            if not byte & 0x80:
                break
            if shift > 21:
                raise Malformed(f"variable byte integer of more than four bytes in {self.body!r}")
        if len(varint(number)) * 7 != shift:
            raise Malformed(f"variable byte integer longer than needed in {self.body!r}")
        return number

    def binary(self):
        return self.take(self.number(2))

    def text(self):
        value = self.binary()
        try:
            text = value.decode("utf-8", "strict")
        except UnicodeDecodeError as error:
            raise Malformed(f"{value!r} is not UTF-8") from error
        if "\0" in text:
            raise Malformed(f"U+0000 in {text!r}")
        return text

    def left(self):
        return len(self.body) - self.at

    def rest(self):
        return self.take(self.left())

    def properties(self, kind):
        end = self.varint() + self.at
        if end > len(self.body):
            raise Malformed(f"property length beyond the packet: {self.body!r}")
        found = {}
        while self.at < end:
            number = self.varint()
            if number not in BY_NUMBER:
                raise Malformed(f"unknown property {number:#x} in {NAMES[kind]}")
            name, encoding, packets = BY_NUMBER[number]
            if kind not in packets:
                raise Malformed(f"{name} in {NAMES[kind]} of a server")
            value = self._value(encoding)
            if name in FLAGS_0_OR_1 and value > 1 or name in NEVER_0 and value == 0:
                raise Malformed(f"{name} is {value}")
            if name in ("user_property", "subscription_identifier"):
                if name == "subscription_identifier" and kind != PUBLISH:
                    raise Malformed(f"subscription identifier in {NAMES[kind]}")
                found.setdefault(name, []).append(value)
            elif name in found:
                raise Malformed(f"{name} twice in {NAMES[kind]}")
            else:
                found[name] = value
        if self.at != end:
            raise Malformed(f"a property ends beyond the property length: {self.body!r}")
        return found

    def _value(self, encoding):
        return {
            BYTE: lambda: self.number(1), TWO: lambda: self.number(2), FOUR: lambda: self.number(4),
            VARINT: self.varint, TEXT: self.text, BINARY: self.binary, PAIR: lambda: (self.text(), self.text()),
        }[encoding]()  # fmt: skip


def header(buffer):
    """Kind, flags, length of the fixed header and of the rest; None while bytes are missing."""
    if len(buffer) < 2:
        return None
    for used in range(1, 5):
        if used >= len(buffer):
            return None
        if not buffer[used] & 0x80:
            reader = Reader(bytes(buffer[1 : used + 1]))
            return buffer[0] >> 4, buffer[0] & 0x0F, used + 1, reader.varint()
    raise Malformed(f"remaining length of more than four bytes: {bytes(buffer[:5])!r}")


def parse(version, kind, flags, body, size):
    """A packet of a server, checked."""
    reader = Reader(body)
    found = Packet(kind, size)
    if kind != PUBLISH and flags != (2 if kind == PUBREL else 0):
        raise Malformed(f"flags {flags:04b} in {NAMES[kind]}")
    if kind == CONNACK:
        bits = reader.number(1)
        found.session_present = bool(bits & 1)
        found.code = reader.number(1)
        if bits > 1 or (found.session_present and found.code):
            raise Malformed(f"acknowledge flags {bits:08b} with code {found.code:#x}")
        if version == MQTT_5:
            found.properties = reader.properties(kind)
        elif found.code > 5:
            raise Malformed(f"CONNACK code {found.code}")
    elif kind == PUBLISH:
        _publish(version, flags, reader, found)
    elif kind in (PUBACK, PUBREC, PUBREL, PUBCOMP):
        found.packet_id = reader.number(2)
        _code_and_properties(version, kind, reader, found)
    elif kind in (SUBACK, UNSUBACK):
        found.packet_id = reader.number(2)
        if version == MQTT_5:
            found.properties = reader.properties(kind)
        found.codes = list(reader.rest())
        allowed = CODES[kind] if version == MQTT_5 else {0, 1, 2, 0x80} if kind == SUBACK else set()
        if not set(found.codes) <= allowed:
            raise Malformed(f"codes {found.codes} in {NAMES[kind]}")
    elif kind in (DISCONNECT, AUTH) and version == MQTT_5:
        _code_and_properties(version, kind, reader, found)
    elif kind != PINGRESP:
        raise Malformed(f"{NAMES[kind]} from a server to a client of version {version}")
    if reader.left():
        raise Malformed(f"{reader.left()} bytes behind {NAMES[kind]} {body!r}")
    if version == MQTT_5 and kind in CODES and kind not in (SUBACK, UNSUBACK) and found.code not in CODES[kind]:
        raise Malformed(f"reason code {found.code:#x} in {NAMES[kind]}")
    return found


def _publish(version, flags, reader, found):
    found.dup, found.qos, found.retain = bool(flags & 8), flags >> 1 & 3, bool(flags & 1)
    if found.qos == 3 or (found.dup and not found.qos):
        raise Malformed(f"PUBLISH with flags {flags:04b}")
    found.topic = reader.text()
    if "+" in found.topic or "#" in found.topic:
        raise Malformed(f"wildcard in topic name {found.topic!r}")
    if found.qos:
        found.packet_id = reader.number(2)
        if not found.packet_id:
            raise Malformed("packet identifier 0")
    if version == MQTT_5:
        found.properties = reader.properties(PUBLISH)
    if not found.topic and found.topic_alias is None:
        raise Malformed("PUBLISH without topic name and topic alias")
    found.payload = reader.rest()


def _code_and_properties(version, kind, reader, found):
    if version != MQTT_5:
        return
    if reader.left():
        found.code = reader.number(1)
    if reader.left():
        found.properties = reader.properties(kind)
