"""What several test modules share: running the program, golden trees, reading layouts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from puzzlefs._native import Backend, StreamWriter

VECTORS = Path(__file__).parent / "vectors"


def run_puzzlefs(
    *words: object, backend: str = "", check: bool = True, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[bytes]:
    """Run `python -m puzzlefs` with `words`; `backend` is "rust", "python" or "" for the default."""
    extra = {"PUZZLEFS_BACKEND": backend} if backend else {}
    finished = subprocess.run(
        [sys.executable, "-m", "puzzlefs", *map(str, words)],
        capture_output=True,
        check=False,
        env={**os.environ, **extra, **(environment or {})},
    )
    if check and finished.returncode != 0:
        raise AssertionError(f"puzzlefs {words} exited with {finished.returncode}: {finished.stderr.decode()}")
    return finished


def puzzlefs(*words: object, backend: str = "") -> str:
    """Run `python -m puzzlefs`, which must succeed; return its standard output."""
    return run_puzzlefs(*words, backend=backend).stdout.decode()


def run_program(*words: object) -> str:
    """Run another program, which must succeed; return its standard output."""
    finished = subprocess.run([*map(str, words)], capture_output=True, check=False)
    assert finished.returncode == 0, finished.stderr.decode()
    return finished.stdout.decode()


# A process that was forked counts its parent's memory as its own, so a small one stands between.
_MEASURE = """
import os, resource, subprocess, sys
code = subprocess.run(sys.argv[2:]).returncode
memory = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
os.write(int(sys.argv[1]), b"%d %d" % (code, memory))
"""


def measured(command: Sequence[object], environment: Mapping[str, str], stdout: int) -> tuple[int, str, int]:
    """Run a command; return its exit code, its standard error, and the most memory that it had, in bytes."""
    reading, writing = os.pipe()
    with open(reading, "rb") as answer:
        finished = subprocess.run(
            [sys.executable, "-c", _MEASURE, str(writing), *map(str, command)],
            env={**os.environ, **environment},
            stdout=stdout,
            stderr=subprocess.PIPE,
            pass_fds=(writing,),
            check=True,
        )
        os.close(writing)
        code, memory = map(int, answer.read().split())
    return code, finished.stderr.decode(), memory


def requires_root() -> None:
    """Skip the test where it lacks the rights to make devices and set owners."""
    if os.geteuid() != 0:
        pytest.skip("needs root: makes devices and sets owners")


def vector_trees(destination: Path) -> Path:
    """Make the golden trees in `destination` and return it."""
    subprocess.run([sys.executable, VECTORS / "make_trees.py", destination], check=True)
    return destination


def read_manifest(layout: Path, tag: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return (index entry, manifest) of a tag."""
    for entry in json.loads((layout / "index.json").read_bytes())["manifests"]:
        if entry["annotations"]["org.opencontainers.image.ref.name"] == tag:
            content = (layout / "blobs" / "sha256" / entry["digest"].removeprefix("sha256:")).read_bytes()
            return entry, json.loads(content)
    raise AssertionError(f"no tag {tag} in {layout}")


def make_writer(
    backend: Backend,
    tree: Path,
    home: Path,
    compression: int = 0,
    pack_size: int = 0,
    frame_size: int | None = None,
    jobs: int = 2,
) -> StreamWriter:
    """Return a writer of `tree` into `home`/blobs; the directories are made."""
    for name in ("blobs", "temporary"):
        (home / name).mkdir(exist_ok=True)
    places = (os.fsencode(path) for path in (tree, home / "blobs", home / "temporary"))
    frame_size = 65536 if frame_size is None else frame_size
    return backend.StreamWriter(*places, compression, frame_size, jobs, False, pack_size=pack_size)
