"""Brokers to measure: how each is had, started with settings equal to the others', and stopped.

One module a broker, one `Peer` each variant. README.md, "How to add a peer", says what a module has.
"""

from . import bare_loop, fulcrum, mosquitto, nats, rabbitmq, rmqttd, rumqttd
from .base import Peer, Running, started  # noqa: F401  (what the runner uses)

PEERS = {
    peer.name: peer
    for module in (fulcrum, bare_loop, mosquitto, nats, rabbitmq, rumqttd, rmqttd)
    for peer in module.PEERS
}

# What a comparison ought to have and cannot: reported with each table.
UNOBTAINABLE = {
    "emqx": "in none of the package registries (Debian, PyPI, npm, crates.io, Go, Maven Central); "
    "its releases are downloads from its own site",
    "nanomq": "in none of the package registries; built from a repository with submodules",
    "vernemq": "in none of the package registries",
}
