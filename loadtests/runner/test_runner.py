"""python3 -m unittest discover --start-directory loadtests --top-level-directory loadtests"""

import base64
import hashlib
import json
import unittest

from . import figures, seed, servers


def row(number, broker, cpu, scenario="pipelined"):
    return {
        "round": number,
        "scenario": scenario,
        "broker": broker,
        "server": {"cpu_us_per_message": cpu, "cpu_share": 1.0},
        "messages_per_s": 1e6 / cpu,
        "latency_us": {"p50": 1.0, "p99": 2.0},
        "driver_busy_share": 0.5,
        "errors": {"lost": number, "late": 0},
    }


class Figures(unittest.TestCase):
    def test_ratios_are_taken_within_a_round(self):
        rows = [row(0, "a", 1.0), row(0, "b", 2.0), row(1, "a", 9.0), row(1, "b", 3.0)]
        self.assertEqual(figures.ratios(rows, "pipelined", "a", "b"), [0.5, 3.0])

    def test_a_round_without_the_baseline_gives_no_ratio(self):
        rows = [row(0, "a", 1.0), row(1, "a", 4.0), row(1, "b", 2.0), row(1, "b", 1.0, "stored")]
        self.assertEqual(figures.ratios(rows, "pipelined", "a", "b"), [2.0])

    def test_a_broker_is_not_compared_with_itself(self):
        (entry,) = figures.summary([row(0, "b", 2.0)], ["b"])
        self.assertEqual(entry["cpu_ratio_to"], {})

    def test_errors_of_all_rounds_are_summed_and_zeros_left_out(self):
        (entry,) = figures.summary([row(1, "a", 2.0), row(2, "a", 2.0)], [])
        self.assertEqual(entry["errors"], {"lost": 3})

    def test_one_value_has_no_range(self):
        self.assertEqual(figures.spread([1234.0], 0), "1,234")
        self.assertEqual(figures.spread([1.0, 3.0, 2.0], 1), "2.0 (1.0..3.0)")


class Counters(unittest.TestCase):
    def test_a_series_is_summed_over_its_labels_and_not_mixed_with_its_namesakes(self):
        text = (
            "# TYPE a_total counter\n"
            'a_total{partition="0"} 3\na_total{partition="1"} 4\na_total_ever 100\nb 1.5e3\n'
        )
        self.assertEqual(servers.metric(text, "a_total"), 7)
        self.assertEqual(servers.metric(text, "b"), 1500)
        self.assertIsNone(servers.metric(text, "c"))


class Seed(unittest.TestCase):
    def test_each_device_has_a_credential_its_password_satisfies(self):
        page = json.loads(json.dumps(seed.change_page(3)))
        found = [change for change in page["changes"] if change["kind"] == "credentials"]
        self.assertEqual([change["device"] for change in found], ["d0", "d1", "d2"])
        for change in found:
            (secret,) = change["document"][0]["secrets"]
            salted = base64.b64decode(secret["salt"]) + seed.DEVICE_PASSWORD.encode()
            digest = base64.b64encode(hashlib.sha256(salted).digest()).decode()
            self.assertEqual(digest, secret["pwd-hash"])

    def test_versions_rise_and_the_cursor_is_the_last(self):
        page = seed.change_page(2)
        versions = [change["version"] for change in page["changes"]]
        self.assertEqual(versions, list(range(1, page["cursor"] + 1)))


if __name__ == "__main__":
    unittest.main()
