"""Unpacked images are the trees that they were built from."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from itertools import chain
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from puzzlefs import constants
from puzzlefs._native import Backend
from puzzlefs.extract import extract
from puzzlefs.vfs import Filesystem
from tests.conftest import GoldenImage
from tests.images import craft, directory, file_of
from tools.compare_trees import differences


def filesystem_of(image: GoldenImage, backend: Backend) -> Any:
    """Return what `extract` needs of a golden image."""
    index = backend.Index(image.rootfs)
    return SimpleNamespace(filesystem=Filesystem(index, backend.Reader(index, bytes(image.blobs), 2, constants.MIB)))


@pytest.mark.parametrize("name", ["vi-empty", "vi-kinds", "vi-wide", "vic-kinds", "vic-text"])
def test_golden_image_is_its_tree(
    name: str, golden: dict[str, GoldenImage], golden_trees: Path, tmp_path: Path, backend: Backend
) -> None:
    """Every inode and every byte; times are those that the original keeps: none."""
    result = extract(filesystem_of(golden[f"{name}:v"], backend), tmp_path / "out")
    tree = golden_trees / name.partition("-")[2]
    assert result.skipped == []
    assert differences(tree, tmp_path / "out", {"mtime_ns"}) == []
    assert os.lstat(tmp_path / "out").st_mtime == 0
    # Debian 12's own pathlib stumbles over the long link.
    inodes = {os.lstat(os.path.join(place, name)).st_ino for place, *names in os.walk(tree) for name in chain(*names)}
    assert result.inodes == len(inodes)


def test_golden_delta_is_its_tree(
    golden: dict[str, GoldenImage], golden_trees: Path, tmp_path: Path, backend: Backend
) -> None:
    """What was deleted is not there, what was changed is new, the rest is the base's."""
    out = tmp_path / "out"
    extract(filesystem_of(golden["vi-delta:delta"], backend), out)
    changed = {
        str(difference.path, "utf-8", "replace")
        for difference in differences(golden_trees / "kinds", out, {"mtime_ns"})
    }
    assert changed == {"a", "a/b", "a/b/c", "a/b/c/deep.txt", "null", "hello2", "owned"}
    assert (out / "owned").read_bytes() == b"new content\n"
    assert (out / "hello2").read_bytes() == b"changed\n"


SLOW = """
import sys, time
from puzzlefs import extract
from puzzlefs.image import Image
make = extract._Extraction._make
def slowly(*arguments):
    time.sleep(0.01)
    make(*arguments)
extract._Extraction._make = slowly
extract.extract(Image.open(sys.argv[1]), sys.argv[2])
"""


def test_killed_work_leaves_a_plain_partial_directory(tmp_path: Path) -> None:
    names = [(b"%04d" % number, number + 2) for number in range(1000)]
    inodes = [directory(1, *names), *(file_of(ino, b"content") for _, ino in names)]
    crafted = craft(tmp_path / "oci", inodes, [b"content"])
    out = tmp_path / "out"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2] / "python")}
    process = subprocess.Popen([sys.executable, "-c", SLOW, crafted.name, out], env=environment)
    while process.poll() is None and (not out.exists() or len(os.listdir(out)) < 20):
        time.sleep(0.01)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    assert 20 <= len(os.listdir(out)) < 1000
    assert set(os.listdir(tmp_path)) == {"oci", "out"}
    assert {path.stat().st_nlink for path in out.iterdir()} == {1}
