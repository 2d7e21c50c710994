"""What is checked on a kernel. A check raises if it fails and returns what is worth knowing.

Those of `SUPPORTED` are for kernels from the floor on and share one node, in this order; those of `TOO_OLD` are for the
kernels below it.
"""

import contextlib
import json
import os
import platform
import subprocess
import time
import urllib.request
from pathlib import Path

from guest.node import CERTIFICATES, DEVICE, EDGE, HTTP, MQTT, TLS, Node, ran
from guest.reporting import Failed
from runner import seed

# The first kernel whose waits may name a minimum time.
MINIMUM_WAIT = (6, 12)
RELEASE = Path("/proc/sys/kernel/osrelease")
SWITCH = Path("/proc/sys/kernel/io_uring_disabled")
LOGIN = ("-u", DEVICE, "-P", seed.DEVICE_PASSWORD)
# Crates with an event loop of the kernel under them, tested as they are.
CRATE_TESTS = Path("/kernels/crates")
# Of those, the ones that count on a processor's speed. Unoptimised they fail here, on an emulated one. Optimised, two pass on
# 6.1; of the wandering connections every byte arrives as it was sent then, and only the number of moves that the test wants to
# have seen in the time that takes is not reached.
TIMED = (
    "connections_wander_between_two_rings_under_load_and_no_byte_is_lost_or_doubled",
    "output_that_cannot_leave_closes_instead",
    "order_survives_backpressure_and_the_handler_hears_of_it",
)
SCENARIOS = Path("/kernels/scenarios")

node = Node()


def version():
    """This kernel's major and minor number."""
    major, minor = platform.release().split(".")[:2]
    return int(major), int("".join(digit for digit in minor if digit.isdigit()))


# ---- the host's fitness ------------------------------------------------------------------------------------------------------


def fit():
    """The check before the start finds everything it needs, and is right about what this kernel does not have."""
    node.prepared()
    report = json.loads(ran([EDGE, "check", "--json", "--config", node.config]))
    wrong = [check for check in report["checks"] if check["required"] and not check["ok"]]
    if wrong or not report["fit"]:
        raise Failed(f"not fit: {wrong}")
    minimum_wait = next(check["ok"] for check in report["checks"] if "minimum-wait" in check["name"])
    if minimum_wait != (version() >= MINIMUM_WAIT):
        raise Failed(f"minimum waits are said to be there: {minimum_wait}, on {platform.release()}")
    return f"{platform.release()}, minimum waits: {'yes' if minimum_wait else 'no'}"


def refused(*expected):
    """Neither the check nor the node itself goes on, and both say these words."""
    node.prepared()
    for command in ("check", "run"):
        printed = ran([EDGE, command, "--config", node.config], status=1)
        for words in expected:
            if words not in printed:
                raise Failed(f"fulcrum-edge {command} does not say '{words}':\n{printed}")
    return f"refused: {expected[0]}"


def renamed_kernel_refused():
    """A release below the floor is refused by its name alone."""
    with shadowed(RELEASE, "5.15.0-1051-aws\n"):
        return refused("6.1 or newer", "5.15.0-1051-aws", "apt install linux-image-amd64")


def switched_off_refused():
    """With io_uring switched off for everyone the node says which switch it is."""
    if not SWITCH.exists():
        return "this kernel has no such switch"
    before = SWITCH.read_text()
    SWITCH.write_text("2")
    try:
        return refused("sysctl -w kernel.io_uring_disabled=0")
    finally:
        SWITCH.write_text(before)


def old_kernel_refused():
    """A kernel that is below the floor, whatever of io_uring it has."""
    return refused("6.1 or newer", platform.release(), "apt install linux-image-amd64")


@contextlib.contextmanager
def shadowed(path, text):
    """Another content in a file of /proc."""
    shadow = Path("/tmp/shadow")
    shadow.write_text(text)
    ran(["mount", "--bind", shadow, path])
    try:
        yield
    finally:
        ran(["umount", path])


# ---- the node and its clients ------------------------------------------------------------------------------------------------


def starts():
    """A node of two shards is ready."""
    return f"{len(node.running().series('fulcrum_journal_records_total'))} shards"


def quality(qos):
    """What is published arrives, in both versions of MQTT, on either shard."""

    def check():
        for protocol in ("mqttv311", "mqttv5"):
            for number in range(4):
                topic, client = f"bench/check/{protocol}/{qos}/{number}", f"reader-{protocol}-{qos}-{number}"
                with subscriber(topic, client, qos, protocol) as reader:
                    publish(topic, "21.5", qos, "-V", protocol)
                    printed = reader.communicate(timeout=90)[0].decode()
                if printed.strip() != f"{topic} 21.5":
                    raise Failed(f"{topic}: received {printed!r}")

    return check


@contextlib.contextmanager
def subscriber(topic, client, qos, protocol):
    """A mosquitto_sub that is subscribed, the only one, and ends with the first message."""
    wait_until(lambda: subscribers_everywhere() == {0}, "the client before it is gone")
    reader = subprocess.Popen(
        ["mosquitto_sub", *local(MQTT), *LOGIN, "-i", client, "-V", protocol, "-q", str(qos), "-t", topic,
         "-C", "1", "-W", "60", "-v"],
        stdout=subprocess.PIPE,
    )  # fmt: skip
    try:
        wait_until(lambda: subscribers_everywhere() == {1}, f"{client} is subscribed")
        yield reader
    finally:
        if reader.poll() is None:
            reader.kill()
        reader.wait()


def subscribers_everywhere():
    """How many subscriptions the shards know, each of which should know all."""
    return set(node.running().series("fulcrum_topic_subscriptions"))


def publish(topic, text, qos, *more):
    ran(["mosquitto_pub", *local(MQTT), *LOGIN, "-q", qos, "-t", topic, "-m", text, *more])


def local(port):
    return ("-h", "127.0.0.1", "-p", str(port))


def wait_until(condition, what, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise Failed(f"not within {seconds} s: {what}\n{node.tail()}")
        time.sleep(0.1)


def event_acknowledged():
    """An event over MQTT is acknowledged, and is in the journal then."""
    before = node.running().metric("fulcrum_journal_records_total")
    publish("event", '{"bar": 2.1}', 1)
    written = node.metric("fulcrum_journal_records_total") - before
    if written != 1:
        raise Failed(f"one event was acknowledged and {written:.0f} were written")


def event_over_http():
    """An event over HTTP is accepted."""
    node.running()
    request = urllib.request.Request(f"http://127.0.0.1:{HTTP}/event", b'{"bar": 2.2}')
    credentials = f"{DEVICE}:{seed.DEVICE_PASSWORD}".encode()
    request.add_header("Authorization", f"Basic {seed.encoded(credentials)}")
    request.add_header("Content-Type", "application/json")
    with urllib.request.urlopen(request, timeout=60) as answer:
        if answer.status != 202:
            raise Failed(f"status {answer.status}")


def over_tls():
    """A publish over TLS is acknowledged; the client verifies the certificate."""
    node.running()
    ran(["mosquitto_pub", "-h", "localhost", "-p", TLS, "--cafile", f"{CERTIFICATES}/ca.pem", *LOGIN,
         "-q", 1, "-t", "bench/tls", "-m", "1"])  # fmt: skip


def session_survives_kill():
    """A session that is away gets what was acknowledged before the node was killed."""
    topic, session = "bench/kept/temperature", ("-i", "keeper", "-c", "-q", "2", "-t", "bench/kept/#")
    node.running()
    ran(["mosquitto_sub", *local(MQTT), *LOGIN, *session, "-E"])
    for number in range(10):
        publish(topic, number, 1 + number % 2)
    node.kill()
    node.start()
    reading = ["mosquitto_sub", *local(MQTT), *LOGIN, *session, "-C", "10", "-W", "60"]
    received = [int(text) for text in ran(reading).split()]
    # mosquitto_sub shows a message with QoS 2 when it is released, after those with QoS 1 that were sent behind it.
    in_order = [number for odd in (0, 1) for number in range(odd, 10, 2)]
    if sorted(received, key=lambda number: number % 2) != in_order:
        raise Failed(f"received after the restart: {received}\n{node.tail()}")


def load(scenario, *flags):
    """A load in which the driver counts losses, repetitions and disorder."""

    def check():
        shape = {"pattern": "pairs"}
        line = [
            *("/bin/fulcrum-load", "run", "--json", "--scenario", SCENARIOS / f"{scenario}.toml"),
            *("--port", MQTT, "--server-pid", node.running().process.pid, "--seconds", 5, "--warmup", 2, "--busy-poll", "false"),
            *seed.driver_flags(shape),
            *flags,
        ]
        report = json.loads(ran(line, timeout=240, environment=os.environ | seed.driver_environment()))
        if report["failures"] or not report["traffic"]["messages"]:
            raise Failed(f"{report['failures']}: {report['errors']}")
        return f"{report['traffic']['messages']} messages"

    return check


def stops():
    """It ends by itself when it is asked to, and says so with its status."""
    status = node.running().stop()
    if status != 0:
        raise Failed(f"status {status}:\n{node.tail()}")


# ---- more than the node ------------------------------------------------------------------------------------------------------


def crates():
    """The crates' own tests, built on the host."""
    programs = sorted(path for path in CRATE_TESTS.iterdir() if os.access(path, os.X_OK))
    if not programs:
        raise Failed("no tests were built")
    count, failures = 0, []
    skipping = [word for name in TIMED for word in ("--skip", name)]
    for program in programs:
        try:
            printed = ran([program, "--test-threads", "2", *skipping], timeout=400)
            count += sum(int(line.split()[3]) for line in printed.splitlines() if line.startswith("test result: ok"))
        except Failed as failure:
            failures.append(str(failure))
    if failures:
        raise Failed("\n".join(failures))
    return f"{count} tests in {len(programs)} programs"


def demo():
    """Cloud, node and devices, a link that is cut, a node that is killed, and the proof that nothing was lost."""
    printed = ran(["/bin/fulcrum", "demo", "--node", EDGE, "--rate", "4"], timeout=400)
    return printed.strip().splitlines()[-1]


def kernel_content():
    """The kernel has not complained."""
    signs = ("WARNING:", "BUG:", "Oops", "Call Trace", "hung_task", "Out of memory")
    found = [line for line in ran(["dmesg"]).splitlines() if any(sign in line for sign in signs)]
    if found:
        raise Failed("\n".join(found))


SUPPORTED = {
    "fit": fit,
    "renamed-kernel-refused": renamed_kernel_refused,
    "switched-off-refused": switched_off_refused,
    "starts": starts,
    "qos-0": quality(0),
    "qos-1": quality(1),
    "qos-2": quality(2),
    "event-acknowledged": event_acknowledged,
    "event-over-http": event_over_http,
    "tls": over_tls,
    "session-survives-kill": session_survives_kill,
    "load-qos1-p2p": load("qos1-p2p"),
    "load-qos2-window-1": load("qos1-p2p", "--qos", 2, "--window", 1),
    "stops": stops,
    "crates": crates,
    "demo": demo,
    "kernel-content": kernel_content,
}
TOO_OLD = {"old-kernel-refused": old_kernel_refused, "kernel-content": kernel_content}
CHECKS = SUPPORTED | TOO_OLD
