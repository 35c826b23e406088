"""mount(2), umount2(2), setns(2) and unshare(2), which Python's `os` lacks."""

from __future__ import annotations

import os

from puzzlefs._native import native

_DETACH = 2
_NO_FOLLOW = 8
NEW_MOUNTS, NEW_USERS, NEW_PROCESSES = 0x20000, 0x10000000, 0x20000000
"""Namespaces for `unshare`."""
_PRIVATE = 1 << 18 | 1 << 14  # MS_PRIVATE | MS_REC


def mount(source: str, target: str | bytes, kind: str, flags: int, data: bytes) -> None:
    """Mount a filesystem on a directory. Raises `OSError`."""
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    words = (os.fsencode(source), os.fsencode(target), kind.encode())
    _check(libc.mount(*map(ctypes.c_char_p, words), ctypes.c_ulong(flags), ctypes.c_char_p(data)), target)


def unmount(target: str | bytes, lazy: bool = False) -> None:
    """Unmount what is mounted on a directory; with `lazy` when its last user leaves. Raises `OSError`."""
    if native.FuseServer is not None:
        native.FuseServer.unmount(os.fsencode(target), lazy)
        return
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    _check(libc.umount2(ctypes.c_char_p(os.fsencode(target)), _NO_FOLLOW | (_DETACH if lazy else 0)), target)


def join_mount_namespace(file: str | int) -> None:
    """Let this process, which has one thread, see the mounts of the namespace behind a file. Raises `OSError`.

    file  its path, or a descriptor
    """
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = os.dup(file) if isinstance(file, int) else os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    try:
        _check(libc.setns(descriptor, NEW_MOUNTS), str(file))
    finally:
        os.close(descriptor)


def unshare(flags: int) -> None:
    """Give this process, which has one thread, namespaces of its own. Raises `OSError`."""
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    _check(libc.unshare(flags), "unshare")


def make_mounts_private() -> None:
    """Let nobody else see what this namespace mounts and unmounts from now on. Raises `OSError`."""
    mount("none", "/", "none", _PRIVATE, b"")


def _check(result: int, target: str | bytes) -> None:
    if result != 0:
        import ctypes

        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), os.fsdecode(target))
