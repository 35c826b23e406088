"""What was measured: kept as JSON, judged by medians."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median

from benches.peers.rows import ROWS, Limit, Row


@dataclass
class Results:
    """The figures of one input.

    values  row, peer → one value for each round; a row's peers were measured in turn, in one run
    failed  row, peer → why there is no value
    notes   peer → why it is absent, or what its figures do not say
    facts   what was measured on, and with which versions
    """

    values: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    failed: dict[str, dict[str, str]] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)
    facts: dict[str, str] = field(default_factory=dict)

    def add(self, row: str, peer: str, value: float) -> None:
        self.values.setdefault(row, {}).setdefault(peer, []).append(value)

    def median(self, row: str, peer: str) -> float | None:
        """Return the median of a row's values, or None where there is none."""
        values = self.values.get(row, {}).get(peer, [])
        return None if not values or peer in self.failed.get(row, {}) else median(values)

    def merge(self, newer: Results) -> None:
        """Take over the rows of a newer run, each as a whole."""
        for row in newer.values.keys() | newer.failed.keys():
            self.values[row] = newer.values.get(row, {})
            self.failed[row] = newer.failed.get(row, {})
        self.notes, self.facts = newer.notes, newer.facts

    def save(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(asdict(self), indent=1, sort_keys=True))


def load(path: Path) -> Results:
    """Return what `save` wrote; nothing where it wrote nothing."""
    return Results(**json.loads(path.read_text())) if path.exists() else Results()


def ratio(results: Results, row: Row, peer: str, *, other: str = "ours", of: str = "") -> float | None:
    """Return how many times better `other` is than `peer`, whose figure may be that of row `of`."""
    ours, theirs = results.median(row.name, other), results.median(of or row.name, peer)
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
    return f"{times:.2f}x {limit.row or best}", times >= limit.factor


def verdict(results: Results, row: Row) -> tuple[str, str]:
    """Return the ratios that the row's target is about, and "yes", "no" or "" for the target as a whole."""
    found = [judged(results, row, limit) for limit in row.limits]
    known = [one for one in found if one is not None]
    if not known:
        return "", ""
    met = all(reached for _, reached in known)
    return ", ".join(text for text, _ in known), (
        "yes" if len(known) == len(found) else "as far as known"
    ) if met else "no"


def missed(results: Results) -> list[str]:
    """Return the names of rows that miss their target."""
    return [name for name in results.values if name in ROWS and verdict(results, ROWS[name])[1] == "no"]
