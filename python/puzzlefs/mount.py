"""Mounting: in this process, or in one of its own that outlives it.

The process of a mount is a new interpreter rather than a copy of the caller: it holds none of the
caller's memory, descriptors, locks or threads, so that whoever reads the caller's output to its end
does not wait for the mount to end, and a program with threads may mount too. The command line is not
such a program: what it has in memory is the image, and a fork of it answers sooner.
"""

from __future__ import annotations

import os
import sys

from puzzlefs._native import native
from puzzlefs.errors import MountError, UnsupportedError, UsageError
from puzzlefs.image import MOUNT_CACHE_SIZE, Image

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, NoReturn, TypedDict

    from puzzlefs.elsewhere import Elsewhere
    from puzzlefs.overlay import Overlay

    class Settings(TypedDict, total=False):
        """What `mount` and `mount_writable` are told in the same way."""

        foreground: bool
        fifo: str | os.PathLike[str] | None
        allow_other: bool
        verify: int | None
        cache_size: int
        workers: int | None
        log: str | os.PathLike[str] | None
        fork: bool


DAEMON = "puzzlefs.daemon"
MOUNTED = b"s"
FAILED = b"f"
_WORKER_LIMIT = 64


class Request:
    """What the process of a mount has to do; every path is absolute.

    image       `DIR@sha256:HEX`: the very manifest that the caller saw, whatever its tag says later
    verity      the fs-verity digest of the manifest where the caller pinned it
    name        what the image is called in the table of mounts
    options     options for the mount, passed on as they are
    verify      as `Image.reader` takes it
    cache_size  bytes of decompressed data to keep
    workers     how many requests the compiled server answers at a time; None for what suits the machine
    fifo        where to say `s` (mounted) or `f` (failed)
    log         a file for messages; without it they go to the system's log, if there is one
    over        the fields of the overlay to lay over the image
    shared      whether other processes lay theirs over it
    owners      ranges of users and of groups, where files do not belong to whom the image says
    elsewhere   where the process is to mount, if it is not to stay there
    """

    def __init__(
        self,
        *,
        image: str,
        verity: str | None,
        name: str,
        mountpoint: str,
        options: Sequence[str],
        allow_other: bool,
        verify: int | None,
        cache_size: int,
        workers: int | None,
        fifo: str | None,
        log: str | None,
        over: dict[str, Any] | None = None,
        shared: bool = False,
        owners: Sequence[Sequence[Sequence[int]]] | None = None,
        elsewhere: Elsewhere | None = None,
    ) -> None:
        self.image = image
        self.verity = verity
        self.name = name
        self.mountpoint = mountpoint
        self.options = options
        self.allow_other = allow_other
        self.verify = verify
        self.cache_size = cache_size
        self.workers = workers
        self.fifo = fifo
        self.log = log
        self.over = over
        self.shared = shared
        self.owners = owners
        self.elsewhere = elsewhere

    @property
    def overlay(self) -> Overlay | None:
        """The overlay to lay over the image."""
        if self.over is None:
            return None
        from puzzlefs.overlay import Overlay

        return Overlay(**self.over)

    @property
    def is_below(self) -> bool:
        """Whether the mount is there for overlays, and is to go with them."""
        return self.over is not None or self.shared

    def encode(self) -> str:
        """Return the request as one line of ASCII."""
        import json

        return json.dumps(vars(self), separators=(",", ":"))

    @classmethod
    def decode(cls, line: str) -> Request:
        """Read what `encode` wrote."""
        import json

        return cls(**json.loads(line))


def mount(
    image: Image,
    mountpoint: str | os.PathLike[str],
    *,
    foreground: bool = False,
    fifo: str | os.PathLike[str] | None = None,
    options: Sequence[str] = (),
    allow_other: bool = False,
    verify: int | None = None,
    cache_size: int = MOUNT_CACHE_SIZE,
    workers: int | None = None,
    log: str | os.PathLike[str] | None = None,
    fork: bool = False,
    over: Overlay | None = None,
    shared: bool = False,
    elsewhere: Elsewhere | None = None,
) -> None:
    """Mount an image on a directory, read-only.

    Returns when the mount answers, and leaves a process behind that serves it until it is unmounted
    or terminated; with `foreground`, serves it here and returns when it is unmounted. `s` or `f` is
    written to `fifo`, as soon as that has a reader, when the mount answers or has failed. With `fork`
    the process is a copy of this one, which is sooner ready, but only for a caller that has neither
    threads nor anything else in memory that should not stay there. `over` is an overlay to lay over the
    mount by the same process, and `shared` says that others will: the mount ends with them. `elsewhere`
    is the mount namespace that this process is in and the other, which must be a fork, is to leave.

    Raises `MountError` with the reason, `UnsupportedError` where the pure backend has no pyfuse3,
    `UsageError` where an option is malformed, or what is wrong with the image.
    """
    notice = None if fifo is None else os.path.abspath(fifo)
    try:
        if cache_size < 0:
            raise UsageError(f"cache size {cache_size} is negative")
        if workers is not None and not 1 <= workers <= _WORKER_LIMIT:
            raise UsageError(f"{workers} workers: from 1 to {_WORKER_LIMIT} are possible")
        request = Request(
            image=f"{os.path.abspath(image.name.directory)}@{image.descriptor.digest}",
            verity=image.verity if image.pinned else None,
            name=str(image.name),
            mountpoint=_directory(mountpoint),
            options=checked_options(options),
            allow_other=allow_other,
            verify=verify,
            cache_size=cache_size,
            workers=workers,
            fifo=notice,
            log=None if log is None else os.path.abspath(log),
            over=None if over is None else over.fields(),
            shared=shared,
            owners=None if image.owners is None else (image.owners.users, image.owners.groups),
            elsewhere=elsewhere,
        )
        if native.FuseServer is None:
            _need_pyfuse3()
    except Exception:
        say_failed(notice)
        raise
    if foreground:
        _serve(request, image)
    elif fork:
        _fork(request, image)
    else:
        _spawn(request)


def _serve(request: Request, image: Image) -> None:
    """Serve the mount here, as a service of systemd where this process is one."""
    from puzzlefs.daemon import serve
    from puzzlefs.notice import tell_service_manager

    serve(request, image, lambda _: tell_service_manager(f"READY=1\nSTATUS={request.name} on {request.mountpoint}"))
    tell_service_manager("STOPPING=1")


def _directory(mountpoint: str | os.PathLike[str]) -> str:
    path = os.path.realpath(mountpoint)
    try:
        if not os.path.isdir(path):
            raise MountError(f"{os.fspath(mountpoint)}: not a directory")
    except OSError as error:
        raise MountError(f"{os.fspath(mountpoint)}: {error.strerror}") from error
    return path


def checked_options(options: Sequence[str]) -> tuple[str, ...]:
    """Return mount options one by one. Raises `UsageError` for those that cannot be."""
    parts = tuple(part for option in options for part in option.split(",") if part)
    for part in parts:
        if not part.isascii() or not part.isprintable():
            raise UsageError(f"mount option {part!r} is not printable ASCII")
        if part == "rw":
            raise UsageError("mount option 'rw': an image cannot be written")
    return parts


def _need_pyfuse3() -> None:
    from importlib import util

    if util.find_spec("pyfuse3") is None or util.find_spec("trio") is None:
        raise UnsupportedError("mounting needs pyfuse3 and trio: pip install 'puzzlefs[fuse]'")


def say_failed(fifo: str | None) -> None:
    """Say in the named pipe, if there is one, that there will be no mount."""
    if fifo is not None:
        from puzzlefs.notice import say

        say(fifo, FAILED)


def _fork(request: Request, image: Image) -> None:
    """Fork the process of a mount and wait for its word."""
    from puzzlefs import daemon

    try:
        # Before the fork: what is wrong with the image is this process's own error, and in the other one
        # each page that loading touches would have to be copied first.
        daemon.load_server()
        _ = image.index
    except Exception:
        say_failed(request.fifo)
        raise
    reading, writing = os.pipe()
    if os.fork() == 0:
        _be_daemon(writing, request, image)
    os.close(writing)
    _await(reading)


def _be_daemon(writing: int, request: Request, image: Image) -> NoReturn:
    code = 1
    try:
        from puzzlefs.daemon import work_as_fork

        code = work_as_fork(writing, request, image)
    finally:
        # Nothing of the caller is to run again at the end: no handlers, no buffers.
        os._exit(code)


def _spawn(request: Request) -> None:
    """Start the process of a mount as a new interpreter and wait for its word."""
    import subprocess

    from puzzlefs import launcher

    reading, writing = os.pipe()
    try:
        starter = subprocess.Popen(
            [sys.executable, "-P", "-m", DAEMON, str(writing), request.encode()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=(writing,),
            start_new_session=True,
            env=launcher.environment(),
        )
    except OSError as error:
        os.close(reading)
        say_failed(request.fifo)
        raise MountError(f"cannot start the process of the mount: {error.strerror}") from error
    finally:
        # While this end is open here, the pipe would not end with the process.
        os.close(writing)
    try:
        _await(reading)
    finally:
        starter.wait()


def _await(reading: int) -> None:
    """Wait for the word of the process of a mount; raise what it says went wrong."""
    with open(reading, "rb") as words:
        answer = words.read()
    if answer == MOUNTED:
        return
    if not answer.startswith(FAILED):
        raise MountError("the process of the mount ended without a word")
    failure = MountError(answer[2:].decode("utf-8", "replace"))
    # What the other process found wrong tells the shell more than that mounting failed.
    failure.exit_code = answer[1]
    raise failure
