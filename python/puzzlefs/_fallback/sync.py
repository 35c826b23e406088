"""syncfs(2), which the standard library lacks."""

from __future__ import annotations

import os


def sync_filesystem(fd: int) -> None:
    """Bring all that was written to a file's filesystem to stable storage."""
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    if libc.syncfs(fd) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
