"""The stream of a build: file contents -> chunks -> blobs, by the backend's writer, in a thread."""

from __future__ import annotations

import os
import threading
from array import array
from collections.abc import Callable
from typing import NamedTuple

from puzzlefs import constants, records
from puzzlefs._native import StreamWriter, native
from puzzlefs.order import Arrangement, content_size
from puzzlefs.rows import BlobRecord

NO_COMPRESSION, UPSTREAM_COMPRESSION, FRAME_COMPRESSION = 0, 1, 2

_POLL_SECONDS = 0.05
_Tables = tuple[bytes, bytes, bytes, bytes, bytes]


class Form(NamedTuple):
    """How chunks become blobs.

    compression  one of the above
    pack_size    bytes before compression in a pack, on average; 0 makes each chunk a blob
    frame_size   bytes before compression in a frame; 0 means 640 KiB in packs, else 64
    """

    compression: int = NO_COMPRESSION
    pack_size: int = 0
    frame_size: int = 0


class Progress(NamedTuple):
    """How far a build is: files and bytes read, chunks cut, bytes in repeated chunks, bytes written,
    distinct chunks."""

    files: int
    bytes: int
    chunks: int
    duplicate_bytes: int
    written_bytes: int
    unique_chunks: int
    total_bytes: int


class Stream(NamedTuple):
    """What was stored.

    blobs     the distinct blobs, in order of first use
    chunks    `records.CHUNK` rows of all files, file after file
    counts    u32 for each file: how many of those rows are its own
    order     for each chunk cut, repeats included, its row in blobs
    trace     what a later build can be given
    progress  the final counts
    """

    blobs: list[BlobRecord]
    chunks: bytes
    counts: bytes
    order: array[int]
    trace: bytes
    progress: Progress


def store_stream(
    writer: StreamWriter,
    paths: bytes,
    sources: bytes,
    report: Callable[[Progress], None] | None,
    trace: bytes = b"",
    horizon: int = 0,
    arrangement: Arrangement | None = None,
    offered: tuple[bytes, bytes] | None = None,
) -> Stream:
    """Store the contents of files as one stream; `report` is called a few times a second.

    The files come in the order of the tree, and go into the stream as `arrangement` says; None for the
    order of the tree. The other arguments are those of `StreamWriter.run`.
    """
    groups = b""
    if arrangement:
        paths, sources = arrangement.paths(paths), arrangement.sources(sources)
        groups = arrangement.groups.tobytes()
    total = content_size(sources)
    blobs, chunks, counts, order, left = _watch(
        writer,
        lambda: writer.run(paths, sources, trace, horizon, groups, offered),
        lambda: Progress(*writer.progress(), total),
        report,
    )
    if arrangement:
        chunks, counts = arrangement.restored(chunks, counts)
    distinct = [BlobRecord(*row) for row in records.BLOB.iter_unpack(blobs)]
    return Stream(distinct, chunks, counts, array("I", order), left, Progress(*writer.progress(), total))


def stream_writer(root: bytes, blobs: bytes, unfinished: bytes, *, form: Form, jobs: int, sync: bool) -> StreamWriter:
    """Return the backend's writer; `jobs` 0 means one thread for each CPU this process may use."""
    workers = jobs or len(os.sched_getaffinity(0))
    frame_size = form.frame_size or (constants.PACK_FRAME_SIZE if form.pack_size else constants.FRAME_SIZE)
    return native.StreamWriter(
        root, blobs, unfinished, form.compression, frame_size, workers, sync, pack_size=form.pack_size
    )


def _watch(
    writer: StreamWriter,
    run: Callable[[], _Tables],
    progress: Callable[[], Progress],
    report: Callable[[Progress], None] | None,
) -> _Tables:
    """Run the writer in a thread of its own, so that an interrupt is heard at once."""
    outcome: list[_Tables | BaseException] = []

    def work() -> None:
        try:
            outcome.append(run())
        except BaseException as error:
            outcome.append(error)

    thread = threading.Thread(target=work, name="puzzlefs-build")
    thread.start()
    try:
        running = True
        while running:
            thread.join(_POLL_SECONDS)
            running = thread.is_alive()
            # Told at least once, and last when all is done.
            if report:
                report(progress())
    except BaseException:
        writer.cancel()
        thread.join()
        raise
    if isinstance(outcome[0], BaseException):
        raise outcome[0]
    return outcome[0]
