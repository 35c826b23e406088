"""Measure PuzzleFS beside its peers, its own two backends, and as work grows: `python -m benches`. Needs root.

Results are kept below build/bench/results, a file for each run of a scenario. Without --rows, --peers and --quick,
docs/benchmarks.md is written at the end, from the newest run of each; `--report` writes it from what is kept.
$PUZZLEFS_ORIGINAL names the original program.
"""

from __future__ import annotations

import argparse
import compileall
import os
import shutil
import signal
import sys
from contextlib import nullcontext
from pathlib import Path
from types import FrameType

from benches import document, engine, report, scaling, schedule, stage
from benches.curves import CURVES
from benches.facts import Load, facts
from benches.inputs import INPUTS, OTHERS, Input
from benches.known import BY_NAME, GROWING, PEERS, PYTHON
from benches.mounts import memory_filesystem, unmount_below
from benches.peer import Peer
from benches.process import adopt_orphans, reap
from benches.results import Results
from benches.rows import ENGINE, ROWS
from benches.stage import BASE, RESULTS

ALL = ("debian", "duplicates", "fallback", *OTHERS)


def options(words: list[str] | None = None) -> argparse.Namespace:
    """Return what the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m benches", description=__doc__)
    parser.add_argument(
        "--input", metavar="NAME,...", help=f"of {', '.join((*INPUTS, *OTHERS))}; default: all but quick"
    )
    parser.add_argument("--rows", metavar="NAME,...", help=f"of {', '.join(ROWS)}; for scaling of {', '.join(GROWING)}")
    parser.add_argument("--peers", metavar="NAME,...", help=f"of {', '.join(BY_NAME)}; prints, keeps nothing")
    parser.add_argument("--rounds", type=int, help="default: by input")
    parser.add_argument("--rootfs", type=Path, help="an existing Debian root filesystem to copy (default: mmdebstrap)")
    parser.add_argument("--disk", action="store_true", help="stores of builds on the disk, not in a tmpfs")
    parser.add_argument("--sizes", choices=scaling.SIZES, default="default", help="how far the curves go")
    parser.add_argument("--prepare", action="store_true", help="make the trees and the images that are read, no more")
    parser.add_argument("--report", action="store_true", help="measure nothing, write docs/benchmarks.md")
    parser.add_argument(
        "--quick", action="store_true", help="under two minutes: a small tree, few peers; keeps nothing"
    )
    chosen = parser.parse_args(words)
    chosen.keep = not (chosen.peers or chosen.quick)
    chosen.input = names(parser, chosen.input, (*INPUTS, *OTHERS)) or (("quick", "engine") if chosen.quick else ALL)
    chosen.rows = names(parser, chosen.rows, (*ROWS, *CURVES))
    chosen.peers = names(parser, chosen.peers, BY_NAME)
    return chosen


def names(parser: argparse.ArgumentParser, text: str | None, known: object) -> tuple[str, ...]:
    """Return the names in an argument; end the program where one is not known."""
    found = tuple(text.split(",")) if text else ()
    if unknown := sorted(set(found) - set(known)):  # type: ignore[call-overload]
        parser.error(f"unknown: {', '.join(unknown)}")
    return found


def main() -> None:
    """Measure, then write."""
    chosen = options()
    if not chosen.report:
        if os.geteuid() != 0:
            sys.exit("mounting needs root")
        signal.signal(signal.SIGTERM, stop)
        adopt_orphans()
        measure(chosen)
    if chosen.report or (chosen.keep and not chosen.rows and not chosen.prepare and chosen.input == ALL):
        document.write()


def stop(_number: int, _frame: FrameType | None) -> None:
    """Leave by an exception, so that everything is unmounted."""
    raise SystemExit(143)


def measure(chosen: argparse.Namespace) -> None:
    """Measure each input, in an empty directory."""
    # As installers do: else each start would compile the sources where PYTHONDONTWRITEBYTECODE is set.
    compileall.compile_dir(PYTHON / "puzzlefs", quiet=1)
    others = {"engine": measure_engine, "backends": measure_backends, "scaling": measure_scaling}
    for name in chosen.input:
        work = BASE / "work"
        unmount_below(BASE)
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        try:
            with memory_filesystem(work) if not chosen.disk else nullcontext():
                if name in INPUTS:
                    measure_input(INPUTS[name], work, chosen)
                elif name == "scaling" or not chosen.prepare:
                    others[name](work, chosen)
        finally:
            reap()
            shutil.rmtree(work, ignore_errors=True)


def measure_input(given: Input, work: Path, chosen: argparse.Namespace) -> None:
    """Measure the rows of one tree, a scenario after the other."""
    scenarios = [one for one in given.scenarios if not chosen.rows or {row.name for row in one.rows} & set(chosen.rows)]
    absent = Results()
    peers = present([peer for peer in given.peers if not chosen.peers or peer.name in chosen.peers], absent)
    tree = given.make(stage.TREES, chosen.rootfs)
    there = stage.make(tree, work, chosen.rootfs, small=given.name == "quick")
    schedule.prepare(there, peers, scenarios, absent)
    if chosen.prepare:
        return
    about = facts(peers, tree=there.about, stores="disk" if chosen.disk else "tmpfs")
    for scenario in scenarios:
        results, load = Results(notes=absent.notes, facts=dict(about)), Load()
        for row in scenario.rows:
            for peer, why in absent.failed.get(row.name, {}).items():
                results.fail(row.name, peer, why)
        schedule.measure(there, peers, scenario, chosen.rounds or given.rounds, given.patience, results)
        results.facts["others"] = load.share()
        end(results, given.name, scenario.name, chosen)


def present(wanted: list[Peer], results: Results) -> list[Peer]:
    """Return the peers that can be measured; note why the others cannot."""
    results.notes = {peer.title: why for peer in wanted if (why := peer.missing())}
    for title, why in results.notes.items():
        print(f"{title}: {why}", file=sys.stderr)
    return [peer for peer in wanted if not peer.missing()]


def end(results: Results, directory: str, name: str, chosen: argparse.Namespace) -> None:
    """Show a run, and keep it."""
    print(f"\n{report.section(results)}\n", flush=True)
    if chosen.keep:
        results.save(RESULTS / directory / f"{name}.json")


def measure_engine(_work: Path, chosen: argparse.Namespace) -> None:
    """Measure the engine's own rows."""
    engine.compile_example()
    results, load = Results(facts=facts([PEERS[0]])), Load()
    engine.engine(stage.large(chosen.rootfs, small=chosen.quick), chosen.rounds or (3 if chosen.quick else 7), results)
    results.facts["others"] = load.share()
    end(results, "engine", ENGINE[0].name, chosen)


def measure_backends(_work: Path, chosen: argparse.Namespace) -> None:
    """Measure the functions of both backends."""
    engine.backends(RESULTS / "backends/hot_paths.pytest")
    results = engine.hot_paths(RESULTS / "backends/hot_paths.pytest")
    print(report.hot_path_table(results))


def measure_scaling(work: Path, chosen: argparse.Namespace) -> None:
    """Measure curves."""
    sizes, source = scaling.SIZES[chosen.sizes], stage.large(chosen.rootfs)
    for name in GROWING:
        if chosen.rows and name not in chosen.rows:
            continue
        trees_of = scaling.make(name, sizes, source, stage.TREES / "growing")
        if chosen.prepare:
            continue
        results, load = Results(), Load()
        peers = present([peer for peer in GROWING[name] if not chosen.peers or peer.name in chosen.peers], results)
        results.facts = facts(peers)
        (work / name).mkdir()
        scaling.measure(name, trees_of, work / name, peers, chosen.rounds or 3, results)
        results.facts["others"] = load.share()
        print(f"\n{report.curve_tables(results)}\n", flush=True)
        if chosen.keep and chosen.sizes != "small":
            results.save(RESULTS / f"scaling/{name}.json")


if __name__ == "__main__":
    main()
