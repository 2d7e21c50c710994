"""Brokers under test: started fresh for every measurement, pinned to one CPU, gone afterwards."""

import contextlib
import dataclasses
import re
import shutil
import signal
import socket
import subprocess
import time
import urllib.request
from pathlib import Path

from . import machine, seed
from .machine import Unusable

START_SECONDS = 30
STOP_SECONDS = 15

FULCRUM = "fulcrum"
MOSQUITTO = ("mosquitto-fast", "mosquitto-durable")
NAMES = (FULCRUM, *MOSQUITTO)


@dataclasses.dataclass
class Running:
    """A broker that accepts connections."""

    name: str
    pid: int
    port: int
    publisher_flags: tuple = ()
    subscriber_flags: tuple = ()
    driver_environment: dict = dataclasses.field(default_factory=dict)
    admin_port: int | None = None

    def counters(self):
        """The journal's counters (see COUNTERS), or None where there are none."""
        if self.admin_port is None:
            return None
        url = f"http://127.0.0.1:{self.admin_port}/metrics"
        with urllib.request.urlopen(url, timeout=5) as answer:
            text = answer.read().decode()
        found = {name: metric(text, series) for name, series in COUNTERS.items()}
        return None if None in found.values() else found


# What the yardstick needs to know of the journal: messages, bytes of their frames, batches made
# durable; summed over partitions.
COUNTERS = {
    "records": "fulcrum_journal_records_total",
    "bytes": "fulcrum_journal_bytes_total",
    "batches": "fulcrum_journal_batches_total",
}


def metric(text, series):
    """Sum of a series over its labels in Prometheus' text format; None when it is absent."""
    values = re.findall(rf"^{series}(?:\{{[^}}]*\}})? (\S+)", text, re.MULTILINE)
    return sum(map(float, values)) if values else None


@contextlib.contextmanager
def started(name, options, stored):
    """Runs broker `name` until the block ends. `stored`: for the load that waits for the disk."""
    data_dir = Path(options.data_dir) / name
    shutil.rmtree(data_dir, ignore_errors=True)
    data_dir.mkdir(parents=True)
    start = start_fulcrum if name == FULCRUM else start_mosquitto
    with (data_dir / "log").open("w") as log:
        process, running = start(name, options, data_dir, log, stored)
        try:
            await_port(process, running.port, data_dir / "log")
            yield running
        finally:
            stop(process)
    shutil.rmtree(data_dir, ignore_errors=True)


def start_mosquitto(name, options, data_dir, log, stored):
    (port,) = machine.free_ports(1)
    variant = name.removeprefix("mosquitto-")
    settings = (machine.LOADTESTS / "peers" / "mosquitto" / f"{variant}.conf").read_text()
    settings += f"listener {port} 127.0.0.1\n"
    if "persistence true" in settings:
        settings += f"persistence_location {data_dir}/\n"
    config = data_dir / "mosquitto.conf"
    config.write_text(settings)
    command = machine.pinned(machine.SERVER_CPU, ["mosquitto", "-c", config])
    process = subprocess.Popen(command, stdout=log, stderr=log)
    # mosquitto keeps messages only for a session that will come back for them.
    flags = ("--offline-filter", f"event/{seed.TENANT}/#") if stored else ()
    return process, Running(name, process.pid, port, subscriber_flags=flags)


def start_fulcrum(name, options, data_dir, log, _stored):
    mqtt, http, admin = machine.free_ports(3)
    config = data_dir / "edge.toml"
    config.write_text(
        f"""\
[node]
data_dir = "{data_dir}/data"
shards = 1
cpus = [{machine.SERVER_CPU}]

[mqtt]
listen = "127.0.0.1:{mqtt}"

[http]
listen = "127.0.0.1:{http}"

[admin]
listen = "127.0.0.1:{admin}"
"""
    )
    page = data_dir / "page.json"
    seed.write(page, options.devices)
    binary = Path(options.fulcrum)
    seeding = [binary, "seed", "--config", config, "--feed", page]
    if subprocess.run(seeding, stdout=log, stderr=log, check=False).returncode != 0:
        raise Unusable(f"fulcrum-edge seed failed:\n{tail(data_dir / 'log')}")
    running = [binary, "run", "--config", config]
    process = subprocess.Popen(
        machine.pinned(machine.SERVER_CPU, running), stdout=log, stderr=log
    )
    return process, Running(
        name,
        process.pid,
        mqtt,
        publisher_flags=("--username-template", "d{i}@{tenant}"),
        subscriber_flags=("--app-username", f"{seed.APPLICATION}@{{tenant}}"),
        driver_environment={
            "FULCRUM_LOAD_PASSWORD": seed.DEVICE_PASSWORD,
            "FULCRUM_LOAD_APP_PASSWORD": seed.APPLICATION_PASSWORD,
        },
        admin_port=admin,
    )


def await_port(process, port, log):
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise Unusable(f"the broker ended with status {process.returncode}:\n{tail(log)}")
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise Unusable(f"no listener on port {port} after {START_SECONDS} s:\n{tail(log)}")


def stop(process):
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def tail(log):
    return "\n".join(log.read_text(errors="replace").splitlines()[-15:])
