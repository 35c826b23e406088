"""Measure packs on a series of states of a Debian system: `python -m benches.packs`, or `make bench-packs`.

Needs root. Figures are kept in build/packs/results.json, so that parts can be measured at different times. docs/packs.md
and its pictures are written of what is kept, at the end of a run of all candidates, or by `--report`.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from benches.facts import machine, revision
from benches.mounts import memory_filesystem, unmount_below
from benches.packs import document, reads, sizes, states, unique
from benches.packs.candidates import CANDIDATES
from benches.packs.kept import Kept
from benches.peer import Peer
from benches.process import ROOT, adopt_orphans, reap
from benches.trees import warm

BASE = ROOT / "build/packs"
PARTS = ("series", "branches", "reads", "unique")


def options() -> argparse.Namespace:
    """Return what the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m benches.packs", description=__doc__)
    parser.add_argument("--parts", metavar="NAME,...", default=",".join(PARTS), help=f"of {', '.join(PARTS)}")
    parser.add_argument("--candidates", metavar="NAME,...", help=f"of {', '.join(CANDIDATES)}")
    parser.add_argument("--rounds", type=int, default=3, help="of reads")
    parser.add_argument("--trees", type=Path, default=BASE / "trees", help="where the states are, or will be")
    parser.add_argument("--results", type=Path, default=BASE / "results.json", help="where figures are kept")
    parser.add_argument("--steps", metavar="NAME,...", default=",".join(unique.STEPS), help="of unique")
    parser.add_argument("--bytes", type=int, default=unique.SIZE, help="of unique")
    parser.add_argument("--report", action="store_true", help="measure nothing, write docs/packs.md")
    chosen = parser.parse_args()
    choices = ((chosen.parts, PARTS), (chosen.candidates, CANDIDATES), (chosen.steps, unique.STEPS))
    for names, known in choices:
        if unknown := set(names.split(",") if names else ()) - set(known):
            parser.error(f"unknown: {', '.join(sorted(unknown))}")
    return chosen


def main() -> None:
    """Measure, then write."""
    chosen = options()
    kept = Kept(chosen.results)
    if not chosen.report:
        run(chosen, kept)
    if chosen.report or not chosen.candidates:
        document.write(kept)


def run(chosen: argparse.Namespace, kept: Kept) -> None:
    """Measure what the command line asks for."""
    if os.geteuid() != 0:
        sys.exit("mounting needs root")
    signal.signal(signal.SIGTERM, stop)
    adopt_orphans()
    work = BASE / "work"
    unmount_below(BASE)
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    peers = [CANDIDATES[name] for name in chosen.candidates.split(",")] if chosen.candidates else [*CANDIDATES.values()]
    kept.facts = {"machine": machine(), "date": time.strftime("%Y-%m-%d", time.gmtime())}
    kept.now = [revision(), time.strftime("%Y-%m-%d %H:%M", time.gmtime())]
    try:
        with memory_filesystem(work):
            measure(chosen, peers, work, kept)
    finally:
        reap()
        shutil.rmtree(work, ignore_errors=True)


def stop(_number: int, _frame: FrameType | None) -> None:
    """Leave by an exception, so that everything is unmounted."""
    raise SystemExit(143)


def measure(chosen: argparse.Namespace, peers: Sequence[Peer], work: Path, kept: Kept) -> None:
    """Measure the parts asked for, candidate after candidate."""
    parts = chosen.parts.split(",")
    topics = {"series": [state.name for state in states.SERIES], "branches": [states.BRANCHES[0].after]}
    topics["branches"] += [state.name for state in states.BRANCHES]
    for topic, names in topics.items():
        if topic in parts:
            trees = [states.tree(chosen.trees, name) for name in names]
            for peer in peers:
                growth = sizes.build_all(peer, trees, work / "sizes")
                print(f"{topic}, {peer.title}: {sum(growth['bytes']) / 1e6:,.1f} MB", flush=True)
                kept.put(topic, peer.name, growth)
    if "reads" in parts:
        measure_reads(chosen, peers, work, kept)
    if "unique" in parts:
        unique.measure(unique.Place(BASE / "unique", chosen.bytes), chosen.steps.split(","), kept)


def measure_reads(chosen: argparse.Namespace, peers: Sequence[Peer], work: Path, kept: Kept) -> None:
    """Measure reads of the first state: all candidates in turn, so that what else happens meets all alike."""
    where = reads.stage(states.tree(chosen.trees, states.SERIES[0].name), work)
    warm(where.tree)
    for peer in peers:
        kept.put("reads", peer.name, {})
    for number in range(chosen.rounds):
        where.round = number
        for peer in peers:
            values = reads.measure(peer, where)
            print(f"reads, {peer.title}: {values}", flush=True)
            kept.add("reads", peer.name, values)


if __name__ == "__main__":
    main()
