#!/usr/bin/env python3
"""Runs the node on other kernels than this host's, in a virtual machine. README.md says what is checked."""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import machine
import packages
from image import Tree
from packages import SUITES, Unusable
from verdict import Verdict

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(ROOT / "loadtests"))
from guest import checks  # noqa: E402
from runner import certificates  # noqa: E402

TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
# Packages whose tests run in the guest: those with a ring of the kernel under them.
CRATES = ("fulcrum-ring", "fulcrum-maintenance", "fulcrum-uplink")
# Packages under test; each has one program of its name.
PROGRAMS = ("fulcrum-edge", "fulcrum", "fulcrum-load")
AUTHORITIES = Path("/etc/ssl/certs/ca-certificates.crt")
CHECK_MEMORY_MIB, IDLE_MEMORY_MIB, DISK_MIB = 3_072, 8_192, 4_096
# The target for an idle connection, and from how many on it holds: fewer share receive buffers and tables among them.
IDLE_BYTES_MAX, IDLE_CONNECTIONS = 1_024, 100_000


def main():
    options = parser().parse_args()
    try:
        failures = run(options)
    except Unusable as error:
        sys.exit(f"run.py: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
    if failures:
        sys.exit(f"FAILED: {'; '.join(failures)}")


def parser():
    top = argparse.ArgumentParser(prog="run.py", description="Fulcrum on other kernels, in a virtual machine.")
    top.add_argument("what", nargs="?", choices=("checks", "idle"), default="checks",
                     help="the checks (default), or the memory of idle connections")
    top.add_argument("--kernel", choices=SUITES, default="bookworm",
                     help=f"Debian release whose kernel to take: {', '.join(f'{k} ({v})' for k, v in SUITES.items())}")
    top.add_argument("--only", type=lambda text: text.split(","), help="comma-separated names of checks")
    top.add_argument("--list", action="store_true", help="say which checks there are, and end")
    top.add_argument("--release", action="store_true", help="binaries with optimisation; idle always has them")
    top.add_argument("--binaries", type=Path, help="folder with fulcrum-edge, fulcrum and fulcrum-load; built if not given")
    top.add_argument("--timeout", type=float, default=1800, help="seconds for the whole machine")
    top.add_argument("--log", type=Path, help="console and node's output [default: in the cache]")
    top.add_argument("--connections", type=int, default=100_000, help="of idle")
    top.add_argument("--seconds", type=float, default=10, help="how long idle connections are watched")
    top.add_argument("--memory-mib", type=int, help="of the machine")
    return top  # fmt: skip


def run(options):
    """Prepares, boots, shows what happens; the failures."""
    names = chosen(options)
    if options.list:
        print("\n".join(names))
        return []
    packages.install_missing()
    cache = TARGET / "kernels"
    cache.mkdir(parents=True, exist_ok=True)
    kernel = packages.kernel(options.kernel, cache)
    is_idle = options.what == "idle"
    profile = "release" if options.release or is_idle else "debug"
    programs = given(options.binaries) if options.binaries else built(profile)
    tests = built_tests() if not is_idle and "crates" in names else []
    order = {"idle": idle_order(options)} if is_idle else {"checks": names}
    # Checks and idle, and different kernels, may run beside each other.
    run_name = f"{options.what}-{options.kernel}"
    scratch = cache / run_name
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    vmlinuz, initramfs, disk = next((kernel / "boot").glob("vmlinuz-*")), scratch / "initramfs", scratch / "disk"
    initramfs.write_bytes(root_tree(kernel, programs, tests, order, scratch).archive())
    machine.disk(disk, DISK_MIB)
    memory = options.memory_mib or (IDLE_MEMORY_MIB if is_idle else CHECK_MEMORY_MIB)
    log = options.log or cache / f"{run_name}.log"
    log.unlink(missing_ok=True)
    release = vmlinuz.name.removeprefix("vmlinuz-")
    whose = options.binaries or f"{profile} binaries"
    print(f"booting {release} with {whose}; its output goes to {log}", flush=True)
    verdict, begin = Verdict(), time.monotonic()
    for line in machine.reports(machine.command(vmlinuz, initramfs, disk, log, memory), options.timeout):
        if shown := verdict.take(line):
            print(shown, flush=True)
        if verdict.has_ended:
            break
    shutil.rmtree(scratch)
    if verdict.figures:
        print(json.dumps(verdict.figures, indent=1))
    failures = verdict.failures()
    if failures and not verdict.has_ended:
        print(f"last lines of {log}:\n{machine.tail(log)}", file=sys.stderr)
    print(f"{len(verdict.passed)} passed, {len(verdict.failed)} failed on {release} in {time.monotonic() - begin:.0f} s")
    return failures


def chosen(options):
    """Names of the checks for the kernel, or those that were asked for."""
    version = tuple(int(number) for number in SUITES[options.kernel].split("."))
    fitting = checks.SUPPORTED if version >= (6, 1) else checks.TOO_OLD
    unknown = set(options.only or ()) - set(fitting)
    if unknown:
        raise Unusable(f"no such check on this kernel: {', '.join(sorted(unknown))}; see --list")
    return options.only or list(fitting)


def idle_order(options):
    """The target is judged where it is meant to hold; below that the figure is only told."""
    most_bytes = IDLE_BYTES_MAX if options.connections >= IDLE_CONNECTIONS else None
    return {"connections": options.connections, "seconds": options.seconds, "most_bytes": most_bytes}


def root_tree(kernel, programs, tests, order, scratch):
    """Everything that is in the machine."""
    tree = Tree()
    for folder in ("/proc", "/sys", "/dev", "/tmp", "/data", "/etc", str(TARGET / "tmp")):
        tree.folder(folder)
    tree.copy(HERE / "guest" / "init", "/init")
    tree.file("/etc/hosts", b"127.0.0.1 localhost\n")
    tree.file("/etc/passwd", b"root:x:0:0:root:/tmp:/bin/sh\n")
    for program in ("busybox", "mosquitto_pub", "mosquitto_sub", "prlimit", "curl"):
        tree.program(shutil.which(program), f"/bin/{program}")
    # The uplink's tests want authorities to distrust.
    tree.copy(AUTHORITIES, AUTHORITIES)
    tree.python()
    for path in programs:
        tree.program(stripped(path, scratch), f"/bin/{path.name}")
    for path in tests:
        tree.program(stripped(path, scratch), f"/kernels/crates/{path.name}")
    for path in (HERE / "guest").glob("*.py"):
        tree.copy(path, f"/kernels/guest/{path.name}")
    for name in ("__init__", "seed"):
        tree.copy(ROOT / "loadtests" / "runner" / f"{name}.py", f"/kernels/runner/{name}.py")
    for path in (ROOT / "loadtests" / "scenarios").glob("*.toml"):
        tree.copy(path, f"/kernels/scenarios/{path.name}")
    made = certificates.made(scratch / "certificates")
    for path in (made.authority, made.certificate, made.key):
        tree.copy(path, f"/kernels/certificates/{path.name}")
    # Either place, as the package's release has it.
    tree.modules(next(kernel.glob("**/lib/modules/*")))
    tree.file("/kernels/order.json", json.dumps(order).encode())
    return tree


def built(profile):
    """Builds the programs under test; their files."""
    flags = ["--release"] if profile == "release" else []
    selected = [f"--package={package}" for package in PROGRAMS]
    cargo("build", "--quiet", *flags, *selected)
    return [TARGET / profile / program for program in PROGRAMS]


def given(folder):
    """The programs under test where somebody else has built them."""
    programs = [folder / program for program in PROGRAMS]
    missing = [path.name for path in programs if not path.exists()]
    if missing:
        raise Unusable(f"{folder} has no {', '.join(missing)}")
    return programs


def built_tests():
    """Builds the crates' tests; their files."""
    selected = [f"--package={package}" for package in CRATES]
    printed = cargo("test", "--quiet", "--no-run", "--message-format=json", "--lib", "--tests", *selected)
    messages = [json.loads(line) for line in printed.splitlines() if line.startswith("{")]
    return [Path(message["executable"]) for message in messages if message.get("executable")]


def cargo(*arguments):
    finished = subprocess.run(["cargo", *arguments], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
    if finished.returncode != 0:
        raise Unusable(f"cargo {' '.join(arguments)} failed; see above")
    return finished.stdout


def stripped(program, scratch):
    """A copy without debug information, which is most of it."""
    small = scratch / program.name
    subprocess.run(["strip", "--strip-debug", "-o", small, program], check=True)
    return small


if __name__ == "__main__":
    main()
