"""What run.py offers: `table`, `yardstick`, `idle`."""

import argparse
import json
import random
import sys
import time
from pathlib import Path

from . import figures, load, machine, servers, yardstick
from .machine import Unusable


def main(arguments=None):
    options = parser().parse_args(arguments)
    try:
        prepare(options)
        with machine.congestion_control(options.congestion) as congestion:
            conditions = machine.description(options.data_dir) | {"congestion_control": congestion}
            result = options.command(options)
        result = {"command": options.name, "conditions": conditions, **result}
        print(f"\n{describe(conditions)}")
        if options.out:
            options.out.write_text(json.dumps(result, indent=1) + "\n")
            print(f"rows in {options.out}")
    except Unusable as error:
        sys.exit(f"run.py: {error}")
    except KeyboardInterrupt:
        sys.exit(130)


def parser():
    def brokers(text):
        names = text.split(",")
        if unknown := set(names) - set(servers.NAMES):
            raise argparse.ArgumentTypeError(f"{unknown}: choose from {', '.join(servers.NAMES)}")
        return names

    def scenarios(text):
        names = text.split(",")
        if unknown := set(names) - set(load.SCENARIOS):
            raise argparse.ArgumentTypeError(f"{unknown}: choose from {', '.join(load.SCENARIOS)}")
        return names

    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--brokers", type=brokers, default=list(servers.NAMES), help="comma-separated")
    common.add_argument("--seconds", type=float, default=5, help="length of one measurement")
    common.add_argument("--warmup", type=float, default=1, help="seconds under load before it")
    common.add_argument("--out", type=Path, help="write all rows as JSON to this file")
    common.add_argument("--fulcrum", type=Path, help="fulcrum-edge to run; built if not given")
    common.add_argument("--driver", type=Path, help="fulcrum-load to use; built if not given")
    common.add_argument("--data-dir", type=Path, default=machine.target_dir() / "loadtests",
                        help="where brokers keep their data: choose the disk to be measured")
    common.add_argument("--devices", type=int, default=1_000, help="devices Fulcrum knows")
    common.add_argument("--congestion", default="cubic", help="TCP congestion control, or 'keep'")
    common.add_argument("--quiet-seconds", type=float, default=20,
                        help="wait this long at most for CPUs and disk to be idle")
    common.add_argument("--favour", action="store_true",
                        help="ask the scheduler to prefer this session (root)")

    top = argparse.ArgumentParser(prog="run.py", description="Fulcrum beside its peers.")
    commands = top.add_subparsers(dest="name", required=True)
    table = commands.add_parser("table", parents=[common], help="CPU per message, all brokers")
    table.add_argument("--rounds", type=int, default=5)
    table.add_argument("--scenarios", type=scenarios, default=list(load.SCENARIOS),
                       help="comma-separated")
    table.set_defaults(command=run_table, programs=("mosquitto", "taskset"))
    disk = commands.add_parser("yardstick", parents=[common], help="stored messages beside fio")
    disk.add_argument("--rounds", type=int, default=5)
    disk.add_argument("--record-bytes", type=int, default=256,
                      help="size of a stored record when Fulcrum is not among the brokers")
    disk.add_argument("--direct", action="store_true",
                      help="O_DIRECT, if that is the journal's write mode")
    disk.set_defaults(command=run_yardstick, programs=("fio", "taskset"))
    idle = commands.add_parser("idle", parents=[common], help="memory and CPU without load")
    idle.add_argument("--connections", type=int, default=1_000)
    idle.set_defaults(command=run_idle, programs=("mosquitto", "taskset"))
    return top


def prepare(options):
    machine.require(*options.programs)
    machine.raise_file_limit()
    options.data_dir = options.data_dir.absolute()
    options.data_dir.mkdir(parents=True, exist_ok=True)
    if options.driver is None:
        options.driver = machine.built("fulcrum-load", "fulcrum-load")
    if servers.FULCRUM not in options.brokers:
        options.fulcrum = None
    elif options.fulcrum is None:
        options.fulcrum = machine.built("fulcrum-edge", "fulcrum-edge")
    if options.favour:
        machine.favour_this_session()


def run_table(options):
    """Every broker in every scenario, in a new random order each round."""
    rows = []
    for number in range(options.rounds):
        for scenario in options.scenarios:
            for broker in random.sample(options.brokers, len(options.brokers)):
                report = load.measured(scenario, broker, options)
                rows.append({"round": number, "at": round(time.time())} | report)
                progress(
                    f"round {number + 1}/{options.rounds} {scenario} {broker}: "
                    f"{figures.cpu_us(report):.2f} µs, {report['messages_per_s']:,.0f} /s"
                )
    entries = figures.summary(rows, [name for name in servers.MOSQUITTO if name in options.brokers])
    figures.print_table(entries)
    return {"summary": entries, "rows": rows}


def run_yardstick(options):
    rows = []
    for number in range(options.rounds):
        rows += [{"round": number} | row for row in yardstick.round_of(options)]
        progress(f"round {number + 1}/{options.rounds} done")
    yardstick.print_summary(rows)
    return {"rows": rows}


def run_idle(options):
    rows = []
    for broker in options.brokers:
        report = load.idle(broker, options)
        rows.append(report)
        alone, connected = report["alone"], report["connected"]
        print(f"{broker}: {alone['resident_mib']:.1f} MiB, {alone['cpu_percent']:.3f} % of a core")
        if connected:
            print(
                f"  with {report['connections']} idle connections: "
                f"{connected['resident_mib']:.1f} MiB, {connected['cpu_percent']:.3f} % of a core, "
                f"{report['bytes_per_connection'] / 1024:.1f} KiB each"
            )
    return {"rows": rows}


def progress(text):
    print(text, file=sys.stderr, flush=True)


def describe(conditions):
    return "; ".join(f"{name.replace('_', ' ')}: {value}" for name, value in conditions.items())
