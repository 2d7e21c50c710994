"""python3 -m unittest discover --start-directory loadtests --top-level-directory loadtests"""

import base64
import hashlib
import json
import socket
import unittest
import xml.etree.ElementTree

import peers

from . import commands, figures, load, machine, page, seed, svg, tables, targets


def row(number, broker, cpu, scenario="qos0-pipelined", **members):
    latency = {"p50": 1.0, "p90": 1.5, "p99": 2.0, "p999": 3.0, "max": 4.0}
    return {
        "round": number,
        "scenario": scenario,
        "broker": broker,
        "pattern": "pairs",
        "failures": [],
        "idle": None,
        "connecting": {"per_s": 10.0, "per_cpu_s": 1e6 / cpu, "time_to_connack_us": None},
        "traffic": {
            "server": {"cpu_us_per_message": cpu, "cpu_share": 1.0, "resident_mib": 7.0},
            "messages_per_s": 1e6 / cpu,
            "latency_us": {**latency, "curve": [[0.0, 1.0], [50.0, cpu], [100.0, 4.0]]},
            "driver": {"busy_share": 0.5},
        },
        "errors": {"lost": number, "repeated": 0},
        **members,
    }


class Figures(unittest.TestCase):
    def test_ratios_are_taken_within_a_round(self):
        rows = [row(0, "a", 1.0), row(0, "b", 2.0), row(1, "a", 9.0), row(1, "b", 3.0)]
        self.assertEqual(figures.ratios(rows, "qos0-pipelined", "cpu_us", "a", "b"), [0.5, 3.0])

    def test_a_round_without_the_baseline_gives_no_ratio(self):
        rows = [row(0, "a", 1.0), row(1, "a", 4.0), row(1, "b", 2.0), row(1, "b", 1.0, "other")]
        self.assertEqual(figures.ratios(rows, "qos0-pipelined", "cpu_us", "a", "b"), [2.0])

    def test_a_row_in_which_a_promise_was_broken_gives_no_figure(self):
        rows = [row(0, "a", 1.0, failures=["3 lost"]), row(1, "a", 5.0)]
        (entry,) = figures.summary(rows)
        self.assertEqual(entry["figures"]["cpu_us"], [5.0])
        self.assertEqual(entry["failures"], ["3 lost"])
        self.assertEqual(tables.remarks(entry)[0], "FAILED: 3 lost")

    def test_what_was_not_measured_is_said(self):
        rows = [{"round": 0, "scenario": "s", "broker": "a", "unmeasured": "refused"}]
        (entry,) = figures.summary(rows)
        self.assertEqual((entry["figures"], entry["unmeasured"]), ({}, ["refused"]))

    def test_a_rate_that_was_not_reached_is_said(self):
        (entry,) = figures.summary([row(0, "a", 1000.0, rate_per_s=2000.0)])
        self.assertIn("50%", tables.remarks(entry)[0])
        (entry,) = figures.summary([row(0, "a", 1000.0, rate_per_s=1001.0)])
        self.assertEqual([text for text in tables.remarks(entry) if "overloaded" in text], [])

    def test_errors_of_all_rounds_are_summed_and_zeros_left_out(self):
        (entry,) = figures.summary([row(1, "a", 2.0), row(2, "a", 2.0)])
        self.assertEqual(entry["errors"], {"lost": 3})

    def test_one_value_has_no_range(self):
        self.assertEqual(figures.spread([1234.0], 0), "1,234")
        self.assertEqual(figures.spread([1.0, 3.0, 2.0], 1), "2.0 (1.0..3.0)")


class Targets(unittest.TestCase):
    def verdict(self, rows, text):
        found = {(line[0], line[1]): line[4] for line in targets.verdicts(rows)}
        return next(word for (_, what), word in found.items() if text in what)

    def test_a_target_is_met_by_the_median_of_the_ratios(self):
        rows = [row(0, "fulcrum", 1.0), row(0, "mosquitto", 4.0)]
        self.assertEqual(self.verdict(rows, "1/4"), "met")
        rows += [row(1, "fulcrum", 2.0), row(1, "mosquitto", 4.0)]
        self.assertEqual(self.verdict(rows, "1/4"), "MISSED")

    def test_a_target_without_its_measurement_is_neither_met_nor_missed(self):
        self.assertEqual(self.verdict([row(0, "fulcrum", 1.0)], "1/4"), "-")

    def test_more_is_better_where_the_target_is_a_rate(self):
        rows = [row(0, "fulcrum", 1.0, "qos1-stored"), row(0, "mosquitto", 4.0, "qos1-stored")]
        self.assertEqual(self.verdict(rows, "on disk"), "met")

    def test_every_target_names_a_scenario_a_figure_and_brokers_that_exist(self):
        for target in targets.TARGETS:
            self.assertIn(target.scenario, load.scenarios())
            self.assertIn(target.figure, figures.FIGURES)
            self.assertIn(target.broker, peers.PEERS)
            if target.against:
                self.assertIn(target.against, peers.PEERS)
            scenario = load.scenarios()[target.scenario]
            self.assertIsNone(peers.PEERS[target.broker].unsuited(scenario), target)


class Peers(unittest.TestCase):
    def test_each_scenario_suits_fulcrum_or_another_and_the_baseline_always(self):
        for name, scenario in load.scenarios().items():
            self.assertIsNone(peers.PEERS["mosquitto"].unsuited(scenario), name)

    def test_the_durable_variant_runs_where_messages_are_stored(self):
        durable = peers.PEERS["mosquitto-durable"]
        self.assertIsNotNone(durable.unsuited(load.scenarios()["qos0-pipelined"]))
        self.assertIsNone(durable.unsuited(load.scenarios()["qos1-stored"]))

    def test_passwords_are_checked_where_clients_connect(self):
        for name in ("mosquitto-passwords", "mosquitto-passwords-sha512"):
            peer = peers.PEERS[name]
            self.assertIsNotNone(peer.unsuited(load.scenarios()["qos0-pipelined"]))
            for storm in ("connect-storm", "tls-storm"):
                self.assertIsNone(peer.unsuited(load.scenarios()[storm]))

    def test_users_of_a_password_file_are_those_the_driver_is_told_of(self):
        scenario = load.scenarios()["connect-storm"]
        peer = peers.PEERS["mosquitto-passwords"]
        own = seed.driver_flags(scenario)
        self.assertIn(f"d{{i%{seed.DEVICES}}}@{{tenant}}", own)
        flags = peer.driver_flags(scenario)
        self.assertEqual(flags, ["--username-template", f"d{{i%{seed.DEVICES}}}"])
        password = peer.driver_environment()["FULCRUM_LOAD_PASSWORD"]
        self.assertEqual(password, seed.driver_environment()["FULCRUM_LOAD_PASSWORD"])

    def test_a_peer_is_not_asked_for_what_it_does_not_have(self):
        self.assertIn("QoS 2", peers.PEERS["rabbitmq"].unsuited(load.scenarios()["qos2"]))
        self.assertIn("MQTT 5", peers.PEERS["nats"].unsuited(load.scenarios()["mqtt5"]))

    def test_each_peer_comes_first_in_some_round(self):
        names = ["a", "b", "c"]
        self.assertEqual({commands.turns(names, number)[0] for number in range(3)}, set(names))
        self.assertEqual(sorted(commands.turns(names, 7)), names)
        self.assertEqual(commands.turns([], 1), [])


class Page(unittest.TestCase):
    def test_the_page_shows_every_broker_and_its_plots_are_well_formed(self):
        rows = [row(0, "fulcrum", 1.0), row(0, "mosquitto", 4.0, failures=["1 <lost>"])]
        rows += [row(1, "fulcrum", 2.0), row(1, "mosquitto", 5.0)]
        result = {
            "rows": rows,
            "scenarios": {"qos0-pipelined": {"pattern": "pairs"}},
            "conditions": {"cpu": "a & b"},
            "brokers": {"fulcrum": {"version": "1", "settings": "s"}},
            "absent": {"emqx": "nowhere"},
        }
        text = page.rendered(result)
        self.assertIn("1 &lt;lost&gt;", text)
        self.assertIn("emqx: nowhere", text)
        plots = text.split("<svg")[1:]
        self.assertEqual(len(plots), 3, "CPU, throughput, latency")
        for plot in plots:
            drawn = "<svg" + plot.split("</svg>")[0] + "</svg>"
            self.assertIn("fulcrum", "".join(xml.etree.ElementTree.fromstring(drawn).itertext()))

    def test_each_nine_has_the_same_room(self):
        steps = [svg.nines(percent) for percent in (0, 90, 99, 99.9)]
        for step, wanted in zip(steps, (0, 1, 2, 3), strict=True):
            self.assertAlmostEqual(step, wanted)
        self.assertEqual(svg.nines(100), 5)


class Machine(unittest.TestCase):
    def test_a_listener_is_seen_and_its_absence_too(self):
        (port,) = machine.free_ports(1)
        self.assertFalse(machine.is_listening(port))
        with socket.create_server(("127.0.0.1", port)):
            self.assertTrue(machine.is_listening(port))

    def test_two_brokers_in_a_row_get_different_ports(self):
        self.assertEqual(set(machine.free_ports(3)) & set(machine.free_ports(3)), set())


class Counters(unittest.TestCase):
    def test_a_series_is_summed_over_its_labels_and_not_mixed_with_its_namesakes(self):
        text = (
            "# TYPE a_total counter\n"
            'a_total{partition="0"} 3\na_total{partition="1"} 4\na_total_ever 100\nb 1.5e3\n'
        )
        self.assertEqual(load.metric(text, "a_total"), 7)
        self.assertEqual(load.metric(text, "b"), 1500)
        self.assertIsNone(load.metric(text, "c"))


class Seed(unittest.TestCase):
    def test_each_device_has_a_credential_its_password_satisfies(self):
        changes = json.loads(json.dumps(seed.change_page(3)))["changes"]
        found = [change for change in changes if change["kind"] == "credentials"]
        self.assertEqual([change["device"] for change in found], ["d0", "d1", "d2"])
        for change in found:
            (secret,) = change["document"][0]["secrets"]
            salted = base64.b64decode(secret["salt"]) + seed.DEVICE_PASSWORD.encode()
            digest = base64.b64encode(hashlib.sha256(salted).digest()).decode()
            self.assertEqual(digest, secret["pwd-hash"])

    def test_versions_rise_and_the_cursor_is_the_last(self):
        changes = seed.change_page(2)
        versions = [change["version"] for change in changes["changes"]]
        self.assertEqual(versions, list(range(1, changes["cursor"] + 1)))

    def test_no_scenario_has_more_publishers_than_there_are_devices(self):
        for name, scenario in load.scenarios().items():
            self.assertLessEqual(scenario.get("publishers", 1), seed.DEVICES, name)


if __name__ == "__main__":
    unittest.main()
