"""Tables of what was measured, in Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from benches.curves import CURVES, line
from benches.curves import verdict as curve_verdict
from benches.engine import rate
from benches.known import BY_NAME
from benches.results import Results, ratio, verdict
from benches.rows import ENGINE, ROWS, SECTIONS, Row

ENGINE_COLUMNS = {"ours": "PuzzleFS", "crate": "crate fastcdc", "one core": "one core", "two passes": "two passes"}
TITLES = {name: peer.title for name, peer in BY_NAME.items()}


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table, its first column aligned left and the others right."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def amount(value: float, unit: str) -> str:
    """Return a value in its unit, three digits of it."""
    scaled = value if unit == "s" else value / 1e6
    if unit == "s" and scaled < 0.1:
        return f"{scaled * 1e3:.3g} ms"
    digits = f"{scaled:,.0f}" if scaled >= 1000 else f"{scaled:.3g}"
    return f"{digits} {unit}"


def cell(results: Results, row: Row, column: str) -> str:
    """Return a column's median, and how many times better ours is."""
    if column in results.failed.get(row.name, {}):
        return "fails"
    middle = results.median(row.name, column)
    if middle is None:
        return ""
    times = None if column == "ours" else ratio(results, row, column)
    return amount(middle, row.unit) + (f" ({times:.2f}x)" if times is not None else "")


def columns(results: Results, rows: tuple[Row, ...]) -> dict[str, str]:
    """Return those who have a figure in any of these rows, with their titles."""
    known = ENGINE_COLUMNS if rows is ENGINE else TITLES
    seen = {column for row in rows for kept in (results.values, results.failed) for column in kept.get(row.name, {})}
    return {name: title for name, title in known.items() if name in seen}


def main_table(results: Results, rows: tuple[Row, ...]) -> str:
    """Return medians with ratios, and what became of each target."""
    names = columns(results, rows)
    shown = [row for row in rows if row.name in results.values]
    if "pure" in names:
        return table(
            ["", *names.values()], [[row.title, *(cell(results, row, name) for name in names)] for row in shown]
        )
    body = [
        [row.title, row.target, *(cell(results, row, name) for name in names), *verdict(results, row)] for row in shown
    ]
    return table(["", "target", *names.values(), "reached", ""], body)


def spread_table(results: Results, rows: tuple[Row, ...]) -> str:
    """Return the lowest and the highest value of each figure."""
    names = columns(results, rows)
    body = []
    for row in rows:
        if row.name in results.values:
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
    """Return all rows of one input."""
    parts = []
    for title, rows in SECTIONS.items():
        if any(row.name in results.values for row in rows):
            parts.append(f"### {title}\n\n{both_tables(results, rows)}")
    if remarks := notes(results):
        parts.append("What is absent, and why:\n\n" + "\n".join(f"- {remark}" for remark in remarks))
    return "\n\n".join(parts)


def both_tables(results: Results, rows: tuple[Row, ...]) -> str:
    """Return medians, and the values between which they lie."""
    between = f"Lowest to highest, and how often measured:\n\n{spread_table(results, rows)}"
    return f"{main_table(results, rows)}\n\n{between}"


def engine_tables(results: Results) -> str:
    """Return the engine's rows, without a title."""
    return both_tables(results, ENGINE) if results.values else ""


def notes(results: Results) -> list[str]:
    """Return why figures are absent."""
    reasons: dict[tuple[str, str], list[str]] = {}
    for name, row in ROWS.items():
        for column, why in results.failed.get(name, {}).items():
            reasons.setdefault((TITLES[column], why), []).append(row.title)
    absent = [f"{column}: {why}" for column, why in results.notes.items()]
    return absent + [f"{column} ({', '.join(names)}): `{why}`" for (column, why), names in reasons.items()]


def hot_path_table(results: Results) -> str:
    """Return the functions of both backends: rate, milliseconds a call, how many times faster."""
    body = []
    if not results.values:
        return ""
    for name, pair in results.values.items():
        rust, python = pair["rust"][0], pair["python"][0]
        body.append([name, rate(results, name), f"{rust * 1e3:,.2f}", f"{python * 1e3:,.2f}", f"{python / rust:,.1f}"])
    return table(["", "rust", "rust, ms", "python, ms", "ratio"], body)


def curve_tables(results: Results) -> str:
    """Return the points of each curve."""
    parts = []
    for name, curve in CURVES.items():
        measured = results.curves.get(name, {})
        lines = {column: dict(line(results, name, column)) for column in TITLES if column in measured}
        if lines:
            places = sorted({place for points in lines.values() for place in points})
            body = [
                [TITLES[column], *(f"{points[place]:.3g}" if place in points else "" for place in places)]
                for column, points in lines.items()
            ]
            asked = f" Asked for: {curve.target}. Reached: {', '.join(curve_verdict(results, curve))}." * bool(
                curve.target
            )
            head = ["", *(f"{place:,.4g}" for place in places)]
            parts.append(f"**{curve.up}, by {curve.across}.**{asked}\n\n{table(head, body)}")
    return "\n\n".join(parts)
