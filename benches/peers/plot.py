"""docs/performance-*.svg: how many times better ours is than each peer; and curves as work grows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benches.peers.known import PEERS
from benches.peers.results import Results, ratio
from benches.peers.rows import SECTIONS, Row

COLOURS = ("#8a8a8a", "#3b6ea5", "#6fa8dc", "#6a9f58", "#b58900", "#9467bd")


def pyplot() -> Any:
    """Return matplotlib's interface, set to write the same file from the same figures."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams.update({"svg.hashsalt": "puzzlefs", "svg.fonttype": "none", "font.size": 9})
    import matplotlib.pyplot as plt

    return plt


def draw(path: Path, name: str, results: Results) -> None:
    """Draw one input: a line for each row, a mark for each peer."""
    plt = pyplot()
    rows = measured_rows(results)
    figure, axes = plt.subplots(figsize=(9, 0.3 * len(rows) + 1.5), layout="constrained")
    panel(axes, name, results, rows)
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


def measured_rows(results: Results) -> list[tuple[str, Row]]:
    """Return the rows with a figure of ours, each with its label."""
    found = []
    for title, rows in SECTIONS.items():
        suffix = ", raw" if title.startswith("Images without") else ""
        found += [(row.title + suffix, row) for row in rows if results.median(row.name, "ours") and title != "Engine"]
    return found


def panel(axes: Any, name: str, results: Results, rows: list[tuple[str, Row]]) -> None:
    """Draw one input's ratios."""
    others = [peer for peer in PEERS if peer.name != "ours"]
    for peer, colour in zip(others, COLOURS, strict=True):
        marks = [(times, place) for place, (_, row) in enumerate(rows) if (times := ratio(results, row, peer.name))]
        if marks:
            axes.scatter(*zip(*marks, strict=True), color=colour, label=peer.title, s=36, zorder=2)
    axes.axvline(1, color="#b5552b", linewidth=1.2)
    axes.set_yticks(range(len(rows)), [label for label, _ in rows])
    axes.invert_yaxis()
    axes.set(xscale="log", xlabel="times better than each peer (right of the line: PuzzleFS is better)", title=name)
    axes.grid(axis="both", color="#dddddd", linewidth=0.6, zorder=0)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend()


def draw_curves(path: Path, curves: dict[str, dict[str, list[tuple[float, float]]]]) -> None:
    """Draw one panel for each curve: what it is, then peer → points."""
    plt = pyplot()
    across = min(3, len(curves))
    down = -(-len(curves) // across)
    figure, panels = plt.subplots(down, across, figsize=(5 * across, 3.6 * down), layout="constrained", squeeze=False)
    for axes in panels.flat[len(curves) :]:
        axes.set_visible(False)
    for axes, (title, lines) in zip(panels.flat, curves.items(), strict=False):
        across_title, _, up_title = title.partition(": ")
        for name, points in lines.items():
            axes.plot(*zip(*points, strict=True), marker="o", label=name)
        axes.set(xscale="log", yscale="log", xlabel=across_title, ylabel=up_title)
        axes.grid(color="#dddddd", linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend()
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
