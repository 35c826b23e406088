"""System calls that the standard library lacks. Each raises `OSError`."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

READ_ONLY = 1
_FINIT_MODULE = 313
_RESTART = 0x01234567
_libc = ctypes.CDLL(None, use_errno=True)


def _checked(result: int, subject: object) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(subject))


def mount(source: str, directory: str, kind: str, flags: int = 0) -> None:
    """Mount a filesystem on a directory, which is made."""
    os.makedirs(directory, exist_ok=True)
    _checked(_libc.mount(source.encode(), directory.encode(), kind.encode(), ctypes.c_ulong(flags), None), directory)


def unmount(directory: str) -> None:
    """Unmount what is mounted on a directory."""
    _checked(_libc.umount2(directory.encode(), 0), directory)


def load_module(path: Path) -> None:
    """Load a kernel module, whose dependencies are there."""
    descriptor = os.open(path, os.O_RDONLY)
    _checked(_libc.syscall(_FINIT_MODULE, descriptor, b"", 0), path)
    os.close(descriptor)


def restart() -> None:
    """End this machine."""
    os.sync()
    _checked(_libc.reboot(_RESTART), "reboot")
