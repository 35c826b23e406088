"""Content-defined chunking: FastCDC, 2020 variant, normalisation level 1 (docs/format.md, Chunking).

The published algorithm takes two bytes a step and tests a doubled hash against a doubled mask at
even positions; that is the same as the byte-wise test below, as no mask has a bit above 47.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import cache
from hashlib import md5
from importlib.util import find_spec
from typing import Final

from puzzlefs.constants import CHUNK_AVERAGE, CHUNK_MAX, CHUNK_MIN

# One 64-bit number for each byte value: the first half of the MD5 of 64 such bytes.
GEAR: Final = [int.from_bytes(md5(bytes([value]) * 64, usedforsecurity=False).digest()[:8]) for value in range(256)]

# A cut falls where the hash has all bits of a mask zero: 17 bits before the average, 15 after it.
MASK_BEFORE: Final = 0x0000_D907_0353_7000
MASK_AFTER: Final = 0x0000_D90F_0353_0000
HASH_BITS: Final = 48
HASH_MASK: Final = (1 << HASH_BITS) - 1


def _regions(size: int) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
    """Return (first position, end, mask) of the positions tested, for `size` bytes in reach.

    Bytes come in pairs, so an odd last one is never tested.
    """
    end = min(size, CHUNK_MAX) & ~1
    average = min(CHUNK_AVERAGE, end)
    return (CHUNK_MIN, average, MASK_BEFORE), (average, end, MASK_AFTER)


def cut_scalar(data: memoryview) -> int:
    """Return the length of the first chunk of `data`, which is the rest of the stream or CHUNK_MAX bytes of it."""
    if len(data) <= CHUNK_MIN:
        return len(data)
    rolling = 0
    for begin, end, mask in _regions(len(data)):
        for position in range(begin, end):
            rolling = (rolling << 1) + GEAR[data[position]] & HASH_MASK
            if not rolling & mask:
                return position
    return min(len(data), CHUNK_MAX)


def cut_vector(data: memoryview) -> int:
    """Return what `cut_scalar` returns, from the hashes of a whole region at a time.

    A bit of the hash below 48 depends on the last 48 bytes. The hash of a window of 2k bytes is
    that of its last k plus, shifted by k, that of its first k: six steps reach 64 bytes.
    """
    if len(data) <= CHUNK_MIN:
        return len(data)
    import numpy as np

    gear = np.array(GEAR, dtype=np.uint64)
    for begin, end, mask in _regions(len(data)):
        first = max(CHUNK_MIN, begin - 63)
        hashes = gear[np.frombuffer(data[first:end], dtype=np.uint8)]
        for k in (1, 2, 4, 8, 16, 32):
            hashes[k:] += hashes[:-k] << np.uint64(k)
        hits = np.flatnonzero((hashes[begin - first :] & np.uint64(mask)) == 0)
        if hits.size:
            return begin + int(hits[0])
    return min(len(data), CHUNK_MAX)


@cache
def _cutter() -> Callable[[memoryview], int]:
    return cut_vector if find_spec("numpy") else cut_scalar


def cut(data: memoryview) -> int:
    """Return the length of the first chunk, the faster way that is installed."""
    return _cutter()(data)


def chunks(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Cut a stream that arrives in pieces; holds CHUNK_MAX bytes and a piece at most."""
    pending = bytearray()
    for piece in pieces:
        pending += piece
        start = 0
        while len(pending) - start >= CHUNK_MAX:
            chunk = bytes(memoryview(pending)[start : start + CHUNK_MAX])
            length = cut(memoryview(chunk))
            yield chunk[:length]
            start += length
        del pending[:start]
    rest = bytes(pending)
    while rest:
        length = cut(memoryview(rest))
        yield rest[:length]
        rest = rest[length:]


def cut_lengths(data: bytes) -> list[int]:
    """Return the lengths of the chunks of `data`, a whole stream."""
    lengths: list[int] = []
    start = 0
    view = memoryview(data)
    while start < len(data):
        lengths.append(cut(view[start : start + CHUNK_MAX]))
        start += lengths[-1]
    return lengths
