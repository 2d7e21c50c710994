"""Programs of this host and Debian's kernels, both by apt.

A kernel is downloaded and unpacked into the cache, never installed: apt is given lists, cache and status of its own, so that
neither the host's sources nor its installed packages change, and any Debian release can be named on any host.
"""

import os
import re
import shutil
import subprocess

# The cloud kernel of each Debian release, oldest first: below the floor, the floor, and the first with minimum waits.
SUITES = {"bullseye": "5.10", "bookworm": "6.1", "trixie": "6.12"}
KERNEL_PACKAGE = "linux-image-cloud-amd64"
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"

# What must be on this host, and the package it comes with.
PROGRAMS = {
    "qemu-system-x86_64": "qemu-system-x86",
    "busybox": "busybox-static",
    "mosquitto_pub": "mosquitto-clients",
    "mosquitto_sub": "mosquitto-clients",
    "mkfs.ext4": "e2fsprogs",
    "openssl": "openssl",
    "strip": "binutils",
    "prlimit": "util-linux",
    "curl": "curl",
}
FILES = {KEYRING: "debian-archive-keyring", "/etc/ssl/certs/ca-certificates.crt": "ca-certificates"}


class Unusable(Exception):
    """Something is missing; the message says what to do."""


def install_missing():
    """Installs what this host lacks, if this user may."""
    # Debian puts mkfs where an ordinary user's PATH does not look.
    os.environ["PATH"] += ":/usr/sbin:/sbin"
    missing = {package for program, package in PROGRAMS.items() if not shutil.which(program)}
    missing |= {package for file, package in FILES.items() if not os.path.exists(file)}
    if not missing:
        return
    command = ["apt-get", "install", "--yes", "--no-install-recommends", *sorted(missing)]
    if os.geteuid() != 0:
        raise Unusable(f"run as root, once: {' '.join(command)}")
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    for step in (["apt-get", "update", "--quiet"], command):
        if subprocess.run(step, env=environment, stdout=subprocess.DEVNULL, check=False).returncode != 0:
            raise Unusable(f"{' '.join(step)} failed; see above")


def kernel(suite, cache):
    """The folder with the unpacked kernel of a Debian release; downloaded once."""
    folder = cache / f"kernel-{suite}"
    if (folder / "boot").is_dir():
        return folder
    print(f"downloading the kernel of Debian {suite}", flush=True)
    apt = Apt(suite, cache / f"apt-{suite}")
    apt.run("apt-get", "update", "--quiet")
    package = dependency(apt.run("apt-cache", "depends", KERNEL_PACKAGE))
    apt.run("apt-get", "download", package, cwd=apt.folder)
    unpacked = cache / f"kernel-{suite}.part"
    shutil.rmtree(unpacked, ignore_errors=True)
    for archive in apt.folder.glob("*.deb"):
        subprocess.run(["dpkg-deb", "--extract", archive, unpacked], check=True)
    unpacked.rename(folder)
    shutil.rmtree(apt.folder)
    return folder


def dependency(listing):
    """The kernel a meta package stands for, in what `apt-cache depends` says."""
    found = re.search(r"^\s*Depends:\s*(linux-image-[0-9]\S*)", listing, re.MULTILINE)
    if found is None:
        raise Unusable(f"{KERNEL_PACKAGE} names no kernel; apt-cache says:\n{listing}")
    return found[1]


class Apt:
    """apt as if nothing were installed and one Debian release were its only source."""

    def __init__(self, suite, folder):
        self.folder = folder.absolute()
        for name in ("lists/partial", "cache/archives/partial", "parts"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        (self.folder / "status").touch()
        source = f"deb [arch=amd64 signed-by={KEYRING}] http://deb.debian.org/debian {suite} main\n"
        (self.folder / "sources.list").write_text(source)

    def run(self, program, *arguments, cwd=None):
        """What the program printed."""
        settings = {
            "Dir::Etc::SourceList": self.folder / "sources.list",
            "Dir::Etc::SourceParts": self.folder / "parts",
            "Dir::State::Lists": self.folder / "lists",
            "Dir::State::Status": self.folder / "status",
            "Dir::Cache": self.folder / "cache",
            "APT::Architecture": "amd64",
            # Root would hand the download to a user who may not see the cache.
            "APT::Sandbox::User": "root",
            "Acquire::Languages": "none",
            # Descriptions for software centres, half of what an update would fetch.
            "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled": "false",
        }
        options = [f"--option={name}={value}" for name, value in settings.items()]
        command = [program, *options, *arguments]
        finished = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
        if finished.returncode != 0:
            raise Unusable(f"{program} {' '.join(arguments)}: {finished.stderr.strip()}")
        return finished.stdout
