"""docs/packs.md is written from kept figures: nothing is measured here."""

from __future__ import annotations

from pathlib import Path

import pytest

from benches.packs import document, report, states
from benches.packs.candidates import CANDIDATES, CHOSEN, LARGE, Images
from benches.packs.kept import Kept
from benches.rows import KIB, MIB

STATES = len(states.SERIES)


def series(first: float, update: float, blobs: float | None = None) -> dict[str, list[float]]:
    """The figures of a candidate, in megabytes."""
    values = {"bytes": [first * 1e6, *[update * 1e6] * (STATES - 1)], "seconds": [1.0] * STATES}
    if blobs:
        values |= {name: [blobs] * STATES for name in ("blobs", "store", "manifest")}
    return values


@pytest.fixture
def kept(tmp_path: Path) -> Kept:
    """Figures of four candidates, as a run keeps them."""
    kept = Kept(tmp_path / "results.json")
    kept.put("series", "squashfs", series(100, 100))
    kept.put("series", "chunks", series(99, 10, 2000))
    kept.put("series", CHOSEN.name, series(94, 16, 200))
    for seconds in (1.0, 3.0, 2.0):
        kept.add("reads", "chunks", dict.fromkeys(report.READS, 2.0))
        kept.add("reads", CHOSEN.name, dict.fromkeys(report.READS, seconds))
    kept.put("unique", LARGE.name, {"content": [1e10], "manifest": [2.0 * MIB]})
    return kept


def line_of(text: str, start: str) -> str:
    return next(line for line in text.splitlines() if line.startswith(f"| {start}"))


def test_a_target_says_what_was_reached(kept: Kept) -> None:
    found = report.targets(kept)

    assert line_of(found, "first image").endswith("| 0.94x | met |")
    assert line_of(found, "bytes of all updates").endswith("| 1.60x | **missed** |")
    assert line_of(found, "the series").endswith("| 1.26x | **missed** |")
    assert line_of(found, "blobs of an image").endswith("| 1/10.0 | met |")
    assert line_of(found, "read everything").endswith("| 1.00x the time | met |")
    assert line_of(found, "manifest of 10 GB").endswith("| 2.00 MiB | **missed** |")


def test_targets_without_figures_are_left_out(tmp_path: Path) -> None:
    assert report.targets(Kept(tmp_path / "results.json")).count("\n") == 1


def test_a_candidate_stands_beside_one_blob_a_chunk(kept: Kept) -> None:
    cells = line_of(report.sizes(kept, report.SHOWN), CHOSEN.title).split(" | ")

    assert cells[1:4] == ["94.0 (0.95x)", "144.0 (1.60x)", "238.0 (1.26x)"]
    assert cells[4] == "200"


def test_a_median_stands_with_its_range(kept: Kept) -> None:
    assert "| 2 (1 to 3) |" in line_of(report.reads(kept), CHOSEN.title)


def test_figures_outlast_a_run(kept: Kept) -> None:
    again = Kept(kept.path)

    assert again.topics == kept.topics


def test_what_was_measured_at_which_commit_is_told(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "commits_since", {"abc1234": 2}.get)
    kept.now = ["abc1234", "2026-01-02 03:04"]
    kept.put("series", "squashfs", series(100, 100))
    found = report.runs(Kept(kept.path))
    assert "| series | 1 | abc1234 | 2 | 2026-01-02 03:04 to 2026-01-02 03:04 |" in found
    assert "| series | 2 | unknown | unknown |  |" in found


def test_each_candidate_has_options_of_its_own(tmp_path: Path) -> None:
    made = [
        tuple(peer.options(tmp_path)) for peer in CANDIDATES.values() if isinstance(peer, Images) and not peer.reuse
    ]

    assert len(set(made)) == len(made) > 40
    assert Images(MIB // 2, 256 * KIB, "path").options(tmp_path) == [
        *("--pack-size", "524288", "--frame-size", "262144", "--order", "path")
    ]


def test_the_page_is_written_with_its_pictures(kept: Kept, tmp_path: Path) -> None:
    document.write(kept, tmp_path / "docs")

    page = (tmp_path / "docs/packs.md").read_text()
    assert "<!--" not in page
    assert {path.name for path in (tmp_path / "docs").iterdir()} == {
        *("packs.md", "packs-averages.png", "packs-reads.png", "packs-series.png")
    }
