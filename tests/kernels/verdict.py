"""What the guest reports, line by line, and what it amounts to.

Each line is one JSON object: `{"begin": name}`, `{"check": name, "passed": …, "seconds": …, "detail": …}`, `{"progress": text}`,
`{"figures": {…}}`, and at the very end `{"end": true}`. Anything else is passed over: a serial line is nobody's alone.
"""

import json


class Verdict:
    """Collects the lines of one run."""

    def __init__(self):
        self.passed, self.failed, self.figures = [], [], {}
        self.running = None
        self.has_ended = False

    def take(self, line):
        """Notes a line; returns what to show of it, or None."""
        try:
            report = json.loads(line)
        except ValueError:
            return None
        match report:
            case {"begin": name}:
                self.running = name
            case {"check": name, "passed": passed, "seconds": seconds, "detail": detail}:
                self.running = None
                (self.passed if passed else self.failed).append(name)
                mark = "pass" if passed else "FAIL"
                return f"{mark}  {name:<28}{seconds:6.1f} s  {indented(detail)}"
            case {"progress": text}:
                return f"      {text}"
            case {"figures": figures}:
                self.figures |= figures
            case {"end": True}:
                self.has_ended = True
        return None

    def failures(self):
        """Why the run is no success, as sentences; empty if it is one."""
        found = [f"{name} failed" for name in self.failed]
        if self.running:
            found.append(f"{self.running} did not come to an end")
        if not self.has_ended:
            found.append("the machine ended, or was ended by the time-out, before its last check")
        elif not self.passed and not self.failed:
            found.append("nothing was checked")
        return found


def indented(text):
    """Further lines stand below the first."""
    return text.strip().replace("\n", "\n      ")
