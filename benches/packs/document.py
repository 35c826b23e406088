"""docs/packs.md and its pictures, from what is kept."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from benches.packs import plot, report
from benches.packs.kept import Kept
from benches.process import ROOT

DOCS = ROOT / "docs"
PAGE = Path(__file__).with_name("page.md")


def write(kept: Kept, docs: Path = DOCS) -> None:
    """Write the page and its pictures into `docs`."""
    texts: dict[str, Callable[[], str]] = {
        "facts": lambda: "; ".join(kept.facts.values()),
        "targets": lambda: report.targets(kept),
        "sizes": lambda: report.sizes(kept, report.SHOWN),
        "updates": lambda: report.updates(kept),
        "branches": lambda: report.sizes(kept, report.SHOWN, "branches"),
        "grid": lambda: report.grid(kept),
        "orders": lambda: report.orders(kept),
        "reads": lambda: report.reads(kept),
        "large": lambda: report.large(kept),
        "runs": lambda: report.runs(kept),
    }
    docs.mkdir(parents=True, exist_ok=True)
    plot.draw(docs, kept)
    written = re.sub(r"<!-- ([a-z]+) -->", lambda mark: texts[mark[1]](), PAGE.read_text())
    (docs / "packs.md").write_text(written)
