"""What is Fulcrum's own in a comparison: tenant, users, topics. One page of the change feed for a
node that has never seen its cloud, and the flags that tell the driver of it."""

import base64
import hashlib
import json

TENANT = "bench"
APPLICATION = "app"
# Enough for every scenario with a device of its own for each publisher; more connections share them.
DEVICES = 2_500
# Not secret: they open a node that lives for one measurement on loopback.
DEVICE_PASSWORD = "device-password"
APPLICATION_PASSWORD = "application-password"

# Which of a listener's two faces is measured: the device API, or messaging under the tenant's own
# addresses, which is what the other brokers do.
DEVICE_API, MESSAGING = "device-api", "messaging"
FACE = MESSAGING

MESSAGING_ADDRESSES = [{"pattern": "bench/#", "type": "multicast"}]


def unsuited(scenario):
    """Why the face that is measured does not do what a scenario asks for, or None."""
    if FACE == MESSAGING:
        return None
    demands = {
        "the device API has no QoS 2": scenario.get("qos", 0) < 2,
        "the device API has no retained messages": not scenario.get("retain"),
        "the device API has no shared subscriptions": scenario["pattern"] != "shared",
        "the device API has no sessions that stay": not scenario.get("persistent"),
        "the device API does not fan out": scenario["pattern"] != "fan-out",
    }
    return next((reason for reason, is_met in demands.items() if not is_met), None)


def driver_flags(scenario):
    """Users and topics for the driver."""
    device = f"d{{i%{DEVICES}}}@{{tenant}}"
    flags = ["--tenant", TENANT, "--username-template", device]
    # A session's queue is bounded (16 000 messages at most), so what it cannot take is not stored and costs nothing. Ingest
    # is measured with events, which are all stored for the tenant's stream.
    messaging = FACE == MESSAGING and scenario["pattern"] != "ingest"
    if messaging or scenario["pattern"] in ("idle", "storm"):
        return flags
    kind = "event" if scenario["pattern"] == "ingest" else "telemetry"
    if "offline-filter" in scenario:
        flags += ["--offline-filter", ""]
    flags += ["--topic-template", f"{kind}/{{tenant}}/d{{i}}"]
    flags += ["--subscriber-username-template", f"{APPLICATION}@{{tenant}}"]
    if scenario["pattern"] == "fan-in":
        flags += ["--filter-template", f"{kind}/{{tenant}}/#"]
    return flags


def driver_environment():
    """Passwords for the driver."""
    subscriber = DEVICE_PASSWORD if FACE == MESSAGING else APPLICATION_PASSWORD
    return {
        "FULCRUM_LOAD_PASSWORD": DEVICE_PASSWORD,
        "FULCRUM_LOAD_SUBSCRIBER_PASSWORD": subscriber,
    }


def change_page(devices=DEVICES):
    """The page with the tenant, `devices` devices d0, d1, ... and the application."""
    tenant = {"enabled": True, "messaging": {"addresses": MESSAGING_ADDRESSES}}
    entities = [entity("tenant", document=tenant)]
    for index in range(devices):
        device = f"d{index}"
        entities.append(entity("device", device=device, document={"enabled": True}))
        entities.append(entity("credentials", device=device, document=[credential(device)]))
    password = encoded(sha256(APPLICATION_PASSWORD.encode()))
    application = {"enabled": True, "password-sha256": password}
    entities.append(entity("application", application=APPLICATION, document=application))
    changes = [{"version": number, **change} for number, change in enumerate(entities, 1)]
    return {"feed": "loadtests", "changes": changes, "cursor": len(changes), "more": False}


def write(path, devices=DEVICES):
    path.write_text(json.dumps(change_page(devices)))


def entity(kind, **members):
    return {"kind": kind, "tenant": TENANT, **members}


def credential(device):
    salt = sha256(device.encode())[:16]
    return {
        "type": "hashed-password",
        "auth-id": device,
        "secrets": [
            {
                "hash-function": "sha-256",
                "salt": encoded(salt),
                "pwd-hash": encoded(sha256(salt + DEVICE_PASSWORD.encode())),
            }
        ],
    }


def sha256(data):
    return hashlib.sha256(data).digest()


def encoded(data):
    return base64.b64encode(data).decode()
