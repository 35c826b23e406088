"""The order of a build's files in its stream, and where packs must not go on.

Files that change together should lie together: then a change touches few packs. The inodes' numbers, and all
that a reader sees, do not depend on it.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from enum import StrEnum
from itertools import accumulate, chain, pairwise
from struct import Struct
from typing import NamedTuple

from puzzlefs.constants import GROUP_SIZE_MIN
from puzzlefs.packages import Owners
from puzzlefs.records import CHUNK, SOURCE

# A row as it is, and its first field, the size of the file.
_SOURCE = Struct(f"{SOURCE.size}s")
_SIZE = Struct(f"<Q{SOURCE.size - 8}x")


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
        return b"\0".join([*map(every.__getitem__, self.files), b""])

    def sources(self, sources: bytes) -> bytes:
        """Return `records.SOURCE` rows of the tree's files in stream order."""
        every = [*_SOURCE.iter_unpack(sources)]
        return b"".join(chain.from_iterable(map(every.__getitem__, self.files)))

    def restored(self, chunks: bytes, counts: bytes) -> tuple[bytes, bytes]:
        """Return the `records.CHUNK` rows and the counts of files in stream order in the order of the tree."""
        found = array("I", counts)
        ends = [*accumulate(found, initial=0)]
        places = array("I", bytes(counts))
        for place, number in enumerate(self.files):
            places[number] = place
        rows = [chunks[start * CHUNK.size : end * CHUNK.size] for start, end in pairwise(ends)]
        return b"".join(map(rows.__getitem__, places)), array("I", map(found.__getitem__, places)).tobytes()


def content_size(sources: bytes) -> int:
    """Return the bytes in all files of `records.SOURCE` rows."""
    return sum(size for (size,) in _SIZE.iter_unpack(sources))


def arrange(owners: Owners | None, first: Sequence[bytes], paths: bytes, sources: bytes) -> Arrangement | None:
    """Arrange the files of a tree, given as `StreamWriter.run` takes them.

    owners  None to keep the order of the tree, but for `first`
    first   paths of files that come first, in this order: those that a program reads when it starts

    The files of `first`, and each package of at least `GROUP_SIZE_MIN` bytes, are groups of their own; smaller
    packages are groups with their neighbours. That rule looks no further, so a changed package leaves the
    packs of others as they are. None where the order is that of the tree.
    """
    if not first and (owners is None or not owners.may_own(paths)):
        return None
    names = paths.split(b"\0")[:-1]
    sizes = [size for (size,) in _SIZE.iter_unpack(sources)]
    early = _early(names, first)
    packages: dict[bytes, list[int]] = {}
    for number, name in enumerate(names):
        if number not in early:
            packages.setdefault(owners.of(name) if owners else b"", []).append(number)
    if not first and len(packages) <= 1:
        return None
    rest = packages.pop(b"", [])
    others = [*(packages[owner] for owner in sorted(packages)), rest]
    large = [sum(sizes[number] for number in numbers) >= GROUP_SIZE_MIN for numbers in others]
    runs = [run for run in [([*early], True), *zip(others, large, strict=True)] if run[0]]
    return Arrangement(array("I", chain.from_iterable(run[0] for run in runs)), array("I", _group_starts(runs)))


def _early(names: Sequence[bytes], first: Sequence[bytes]) -> dict[int, None]:
    """Return the numbers of the files that come first, in their order."""
    if not first:
        return {}
    numbers = {name: number for number, name in enumerate(names)}
    return {numbers[path]: None for path in first if path in numbers}


def _group_starts(runs: Sequence[tuple[Sequence[int], bool]]) -> Iterator[int]:
    """Yield where a group begins that is one by itself, and where one has ended."""
    place, after = 0, False
    for numbers, is_group in runs:
        if place and (is_group or after):
            yield place
        place, after = place + len(numbers), is_group
