"""Reads of the first state's image from a cold mount: find, everything, 1,000 random files; and its build."""

from __future__ import annotations

import shutil
from pathlib import Path

from benches import scenarios
from benches.peer import Peer
from benches.process import settle
from benches.stage import Stage
from benches.trees import regular_files

WANTED = ("find", "tar", "random")


def stage(tree: Path, work: Path) -> Stage:
    """Return a stage of one tree, which is never changed."""
    return Stage(tree, tree, tree, work, work, [path.relative_to(tree) for path in regular_files(tree)])


def measure(peer: Peer, where: Stage) -> dict[str, float]:
    """Build the image and read it; return seconds."""
    place = where.image(peer, raw=False)
    place.mkdir(parents=True)
    try:
        settle()
        values = {"build": peer.build(where.tree, place, raw=False).seconds}
        if peer.mounts:
            for scenario in (scenarios.walk, scenarios.read, scenarios.read_random):
                values |= scenario(where, peer, False)
    finally:
        shutil.rmtree(place)
    return {what: value for what, value in values.items() if what in ("build", *WANTED)}
