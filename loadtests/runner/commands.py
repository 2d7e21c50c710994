"""What run.py offers: `table`, `report`, `peers`, `yardstick`, `idle`."""

import argparse
import json
import random
import sys
import time
from pathlib import Path

from peers import PEERS, UNOBTAINABLE

from . import certificates, figures, load, machine, page, tables, yardstick
from .machine import Unusable

RESULTS = machine.LOADTESTS / "results"
# Starting, connecting, settling and stopping, for the estimate of how long a table takes.
OVERHEAD_SECONDS = 7


def main(arguments=None):
    options = parser().parse_args(arguments)
    try:
        options.command(options)
    except Unusable as error:
        sys.exit(f"run.py: {error}")
    except KeyboardInterrupt:
        sys.exit(130)


def parser():
    def one_of(known):
        def parse(text):
            names = text.split(",")
            if unknown := set(names) - set(known):
                raise argparse.ArgumentTypeError(f"{unknown}: choose from {', '.join(known)}")
            return names

        return parse

    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--peer", "--brokers", dest="peers", type=one_of(PEERS), action="extend",
                        help="comma-separated, may be repeated; default: all that are installed")
    common.add_argument("--seconds", type=float, default=5, help="length of one measurement")
    common.add_argument("--warmup", type=float, default=1, help="seconds under load before it")
    common.add_argument("--out", type=Path, help="write all rows as JSON to this file")
    common.add_argument("--fulcrum", type=Path, help="fulcrum-edge to run; built if not given")
    common.add_argument("--driver", type=Path, help="fulcrum-load to use; built if not given")
    common.add_argument("--data-dir", type=Path, default=machine.target_dir() / "loadtests",
                        help="where brokers keep their data: choose the disk to be measured")
    common.add_argument("--congestion", default="cubic", help="TCP congestion control, or 'keep'")
    common.add_argument("--quiet-seconds", type=float, default=20,
                        help="wait this long at most for CPUs and disk to be idle")
    common.add_argument("--favour", action="store_true",
                        help="ask the scheduler to prefer this session (root)")  # fmt: skip

    top = argparse.ArgumentParser(prog="run.py", description="Fulcrum beside its peers.")
    commands = top.add_subparsers(dest="name", required=True)
    table = commands.add_parser("table", parents=[common], help="all scenarios, all brokers")
    table.add_argument("--rounds", type=int, default=5)
    table.add_argument("--scenario", dest="scenarios", type=one_of(load.scenarios()),
                       action="extend", help="comma-separated, may be repeated; default: all")
    table.add_argument("--html", type=Path, help="the page [default: beside the JSON]")
    table.set_defaults(command=measuring(run_table), programs=("taskset", "openssl"))
    report = commands.add_parser("report", help="the page for rows that were measured before")
    report.add_argument("rows", type=Path, help="JSON that `table` wrote")
    report.add_argument("--html", type=Path, help="the page [default: beside the JSON]")
    report.set_defaults(command=run_report)
    listing = commands.add_parser("peers", help="which brokers are there; installs them on demand")
    listing.add_argument("--install", type=one_of([*PEERS, "all"]), default=[],
                         help="comma-separated, or all")
    listing.set_defaults(command=run_peers)
    disk = commands.add_parser("yardstick", parents=[common], help="stored messages beside fio")
    disk.add_argument("--rounds", type=int, default=5)
    disk.add_argument("--record-bytes", type=int, default=256,
                      help="size of a stored record when Fulcrum is not among the brokers")
    disk.add_argument("--direct", action="store_true",
                      help="O_DIRECT, if that is the journal's write mode")
    disk.set_defaults(command=measuring(run_yardstick), programs=("fio", "taskset", "openssl"))
    idle = commands.add_parser("idle", parents=[common], help="memory and CPU without load")
    idle.add_argument("--connections", type=int, default=1_000)
    idle.set_defaults(command=measuring(run_idle), programs=("taskset", "openssl"))  # fmt: skip
    return top


def measuring(command):
    """A command for which machine and binaries are prepared and whose rows are kept."""

    def carry_out(options):
        prepare(options)
        with machine.congestion_control(options.congestion) as congestion:
            conditions = machine.description(options.data_dir) | {"congestion_control": congestion}
            made = certificates.made(options.data_dir / "certificates")
            result = {"command": options.name, "conditions": conditions}
            command(options, made, result)
        print(f"\n{describe(conditions)}")
        if options.out:
            options.out.parent.mkdir(parents=True, exist_ok=True)
            options.out.write_text(json.dumps(result, indent=1) + "\n")
            print(f"rows in {options.out}")

    return carry_out


def prepare(options):
    machine.require(*options.programs)
    machine.raise_file_limit()
    options.data_dir = options.data_dir.absolute()
    options.data_dir.mkdir(parents=True, exist_ok=True)
    if options.peers:
        for name in options.peers:
            if reason := PEERS[name].missing():
                raise Unusable(f"{name}: {reason} (or: run.py peers --install {name})")
    else:
        options.peers = [name for name, peer in PEERS.items() if not peer.missing()]
    if options.driver is None:
        options.driver = machine.built("fulcrum-load", "fulcrum-load")
    if not {"fulcrum", "fulcrum-latency"} & set(options.peers):
        options.fulcrum = None
    elif options.fulcrum is None:
        options.fulcrum = machine.built("fulcrum-edge", "fulcrum-edge")
    if options.favour:
        machine.favour_this_session()


def run_table(options, made, result):
    """Every broker in every scenario that suits it, in a changing order each round."""
    chosen = {
        name: scenario
        for name, scenario in load.scenarios().items()
        if not options.scenarios or name in options.scenarios
    }
    fitting = {
        name: [peer for peer in options.peers if not PEERS[peer].unsuited(scenario)]
        for name, scenario in chosen.items()
    }
    result["scenarios"] = chosen
    result["brokers"] = {
        name: {"version": PEERS[name].version(), "settings": PEERS[name].settings}
        for name in options.peers
    }
    result["absent"] = UNOBTAINABLE | {
        name: reason for name, peer in PEERS.items() if (reason := peer.missing())
    }
    result["unsuited"] = {
        name: {
            peer: reason for peer in options.peers if (reason := PEERS[peer].unsuited(scenario))
        }
        for name, scenario in chosen.items()
    }
    rows = result["rows"] = []
    for name, reason in result["absent"].items():
        progress(f"without {name}: {reason}")
    stamp = time.strftime("%Y%m%d-%H%M%S")
    options.out = options.out or RESULTS / f"{stamp}.json"
    total = options.rounds * sum(map(len, fitting.values()))
    minutes = total * (options.seconds + options.warmup + OVERHEAD_SECONDS) / 60
    progress(f"{total} measurements, about {minutes:.0f} minutes")
    for number in range(options.rounds):
        for scenario, names in fitting.items():
            for name in turns(names, number):
                row = {"round": number, "at": round(time.time())} | attempt(
                    scenario, PEERS[name], options, made
                )
                rows.append(row)
                progress(f"[{len(rows)}/{total}] {scenario} {name}: {brief(row)}")
    entries = result["summary"] = figures.summary(rows)
    tables.print_all(entries, rows)
    write_page(result, options.html or options.out.with_suffix(".html"))


def turns(names, number):
    """A new order each round: rotated, so that each one comes first, and then shuffled behind that."""
    rotated = names[number % len(names) :] + names[: number % len(names)] if names else []
    return rotated[:1] + random.sample(rotated[1:], len(rotated[1:]))


def attempt(scenario, peer, options, made):
    """A measurement, or why there is none."""
    try:
        return load.measured(scenario, peer, options, made)
    except Unusable as error:
        return {"scenario": scenario, "broker": peer.name, "unmeasured": str(error)}


def brief(row):
    """A row in a few words."""
    if "unmeasured" in row:
        return f"not measured: {row['unmeasured'].splitlines()[0]}"
    if row["failures"]:
        return f"FAILED: {', '.join(row['failures'])}"
    shown = {
        "cpu_us": "{:.2f} µs CPU",
        "messages_per_s": "{:,.0f} /s",
        "p99_us": "p99 {:,.0f} µs",
        "bytes_per_connection": "{:,.0f} B each",
    }
    if row["pattern"] == "storm":
        shown = {"connections_per_s": "{:,.0f} /s", "connections_per_cpu_s": "{:,.0f} per CPU s"}
    found = {name: figures.figure(row, name) for name in shown}
    return ", ".join(shown[name].format(value) for name, value in found.items() if value is not None)


def run_report(options):
    result = json.loads(options.rows.read_text())
    tables.print_all(figures.summary(result["rows"]), result["rows"])
    write_page(result, options.html or options.rows.with_suffix(".html"))


def write_page(result, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page.rendered(result))
    print(f"\npage in {path}")


def run_peers(options):
    machine.extend_path()
    wanted = list(PEERS) if "all" in options.install else options.install
    for name in wanted:
        if PEERS[name].missing():
            PEERS[name].install()
    for name, peer in PEERS.items():
        reason = peer.missing()
        print(f"{name:<20}{reason or peer.version()} - {peer.settings}")
    for name, reason in UNOBTAINABLE.items():
        print(f"{name:<20}not to be had: {reason}")


def run_yardstick(options, made, result):
    rows = result["rows"] = []
    for number in range(options.rounds):
        rows += [{"round": number} | row for row in yardstick.round_of(options, made)]
        progress(f"round {number + 1}/{options.rounds} done")
    yardstick.print_summary(rows)


def run_idle(options, made, result):
    rows = result["rows"] = []
    for name in options.peers:
        if PEERS[name].unsuited({"pattern": "idle", "connections": options.connections}):
            continue
        connections = ["--connections", options.connections]
        row = load.measured("idle-100k", PEERS[name], options, made, connections)
        rows.append(row)
        idle = row["idle"]
        print(
            f"{name}: {idle['resident_mib_alone']:.1f} MiB alone, {idle['resident_mib']:.1f} MiB "
            f"with {row['connections']} idle connections, {idle['bytes_per_connection']:,.0f} B "
            f"each, {idle['cpu_percent']:.3f} % of a core"
        )


def progress(text):
    print(text, file=sys.stderr, flush=True)


def describe(conditions):
    return "; ".join(f"{key}: {value}" for key, value in conditions.items())
