"""Threads for work that releases the interpreter, with a bound on how much of it waits."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Self

_WAITING = 4


class Workers:
    """A pool of threads. The first error of a task stops the rest and is raised to the owner."""

    def __init__(self, jobs: int) -> None:
        self._pool = ThreadPoolExecutor(jobs, "puzzlefs")
        self._room = threading.Semaphore(jobs * _WAITING)
        self._error: BaseException | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._pool.shutdown(wait=True, cancel_futures=error is not None)
        if error is None and self._error is not None:
            raise self._error

    def start(self, task: Callable[[], None], abandon: Callable[[], None]) -> None:
        """Run `task` in a thread, after waiting for room; `abandon` is called instead if it never runs.

        Raises the error of an earlier task, if one failed.
        """
        self._room.acquire()
        if self._error is not None:
            self._room.release()
            abandon()
            raise self._error

        def done(future: Future[None]) -> None:
            if future.cancelled():
                abandon()
            elif self._error is None:
                self._error = future.exception()
            self._room.release()

        self._pool.submit(task).add_done_callback(done)
