"""MQTT with mosquitto_pub and mosquitto_sub."""

import subprocess
import unittest

from testbed import TENANT, Login, SiteTest

TIMEOUT_S = 15


class MosquittoTest(SiteTest):
    def options(self, login):
        """Connection options of both programs."""
        site = self.site
        return ["-h", site.host, "-p", str(site.mqtt_port), "-V", "mqttv311", "-u", login.username, "-P", login.password]

    def publish(self, login, *options, **more):
        return subprocess.run(
            ["mosquitto_pub", *self.options(login), *options],
            capture_output=True, text=True, timeout=TIMEOUT_S, **more,
        )  # fmt: skip

    def test_an_event_is_acknowledged_and_stored(self):
        done = self.publish(self.login("mosquitto"), "-t", "event", "-q", "1", "-m", "from mosquitto_pub")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assert_arrives("mosquitto", b"from mosquitto_pub")

    def test_lines_of_standard_input_are_events_in_order(self):
        lines = [f"line {number}" for number in range(50)]
        done = self.publish(self.login("mosquitto"), "-t", "event", "-q", "1", "-l", input="\n".join(lines) + "\n")
        self.assertEqual(done.returncode, 0, done.stderr)
        records = [self.assert_arrives("mosquitto", line.encode()) for line in lines]
        self.assertEqual(len({record["partition"] for record in records}), 1)
        sequences = [record["sequence"] for record in records]
        self.assertEqual(sequences, sorted(sequences))

    def test_a_subscriber_gets_telemetry(self):
        # Line by line, or the SUBACK would be seen when all is over.
        command = ["stdbuf", "-oL", "mosquitto_sub", *self.options(self.login("reader")), "-q", "1", "-C", "3", "-d"]
        command += ["-t", f"telemetry/{TENANT}/mosquitto", "-W", str(TIMEOUT_S), "-F", "%t %p"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as subscriber:
            while "SUBACK" not in (line := subscriber.stdout.readline()):
                self.assertTrue(line, "mosquitto_sub ended before it was subscribed")
            for number in range(3):
                options = ["-t", "telemetry", "-q", str(number % 2), "-m", f"reading {number}"]
                self.publish(self.login("mosquitto"), *options)
            output = subscriber.stdout.read()
        got = [line for line in output.splitlines() if line.startswith("telemetry/")]
        self.assertEqual(got, [f"telemetry/{TENANT}/mosquitto reading {number}" for number in range(3)])
        self.assertEqual(subscriber.returncode, 0)

    def test_a_wrong_password_is_named(self):
        done = self.publish(Login(self.login("mosquitto").username, "wrong"), "-t", "event", "-q", "1", "-m", "x")
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("bad user name or password", done.stderr.lower())

    def test_a_disabled_device_is_named(self):
        done = self.publish(self.login("disabled"), "-t", "event", "-q", "1", "-m", "x")
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("not authorised", done.stderr.lower())

    def test_a_gateway_sends_for_its_device_and_for_no_other(self):
        gateway = self.login("gateway")
        done = self.publish(gateway, "-t", f"event/{TENANT}/behind-gateway", "-q", "1", "-m", "by gateway")
        self.assertEqual(done.returncode, 0, done.stderr)
        record = self.assert_arrives("behind-gateway", b"by gateway")
        self.assertEqual(record["gateway"], "gateway")
        refused = self.publish(gateway, "-t", f"event/{TENANT}/mosquitto", "-q", "1", "-m", "not allowed")
        self.assertNotEqual(refused.returncode, 0)


if __name__ == "__main__":
    unittest.main()
