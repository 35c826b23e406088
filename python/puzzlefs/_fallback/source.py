"""Files of a root filesystem: opened beneath it without following a link, checked for change."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from typing import NamedTuple, Self

from puzzlefs.constants import MIB
from puzzlefs.errors import SourceChangedError

from .directory import reported


class SourceRow(NamedTuple):
    """A row of `records.SOURCE`: what a file was when the tree was scanned."""

    size: int
    device: int
    inode: int
    modified: int
    changed: int

    def describes(self, fd: int) -> bool:
        """Tell whether an open file is still the regular file that was scanned."""
        now = os.fstat(fd)
        found = now.st_size, now.st_dev, now.st_ino, wrapped(now.st_mtime_ns), wrapped(now.st_ctime_ns)
        return stat.S_ISREG(now.st_mode) and found == self


def wrapped(time: int) -> int:
    """Return a time in nanoseconds modulo 2^64, signed: times beyond the year 2262 still differ."""
    return (time + (1 << 63)) % (1 << 64) - (1 << 63)


class SourceRoot:
    """The root filesystem of a build; close it by leaving its `with` block."""

    def __init__(self, path: bytes) -> None:
        with reported(b"."):
            self._fd = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)

    def content(self, path: bytes, row: SourceRow, offset: int) -> Iterator[bytes]:
        """Return a file's content from `offset` on, in pieces. Raises `SourceError`, `SourceChangedError`."""
        with reported(path):
            fd = self._open(path)
        try:
            with reported(path):
                yield from _content(fd, path, row, offset)
        finally:
            os.close(fd)

    def _open(self, path: bytes) -> int:
        """Open a file component by component; none may be a symbolic link or lead upwards."""
        *directories, name = path.split(b"/")
        at = os.dup(self._fd)
        try:
            for directory in directories:
                at, above = _open_child(at, directory, os.O_PATH), at
                os.close(above)
                if stat.S_ISLNK(os.fstat(at).st_mode):
                    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
            return _open_child(at, name, os.O_RDONLY | os.O_NONBLOCK)
        finally:
            os.close(at)


def _open_child(at: int, name: bytes, flags: int) -> int:
    if name in (b"", b".", b".."):
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
    return os.open(name, flags | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=at)


def _content(fd: int, path: bytes, row: SourceRow, offset: int) -> Iterator[bytes]:
    """Read exactly as many bytes as were scanned; before and after, the file must be what it was."""
    if not row.describes(fd):
        raise SourceChangedError(path)
    os.lseek(fd, offset, os.SEEK_SET)
    left = row.size - offset
    while left:
        piece = os.read(fd, min(left, MIB))
        if not piece:
            raise SourceChangedError(path)
        left -= len(piece)
        yield piece
    if not row.describes(fd):
        raise SourceChangedError(path)
