"""Inodes made in Python -> the tables of one vector, and inodes of an image: for trees that are no directory."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from puzzlefs import records
from puzzlefs._native import Index
from puzzlefs.digests import DigestTable
from puzzlefs.records import Kind
from puzzlefs.rows import Vector

Chunk = tuple[bytes, int, int, int]
"""(digest of the blob, flags, offset in the uncompressed blob, length)."""


class Inode(NamedTuple):
    """All that an image says of an inode; two are equal where an image need say it once."""

    ino: int
    kind: Kind
    permissions: int = 0
    uid: int = 0
    gid: int = 0
    mtime: tuple[int, int] = (0, 0)
    device: tuple[int, int] = (0, 0)
    entries: tuple[tuple[bytes, int], ...] = ()
    chunks: tuple[Chunk, ...] = ()
    xattrs: tuple[tuple[bytes, bytes], ...] = ()
    target: bytes = b""


class _VectorWriter:
    def __init__(self, digests: DigestTable) -> None:
        self.digests = digests
        self.inodes, self.entries, self.chunks = bytearray(), bytearray(), bytearray()
        self.xattrs, self.heap = bytearray(), bytearray()

    def add(self, inode: Inode) -> None:
        first, count = inode.device
        if inode.kind == Kind.DIR:
            first, count = len(self.entries) // records.ENTRY.size, len(inode.entries)
            for name, ino in inode.entries:
                self.entries += records.ENTRY.pack(ino, self.keep(name), len(name), 0)
        elif inode.kind == Kind.FILE:
            first, count = len(self.chunks) // records.CHUNK.size, len(inode.chunks)
            for digest, flags, offset, length in inode.chunks:
                self.chunks += records.CHUNK.pack(self.digests.row(digest), flags, offset, length)
        xattr_first = len(self.xattrs) // records.XATTR.size
        for key, value in inode.xattrs:
            self.xattrs += records.XATTR.pack(self.keep(key), self.keep(value), len(key), len(value))
        additional = records.HAS_ADDITIONAL if inode.xattrs or inode.kind == Kind.LNK else 0
        self.inodes += records.INODE.pack(
            inode.ino,
            inode.kind,
            inode.permissions,
            inode.uid,
            inode.gid,
            inode.mtime[1],
            inode.mtime[0],
            first,
            count,
            xattr_first if inode.xattrs else 0,
            len(inode.xattrs),
            additional,
            self.keep(inode.target),
            len(inode.target),
            0,
        )

    def keep(self, text: bytes) -> int:
        offset = len(self.heap)
        self.heap += text
        return offset

    def vector(self) -> Vector:
        return Vector(bytes(self.inodes), bytes(self.entries), bytes(self.chunks), bytes(self.xattrs), bytes(self.heap))


def write_vector(inodes: Iterable[Inode], digests: DigestTable) -> Vector:
    """Return the tables of inodes given in ascending order; their digests are added to `digests`."""
    writer = _VectorWriter(digests)
    for inode in inodes:
        writer.add(inode)
    return writer.vector()


def read_inode(index: Index, ino: int, digests: Sequence[bytes]) -> Inode:
    """Return an inode of a merged tree; `digests` are those of `index.blobs()`."""
    _, kind, permissions, uid, gid, seconds, nanoseconds, _, _, major, minor = index.stat(ino)
    entries: tuple[tuple[bytes, int], ...] = ()
    chunks: tuple[Chunk, ...] = ()
    if kind == Kind.DIR:
        entries = tuple(index.entries(ino, 0, 1 << 32))
    elif kind == Kind.FILE:
        rows = records.CHUNK.iter_unpack(index.chunks(ino))
        chunks = tuple((digests[row], flags, offset, length) for row, flags, offset, length in rows)
    return Inode(
        ino,
        Kind(kind),
        permissions,
        uid,
        gid,
        (seconds, nanoseconds),
        (major, minor),
        entries,
        chunks,
        tuple(index.xattrs(ino)),
        index.symlink(ino),
    )
