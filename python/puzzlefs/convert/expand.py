"""Decompression of layers in bounded steps, whatever the compression: it is told by the first bytes."""

from __future__ import annotations

import bz2
import lzma
import sys
import zlib
from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol

from puzzlefs.constants import MIB

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

STEP = MIB
"""Bytes that are read, and at most unpacked, at a time."""
_MAGIC_SIZE = 6
_XZ_MEMORY = 256 * MIB
_SKIPPABLE = tuple(bytes([low, 0x2A, 0x4D, 0x18]) for low in range(0x50, 0x60))


class DamagedError(Exception):
    """Compressed data cannot be decompressed; the message says of what kind it is."""


class _Decompressor(Protocol):
    """Decompresses one member or frame, as the standard library's decompressors do."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int) -> bytes: ...


class _Gzip:
    """One gzip member."""

    def __init__(self) -> None:
        self._inflate = zlib.decompressobj(zlib.MAX_WBITS | 16)

    @property
    def eof(self) -> bool:
        return self._inflate.eof

    @property
    def needs_input(self) -> bool:
        return not self._inflate.unconsumed_tail

    @property
    def unused_data(self) -> bytes:
        return self._inflate.unused_data

    def decompress(self, data: bytes, max_length: int) -> bytes:
        return self._inflate.decompress(self._inflate.unconsumed_tail + data, max_length)


class _Kind(NamedTuple):
    """A compression: its name, what members or frames begin with, what decompresses one."""

    name: str
    magics: tuple[bytes, ...]
    decompressor: Callable[[], _Decompressor]


_KINDS = (
    _Kind("gzip", (b"\x1f\x8b",), _Gzip),
    _Kind("zstd", (b"\x28\xb5\x2f\xfd", *_SKIPPABLE), zstd.ZstdDecompressor),
    _Kind("xz", (b"\xfd7zXZ\x00",), lambda: lzma.LZMADecompressor(memlimit=_XZ_MEMORY)),
    _Kind("bzip2", (b"BZh",), bz2.BZ2Decompressor),
)
_ERRORS = (zlib.error, zstd.ZstdError, lzma.LZMAError, OSError, EOFError)


def expand(blocks: Iterator[bytes]) -> Iterator[bytes]:
    """Yield the uncompressed bytes of a file that comes in blocks, at most `STEP` at a time.

    Members and frames may follow one another, and zeros the last. Raises `DamagedError`.
    """
    data = _at_least(b"", blocks)
    kind = next((kind for kind in _KINDS if data.startswith(kind.magics)), None)
    if kind is None:
        while data:
            yield data
            data = next(blocks, b"")
        return
    while data:
        if not data.startswith(kind.magics):
            _only_zeros(data, blocks, kind.name)
            return
        decompressor = kind.decompressor()
        yield from _member(decompressor, data, blocks, kind.name)
        data = _at_least(decompressor.unused_data, blocks)


def _member(decompressor: _Decompressor, data: bytes, blocks: Iterator[bytes], name: str) -> Iterator[bytes]:
    while not decompressor.eof:
        last = False
        if decompressor.needs_input and not data:
            data = next(blocks, b"")
            last = not data
        try:
            piece = decompressor.decompress(data, STEP)
        except _ERRORS as error:
            raise DamagedError(f"damaged {name} data") from error
        data = b""
        if piece:
            yield piece
        elif last and not decompressor.eof:
            raise DamagedError(f"the {name} data ends early")


def _at_least(data: bytes, blocks: Iterator[bytes]) -> bytes:
    """Return `data` with so much more that it can be told how it begins."""
    while len(data) < _MAGIC_SIZE and (more := next(blocks, b"")):
        data += more
    return data


def _only_zeros(data: bytes, blocks: Iterator[bytes], name: str) -> None:
    while data:
        if data.count(0) != len(data):
            raise DamagedError(f"something else follows the {name} data")
        data = next(blocks, b"")
