"""Trees in tables, as tests look at them."""

from __future__ import annotations

from typing import NamedTuple

from puzzlefs.records import ENTRY, INODE, XATTR, Kind
from puzzlefs.rows import InodeRecord, Vector


class Found(NamedTuple):
    """An inode at a path."""

    inode: InodeRecord
    target: bytes
    xattrs: list[tuple[bytes, bytes]]


def tree_of(vector: tuple[bytes, bytes, bytes, bytes, bytes]) -> dict[bytes, Found]:
    """Return what a vector says of every path, depth first; the root is b"", whiteouts have their paths too."""
    tables = Vector(*vector)
    inodes = {row[0]: InodeRecord(*row) for row in INODE.iter_unpack(tables.inodes)}
    found: dict[bytes, Found] = {}

    def text(offset: int, length: int) -> bytes:
        return tables.heap[offset : offset + length]

    def visit(path: bytes, inode: InodeRecord) -> None:
        xattrs = list(XATTR.iter_unpack(tables.xattrs))[inode.xattr_first : inode.xattr_first + inode.xattr_count]
        pairs = [(text(row[0], row[2]), text(row[1], row[3])) for row in xattrs]
        found[path] = Found(inode, text(inode.link_offset, inode.link_length), pairs)
        if inode.kind == Kind.DIR:
            for row in range(inode.first, inode.first + inode.amount):
                ino, offset, length, _ = ENTRY.unpack_from(tables.entries, row * ENTRY.size)
                visit((path + b"/" if path else b"") + text(offset, length), inodes[ino])

    visit(b"", inodes[1])
    return found
