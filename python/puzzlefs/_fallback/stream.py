"""The files of a build as one stream of bytes, which can be read on from any position."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate

from .source import SourceRoot, SourceRow


class Stream:
    """Reads files one after another, each checked before and after.

    reach  is told how many files and bytes are read, or need not be
    """

    def __init__(
        self, root: SourceRoot, paths: Sequence[bytes], rows: Sequence[SourceRow], reach: Callable[[int, int], None]
    ) -> None:
        self._root = root
        self._paths, self._rows = paths, rows
        self._starts = list(accumulate((row.size for row in rows), initial=0))
        self._reach = reach
        self._number = self._position = 0

    @property
    def is_over(self) -> bool:
        """Whether every file was read or passed by."""
        return self._number == len(self._rows)

    def seek(self, position: int) -> None:
        """Go to a position; files that are passed by are not opened."""
        if position != self._position:
            self._position = position
            self._number = bisect_right(self._starts, position) - 1
            self._reach(self._number, position)

    def pieces(self, end: int | None) -> Iterator[bytes]:
        """Yield the bytes from the position on up to `end`, at which a file ends; None for all."""
        while not self.is_over:
            number = self._number
            offset = self._position - self._starts[number]
            for piece in self._root.content(self._paths[number], self._rows[number], offset):
                self._position += len(piece)
                self._reach(number, self._position)
                yield piece
            self._number += 1
            self._reach(self._number, self._position)
            if self._position == end:
                return
