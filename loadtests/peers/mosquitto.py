"""mosquitto: the baseline. Settings are in mosquitto/fast.conf and mosquitto/durable.conf."""

import shutil

from runner import machine

from .base import TCP, TLS, WEBSOCKET, Peer, Running, first_line


class Mosquitto(Peer):
    install_command = ("apt-get", "install", "--yes", "mosquitto")
    carriers = (TCP, TLS, WEBSOCKET)

    def __init__(self, name, variant, settings):
        self.name, self.variant, self.settings = name, variant, settings
        self.is_durable_variant = self.is_durable = variant == "durable"

    def program(self):
        return shutil.which("mosquitto")

    def version(self):
        return first_line([self.program(), "-h"])

    def start(self, workplace):
        tcp, tls, websocket = machine.free_ports(3)
        settings = (machine.LOADTESTS / "peers/mosquitto" / f"{self.variant}.conf").read_text()
        if self.variant == "durable":
            settings += f"persistence_location {workplace.directory}/\n"
        settings += f"listener {tcp} 127.0.0.1\n"
        settings += f"listener {tls} 127.0.0.1\n"
        settings += f"certfile {workplace.certificates.certificate}\n"
        settings += f"keyfile {workplace.certificates.key}\n"
        settings += f"listener {websocket} 127.0.0.1\nprotocol websockets\n"
        config = workplace.directory / "mosquitto.conf"
        config.write_text(settings)
        process = workplace.run([self.program(), "-c", config])
        return process, Running(process.pid, {TCP: tcp, TLS: tls, WEBSOCKET: websocket})


PEERS = [
    Mosquitto("mosquitto", "fast", "writes nothing, limits nothing"),
    Mosquitto("mosquitto-durable", "durable", "writes its database after every change"),
]
