"""What a build leaves for the next one of the same tree: the *trace* of its stream.

A header (`_HEADER`: `PZTRACE1`, kind of compression, frame size, number of files, blobs and chunks),
then for each file with content, in stream order, its identity and size; for each blob the SHA-256
of the chunk and its `records.BLOB` row; for each chunk in stream order, u32 row of its blob.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from itertools import accumulate, pairwise
from struct import Struct, error, iter_unpack, pack
from typing import NamedTuple

from puzzlefs.constants import CHUNK_MAX
from puzzlefs.records import BLOB, COMPRESSED, SOURCE
from puzzlefs.rows import BlobRecord

from .source import SourceRow

_MAGIC = b"PZTRACE1"
_HEADER = Struct("<8sIIQQQ")
_FILE = Struct("<16sQ")
_NANO = 1_000_000_000

UNKNOWN = bytes(16)
"""The identity of a file that may have changed without a sign."""


class TraceFile(NamedTuple):
    """A file with content; its identity names its path with all that the system said of it."""

    identity: bytes
    size: int


class TraceBlob(NamedTuple):
    """A blob, and the SHA-256 of the chunk that it holds."""

    content: bytes
    blob: BlobRecord


class Trace(NamedTuple):
    """The trace of a stream: its files with content, its distinct chunks, the row of each chunk."""

    files: list[TraceFile]
    blobs: list[TraceBlob]
    chunks: list[int]

    def positions(self) -> list[int]:
        """Return where each chunk starts in the stream, and its end."""
        return list(accumulate((self.blobs[row].blob.raw_size for row in self.chunks), initial=0))


def trace_file(path: bytes, row: SourceRow, horizon: int) -> TraceFile:
    """Describe a file as it was scanned.

    Two kinds of change times are no evidence that a file is still what it was: those from `horizon`
    on, because a later change may fall into the same tick of the clock, and whole seconds, because
    filesystems that make times up, or take them from an image, give such.
    """
    if row.changed >= horizon or row.changed % _NANO == 0:
        return TraceFile(UNKNOWN, row.size)
    return TraceFile(sha256(SOURCE.pack(*row) + path).digest()[:16], row.size)


def read_trace(content: bytes, compression: int, frame_size: int) -> Trace:
    """Read a trace; whatever is none, or one of blobs that are compressed otherwise, is as good as
    an empty one."""
    try:
        trace = _parse(content, compression, frame_size)
    except (error, ValueError):
        return Trace([], [], [])
    return trace if _is_consistent(trace) else Trace([], [], [])


def _parse(content: bytes, compression: int, frame_size: int) -> Trace:
    magic, *form, files, blobs, chunks = _HEADER.unpack_from(content)
    widths = [(files, _FILE.size), (blobs, 32 + BLOB.size), (chunks, 4)]
    ends = list(accumulate((count * width for count, width in widths), initial=_HEADER.size))
    if magic != _MAGIC or form != [compression, frame_size] or ends[-1] != len(content):
        raise ValueError("not a trace of such blobs")
    tables = [content[start:end] for start, end in pairwise(ends)]
    blob_rows = iter_unpack("<32s88s", tables[1])
    return Trace(
        [TraceFile(*row) for row in _FILE.iter_unpack(tables[0])],
        [TraceBlob(digest, BlobRecord(*BLOB.unpack(row))) for digest, row in blob_rows],
        [row for (row,) in iter_unpack("<I", tables[2])],
    )


def _is_consistent(trace: Trace) -> bool:
    """Tell whether the chunks are some, and as many bytes as the files."""
    blobs = [known.blob for known in trace.blobs]
    if not all(0 < blob.raw_size <= CHUNK_MAX and blob.flags in (0, COMPRESSED) for blob in blobs):
        return False
    if not all(row < len(blobs) for row in trace.chunks):
        return False
    return sum(file.size for file in trace.files) == sum(blobs[row].raw_size for row in trace.chunks)


def write_trace(trace: Trace, compression: int, frame_size: int) -> bytes:
    """Return the bytes of a trace."""
    counts = len(trace.files), len(trace.blobs), len(trace.chunks)
    pieces = [_HEADER.pack(_MAGIC, compression, frame_size, *counts)]
    pieces += [_FILE.pack(*file) for file in trace.files]
    pieces += [known.content + BLOB.pack(*known.blob) for known in trace.blobs]
    pieces.append(pack(f"<{len(trace.chunks)}I", *trace.chunks))
    return b"".join(pieces)


def trace_files(paths: Sequence[bytes], rows: Sequence[SourceRow], horizon: int) -> list[TraceFile]:
    """Return what a trace says of the files with content."""
    return [trace_file(path, row, horizon) for path, row in zip(paths, rows, strict=True) if row.size]
