"""AMQP 1.0 with Qpid Proton, and with bare sockets where Proton would not misbehave."""

import base64

from proton import ConnectionException, Delivery, Described, Message, ulong
from proton.handlers import MessagingHandler
from proton.reactor import AtMostOnce, Container
from proton.utils import BlockingConnection, LinkDetached, SendException
from testbed import MESSAGE_BYTES, NEIGHBOUR, TENANT, Login, SiteTest

TIMEOUT_S = 15


class AmqpTest(SiteTest):
    def connect(self, login):
        connection = BlockingConnection(
            f"amqp://{self.site.host}:{self.site.amqp_port}", user=login.username, password=login.password,
            allowed_mechs="PLAIN", allow_insecure_mechs=True, timeout=TIMEOUT_S, heartbeat=20,
        )  # fmt: skip
        self.addCleanup(connection.close)
        return connection

    def sender(self, name):
        """A link without an address: each message says where it goes."""
        return self.connect(self.login(name)).create_sender(None)

    def assert_outcome(self, sender, message, state, condition=None):
        with self.assertRaises(SendException) as caught:
            sender.send(message, timeout=TIMEOUT_S)
        self.assertEqual(caught.exception.state, state)
        if condition:
            # Proton's blocking sender does not keep the reason; the delivery does.
            self.assertEqual(self.reason(sender, message), condition)

    def reason(self, sender, message):
        """The condition of a rejection."""
        delivery = sender.link.send(message)
        sender.connection.wait(lambda: delivery.remote_state, timeout=TIMEOUT_S)
        condition = delivery.remote.condition
        delivery.settle()
        return condition and condition.name

    def test_an_event_is_accepted_when_it_is_stored(self):
        sender = self.sender("amqp")
        message = Message(
            b'{"t":21}', address="event", content_type="application/json", inferred=True,
            properties={"site": "hall", "count": 3, "warm": True},
        )  # fmt: skip
        self.assertEqual(sender.send(message, timeout=TIMEOUT_S).remote_state, Delivery.ACCEPTED)
        record = self.assert_arrives("amqp", b'{"t":21}')
        self.assertEqual((record["origAdapter"], record["origAddress"]), ("hono-amqp", "event"))
        self.assertEqual(record["contentType"], "application/json")
        self.assertEqual(record["properties"], {"site": "hall", "count": "3", "warm": "true"})

    def test_telemetry_is_accepted_while_somebody_takes_it(self):
        # The uplink is up, so the tenant's stream takes it.
        sender = self.sender("amqp")
        for address in ("telemetry", "t", f"telemetry/{TENANT}/amqp", "t//amqp"):
            payload = f"live at {address}".encode()
            sender.send(Message(payload, address=address, content_type="text/plain", inferred=True), timeout=TIMEOUT_S)
            self.assert_arrives("amqp", payload, classes=("telemetry",))

    def test_what_is_settled_when_it_is_sent_arrives_too(self):
        login = self.login("amqp")

        class Sends(MessagingHandler):
            def on_start(handler, event):
                handler.connection = event.container.connect(
                    f"amqp://{self.site.host}:{self.site.amqp_port}", user=login.username, password=login.password,
                    allowed_mechs="PLAIN", allow_insecure_mechs=True,
                )  # fmt: skip
                event.container.create_sender(handler.connection, None, options=AtMostOnce())

            def on_sendable(handler, event):
                for number in range(3):
                    body = f"settled {number}".encode()
                    event.sender.send(Message(body, address="event", content_type="text/plain", inferred=True))
                event.sender.close()
                handler.connection.close()

        Container(Sends()).run()
        for number in range(3):
            self.assert_arrives("amqp", f"settled {number}".encode())

    def test_a_gateway_sends_for_its_device_and_for_no_other(self):
        sender = self.sender("gateway")
        for address in (f"event/{TENANT}/behind-gateway", "e//behind-gateway"):
            payload = f"through {address}".encode()
            sender.send(Message(payload, address=address, content_type="text/plain", inferred=True), timeout=TIMEOUT_S)
            self.assertEqual(self.assert_arrives("behind-gateway", payload)["gateway"], "gateway")
        for address, condition in (
            (f"event/{TENANT}/paho", "amqp:unauthorized-access"),
            (f"event/{NEIGHBOUR}/next-door", "amqp:unauthorized-access"),
            (f"event/{TENANT}/nobody", "amqp:not-found"),
        ):
            message = Message(b"x", address=address, content_type="text/plain", inferred=True)
            self.assert_outcome(sender, message, Delivery.REJECTED, condition)
        # The link is as good as before.
        sender.send(Message(b"own", address="event", content_type="text/plain", inferred=True), timeout=TIMEOUT_S)
        self.assert_arrives("gateway", b"own")

    def test_messages_that_are_not_as_they_must_be_are_rejected_one_by_one(self):
        sender = self.sender("amqp")
        for message, condition in (
            (Message(b"x", address="nothing", inferred=True), "amqp:not-found"),
            (Message(b"x", inferred=True), "amqp:not-found"),
            (Message(b"x", address="event/a/b/c", inferred=True), "hono:bad-request"),
            (Message(b"", address="event", inferred=True), "hono:bad-request"),
            (Message(["a", "list"], address="event"), "amqp:decode-error"),
            (Message(Described(ulong(9), "x"), address="event"), "amqp:decode-error"),
            (
                Message(b"x", address="event", content_type="application/vnd.eclipse-hono-empty-notification",
                        inferred=True),
                "hono:bad-request",
            ),
        ):  # fmt: skip
            self.assert_outcome(sender, message, Delivery.REJECTED, condition)
        sender.send(Message("text", address="event", content_type="text/plain"), timeout=TIMEOUT_S)
        self.assert_arrives("amqp", b"text")

    def test_who_may_not_is_told_so(self):
        for login in (Login(self.login("amqp").username, "wrong"), Login(f"nobody@{TENANT}", "x"), self.login("disabled")):
            with self.assertRaises(ConnectionException, msg=login.username):
                self.connect(login)
        # An application has nothing to upload, and nothing is to be had here yet.
        with self.assertRaises(LinkDetached) as caught:
            self.connect(self.login("reader")).create_sender(None)
        self.assertEqual(caught.exception.condition, "amqp:unauthorized-access")
        device = self.connect(self.login("amqp"))
        with self.assertRaises(LinkDetached) as caught:
            device.create_sender("event")
        self.assertEqual(caught.exception.condition, "hono:bad-request")
        with self.assertRaises(LinkDetached) as caught:
            device.create_receiver("command")
        self.assertEqual(caught.exception.condition, "amqp:not-implemented")

    def test_a_message_of_many_frames_arrives_and_one_above_the_limit_ends_its_link(self):
        connection = BlockingConnection(
            f"amqp://{self.site.host}:{self.site.amqp_port}", user=self.login("amqp").username,
            password=self.login("amqp").password, allowed_mechs="PLAIN", allow_insecure_mechs=True,
            timeout=TIMEOUT_S, max_frame_size=512,
        )  # fmt: skip
        self.addCleanup(connection.close)
        sender = connection.create_sender(None)
        payload = bytes(range(256)) * 28
        sender.send(
            Message(payload, address="event", content_type="application/octet-stream", inferred=True), timeout=TIMEOUT_S
        )
        self.assert_arrives("amqp", payload)
        with self.assertRaises((LinkDetached, SendException)) as caught:
            too_large = Message(b"x" * (MESSAGE_BYTES + 1), address="event", content_type="text/plain", inferred=True)
            sender.send(too_large, timeout=TIMEOUT_S)
        self.assertIn("message-size-exceeded", str(caught.exception))

    def test_events_of_one_link_keep_their_order(self):
        count = 500
        login = self.login("amqp-order")

        class Sends(MessagingHandler):
            sent, accepted, other = 0, 0, []

            def on_start(handler, event):
                handler.connection = event.container.connect(
                    f"amqp://{self.site.host}:{self.site.amqp_port}", user=login.username, password=login.password,
                    allowed_mechs="PLAIN", allow_insecure_mechs=True,
                )  # fmt: skip
                event.container.create_sender(handler.connection, None)

            def on_sendable(handler, event):
                while event.sender.credit and handler.sent < count:
                    body = f"ordered {handler.sent}".encode()
                    event.sender.send(Message(body, address="event", content_type="text/plain", inferred=True))
                    handler.sent += 1

            def on_accepted(handler, event):
                handler.accepted += 1
                if handler.accepted == count:
                    handler.connection.close()

            def on_released(handler, event):
                handler.other.append("released")
                handler.connection.close()

            def on_rejected(handler, event):
                handler.other.append("rejected")
                handler.connection.close()

        handler = Sends()
        Container(handler).run()
        self.assertEqual((handler.accepted, handler.other), (count, []))
        records = self.site.records(
            until=lambda found: sum(record["device"] == "amqp-order" for record in found) >= count
        )
        own = [base64.b64decode(record["payload"]).decode() for record in records if record["device"] == "amqp-order"]
        self.assertEqual(own, [f"ordered {number}" for number in range(count)])

    def test_bytes_that_are_no_amqp_end_their_connection_and_no_other(self):
        steady = self.sender("amqp")
        for garbage in (b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01" * 100, b"AMQP\x00\x01\x00\x00", b"AMQP\x03\x01\x00\x00" + b"\xff" * 64):
            with self.site.connect_socket(self.site.amqp_port) as connection:
                connection.sendall(garbage)
                answer = b""
                while part := connection.recv(4096):
                    answer += part
            # So it learns what is spoken here.
            self.assertTrue(answer.startswith(b"AMQP\x03\x01\x00\x00"), answer)
        steady.send(Message(b"steady", address="event", content_type="text/plain", inferred=True), timeout=TIMEOUT_S)
        self.assert_arrives("amqp", b"steady")
