"""The five tables of a vector (`puzzlefs.records`): rows by number, and whether they fit together."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from struct import Struct
from typing import Any

from puzzlefs.records import CHUNK, ENTRY, HAS_ADDITIONAL, INODE, XATTR, Kind
from puzzlefs.rows import InodeRecord, Vector


def check_unsigned(*numbers: int) -> None:
    """Raise `OverflowError` for a number that does not fit 64 bits without sign."""
    if not all(0 <= number < 1 << 64 for number in numbers):
        raise OverflowError("a number does not fit 64 bits without sign")


def rows(table: bytes, layout: Struct, first: int, count: int) -> Iterator[tuple[Any, ...]]:
    """Return `count` rows of a table from row `first`."""
    return layout.iter_unpack(table[first * layout.size : (first + count) * layout.size])


def inode_record(vector: Vector, row: int) -> InodeRecord:
    return InodeRecord._make(INODE.unpack_from(vector.inodes, row * INODE.size))


def inode_records(vector: Vector) -> Iterator[InodeRecord]:
    return map(InodeRecord._make, INODE.iter_unpack(vector.inodes))


def text(vector: Vector, offset: int, length: int) -> bytes:
    """Return a name, key, value or link target from the heap."""
    return vector.heap[offset : offset + length]


def require(holds: bool, rule: str) -> None:
    """Raise `ValueError` with the rule's text unless it holds."""
    if not holds:
        raise ValueError(rule)


def check(vector: Vector, digests: int) -> None:
    """Raise `ValueError` unless the tables of a vector agree with each other and a digest table of that length."""
    for table, layout in (
        (vector.inodes, INODE),
        (vector.entries, ENTRY),
        (vector.chunks, CHUNK),
        (vector.xattrs, XATTR),
    ):
        require(len(table) % layout.size == 0, "a table does not hold whole records")
    numbers = [0]
    for inode in inode_records(vector):
        numbers.append(inode.ino)
        _check_inode(vector, inode)
    require(all(low < high for low, high in pairwise(numbers)), "inode numbers do not ascend")
    require(
        all(row[0] < digests for row in CHUNK.iter_unpack(vector.chunks)),
        "a chunk names a blob outside the digest table",
    )
    ranges = [(row[1], row[2]) for row in ENTRY.iter_unpack(vector.entries)]
    for key, value, key_length, value_length in XATTR.iter_unpack(vector.xattrs):
        ranges += [(key, key_length), (value, value_length)]
    require(all(sum(span) <= len(vector.heap) for span in ranges), "a record points outside the heap")


def _check_inode(vector: Vector, inode: InodeRecord) -> None:
    require(Kind.FIFO <= inode.kind <= Kind.WHT, "unknown inode kind")
    end = inode.first + inode.amount
    if inode.kind == Kind.DIR:
        require(end <= len(vector.entries) // ENTRY.size, "an inode selects rows outside its table")
    if inode.kind == Kind.FILE:
        require(end <= len(vector.chunks) // CHUNK.size, "an inode selects rows outside its table")
    xattr_end = inode.xattr_first + inode.xattr_count
    require(xattr_end <= len(vector.xattrs) // XATTR.size, "an inode selects rows outside its table")
    require(inode.link_offset + inode.link_length <= len(vector.heap), "a record points outside the heap")
    bare = not inode.xattr_count and not inode.link_length
    require(bare or bool(inode.flags & HAS_ADDITIONAL), "attributes or a link target without HAS_ADDITIONAL")
