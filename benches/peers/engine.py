"""The engine's own rows: cutting and hashing, each beside what it is compared with.

What Python calls is measured in a process of its own that may use one processor, or two. The crate
fastcdc is measured by the core's example `speed`.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys

from benches.peers.known import PYTHON
from benches.peers.process import settle
from benches.peers.rows import MIB

Rates = dict[str, dict[str, float]]
BYTES = 256 * MIB
ROOT = PYTHON.parent


def engine(_round: int) -> Rates:
    """Return bytes a second for each row and each column."""
    settle()
    one, two = (calls(processors) for processors in processor_sets())
    speeds = example()
    return {
        "chunk": {"ours": speeds["chunk"], "crate": speeds["chunk, the crate fastcdc"]},
        "chunk-2": {"ours": two["cut"], "one core": one["cut"]},
        "hash": {"ours": one["both"], "two passes": one["passes"]},
    }


def processor_sets() -> tuple[list[int], list[int]]:
    """Return one of the processors that may be used, and two of them."""
    allowed = sorted(os.sched_getaffinity(0))
    return allowed[:1], allowed[:2]


def example() -> dict[str, float]:
    """Return bytes a second by what the core's example measured."""
    command = ["cargo", "run", "--quiet", "--release", "--package", "puzzlefs-core", "--example", "speed"]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    return {name: float(rate) * 1e9 for name, rate in re.findall(r"^(.+): ([0-9.]+) GB/s$", done.stdout, re.MULTILINE)}


def calls(processors: list[int]) -> dict[str, float]:
    """Return bytes a second of the functions that Python calls, on these processors."""
    command = [sys.executable, "-m", "benches.peers.engine", *map(str, processors)]
    environment = {**os.environ, "PYTHONPATH": str(PYTHON), "PUZZLEFS_BACKEND": "rust"}
    done = subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True, text=True)
    return {name: float(rate) for name, rate in json.loads(done.stdout).items()}


def measure() -> dict[str, float]:
    """Return bytes a second of cutting, of hash_file, and of SHA-256 twice."""
    import hashlib
    import random

    from benches.workloads import seconds
    from puzzlefs._native import native

    chance = random.Random(1)
    data = b"".join(chance.randbytes(MIB) for _ in range(BYTES // MIB))
    file = os.memfd_create("blob")
    os.write(file, data[: BYTES // 4])
    part = memoryview(data)[: BYTES // 4]

    def passes() -> None:
        # The digest, then the leaves: as many bytes again.
        hashlib.sha256(part)
        hashlib.sha256(part)

    work = {"cut": (lambda: native.cut_lengths(data), BYTES), "both": (lambda: native.hash_file(file), len(part))}
    work["passes"] = (passes, len(part))  # type: ignore[assignment]
    return {name: size / min(seconds(call) for _ in range(5)) for name, (call, size) in work.items()}


if __name__ == "__main__":
    os.sched_setaffinity(0, [int(word) for word in sys.argv[1:]])
    print(json.dumps(measure()))
