"""Running an image: mount, have a container runtime run it, and leave nothing behind."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from types import FrameType
from typing import Self

from puzzlefs.container.bundle import ROOTFS, make_bundle
from puzzlefs.container.spec import ContainerOptions
from puzzlefs.errors import MountError, UnsupportedError
from puzzlefs.image import Image
from puzzlefs.unmount import unmount

RUNTIMES = ("runc", "crun")
_ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP)
_OTHERS = (signal.SIGUSR1, signal.SIGUSR2, signal.SIGWINCH, signal.SIGCONT)
# What the terminal sends to everybody in its foreground by itself.
_OF_TERMINAL = (signal.SIGINT, signal.SIGQUIT, signal.SIGWINCH, signal.SIGCONT)


def find_runtime(name: str | None) -> str:
    """Return the path of a container runtime. Raises `UnsupportedError` where there is none."""
    for candidate in (name,) if name else RUNTIMES:
        if found := shutil.which(candidate):
            return found
    wanted = name or " or ".join(RUNTIMES)
    raise UnsupportedError(f"running a container needs {wanted}, which is not installed")


def run_image(
    image: Image,
    options: ContainerOptions,
    *,
    runtime: str | None = None,
    persist: str | os.PathLike[str] | None = None,
    fork: bool = False,
) -> int:
    """Run an image's program in a container; return its exit code, 128 and more if a signal ended it.

    Signals sent to this process reach the program. The other arguments are those of `make_bundle`
    and `find_runtime`. Afterwards nothing is mounted and no file is left, but in `persist`.
    """
    program = find_runtime(runtime)
    with _Signals() as signals, tempfile.TemporaryDirectory(prefix="puzzlefs-run-", ignore_cleanup_errors=True) as home:
        bundle = os.path.join(home, "bundle")
        make_bundle(image, bundle, options, persist=persist, fork=fork)
        try:
            return _run(program, bundle, home, options, signals)
        finally:
            _unmount(os.path.join(bundle, ROOTFS))


def _run(program: str, bundle: str, home: str, options: ContainerOptions, signals: _Signals) -> int:
    name = os.path.basename(home)
    # Where runtimes keep what they know of containers is root's own.
    flags = ["--root", os.path.join(home, "state")] if options.rootless else []
    signals.runtime = subprocess.Popen([program, *flags, "run", "--bundle", bundle, name])
    code = signals.runtime.wait()
    if code < 0:
        # It was killed, and so could not end the container.
        subprocess.run([program, *flags, "delete", "--force", name], capture_output=True, check=False)
        return 128 - code
    return code


class _Signals:
    """Passes signals on to a runtime, but those that it got from the terminal already.

    Before there is one, those that would end this process raise, so that it cleans up.
    """

    def __init__(self) -> None:
        self.runtime: subprocess.Popen[bytes] | None = None
        self._in_foreground = False

    def __enter__(self) -> Self:
        with suppress(OSError):
            self._in_foreground = os.tcgetpgrp(sys.stdin.fileno()) == os.getpgrp()
        self._before = {number: signal.signal(number, self._take) for number in (*_ENDING, *_OTHERS)}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _take(self, number: int, _: FrameType | None) -> None:
        if self.runtime is None:
            if number in _ENDING:
                raise KeyboardInterrupt if number == signal.SIGINT else SystemExit(128 + number)
        elif not (self._in_foreground and number in _OF_TERMINAL):
            self.runtime.send_signal(number)


def _unmount(rootfs: str) -> None:
    try:
        unmount(rootfs)
    except MountError:
        # A program that outlived its container may still use it.
        with suppress(MountError):
            unmount(rootfs, lazy=True)
