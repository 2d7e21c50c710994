"""From rows to medians, ranges and ratios.

Ratios are taken within a round, where the machine was in about the same mood, and only then
summarised; a ratio of medians would mix rounds.
"""

import statistics


def spread(values, digits):
    """Median and range as text."""
    median, low, high = (
        f"{value:,.{digits}f}" for value in (statistics.median(values), min(values), max(values))
    )
    return median if len(values) == 1 else f"{median} ({low}..{high})"


def cpu_us(row):
    return row["server"]["cpu_us_per_message"]


def ratios(rows, scenario, broker, baseline):
    """CPU per message of `broker` as a share of `baseline`'s, one for each round that has both."""
    by_round = {
        (row["round"], row["broker"]): cpu_us(row) for row in rows if row["scenario"] == scenario
    }
    return [
        value / by_round[(number, baseline)]
        for (number, name), value in sorted(by_round.items())
        if name == broker and by_round.get((number, baseline))
    ]


def summary(rows, baselines):
    """One entry for each scenario and broker, in the order of the rows' first appearance."""
    entries = []
    for scenario, broker in dict.fromkeys((row["scenario"], row["broker"]) for row in rows):
        among = [row for row in rows if (row["scenario"], row["broker"]) == (scenario, broker)]
        entries.append(
            {
                "scenario": scenario,
                "broker": broker,
                "rounds": len(among),
                "cpu_us_per_message": [cpu_us(row) for row in among],
                "messages_per_s": [row["messages_per_s"] for row in among],
                "p50_us": statistics.median(row["latency_us"]["p50"] for row in among),
                "p99_us": statistics.median(row["latency_us"]["p99"] for row in among),
                "server_cpu_share": statistics.median(row["server"]["cpu_share"] for row in among),
                "driver_busy_share": statistics.median(row["driver_busy_share"] for row in among),
                "errors": {
                    kind: total
                    for kind in among[0]["errors"]
                    if (total := sum(row["errors"][kind] for row in among))
                },
                "cpu_ratio_to": {
                    baseline: found
                    for baseline in baselines
                    if baseline != broker and (found := ratios(rows, scenario, broker, baseline))
                },
            }
        )
    return entries


def print_table(entries):
    columns = "{:<20}{:>26}{:>34}{:>9}{:>9}{:>8}{:>8}  {}"
    for scenario in dict.fromkeys(entry["scenario"] for entry in entries):
        print(f"\n{scenario}")
        print(
            columns.format(
                *("  broker", "CPU µs/message", "messages/s", "p50 µs", "p99 µs"),
                *("server", "driver", "CPU ratio to"),
            )
        )
        for entry in entries:
            if entry["scenario"] != scenario:
                continue
            against = ", ".join(
                f"{baseline} {spread(values, 2)}" for baseline, values in entry["cpu_ratio_to"].items()
            )
            print(
                columns.format(
                    f"  {entry['broker']}",
                    spread(entry["cpu_us_per_message"], 2),
                    spread(entry["messages_per_s"], 0),
                    f"{entry['p50_us']:.0f}",
                    f"{entry['p99_us']:.0f}",
                    f"{entry['server_cpu_share']:.0%}",
                    f"{entry['driver_busy_share']:.0%}",
                    against,
                )
            )
            if entry["errors"]:
                print(f"    ERRORS {entry['errors']}")
