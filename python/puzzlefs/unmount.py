"""Unmounting, and waiting for the process that served the mount."""

from __future__ import annotations

import ctypes
import errno
import os
import re
import select
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from pathlib import Path

from puzzlefs import mountinfo
from puzzlefs.errors import MountError, UnsupportedError
from puzzlefs.kernel_mount import process_name
from puzzlefs.mountinfo import Mount

_DETACH = 2
_NO_FOLLOW = 8
_PATIENCE = 5.0


def unmount(mountpoint: str | os.PathLike[str], lazy: bool = False) -> None:
    """Unmount the PuzzleFS mount, or the overlay over one, that is seen at a directory.

    Of an overlay, a PuzzleFS mount that is its lower directory is unmounted too. With `lazy` the
    mount leaves the tree at once and ends when its last user does. Returns when the process that
    served it is gone, or after five seconds. Raises `MountError` where nothing of ours is mounted
    there or the mount is in use.
    """
    mount = mountinfo.topmost(mountpoint)
    if mount is None:
        raise MountError(f"{os.fspath(mountpoint)}: not mounted")
    if mount.kind == "overlay":
        _unmount_overlay(mount, lazy)
    elif mount.is_ours:
        _unmount_fuse(mount, lazy)
    else:
        raise MountError(f"{os.fspath(mountpoint)}: a mount of type {mount.kind}, not of PuzzleFS")


def _unmount_overlay(overlay: Mount, lazy: bool) -> None:
    lower = [mount for path in lower_directories(overlay.options) if (mount := mountinfo.topmost(path))]
    ours = [mount for mount in lower if mount.is_ours]
    if not ours:
        raise MountError(f"{os.fsdecode(overlay.mountpoint)}: an overlay without a PuzzleFS mount under it")
    _system_unmount(overlay.mountpoint, lazy)
    for mount in ours:
        _unmount_fuse(mount, lazy)


def lower_directories(options: bytes) -> list[str]:
    """Return the lower directories that an overlay's options name, uppermost first."""
    for option in re.split(rb"(?<!\\),", options):
        if option.startswith(b"lowerdir="):
            parts = re.split(rb"(?<!\\):", option.removeprefix(b"lowerdir="))
            return [os.fsdecode(re.sub(rb"\\(.)", rb"\1", part)) for part in parts if part]
        if option.startswith(b"lowerdir+="):
            found = re.findall(rb"lowerdir\+=((?:\\.|[^,\\])*)", options)
            return [os.fsdecode(re.sub(rb"\\(.)", rb"\1", part)) for part in found]
    return []


def _unmount_fuse(mount: Mount, lazy: bool) -> None:
    with nullcontext() if lazy else _server_awaited(mount):
        if os.geteuid() == 0:
            _system_unmount(mount.mountpoint, lazy)
        else:
            _helper_unmount(mount.mountpoint, lazy)


def _system_unmount(mountpoint: bytes, lazy: bool) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.umount2(ctypes.c_char_p(mountpoint), _NO_FOLLOW | (_DETACH if lazy else 0)) != 0:
        number = ctypes.get_errno()
        reason = "in use" if number == errno.EBUSY else os.strerror(number)
        raise MountError(f"{os.fsdecode(mountpoint)}: {reason}")


def _helper_unmount(mountpoint: bytes, lazy: bool) -> None:
    helper = shutil.which("fusermount3") or shutil.which("fusermount")
    if helper is None:
        raise UnsupportedError("unmounting without privilege needs fusermount3")
    options = ["-u", "-q"] + (["-z"] if lazy else [])
    command = [helper, *options, "--", os.fsdecode(mountpoint)]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode != 0:
        raise MountError(f"{os.fsdecode(mountpoint)}: {done.stderr.strip() or 'in use, or not yours to unmount'}")


@contextmanager
def _server_awaited(mount: Mount) -> Iterator[None]:
    """Wait at the end for the process that serves `mount`: it still holds the image open."""
    with ExitStack() as stack:
        servers = _servers(mount)
        for server in servers:
            stack.callback(os.close, server)
        yield
        end = time.monotonic() + _PATIENCE
        for server in servers:
            ended = select.poll()
            ended.register(server, select.POLLIN)
            ended.poll(max(0, 1000 * (end - time.monotonic())))


def _servers(mount: Mount) -> list[int]:
    """Return descriptors of the processes that serve a mount, which have its name."""
    wanted = process_name(mount).encode() + b"\n"
    servers = []
    for directory in Path("/proc").iterdir():
        if not directory.name.isdecimal():
            continue
        with suppress(OSError):
            process = os.pidfd_open(int(directory.name))
            # The descriptor came first: what is read now belongs to its process or to none.
            if _read(directory / "comm") == wanted:
                servers.append(process)
            else:
                os.close(process)
    return servers


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""
