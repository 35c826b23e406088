"""A build that is interrupted or overtaken by changes says so and leaves a valid store."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from puzzlefs.store import Store
from tests.support import run_puzzlefs


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tree of 60 MB, incompressible, in files of many sizes."""
    root = tmp_path_factory.mktemp("interrupted") / "tree"
    root.mkdir()
    source = random.Random(1)
    for number in range(300):
        (root / f"{number:03}").write_bytes(source.randbytes(source.randrange(400_000)))
    return root


def started(tree: Path, image: str, backend: str) -> subprocess.Popen[bytes]:
    """Start a build as a process of its own group."""
    return subprocess.Popen(
        # Whoever runs the tests in the background has them ignore it.
        ["env", "--default-signal=INT", sys.executable, "-m", "puzzlefs", "build", tree, image],
        env={**os.environ, "PUZZLEFS_BACKEND": backend},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


def test_interrupted_build_says_so_and_cleans_up(tree: Path, tmp_path: Path, backend_name: str) -> None:
    """SIGINT ends a build within a second or so, with exit code 130, nothing unfinished and no tag."""
    layout = tmp_path / "oci"
    process = started(tree, f"{layout}:t", backend_name)
    blobs = layout / "blobs" / "sha256"
    while process.poll() is None and not (blobs.is_dir() and any(blobs.iterdir())):
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=20)

    assert (process.returncode, said) == (130, b"puzzlefs: interrupted\n")
    assert os.listdir(layout / "blobs") == ["sha256"]
    assert Store.open(layout).tags() == []


def test_file_that_changes_is_named(tmp_path: Path, backend_name: str) -> None:
    """A file that grows all the time fails the build with its name; the rest is not shifted into an image."""
    root = tmp_path / "tree"
    root.mkdir()
    # Read first, it gives the other file the time to change.
    with (root / "a").open("wb") as file:
        file.truncate(1 << 30 if backend_name == "rust" else 1 << 26)
    growing = root / "b-growing"
    growing.write_bytes(b"x")
    stop = threading.Event()

    def grow() -> None:
        with growing.open("ab", buffering=0) as file:
            while not stop.is_set():
                file.write(b"x")

    writer = threading.Thread(target=grow)
    writer.start()
    try:
        finished = run_puzzlefs("build", root, f"{tmp_path}/oci:t", backend=backend_name, check=False)
    finally:
        stop.set()
        writer.join()

    assert finished.returncode == 1
    assert finished.stderr.decode() == "puzzlefs: b-growing: changed while it was read\n"
    assert Store.open(tmp_path / "oci").tags() == []
