"""A directory tree on disk to tables: one `lstat` an entry, and no link followed below the root.

Directories are visited depth first, siblings by name; a visit lists all entries of its directory.
Every entry takes a number, one more name of a known inode too: existing images count so.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import NamedTuple

from puzzlefs.records import ENTRY, HAS_ADDITIONAL, INODE, SOURCE, XATTR, Kind, Times
from puzzlefs.rows import ScanRules, Vector

from .directory import PATH_MAX, Place, reported
from .look import Look, Seen
from .snapshot import Known, Properties, SnapshotWriter, identity, rules_digest
from .source import wrapped
from .tables import require
from .tree import Tree

_KINDS = {
    stat.S_IFIFO: Kind.FIFO,
    stat.S_IFCHR: Kind.CHR,
    stat.S_IFDIR: Kind.DIR,
    stat.S_IFBLK: Kind.BLK,
    stat.S_IFREG: Kind.FILE,
    stat.S_IFLNK: Kind.LNK,
    stat.S_IFSOCK: Kind.SOCK,
}
_NANO = 1_000_000_000


def scan_tree(
    root: bytes, mounts: Sequence[bytes], rules: ScanRules, horizon: int = 0, look: Look | None = None
) -> tuple[Tree, bytes, bytes, list[bytes], bytes]:
    """Read the tree below a directory; `puzzlefs._native.Backend.scan_tree` says what is returned."""
    digest = rules_digest(ScanRules(*rules), mounts)
    if look and not (look.snapshot and look.snapshot.rules == digest):
        look = None
    walk = _Walk(root, frozenset(mounts), ScanRules(*rules), horizon, look, SnapshotWriter(digest))
    walk.run()
    vector = Vector(bytes(walk.inodes), bytes(walk.entries), b"", bytes(walk.xattrs), bytes(walk.heap))
    return Tree(vector), bytes(walk.paths), bytes(walk.sources), walk.crossings, walk.notes.finish()


class _Pending(NamedTuple):
    """A directory that is still to be visited: its row of the inodes, whether its entries are those of the snapshot."""

    row: int
    path: bytes
    is_same: bool


class _Walk:
    def __init__(
        self,
        root: bytes,
        mounts: frozenset[bytes],
        rules: ScanRules,
        horizon: int,
        look: Look | None,
        notes: SnapshotWriter,
    ) -> None:
        require(0 <= rules.times <= Times.EXACTLY, f"{rules.times} is no rule for times")
        self.root, self.mounts, self.rules = root, mounts, rules
        self.horizon, self.look, self.notes = horizon, look, notes
        self.links: dict[tuple[int, int], int] = {}
        self.last = 1
        self.inodes, self.entries, self.xattrs, self.heap = bytearray(), bytearray(), bytearray(), bytearray()
        self.paths, self.sources = bytearray(), bytearray()
        self.crossings: list[bytes] = []

    def run(self) -> None:
        seen = self.look.root if self.look else None
        with reported(b""), Place(self.root, b"") as place:
            status = seen.status if seen else os.fstat(place.directory())
            same = seen.known if seen and seen.is_same else None
            self.add(place, b"", b"", status, Kind.DIR, same)
        pending = [_Pending(0, b"", same is not None)]
        while pending:
            visited = pending.pop()
            if visited.path not in self.mounts:
                pending += reversed(self.visit(visited))

    def visit(self, visited: _Pending) -> list[_Pending]:
        """Add the entries of a directory; return its subdirectories."""
        row, path, _ = visited
        known = self.look.entries.get(path) if self.look else None
        below = []
        first = len(self.entries) // ENTRY.size
        self.notes.directory(path)
        with Place(self.root, path) as place:
            if known is not None and visited.is_same:
                names = list(known)
            else:
                with reported(path):
                    names = sorted(map(os.fsencode, os.listdir(place.directory())))
            for name in names:
                inner = path + b"/" + name if path else name
                if not self.is_excluded(name, inner):
                    with reported(inner):
                        met = self.entry(place, name, inner, known.get(name) if known else None)
                    if met is not None:
                        below.append(met)
        fields = list(INODE.unpack_from(self.inodes, row * INODE.size))
        fields[7:9] = first, len(self.entries) // ENTRY.size - first
        INODE.pack_into(self.inodes, row * INODE.size, *fields)
        return below

    def entry(self, place: Place, name: bytes, path: bytes, seen: Seen | None) -> _Pending | None:
        """Add an entry and, unless it is a further name, its inode; return a directory."""
        status = seen.status if seen else os.stat(name, dir_fd=place.directory(), follow_symlinks=False)
        same = seen.known if seen and seen.is_same else None
        kind = _KINDS[stat.S_IFMT(status.st_mode)]
        if path in self.mounts:
            self.crossings.append(path)
            if kind != Kind.DIR:
                return None
        self.last += 1
        ino = self.last
        if kind != Kind.DIR and status.st_nlink > 1:
            ino = self.links.setdefault((status.st_dev, status.st_ino), ino)
        self.entries += ENTRY.pack(ino, self.keep(name), len(name), 0)
        if ino == self.last:
            self.add(place, name, path, status, kind, same)
        else:
            self.note(name, status, same, None)
        return _Pending(len(self.inodes) // INODE.size - 1, path, same is not None) if kind == Kind.DIR else None

    def add(
        self, place: Place, name: bytes, path: bytes, status: os.stat_result, kind: Kind, same: Known | None
    ) -> None:
        """Add the inode that has the last number; `same` is what the snapshot says of it, if it is as it was."""
        properties = same.properties if same else None
        if properties is None:
            attributes = self.read_xattrs(place, name, path)
            link = os.readlink(name, dir_fd=place.directory()) if kind == Kind.LNK else b""
            properties = Properties(link, attributes)
        target, attributes = properties
        xattr_first = len(self.xattrs) // XATTR.size
        for key, value in attributes:
            self.xattrs += XATTR.pack(self.keep(key), self.keep(value), len(key), len(value))
        if kind == Kind.FILE:
            self.paths += path + b"\0"
            self.sources += _source(status)
        device = kind in (Kind.CHR, Kind.BLK)
        seconds, nanoseconds = self.mtime(status)
        self.inodes += INODE.pack(
            self.last,
            kind,
            stat.S_IMODE(status.st_mode),
            0 if self.rules.all_root else status.st_uid,
            0 if self.rules.all_root else status.st_gid,
            nanoseconds,
            seconds,
            os.major(status.st_rdev) if device else 0,
            os.minor(status.st_rdev) if device else 0,
            xattr_first if attributes else 0,
            len(attributes),
            HAS_ADDITIONAL if attributes or kind == Kind.LNK else 0,
            self.keep(target),
            len(target),
            0,
        )
        self.note(name, status, same, properties)

    def note(self, name: bytes, status: os.stat_result, same: Known | None, properties: Properties | None) -> None:
        """Note an entry for the next scan, with what else is to be told of the inode if that stands there."""
        named = same.identity if same else identity(status, self.horizon)
        self.notes.entry(Known(named, name, properties))

    def read_xattrs(self, place: Place, name: bytes, path: bytes) -> list[tuple[bytes, bytes]]:
        """Return an entry's attributes."""
        rules = self.rules
        if not rules.keep or not self.has_any(path):
            return []
        # By now a directory on the way could be a link to elsewhere; what was opened is what it was.
        safe = b"/proc/self/fd/%d/%s" % (place.directory(), name)
        kept = [key for key in _listed(safe) if _matches_any(key, rules.keep) and not _matches_any(key, rules.drop)]
        if rules.sort:
            kept.sort()
        return [(key, os.getxattr(safe, key, follow_symlinks=False)) for key in kept]

    def has_any(self, path: bytes) -> bool:
        """Tell whether a path has attributes of any kind; one too long for a system call may have."""
        full = self.root + b"/" + path
        return len(full) > PATH_MAX or bool(_listed(full))

    def mtime(self, status: os.stat_result) -> tuple[int, int]:
        rules = self.rules
        if rules.times == Times.EXACTLY:
            return rules.seconds, 0
        time = divmod(status.st_mtime_ns, _NANO)
        return min(time, (rules.seconds, 0)) if rules.times == Times.AT_MOST else time

    def is_excluded(self, name: bytes, path: bytes) -> bool:
        return any(
            fnmatchcase(path if b"/" in pattern else name, pattern.strip(b"/")) for pattern in self.rules.exclude
        )

    def keep(self, text: bytes) -> int:
        offset = len(self.heap)
        self.heap += text
        return offset


def _matches_any(name: bytes, patterns: Sequence[bytes]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _listed(path: bytes) -> list[bytes]:
    """Return the names of attributes, none for a filesystem that has no such thing."""
    try:
        return [os.fsencode(key) for key in os.listxattr(path, follow_symlinks=False)]
    except OSError as error:
        if error.errno in (errno.ENOTSUP, errno.ENODATA):
            return []
        raise


def _source(status: os.stat_result) -> bytes:
    times = wrapped(status.st_mtime_ns), wrapped(status.st_ctime_ns)
    return SOURCE.pack(status.st_size, status.st_dev, status.st_ino, *times)
