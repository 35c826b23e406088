"""File contents of an image; `puzzlefs._native.Reader` says what is promised."""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from itertools import accumulate, groupby
from typing import TYPE_CHECKING, Final, NamedTuple

from puzzlefs.constants import GIB, KIB, MIB
from puzzlefs.errors import BlobError, CorruptImageError
from puzzlefs.records import CHUNK, COMPRESSED, VERITY, Kind

from .blob import WRONG_CONTENT, Blob
from .cache import FrameCache
from .codec import SeekTable, decode_frame
from .index import Index
from .tables import check_unsigned

if TYPE_CHECKING:
    from puzzlefs._native import Unpacked

NEVER, ONCE, ALWAYS = 0, 1, 2
LAYOUTS_KEPT: Final = 64
BLOBS_OPEN: Final = 128
HOLE_BLOCK: Final = 4 * KIB


class Chunk(NamedTuple):
    """A row of `records.CHUNK`."""

    blob: int
    flags: int
    offset: int
    length: int


class Layout(NamedTuple):
    """A file's n chunks, and the n + 1 offsets in the file between which they lie."""

    offsets: list[int]
    chunks: list[Chunk]

    def pieces(self, offset: int, end: int) -> Iterator[tuple[Chunk, int, int]]:
        """Return (chunk, start in the chunk, length) of what covers the bytes from `offset` to `end`."""
        row = bisect_right(self.offsets, offset) - 1
        while row < len(self.chunks) and self.offsets[row] < end:
            start = max(0, offset - self.offsets[row])
            length = min(end, self.offsets[row + 1]) - self.offsets[row] - start
            if length:
                yield self.chunks[row], start, length
            row += 1


class Reader:
    """Reads files by offset, chunk by chunk; a blob is checked through the descriptor that serves it."""

    def __init__(self, index: Index, directory: bytes, verify: int, cache_size: int) -> None:
        if verify not in (NEVER, ONCE, ALWAYS):
            raise ValueError(f"verify is {verify}: not 0, 1 or 2")
        self._index = index
        self._directory = directory
        self._verify = verify
        self._digests, self._verity = [], []
        for digest, verity in VERITY.iter_unpack(index.blobs()):
            self._digests.append(digest)
            self._verity.append(verity)
        self._bad: set[int] = set()
        self._cache = FrameCache(cache_size)
        self._layout = lru_cache(LAYOUTS_KEPT)(self._read_layout)
        self._opened = lru_cache(BLOBS_OPEN)(self._open)

    def read(self, ino: int, offset: int, size: int) -> bytes:
        check_unsigned(ino, offset, size)
        layout = self._layout(ino)
        content = bytearray()
        for chunk, start, length in layout.pieces(offset, min(offset + size, layout.offsets[-1])):
            content += self._chunk(chunk, start, length)
        return bytes(content)

    def extract(self, ino: int, fd: int) -> None:
        size = self._layout(ino).offsets[-1]
        if size > GIB:
            # First of all, so that a size which the disk can never take costs no work.
            os.ftruncate(fd, size)
        for offset in range(0, size, MIB):
            _write_filled(fd, self.read(ino, offset, MIB), offset)
        os.ftruncate(fd, size)

    def extract_tree(self, fd: int, name: bytes, same_owner: bool, jobs: int) -> Unpacked:
        # Later than the chooser of the backends, which those modules need.
        from puzzlefs.vfs import Filesystem

        from .extract import Extraction

        return Extraction(Filesystem(self._index, self), name, fd, same_owner).run(jobs)

    def _read_layout(self, ino: int) -> Layout:
        if self._index.stat(ino)[1] != Kind.FILE:
            raise KeyError(ino)
        chunks = [Chunk(*row) for row in CHUNK.iter_unpack(self._index.chunks(ino))]
        return Layout(list(accumulate((chunk.length for chunk in chunks), initial=0)), chunks)

    def _chunk(self, chunk: Chunk, start: int, length: int) -> bytes:
        """Return `length` bytes of a chunk from `start`. Raises `BlobError`."""
        if chunk.flags & COMPRESSED:
            try:
                return self._decoded(chunk, start, length)
            except CorruptImageError as error:
                raise BlobError(self._digests[chunk.blob], str(error)) from None
        with self._blob(chunk.blob) as blob:
            self._check_end(chunk, blob.size)
            return blob.take(chunk.offset + start, length)

    def _decoded(self, chunk: Chunk, start: int, length: int) -> bytes:
        with self._blob(chunk.blob) as blob:
            table = blob.table
        self._check_end(chunk, table.content[-1])
        begin = chunk.offset + start
        end = begin + length
        content = bytearray()
        number = bisect_right(table.content, begin) - 1
        while table.content[number] < end:
            frame = self._frame(chunk.blob, number, table)
            at = table.content[number]
            content += frame[max(0, begin - at) : end - at]
            number += 1
        return bytes(content)

    def _check_end(self, chunk: Chunk, size: int) -> None:
        if chunk.offset + chunk.length > size:
            raise BlobError(self._digests[chunk.blob], "shorter than its chunk")

    def _frame(self, row: int, number: int, table: SeekTable) -> bytes:
        frame = self._cache.get((row, number))
        if frame is None:
            start, end = table.stored[number], table.stored[number + 1]
            with self._blob(row) as blob:
                stored = blob.take(start, end - start)
            frame = decode_frame(stored, table.content[number + 1] - table.content[number])
            self._cache.put((row, number), frame)
        return frame

    def _open(self, row: int) -> Blob:
        checks = self._verify == ONCE, self._verify == ALWAYS
        return Blob(self._directory, self._digests[row], self._verity[row], *checks)

    @contextmanager
    def _blob(self, row: int) -> Iterator[Blob]:
        """Give an open, checked blob. One whose content was once wrong is not tried again."""
        if row in self._bad:
            raise BlobError(self._digests[row], WRONG_CONTENT)
        try:
            yield self._opened(row)
        except BlobError as error:
            if error.reason == WRONG_CONTENT:
                self._bad.add(row)
            raise


def _write_filled(fd: int, data: bytes, offset: int) -> None:
    """Write the blocks of `data` that are not all zeros; neighbours in one call."""

    def filled(at: int) -> bool:
        return data[at : at + HOLE_BLOCK].lstrip(b"\0") != b""

    for wanted, run in groupby(range(0, len(data), HOLE_BLOCK), filled):
        starts = list(run)
        end = min(starts[-1] + HOLE_BLOCK, len(data))
        at = starts[0]
        while wanted and at < end:
            at += os.pwrite(fd, data[at:end], offset + at)
