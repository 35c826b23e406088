"""Files whose contents come through a pipe: the stream of a build whose files are no directory's.

Each file is its size (u64, little-endian), then its bytes. A size of all ones ends the stream: a pipe
that ends before it was given up by its writer.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

from puzzlefs.constants import FILE_SIZE_LIMIT, MIB
from puzzlefs.errors import CancelledError

_END = (1 << 64) - 1


class Pipe:
    """Reads files from a pipe.

    sizes  the size of each file that came
    reach  is told how many files and bytes are read
    """

    def __init__(self, fd: int, reach: Callable[[int, int], None]) -> None:
        self._fd = fd
        self._reach = reach
        self._position = 0
        self.sizes: list[int] = []

    def pieces(self) -> Iterator[bytes]:
        """Yield the bytes of all files. Raises `CancelledError`, `ValueError`, `OSError`."""
        while (left := self._next()) != _END:
            self.sizes.append(left)
            while left:
                piece = self._receive(left)
                left -= len(piece)
                self._position += len(piece)
                self._reach(len(self.sizes) - bool(left), self._position)
                yield piece
        self._reach(len(self.sizes), self._position)

    def _next(self) -> int:
        raw = b""
        while len(raw) < 8:
            raw += self._receive(8 - len(raw))
        size = int.from_bytes(raw, "little")
        if FILE_SIZE_LIMIT - self._position < size < _END:
            raise ValueError("the files of a pipe are too large")
        return size

    def _receive(self, limit: int) -> bytes:
        piece = os.read(self._fd, min(limit, MIB))
        if not piece:
            raise CancelledError
        return piece
