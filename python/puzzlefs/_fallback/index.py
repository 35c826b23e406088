"""An image's layers as one tree (docs/format.md, section 9, The tree)."""

from __future__ import annotations

import errno
import os
from bisect import bisect_left
from collections import deque
from collections.abc import Sequence
from typing import Final

from puzzlefs.errors import CorruptImageError
from puzzlefs.records import CHUNK, ENTRY, VERITY, XATTR, Kind
from puzzlefs.rows import InodeRecord, Vector

from .metadata import decode_rootfs
from .owners import Owners, Range
from .tables import check_unsigned, inode_record, inode_records, rows, text

ROOT: Final = 1

Stat = tuple[int, int, int, int, int, int, int, int, int, int, int]


class Index:
    """The merged tree of a rootfs blob; `puzzlefs._native.Index` says what each method promises."""

    def __init__(self, rootfs: bytes, users: Sequence[Range] = (), groups: Sequence[Range] = ()) -> None:
        self._owners = Owners(users, groups)
        _, self._digests, verity, layers = decode_rootfs(rootfs)
        self._layers = [Vector(*layer) for layer in layers]
        self._verity: dict[bytes, bytes] = {}
        for digest, value in VERITY.iter_unpack(verity):
            self._verity.setdefault(digest, value)
        self._where = self._uppermost()
        self._children: dict[int, list[tuple[bytes, int]]] = {}
        self._parents = {ROOT: ROOT}
        self._links = {ROOT: 0}
        self._walk()

    def _uppermost(self) -> dict[int, tuple[int, int]]:
        """Return the (layer, row) that each number means: the first layer that has it, whiteout or not."""
        where: dict[int, tuple[int, int]] = {}
        for layer, vector in enumerate(self._layers):
            for row, inode in enumerate(inode_records(vector)):
                where.setdefault(inode.ino, (layer, row))
        return where

    def _walk(self) -> None:
        """Visit the directories breadth first from the root, and fill the children, parents and links."""
        if ROOT not in self._where or self._record(ROOT).kind != Kind.DIR:
            raise CorruptImageError("rootfs: no root directory")
        waiting = deque([ROOT])
        while waiting:
            directory = waiting.popleft()
            children = self._visible(directory)
            for _, ino in children:
                self._links[ino] = self._links.get(ino, 0) + 1
                if self._record(ino).kind == Kind.DIR:
                    waiting.append(ino)
            children.sort()
            self._children[directory] = children

    def _visible(self, directory: int) -> list[tuple[bytes, int]]:
        """Return a directory's entries in stored order without those that a whiteout hides."""
        found: list[tuple[bytes, int]] = []
        layer, record = self._located(directory)
        for ino, offset, length, _ in rows(layer.entries, ENTRY, record.first, record.amount):
            if ino not in self._where:
                raise CorruptImageError("rootfs: entry of a missing inode")
            kind = self._record(ino).kind
            if kind == Kind.DIR:
                if ino in self._parents:
                    raise CorruptImageError("rootfs: directory with two parents")
                self._parents[ino] = directory
            if kind != Kind.WHT:
                found.append((text(layer, offset, length), ino))
        if len({name for name, _ in found}) < len(found):
            raise CorruptImageError("rootfs: duplicate name")
        return found

    def _record(self, ino: int) -> InodeRecord:
        return self._located(ino)[1]

    def _located(self, ino: int) -> tuple[Vector, InodeRecord]:
        layer, row = self._where[ino]
        return self._layers[layer], inode_record(self._layers[layer], row)

    def _reached(self, ino: int) -> tuple[Vector, InodeRecord]:
        """Return the layer and record of an inode that the root reaches. Raises `KeyError`."""
        check_unsigned(ino)
        if ino not in self._links:
            raise KeyError(ino)
        return self._located(ino)

    def _directory(self, ino: int) -> list[tuple[bytes, int]]:
        """Return a directory's entries by name. Raises `KeyError`, `NotADirectoryError`."""
        if self._reached(ino)[1].kind != Kind.DIR:
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        return self._children[ino]

    @property
    def inode_count(self) -> int:
        return len(self._links)

    @property
    def highest_ino(self) -> int:
        return max(self._where)

    @property
    def content_bytes(self) -> int:
        return sum(self._size(ino) for ino in self._links if self._record(ino).kind == Kind.FILE)

    @property
    def has_xattrs(self) -> bool:
        return any(self._record(ino).xattr_count for ino in self._links)

    def inodes(self) -> list[int]:
        return sorted(self._links)

    def _size(self, ino: int) -> int:
        """Return the bytes of a file's content or a link's target; 0 for other kinds."""
        layer, record = self._located(ino)
        if record.kind == Kind.LNK:
            return record.link_length
        if record.kind == Kind.FILE:
            return sum(row[3] for row in rows(layer.chunks, CHUNK, record.first, record.amount))
        return 0

    def stat(self, ino: int) -> Stat:
        _, record = self._reached(ino)
        links = self._links[ino]
        if record.kind == Kind.DIR:
            links = 2 + sum(self._record(child).kind == Kind.DIR for _, child in self._children[ino])
        device = (record.first, record.amount) if record.kind in (Kind.CHR, Kind.BLK) else (0, 0)
        owner = self._owners.user(record.uid), self._owners.group(record.gid)
        return (
            ino,
            record.kind,
            record.permissions,
            *owner,
            record.mtime_sec,
            record.mtime_nsec,
            self._size(ino),
            links,
            *device,
        )

    def lookup(self, parent: int, name: bytes) -> int:
        entries = self._directory(parent)
        place = bisect_left(entries, (name, 0))
        return entries[place][1] if place < len(entries) and entries[place][0] == name else 0

    def parent(self, ino: int) -> int:
        self._directory(ino)
        return self._parents[ino]

    def entries(self, ino: int, start: int, count: int) -> list[tuple[bytes, int]]:
        check_unsigned(start, count)
        return self._directory(ino)[start : start + count]

    def xattrs(self, ino: int) -> list[tuple[bytes, bytes]]:
        layer, record = self._reached(ino)
        found = rows(layer.xattrs, XATTR, record.xattr_first, record.xattr_count)
        pairs = ((text(layer, row[0], row[2]), text(layer, row[1], row[3])) for row in found)
        return [(key, self._owners.attribute(key, value)) for key, value in pairs]

    def symlink(self, ino: int) -> bytes:
        layer, record = self._reached(ino)
        return text(layer, record.link_offset, record.link_length) if record.kind == Kind.LNK else b""

    def chunks(self, ino: int) -> bytes:
        layer, record = self._reached(ino)
        if record.kind != Kind.FILE:
            return b""
        return layer.chunks[record.first * CHUNK.size : (record.first + record.amount) * CHUNK.size]

    def blobs(self) -> bytes:
        table = [self._digests[start : start + 32] for start in range(0, len(self._digests), 32)]
        return b"".join(VERITY.pack(digest, self._verity.get(digest, bytes(32))) for digest in table)
