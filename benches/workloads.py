"""Whole commands on a real tree: build, mount, walk, read; every program in turn, several rounds.

Programs alternate within a round, so that whatever else the machine does meets all of them alike. The
tree and the images stay in the page cache: what is measured is the programs, not the disk.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from benches.peers import process
from tools.compare_trees import FIELDS, differences

TIMEOUT = process.TIMEOUT
RANDOM_READS = 500
STEPS = ("build", "build again", "mount", "find, stat all", "read all", "read again", "random 4 KiB")


@dataclass(frozen=True)
class Program:
    """A program that builds and mounts images. `signals`: it serves in the foreground and tells a FIFO."""

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    signals: bool = False

    def run(self, *words: str | Path) -> None:
        command = [*self.command, *map(str, words)]
        done = subprocess.run(
            command, env={**os.environ, **self.environment}, capture_output=True, timeout=TIMEOUT, check=False
        )
        if done.returncode:
            raise RuntimeError(f"{self.name}: {' '.join(command)}: {done.stderr.decode(errors='replace')[-500:]}")

    @contextlib.contextmanager
    def mounted(self, image: str, mountpoint: Path) -> Iterator[float]:
        """Mount an image; yield the seconds until the mount answered."""
        mountpoint.mkdir(parents=True)
        start = time.perf_counter()
        server = self._serve(image, mountpoint) if self.signals else None
        if server is None:
            self.run("mount", image, mountpoint)
        os.stat(mountpoint)
        try:
            yield time.perf_counter() - start
        finally:
            subprocess.run(["umount", mountpoint], check=False, capture_output=True)
            if server is not None:
                server.wait(TIMEOUT)
            mountpoint.rmdir()

    def _serve(self, image: str, mountpoint: Path) -> subprocess.Popen[bytes]:
        fifo = mountpoint.with_suffix(".fifo")
        fifo.unlink(missing_ok=True)
        os.mkfifo(fifo)
        words = [*self.command, "mount", "-f", "-i", str(fifo), image, str(mountpoint)]
        server = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        if fifo.read_bytes() != b"s":
            raise RuntimeError(f"{self.name}: cannot mount {image}")
        return server


def programs() -> list[Program]:
    """Both backends, and the original where $PUZZLEFS_ORIGINAL names it."""
    ours = (sys.executable, "-m", "puzzlefs")
    found = [Program(name, ours, {"PUZZLEFS_BACKEND": name}) for name in ("rust", "python")]
    if original := os.environ.get("PUZZLEFS_ORIGINAL"):
        found.append(Program("original", (original,), signals=True))
    return found


def seconds(call: Callable[[], object]) -> float:
    """Return how long `call` takes."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def measure(program: Program, tree: Path, place: Path, *, compressed: bool) -> dict[str, float]:
    """Take one image through all steps in the empty directory `place`; return seconds by step, and bytes stored.

    A step that the program fails at is missing.
    """
    image, options = f"{place}/oci:bench", ["-c"] if compressed else []
    times = {step: seconds(lambda: program.run("build", *options, tree, image)) for step in STEPS[:2]}
    times["stored bytes"] = sum(path.stat().st_size for path in (place / "oci/blobs/sha256").iterdir())
    with program.mounted(image, place / "mnt") as times["mount"]:
        times["find, stat all"] = seconds(lambda: walk(place / "mnt"))
        for step in ("read all", "read again"):
            with contextlib.suppress(process.CommandError):
                times[step] = seconds(lambda: read_all(place / "mnt"))
        if found := differences(tree, place / "mnt", ignore=FIELDS - {"content"}):
            raise RuntimeError(f"{program.name}: times of wrong bytes are worth nothing: {found[0]}")
    names = sorted(path for path in tree.rglob("*") if path.is_file() and not path.is_symlink())
    chosen = [path.relative_to(tree) for path in random.Random(5).sample(names, min(RANDOM_READS, len(names)))]
    with program.mounted(image, place / "mnt"), contextlib.suppress(OSError):
        times["random 4 KiB"] = seconds(lambda: read_parts(place / "mnt", chosen))
    return times


def walk(directory: Path) -> None:
    """Stat everything below a directory."""
    process.run(["find", str(directory), "-printf", "%s %m\n"])


def read_all(directory: Path) -> None:
    """Read every file below a directory."""
    process.run(["find", str(directory), "-type", "f", "-exec", "cat", "{}", "+"])


def read_parts(directory: Path, names: list[Path]) -> None:
    """Read 4 KiB from the middle of each file."""
    for name in names:
        descriptor = os.open(directory / name, os.O_RDONLY)
        try:
            os.pread(descriptor, 4096, os.fstat(descriptor).st_size // 2)
        finally:
            os.close(descriptor)


def measure_all(tree: Path, place: Path, rounds: int) -> dict[tuple[str, bool], list[dict[str, float]]]:
    """Return the times of every round for each (program, compressed)."""
    results: dict[tuple[str, bool], list[dict[str, float]]] = {}
    for number in range(rounds):
        for compressed in (False, True):
            for program in programs():
                print(f"round {number + 1} of {rounds}: {program.name}{', compressed' * compressed}", flush=True)
                shutil.rmtree(place, ignore_errors=True)
                place.mkdir(parents=True)
                times = measure(program, tree, place, compressed=compressed)
                results.setdefault((program.name, compressed), []).append(times)
    shutil.rmtree(place, ignore_errors=True)
    return results
