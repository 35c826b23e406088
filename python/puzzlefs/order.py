"""The order of a build's files in its stream, and where packs must not go on.

Files that change together should lie together: then a change touches few packs. The inodes' numbers, and all
that a reader sees, do not depend on it.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Container, Iterator, Sequence
from enum import StrEnum
from itertools import accumulate, groupby
from typing import NamedTuple

from puzzlefs.constants import GROUP_SIZE_MIN
from puzzlefs.packages import Owners
from puzzlefs.records import CHUNK, SOURCE


class Order(StrEnum):
    """PATH keeps the order of the tree; PACKAGE puts the files of each installed package together."""

    PATH = "path"
    PACKAGE = "package"


class Arrangement(NamedTuple):
    """The files of a tree in the order of its stream.

    files   numbers in the order of the tree
    groups  places in `files`, ascending, at which the stream is cut and a pack begins
    """

    files: array[int]
    groups: array[int]

    def paths(self, paths: bytes) -> bytes:
        """Return zero-terminated paths of the tree's files in stream order."""
        every = paths.split(b"\0")
        return b"".join(every[number] + b"\0" for number in self.files)

    def sources(self, sources: bytes) -> bytes:
        """Return `records.SOURCE` rows of the tree's files in stream order."""
        return b"".join(sources[number * SOURCE.size : (number + 1) * SOURCE.size] for number in self.files)

    def restored(self, chunks: bytes, counts: bytes) -> tuple[bytes, bytes]:
        """Return the `records.CHUNK` rows and the counts of files in stream order in the order of the tree."""
        found = array("I", counts)
        ends = [*accumulate(found, initial=0)]
        places = array("I", bytes(counts))
        for place, number in enumerate(self.files):
            places[number] = place
        rows = (chunks[ends[place] * CHUNK.size : ends[place + 1] * CHUNK.size] for place in places)
        return b"".join(rows), array("I", (found[place] for place in places)).tobytes()


class _Key(NamedTuple):
    """What files lie together by: those read first, then packages by name, then files of none."""

    is_later: bool
    has_no_owner: bool = False
    owner: bytes = b""


def arrange(order: Order, first: Sequence[bytes], root: bytes, paths: bytes, sources: bytes) -> Arrangement | None:
    """Arrange the files of the tree below `root`, given as `StreamWriter.run` takes them.

    first  paths of files that come first, in this order: those that a program reads when it starts

    The files of `first`, and each package of at least `GROUP_SIZE_MIN` bytes, are groups of their own; smaller
    packages are groups with their neighbours. That rule looks no further, so a changed package leaves the
    packs of others as they are. None where the order is that of the tree. Raises `SourceError` where what
    the tree tells of packages cannot be read.
    """
    owners = Owners(root) if order is Order.PACKAGE else None
    if not first and (owners is None or not owners.may_own(paths)):
        return None
    names = paths.split(b"\0")[:-1]
    ranks = {path: rank for rank, path in reversed([*enumerate(first)])}
    keys = [_key(name, ranks, owners) for name in names]
    if not first and len(set(keys)) <= 1:
        return None
    sizes = [row[0] for row in SOURCE.iter_unpack(sources)]
    places = [ranks.get(name, number) for number, name in enumerate(names)]
    files = array("I", sorted(range(len(names)), key=lambda number: (keys[number], places[number])))
    return Arrangement(files, array("I", _group_starts(files, keys.__getitem__, sizes)))


def _key(name: bytes, ranks: Container[bytes], owners: Owners | None) -> _Key:
    if name in ranks:
        return _Key(is_later=False)
    owner = owners.of(name) if owners else b""
    return _Key(True, not owner, owner)


def _group_starts(files: Sequence[int], key: Callable[[int], _Key], sizes: Sequence[int]) -> Iterator[int]:
    """Yield where a group begins that is read first or large, and where one has ended."""
    place, after_large = 0, False
    for known, run in groupby(files, key):
        numbers = list(run)
        is_large = not known.is_later or sum(sizes[number] for number in numbers) >= GROUP_SIZE_MIN
        if place and (is_large or after_large):
            yield place
        place, after_large = place + len(numbers), is_large
