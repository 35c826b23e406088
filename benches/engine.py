"""The engine's own rows, cutting and hashing, each beside what it is compared with; and what crosses to backends."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from benches.process import ROOT, settle
from benches.results import Results

# What the example calls them: row and column.
FIGURES = {
    "cut": ("chunk", "ours"),
    "cut by the crate": ("chunk", "crate"),
    "cut on one core": ("chunk-2", "one core"),
    "cut on two cores": ("chunk-2", "ours"),
    "hash in one pass": ("hash", "ours"),
    "hash in two passes": ("hash", "two passes"),
}


def compile_example() -> None:
    """Compile the engine's example `speed`."""
    words = ["cargo", "build", "--quiet", "--release", "--package", "puzzlefs-engine", "--example", "speed"]
    subprocess.run(words, cwd=ROOT, check=True)


def engine(content: Path, rounds: int, results: Results) -> None:
    """Measure bytes a second on a file's content, by the engine's example `speed`, which takes turns itself."""
    settle()
    command = [str(ROOT / "target/release/examples/speed"), str(content), str(rounds)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    for line in done.stdout.splitlines():
        name, _, rate = line.rpartition(": ")
        row, column = FIGURES[name]
        results.add(row, column, float(rate))


def backends(path: Path) -> None:
    """Let pytest-benchmark measure every function that crosses to a backend; it writes its figures to `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    options = ["-q", "--benchmark-disable-gc", "--benchmark-warmup=on", f"--benchmark-json={path}"]
    subprocess.run([sys.executable, "-m", "pytest", "benches", *options], cwd=ROOT, check=True)


def hot_paths(path: Path) -> Results:
    """Read what pytest-benchmark wrote: a row for each function, seconds a call by backend, amounts in the notes."""
    results = Results()
    if not path.exists():
        return results
    document = json.loads(path.read_text())
    when = document["datetime"].replace("T", " ")[:16]
    results.facts = {"revision": document["commit_info"]["id"][:7], "when": when, "others": ""}
    for entry in document["benchmarks"]:
        backend = next(name for name in ("rust", "python") if name in entry["param"].split("-"))
        ((unit, amount),) = entry["extra_info"].items()
        results.add(entry["group"], backend, entry["stats"]["median"])
        results.notes[entry["group"]] = f"{amount} {unit}"
    return results


def rate(results: Results, row: str) -> str:
    """Return how much of its input the compiled backend goes through in a second."""
    amount, unit = results.notes[row].split()
    per_second = int(amount) / results.values[row]["rust"][0]
    return f"{per_second / 1e6:,.0f} MB/s" if unit == "bytes" else f"{per_second / 1e3:,.0f} thousand/s"
