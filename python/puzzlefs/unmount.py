"""Unmounting, and waiting for the process that served the mount."""

from __future__ import annotations

import errno
import os
import select
import time
from contextlib import ExitStack, contextmanager, nullcontext, suppress

from puzzlefs import mountinfo, syscalls
from puzzlefs.errors import MountError, UnsupportedError
from puzzlefs.kernel_mount import process_name
from puzzlefs.mountinfo import Mount

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

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
    if mount.is_overlay:
        _unmount_overlay(mount, lazy)
    elif mount.is_ours:
        _unmount_fuse(mount, lazy)
    else:
        raise MountError(f"{os.fspath(mountpoint)}: a mount of type {mount.kind}, not of PuzzleFS")


def detach(mountpoint: str) -> None:
    """Take what is mounted on a directory out of the tree; who uses it may go on. Errors are of no interest."""
    with suppress(MountError, UnsupportedError):
        take_off(mountpoint, lazy=True)


def take_off(mountpoint: str | bytes, lazy: bool = False) -> None:
    """Unmount what is mounted on a directory, whatever it is. Raises `MountError`, `UnsupportedError`."""
    if os.geteuid() == 0:
        _system_unmount(os.fsencode(mountpoint), lazy)
    else:
        _helper_unmount(os.fsencode(mountpoint), lazy)


def _unmount_overlay(overlay: Mount, lazy: bool) -> None:
    from puzzlefs import shared, writable

    own, common = _lowers(overlay)
    if not own and not common:
        raise MountError(f"{os.fsdecode(overlay.mountpoint)}: an overlay without a PuzzleFS mount under it")
    take_off(overlay.mountpoint, lazy)
    for mount in own:
        _unmount_fuse(mount, lazy)
    for place in common:
        shared.release(place)
    writable.remove_places(os.fsdecode(overlay.mountpoint))


def _lowers(overlay: Mount) -> tuple[list[Mount], list[str]]:
    """Return the PuzzleFS mounts that are there for an overlay alone, and where those are that it may share."""
    from puzzlefs import shared, writable
    from puzzlefs.overlay import HELPER, lower_directories

    places = lower_directories(overlay.options)
    if overlay.kind == HELPER:
        # fuse-overlayfs does not say over what it lies.
        places = [os.path.join(os.fsdecode(overlay.mountpoint), writable.LOWER), *shared.places()]
    common = [place for place in places if shared.is_shared(place)]
    found = [mountinfo.topmost(place) for place in places if place not in common]
    return [mount for mount in found if mount is not None and mount.is_ours], common


def _unmount_fuse(mount: Mount, lazy: bool) -> None:
    with nullcontext() if lazy else _server_awaited(mount):
        try:
            take_off(mount.mountpoint, lazy)
        except MountError:
            # The process of a writable mount does the same when it sees that the overlay has gone.
            if any(other.ident == mount.ident for other in mountinfo.mounts()):
                raise


def _system_unmount(mountpoint: bytes, lazy: bool) -> None:
    try:
        syscalls.unmount(mountpoint, lazy)
    except OSError as error:
        reason = "in use" if error.errno == errno.EBUSY else error.strerror
        raise MountError(f"{os.fsdecode(mountpoint)}: {reason}") from error


def _helper_unmount(mountpoint: bytes, lazy: bool) -> None:
    import shutil
    import subprocess

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
    for name in filter(str.isdecimal, os.listdir("/proc")):
        with suppress(OSError):
            process = os.pidfd_open(int(name))
            # The descriptor came first: what is read now belongs to its process or to none.
            if _read(f"/proc/{name}/comm") == wanted:
                servers.append(process)
            else:
                os.close(process)
    return servers


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:
        return b""
