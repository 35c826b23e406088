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
    """Builds of larger and larger trees, compressed; each tree is there only until it is measured."""

    place: Path
    peers: Sequence[Peer]
    rounds: int
    results: Results

    def measure(self, name: str, trees_of: Sequence[tuple[str, Path]]) -> None:
        """Measure a curve and its memory on trees, each with the place of its point."""
        slow: set[str] = set()
        for across, tree in trees_of:
            trees.warm(tree)
            for number in range(self.rounds):
                for peer in self.peers:
                    if peer.name not in slow:
                        taken = self._build(name, peer, tree, across, number)
                        slow |= {peer.name} if taken > PATIENCE else set()
            shutil.rmtree(tree)

    def _build(self, name: str, peer: Peer, tree: Path, across: str, number: int) -> float:
        store = self.place / "built"
        store.mkdir()
        try:
            settle()
            usage = peer.build(tree, store, raw=False)
        finally:
            shutil.rmtree(store)
        print(f"round {number + 1}: {name}, {across}, {peer.name}: {usage.seconds:.2f} s", flush=True)
        add(self.results, name, peer, across, usage.seconds)
        add(self.results, f"{name}-memory", peer, across, usage.peak / 1e6)
        return usage.seconds


class Requests(NamedTuple):
    """Requests to fresh mounts of larger and larger files or directories: all sizes in turn."""

    place: Path
    peers: Sequence[Peer]
    rounds: int
    results: Results

    def measure(self, name: str, trees_of: Sequence[tuple[str, Path]]) -> None:
        """Measure a curve on trees, each with the place of its point."""
        for across, tree in trees_of:
            for peer in self.peers:
                (self.place / f"{peer.name}-{across}").mkdir()
                peer.build(tree, self.place / f"{peer.name}-{across}", raw=False)
            shutil.rmtree(tree)
        for number in range(self.rounds):
            for across, _ in trees_of:
                for peer in self.peers:
                    with mounted(peer, self.place / f"{peer.name}-{across}") as (mountpoint, _):
                        taken = ASKS[name](mountpoint, random.Random(number)) / REQUESTS * 1e6
                    print(f"round {number + 1}: {name}, {across}, {peer.name}: {taken:.1f} µs", flush=True)
                    add(self.results, name, peer, across, taken)


def add(results: Results, curve: str, peer: Peer, across: str, up: float) -> None:
    """Add a value to a point."""
    results.curves.setdefault(curve, {}).setdefault(peer.name, {}).setdefault(across, []).append(up)


def read_parts(mountpoint: Path, chance: random.Random) -> float:
    """Read 4 KiB at REQUESTS places of the only file; return seconds."""
    descriptor = os.open(mountpoint / "data", os.O_RDONLY)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_RANDOM)
    blocks = chance.sample(range(os.fstat(descriptor).st_size // (4 * KIB)), REQUESTS)
    try:
        start = time.perf_counter()
        for block in blocks:
            os.pread(descriptor, 4 * KIB, block * 4 * KIB)
        return time.perf_counter() - start
    finally:
        os.close(descriptor)


def stat_some(mountpoint: Path, chance: random.Random) -> float:
    """Look up REQUESTS names, spread over the directory; return seconds."""
    # Without a listing, which would bring the attributes along.
    count = int(os.readlink(mountpoint / "count"))
    names = [mountpoint / f"entries/{number:07}" for number in chance.sample(range(count), REQUESTS)]
    start = time.perf_counter()
    for name in names:
        os.stat(name)
    return time.perf_counter() - start


ASKS = {"file": read_parts, "directory": stat_some}


def make(name: str, sizes: Sizes, source: Path, directory: Path) -> list[tuple[str, Path]]:
    """Return the trees of a curve, each with the place of its point; make those that are missing.

    source  a file with content like that of a root filesystem
    """
    makers: dict[str, Callable[[Path, int], None]] = {
        "bytes": lambda path, size: trees.shuffled_files(path, size, source.read_bytes()),
        "files": trees.small_files,
        "file": trees.one_file,
        "directory": trees.one_directory,
    }
    found = []
    for size in getattr(sizes, name):
        tree = trees.made(directory / f"{name}-{size}", lambda path, size=size: makers[name](path, size))  # type: ignore[misc]
        found.append((f"{size / 1e9:.3g}" if name == "bytes" else str(size), tree))
    return found


def measure(
    name: str, trees_of: Sequence[tuple[str, Path]], place: Path, peers: Sequence[Peer], rounds: int, results: Results
) -> None:
    """Measure one of the curves; images and stores go to `place`, which is empty."""
    (Requests if name in ASKS else Builds)(place, peers, rounds, results).measure(name, trees_of)
