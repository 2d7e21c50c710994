"""MQTT.js, the client of browsers and Node.js: both versions, each transport and QoS."""

import base64
import json
import os
import pathlib
import shutil
import subprocess

import pytest
from client import unique
from wire import MQTT_5

HERE = pathlib.Path(__file__).parent / "mqttjs"
MODULES = pathlib.Path(os.environ.get("MQTTJS_MODULES", HERE / "node_modules"))

pytestmark = pytest.mark.skipif(
    not (shutil.which("node") and (MODULES / "mqtt").is_dir()), reason=f"no Node.js, or no MQTT.js in {MODULES}"
)


@pytest.fixture
def round_trip(broker, transport, version, topic):
    """Runs the script; what it received."""
    scheme, port = transport
    path = "/mqtt" if scheme.startswith("ws") else ""
    scheme = {"tcp": "mqtt", "tls": "mqtts"}.get(scheme, scheme)

    def run(payloads, **more):
        wanted = {
            "url": f"{scheme}://localhost:{port}{path}", "username": broker.username, "password": broker.password,
            "caFile": broker.ca_file, "protocolVersion": version, "topic": topic("a"), "clientId": unique(), "clean": True,
            "payloads": [base64.b64encode(payload).decode() for payload in payloads], **more,
        }  # fmt: skip
        # `localhost` may be ::1 as well, where nobody listens.
        command = ["node", "--dns-result-order=ipv4first", str(HERE / "round_trip.cjs"), json.dumps(wanted)]
        environment = dict(os.environ, NODE_PATH=str(MODULES))
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, env=environment)
        assert done.returncode == 0, done.stderr
        found = json.loads(done.stdout)
        assert all(message["topic"] == topic("a") for message in found)
        return found

    return run


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_messages_come_back_whole_and_in_order(round_trip, qos):
    payloads = [b"one", b"", bytes(range(256)), b"x" * 70_000]
    found = round_trip(payloads, qos=qos)
    assert [base64.b64decode(message["payload"]) for message in found] == payloads
    assert {message["qos"] for message in found} == {qos}


def test_properties_come_back(round_trip, version):
    if version != MQTT_5:
        pytest.skip("MQTT 3.1.1 has none")
    given = {
        "contentType": "text/plain", "responseTopic": "answers", "correlationData": base64.b64encode(b"\0\1").decode(),
        "userProperties": {"a": ["1", "2"], "b": "3"},
    }  # fmt: skip
    (message,) = round_trip([b"x"], qos=1, properties=given)
    assert {name: message[name] for name in given} == given


def test_a_kept_session_is_sent_what_it_missed(round_trip):
    found = round_trip([b"1", b"2", b"3"], qos=1, clean=False, resume=True)
    assert [base64.b64decode(message["payload"]) for message in found] == [b"1", b"2", b"3"]
