"""What an image looks like as a filesystem, without a word about FUSE.

Numbers are the image's own inode numbers; the root is 1. Errors are `OSError` with the number that
a kernel would answer, and the backend's `BlobError` where a file's content cannot be had.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from enum import Enum, auto
from typing import Final, NamedTuple

from puzzlefs._native import Index, InodeStat, Reader
from puzzlefs.constants import NAME_LIMIT
from puzzlefs.records import Kind

ROOT: Final = 1
BLOCK: Final = 4096
_SECTOR: Final = 512
_NANOSECONDS: Final = 1_000_000_000
_PAGE: Final = 256
# What fits the kernel's 32-bit device number.
_MAJOR_LIMIT: Final = 1 << 12
_MINOR_LIMIT: Final = 1 << 20

_FORMAT: Final = {
    Kind.FIFO: stat.S_IFIFO,
    Kind.CHR: stat.S_IFCHR,
    Kind.DIR: stat.S_IFDIR,
    Kind.BLK: stat.S_IFBLK,
    Kind.FILE: stat.S_IFREG,
    Kind.LNK: stat.S_IFLNK,
    Kind.SOCK: stat.S_IFSOCK,
}
# By the number itself: an enumeration's members hash and compare slowly.
_FILE_TYPE: Final = {int(kind): bits for kind, bits in _FORMAT.items()}


class Step(Enum):
    """A step of going through a tree."""

    ENTER = auto()
    ENTRY = auto()
    LEAVE = auto()


class Attributes(NamedTuple):
    """An inode's attributes as stat(2) reports them; access and change time are `mtime_ns` too."""

    ino: int
    mode: int
    nlink: int
    uid: int
    gid: int
    rdev: int
    size: int
    blocks: int
    mtime_ns: int


class FilesystemStatistics(NamedTuple):
    """The figures of statfs(2): `blocks` of `block_size` bytes, nothing of either free."""

    block_size: int
    blocks: int
    files: int
    name_limit: int


class Filesystem:
    """One image as a read-only filesystem, its tree from `index`, its contents from `reader`."""

    def __init__(self, index: Index, reader: Reader) -> None:
        self.index = index
        self.reader = reader
        self.has_xattrs = index.has_xattrs

    def lookup(self, parent: int, name: bytes) -> int:
        """Return the number that directory `parent` gives `name`, "." and ".." included, or 0.

        Raises `OSError` ENOTDIR where `parent` is no directory, ESTALE where there is no such inode.
        """
        try:
            if name == b".":
                return self._directory(parent)
            if name == b"..":
                return self.index.parent(self._directory(parent))
            return self.index.lookup(parent, name)
        except KeyError:
            raise _error(errno.ESTALE) from None

    def getattr(self, ino: int) -> Attributes:
        """Return an inode's attributes. Raises `OSError` ESTALE, or EOVERFLOW for a device number too large."""
        number, kind, permissions, uid, gid, seconds, nanoseconds, size, nlink, major, minor = self._stat(ino)
        rdev = _device(major, minor) if kind in (Kind.CHR, Kind.BLK) else 0
        return Attributes(
            number,
            _FILE_TYPE[kind] | permissions,
            nlink,
            uid,
            gid,
            rdev,
            size,
            -(-size // _SECTOR),
            seconds * _NANOSECONDS + nanoseconds,
        )

    def readdir(self, ino: int, start: int, count: int) -> list[tuple[bytes, int]]:
        """Return up to `count` entries (name, number) of a directory from position `start`.

        Positions 0 and 1 are "." and "..", the entries follow by name. Raises `OSError` ENOTDIR, ESTALE.
        """
        self._directory(ino)
        dots = [(b".", ino), (b"..", self.index.parent(ino))][start : start + count] if start < 2 else []
        if len(dots) == count:
            return dots
        return dots + self.index.entries(ino, max(0, start - 2), count - len(dots))

    def readlink(self, ino: int) -> bytes:
        """Return a symbolic link's target. Raises `OSError` EINVAL for another kind, ESTALE."""
        if self._stat(ino)[1] != Kind.LNK:
            raise _error(errno.EINVAL)
        return self.index.symlink(ino)

    def check_file(self, ino: int) -> None:
        """Raise `OSError` EISDIR or EINVAL where `ino` is no regular file, ESTALE where it is nothing."""
        kind = self._stat(ino)[1]
        if kind != Kind.FILE:
            raise _error(errno.EISDIR if kind == Kind.DIR else errno.EINVAL)

    def read(self, ino: int, offset: int, size: int) -> bytes:
        """Return up to `size` bytes of a file from `offset`, short only at its end.

        Raises `BlobError`, or `OSError` as `check_file` does.
        """
        try:
            return self.reader.read(ino, offset, size)
        except KeyError:
            self.check_file(ino)
            raise _error(errno.EIO) from None

    def getxattr(self, ino: int, key: bytes) -> bytes:
        """Return an extended attribute's value. Raises `OSError` ENODATA, ESTALE."""
        for known, value in self._xattrs(ino):
            if known == key:
                return value
        raise _error(errno.ENODATA)

    def listxattr(self, ino: int) -> list[bytes]:
        """Return the keys of an inode's extended attributes. Raises `OSError` ESTALE."""
        return [key for key, _ in self._xattrs(ino)]

    def statfs(self) -> FilesystemStatistics:
        """Return the filesystem's size: its contents, uncompressed, each inode once."""
        blocks = -(-self.index.content_bytes // BLOCK)
        return FilesystemStatistics(BLOCK, blocks, self.index.inode_count, NAME_LIMIT)

    def visit(self) -> Iterator[tuple[Step, int, bytes, int]]:
        """Go through everything but the root, depth first, by name: yield (step, directory, name, number).

        A directory is entered, then all that it holds is gone through, then it is left. The depth of the
        tree is bounded by memory alone.
        """
        pending = [(0, b"", ROOT, self._children(ROOT))]
        while pending:
            parent, name, directory, children = pending[-1]
            entry = next(children, None)
            if entry is None:
                pending.pop()
                if pending:
                    yield Step.LEAVE, parent, name, directory
                continue
            child, ino = entry
            if self.index.stat(ino)[1] == Kind.DIR:
                pending.append((directory, child, ino, self._children(ino)))
                yield Step.ENTER, directory, child, ino
            else:
                yield Step.ENTRY, directory, child, ino

    def walk(self) -> Iterator[tuple[bytes, int]]:
        """Yield (path relative to the root, number) of everything but the root, in the order of `visit`."""
        prefix = bytearray()
        lengths: list[int] = []
        for step, _, name, ino in self.visit():
            if step is Step.LEAVE:
                del prefix[lengths.pop() :]
                continue
            yield bytes(prefix + name), ino
            if step is Step.ENTER:
                lengths.append(len(prefix))
                prefix += name + b"/"

    def _children(self, ino: int) -> Iterator[tuple[bytes, int]]:
        start = 0
        while page := self.index.entries(ino, start, _PAGE):
            yield from page
            start += len(page)

    def _stat(self, ino: int) -> InodeStat:
        try:
            return self.index.stat(ino)
        except KeyError:
            raise _error(errno.ESTALE) from None

    def _directory(self, ino: int) -> int:
        if self._stat(ino)[1] != Kind.DIR:
            raise _error(errno.ENOTDIR)
        return ino

    def _xattrs(self, ino: int) -> list[tuple[bytes, bytes]]:
        if not self.has_xattrs:
            return []
        try:
            return self.index.xattrs(ino)
        except KeyError:
            raise _error(errno.ESTALE) from None


def _device(major: int, minor: int) -> int:
    """Return a device number; a truncated one would name another device."""
    if major >= _MAJOR_LIMIT or minor >= _MINOR_LIMIT:
        raise _error(errno.EOVERFLOW)
    return os.makedev(major, minor)


def _error(number: int) -> OSError:
    return OSError(number, os.strerror(number))
