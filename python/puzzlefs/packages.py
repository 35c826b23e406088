"""Which package of a tree's own package database each file belongs to: dpkg's, or apk's."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain

from puzzlefs._native import native
from puzzlefs.errors import SourceError

_DPKG = b"var/lib/dpkg/info"
_APK = (b"lib/apk/db", b"usr/lib/apk/db")
_READ_LIMIT = 1 << 20


class Owners:
    """The owner of each path, as far as a database of the tree below `root` tells.

    The databases are read without following a symbolic link. Raises `SourceError` where one is there
    and cannot be read.
    """

    def __init__(self, root: bytes) -> None:
        self._owners: dict[bytes, bytes] = {}
        # Of several packages with a path the first has it.
        for package, paths in reversed([*_files(root)]):
            self._owners.update(dict.fromkeys(paths, package))

    def may_own(self, paths: bytes) -> bool:
        """Whether any of these paths, each with a zero byte after it, may belong to a package."""
        return bool(self._owners) or _DPKG in paths

    def of(self, path: bytes) -> bytes:
        """Return the package of a file, given by its path from the root; empty for none."""
        if path.startswith(_DPKG + b"/") and b"/" not in (name := path[len(_DPKG) + 1 :]):
            return name.rpartition(b".")[0]
        owner = self._owners.get(path)
        # Where /bin and /lib are links into /usr, packages may name their files by either path.
        return owner or self._owners.get(path.removeprefix(b"usr/"), b"")


def fingerprint(root: bytes) -> bytes:
    """Return a digest of all that the databases of the tree tell. Raises `SourceError`."""
    told = (package + b"\0" + path + b"\0" for package, paths in _files(root) for path in paths)
    return native.hash_bytes(b"".join(told))[0]


def _files(root: bytes) -> Iterator[tuple[bytes, list[bytes]]]:
    """Yield packages with paths of theirs, those of each database by name or in its order."""
    return chain(_dpkg_files(root), *(_apk_files(root, place) for place in _APK))


def _dpkg_files(root: bytes) -> Iterator[tuple[bytes, list[bytes]]]:
    with _directory(root, _DPKG) as directory:
        for name in sorted(directory.names()):
            if name.endswith(b".list"):
                yield name.removesuffix(b".list"), [line[1:] for line in directory.content(name).split(b"\n")]


def _apk_files(root: bytes, database: bytes) -> Iterator[tuple[bytes, list[bytes]]]:
    package = place = b""
    with _directory(root, database) as directory:
        lines = directory.content(b"installed").split(b"\n")
    for line in lines:
        key, value = line[:2], line[2:]
        if key == b"P:":
            package = value
        elif key == b"F:":
            place = value
        elif key == b"R:":
            yield package, [place + b"/" + value if place else value]


class _Directory:
    """A directory of a tree, which may be missing: then it is empty."""

    def __init__(self, path: bytes, descriptor: int | None) -> None:
        self._path, self._descriptor = path, descriptor

    def names(self) -> list[bytes]:
        if self._descriptor is None:
            return []
        with _reported(self._path):
            return [os.fsencode(name) for name in os.listdir(self._descriptor)]

    def content(self, name: bytes) -> bytes:
        """Return the content of a regular file; empty where there is none."""
        if self._descriptor is None:
            return b""
        with _reported(self._path + b"/" + name):
            # A pipe of this name must not make the build wait.
            found = _open_if_there(name, os.O_RDONLY | os.O_NONBLOCK, self._descriptor)
            if found is None:
                return b""
            try:
                status = os.fstat(found)
                return _read(found, status.st_size) if stat.S_ISREG(status.st_mode) else b""
            finally:
                os.close(found)


def _read(descriptor: int, size: int) -> bytes:
    """Return all that can be read; `size` is how much that will be."""
    pieces = []
    while piece := os.read(descriptor, min(size, _READ_LIMIT) + 1):
        pieces.append(piece)
        size -= min(size, len(piece))
    return b"".join(pieces)


@contextmanager
def _directory(root: bytes, path: bytes) -> Iterator[_Directory]:
    """Open a directory below `root` without following a link."""
    with _reported(path):
        descriptor: int | None = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        for name in path.split(b"/"):
            above = descriptor
            if above is not None:
                descriptor = _open_if_there(name, os.O_RDONLY | os.O_DIRECTORY, above)
                os.close(above)
    try:
        yield _Directory(path, descriptor)
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _open_if_there(name: bytes, flags: int, directory: int) -> int | None:
    try:
        return os.open(name, flags | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO):
            return None
        raise


@contextmanager
def _reported(path: bytes) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise SourceError(path, error.errno or errno.EIO) from None
