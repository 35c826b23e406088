"""Compare PuzzleFS with its peers: `python -m benches.peers`, or `make bench-peers`. Needs root.

Prints tables; with --save also writes build/peers/INPUT.json, docs/performance.md and docs/performance-INPUT.svg.
$PUZZLEFS_ORIGINAL names the original program.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from types import FrameType

from benches.peers import plot, report, scaling, schedule, trees
from benches.peers.engine import ROOT, engine
from benches.peers.known import BY_NAME, PEERS
from benches.peers.mounts import memory_filesystem, unmount_below
from benches.peers.peer import Peer
from benches.peers.process import adopt_orphans, reap
from benches.peers.results import Results, load, missed
from benches.peers.rows import ENGINE, FIO, ROWS
from benches.peers.scenarios import Stage
from benches.report import machine

BASE = ROOT / "build/peers"
PAGE = ROOT / "docs/performance.md"
INPUTS = {"debian": trees.debian, "duplicates": trees.duplicates}
# What does not depend on the tree is measured with the first input alone.
ONCE = {row.name for row in (*FIO, *ENGINE)}


def options() -> argparse.Namespace:
    """Return what the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m benches.peers", description=__doc__)
    parser.add_argument("--input", choices=[*INPUTS, "scaling"], default="debian")
    parser.add_argument("--rows", metavar="NAME,...", help=f"of {', '.join(ROWS)}")
    parser.add_argument("--peers", metavar="NAME,...", help=f"of {', '.join(BY_NAME)}")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rootfs", type=Path, help="an existing Debian root filesystem to copy (default: mmdebstrap)")
    parser.add_argument("--disk", action="store_true", help="stores on the disk of build/peers, not in a tmpfs")
    parser.add_argument("--small", action="store_true", help="scaling: small trees, to try it out")
    parser.add_argument("--save", action="store_true", help="write the documents; a row is kept with all its peers")
    chosen = parser.parse_args()
    if chosen.save and (chosen.peers or chosen.small):
        parser.error("--save goes with all peers and full sizes: ratios are of one run")
    for names, known in ((chosen.rows, ROWS), (chosen.peers, BY_NAME)):
        if unknown := set(names.split(",") if names else ()) - known.keys():
            parser.error(f"unknown: {', '.join(sorted(unknown))}")
    return chosen


def main() -> None:
    """Measure, then write."""
    if os.geteuid() != 0:
        sys.exit("mounting needs root")
    chosen = options()
    signal.signal(signal.SIGTERM, stop)
    adopt_orphans()
    work = BASE / "work"
    unmount_below(BASE)
    shutil.rmtree(work, ignore_errors=True)
    in_memory = chosen.input != "scaling" and not chosen.disk
    work.mkdir(parents=True)
    try:
        with memory_filesystem(work) if in_memory else nullcontext():
            measure_scaling(work, chosen) if chosen.input == "scaling" else measure_input(work, chosen)
    finally:
        reap()
        shutil.rmtree(work, ignore_errors=True)


def stop(_number: int, _frame: FrameType | None) -> None:
    """Leave by an exception, so that everything is unmounted."""
    raise SystemExit(143)


def measure_input(work: Path, chosen: argparse.Namespace) -> None:
    """Measure the rows of one input."""
    names = chosen.rows.split(",") if chosen.rows else list(ROWS)
    if chosen.input != "debian":
        names = [name for name in names if name not in ONCE]
    results = Results()
    peers = present(chosen.peers, results)
    stage = make_stage(work, chosen)
    results.facts = facts(peers, stage, chosen)
    start = time.monotonic()
    scenarios = schedule.chosen(names)
    schedule.prepare(stage, peers, scenarios, results)
    schedule.measure(stage, peers, scenarios, chosen.rounds, schedule.PATIENCE[chosen.input], results)
    if set(names) & {row.name for row in ENGINE}:
        schedule.measure_engine(engine, chosen.rounds, results)
    print(f"\nmeasured in {time.monotonic() - start:.0f} s; missed: {', '.join(missed(results)) or 'nothing'}\n")
    print(report.section(results))
    if chosen.save:
        kept = load(BASE / f"{chosen.input}.json")
        kept.merge(results)
        kept.save(BASE / f"{chosen.input}.json")
        drawing = PAGE.with_name(f"performance-{chosen.input}.svg")
        plot.draw(drawing, chosen.input, kept)
        report.write(PAGE, chosen.input, f"![Times better than each peer]({drawing.name})\n\n{report.section(kept)}")


def present(names: str | None, results: Results) -> list[Peer]:
    """Return the peers that can be measured; note why the others cannot."""
    wanted = [peer for peer in PEERS if not names or peer.name in names.split(",")]
    results.notes = {peer.title: why for peer in wanted if (why := peer.missing())}
    for title, why in results.notes.items():
        print(f"{title}: {why}", file=sys.stderr)
    return [peer for peer in wanted if not peer.missing()]


def make_stage(work: Path, chosen: argparse.Namespace) -> Stage:
    """Return the input and its changing copy, both in the page cache."""
    tree = INPUTS[chosen.input](BASE / "trees", chosen.rootfs)
    changing = trees.made(BASE / f"trees/{chosen.input}-changing", lambda path: trees.copy_tree(tree, path))
    for one in (tree, changing):
        trees.warm(one)
    files = [path.relative_to(tree) for path in trees.regular_files(tree)]
    return Stage(tree, changing, trees.large(BASE / "trees", chosen.rootfs), work, files)


def facts(peers: Sequence[Peer], stage: Stage, chosen: argparse.Namespace) -> dict[str, str]:
    """Return what belongs to the figures."""
    size = sum((stage.tree / name).stat().st_size for name in stage.files)
    kind = "ext4 or what else holds build/peers" if chosen.disk else "tmpfs"
    return {
        "machine": f"{machine()}, {platform.libc_ver()[1]} libc, {os.sysconf('SC_PHYS_PAGES') * 4096 >> 30} GiB",
        "tree": f"{len(stage.files):,} files with content, {size / 1e6:,.0f} MB; stores on {kind}",
        "rounds": f"{chosen.rounds}, fewer where a table says so; {time.strftime('%Y-%m-%d', time.gmtime())}",
        "programs": "; ".join(f"{peer.title}: {peer.version()}" for peer in peers),
    }


def measure_scaling(work: Path, chosen: argparse.Namespace) -> None:
    """Measure curves: of ours, or of the peers asked for."""
    peers = [BY_NAME[name] for name in (chosen.peers or "ours").split(",")]
    curves = scaling.scaling(work, peers, small=chosen.small)
    if chosen.save:
        drawing = PAGE.with_name("performance-scaling.svg")
        plot.draw_curves(drawing, curves)
        report.write(PAGE, "scaling", f"![Curves]({drawing.name})\n\n{report.curve_tables(curves)}")


if __name__ == "__main__":
    main()
