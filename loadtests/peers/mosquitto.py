"""mosquitto: the baseline, and what it costs when asked for durability or for passwords. Settings are
in mosquitto/{fast,durable,passwords}.conf."""

import shutil
import subprocess

from runner import machine, seed
from runner.machine import Unusable

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
        settings += self.further_settings(workplace)
        config = workplace.directory / "mosquitto.conf"
        config.write_text(settings)
        process = workplace.run([self.program(), "-c", config])
        return process, Running(process.pid, {TCP: tcp, TLS: tls, WEBSOCKET: websocket})

    def further_settings(self, workplace):
        """Lines behind those of the variant's file."""
        return ""


class MosquittoWithPasswords(Mosquitto):
    """Checks a user and a password at each CONNECT, against a file that mosquitto_passwd made."""

    def __init__(self, name, algorithm, settings):
        super().__init__(name, "passwords", settings)
        self.algorithm = algorithm

    def unsuited(self, scenario):
        if scenario["pattern"] != "storm":
            return "differs from mosquitto while clients connect"
        return super().unsuited(scenario)

    def further_settings(self, workplace):
        users = workplace.directory / "users"
        users.write_text(
            "".join(f"d{index}:{seed.DEVICE_PASSWORD}\n" for index in range(seed.DEVICES))
        )
        # Hashes what the file has in plain text, in place.
        hashing = ["mosquitto_passwd", "-H", self.algorithm, "-U", users]
        log = workplace.log
        if subprocess.run(hashing, stdout=log, stderr=log, check=False).returncode != 0:
            raise Unusable(f"mosquitto_passwd failed:\n{workplace.tail()}")
        return f"password_file {users}\n"

    def driver_flags(self, scenario):
        return ["--username-template", f"d{{i%{seed.DEVICES}}}"]

    def driver_environment(self):
        return {"FULCRUM_LOAD_PASSWORD": seed.DEVICE_PASSWORD}


PEERS = [
    Mosquitto("mosquitto", "fast", "writes nothing, limits nothing, lets anybody in"),
    Mosquitto("mosquitto-durable", "durable", "writes its database after every change"),
    MosquittoWithPasswords(
        "mosquitto-passwords",
        "sha512-pbkdf2",
        "as mosquitto, checking a password file as mosquitto_passwd makes it: PBKDF2, 101 rounds of SHA-512",
    ),
    MosquittoWithPasswords(
        "mosquitto-passwords-sha512",
        "sha512",
        "as mosquitto, checking a password file of salted SHA-512, one round (mosquitto_passwd -H sha512)",
    ),
]
