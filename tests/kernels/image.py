"""The guest's root file system: a tree in memory, written as the archive that the kernel unpacks at boot.

Not a disk image, because an archive needs neither privileges nor mounting to be made.
"""

import lzma
import re
import stat
import subprocess
import sys
import sysconfig
from pathlib import Path

# Parts of the Python library that no check needs.
UNNEEDED = {
    "config", "ensurepip", "idlelib", "lib2to3", "pydoc_data", "site-packages", "dist-packages", "test", "tests", "tkinter",
    "turtledemo",
}  # fmt: skip
# What the disk needs that the kernel does not have built in.
MODULES = ("virtio_pci", "virtio_blk", "ext4")


class Tree:
    """Files and folders by their path in the guest."""

    def __init__(self):
        self.entries = {}

    def folder(self, path):
        """A folder and those above it."""
        for place in [*reversed(Path(path).parents), Path(path)]:
            if str(place) != "/":
                self.entries.setdefault(str(place), (stat.S_IFDIR | 0o755, b""))

    def file(self, path, content, mode=0o644):
        """A file with this content."""
        self.folder(Path(path).parent)
        self.entries[str(path)] = (stat.S_IFREG | mode, content)

    def link(self, path, target):
        """A symbolic link."""
        self.folder(Path(path).parent)
        self.entries[str(path)] = (stat.S_IFLNK | 0o777, str(target).encode())

    def copy(self, source, path):
        """A file of this host; one that may be executed here may be executed there."""
        source = Path(source)
        self.file(path, source.read_bytes(), source.stat().st_mode & 0o755)

    def program(self, source, path=None):
        """A program and the libraries it is linked to, which stay where the loader looks for them."""
        source = Path(source).resolve()
        self.copy(source, path or source)
        for library in libraries(source):
            if library not in self.entries:
                self.copy(library, library)

    def python(self):
        """The Python that runs this, with its library, as /bin/python3."""
        program = Path(sys.executable).resolve()
        self.program(program)
        self.link("/bin/python3", program)
        library = Path(sysconfig.get_paths()["stdlib"])
        for path in sorted(library.rglob("*")):
            top = path.relative_to(library).parts[0]
            if top.split("-")[0] in UNNEEDED or top in UNNEEDED or not path.is_file():
                continue
            if path.suffix == ".so":
                self.program(path, path)
            elif path.suffix in (".py", ".pyc"):
                self.copy(path, path)

    def modules(self, folder):
        """A kernel's modules for the disk, and /modules, which names them in the order of loading."""
        built_in = {name_of(line) for line in (folder / "modules.builtin").read_text().split()}
        files = {name_of(path): path for path in folder.rglob("*.ko*")}
        wanted = [name for name in MODULES if name not in built_in]
        order = loading_order(wanted, lambda name: needs(module(files[name])))
        for name in order:
            self.file(f"/lib/modules/{name}.ko", module(files[name]))
        self.file("/modules", "".join(f"/lib/modules/{name}.ko\n" for name in order).encode())

    def archive(self):
        """The tree in the format of initramfs, folders before what is in them."""
        return b"".join(
            record(number, path.lstrip("/"), *self.entries[path])
            for number, path in enumerate(sorted(self.entries), 1)
        ) + record(0, "TRAILER!!!", 0, b"")


def record(number, name, mode, content):
    """Documentation/driver-api/early-userspace/buffer-format.rst: a header of hexadecimal fields, each part padded to four bytes.

    Everything is root's, of the year 1970, linked once, and on no device.
    """
    fields = [number, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(name.encode()) + 1, 0]
    head = b"070701" + b"".join(b"%08X" % field for field in fields) + name.encode() + b"\0"
    return padded(head) + padded(content)


def padded(part):
    return part + b"\0" * (-len(part) % 4)


def libraries(program):
    """What the loader would load for a program or library, by ldd(1)."""
    # It fails for a program that is linked statically.
    finished = subprocess.run(["ldd", program], capture_output=True, text=True, check=False)
    return library_paths(finished.stdout)


def library_paths(listing):
    """The files in what ldd says: `name => /path (address)`, or the loader's own `/path (address)`."""
    return re.findall(r"(?:^|=>)\s*(/\S+) \(0x", listing, re.MULTILINE)


def name_of(file):
    """A module's name: its file's without folder and ending. The kernel takes both signs for one."""
    return Path(file).name.split(".ko")[0].replace("-", "_")


def module(path):
    """A module as the kernel takes it; newer packages have them compressed."""
    return lzma.decompress(path.read_bytes()) if path.suffix == ".xz" else path.read_bytes()


def needs(content):
    """Modules that one names as its dependencies, in its section .modinfo."""
    found = re.search(rb"(?:^|\0)depends=([^\0]*)\0", content)
    return [name_of(name) for name in found[1].decode().split(",") if name] if found else []


def loading_order(wanted, needs_of):
    """Each module after those it needs."""
    order = []

    def place(name):
        if name not in order:
            for other in needs_of(name):
                place(other)
            order.append(name)

    for name in wanted:
        place(name)
    return order
