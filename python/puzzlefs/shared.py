"""One read-only mount of an image below many overlays, so that all of them read one page cache.

Such mounts lie in the runtime directory, each under a name made of what it shows and how. Who uses one
is asked of the kernel's tables of mounts, not written down: nothing has to be repaired after a crash.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

from puzzlefs import mountinfo
from puzzlefs._native import native
from puzzlefs.errors import MountError
from puzzlefs.image import Image
from puzzlefs.mount import mount
from puzzlefs.overlay import in_user_namespace, is_over
from puzzlefs.unmount import detach, take_off

TYPE_CHECKING = False
if TYPE_CHECKING:
    from puzzlefs.mount import Settings

_LOWERS = "lower"


def runtime_directory() -> str:
    """Return the directory of what lives as long as the machine runs, this user's own; made where absent.

    Raises `MountError` where there is none, or another user could change it.
    """
    directory = _runtime_name()
    if directory is None:
        raise MountError("sharing needs a runtime directory: set XDG_RUNTIME_DIR")
    try:
        os.makedirs(directory, 0o700, exist_ok=True)
        stat = os.lstat(directory)
    except OSError as error:
        raise MountError(f"{directory}: {error.strerror}") from error
    if stat.st_uid != os.geteuid() or stat.st_mode & 0o22 or not os.path.isdir(directory):
        raise MountError(f"{directory}: other users could change it")
    return directory


def _runtime_name() -> str | None:
    home = "/run" if os.geteuid() == 0 and not in_user_namespace() else os.environ.get("XDG_RUNTIME_DIR")
    return os.path.join(home, "puzzlefs") if home else None


@contextmanager
def lower(image: Image, options: Sequence[str], settings: Settings) -> Iterator[str]:
    """Give the directory on which an image is mounted for sharing, mounted now where it is not.

    It stays mounted as long as there is an overlay over it in some table of mounts, and until then only
    as long as the context lasts.
    """
    directory = runtime_directory()
    with _locked(directory):
        place = os.path.join(directory, _LOWERS, _key(image, options, settings))
        os.makedirs(place, 0o700, exist_ok=True)
        if not _answers(place):
            mount(image, place, options=options, shared=True, **settings)
        yield place


def release(place: str) -> bool:
    """Unmount a shared mount and return True, unless something lies over it or uses it."""
    with _locked(os.path.dirname(os.path.dirname(place))):
        if any(is_over(mount, place) for table in mountinfo.all_tables() for mount in table):
            return False
        try:
            if mountinfo.topmost(place) is not None:
                take_off(place)
        except MountError:
            # An overlay of fuse-overlayfs is in no table, but it holds its directories open.
            return False
        with suppress(OSError):
            os.rmdir(place)
        return True


def places() -> list[str]:
    """Return the directories on which this user's shared mounts are."""
    directory = _runtime_name()
    if directory is None:
        return []
    with suppress(OSError):
        return [os.path.join(directory, _LOWERS, name) for name in os.listdir(os.path.join(directory, _LOWERS))]
    return []


def is_shared(place: str) -> bool:
    """Whether a directory is one for shared mounts."""
    directory = _runtime_name()
    return directory is not None and os.path.dirname(place) == os.path.join(directory, _LOWERS)


@contextmanager
def _locked(directory: str) -> Iterator[None]:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _key(image: Image, options: Sequence[str], settings: Settings) -> str:
    facts = [
        os.path.realpath(image.name.directory),
        image.descriptor.digest,
        image.verity if image.pinned else None,
        settings.get("verify"),
        settings.get("allow_other"),
        image.owners,
        sorted(options),
    ]
    return native.verity_digest(repr(facts).encode()).hex()[:32]


def _answers(place: str) -> bool:
    """Whether an image is mounted there whose server lives; a dead one is taken away."""
    there = mountinfo.topmost(place)
    if there is None:
        return False
    try:
        os.statvfs(place)
    except OSError:
        detach(place)
        return False
    return there.is_ours
