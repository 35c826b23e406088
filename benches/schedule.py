"""Who is measured when: in turn, round after round, and only those who read right."""

from __future__ import annotations

import time
from collections.abc import Sequence

from benches.mounts import mounted
from benches.peer import Peer
from benches.process import reap
from benches.results import Results
from benches.scenarios import Scenario, compare, fio
from benches.stage import Stage, cleared, is_kept, keep
from benches.trees import warm


def prepare(stage: Stage, peers: Sequence[Peer], scenarios: Sequence[Scenario], results: Results) -> None:
    """Build the images that are read, and compare what each gives with its tree."""
    for peer in peers:
        for raw in (False, True):
            reading = [one for one in scenarios if one.raw == raw and one.reads and one.able(peer)]
            try:
                if reading:
                    print(f"preparing {peer.name}{', raw' * raw}", flush=True)
                    _prepare(stage, peer, reading, raw=raw)
            except Exception as error:
                for scenario in reading:
                    _fail(results, scenario, peer, str(error))
            reap()


def _prepare(stage: Stage, peer: Peer, reading: Sequence[Scenario], *, raw: bool) -> None:
    wanted = {scenario.run for scenario in reading}
    place = stage.image(peer, raw=raw)
    if not is_kept(place, peer):
        peer.build(stage.tree, cleared(place), raw=raw)
        if peer.mounts:
            with mounted(peer, place) as (mountpoint, _):
                compare(stage.tree, mountpoint)
        keep(place, peer)
    warm(place)
    if fio in wanted:
        if not is_kept(stage.large_image(peer), peer):
            peer.build(stage.large, cleared(stage.large_image(peer)), raw=raw)
            keep(stage.large_image(peer), peer)
        warm(stage.large_image(peer))


def measure(
    stage: Stage, peers: Sequence[Peer], scenario: Scenario, rounds: int, patience: float, results: Results
) -> None:
    """Measure a scenario: all peers in turn, so that what else the machine does meets all alike."""
    able = [peer for peer in peers if scenario.able(peer)]
    taken = dict.fromkeys((peer.name for peer in able), 0.0)
    for number in range(min(rounds, scenario.rounds)):
        stage.round = number
        for peer in able:
            failed = peer.name in results.failed.get(scenario.name, {})
            if not failed and taken[peer.name] < patience:
                taken[peer.name] += _measure(stage, peer, scenario, results)


def _measure(stage: Stage, peer: Peer, scenario: Scenario, results: Results) -> float:
    print(f"round {stage.round + 1}: {scenario.name}, {peer.name}", end="", flush=True)
    start = time.monotonic()
    try:
        for name, value in scenario.run(stage, peer, scenario.raw).items():
            results.add(name + "-raw" * scenario.raw, peer.name, value)
    except Exception as error:
        _fail(results, scenario, peer, str(error))
        print(f": {error}", end="")
        reap()
    taken = time.monotonic() - start
    print(f" ({taken:.1f} s)", flush=True)
    return taken


def _fail(results: Results, scenario: Scenario, peer: Peer, why: str) -> None:
    for row in scenario.rows:
        results.fail(row.name, peer.name, why)
