"""Directories of a tree: opened below its root, and what goes wrong there reported."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Self

from puzzlefs.errors import SourceError

PATH_MAX = 4095
DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW


@contextmanager
def reported(path: bytes) -> Iterator[None]:
    """Raise what the system refuses as `SourceError` of a path; the root's is empty."""
    try:
        yield
    except OSError as error:
        raise SourceError(path or b".", error.errno or errno.EIO) from None


def open_directory(root: bytes, path: bytes) -> int:
    """Open a directory below the root, in pieces where its path is longer than the system takes."""
    pieces = [*_pieces(path)]
    top = os.open(root, DIRECTORY)
    try:
        return open_beneath(top, pieces)
    finally:
        os.close(top)


def _pieces(path: bytes) -> Iterator[bytes]:
    while path:
        piece = path if len(path) < PATH_MAX else path[: path.rindex(b"/", 0, PATH_MAX)]
        path = path[len(piece) + 1 :]
        yield piece


def open_beneath(root: int, paths: Iterable[bytes]) -> int:
    """Open the directory that `paths`, each from the one before, lead to from `root`. Raises `OSError`."""
    descriptor = os.dup(root)
    for path in paths:
        try:
            below = os.open(path, DIRECTORY, dir_fd=descriptor)
        finally:
            os.close(descriptor)
        descriptor = below
    return descriptor


class Place:
    """The context of a directory, opened when it is first asked for."""

    def __init__(self, root: bytes, path: bytes) -> None:
        self._root, self._path = root, path
        self._descriptor = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)

    def directory(self) -> int:
        """Return its descriptor. Raises `OSError`."""
        if self._descriptor < 0:
            self._descriptor = open_directory(self._root, self._path)
        return self._descriptor
