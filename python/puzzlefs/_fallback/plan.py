"""Which chunks of a stream are known from the trace of an earlier one.

A cut depends only on the bytes since the cut before it, and on how many follow up to the largest
size of a chunk or to the end of the group. So where the stream has a cut at which the earlier one had one too, and the same
bytes follow, the chunk that follows is the same.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from puzzlefs.constants import CHUNK_MAX
from puzzlefs.records import COMPRESSED
from puzzlefs.rows import BlobRecord

from .blob import Blob
from .trace import OFFERED, UNKNOWN, Trace, TraceChunk, TraceFile


@dataclass(slots=True)
class _Span:
    """A run of files, one after another, that are one after another in the earlier stream too.

    start, earlier  where it starts in the stream, and in the earlier one
    """

    start: int
    earlier: int
    length: int


class Plan:
    """The known chunks of a stream. It is asked about ever later positions.

    groups     where in the stream groups of files begin
    directory  of the blobs
    """

    def __init__(
        self,
        trace: Trace,
        files: Sequence[TraceFile],
        groups: Sequence[int],
        is_stored: Callable[[BlobRecord], bool],
        directory: bytes,
    ) -> None:
        self._trace = trace
        self._stored = [is_stored(blob) for blob in trace.blobs]
        known = [chunk for chunk in trace.chunks if self._stored[chunk.blob]]
        self._by_content = {chunk.content: chunk for chunk in known}
        self._packs = {contents: trace.blobs[blob] for blob, contents in _whole(trace).items() if self._stored[blob]}
        self._directory = directory
        self._opened: tuple[int, Blob] | None = None
        self._spans = _spans(trace.files, files)
        self._chunks = {start: number for number, start in enumerate(trace.positions()[:-1])}
        self._earlier_total = sum(file.size for file in trace.files)
        self._total = sum(file.size for file in files)
        self._groups = groups
        self._passed = 0

    def chunk_at(self, at: int) -> TraceChunk | None:
        """Return the chunk that begins at `at`, a cut of the stream, if it is known and stored."""
        span = self._span_at(at)
        if span is None or span.start > at:
            return None
        earlier = span.earlier + at - span.start
        number = self._chunks.get(earlier)
        if number is None:
            return None
        known = self._trace.chunks[self._trace.stream[number]]
        if not self._stored[known.blob]:
            return None
        reach = _reach(self._groups, at, self._total)
        same_reach = reach == _reach(self._trace.groups, earlier, self._earlier_total)
        inside = earlier + known.length <= span.earlier + span.length
        return known if same_reach and inside else None

    def group_end(self, at: int) -> int | None:
        """Return where the group of files that goes on at `at` ends; None where it is the last one."""
        return _group_end(self._groups, at)

    def blob_of(self, contents: Sequence[bytes]) -> BlobRecord | None:
        """Return the stored blob that holds exactly the chunks of these SHA-256, if there is one."""
        return self._packs.get(tuple(contents))

    def read(self, content: bytes) -> bytes:
        """Return the bytes of a known chunk, from its blob. Raises `BlobError`."""
        chunk = self._by_content[content]
        if self._opened is None or self._opened[0] != chunk.blob:
            blob = self._trace.blobs[chunk.blob]
            self._opened = chunk.blob, Blob(self._directory, blob.digest, blob.verity, check=True, recheck=False)
        flags = self._trace.blobs[chunk.blob].flags
        return self._opened[1].content(chunk.offset, chunk.length, bool(flags & COMPRESSED))

    def _span_at(self, at: int) -> _Span | None:
        """Return the span at or after `at`."""
        while self._passed < len(self._spans):
            span = self._spans[self._passed]
            if at < span.start + span.length:
                return span
            self._passed += 1
        return None


def _group_end(groups: Sequence[int], at: int) -> int | None:
    number = bisect_right(groups, at)
    return groups[number] if number < len(groups) else None


def _reach(groups: Sequence[int], at: int, total: int) -> int:
    """Return how many bytes from `at` on can tell where the next cut is."""
    end = _group_end(groups, at)
    return min(total if end is None else min(end, total), at + CHUNK_MAX) - at


def _whole(trace: Trace) -> dict[int, tuple[bytes, ...]]:
    """Return the SHA-256 of the chunks, in order, of each blob that the build made of them."""
    contents: dict[int, list[bytes]] = {row: [] for row in range(len(trace.blobs))}
    ends = dict.fromkeys(contents, 0)
    for chunk in sorted(trace.chunks, key=lambda chunk: (chunk.blob, chunk.offset)):
        if ends.get(chunk.blob) != chunk.offset or trace.blobs[chunk.blob].reserved == OFFERED:
            ends.pop(chunk.blob, None)
            continue
        ends[chunk.blob] += chunk.length
        contents[chunk.blob].append(chunk.content)
    return {row: tuple(contents[row]) for row, end in ends.items() if end == trace.blobs[row].raw_size}


def _spans(earlier: Sequence[TraceFile], files: Sequence[TraceFile]) -> list[_Span]:
    places: dict[TraceFile, tuple[int, int]] = {}
    at = 0
    for number, file in enumerate(earlier):
        if file.identity != UNKNOWN:
            places[file] = number, at
        at += file.size
    spans: list[_Span] = []
    at, expected = 0, -1
    for file in files:
        number, start = places.get(file, (-1, 0))
        if number >= 0 and number == expected:
            spans[-1].length += file.size
        elif number >= 0:
            spans.append(_Span(at, start, file.size))
        expected = number + 1 if number >= 0 else -1
        at += file.size
    return spans
