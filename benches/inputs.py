"""What is compared: which trees, with whom, in which scenarios, how patiently."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from benches import trees
from benches.known import BOTH, LARGE, PEERS, QUICK
from benches.peer import Peer
from benches.scenarios import SCENARIOS, Scenario


class Input(NamedTuple):
    """A tree and what is measured on it.

    rounds    how often, unless the command line says
    patience  a peer that has taken as many seconds for a scenario gets no further round of it
    """

    name: str
    make: Callable[[Path, Path | None], Path]
    peers: Sequence[Peer]
    scenarios: Sequence[Scenario]
    rounds: int
    patience: float


def scenarios(*names: str) -> list[Scenario]:
    """Return the scenarios with these names."""
    return [scenario for scenario in SCENARIOS if scenario.name in names]


# The large file of fio is the same whatever the tree.
OF_A_TREE = [scenario for scenario in SCENARIOS if not scenario.name.startswith("fio")]
COMMANDS = scenarios("build", "build-raw", "mount", "tar", "random", "extract")

INPUTS = {
    chosen.name: chosen
    for chosen in (
        Input("debian", trees.debian, PEERS, SCENARIOS, rounds=5, patience=15),
        Input("duplicates", trees.duplicates, LARGE, OF_A_TREE, rounds=3, patience=30),
        Input("fallback", trees.debian, BOTH, COMMANDS, rounds=3, patience=60),
        Input("quick", trees.small, QUICK, scenarios("build", "mount", "tar", "random"), rounds=2, patience=8),
    )
}
# What has no tree: the engine's own rows, the functions of both backends, and curves.
OTHERS = ("engine", "backends", "scaling")
