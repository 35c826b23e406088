"""The build's inner loop: a stream of files to chunks, chunks to blobs (docs/format.md, Chunking)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from struct import pack
from threading import Event

from puzzlefs.constants import FRAME_SIZE_LIMIT
from puzzlefs.errors import CancelledError
from puzzlefs.records import BLOB, CHUNK, COMPRESSED, SOURCE
from puzzlefs.rows import BlobRecord

from .chunk import chunks
from .codec import compress, compress_upstream
from .pipe import Pipe
from .plan import Plan
from .put import BlobDirectory
from .source import SourceRoot, SourceRow
from .stream import Stream
from .trace import Trace, TraceBlob, read_trace, trace_files, write_trace
from .verity import verity_digest

NONE, UPSTREAM, FRAMES = 0, 1, 2


@dataclass
class _Progress:
    """What `StreamWriter.progress` tells, in its order."""

    files: int = 0
    bytes_read: int = 0
    chunks: int = 0
    repeated: int = 0
    written: int = 0


class StreamWriter:
    """Stores files as blobs; `puzzlefs._native.StreamWriter` says what is promised."""

    def __init__(
        self, root: bytes, blobs: bytes, temporary: bytes, compression: int, frame_size: int, jobs: int, sync: bool
    ) -> None:
        if compression not in (NONE, UPSTREAM, FRAMES):
            raise ValueError(f"compression is {compression}: not 0, 1 or 2")
        if compression == FRAMES and not 0 < frame_size <= FRAME_SIZE_LIMIT:
            raise ValueError(f"frame size {frame_size} is not from 1 to {FRAME_SIZE_LIMIT}")
        del jobs  # one thread: the specification is about bytes, not about speed
        self._root = root
        self._directories = blobs, temporary, sync
        self._compression = compression
        self._form = compression, frame_size if compression == FRAMES else 0
        self._started = False
        self._cancelled = Event()
        self._progress = _Progress()

    def cancel(self) -> None:
        self._cancelled.set()

    def progress(self) -> tuple[int, int, int, int, int]:
        now = self._progress
        return now.files, now.bytes_read, now.chunks, now.repeated, now.written

    def run(
        self, paths: bytes, sources: bytes, trace: bytes | None = None, horizon: int = 0
    ) -> tuple[bytes, bytes, bytes, bytes, bytes]:
        self._start()
        names = paths.split(b"\0")
        if names.pop() or len(sources) != len(names) * SOURCE.size:
            raise ValueError("as many paths as source rows are needed")
        rows = [SourceRow(*row) for row in SOURCE.iter_unpack(sources)]
        files = trace_files(names, rows, horizon)
        with SourceRoot(self._root) as root, BlobDirectory(*self._directories) as store:
            plan = Plan(read_trace(trace or b"", *self._form), files, store.holds)
            table = self._store_all(_chunks(Stream(root, names, rows, self._reach), plan), plan, store)
        left = write_trace(Trace(files, table.trace(), table.stream), *self._form)
        return *table.packed([row.size for row in rows]), left

    def run_pipe(self, fd: int) -> tuple[bytes, bytes, bytes, bytes, bytes]:
        self._start()
        pipe = Pipe(fd, self._reach)
        with BlobDirectory(*self._directories) as store:
            plan = Plan(read_trace(b"", *self._form), [], store.holds)
            table = self._store_all(chunks(pipe.pieces()), plan, store)
        return *table.packed(pipe.sizes), b""

    def _start(self) -> None:
        if self._started:
            raise RuntimeError("a stream writer runs once")
        self._started = True

    def _store_all(self, cut: Iterator[bytes | TraceBlob], plan: Plan, store: BlobDirectory) -> _BlobTable:
        table = _BlobTable()
        for chunk in cut:
            self._check_cancelled()
            if isinstance(chunk, TraceBlob):
                table.note(self._recall(table, chunk), chunk.blob.raw_size)
            else:
                table.note(self._store(store, table, chunk, plan), len(chunk))
            self._progress.chunks += 1
        return table

    def _check_cancelled(self) -> None:
        if self._cancelled.is_set():
            raise CancelledError

    def _reach(self, files: int, position: int) -> None:
        self._check_cancelled()
        self._progress.files = max(files, self._progress.files)
        self._progress.bytes_read = max(position, self._progress.bytes_read)

    def _recall(self, table: _BlobTable, known: TraceBlob) -> int:
        """Take a stored blob for a chunk that an earlier build cut; return its row in the blob table."""
        if known.content in table.by_content:
            self._progress.repeated += known.blob.raw_size
            return table.by_content[known.content]
        return table.add(known.content, known.blob)

    def _store(self, store: BlobDirectory, table: _BlobTable, chunk: bytes, plan: Plan) -> int:
        """Store a chunk unless it was stored before; return its row in the blob table."""
        content = sha256(chunk).digest()
        if content in table.by_content:
            self._progress.repeated += len(chunk)
            return table.by_content[content]
        if content in plan.by_content:
            return table.add(content, plan.by_content[content])
        stored, measured, flags = self._compressed(chunk)
        digest = sha256(stored).digest()
        if store.put(digest, stored):
            self._progress.written += len(stored)
        return table.add(content, BlobRecord(digest, verity_digest(measured), len(stored), len(chunk), flags, 0))

    def _compressed(self, chunk: bytes) -> tuple[bytes, bytes, int]:
        """Return (bytes to store, bytes whose fs-verity digest is recorded, flags).

        A chunk that compression does not make smaller is stored as it is. The original records the
        digest of the compressed bytes even then (docs/format.md, fs-verity digest).
        """
        if self._compression == NONE:
            return chunk, chunk, 0
        upstream = self._compression == UPSTREAM
        small = compress_upstream(chunk) if upstream else compress(chunk, self._form[1])
        if len(small) < len(chunk):
            return small, small, COMPRESSED
        return chunk, small if upstream else chunk, 0


class _BlobTable:
    """Rows of `records.BLOB` in order of first use, one for each distinct (digest, flags).

    That is one for each distinct content: it decides both, and both give it back.
    stream has the row of each chunk cut, lengths the chunk's size.
    """

    def __init__(self) -> None:
        self.stream: list[int] = []
        self.lengths: list[int] = []
        self.rows: list[bytes] = []
        self.flags: list[int] = []
        self.by_content: dict[bytes, int] = {}

    def add(self, content: bytes, record: BlobRecord) -> int:
        """Append the row of a new content, given by its digest; return its number."""
        self.by_content[content] = len(self.rows)
        self.rows.append(BLOB.pack(*record))
        self.flags.append(record.flags)
        return self.by_content[content]

    def note(self, row: int, length: int) -> None:
        """Append a chunk to the stream."""
        self.stream.append(row)
        self.lengths.append(length)

    def packed(self, sizes: list[int]) -> tuple[bytes, bytes, bytes, bytes]:
        """Return the first four tables of `run` for files of these sizes."""
        spread, counts = _spread(sizes, self.lengths, self.stream, self.flags)
        numbers = pack(f"<{len(self.stream)}I", *self.stream)
        return b"".join(self.rows), spread, pack(f"<{len(counts)}I", *counts), numbers

    def trace(self) -> list[TraceBlob]:
        """Return the rows with the digests of their contents."""
        return [
            TraceBlob(content, BlobRecord(*BLOB.unpack(self.rows[row]))) for content, row in self.by_content.items()
        ]


def _chunks(stream: Stream, plan: Plan) -> Iterator[bytes | TraceBlob]:
    """Yield every chunk of a stream, or the blob that holds it where that is known without reading."""
    at = 0
    while True:
        while known := plan.chunk_at(at):
            yield known
            at += known.blob.raw_size
        stream.seek(at)
        if stream.is_over:
            return
        for chunk in chunks(stream.pieces()):
            yield chunk
            at += len(chunk)
            if plan.chunk_at(at):
                break


def _spread(sizes: list[int], lengths: list[int], stream: list[int], flags: list[int]) -> tuple[bytes, list[int]]:
    """Return the chunk rows that cover files of these sizes, one after another, and how many each has."""
    rows = bytearray()
    counts = []
    number, used = 0, 0
    for size in sizes:
        counts.append(0)
        left = size
        while left:
            length = min(left, lengths[number] - used)
            rows += CHUNK.pack(stream[number], flags[stream[number]], used, length)
            counts[-1] += 1
            left -= length
            used += length
            if used == lengths[number]:
                number, used = number + 1, 0
    return bytes(rows), counts
