"""One local cloud and one edge node for all tests, as processes, set up with the command line as an operator would.

The site starts when the first test asks for it and ends with the test process. Binaries come from FULCRUM_BINARY and
FULCRUM_EDGE_BINARY (`cargo xtask clients` sets them); without them, from target/debug.
"""

import atexit
import base64
import dataclasses
import functools
import json
import os
import pathlib
import random
import shutil
import socket
import subprocess
import tempfile
import time
import unittest
import urllib.error
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[2]
TENANT = "weather"
NEIGHBOUR = "neighbour"
VILLAGE = "village"
MESSAGE_BYTES = 8192
START_S = 30


@dataclasses.dataclass(frozen=True)
class Login:
    """What a device or an application authenticates with."""

    username: str
    password: str


class Site:
    """Everything the tests talk to."""

    def __init__(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="fulcrum-clients-"))
        self.host = "127.0.0.1"
        self.cloud_port, self.mqtt_port, self.http_port, self.amqp_port, self.admin_port = _free_ports(5)
        self.environment = dict(os.environ, FULCRUM_CONTEXT=str(self.folder / "context.json"))
        for name in ("FULCRUM_CLOUD", "FULCRUM_CA", "FULCRUM_TOKEN_FILE"):
            self.environment.pop(name, None)
        self.processes = []
        self.log = open(self.folder / "processes.log", "wb")
        self.logins = {}
        try:
            self._set_up()
        except BaseException:
            self.stop(show_log=True)
            raise

    # What tests use ------------------------------------------------------------------------------------------------

    def fulcrum(self, *arguments, password=None, check=True):
        """Runs `fulcrum … --json`; gives the parsed answer, or the finished process when `check` is off."""
        command = [_binary("FULCRUM_BINARY", "fulcrum"), *map(str, arguments), "--json"]
        done = subprocess.run(
            command, input=password, capture_output=True, text=True, timeout=90, env=self.environment
        )
        if not check:
            return done
        if done.returncode != 0:
            raise AssertionError(f"{' '.join(command)}\nended with {done.returncode}: {done.stderr}")
        return json.loads(done.stdout) if done.stdout.strip() else None

    def records(self, tenant=TENANT, group=None, classes=("event",), until=None, timeout_s=20):
        """Reads a tenant's stream with a group until `until(records)` says that it is enough."""
        group = group or f"test-{random.randrange(1 << 48):012x}"
        found = []
        deadline = time.monotonic() + timeout_s
        while True:
            options = [word for name in classes for word in ("--class", name)]
            done = self.fulcrum("events", "tail", tenant, "--group", group, *options, check=False)
            if done.returncode != 0:
                raise AssertionError(f"events tail ended with {done.returncode}: {done.stderr}")
            found += [json.loads(line) for line in done.stdout.splitlines()]
            if until is None or until(found) or time.monotonic() > deadline:
                return found
            time.sleep(0.1)

    def wait_for_login(self, login, mqtt_code=0):
        """Waits until the node knows `login` as the registry does: changes arrive there by the feed."""
        deadline = time.monotonic() + START_S
        while (code := self.connack_code(login)) != mqtt_code:
            if time.monotonic() > deadline:
                raise AssertionError(f"{login.username} still gets CONNACK code {code}, not {mqtt_code}")
            time.sleep(0.1)

    def connack_code(self, login, client_id="probe"):
        """The return code of a CONNECT, without any client library; None when the connection ends without one."""
        with self.connect_socket(self.mqtt_port) as connection:
            connection.sendall(connect_packet(client_id, login))
            answer = connection.recv(4)
            return answer[3] if len(answer) == 4 and answer[0] == 0x20 else None

    def connect_socket(self, port):
        """A TCP connection to the node."""
        return socket.create_connection((self.host, port), timeout=10)

    def metrics(self):
        """The node's metrics: {name with labels: value}."""
        with urllib.request.urlopen(f"http://{self.host}:{self.admin_port}/metrics", timeout=10) as answer:
            lines = answer.read().decode().splitlines()
        pairs = (line.rsplit(" ", 1) for line in lines if line and not line.startswith("#"))
        return {name: float(value) for name, value in pairs}

    # Setting up ----------------------------------------------------------------------------------------------------

    def _set_up(self):
        self._start_cloud()
        for tenant in (TENANT, NEIGHBOUR):
            self.fulcrum("tenant", "create", tenant)
        self.fulcrum("tenant", "create", VILLAGE, "--address", "site/#", "--address", "own/{device}/+")
        for name in ("paho", "mosquitto", "curl", "flooder", "steady", "gateway", "commanded", "amqp", "amqp-order"):
            self.add_device(name)
        self.add_device("behind-gateway", "--via", "gateway")
        self.add_device("disabled")
        self.fulcrum("device", "update", TENANT, "disabled", "--enabled", "false")
        self.add_device("next-door", tenant=NEIGHBOUR)
        for name in ("house", "barn"):
            self.add_device(name, tenant=VILLAGE)
        self.add_application("mill", VILLAGE)
        self.add_application("reader", TENANT)
        self.add_application("stranger", NEIGHBOUR)
        self._start_node()
        for name in ("paho", "mosquitto", "curl", "amqp", "amqp-order", "next-door", "reader", "stranger", "house", "barn", "mill"):
            self.wait_for_login(self.logins[name])
        self.wait_for_login(self.logins["disabled"], mqtt_code=5)

    def add_device(self, name, *options, tenant=TENANT):
        """Registers a device with a password; returns its login."""
        password = f"{random.randrange(1 << 96):024x}"
        self.fulcrum("device", "create", tenant, name, *options)
        hash_function = "bcrypt" if len(self.logins) % 4 == 0 else "sha-256"
        self.fulcrum(
            "credentials", "set-password", tenant, name, "--auth-id", name, "--hash-function", hash_function,
            "--password-stdin", password=password,
        )  # fmt: skip
        self.logins[name] = Login(f"{name}@{tenant}", password)
        return self.logins[name]

    def add_application(self, name, tenant):
        """Creates an application; returns its login."""
        created = self.fulcrum("application", "create", tenant, name)
        self.logins[name] = Login(created["username"], created["password"])
        return self.logins[name]

    def _start_cloud(self):
        self._start(
            _binary("FULCRUM_BINARY", "fulcrum"), "cloud", "--data-dir", self.folder / "cloud",
            "--listen", f"{self.host}:{self.cloud_port}",
        )  # fmt: skip
        context = self.folder / "context.json"
        self._wait("the cloud", lambda: context.exists() and self.fulcrum("tenant", "list", check=False).returncode == 0)

    def _start_node(self):
        data = self.folder / "edge"
        tenants = ["--tenant", TENANT, "--tenant", NEIGHBOUR, "--tenant", VILLAGE]
        created = self.fulcrum("edge", "create", "edge-1", *tenants)
        self.fulcrum("edge", "enrol", "--edge", "edge-1", "--token", created["token"], "--data-dir", data)
        config = self.folder / "edge.toml"
        config.write_text(
            f"""
[node]
data_dir = "{data}"
shards = 2
[mqtt]
listen = "{self.host}:{self.mqtt_port}"
[http]
listen = "{self.host}:{self.http_port}"
[amqp]
listen = "{self.host}:{self.amqp_port}"
[admin]
listen = "{self.host}:{self.admin_port}"
[limits]
message_bytes = {MESSAGE_BYTES}
[uplink]
cloud = "https://{self.host}:{self.cloud_port}"
ca_file = "{self.folder}/cloud/ca.pem"
edge = "edge-1"
key_file = "{data}/edge-key.pem"
"""
        )
        self._start(_binary("FULCRUM_EDGE_BINARY", "fulcrum-edge"), "run", "--config", config)
        self._wait("the node", self._is_ready)

    def _is_ready(self):
        try:
            with urllib.request.urlopen(f"http://{self.host}:{self.admin_port}/readiness", timeout=5) as answer:
                return answer.status == 200
        except (OSError, urllib.error.HTTPError):
            return False

    def _start(self, *command):
        words = [str(word) for word in command]
        self.processes.append(
            subprocess.Popen(words, stdout=self.log, stderr=self.log, stdin=subprocess.DEVNULL, env=self.environment)
        )

    def _wait(self, who, is_there):
        deadline = time.monotonic() + START_S
        while not is_there():
            for process in self.processes:
                if process.poll() is not None:
                    raise AssertionError(f"{process.args[0]} ended with {process.returncode}")
            if time.monotonic() > deadline:
                raise AssertionError(f"{who} is not there after {START_S} s")
            time.sleep(0.1)

    def stop(self, show_log=False):
        """Ends the processes, the node first; they must end in order."""
        codes = []
        for process in reversed(self.processes):
            process.terminate()
            try:
                codes.append(process.wait(timeout=20))
            except subprocess.TimeoutExpired:
                process.kill()
                codes.append(None)
        self.processes = []
        self.log.close()
        if show_log:
            print((self.folder / "processes.log").read_text(errors="replace")[-8000:])
        shutil.rmtree(self.folder, ignore_errors=True)
        return codes


@functools.cache
def shared_site():
    """The site all tests use."""
    site = Site()
    atexit.register(_stop_in_order, site)
    return site


def _stop_in_order(site):
    """A node or cloud that crashed, or does not end when told to, fails the run even if every test passed."""
    codes = site.stop()
    if any(code != 0 for code in codes):
        print(f"the node and the cloud ended with {codes}, not with 0", flush=True)
        os._exit(1)


class SiteTest(unittest.TestCase):
    """A test against the shared site."""

    @classmethod
    def setUpClass(cls):
        cls.site = shared_site()

    def login(self, name):
        """What `name` authenticates with."""
        return self.site.logins[name]

    def assert_arrives(self, device, payload, classes=("event",)):
        """The tenant's stream holds `payload` of `device` exactly once; returns the record."""
        wanted = as_base64(payload)

        def mine(records):
            return [record for record in records if record["device"] == device and record["payload"] == wanted]

        records = mine(self.site.records(classes=classes, until=mine))
        self.assertEqual(len(records), 1, f"{len(records)} records of {device} with {payload!r}")
        return records[0]


def connect_packet(client_id, login, level=4):
    """CONNECT of MQTT 3.1.1, or of what `level` says, with a clean session."""
    fields = b"".join(_field(text.encode()) for text in (client_id, login.username, login.password))
    body = _field(b"MQTT") + bytes([level, 0xC2, 0, 60]) + fields
    return bytes([0x10]) + remaining_length(len(body)) + body


def remaining_length(number):
    """The variable length of a fixed header."""
    encoded = bytearray()
    while True:
        number, low = number >> 7, number & 0x7F
        encoded.append(low | (0x80 if number else 0))
        if not number:
            return bytes(encoded)


def _field(value):
    return len(value).to_bytes(2, "big") + value


def as_base64(payload):
    return base64.b64encode(payload).decode()


def _binary(variable, name):
    path = pathlib.Path(os.environ.get(variable, ROOT / "target" / "debug" / name))
    if not path.exists():
        raise AssertionError(f"{path} is not there; `cargo xtask clients` builds it")
    return str(path)


def _free_ports(count):
    """Ports below the range that outgoing connections are given."""
    ports = []
    while len(ports) < count:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        if port not in ports:
            ports.append(port)
    return ports
