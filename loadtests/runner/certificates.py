"""An authority and a certificate of `localhost` for the length of a comparison, by openssl."""

import dataclasses
import os
import subprocess
from pathlib import Path

from .machine import Unusable

DAYS = "30"


@dataclasses.dataclass
class Certificates:
    authority: Path
    certificate: Path
    key: Path


def made(directory):
    """P-256 throughout, as devices have it; every broker gets the same."""
    directory.mkdir(parents=True, exist_ok=True)
    authority, authority_key = directory / "ca.pem", directory / "ca.key"
    certificate, key = directory / "server.pem", directory / "server.key"
    request, names = directory / "server.csr", directory / "names.cnf"
    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-sha256")
    names.write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\nbasicConstraints=CA:FALSE\n")
    openssl("req", "-x509", *curve, "-keyout", authority_key, "-out", authority,
            "-days", DAYS, "-subj", "/CN=Load test authority")  # fmt: skip
    openssl("req", *curve, "-keyout", key, "-out", request, "-subj", "/CN=localhost")
    openssl("x509", "-req", "-in", request, "-CA", authority, "-CAkey", authority_key,
            "-CAcreateserial", "-out", certificate, "-days", DAYS, "-extfile", names)  # fmt: skip
    # Brokers that change their user read them after that.
    for path in (authority, certificate, key):
        os.chmod(path, 0o644)
    return Certificates(authority, certificate, key)


def openssl(*arguments):
    command = ["openssl", *map(str, arguments)]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    if finished.returncode != 0:
        raise Unusable(f"openssl {arguments[0]}: {finished.stderr.strip()}")
