"""Rows of `records` and tables of them, by the names of their fields: what building an image works with."""

from __future__ import annotations

from typing import NamedTuple


class Vector(NamedTuple):
    """The five tables of one InodeVector, inodes ascending by number."""

    inodes: bytes
    entries: bytes
    chunks: bytes
    xattrs: bytes
    heap: bytes


class InodeRecord(NamedTuple):
    """One row of `Vector.inodes`, a `records.INODE`."""

    ino: int
    kind: int
    permissions: int
    uid: int
    gid: int
    mtime_nsec: int
    mtime_sec: int
    first: int
    amount: int
    xattr_first: int
    xattr_count: int
    flags: int
    link_offset: int
    link_length: int
    reserved: int


class BlobRecord(NamedTuple):
    """One row of the build engine's blob table, a `records.BLOB`."""

    digest: bytes
    verity: bytes
    size: int
    raw_size: int
    flags: int
    reserved: int
