"""NATS server: MQTT 3.1.1 over JetStream, whose store is where QoS 1 goes in any case."""

import json

from runner import machine

from .base import LOCAL, TCP, TLS, Peer, Running, first_line, on_path


class Nats(Peer):
    # Debian's is years old; the Go module proxy has the present one.
    install_command = ("go", "install", "github.com/nats-io/nats-server/v2@latest")
    carriers = (TCP, TLS)
    protocols = ("3.1.1",)
    has_shared = False

    def __init__(self, name, sync, settings):
        self.name, self.sync, self.settings = name, sync, settings
        self.is_durable_variant = self.is_durable = sync == "always"

    def program(self):
        return on_path("nats-server")

    def install_environment(self):
        return {"GOBIN": str(LOCAL / "bin"), "GOFLAGS": "-mod=mod"}

    def version(self):
        return first_line([self.program(), "--version"])

    def start(self, workplace):
        tcp, client = machine.free_ports(2)
        settings = {
            "server_name": "load",
            "listen": f"127.0.0.1:{client}",
            "max_connections": 200_000,
            "jetstream": {
                "store_dir": f"{workplace.directory}/store",
                "sync_interval": self.sync,
                "max_memory_store": 4 << 30,
                "max_file_store": 16 << 30,
            },
            "mqtt": {"listen": f"127.0.0.1:{tcp}", "max_ack_pending": 10_000, "ack_wait": "60s"},
        }
        # One MQTT listener a process: TLS is a process of its own.
        if workplace.options.carrier == TLS:
            settings["mqtt"]["tls"] = {
                "cert_file": str(workplace.certificates.certificate),
                "key_file": str(workplace.certificates.key),
            }
        config = workplace.directory / "nats.conf"
        config.write_text(json.dumps(settings, indent=1))
        process = workplace.run([self.program(), "-c", config], {"GOMAXPROCS": "1"})
        return process, Running(process.pid, {TCP: tcp, TLS: tcp})


PEERS = [
    Nats("nats", "2m", "JetStream file store, synced every two minutes (its default)"),
    Nats("nats-durable", "always", "JetStream file store, synced at every write"),
]
