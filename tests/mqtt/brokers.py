"""Brokers the conformance tests run against: one that runs somewhere, a mosquitto, or a Fulcrum node, started here."""

import base64
import contextlib
import dataclasses
import hashlib
import json
import os
import pathlib
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[2]
START_S = 30
# What the tests count on; mosquitto's own default for the alias maximum is 10.
MESSAGE_BYTES = 262_144
TENANT, DEVICE, PASSWORD = "conformance", "prober", "hono-secret"


@dataclasses.dataclass
class Broker:
    """Where a broker listens, who may connect, and what may be asked of it."""

    host: str
    port: int
    kind: str
    username: str = None
    password: str = None
    prefix: str = ""
    # Says why before it closes, wherever MQTT 5 lets it.
    explains: bool = False
    # How long an answer may take; it is waited for in full only where a test fails.
    patience_s: float = 8.0
    process_id: int = None
    http_port: int = None
    # Other transports; none where the broker does not offer them.
    web_port: int = None
    tls_port: int = None
    web_tls_port: int = None
    ca_file: str = None

    def rss_bytes(self):
        """Memory of the broker's process."""
        with open(f"/proc/{self.process_id}/statm") as statm:
            return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def there(broker):
    """Whether something accepts connections."""
    with contextlib.suppress(OSError):
        socket.create_connection((broker.host, broker.port), timeout=1).close()
        return True
    return False


def free_ports(count):
    """Ports below the range that outgoing connections are given."""
    ports = []
    while len(ports) < count:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            if port not in ports:
                ports.append(port)
    return ports


def _is_free(port):
    """Whether nobody listens there; connections that have ended do not count."""
    with socket.socket() as probe, contextlib.suppress(OSError):
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", port))
        return True
    return False


class Running:
    """A broker's process and its folder."""

    def __init__(self, broker, folder, command, is_there):
        self.broker, self.folder, self.command, self.is_there = broker, folder, command, is_there
        self.log_file = folder / "broker.log"
        self.start()

    def start(self):
        """Starts the process, and waits until it serves."""
        with open(self.log_file, "ab") as log:
            self.process = subprocess.Popen(self.command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        self.broker.process_id = self.process.pid
        deadline = time.monotonic() + START_S
        while not self.is_there():
            if self.process.poll() is not None or time.monotonic() > deadline:
                log = self.log()
                self.stop()
                raise RuntimeError(f"the broker did not start:\n{log}")
            time.sleep(0.05)

    def crash(self):
        """Ends the process at once, as a power failure would, and starts it again."""
        self.process.kill()
        self.process.wait()
        # The kernel closes what an io_uring holds a little later than the process ends.
        broker = self.broker
        ports = [broker.port, broker.http_port, broker.web_port, broker.tls_port, broker.web_tls_port]
        deadline = time.monotonic() + START_S
        while not all(_is_free(port) for port in ports if port) and time.monotonic() < deadline:
            time.sleep(0.01)
        self.start()

    def log(self):
        return self.log_file.read_text(errors="replace")[-8000:]

    def stop(self):
        """Ends the broker; its exit code."""
        self.process.send_signal(signal.SIGTERM)
        try:
            code = self.process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            code = None
        shutil.rmtree(self.folder, ignore_errors=True)
        return code


def certificates(folder):
    """An authority and a server's certificate by it, for 127.0.0.1 and localhost; the authority's file."""
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]

    def openssl(*arguments):
        subprocess.run(["openssl", *arguments], check=True, capture_output=True, cwd=folder)

    openssl("req", "-x509", *key, "-keyout", "ca-key.pem", "-out", "ca.pem", "-subj", "/CN=conformance authority",
            "-addext", "keyUsage=critical,keyCertSign", "-addext", "basicConstraints=critical,CA:true")  # fmt: skip
    openssl("req", *key, "-keyout", "server-key.pem", "-out", "server.csr", "-subj", "/CN=localhost")
    (folder / "extensions").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\nbasicConstraints=CA:false\n")
    openssl("x509", "-req", "-in", "server.csr", "-CA", "ca.pem", "-CAkey", "ca-key.pem", "-CAcreateserial", "-days", "2",
            "-extfile", "extensions", "-out", "server.pem")  # fmt: skip
    return str(folder / "ca.pem")


def start_mosquitto():
    """The oracle these tests were written against."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix="conformance-mosquitto-"))
    port, web_port, tls_port, web_tls_port = free_ports(4)
    ca_file = certificates(folder)
    files = f"cafile {ca_file}\ncertfile {folder}/server.pem\nkeyfile {folder}/server-key.pem"
    users, config = folder / "users", folder / "mosquitto.conf"
    users.touch(mode=0o600)
    subprocess.run(["mosquitto_passwd", "-b", users, DEVICE, PASSWORD], check=True)
    config.write_text(
        f"listener {port} 127.0.0.1\nlistener {web_port} 127.0.0.1\nprotocol websockets\n"
        f"listener {tls_port} 127.0.0.1\n{files}\nlistener {web_tls_port} 127.0.0.1\nprotocol websockets\n{files}\n"
        f"allow_anonymous false\npassword_file {users}\npersistence false\nuser root\n"
        f"max_packet_size {MESSAGE_BYTES}\nmax_queued_messages 10000\nset_tcp_nodelay true\n"
    )
    broker = Broker(
        "127.0.0.1", port, "mosquitto", DEVICE, PASSWORD, "conformance/", patience_s=3.0,
        web_port=web_port, tls_port=tls_port, web_tls_port=web_tls_port, ca_file=ca_file,
    )  # fmt: skip
    program = shutil.which("mosquitto") or "/usr/sbin/mosquitto"
    return Running(broker, folder, [program, "-c", str(config)], lambda: there(broker))


def start_fulcrum():
    """A debug node of two shards whose tenant declares every topic as messaging."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix="conformance-node-"))
    mqtt_port, http_port, admin_port, web_port, tls_port, web_tls_port = free_ports(6)
    ca_file = certificates(folder)
    binary = os.environ.get("FULCRUM_EDGE_BINARY", str(ROOT / "target" / "debug" / "fulcrum-edge"))
    config, feed = folder / "edge.toml", folder / "feed.json"
    config.write_text(
        f'[node]\ndata_dir = "{folder}/data"\nshards = 2\n[mqtt]\nlisten = "127.0.0.1:{mqtt_port}"\n'
        f'[http]\nlisten = "127.0.0.1:{http_port}"\n[admin]\nlisten = "127.0.0.1:{admin_port}"\n'
        f"[limits]\nmessage_bytes = {MESSAGE_BYTES}\n[journal]\nsegment_bytes = {16 << 20}\nbytes_max = {256 << 20}\n"
        f'[[tls.certificate]]\nchain = "{folder}/server.pem"\nkey = "{folder}/server-key.pem"\n'
        f'[[listener]]\nlisten = "127.0.0.1:{tls_port}"\ntls = true\n'
        f'[[listener]]\nlisten = "127.0.0.1:{web_port}"\nwebsocket = "/mqtt"\n'
        f'[[listener]]\nlisten = "127.0.0.1:{web_tls_port}"\nwebsocket = "/mqtt"\ntls = true\n'
    )
    feed.write_text(json.dumps(_page()))
    subprocess.run([binary, "seed", "--config", config, "--feed", feed], check=True, stdout=subprocess.DEVNULL)
    broker = Broker(
        "127.0.0.1", mqtt_port, "fulcrum", f"{DEVICE}@{TENANT}", PASSWORD, "conformance/", explains=True,
        http_port=http_port, web_port=web_port, tls_port=tls_port, web_tls_port=web_tls_port, ca_file=ca_file,
    )  # fmt: skip

    def is_ready():
        with contextlib.suppress(OSError, urllib.error.HTTPError):
            with urllib.request.urlopen(f"http://127.0.0.1:{admin_port}/readiness", timeout=5) as answer:
                return answer.status == 200
        return False

    return Running(broker, folder, [binary, "run", "--config", str(config)], is_ready)


def _page():
    """The tenant, its device, and the device's password, as a page of the change feed."""
    digest = base64.b64encode(hashlib.sha256(PASSWORD.encode()).digest()).decode()
    secret = {"hash-function": "sha-256", "pwd-hash": digest}
    credential = {"type": "hashed-password", "auth-id": DEVICE, "secrets": [secret]}
    messaging = {"addresses": [{"pattern": "#", "type": "multicast"}]}
    changes = [
        {"version": 1, "kind": "tenant", "tenant": TENANT, "document": {"messaging": messaging}},
        {"version": 2, "kind": "device", "tenant": TENANT, "device": DEVICE, "document": {}},
        {"version": 3, "kind": "credentials", "tenant": TENANT, "device": DEVICE, "document": [credential]},
    ]
    return {"feed": "conformance", "changes": changes, "cursor": len(changes), "more": False}
