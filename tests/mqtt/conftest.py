"""Options and fixtures of the conformance tests; README.md says how they are run."""

import itertools
import os

import brokers
import pytest
import wire
from client import Client, unique

_STARTED = {}


def pytest_addoption(parser):
    group = parser.getgroup("broker under test")
    for name, text in {
        "broker": "host:port of a broker that runs; or `fulcrum` or `mosquitto`, to start one (default: fulcrum)",
        "username": "for host:port: user name",
        "password": "for host:port: password",
        "topic-prefix": "for host:port: what all topics begin with, such as `x/`",
        "websocket-port": "for host:port: where it speaks WebSocket",
        "tls-port": "for host:port: where it speaks TLS",
        "websocket-tls-port": "for host:port: where it speaks WebSocket within TLS",
        "ca-file": "for host:port: the authority of its certificate",
        "broker-kind": "for host:port: `fulcrum` or `mosquitto`, where its known deviations are to be expected",
    }.items():
        group.addoption(f"--{name}", default=os.environ.get(f"MQTT_{name.upper().replace('-', '_')}"), help=text)


def pytest_configure(config):
    config.addinivalue_line("markers", "deviates(kind, reason): what a broker of this kind is known to do otherwise")
    config.addinivalue_line("markers", "only(kind): asks more than the specification does, of a broker of this kind")
    config.addinivalue_line("markers", "hostile: wants the broker for itself")
    # With pytest-xdist one broker serves all workers: the first process starts it, the others are told where it is.
    if hasattr(config, "workerinput"):
        config.broker = brokers.Broker(**config.workerinput["broker"])
    elif not config.option.collectonly and not config.option.help:
        config.broker = _broker(config)


def _broker(config):
    name = config.getoption("broker") or "fulcrum"
    start = {"fulcrum": brokers.start_fulcrum, "mosquitto": brokers.start_mosquitto}.get(name)
    if start:
        _STARTED["broker"] = start()
        return _STARTED["broker"].broker
    host, port = name.rsplit(":", 1)
    kind = config.getoption("broker_kind") or "other"
    ports = {
        name: int(config.getoption(option)) if config.getoption(option) else None
        for name, option in {
            "web_port": "websocket_port", "tls_port": "tls_port", "web_tls_port": "websocket_tls_port",
        }.items()
    }  # fmt: skip
    return brokers.Broker(
        host, int(port), kind, config.getoption("username"), config.getoption("password"),
        config.getoption("topic_prefix") or "conformance/", kind == "fulcrum",
        ca_file=config.getoption("ca_file"), **ports,
    )  # fmt: skip


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node):
    node.workerinput["broker"] = vars(node.config.broker)


def pytest_sessionfinish(session, exitstatus):
    running = _STARTED.pop("broker", None)
    if running is None:
        return
    ended_by_itself = running.process.poll()
    log = running.log()
    code = running.stop()
    if ended_by_itself is not None or code != 0:
        print(f"\nthe broker ended with {code if ended_by_itself is None else ended_by_itself}\n{log}")
        session.exitstatus = 1


def pytest_collection_modifyitems(config, items):
    broker = getattr(config, "broker", None)
    if broker is None:
        return
    for item in items:
        for mark in item.iter_markers("deviates"):
            kind, reason = mark.args
            version = mark.kwargs.get("version")
            own = item.callspec.params.get("version") if hasattr(item, "callspec") else None
            if kind == broker.kind and version in (None, own):
                item.add_marker(pytest.mark.xfail(reason=f"{kind}: {reason}", strict=False))
        for mark in item.iter_markers("only"):
            if broker.kind not in mark.args:
                item.add_marker(pytest.mark.skip(reason=f"asked of {' and '.join(mark.args)} alone"))


@pytest.fixture(scope="session")
def broker(pytestconfig):
    return pytestconfig.broker


@pytest.fixture(params=[wire.MQTT_3, wire.MQTT_5], ids=["v3.1.1", "v5"])
def version(request):
    """The test runs once in each version of the protocol."""
    return request.param


@pytest.fixture(params=["tcp", "tls", "ws", "wss"])
def transport(request, broker):
    """Each way to the broker, as its name and port."""
    port = {"tcp": broker.port, "tls": broker.tls_port, "ws": broker.web_port, "wss": broker.web_tls_port}[request.param]
    if port is None:
        pytest.skip(f"no {request.param} here")
    return request.param, port


@pytest.fixture
def opened(broker):
    """Makes connections that have not sent anything yet; all end with the test."""
    made = []

    def make(version, client_id=None):
        made.append(Client(broker, version, client_id))
        return made[-1]

    yield make
    for client in made:
        client.close()


@pytest.fixture
def connected(opened):
    """Makes connections that have been accepted."""

    def make(version, client_id=None, **given):
        return opened(version, client_id).connect(**given)

    return make


@pytest.fixture
def kept(opened, broker):
    """Makes connections whose session is kept when they end; the sessions end with the test."""
    names = {}

    def make(version, client_id=None, clean=False, seconds=60, **given):
        client = opened(version, client_id)
        names[client.client_id] = version
        if version == wire.MQTT_5:
            given["given"] = {"session_expiry": seconds, **given.get("given", {})}
        return client.connect(clean=clean, **given)

    yield make
    for client_id, version in names.items():
        client = Client(broker, version, client_id)
        client.connect(clean=True)
        client.close()


@pytest.fixture
def topic(broker):
    """Makes topics no other test uses; those that are retained are removed after the test."""
    base = f"{broker.prefix}{unique('t')}"
    yield Topics(base)
    sweeper = Client(broker, wire.MQTT_3).connect()
    sweeper.subscribe(f"{base}/#")
    sweeper.ping()
    for packet in [packet for packet in sweeper.pending if packet.kind == wire.PUBLISH and packet.retain]:
        sweeper.publish(packet.topic, b"", retain=True)
    sweeper.ping()
    sweeper.close()


class Topics:
    """`topic("a/b")` is below this test's own level; `topic()` is a new one."""

    def __init__(self, base):
        self.base, self.numbers = base, itertools.count()

    def __call__(self, rest=None):
        return f"{self.base}/{next(self.numbers) if rest is None else rest}"
