"""A paho-mqtt client whose events can be waited for."""

import queue

import paho.mqtt.client as paho

TIMEOUT_S = 10


class Peer:
    """One connection; as a context it is connected inside."""

    def __init__(self, site, login, client_id="", protocol=paho.MQTTv311, **connect):
        self.messages, self.connected, self.subscribed, self.published, self.ended = (queue.Queue() for _ in range(5))
        self.client = paho.Client(paho.CallbackAPIVersion.VERSION2, client_id, protocol=protocol)
        self.client.username_pw_set(login.username, login.password)
        self.client.on_connect = lambda _c, _u, _f, reason, _p: self.connected.put(reason)
        self.client.on_subscribe = lambda _c, _u, _id, reasons, _p: self.subscribed.put(reasons)
        self.client.on_publish = lambda _c, _u, _id, reason, _p: self.published.put(reason)
        self.client.on_disconnect = lambda _c, _u, _f, reason, _p: self.ended.put(reason)
        self.client.on_message = lambda _c, _u, message: self.messages.put(message)
        self.client.connect(site.host, site.mqtt_port, keepalive=30, **connect)
        self.client.loop_start()

    def __enter__(self):
        reason = self.connected.get(timeout=TIMEOUT_S)
        if reason.is_failure:
            raise AssertionError(f"connection refused: {reason}")
        return self

    def __exit__(self, *_):
        self.client.disconnect()
        self.client.loop_stop()

    def subscribe(self, topic, qos=1):
        self.client.subscribe(topic, qos)
        return self.subscribed.get(timeout=TIMEOUT_S)[0]

    def publish(self, topic, payload, qos=1):
        """Publishes and waits for the acknowledgement, if there is one."""
        info = self.client.publish(topic, payload, qos)
        info.wait_for_publish(TIMEOUT_S)
        return info.is_published()
