"""The report of measurements: written and drawn from kept sample results, nothing is timed."""

from __future__ import annotations

from pathlib import Path

import pytest

from benches import curves, document
from benches.__main__ import options
from benches.facts import commits_since
from benches.results import Results, load, merged, missed, runs, verdict
from benches.rows import ENGINE, ROWS
from benches.scenarios import SCENARIOS

SAMPLE = Path(__file__).with_name("bench_results")


@pytest.fixture(scope="module")
def docs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the report writes from the sample."""
    place = tmp_path_factory.mktemp("docs")
    document.write(SAMPLE, place)
    return place


@pytest.fixture(scope="module")
def page(docs: Path) -> str:
    return (docs / "benchmarks.md").read_text()


def row_of(page: str, *cells: str) -> str:
    """Return the first line of a table that has these cells."""
    return next(line for line in page.splitlines() if all(f"| {cell} |" in line for cell in cells))


def test_a_row_tells_target_figure_ratio_and_that_it_is_met(page: str) -> None:
    assert row_of(page, "build", "Debian") == (
        "| build | Debian | ≥ 2.5x the original, ≤ mksquashfs | 0.5 s | 3.00x original, 1.50x squashfs | met |"
    )


def test_a_missed_row_keeps_its_figure_and_stands_out(page: str) -> None:
    assert row_of(page, "rebuild, nothing changed", "Debian").endswith("| 0.1 s | 5.00x the first build | **missed** |")


def test_a_missed_row_brings_what_is_kept_about_it(page: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "rows").mkdir()
    (tmp_path / "page.md").write_text("<!-- profiles -->")
    (tmp_path / "rows/find.md").write_text("The walk waits for the moon.\n")
    (tmp_path / "rows/build.md").write_text("Of a row that is met.\n")
    monkeypatch.setattr(document, "PROSE", tmp_path)

    document.write(SAMPLE, tmp_path / "docs")

    written = (tmp_path / "docs/benchmarks.md").read_text()
    assert "### `find -ls`, cold mount\n\nThe walk waits for the moon." in written
    assert "Of a row that is met" not in written


def test_rows_older_than_the_program_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of another commit than the newest that changed the program, and those of one that nobody knows."""
    commits = {"abc1234": 0, "fed4321": 3}
    monkeypatch.setattr(document, "commits_since", commits.get)
    paths = Results(values={"hash_file": {}}, facts={"revision": "fed4321", "when": "", "others": ""})
    assert "measured (*changes since* in the last section): backends: functions." in document.older(SAMPLE, paths)
    assert "| backends | functions | fed4321 | 3 |" in document.run_table(SAMPLE, paths)

    paths.facts["revision"] = "abc1234"
    assert document.older(SAMPLE, paths) == "All rows are of the program as it is now."

    paths.facts["revision"] = "gone"
    assert "backends: functions." in document.older(SAMPLE, paths)
    assert "| gone | unknown |" in document.run_table(SAMPLE, paths)


def test_a_commit_that_is_not_there_is_no_error() -> None:
    assert commits_since("0" * 40) is None


def test_the_median_stands_beside_the_lowest_and_the_highest(page: str) -> None:
    assert row_of(page, "build", "1.4 s to 1.6 s, 3") == (
        "| build | 0.4 s to 0.6 s, 3 | 1.4 s to 1.6 s, 3 | 0.7 s to 0.8 s, 3 |  |"
    )


def test_what_is_absent_has_a_reason(page: str) -> None:
    assert "- the original: $PUZZLEFS_ORIGINAL names no program" in page
    assert "- casync (mount to first listing, `find -ls`, cold mount): `exit status 1: no such store`" in page


def test_the_backends_are_compared(page: str) -> None:
    assert row_of(page, "cut_lengths", "4,000 MB/s") == "| cut_lengths | 4,000 MB/s | 1.00 | 30.00 | 30.0 |"
    assert "| build | 0.5 s | 5.5 s (11.00x) |" in page


def test_each_run_is_listed_with_its_commit(page: str) -> None:
    assert "| debian | mount, find | abc1234 | unknown | 2026-01-02 03:04 | 2% |" in page
    assert "| backends | functions | abc1234 | unknown | 2026-01-02 03:05 |  |" in page


def test_growth_is_judged(page: str) -> None:
    assert (
        "| build, s, by files of 1 KiB on average | growing | linear: the last step's slope ≤ 1.1 |  | slope 0.97 | met |"
        in page
    )
    assert "| 21 to 51, 2.43x | **missed** |" in page


def test_no_mark_is_left(page: str) -> None:
    assert "<!--" not in page


@pytest.mark.parametrize("name", ["debian", "backends", "scaling"])
def test_a_picture_is_drawn_of_what_has_figures(docs: Path, page: str, name: str) -> None:
    assert (docs / f"benchmarks-{name}.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    assert f"(benchmarks-{name}.png)" in page


def test_what_has_no_figures_is_not_drawn(docs: Path, page: str) -> None:
    assert not (docs / "benchmarks-duplicates.png").exists()
    assert "benchmarks-duplicates.png" not in page


def test_a_target_is_met_as_far_as_known_where_a_peer_is_absent() -> None:
    results = Results()
    results.add("build", "ours", 1.0)
    results.add("build", "squashfs", 2.0)
    assert verdict(results, ROWS["build"]) == ("2.00x squashfs", "met as far as known")


def test_the_best_of_several_peers_is_the_measure() -> None:
    results = Results()
    for column, seconds in (("ours", 1.0), ("original", 3.0), ("squashfuse", 0.9), ("squashfs", 2.0)):
        results.add("random", column, seconds)
    assert verdict(results, ROWS["random"]) == ("0.90x squashfuse", "missed")
    assert missed(results) == ["random"]


def test_a_rate_is_better_the_larger_it_is() -> None:
    results = Results()
    results.add("fio-4k-1", "ours", 200.0)
    results.add("fio-4k-1", "squashfuse", 100.0)
    assert verdict(results, ROWS["fio-4k-1"]) == ("2.00x squashfuse", "met")


def test_a_figure_of_a_peer_that_fails_counts_for_nothing() -> None:
    results = Results()
    results.add("extract", "ours", 1.0)
    results.add("extract", "squashfs", 0.1)
    results.fail("extract", "squashfs", "reads\nwrong")
    assert verdict(results, ROWS["extract"]) == ("", "")
    assert results.failed["extract"] == {"squashfs": "reads wrong"}


def test_results_are_read_as_they_were_kept(tmp_path: Path) -> None:
    (kept,) = runs(SAMPLE / "engine")
    kept.save(tmp_path / "there/chunk.json")
    assert load(tmp_path / "there/chunk.json") == kept


def test_a_row_is_taken_over_as_a_whole() -> None:
    older, newer = Results(), Results()
    older.add("find", "ours", 1.0)
    older.add("find", "erofs", 1.0)
    newer.add("find", "ours", 2.0)
    assert merged([older, newer]).values == {"find": {"ours": [2.0]}}


@pytest.mark.parametrize(("last", "met"), [(10.0, "met"), (13.0, "missed")])
def test_linear_growth_is_a_slope_of_one(last: float, met: str) -> None:
    points = {"10": [1.0], "100": [last]}
    assert curves.verdict(Results(curves={"files": {"ours": points}}), curves.CURVES["files"])[1] == met


def test_memory_has_a_limit_whatever_its_slope() -> None:
    points = {"0.2": [60.0], "20": [301.0]}
    found = curves.verdict(Results(curves={"bytes-memory": {"ours": points}}), curves.CURVES["bytes-memory"])
    assert found == ("60 to 301, 5.02x", "missed")


def test_every_row_is_measured_by_one_scenario() -> None:
    measured = [row.name for scenario in SCENARIOS for row in scenario.rows] + [row.name for row in ENGINE]
    assert sorted(measured) == sorted(ROWS)


def test_what_leaves_peers_out_is_not_kept() -> None:
    assert not options(["--peers", "ours"]).keep
    assert options(["--rows", "find"]).keep


def test_an_unknown_row_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        options(["--rows", "find,nonsense"])
    assert "unknown: nonsense" in capsys.readouterr().err
