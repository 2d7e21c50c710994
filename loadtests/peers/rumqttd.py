"""rumqttd, from crates.io: a log in memory, MQTT 3.1.1 and 5 on ports of their own."""

import subprocess

from runner import machine

from .base import LOCAL, TCP, TLS, Peer, Running, on_path

CONNECTIONS = """\
    connection_timeout_ms = 60000
    max_payload_size = 1100000
    max_inflight_count = 65535
    dynamic_filters = true
"""


class Rumqttd(Peer):
    name = "rumqttd"
    settings = "a log in memory; inflight limit at its highest"
    install_command = ("cargo", "install", "rumqttd", "--root", LOCAL)
    carriers = (TCP, TLS)
    # It takes QoS 2 from publishers and gives subscribers QoS 1.
    qos_max = 1

    def program(self):
        return on_path("rumqttd")

    def version(self):
        listed = subprocess.run(
            ["cargo", "install", "--list", "--root", LOCAL], capture_output=True, text=True, check=False
        )
        found = [line for line in listed.stdout.splitlines() if line.startswith("rumqttd ")]
        return found[0].rstrip(":") if found else "?"

    def start(self, workplace):
        v3, v5, tls, console, metrics = machine.free_ports(5)
        certificates = workplace.certificates
        config = workplace.directory / "rumqttd.toml"
        config.write_text(
            f"""\
id = 0
[router]
id = 0
max_connections = 200000
max_outgoing_packet_count = 200
max_segment_size = 104857600
max_segment_count = 10
[v4.1]
name = "v4"
listen = "127.0.0.1:{v3}"
next_connection_delay_ms = 0
    [v4.1.connections]
{CONNECTIONS}
[v4.2]
name = "v4-tls"
listen = "127.0.0.1:{tls}"
next_connection_delay_ms = 0
    [v4.2.tls]
    certpath = "{certificates.certificate}"
    keypath = "{certificates.key}"
    [v4.2.connections]
{CONNECTIONS}
[v5.1]
name = "v5"
listen = "127.0.0.1:{v5}"
next_connection_delay_ms = 0
    [v5.1.connections]
{CONNECTIONS}
[console]
listen = "127.0.0.1:{console}"
"""
        )
        process = workplace.run([self.program(), "--config", config, "--quiet"])
        return process, Running(process.pid, {TCP: v3, f"{TCP}/5": v5, TLS: tls})


PEERS = [Rumqttd()]
