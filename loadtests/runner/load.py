"""Calls the driver and hands back what it measured."""

import json
import os
import subprocess

from . import machine, servers
from .machine import Unusable

# Scenario files by the names of the table; which of them wait for the disk.
SCENARIOS = ("pipelined", "ping-pong", "stored", "stored-one-connection")
STORED = {"stored", "stored-one-connection"}


def measured(scenario, name, options):
    """One measurement of `scenario` on broker `name`, started for it: the driver's JSON and more."""
    busy_before = machine.wait_until_quiet(options)
    with servers.started(name, options, scenario in STORED) as running:
        before = running.counters()
        report = driver(
            running,
            options,
            "run",
            *("--scenario", machine.LOADTESTS / "scenarios" / f"{scenario}.toml"),
            *("--seconds", options.seconds, "--warmup", options.warmup),
            *running.subscriber_flags,
        )
        after = running.counters()
    report |= {"scenario": scenario, "broker": name, "machine_busy_before": round(busy_before, 2)}
    if before and after:
        report["journal"] = {key: after[key] - before[key] for key in after}
    return report


def idle(name, options):
    """Memory and CPU of broker `name` with nothing to do."""
    machine.wait_until_quiet(options)
    with servers.started(name, options, stored=False) as running:
        report = driver(
            running,
            options,
            "idle",
            *("--connections", options.connections, "--seconds", options.seconds),
        )
    return report | {"broker": name}


def driver(running, options, *arguments):
    line = [
        *(options.driver, *arguments, *running.publisher_flags),
        *("--port", running.port, "--server-pid", running.pid, "--json"),
    ]
    finished = subprocess.run(
        machine.pinned(machine.DRIVER_CPU, line),
        env=os.environ | running.driver_environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if finished.returncode != 0:
        raise Unusable(f"{running.name}: {finished.stderr.strip()}")
    return json.loads(finished.stdout)
