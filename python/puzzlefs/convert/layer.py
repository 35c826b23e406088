"""The bytes of one layer: read once, unpacked in bounded steps, measured while they pass."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from hashlib import sha256
from io import BufferedReader

from puzzlefs.constants import GIB, MIB
from puzzlefs.convert.expand import STEP, DamagedError, expand
from puzzlefs.errors import BlobError, CorruptImageError, StoreError

_HEADER_LIMIT = MIB
_EXPANSION = 256


class LayerStream:
    """A layer's uncompressed bytes as the file that `tarfile` reads: forwards only.

    file         what is stored
    what         how errors call it
    digest       its SHA-256, None where nothing promises one
    size_limit   most bytes that it may unpack to; by default 1 GiB, or 256 times what is stored if that is more
    stored_size  bytes of it that were read

    Reading raises `CorruptImageError`, `BlobError`, `StoreError`.
    """

    def __init__(self, file: BufferedReader, what: str, digest: bytes | None, size_limit: int | None) -> None:
        self._file = file
        self.what = what
        self._digest = digest
        self._size_limit = size_limit
        self.stored_size = 0
        self._stored, self._unpacked = sha256(), sha256()
        self._blocks = self._fetch()
        self._expanded = expand(self._blocks)
        self._block, self._at = memoryview(b""), 0
        self._position = 0
        self._header_left = 0

    def begin_entry(self) -> None:
        """Let the headers of another entry have their room."""
        self._header_left = _HEADER_LIMIT

    def tell(self) -> int:
        return self._position

    def skip_to(self, position: int) -> bool:
        """Skip to a later position; tell whether the layer goes so far."""
        if position < self._position:
            raise CorruptImageError(f"{self.what}: the archive points backwards")
        while self._position < position:
            if not self.take(position - self._position):
                return False
        return True

    def read(self, size: int) -> bytes:
        """Return `size` bytes of headers, fewer only at the end."""
        self._header_left -= size
        if self._header_left < 0:
            raise CorruptImageError(f"{self.what}: an entry has more than 1 MiB of headers")
        content = bytes(self.take(size))
        while len(content) < size and (piece := self.take(size - len(content))):
            content += piece
        return content

    def take(self, size: int) -> memoryview:
        """Return at most `size` bytes, at least one unless at the end."""
        if self._at == len(self._block):
            self._block, self._at = memoryview(self._next()), 0
        piece = self._block[self._at : self._at + size]
        self._at += len(piece)
        self._position += len(piece)
        return piece

    def finish(self) -> str:
        """Read what is left; return the digest of the uncompressed bytes, `sha256:HEX`."""
        while self.take(STEP):
            pass
        self._check_digest()
        return f"sha256:{self._unpacked.hexdigest()}"

    @property
    def limit(self) -> int:
        """Most bytes that the layer may unpack to, by what was read of it so far."""
        return max(GIB, _EXPANSION * self.stored_size) if self._size_limit is None else self._size_limit

    def _next(self) -> bytes:
        try:
            block = next(self._expanded, b"")
        except DamagedError as error:
            # That the blob is not the promised one is the better reason.
            for _ in self._blocks:
                pass
            self._check_digest()
            raise CorruptImageError(f"{self.what}: {error}") from error
        self._unpacked.update(block)
        if self._position + len(block) > self.limit:
            raise CorruptImageError(f"{self.what}: unpacks to more than {self.limit} bytes; a size limit allows more")
        return block

    def _fetch(self) -> Iterator[bytes]:
        try:
            # One system call at a time: between two of them an interrupt is heard.
            while block := self._file.read1(STEP):
                self._stored.update(block)
                self.stored_size += len(block)
                yield block
        except OSError as error:
            raise StoreError(os.fsencode(self.what), error.errno or errno.EIO) from error

    def _check_digest(self) -> None:
        if self._digest is not None and self._stored.digest() != self._digest:
            raise BlobError(self._digest, "content does not match the digest")
