"""Messaging between a tenant's clients: what the operator declares with the command line is what paho-mqtt may do."""

import contextlib
import queue
import time
import unittest

import paho.mqtt.client as paho
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from peer import TIMEOUT_S, Peer
from testbed import VILLAGE, SiteTest

NOT_AUTHORIZED = 0x87


class MessagingTest(SiteTest):
    def peer(self, name, client_id="", **connect):
        return Peer(self.site, self.login(name), client_id or f"messaging-{name}", paho.MQTTv5, **connect)

    def answer(self, peer, topic):
        """The reason code of the PUBACK to a message."""
        peer.client.publish(topic, b"x", 1)
        return peer.published.get(timeout=TIMEOUT_S).value

    def test_devices_and_applications_meet_at_a_declared_address(self):
        with self.peer("house") as house, self.peer("barn") as barn, self.peer("mill") as mill:
            for listener in (barn, mill):
                self.assertEqual(listener.subscribe("site/#", 2).value, 2)
            properties = Properties(PacketTypes.PUBLISH)
            properties.UserProperty = [("unit", "°C")]
            for qos in (0, 1, 2):
                house.client.publish("site/hall/temperature", f"21.{qos}", qos, properties=properties)
                for listener in (barn, mill):
                    message = listener.messages.get(timeout=TIMEOUT_S)
                    got = (message.topic, message.payload, message.qos, message.properties.UserProperty)
                    self.assertEqual(got, ("site/hall/temperature", f"21.{qos}".encode(), qos, [("unit", "°C")]))

    def test_a_device_has_its_own_part_of_an_address_alone(self):
        with self.peer("house") as house, self.peer("barn") as barn, self.peer("mill") as mill:
            self.assertFalse(house.subscribe("own/house/+").is_failure)
            self.assertEqual(barn.subscribe("own/house/+").value, NOT_AUTHORIZED)
            self.assertEqual(barn.subscribe("own/+/lamp").value, NOT_AUTHORIZED)
            self.assertEqual(self.answer(barn, "own/house/lamp"), NOT_AUTHORIZED)
            self.assertEqual(self.answer(mill, "own/house/lamp"), 0)
            self.assertEqual(house.messages.get(timeout=TIMEOUT_S).topic, "own/house/lamp")

    def test_what_nobody_declared_is_refused(self):
        with self.peer("house") as house:
            self.assertEqual(self.answer(house, "elsewhere"), NOT_AUTHORIZED)
            self.assertEqual(house.subscribe("#").value, NOT_AUTHORIZED)

    def test_a_session_takes_messages_while_its_client_is_away(self):
        expiry = Properties(PacketTypes.CONNECT)
        expiry.SessionExpiryInterval = 60
        stays = {"client_id": "stays", "properties": expiry, "clean_start": False}
        with self.peer("barn", **stays) as barn:
            barn.subscribe("site/bell", 2)
        sent = [f"ring {number}".encode() for number in range(20)]
        with self.peer("house") as house:
            for payload in sent:
                self.assertTrue(house.publish("site/bell", payload, 2))
        with self.peer("barn", **stays) as barn:
            self.assertEqual([barn.messages.get(timeout=TIMEOUT_S).payload for _ in sent], sent)
        with self.peer("barn", "stays"):
            pass

    def test_an_address_that_is_taken_away_ends_the_connections_that_had_it(self):
        def declare(*patterns):
            words = [word for pattern in patterns for word in ("--address", pattern)]
            self.site.fulcrum("tenant", "update", VILLAGE, *words)

        def eventually(is_refused):
            """A change arrives by the feed, and ends the connections it concerns."""
            for _ in range(100):
                with contextlib.suppress(AssertionError, queue.Empty), self.peer("house", "asks") as house:
                    if (self.answer(house, "site/gate") == NOT_AUTHORIZED) == is_refused:
                        return
                time.sleep(0.05)
            self.fail(f"is site/gate refused? It never came to {is_refused}")

        with self.peer("barn") as barn:
            barn.client.reconnect_delay_set(60, 60)
            self.assertFalse(barn.subscribe("site/#").is_failure)
            try:
                declare("own/{device}/+")
                barn.ended.get(timeout=TIMEOUT_S)
                eventually(is_refused=True)
            finally:
                declare("site/#", "own/{device}/+")
        eventually(is_refused=False)


if __name__ == "__main__":
    unittest.main()
