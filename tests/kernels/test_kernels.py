"""The parts that need no virtual machine: archive, modules, what apt and ldd say, verdicts."""

import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

import image
import packages
from verdict import Verdict

# Whom the node in the machine knows is written there.
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "loadtests"))
from guest import checks  # noqa: E402
from guest.reporting import Failed, Reporting  # noqa: E402


class TheArchive(unittest.TestCase):
    def test_is_unpacked_as_the_tree_was(self):
        tree = image.Tree()
        tree.file("/etc/names", b"odd")
        tree.file("/init", b"#!/bin/sh\n", 0o755)
        tree.link("/bin/sh", "busybox")
        tree.folder("/data")
        paths = [path for path, _, _ in unpacked(tree.archive())]
        self.assertEqual(paths, ["bin", "bin/sh", "data", "etc", "etc/names", "init", "TRAILER!!!"])
        files = {path: (mode, content) for path, mode, content in unpacked(tree.archive())}
        self.assertEqual(files["etc/names"], (0o100644, b"odd"))
        self.assertEqual(files["init"], (0o100755, b"#!/bin/sh\n"))
        self.assertEqual(files["bin/sh"], (0o120777, b"busybox"))

    @unittest.skipUnless(shutil.which("cpio"), "cpio is not installed")
    def test_is_what_cpio_takes(self):
        tree = image.Tree()
        tree.file("/folder/file", b"content")
        with tempfile.TemporaryDirectory() as place:
            subprocess.run(["cpio", "--extract", "--quiet"], input=tree.archive(), cwd=place, check=True)
            self.assertEqual((Path(place) / "folder/file").read_bytes(), b"content")

    def test_every_part_is_padded_to_four_bytes(self):
        for length in range(5):
            self.assertEqual(len(image.record(1, "n" * (length + 1), 0o100644, b"c" * length)) % 4, 0)


def unpacked(archive):
    """Paths, modes and contents, by the format's description and not by what `image` does."""
    at = 0
    while at < len(archive):
        fields = [int(archive[at + 6 + 8 * i : at + 14 + 8 * i], 16) for i in range(13)]
        mode, size, name_size = fields[1], fields[6], fields[11]
        content = (at + 110 + name_size + 3) // 4 * 4
        yield archive[at + 110 : at + 109 + name_size].decode(), mode, archive[content : content + size]
        at = (content + size + 3) // 4 * 4


class Modules(unittest.TestCase):
    def test_are_loaded_behind_what_they_need(self):
        needs = {"pci": ["ring", "modern"], "modern": ["virtio"], "ring": ["virtio"], "virtio": [], "blk": ["ring"]}
        self.assertEqual(image.loading_order(["pci", "blk"], needs.get), ["virtio", "ring", "modern", "pci", "blk"])

    def test_name_what_they_need(self):
        self.assertEqual(image.needs(b"x\0depends=virtio-ring,virtio\0name=a\0"), ["virtio_ring", "virtio"])
        self.assertEqual(image.needs(b"x\0depends=\0name=a\0"), [])

    def test_have_one_name_packed_or_not(self):
        self.assertEqual(image.name_of("kernel/drivers/virtio-pci.ko.xz"), "virtio_pci")
        self.assertEqual(image.name_of("virtio_pci.ko"), "virtio_pci")


class WhatToolsSay(unittest.TestCase):
    def test_libraries_are_found_in_what_ldd_says(self):
        said = (
            "\tlinux-vdso.so.1 (0x00007ffc)\n"
            "\tlibssl.so.3 => /lib/x86_64-linux-gnu/libssl.so.3 (0x00007f1)\n"
            "\t/lib64/ld-linux-x86-64.so.2 (0x00007f2)\n"
        )
        self.assertEqual(image.library_paths(said), ["/lib/x86_64-linux-gnu/libssl.so.3", "/lib64/ld-linux-x86-64.so.2"])
        self.assertEqual(image.library_paths("\tnot a dynamic executable\n"), [])

    def test_the_kernel_is_found_behind_its_meta_package(self):
        said = "linux-image-cloud-amd64\n  Depends: linux-image-6.1.0-50-cloud-amd64\n"
        self.assertEqual(packages.dependency(said), "linux-image-6.1.0-50-cloud-amd64")
        with self.assertRaises(packages.Unusable):
            packages.dependency("linux-image-cloud-amd64\n")


class AVerdict(unittest.TestCase):
    def test_is_good_when_everything_passed_and_the_end_was_reached(self):
        verdict = taken(checked("fit", True), '{"end": true}')
        self.assertEqual(verdict.failures(), [])

    def test_names_what_failed(self):
        verdict = taken(checked("fit", False), checked("tls", True), '{"end": true}')
        self.assertEqual(verdict.failures(), ["fit failed"])

    def test_is_bad_when_the_machine_died_in_a_check(self):
        failures = taken(checked("fit", True), '{"begin": "tls"}', "Kernel panic").failures()
        self.assertEqual(len(failures), 2)
        self.assertIn("tls", failures[0])

    def test_is_bad_when_nothing_was_checked(self):
        self.assertTrue(taken('{"end": true}').failures())
        self.assertTrue(taken().failures())


def checked(name, passed):
    return f'{{"check": "{name}", "passed": {str(passed).lower()}, "seconds": 1, "detail": ""}}'


def taken(*lines):
    verdict = Verdict()
    for line in lines:
        verdict.take(line)
    return verdict


class TheGuest(unittest.TestCase):
    def test_reports_what_a_check_raises_and_the_host_understands_it(self):
        def fails():
            raise Failed("no answer")

        with tempfile.TemporaryFile("w+") as line:
            report = Reporting(line)
            outcomes = [report.carry_out("good", lambda: "fine"), report.carry_out("bad", fails),
                        report.carry_out("broken", lambda: 1 / 0)]  # fmt: skip
            report.tell(end=True)
            line.seek(0)
            verdict = taken(*line)
        self.assertEqual(outcomes, [True, False, False])
        self.assertEqual((verdict.passed, verdict.failed, verdict.has_ended), (["good"], ["bad", "broken"], True))

    def test_every_check_says_what_it_checks(self):
        for name, check in checks.CHECKS.items():
            self.assertTrue(check.__doc__ or "<locals>" in check.__qualname__, name)


if __name__ == "__main__":
    unittest.main()
