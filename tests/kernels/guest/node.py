"""The edge node in the virtual machine: started, killed, started again, and asked for its figures.

Its tenant, devices and passwords are those of the load tests (loadtests/runner/seed.py).
"""

import contextlib
import re
import shutil
import signal
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

from guest.reporting import Failed
from runner import seed

EDGE = "/bin/fulcrum-edge"
MQTT, HTTP, TLS, ADMIN = 18_830, 18_831, 18_832, 18_833
CERTIFICATES = "/kernels/certificates"
DEVICE = f"d0@{seed.TENANT}"
# Starting takes a second where the processor is real.
START_SECONDS, STOP_SECONDS = 120, 60

CONFIG = f"""\
[node]
data_dir = "/data/node"
shards = 2

[mqtt]
listen = "127.0.0.1:{MQTT}"

[http]
listen = "127.0.0.1:{HTTP}"

[[listener]]
listen = "127.0.0.1:{TLS}"
tls = true

[[tls.certificate]]
chain = "{CERTIFICATES}/server.pem"
key = "{CERTIFICATES}/server.key"

[admin]
listen = "127.0.0.1:{ADMIN}"

[limits]
connections = 150000

[journal]
segment_bytes = {16 << 20}
bytes_max = {256 << 20}

[log]
format = "text"
"""


class Node:
    """One node with its data directory on the disk."""

    config = Path("/tmp/edge.toml")
    log = Path("/tmp/node.log")

    def __init__(self):
        self.process = None

    def seed(self):
        """An empty data directory, and in it whom the node is to know."""
        shutil.rmtree("/data/node", ignore_errors=True)
        self.config.write_text(CONFIG)
        page = Path("/tmp/page.json")
        seed.write(page)
        ran([EDGE, "seed", "--config", self.config, "--feed", page])

    def prepared(self):
        """Seeded, if it is not yet; itself."""
        if not self.config.exists():
            self.seed()
        return self

    def running(self):
        """Started, if it is not yet, so that any check can be the first; itself."""
        if self.process is None:
            self.prepared().start()
        return self

    def start(self):
        """Starts it, and waits until it says that it is ready."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen([EDGE, "run", "--config", self.config], stdout=log, stderr=log)
        deadline = time.monotonic() + START_SECONDS
        while not self.answers("readiness"):
            if self.process.poll() is not None:
                raise Failed(f"the node ended with status {self.process.returncode}:\n{self.tail()}")
            if time.monotonic() > deadline:
                raise Failed(f"the node is not ready after {START_SECONDS} s:\n{self.tail()}")
            time.sleep(0.2)

    def kill(self):
        """Ends it as a power failure would."""
        self.process.kill()
        self.process.wait()
        self.process = None

    def stop(self):
        """Asks it to end; its exit status."""
        self.process.send_signal(signal.SIGTERM)
        try:
            status = self.process.wait(STOP_SECONDS)
            self.process = None
            return status
        except subprocess.TimeoutExpired:
            self.kill()
            raise Failed(f"the node did not stop within {STOP_SECONDS} s:\n{self.tail()}") from None

    def answers(self, page):
        """Whether a page of the admin address says yes."""
        with contextlib.suppress(OSError, urllib.error.HTTPError):
            return self.page(page) is not None
        return False

    def page(self, page):
        with urllib.request.urlopen(f"http://127.0.0.1:{ADMIN}/{page}", timeout=20) as answer:
            return answer.read().decode()

    def metric(self, name):
        """A series, summed over its labels."""
        return sum(self.series(name))

    def series(self, name):
        """The values of a series, one for each set of labels."""
        values = re.findall(rf"^{name}(?:\{{[^}}]*\}})? (\S+)", self.page("metrics"), re.MULTILINE)
        if not values:
            raise Failed(f"the node has no metric {name}")
        return [float(value) for value in values]

    def tail(self):
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-25:])


def ran(command, timeout=120, status=0, environment=None):
    """Runs a program that must end with `status`; what it printed."""
    shown = " ".join(map(str, command))
    try:
        finished = subprocess.run(
            list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
            timeout=timeout, env=environment, stdin=subprocess.DEVNULL, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired as expired:
        printed = (expired.stdout or b"").decode(errors="replace")
        raise Failed(f"{shown}: no end after {timeout} s:\n{printed[-3000:]}") from None
    if finished.returncode != status:
        raise Failed(f"{shown}: status {finished.returncode}, not {status}:\n{finished.stdout[-3000:]}")
    return finished.stdout
