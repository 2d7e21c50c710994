"""What a connection costs on which nothing happens: the load tests' scenario idle-100k, with node and driver in the machine."""

import json
import os
import subprocess
import threading
from pathlib import Path

from guest.node import MQTT, Node
from guest.reporting import Failed
from runner import seed

SCENARIO = "/kernels/scenarios/idle-100k.toml"
PROGRESS_SECONDS = 15
# Where memory of the process is, in /proc/PID/smaps_rollup and /proc/PID/smaps.
PARTS = ("Rss", "Anonymous", "AnonHugePages")


def measured(report, connections, seconds, most_bytes):
    """Connects, waits, and fails if a connection takes more than `most_bytes` of the node's memory; None judges nothing."""
    node = Node().running()
    before, kernel_before = memory(node.process.pid), kernel_kib()
    flags = seed.driver_flags({"pattern": "idle"})
    line = [
        *("/bin/fulcrum-load", "run", "--json", "--scenario", SCENARIO, "--connections", str(connections)),
        *("--port", str(MQTT), "--server-pid", str(node.process.pid)),
        *("--seconds", str(seconds), "--warmup", "2", *flags),
    ]
    driver = subprocess.Popen(line, stdout=subprocess.PIPE, env=os.environ | seed.driver_environment())
    over = threading.Event()
    at_most = {"kernel": kernel_before, "parts": before, "largest": []}

    def watch():
        while not over.wait(PROGRESS_SECONDS):
            there = int(node.metric("fulcrum_sessions_connected"))
            at_most.update(kernel=kernel_kib(), parts=memory(node.process.pid))
            at_most["largest"] = largest(node.process.pid)
            report.tell(progress=f"{there} connections, {at_most['parts']['Rss']} KiB resident")

    watcher = threading.Thread(target=watch)
    watcher.start()
    printed = driver.communicate()[0]
    over.set()
    watcher.join()
    if driver.returncode not in (0, 3):
        raise Failed(f"the driver ended with status {driver.returncode}\n{node.tail()}")
    result = json.loads(printed)
    status = node.stop()
    idle = result["idle"]
    each = idle["bytes_per_connection"]
    report.tell(figures={
        "connections": result["connections"],
        "bytes_per_connection": each,
        "resident_mib_alone": idle["resident_mib_alone"],
        "resident_mib": idle["resident_mib"],
        "connecting_seconds": result["connecting"]["seconds"],
        "kernel_and_driver_kib": at_most["kernel"] - kernel_before,
        "node_kib": {name: f"{before[name]} to {at_most['parts'][name]}" for name in PARTS},
        "largest_mappings_kib": at_most["largest"],
    })  # fmt: skip
    alone, together = idle["resident_mib_alone"], idle["resident_mib"]
    text = f"{each:.0f} B for each of {result['connections']} connections ({alone:.1f} MiB alone, {together:.1f} MiB with them)"
    if result["failures"]:
        raise Failed(f"{text}; {result['failures']}: {result['errors']}\n{node.tail()}")
    if most_bytes is not None and each > most_bytes:
        raise Failed(f"{text}, which is more than {most_bytes}")
    if status != 0:
        raise Failed(f"{text}; then the node ended with status {status}\n{node.tail()}")
    return text


def memory(pid):
    """KiB of a process by kind."""
    found = {}
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        name, _, rest = line.partition(":")
        if name in PARTS:
            found[name] = int(rest.split()[0])
    return found


def largest(pid, count=12):
    """The mappings with most resident memory: KiB and name, or size if it has none."""
    found, name = [], ""
    for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
        fields = line.split()
        if not fields[0].endswith(":"):
            name = " ".join(fields[5:]) or "anonymous"
        elif fields[0] == "Size:":
            name += f" of {fields[1]} KiB"
        elif fields[0] == "Rss:":
            found.append((int(fields[1]), name))
    return [f"{kib} {name}" for kib, name in sorted(found, reverse=True)[:count]]


def kernel_kib():
    """KiB that are not to be had any more, by whomever they are held."""
    fields = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    return int(fields["MemTotal"].split()[0]) - int(fields["MemAvailable"].split()[0])
