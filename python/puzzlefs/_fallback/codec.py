"""Compressed blobs: the Zstandard seekable format (docs/format.md, Compressed blobs, and section 10)."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate
from struct import Struct
from typing import Final, NamedTuple

from puzzlefs.constants import (
    FRAME_COUNT_LIMIT,
    FRAME_SIZE_LIMIT,
    STORED_FRAME_LIMIT,
    UPSTREAM_FRAME_SIZE,
    ZSTD_LEVEL,
)
from puzzlefs.errors import CorruptImageError

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

SKIPPABLE_MAGIC: Final = 0x184D2A5E
SEEKABLE_MAGIC: Final = 0x8F92EAB1
HEADER: Final = Struct("<II")  # magic, bytes that follow
ENTRY: Final = Struct("<II")  # compressed and uncompressed size of a frame
FOOTER: Final = Struct("<IBI")  # frames, descriptor, magic
CHECKSUMS: Final = 0x80
RESERVED: Final = 0x7C
# A frame may ask for any window: what it takes is bounded by its content, FRAME_SIZE_LIMIT.
ANY_WINDOW: Final[Mapping[int, int]] = {zstd.DecompressionParameter.window_log_max: 31}


class SeekTable(NamedTuple):
    """Where the frames are: for n frames, n + 1 ascending offsets in the blob and in its content."""

    stored: list[int]
    content: list[int]


class Frame(NamedTuple):
    """A frame and how many bytes it holds."""

    stored: bytes
    size: int


def _pieces(data: bytes, size: int) -> Iterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


def compress_frames(data: bytes, frame_size: int) -> list[Frame]:
    """Return `data` as frames of `frame_size` bytes, each compressed in one call."""
    if not 0 < frame_size <= FRAME_SIZE_LIMIT:
        raise ValueError(f"frame size {frame_size} is not from 1 to {FRAME_SIZE_LIMIT}")
    return [Frame(zstd.compress(piece, ZSTD_LEVEL), len(piece)) for piece in _pieces(data, frame_size)]


def upstream_frames(data: bytes) -> list[Frame]:
    """Return `data` as the original compresses it: the frame's end comes as a second call, so that
    its header does not tell the size."""
    frames = []
    for piece in _pieces(data, UPSTREAM_FRAME_SIZE):
        stream = zstd.ZstdCompressor(ZSTD_LEVEL)
        frames.append(Frame(stream.compress(piece) + stream.flush(stream.FLUSH_FRAME), len(piece)))
    return frames


def seekable(frames: Sequence[Frame]) -> bytes:
    """Return a blob: the frames and their seek table."""
    entries = b"".join(ENTRY.pack(len(frame.stored), frame.size) for frame in frames)
    header = HEADER.pack(SKIPPABLE_MAGIC, len(entries) + FOOTER.size)
    footer = FOOTER.pack(len(frames), 0, SEEKABLE_MAGIC)
    return b"".join([*(frame.stored for frame in frames), header, entries, footer])


def compress(data: bytes, frame_size: int) -> bytes:
    """Return the blob of `data` in frames of `frame_size` bytes."""
    return seekable(compress_frames(data, frame_size))


def compress_upstream(data: bytes) -> bytes:
    """Return the blob of `data` as the original writes it."""
    return seekable(upstream_frames(data))


def table_length(size: int, tail: bytes) -> int:
    """Return the length of the seek table, header and footer included.

    size  of the blob
    tail  its last bytes, at least 9 if it has them
    """
    if size < HEADER.size + FOOTER.size:
        raise CorruptImageError("seek table missing")
    count, descriptor, magic = FOOTER.unpack(tail[-FOOTER.size :])
    length: int = HEADER.size + count * (12 if descriptor & CHECKSUMS else 8) + FOOTER.size
    if magic != SEEKABLE_MAGIC or length > size:
        raise CorruptImageError("seek table missing")
    if count > FRAME_COUNT_LIMIT:
        raise CorruptImageError("too many frames")
    return length


def parse_table(table: bytes, preceding: int) -> SeekTable:
    """Return the frames that a seek table of `table_length` bytes lists after `preceding` bytes of frames."""
    magic, following = HEADER.unpack_from(table)
    if magic != SKIPPABLE_MAGIC or following != len(table) - HEADER.size:
        raise CorruptImageError("seek table missing")
    count, descriptor, _ = FOOTER.unpack(table[-FOOTER.size :])
    if descriptor & RESERVED:
        raise CorruptImageError("seek table malformed")
    step = 12 if descriptor & CHECKSUMS else 8
    entries = [ENTRY.unpack_from(table, HEADER.size + row * step) for row in range(count)]
    stored = list(accumulate((entry[0] for entry in entries), initial=0))
    if stored[-1] != preceding:
        raise CorruptImageError("seek table does not match the blob")
    if any(entry[0] > STORED_FRAME_LIMIT or entry[1] > FRAME_SIZE_LIMIT for entry in entries):
        raise CorruptImageError("frame too large")
    return SeekTable(stored, list(accumulate((entry[1] for entry in entries), initial=0)))


def decode_frame(data: bytes, size: int) -> bytes:
    """Return the content of what stands for one frame in the seek table; never more than `size` bytes."""
    content = bytearray()
    try:
        while data:
            stream = zstd.ZstdDecompressor(options=ANY_WINDOW)
            content += stream.decompress(data, size - len(content) + 1)
            if not stream.eof or len(content) > size:
                raise CorruptImageError("frame damaged")
            data = stream.unused_data
    except zstd.ZstdError:
        raise CorruptImageError("frame damaged") from None
    if len(content) != size:
        raise CorruptImageError("frame damaged")
    return bytes(content)


def decompress(data: bytes) -> bytes:
    """Return the content of a whole compressed blob."""
    length = table_length(len(data), data)
    table = parse_table(data[-length:], len(data) - length)
    content = bytearray()
    for row in range(len(table.stored) - 1):
        size = table.content[row + 1] - table.content[row]
        content += decode_frame(data[table.stored[row] : table.stored[row + 1]], size)
    return bytes(content)


def check_frames(fd: int, end: int) -> int:
    """Decode the frames that hold the first `end` bytes of the blob open as `fd`; return how many bytes it holds."""
    size = os.fstat(fd).st_size
    length = table_length(size, _read(fd, max(0, size - FOOTER.size), FOOTER.size))
    table = parse_table(_read(fd, size - length, length), size - length)
    for row in range(len(table.stored) - 1):
        if table.content[row] >= end:
            break
        stored = _read(fd, table.stored[row], table.stored[row + 1] - table.stored[row])
        decode_frame(stored, table.content[row + 1] - table.content[row])
    return table.content[-1]


def _read(fd: int, offset: int, length: int) -> bytes:
    pieces = bytearray()
    while piece := os.pread(fd, length - len(pieces), offset + len(pieces)):
        pieces += piece
    return bytes(pieces)
