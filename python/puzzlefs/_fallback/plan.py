"""Which chunks of a stream are known from the trace of an earlier one.

A cut depends only on the bytes since the cut before it, and on how many follow up to the largest
size of a chunk. So where the stream has a cut at which the earlier one had one too, and the same
bytes follow, the chunk that follows is the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from puzzlefs.constants import CHUNK_MAX
from puzzlefs.rows import BlobRecord

from .trace import UNKNOWN, Trace, TraceBlob, TraceFile


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

    by_content  the blobs that are stored, by the SHA-256 of the chunk
    """

    def __init__(self, trace: Trace, files: Sequence[TraceFile], is_stored: Callable[[BlobRecord], bool]) -> None:
        self._trace = trace
        self._stored = [is_stored(known.blob) for known in trace.blobs]
        self.by_content = {
            known.content: known.blob for known, stored in zip(trace.blobs, self._stored, strict=True) if stored
        }
        self._spans = _spans(trace.files, files)
        self._chunks = {start: number for number, start in enumerate(trace.positions()[:-1])}
        self._earlier_total = sum(file.size for file in trace.files)
        self._total = sum(file.size for file in files)
        self._passed = 0

    def chunk_at(self, at: int) -> TraceBlob | None:
        """Return the blob of the chunk that begins at `at`, a cut of the stream, if it is known and stored."""
        span = self._span_at(at)
        if span is None or span.start > at:
            return None
        earlier = span.earlier + at - span.start
        number = self._chunks.get(earlier)
        if number is None or not self._stored[self._trace.chunks[number]]:
            return None
        known = self._trace.blobs[self._trace.chunks[number]]
        same_reach = min(self._earlier_total - earlier, CHUNK_MAX) == min(self._total - at, CHUNK_MAX)
        inside = earlier + known.blob.raw_size <= span.earlier + span.length
        return known if same_reach and inside else None

    def _span_at(self, at: int) -> _Span | None:
        """Return the span at or after `at`."""
        while self._passed < len(self._spans):
            span = self._spans[self._passed]
            if at < span.start + span.length:
                return span
            self._passed += 1
        return None


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
