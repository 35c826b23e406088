"""Moving about a directory tree by descriptors alone, following no symbolic link."""

from __future__ import annotations

import errno
import os
from types import TracebackType
from typing import Self

from .directory import DIRECTORY


class Place:
    """The directory where the work is. One descriptor is open however deep that lies."""

    def __init__(self, root: int) -> None:
        self.descriptor = os.dup(root)
        # Which directories lead here: ".." must be the one that was left.
        self._above: list[tuple[int, int]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        os.close(self.descriptor)

    @property
    def depth(self) -> int:
        """How many directories below the root this is."""
        return len(self._above)

    def down(self, name: bytes) -> None:
        """Go into a directory that is here. Raises `OSError`."""
        child = os.open(name, DIRECTORY, dir_fd=self.descriptor)
        self._above.append(_identity(self.descriptor))
        os.close(self.descriptor)
        self.descriptor = child

    def up(self) -> int:
        """Go back and return the descriptor of the directory left, now the caller's.

        Raises `OSError` ESTALE where the directory has been moved meanwhile.
        """
        parent = os.open("..", DIRECTORY, dir_fd=self.descriptor)
        if _identity(parent) != self._above.pop():
            os.close(parent)
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        child, self.descriptor = self.descriptor, parent
        return child


def _identity(descriptor: int) -> tuple[int, int]:
    status = os.fstat(descriptor)
    return status.st_dev, status.st_ino
