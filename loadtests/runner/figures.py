"""From rows to medians, ranges and ratios.

Ratios are taken within a round, where the machine was in about the same mood, and only then
summarised; a ratio of medians would mix rounds.
"""

import statistics

# Deliveries of a message, where that is not one.
COPIES = {"fan-in": lambda row: row["subscribers"], "fan-out": lambda row: row["subscribers"]}

# What a row says, by the name used in tables and targets. Absent where the scenario has no such thing.
FIGURES = {
    "cpu_us": lambda row: row["traffic"]["server"]["cpu_us_per_message"],
    "messages_per_s": lambda row: row["traffic"]["messages_per_s"],
    "p50_us": lambda row: row["traffic"]["latency_us"]["p50"],
    "p90_us": lambda row: row["traffic"]["latency_us"]["p90"],
    "p99_us": lambda row: row["traffic"]["latency_us"]["p99"],
    "p999_us": lambda row: row["traffic"]["latency_us"]["p999"],
    "max_us": lambda row: row["traffic"]["latency_us"]["max"],
    "server_share": lambda row: row["traffic"]["server"]["cpu_share"],
    "driver_share": lambda row: row["traffic"]["driver"]["busy_share"],
    "resident_mib": lambda row: row["traffic"]["server"]["resident_mib"],
    "bytes_per_connection": lambda row: row["idle"]["bytes_per_connection"],
    # Open loop: how much of what was asked for came through.
    "rate_share": lambda row: row["traffic"]["messages_per_s"]
    / (row["rate_per_s"] * COPIES.get(row["pattern"], lambda row: 1)(row)),
    "idle_cpu_percent": lambda row: row["idle"]["cpu_percent"],
    "connections_per_s": lambda row: row["connecting"]["per_s"],
    "connections_per_cpu_s": lambda row: row["connecting"]["per_cpu_s"],
    "connack_p99_us": lambda row: row["connecting"]["time_to_connack_us"]["p99"],
}


def figure(row, name):
    """A figure of a row; None where it has none."""
    try:
        return FIGURES[name](row)
    except (KeyError, TypeError):
        return None


def values(rows, name):
    return [value for row in rows if (value := figure(row, name)) is not None]


def usable(rows):
    """Rows that were measured and in which the broker kept its promises."""
    return [row for row in rows if "unmeasured" not in row and not row.get("failures")]


def spread(numbers, digits):
    """Median and range as text."""
    median, low, high = (
        f"{value:,.{digits}f}"
        for value in (statistics.median(numbers), min(numbers), max(numbers))
    )
    return median if len(numbers) == 1 else f"{median} ({low}..{high})"


def ratios(rows, scenario, name, broker, baseline):
    """Figure `name` of `broker` as a multiple of `baseline`'s, one for each round that has both."""
    by_round = {
        (row["round"], row["broker"]): figure(row, name)
        for row in usable(rows)
        if row["scenario"] == scenario
    }
    return [
        value / by_round[(number, baseline)]
        for (number, of), value in sorted(by_round.items())
        if of == broker and value is not None and by_round.get((number, baseline))
    ]


def summary(rows):
    """One entry for each scenario and broker, in the order of the rows' first appearance."""
    entries = []
    for scenario, broker in dict.fromkeys((row["scenario"], row["broker"]) for row in rows):
        among = [row for row in rows if (row["scenario"], row["broker"]) == (scenario, broker)]
        good = usable(among)
        entries.append(
            {
                "scenario": scenario,
                "broker": broker,
                "rounds": len(among),
                "figures": {name: found for name in FIGURES if (found := values(good, name))},
                "connections": max((row.get("connections", 0) for row in among), default=0),
                "errors": total(row.get("errors", {}) for row in among),
                "failures": sorted({text for row in among for text in row.get("failures", ())}),
                "unmeasured": sorted({row["unmeasured"] for row in among if "unmeasured" in row}),
            }
        )
    return entries


def total(errors):
    """Errors of all rounds, zeros left out."""
    sums = {}
    for counts in errors:
        for kind, count in counts.items():
            sums[kind] = sums.get(kind, 0) + count
    return {kind: count for kind, count in sums.items() if count}
