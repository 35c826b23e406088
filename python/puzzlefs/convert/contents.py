"""File contents on their way into a store, through a pipe to the backend's writer."""

from __future__ import annotations

import fcntl
import os
import threading
from array import array
from collections.abc import Iterable
from contextlib import suppress
from itertools import accumulate
from types import TracebackType
from typing import Self

from puzzlefs import constants, records
from puzzlefs._native import StreamWriter
from puzzlefs.errors import CancelledError
from puzzlefs.rows import BlobRecord
from puzzlefs.tables import Chunk

_PIPE_SIZE = constants.MIB
# Small files travel together.
_BATCH = 128 * constants.KIB
_END = b"\xff" * 8


class Contents:
    """What was stored.

    blobs   the distinct blobs, in order of first use
    chunks  how many chunks were cut
    """

    def __init__(self, tables: tuple[bytes, ...]) -> None:
        blobs, self._rows, counts, stream, _ = tables
        self.blobs = [BlobRecord(*row) for row in records.BLOB.iter_unpack(blobs)]
        self.chunks = len(stream) // 4
        self._ends = array("Q", accumulate(array("I", counts)))

    def of(self, number: int) -> tuple[Chunk, ...]:
        """Return the chunks that cover a file, by the number that `ContentWriter.add` gave it."""
        first, end = self._ends[number - 1] if number else 0, self._ends[number]
        rows = records.CHUNK.iter_unpack(self._rows[first * records.CHUNK.size : end * records.CHUNK.size])
        return tuple((self.blobs[row].digest, flags, offset, length) for row, flags, offset, length in rows)


class ContentWriter:
    """The context in which files are added; the writer runs in a thread until `finish`.

    An error of the writer's is raised where the next file is added, or by `finish`.
    """

    def __init__(self, writer: StreamWriter) -> None:
        self._writer = writer
        self._outcome: list[tuple[bytes, ...] | BaseException] = []
        self._batch = bytearray()
        self._count = 0

    def __enter__(self) -> Self:
        reading, self._pipe = os.pipe2(os.O_CLOEXEC)
        # Users may have many pipes but few large ones.
        with suppress(OSError):
            fcntl.fcntl(self._pipe, fcntl.F_SETPIPE_SZ, _PIPE_SIZE)
        self._thread = threading.Thread(target=self._run, args=(reading,), name="puzzlefs-contents")
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._thread.is_alive():
            self._writer.cancel()
        self._close()

    def add(self, size: int, pieces: Iterable[memoryview]) -> int:
        """Add a file of `size` bytes that come in pieces; return its number, from 0."""
        self._batch += size.to_bytes(8, "little")
        for piece in pieces:
            if len(self._batch) + len(piece) > _BATCH:
                self._flush()
            if len(piece) > _BATCH:
                self._send(piece)
            else:
                self._batch += piece
        self._count += 1
        return self._count - 1

    def finish(self) -> Contents:
        """Say that there are no more files, and wait until all are stored."""
        self._batch += _END
        self._flush()
        self._close()
        outcome = self._outcome[0]
        if isinstance(outcome, BaseException):
            raise outcome
        return Contents(outcome)

    def _run(self, reading: int) -> None:
        try:
            self._outcome.append(self._writer.run_pipe(reading))
        except BaseException as error:
            self._outcome.append(error)
        finally:
            # Whoever writes learns from this that nobody reads any more.
            os.close(reading)

    def _flush(self) -> None:
        self._send(memoryview(bytes(self._batch)))
        self._batch.clear()

    def _send(self, data: memoryview) -> None:
        try:
            while data:
                data = data[os.write(self._pipe, data) :]
        except BrokenPipeError:
            self._close()
            raise self._failure() from None

    def _failure(self) -> BaseException:
        outcome = self._outcome[0]
        return outcome if isinstance(outcome, BaseException) else CancelledError()

    def _close(self) -> None:
        if self._pipe >= 0:
            os.close(self._pipe)
            self._pipe = -1
        self._thread.join()
