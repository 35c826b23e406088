"""The process of a mount: opens the image, mounts it, says so, serves until it is unmounted.

Run as `python -m puzzlefs.daemon FD REQUEST`, or entered by a fork of the command line. FD is a pipe
for one word to the caller: `s`, or `f` and the reason. The pipe closes with the process, so that a
caller never waits for a dead one.
"""

from __future__ import annotations

import os
import sys

from puzzlefs._native import native
from puzzlefs.errors import MountError, PuzzleFSError
from puzzlefs.image import Image
from puzzlefs.kernel_mount import process_name
from puzzlefs.mount import FAILED, MOUNTED, Request
from puzzlefs.mountinfo import Mount
from puzzlefs.notice import say

TYPE_CHECKING = False
if TYPE_CHECKING:
    import logging
    from collections.abc import Callable

    from puzzlefs._native import Index, Reader

    Reporter = Callable[[Exception], None]

_SYSLOG = "/dev/log"


class MessageLog:
    """Where a mount's messages go: the logger "puzzlefs", with a file or the system's log behind it.

    Few mounts have any, so that the modules for it are loaded with the first, unless a file is named:
    that must be there from the start.
    """

    def __init__(self, path: str | None, to_system: bool = False) -> None:
        self._logger: logging.Logger | None = None
        self._path = path
        self._to_system = to_system
        if path is not None or native.FuseServer is None:
            self._open()

    def write(self, error: Exception) -> None:
        """Write what went wrong, in one line."""
        self._open().error("%s", error)

    def write_bug(self, error: Exception) -> None:
        """Write what should not have gone wrong, and where."""
        self._open().error("the mount failed", exc_info=error)

    def _open(self) -> logging.Logger:
        if self._logger is None:
            import logging

            self._logger = logging.getLogger("puzzlefs")
            if self._path is not None:
                self._add(logging.FileHandler(self._path), "%(asctime)s %(levelname)s %(message)s")
            elif self._to_system:
                self._add_system_log()
        return self._logger

    def _add_system_log(self) -> None:
        """Send messages to the system's log where one listens; nothing needs it."""
        from logging.handlers import SysLogHandler

        try:
            handler = SysLogHandler(_SYSLOG)
        except OSError:
            return
        self._add(handler, f"puzzlefs[{os.getpid()}]: %(message)s")

    def _add(self, handler: logging.Handler, form: str) -> None:
        from logging import Formatter

        handler.setFormatter(Formatter(form))
        if self._logger is not None:
            self._logger.addHandler(handler)


def serve(
    request: Request,
    image: Image | None = None,
    answers: Callable[[Mount | None], None] = lambda _: None,
    log: MessageLog | None = None,
) -> None:
    """Mount as `request` says and serve until the mount ends; `answers` is called once the kernel talks.

    `image` is what the request names, where that is open already. Raises `MountError` with the reason
    where mounting fails, or the error of an unusable image.
    """
    answering = False

    def tell(mount: Mount | None) -> None:
        nonlocal answering
        if request.is_below:
            from puzzlefs import caretaker

            caretaker.begin(request)
        answering = True
        answers(mount)

    try:
        report = (log or MessageLog(request.log)).write
        opened = image or _opened(request)
        reader = opened.reader(request.verify, request.cache_size)
        load_server()(opened.index, reader, request, tell, report)
        if request.is_below:
            from puzzlefs import caretaker

            caretaker.finish()
    except Exception:
        if not answering and request.fifo is not None:
            say(request.fifo, FAILED)
        raise


def _opened(request: Request) -> Image:
    image = Image.open(request.image, request.verity)
    if request.owners is None:
        return image
    from puzzlefs.owners import Owners

    return image.with_owners(Owners(*request.owners))


def load_server() -> Callable[[Index, Reader, Request, Callable[[Mount | None], None], Reporter], None]:
    """Return the backend's own way to serve: `server.serve`, or that of `fuse_session`.

    Raises `MountError` where pyfuse3, which that needs, cannot be loaded.
    """
    if native.FuseServer is None:
        try:
            from puzzlefs import fuse_session
        except ImportError as error:
            raise MountError(f"pyfuse3 cannot be loaded: {error}") from error
        return fuse_session.serve
    from puzzlefs import server

    return server.serve


class _Word:
    """The pipe to the caller, for one word."""

    def __init__(self, descriptor: int) -> None:
        # A helper that the library starts may live as long as the mount.
        os.set_inheritable(descriptor, False)
        self._descriptor = descriptor
        self._said = False

    def mounted(self, mount: Mount | None) -> None:
        """Say that the mount answers, and let the caller go."""
        if mount is not None:
            _name_process(process_name(mount))
        self._say(MOUNTED)
        os.close(self._descriptor)

    def failed(self, exit_code: int, reason: str) -> None:
        """Say why it failed, unless it was mounted; the caller goes when this process has ended."""
        if not self._said:
            self._say(FAILED + bytes([exit_code]) + reason.encode("utf-8", "replace"))

    def _say(self, word: bytes) -> None:
        self._said = True
        try:
            os.write(self._descriptor, word)
        except BrokenPipeError:
            # Whoever waited has gone.
            return


def _name_process(name: str) -> None:
    """Let `unmount` find this process by the name that it now has."""
    try:
        with open("/proc/self/comm", "wb") as comm:
            comm.write(name.encode())
    except OSError:
        pass


def work(descriptor: int, request: Request, image: Image | None = None) -> int:
    """Be the process of a mount, which has left its caller's group; `descriptor` is the pipe.

    Returns the exit code.
    """
    word = _Word(descriptor)
    os.chdir("/")
    log = MessageLog(None, to_system=request.log is None)
    try:
        log = MessageLog(request.log, to_system=True)
        serve(request, image, word.mounted, log)
    except PuzzleFSError as error:
        log.write(error)
        word.failed(error.exit_code, str(error))
        return error.exit_code
    except Exception as error:
        log.write_bug(error)
        word.failed(MountError.exit_code, f"{type(error).__name__}: {error}")
        return 1
    return 0


def work_as_fork(descriptor: int, request: Request, image: Image) -> int:
    """Leave everything of the process that forked this one but memory and `descriptor`; then `work`."""
    os.setsid()
    null = os.open(os.devnull, os.O_RDWR)
    for standard in range(3):
        os.dup2(null, standard)
    first = 3
    for kept in sorted([descriptor, *([request.elsewhere.home] if request.elsewhere else [])]):
        os.closerange(first, kept)
        first = kept + 1
    os.closerange(first, os.sysconf("SC_OPEN_MAX"))
    return work(descriptor, request, image)


def main(arguments: list[str]) -> int:
    """Leave the caller's process group for good, then serve. Returns the exit code."""
    descriptor, request = int(arguments[0]), Request.decode(arguments[1])
    if os.fork():
        os._exit(0)
    return work(descriptor, request)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
