"""What a build leaves for the next one of the same tree: the *trace* of its stream.

A header (`_HEADER`: `PZTRACE3`, kind of compression, frame size, pack size, number of files, blobs,
distinct chunks, chunks and group starts), then for each file with content, in stream order, its identity and size;
for each blob its `records.BLOB` row; for each distinct chunk its SHA-256, row of its blob, length,
and offset in the blob's uncompressed bytes; for each chunk in stream order, u32 row of the distinct
chunk; u64 position of each group's start but the first.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from itertools import accumulate, pairwise
from struct import Struct, error, iter_unpack, pack
from typing import Final, NamedTuple

from puzzlefs.constants import CHUNK_MAX
from puzzlefs.records import BLOB, COMPRESSED, CONTENT, SOURCE
from puzzlefs.rows import BlobRecord

from .source import SourceRow

_MAGIC = b"PZTRACE3"
_HEADER = Struct("<8sIIQQQQQQ")
_FILE = Struct("<16sQ")
_NANO = 1_000_000_000

UNKNOWN = bytes(16)
"""The identity of a file that may have changed without a sign."""


OFFERED: Final = 1
"""Marks in the last field of a blob's row, in traces alone, that another image offered the blob."""


class TraceFile(NamedTuple):
    """A file with content; its identity names its path with all that the system said of it."""

    identity: bytes
    size: int


class TraceChunk(NamedTuple):
    """A chunk: its SHA-256, the row of its blob, its length, and its offset there."""

    content: bytes
    blob: int
    length: int
    offset: int


class Trace(NamedTuple):
    """The trace of a stream.

    files   those with content
    chunks  the distinct ones
    stream  the row of each chunk
    groups  where groups of files but the first begin
    """

    files: list[TraceFile]
    blobs: list[BlobRecord]
    chunks: list[TraceChunk]
    stream: list[int]
    groups: list[int]

    def positions(self) -> list[int]:
        """Return where each chunk starts in the stream, and its end."""
        return list(accumulate((self.chunks[row].length for row in self.stream), initial=0))


NO_TRACE: Final = Trace([], [], [], [], [])


def is_evidence(changed: int, horizon: int) -> bool:
    """Tell whether a time of change (ns) tells a changed inode.

    Two kinds do not: those from `horizon` on, because a later change may fall into the same tick of the
    clock, and whole seconds, because filesystems that make times up, or take them from an image, give such.
    """
    return changed < horizon and changed % _NANO != 0


def trace_file(path: bytes, row: SourceRow, horizon: int) -> TraceFile:
    """Describe a file as it was scanned; for `horizon` see `is_evidence`."""
    if not is_evidence(row.changed, horizon):
        return TraceFile(UNKNOWN, row.size)
    return TraceFile(sha256(SOURCE.pack(*row) + path).digest()[:16], row.size)


def read_trace(content: bytes, form: tuple[int, int, int]) -> Trace:
    """Read a trace; whatever is none, or one of blobs of another form, is as good as an empty one."""
    try:
        trace = _parse(content, form)
    except (error, ValueError):
        return NO_TRACE
    return trace if _is_consistent(trace) else NO_TRACE


def _parse(content: bytes, form: tuple[int, int, int]) -> Trace:
    magic, *found, files, blobs, chunks, stream, groups = _HEADER.unpack_from(content)
    widths = [(files, _FILE.size), (blobs, BLOB.size), (chunks, CONTENT.size), (stream, 4), (groups, 8)]
    ends = list(accumulate((count * width for count, width in widths), initial=_HEADER.size))
    if magic != _MAGIC or tuple(found) != form or ends[-1] != len(content):
        raise ValueError("not a trace of such blobs")
    tables = [content[start:end] for start, end in pairwise(ends)]
    return Trace(
        [TraceFile(*row) for row in _FILE.iter_unpack(tables[0])],
        [BlobRecord(*row) for row in BLOB.iter_unpack(tables[1])],
        [TraceChunk(*row) for row in CONTENT.iter_unpack(tables[2])],
        [row for (row,) in iter_unpack("<I", tables[3])],
        [start for (start,) in iter_unpack("<Q", tables[4])],
    )


def _is_consistent(trace: Trace) -> bool:
    """Tell whether the chunks are some, each inside its blob, and as many bytes as the files."""
    if any(blob.flags not in (0, COMPRESSED) for blob in trace.blobs):
        return False
    for chunk in trace.chunks:
        if not 0 < chunk.length <= CHUNK_MAX or chunk.blob >= len(trace.blobs):
            return False
        if chunk.offset + chunk.length > trace.blobs[chunk.blob].raw_size:
            return False
    if not all(row < len(trace.chunks) for row in trace.stream):
        return False
    if trace.groups != sorted(trace.groups):
        return False
    return sum(file.size for file in trace.files) == sum(trace.chunks[row].length for row in trace.stream)


def write_trace(trace: Trace, form: tuple[int, int, int]) -> bytes:
    """Return the bytes of a trace."""
    pieces = [_HEADER.pack(_MAGIC, *form, *(len(table) for table in trace))]
    pieces += [_FILE.pack(*file) for file in trace.files]
    pieces += [BLOB.pack(*blob) for blob in trace.blobs]
    pieces += [CONTENT.pack(*chunk) for chunk in trace.chunks]
    pieces.append(pack(f"<{len(trace.stream)}I", *trace.stream))
    pieces.append(pack(f"<{len(trace.groups)}Q", *trace.groups))
    return b"".join(pieces)


def trace_files(paths: Sequence[bytes], rows: Sequence[SourceRow], horizon: int) -> list[TraceFile]:
    """Return what a trace says of the files with content."""
    return [trace_file(path, row, horizon) for path, row in zip(paths, rows, strict=True) if row.size]
