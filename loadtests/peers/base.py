"""What all peers have in common: ports, processes, and waiting until one accepts connections."""

import contextlib
import dataclasses
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

from runner import machine
from runner.machine import Unusable

START_SECONDS = 60
STOP_SECONDS = 15

# Programs that no distribution has, installed for the comparison alone.
LOCAL = machine.LOADTESTS / ".peers"

TCP, TLS, WEBSOCKET = "tcp", "tls", "ws"


@dataclasses.dataclass
class Running:
    """A broker that accepts connections."""

    pid: int
    # By carrier; `tcp/5` is a port for MQTT 5 alone.
    ports: dict
    admin_port: int | None = None
    ws_path: str = "/mqtt"

    def port(self, scenario):
        carrier = scenario.get("carrier", TCP)
        own = f"{carrier}/{scenario.get('protocol', '3.1.1')}"
        return self.ports.get(own) or self.ports[carrier]


@dataclasses.dataclass
class Workplace:
    """Where one broker runs for one measurement."""

    directory: Path
    log: object
    options: object
    certificates: object

    def run(self, command, environment=None, cwd=None):
        """Starts the server on its processor."""
        return subprocess.Popen(
            machine.pinned(machine.SERVER_CPU, command),
            stdout=self.log,
            stderr=self.log,
            stdin=subprocess.DEVNULL,
            cwd=cwd,
            env=os.environ | (environment or {}),
        )

    def tail(self):
        path = self.directory / "log"
        return "\n".join(path.read_text(errors="replace").splitlines()[-15:])


class Peer:
    """One broker with one set of settings."""

    name = ""
    # A line for the report: version, and what is set.
    settings = ""
    # Whether what it acknowledges is meant to survive a crash.
    is_durable = False
    # The command that installs it.
    install_command = ()
    carriers = (TCP,)
    protocols = ("3.1.1", "5")
    qos_max = 2
    has_shared = True
    has_retained = True
    connections_max = 1_000_000
    # How much of the file limit it gives to connections.
    descriptor_share = 1.0

    def program(self):
        """The file to run, or None."""
        raise NotImplementedError

    def missing(self):
        """Why it cannot run here, or None."""
        if self.program() is None:
            return f"not installed: {' '.join(map(str, self.install_command))}"
        return None

    def install(self):
        """Gets it from its registry."""
        command = list(map(str, self.install_command))
        environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"} | self.install_environment()
        if subprocess.run(command, env=environment, check=False).returncode != 0:
            raise Unusable(f"{self.name}: {' '.join(command)} failed; see above")

    def install_environment(self):
        return {}

    def version(self):
        """Whatever it calls itself."""
        return "?"

    def unsuited(self, scenario):
        """Why a scenario makes no sense for it, or None."""
        connections = sum(
            scenario.get(what, 0) for what in ("publishers", "subscribers", "connections")
        )
        if scenario.get("pattern") == "pairs":
            connections *= 2
        demands = {
            f"has no {scenario.get('carrier')}": scenario.get("carrier", TCP) in self.carriers,
            f"has no MQTT {scenario.get('protocol')}": scenario.get("protocol", "3.1.1")
            in self.protocols,
            f"has no QoS {scenario.get('qos')}": scenario.get("qos", 0) <= self.qos_max,
            "has no shared subscriptions": scenario["pattern"] != "shared" or self.has_shared,
            "has no retained messages": not scenario.get("retain") or self.has_retained,
            f"takes {self.connections_max} connections": connections <= self.connections_max,
            "its durability matters in stored scenarios alone": not self.is_durable_variant
            or is_stored(scenario),
        }
        return next((reason for reason, is_met in demands.items() if not is_met), None)

    # A variant that differs from another only in what it stores.
    is_durable_variant = False

    def start(self, workplace):
        """Starts it; returns the process and a `Running` (whose pid may be another's)."""
        raise NotImplementedError

    def stop(self, process):
        """Ends it; it is measured no more."""
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def driver_flags(self, scenario):
        """What the driver has to be told beside the scenario: users, topics."""
        return []

    def driver_environment(self):
        """Passwords."""
        return {}


def is_stored(scenario):
    """Whether the scenario's messages are for sessions that outlive their connections."""
    return bool(scenario.get("offline-filter") or scenario.get("persistent"))


def on_path(program):
    """Where a program is that a package or `install` put somewhere."""
    local = LOCAL / "bin" / program
    return local if local.exists() else shutil.which(program)


def first_line(command):
    """What a program says of itself."""
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = (finished.stdout or finished.stderr).strip().splitlines()
    return lines[0].strip() if lines else "?"


@contextlib.contextmanager
def started(peer, options, certificates):
    """Runs `peer` with fresh data until the block ends."""
    directory = Path(options.data_dir) / peer.name
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    try:
        with (directory / "log").open("w") as log:
            workplace = Workplace(directory, log, options, certificates)
            process, running = peer.start(workplace)
            try:
                for port in running.ports.values():
                    await_port(process, port, workplace)
                yield running
            finally:
                peer.stop(process)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def await_port(process, port, workplace):
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise Unusable(f"it ended with status {process.returncode}:\n{workplace.tail()}")
        if machine.is_listening(port):
            return
        time.sleep(0.05)
    raise Unusable(f"no listener on port {port} after {START_SECONDS} s:\n{workplace.tail()}")
