"""One opened blob: its bytes, checked as the reader was told (docs/format.md, section 10)."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from typing import Self

from puzzlefs.constants import MIB
from puzzlefs.errors import BlobError, MissingBlobError

from .codec import FOOTER, SeekTable, parse_table, table_length


@contextmanager
def reported(digest: bytes) -> Iterator[None]:
    """Turn the system's errors into errors of the blob."""
    try:
        yield
    except OSError as error:
        if error.errno == errno.ENOENT:
            raise MissingBlobError(digest) from None
        raise BlobError(digest, f"cannot be read: {os.strerror(error.errno or errno.EIO)}") from None


class Blob:
    """A blob opened for reading; close it by leaving its `with` block.

    paranoid  hash the whole blob each time bytes are taken from it
    """

    def __init__(self, directory: bytes, digest: bytes, paranoid: bool) -> None:
        self._digest = digest
        self._paranoid = paranoid
        with reported(digest):
            path = os.path.join(directory, digest.hex().encode())
            self._fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            self.size = os.fstat(self._fd).st_size

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)

    def check(self) -> None:
        """Raise `BlobError` unless the content has the digest."""
        self._take_checked(0, 0)

    def take(self, offset: int, length: int) -> bytes:
        """Return `length` stored bytes from `offset`. Raises `BlobError`."""
        taken = self._take_checked(offset, length) if self._paranoid else self._pread(offset, length)
        if len(taken) != length:
            raise BlobError(self._digest, "shorter than its chunk")
        return taken

    def table(self) -> SeekTable:
        """Return the seek table. Raises `BlobError`, `CorruptImageError`."""
        tail = self.take(max(0, self.size - FOOTER.size), min(self.size, FOOTER.size))
        length = table_length(self.size, tail)
        return parse_table(self.take(self.size - length, length), self.size - length)

    def _pread(self, offset: int, length: int) -> bytes:
        pieces = bytearray()
        with reported(self._digest):
            while piece := os.pread(self._fd, min(MIB, length - len(pieces)), offset + len(pieces)):
                pieces += piece
        return bytes(pieces)

    def _take_checked(self, offset: int, length: int) -> bytes:
        """Return bytes of a content that has the digest: hashed and taken in one pass."""
        content, taken, position = sha256(), bytearray(), 0
        while piece := self._pread(position, MIB):
            content.update(piece)
            taken += piece[max(0, offset - position) : max(0, offset + length - position)]
            position += len(piece)
        if content.digest() != self._digest:
            raise BlobError(self._digest, "content does not match the digest")
        return bytes(taken)
