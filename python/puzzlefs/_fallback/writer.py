"""The build's inner loop: a stream of files to chunks, chunks to packs, packs to blobs (docs/format.md, Chunking)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import accumulate
from struct import iter_unpack, pack
from threading import Event

from puzzlefs.constants import FRAME_SIZE_LIMIT, PACK_SIZE_MAX, PACK_SIZE_MIN
from puzzlefs.errors import BlobError, CancelledError
from puzzlefs.records import BLOB, CHUNK, CONTENT, SOURCE
from puzzlefs.rows import BlobRecord

from .chunk import chunks
from .packer import FRAMES, NONE, UPSTREAM, Form, Item, Offered, Packer
from .pipe import Pipe
from .plan import Plan
from .put import BlobDirectory
from .source import SourceRoot, SourceRow
from .stream import Stream
from .trace import NO_TRACE, Trace, TraceChunk, read_trace, trace_files, write_trace


@dataclass
class _Progress:
    """What `StreamWriter.progress` tells, in its order."""

    files: int = 0
    bytes_read: int = 0
    chunks: int = 0
    repeated: int = 0
    written: int = 0
    distinct: int = 0


class StreamWriter:
    """Stores files as blobs; `puzzlefs._native.StreamWriter` says what is promised."""

    def __init__(
        self,
        root: bytes,
        blobs: bytes,
        temporary: bytes,
        compression: int,
        frame_size: int,
        jobs: int,
        sync: bool,
        pack_size: int = 0,
    ) -> None:
        self._form = _checked_form(compression, frame_size, pack_size)
        del jobs  # one thread: the specification is about bytes, not about speed
        self._root = root
        self._directories = blobs, temporary, sync
        self._started = False
        self._cancelled = Event()
        self._progress = _Progress()

    def cancel(self) -> None:
        self._cancelled.set()

    def progress(self) -> tuple[int, int, int, int, int, int]:
        now = self._progress
        return now.files, now.bytes_read, now.chunks, now.repeated, now.written, now.distinct

    def run(
        self,
        paths: bytes,
        sources: bytes,
        trace: bytes | None = None,
        horizon: int = 0,
        groups: bytes | None = None,
        offered: tuple[bytes, bytes] | None = None,
    ) -> tuple[bytes, bytes, bytes, bytes, bytes]:
        self._start()
        names = paths.split(b"\0")
        if names.pop() or len(sources) != len(names) * SOURCE.size:
            raise ValueError("as many paths as source rows are needed")
        rows = [SourceRow(*row) for row in SOURCE.iter_unpack(sources)]
        files = trace_files(names, rows, horizon)
        starts = _group_starts(rows, groups or b"")
        others = _offered(*(offered or (b"", b"")))
        with SourceRoot(self._root) as root, BlobDirectory(*self._directories) as store:

            def stored(trace: Trace) -> Trace:
                plan = Plan(trace, files, starts, store.holds, self._directories[0])
                return self._store(_chunks(Stream(root, names, rows, self._reach), plan), plan, store, starts, others)

            try:
                found = stored(read_trace(trace or b"", self._form))
            except BlobError:
                # A blob of the earlier build is not what it was: its bytes are read from the files.
                self._progress = _Progress()
                found = stored(NO_TRACE)
        return *_tables(found, [row.size for row in rows]), write_trace(
            found._replace(files=files, groups=starts), self._form
        )

    def run_pipe(self, fd: int) -> tuple[bytes, bytes, bytes, bytes, bytes]:
        self._start()
        pipe = Pipe(fd, self._reach)
        with BlobDirectory(*self._directories) as store:
            plan = Plan(NO_TRACE, [], [], store.holds, self._directories[0])
            found = self._store(chunks(pipe.pieces()), plan, store, [], Offered([], {}))
        return *_tables(found, pipe.sizes), b""

    def _start(self) -> None:
        if self._started:
            raise RuntimeError("a stream writer runs once")
        self._started = True

    def _store(
        self,
        cut: Iterator[bytes | TraceChunk],
        plan: Plan,
        store: BlobDirectory,
        groups: Sequence[int],
        offered: Offered,
    ) -> Trace:
        packer = Packer(self._form, store, plan, groups, offered)
        for chunk in cut:
            self._check_cancelled()
            packer.add(_item(chunk))
            self._progress.chunks += 1
            self._tell(packer)
        blobs = packer.end()
        self._tell(packer)
        return _numbered(packer, blobs)

    def _tell(self, packer: Packer) -> None:
        self._progress.repeated, self._progress.written = packer.repeated, packer.written
        self._progress.distinct = len(packer.chunks)

    def _check_cancelled(self) -> None:
        if self._cancelled.is_set():
            raise CancelledError

    def _reach(self, files: int, position: int) -> None:
        self._check_cancelled()
        self._progress.files = max(files, self._progress.files)
        self._progress.bytes_read = max(position, self._progress.bytes_read)


def _checked_form(compression: int, frame_size: int, pack_size: int) -> Form:
    if compression not in (NONE, UPSTREAM, FRAMES):
        raise ValueError(f"compression is {compression}: not 0, 1 or 2")
    if compression == FRAMES and not 0 < frame_size <= FRAME_SIZE_LIMIT:
        raise ValueError(f"frame size {frame_size} is not from 1 to {FRAME_SIZE_LIMIT}")
    if pack_size and compression == UPSTREAM:
        raise ValueError("the original knows no packs")
    if pack_size and not PACK_SIZE_MIN <= pack_size <= PACK_SIZE_MAX:
        raise ValueError(f"pack size {pack_size} is not 0, nor from {PACK_SIZE_MIN} to {PACK_SIZE_MAX}")
    return Form(compression, frame_size if compression == FRAMES else 0, pack_size)


def _group_starts(rows: Sequence[SourceRow], groups: bytes) -> list[int]:
    """Return where in the stream groups begin, given by their first files; a group without content is none."""
    if len(groups) % 4:
        raise ValueError("groups are not ascending u32 numbers")
    firsts = [first for (first,) in iter_unpack("<I", groups)]
    if firsts != sorted(firsts):
        raise ValueError("groups are not ascending u32 numbers")
    ends = list(accumulate((row.size for row in rows), initial=0))
    starts = {ends[min(first, len(rows))] for first in firsts}
    return sorted(starts - {0})


def _offered(blobs: bytes, chunks: bytes) -> Offered:
    """Return what other images offer, from `records.BLOB` and `records.CONTENT` rows."""
    if len(blobs) % BLOB.size or len(chunks) % CONTENT.size:
        raise ValueError("offered chunks are not whole rows")
    offered = Offered([BlobRecord(*row) for row in BLOB.iter_unpack(blobs)], {})
    for chunk in (TraceChunk(*row) for row in CONTENT.iter_unpack(chunks)):
        if chunk.blob >= len(offered.blobs) or chunk.offset + chunk.length > offered.blobs[chunk.blob].raw_size:
            raise ValueError("an offered chunk is not in its blob")
        offered.chunks.setdefault(chunk.content, chunk)
    return offered


def _item(chunk: bytes | TraceChunk) -> Item:
    if isinstance(chunk, TraceChunk):
        return Item(chunk.content, chunk.length, None)
    return Item(sha256(chunk).digest(), len(chunk), chunk)


def _chunks(stream: Stream, plan: Plan) -> Iterator[bytes | TraceChunk]:
    """Yield every chunk of a stream, or where it is stored, if that is known without reading."""
    at = 0
    while True:
        while known := plan.chunk_at(at):
            yield known
            at += known.length
        stream.seek(at)
        if stream.is_over:
            return
        for chunk in chunks(stream.pieces(plan.group_end(at))):
            yield chunk
            at += len(chunk)
            if plan.chunk_at(at):
                break


def _numbered(packer: Packer, packs: list[BlobRecord]) -> Trace:
    """Return the chunks and blobs of a build: one row of the latter for each distinct (digest, flags)."""
    rows: dict[tuple[bytes, int], int] = {}
    blobs: list[BlobRecord] = []
    numbers: list[int] = []
    for blob in packs:
        numbers.append(rows.setdefault((blob.digest, blob.flags), len(blobs)))
        if numbers[-1] == len(blobs):
            blobs.append(blob)
    stored = [chunk._replace(blob=numbers[chunk.blob]) for chunk in packer.chunks]
    return Trace([], blobs, stored, packer.stream, [])


def _tables(stored: Trace, sizes: Sequence[int]) -> tuple[bytes, bytes, bytes, bytes]:
    """Return the first four tables of `run` for files of these sizes."""
    spread, counts = _spread(sizes, stored)
    blobs = b"".join(BLOB.pack(*blob._replace(reserved=0)) for blob in stored.blobs)
    stream = [stored.chunks[row].blob for row in stored.stream]
    return blobs, spread, pack(f"<{len(counts)}I", *counts), pack(f"<{len(stream)}I", *stream)


def _spread(sizes: Sequence[int], stored: Trace) -> tuple[bytes, list[int]]:
    """Return the chunk rows that cover files of these sizes, one after another, and how many each has."""
    rows = bytearray()
    counts = []
    number, used = 0, 0
    for size in sizes:
        counts.append(0)
        left = size
        while left:
            chunk = stored.chunks[stored.stream[number]]
            length = min(left, chunk.length - used)
            rows += CHUNK.pack(chunk.blob, stored.blobs[chunk.blob].flags, chunk.offset + used, length)
            counts[-1] += 1
            left -= length
            used += length
            if used == chunk.length:
                number, used = number + 1, 0
    return bytes(rows), counts
