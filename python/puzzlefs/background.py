"""One call in a thread of its own, for whoever has something else to do meanwhile."""

from __future__ import annotations

# Not `threading`, which takes as long to load as what a mount does meanwhile.
from _thread import allocate_lock, start_new_thread

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


class Background:
    """A call that has begun; its work should release the interpreter. The process waits for it at no end."""

    def __init__(self, call: Callable[[], Any]) -> None:
        self._call = call
        self._value: Any = None
        self._error: BaseException | None = None
        self._running = allocate_lock()
        self._running.acquire()
        try:
            start_new_thread(self._run, ())
        except RuntimeError:
            # No more threads: then here.
            self._run()

    def result(self) -> Any:
        """Wait for the call to end; return its value, or raise what it raised."""
        with self._running:
            if self._error is not None:
                raise self._error
            return self._value

    def _run(self) -> None:
        try:
            self._value = self._call()
        except BaseException as error:
            self._error = error
        finally:
            self._running.release()
