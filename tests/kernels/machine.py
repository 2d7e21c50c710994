"""The virtual machine: qemu with two serial lines, one for the console, one for what the checks report.

Emulated, not on /dev/kvm: a check must come to the same verdict inside another virtual machine, where the device may be there
and not work.
"""

import contextlib
import os
import queue
import subprocess
import threading
import time

PROCESSORS = 2


def disk(path, mebibytes):
    """An empty ext4 file system in a sparse file."""
    path.unlink(missing_ok=True)
    with path.open("wb") as file:
        file.truncate(mebibytes << 20)
    subprocess.run(["mkfs.ext4", "-q", "-F", path], check=True)


def command(vmlinuz, initramfs, data_disk, console, memory_mib):
    """How qemu is called."""
    return [
        "qemu-system-x86_64",
        *("-accel", "tcg,thread=multi", "-cpu", "max"),
        *("-smp", str(PROCESSORS), "-m", str(memory_mib)),
        *("-display", "none", "-monitor", "none", "-nic", "none", "-no-reboot"),
        *("-serial", f"file:{console}", "-serial", "stdio"),
        *("-drive", f"file={data_disk},if=virtio,format=raw,cache=unsafe"),
        *("-kernel", str(vmlinuz), "-initrd", str(initramfs)),
        # A panic is a reboot, and a reboot ends the machine.
        *("-append", "console=ttyS0 panic=-1 quiet loglevel=4 random.trust_cpu=on"),
    ]


def reports(line, timeout_s):
    """Runs the machine and yields what comes out of its second serial line; ends with it, or after `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    lines = queue.SimpleQueue()
    with subprocess.Popen(line, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as process:

        def read():
            for text in process.stdout:
                lines.put(text.decode(errors="replace").rstrip())
            lines.put(None)

        threading.Thread(target=read, daemon=True).start()
        try:
            while (rest := deadline - time.monotonic()) > 0:
                with contextlib.suppress(queue.Empty):
                    text = lines.get(timeout=rest)
                    if text is None:
                        return
                    yield text
        finally:
            process.kill()


def tail(path, count=40):
    """The last lines of a file, for a failure's message."""
    if not os.path.exists(path):
        return ""
    with open(path, errors="replace") as file:
        return "".join(file.readlines()[-count:])
