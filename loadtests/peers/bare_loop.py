"""No broker: the ring's `forward` example passes frames on between paired connections, and nothing
else. What a message costs there is what kernel and event loop cost."""

from runner import machine

from .base import TCP, Peer, Running


class BareLoop(Peer):
    name = "bare-loop"
    settings = "no protocol: frames between paired connections"
    latency_us = None

    def program(self):
        return machine.ROOT / "dataplane/ring/examples/forward.rs"

    def missing(self):
        return None

    def unsuited(self, scenario):
        is_plain = scenario["pattern"] == "pairs" and scenario.get("carrier", TCP) == TCP
        if is_plain and not (scenario.get("qos") or scenario.get("retain")):
            return None
        return "forwards pairs with QoS 0 over TCP alone"

    def version(self):
        return "fulcrum-ring"

    def start(self, workplace):
        (port,) = machine.free_ports(1)
        binary = machine.built_example("fulcrum-ring", "forward")
        command = [binary, "--port", port, "--cpu", machine.SERVER_CPU]
        process = workplace.run(command)
        return process, Running(process.pid, {TCP: port})

    def driver_flags(self, scenario):
        return ["--protocol", "bare"]


PEERS = [BareLoop()]
