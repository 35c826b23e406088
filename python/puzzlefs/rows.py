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


class ScanRules(NamedTuple):
    """What `scan_tree` takes of a tree, and what it says of it.

    exclude, keep, drop  globs as of `scan.ScanOptions`
    sort                 whether attributes are sorted by name
    times, seconds       a `records.Times`, and the time that it speaks of
    all_root             whether everything belongs to user and group 0
    """

    exclude: list[bytes]
    keep: list[bytes]
    drop: list[bytes]
    sort: bool
    times: int
    seconds: int
    all_root: bool


class BlobRecord(NamedTuple):
    """One row of the build engine's blob table, a `records.BLOB`."""

    digest: bytes
    verity: bytes
    size: int
    raw_size: int
    flags: int
    reserved: int
