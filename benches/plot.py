"""The pictures: how many times better ours is than each peer, than pure Python; and curves as work grows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benches.curves import CURVES, line
from benches.known import PEERS
from benches.report import TITLES
from benches.results import Results, ratio
from benches.rows import ENGINE, ROWS, Row

COLOURS = {
    "ours": "#b5552b",
    "original": "#8a8a8a",
    "squashfuse": "#3b6ea5",
    "squashfs": "#6fa8dc",
    "erofs": "#6a9f58",
    "casync": "#b58900",
    "tar": "#9467bd",
    "plain": "#dddddd",
}
PICTURES = {
    "debian": "Times better than each peer",
    "duplicates": "Times better than each peer",
    "backends": "Times faster than pure Python",
    "scaling": "Curves",
}


def pyplot() -> Any:
    """Return matplotlib's interface."""
    import matplotlib as mpl

    mpl.use("agg")
    mpl.rcParams.update({"font.size": 9, "savefig.dpi": 110})
    import matplotlib.pyplot as plt

    return plt


def draw(docs: Path, found: dict[str, Results], hot_paths: Results) -> set[str]:
    """Draw into a directory what there are figures of; return the names of the pictures."""
    drawn = set()
    for name in ("debian", "duplicates"):
        if found[name].values:
            peers(docs / f"benchmarks-{name}.png", f"Input: {name}", found[name])
            drawn.add(name)
    if hot_paths.values or found["fallback"].values:
        backends(docs / "benchmarks-backends.png", hot_paths, found["fallback"])
        drawn.add("backends")
    if found["scaling"].curves:
        curves(docs / "benchmarks-scaling.png", found["scaling"])
        drawn.add("scaling")
    return drawn


def save(figure: Any, path: Path) -> None:
    """Write a picture: the same file from the same figures."""
    figure.savefig(path, metadata={"Software": None})
    pyplot().close(figure)


def peers(path: Path, title: str, results: Results) -> None:
    """Draw one input: a line for each row, a mark for each peer."""
    rows = [row for row in ROWS.values() if results.median(row.name, "ours") and row not in ENGINE]
    figure, axes = pyplot().subplots(figsize=(9, 0.26 * len(rows) + 1.5), layout="constrained")
    for peer in PEERS[1:]:
        marks = [(times, place) for place, row in enumerate(rows) if (times := ratio(results, row, peer.name))]
        if marks:
            axes.scatter(*zip(*marks, strict=True), color=COLOURS[peer.name], label=peer.title, s=36, zorder=2)
    axes.axvline(1, color=COLOURS["ours"], linewidth=1.2)
    axes.set_yticks(range(len(rows)), [row.title.replace("`", "") for row in rows])
    axes.invert_yaxis()
    axes.set(xscale="log", xlabel="times better than each peer (right of the line: PuzzleFS is better)", title=title)
    plain(axes)
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    save(figure, path)


def plain(axes: Any) -> None:
    """Leave a grid, and lines on two sides."""
    axes.grid(color="#dddddd", linewidth=0.6, zorder=0)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def backends(path: Path, hot_paths: Results, whole: Results) -> None:
    """Draw how many times faster the compiled backend is: functions, and whole commands."""
    functions = {name: pair["python"][0] / pair["rust"][0] for name, pair in hot_paths.values.items()}
    commands = {row.title.replace("`", ""): times for row in timed_rows(whole) if (times := ratio(whole, row, "pure"))}
    drawn = {title: ratios for title, ratios in (("functions", functions), ("whole commands", commands)) if ratios}
    size = (6.5 * len(drawn), 6)
    figure, panels = pyplot().subplots(1, len(drawn), figsize=size, layout="constrained", squeeze=False)
    for axes, (title, ratios) in zip(panels.flat, drawn.items(), strict=True):
        ordered = dict(sorted(ratios.items(), key=lambda item: item[1]))
        bars = axes.barh(list(ordered), list(ordered.values()), color=COLOURS["ours"])
        axes.bar_label(bars, [f"{times:.1f}" for times in ordered.values()], padding=3)
        axes.axvline(1, color="black", linewidth=0.8)
        axes.margins(x=0.15)
        axes.set(xscale="log", title=f"Times faster than pure Python: {title}")
        plain(axes)
    save(figure, path)


def timed_rows(results: Results) -> list[Row]:
    """Return the rows that are measured in seconds."""
    return [row for row in ROWS.values() if row.unit == "s" and row.name in results.values]


def curves(path: Path, results: Results) -> None:
    """Draw a panel for each curve, on logarithmic axes; a dashed line is linear."""
    there = [curve for name, curve in CURVES.items() if results.curves.get(name)]
    across = 2
    down = -(-len(there) // across)
    figure, panels = pyplot().subplots(
        down, across, figsize=(5.5 * across, 3.4 * down), layout="constrained", squeeze=False
    )
    for axes in panels.flat[len(there) :]:
        axes.set_visible(False)
    for axes, curve in zip(panels.flat, there, strict=False):
        for column in (name for name in TITLES if name in results.curves[curve.name]):
            points = line(results, curve.name, column)
            axes.plot(*zip(*points, strict=True), marker="o", label=TITLES[column], color=COLOURS[column])
        if curve.slope < float("inf") and (ours := line(results, curve.name, "ours")):
            (end, top), (start, _) = ours[-1], ours[0]
            axes.plot([start, end], [top * start / end, top], "--", color="#999999", label="linear", zorder=0)
        axes.set(xscale="log", yscale="log", xlabel=curve.across, ylabel=curve.up)
        plain(axes)
        axes.legend()
    save(figure, path)
