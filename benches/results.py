"""What was measured: kept as JSON, one file for each run of a scenario; judged by medians."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median

from benches.rows import ROWS, Limit, Row


@dataclass
class Results:
    """The figures of one run, or of the newest runs of an input.

    values  row, column → one value for each round; a row's columns were measured in turn, in one run
    curves  curve, column → how large the input was, as text → one value for each round
    failed  row, column → why there is no value
    notes   column → why it is absent
    facts   what was measured, on what, when, with which versions
    """

    values: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    curves: dict[str, dict[str, dict[str, list[float]]]] = field(default_factory=dict)
    failed: dict[str, dict[str, str]] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)
    facts: dict[str, str] = field(default_factory=dict)

    def add(self, row: str, column: str, value: float) -> None:
        self.values.setdefault(row, {}).setdefault(column, []).append(value)

    def fail(self, row: str, column: str, why: str) -> None:
        self.failed.setdefault(row, {})[column] = " ".join(why.split())

    def median(self, row: str, column: str) -> float | None:
        """Return the median of a row's values, or None where there is none."""
        values = self.values.get(row, {}).get(column, [])
        return None if not values or column in self.failed.get(row, {}) else median(values)

    def merge(self, other: Results) -> None:
        """Take over the rows of another run, each as a whole."""
        for row in other.values.keys() | other.failed.keys():
            self.values[row] = other.values.get(row, {})
            self.failed[row] = other.failed.get(row, {})
        self.curves |= other.curves
        self.notes |= other.notes
        self.facts |= other.facts

    def save(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(asdict(self), indent=1, sort_keys=True))


def load(path: Path) -> Results:
    """Return what `save` wrote."""
    return Results(**json.loads(path.read_text()))


def runs(directory: Path) -> list[Results]:
    """Return the runs that a directory keeps."""
    return [load(path) for path in sorted(directory.glob("*.json"))]


def merged(found: list[Results]) -> Results:
    """Return all rows of some runs."""
    whole = Results()
    for one in found:
        whole.merge(one)
    return whole


def ratio(results: Results, row: Row, column: str, *, other: str = "ours", of: str = "") -> float | None:
    """Return how many times better `other` is than `column`, whose figure may be that of row `of`."""
    ours, theirs = results.median(row.name, other), results.median(of or row.name, column)
    if ours is None or theirs is None or not ours or not theirs:
        return None
    return ours / theirs if row.more_is_better else theirs / ours


def judged(results: Results, row: Row, limit: Limit) -> tuple[str, bool] | None:
    """Return what was reached, in words, and whether that meets the limit; None where nothing can be said."""
    ours = results.median(row.name, "ours")
    if ours is None:
        return None
    if not limit.others:
        return f"{ours / limit.at_most:.2f} of the limit", ours <= limit.at_most
    found = [
        (times, other) for other in limit.others if (times := ratio(results, row, other, of=limit.row)) is not None
    ]
    if not found:
        return None
    # The best of the others is the one that we are least better than.
    times, best = min(found)
    return f"{times:.2f}x {limit.title or best}", times >= limit.factor


def verdict(results: Results, row: Row) -> tuple[str, str]:
    """Return the ratios that the row's target is about, and what became of the target as a whole."""
    found = [judged(results, row, limit) for limit in row.limits]
    known = [one for one in found if one is not None]
    if not known:
        return "", ""
    words = ", ".join(text for text, _ in known)
    if not all(reached for _, reached in known):
        return words, "missed"
    return words, "met" if len(known) == len(found) else "met as far as known"


def missed(results: Results) -> list[str]:
    """Return the names of rows that miss their target."""
    return [name for name in ROWS if name in results.values and verdict(results, ROWS[name])[1] == "missed"]
