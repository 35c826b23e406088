"""A directory tree as the tables of one layer, on its way into an image."""

from __future__ import annotations

from array import array
from collections.abc import Sequence

from puzzlefs.records import CHUNK, ENTRY, INODE, XATTR, Kind
from puzzlefs.rows import Vector

from .delta import changed_inodes, number, packed, whole_tree
from .encode import encode_rootfs
from .index import Index
from .tables import inode_records, require


class Tree:
    """A tree in tables; `puzzlefs._native.Tree` says what is promised."""

    def __init__(self, vector: Vector) -> None:
        tables = Vector(*vector)
        for table, layout in zip(tables, (INODE, ENTRY, CHUNK, XATTR), strict=False):
            require(len(table) % layout.size == 0, "a table does not hold whole records")
        self._vector: Vector | None = tables

    @property
    def inode_count(self) -> int:
        return len(self._tables().inodes) // INODE.size

    def set_chunks(self, chunks: bytes, counts: bytes, digests: bytes) -> None:
        vector = self._tables()
        for table, size in ((chunks, CHUNK.size), (counts, 4), (digests, 4)):
            require(len(table) % size == 0, "a table does not hold whole records")
        rows = array("I", digests)
        placed = bytearray()
        for blob, *part in CHUNK.iter_unpack(chunks):
            require(blob < len(rows), "a chunk names no blob")
            placed += CHUNK.pack(rows[blob], *part)
        inodes = list(inode_records(vector))
        files = [row for row, inode in enumerate(inodes) if inode.kind == Kind.FILE]
        amounts = array("I", counts)
        fitting = len(files) == len(amounts) and sum(amounts) == len(chunks) // CHUNK.size
        require(fitting, "chunks and files differ in number")
        first = 0
        for row, amount in zip(files, amounts, strict=True):
            inodes[row] = inodes[row]._replace(first=first, amount=amount)
            first += amount
        self._vector = vector._replace(inodes=packed(inodes), chunks=bytes(placed))

    def rebase(self, base: Index, whole: bool) -> None:
        vector = self._tables()
        numbering = number(vector, base)
        vector = numbering.applied(vector)
        self._vector = whole_tree(vector, numbering) if whole else changed_inodes(vector, base, numbering)

    def vector(self) -> tuple[bytes, bytes, bytes, bytes, bytes]:
        return self._tables()

    def encode(self, digests: bytes, verity: bytes, below: Sequence[Vector]) -> bytes:
        vector = self._tables()
        self._vector = None
        return encode_rootfs(digests, verity, [vector, *below] if vector.inodes else below)

    def _tables(self) -> Vector:
        if self._vector is None:
            raise RuntimeError("a tree is encoded once")
        return self._vector
