"""The comparison as plain text."""

from . import load, targets
from .figures import spread

# Heading, figure, digits; a column is left out where no broker has it.
COLUMNS = [
    ("CPU µs/message", "cpu_us", 2),
    ("messages/s", "messages_per_s", 0),
    ("p50 µs", "p50_us", 0),
    ("p99 µs", "p99_us", 0),
    ("p99.9 µs", "p999_us", 0),
    ("server", "server_share", 2),
    ("driver", "driver_share", 2),
    ("B/connection", "bytes_per_connection", 0),
    ("idle CPU %", "idle_cpu_percent", 3),
    ("connections/s", "connections_per_s", 0),
    ("per CPU s", "connections_per_cpu_s", 0),
    ("CONNACK p99 µs", "connack_p99_us", 0),
]
# Connecting is what these are about; elsewhere it is noise.
ABOUT_CONNECTING = ("connections_per_s", "connections_per_cpu_s", "connack_p99_us")

# Below this share of an open loop's rate, latencies are those of a queue that grows.
RATE_REACHED = 0.98


def columns_of(entries):
    """The columns that at least one of the entries fills and that say something."""
    has_traffic = any("cpu_us" in entry["figures"] for entry in entries)
    return [
        (heading, figure, digits)
        for heading, figure, digits in COLUMNS
        if any(figure in entry["figures"] for entry in entries)
        and not (has_traffic and figure in ABOUT_CONNECTING)
    ]


def cells(entry, columns):
    found = entry["figures"]
    return [
        spread(found[figure], digits) if figure in found else "-" for _, figure, digits in columns
    ]


def remarks(entry):
    """What has to be known beside the figures."""
    wanted = load.scenarios().get(entry["scenario"], {}).get("connections", 0)
    return [
        *(
            [f"with {entry['connections']} connections: no more descriptors (ulimit -n)"]
            if 0 < entry["connections"] < wanted
            else []
        ),
        *(
            [f"overloaded: as little as {least:.0%} of the rate came through"]
            if (least := min(entry["figures"].get("rate_share", [1]))) < RATE_REACHED
            else []
        ),
        *(f"FAILED: {text}" for text in entry["failures"]),
        *(f"not measured: {text}" for text in entry["unmeasured"]),
        *([f"errors: {entry['errors']}"] if entry["errors"] else []),
    ]


def print_all(entries, rows):
    for scenario in dict.fromkeys(entry["scenario"] for entry in entries):
        of_scenario = [entry for entry in entries if entry["scenario"] == scenario]
        columns = columns_of(of_scenario)
        lines = [["", *(heading for heading, _, _ in columns)]]
        lines += [[entry["broker"], *cells(entry, columns)] for entry in of_scenario]
        print(f"\n{scenario}")
        print_aligned(lines)
        for entry in of_scenario:
            for remark in remarks(entry):
                print(f"    {entry['broker']}: {remark}")
    print("\ntargets")
    print_aligned([("scenario", "what", "target", "found", ""), *targets.verdicts(rows)], left=2)


def print_aligned(lines, left=1):
    """Columns as wide as they have to be: the first ones flush left, the others right."""
    widths = [max(len(line[at]) for line in lines) for at in range(len(lines[0]))]
    for line in lines:
        padded = [
            cell.ljust(width) if at < left else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        print("  " + "  ".join(padded).rstrip())
