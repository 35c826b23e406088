"""A directory tree on disk to tables: one `lstat` an entry, and no link followed below the root.

Directories are visited depth first, siblings by name; a visit lists all entries of its directory.
Every entry takes a number, one more name of a known inode too: existing images count so.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase

from puzzlefs.errors import SourceError
from puzzlefs.records import ENTRY, HAS_ADDITIONAL, INODE, SOURCE, XATTR, Kind, Times
from puzzlefs.rows import ScanRules, Vector

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
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW
_PATH_MAX = 4095
_NANO = 1_000_000_000


def scan_tree(root: bytes, mounts: Sequence[bytes], rules: ScanRules) -> tuple[Tree, bytes, bytes, list[bytes]]:
    """Read the tree below a directory; `puzzlefs._native.Backend.scan_tree` says what is returned."""
    walk = _Walk(root, frozenset(mounts), ScanRules(*rules))
    walk.run()
    vector = Vector(bytes(walk.inodes), bytes(walk.entries), b"", bytes(walk.xattrs), bytes(walk.heap))
    return Tree(vector), bytes(walk.paths), bytes(walk.sources), walk.crossings


@contextmanager
def _reported(path: bytes) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise SourceError(path or b".", error.errno or errno.EIO) from None


class _Walk:
    def __init__(self, root: bytes, mounts: frozenset[bytes], rules: ScanRules) -> None:
        require(0 <= rules.times <= Times.EXACTLY, f"{rules.times} is no rule for times")
        self.root, self.mounts, self.rules = root, mounts, rules
        self.links: dict[tuple[int, int], int] = {}
        self.last = 1
        self.inodes, self.entries, self.xattrs, self.heap = bytearray(), bytearray(), bytearray(), bytearray()
        self.paths, self.sources = bytearray(), bytearray()
        self.crossings: list[bytes] = []

    def run(self) -> None:
        with _reported(b""):
            descriptor = self.open(b"")
            try:
                self.add(descriptor, b"", b"", os.fstat(descriptor), Kind.DIR)
            finally:
                os.close(descriptor)
        pending = [(0, b"")]
        while pending:
            row, path = pending.pop()
            if path not in self.mounts:
                pending += reversed(self.visit(row, path))

    def visit(self, row: int, path: bytes) -> list[tuple[int, bytes]]:
        """Add the entries of the directory in a row of the inodes; return the rows and paths of its subdirectories."""
        below = []
        first = len(self.entries) // ENTRY.size
        with _reported(path):
            descriptor = self.open(path)
        try:
            with _reported(path):
                names = sorted(map(os.fsencode, os.listdir(descriptor)))
            for name in names:
                inner = path + b"/" + name if path else name
                if not self.is_excluded(name, inner):
                    with _reported(inner):
                        met = self.entry(descriptor, name, inner)
                    if met is not None:
                        below.append((met, inner))
        finally:
            os.close(descriptor)
        fields = list(INODE.unpack_from(self.inodes, row * INODE.size))
        fields[7:9] = first, len(self.entries) // ENTRY.size - first
        INODE.pack_into(self.inodes, row * INODE.size, *fields)
        return below

    def entry(self, descriptor: int, name: bytes, path: bytes) -> int | None:
        """Add an entry and, unless it is a further name, its inode; return the row of a directory."""
        status = os.stat(name, dir_fd=descriptor, follow_symlinks=False)
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
            self.add(descriptor, name, path, status, kind)
        return len(self.inodes) // INODE.size - 1 if kind == Kind.DIR else None

    def add(self, descriptor: int, name: bytes, path: bytes, status: os.stat_result, kind: Kind) -> None:
        """Add the inode that has the last number."""
        xattr_first = len(self.xattrs) // XATTR.size
        xattr_count = self.add_xattrs(descriptor, name, path)
        target = os.readlink(name, dir_fd=descriptor) if kind == Kind.LNK else b""
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
            xattr_first if xattr_count else 0,
            xattr_count,
            HAS_ADDITIONAL if xattr_count or kind == Kind.LNK else 0,
            self.keep(target),
            len(target),
            0,
        )

    def add_xattrs(self, descriptor: int, name: bytes, path: bytes) -> int:
        """Add an entry's attributes; return how many there are."""
        rules = self.rules
        if not rules.keep or not self.has_any(path):
            return 0
        # By now a directory on the way could be a link to elsewhere; what was opened is what it was.
        safe = b"/proc/self/fd/%d/%s" % (descriptor, name)
        kept = [key for key in _listed(safe) if _matches_any(key, rules.keep) and not _matches_any(key, rules.drop)]
        if rules.sort:
            kept.sort()
        for key in kept:
            value = os.getxattr(safe, key, follow_symlinks=False)
            self.xattrs += XATTR.pack(self.keep(key), self.keep(value), len(key), len(value))
        return len(kept)

    def has_any(self, path: bytes) -> bool:
        """Tell whether a path has attributes of any kind; one too long for a system call may have."""
        full = self.root + b"/" + path
        return len(full) > _PATH_MAX or bool(_listed(full))

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

    def open(self, path: bytes) -> int:
        """Open a directory below the root, in pieces where its path is longer than the system takes."""
        descriptor = os.open(self.root, _DIRECTORY)
        while path:
            piece = path if len(path) < _PATH_MAX else path[: path.rindex(b"/", 0, _PATH_MAX)]
            path = path[len(piece) + 1 :]
            try:
                below = os.open(piece, _DIRECTORY, dir_fd=descriptor)
            finally:
                os.close(descriptor)
            descriptor = below
        return descriptor

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
