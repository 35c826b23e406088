"""fs-verity for real: one boot of a machine whose kernel has it runs `tests/guest/checks.py`."""

from __future__ import annotations

import os
import platform
import random
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from puzzlefs import constants
from puzzlefs._native import Backend
from puzzlefs.builder import BuildOptions, Profile, build
from tests.guest import machine
from tests.guest.contents import SIZES, write_file
from tests.guest.machine import Result

CHECKS = re.findall(r"^def (check_\w+)", (machine.HOME / "tests/guest/checks.py").read_text(), re.MULTILINE)

_SMALL_PACKS = BuildOptions(compression=True, pack_size=constants.PACK_SIZE_MIN)


@pytest.fixture(scope="session")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Result]:
    """What came of every check on the machine. Of the session: another scope would boot once for each backend."""
    if platform.machine() != "x86_64":
        pytest.skip("needs x86-64: the machine runs this Python")
    if shutil.which(machine.QEMU) is None:
        pytest.skip(f"needs {machine.QEMU}")
    if machine.kernel() is None:
        pytest.skip(f"needs Debian's cloud kernel in {machine.KERNEL} (make setup)")
    directory = tmp_path_factory.mktemp("machine")
    content = directory / "content"
    _write_content(content)
    disks = [
        _disk(directory / "store", 256, "-O", "verity", "-d", content),
        _disk(directory / "plain", 32, "-O", "^verity"),
    ]
    found = machine.run_checks(directory, disks)
    shutil.rmtree(directory)
    return found


def _write_content(content: Path) -> None:
    """Make what the disk has at first: a tree, and images of it in three layouts."""
    tree, changed = content / "tree", content.parent / "changed"
    tree.mkdir(parents=True)
    (tree / "noise").write_bytes(random.Random(1).randbytes(1 << 20))
    (tree / "small").write_bytes(b"small\n")
    (tree / "text").write_bytes(b"".join(b"line %d of the text\n" % number for number in range(20_000)))
    shutil.copytree(tree, changed)
    (changed / "other").write_bytes(random.Random(2).randbytes(100_000))
    for layout, options in (("raw", BuildOptions(pack_size=0)), ("compressed", _SMALL_PACKS)):
        _build(tree, content / layout, "v", options)
        _build(changed, content / layout, "other", options)
    _build(changed, content / "raw", "delta", BuildOptions(base="v", pack_size=0))
    _build(tree, content / "mixed", "v", _SMALL_PACKS)
    _build(changed, content / "mixed", "chunks", BuildOptions(compression=True, pack_size=0))
    _build(tree, content / "mixed", "delta", _SMALL_PACKS._replace(base="chunks"))
    _build(tree, content / "mixed", "original", BuildOptions(profile=Profile.UPSTREAM))


def _build(tree: Path, layout: Path, tag: str, options: BuildOptions) -> None:
    result = build(tree, f"{layout}:{tag}", options)
    (layout / f"{tag}.digest").write_text(result.digest)


def _disk(path: Path, megabytes: int, *options: str | Path) -> Path:
    """Make a disk with an ext4 filesystem."""
    with open(path, "wb") as file:
        file.truncate(megabytes << 20)
    command = ["mke2fs", "-q", "-t", "ext4", "-b", "4096", "-E", "lazy_itable_init=0", *options, path]
    # Debian keeps it where only root looks for programs.
    places = os.pathsep.join([os.environ["PATH"], "/usr/sbin", "/sbin"])
    subprocess.run(command, env={**os.environ, "PATH": places}, check=True)
    return path


@pytest.mark.parametrize("name", CHECKS)
def test_on_a_kernel_with_fs_verity(results: dict[str, Result], name: str) -> None:
    result = results[name]
    if result.error is not None:
        pytest.fail(f"in the guest:\n{result.error}", pytrace=False)


@pytest.mark.parametrize("size", SIZES)
def test_our_digests_are_the_kernels(backend: Backend, results: dict[str, Result], size: int, tmp_path: Path) -> None:
    measured = results["check_measurements_of_all_sizes"].value
    assert isinstance(measured, dict)
    write_file(tmp_path / "file", size)
    with open(tmp_path / "file", "rb") as file:
        found_size, _, verity = backend.hash_file(file.fileno())
    assert (found_size, verity.hex()) == (size, measured[str(size)])


def test_what_a_filesystem_lacks_is_one_sentence(results: dict[str, Result]) -> None:
    place = r"/blobs/sha256 has no fs-verity: needs"
    ext4 = "a kernel with CONFIG_FS_VERITY and the filesystem's feature 'verity'"
    tmpfs = "an ext4, f2fs or btrfs filesystem"
    sentences = results["check_filesystems_without_fs_verity"].value
    assert sentences == {
        "ext4": f"puzzlefs: the filesystem (ext4) at /plain/image{place} {ext4} (Operation not supported)\n",
        "tmpfs": f"puzzlefs: the filesystem (tmpfs) at /tmp/image{place} {tmpfs} (Inappropriate ioctl for device)\n",
    }
