"""docs/performance.md: the prose stays, what stands between two marks is written anew."""

from __future__ import annotations

from pathlib import Path

from benches.peers.known import PEERS
from benches.peers.results import Results, ratio, verdict
from benches.peers.rows import ENGINE, SECTIONS, Row
from benches.report import table

ENGINE_COLUMNS = {"ours": "PuzzleFS", "crate": "crate fastcdc", "one core": "one core", "two passes": "two passes"}


def amount(value: float, unit: str) -> str:
    """Return a value in its unit, three digits of it."""
    scaled = value if unit == "s" else value / 1e6
    if unit == "s" and scaled < 0.1:
        return f"{scaled * 1e3:.3g} ms"
    digits = f"{scaled:,.0f}" if scaled >= 1000 else f"{scaled:.3g}"
    return f"{digits} {unit}"


def cell(results: Results, row: Row, peer: str) -> str:
    """Return a peer's median, and how many times better ours is."""
    if peer in results.failed.get(row.name, {}):
        return "fails"
    middle = results.median(row.name, peer)
    if middle is None:
        return ""
    times = None if peer == "ours" else ratio(results, row, peer)
    return amount(middle, row.unit) + (f" ({times:.2f}x)" if times is not None else "")


def columns(results: Results, rows: tuple[Row, ...]) -> dict[str, str]:
    """Return those who have a figure in any of these rows, with their titles."""
    known = ENGINE_COLUMNS if rows is ENGINE else {peer.name: peer.title for peer in PEERS}
    seen = {peer for row in rows for kept in (results.values, results.failed) for peer in kept.get(row.name, {})}
    return {name: title for name, title in known.items() if name in seen}


def main_table(results: Results, rows: tuple[Row, ...]) -> str:
    """Return medians with ratios, and what became of each target."""
    names = columns(results, rows)
    shown = [row for row in rows if row.name in results.values]
    body = [
        [row.title, row.target, *(cell(results, row, name) for name in names), *verdict(results, row)] for row in shown
    ]
    return table(["", "target", *names.values(), "reached", "met"], body)


def spread_table(results: Results, rows: tuple[Row, ...]) -> str:
    """Return the lowest and the highest value of each figure."""
    names = columns(results, rows)
    body = []
    for row in rows:
        if row.name not in results.values:
            continue
        found = [results.values[row.name].get(name, []) for name in names]
        body.append([row.title, *(spread(values, row.unit) for values in found)])
    return table(["", *names.values()], body)


def spread(values: list[float], unit: str) -> str:
    """Return the lowest and the highest value, and of how many."""
    if not values:
        return ""
    if len(values) == 1:
        return "once"
    return f"{amount(min(values), unit)} to {amount(max(values), unit)}, {len(values)}"


def section(results: Results) -> str:
    """Return everything about one input."""
    facts = "\n".join(f"- {name}: {fact}" for name, fact in results.facts.items())
    parts = [facts]
    for title, rows in SECTIONS.items():
        if any(row.name in results.values for row in rows):
            parts.append(f"### {title}\n\n{main_table(results, rows)}")
            parts.append(f"Lowest to highest, and how often measured:\n\n{spread_table(results, rows)}")
    if remarks := notes(results):
        parts.append("What is absent, and why:\n\n" + "\n".join(f"- {remark}" for remark in remarks))
    return "\n\n".join(parts)


def notes(results: Results) -> list[str]:
    """Return why figures are absent."""
    reasons: dict[tuple[str, str], list[str]] = {}
    for row, peers in results.failed.items():
        for peer, why in peers.items():
            reasons.setdefault((peer, why), []).append(row)
    absent = [f"{peer}: {why}" for peer, why in results.notes.items()]
    return absent + [f"{peer} ({', '.join(names)}): `{why}`" for (peer, why), names in reasons.items()]


def write(path: Path, name: str, text: str) -> None:
    """Put a text between the marks of its name. Raises `ValueError` where the marks are missing."""
    begin, end = f"<!-- measured: {name} -->\n", f"<!-- end: {name} -->"
    before, mark, rest = path.read_text().partition(begin)
    _, closing, after = rest.partition(end)
    if not mark or not closing:
        raise ValueError(f"{path} has no place for {name}")
    path.write_text(f"{before}{begin}\n{text.strip()}\n\n{end}{after}")


def curve_tables(curves: dict[str, dict[str, list[tuple[float, float]]]]) -> str:
    """Return the points of each curve."""
    parts = []
    for title, lines in curves.items():
        across, _, up = title.partition(": ")
        points = sorted({x for line in lines.values() for x, _ in line})
        body = [[name, *(f"{dict(line)[x]:.3g}" for x in points)] for name, line in lines.items()]
        parts.append(f"{up}, by {across}:\n\n{table(['', *(f'{x:,.4g}' for x in points)], body)}")
    return "\n\n".join(parts)
