"""This host: what must be installed, where things run, and how quiet it is."""

import contextlib
import os
import platform
import re
import resource
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LOADTESTS = ROOT / "loadtests"

SERVER_CPU = 0
DRIVER_CPU = 1

CONGESTION = Path("/proc/sys/net/ipv4/tcp_congestion_control")
PACKAGES = {"fio": "fio", "openssl": "openssl", "taskset": "util-linux"}
# Descriptors of a server, or of the driver, with all its connections.
FILES = 250_000


class Unusable(Exception):
    """Something is missing; the message says what to do."""


def extend_path():
    """Debian puts daemons where an ordinary user's PATH does not look."""
    os.environ["PATH"] += ":/usr/sbin:/sbin"


def require(*programs):
    """Fails with the command that installs what is missing."""
    extend_path()
    missing = [program for program in programs if shutil.which(program) is None]
    if missing:
        packages = " ".join(sorted({PACKAGES[program] for program in missing}))
        raise Unusable(f"{', '.join(missing)} not found: apt-get install --yes {packages}")
    if (os.cpu_count() or 1) < 2:
        raise Unusable("two CPUs are needed: one for the server, one for the driver")


def raise_file_limit():
    """A hundred thousand connections need as many descriptors; whatever this user may have."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (FILES, max(FILES, hard)))
        return
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def file_limit():
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def target_dir():
    return Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))


def built(package, binary):
    """Builds a binary of the workspace with optimisation; returns its path."""
    command = ["cargo", "build", "--release", "--quiet", "--package", package]
    if subprocess.run(command, cwd=ROOT, check=False).returncode != 0:
        raise Unusable(f"{' '.join(command)} failed; see above")
    return target_dir() / "release" / binary


def built_example(package, example):
    """The same for an example."""
    command = ["cargo", "build", "--release", "--quiet", "--package", package, "--example", example]
    if subprocess.run(command, cwd=ROOT, check=False).returncode != 0:
        raise Unusable(f"{' '.join(command)} failed; see above")
    return target_dir() / "release" / "examples" / example


def pinned(cpu, command):
    """The command, to run on one CPU; taskset replaces itself, so the process id is the command's."""
    return ["taskset", "--cpu-list", str(cpu), *map(str, command)]


def free_ports(count):
    """Ports below the ephemeral range, so that no client's own port can take them."""
    found = []
    # Never the same ones twice in a row: the last broker's may still be in TIME_WAIT.
    for port in range(next_port(), 32_000):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            found.append(port)
        if len(found) == count:
            return found
    raise Unusable("no free ports between 18830 and 32000 on 127.0.0.1")


def is_listening(port):
    """Whether somebody does, without connecting: a broker should see no client but the driver's.

    proc(5), /proc/net/tcp: local address and port in hexadecimal, then the state; 0A is LISTEN.
    """
    wanted = re.compile(rf":{port:04X} [0-9A-F]+:0000 0A ")
    return any(wanted.search(Path(table).read_text()) for table in SOCKET_TABLES)


SOCKET_TABLES = ("/proc/net/tcp", "/proc/net/tcp6")


def next_port():
    next_port.last = 18_830 + (next_port.last - 18_830 + 16) % 8_000
    return next_port.last


next_port.last = 18_830


@contextlib.contextmanager
def congestion_control(name):
    """Uses `name` for every new connection and restores the setting; yields what is in use.

    BBR paces its sending by timers even on loopback: it would measure its own pacing.
    """
    before = CONGESTION.read_text().strip()
    if name in ("keep", before):
        yield before
        return
    try:
        CONGESTION.write_text(name)
    except OSError as error:
        print(
            f"note: congestion control stays {before} ({error}); run as root for {name}",
            file=sys.stderr,
        )
        yield before
        return
    try:
        yield name
    finally:
        CONGESTION.write_text(before)


def favour_this_session():
    """Asks the scheduler to prefer this session to others on a shared machine (needs root)."""
    with contextlib.suppress(OSError):
        Path("/proc/self/autogroup").write_text("-20")


def busy_share(data_dir, seconds=0.4):
    """How busy the CPUs or the disk of `data_dir` are in the next moments, whichever is more."""
    cpu, idle = cpu_ticks()
    disk_ms, start = disk_busy_ms(data_dir), time.monotonic()
    time.sleep(seconds)
    cpu_after, idle_after = cpu_ticks()
    elapsed_ms = 1000 * (time.monotonic() - start)
    disk_share = (disk_busy_ms(data_dir) - disk_ms) / elapsed_ms
    return max(1 - (idle_after - idle) / max(1, cpu_after - cpu), disk_share)


def cpu_ticks():
    """All ticks and idle ticks of all CPUs; proc(5), /proc/stat."""
    first = Path("/proc/stat").read_text().split("\n", 1)[0]
    fields = [int(field) for field in first.split()[1:9]]
    return sum(fields), fields[3] + fields[4]


def disk_busy_ms(data_dir):
    """Milliseconds the disk had requests in its queue; 0 where the file system has no disk.

    Documentation/admin-guide/iostats: field 10 after the name.
    """
    device = data_dir.stat().st_dev
    wanted = [str(os.major(device)), str(os.minor(device))]
    for line in Path("/proc/diskstats").read_text().splitlines():
        fields = line.split()
        if fields[:2] == wanted:
            return int(fields[12])
    return 0


def wait_until_quiet(options, limit=0.1):
    """Waits for CPUs and disk to be idle, at most as long as the options allow; returns how busy
    they still are."""
    deadline = time.monotonic() + options.quiet_seconds
    while (share := busy_share(options.data_dir)) > limit and time.monotonic() < deadline:
        pass
    if share > limit:
        print(f"note: CPUs or disk are {share:.0%} busy with something else", file=sys.stderr)
    return share


def description(data_dir):
    """What figures from this host have to be read with."""
    cpu = next(
        (
            line.split(":", 1)[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    disk = subprocess.run(
        ["findmnt", "--noheadings", "--output", "SOURCE,FSTYPE,OPTIONS", "--target", str(data_dir)],
        capture_output=True,
        text=True,
        check=False,
    ).stdout.strip()
    return {
        "cpu": cpu,
        "cpus": os.cpu_count(),
        "kernel": platform.release(),
        "disk": disk,
    }
