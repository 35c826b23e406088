"""The pictures of docs/packs.md."""

from __future__ import annotations

from itertools import accumulate
from pathlib import Path
from statistics import median
from typing import Any

from benches.packs import states
from benches.packs.candidates import AVERAGES, CANDIDATES, CHUNKS, FRAMES, Images, policy, short
from benches.packs.kept import Kept, Topic
from benches.packs.report import SHOWN
from benches.plot import pyplot
from benches.rows import KIB, MIB

COLOURS = ("#8a8a8a", "#b5552b", "#d99a6c", "#9467bd", "#6fa8dc", "#6a9f58", "#444444", "#b58900")


def draw(docs: Path, kept: Kept) -> None:
    """Draw what there are figures of into a directory."""
    plt = pyplot()
    if kept.topics["series"]:
        figure, axes = plt.subplots(figsize=(9, 4.5), layout="constrained")
        growth(axes, kept.topics["series"])
        save(plt, figure, docs / "packs-series.png")
        figure, panels = plt.subplots(1, 3, figsize=(13, 4), layout="constrained")
        averages(panels, kept.topics["series"])
        save(plt, figure, docs / "packs-averages.png")
    if kept.topics["reads"]:
        figure, panels = plt.subplots(1, 3, figsize=(13, 4), layout="constrained")
        reads(panels, kept.topics["reads"])
        save(plt, figure, docs / "packs-reads.png")


def save(plt: Any, figure: Any, path: Path) -> None:
    """Write a picture."""
    figure.savefig(path, metadata={"Software": None})
    plt.close(figure)


def growth(axes: Any, series: Topic) -> None:
    """Draw what the store holds after each state."""
    for name, colour in zip(SHOWN, COLOURS, strict=True):
        if name in series:
            held = [value / 1e6 for value in accumulate(series[name]["bytes"])]
            axes.plot(range(len(held)), held, marker="o", color=colour, label=CANDIDATES[name].title)
    names = [state.name for state in states.SERIES]
    axes.set_xticks(range(len(names)), names, rotation=30, ha="right")
    axes.set(ylabel="MB stored", title="A Debian system in ten states, all kept", yscale="log")
    finish(axes)


def averages(panels: Any, series: Topic) -> None:
    """Draw sizes and blobs by the average of packs, a line for each frame policy."""
    titles = ("first image, MB", "all updates, MB", "blobs of the first image")
    for number, (axes, title) in enumerate(zip(panels, titles, strict=True)):
        for frames, order in [*((size, None) for size in FRAMES), (512 * KIB, "path")]:
            names = [Images(average, frames, order).name for average in AVERAGES]
            points = [
                (average / MIB, measure(series[name])[number])
                for average, name in zip(AVERAGES, names, strict=True)
                if name in series
            ]
            label = policy(frames) + (f", by {order}" if order else "")
            plot_line(axes, points, label, dashed=order is not None)
        if CHUNKS.name in series:
            axes.axhline(measure(series[CHUNKS.name])[number], color="black", linewidth=1, label="one blob a chunk")
        across_averages(axes, title)
        finish(axes)
    panels[2].set_yscale("log")


def measure(values: dict[str, list[float]]) -> tuple[float, float, float]:
    """Return megabytes of the first image and of all updates, and blobs of the first image."""
    return values["bytes"][0] / 1e6, sum(values["bytes"][1:]) / 1e6, values["blobs"][0]


def reads(panels: Any, found: Topic) -> None:
    """Draw seconds by the average of packs, a line for each frame policy."""
    for axes, what in zip(panels, ("build", "tar", "random"), strict=True):
        for frames in FRAMES:
            names = [Images(average, frames).name for average in AVERAGES]
            points = [
                (average / MIB, median(found[name][what]))
                for average, name in zip(AVERAGES, names, strict=True)
                if name in found
            ]
            plot_line(axes, points, policy(frames))
        if CHUNKS.name in found:
            axes.axhline(median(found[CHUNKS.name][what]), color="black", linewidth=1, label="one blob a chunk")
        title = {"build": "build", "tar": "read everything", "random": "1,000 random files"}[what]
        across_averages(axes, f"{title}, s")
        axes.set_ylim(bottom=0)
        finish(axes)


def plot_line(axes: Any, points: list[tuple[float, float]], label: str, *, dashed: bool = False) -> None:
    """Draw a line, if it has points."""
    if points:
        axes.plot(*zip(*points, strict=True), marker="o", label=label, linestyle="--" if dashed else "-")


def across_averages(axes: Any, title: str) -> None:
    """Let a panel go over the averages."""
    axes.set(xscale="log", xlabel="average of packs", title=title)
    axes.minorticks_off()
    axes.set_xticks([average / MIB for average in AVERAGES], [short(average) for average in AVERAGES])


def finish(axes: Any) -> None:
    """Add what every picture has."""
    axes.grid(color="#dddddd", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize=7)
