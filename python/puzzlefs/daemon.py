"""The process of a mount: opens the image, mounts it, says so, serves until it is unmounted.

Run as `python -m puzzlefs.daemon FD REQUEST`. FD is a pipe for one word to the caller: `s`, or `f`
and the reason. The pipe closes with the process, so that a caller never waits for a dead one.
"""

from __future__ import annotations

import logging
import logging.handlers
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import trio

from puzzlefs.errors import MountError, PuzzleFSError
from puzzlefs.image import Image
from puzzlefs.mount import FAILED, MOUNTED, Request
from puzzlefs.notice import say, try_say
from puzzlefs.vfs import Filesystem

if TYPE_CHECKING:
    from puzzlefs.fuse import Session

_SYSLOG = "/dev/log"
_PAUSE = 0.05
_STANDARD_ERROR = 2

log = logging.getLogger("puzzlefs")


def serve(request: Request, answers: Callable[[], None] = lambda: None) -> None:
    """Mount as `request` says and serve until the mount ends; `answers` is called once the kernel talks.

    Raises `MountError` with the reason where mounting fails, or the error of an unusable image.
    """
    answering = False

    def tell() -> None:
        nonlocal answering
        answering = True
        answers()

    try:
        if request.log is not None:
            log.addHandler(_formatted(logging.FileHandler(request.log)))
        image = Image.open(request.image, request.verity)
        filesystem = Filesystem(image.index, image.reader(request.verify, request.cache_size))
        session = _mounted(filesystem, request)
        session.run(_Companion(request, tell))
    except Exception:
        if not answering and request.fifo is not None:
            say(request.fifo, FAILED)
        raise


class _Companion:
    """What runs beside the server: says that the mount answers, then waits for a signal to stop."""

    def __init__(self, request: Request, tell: Callable[[], None]) -> None:
        self._request = request
        self._tell = tell

    async def __call__(self) -> None:
        from puzzlefs.fuse import raise_read_ahead

        # In a thread, for it looks at paths, and a look at the mount itself must find the server free.
        await trio.to_thread.run_sync(raise_read_ahead, Path(self._request.mountpoint))
        async with trio.open_nursery() as nursery:
            if self._request.fifo is not None:
                nursery.start_soon(_notify, self._request.fifo)
            nursery.start_soon(self._until_signal, nursery.cancel_scope)

    async def _until_signal(self, scope: trio.CancelScope) -> None:
        if threading.current_thread() is not threading.main_thread():
            self._tell()
            await trio.sleep_forever()
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
            self._tell()
            async for _ in signals:
                scope.cancel()
                return


async def _notify(fifo: str) -> None:
    """Write `s` as soon as somebody reads the pipe, however late."""
    try:
        while not try_say(fifo, MOUNTED):  # noqa: ASYNC110 - a pipe has no event for its first reader
            await trio.sleep(_PAUSE)
    except OSError as error:
        log.warning("%s: %s", fifo, error.strerror)


def _mounted(filesystem: Filesystem, request: Request) -> Session:
    try:
        from puzzlefs.fuse import Session, mount_options
    except ImportError as error:
        raise MountError(f"pyfuse3 cannot be loaded: {error}") from error
    options = mount_options(request.name, request.options, request.allow_other)
    with _standard_error_kept() as kept:
        try:
            return Session(filesystem, Path(request.mountpoint), options)
        except RuntimeError as error:
            kept.seek(0)
            reason = kept.read().decode("utf-8", "replace").strip().replace("\n", "; ")
            raise MountError(f"{request.mountpoint}: {reason or error}") from error


@contextmanager
def _standard_error_kept() -> Iterator[BinaryIO]:
    """Collect what is written to standard error: libfuse says there, and only there, what went wrong."""
    original = os.dup(_STANDARD_ERROR)
    try:
        with open(os.memfd_create("standard-error"), "w+b") as kept:
            os.dup2(kept.fileno(), _STANDARD_ERROR)
            try:
                yield kept
            finally:
                os.dup2(original, _STANDARD_ERROR)
    finally:
        os.close(original)


def _formatted(handler: logging.Handler) -> logging.Handler:
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    return handler


def _log_to_system() -> None:
    """Send messages to the system's log where one listens; nothing needs it."""
    try:
        handler = logging.handlers.SysLogHandler(_SYSLOG)
    except OSError:
        return
    handler.setFormatter(logging.Formatter(f"puzzlefs[{os.getpid()}]: %(message)s"))
    log.addHandler(handler)


class _Word:
    """The pipe to the caller, for one word."""

    def __init__(self, descriptor: int) -> None:
        # A helper that the library starts may live as long as the mount.
        os.set_inheritable(descriptor, False)
        self._descriptor = descriptor
        self._said = False

    def mounted(self) -> None:
        """Say that the mount answers, and let the caller go."""
        self._say(MOUNTED)
        os.close(self._descriptor)

    def failed(self, exit_code: int, reason: str) -> None:
        """Say why it failed, unless it was mounted; the caller goes when this process has ended."""
        if not self._said:
            self._say(FAILED + bytes([exit_code]) + reason.encode("utf-8", "replace"))

    def _say(self, word: bytes) -> None:
        self._said = True
        with suppress(BrokenPipeError):
            os.write(self._descriptor, word)


def main(arguments: list[str]) -> int:
    """Leave the caller's process group for good, then serve. Returns the exit code."""
    word, request = _Word(int(arguments[0])), Request.decode(arguments[1])
    if os.fork():
        os._exit(0)
    os.chdir("/")
    if request.log is None:
        _log_to_system()
    try:
        serve(request, word.mounted)
    except PuzzleFSError as error:
        log.error("%s", error)  # noqa: TRY400 - the reason is for a user, the traceback would not be
        word.failed(error.exit_code, str(error))
        return error.exit_code
    except Exception as error:
        log.exception("the mount failed")
        word.failed(MountError.exit_code, f"{type(error).__name__}: {error}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
