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

from puzzlefs._native import Backend
from puzzlefs.extract import extract
from tests.conftest import GoldenImage
from tests.images import craft, directory, file_of
from tools.compare_trees import differences

FILES = 30_000
PACKAGE = Path(__file__).parents[2] / "python"


def image_of(image: GoldenImage, backend: Backend) -> Any:
    """Return what `extract` needs of a golden image."""
    index = backend.Index(image.rootfs)
    return SimpleNamespace(reader=lambda cache_size: backend.Reader(index, bytes(image.blobs), 2, cache_size))


@pytest.mark.parametrize("name", ["vi-empty", "vi-kinds", "vi-wide", "vic-kinds", "vic-text"])
def test_golden_image_is_its_tree(
    name: str, golden: dict[str, GoldenImage], golden_trees: Path, tmp_path: Path, backend: Backend
) -> None:
    """Every inode and every byte; times are those that the original keeps: none."""
    result = extract(image_of(golden[f"{name}:v"], backend), tmp_path / "out")
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
    extract(image_of(golden["vi-delta:delta"], backend), out)
    changed = {
        str(difference.path, "utf-8", "replace")
        for difference in differences(golden_trees / "kinds", out, {"mtime_ns"})
    }
    assert changed == {"a", "a/b", "a/b/c", "a/b/c/deep.txt", "null", "hello2", "owned"}
    assert (out / "owned").read_bytes() == b"new content\n"
    assert (out / "hello2").read_bytes() == b"changed\n"


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The name of an image of so many files that unpacking it can be disturbed."""
    names = [(b"%06d" % number, number + 2) for number in range(FILES)]
    inodes = [directory(1, *names), *(file_of(ino, b"content") for _, ino in names)]
    return craft(tmp_path_factory.mktemp("large") / "oci", inodes, [b"content"]).name


def disturbed(image: str, out: Path, backend_name: str, number: signal.Signals) -> int:
    """Unpack an image in a process that gets a signal once it has made some files; return its exit code."""
    environment = {**os.environ, "PYTHONPATH": str(PACKAGE), "PUZZLEFS_BACKEND": backend_name}
    command = ["env", "--default-signal=INT", sys.executable, "-P", "-m", "puzzlefs", "extract", image, out]
    process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
    while process.poll() is None and (not out.exists() or len(os.listdir(out)) < 20):
        time.sleep(0.002)
    process.send_signal(number)
    return process.wait()


def test_killed_work_leaves_a_plain_partial_directory(large: str, tmp_path: Path, backend_name: str) -> None:
    out = tmp_path / "out"
    code = disturbed(large, out, backend_name, signal.SIGKILL)
    assert code == -signal.SIGKILL
    assert 20 <= len(os.listdir(out)) < FILES
    assert os.listdir(tmp_path) == ["out"]
    assert {path.stat().st_nlink for path in out.iterdir()} == {1}


def test_interrupted_work_ends_soon(large: str, tmp_path: Path, backend_name: str) -> None:
    out = tmp_path / "out"
    code = disturbed(large, out, backend_name, signal.SIGINT)
    assert code == 130
    assert 20 <= len(os.listdir(out)) < FILES
