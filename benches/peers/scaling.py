"""What happens as work grows: builds of more bytes and more files, reads of larger files and directories.

Needs disk for twice the largest tree, and time: it runs only when asked for.
"""

from __future__ import annotations

import os
import random
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from benches.peers import trees
from benches.peers.mounts import mounted
from benches.peers.peer import Peer
from benches.peers.process import settle
from benches.peers.rows import GIB, KIB, MIB

Curves = dict[str, dict[str, list[tuple[float, float]]]]
Make = Callable[[Path], None]
# Each for another block or name: the second time the kernel would answer.
REQUESTS = 200
# Small ones are for trying out.
BYTES = {True: [64 * MIB, 256 * MIB], False: [1 * GIB, 2 * GIB, 5 * GIB, 10 * GIB, 20 * GIB]}
FILES = {True: [1000, 4000], False: [10_000, 100_000, 1_000_000]}
SIZES = {True: [16 * MIB, 64 * MIB], False: [16 * MIB, 64 * MIB, 256 * MIB, GIB]}
ENTRIES = {True: [300, 1000], False: [300, 1000, 10_000, 100_000]}


def scaling(work: Path, peers: Sequence[Peer], *, small: bool) -> Curves:
    """Return the curves: title "across: up", peer, points (x, y)."""
    curves: Curves = {}
    for peer in peers:
        for size in BYTES[small]:
            make = partial(trees.noise_files, count=size // (16 * MIB), size=16 * MIB)
            for what, value in builds(work, peer, make):
                add(curves, f"GB in 16 MiB files: build, {what}", peer, size / 1e9, value)
        for count in FILES[small]:
            for what, value in builds(work, peer, partial(trees.noise_files, count=count, size=KIB)):
                add(curves, f"files of 1 KiB: build, {what}", peer, count, value)
        for size in SIZES[small]:
            value = requests(work, peer, partial(trees.one_file, size=size), partial(read_parts, size=size))
            add(curves, "bytes in the file: random 4 KiB read, µs", peer, size, value)
        for count in ENTRIES[small]:
            value = requests(work, peer, partial(trees.one_directory, count=count), partial(stat_some, count=count))
            add(curves, "entries in the directory: stat, µs", peer, count, value)
    return curves


def add(curves: Curves, title: str, peer: Peer, across: float, up: float) -> None:
    """Add a point."""
    print(f"{peer.name}: {title}: {across:g} → {up:.3g}", flush=True)
    curves.setdefault(title, {}).setdefault(peer.title, []).append((across, up))


def builds(work: Path, peer: Peer, make: Make) -> Iterator[tuple[str, float]]:
    """Yield the seconds and the megabytes of memory that a build of a tree takes."""
    with_tree = made_for_now(work, make)
    try:
        settle()
        usage = peer.build(with_tree, place_for(work, peer), raw=True)
        yield "s", usage.seconds
        yield "peak memory, MB", usage.peak / 1e6
    finally:
        clear(work)


def requests(work: Path, peer: Peer, make: Make, ask: Callable[[Path], None]) -> float:
    """Return the microseconds of one request to a fresh mount of a tree."""
    tree = made_for_now(work, make)
    try:
        place = place_for(work, peer)
        peer.build(tree, place, raw=False)
        with mounted(peer, place) as (mountpoint, _):
            start = time.perf_counter()
            ask(mountpoint)
            return (time.perf_counter() - start) / REQUESTS * 1e6
    finally:
        clear(work)


def made_for_now(work: Path, make: Make) -> Path:
    """Make a tree."""
    make(work / "tree")
    return work / "tree"


def place_for(work: Path, peer: Peer) -> Path:
    """Make an empty place for an image."""
    (work / peer.name).mkdir()
    return work / peer.name


def clear(work: Path) -> None:
    """Remove the tree and the image: there is no room for the next beside them."""
    for path in work.iterdir():
        shutil.rmtree(path)


def read_parts(mountpoint: Path, size: int) -> None:
    """Read 4 KiB at REQUESTS places of the only file."""
    chance = random.Random(size)
    descriptor = os.open(mountpoint / "data", os.O_RDONLY)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_RANDOM)
    try:
        for block in chance.sample(range(size // (4 * KIB)), REQUESTS):
            os.pread(descriptor, 4 * KIB, block * 4 * KIB)
    finally:
        os.close(descriptor)


def stat_some(mountpoint: Path, count: int) -> None:
    """Look up REQUESTS names of the directory."""
    chance = random.Random(count)
    for number in chance.sample(range(count), REQUESTS):
        os.stat(mountpoint / f"entries/{number:07}")
