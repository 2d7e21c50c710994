"""Makes AMQP vectors with Qpid Proton, and lets Proton read what Fulcrum wrote; see README.md.

`make.py write` makes values.txt, messages.txt and connection.txt anew. `make.py check` reads ours.txt.
"""

import random
import sys
import uuid
from pathlib import Path

from proton import (
    Collector, Condition, Connection, Data, Disposition, Link, Message, PropertyDict, SymbolList,
    Terminus, Transport, byte, char, float32, int32, short, symbol, timestamp, ubyte, uint, ulong,
    ushort,
)

HERE = Path(__file__).parent

# A value is a pair: the name of its type, and what it holds.
SCALARS = {
    "null": lambda data, _: data.put_null(),
    "boolean": Data.put_bool,
    "ubyte": Data.put_ubyte,
    "ushort": Data.put_ushort,
    "uint": Data.put_uint,
    "ulong": Data.put_ulong,
    "byte": Data.put_byte,
    "short": Data.put_short,
    "int": Data.put_int,
    "long": Data.put_long,
    "float": Data.put_float,
    "double": Data.put_double,
    "decimal32": Data.put_decimal32,
    "decimal64": Data.put_decimal64,
    "decimal128": Data.put_decimal128,
    "char": Data.put_char,
    "timestamp": Data.put_timestamp,
    "uuid": Data.put_uuid,
    "binary": Data.put_binary,
    "string": Data.put_string,
    "symbol": Data.put_symbol,
}

CODES = {
    "null": Data.NULL, "boolean": Data.BOOL, "ubyte": Data.UBYTE, "ushort": Data.USHORT,
    "uint": Data.UINT, "ulong": Data.ULONG, "byte": Data.BYTE, "short": Data.SHORT,
    "int": Data.INT, "long": Data.LONG, "float": Data.FLOAT, "double": Data.DOUBLE,
    "decimal32": Data.DECIMAL32, "decimal64": Data.DECIMAL64, "decimal128": Data.DECIMAL128,
    "char": Data.CHAR, "timestamp": Data.TIMESTAMP, "uuid": Data.UUID, "binary": Data.BINARY,
    "string": Data.STRING, "symbol": Data.SYMBOL, "list": Data.LIST, "map": Data.MAP,
    "array": Data.ARRAY,
}


def put(data, value):
    """Gives a value to Proton's encoder."""
    kind, held = value
    if kind == "list":
        data.put_list()
        data.enter()
        for item in held:
            put(data, item)
        data.exit()
    elif kind == "map":
        data.put_map()
        data.enter()
        for pair in held:
            put(data, pair[0])
            put(data, pair[1])
        data.exit()
    elif kind == "array":
        descriptor, element, items = held
        data.put_array(descriptor is not None, CODES[element])
        data.enter()
        if descriptor is not None:
            put(data, descriptor)
        for item in items:
            put(data, item)
        data.exit()
    elif kind == "described":
        data.put_described()
        data.enter()
        put(data, held[0])
        put(data, held[1])
        data.exit()
    else:
        SCALARS[kind](data, held)


def get(data):
    """A value as Proton's decoder has it."""
    code = data.type()
    if code == Data.LIST:
        count = data.get_list()
        return "list", inside(data, count)
    if code == Data.MAP:
        count = data.get_map()
        items = inside(data, count)
        return "map", list(zip(items[::2], items[1::2]))
    if code == Data.ARRAY:
        count, is_described, element = data.get_array()
        items = inside(data, count + is_described)
        name = next(name for name, one in CODES.items() if one == element)
        descriptor = items.pop(0) if is_described else None
        return "array", (descriptor, name, items)
    if code == Data.DESCRIBED:
        return "described", tuple(inside(data, 2))
    name = next(name for name, one in CODES.items() if one == code)
    if name == "null":
        return "null", None
    held = getattr(data, "get_" + SCALARS[name].__name__.removeprefix("put_"))()
    # What Proton gives is a view of memory that goes with `data`.
    return name, bytes(held) if name == "binary" else held


def inside(data, count):
    data.enter()
    items = []
    for _ in range(count):
        assert data.next() is not None, "an item is missing"
        items.append(get(data))
    assert data.next() is None, "an item too much"
    data.exit()
    return items


def show(value):
    """A value in the notation of the files."""
    kind, held = value
    if kind == "null":
        return "null"
    if kind == "boolean":
        return "true" if held else "false"
    if kind == "list":
        return "[" + ", ".join(show(item) for item in held) + "]"
    if kind == "map":
        return "{" + ", ".join(f"{show(key)}: {show(one)}" for key, one in held) + "}"
    if kind == "array":
        descriptor, _, items = held
        if descriptor is not None:
            items = [("described", (descriptor, item)) for item in items]
        return "@[" + ", ".join(show(item) for item in items) + "]"
    if kind == "described":
        return f"<{show(held[0])}> {show(held[1])}"
    if kind in ("string", "symbol"):
        return f'{kind} "{held}"'
    if kind == "binary":
        return f'binary "{bytes(held).hex()}"'
    if kind == "uuid":
        return f"uuid {held}"
    if kind == "char":
        return f"char {ord(str(held)):x}"
    if kind in ("float", "double"):
        return f"{kind} {float(held)!r}"
    if kind == "decimal128":
        return f"decimal128 {bytes(held).hex()}"
    if kind in ("decimal32", "decimal64"):
        return f"{kind} {int(held):0{8 if kind == 'decimal32' else 16}x}"
    return f"{kind} {int(held)}"


class Invention:
    """Values nobody chose, the same each time."""

    def __init__(self, seed):
        self.random = random.Random(seed)

    def number(self, low, high):
        edges = [low, high, 0, 1, 127, 128, 255, 256, -1, -128, -129]
        edge = self.random.choice([one for one in edges if low <= one <= high])
        return self.random.choice([edge, self.random.randint(low, high)])

    def text(self, alphabet):
        length = self.random.choice([0, 1, 5, 20] * 6 + [255, 256])
        return "".join(self.random.choice(alphabet) for _ in range(length))

    def scalar(self, kind):
        ranges = {
            "ubyte": (0, 2**8 - 1), "ushort": (0, 2**16 - 1), "uint": (0, 2**32 - 1),
            "ulong": (0, 2**64 - 1), "byte": (-(2**7), 2**7 - 1), "short": (-(2**15), 2**15 - 1),
            "int": (-(2**31), 2**31 - 1), "long": (-(2**63), 2**63 - 1),
            "timestamp": (-(2**40), 2**42), "decimal32": (0, 2**32 - 1),
            "decimal64": (0, 2**64 - 1),
        }
        if kind in ranges:
            return kind, self.number(*ranges[kind])
        if kind == "null":
            return kind, None
        if kind == "boolean":
            return kind, self.random.random() < 0.5
        if kind in ("float", "double"):
            return kind, self.random.choice([0.0, -0.5, 1.5, 21.25, -1024.0])
        if kind == "decimal128":
            return kind, self.random.randbytes(16)
        if kind == "char":
            return kind, self.random.choice("aé€\U0001f600")
        if kind == "uuid":
            return kind, uuid.UUID(bytes=self.random.randbytes(16))
        if kind == "binary":
            return kind, self.random.randbytes(self.random.choice([0, 1, 16] * 6 + [255, 256]))
        return kind, self.text("abc /é€😀" if kind == "string" else "abc:-/")

    def value(self, depth=3):
        kind = self.random.choice(list(SCALARS) * 2 + ["list", "map", "array", "described"] * 8)
        if kind in SCALARS or depth == 0:
            return self.scalar(self.random.choice(list(SCALARS)))
        count = self.random.choice([0, 1, 2, 5])
        if kind == "list":
            return kind, [self.value(depth - 1) for _ in range(count)]
        if kind == "map":
            return kind, [(self.scalar("symbol"), self.value(depth - 1)) for _ in range(count)]
        if kind == "described":
            return kind, (self.descriptor(), self.value(depth - 1))
        element = self.random.choice(list(SCALARS))
        descriptor = self.descriptor() if self.random.random() < 0.3 else None
        return kind, (descriptor, element, [self.scalar(element) for _ in range(count)])

    def descriptor(self):
        return self.scalar(self.random.choice(["symbol", "ulong"]))


def values():
    invention = Invention(1)
    for kind in SCALARS:
        for _ in range(4):
            yield invention.scalar(kind)
    for _ in range(200):
        yield invention.value()


def encode(value):
    data = Data()
    put(data, value)
    return data.encode()


def decode(encoded):
    data = Data()
    assert data.decode(encoded) == len(encoded), "bytes are left"
    data.rewind()
    assert data.next() is not None
    return get(data)


def messages():
    """Messages with what they say, section by section."""
    def message(name, says, **fields):
        return name, Message(**fields), says

    yield message("text", 'value=string "21.5"', body="21.5", inferred=False)
    yield message("bytes", "data=32312e35", body=b"21.5", inferred=True)
    yield message("list", "sequence=[long 1, string \"x\"]", body=[1, "x"], inferred=True)
    yield message("nothing", "", body=None)
    yield message("map", 'value={string "bar": double 2.5}', body={"bar": 2.5}, inferred=False)
    yield message("long bytes", "data=" + "61" * 300, body=b"a" * 300, inferred=True)
    yield message(
        "header",
        "durable=true; priority=9; ttl=60000; first-acquirer=true; delivery-count=3",
        durable=True, priority=9, ttl=60.0, first_acquirer=True, delivery_count=3,
    )
    yield message(
        "telemetry",
        'durable=true; message-annotations={symbol "device_id": string "pump-7", '
        'symbol "x-opt-retain": true}; message-id=string "m-1"; to=event/acme; '
        'content-type=application/json; creation-time=1700000000000; '
        'application-properties={string "device_id": string "pump-7", string "qos": int 1}; '
        "data=7b7d",
        durable=True, id="m-1", address="event/acme", content_type="application/json",
        creation_time=1700000000.0, body=b"{}", inferred=True,
        annotations={symbol("device_id"): "pump-7", symbol("x-opt-retain"): True},
        properties={"device_id": "pump-7", "qos": int32(1)},
    )
    yield message(
        "command",
        'message-id=ulong 7; user-id=6d65; to=command/acme/pump-7; subject=open; '
        'reply-to=command_response/acme/1; '
        "correlation-id=uuid 00112233-4455-6677-8899-aabbccddeeff; content-encoding=gzip; "
        "absolute-expiry-time=1700000001000; group-id=g; group-sequence=5; "
        "reply-to-group-id=r",
        id=7, user_id=b"me", address="command/acme/pump-7", subject="open",
        reply_to="command_response/acme/1",
        correlation_id=uuid.UUID("00112233445566778899aabbccddeeff"), content_encoding="gzip",
        expiry_time=1700000001.0, group_id="g", group_sequence=5, reply_to_group_id="r",
    )
    yield message(
        "instructions and every simple type",
        'delivery-annotations={symbol "x-opt-a": long 1}; '
        'application-properties={string "a": null, string "b": true, string "c": ubyte 1, '
        'string "d": ushort 2, string "e": uint 3, string "f": ulong 4, string "g": byte -1, '
        'string "h": short -2, string "i": int -3, string "j": long -4, string "k": float 1.5, '
        'string "l": double 2.5, string "m": char 78, string "n": timestamp 5, '
        'string "o": binary "ff", string "p": symbol "s"}',
        instructions={symbol("x-opt-a"): 1},
        properties={
            "a": None, "b": True, "c": ubyte(1), "d": ushort(2), "e": uint(3), "f": ulong(4),
            "g": byte(-1), "h": short(-2), "i": int32(-3), "j": -4, "k": float32(1.5), "l": 2.5,
            "m": char("x"), "n": timestamp(5), "o": b"\xff", "p": symbol("s"),
        },
    )


class Ends:
    """A client and a server that talk in memory; what each says is kept."""

    def __init__(self, frame_bytes_max=None):
        self.transports = [Transport(Transport.CLIENT), Transport(Transport.SERVER)]
        self.connections = [Connection(), Connection()]
        self.said = [[], []]
        self.collectors = [Collector(), Collector()]
        for transport, connection, collector in zip(
            self.transports, self.connections, self.collectors
        ):
            sasl = transport.sasl()
            sasl.allow_insecure_mechs = True
            sasl.allowed_mechs("ANONYMOUS")
            if frame_bytes_max:
                transport.max_frame_size = frame_bytes_max
            connection.collect(collector)
            transport.bind(connection)

    def talk(self):
        moved = True
        while moved:
            moved = False
            for speaker, listener in ((0, 1), (1, 0)):
                pending = self.transports[speaker].pending()
                if pending > 0:
                    said = bytes(self.transports[speaker].peek(pending))
                    self.transports[speaker].pop(len(said))
                    self.said[speaker].append(said)
                    self.transports[listener].push(said)
                    moved = True


def connection():
    """One life of a connection with everything in it; gives what client and server said."""
    ends = Ends(frame_bytes_max=512)
    client, server = ends.connections
    client.container, client.hostname = "client-1", "example.org"
    client.offered_capabilities = SymbolList(["a", "b"])
    client.desired_capabilities = SymbolList(["ANONYMOUS-RELAY"])
    client.properties = PropertyDict({symbol("product"): "proton", symbol("n"): int32(-5)})
    server.container = "server-1"
    ends.transports[0].idle_timeout = 60.0
    client.open()
    server.open()
    ends.talk()

    session = client.session()
    session.open()
    ends.talk()
    their_session = server.session_head(0)
    their_session.open()

    sender = session.sender("up")
    sender.target.address = "event/acme"
    sender.target.durability = Terminus.CONFIGURATION
    sender.target.expiry_policy = Terminus.EXPIRE_NEVER
    sender.target.timeout = 60
    sender.target.capabilities.put_array(False, Data.SYMBOL)
    sender.target.capabilities.enter()
    sender.target.capabilities.put_symbol("queue")
    sender.target.capabilities.put_symbol("topic")
    sender.target.capabilities.exit()
    sender.snd_settle_mode = Link.SND_UNSETTLED
    sender.rcv_settle_mode = Link.RCV_SECOND
    sender.max_message_size = 1 << 20
    sender.open()

    receiver = session.receiver("down")
    receiver.source.address = "telemetry/acme"
    receiver.source.distribution_mode = Terminus.DIST_MODE_COPY
    put(receiver.source.filter, ("map", [(
        ("symbol", "selector"),
        ("described", (("symbol", "apache.org:selector-filter:string"), ("string", "x = 1"))),
    )]))
    put(receiver.source.outcomes, ("array", (None, "symbol", [
        ("symbol", "amqp:accepted:list"), ("symbol", "amqp:released:list"),
    ])))
    receiver.open()

    dynamic = session.receiver("dynamic")
    dynamic.source.dynamic = True
    put(dynamic.source.properties, ("map", [(
        ("symbol", "lifetime-policy"), ("described", (("ulong", 0x2B), ("list", []))),
    )]))
    dynamic.open()
    ends.talk()

    link = server.link_head(0)
    theirs = {}
    while link is not None:
        theirs[link.name] = link
        link.source.copy(link.remote_source)
        link.target.copy(link.remote_target)
        if link.name == "dynamic":
            link.source.address = "made/1"
        link.open()
        link = link.next(0)
    theirs["up"].flow(10)
    ends.talk()

    # Five deliveries, one for each state; the third is larger than a frame.
    for number in range(5):
        delivery = sender.delivery(f"tag-{number}")
        body = b"x" * 1200 if number == 2 else b"%d" % number
        sender.send(Message(body=body, inferred=True, id=f"m-{number}").encode())
        sender.advance()
        ends.talk()
        taken = theirs["up"].current
        if number == 1:
            taken.local.condition = Condition("amqp:not-found", "no such device", {symbol("k"): 1})
        if number == 3:
            taken.local.failed = True
            taken.local.undeliverable = True
            taken.local.annotations = PropertyDict({symbol("x-opt-a"): True})
        if number == 4:
            taken.local.section_number = 1
            taken.local.section_offset = 300
        taken.update([
            Disposition.ACCEPTED, Disposition.REJECTED, Disposition.RELEASED,
            Disposition.MODIFIED, Disposition.RECEIVED,
        ][number])
        theirs["up"].advance()
        if number != 4:
            taken.settle()
        ends.talk()
        delivery.settle()
        ends.talk()

    # A settled one to the client, which drains what is left.
    receiver.flow(3)
    ends.talk()
    theirs["down"].delivery("")
    theirs["down"].send(b"\x00Sw\x40")
    theirs["down"].current.settle()
    ends.talk()
    receiver.drain(2)
    ends.talk()
    theirs["down"].drained()
    ends.talk()

    # Signs of life, then the ends, each with a reason.
    ends.transports[1].tick(1.0)
    ends.transports[1].tick(1000.0)
    ends.talk()
    theirs["down"].condition = Condition("amqp:link:stolen", "attached elsewhere")
    theirs["down"].close()
    dynamic.detach()
    ends.talk()
    their_session.condition = Condition("amqp:session:window-violation")
    their_session.close()
    ends.talk()
    client.condition = Condition("amqp:connection:forced", "bye", {symbol("k"): "v"})
    client.close()
    ends.talk()
    server.close()
    ends.talk()
    return ends.said


def frames(said):
    """A stream cut into protocol headers and frames."""
    while said:
        size = 8 if said.startswith(b"AMQP") else int.from_bytes(said[:4], "big")
        yield said[:size]
        said = said[size:]


def read_back(said):
    """What a server makes of a client's frames, to each of which it does its part."""
    transport = Transport(Transport.SERVER)
    sasl = transport.sasl()
    sasl.allow_insecure_mechs = True
    sasl.allowed_mechs("ANONYMOUS")
    own, collector = Connection(), Collector()
    own.collect(collector)
    transport.bind(own)
    made = []
    for frame in frames(said):
        transport.push(frame)
        event = collector.peek()
        while event is not None:
            made.append(str(event.type))
            made.extend(react(str(event.type), event))
            collector.pop()
            event = collector.peek()
        while transport.pending() > 0:
            transport.pop(transport.pending())
    assert transport.condition is None, transport.condition
    condition = own.remote_condition
    made.append((own.remote_container, own.remote_hostname, repr(own.remote_properties),
                 repr(own.remote_desired_capabilities), repr(own.remote_offered_capabilities),
                 condition.name, condition.description, repr(condition.info)))
    return made


def react(kind, event):
    """What a server does at an event, and what it has seen in it."""
    if kind == "PN_CONNECTION_REMOTE_OPEN":
        event.connection.open()
    elif kind == "PN_SESSION_REMOTE_OPEN":
        event.session.open()
    elif kind == "PN_LINK_REMOTE_OPEN":
        link = event.link
        link.open()
        if link.is_receiver:
            link.flow(10)
        ends = [link.remote_source, link.remote_target]
        yield link.name, link.remote_snd_settle_mode, link.remote_rcv_settle_mode
        yield [(end.address, end.durability, end.expiry_policy, end.timeout, end.dynamic,
                end.distribution_mode, *[show_all(data) for data in (
                    end.filter, end.capabilities, end.outcomes, end.properties)])
               for end in ends]
    elif kind == "PN_LINK_FLOW":
        yield event.link.credit, event.link.drain_mode
    elif kind == "PN_DELIVERY" and event.delivery.readable and not event.delivery.partial:
        delivery = event.delivery
        yield delivery.tag, bytes(delivery.link.recv(delivery.pending)), delivery.settled
        delivery.link.advance()
        delivery.update(Disposition.ACCEPTED)


def show_all(data):
    data.rewind()
    shown = []
    while data.next() is not None:
        shown.append(show(get(data)))
    return shown


def write():
    lines = [f"{encode(value).hex()} | {show(value)}" for value in values()]
    (HERE / "values.txt").write_text("\n".join(["# bytes | value", *lines, ""]))
    lines = [f"{name} | {one.encode().hex()} | {says}" for name, one, says in messages()]
    (HERE / "messages.txt").write_text("\n".join(["# name | bytes | what it says", *lines, ""]))
    client, server = (b"".join(said).hex() for said in connection())
    text = f"# who speaks | bytes\nclient | {client}\nserver | {server}\n"
    (HERE / "connection.txt").write_text(text)


def check():
    known = [show(value) for value in values()]
    sayings = {name: (one, says) for name, one, says in messages()}
    client = b"".join(connection()[0])
    counts = {"value": 0, "message": 0, "client": 0}
    for line in (HERE / "ours.txt").read_text().splitlines():
        if line.startswith("#"):
            continue
        kind, name, encoded = (part.strip() for part in line.split("|"))
        encoded = bytes.fromhex(encoded)
        if kind == "value":
            assert show(decode(encoded)) == known[int(name)], line
        elif kind == "message":
            ours = Message()
            ours.decode(encoded)
            assert ours.encode() == sayings[name][0].encode(), line
        else:
            assert read_back(encoded) == read_back(client)
            assert len(encoded) < len(client), "ours is the shorter form"
        counts[kind] += 1
    assert counts == {"value": len(known), "message": len(sayings), "client": 1}, counts
    print(f"Proton read them all: {counts}")


if __name__ == "__main__":
    {"write": write, "check": check}[sys.argv[1]]()
