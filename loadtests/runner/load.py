"""Calls the driver and hands back what it measured."""

import json
import os
import re
import subprocess
import tomllib
import urllib.request

import peers
from . import machine
from .machine import Unusable

# The driver came to the end of the run, and the broker broke a promise in it.
BROKEN_PROMISE = 3

# What the yardstick needs to know of the node's journals: records, bytes of their frames, batches
# made durable. Events are in one, messages for sessions in the other; a load uses one of them.
JOURNALS = ("fulcrum_journal", "fulcrum_session_journal")
COUNTERS = ("records", "bytes", "batches")


def scenarios():
    """All scenario files by name, in the order of the table."""
    found = {
        path.stem: tomllib.loads(path.read_text())
        for path in sorted((machine.LOADTESTS / "scenarios").glob("*.toml"))
    }
    first = [name for name in ORDER if name in found]
    return {name: found[name] for name in [*first, *sorted(set(found) - set(first))]}


# The targets' scenarios in the order of their table; the others follow by name.
ORDER = (
    "qos0-pipelined",
    "qos0-pingpong-1000",
    "qos1-p2p",
    "qos1-stored",
    "edge-5000",
    "idle-100k",
    "connect-storm",
)


def measured(name, peer, options, certificates, extra=()):
    """One measurement of scenario `name` on a peer started for it: the driver's JSON and more.
    `extra`: flags over the scenario's own."""
    scenario = scenarios()[name]
    options.carrier = scenario.get("carrier", peers.base.TCP)
    extra = extra or scaled(scenario, peer)
    busy_before = machine.wait_until_quiet(options)
    with peers.started(peer, options, certificates) as running:
        before = counters(running)
        report = driver(name, peer, running, options, certificates, extra)
        after = counters(running)
    report |= {"scenario": name, "broker": peer.name, "machine_busy_before": round(busy_before, 2)}
    if before and after:
        report["journal"] = {key: after[key] - before[key] for key in after}
    return report


def scaled(scenario, peer):
    """Fewer connections where one process may not have so many descriptors."""
    most = round(peer.descriptor_share * machine.file_limit()) - OTHER_FILES
    if scenario.get("connections", 0) <= most:
        return []
    return ["--connections", most]


# Descriptors of a broker, or of the driver, that are no connections.
OTHER_FILES = 1_000


def driver(name, peer, running, options, certificates, extra):
    scenario = scenarios()[name]
    # The peer's flags behind the scenario, and what was asked for on the command line last.
    line = [
        *(options.driver, "run", "--json"),
        *("--scenario", machine.LOADTESTS / "scenarios" / f"{name}.toml"),
        *("--port", running.port(scenario), "--server-pid", running.pid),
        *("--seconds", options.seconds, "--warmup", options.warmup),
        *("--ws-path", running.ws_path),
        *peer.driver_flags(scenario),
        *extra,
    ]
    if options.carrier in ("tls", "wss"):
        line += ["--ca", certificates.authority]
    finished = subprocess.run(
        machine.pinned(machine.DRIVER_CPU, line),
        env=os.environ | peer.driver_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    if finished.returncode not in (0, BROKEN_PROMISE):
        raise Unusable(finished.stderr.strip())
    return json.loads(finished.stdout)


def counters(running):
    """The journals' counters together, or None where there are none."""
    if running.admin_port is None:
        return None
    url = f"http://127.0.0.1:{running.admin_port}/metrics"
    with urllib.request.urlopen(url, timeout=5) as answer:
        text = answer.read().decode()
    found = {
        name: [metric(text, f"{journal}_{name}_total") for journal in JOURNALS] for name in COUNTERS
    }
    if any(value is None for values in found.values() for value in values):
        return None
    return {name: sum(values) for name, values in found.items()}


def metric(text, series):
    """Sum of a series over its labels in Prometheus' text format; None when it is absent."""
    values = re.findall(rf"^{series}(?:\{{[^}}]*\}})? (\S+)", text, re.MULTILINE)
    return sum(map(float, values)) if values else None
