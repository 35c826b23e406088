"""A mount that pyfuse3 serves: mounting by libfuse, and the loop that answers."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

import pyfuse3
import trio

from puzzlefs import mountinfo
from puzzlefs._native import Index, Reader
from puzzlefs.errors import MountError, UnsupportedError, shown
from puzzlefs.fuse import Operations
from puzzlefs.kernel_mount import raise_read_ahead
from puzzlefs.mount import MOUNTED, Request
from puzzlefs.mountinfo import Mount
from puzzlefs.notice import tell_service_manager, try_say
from puzzlefs.unmount import take_off
from puzzlefs.vfs import Filesystem

_PAUSE = 0.05
# How long requests that are on their way when the process is told to stop may take, in seconds.
_PATIENCE = 5
_STANDARD_ERROR = 2


def serve(
    index: Index,
    reader: Reader,
    request: Request,
    answers: Callable[[Mount | None], None],
    report: Callable[[Exception], None],
) -> None:
    """Mount as `request` says and serve until the mount ends or a signal says so; as `server.serve`."""
    session = _mounted(Filesystem(index, reader), request)
    session.run(_Companion(session, request, answers, report))


class Session:
    """A mounted filesystem. One process can have one at a time."""

    def __init__(self, filesystem: Filesystem, mountpoint: Path, options: set[str]) -> None:
        """Mount. Raises `RuntimeError` where that fails; the library writes the reason to standard error."""
        self._talking = trio.Event()
        self._is_mounted = True
        pyfuse3.init(Operations(filesystem, self._talking.set), os.fspath(mountpoint), options)

    def run(self, beside: Callable[[], Awaitable[None]]) -> None:
        """Answer the kernel until it is unmounted from outside or `beside` returns, then unmount.

        `beside` runs in the same loop, from the kernel's first word on.
        """
        try:
            trio.run(self._run, beside)
        except ExceptionGroup as group:
            raise _first(group) from None
        finally:
            # By the path: what is there may be another's mount once this one has left it.
            pyfuse3.close(unmount=self._is_mounted)

    def leave(self, mountpoint: str) -> bool:
        """Take the mount out of the tree; return whether it left. It ends when its last user leaves it."""
        with suppress(MountError, UnsupportedError):
            take_off(mountpoint, lazy=True)
            self._is_mounted = False
        return not self._is_mounted

    async def _run(self, beside: Callable[[], Awaitable[None]]) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._beside, beside)
            await pyfuse3.main()
            nursery.cancel_scope.cancel()

    async def _beside(self, beside: Callable[[], Awaitable[None]]) -> None:
        await self._talking.wait()
        await beside()
        pyfuse3.terminate()


def _first(error: Exception) -> Exception:
    """Return what went wrong first, out of the groups that nurseries make of it."""
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    return error


class _Companion:
    """What runs beside the server: says that the mount answers, then waits for a signal to stop."""

    def __init__(
        self,
        session: Session,
        request: Request,
        answers: Callable[[Mount | None], None],
        report: Callable[[Exception], None],
    ) -> None:
        self._session = session
        self._request = request
        self._answers = answers
        self._report = report

    async def __call__(self) -> None:
        # In a thread, for it looks at paths, and a look at the mount itself must find the server free.
        mount = await trio.to_thread.run_sync(mountinfo.topmost, self._request.mountpoint)
        if mount is not None:
            raise_read_ahead(mount)
        async with trio.open_nursery() as nursery:
            await nursery.start(self._until_signal, mount, nursery.cancel_scope)
            if self._request.fifo is not None:
                nursery.start_soon(self._notify, self._request.fifo)

    async def _until_signal(
        self, mount: Mount | None, scope: trio.CancelScope, *, task_status: trio.TaskStatus[None]
    ) -> None:
        if threading.current_thread() is not threading.main_thread():
            await self._begin(mount)
            task_status.started()
            await trio.sleep_forever()
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
            await self._begin(mount)
            task_status.started()
            async for _ in signals:
                tell_service_manager("STOPPING=1")
                if self._request.is_below:
                    await self._take_overlays_down()
                if mount is not None:
                    await self._until_unused(mount)
                scope.cancel()
                return

    async def _until_unused(self, mount: Mount) -> None:
        """Let who uses the mount go on for a while. The server ends when nobody does, and this with it."""
        topmost = await trio.to_thread.run_sync(mountinfo.topmost, self._request.mountpoint)
        is_ours = topmost is not None and topmost.device == mount.device
        if is_ours and await trio.to_thread.run_sync(self._session.leave, self._request.mountpoint):
            await trio.sleep(_PATIENCE)

    async def _begin(self, mount: Mount | None) -> None:
        # In a thread, for an overlay looks at the mount while it is laid over it.
        await trio.to_thread.run_sync(self._answers, mount)

    async def _take_overlays_down(self) -> None:
        from puzzlefs import caretaker

        await trio.to_thread.run_sync(caretaker.end, self._request)

    async def _notify(self, fifo: str) -> None:
        """Write `s` as soon as somebody reads the pipe, however late."""
        try:
            while not try_say(fifo, MOUNTED):  # noqa: ASYNC110 - a pipe has no event for its first reader
                await trio.sleep(_PAUSE)
        except OSError as error:
            self._report(MountError(f"{fifo}: {error.strerror}"))


def mount_options(name: str, extra: Sequence[str] = (), allow_other: bool = False) -> set[str]:
    """Return the options of a mount of the image called `name`."""
    # The library takes ASCII, a comma ends an option and a backslash protects one.
    source = shown(name).replace("\\", "\\\\").replace(",", "\\,")
    options = {"ro", "default_permissions", f"fsname={source}", "subtype=puzzlefs", *extra}
    if allow_other:
        options.add("allow_other")
    return options


def _mounted(filesystem: Filesystem, request: Request) -> Session:
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
