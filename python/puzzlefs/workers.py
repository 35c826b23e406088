"""Threads for work that releases the interpreter, with a bound on how much of it waits."""

from __future__ import annotations

import os

from puzzlefs.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future
    from types import TracebackType
    from typing import Self

_WAITING = 4


def thread_count(jobs: int | None, limit: int | None = None) -> int:
    """Return how many threads to use: `jobs`, or where that is None or 0 one for each processor, `limit` at most.

    Raises `UsageError` for a negative number.
    """
    if jobs is not None and jobs < 0:
        raise UsageError(f"{jobs} jobs: the number cannot be negative")
    processors = len(os.sched_getaffinity(0))
    return jobs or min(processors, limit or processors)


class Workers:
    """A pool of `jobs` threads. The first error of a task stops the rest and is raised to the owner."""

    def __init__(self, jobs: int) -> None:
        import threading
        from concurrent.futures import ThreadPoolExecutor

        self._pool = ThreadPoolExecutor(jobs, "puzzlefs")
        self._room = threading.Semaphore(jobs * _WAITING)
        self._error: BaseException | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._pool.shutdown(wait=True, cancel_futures=error is not None)
        if error is None and self._error is not None:
            raise self._error

    def start(self, task: Callable[[], object], abandon: Callable[[], object]) -> None:
        """Run `task` in a thread, after waiting for room; `abandon` is called instead if it never runs.

        Raises the error of an earlier task, if one failed.
        """
        self._room.acquire()
        if self._error is not None:
            self._room.release()
            abandon()
            raise self._error

        def done(future: Future[object]) -> None:
            if future.cancelled():
                abandon()
            elif self._error is None:
                self._error = future.exception()
            self._room.release()

        self._pool.submit(task).add_done_callback(done)
