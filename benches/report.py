"""The report of a measurement: docs/benchmarks.md and docs/benchmarks.svg."""

from __future__ import annotations

import os
import platform
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from benches.workloads import STEPS

Rounds = dict[tuple[str, bool], list[dict[str, float]]]


class HotPath(NamedTuple):
    """One function on both backends: seconds a call, and what one call goes through."""

    name: str
    rust: float
    python: float
    amount: int
    unit: str

    @property
    def rate(self) -> str:
        """How much the compiled backend goes through in a second."""
        rate = self.amount / self.rust
        return f"{rate / 1e6:,.0f} MB/s" if self.unit == "bytes" else f"{rate / 1e3:,.0f} thousand/s"


def hot_paths(document: dict[str, Any]) -> list[HotPath]:
    """Read what pytest-benchmark wrote."""
    groups: dict[str, dict[str, Any]] = defaultdict(dict)
    for entry in document["benchmarks"]:
        backend = next(name for name in ("rust", "python") if name in entry["param"].split("-"))
        groups[entry["group"]][backend] = entry
    paths = []
    for name, pair in groups.items():
        ((unit, amount),) = pair["rust"]["extra_info"].items()
        rust, python = (pair[backend]["stats"]["median"] for backend in ("rust", "python"))
        paths.append(HotPath(name, rust, python, amount, unit))
    return paths


def machine() -> str:
    """Return what the numbers were measured on."""
    model = next(
        (line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line),
        platform.machine(),
    )
    return f"{os.cpu_count()} x {model}, Linux {platform.release()}, Python {platform.python_version()}"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table, its first column aligned left and the others right."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def cell(values: Sequence[float]) -> str:
    """Return a median with its range."""
    if not values:
        return "fails"
    return f"{median(values):.3g} ({min(values):.3g} to {max(values):.3g})"


def step_values(rounds: Sequence[dict[str, float]], step: str) -> list[float]:
    """Return a step's values of all rounds; empty where the program ever failed at it."""
    values = [times[step] for times in rounds if step in times]
    return values if len(values) == len(rounds) else []


def workload_table(results: Rounds, *, compressed: bool) -> str:
    """Return one table: a row for each step, a column for each program."""
    names = [name for name, packed in results if packed == compressed]
    rows = [[step, *(cell(step_values(results[name, compressed], step)) for name in names)] for step in STEPS]
    sizes = [f"{results[name, compressed][0]['stored bytes'] / 1e6:,.1f} MB" for name in names]
    return table(["seconds", *names], [*rows, ["image size", *sizes]])


def write_markdown(path: Path, paths: Sequence[HotPath], results: Rounds, tree: str) -> None:
    """Write the report."""
    rows = [
        [hot.name, hot.rate, f"{hot.rust * 1e3:,.2f}", f"{hot.python * 1e3:,.2f}", f"{hot.python / hot.rust:,.1f}"]
        for hot in paths
    ]
    rounds = len(next(iter(results.values())))
    path.write_text(
        f"""# Benchmarks

Written by `make bench`; do not edit. Measured on {machine()}.

[performance.md](performance.md) compares with other programs.

![Both backends and whole commands](benchmarks.svg)

## Hot paths

Every function that crosses to a backend, on the same input: the compiled backend's rate, milliseconds a
call on both (medians), and how many times faster the compiled one is.

{table(["", "rust", "rust, ms", "python, ms", "ratio"], rows)}

## Whole commands

{tree}; programs in turn, {rounds} rounds, tree and images in the page cache. Medians with their ranges.
Start-up of the program is part of `build` and `mount`.

### Uncompressed

{workload_table(results, compressed=False)}

### Compressed

{workload_table(results, compressed=True)}
"""
    )


def draw(path: Path, paths: Sequence[HotPath], results: Rounds) -> None:
    """Draw both tables as bars on logarithmic axes."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams.update({"svg.hashsalt": "puzzlefs", "svg.fonttype": "none", "font.size": 9})
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(13, 6), layout="constrained")
    ordered = sorted(paths, key=lambda hot: hot.python / hot.rust)
    ratios = [hot.python / hot.rust for hot in ordered]
    bars = left.barh([hot.name for hot in ordered], ratios, color="#b5552b")
    left.bar_label(bars, [f"{ratio:.1f}" for ratio in ratios], padding=3)
    left.set(xscale="log", title="Compiled backend: times faster than pure Python")
    left.axvline(1, color="black", linewidth=0.8)
    left.margins(x=0.15)

    names = [name for name, compressed in results if not compressed]
    colours = {"rust": "#b5552b", "python": "#3b6ea5", "original": "#8a8a8a"}
    height = 0.8 / len(names)
    for row, name in enumerate(names):
        values = [step_values(results[name, False], step) for step in STEPS]
        positions = [place + row * height for place in range(len(STEPS))]
        middles = [median(times) if times else 0.0 for times in values]
        right.barh(positions, middles, height, label=name, color=colours[name])
    right.set_yticks([place + height * (len(names) - 1) / 2 for place in range(len(STEPS))], STEPS)
    right.invert_yaxis()
    right.set(xscale="log", xlabel="seconds", title="Whole commands, uncompressed (less is better)")
    right.legend()
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, metadata={"Date": None})
