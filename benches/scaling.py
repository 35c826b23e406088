"""What happens as work grows: builds of more bytes and more files, requests to larger files and directories."""

from __future__ import annotations

import os
import random
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from benches import trees
from benches.mounts import mounted
from benches.peer import Peer
from benches.process import settle
from benches.results import Results
from benches.rows import GIB, KIB, MIB

# Each for another block or name: the second time the kernel would answer.
REQUESTS = 200
# A peer whose build has taken as many seconds builds no larger tree.
PATIENCE = 40.0


class Sizes(NamedTuple):
    """How far each curve goes."""

    bytes: tuple[int, ...]
    files: tuple[int, ...]
    file: tuple[int, ...]
    directory: tuple[int, ...]


SIZES = {
    "small": Sizes((16 * MIB, 64 * MIB), (300, 1000), (64 * MIB, 128 * MIB), (300, 1000)),
    "default": Sizes(
        (GIB // 4, GIB // 2, GIB, 2 * GIB, 4 * GIB),
        (1000, 10_000, 100_000),
        (64 * MIB, 128 * MIB, 256 * MIB, GIB),
        (300, 1000, 10_000, 100_000),
    ),
    "full": Sizes(
        (GIB // 4, GIB, 4 * GIB, 20 * GIB),
        (1000, 10_000, 100_000, 1_000_000),
        (64 * MIB, 128 * MIB, 256 * MIB, GIB),
        (300, 1000, 10_000, 100_000),
    ),
}


class Builds(NamedTuple):
    """Builds of larger and larger trees, compressed; each tree is there only while it is measured."""

    work: Path
    peers: Sequence[Peer]
    rounds: int
    results: Results

    def measure(self, curve: str, sizes: Sequence[int], make: Callable[[Path, int], None], unit: float) -> None:
        """Measure a curve and its memory; a point's place is its size by `unit`."""
        slow: set[str] = set()
        for size in sizes:
            make(self.work / "tree", size)
            trees.warm(self.work / "tree")
            try:
                for number in range(self.rounds):
                    for peer in self.peers:
                        if peer.name not in slow:
                            taken = self._build(curve, peer, f"{size / unit:g}", number)
                            slow |= {peer.name} if taken > PATIENCE else set()
            finally:
                shutil.rmtree(self.work / "tree")

    def _build(self, curve: str, peer: Peer, across: str, number: int) -> float:
        place = self.work / "built"
        place.mkdir()
        try:
            settle()
            usage = peer.build(self.work / "tree", place, raw=False)
        finally:
            shutil.rmtree(place)
        print(f"round {number + 1}: {curve}, {across}, {peer.name}: {usage.seconds:.2f} s", flush=True)
        add(self.results, curve, peer, across, usage.seconds)
        add(self.results, f"{curve}-memory", peer, across, usage.peak / 1e6)
        return usage.seconds


class Requests(NamedTuple):
    """Requests to fresh mounts of larger and larger files or directories: all sizes in turn."""

    work: Path
    peers: Sequence[Peer]
    rounds: int
    results: Results

    def measure(
        self,
        curve: str,
        sizes: Sequence[int],
        make: Callable[[Path, int], None],
        ask: Callable[[Path, int, random.Random], None],
    ) -> None:
        """Measure a curve."""
        for size in sizes:
            make(self.work / "tree", size)
            for peer in self.peers:
                (self.work / f"{peer.name}-{size}").mkdir()
                peer.build(self.work / "tree", self.work / f"{peer.name}-{size}", raw=False)
            shutil.rmtree(self.work / "tree")
        for number in range(self.rounds):
            for size in sizes:
                for peer in self.peers:
                    with mounted(peer, self.work / f"{peer.name}-{size}") as (mountpoint, _):
                        start = time.perf_counter()
                        ask(mountpoint, size, random.Random(number))
                        taken = (time.perf_counter() - start) / REQUESTS * 1e6
                    print(f"round {number + 1}: {curve}, {size}, {peer.name}: {taken:.1f} µs", flush=True)
                    add(self.results, curve, peer, str(size), taken)
        for path in self.work.iterdir():
            shutil.rmtree(path)


def add(results: Results, curve: str, peer: Peer, across: str, up: float) -> None:
    """Add a value to a point."""
    results.curves.setdefault(curve, {}).setdefault(peer.name, {}).setdefault(across, []).append(up)


def read_parts(mountpoint: Path, size: int, chance: random.Random) -> None:
    """Read 4 KiB at REQUESTS places of the only file."""
    descriptor = os.open(mountpoint / "data", os.O_RDONLY)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_RANDOM)
    try:
        for block in chance.sample(range(size // (4 * KIB)), REQUESTS):
            os.pread(descriptor, 4 * KIB, block * 4 * KIB)
    finally:
        os.close(descriptor)


def stat_some(mountpoint: Path, count: int, chance: random.Random) -> None:
    """Look up REQUESTS names of the directory."""
    for number in chance.sample(range(count), REQUESTS):
        os.stat(mountpoint / f"entries/{number:07}")


def measure(
    name: str, sizes: Sizes, source: Path, work: Path, peers: Sequence[Peer], rounds: int, results: Results
) -> None:
    """Measure one of the curves; `source` is a file with content like that of a root filesystem."""
    if name == "bytes":
        content = source.read_bytes()
        make = lambda path, size: trees.shuffled_files(path, size, content)  # noqa: E731
        Builds(work, peers, rounds, results).measure(name, sizes.bytes, make, 1e9)
    elif name == "files":
        Builds(work, peers, rounds, results).measure(name, sizes.files, trees.small_files, 1)
    elif name == "file":
        Requests(work, peers, rounds, results).measure(name, sizes.file, trees.one_file, read_parts)
    elif name == "directory":
        Requests(work, peers, rounds, results).measure(name, sizes.directory, trees.one_directory, stat_some)
