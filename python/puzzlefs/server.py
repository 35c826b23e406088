"""Running the compiled server: mount, pass on what it says, stop when told to."""

from __future__ import annotations

import os
import select

from puzzlefs import kernel_mount, mountinfo
from puzzlefs._native import FuseServer, Index, Reader, native
from puzzlefs.errors import MountError, UnsupportedError
from puzzlefs.mount import MOUNTED, Request
from puzzlefs.mountinfo import Mount
from puzzlefs.notice import tell_service_manager, try_say

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from collections.abc import Callable
    from typing import Any
else:
    # The module behind `signal`, without the enumerations, which take longer to load than an image.
    import _signal as signal

_THREAD_LIMIT = 4
_PAUSE_MS = 50
# How long requests that are on their way when the process is told to stop may take.
_PATIENCE_MS = 5000
_STOPPING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_ANSWERING, _ERROR = b"i", b"e"


class _Stop(Exception):
    """A signal told this process to end."""


def serve(
    index: Index,
    reader: Reader,
    request: Request,
    answers: Callable[[Mount | None], None],
    report: Callable[[Exception], None],
) -> None:
    """Mount as `request` says and serve until the mount ends or a signal says so.

    `answers` is called once the kernel talks, `report` with each error that came up. Raises
    `MountError` with the reason where mounting fails.
    """
    if native.FuseServer is None:
        raise UnsupportedError("this backend has no server of its own")
    session = _Session(native.FuseServer, request, report)
    before = _take_signals()
    try:
        session.start(index, reader)
        session.relay(answers)
    except _Stop:
        tell_service_manager("STOPPING=1")
        session.stop()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Session:
    """One mount, from here."""

    def __init__(self, server: type[FuseServer], request: Request, report: Callable[[Exception], None]) -> None:
        self._class = server
        self._request = request
        self._report = report
        self._server: FuseServer | None = None
        self._mount: Mount | None = None
        self._notices = -1
        # Who is to be told, as long as nobody reads there.
        self._fifo = request.fifo

    def start(self, index: Index, reader: Reader) -> None:
        """Mount, and start the threads."""
        request = self._request
        connection = kernel_mount.mount(
            self._class, request.name, request.mountpoint, request.options, allow_other=request.allow_other
        )
        if request.elsewhere:
            self._mount = mountinfo.topmost(request.mountpoint)
            request.elsewhere.leave()
        self._notices, writing = os.pipe()
        os.set_blocking(writing, False)
        # Signals are the main thread's: another that took one would not wake it.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            self._server = self._class(index, reader, connection, writing, _threads(request.workers))
        except OSError as error:
            kernel_mount.unmount_lazily(self._class, request.mountpoint)
            raise MountError(f"{request.mountpoint}: {error.strerror}") from error
        finally:
            os.close(writing)
            os.close(connection)
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)

    def relay(self, answers: Callable[[Mount | None], None]) -> None:
        """Pass on what the server says until the mount ends."""
        answering = False
        while words := self._said(None):
            if _ANSWERING in words:
                answering = True
                self._begin(answers)
            if _ERROR in words:
                self._report_errors()
        self._report_errors()
        os.close(self._notices)
        if not answering:
            raise MountError(f"{self._request.mountpoint}: this kernel's FUSE is not supported")

    def stop(self) -> None:
        """Unmount, and let what the kernel has asked by now be answered."""
        self._fifo = None
        if self._request.is_below:
            from puzzlefs import caretaker

            caretaker.end(self._request)
        if self._mount is not None:
            self._take_down(self._mount)
        while self._said(_PATIENCE_MS):
            self._report_errors()

    def _take_down(self, mount: Mount) -> None:
        place, elsewhere = self._request.mountpoint, self._request.elsewhere
        if elsewhere:
            elsewhere.unmount(self._class, place, mount)
            return
        topmost = mountinfo.topmost(place)
        if topmost is not None and topmost.device == mount.device:
            kernel_mount.unmount_lazily(self._class, place)

    def _begin(self, answers: Callable[[Mount | None], None]) -> None:
        if not self._request.elsewhere:
            self._mount = mountinfo.topmost(self._request.mountpoint)
        if self._mount is not None:
            kernel_mount.raise_read_ahead(self._mount)
        try:
            answers(self._mount)
        except Exception:
            self.stop()
            raise

    def _report_errors(self) -> None:
        for error in self._server.take_errors() if self._server else ():
            self._report(error)

    def _said(self, patience_ms: int | None) -> bytes:
        """Return what the server said meanwhile: b"" at the end, or after so many milliseconds."""
        waiting = select.poll()
        waiting.register(self._notices, select.POLLIN)
        while not waiting.poll(_PAUSE_MS if self._fifo and self._mount else patience_ms):
            if not (self._fifo and self._mount):
                return b""
            self._notify(self._fifo)
        return os.read(self._notices, 4096)

    def _notify(self, fifo: str) -> None:
        """Say that the mount answers, if somebody reads there by now."""
        try:
            if try_say(fifo, MOUNTED):
                self._fifo = None
        except OSError as error:
            self._fifo = None
            self._report(MountError(f"{fifo}: {error.strerror}"))


def _threads(wanted: int | None) -> int:
    """Return how many requests to answer at a time: one more than one, for one may be sending pages ahead."""
    return wanted or min(max(len(os.sched_getaffinity(0)), 2), _THREAD_LIMIT)


def _take_signals() -> dict[signal.Signals, Any]:
    """Turn signals that end a process into `_Stop`; return what they did before."""
    try:
        return {number: signal.signal(number, _raise_stop) for number in _STOPPING}
    except ValueError:
        # Only the main thread gets any.
        return {}


def _raise_stop(_number: int, _frame: Any) -> None:
    # One is enough: the next ones have what they had before.
    for number in _STOPPING:
        signal.signal(number, signal.SIG_IGN)
    raise _Stop
