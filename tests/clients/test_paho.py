"""MQTT with paho-mqtt, the client most applications use."""

import base64
import json
import queue
import time
import unittest

from peer import TIMEOUT_S, Peer
from testbed import NEIGHBOUR, TENANT, Login, SiteTest, connect_packet


class PahoTest(SiteTest):
    def test_an_acknowledged_event_is_in_the_stream_exactly_once(self):
        with Peer(self.site, self.login("paho")) as device:
            self.assertTrue(device.publish("event", b"door open"))
        record = self.assert_arrives("paho", b"door open")
        self.assertEqual((record["class"], record["qos"]), ("event", 1))
        self.assertEqual((record["origAdapter"], record["origAddress"]), ("hono-mqtt", "event"))

    def test_events_of_one_connection_keep_their_order(self):
        sent = [f"step {number}".encode() for number in range(200)]
        with Peer(self.site, self.login("paho")) as device:
            infos = [device.client.publish("event", payload, 1) for payload in sent]
            for info in infos:
                info.wait_for_publish(TIMEOUT_S)
        def steps(records):
            payloads = [base64.b64decode(r["payload"]) for r in records if r["device"] == "paho"]
            return [payload for payload in payloads if payload.startswith(b"step ")]

        records = self.site.records(until=lambda found: len(steps(found)) >= len(sent))
        self.assertEqual(steps(records), sent)

    def test_an_application_sees_telemetry_of_its_tenant_as_it_is_sent(self):
        with Peer(self.site, self.login("reader")) as application, Peer(self.site, self.login("paho")) as device:
            self.assertFalse(application.subscribe(f"telemetry/{TENANT}/#").is_failure)
            for qos in (0, 1):
                payload = f"21.{qos}".encode()
                self.assertTrue(device.publish("telemetry", payload, qos))
                message = application.messages.get(timeout=TIMEOUT_S)
                self.assertEqual((message.topic, message.payload), (f"telemetry/{TENANT}/paho", payload))

    def test_an_application_cannot_subscribe_to_another_tenant(self):
        with Peer(self.site, self.login("stranger")) as stranger:
            for topic in (f"telemetry/{TENANT}/#", "telemetry/+/#", "telemetry/#", "#"):
                self.assertTrue(stranger.subscribe(topic).is_failure, topic)
            self.assertFalse(stranger.subscribe(f"telemetry/{NEIGHBOUR}/#").is_failure)
            with Peer(self.site, self.login("paho")) as device:
                device.publish("telemetry", b"private", 0)
                device.publish("event", b"private too")
            with self.assertRaises(queue.Empty):
                stranger.messages.get(timeout=0.5)

    def test_a_command_reaches_its_device_and_the_answer_comes_back(self):
        with Peer(self.site, self.login("commanded")) as device:
            self.assertFalse(device.subscribe("command///req/#").is_failure)

            def answer(client, _userdata, message):
                request, name = message.topic.split("/")[4:6]
                reply = json.dumps({"did": name, "with": message.payload.decode()})
                client.publish(f"command///res/{request}/200", reply, qos=1)

            device.client.on_message = answer
            view = self.site.fulcrum("command", "send", TENANT, "commanded", "blink", "--payload", "3 times")
        self.assertEqual(view["state"], "succeeded")
        self.assertEqual(view["response"]["status"], 200)
        answered = json.loads(base64.b64decode(view["response"]["payload"]))
        self.assertEqual(answered, {"did": "blink", "with": "3 times"})

    def test_a_command_waits_for_a_device_that_is_not_there(self):
        sent = self.site.fulcrum("command", "send", TENANT, "commanded", "later", "--one-way", "--wait", "0")
        with Peer(self.site, self.login("commanded")) as device:
            device.subscribe("command///req/#")
            message = device.messages.get(timeout=TIMEOUT_S)
        self.assertEqual(message.topic, "command///req//later")
        for _ in range(50):
            view = self.site.fulcrum("command", "show", TENANT, "commanded", sent["id"])
            if view["state"] == "delivered":
                break
            time.sleep(0.1)
        self.assertEqual(view["state"], "delivered")

    def test_a_device_that_refuses_makes_the_command_fail(self):
        with Peer(self.site, self.login("commanded")) as device:
            device.subscribe("command///req/#")

            def refuse(client, _userdata, message):
                client.publish(f"command///res/{message.topic.split('/')[4]}/501", b"no", qos=1)

            device.client.on_message = refuse
            done = self.site.fulcrum("command", "send", TENANT, "commanded", "fly", check=False)
        self.assertEqual(done.returncode, 5, done.stderr)
        self.assertEqual(json.loads(done.stdout)["state"], "failed")

    def test_refusals_have_the_codes_of_the_protocol(self):
        paho_login = self.login("paho")
        cases = {
            "wrong password": (Login(paho_login.username, "wrong"), 4),
            "unknown device": (Login(f"nobody@{TENANT}", "x"), 4),
            "unknown tenant": (Login("paho@nowhere", paho_login.password), 4),
            "no tenant": (Login("paho", paho_login.password), 4),
            "disabled device": (self.login("disabled"), 5),
        }
        for name, (login, code) in cases.items():
            with self.subTest(name):
                self.assertEqual(self.site.connack_code(login), code)

    def test_paho_names_the_refusal(self):
        peer = Peer(self.site, Login(self.login("paho").username, "wrong"))
        reason = peer.connected.get(timeout=TIMEOUT_S)
        peer.client.loop_stop()
        self.assertEqual(str(reason), "Bad user name or password")

    def test_a_protocol_level_that_is_not_served_is_refused(self):
        with self.site.connect_socket(self.site.mqtt_port) as connection:
            connection.sendall(connect_packet("old", self.login("paho"), level=3))
            self.assertEqual(connection.recv(4), bytes([0x20, 2, 0, 1]))
            self.assertEqual(connection.recv(1), b"")

    def test_a_second_connection_with_the_same_client_id_takes_over(self):
        with Peer(self.site, self.login("paho"), "one") as first:
            first.client.reconnect_delay_set(60, 60)
            with Peer(self.site, self.login("paho"), "one"):
                self.assertTrue(first.ended.get(timeout=TIMEOUT_S).is_failure)


if __name__ == "__main__":
    unittest.main()
