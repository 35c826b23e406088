"""What a scan leaves for the next one of the same tree: its *snapshot*.

`PZSCAN01`, SHA-256 of the rules, the root as an entry without a name, u32 number of directories; then
each in order of the visit: u32 length of its path, the path, u32 number of entries, and these by name.
An entry is its identity (16 bytes), u8 flags, u8 length of its name, the name; with `_LINK` u16 length of a
target and the target; with `_XATTRS` u16 number of attributes, and each: u8 length of the key, u32
length of the value, key, value.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from hashlib import sha256
from struct import pack
from typing import NamedTuple

from puzzlefs.rows import ScanRules

from .source import wrapped
from .trace import UNKNOWN, is_evidence

_MAGIC = b"PZSCAN01"
# The inode's other properties stand here, not at another of its names.
_HERE, _LINK, _XATTRS = 1, 2, 4
_ENTRY_LIMIT = 1 << 18


class Properties(NamedTuple):
    """What lstat does not say of an inode."""

    link: bytes
    xattrs: list[tuple[bytes, bytes]]


class Known(NamedTuple):
    """An entry; its properties are None where they stand at another name of the inode."""

    identity: bytes
    name: bytes
    properties: Properties | None


class Snapshot(NamedTuple):
    """The snapshot of a tree: SHA-256 of its rules, the root, each directory's entries by its path."""

    rules: bytes
    root: Known
    directories: dict[bytes, list[Known]]


def identity(status: os.stat_result, horizon: int) -> bytes:
    """Return what names all that the system said of an inode: a changed one has another.

    The system sets the time of change whenever content, attributes, or a directory's entries change.
    But it is no evidence from `horizon` on (`is_evidence`).
    """
    changed = wrapped(status.st_ctime_ns)
    if not is_evidence(changed, horizon):
        return UNKNOWN
    numbers = status.st_dev, status.st_ino, status.st_size ^ status.st_rdev, wrapped(status.st_mtime_ns), changed
    return sha256(pack("<QQQqqIII", *numbers, status.st_mode, status.st_uid, status.st_gid)).digest()[:16]


def rules_digest(rules: ScanRules, mounts: Sequence[bytes]) -> bytes:
    """Return what names the rules by which entries and attributes are taken, and where something is mounted."""
    hasher = sha256()
    for texts in (rules.exclude, rules.keep, rules.drop, mounts):
        hasher.update(pack("<I", len(texts)))
        for text in texts:
            hasher.update(pack("<I", len(text)) + text)
    hasher.update(bytes([rules.sort]))
    return hasher.digest()


def read_snapshot(content: bytes) -> Snapshot | None:
    """Read a snapshot; None for anything else."""
    try:
        return _Reader(content).snapshot()
    except ValueError:
        return None


class _Reader:
    """Reads from the start on; raises `ValueError` where something is not there, or not as it should be."""

    def __init__(self, content: bytes) -> None:
        self._content, self._at = content, 0

    def snapshot(self) -> Snapshot:
        if self._take(len(_MAGIC)) != _MAGIC:
            raise ValueError("no snapshot")
        rules, root, directories = self._take(32), self._entry(), {}
        for _ in range(self._number(4)):
            path = self._take(self._number(4))
            directories[path] = [self._entry() for _ in range(self._number(4))]
            _check_names([entry.name for entry in directories[path]])
        if self._at != len(self._content):
            raise ValueError("bytes behind the end")
        return Snapshot(rules, root, directories)

    def _take(self, count: int) -> bytes:
        taken = self._content[self._at : self._at + count]
        if len(taken) != count:
            raise ValueError("cut short")
        self._at += count
        return taken

    def _number(self, width: int) -> int:
        return int.from_bytes(self._take(width), "little")

    def _entry(self) -> Known:
        named, flags = self._take(len(UNKNOWN)), self._number(1)
        name = self._take(self._number(1))
        link = self._take(self._number(2)) if flags & _LINK else b""
        xattrs = [self._xattr() for _ in range(self._number(2))] if flags & _XATTRS else []
        return Known(named, name, Properties(link, xattrs) if flags & _HERE else None)

    def _xattr(self) -> tuple[bytes, bytes]:
        key, value = self._number(1), self._number(4)
        return self._take(key), self._take(value)


def _check_names(names: list[bytes]) -> None:
    """Raise `ValueError` unless the names are distinct, in order, and such as a directory has."""
    bad = any(name in (b"", b".", b"..") or b"/" in name or b"\0" in name for name in names)
    if bad or names != sorted(set(names)):
        raise ValueError("not the names of a directory")


class SnapshotWriter:
    """Writes a snapshot while a tree is scanned."""

    def __init__(self, rules: bytes) -> None:
        self._head = _MAGIC + rules
        self._entries: list[bytes] = []
        self._directories: list[tuple[bytes, int]] = []

    def directory(self, path: bytes) -> None:
        """Begin a directory's entries; what comes before is the root."""
        self._directories.append((path, len(self._entries)))

    def entry(self, known: Known) -> None:
        """Add an entry."""
        if len(self._entries) <= _ENTRY_LIMIT:
            self._entries.append(_packed(known))

    def finish(self) -> bytes:
        """Return the snapshot, empty where there would be too much in it."""
        if len(self._entries) > _ENTRY_LIMIT:
            return b""
        pieces = [self._head, *self._entries[:1], pack("<I", len(self._directories))]
        ends = [start for _, start in self._directories[1:]] + [len(self._entries)]
        for (path, start), end in zip(self._directories, ends, strict=True):
            pieces += [pack("<I", len(path)), path, pack("<I", end - start), *self._entries[start:end]]
        return b"".join(pieces)


def _packed(known: Known) -> bytes:
    properties = known.properties
    if properties is None:
        return known.identity + bytes([0, len(known.name)]) + known.name
    link, xattrs = properties
    flags = _HERE | (_LINK if link else 0) | (_XATTRS if xattrs else 0)
    pieces = [known.identity, bytes([flags, len(known.name)]), known.name]
    if link:
        pieces += [pack("<H", len(link)), link]
    if xattrs:
        pieces.append(pack("<H", len(xattrs)))
    pieces += [pack("<BI", len(key), len(value)) + key + value for key, value in xattrs]
    return b"".join(pieces)
