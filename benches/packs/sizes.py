"""Successive states built one after another: bytes that each adds, blobs, manifests, seconds."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from benches.packs.candidates import Images, manifest
from benches.peer import Peer
from benches.process import settle

Growth = dict[str, list[float]]


def build_all(peer: Peer, trees: Sequence[Path], work: Path) -> Growth:
    """Build each tree; return for each the bytes added, seconds, and of ours the blobs and manifests.

    bytes     that the store has gained; a format without a store is a file for each tree
    seconds   of the build, the first one with nothing known
    store     blobs in the store afterwards
    blobs     that the image consists of
    manifest  bytes of its manifest
    """
    growth: Growth = {"bytes": [], "seconds": []}
    place = work / "store"
    place.mkdir(parents=True)
    try:
        for tree in trees:
            before = peer.stored(place) if peer.incremental and any(place.iterdir()) else 0
            settle()
            usage = peer.build(tree, place, raw=False)
            growth["bytes"].append(peer.stored(place) - before)
            growth["seconds"].append(usage.seconds)
            if isinstance(peer, Images):
                note_blobs(growth, place)
            if not peer.incremental:
                empty(place)
    finally:
        shutil.rmtree(work)
    return growth


def note_blobs(growth: Growth, place: Path) -> None:
    """Add what is told of an image of ours."""
    size, blobs = manifest(place)
    growth.setdefault("manifest", []).append(size)
    growth.setdefault("blobs", []).append(blobs)
    growth.setdefault("store", []).append(len(list((place / "oci/blobs/sha256").iterdir())))


def empty(place: Path) -> None:
    """Remove an image, so that the next one is new."""
    shutil.rmtree(place)
    place.mkdir()
