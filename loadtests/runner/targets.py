"""The speed that is aimed for, as numbers, and whether the rows reach it."""

import dataclasses
import statistics

from . import figures
from .figures import spread


@dataclasses.dataclass
class Target:
    scenario: str
    # One of figures.FIGURES.
    figure: str
    limit: float
    # Another broker whose figure the limit multiplies; None: the limit is absolute.
    against: str | None
    # Whether less is better.
    at_most: bool
    text: str
    broker: str = "fulcrum"

    def verdict(self, rows):
        """What was found, as text, and whether it meets the limit (None: not measured)."""
        if self.against is None:
            of_scenario = [row for row in rows if row["scenario"] == self.scenario]
            own = [row for row in figures.usable(of_scenario) if row["broker"] == self.broker]
            found = figures.values(own, self.figure)
        else:
            found = figures.ratios(rows, self.scenario, self.figure, self.broker, self.against)
        if not found:
            return "not measured", None
        median = statistics.median(found)
        met = median <= self.limit if self.at_most else median >= self.limit
        return spread(found, 2 if self.against else 0), met


TARGETS = [
    Target("qos0-pipelined", "cpu_us", 0.25, "mosquitto", True,
           "CPU per message, at most 1/4 of mosquitto's"),
    Target("qos0-pipelined", "cpu_us", 1.5, "bare-loop", True,
           "CPU per message, at most 1.5 x the bare loop's"),
    Target("qos0-pingpong-1000", "cpu_us", 1.0, "mosquitto", True,
           "CPU per message, below mosquitto's"),
    Target("qos0-pingpong-1000", "cpu_us", 1.1, "bare-loop", True,
           "CPU per message, at most 1.1 x the bare loop's"),
    Target("qos1-p2p", "cpu_us", 1 / 3, "mosquitto", True,
           "CPU per message, at most 1/3 of mosquitto's"),
    Target("qos1-stored", "messages_per_s", 1.0, "mosquitto", False,
           "messages/s on disk, more than mosquitto's in memory"),
    Target("edge-5000", "cpu_us", 0.5, "mosquitto", True,
           "adaptive: CPU per message, at most 1/2 of mosquitto's"),
    Target("edge-5000", "p99_us", 2_000, None, True, "adaptive: p99 in µs, under 2 ms"),
    Target("edge-5000", "p99_us", 1.0, "mosquitto", True,
           "latency mode: p99, no worse than mosquitto's", broker="fulcrum-latency"),
    Target("idle-100k", "bytes_per_connection", 1_024, None, True,
           "bytes per idle connection, at most 1 KiB"),
    Target("connect-storm", "connections_per_cpu_s", 3.0, "mosquitto", False,
           "connections per CPU second, at least 3 x mosquitto's, which lets anybody in"),
    # Beside it, what a password costs on both sides.
    Target("connect-storm", "connections_per_cpu_s", 3.0, "mosquitto-passwords-sha512", False,
           "both check a password, one round of SHA-2: at least 3 x mosquitto's"),
    Target("connect-storm", "connections_per_cpu_s", 3.0, "mosquitto-passwords", False,
           "both check a password, mosquitto as it comes (PBKDF2): at least 3 x"),
]  # fmt: skip

WORDS = {True: "met", False: "MISSED", None: "-"}


def verdicts(rows):
    """For each target: scenario, text, limit, what was found, met or missed."""
    lines = []
    for target in TARGETS:
        found, met = target.verdict(rows)
        limit = f"{'<=' if target.at_most else '>='} {target.limit:,.4g}"
        unit = f" x {target.against}" if target.against else ""
        lines.append((target.scenario, target.text, limit + unit, found, WORDS[met]))
    return lines
