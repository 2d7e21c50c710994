"""The comparison as one HTML page that needs nothing else: tables, and plots as SVG."""

import statistics
from html import escape

from . import figures, svg, tables, targets

# Heading, figure, digits: what gets bars.
BARS = [
    ("CPU per message, µs (less is better)", "cpu_us", 2),
    ("Messages a second", "messages_per_s", 0),
    ("Bytes of the process for each connection (less is better)", "bytes_per_connection", 0),
    ("Connections for each CPU second", "connections_per_cpu_s", 0),
    ("Connections a second", "connections_per_s", 0),
]

STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; color: #1b1b1b; background: #fff }
h1 { font-size: 1.6rem } h2 { font-size: 1.2rem; margin-top: 2.5rem; border-top: 1px solid #ccc; padding-top: 1rem }
h3 { font-size: .95rem; margin: 1.2rem 0 .2rem }
table { border-collapse: collapse; font-size: .85rem; font-variant-numeric: tabular-nums; margin: .6rem 0 }
th, td { padding: .2rem .6rem; text-align: right; border-bottom: 1px solid #e2e2e2; vertical-align: top }
th:first-child, td:first-child, td.left { text-align: left }
td.met { color: #006b3c; font-weight: 600 } td.MISSED { color: #b00020; font-weight: 600 }
p.remark { margin: .15rem 0; font-size: .85rem; color: #8a3a00 } p.note { color: #555; font-size: .85rem }
svg { width: 100%; max-width: 46rem; height: auto; display: block }
.text { font: 12px system-ui, sans-serif; fill: #333 } .grid { stroke: #e4e4e4; fill: none }
.range { stroke: #111; stroke-width: 2; fill: none } .curve { fill: none; stroke-width: 2 }
"""


def rendered(result):
    """The page for what `table` wrote."""
    rows, entries = result["rows"], figures.summary(result["rows"])
    palette = svg.colours(dict.fromkeys(entry["broker"] for entry in entries))
    sections = [
        section(name, result["scenarios"].get(name, {}), entries, rows, palette)
        for name in dict.fromkeys(entry["scenario"] for entry in entries)
    ]
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        f"<title>Fulcrum beside its peers</title><style>{STYLE}</style>"
        f"<h1>Fulcrum beside its peers</h1>{conditions(result)}"
        f"<h2>Targets</h2>{target_table(rows)}{''.join(sections)}</html>\n"
    )


def conditions(result):
    facts = " · ".join(f"{key} {value}" for key, value in result["conditions"].items() if value)
    brokers = [
        [name, about["version"], about["settings"]] for name, about in result["brokers"].items()
    ]
    absent = "".join(
        f'<p class="remark">{escape(name)}: {escape(reason)}</p>'
        for name, reason in result["absent"].items()
    )
    return (
        f'<p class="note">{escape(facts)}</p>'
        '<p class="note">Server on one processor, driver on the other; brokers take turns within '
        "a round, in a changing order. Bars are medians of all rounds, the black lines their range. "
        "Differences under 10 % mean nothing. How to read it: loadtests/README.md.</p>"
        f"{table(['broker', 'version', 'settings'], brokers, left=3)}{absent}"
    )


def target_table(rows):
    head = ["scenario", "what", "target", "found (median, range)", ""]
    body = "".join(
        "<tr>"
        + "".join(f'<td class="left">{escape(cell)}</td>' for cell in line[:2])
        + "".join(f"<td>{escape(cell)}</td>" for cell in line[2:4])
        + f'<td class="{line[4]}">{line[4]}</td></tr>'
        for line in targets.verdicts(rows)
    )
    return f"<table><tr>{''.join(f'<th>{cell}</th>' for cell in head)}</tr>{body}</table>"


def section(name, scenario, entries, rows, palette):
    among = [entry for entry in entries if entry["scenario"] == name]
    columns = tables.columns_of(among)
    shown = {figure for _, figure, _ in columns}
    body = [[entry["broker"], *tables.cells(entry, columns)] for entry in among]
    parts = [
        f'<h2 id="{escape(name)}">{escape(name)}</h2>',
        f'<p class="note">{escape(", ".join(f"{key} {value}" for key, value in scenario.items()))}</p>',
        table(["", *(heading for heading, _, _ in columns)], body),
    ]
    for entry in among:
        for remark in tables.remarks(entry):
            parts.append(f'<p class="remark">{escape(entry["broker"])}: {escape(remark)}</p>')
    for heading, figure, digits in BARS:
        series = {
            entry["broker"]: entry["figures"][figure]
            for entry in among
            if figure in shown and figure in entry["figures"]
        }
        if series:
            drawn = svg.bars(series, palette, lambda found, digits=digits: figures.spread(found, digits))
            parts.append(f"<h3>{heading}</h3>{drawn}")
    if latencies := latency_curves(name, rows):
        parts.append(f"<h3>Latency by percentile (less is better)</h3>{svg.curves(latencies, palette)}")
    return "".join(parts)


def latency_curves(scenario, rows):
    """Broker -> its curve: at each percentile the median of the rounds."""
    found = {}
    for row in figures.usable(rows):
        latency = (row.get("traffic") or {}).get("latency_us")
        if row["scenario"] == scenario and latency:
            found.setdefault(row["broker"], []).append(latency["curve"])
    return {
        broker: [
            (points[0][0], statistics.median(value for _, value in points))
            for points in zip(*all_rounds, strict=True)
        ]
        for broker, all_rounds in found.items()
    }


def table(head, body, left=1):
    def cell(at, text):
        return f'<td{" class=left" if at < left else ""}>{escape(str(text))}</td>'

    lines = "".join(
        f"<tr>{''.join(cell(at, text) for at, text in enumerate(line))}</tr>" for line in body
    )
    return f"<table><tr>{''.join(f'<th>{escape(text)}</th>' for text in head)}</tr>{lines}</table>"
