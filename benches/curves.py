"""What grows with what, and how it may grow."""

from __future__ import annotations

import math
from statistics import median
from typing import NamedTuple

from benches.results import Results

Line = list[tuple[float, float]]


class Curve(NamedTuple):
    """A figure (`up`) by the size of the input (`across`). `target` is what is asked of its growth."""

    name: str
    across: str
    up: str
    target: str
    # The steepest slope between the last two points, on logarithmic axes; 1 is linear.
    slope: float = math.inf
    # The largest of all figures, as a multiple of the smallest, and in its own unit.
    times: float = math.inf
    at_most: float = math.inf


LINEAR = "linear: the last step's slope ≤ 1.1"
FLAT = "flat: the largest ≤ 1.5x the smallest"
CURVES = {
    curve.name: curve
    for curve in (
        Curve("bytes", "GB in files of 16 MiB", "build, s", LINEAR, slope=1.1),
        Curve("bytes-memory", "GB in files of 16 MiB", "build, peak memory, MB", "≤ 300 MB", at_most=300),
        Curve("files", "files of 1 KiB on average", "build, s", LINEAR, slope=1.1),
        Curve("files-memory", "files of 1 KiB on average", "build, peak memory, MB", ""),
        Curve("file", "bytes in the file", "random read of 4 KiB, µs", FLAT, times=1.5),
        Curve("directory", "entries in the directory", "look-up and stat, µs", FLAT, times=1.5),
    )
}


def line(results: Results, curve: str, column: str) -> Line:
    """Return the medians of a column, by size."""
    points = results.curves.get(curve, {}).get(column, {})
    return sorted((float(across), median(values)) for across, values in points.items() if values)


def verdict(results: Results, curve: Curve) -> tuple[str, str]:
    """Return what our line does, in words, and "met", "missed" or "" where nothing is asked or known."""
    points = line(results, curve.name, "ours")
    if len(points) < 2 or not curve.target:
        return "", ""
    (before, low), (last, high) = points[-2:]
    slope = math.log(high / low) / math.log(last / before)
    figures = [figure for _, figure in points]
    times = max(figures) / min(figures)
    met = slope <= curve.slope and times <= curve.times and max(figures) <= curve.at_most
    words = (
        f"slope {slope:.2f}" if curve.slope < math.inf else f"{min(figures):.3g} to {max(figures):.3g}, {times:.2f}x"
    )
    return words, "met" if met else "missed"
