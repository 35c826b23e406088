"""One opened blob: its bytes, checked as the reader was told (docs/format.md, section 10)."""

from __future__ import annotations

import errno
import os
import stat
import weakref
from bisect import bisect_right
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from hashlib import sha256
from typing import Final

from puzzlefs.constants import MIB
from puzzlefs.errors import BlobError, CorruptImageError, MissingBlobError
from puzzlefs.verity_ioctl import measure_file

from .codec import FOOTER, SeekTable, decode_frame, parse_table, table_length

BLOCK: Final = 4096
_NO_ENTRY: Final = bytes(32)
WRONG_CONTENT: Final = "content does not match the digest"


@contextmanager
def _reported(digest: bytes) -> Iterator[None]:
    """Turn the system's errors into errors of the blob."""
    try:
        yield
    except OSError as error:
        if error.errno == errno.ENOENT:
            raise MissingBlobError(digest) from None
        raise BlobError(digest, f"cannot be read: {os.strerror(error.errno or errno.EIO)}") from None


class Blob:
    """An open blob; it closes when nobody has it any more.

    verity  the fs-verity digest that the image gives, or zeros; where the kernel enforces the same one,
            there is nothing left to check
    check   hash the whole blob now: its bytes must have the digest
    recheck keep the hash of each block, and compare it whenever the block is read
    """

    def __init__(self, directory: bytes, digest: bytes, verity: bytes, check: bool, recheck: bool) -> None:
        self._digest = digest
        with _reported(digest):
            self._fd = os.open(
                os.path.join(directory, digest.hex().encode()), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
            )
            weakref.finalize(self, os.close, self._fd)
            found = os.fstat(self._fd)
            if not stat.S_ISREG(found.st_mode):
                raise OSError(errno.EISDIR if stat.S_ISDIR(found.st_mode) else errno.ESPIPE, "")
        check = (check or recheck) and not self._enforced(verity)
        self._blocks: list[bytes] | None = [] if check and recheck else None
        self.size = self._check() if check else found.st_size

    def _enforced(self, verity: bytes) -> bool:
        try:
            return verity != _NO_ENTRY and measure_file(self._fd) == verity
        except OSError:
            return False

    def _check(self) -> int:
        """Compare the content with the digest; return its size."""
        content, size = sha256(), 0
        while piece := self._pread(size, MIB):
            content.update(piece)
            size += len(piece)
            if self._blocks is not None:
                self._blocks += [sha256(piece[at : at + BLOCK]).digest() for at in range(0, len(piece), BLOCK)]
        if content.digest() != self._digest:
            raise BlobError(self._digest, WRONG_CONTENT)
        return size

    def take(self, offset: int, length: int) -> bytes:
        """Return `length` stored bytes from `offset`, which are inside the blob. Raises `BlobError`."""
        if self._blocks is not None:
            return self._take_checked(offset, length, self._blocks)
        taken = self._pread(offset, length)
        if len(taken) < length:
            raise BlobError(self._digest, "shorter than its chunk")
        return taken

    def _take_checked(self, offset: int, length: int, hashes: list[bytes]) -> bytes:
        """Read the whole blocks around the bytes, and return those only if all blocks are right."""
        first, end = offset // BLOCK, -(-(offset + length) // BLOCK)
        taken = self._pread(first * BLOCK, min(self.size, end * BLOCK) - first * BLOCK)
        found = [sha256(taken[at : at + BLOCK]).digest() for at in range(0, len(taken), BLOCK)]
        if found != hashes[first:end]:
            raise BlobError(self._digest, WRONG_CONTENT)
        return taken[offset - first * BLOCK :][:length]

    @cached_property
    def table(self) -> SeekTable:
        """The seek table. Raises `BlobError`, `CorruptImageError`."""
        tail = min(self.size, FOOTER.size)
        length = table_length(self.size, self.take(self.size - tail, tail))
        return parse_table(self.take(self.size - length, length), self.size - length)

    def content(self, offset: int, length: int, compressed: bool) -> bytes:
        """Return `length` bytes from `offset` before compression. Raises `BlobError`."""
        if not compressed:
            return self.take(offset, length)
        try:
            return self._decoded(offset, offset + length)
        except CorruptImageError as error:
            raise BlobError(self._digest, str(error)) from None

    def _decoded(self, start: int, end: int) -> bytes:
        if end > self.table.content[-1]:
            raise BlobError(self._digest, "shorter than its chunk")
        first = bisect_right(self.table.content, start) - 1
        content = bytearray()
        number = first
        while self.table.content[number] < end:
            stored, frame_end = self.table.stored[number], self.table.stored[number + 1]
            size = self.table.content[number + 1] - self.table.content[number]
            content += decode_frame(self.take(stored, frame_end - stored), size)
            number += 1
        begin = start - self.table.content[first]
        return bytes(content[begin : begin + end - start])

    def _pread(self, offset: int, length: int) -> bytes:
        """Return the bytes that are there, up to `length`."""
        pieces = bytearray()
        with _reported(self._digest):
            while piece := os.pread(self._fd, min(MIB, length - len(pieces)), offset + len(pieces)):
                pieces += piece
        return bytes(pieces)
