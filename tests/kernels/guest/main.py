"""Carries out the host's order: `/kernels/order.json`, with `{"checks": [names]}` or `{"idle": {…}}`."""

import json
from pathlib import Path

from guest import checks, idle, reporting

ORDER = Path("/kernels/order.json")


def main():
    order = json.loads(ORDER.read_text())
    with open(reporting.LINE, "w") as line:
        report = reporting.Reporting(line)
        if "idle" in order:
            report.carry_out("idle", lambda: idle.measured(report, **order["idle"]))
        else:
            for name in order["checks"]:
                report.carry_out(name, checks.CHECKS[name])
        report.tell(end=True)


if __name__ == "__main__":
    main()
