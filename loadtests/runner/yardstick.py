"""The disk's own pace: what fio reaches with the write pattern of group commit.

README.md, "The yardstick for stored messages", says which figures are compared, and why.
"""

import json
import os
import statistics
import subprocess

from peers import PEERS

from . import load, machine
from .figures import spread
from .machine import Unusable

IN_FLIGHT = 64
SCENARIOS = ("qos1-stored", "qos1-stored-train")
FILE_BYTES = 64 << 20
# Head, end mark and padding a journal record has around its frame, on average.
RECORD_OVERHEAD_BYTES = 28


def writes_per_s(batch_bytes, options):
    """fdatasync'ed writes a second of `batch_bytes` each, on the disk of the data directory."""
    machine.wait_until_quiet(options)
    file = options.data_dir / "yardstick.bin"
    options.data_dir.mkdir(parents=True, exist_ok=True)
    with file.open("wb") as output:
        output.write(bytes(FILE_BYTES))
        os.fsync(output.fileno())
    job = machine.LOADTESTS / "peers" / "fio" / "group-commit.fio"
    variables = {
        "YARDSTICK_FILE": str(file),
        "YARDSTICK_BATCH_BYTES": str(batch_bytes),
        "YARDSTICK_DIRECT": "1" if options.direct else "0",
        "YARDSTICK_SECONDS": str(max(1, round(options.seconds))),
    }
    command = machine.pinned(machine.SERVER_CPU, ["fio", "--output-format=json", job])
    try:
        finished = subprocess.run(
            command, env=os.environ | variables, capture_output=True, text=True, check=False
        )
        if finished.returncode != 0:
            raise Unusable(f"fio: {finished.stderr.strip()} {finished.stdout.strip()}")
        (job_report,) = json.loads(finished.stdout)["jobs"]
        return job_report["write"]["iops"]
    finally:
        file.unlink()


def round_of(options, certificates):
    """One round: Fulcrum's stored scenarios, if it is there, each beside fio."""
    rows = []
    for scenario in SCENARIOS if options.fulcrum else []:
        report = load.measured(scenario, PEERS["fulcrum"], options, certificates)
        rows.append(compared(report, options))
    if not rows:
        batch_bytes = aligned(IN_FLIGHT * options.record_bytes, options)
        rows.append({"scenario": "fio alone", **ideal(batch_bytes, options)})
    return rows


def ideal(batch_bytes, options):
    """fio with all 64 records in one write."""
    writes = writes_per_s(batch_bytes, options)
    return {
        "ideal_batch_bytes": batch_bytes,
        "ideal_writes_per_s": writes,
        "ideal_messages_per_s": IN_FLIGHT * writes,
    }


def compared(report, options):
    """Adds to a report of Fulcrum what fio does with all 64 records in one write, and with the
    batches that Fulcrum in fact wrote."""
    journal = report.get("journal")
    if not journal or not journal["batches"]:
        raise Unusable(
            "no journal counters on the node's /metrics: wanted "
            + ", ".join(f"{journal}_*_total" for journal in load.JOURNALS)
        )
    record_bytes = journal["bytes"] / journal["records"] + RECORD_OVERHEAD_BYTES
    records_per_batch = journal["records"] / journal["batches"]
    own_batch_bytes = aligned(record_bytes * records_per_batch, options)
    own_writes = writes_per_s(own_batch_bytes, options)
    messages_per_s = report["traffic"]["messages_per_s"]
    commits_per_s = messages_per_s / records_per_batch
    report |= ideal(aligned(IN_FLIGHT * record_bytes, options), options)
    return report | {
        "records_per_batch": records_per_batch,
        "own_batch_bytes": own_batch_bytes,
        "own_writes_per_s": own_writes,
        "share_of_own_pattern": commits_per_s / own_writes,
        "share_of_ideal": messages_per_s / report["ideal_messages_per_s"],
    }


def aligned(count, options):
    """The journal pads direct writes to 4096 bytes; buffered ones are as long as they are."""
    return -(-round(count) // 4096) * 4096 if options.direct else round(count)


def print_summary(rows):
    for scenario in dict.fromkeys(row["scenario"] for row in rows):
        of_scenario = [row for row in rows if row["scenario"] == scenario]

        def values(name, among=of_scenario):
            return [row[name] for row in among]

        def reached(among=of_scenario):
            return [row["traffic"]["messages_per_s"] for row in among]

        print(f"{scenario}, {len(of_scenario)} rounds: median (range)")
        batch_bytes = statistics.median(values("ideal_batch_bytes"))
        print(f"  fio, {batch_bytes:.0f} B writes      {spread(values('ideal_writes_per_s'), 0)} /s")
        print(f"  as messages, 64 a write   {spread(values('ideal_messages_per_s'), 0)} /s")
        if "share_of_ideal" not in of_scenario[0]:
            continue
        print(f"  Fulcrum                   {spread(reached(), 0)} /s")
        print(f"  records in a batch        {spread(values('records_per_batch'), 1)}")
        print(f"  share of own pattern      {spread(values('share_of_own_pattern'), 2)}")
        print(f"  share of ideal            {spread(values('share_of_ideal'), 2)}")
