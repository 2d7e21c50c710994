"""rmqttd (RMQTT), from crates.io: MQTT 3.1.1 and 5 in memory. Installing it takes the better part of
an hour on two cores and needs Debian's protobuf-compiler."""

import subprocess

from runner import machine

from .base import LOCAL, TCP, TLS, WEBSOCKET, Peer, Running, on_path

LISTENER = """\
max_connections = 200000
max_handshaking_limit = 10000
backlog = 4096
nodelay = true
allow_anonymous = true
allow_zero_keepalive = true
max_inflight = 65535
max_mqueue_len = 1000000
mqueue_rate_limit = "10000000,1s"
max_packet_size = "2MB"
max_keepalive = 65535
"""


class Rmqttd(Peer):
    name = "rmqttd"
    settings = "in memory; no plugins but retainer and shared subscriptions; limits at their highest"
    install_command = ("cargo", "install", "rmqttd", "--root", LOCAL)
    carriers = (TCP, TLS, WEBSOCKET)

    def program(self):
        return on_path("rmqttd")

    def version(self):
        listed = subprocess.run(
            ["cargo", "install", "--list", "--root", LOCAL], capture_output=True, text=True, check=False
        )
        found = [line for line in listed.stdout.splitlines() if line.startswith("rmqttd ")]
        return found[0].rstrip(":") if found else "?"

    def start(self, workplace):
        tcp, tls, websocket, rpc = machine.free_ports(4)
        certificates = workplace.certificates
        (workplace.directory / "plugins").mkdir()
        config = workplace.directory / "rmqtt.toml"
        config.write_text(
            f"""\
[node]
id = 1
busy.check_enable = false
[rpc]
server_addr = "127.0.0.1:{rpc}"
[plugins]
dir = "{workplace.directory}/plugins"
default_startups = ["rmqtt-retainer", "rmqtt-shared-subscription"]
[log]
to = "console"
level = "warn"
[listener.tcp.external]
addr = "127.0.0.1:{tcp}"
{LISTENER}
[listener.tls.external]
addr = "127.0.0.1:{tls}"
cert = "{certificates.certificate}"
key = "{certificates.key}"
{LISTENER}
[listener.ws.external]
addr = "127.0.0.1:{websocket}"
{LISTENER}
"""
        )
        process = workplace.run([self.program(), "-f", config], cwd=workplace.directory)
        return process, Running(process.pid, {TCP: tcp, TLS: tls, WEBSOCKET: websocket})


PEERS = [Rmqttd()]
