"""The serial line on which the host listens: one JSON object a line (see verdict.py)."""

import json
import time
import traceback

LINE = "/dev/ttyS1"


class Failed(Exception):
    """A check did not find what it should; the message says what it found."""


class Reporting:
    """Tells the host what happens."""

    def __init__(self, line):
        self.line = line

    def tell(self, **report):
        self.line.write(json.dumps(report) + "\n")
        self.line.flush()

    def carry_out(self, name, check):
        """Runs one check; whatever it raises is its failure. A check returns what is worth knowing, as text."""
        self.tell(begin=name)
        begin = time.monotonic()
        try:
            detail, passed = check() or "", True
        except Failed as failure:
            detail, passed = str(failure), False
        except Exception:
            detail, passed = traceback.format_exc(), False
        self.tell(check=name, passed=passed, seconds=time.monotonic() - begin, detail=detail)
        return passed
