"""What each way to check an image costs: `python -m benches.integrity TREE`; prints the table of docs/integrity.md.

A mount is read whole by several readers at once, for every mode in turn, several rounds, tree and image
in the page cache or below $PUZZLEFS_BENCH_PLACE: what differs is the checking. Processor time is that of the process that serves.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import NamedTuple

from benches.facts import machine
from benches.report import table
from puzzlefs import mountinfo
from puzzlefs.builder import BuildOptions, build
from puzzlefs.kernel_mount import process_name

PLACE = Path(os.environ.get("PUZZLEFS_BENCH_PLACE", "build/bench/integrity"))
MODES = ["mount --verify never", "mount --verify once", "mount --verify always", "mount -d DIGEST"]
COMMANDS = ["verify", "extract", "extract -d DIGEST"]


class Cost(NamedTuple):
    """Seconds that passed, and seconds on processors."""

    wall: float
    processor: float


def puzzlefs(*words: str | Path) -> None:
    subprocess.run([sys.executable, "-P", "-m", "puzzlefs", *words], check=True, stdout=subprocess.DEVNULL)


def served(mountpoint: Path) -> float:
    """Return the processor seconds of the process that serves a mount."""
    mount = mountinfo.topmost(mountpoint)
    if mount is None:
        raise RuntimeError(f"{mountpoint}: not mounted")
    named = [
        path.parent for path in Path("/proc").glob("[0-9]*/comm") if path.read_text() == f"{process_name(mount)}\n"
    ]
    # One that is still ending may have had a mount of the same number before.
    newest = max(named, key=lambda process: process.stat().st_ctime)
    return sum(int(thread.read_text().split()[0]) for thread in newest.glob("task/*/schedstat")) / 1e9


def read_mount(words: list[str], image: str) -> Cost:
    """Mount an image and read every file of it."""
    mountpoint = PLACE / "mnt"
    mountpoint.mkdir(exist_ok=True)
    puzzlefs(*words, image, mountpoint)
    try:
        start = time.perf_counter()
        find = f"find {mountpoint} -type f -print0 | xargs -0 -n 200 -P 2 cat > /dev/null"
        subprocess.run(["sh", "-c", find], check=True)
        return Cost(time.perf_counter() - start, served(mountpoint))
    finally:
        puzzlefs("umount", mountpoint)


def run_command(words: list[str], image: str) -> Cost:
    """Run a command upon an image; what it unpacks is deleted."""
    target = [PLACE / "out"] if words[0] == "extract" else []
    before, start = os.times(), time.perf_counter()
    puzzlefs(*words, image, *target)
    wall, after = time.perf_counter() - start, os.times()
    shutil.rmtree(PLACE / "out", ignore_errors=True)
    processor = after.children_user + after.children_system - before.children_user - before.children_system
    return Cost(wall, processor)


def measurements(image: str, digest: str) -> Iterator[tuple[str, Callable[[], Cost]]]:
    """Yield each way to check, and what measures it once."""
    for mode in [*MODES, *COMMANDS]:
        words = [digest if word == "DIGEST" else word for word in mode.split()]
        measure = read_mount if mode in MODES else run_command
        yield mode, lambda words=words, measure=measure: measure(words, image)  # type: ignore[misc]


def row(mode: str, costs: list[Cost], size: int, base: float) -> list[str]:
    """Return a line of the table: megabytes a processor second, and the time beside the cheapest mount's."""
    rates = sorted(size / 1e6 / cost.processor for cost in costs)
    walls = sorted(cost.wall for cost in costs)
    spread = f"{median(walls):.2f} ({walls[0]:.2f} to {walls[-1]:.2f})"
    relative = f"{median(walls) / base:.2f}" if mode in MODES else ""
    return [f"`{mode}`", f"{median(rates):,.0f} ({rates[0]:,.0f} to {rates[-1]:,.0f})", spread, relative]


def main() -> None:
    """Measure a tree's images, stored as they are and compressed, and print a table of each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tree", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    shutil.rmtree(PLACE, ignore_errors=True)
    PLACE.mkdir(parents=True)
    print(f"{machine()}; {options.rounds} rounds, medians with their ranges.")
    for tag, compressed in (("raw", False), ("compressed", True)):
        built = build(options.tree, f"{PLACE}/oci:{tag}", BuildOptions(compression=compressed))
        costs: dict[str, list[Cost]] = defaultdict(list)
        for _ in range(options.rounds):
            for mode, measure in measurements(f"{PLACE}/oci:{tag}", built.digest):
                costs[mode].append(measure())
        base = median(cost.wall for cost in costs[MODES[0]])
        rows = [row(mode, found, built.bytes, base) for mode, found in costs.items()]
        head = [re.sub("^raw$", "uncompressed", tag), "MB a processor second", "seconds", "beside `never`"]
        print(f"\n{table(head, rows)}")
    shutil.rmtree(PLACE)


if __name__ == "__main__":
    main()
