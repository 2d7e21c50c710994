"""RabbitMQ with its MQTT plugin: MQTT 3.1.1 in Debian's version, QoS 2 taken as 1.

PUBACK waits for the queues' confirmation; queues of sessions that stay are durable, so this one
variant is the durable one in stored scenarios and the other in the rest.
"""

import os
import shutil
import signal
import subprocess
import time

from runner import machine
from runner.machine import Unusable

from .base import START_SECONDS, STOP_SECONDS, TCP, TLS, WEBSOCKET, Peer, Running, first_line


class RabbitMq(Peer):
    name = "rabbitmq"
    settings = "one scheduler, no statistics, no management plugin"
    is_durable = True
    install_command = ("apt-get", "install", "--yes", "--no-install-recommends", "rabbitmq-server")
    carriers = (TCP, TLS, WEBSOCKET)
    protocols = ("3.1.1",)
    qos_max = 1
    has_shared = False
    descriptor_share = 0.9

    def program(self):
        return shutil.which("rabbitmq-server")

    def version(self):
        package = ["dpkg-query", "--show", "--showformat=rabbitmq ${Version}", "rabbitmq-server"]
        return subprocess.run(package, capture_output=True, text=True, check=False).stdout or "?"

    def start(self, workplace):
        tcp, tls, websocket, amqp, distribution, epmd = machine.free_ports(6)
        directory = workplace.directory
        (directory / "enabled").write_text("[rabbitmq_mqtt,rabbitmq_web_mqtt].\n")
        (directory / "rabbitmq.conf").write_text(
            f"""\
listeners.tcp.default = 127.0.0.1:{amqp}
mqtt.listeners.tcp.default = 127.0.0.1:{tcp}
mqtt.listeners.ssl.default = 127.0.0.1:{tls}
mqtt.allow_anonymous = true
mqtt.default_user = guest
mqtt.default_pass = guest
mqtt.prefetch = 1000
mqtt.tcp_listen_options.backlog = 4096
mqtt.tcp_listen_options.nodelay = true
web_mqtt.tcp.port = {websocket}
web_mqtt.tcp.ip = 127.0.0.1
web_mqtt.ws_path = /mqtt
ssl_options.cacertfile = {workplace.certificates.authority}
ssl_options.certfile = {workplace.certificates.certificate}
ssl_options.keyfile = {workplace.certificates.key}
ssl_options.verify = verify_none
collect_statistics = none
vm_memory_high_watermark.absolute = 8GB
disk_free_limit.absolute = 50MB
log.console = true
log.console.level = warning
log.file = false
"""
        )
        # The package's wrapper changes to a user of its own; the script behind it does not.
        script = "/usr/lib/rabbitmq/bin/rabbitmq-server"
        node = f"load{tcp}@localhost"
        self.process_environment = {
            "RABBITMQ_NODENAME": node,
            "RABBITMQ_CONFIG_FILE": str(directory / "rabbitmq"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(directory / "enabled"),
            "RABBITMQ_MNESIA_BASE": str(directory / "mnesia"),
            "RABBITMQ_LOG_BASE": str(directory),
            "RABBITMQ_PID_FILE": str(directory / "pid"),
            "RABBITMQ_DIST_PORT": str(distribution),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 1:1 +P 1048576 +Q 1048576",
            "RABBITMQ_IO_THREAD_POOL_SIZE": "4",
            "ERL_EPMD_PORT": str(epmd),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "HOME": str(directory),
        }
        process = workplace.run([script], self.process_environment)
        pid = self.await_emulator(process, workplace)
        return process, Running(
            pid, {TCP: tcp, TLS: tls, WEBSOCKET: websocket}, ws_path="/mqtt"
        )

    def await_emulator(self, process, workplace):
        """The process that does the work: the script starts it as a child."""
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and process.poll() is None:
            for pid, name in descendants(process.pid):
                if name.startswith("beam"):
                    return pid
            time.sleep(0.1)
        raise Unusable(f"no Erlang emulator was started:\n{workplace.tail()}")

    def stop(self, process):
        family = [pid for pid, _ in descendants(process.pid)]
        for pid in [*family, process.pid]:
            end(pid, signal.SIGTERM)
        # The script ends before the emulator does, and the mapper serves as long as there is a node.
        deadline = time.monotonic() + STOP_SECONDS
        while any(map(is_alive, family)) and time.monotonic() < deadline:
            process.poll()
            time.sleep(0.1)
        for pid in [*family, process.pid]:
            end(pid, signal.SIGKILL)
        process.wait()
        # Erlang's port mapper outlives whoever started it.
        stop_mapper = ["epmd", "-port", self.process_environment["ERL_EPMD_PORT"], "-kill"]
        deadline = time.monotonic() + STOP_SECONDS
        while first_line(stop_mapper) != "Killed" and time.monotonic() < deadline:
            time.sleep(0.2)


def is_alive(pid):
    """Whether it runs; one that only waits to be collected does not."""
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def end(pid, number):
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass


def descendants(pid):
    """Children, and theirs, with their names."""
    found = []
    try:
        with open(f"/proc/{pid}/task/{pid}/children") as children:
            for child in map(int, children.read().split()):
                with open(f"/proc/{child}/comm") as name:
                    found.append((child, name.read().strip()))
                found += descendants(child)
    except OSError:
        pass
    return found


PEERS = [RabbitMq()]
