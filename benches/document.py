"""docs/benchmarks.md and its pictures, from the newest run of everything."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from benches import plot, report
from benches.curves import CURVES
from benches.curves import verdict as curve_verdict
from benches.engine import hot_paths
from benches.facts import commits_since
from benches.process import ROOT
from benches.results import Results, merged, runs, verdict
from benches.rows import ROWS, SECTIONS
from benches.stage import RESULTS

DOCS = ROOT / "docs"
PROSE = Path(__file__).with_name("prose")
INPUTS = {"debian": "Debian", "duplicates": "duplicates", "engine": "one file"}
# The order of the summary: what is asked for first comes first.
TARGETS = [row for rows in SECTIONS.values() for row in rows if row.target]


def write(results: Path = RESULTS, docs: Path = DOCS) -> None:
    """Write the document and its pictures into `docs`, from what `results` keeps."""
    found = {name: merged(runs(results / name)) for name in (*INPUTS, "fallback", "scaling")}
    paths = hot_paths(results / "backends/hot_paths.pytest")
    texts: dict[str, Callable[[], str]] = {
        "machine": lambda: machines(results),
        "older": lambda: older(results, paths),
        "targets": lambda: targets(found),
        "debian": lambda: report.section(found["debian"]),
        "duplicates": lambda: report.section(found["duplicates"]),
        "engine": lambda: report.engine_tables(found["engine"]),
        "hot paths": lambda: report.hot_path_table(paths),
        "fallback": lambda: report.section(found["fallback"]),
        "scaling": lambda: report.curve_tables(found["scaling"]),
        "profiles": lambda: profiles(found),
        "versions": lambda: versions(found),
        "runs": lambda: run_table(results, paths),
    }
    docs.mkdir(parents=True, exist_ok=True)
    drawn = plot.draw(docs, found, paths)
    texts |= {f"{name} picture": partial(picture, name, drawn) for name in plot.PICTURES}
    page = (PROSE / "page.md").read_text()
    written = re.sub(r"<!-- ([a-z ]+) -->", lambda mark: texts[mark[1]]() or "Not measured.", page)
    (docs / "benchmarks.md").write_text(written)


def picture(name: str, drawn: set[str]) -> str:
    """Return where a picture stands, if it was drawn."""
    return f"![{plot.PICTURES[name]}](benchmarks-{name}.png)" if name in drawn else ""


def machines(results: Path) -> str:
    """Return the machines of all runs."""
    found = {run.facts["machine"] for directory in results.iterdir() for run in runs(directory)}
    return "; ".join(sorted(found))


def targets(found: dict[str, Results]) -> str:
    """Return a line for each target and input: the figure, what was reached, met or missed."""
    body = []
    for row in TARGETS:
        for name, title in INPUTS.items():
            if found[name].median(row.name, "ours") is not None:
                reached, met = verdict(found[name], row)
                figure = report.cell(found[name], row, "ours")
                body.append([row.title, title, row.target, figure, reached, emphasis(met)])
    for curve in CURVES.values():
        reached, met = curve_verdict(found["scaling"], curve)
        if reached:
            body.append([f"{curve.up}, by {curve.across}", "growing", curve.target, "", reached, emphasis(met)])
    counts = {word: sum(line[-1].strip("*") == word for line in body) for word in ("met", "missed")}
    head = ["", "input", "target", "PuzzleFS", "reached", ""]
    return f"{counts['met']} met, {counts['missed']} missed.\n\n{report.table(head, body)}"


def emphasis(met: str) -> str:
    """Let what is missed be seen."""
    return f"**{met}**" if met == "missed" else met


def profiles(found: dict[str, Results]) -> str:
    """Return, for each row that misses its target, the kept text that says where its time goes."""
    names = [name for name, row in ROWS.items() if any(verdict(one, row)[1] == "missed" for one in found.values())]
    names += [name for name, curve in CURVES.items() if curve_verdict(found["scaling"], curve)[1] == "missed"]
    parts = []
    for name in names:
        path = PROSE / f"rows/{name}.md"
        title = ROWS[name].title if name in ROWS else CURVES[name].up
        text = path.read_text().strip() if path.exists() else "No profile of it is kept yet."
        parts.append(f"### {title[0].upper()}{title[1:]}\n\n{text}")
    return "\n\n".join(parts) or "No row misses its target."


def versions(found: dict[str, Results]) -> str:
    """Return the version of each program."""
    named = {key: value for one in found.values() for key, value in one.facts.items() if key.startswith("version of ")}
    return "\n".join(f"- {key.removeprefix('version of ')}: {value}" for key, value in named.items())


def all_runs(results: Path, paths: Results) -> Iterator[tuple[str, str, dict[str, str]]]:
    """Yield each run that is kept: its input, the names of its rows, its facts."""
    if paths.values:
        yield "backends", "functions", paths.facts
    for directory in sorted(path for path in results.iterdir() if path.is_dir()):
        for run in runs(directory):
            rows = ", ".join(name for name in (*ROWS, *CURVES) if name in run.values or name in run.curves)
            yield directory.name, rows, run.facts


def run_table(results: Path, paths: Results) -> str:
    """Return when what was measured, at which commit, and how many have changed the program since."""
    body = []
    for name, rows, facts in all_runs(results, paths):
        since = commits_since(facts["revision"])
        changes = "unknown" if since is None else str(since or "")
        body.append([name, rows, facts["revision"], changes, facts["when"], facts["others"]])
    return report.table(["input", "rows", "commit", "changes since", "measured (UTC)", "others' share"], body)


def older(results: Path, paths: Results) -> str:
    """Return which rows are not of the program as it is."""
    found: dict[str, list[str]] = {}
    for name, rows, facts in all_runs(results, paths):
        if commits_since(facts["revision"]) != 0:
            found.setdefault(name, []).append(rows)
    if not found:
        return "All rows are of the program as it is now."
    named = "; ".join(f"{name}: {', '.join(rows)}" for name, rows in found.items())
    return f"The program has changed since these rows were measured (*changes since* in the last section): {named}."
