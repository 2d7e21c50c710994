"""Identities for a Fulcrum node that has never seen its cloud: one page of the change feed."""

import base64
import hashlib
import json

TENANT = "bench"
APPLICATION = "app"
# Not secret: they open a node that lives for one measurement on loopback.
DEVICE_PASSWORD = "device-password"
APPLICATION_PASSWORD = "application-password"


def change_page(devices):
    """The page with the tenant, `devices` devices d0, d1, ... and the application."""
    entities = [entity("tenant", document={"enabled": True})]
    for index in range(devices):
        device = f"d{index}"
        entities.append(entity("device", device=device, document={"enabled": True}))
        entities.append(entity("credentials", device=device, document=[credential(device)]))
    application = {"enabled": True, "password-sha256": encoded(sha256(APPLICATION_PASSWORD.encode()))}
    entities.append(entity("application", application=APPLICATION, document=application))
    changes = [{"version": number, **change} for number, change in enumerate(entities, 1)]
    return {"feed": "loadtests", "changes": changes, "cursor": len(changes), "more": False}


def write(path, devices):
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
