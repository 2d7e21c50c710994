"""mosquitto_pub, mosquitto_sub and mosquitto_rr: both versions, each QoS, plain and TLS."""

import contextlib
import shutil
import subprocess
import threading

import pytest
from wire import MQTT_3, MQTT_5

TIMEOUT_S = 15

pytestmark = pytest.mark.skipif(not shutil.which("mosquitto_rr"), reason="mosquitto-clients is not installed")


@pytest.fixture
def options(broker, transport):
    """Connection options of the three programs."""
    name, port = transport
    if name not in ("tcp", "tls"):
        pytest.skip("these programs speak no WebSocket")

    def make(version):
        made = ["-h", broker.host, "-p", str(port), "-V", "mqttv311" if version == MQTT_3 else "mqttv5"]
        if broker.username is not None:
            made += ["-u", broker.username, "-P", broker.password]
        return made + (["--cafile", broker.ca_file] if name == "tls" else [])

    return make


@contextlib.contextmanager
def subscriber(command):
    """mosquitto_sub, or mosquitto_rr, once it is subscribed; then what it has printed, without its own protocol."""
    # Line by line, or the SUBACK would be seen when all is over.
    command = ["stdbuf", "-oL", *command, "-d", "-W", str(TIMEOUT_S)]
    lines, subscribed = [], threading.Event()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:

        def read():
            for line in process.stdout:
                if "SUBACK" in line:
                    subscribed.set()
                elif line.startswith("got "):
                    lines.append(line.removeprefix("got ").rstrip("\n"))
            subscribed.set()

        reader = threading.Thread(target=read)
        reader.start()
        assert subscribed.wait(TIMEOUT_S)
        yield lines
        reader.join()
    assert process.returncode == 0, lines


def publish(*command, **more):
    done = subprocess.run(["mosquitto_pub", *command], capture_output=True, text=True, timeout=TIMEOUT_S, **more)
    assert done.returncode == 0, done.stderr


UNSTEADY = pytest.mark.deviates(
    "mosquitto", "2.0.11 under load ends its own subscriber with a protocol error", version=MQTT_5
)


@pytest.mark.parametrize("qos", ["0", "1", pytest.param("2", marks=UNSTEADY)])
def test_lines_arrive_in_order(options, version, topic, qos):
    lines = [f"line {number}" for number in range(50)]
    command = ["mosquitto_sub", *options(version), "-t", topic("#"), "-q", qos, "-C", "50", "-F", "got %q %p"]
    with subscriber(command) as got:
        publish(*options(version), "-t", topic("a"), "-q", qos, "-l", input="\n".join(lines) + "\n")
    assert got == [f"{qos} {line}" for line in lines]


def test_a_retained_message_arrives_and_can_be_removed(options, version, topic):
    publish(*options(version), "-t", topic("a"), "-q", "1", "-r", "-m", "kept")
    command = ["mosquitto_sub", *options(version), "-t", topic("a"), "-q", "1", "-F", "got %r %p"]
    with subscriber([*command, "-C", "1"]) as got:
        pass
    assert got == ["1 kept"]
    publish(*options(version), "-t", topic("a"), "-q", "1", "-r", "-n")
    with subscriber([*command, "-C", "1"]) as got:
        publish(*options(version), "-t", topic("a"), "-q", "1", "-m", "not kept")
    assert got == ["0 not kept"]


def test_a_request_is_answered(options, topic):
    """mosquitto_rr names where the answer goes; who answers is found by the request alone."""
    answer = topic("answers")
    ask = ["mosquitto_rr", *options(MQTT_5), "-t", topic("questions"), "-e", answer, "-q", "1", "-m", "?", "-F", "got %p"]
    command = ["mosquitto_sub", *options(MQTT_5), "-t", topic("questions"), "-q", "1", "-C", "1", "-F", "got %R %p"]
    with subscriber(command) as asked, subscriber(ask) as answered:
        while not asked:
            threading.Event().wait(0.05)
        where, question = asked[0].rsplit(" ", 1)
        assert (where, question) == (answer, "?")
        publish(*options(MQTT_5), "-t", where, "-q", "1", "-m", "!")
    assert answered == ["!"]


def test_properties_arrive(options, topic):
    given = ["content-type", "text/plain", "response-topic", "answers", "user-property"]
    command = ["mosquitto_sub", *options(MQTT_5), "-t", topic("a"), "-q", "1", "-C", "1", "-F", "got %C %R %P %p"]
    with subscriber(command) as got:
        publish(*options(MQTT_5), "-t", topic("a"), "-q", "1", "-m", "x", "-D", "publish", *given[:2], "-D", "publish",
                *given[2:4], "-D", "publish", given[4], "a", "b")  # fmt: skip
    assert got == ["text/plain answers a:b x"]


def test_a_will_is_published(options, version, topic):
    watch = ["mosquitto_sub", *options(version), "-t", topic("will"), "-q", "1", "-C", "1", "-F", "got %p"]
    with subscriber(watch) as got:
        will = ["--will-topic", topic("will"), "--will-payload", "gone", "--will-qos", "1"]
        command = ["stdbuf", "-oL", "mosquitto_sub", *options(version), "-t", topic("a"), "-d", *will]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as doomed:
            while "SUBACK" not in doomed.stdout.readline():
                assert doomed.poll() is None
            doomed.kill()
    assert got == ["gone"]
