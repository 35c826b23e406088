"""Measure everything and write the report: `python -m benches.run`, or `make bench`.

$PUZZLEFS_BENCH_TREE    the tree for whole commands (default: /usr of the demo's root filesystem)
$PUZZLEFS_BENCH_ROUNDS  rounds for whole commands (default: 5)
$PUZZLEFS_ORIGINAL      the original program, to be measured beside ours
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from benches.report import HotPath, draw, hot_paths, write_markdown
from benches.workloads import measure_all
from tools.demo import DEMO, make_rootfs

BUILD = Path("build/bench")


def measure_hot_paths() -> list[HotPath]:
    """Run the benchmarks of pytest-benchmark."""
    document = BUILD / "hot-paths.json"
    options = ["-q", "--benchmark-disable-gc", "--benchmark-warmup=on", f"--benchmark-json={document}"]
    subprocess.run([sys.executable, "-m", "pytest", "benches", *options], check=True)
    return hot_paths(json.loads(document.read_text()))


def bench_tree() -> Path:
    """Return the tree for whole commands, made where there is none."""
    if chosen := os.environ.get("PUZZLEFS_BENCH_TREE"):
        return Path(chosen)
    if not (DEMO / "rootfs").exists():
        DEMO.mkdir(parents=True)
        make_rootfs(DEMO / "rootfs")
    return DEMO / "rootfs/usr"


def main() -> None:
    """Measure, then write."""
    BUILD.mkdir(parents=True, exist_ok=True)
    paths = measure_hot_paths()
    tree = bench_tree()
    files = [path.lstat().st_size for path in tree.rglob("*") if path.is_file() and not path.is_symlink()]
    results = measure_all(tree, BUILD / "work", int(os.environ.get("PUZZLEFS_BENCH_ROUNDS", "5")))
    about = f"A tree of {len(files):,} files, {sum(files) / 1e6:,.0f} MB"
    write_markdown(Path("docs/benchmarks.md"), paths, results, about)
    draw(Path("docs/benchmarks.svg"), paths, results)


if __name__ == "__main__":
    main()
