"""Peers that break the rules: they get the protocol's own refusal, and their neighbours notice nothing."""

import random
import threading
import time
import unittest

from peer import Peer
from testbed import MESSAGE_BYTES, Login, SiteTest, connect_packet, remaining_length


class BadInputTest(SiteTest):
    def open_session(self, name="flooder"):
        """A connection that has been accepted."""
        connection = self.site.connect_socket(self.site.mqtt_port)
        connection.sendall(connect_packet(f"raw-{random.randrange(1 << 32)}", self.login(name)))
        self.assertEqual(connection.recv(4), bytes([0x20, 2, 0, 0]))
        return connection

    def assert_ends(self, connection):
        """The node closes the connection, with or without a last word."""
        connection.settimeout(10)
        try:
            while connection.recv(4096):
                pass
        except ConnectionResetError:
            pass
        connection.close()

    def test_a_packet_above_the_limit_ends_its_connection_and_no_other(self):
        with Peer(self.site, self.login("steady")) as neighbour:
            for size in (MESSAGE_BYTES + 1, 200_000_000):
                connection = self.open_session()
                # The fixed header alone must be enough for the refusal.
                connection.sendall(bytes([0x30]) + remaining_length(size))
                self.assert_ends(connection)
                self.assertTrue(neighbour.publish("event", f"unharmed by {size}".encode()))
        self.assert_arrives("steady", b"unharmed by 200000000")

    def test_malformed_packets_end_their_connection(self):
        event = b"\x00\x05event"
        broken = {
            "reserved type": b"\x00\x00",
            "QoS 3": b"\x36" + remaining_length(len(event) + 2) + event + b"\x00\x01",
            "QoS 2 is not served": b"\x34" + remaining_length(len(event) + 2) + event + b"\x00\x01",
            "packet identifier 0": b"\x32" + remaining_length(len(event) + 2) + event + b"\x00\x00",
            "endless length": b"\x30\xff\xff\xff\xff\xff",
            "topic not UTF-8": b"\x30\x04\x00\x02\xff\xff",
            "topic with a wildcard": b"\x30\x09\x00\x07event/#",
            "event at QoS 0": b"\x30" + remaining_length(len(event)) + event,
            "subscribe without a filter": b"\x82\x02\x00\x01",
            "second CONNECT": connect_packet("again", self.login("flooder")),
        }
        for name, packet in broken.items():
            with self.subTest(name):
                connection = self.open_session()
                connection.sendall(packet)
                self.assert_ends(connection)
        self.assertEqual(self.site.connack_code(self.login("steady")), 0)

    def test_something_else_than_connect_ends_the_connection(self):
        with self.site.connect_socket(self.site.mqtt_port) as connection:
            connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            self.assert_ends(connection)

    def test_random_bytes_are_survived(self):
        seed = random.randrange(1 << 32)
        chance = random.Random(seed)
        for port in (self.site.mqtt_port, self.site.http_port):
            for _ in range(30):
                connection = self.site.connect_socket(port)
                try:
                    connection.sendall(chance.randbytes(chance.randrange(1, 4096)))
                except OSError:
                    pass
                connection.close()
        self.assertEqual(self.site.connack_code(self.login("steady")), 0, f"seed {seed}")

    def test_refusals_are_counted(self):
        def refused():
            metrics = self.site.metrics()
            wanted = [value for name, value in metrics.items() if "protocol_errors" in name]
            self.assertTrue(wanted, sorted(metrics))
            return sum(wanted)

        before = refused()
        connection = self.open_session()
        connection.sendall(b"\x00\x00")
        self.assert_ends(connection)
        deadline = time.monotonic() + 5
        while refused() <= before and time.monotonic() < deadline:
            time.sleep(0.1)
        self.assertGreater(refused(), before)

    def test_a_flood_of_wrong_passwords_does_not_stall_a_neighbour(self):
        stop = threading.Event()

        def flood():
            while not stop.is_set():
                self.site.connack_code(Login(self.login("flooder").username, "guess"))

        guessers = [threading.Thread(target=flood) for _ in range(4)]
        for guesser in guessers:
            guesser.start()
        try:
            with Peer(self.site, self.login("steady")) as neighbour:
                for number in range(20):
                    self.assertTrue(neighbour.publish("event", f"in the flood {number}".encode()))
        finally:
            stop.set()
            for guesser in guessers:
                guesser.join()


if __name__ == "__main__":
    unittest.main()
