"""The order of a build's files in its stream, and where packs must not go on.

Files that change together should lie together: then a change touches few packs. The inodes' numbers, and all
that a reader sees, do not depend on it.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator, Sequence
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


def by_package(root: bytes, paths: bytes, sources: bytes) -> Arrangement | None:
    """Arrange files by the package that they belong to, and by path within it; files of none come last.

    None where the tree knows no packages. A package of at least `GROUP_SIZE_MIN` bytes is a group of its
    own, smaller ones are groups with their neighbours: a rule that looks no further than that, so that a
    changed package leaves the packs of others as they are.
    """
    owners = Owners(root)
    keys = [(not owner, owner) for owner in map(owners.of, paths.split(b"\0")[:-1])]
    if all(unowned for unowned, _ in keys):
        return None
    sizes = [row[0] for row in SOURCE.iter_unpack(sources)]
    files = array("I", sorted(range(len(keys)), key=keys.__getitem__))
    return Arrangement(files, array("I", _group_starts(files, keys.__getitem__, sizes)))


def _group_starts(files: Sequence[int], key: Callable[[int], object], sizes: Sequence[int]) -> Iterator[int]:
    """Yield where a large run of files with one key begins, and where one has ended."""
    place, after_large = 0, False
    for _, run in groupby(files, key):
        numbers = list(run)
        is_large = sum(sizes[number] for number in numbers) >= GROUP_SIZE_MIN
        if place and (is_large or after_large):
            yield place
        place, after_large = place + len(numbers), is_large
