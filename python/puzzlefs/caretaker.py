"""What the process of a writable mount's image does beside serving it: see to the overlays over it."""

from __future__ import annotations

import fcntl
import os
import select
import signal
import threading
from contextlib import suppress

from puzzlefs import mountinfo, shared
from puzzlefs.errors import MountError
from puzzlefs.mount import Request
from puzzlefs.overlay import is_over
from puzzlefs.unmount import detach
from puzzlefs.writable import raise_overlay, remove_places

_PATIENCE = 5.0
_leaving = threading.Lock()


def begin(request: Request) -> None:
    """Lay the overlay over the image, which answers by now, and take the image down when that has gone.

    Where the image is shared, its users lay their own overlays, and it goes with the last. Raises
    `MountError` or `UnsupportedError` where the overlay cannot be mounted.
    """
    overlay = request.overlay
    if overlay is not None:
        held = _hold(overlay.work)
        try:
            raise_overlay(overlay)
        except Exception:
            os.close(held)
            raise
    # Signals are the main thread's: another that took one would not wake it.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        threading.Thread(target=_watch, args=(request,), daemon=True).start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def end(request: Request) -> None:
    """Take down the overlays over the image that this table of mounts has; who uses them may go on."""
    if request.overlay is not None and _is_covered(request):
        detach(request.overlay.mountpoint)
        return
    for mount in mountinfo.mounts():
        if is_over(mount, request.mountpoint):
            detach(os.fsdecode(mount.mountpoint))


def _hold(work: str) -> int:
    """Keep others from a work directory, and the upper one beside it, as long as the returned descriptor is open."""
    held = os.open(work, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(held)
        raise MountError(f"{work}: in use by another writable mount") from error
    return held


def _watch(request: Request) -> None:
    """Wait until no overlay needs the image any more, then unmount it, which ends this process."""
    with suppress(OSError), open(mountinfo.TABLE, "rb") as table:
        changes = select.poll()
        changes.register(table, select.POLLERR | select.POLLPRI)
        while not _is_done(request):
            changes.poll()


def finish() -> None:
    """Wait, before this process ends with its mount, until whoever unmounted it has tidied up."""
    if _leaving.acquire(timeout=_PATIENCE):
        _leaving.release()


def _is_done(request: Request) -> bool:
    with _leaving:
        return shared.release(request.mountpoint) if request.overlay is None else _leave(request)


def _leave(request: Request) -> bool:
    if request.overlay is None or _is_covered(request):
        return False
    detach(request.mountpoint)
    remove_places(request.overlay.mountpoint)
    return True


def _is_covered(request: Request) -> bool:
    if request.overlay is None:
        return False
    place = os.fsencode(request.overlay.mountpoint)
    return any(mount.mountpoint == place and mount.is_overlay for mount in mountinfo.mounts())
