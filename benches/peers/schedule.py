"""Who is measured when: in turn, round after round, and only those who read right."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterable, Sequence

from benches.peers.engine import Rates
from benches.peers.mounts import mounted
from benches.peers.peer import Peer
from benches.peers.process import reap
from benches.peers.results import Results
from benches.peers.scenarios import SCENARIOS, Scenario, Stage, compare, extract, fio

# A peer that has taken as many seconds for a scenario of an input gets no further round of it.
PATIENCE = {"debian": 20.0, "duplicates": 120.0}
ENGINE_ROUNDS = 3


def chosen(names: Iterable[str]) -> list[Scenario]:
    """Return the scenarios that measure any of these rows."""
    wanted = set(names)
    return [scenario for scenario in SCENARIOS if wanted & {row.name for row in scenario.rows}]


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
    place = stage.image(peer, raw=raw)
    place.mkdir()
    peer.build(stage.tree, place, raw=raw)
    wanted = {scenario.run for scenario in reading}
    if fio in wanted:
        stage.large_image(peer).mkdir()
        peer.build(stage.large, stage.large_image(peer), raw=raw)
    if peer.mounts and wanted - {extract}:
        with mounted(peer, place) as (mountpoint, _):
            compare(stage.tree, mountpoint)


def measure(
    stage: Stage, peers: Sequence[Peer], scenarios: Sequence[Scenario], rounds: int, patience: float, results: Results
) -> None:
    """Measure every scenario: all peers in turn, so that what else the machine does meets all alike."""
    for scenario in scenarios:
        able = [peer for peer in peers if scenario.able(peer)]
        taken = dict.fromkeys((peer.name for peer in able), 0.0)
        for number in range(min(rounds, scenario.rounds)):
            stage.round = number
            for peer in able:
                failed = peer.name in results.failed.get(scenario.rows[0].name, {})
                if not failed and taken[peer.name] < patience:
                    taken[peer.name] += _measure(stage, peer, scenario, results)


def _measure(stage: Stage, peer: Peer, scenario: Scenario, results: Results) -> float:
    print(f"round {stage.round + 1}: {scenario.rows[0].name}, {peer.name}", end="", flush=True)
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
        results.failed.setdefault(row.name, {})[peer.name] = " ".join(why.split())


def measure_engine(engine: Callable[[int], Rates], rounds: int, results: Results) -> None:
    """Measure the engine's own rows."""
    for number in range(min(rounds, ENGINE_ROUNDS)):
        print(f"round {number + 1}: engine", flush=True)
        try:
            rates = engine(number)
        except (OSError, subprocess.CalledProcessError) as error:
            results.notes["the engine"] = str(error)
            return
        for row, columns in rates.items():
            for column, rate in columns.items():
                results.add(row, column, rate)
