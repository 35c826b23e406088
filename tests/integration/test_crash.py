"""Killed at any moment, on a full or a broken disk: the store stays valid, and the next build succeeds."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from puzzlefs.builder import BuildOptions, build
from puzzlefs.constants import KIB
from puzzlefs.errors import StoreError
from puzzlefs.extract import extract
from puzzlefs.image import Image
from puzzlefs.store import Store
from puzzlefs.verify_store import verify_store
from tests.support import run_puzzlefs
from tools.compare_trees import differences

# Of each backend; with both, 200 in all.
KILLS = {"build": 40, "delta": 30, "extract": 30}
BATCH = 10


class Tree:
    """A small tree that is another one after each change."""

    def __init__(self, root: Path, seed: int) -> None:
        self.root = root
        self._source = random.Random(seed)
        root.mkdir()
        (root / "kept").write_bytes(self._source.randbytes(80 * KIB))
        (root / "link").symlink_to("kept")
        self.change()

    def change(self) -> None:
        """Give a quarter of a megabyte of files other contents."""
        for directory in ("a", "b"):
            (self.root / directory).mkdir(exist_ok=True)
            for number in range(10):
                content = self._source.randbytes(self._source.randrange(25 * KIB))
                (self.root / directory / str(number)).write_bytes(content)


def duration(words: Sequence[object], backend: str) -> float:
    start = time.monotonic()
    run_puzzlefs(*words, backend=backend)
    return time.monotonic() - start


def kill(words: Sequence[object], backend: str, after: float) -> None:
    """Start the program and kill it with all its threads after some seconds, if it still runs."""
    process = subprocess.Popen(
        [sys.executable, "-m", "puzzlefs", *map(str, words)],
        env={**os.environ, "PUZZLEFS_BACKEND": backend},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    time.sleep(after)
    process.send_signal(signal.SIGKILL)
    _, said = process.communicate()
    assert (process.returncode, said) in ((-signal.SIGKILL, b""), (0, b""))


def tags_of(layout: Path) -> list[str]:
    return [tag for tag, _ in Store.open(layout).tags()]


def assert_clean(layout: Path) -> None:
    """The store is valid and holds nothing unfinished."""
    report = verify_store(layout)
    assert (report.problems, report.warnings) == ([], [])
    assert os.listdir(layout / "blobs") == ["sha256"]
    assert sorted(os.listdir(layout)) == ["blobs", "index.json", "oci-layout"]


@pytest.mark.parametrize("kind", ["build", "delta"])
def test_kill_while_it_builds(kind: str, tmp_path: Path, backend_name: str) -> None:
    """Each time the store is valid, no tag is lost, and the next build succeeds and cleans up."""
    tree = Tree(tmp_path / "tree", 1)
    options = ["-b", "base"] if kind == "delta" else []
    moments = random.Random(2)
    whole = 0.0
    for number in range(KILLS[kind]):
        layout = tmp_path / f"oci{number // BATCH}"
        if number % BATCH == 0:
            build(tree.root, f"{layout}:base")
            tree.change()
            whole = duration(["build", *options, tree.root, f"{layout}:timed"], backend_name)
        tree.change()
        known = tags_of(layout)
        words = ["build", *options, tree.root, f"{layout}:killed{number}"]
        kill(words, backend_name, moments.uniform(whole / 5, whole * 1.1))

        assert verify_store(layout).problems == []
        assert tags_of(layout) in (known, [*known, f"killed{number}"])
        base = "base" if kind == "delta" else None
        build(tree.root, f"{layout}:next{number}", BuildOptions(base=base))
        assert_clean(layout)
        assert tags_of(layout)[-1] == f"next{number}"


def test_kill_while_a_store_is_made(tmp_path: Path, backend_name: str) -> None:
    """Whatever of a new store was made, the next build makes the rest."""
    tree = Tree(tmp_path / "tree", 3)
    whole = duration(["build", tree.root, f"{tmp_path}/timed:t"], backend_name)
    moments = random.Random(4)
    for number in range(10):
        layout = tmp_path / f"oci{number}"
        kill(["build", tree.root, f"{layout}:t"], backend_name, moments.uniform(whole / 3, whole))
        build(tree.root, f"{layout}:t")
        assert_clean(layout)


def test_kill_while_it_extracts(tmp_path: Path, backend_name: str) -> None:
    """The store is as it was, and the image can be unpacked elsewhere."""
    tree = Tree(tmp_path / "tree", 5)
    name = f"{tmp_path}/oci:t"
    build(tree.root, name)
    whole = duration(["extract", name, tmp_path / "timed"], backend_name)
    moments = random.Random(6)
    for number in range(KILLS["extract"]):
        killed = tmp_path / f"killed{number}"
        kill(["extract", name, killed], backend_name, moments.uniform(whole / 3, whole * 1.1))
        if killed.exists() and os.listdir(killed):
            with pytest.raises(StoreError, match="not empty"):
                extract(Image.open(name), killed)
        assert_clean(tmp_path / "oci")
    extract(Image.open(name), tmp_path / "out")
    assert differences(tree.root, tmp_path / "out") == []
