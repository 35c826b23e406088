"""Where measurements happen: trees, kept images, an empty directory for the rest."""

from __future__ import annotations

import random
import shutil
import time
from dataclasses import dataclass, field
from pathlib import Path

from benches import trees
from benches.facts import revision
from benches.peer import Peer
from benches.process import ROOT

BASE = ROOT / "build/bench"
TREES, IMAGES, RESULTS = BASE / "trees", BASE / "images", BASE / "results"
CHANGED = 0.1
# Of 0 to 7, the one whose packages have nearest to a tenth of the files, and of the bytes.
PACKAGES = 6


@dataclass
class Stage:
    """Where an input is measured.

    tree      what the images hold
    changing  a copy of it, of which files are changed between builds
    large     a tree with one large file, "data"
    work      an empty directory for stores and mounts
    images    the directory of the images that are read; they outlast a run
    files     names of the tree's files with content, relative
    round     0 and up; what is chosen at random is the same for all peers in a round
    """

    tree: Path
    changing: Path
    large: Path
    work: Path
    images: Path
    files: list[Path]
    round: int = 0
    edits: int = 0
    edited: float = field(default_factory=time.monotonic)

    @property
    def about(self) -> str:
        """Return what the tree is."""
        size = sum((self.tree / name).stat().st_size for name in self.files)
        return f"{len(self.files):,} files with content, {size / 1e6:,.0f} MB"

    def image(self, peer: Peer, *, raw: bool) -> Path:
        """Return the place of the peer's image of the tree, which is read."""
        return self.images / f"{peer.name}{'-raw' * raw}"

    def large_image(self, peer: Peer) -> Path:
        """Return the place of the peer's image of the large file."""
        return self.images / f"{peer.name}-large"

    def edit(self) -> None:
        """Change a tenth of the files."""
        trees.edit(self.changing, random.Random(self.edits), CHANGED)
        self.edits += 1
        self.edited = time.monotonic()

    def edit_packages(self) -> bool:
        """Change every file of packages that have a tenth of the files, always the same; tell whether there are any."""
        found = trees.edit_packages(self.changing, random.Random(PACKAGES), CHANGED)
        self.edited = time.monotonic()
        return found


def make(tree: Path, work: Path, source: Path | None, *, small: bool) -> Stage:
    """Make the stage of an input, its trees in the page cache."""
    changing = trees.made(TREES / f"{tree.name}-changing", lambda path: trees.copy_tree(tree, path))
    for one in (tree, changing):
        trees.warm(one)
    files = [path.relative_to(tree) for path in trees.regular_files(tree)]
    return Stage(tree.resolve(), changing, large(source, small=small).parent, work, IMAGES / tree.name, files)


def large(source: Path | None, *, small: bool = False) -> Path:
    """Return a file with the content of a tree's files, one after another."""
    make_tree = trees.small if small else trees.debian
    return trees.large(TREES, make_tree(TREES, source)) / "data"


def is_kept(place: Path, peer: Peer) -> bool:
    """Whether an image is there, made by the very program that would make it now."""
    stamp = place / "made by"
    return stamp.exists() and stamp.read_text() == _stamp(peer)


def keep(place: Path, peer: Peer) -> None:
    """Say that an image is whole and reads right."""
    (place / "made by").write_text(_stamp(peer))


def _stamp(peer: Peer) -> str:
    now = revision() if peer.ours else ""
    # What differs from its commit may differ from itself a minute ago.
    return f"{peer.version()} {now}{time.time() if now.endswith('+') else ''}"


def cleared(place: Path) -> Path:
    """Return a place, empty."""
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    return place
