"""Fulcrum's edge node with one shard, as it comes out of the box, and with waiting turned off."""

import subprocess

from runner import machine, seed
from runner.machine import Unusable

from .base import TCP, TLS, WEBSOCKET, Peer, Running, first_line

# As many as the largest scenario asks for, and some more.
CONNECTIONS = 150_000
# Descriptors of a node that are no connections.
NODE_FILES = 600


class Fulcrum(Peer):
    is_durable = True
    carriers = (TCP, TLS, WEBSOCKET)

    def __init__(self, name, ring, settings):
        self.name, self.ring, self.settings = name, ring, settings

    def program(self):
        return machine.ROOT / "edge/node"

    def missing(self):
        return None

    def version(self):
        return first_line(["git", "-C", machine.ROOT, "log", "-1", "--format=fulcrum-edge %h"])

    def unsuited(self, scenario):
        if self.ring and "rate" not in scenario:
            return "differs from fulcrum under a load that leaves time to wait"
        return super().unsuited(scenario) or seed.unsuited(scenario)

    def start(self, workplace):
        directory, binary = workplace.directory, workplace.options.fulcrum
        mqtt, tls, websocket, admin = machine.free_ports(4)
        certificates = workplace.certificates
        # The node refuses to start with more than it may have descriptors for.
        connections = min(CONNECTIONS, machine.file_limit() - NODE_FILES)
        config = directory / "edge.toml"
        config.write_text(
            f"""\
[node]
data_dir = "{directory}/data"
shards = 1
cpus = [{machine.SERVER_CPU}]

[mqtt]
listen = "127.0.0.1:{mqtt}"

[[listener]]
listen = "127.0.0.1:{tls}"
tls = true

[[listener]]
listen = "127.0.0.1:{websocket}"
websocket = "/mqtt"

[[tls.certificate]]
chain = "{certificates.certificate}"
key = "{certificates.key}"

[admin]
listen = "127.0.0.1:{admin}"

[limits]
connections = {connections}

[log]
level = "warn"
{self.ring}"""
        )
        page = directory / "page.json"
        seed.write(page)
        seeding = [binary, "seed", "--config", config, "--feed", page]
        log = workplace.log
        if subprocess.run(seeding, stdout=log, stderr=log, check=False).returncode != 0:
            raise Unusable(f"fulcrum-edge seed failed:\n{workplace.tail()}")
        process = workplace.run([binary, "run", "--config", config])
        ports = {TCP: mqtt, TLS: tls, WEBSOCKET: websocket}
        return process, Running(process.pid, ports, admin_port=admin)

    def driver_flags(self, scenario):
        return seed.driver_flags(scenario)

    def driver_environment(self):
        return seed.driver_environment()


PEERS = [
    Fulcrum("fulcrum", "", "one shard, adaptive waiting (its default)"),
    Fulcrum(
        "fulcrum-latency", "\n[ring]\nlatency_target_us = 0\n", "one shard, wakes at once, always"
    ),
]
